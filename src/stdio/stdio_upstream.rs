//! The way to a child from every core.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Core, Detached, MailReceiver, MailSender, mailbox};
use crate::stdio::child_pool::ChildPool;
use crate::stdio::http_server;
use crate::stdio::settings::StdioSettings;
use crate::stdio::stats::{StdioEvent, StdioStats};

/// The most connections that wait until the core of the child takes them.
const WAITING_MAX: usize = 1_024;

/// The way to a child. It lives for as long as a route uses the child; then the child is ended.
pub struct StdioUpstream {
    settings: Arc<StdioSettings>,
    connections: MailSender<Detached>,
    /// The other end, until a core takes the child.
    waiting: Mutex<Option<MailReceiver<Detached>>>,
    stats: Arc<StdioStats>,
}

/// Why no connection enters: the child is not running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StdioUnavailable {
    /// The child has ended or could not be started, and is started again after a pause.
    #[error("{0}")]
    Down(Box<str>),
    /// The core of the child does not take connections fast enough.
    #[error("too many connections wait for the child")]
    Crowded,
    /// An error of the system.
    #[error("a pair of sockets could not be opened: {0}")]
    Io(io::ErrorKind),
}

impl StdioUpstream {
    /// The way to a child that is started when a core [opens](StdioUpstream::open) it.
    #[must_use]
    pub fn new(settings: StdioSettings) -> Arc<StdioUpstream> {
        let (connections, waiting) = mailbox(WAITING_MAX);
        Arc::new(StdioUpstream {
            settings: Arc::new(settings),
            connections,
            waiting: Mutex::new(Some(waiting)),
            stats: Arc::default(),
        })
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
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            let pool = ChildPool::new(core, Arc::clone(&self.settings), Arc::clone(&self.stats));
            core.spawn(http_server::run(Rc::new(pool), waiting));
        }
    }

    /// A new connection to the child's server of HTTP. Any core may adopt it.
    ///
    /// # Errors
    ///
    /// If the child is not running.
    pub fn connect(&self) -> Result<Detached, StdioUnavailable> {
        if let Some(why) = self.stats.down() {
            self.stats.add(StdioEvent::DownRefused);
            return Err(StdioUnavailable::Down(why));
        }
        let [near, far] = Detached::pair().map_err(|error| StdioUnavailable::Io(error.kind()))?;
        self.connections.send(far).map_err(|_| StdioUnavailable::Crowded)?;
        Ok(near)
    }
}
