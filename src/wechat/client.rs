//! Calls WeChat's API, within all limits.
//!
//! A call takes one of a limited number of permits, asks the breaker, sends a request, reads at most 64 KiB, and may retry;
//! all within the timeout of the call. The HTTP client itself follows no redirect and repeats nothing.

use super::Endpoint;
use super::breaker::{Permit, State};
use super::breakers::Breakers;
use super::credentials::AppId;
use super::decode::{Answer, Unreadable};
use super::error::WechatError;
use super::retry::{Jitter, Retries, full_jitter};
use super::settings::{AddressError, Proxy, Settings, check_base_url};
use super::transport;
use crate::http_client;
use crate::telemetry::traces::{self, Span, SpanValue};
use http::header::CONTENT_TYPE;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

/// The longest body. WeChat's answers have a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;

/// Closes an idle connection before WeChat does. A request on a connection that WeChat closes counts as sent, and costs
/// the user a second login.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A call may wait this part of its timeout for a permit: a fifth.
const PERMIT_WAIT: u32 = 5;

/// A retry needs at least this part of the timeout: a tenth. A shorter one would time out, which says less than the
/// previous error.
const MIN_FOR_RETRY: u32 = 10;

/// Receives the endpoint, outcome (`ok` or a [`WechatError::label`]) and duration of each request and each refused call.
type Observer = Box<dyn Fn(&'static str, &'static str, Duration) + Send + Sync>;

/// Calls WeChat's API. Holds the connections and the breakers.
pub struct Client {
    http: reqwest::Client,
    settings: Settings,
    breakers: Breakers,
    permits: Semaphore,
    observer: Observer,
    jitter: Jitter,
}

/// Why a client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A base URL is not acceptable.
    #[error("wechat.{which} {error}")]
    Address {
        /// `open` or `api`.
        which: &'static str,
        /// The reason.
        error: AddressError,
    },
    /// TLS cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// A call.
pub(super) struct ApiCall<'a> {
    pub appid: &'a AppId,
    pub endpoint: Endpoint,
    pub query: &'a [(&'a str, &'a str)],
    /// The JSON body of a POST; `None` for a GET.
    pub json: Option<String>,
    /// For the whole call, retries included.
    pub timeout: Duration,
}

impl Client {
    /// A client with these settings. Needs rustls's default provider.
    ///
    /// `observer` receives the endpoint, outcome (`ok` or a [`WechatError::label`]) and duration of each request, retries
    /// included, and of each refused call, with a duration of zero. All labels are from closed sets.
    ///
    /// # Errors
    /// A base URL is neither https nor loopback, or TLS cannot be set up.
    pub fn new(
        settings: &Settings,
        observer: impl Fn(&'static str, &'static str, Duration) + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        for (which, address) in [("open", &settings.open), ("api", &settings.api)] {
            check_base_url(address).map_err(|error| BuildError::Address { which, error })?;
        }
        let http = http(settings).map_err(BuildError::Http)?;
        Ok(Self {
            http,
            settings: settings.clone(),
            breakers: Breakers::new(settings.breaker),
            permits: Semaphore::new(settings.max_calls.clamp(1, Semaphore::MAX_PERMITS)),
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

    /// Sends requests until `read` accepts an answer, an error is not retryable, or the time is over.
    pub(super) async fn call<T>(
        &self,
        call: ApiCall<'_>,
        read: impl Fn(&Answer) -> Result<T, Unreadable>,
    ) -> Result<T, WechatError> {
        let start = Instant::now();
        let deadline = start + call.timeout;
        let endpoint = call.endpoint;
        let breaker = self.breakers.get(call.appid, endpoint);
        let refused = |retry_after| self.refuse(WechatError::BreakerOpen { endpoint, retry_after });
        // Before the wait for a permit: calls that hang may hold all permits.
        breaker.would_refuse(start.into_std()).map_or(Ok(()), |retry_after| Err(refused(retry_after)))?;
        let _permit = self.acquire(&call).await?;
        let mut retries = Retries::default();
        let mut last = None;
        loop {
            let now = Instant::now();
            let permit = match breaker.acquire(now.into_std()) {
                Ok(permit) => permit,
                // A refused retry returns the error of the previous request.
                Err(retry_after) => return Err(last.unwrap_or_else(|| refused(retry_after))),
            };
            let span = traces::client_span("wechat", endpoint.as_str());
            let response = timeout_at(deadline, self.request(&call, &read)).await;
            let outcome = response.unwrap_or(Err(WechatError::TimedOut { endpoint }));
            self.annotate_span(&span, &call, last.is_some(), outcome.as_ref().err());
            drop(span);
            record_outcome(permit, &outcome);
            (self.observer)(endpoint.as_str(), label(&outcome), now.elapsed());
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let remaining = deadline.saturating_duration_since(Instant::now());
            match retries.delay_after(&error, self.jitter) {
                Some(delay) if delay + call.timeout / MIN_FOR_RETRY <= remaining => sleep(delay).await,
                _ => return Err(error),
            }
            last = Some(error);
        }
    }

    /// Sets the span's attributes. Of the URL, only host and port: the rest holds secrets.
    fn annotate_span(&self, span: &Span, call: &ApiCall<'_>, is_retry: bool, error: Option<&WechatError>) {
        if !span.is_traced() {
            return;
        }
        span.set_attribute("http.request.method", if call.json.is_some() { "POST" } else { "GET" });
        span.set_attribute("server.address", SpanValue::configured(self.settings.api.host_str().unwrap_or_default()));
        span.set_attribute("server.port", self.settings.api.port_or_known_default().unwrap_or_default());
        span.set_attribute("wechat.endpoint", call.endpoint.as_str());
        if is_retry {
            span.set_attribute("wechat.retry", true);
        }
        if let Some(error) = error {
            span.set_error(error.label());
        }
    }

    async fn acquire(&self, call: &ApiCall<'_>) -> Result<SemaphorePermit<'_>, WechatError> {
        match timeout(call.timeout / PERMIT_WAIT, self.permits.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self.refuse(WechatError::TooManyCalls { endpoint: call.endpoint })),
        }
    }

    fn refuse(&self, error: WechatError) -> WechatError {
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
        let result = request.send().await;
        let response = result.map_err(|error| transport::classify(endpoint, error))?;
        if !response.status().is_success() {
            return Err(WechatError::Status { endpoint, status: response.status().as_u16() });
        }
        parse_body(endpoint, &read_body(endpoint, response).await?, read)
    }

    /// The URL of the request. It contains the secret, code or token, and must not be logged.
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

/// Decodes the body of a successful response.
pub(super) fn parse_body<T>(
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

/// The HTTP client for WeChat. Proxy and trusted roots come from `settings`, never from the environment.
///
/// # Errors
/// TLS cannot be set up.
pub(crate) fn http(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let proxy = settings.proxy.as_ref().map(proxy).transpose()?;
    http_client::client_trusting(settings.roots.as_deref(), || {
        let builder = builder(settings);
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

fn builder(settings: &Settings) -> reqwest::ClientBuilder {
    http_client::builder()
        .https_only(settings.api.scheme() == "https")
        // One request for each connection at a time: a request that hangs affects no other, and a dropped call closes it.
        .http1_only()
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(settings.max_calls)
}

async fn read_body(endpoint: Endpoint, mut response: reqwest::Response) -> Result<Vec<u8>, WechatError> {
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
    fn a_base_url_without_tls_is_refused() {
        let api = Url::parse("http://api.weixin.qq.com").unwrap();
        let built = Client::new(&Settings { api, ..Settings::default() }, |_, _, _| {});
        let said = built.err().unwrap().to_string();
        assert!(said.starts_with("wechat.api must use https"), "{said}");
    }
}
