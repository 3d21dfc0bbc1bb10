//! A small HTTP client for a local process: a listener of a running instance, or Envoy's admin port.

use crate::server::Address;
use bytes::Bytes;
use http::{Request, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest response body: the sessions of one subject.
const MAX_BODY: usize = 1024 * 1024;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Unreachable(Address, io::Error),
    /// No response in time.
    #[error("no response from {0} within {seconds} s", seconds = .1.as_secs_f32())]
    TimedOut(Address, Duration),
    /// The response is not HTTP or too long.
    #[error("{0} does not answer with a valid HTTP response")]
    InvalidResponse(Address),
    /// A header of the request is invalid.
    #[error("a header of the request is invalid")]
    InvalidHeader,
}

/// Sends a request to `address`. The whole exchange takes at most `limit`.
pub(crate) fn request(
    address: &Address,
    request: request::Builder,
    body: &str,
    limit: Duration,
) -> Result<(StatusCode, Bytes), HttpError> {
    let host = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let request = request.header(header::HOST, host).body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let request = request.map_err(|_| HttpError::InvalidHeader)?;
    let unreachable = |error| HttpError::Unreachable(address.clone(), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let response = runtime.block_on(async { tokio::time::timeout(limit, send(address, request)).await });
    response.map_err(|_| HttpError::TimedOut(address.clone(), limit))?
}

async fn send(address: &Address, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), HttpError> {
    let unreachable = |error| HttpError::Unreachable(address.clone(), error);
    match address {
        Address::Tcp(socket) => {
            exchange(address, TcpStream::connect(socket).await.map_err(unreachable)?, request).await
        }
        Address::Unix(path) => exchange(address, UnixStream::connect(path).await.map_err(unreachable)?, request).await,
    }
}

async fn exchange(
    address: &Address,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), HttpError> {
    let invalid = || HttpError::InvalidResponse(address.clone());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| invalid())?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|_| invalid())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(|_| invalid())?;
    Ok((status, body.to_bytes()))
}
