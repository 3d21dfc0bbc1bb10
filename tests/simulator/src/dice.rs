//! Seeded randomness: the same seed gives the same codes, tokens and random faults in the same order.
//!
//! Predictable on purpose, so only for a simulator.

use aws_lc_rs::digest::{SHA256, digest};

const ALPHANUMERIC: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE64URL: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const HEX: &[u8] = b"0123456789abcdef";

#[derive(Debug)]
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, thrown: 0 }
    }

    /// A login code: 32 letters and digits with WeChat's prefix.
    pub fn code(&mut self) -> String {
        format!("0{}1{}", if self.chance(0.5) { '7' } else { '1' }, self.text(ALPHANUMERIC, 29))
    }

    /// An access or refresh token: two digits, `_`, 86 characters.
    pub fn token(&mut self) -> String {
        format!("{:02}_{}", 10 + self.throw()[0] % 80, self.text(BASE64URL, 86))
    }

    /// The id of a QR code or of a consent page: 16 characters.
    pub fn uuid(&mut self) -> String {
        self.text(ALPHANUMERIC, 16)
    }

    pub fn hex8(&mut self) -> String {
        self.text(HEX, 8)
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        if probability >= 1.0 {
            return true;
        }
        let [a, b, c, d, ..] = self.throw();
        f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0) < probability
    }

    /// Slightly biased if the alphabet's length does not divide 256; nothing here must be unguessable.
    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let missing = length - text.len();
            text.extend(
                self.throw().iter().take(missing).map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])),
            );
        }
        text
    }

    fn throw(&mut self) -> [u8; 32] {
        self.thrown += 1;
        let mut input = [0; 16];
        input[..8].copy_from_slice(&self.seed.to_be_bytes());
        input[8..].copy_from_slice(&self.thrown.to_be_bytes());
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &input).as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_codes() {
        let (mut one, mut two, mut other) = (Dice::new(7), Dice::new(7), Dice::new(8));
        let code = one.code();
        assert_eq!(code, two.code());
        assert_ne!(code, other.code());
        assert_ne!(code, one.code());
    }

    #[test]
    fn codes_and_tokens_look_like_wechats() {
        let mut dice = Dice::new(1);
        let code = dice.code();
        assert_eq!(code.len(), 32);
        assert!(code.starts_with("07") || code.starts_with("01"));
        assert!(code.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let token = dice.token();
        assert_eq!((token.len(), token.as_bytes()[2]), (89, b'_'));
    }

    #[test]
    fn chance_keeps_its_promise_roughly() {
        let mut dice = Dice::new(3);
        let hits = (0..1000).filter(|_| dice.chance(0.25)).count();
        assert!((200..300).contains(&hits), "{hits}");
        assert!(!dice.chance(0.0) && dice.chance(1.0));
    }
}
