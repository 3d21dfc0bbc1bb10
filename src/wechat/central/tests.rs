//! One instance by itself: without Redis, and near the end of a value. Many instances over one Redis are the scenarios
//! of `tests/scenarios/central.rs`.
