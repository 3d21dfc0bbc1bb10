//! The pages for users: Chinese first, then English, with the word simulator on every page.

mod consent;
mod ending;
mod frame;
mod home;
mod qr;

pub use consent::consent;
pub use ending::{ignored, refusal, refused_by_person};
pub use home::home;
pub use qr::{confirm, qrconnect};
