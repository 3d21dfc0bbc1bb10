//! The server: reads requests, routes them to their endpoint, applies faults, writes answers.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::{Answer, Content};
use crate::body::{Cut, Pour};
use crate::effect::{Effect, MAX_DELAY, Stage};
use crate::endpoint::Endpoint;
use crate::journal::Entry;
use crate::request::Request;
use crate::wire::{ResetLever, Wire};
use crate::world::World;
use crate::{authorize, central, consent, control, delivery, home, qr, sns};

/// Maximum open connections; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// Maximum head of a request: enough for a very long `redirect_uri`.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum body of a request: forms and control calls.
const MAX_BODY: usize = 256 * 1024;
/// Time-out for a head or a body.
const SLOWEST_REQUEST: Duration = Duration::from_secs(20);

/// State shared by all connections.
#[derive(Debug)]
pub struct Shared {
    world: Mutex<World>,
    /// Wakes the long polls when a QR code or the clock changes.
    pub moved: watch::Sender<()>,
}

impl Shared {
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world: Mutex::new(world), moved: watch::Sender::new(()) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        // A panic in a test's closure leaves the world usable.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the task is dropped, which also closes every connection.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    connection(stream, shared).await;
                    drop(place);
                });
            }
            // Usually out of file descriptors: wait until some are closed.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let lever = ResetLever::default();
    let wire = TokioIo::new(Wire::new(stream, lever.clone()));
    let service = service_fn(move |request| {
        let (shared, lever) = (Arc::clone(&shared), lever.clone());
        async move { whole(request, shared, lever).await }
    });
    // The client left, or a fault cut the connection on purpose.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_REQUEST)
        .max_buf_size(MAX_HEAD)
        .serve_connection(wire, service)
        .await;
}

/// Reads a whole request and answers it.
async fn whole(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
    lever: ResetLever,
) -> Result<Response<Pour>, Cut> {
    let (head, body) = request.into_parts();
    let body = match timeout(SLOWEST_REQUEST, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Ok(short(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => return Ok(short(StatusCode::REQUEST_TIMEOUT)),
    };
    let request = Request::new(head.method, head.uri.path(), head.uri.query().unwrap_or_default(), head.headers, body);
    let Some((endpoint, _)) = Endpoint::at(&request.path) else {
        return own(&shared, &request).await;
    };
    // In its own task: like WeChat, the simulator finishes a request after the client has disconnected, and spends
    // the code.
    let answered = tokio::spawn(async move { imitate(endpoint, request, &shared, &lever).await });
    answered.await.unwrap_or(Err(Cut))
}

fn short(status: StatusCode) -> Response<Pour> {
    let mut response = Response::new(Pour::whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// The simulator's own pages and control calls, which have no faults.
async fn own(shared: &Shared, request: &Request) -> Result<Response<Pour>, Cut> {
    let answer = match request.path.as_str() {
        "/" => home::page(&shared.world(), request),
        path if path.starts_with("/_sim/") => control::answer(shared, request).await,
        path if path.starts_with("/mmopen/") => home::avatar(&shared.world(), request),
        // Every browser requests it; the journal omits it.
        "/favicon.ico" => Answer::new(StatusCode::NOT_FOUND, "text/plain", Content::Text(String::new()), "no icon"),
        _ => unknown(&mut shared.world(), request),
    };
    delivery::deliver(&mut shared.world(), Endpoint::Any, answer, &[], &ResetLever::default())
}

/// A path that the simulator does not have: recorded, so that a test can assert that no request went there.
fn unknown(world: &mut World, request: &Request) -> Answer {
    let number = note(world, request);
    let answer = match Endpoint::is_api_path(&request.path) {
        true => crate::answer::errcode(world, 40066),
        false => {
            let content = Content::Text("the WeChat simulator has no such page\n".into());
            Answer::new(StatusCode::NOT_FOUND, "text/plain", content, "no such endpoint")
        }
    };
    world.journal.decide(number, &answer.decision);
    answer
}

/// One request to a WeChat endpoint, from journal to response.
async fn imitate(
    endpoint: Endpoint,
    request: Request,
    shared: &Shared,
    lever: &ResetLever,
) -> Result<Response<Pour>, Cut> {
    let (number, effects) = {
        let mut world = shared.world();
        (note(&mut world, &request), world.strike(endpoint, &request))
    };
    for effect in &effects {
        if let Effect::DelayBefore(delay) = effect {
            sleep((*delay).min(MAX_DELAY)).await;
        }
    }
    let answer = match effects.iter().find(|effect| effect.stage() == Stage::Instead) {
        Some(effect) => delivery::instead(&mut shared.world(), endpoint, effect, lever),
        None => Ok(processed(endpoint, &request, shared).await),
    };
    let decision = answer.as_ref().map_or("no answer", |answer| answer.decision.as_str()).to_owned();
    record(&mut shared.world(), number, endpoint, &request, &decision, &effects);
    let response = delivery::deliver(&mut shared.world(), endpoint, answer?, &effects, lever);
    for effect in &effects {
        if let Effect::DelayAfter(delay) = effect {
            sleep((*delay).min(MAX_DELAY)).await;
        }
    }
    response
}

async fn processed(endpoint: Endpoint, request: &Request, shared: &Shared) -> Answer {
    let answer = match endpoint {
        Endpoint::LongPoll => return long_poll(request, shared).await,
        Endpoint::Authorize => authorize::answer(&mut shared.world(), request),
        Endpoint::AuthorizeReply => consent::answer(&mut shared.world(), request),
        Endpoint::QrConnect => qr::page(&mut shared.world(), request),
        Endpoint::QrCode => qr::image(&shared.world(), request),
        Endpoint::Confirm => qr::confirm(&mut shared.world(), request),
        Endpoint::AccessToken => sns::access_token(&mut shared.world(), request),
        Endpoint::RefreshToken => sns::refresh_token(&mut shared.world(), request),
        Endpoint::Auth => sns::auth(&mut shared.world(), request),
        Endpoint::UserInfo => sns::userinfo(&mut shared.world(), request),
        Endpoint::StableToken => central::stable_token(&mut shared.world(), request),
        Endpoint::JsapiTicket => central::ticket(&mut shared.world(), request),
        Endpoint::Follower => central::user_info(&mut shared.world(), request),
        // Names of faults, not paths: no request reaches these.
        Endpoint::Callback | Endpoint::Any => crate::answer::errcode(&mut shared.world(), 40066),
    };
    if endpoint == Endpoint::Confirm {
        shared.moved.send_replace(());
    }
    answer
}

async fn long_poll(request: &Request, shared: &Shared) -> Answer {
    let mut moved = shared.moved.subscribe();
    let ends = Instant::now() + shared.world().options.qr_hold.min(MAX_DELAY);
    loop {
        moved.borrow_and_update();
        if let Some(answer) = qr::news(&mut shared.world(), request) {
            return answer;
        }
        if timeout_at(ends, moved.changed()).await.is_err() {
            return qr::no_news();
        }
    }
}

fn note(world: &mut World, request: &Request) -> u64 {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let time = world.clock.now();
    world.journal.note(Entry {
        number: 0,
        method: request.method.to_string(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        time,
        decision: "arrived".into(),
    })
}

fn record(world: &mut World, number: u64, endpoint: Endpoint, request: &Request, decision: &str, effects: &[Effect]) {
    let mut decision = decision.to_owned();
    for effect in effects {
        let effect = serde_json::to_string(effect).unwrap_or_default();
        decision.push_str(&format!(" [fault: {}]", effect.chars().take(80).collect::<String>()));
    }
    world.journal.decide(number, &decision);
    if world.options.narrate && !matches!(endpoint, Endpoint::LongPoll | Endpoint::QrCode) {
        let time = world.clock.now().time_of_day();
        // Stdout is closed; the server continues.
        let _ = writeln!(io::stdout(), "{time}  {:<31} {decision}", request.path);
    }
}

/// Binds the configured address, if the options allow it.
pub async fn bind(listen: SocketAddr, allow_remote: bool) -> io::Result<TcpListener> {
    if !listen.ip().is_loopback() && !allow_remote {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{listen} is not a loopback address: the simulator logs anybody in as anybody (--allow-remote, allow_remote lifts this)"
            ),
        ));
    }
    TcpListener::bind(listen).await
}
