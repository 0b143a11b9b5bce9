//! Agents that vanish: each holds a silent event stream through a tunnel, then all their packets are dropped, and the
//! upstream reports when their streams have ended.

use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::MonotonicClock;

use super::bench::{Bench, Runnable};
use super::black_hole::BlackHole;
use super::striking::StrikeError;
use super::upstream::Upstream;
use crate::fault::Vanished;
use crate::idle::{IdleKind, IdleSettings, hold};
use crate::load::{GeneratorSettings, Load, Target};
use crate::run::Interrupt;
use crate::watch::Watched;

/// How long one stream may take to open, and all together to arrive at the upstream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first stream, a test, may take to be answered. The wait for streams of vanished agents has the same
/// limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the upstream is polled.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The plan for agents that vanish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VanishPlan {
    /// The number of agents.
    pub(crate) agents: usize,
    /// How long their streams may stay open.
    pub(crate) limit: Duration,
}

/// Starts the peer, opens the event streams, and drops all packets of agents; returns when the streams ended.
///
/// # Errors
///
/// If the peer does not run, or the streams were not opened.
pub(crate) fn vanish(
    bench: &Bench,
    peer: &Runnable,
    load: &Load,
    plan: &VanishPlan,
    interrupt: &Interrupt,
) -> Result<Vanished, StrikeError> {
    let credentials = bench.credentials()?;
    let upstream = bench.upstream(&["--answer", "64"])?;
    let tunnel = bench.tunnel(peer, &upstream, &credentials, plan.agents, load, interrupt)?;
    let target = tunnel.target();
    let agents = target.resolve_to.ok_or(StrikeError::NoPath)?;
    let settings = IdleSettings {
        target,
        control: Target::new(upstream.url()),
        kind: IdleKind::Sse,
        streams: plan.agents,
        // The streams are ended when enough was measured.
        settle: plan.limit.saturating_mul(2) + OPEN_TIMEOUT,
        open_timeout: OPEN_TIMEOUT,
        answer_timeout: ANSWER_TIMEOUT,
        generator: GeneratorSettings { cpu: load.generator.cpu, ..GeneratorSettings::default() },
    };
    let (over, mut vanished) = (Interrupt::new(), None);
    let outcome = hold(&settings, &Watched::nothing(), &over, &mut |opened| {
        if vanished.is_none() && opened == plan.agents {
            vanished = Some(watch(&upstream, agents, plan, interrupt));
        }
        if vanished.is_some() || interrupt.is_raised() {
            over.raise();
        }
    })?;
    match vanished {
        Some(vanished) => vanished,
        None if interrupt.is_raised() => Err(StrikeError::Interrupted),
        None => Err(StrikeError::Streams(outcome.fault())),
    }
}

/// Lets the agents vanish once the upstream holds all their streams, then polls how many it still holds.
fn watch(
    upstream: &Upstream,
    agents: std::net::SocketAddr,
    plan: &VanishPlan,
    interrupt: &Interrupt,
) -> Result<Vanished, StrikeError> {
    let all = plan.agents as u64;
    let held = || -> Result<u64, StrikeError> {
        std::thread::sleep(LOOK_INTERVAL);
        if interrupt.is_raised() {
            return Err(StrikeError::Interrupted);
        }
        Ok(upstream.stats()?.held)
    };
    let since = |began: Time| MonotonicClock.now() - began;
    let began = MonotonicClock.now();
    loop {
        match held()? {
            held if held == all => break,
            held if since(began) > OPEN_TIMEOUT => {
                return Err(StrikeError::Streams(format!("the upstream holds {held} of {all}")));
            }
            _ => {}
        }
    }
    let struck = MonotonicClock.now();
    let _black_hole = BlackHole::around(agents)?;
    let mut vanished = Vanished { agents: all, left: all, first: None, all: None, limit: plan.limit };
    while vanished.left > 0 && since(struck) <= plan.limit {
        vanished.left = held()?;
        let now = since(struck);
        if vanished.left < all {
            vanished.first.get_or_insert(now);
        }
        if vanished.left == 0 {
            vanished.all = Some(now);
        }
    }
    Ok(vanished)
}
