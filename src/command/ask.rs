//! Asking the admin door of a running instance. Where it is and what opens it comes from the configuration, so that no
//! secret stands on a command line.

use super::check_config::{CONFIGURATION_FAULT, OUTPUT_FAULT};
use crate::config::{self, settings};
use crate::server::Address;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The longest one question takes, all of it: the door waits for a disk and for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// The door's longest answer: the sessions of one subject.
const MOST_ANSWER: usize = 1024 * 1024;

/// Why there is no answer, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum AskFault {
    /// The configuration's.
    #[error("{0}")]
    Configuration(String),
    /// It has no such door.
    #[error("the configuration has no admin door: write admin: {{ token_file: … }} and start the instance again")]
    NoDoor,
    /// Nobody is there.
    #[error("nobody answers at {0}: {1}. Is the instance running, and with this configuration?")]
    Unreachable(Address, io::Error),
    /// Somebody is there and says nothing.
    #[error("no answer from {0} within {patience} s", patience = PATIENCE.as_secs())]
    TimedOut(Address),
    /// The door said no.
    #[error("the admin door refused ({0}): {1}")]
    Refused(StatusCode, String),
    /// What came is none of its answers.
    #[error("what answers at {0} is no admin door of this program")]
    NotUnderstood(Address),
    /// The answer could not be printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl AskFault {
    /// Says it and gives the exit code.
    #[must_use]
    pub fn told(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(match self {
            Self::Configuration(_) | Self::NoDoor => CONFIGURATION_FAULT,
            Self::Output(_) => OUTPUT_FAULT,
            Self::Unreachable(..) | Self::TimedOut(_) | Self::Refused(..) | Self::NotUnderstood(_) => 1,
        })
    }
}

/// One question to the admin door that the configuration `file` describes.
///
/// # Errors
/// [`AskFault`].
pub fn ask(file: &Path, method: Method, path: &str, body: &str) -> Result<Value, AskFault> {
    let loaded = config::load(file, std::env::vars_os());
    let settings = loaded.and_then(settings::understand);
    let settings = settings.map_err(|faults| AskFault::Configuration(faults.to_string()))?;
    let (Some(address), Some(token)) = (settings.listen.admin, settings.admin_token) else {
        return Err(AskFault::NoDoor);
    };
    let host = match &address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose()))
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .map_err(|_| AskFault::Configuration("admin.token_file: holds what no header can".to_owned()))?;
    let unreachable = |error| AskFault::Unreachable(address.clone(), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, sent(&address, request)).await });
    let (status, body) = answer.map_err(|_| AskFault::TimedOut(address.clone()))??;
    let body: Value = serde_json::from_slice(&body).map_err(|_| AskFault::NotUnderstood(address))?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let message = body.get("message").and_then(Value::as_str).unwrap_or("without a reason");
    Err(AskFault::Refused(status, printable(message)))
}

async fn sent(address: &Address, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), AskFault> {
    let unreachable = |error| AskFault::Unreachable(address.clone(), error);
    match address {
        Address::Tcp(place) => spoken(address, TcpStream::connect(place).await.map_err(unreachable)?, request).await,
        Address::Unix(path) => spoken(address, UnixStream::connect(path).await.map_err(unreachable)?, request).await,
    }
}

async fn spoken(
    address: &Address,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), AskFault> {
    let odd = || AskFault::NotUnderstood(address.clone());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| odd())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|_| odd())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_ANSWER).collect().await.map_err(|_| odd())?;
    Ok((status, body.to_bytes()))
}

/// A text without what could steer a terminal: people choose their nicknames.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
