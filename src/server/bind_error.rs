//! Why a listener cannot be opened.

use super::address::Address;
use std::io;

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The operating system refuses.
    #[error("cannot listen on {0}: {1}")]
    Refused(Address, io::Error),
    /// Another process listens there.
    #[error("cannot listen on {0}: another process does; end it, or configure another address")]
    AddressInUse(Address),
    /// A file exists there that is not a socket.
    #[error("cannot listen on {0}: the file there is not a socket")]
    NotASocket(Address),
}
