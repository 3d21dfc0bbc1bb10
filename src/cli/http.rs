//! One small question by HTTP to a process beside this one: a door of a running instance, or Envoy's admin port.

use crate::server::Address;
use bytes::Bytes;
use http::{Request, StatusCode, header, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest answer: the sessions of one subject.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody is there.
    #[error("nobody answers at {0}: {1}")]
    Unreachable(Address, io::Error),
    /// Somebody is there and says nothing.
    #[error("no answer from {0} within {seconds} s", seconds = .1.as_secs_f32())]
    TimedOut(Address, Duration),
    /// What came is no HTTP, or too much of it.
    #[error("what answers at {0} is not understood")]
    NotUnderstood(Address),
    /// The question cannot be put: a header that none can be.
    #[error("a header holds what none can")]
    NoRequest,
}

/// Asks at `address`, all of it within `patience`.
pub(crate) fn request(
    address: &Address,
    request: request::Builder,
    body: &str,
    patience: Duration,
) -> Result<(StatusCode, Bytes), HttpError> {
    let host = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let request = request.header(header::HOST, host).body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let request = request.map_err(|_| HttpError::NoRequest)?;
    let unreachable = |error| HttpError::Unreachable(address.clone(), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let answer = runtime.block_on(async { tokio::time::timeout(patience, send(address, request)).await });
    answer.map_err(|_| HttpError::TimedOut(address.clone(), patience))?
}

async fn send(address: &Address, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), HttpError> {
    let unreachable = |error| HttpError::Unreachable(address.clone(), error);
    match address {
        Address::Tcp(place) => exchange(address, TcpStream::connect(place).await.map_err(unreachable)?, request).await,
        Address::Unix(path) => exchange(address, UnixStream::connect(path).await.map_err(unreachable)?, request).await,
    }
}

async fn exchange(
    address: &Address,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), HttpError> {
    let odd = || HttpError::NotUnderstood(address.clone());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| odd())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|_| odd())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|_| odd())?;
    Ok((status, body.to_bytes()))
}
