//! What the gateway lets through, what it stops, and what nobody can make it believe (ext-authz contract §1–§4).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test says what it means by failing

mod client;
mod stack;

use stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_starts() {
    drop(Stack::start().await);
}
