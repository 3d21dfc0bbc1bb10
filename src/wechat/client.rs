//! The way to WeChat's server, and the one place that holds all bounds of it.
//!
//! One call is: room among the calls at once, leave from the breaker, a request, a body of 64 KiB at most, and perhaps
//! the same again; all of it within the call's time. Nothing is followed, proxied or repeated by the HTTP client itself.

use super::Endpoint;
use super::credentials::AppId;
use super::breaker::{Permit, State};
use super::breakers::Breakers;
use super::decode::{Answer, Unreadable};
use super::error::WechatError;
use super::retry::{Jitter, Retries, full_jitter};
use super::settings::{AddressError, Proxy, Settings, check};
use super::transport;
use crate::http_client;
use crate::telemetry::traces::{self, Span, SpanValue};
use http::header::CONTENT_TYPE;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

/// WeChat's answers have a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;

/// An idle connection is dropped before WeChat's side drops it: a request that meets its end counts as sent, and costs
/// the person a second login.
const IDLE: Duration = Duration::from_secs(15);

/// Of a call's time, the part it may wait for room: a fifth.
const WAIT_FOR_ROOM: u32 = 5;

/// Of a call's time, the part without which no retry is begun: a tenth. It would end as a time-out, which says less than
/// the error in hand.
const MIN_FOR_RETRY: u32 = 10;

/// Told of each request's endpoint, outcome (`ok` or a [`WechatError::label`]) and duration; of calls refused here as well.
type Observer = Box<dyn Fn(&'static str, &'static str, Duration) + Send + Sync>;

/// Makes the calls. One for ever: it keeps connections and breakers.
pub struct Client {
    http: reqwest::Client,
    settings: Settings,
    breakers: Breakers,
    room: Semaphore,
    observer: Observer,
    jitter: Jitter,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// One of WeChat's addresses cannot be one.
    #[error("wechat.{which} {error}")]
    Address {
        /// `open` or `api`.
        which: &'static str,
        /// What is wrong with it.
        error: AddressError,
    },
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// One call, before its answer.
pub(super) struct ApiCall<'a> {
    pub appid: &'a AppId,
    pub endpoint: Endpoint,
    pub query: &'a [(&'a str, &'a str)],
    /// JSON to POST; none for a GET.
    pub json: Option<String>,
    /// For all of it, retries included.
    pub time: Duration,
}

impl Client {
    /// A client within `settings`; needs rustls's default provider to be installed.
    ///
    /// `observer` is told of each request to WeChat, retries among them: endpoint, outcome (`ok` or a [`WechatError::label`]) and
    /// duration; and of each call that was refused here, with no duration. All words are of closed sets.
    ///
    /// # Errors
    /// An address that is neither https nor on this machine, or TLS that cannot be set up.
    pub fn new(
        settings: &Settings,
        observer: impl Fn(&'static str, &'static str, Duration) + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        for (which, address) in [("open", &settings.open), ("api", &settings.api)] {
            check(address).map_err(|error| BuildError::Address { which, error })?;
        }
        let http = http(settings).map_err(BuildError::Http)?;
        Ok(Self {
            http,
            settings: settings.clone(),
            breakers: Breakers::new(settings.breaker),
            room: Semaphore::new(settings.max_calls.clamp(1, Semaphore::MAX_PERMITS)),
            observer: Box::new(observer),
            jitter: full_jitter,
        })
    }

    /// The state of each breaker that has been used.
    pub fn breakers(&self) -> Vec<(AppId, Endpoint, State)> {
        self.breakers.states(Instant::now().into_std())
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks until there is an answer that `read` understands, a error that is not repeated, or no time.
    pub(super) async fn ask<T>(
        &self,
        call: ApiCall<'_>,
        read: impl Fn(&Answer) -> Result<T, Unreadable>,
    ) -> Result<T, WechatError> {
        let began = Instant::now();
        let deadline = began + call.time;
        let endpoint = call.endpoint;
        let breaker = self.breakers.get(call.appid, endpoint);
        let open = |retry_after| self.breaker_error(WechatError::BreakerOpen { endpoint, retry_after });
        // Before the wait for room: those whom WeChat keeps hanging may have taken it all.
        breaker.would_refuse(began.into_std()).map_or(Ok(()), |retry_after| Err(open(retry_after)))?;
        let _room = self.acquire(&call).await?;
        let mut retries = Retries::default();
        let mut last = None;
        loop {
            let now = Instant::now();
            let permit = match breaker.acquire(now.into_std()) {
                Ok(permit) => permit,
                // A retry that the breaker forbids ends with what it would have been for.
                Err(retry_after) => return Err(last.unwrap_or_else(|| open(retry_after))),
            };
            let span = traces::client_span("wechat", endpoint.as_str());
            let asked = timeout_at(deadline, self.request(&call, &read)).await;
            let outcome = asked.unwrap_or(Err(WechatError::TimedOut { endpoint }));
            self.annotate_span(&span, &call, last.is_some(), outcome.as_ref().err());
            drop(span);
            record_outcome(permit, &outcome);
            (self.observer)(endpoint.as_str(), label(&outcome), now.elapsed());
            let error = match outcome {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match retries.after(&error, self.jitter) {
                Some(pause) if pause + call.time / MIN_FOR_RETRY <= left => sleep(pause).await,
                _ => return Err(error),
            }
            last = Some(error);
        }
    }

    /// What a span may say of a request: nothing of its address but the host, for the rest holds secrets.
    fn annotate_span(&self, span: &Span, call: &ApiCall<'_>, again: bool, error: Option<&WechatError>) {
        if !span.is_traced() {
            return;
        }
        span.set_attribute("http.request.method", if call.json.is_some() { "POST" } else { "GET" });
        span.set_attribute("server.address", SpanValue::configured(self.settings.api.host_str().unwrap_or_default()));
        span.set_attribute("server.port", self.settings.api.port_or_known_default().unwrap_or_default());
        span.set_attribute("wechat.endpoint", call.endpoint.as_str());
        if again {
            span.set_attribute("wechat.retry", true);
        }
        if let Some(error) = error {
            span.set_error(error.label());
        }
    }

    async fn acquire(&self, call: &ApiCall<'_>) -> Result<SemaphorePermit<'_>, WechatError> {
        match timeout(call.time / WAIT_FOR_ROOM, self.room.acquire()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(self.breaker_error(WechatError::TooManyCalls { endpoint: call.endpoint })),
        }
    }

    fn breaker_error(&self, error: WechatError) -> WechatError {
        (self.observer)(error.endpoint().as_str(), error.label(), Duration::ZERO);
        error
    }

    async fn request<T>(
        &self,
        call: &ApiCall<'_>,
        read: impl Fn(&Answer) -> Result<T, Unreadable>,
    ) -> Result<T, WechatError> {
        let endpoint = call.endpoint;
        let request = match &call.json {
            None => self.http.get(self.url(call)),
            Some(json) => self.http.post(self.url(call)).header(CONTENT_TYPE, "application/json").body(json.clone()),
        };
        let sent = request.send().await;
        let response = sent.map_err(|error| transport::classify(endpoint, error))?;
        if !response.status().is_success() {
            return Err(WechatError::Status { endpoint, status: response.status().as_u16() });
        }
        understand(endpoint, &bounded(endpoint, response).await?, read)
    }

    /// Holds secret, code or token: for the request alone.
    fn url(&self, call: &ApiCall<'_>) -> Url {
        let mut url = self.settings.api.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), call.endpoint.path());
        url.set_path(&path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        url
    }
}

/// What the body of a 200 says.
pub(super) fn understand<T>(
    endpoint: Endpoint,
    body: &[u8],
    read: impl Fn(&Answer) -> Result<T, Unreadable>,
) -> Result<T, WechatError> {
    let unusable = |Unreadable(what)| WechatError::Unusable { endpoint, what };
    let answer = Answer::read(body).map_err(unusable)?;
    match answer.errcode().map_err(unusable)? {
        0 => read(&answer).map_err(unusable),
        code => Err(WechatError::Errcode { endpoint, code, rid: answer.rid() }),
    }
}

/// The HTTP client by which WeChat is reached: proxy and trusted roots as `settings` say, never as the environment says.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn http(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let proxy = settings.proxy.as_ref().map(proxy).transpose()?;
    http_client::client_trusting(settings.roots.as_deref(), || {
        let builder = configured(settings);
        match &proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        }
    })
}

fn proxy(proxy: &Proxy) -> Result<reqwest::Proxy, reqwest::Error> {
    let all = reqwest::Proxy::all(proxy.url.as_str()).map_err(reqwest::Error::without_url)?;
    let credentials = proxy.credentials.as_ref().and_then(|credentials| credentials.expose().split_once(':'));
    Ok(match credentials {
        Some((user, password)) => all.basic_auth(user, password),
        None => all,
    })
}

fn configured(settings: &Settings) -> reqwest::ClientBuilder {
    http_client::builder()
        .https_only(settings.api.scheme() == "https")
        // One request a connection at a time: one that hangs takes no other along, and a dropped call closes it.
        .http1_only()
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.max_calls)
}

async fn bounded(endpoint: Endpoint, mut response: reqwest::Response) -> Result<Vec<u8>, WechatError> {
    if response.content_length().is_some_and(|length| length > MAX_BODY as u64) {
        return Err(WechatError::TooLarge { endpoint });
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport::classify(endpoint, error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(WechatError::TooLarge { endpoint });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn record_outcome<T>(permit: Permit<'_>, outcome: &Result<T, WechatError>) {
    match outcome.as_ref().map_or_else(WechatError::blames_wechat, |_| Some(false)) {
        Some(true) => permit.failed(Instant::now().into_std()),
        Some(false) => permit.succeeded(),
        None => drop(permit),
    }
}

fn label<T>(outcome: &Result<T, WechatError>) -> &'static str {
    outcome.as_ref().map_or_else(WechatError::label, |_| "ok")
}

#[cfg(test)]
impl Client {
    /// Without pauses between tries.
    pub(super) fn hurried(mut self) -> Self {
        self.jitter = |_| Duration::ZERO;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_tls_makes_no_client() {
        let api = Url::parse("http://api.weixin.qq.com").unwrap();
        let built = Client::new(&Settings { api, ..Settings::default() }, |_, _, _| {});
        let said = built.err().unwrap().to_string();
        assert!(said.starts_with("wechat.api must use https"), "{said}");
    }
}
