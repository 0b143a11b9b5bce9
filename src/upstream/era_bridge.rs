//! The way to the era bridge of a route, from every core.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bridge::EraTable;
use crate::engine::{Core, LocalEntry, LocalServer};
use crate::upstream::UpstreamSettings;

/// The era bridge of a route: what is known of the server, and the way to the one core that translates.
pub struct EraBridge {
    settings: UpstreamSettings,
    entry: Arc<LocalEntry>,
    eras: Arc<KnownEras>,
}

/// What is known of the eras of a server, for all cores.
#[derive(Default)]
pub struct KnownEras(Mutex<EraTable>);

impl EraBridge {
    /// A bridge to a server that is reached in this way.
    #[must_use]
    pub fn new(settings: UpstreamSettings) -> Arc<EraBridge> {
        Arc::new(EraBridge { settings, entry: Arc::default(), eras: Arc::default() })
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

    /// Makes this core the one that translates; none if a core already does.
    #[must_use]
    pub fn serve_on(&self, core: &Core) -> Option<LocalServer> {
        self.entry.serve_on(core)
    }
}

impl KnownEras {
    /// The table of what is known.
    pub fn lock(&self) -> MutexGuard<'_, EraTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
