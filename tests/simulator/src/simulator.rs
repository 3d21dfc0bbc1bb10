//! The handle that tests hold.

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
    /// Starts on the current runtime and is ready when this returns.
    ///
    /// # Errors
    /// Where the address cannot be bound, is not loopback without `allow_remote`, or an AppID comes twice.
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

    /// Every request to an endpoint of WeChat's so far, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.shared.world().journal.entries().cloned().collect()
    }

    pub fn clear_journal(&self) {
        self.shared.world().journal.clear();
    }

    /// Who is on the phone from now on, where the browser does not say.
    ///
    /// # Panics
    /// Where the cast has nobody of this name: a test that names nobody proves nothing.
    pub fn use_user(&self, name: &str) {
        let mut world = self.shared.world();
        assert!(world.user(name).is_some(), "the cast has nobody called {name}");
        world.on_the_phone = name.into();
    }

    /// Puts somebody into the cast, in place of who had that name.
    pub fn add_user(&self, user: User) {
        let mut world = self.shared.world();
        world.users.retain(|other| other.name != user.name);
        world.users.push(user);
    }

    /// Changes somebody of the cast. The closure must not call the simulator.
    ///
    /// # Panics
    /// Where the cast has nobody of this name.
    pub fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) {
        let mut world = self.shared.world();
        let user = world.users.iter_mut().find(|user| user.name == name);
        change(user.unwrap_or_else(|| panic!("the cast has nobody called {name}")));
    }

    /// Adds an app, in place of the one with this AppID.
    pub fn add_app(&self, app: App) {
        let mut world = self.shared.world();
        world.apps.retain(|other| other.appid != app.appid);
        world.apps.push(app);
    }

    /// Changes an app. The closure must not call the simulator.
    ///
    /// # Panics
    /// Where there is no such app.
    pub fn change_app(&self, appid: &str, change: impl FnOnce(&mut App)) {
        let mut world = self.shared.world();
        let app = world.apps.iter_mut().find(|app| app.appid == appid);
        change(app.unwrap_or_else(|| panic!("there is no app {appid}")));
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

    /// The person's id in the app; known or not, it is derived from the names.
    #[must_use]
    pub fn openid(&self, appid: &str, user: &str) -> String {
        identity::openid(appid, user)
    }

    /// The person's unionid as the app sees it; none where the app is not bound, or the person has none.
    #[must_use]
    pub fn unionid(&self, appid: &str, user: &str) -> Option<String> {
        self.shared.world().unionid(appid, user)
    }

    /// WeChat takes the app's central token no more. Until another is forced, it goes on handing it out.
    pub fn kill_central_token(&self, appid: &str) {
        self.shared.world().central.kill(appid);
    }

    /// Another system had the app's central token replaced: WeChat takes it no more, and hands out another.
    pub fn replace_central_token(&self, appid: &str) {
        self.shared.world().central.replace(appid);
    }

    /// Every code and token handed out, for searching logs for them.
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
