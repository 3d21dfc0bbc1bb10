//! Chance: the one place that draws random bytes, all of them from the cryptographic generator.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` bytes nobody can guess.
///
/// # Panics
/// When the operating system has no randomness to give: nothing secret can be made then.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut drawn = [0; N];
    #[allow(clippy::disallowed_methods, clippy::expect_used)] // the one generator; see "Panics"
    SystemRandom::new().fill(&mut drawn).expect("the operating system gives random bytes");
    drawn
}

/// A `state` for WeChat: 128 bits as 32 hex digits, inside its documented alphabet `[a-zA-Z0-9]`.
pub fn state() -> String {
    hex(&bytes::<16>())
}

/// A name that nothing else has: 128 random bits as 22 characters of base64url.
pub fn unique_name() -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// A short id that names one error both on the page and in the log: 8 hex digits.
pub fn incident_id() -> String {
    hex(&bytes::<4>())
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
