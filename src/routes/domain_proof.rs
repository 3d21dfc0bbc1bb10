//! Domain proofs: files at the root of a host, which WeChat reads to verify the domain.

use super::{PageRequest, Pages};
use crate::html::Page;
use crate::response::{self, Response};
use http::Method;

/// A file with which WeChat verifies that the operator controls a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainProof {
    name: String,
    content: String,
}

/// Why a text is not a valid domain proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainProofError {
    /// The content is missing, and the name does not imply it.
    #[error(
        "is neither MP_verify_….txt nor WW_verify_….txt with 16 letters or digits; write other files as NAME.txt=CONTENT"
    )]
    NoContent,
    /// The name is not a valid file name.
    #[error("has a name that is not letters, digits, _ and -, and then .txt")]
    Name,
    /// The content contains characters that WeChat's files never contain.
    #[error("has a content that is not 1 to 256 letters, digits and ._-=")]
    Content,
}

impl DomainProof {
    /// Parses `MP_verify_AbCdEfGh12345678.txt` (Official Account) or `WW_verify_….txt` (WeCom), whose name implies the
    /// content, or `NAME.txt=CONTENT` (mini programs and others).
    pub fn parse(text: &str) -> Result<Self, DomainProofError> {
        let is_word = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let (name, content) = match text.split_once('=') {
            Some(parts) => parts,
            None => {
                let word = text.strip_suffix(".txt").unwrap_or_default();
                let word = word.strip_prefix("MP_verify_").or_else(|| word.strip_prefix("WW_verify_"));
                let word = word.filter(|word| word.len() == 16 && is_word(word, ""));
                (text, word.ok_or(DomainProofError::NoContent)?)
            }
        };
        let stem = name.strip_suffix(".txt").unwrap_or_default();
        if !(1..=64).contains(&stem.len()) || !is_word(stem, "_-") {
            return Err(DomainProofError::Name);
        }
        if !(1..=256).contains(&content.len()) || !is_word(content, "._-=") {
            return Err(DomainProofError::Content);
        }
        Ok(Self { name: name.to_owned(), content: content.to_owned() })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl std::str::FromStr for DomainProof {
    type Err = DomainProofError;

    fn from_str(text: &str) -> Result<Self, DomainProofError> {
        Self::parse(text)
    }
}

impl std::fmt::Display for DomainProof {
    /// The shortest text that parses to this proof.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::parse(&self.name) {
            Ok(proof) if proof == *self => f.write_str(&self.name),
            _ => write!(f, "{}={}", self.name, self.content),
        }
    }
}

impl Pages {
    /// The domain proof at `path`. It comes from the configuration; no file is read.
    pub(super) fn domain_proof(&self, request: &PageRequest, host: &str, path: &str) -> Response {
        let proofs = self.domain_proofs.get(host).map(Vec::as_slice).unwrap_or_default();
        let proof = path.strip_prefix('/').and_then(|name| proofs.iter().find(|proof| proof.name == name));
        match proof {
            Some(proof) if matches!(request.parts.method, Method::GET | Method::HEAD) => response::text(&proof.content),
            Some(_) => response::method_not_allowed("GET, HEAD"),
            None => request.page(&Page::NotFound { home_url: "/" }),
        }
    }
}
