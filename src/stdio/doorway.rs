//! The way to a child from every core.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::{Core, Detached, MailReceiver, MailSender, mailbox};
use crate::stdio::host;
use crate::stdio::settings::StdioSettings;

/// The most connections that wait until the core of the child takes them.
const ENTERING_MAX: usize = 1_024;

/// The way to a child. It lives for as long as a route uses the child; then the child is ended.
pub struct Doorway {
    settings: Arc<StdioSettings>,
    entrance: MailSender<Detached>,
    /// The other end, until a core takes the child.
    entering: Mutex<Option<MailReceiver<Detached>>>,
    sign: Arc<Sign>,
}

/// Why no connection enters: the child is not running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorwayShut {
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

/// What the core of the child tells all others: why the child is not running, if it is not.
#[derive(Default)]
pub(super) struct Sign(Mutex<Option<Box<str>>>);

impl Sign {
    pub(super) fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why.map(Into::into);
    }

    fn read(&self) -> Option<Box<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Doorway {
    /// The way to a child that is started when a core [opens](Doorway::open) it.
    #[must_use]
    pub fn new(settings: StdioSettings) -> Arc<Doorway> {
        let (entrance, entering) = mailbox(ENTERING_MAX);
        Arc::new(Doorway {
            settings: Arc::new(settings),
            entrance,
            entering: Mutex::new(Some(entering)),
            sign: Arc::default(),
        })
    }

    /// How its child is started.
    #[must_use]
    pub fn settings(&self) -> &StdioSettings {
        &self.settings
    }

    /// Starts the child, and serves it on this core from now on, unless another core does.
    pub fn open(&self, core: &Core) {
        let entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(entering) = entering {
            core.spawn(host::run(core.clone(), Arc::clone(&self.settings), entering, Arc::clone(&self.sign)));
        }
    }

    /// A new connection to the child's server of HTTP. Any core may adopt it.
    ///
    /// # Errors
    ///
    /// If the child is not running.
    pub fn enter(&self) -> Result<Detached, DoorwayShut> {
        if let Some(why) = self.sign.read() {
            return Err(DoorwayShut::Down(why));
        }
        let [near, far] = Detached::pair().map_err(|error| DoorwayShut::Io(error.kind()))?;
        self.entrance.send(far).map_err(|_| DoorwayShut::Crowded)?;
        Ok(near)
    }
}
