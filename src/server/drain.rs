//! The end: stop being chosen, close keep-alives politely, finish what is under way, cut the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Envoy closes a connection that an answer announces as closing, and loses no request by it (docs/en/ext-authz.md,
/// Connections); this is how long answers announce it at least before idle connections are closed.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// The drain of one process, shared by its doors.
#[derive(Clone)]
pub(crate) struct Drain {
    delay: Duration,
    deadline: Duration,
    /// Answers close their connections from now on.
    pub(super) announced: Arc<AtomicBool>,
    /// Nothing new is taken; idle connections close.
    pub(super) closing: CancellationToken,
    /// Whatever is left is cut.
    pub(super) cut: CancellationToken,
    /// The connections of all doors.
    pub(super) connections: TaskTracker,
    /// Work that outlives its connection: exchanges under way.
    tasks: TaskTracker,
}

impl Drain {
    /// A drain that goes on as before for `delay`, then gives requests and `tasks` until `deadline`.
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

    /// Drains to the end.
    pub(crate) async fn run(&self) {
        self.announced.store(true, Ordering::Relaxed);
        tokio::time::sleep(self.delay.max(CLOSE_GRACE)).await;
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
                "the deadline of the drain has passed: what is left is cut"
            );
        }
        self.cut.cancel();
    }
}
