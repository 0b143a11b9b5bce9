//! One fault on a tunnel under load, and its effect on the calls.

use std::time::Duration;

use adit::base::Clock;
use adit::engine::MonotonicClock;

use super::bench::{Bench, Runnable};
use super::black_hole::{BlackHole, CutError};
use super::peer::Kind;
use super::process::ProcessError;
use super::site::{Credentials, SiteError};
use super::tunnel::{Tunnel, TunnelError};
use super::upstream::{Upstream, UpstreamError};
use crate::fault::{Fault, How, Part, Recovery, Strike};
use crate::idle::IdleError;
use crate::load::Load;
use crate::outcome::Partial;
use crate::run::{Interrupt, Phase, Progress, RunError, run_observed};
use crate::watch::Watched;

/// The plan of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The kind of the fault.
    pub(crate) how: How,
    /// The process or path that fails.
    pub(crate) part: Part,
    /// How long calls are measured before it.
    pub(crate) before: Duration,
    /// How long the process is dead or stopped, or the path cut.
    pub(crate) down: Duration,
    /// How long the upstream works on each call, so that some are in flight.
    pub(crate) service: Duration,
}

/// Why a fault has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StrikeError {
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("it could not be started again: {0}")]
    Restart(#[from] ProcessError),
    #[error("{0}")]
    Died(String),
    #[error(transparent)]
    Cut(#[from] CutError),
    #[error("its file does not say where its processes connect (`listens` of the first)")]
    NoPath,
    #[error("interrupted before the fault")]
    Interrupted,
    #[error("every call failed before the fault: {0}")]
    Early(Partial),
    #[error(transparent)]
    Idle(#[from] IdleError),
    #[error("the event streams of the agents were not all opened: {0}")]
    Streams(String),
}

/// The index of this part's process in the peer's file; none if the peer has none.
fn side(peer: &Runnable, part: Part) -> Option<usize> {
    let [inner_of_hops, outer_of_hops] = [0, 1];
    match (peer.0.file.kind, part) {
        (Kind::Tunnel, Part::Edge) => Some(0),
        (Kind::Tunnel, Part::Connector) => Some(1),
        (Kind::Hops, Part::Edge) => Some(outer_of_hops),
        (Kind::Hops, Part::Connector) => Some(inner_of_hops),
        (_, Part::Link | Part::Upstream) | (Kind::Baseline, _) => None,
    }
}

/// Whether a peer has this part.
pub(crate) fn has(peer: &Runnable, part: Part) -> bool {
    match part {
        Part::Upstream => true,
        Part::Link => peer.0.file.kind != Kind::Baseline,
        Part::Edge | Part::Connector => side(peer, part).is_some(),
    }
}

/// The processes that can fail.
struct Site {
    tunnel: Tunnel,
    upstream: Upstream,
    side: Option<usize>,
}

/// Starts the peer, applies the load, causes a fault and ends it; returns the effect on the calls.
///
/// # Errors
///
/// If the fault could not be caused. Later errors are in the result.
pub(crate) fn strike(
    bench: &Bench,
    peer: &Runnable,
    load: &Load,
    plan: &Plan,
    interrupt: &Interrupt,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Fault, StrikeError> {
    let credentials = Credentials::new()?;
    let calls = credentials.beside("calls").display().to_string();
    let service = format!("{}ns", plan.service.as_nanos());
    let upstream = bench.upstream(&["--service", &service, "--count-doubled", "--calls-file", &calls])?;
    let tunnel = bench.tunnel(peer, &upstream, &credentials, load.connections, load, interrupt)?;
    // The calls that tested readiness used the same ids.
    upstream.reset_stats()?;
    let load = Load { target: tunnel.target(), trace: true, ..load.clone() };
    let mut site = Site { tunnel, upstream, side: side(peer, plan.part) };
    let mut struck = None;
    let outcome = run_observed(&load, &Watched::nothing(), interrupt, &mut |progress| {
        observer(progress);
        if struck.is_none() && progress.phase == Phase::Measure && progress.elapsed >= plan.before {
            struck = Some(site.strike(plan));
        }
    });
    let died = site.check().err().map(|error| error.to_string());
    let outcome = match (outcome, &died) {
        // The death of a process explains more than the connections that failed.
        (Err(_), Some(died)) => return Err(StrikeError::Died(died.clone())),
        (outcome, _) => outcome?,
    };
    let strike = match struck {
        Some(strike) => strike?,
        None => return Err(outcome.partial.map_or(StrikeError::Interrupted, StrikeError::of)),
    };
    let partial = outcome.partial.as_ref().map(ToString::to_string);
    Ok(Fault {
        how: plan.how,
        part: plan.part,
        strike,
        recovery: Recovery::of(&outcome, &strike),
        doubled: site.upstream.stats().ok().and_then(|stats| stats.doubled),
        latencies: outcome.corrected,
        generator_lag_p99: outcome.generator_lag.quantile(0.99),
        partial: died.or(partial),
    })
}

impl StrikeError {
    fn of(partial: Partial) -> StrikeError {
        match partial {
            Partial::Interrupted => StrikeError::Interrupted,
            lost @ Partial::Lost { .. } => StrikeError::Early(lost),
        }
    }
}

impl Site {
    /// Checks that all of its processes still run.
    fn check(&mut self) -> Result<(), ProcessError> {
        self.tunnel.check().and_then(|()| self.upstream.check())
    }

    fn strike(&mut self, plan: &Plan) -> Result<Strike, StrikeError> {
        match plan.how {
            How::Kill => Ok(self.kill(plan)?),
            How::Freeze => {
                let process = match self.side {
                    Some(side) => self.tunnel.process(side),
                    None => self.upstream.process(),
                };
                let process = process.expect("a started process");
                Ok(for_a_while(plan, || Ok::<_, ProcessError>(process.frozen()))?)
            }
            How::Cut => {
                let address = match plan.part {
                    Part::Upstream => Some(self.upstream.address()),
                    // In every kind of peer the first process listens for the other side.
                    _ => self.tunnel.listens(0),
                };
                let address = address.ok_or(StrikeError::NoPath)?;
                Ok(for_a_while(plan, || BlackHole::around(address))?)
            }
        }
    }

    fn kill(&mut self, plan: &Plan) -> Result<Strike, ProcessError> {
        let struck = MonotonicClock.now();
        match self.side {
            Some(side) => self.tunnel.kill(side),
            None => self.upstream.kill(),
        }
        let gone = MonotonicClock.now();
        std::thread::sleep(plan.down);
        let healed = MonotonicClock.now();
        let listens = match self.side {
            Some(side) => {
                self.tunnel.launch(side)?;
                self.tunnel.until_it_listens(side)?
            }
            None => {
                self.upstream.launch()?;
                self.upstream.until_listening()?;
                true
            }
        };
        Ok(Strike { struck, gone, healed, listening: listens.then(|| MonotonicClock.now()) })
    }
}

/// Causes a fault that lasts while the value of `begin` is held.
fn for_a_while<T, E>(plan: &Plan, begin: impl FnOnce() -> Result<T, E>) -> Result<Strike, E> {
    let struck = MonotonicClock.now();
    let held = begin()?;
    let gone = MonotonicClock.now();
    std::thread::sleep(plan.down);
    drop(held);
    Ok(Strike { struck, gone, healed: MonotonicClock.now(), listening: None })
}
