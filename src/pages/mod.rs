//! What the browser sees under the prefix.

pub mod html;
pub mod language;
mod text;
