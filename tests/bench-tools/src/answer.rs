//! A server that does nothing: hyper, one thread, the same answer to everything.
//!
//! As the check's server it is the physical limit of the contract: whatever answers a check with these headers cannot
//! cost less with this HTTP library.

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

#[derive(Args)]
pub struct Answer {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// A header of the answer, as NAME:VALUE; may be repeated
    #[arg(long, value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// The answer's body
    #[arg(long, default_value = "")]
    body: String,
    /// Speak HTTP/2 without TLS instead of HTTP/1.1
    #[arg(long)]
    h2c: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("no colon")?;
    let name = name.parse().map_err(|error| format!("{error}"))?;
    Ok((name, value.parse().map_err(|error| format!("{error}"))?))
}

impl Answer {
    pub fn run(self) -> anyhow::Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let headers: HeaderMap = self.header.into_iter().collect();
        let body = Bytes::from(self.body);
        let answer = Arc::new((headers, body));
        let listener = TcpListener::bind(self.listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = Arc::clone(&answer);
            let service = service_fn(move |_| {
                let (headers, body) = &*answer;
                let mut response = Response::new(Full::new(body.clone()));
                *response.headers_mut() = headers.clone();
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let stream = TokioIo::new(stream);
            if self.h2c {
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service));
            } else {
                tokio::spawn(http1::Builder::new().serve_connection(stream, service));
            }
        }
    }
}
