//! A running peer with its processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::cpus::CpuList;
use super::peer::Peer;
use super::process::{Process, ProcessError};
use super::site::{CommandLine, Credentials, HOST, Site, SiteError};
use crate::load::{Load, LoadError, Phases, Target, Trust};
use crate::outcome::Partial;
use crate::run::{Interrupt, RunError, run_observed};
use crate::watch::Watched;

/// How long a peer may take until calls succeed through it.
const READY_PATIENCE: Duration = Duration::from_secs(15);
/// The time in which one attempt must succeed.
const ATTEMPT: Duration = Duration::from_millis(250);
/// How long calls are made in an attempt.
const TRY_FOR: Duration = Duration::from_millis(20);

/// The pause between two attempts.
const POLL: Duration = Duration::from_millis(10);

/// The environment in which every peer is started.
pub(crate) struct Setting<'a> {
    /// The path of this program, which starts the processes of peers.
    pub(crate) launcher: &'a Path,
    pub(crate) credentials: &'a Credentials,
    pub(crate) cpus: Option<&'a CpuList>,
    pub(crate) cpu_count: usize,
    /// The number of calls in flight that it must carry.
    pub(crate) streams: usize,
    pub(crate) interrupt: &'a Interrupt,
}

/// A running peer through which calls succeed; ended on drop.
pub(crate) struct Tunnel {
    sides: Vec<Side>,
    target: Target,
    ports: BTreeMap<String, u16>,
    launcher: PathBuf,
    cpus: Option<CpuList>,
    /// Its files, which must outlive the processes: fields are dropped in this order.
    _folder: TempDir,
}

/// One of its processes, and its command line.
struct Side {
    /// None between [`Tunnel::kill`] and [`Tunnel::launch`].
    process: Option<Process>,
    program: PathBuf,
    line: CommandLine,
}

/// Why no calls succeed through a peer.
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
    #[error("no call succeeded through it within {} s; the last failed: {last}", READY_PATIENCE.as_secs())]
    NotReady { last: String },
    #[error("{0}")]
    Lost(Partial),
    #[error("no call succeeded")]
    Silent,
    #[error("interrupted")]
    Interrupted,
}

impl Tunnel {
    /// Starts a peer in front of `upstream` and waits until calls of `load` succeed through it.
    ///
    /// # Errors
    ///
    /// If none succeeds within [`READY_PATIENCE`].
    pub(crate) fn start(
        peer: &Peer,
        programs: &BTreeMap<String, PathBuf>,
        upstream: SocketAddr,
        load: &Load,
        setting: &Setting<'_>,
    ) -> Result<Self, TunnelError> {
        let site = Site::new(peer, setting.credentials, upstream, setting.cpu_count, setting.streams)?;
        let side = |line: CommandLine| {
            let program = programs.get(&line.program).expect("a peer's processes are of its programs").clone();
            Side { process: None, program, line }
        };
        let target = target(peer.file.agent_tls, site.agents, setting.credentials)?;
        let mut tunnel = Self {
            sides: site.commands.into_iter().map(side).collect(),
            target,
            ports: site.ports,
            launcher: setting.launcher.to_owned(),
            cpus: setting.cpus.cloned(),
            _folder: site.folder,
        };
        for side in 0..tunnel.sides.len() {
            tunnel.launch(side)?;
            if let Side { process: Some(process), line: CommandLine { listens: Some(address), .. }, .. } =
                &mut tunnel.sides[side]
            {
                process.until_listening(*address, READY_PATIENCE)?;
            }
        }
        tunnel.until_ready(load, setting.interrupt)?;
        Ok(tunnel)
    }

    /// The target for the load.
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// The processes to watch.
    pub(crate) fn watched(&self) -> Watched {
        Watched::pids(self.parts().map(|(_, pid)| pid))
    }

    /// The port with this name in its file.
    pub(crate) fn port(&self, name: &str) -> Option<u16> {
        self.ports.get(name).copied()
    }

    /// Its processes: the role and the id of each.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&str, u32)> {
        self.sides.iter().flat_map(|side| &side.process).map(|process| (process.name(), process.pid()))
    }

    /// Checks that all of its processes still run.
    ///
    /// # Errors
    ///
    /// If one has ended.
    pub(crate) fn check(&mut self) -> Result<(), ProcessError> {
        self.sides.iter_mut().flat_map(|side| &mut side.process).try_for_each(Process::check)
    }

    /// Kills one of its processes, by its index in the peer's file, and waits until it has ended.
    pub(crate) fn kill(&mut self, side: usize) {
        self.sides[side].process = None;
    }

    /// One of its processes, if it runs.
    pub(crate) fn process(&self, side: usize) -> Option<&Process> {
        self.sides[side].process.as_ref()
    }

    /// The address on which one of its processes listens, if its file says so.
    pub(crate) fn listens(&self, side: usize) -> Option<SocketAddr> {
        self.sides[side].line.listens
    }

    /// Restarts one of its processes with the same command line.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn launch(&mut self, side: usize) -> Result<(), ProcessError> {
        let Side { process, program, line } = &mut self.sides[side];
        *process = Some(Process::start(&self.launcher, program, line, self.cpus.as_ref())?);
        Ok(())
    }

    /// Waits until a restarted process accepts connections, if it listens. Returns whether it listens.
    ///
    /// # Errors
    ///
    /// If it should listen and does not.
    pub(crate) fn until_it_listens(&mut self, side: usize) -> Result<bool, ProcessError> {
        let Side { process, line, .. } = &mut self.sides[side];
        let (Some(process), Some(address)) = (process, line.listens) else { return Ok(false) };
        process.until_it_listens(address, READY_PATIENCE).map(|()| true)
    }

    /// Makes real calls until one succeeds.
    ///
    /// # Errors
    ///
    /// If none succeeds within [`READY_PATIENCE`].
    pub(crate) fn until_ready(&mut self, load: &Load, interrupt: &Interrupt) -> Result<(), TunnelError> {
        let began = Instant::now();
        let mut attempt = Load { target: self.target(), connections: 1, ..load.clone() };
        attempt.phases = Phases { warm_up: Duration::ZERO, measure: TRY_FOR, drain: ATTEMPT };
        attempt.limits.patience = ATTEMPT;
        attempt.limits.call_timeout = ATTEMPT;
        loop {
            let last = match run_observed(&attempt, &Watched::nothing(), interrupt, &mut |_| {}) {
                Ok(outcome) if outcome.calls > 0 => return Ok(()),
                Ok(outcome) => outcome.failed.first().unwrap_or("without a reason").to_owned(),
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

/// The target of agents, which trusts only the comparison's own authority.
fn target(tls: bool, agents: SocketAddr, credentials: &Credentials) -> Result<Target, LoadError> {
    let scheme = if tls { "https" } else { "http" };
    let mut target: Target = format!("{scheme}://{HOST}:{}/mcp", agents.port()).parse()?;
    target.resolve_to = Some(agents);
    target.trust = Trust::CaFile(credentials.ca());
    Ok(target)
}
