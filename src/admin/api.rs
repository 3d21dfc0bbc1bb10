//! The admin listener: lists and revokes sessions.

use super::{Response, text_response};
use crate::app_name::AppName;
use crate::clock::{self, Timestamp};
use crate::redis::CallError;
use crate::response::envelope;
use crate::secret::Secret;
use crate::session::Sessions;
use crate::session::revocations::Target;
use crate::session_id::SessionId;
use crate::sessions::Registry;
use crate::sessions::events::{Event, Kind};
use crate::sessions::registry::SessionRecord;
use crate::sessions::revocation_sync::RevocationSync;
use crate::subject::Subject;
use crate::telemetry::{self, Metrics, RequestIds, traces};
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tracing::Instrument as _;

/// The admin listener's handler.
pub(crate) struct Admin {
    /// The token that authorizes a request. Without one, every request is refused.
    pub token: ArcSwapOption<Secret>,
    /// The names of the configured applications.
    pub apps: ArcSwap<BTreeSet<AppName>>,
    /// Decides which sessions are revoked.
    pub sessions: Arc<Sessions>,
    /// Revokes at this instance and at all others.
    pub sharing: Arc<RevocationSync>,
    /// Lists sessions and receives the events.
    pub registry: Arc<Registry>,
    /// Counts revocations.
    pub metrics: Arc<Metrics>,
}

/// The longest request body.
const MAX_BODY: usize = 4_096;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

impl Admin {
    /// Answers a request: `GET /sessions?subject=…`, or `POST /sessions/revoke` with exactly one of `session`, `subject`
    /// and `app`.
    pub(crate) async fn answer<B>(&self, request: http::Request<B>) -> Response
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let RequestIds { request_id, trace_id } = RequestIds::of(&parts.headers);
        let logged = tracing::error_span!("request", request_id, trace_id);
        let trace_id = trace_id.to_owned();
        traces::for_request(trace_id, self.handle(parts, body)).instrument(logged).await
    }

    async fn handle<B>(&self, parts: Parts, body: B) -> Response
    where
        B: hyper::body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !host_is_local(&parts) {
            // DNS rebinding: a web page in the operator's browser whose host name resolves to this address.
            return error_response(
                StatusCode::FORBIDDEN,
                "wrong Host: use the IP address of the admin listener or localhost",
            );
        }
        if !self.is_authorized(&parts) {
            let mut answer =
                error_response(StatusCode::UNAUTHORIZED, "send the content of admin.token_file as a bearer token");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        match (parts.uri.path(), &parts.method) {
            ("/sessions/revoke", &Method::POST) => {}
            ("/sessions", &Method::GET) => return self.list(parts.uri.query().unwrap_or_default()).await,
            ("/sessions/revoke", _) => {
                return error_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use POST");
            }
            ("/sessions", _) => return error_response(StatusCode::METHOD_NOT_ALLOWED, "method not allowed: use GET"),
            _ => {
                return error_response(
                    StatusCode::NOT_FOUND,
                    "not found: the admin API has /sessions and /sessions/revoke",
                );
            }
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return error_response(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or incomplete"),
            Err(_) => return error_response(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
        };
        match self.parse_revocation(&body) {
            Ok(request) => self.revoke(request).await,
            Err((status, message)) => error_response(status, message),
        }
    }

    /// Parses the body of a revocation, or returns what is wrong with it.
    fn parse_revocation(&self, body: &[u8]) -> Result<RevocationRequest, (StatusCode, &'static str)> {
        let bad = |message| (StatusCode::BAD_REQUEST, message);
        match serde_json::from_slice(body).map_err(|_| bad(BODY))? {
            RevocationBody::Session(id) => id.parse().map(RevocationRequest::Session).map_err(|_| bad(NO_SESSION_ID)),
            RevocationBody::Subject(text) => text.parse().map(RevocationRequest::Subject).map_err(|_| bad(NO_SUBJECT)),
            RevocationBody::App(name) => {
                let app = self.apps.load().get(name.as_str()).cloned();
                app.map(RevocationRequest::App).ok_or((StatusCode::NOT_FOUND, NO_APP))
            }
        }
    }

    async fn revoke(&self, request: RevocationRequest) -> Response {
        let now = clock::now();
        let (kind, id, target) = match &request {
            RevocationRequest::Session(id) => ("session", id.to_string(), Target::Session(*id)),
            RevocationRequest::Subject(subject) => ("subject", subject.to_string(), Target::subject(subject)),
            RevocationRequest::App(app) => ("app", app.to_string(), Target::App(app.clone())),
        };
        tracing::info!(target: "audit", event = "revoke", scope = kind, id = telemetry::redact(&id), "revoked by the admin listener");
        self.metrics.sessions.revoked(kind);
        let Ok(revoked) = self.sharing.revoke(target, now).await else {
            return error_response(StatusCode::INTERNAL_SERVER_ERROR, "the revocation was interrupted; send it again");
        };
        // After the revocation, which must not wait for a slow Redis to list sessions.
        let known = self.is_known(&request, now).await;
        let kept = matches!(revoked.on_disk, Some(Ok(()))) || revoked.shared.is_ok();
        let shared = revoked.shared;
        let reason = shared.err().map(CallError::as_str);
        let answer = json!({
            "revoked": kind, "known": known, "kept": kept, "shared": shared.is_ok(), "reason": reason,
        });
        let event = Event { reason: "operator", ..Event::new(Kind::Revocation, now) };
        self.registry.emit(match request {
            RevocationRequest::Session(session) => Event { session: Some(session), ..event },
            RevocationRequest::Subject(subject) => {
                self.apps.load().iter().for_each(|app| self.registry.delete_tokens(app, &subject));
                Event { subject: Some(subject), ..event }
            }
            RevocationRequest::App(app) => Event { app: Some(app), ..event },
        });
        match (revoked.on_disk, shared) {
            (Some(Err(_)), Err(_)) => error_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "revoked at this instance, but not stored: a restart forgets it",
            ),
            _ => done("revoked", answer),
        }
    }

    /// Whether the session, subject or application exists; `None` if this instance cannot know. No index finds the
    /// sessions of other instances by their ids.
    async fn is_known(&self, request: &RevocationRequest, now: Timestamp) -> Option<bool> {
        match request {
            RevocationRequest::Session(id) => self.registry.has_seen(*id).then_some(true),
            RevocationRequest::Subject(id) => {
                let listed = self.registry.list(id, now).await;
                let found = !listed.sessions.is_empty();
                (found || listed.unavailable.is_none()).then_some(found)
            }
            RevocationRequest::App(_) => Some(true),
        }
    }

    /// Lists the sessions of the query's `subject`.
    async fn list(&self, query: &str) -> Response {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        let (subject, more) = (pairs.next(), pairs.next());
        let Some(subject) = subject.filter(|(name, _)| name == "subject" && more.is_none()) else {
            return error_response(StatusCode::BAD_REQUEST, "name exactly one subject: /sessions?subject=wx:…");
        };
        let Ok(subject) = subject.1.parse::<Subject>() else {
            return error_response(StatusCode::BAD_REQUEST, NO_SUBJECT);
        };
        let (now, who) = (clock::now(), telemetry::redact(subject.as_str()));
        tracing::info!(target: "audit", event = "list", subject = who, "listed by the admin listener");
        let listed = self.registry.list(&subject, now).await;
        let alive = listed.sessions.iter().filter(|record| !self.is_revoked(record));
        let sessions: Vec<_> = alive
            .map(|record| {
                json!({
                    "session": record.session, "app": record.app, "method": record.flow.as_str(),
                    "browser": record.browser, "created": record.created.0, "seen": record.seen.0, "ends": record.ends.0,
                })
            })
            .collect();
        let profiles: serde_json::Map<_, _> = listed
            .profiles
            .into_iter()
            .map(|(app, entry)| {
                let profile = json!({
                    "nickname": entry.profile.nickname, "avatar": entry.profile.avatar, "unionid": entry.unionid,
                    "at": entry.at.0, "age": now.since(entry.at).as_secs(),
                });
                (app.into(), profile)
            })
            .collect();
        let from = listed.unavailable.map_or("all instances".to_owned(), |why| format!("this instance alone: {why}"));
        let answer = json!({ "subject": subject, "from": from, "sessions": sessions, "profiles": profiles });
        done("listed", answer)
    }

    fn is_revoked(&self, record: &SessionRecord) -> bool {
        self.sessions.revocations.is_revoked(record, &AtomicU64::new(0))
    }

    /// Whether the request has exactly one Authorization header, with the admin token.
    fn is_authorized(&self, parts: &Parts) -> bool {
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let value = value.to_str().ok().and_then(|value| value.split_once(' '));
        let Some((scheme, token)) = value else { return false };
        let expected = self.token.load();
        scheme.eq_ignore_ascii_case("bearer")
            && expected.as_ref().is_some_and(|expected| expected.matches(token.trim()))
    }
}

/// The body of a revocation.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RevocationBody {
    Session(String),
    Subject(String),
    App(String),
}

/// What to revoke.
enum RevocationRequest {
    Session(SessionId),
    Subject(Subject),
    App(AppName),
}

const BODY: &str = "send JSON with exactly one of: {\"session\": \"…\"}, {\"subject\": \"wx:…\"}, {\"app\": \"…\"}";

const NO_SESSION_ID: &str = "this is not a session id; nothing was revoked. A session id has 22 letters, digits, hyphens \
     and underscores, as in the x-wechat-session header and in `sessions list`";

const NO_APP: &str = "no application of this name is configured; nothing was revoked";

const NO_SUBJECT: &str = "this is not a subject; nothing was done. A subject is wx:<appid>:<openid> or wx:union:<unionid>, \
     as in the x-wechat-subject header: write wx:, the AppID and a colon before an openid";

/// Whether the Host is a loopback address or localhost.
fn host_is_local(parts: &Parts) -> bool {
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default();
    let parsed = url::Url::parse(&format!("http://{host}/")).ok();
    parsed.as_ref().and_then(url::Url::host).is_some_and(|host| crate::origin::is_loopback(&host))
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut answer = text_response(status, &body.to_string());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn done(message: &str, data: Value) -> Response {
    json_response(StatusCode::OK, &envelope(StatusCode::OK, message, data))
}

fn error_response(status: StatusCode, message: &str) -> Response {
    json_response(status, &envelope(status, message, Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::redis::Redis;
    use crate::session::Sessions;
    use crate::sessions::{registry, revocation_sync};
    use crate::testing::fixtures;
    use http_body_util::Full;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn admin() -> (Admin, Arc<Sessions>) {
        let sessions = Arc::new(fixtures::sessions(fixtures::key_ring(), Timestamp(0)));
        let metrics = Metrics::default();
        let sealer: Arc<dyn crate::seal::Sealer> = Arc::<Sessions>::clone(&sessions);
        let registry = Registry::new(Redis::none(), sealer, registry::Settings::default(), metrics.outbox.clone());
        let admin = Admin {
            token: ArcSwapOption::from_pointee(Secret::parse(TOKEN, 32).unwrap()),
            apps: ArcSwap::from_pointee(BTreeSet::from(["shop".parse().unwrap()])),
            sessions: Arc::clone(&sessions),
            sharing: Arc::new(RevocationSync::new(
                Arc::clone(&sessions),
                Redis::none(),
                revocation_sync::Settings::default(),
            )),
            registry: Arc::new(registry),
            metrics: Arc::new(metrics),
        };
        (admin, sessions)
    }

    async fn ask(admin: &Admin, method: &str, path: &str, lines: &[(&str, &str)], body: &'static str) -> u16 {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let answer = admin.answer(request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()).await;
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn only_the_admin_token_authorizes() {
        let (admin, _) = admin();
        let good = format!("Bearer {TOKEN}");
        let host = ("host", "127.0.0.1:9103");
        let session = r#"{"session":"AAAAAAAAAAAAAAAAAAAAAA"}"#;
        for (lines, status) in [
            (&[host, ("authorization", good.as_str())][..], 200),
            (&[host], 401),
            (&[host, ("authorization", "Bearer 0123456789abcdef0123456789abcdeF")], 401),
            (&[host, ("authorization", TOKEN)], 401),
            (&[host, ("authorization", "Basic 0123456789abcdef0123456789abcdef")], 401),
            (&[host, ("authorization", good.as_str()), ("authorization", good.as_str())], 401),
            (&[("host", "evil.example"), ("authorization", good.as_str())], 403),
            (&[("host", "127.0.0.1.evil.example"), ("authorization", good.as_str())], 403),
            (&[("authorization", good.as_str())], 403),
            (&[("host", "localhost"), ("authorization", good.as_str())], 200),
        ] {
            assert_eq!(ask(&admin, "POST", "/sessions/revoke", lines, session).await, status, "{lines:?}");
        }
        admin.token.store(None);
        assert_eq!(ask(&admin, "POST", "/sessions/revoke", &[host, ("authorization", "Bearer ")], session).await, 401);
    }

    #[tokio::test]
    async fn every_answer_is_one_envelope() {
        let (admin, _) = admin();
        let good = format!("Bearer {TOKEN}");
        let host = ("host", "127.0.0.1:9103");
        let known = [host, ("authorization", good.as_str())];
        for (method, path, lines, body, status) in [
            ("POST", "/sessions/revoke", &known[..], r#"{"session":"AAAAAAAAAAAAAAAAAAAAAA"}"#, 200),
            ("GET", "/sessions?subject=wx:union:oAlice", &known, "", 200),
            ("GET", "/sessions", &known, "", 400),
            ("POST", "/sessions/revoke", &known, "", 400),
            ("POST", "/sessions/revoke", &[host], "", 401),
            ("POST", "/sessions/revoke", &[("host", "evil.example")], "", 403),
            ("GET", "/", &known, "", 404),
            ("PUT", "/sessions", &known, "", 405),
        ] {
            let mut request = http::Request::builder().method(method).uri(path);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            let answer = admin.answer(request.body(Full::new(Bytes::from(body))).unwrap()).await;
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["content-type"]),
                (status, &"application/json".parse().unwrap())
            );
            let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
            let members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(members, ["code", "data", "message"], "{method} {path}: {body}");
            assert_eq!(
                (&body["code"], body["data"].is_object()),
                (&json!(status), status == 200),
                "{method} {path}: {body}"
            );
        }
    }

    #[tokio::test]
    async fn a_revocation_names_exactly_one_target() {
        let (admin, sessions) = admin();
        let good = format!("Bearer {TOKEN}");
        let lines = [("host", "[::1]:9103"), ("authorization", good.as_str())];
        for (body, status) in [
            (r#"{"session":"AAAAAAAAAAAAAAAAAAAAAA"}"#, 200),
            (r#"{"session":"nonsense"}"#, 400),
            (r#"{"session":"AAAAAAAAAAAAAAAAAAAAA+"}"#, 400),
            (r#"{"session":"AAAAAAAAAAAAAAAAAAAAAAA"}"#, 400),
            (r#"{"subject":"wx:"}"#, 400),
            (r#"{"subject":"wx:union:"}"#, 400),
            (r#"{"subject":"wx:wx123:oAlice"}"#, 400),
            (r#"{"subject":"wx:union:o\u0000"}"#, 400),
            (r#"{"subject":"wx:wx0123456789abcdef:o-_1"}"#, 200),
            (r#"{"subject":"wx:union:o1"}"#, 200),
            (r#"{"app":"shop"}"#, 200),
            (r#"{"app":"shoop"}"#, 404),
            ("", 400),
            ("{}", 400),
            (r#"{"session":""}"#, 400),
            (r#"{"subject":"oAlice"}"#, 400),
            (r#"{"session":"a","subject":"b"}"#, 400),
            (r#"{"everything":true}"#, 400),
            (r#"{"everyone":null}"#, 400),
            (r#"{"session":["a"]}"#, 400),
        ] {
            assert_eq!(ask(&admin, "POST", "/sessions/revoke", &lines, body).await, status, "{body}");
        }
        assert_eq!(ask(&admin, "GET", "/sessions/revoke", &lines, "").await, 405);
        assert_eq!(ask(&admin, "POST", "/", &lines, "").await, 404);
        assert_eq!(sessions.revocations.len(), 4);
    }

    #[tokio::test]
    async fn sessions_are_listed_for_one_subject() {
        let (admin, sessions) = admin();
        let record = |session: &str, created: u64| SessionRecord {
            session: SessionId::named(session),
            subject: "wx:union:o1".parse().unwrap(),
            app: "shop".parse().unwrap(),
            flow: crate::login_method::LoginMethod::Website,
            created: Timestamp(created),
            ends: Timestamp(u64::MAX / 2),
            seen: Timestamp(created),
            browser: Some("chrome".into()),
        };
        ["one", "two"].into_iter().for_each(|session| admin.registry.session_started(record(session, 100)));
        sessions.revocations.revoke(Target::Session(SessionId::named("one")), clock::now());
        let good = format!("Bearer {TOKEN}");
        let lines = [("host", "[::1]:9103"), ("authorization", good.as_str())];
        let request = http::Request::get("/sessions?subject=wx%3Aunion%3Ao1").header("host", "localhost");
        let request = request.header("authorization", &good).body(Full::<Bytes>::default()).unwrap();
        let body = admin.answer(request).await.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&answer["code"], &answer["message"]), (&json!(200), &json!("listed")), "{answer}");
        let answer = &answer["data"];
        assert_eq!(answer["sessions"].as_array().unwrap().len(), 1, "a revoked session is none: {answer}");
        assert_eq!(
            (&answer["sessions"][0]["session"], &answer["sessions"][0]["browser"]),
            (&json!(SessionId::named("two")), &"chrome".into())
        );
        assert_eq!(answer["from"], "this instance alone: no Redis is configured");
        for (path, status) in [
            ("/sessions", 400),
            ("/sessions?subject=o1", 400),
            ("/sessions?subject=wx:union:a&subject=wx:union:b", 400),
            ("/sessions?app=shop", 400),
            ("/sessions?subject=wx:a", 400),
            ("/sessions?subject=wx:union:a", 200),
        ] {
            assert_eq!(ask(&admin, "GET", path, &lines, "").await, status, "{path}");
        }
        assert_eq!(ask(&admin, "POST", "/sessions?subject=wx:union:a", &lines, "").await, 405);
        assert_eq!(ask(&admin, "GET", "/sessions?subject=wx:union:a", &lines[..1], "").await, 401);
    }
}
