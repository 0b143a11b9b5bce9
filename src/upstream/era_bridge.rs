//! The way to the era bridge of a route, from every core.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge::EraTable;
use crate::engine::{Detached, MailReceiver, MailSender, mailbox};
use crate::upstream::UpstreamSettings;

/// The most connections that wait until the core of a bridge takes them.
const WAITING_MAX: usize = 1_024;

/// The era bridge of a route: what is known of the server, and the way to the one core that translates.
pub struct EraBridge {
    settings: UpstreamSettings,
    entry: Arc<LocalEntry>,
    eras: Arc<KnownEras>,
}

/// What is known of the eras of a server, for all cores.
#[derive(Default)]
pub struct KnownEras(Mutex<EraTable>);

/// The way to a server of HTTP within this process. It lives for as long as a route uses it.
pub struct LocalEntry {
    connections: MailSender<Detached>,
    /// The other end, until a core takes it.
    waiting: Mutex<Option<MailReceiver<Detached>>>,
}

impl EraBridge {
    /// A bridge to a server that is reached in this way.
    #[must_use]
    pub fn new(settings: UpstreamSettings) -> Arc<EraBridge> {
        let (connections, waiting) = mailbox(WAITING_MAX);
        let entry = Arc::new(LocalEntry { connections, waiting: Mutex::new(Some(waiting)) });
        Arc::new(EraBridge { settings, entry, eras: Arc::default() })
    }

    /// How the server itself is reached.
    #[must_use]
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// How the bridge is reached in place of the server.
    #[must_use]
    pub fn bridged_settings(&self) -> UpstreamSettings {
        UpstreamSettings { entry: Some(Arc::clone(&self.entry)), tls: None, ..self.settings.clone() }
    }

    /// What is known of the server.
    #[must_use]
    pub fn eras(&self) -> &Arc<KnownEras> {
        &self.eras
    }

    /// The connections to be served, for the first core that asks.
    #[must_use]
    pub fn take_waiting(&self) -> Option<MailReceiver<Detached>> {
        self.entry.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl KnownEras {
    /// The table of what is known.
    pub fn lock(&self) -> MutexGuard<'_, EraTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalEntry {
    /// A new connection to the server. Any core may adopt it.
    ///
    /// # Errors
    ///
    /// If too many connections wait, or the system gives none.
    pub(super) fn connect(&self) -> io::Result<Detached> {
        let [near, far] = Detached::pair()?;
        self.connections.send(far).map_err(|_| io::Error::from(io::ErrorKind::ResourceBusy))?;
        Ok(near)
    }
}
