//! Drain: announce the end, close idle connections, finish requests in flight, cut the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The minimum time in which responses announce the end before idle connections are closed. Envoy closes a connection
/// after such a response without losing a request (docs/en/ext-authz.md, Connections).
const MIN_ANNOUNCEMENT: Duration = Duration::from_millis(500);

/// The drain of the process, shared by its listeners.
#[derive(Clone)]
pub(crate) struct Drain {
    delay: Duration,
    deadline: Duration,
    /// Whether responses close their connections.
    pub(super) announced: Arc<AtomicBool>,
    /// Listeners stop accepting; idle connections close.
    pub(super) closing: CancellationToken,
    /// The remaining connections are cut.
    pub(super) cut: CancellationToken,
    /// The connections of all listeners.
    pub(super) connections: TaskTracker,
    /// Work that outlives its connection, such as a call to WeChat.
    tasks: TaskTracker,
}

impl Drain {
    /// A drain that keeps serving for `delay`, then waits for requests and `tasks` until `deadline`.
    pub(crate) fn new(delay: Duration, deadline: Duration, tasks: TaskTracker) -> Self {
        Self {
            delay,
            deadline,
            announced: Arc::default(),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: TaskTracker::new(),
            tasks,
        }
    }

    /// Runs the drain.
    pub(crate) async fn run(&self) {
        self.announced.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.delay.max(MIN_ANNOUNCEMENT)).await;
        self.closing.cancel();
        self.connections.close();
        self.tasks.close();
        let finished = async {
            self.connections.wait().await;
            self.tasks.wait().await;
        };
        if tokio::time::timeout(self.deadline, finished).await.is_err() {
            tracing::warn!(
                connections = self.connections.len(),
                tasks = self.tasks.len(),
                "drain deadline exceeded: cutting the remaining connections"
            );
        }
        self.cut.cancel();
    }
}
