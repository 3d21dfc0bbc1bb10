//! The two small listeners for operators: **ops**, read-only, for probes and Prometheus; **admin**, for listing and revoking
//! sessions, by bearer token.

mod api;
mod ops;
mod readiness;

pub(crate) use api::Admin;
pub(crate) use ops::Ops;
pub(crate) use readiness::Readiness;

use crate::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;

fn text_response(status: StatusCode, body: &str) -> Response {
    let mut answer = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
