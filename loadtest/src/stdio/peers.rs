//! The programs that serve a stdio server over HTTP.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::server;
use crate::compare::cpus::CpuList;
use crate::compare::process::{Process, ProcessError};
use crate::compare::site::{CommandLine, HOST, SiteError, free_port};
use crate::load::{LoadError, Target, Trust};

/// How long a peer may take until it listens.
const READY_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A program that serves a stdio server over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StdioPeer {
    /// No stdio and nothing between: a server of HTTP, which shows what a call over HTTP costs in any case.
    Http,
    /// adit with edge and connector in one process, over TLS, without spinning.
    Adit,
    /// The same, called without TLS, as the other programs are.
    AditHttp,
    /// supergateway with a child for each session.
    Supergateway,
    /// mcp-proxy with one child for all.
    McpProxy,
}

/// Why a peer does not serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it has not said within {} s where it listens", READY_PATIENCE.as_secs())]
    Silent,
}

/// A peer that serves; ended on drop.
pub(super) struct RunningPeer {
    pub(super) target: Target,
    _process: Process,
    _folder: TempDir,
}

impl StdioPeer {
    pub(super) const ALL: [StdioPeer; 5] =
        [StdioPeer::Http, StdioPeer::Adit, StdioPeer::AditHttp, StdioPeer::Supergateway, StdioPeer::McpProxy];

    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            StdioPeer::Http => "http",
            StdioPeer::AditHttp => "adit-http",
            _ => self.program(),
        }
    }

    /// The name of its program.
    pub(super) fn program(self) -> &'static str {
        match self {
            StdioPeer::Http => "adit-loadtest",
            StdioPeer::Adit | StdioPeer::AditHttp => "adit",
            StdioPeer::Supergateway => "supergateway",
            StdioPeer::McpProxy => "mcp-proxy",
        }
    }

    /// How a user installs it.
    pub(super) fn install(self) -> &'static str {
        match self {
            StdioPeer::Http | StdioPeer::Adit | StdioPeer::AditHttp => "build the whole workspace",
            StdioPeer::Supergateway => "npm install --global supergateway",
            // It does not start with a newer SDK, which older releases allow.
            StdioPeer::McpProxy => "pipx install 'mcp-proxy>=0.13' (an older one needs 'mcp<2' beside it)",
        }
    }

    fn args(self, port: u16, this: &Path) -> Vec<String> {
        let (this, serve) = (this.display().to_string(), server::COMMAND.to_owned());
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let port = port.to_string();
        match self {
            StdioPeer::Http => words(&["serve", "--listen", &format!("127.0.0.1:{port}")]),
            StdioPeer::Adit | StdioPeer::AditHttp => {
                let listen = format!("127.0.0.1:{port}");
                [words(&["up", "--json", "--listen", &listen, "--admin", "off", "--"]), vec![this, serve]].concat()
            }
            StdioPeer::Supergateway => {
                let command = format!("{this} {serve}");
                words(&[
                    "--stdio",
                    &command,
                    "--outputTransport",
                    "streamableHttp",
                    "--stateful",
                    "--port",
                    &port,
                    "--logLevel",
                    "none",
                ])
            }
            StdioPeer::McpProxy => {
                [words(&["--port", &port, "--log-level", "ERROR", "--"]), vec![this, serve]].concat()
            }
        }
    }

    /// Starts it on these CPUs, in front of a server that it starts itself.
    pub(super) fn start(self, program: &Path, this: &Path, cpus: Option<&CpuList>) -> Result<RunningPeer, PeerError> {
        let (folder, port) = (tempfile::tempdir()?, free_port()?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = folder.path().join("log");
        let env = [("ADIT_ENGINE_SPIN_US", "0"), ("ADIT_LOG", "error")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let line = CommandLine {
            name: self.name().to_owned(),
            program: self.program().to_owned(),
            args: self.args(port, this),
            env: if self.program() == StdioPeer::Adit.program() { env.into() } else { BTreeMap::new() },
            listens: Some(address),
            log: log.clone(),
        };
        let mut process = Process::start(this, program, &line, cpus)?;
        process.until_listening(address, READY_PATIENCE)?;
        let (scheme, path) = match self {
            StdioPeer::Adit => ("https", "/mcp"),
            StdioPeer::Http | StdioPeer::AditHttp | StdioPeer::Supergateway => ("http", "/mcp"),
            // It redirects the path without a slash.
            StdioPeer::McpProxy => ("http", "/mcp/"),
        };
        let mut target: Target = format!("{scheme}://{HOST}:{port}{path}").parse()?;
        target.resolve_to = Some(address);
        if self == StdioPeer::Adit {
            target.trust = Trust::CaFile(ca_file(&log)?);
        }
        Ok(RunningPeer { target, _process: process, _folder: folder })
    }
}

/// The file with the authority of `adit up`, as its first event names it.
fn ca_file(log: &Path) -> Result<PathBuf, PeerError> {
    let began = Instant::now();
    while began.elapsed() < READY_PATIENCE {
        let text = fs::read_to_string(log)?;
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(file) = events.filter_map(|event| Some(PathBuf::from(event["ca_file"].as_str()?))).next() {
            return Ok(file);
        }
        std::thread::sleep(POLL);
    }
    Err(PeerError::Silent)
}
