//! A peer that runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cpus::CpuList;
use super::peer::Peer;
use super::process::{Process, ProcessError};
use super::site::{Credentials, HOST, Site, SiteError};
use crate::load::{Load, LoadError, Phases, Target, Trust};
use crate::outcome::Partial;
use crate::run::{Interrupt, RunError, run_observed};
use crate::watch::Watched;

/// A peer may take so long until calls go through it.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// The time in which one attempt must succeed.
const ATTEMPT: Duration = Duration::from_millis(250);
/// How long calls are made in an attempt.
const TRY_FOR: Duration = Duration::from_millis(20);

/// Between two attempts.
const POLL: Duration = Duration::from_millis(10);

/// What every peer is started with.
pub(crate) struct Setting<'a> {
    /// This program.
    pub(crate) launcher: &'a Path,
    pub(crate) credentials: &'a Credentials,
    pub(crate) cpus: Option<&'a CpuList>,
    pub(crate) cpu_count: usize,
    /// Calls that it must be able to carry at one time.
    pub(crate) streams: usize,
    pub(crate) interrupt: &'a Interrupt,
}

/// A peer whose processes run, through which calls go; all of it ends when this is dropped.
pub(crate) struct Tunnel {
    processes: Vec<Process>,
    target: Target,
    /// Its files, which must outlive the processes: fields are dropped in this order.
    _folder: TempDir,
}

/// Why a peer does not carry calls.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("no call went through it within {} s; the last failed: {last}", READY_PATIENCE.as_secs())]
    NotReady { last: String },
    #[error("{0}")]
    Lost(Partial),
    #[error("not one call was answered well")]
    Silent,
    #[error("interrupted")]
    Interrupted,
}

impl Tunnel {
    /// Starts a peer in front of `upstream` and waits until calls of `load` go through it.
    ///
    /// # Errors
    ///
    /// They do not, within [`READY_PATIENCE`].
    pub(crate) fn start(
        peer: &Peer,
        programs: &BTreeMap<String, PathBuf>,
        upstream: SocketAddr,
        load: &Load,
        setting: &Setting<'_>,
    ) -> Result<Self, TunnelError> {
        let site = Site::new(peer, setting.credentials, upstream, setting.cpu_count, setting.streams)?;
        let mut processes = Vec::new();
        for line in &site.commands {
            let program = programs.get(&line.program).expect("a peer's processes are of its programs");
            let mut process = Process::start(setting.launcher, program, line, setting.cpus)?;
            if let Some(address) = line.listens {
                process.until_listening(address, READY_PATIENCE)?;
            }
            processes.push(process);
        }
        let target = target(peer.file.agent_tls, site.agents, setting.credentials)?;
        let mut tunnel = Self { processes, target, _folder: site.folder };
        tunnel.until_ready(load, setting.interrupt)?;
        Ok(tunnel)
    }

    /// Where the load goes.
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// What is watched while it does.
    pub(crate) fn watched(&self) -> Watched {
        Watched::pids(self.processes.iter().map(Process::pid))
    }

    /// Its processes: the part of each, and its id.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.processes.iter().map(|process| (process.name(), process.pid()))
    }

    /// Whether all of its processes still run.
    ///
    /// # Errors
    ///
    /// One does not.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.processes.iter_mut().try_for_each(Process::check)
    }

    /// Makes real calls until one is answered well.
    fn until_ready(&mut self, load: &Load, interrupt: &Interrupt) -> Result<(), TunnelError> {
        let began = Instant::now();
        let mut attempt = Load { target: self.target(), connections: 1, ..load.clone() };
        attempt.phases = Phases { warm_up: Duration::ZERO, measure: TRY_FOR, drain: ATTEMPT };
        attempt.limits.patience = ATTEMPT;
        attempt.limits.call_timeout = ATTEMPT;
        loop {
            let last = match run_observed(&attempt, &Watched::nothing(), interrupt, &mut |_| {}) {
                Ok(outcome) if outcome.calls > 0 => return Ok(()),
                Ok(outcome) => outcome.failed.first().unwrap_or("without a word").to_owned(),
                Err(error @ RunError::Session(_)) => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if interrupt.is_raised() {
                return Err(TunnelError::Interrupted);
            }
            self.check()?;
            if began.elapsed() > READY_PATIENCE {
                return Err(TunnelError::NotReady { last });
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Where agents call, believed only with the comparison's own certificate.
fn target(tls: bool, agents: SocketAddr, credentials: &Credentials) -> Result<Target, LoadError> {
    let scheme = if tls { "https" } else { "http" };
    let mut target: Target = format!("{scheme}://{HOST}:{}/mcp", agents.port()).parse()?;
    target.resolve_to = Some(agents);
    target.trust = Trust::CaFile(credentials.ca());
    Ok(target)
}
