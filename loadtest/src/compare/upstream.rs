//! The upstream behind the tunnels that are tested: `adit-loadtest serve`, a process of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::cpus::CpuList;
use super::process::{Process, ProcessError};
use super::site::{CommandLine, SiteError, free_port};

/// It may take so long to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// An upstream that runs; it ends when this is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    /// None between [`Upstream::kill`] and [`Upstream::restart`].
    process: Option<Process>,
    line: CommandLine,
    this: PathBuf,
    cpus: Option<CpuList>,
    /// Its log, which must outlive it: fields are dropped in this order.
    _folder: TempDir,
}

/// Why there is no upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error("the upstream cannot be started: {0}")]
    Process(#[from] ProcessError),
    #[error("no folder for the upstream in {folder}: {source}")]
    Folder { folder: PathBuf, source: io::Error },
}

impl Upstream {
    /// Starts one of `this` program with more flags of `serve`, on these CPUs, and waits until it listens.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn start(this: &Path, cpus: Option<&CpuList>, flags: &[String]) -> Result<Self, UpstreamError> {
        let folder = tempfile::tempdir();
        let folder = folder.map_err(|source| UpstreamError::Folder { folder: std::env::temp_dir(), source })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut args = vec!["serve".to_owned(), "--listen".to_owned(), address.to_string()];
        args.extend_from_slice(flags);
        let line = CommandLine {
            name: "upstream".to_owned(),
            program: "adit-loadtest".to_owned(),
            args,
            env: BTreeMap::new(),
            listens: Some(address),
            log: folder.path().join("upstream.log"),
        };
        let (this, cpus) = (this.to_owned(), cpus.cloned());
        let mut upstream = Self { address, process: None, line, this, cpus, _folder: folder };
        upstream.launch()?;
        upstream.until_listening()?;
        Ok(upstream)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    /// Starts it, as it was started first.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub(crate) fn launch(&mut self) -> Result<(), ProcessError> {
        self.process = Some(Process::start(&self.this, &self.this, &self.line, self.cpus.as_ref())?);
        Ok(())
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn until_listening(&mut self) -> Result<(), ProcessError> {
        let (process, address) = (self.process.as_mut(), self.address);
        process.map_or(Ok(()), |process| process.until_listening(address, PATIENCE))
    }
}
