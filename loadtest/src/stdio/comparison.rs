//! Measures each peer in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use super::direct::Direct;
use super::peers::{RunningPeer, StdioPeer};
use super::table::{Measured, Row};
use crate::compare::bench::Bench;
use crate::load::{Call, CallKind, Load, Target};
use crate::run::{Interrupt, run_observed};
use crate::watch::Watched;

/// The name of the calls over pipes.
pub(crate) const DIRECT: &str = "direct";
/// How long a peer may take until a first call succeeds through it.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long such an attempt measures.
const ATTEMPT: Duration = Duration::from_millis(100);

/// What is compared, and how.
pub(crate) struct StdioSettings {
    /// The names of the peers; all that are installed if there is none.
    pub(crate) peers: Vec<String>,
    /// How many calls are in flight, one after the other.
    pub(crate) in_flight: Vec<usize>,
    pub(crate) rounds: usize,
    /// The load, but for its target and connections.
    pub(crate) load: Load,
    pub(crate) bench: Bench,
}

/// Measures all peers in every round; returns one row for each measurement, and notes about those that were left out.
pub(crate) fn compare(settings: &StdioSettings, interrupt: &Interrupt) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    let is_asked = |name: &str| settings.peers.is_empty() || settings.peers.iter().any(|peer| peer == name);
    let known = |name: &String| name == DIRECT || StdioPeer::ALL.iter().any(|peer| peer.name() == name);
    notes.extend(settings.peers.iter().filter(|name| !known(name)).map(|name| format!("no peer is called {name}")));
    let mut runnable = Vec::new();
    for peer in StdioPeer::ALL.into_iter().filter(|peer| is_asked(peer.name())) {
        match settings.bench.programs.find(peer.name(), peer.program()) {
            Ok(program) => runnable.push((peer, program)),
            Err(missing) => notes.push(format!("{} is left out: {missing}: {}", peer.name(), peer.install())),
        }
    }
    for _ in 0..settings.rounds {
        if is_asked(DIRECT) {
            match direct(settings) {
                Ok(measured) => rows.extend(measured),
                Err(error) => notes.push(format!("{DIRECT}: {error}")),
            }
        }
        for (peer, program) in &runnable {
            if interrupt.is_raised() {
                notes.push("interrupted".to_owned());
                return (rows, notes);
            }
            match measure(settings, *peer, program, interrupt) {
                Ok(measured) => rows.extend(measured),
                Err(error) => notes.push(format!("{}: {error} (installed with: {})", peer.name(), peer.install())),
            }
        }
    }
    (rows, notes)
}

fn direct(settings: &StdioSettings) -> std::io::Result<Vec<Row>> {
    let mut direct = Direct::start(&settings.bench.this, settings.bench.layout.peer.as_ref())?;
    let phases = settings.load.phases;
    let each = settings.in_flight.iter().map(|in_flight| {
        let measured = direct.measure(*in_flight, phases.warm_up, phases.measure)?;
        Ok(Row { peer: DIRECT, in_flight: *in_flight, measured })
    });
    each.collect()
}

fn measure(
    settings: &StdioSettings,
    peer: StdioPeer,
    program: &Path,
    interrupt: &Interrupt,
) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let running = peer.start(program, &settings.bench.this, settings.bench.layout.peer.as_ref())?;
    until_ready(settings, &running, interrupt)?;
    let mut rows = Vec::new();
    for in_flight in &settings.in_flight {
        let load = load(settings, &running.target, *in_flight);
        let outcome = run_observed(&load, &Watched::nothing(), interrupt, &mut |_| {})?;
        if let Some(why) = outcome.failed.first() {
            return Err(format!("calls failed with {in_flight} in flight: {why}").into());
        }
        let measured = Measured::new(&outcome.uncorrected, outcome.measured);
        rows.push(Row { peer: peer.name(), in_flight: *in_flight, measured });
    }
    Ok(rows)
}

fn load(settings: &StdioSettings, target: &Target, in_flight: usize) -> Load {
    let call = Call { kind: CallKind::McpSession, ..settings.load.call.clone() };
    Load { target: target.clone(), connections: in_flight, call, ..settings.load.clone() }
}

/// Calls until one call succeeds.
fn until_ready(
    settings: &StdioSettings,
    running: &RunningPeer,
    interrupt: &Interrupt,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut attempt = load(settings, &running.target, 1);
    (attempt.phases.warm_up, attempt.phases.measure) = (Duration::ZERO, ATTEMPT);
    let began = Instant::now();
    loop {
        let last = match run_observed(&attempt, &Watched::nothing(), interrupt, &mut |_| {}) {
            Ok(outcome) if outcome.calls > 0 => return Ok(()),
            Ok(outcome) => outcome.failed.first().unwrap_or("without a reason").to_owned(),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > READY_PATIENCE || interrupt.is_raised() {
            return Err(format!("no call succeeds through it: {last}").into());
        }
        std::thread::sleep(ATTEMPT);
    }
}
