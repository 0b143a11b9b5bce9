use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, ConfigErrors, ConnectConfig, EdgeConfig, Sources};
use crate::process::error::RunError;
use crate::process::settings::watched_files;

/// A configuration whose files were checked, and the files to watch for changes.
pub struct LoadedConfig {
    /// The configuration, checked with its files.
    pub config: Config,
    /// Every file that the configuration was read from or that it names.
    pub files: BTreeSet<PathBuf>,
}

/// Reads the configuration again, from the same sources as at the start.
pub type ReadConfig = Box<dyn FnMut() -> Result<LoadedConfig, ConfigErrors> + Send>;

/// Two readers of the same sources.
#[must_use]
pub fn shared_reader(read: ReadConfig) -> (ReadConfig, ReadConfig) {
    let one = Arc::new(Mutex::new(read));
    let other = Arc::clone(&one);
    let reader = |of: Arc<Mutex<ReadConfig>>| -> ReadConfig {
        Box::new(move || (of.lock().unwrap_or_else(PoisonError::into_inner))())
    };
    (reader(one), reader(other))
}

impl LoadedConfig {
    /// Loads the configuration and checks the files that it names.
    ///
    /// # Errors
    ///
    /// All faults of both.
    pub fn load(sources: Sources) -> Result<LoadedConfig, ConfigErrors> {
        let config = Config::load(&sources)?;
        config.check_files()?;
        let mut files = watched_files(&config);
        files.extend(sources.file.map(|file| file.path));
        Ok(LoadedConfig { config, files })
    }

    /// Logs settings that are allowed but unwise.
    pub fn log_warnings(&self) {
        self.config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    }
}

/// The settings of the edge.
pub(super) fn edge_of(config: &Config) -> Result<&EdgeConfig, RunError> {
    config.edge.as_ref().ok_or_else(|| RunError::Other("the configuration has no edge".to_owned()))
}

/// The settings of the connector.
pub(super) fn connect_of(config: &Config) -> Result<&ConnectConfig, RunError> {
    config.connect.as_ref().ok_or_else(|| RunError::Other("the configuration has no connector".to_owned()))
}
