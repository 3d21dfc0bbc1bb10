//! What a person sees, in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test says what it means by failing

mod client;
mod stack;

use stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn the_stack_starts() {
    drop(Stack::start().await);
}
