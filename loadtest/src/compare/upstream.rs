//! The upstream behind the tested tunnels: `adit-loadtest serve` in its own process.

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

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval for polling whether its port is free.
const POLL: Duration = Duration::from_millis(1);
/// The longest answer with its counts, in bytes.
const STATS_LEN_MAX: u64 = 4096;

/// A running upstream, ended on drop.
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

/// The counts of an upstream.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct UpstreamStats {
    /// The number of served tool calls.
    pub(crate) calls: u64,
    /// The calls with an id that an earlier call had; none if they are not counted.
    pub(crate) doubled: Option<u64>,
    /// The number of calls and event streams that it holds until they are released.
    pub(crate) held: u64,
}

/// Why the upstream is unavailable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error("the upstream cannot be started: {0}")]
    Process(#[from] ProcessError),
    #[error("the upstream does not report its counts: {0}")]
    Stats(io::Error),
    #[error("no folder for the upstream in {folder}: {source}")]
    Folder { folder: PathBuf, source: io::Error },
}

impl Upstream {
    /// Starts `this` program as an upstream with additional flags of `serve`, on these CPUs, and waits until it
    /// listens.
    ///
    /// # Errors
    ///
    /// If it does not listen.
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
        format!("http://{}/mcp", self.address).parse().expect("an address is a valid host")
    }

    /// Checks that it still runs.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.process.as_mut().map_or(Ok(()), Process::check)
    }

    /// Its process, if it runs.
    pub(crate) fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Kills it, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Restarts it with the same command line, once its predecessor no longer listens.
    ///
    /// # Errors
    ///
    /// If the program cannot be run.
    pub(crate) fn launch(&mut self) -> Result<(), ProcessError> {
        let began = Instant::now();
        while !is_free(self.address.port()) && began.elapsed() < PATIENCE {
            std::thread::sleep(POLL);
        }
        self.process = Some(Process::start(&self.this, &self.this, &self.line, self.cpus.as_ref())?);
        Ok(())
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it does not accept connections.
    pub(crate) fn until_listening(&mut self) -> Result<(), ProcessError> {
        let (process, address) = (self.process.as_mut(), self.address);
        process.map_or(Ok(()), |process| process.until_listening(address, PATIENCE))
    }

    /// Its counts since the last reset.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub(crate) fn stats(&self) -> Result<UpstreamStats, UpstreamError> {
        let answer = self.ask("GET")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(body).map_err(|error| UpstreamError::Stats(io::Error::other(error)))
    }

    /// Resets its counts to zero.
    ///
    /// # Errors
    ///
    /// If it does not answer.
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
