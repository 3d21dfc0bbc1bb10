//! Sealing: what we give a browser to keep and it must neither read nor change.
//!
//! AES-256-GCM with a fresh random nonce; purpose and context are bound as associated data, so that nothing sealed
//! for one use opens in another. Whatever is wrong with a sealed text, the answer is the same: it does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;

const ID_LEN: usize = 4;

/// A key that seals and opens, with a public id by which a sealed text names it.
pub struct SealingKey {
    id: [u8; ID_LEN],
    key: RandomizedNonceKey,
}

/// The derived key's length, in HKDF's way of asking for it.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl SealingKey {
    /// Derives the key from `secret` by HKDF-SHA-256, apart from every other use of that secret.
    ///
    /// # Errors
    /// The cryptographic library refused, which for these fixed lengths it does not.
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

    /// Seals `plain` for `context`; base64url text, 32 bytes longer than `plain` before encoding.
    ///
    /// # Errors
    /// The cryptographic library refused, which for texts of our sizes it does not.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<String, aws_lc_rs::error::Unspecified> {
        let mut body = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut body)?;
        let sealed = [&self.id[..], nonce.as_ref(), &body].concat();
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens what [`Self::seal`] made for the same `context` with this key.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let rest = sealed.strip_prefix(&self.id)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let plain = self.key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body).ok()?;
        Some(plain.to_vec())
    }
}

/// Seals what others keep for us, with whichever key is in force, and opens it with any that still is.
pub trait Sealer: Send + Sync {
    /// Seals `plain` for `context`; none where no key can.
    fn seal(&self, context: &str, plain: &[u8]) -> Option<String>;

    /// Opens what was sealed for the same `context`, unless it is longer than `most` characters.
    fn open(&self, context: &str, sealed: &str, most: usize) -> Option<Vec<u8>>;
}

/// The bytes of a sealed text, if it is text of ours at all and not longer than `most` characters.
pub fn decode(text: &str, most: usize) -> Option<Vec<u8>> {
    if text.len() > most {
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
    fn what_is_sealed_opens_for_the_same_context_only() {
        let text = key().seal("flow", b"plain").unwrap();
        let sealed = decode(&text, 1_000).unwrap();
        assert_eq!(key().open("flow", &sealed).as_deref(), Some(&b"plain"[..]));
        assert_eq!(key().open("browser", &sealed), None);
        assert_eq!(SealingKey::derive(b"another").unwrap().open("flow", &sealed), None);
    }

    #[test]
    fn no_changed_bit_opens() {
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
    fn nothing_is_sealed_twice_alike() {
        assert_ne!(key().seal("flow", b"plain").unwrap(), key().seal("flow", b"plain").unwrap());
    }
}
