//! Sealing: authenticated encryption of data that browsers and Redis store for us.
//!
//! AES-256-GCM with a random nonce. The context is the associated data, so that a text that was sealed for one purpose does not
//! open for another. A text that does not open gives no reason.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;

const ID_LEN: usize = 4;

/// A sealing key. Its public id stands in each sealed text.
pub struct SealingKey {
    id: [u8; ID_LEN],
    key: RandomizedNonceKey,
}

/// The length of the derived key, as HKDF expects it.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl SealingKey {
    /// Derives the key from `secret` by HKDF-SHA-256, independent of other uses of the secret.
    ///
    /// # Errors
    /// The cryptographic library failed, which it does not for these lengths.
    pub fn derive(secret: &[u8]) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut bytes = Zeroizing::new([0; 32 + ID_LEN]);
        Salt::new(HKDF_SHA256, b"wechat-authz")
            .extract(secret)
            .expand(&[b"sealing key v1"], Bytes(bytes.len()))?
            .fill(&mut bytes[..])?;
        let (key, id) = bytes.split_at(32);
        Ok(Self {
            id: id.try_into().map_err(|_| aws_lc_rs::error::Unspecified)?,
            key: RandomizedNonceKey::new(&AES_256_GCM, key)?,
        })
    }

    /// Seals `plain` for `context`. Returns base64url of 32 bytes more than `plain` has.
    ///
    /// # Errors
    /// The cryptographic library failed, which it does not for texts of our sizes.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<String, aws_lc_rs::error::Unspecified> {
        let mut body = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut body)?;
        let sealed = [&self.id[..], nonce.as_ref(), &body].concat();
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what this key sealed for the same `context`.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(&self.id)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body).ok()?;
        Some(plain.to_vec())
    }
}

/// Seals with the current key and opens with all loaded keys.
pub trait Sealer: Send + Sync {
    /// Seals `plain` for `context`. None without a key.
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String>;

    /// Opens a text of at most `max` characters that was sealed for the same `context`.
    fn open(&self, context: &str, sealed: &str, max: usize) -> Option<Vec<u8>>;
}

/// The bytes of a sealed text, if it has at most `max` characters and is base64url.
pub fn decode(text: &str, max: usize) -> Option<Vec<u8>> {
    if text.len() > max {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::derive(b"a secret").unwrap()
    }

    #[test]
    fn a_text_opens_only_with_its_key_and_context() {
        let text = key().seal("flow", b"plain").unwrap();
        let sealed = decode(&text, 1_000).unwrap();
        assert_eq!(key().open("flow", &sealed).as_deref(), Some(&b"plain"[..]));
        assert_eq!(key().open("browser", &sealed), None);
        assert_eq!(SealingKey::derive(b"another").unwrap().open("flow", &sealed), None);
    }

    #[test]
    fn a_changed_text_does_not_open() {
        let sealed = decode(&key().seal("flow", b"plain").unwrap(), 1_000).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open("flow", &changed), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key().open("flow", &sealed[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn sealing_twice_gives_different_texts() {
        assert_ne!(key().seal("flow", b"plain").unwrap(), key().seal("flow", b"plain").unwrap());
    }
}
