//! The way to a child from every core.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::engine::{Core, LocalEntry, Socket};
use crate::stdio::child_pool::ChildPool;
use crate::stdio::http_server;
use crate::stdio::settings::StdioSettings;
use crate::stdio::stats::{StdioEvent, StdioStats};

/// The way to a child. It lives for as long as a route uses the child; then the child is ended.
pub struct StdioUpstream {
    settings: Arc<StdioSettings>,
    entry: LocalEntry,
    stats: Arc<StdioStats>,
}

/// Why no connection enters: the child is not running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StdioUnavailable {
    /// The child has ended or could not be started, and is started again after a pause.
    #[error("{0}")]
    Down(Box<str>),
    /// Too many connections wait for the core of the child, or an error of the system.
    #[error("a connection to the child could not be opened: {0}")]
    Io(io::ErrorKind),
}

impl StdioUpstream {
    /// The way to a child that is started when a core [opens](StdioUpstream::open) it.
    #[must_use]
    pub fn new(settings: StdioSettings) -> Arc<StdioUpstream> {
        let (settings, stats) = (Arc::new(settings), Arc::default());
        Arc::new(StdioUpstream { settings, entry: LocalEntry::default(), stats })
    }

    /// How its child is started.
    #[must_use]
    pub fn settings(&self) -> &StdioSettings {
        &self.settings
    }

    /// What has happened to its children.
    #[must_use]
    pub fn stats(&self) -> &StdioStats {
        &self.stats
    }

    /// Starts the child, and serves it on this core from now on, unless another core does.
    pub fn open(&self, core: &Core) {
        if let Some(server) = self.entry.serve_on(core) {
            let pool = ChildPool::new(core, Arc::clone(&self.settings), Arc::clone(&self.stats));
            core.spawn(http_server::run(Rc::new(pool), server));
        }
    }

    /// A new connection of this core to the child's server of HTTP.
    ///
    /// # Errors
    ///
    /// If the child is not running, or no connection can be made.
    pub async fn connect(&self, core: &Core) -> Result<Socket, StdioUnavailable> {
        if let Some(why) = self.stats.down() {
            self.stats.add(StdioEvent::DownRefused);
            return Err(StdioUnavailable::Down(why));
        }
        self.entry.connect(core).await.map_err(|error| StdioUnavailable::Io(error.kind()))
    }
}
