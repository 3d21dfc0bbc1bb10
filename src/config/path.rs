//! The paths of settings, such as `apps[0].origin`, and the variables that set them.

use super::diagnostic::Visible;

/// The prefix of our variables.
pub(crate) const PREFIX: &str = "WECHAT_AUTHZ__";

/// The path of `key` inside `path`.
pub(crate) fn inside(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The variable that sets `path`.
pub(crate) fn variable(path: &str) -> String {
    let parts = path.replace('[', ".").replace(']', "");
    // The path can hold an unknown key.
    format!("{PREFIX}{}", Visible(&parts.replace('.', "__").to_ascii_uppercase()))
}
