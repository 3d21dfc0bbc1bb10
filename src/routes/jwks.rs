//! `jwks.json`: the public keys.

use super::Pages;
use crate::response::{self, Response};

impl Pages {
    /// `GET jwks.json`. Caches store it for five minutes only: a new key is published long before it signs.
    pub(super) fn jwks(&self) -> Response {
        response::public_json(&self.sessions().keys.current().jwks(), "public, max-age=300")
    }
}
