//! The handle for tests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::app::App;
use crate::faults::Fault;
use crate::identity;
use crate::journal::Entry;
use crate::options::Options;
use crate::server::{self, Shared};
use crate::user::User;
use crate::world::World;

/// A running simulator. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Simulator {
    /// Starts on the current runtime; the simulator is ready when this returns.
    ///
    /// # Errors
    /// If the address cannot be bound, is not loopback without `allow_remote`, or an AppID occurs twice.
    pub async fn start(mut options: Options) -> io::Result<Self> {
        for (at, app) in options.apps.iter().enumerate() {
            if options.apps.iter().take(at).any(|other| other.appid == app.appid) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("two apps are called {}", app.appid)));
            }
        }
        let listener = server::bind(options.listen, options.allow_remote).await?;
        let address = listener.local_addr()?;
        options.listen = address;
        let shared = Arc::new(Shared::new(World::new(options)));
        let task = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        Ok(Self { shared, address, task })
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request to a WeChat endpoint so far, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.world().journal.entries().cloned().collect()
    }

    pub fn clear_journal(&self) {
        self.shared.world().journal.clear();
    }

    /// Sets the user for browsers that select none.
    ///
    /// # Panics
    /// If the user does not exist, so that a test cannot use a wrong name unnoticed.
    pub fn use_user(&self, name: &str) {
        let mut world = self.shared.world();
        assert!(world.user(name).is_some(), "no user is called {name}");
        world.on_the_phone = name.into();
    }

    /// Adds a user, or replaces the one with that name.
    pub fn add_user(&self, user: User) {
        let mut world = self.shared.world();
        world.users.retain(|other| other.name != user.name);
        world.users.push(user);
    }

    /// Changes a user. The closure must not call the simulator.
    ///
    /// # Panics
    /// If the user does not exist.
    pub fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) {
        let mut world = self.shared.world();
        let user = world.users.iter_mut().find(|user| user.name == name);
        change(user.unwrap_or_else(|| panic!("no user is called {name}")));
    }

    /// Adds an app, or replaces the one with this AppID.
    pub fn add_app(&self, app: App) {
        let mut world = self.shared.world();
        world.apps.retain(|other| other.appid != app.appid);
        world.apps.push(app);
    }

    /// Changes an app. The closure must not call the simulator.
    ///
    /// # Panics
    /// If the app does not exist.
    pub fn change_app(&self, appid: &str, change: impl FnOnce(&mut App)) {
        let mut world = self.shared.world();
        let app = world.apps.iter_mut().find(|app| app.appid == appid);
        change(app.unwrap_or_else(|| panic!("no app has the AppID {appid}")));
    }

    pub fn inject(&self, fault: Fault) {
        self.shared.world().faults.inject(fault);
    }

    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    /// Faults that have not been used up.
    #[must_use]
    pub fn waiting_faults(&self) -> Vec<Fault> {
        self.shared.world().faults.iter().cloned().collect()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.shared.world().clock.advance(by);
        self.shared.moved.send_replace(());
    }

    /// The user's openid in the app, derived from the names even if they are unknown.
    #[must_use]
    pub fn openid(&self, appid: &str, user: &str) -> String {
        identity::openid(appid, user)
    }

    /// The user's unionid in the app; `None` if the app is not bound or the user has none.
    #[must_use]
    pub fn unionid(&self, appid: &str, user: &str) -> Option<String> {
        self.shared.world().unionid(appid, user)
    }

    /// Invalidates the app's central token. The API continues to return it until a forced refresh.
    pub fn kill_central_token(&self, appid: &str) {
        self.shared.world().central.kill(appid);
    }

    /// Invalidates and replaces the app's central token, as a forced refresh by another system does.
    pub fn replace_central_token(&self, appid: &str) {
        self.shared.world().central.replace(appid);
    }

    /// Every issued code and token, for searching logs.
    #[must_use]
    pub fn issued_secrets(&self) -> Vec<String> {
        let world = self.shared.world();
        world.grants.secrets().chain(world.central.secrets()).map(str::to_owned).collect()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}
