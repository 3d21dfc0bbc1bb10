//! Random bytes from the cryptographic generator. This is the only file that draws them.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` random bytes.
///
/// # Panics
/// The operating system provides no random bytes. Without them no secret can be created.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[allow(clippy::disallowed_methods, clippy::expect_used)] // the only use of the generator; see "Panics"
    SystemRandom::new().fill(&mut bytes).expect("the operating system provides random bytes");
    bytes
}

/// A `state` for WeChat: 128 bits as 32 hex digits. WeChat allows `[a-zA-Z0-9]`.
pub fn state() -> String {
    hex(&bytes::<16>())
}

/// A unique name: 128 random bits as 22 characters of base64url.
pub fn unique_name() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// The id of one error, on the page and in the log: 8 hex digits.
pub fn incident_id() -> String {
    hex(&bytes::<4>())
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
