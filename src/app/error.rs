//! Why the process cannot start or stops.

use crate::server::BindError;
use crate::session::journal::JournalError;
use crate::session::keys::KeyError;
use crate::{telemetry, wechat};

/// Why the process cannot start or stops.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    /// The configuration, a secret or a key. The message names every error.
    #[error("{0}")]
    Configuration(String),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The operating system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// The HTTP client for WeChat.
    #[error(transparent)]
    Wechat(#[from] wechat::BuildError),
    /// The logs.
    #[error(transparent)]
    Log(#[from] telemetry::LogError),
}

impl From<Vec<KeyError>> for ServeError {
    fn from(errors: Vec<KeyError>) -> Self {
        Self::Configuration(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl From<JournalError> for ServeError {
    fn from(error: JournalError) -> Self {
        Self::Configuration(format!("state_directory: {error}"))
    }
}
