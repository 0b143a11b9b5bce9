//! The upstream behind the tunnels that are tested: `adit-loadtest serve`, a process of its own.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;
use url::Url;

use super::cpus::CpuList;
use super::process::{Process, ProcessError};
use super::site::{CommandLine, SiteError, free_port, is_free};

/// It may take so long to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether its port is free.
const POLL: Duration = Duration::from_millis(1);
/// The longest answer that says what it counted, in bytes.
const STATS_LEN_MAX: u64 = 4096;

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

/// What an upstream counts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct UpstreamStats {
    /// The number of tool calls that were served.
    pub(crate) calls: u64,
    /// Those whose id had come before; none if it does not know.
    pub(crate) doubled: Option<u64>,
    /// The calls and event streams that it holds until they are released.
    pub(crate) held: u64,
}

/// Why there is no upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error("the upstream cannot be started: {0}")]
    Process(#[from] ProcessError),
    #[error("the upstream does not say what it counted: {0}")]
    Stats(io::Error),
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

    /// The address on which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL at which it serves MCP.
    pub(crate) fn url(&self) -> Url {
        format!("http://{}/mcp", self.address).parse().expect("an address is a host")
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    /// Its process, if it runs.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it, as it was started first, once nothing of its predecessor listens any more.
    ///
    /// # Errors
    ///
    /// The program cannot be run.
    pub(crate) fn launch(&mut self) -> Result<(), ProcessError> {
        let began = Instant::now();
        while !is_free(self.address.port()) && began.elapsed() < PATIENCE {
            std::thread::sleep(POLL);
        }
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

    /// What it counts.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn stats(&self) -> Result<UpstreamStats, UpstreamError> {
        let answer = self.ask("GET")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).map_err(|error| UpstreamError::Stats(io::Error::other(error)))
    }

    /// Lets it count anew.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub(crate) fn reset_stats(&self) -> Result<(), UpstreamError> {
        self.ask("DELETE").map(|_| ())
    }

    fn ask(&self, method: &str) -> Result<String, UpstreamError> {
        let asked = || {
            let mut socket = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            write!(socket, "{method} /stats HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
            let mut answer = String::new();
            socket.take(STATS_LEN_MAX).read_to_string(&mut answer)?;
            let is_good = answer.starts_with("HTTP/1.1 2");
            if is_good { Ok(answer) } else { Err(io::Error::other(format!("it answered {answer:?}"))) }
        };
        asked().map_err(UpstreamError::Stats)
    }
}
