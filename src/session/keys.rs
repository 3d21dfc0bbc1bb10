//! The keys: a directory of P-256 private keys in PEM. All keys verify; the newest that was published long enough signs.
//!
//! The age of a key comes from its file name (`20261123T112500Z.pem`, as `keygen` writes it), so that all instances that read
//! the directory agree; without such a name it comes from the modification time. A key is published at once and signs later,
//! because Envoy and other instances cache the key set. Removing a file makes its tokens invalid.

use super::jws;
use crate::clock::Timestamp;
use crate::seal::{self, SealingKey};
use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::zeroize::Zeroizing;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

/// Where the keys are and when a new one signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// The directory of `*.pem` files.
    pub directory: PathBuf,
    /// How long a key is published before it signs.
    pub sign_after: Duration,
}

/// The most keys. More are a mistake, and each unknown token is compared with all of them.
const MAX_KEYS: usize = 32;

/// The size of the largest PEM file.
const MAX_BYTES: u64 = 16 * 1024;

/// The x coordinates of public keys whose private keys are published as examples.
const WELL_KNOWN: [&str; 3] = [
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", // RFC 7515 A.3
    "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", // RFC 7517 A.1
    "EVs_o5-uQbTjL3chynL4wXgUg2R9q9UU8I5mEovUf84", // the example of jwt.io
];

/// Why the keys cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory cannot be read.
    #[error("keys.directory {0}: cannot be read: {1}; {next}", next = next_step(.0, .1))]
    Directory(PathBuf, std::io::Error),
    /// The directory holds no key.
    #[error("keys.directory {0}: holds no *.pem file; `wechat-authz keygen {0}` makes the first key")]
    Empty(PathBuf),
    /// The directory holds too many keys.
    #[error("keys.directory {0}: holds more than {MAX_KEYS} keys; remove the oldest; their tokens have expired")]
    TooMany(PathBuf),
    /// A file cannot be read or is too large.
    #[error("key {0}: cannot be read: {1}; {next}", next = next_step(.0, .1))]
    File(PathBuf, std::io::Error),
    /// The file does not hold a P-256 private key in PKCS#8 PEM.
    #[error("key {0}: is not a P-256 private key in PKCS#8 PEM (BEGIN PRIVATE KEY)")]
    NotP256(PathBuf),
    /// The key is a published example.
    #[error("key {0}: is a published example key; make a key with `wechat-authz keygen`")]
    WellKnown(PathBuf),
    /// Two files hold the same key.
    #[error("key {0}: is the same key as {1}")]
    Duplicate(PathBuf, PathBuf),
}

/// What the operator can do about a directory or file that cannot be read.
fn next_step(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("`wechat-authz keygen {}` makes it", path.display()),
        std::io::ErrorKind::PermissionDenied => {
            format!("give it to the user that runs `serve`: chown -R USER {}", path.display())
        }
        _ => "name a directory of PEM files that this process can read".to_owned(),
    }
}

/// A key and what is derived from it.
pub struct Key {
    kid: String,
    created: Timestamp,
    file: PathBuf,
    /// The first segment of the tokens that it signs.
    header: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Jwk,
    sealing: SealingKey,
}

impl Key {
    /// The key id: the thumbprint of RFC 7638.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// When it was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// The first segment of the tokens that it signs.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// Signs `message` with ES256. Returns base64url.
    pub(super) fn sign(&self, message: &[u8]) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::crypto::sign(message, &self.signing, Algorithm::ES256)
    }

    /// Whether `signature` (base64url) is a signature of `message` by this key.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.verifying, Algorithm::ES256).unwrap_or(false)
    }
}

/// A set of keys, oldest first.
pub struct KeySet {
    keys: Vec<Key>,
    sign_after: Duration,
    generation: u64,
}

impl KeySet {
    /// Loads all keys of the directory.
    ///
    /// # Errors
    /// All errors of all files.
    pub fn load(settings: &KeySettings) -> Result<Self, Vec<KeyError>> {
        let directory = &settings.directory;
        let listing =
            std::fs::read_dir(directory).map_err(|error| vec![KeyError::Directory(directory.clone(), error)])?;
        let mut files: Vec<PathBuf> = listing
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                // Kubernetes keeps the versions of a mounted Secret in directories whose names start with dots.
                !name.starts_with('.') && name.ends_with(".pem") && path.is_file()
            })
            .collect();
        files.sort();
        if files.is_empty() {
            return Err(vec![KeyError::Empty(directory.clone())]);
        }
        if files.len() > MAX_KEYS {
            return Err(vec![KeyError::TooMany(directory.clone())]);
        }
        let mut keys: Vec<Key> = Vec::new();
        let mut errors = Vec::new();
        for file in files {
            match load_key(&file) {
                Ok(key) => match keys.iter().find(|other| other.kid == key.kid) {
                    Some(other) => errors.push(KeyError::Duplicate(file, other.file.clone())),
                    None => keys.push(key),
                },
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        keys.sort_by(|left, right| (left.created, &left.kid).cmp(&(right.created, &right.kid)));
        Ok(Self { keys, sign_after: settings.sign_after, generation: 0 })
    }

    /// The key that signs at `now`: the newest that was published long enough; the oldest if there is none.
    pub fn signing(&self, now: Timestamp) -> Option<&Key> {
        let published = self.keys.iter().rev().find(|key| key.created + self.sign_after <= now);
        published.or_else(|| self.keys.first())
    }

    /// The key with the id `kid`.
    pub fn find(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// The key whose tokens have this first segment.
    pub(super) fn find_by_header(&self, header: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.header == header)
    }

    /// All keys, oldest first.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Grows with each change of the set. Part of the keys of the token cache.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The public keys as a JWK Set (RFC 7517).
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.keys.iter().map(|key| &key.public).collect::<Vec<_>>() })
    }
}

/// The current key set. A change of the directory replaces it.
pub struct KeyRing {
    current: ArcSwap<KeySet>,
    generations: AtomicU64,
}

impl KeyRing {
    /// A ring with this set.
    pub fn new(first: KeySet) -> Self {
        Self { current: ArcSwap::from_pointee(first), generations: AtomicU64::new(0) }
    }

    /// The current set.
    pub fn current(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.current.load()
    }

    /// Replaces the set with `next`. Returns whether they differ.
    pub fn replace(&self, mut next: KeySet) -> bool {
        let current = self.current.load();
        let kids = |set: &KeySet| set.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>();
        if kids(&current) == kids(&next) && current.sign_after == next.sign_after {
            return false;
        }
        next.generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(Arc::new(next));
        true
    }

    /// Seals `plain` for `context` with the key that signs at `now`: all instances have it by then.
    pub fn seal(&self, context: &str, plain: &[u8], now: Timestamp) -> Option<String> {
        self.current().signing(now)?.sealing.seal(context, plain).ok()
    }

    /// Opens a text of at most `max` characters that a key of the current set sealed for `context`.
    pub fn open(&self, context: &str, text: &str, max: usize) -> Option<Vec<u8>> {
        let sealed = seal::decode(text, max)?;
        self.current().keys.iter().rev().find_map(|key| key.sealing.open(context, &sealed))
    }
}

fn load_key(file: &Path) -> Result<Key, KeyError> {
    let io = |error| KeyError::File(file.to_owned(), error);
    let metadata = std::fs::metadata(file).map_err(io)?;
    if metadata.len() > MAX_BYTES {
        return Err(KeyError::NotP256(file.to_owned()));
    }
    let pem = Zeroizing::new(std::fs::read(file).map_err(io)?);
    let not_p256 = |_| KeyError::NotP256(file.to_owned());
    let signing = EncodingKey::from_ec_pem(&pem).map_err(not_p256)?;
    let mut public = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(not_p256)?;
    let AlgorithmParameters::EllipticCurve(curve) = &public.algorithm else {
        return Err(KeyError::NotP256(file.to_owned()));
    };
    let verifying = DecodingKey::from_ec_components(&curve.x, &curve.y).map_err(not_p256)?;
    if WELL_KNOWN.contains(&curve.x.as_str()) {
        return Err(KeyError::WellKnown(file.to_owned()));
    }
    let kid = public.thumbprint(ThumbprintHash::SHA256).map_err(not_p256)?;
    public.common.key_id = Some(kid.clone());
    public.common.key_algorithm = Some(jsonwebtoken::jwk::KeyAlgorithm::ES256);
    public.common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Signature);
    let sealing = SealingKey::derive(signing.as_bytes()).map_err(|_| KeyError::NotP256(file.to_owned()))?;
    let created = created_by_name(file).unwrap_or_else(|| {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Timestamp(modified.map_or(0, |since| since.as_secs()))
    });
    let key =
        Key { header: jws::header(&kid), kid, created, file: file.to_owned(), signing, verifying, public, sealing };
    // A key of another curve gets this far. Its own signature shows that it is not P-256.
    let proof = key.sign(b"proof").map_err(not_p256)?;
    if key.verifies(b"proof", &proof) { Ok(key) } else { Err(KeyError::NotP256(file.to_owned())) }
}

/// The file name of a key without its extension: when it was created, in UTC.
const FILE_NAME: StaticFormatDescription =
    format_description!(version = 2, "[year][month][day]T[hour][minute][second]Z");

/// The time in a name such as `20261123T112500Z.pem`.
fn created_by_name(file: &Path) -> Option<Timestamp> {
    Timestamp::parse(file.file_stem()?.to_str()?, FILE_NAME)
}

/// The file name of a key that is created at `now`.
pub fn file_name(now: Timestamp) -> String {
    format!("{}.pem", now.format(FILE_NAME))
}

/// A new P-256 private key, as PKCS#8 in PEM.
///
/// # Errors
/// The cryptographic library failed.
pub fn generate() -> Result<Zeroizing<String>, aws_lc_rs::error::Unspecified> {
    #[allow(clippy::disallowed_methods)] // the library wants its own generator for keys
    let random = aws_lc_rs::rand::SystemRandom::new();
    let document = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &random,
    )?;
    let body = Zeroizing::new(STANDARD.encode(document.as_ref()));
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let lines = Zeroizing::new(lines.join("\n"));
    Ok(Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *lines)))
}
