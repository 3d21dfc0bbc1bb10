//! What people see. Chinese first, English beside it, and on every page the word simulator.

mod consent;
mod ending;
mod frame;
mod home;
mod qr;

pub use consent::consent;
pub use ending::{ignored, refusal, refused_by_person};
pub use home::home;
pub use qr::{confirm, qrconnect};
