//! Runs a comparison: finds peers, interleaves rounds, collects samples and failures.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cpus::{CpuList, Layout};
use super::host::{CpuTime, Host, version_of};
use super::peer::{ADIT, DIRECT, Peer};
use super::plan::{Cell, cells};
use super::programs::Programs;
use super::report::{Method, PeerNote, Report, State};
use super::rows::Row;
use super::series::{Machine, Sample, Series, Workload};
use super::site::{Credentials, SiteError};
use super::tunnel::{Setting, Tunnel, TunnelError};
use super::upstream::{Upstream, UpstreamError};
use crate::load::{Load, Mode};
use crate::outcome::Partial;
use crate::run::{Interrupt, run_observed};

/// A peer that failed in this many measurements is not measured again.
const FAILURES_MAX: usize = 2;
/// How often a void measurement is repeated.
const REPEATS_MAX: usize = 1;

/// The settings of a comparison.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) peers: Vec<Peer>,
    pub(crate) programs: Programs,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) rounds: usize,
    /// The load for each peer; target, connections and payload are set for each measurement.
    pub(crate) load: Load,
    /// The smallest share of a closed loop's connections that must have a call in flight.
    pub(crate) in_flight_min: f64,
    pub(crate) layout: Layout,
    /// The path of this program.
    pub(crate) this: PathBuf,
    /// The command line that started it.
    pub(crate) command: String,
}

/// Why a comparison could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// The keys and certificates could not be created.
    #[error(transparent)]
    Site(#[from] SiteError),
    /// The upstream could not be started.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// The state of a running comparison.
pub(crate) struct Comparison<'a> {
    settings: &'a Settings,
    interrupt: &'a Interrupt,
    credentials: Credentials,
    /// The peers that can be run, with their programs.
    runnable: Vec<(Peer, BTreeMap<String, PathBuf>)>,
    /// The results, by workload and runnable peer.
    series: Vec<Vec<Series>>,
    /// How often each runnable peer failed.
    failures: Vec<usize>,
    report: Report,
    began: CpuTime,
}

impl<'a> Comparison<'a> {
    /// Finds the peers' programs.
    ///
    /// # Errors
    ///
    /// If no certificates could be created.
    pub(crate) fn new(settings: &'a Settings, interrupt: &'a Interrupt) -> Result<Self, CompareError> {
        let began = OffsetDateTime::now_utc();
        let mut report = Report {
            command: settings.command.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: began.replace_nanosecond(0).unwrap_or(began).format(&Rfc3339).unwrap_or_default(),
            method: method(settings),
            host: Host::look(),
            debug_build: cfg!(debug_assertions),
            ..Report::default()
        };
        let cpus = |list: &Option<CpuList>| list.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
        report.host.load_cpus = cpus(&settings.layout.load);
        report.host.peer_cpus = cpus(&settings.layout.peer);
        let mut runnable = Vec::new();
        for peer in &settings.peers {
            let (note, programs) = look_for(peer, &settings.programs);
            match note.state {
                State::Measured => runnable.push((peer.clone(), programs)),
                State::NotFound => report.not_found.push(peer.name.clone()),
                State::NoFarSide => report.no_far_side.push(peer.name.clone()),
            }
            if let Some(version) = &note.version {
                report.host.versions.insert(peer.name.clone(), version.clone());
            }
            report.peers.push(note);
        }
        let series = vec![vec![Series::default(); runnable.len()]; settings.workloads.len()];
        let credentials = Credentials::new()?;
        let failures = vec![0; runnable.len()];
        Ok(Self { settings, interrupt, credentials, runnable, series, failures, report, began: CpuTime::now() })
    }

    /// Measures everything; `observer` gets the report after each round.
    ///
    /// # Errors
    ///
    /// If the upstream cannot be started. Failures of a peer are in its rows.
    pub(crate) fn run(mut self, observer: &mut dyn FnMut(&Report)) -> Result<Report, CompareError> {
        let mut upstreams = self.start_upstreams()?;
        let cells = cells(self.settings.rounds, self.settings.workloads.len(), self.runnable.len());
        let bar = progress_bar(cells.len());
        for (i, cell) in cells.iter().enumerate() {
            if self.interrupt.is_raised() {
                break;
            }
            bar.set_message(self.name(*cell));
            self.measure(*cell, &upstreams, &bar);
            if let Err(error) = upstreams.values_mut().try_for_each(Upstream::check) {
                self.report.ended_early = Some(error.to_string());
                break;
            }
            bar.inc(1);
            if cells.get(i + 1).is_some_and(|next| next.round != cell.round) {
                observer(&self.report());
            }
        }
        bar.finish_and_clear();
        Ok(self.report())
    }

    fn start_upstreams(&self) -> Result<BTreeMap<u64, Upstream>, CompareError> {
        let mut upstreams = BTreeMap::new();
        for workload in &self.settings.workloads {
            if let Entry::Vacant(vacant) = upstreams.entry(workload.payload) {
                let flags = ["--answer".to_owned(), workload.payload.to_string()];
                let Settings { this, layout, .. } = self.settings;
                vacant.insert(Upstream::start(this, layout.upstream().as_ref(), &flags)?);
            }
        }
        Ok(upstreams)
    }

    fn name(&self, cell: Cell) -> String {
        let workload = self.settings.workloads[cell.workload];
        let peer = &self.runnable[cell.peer].0.name;
        format!("round {}: {peer}, {} in flight, {} B", cell.round + 1, workload.connections, workload.payload)
    }

    /// Makes one measurement, repeats it if it was void, and stores the result.
    fn measure(&mut self, cell: Cell, upstreams: &BTreeMap<u64, Upstream>, bar: &ProgressBar) {
        let workload = self.settings.workloads[cell.workload];
        let upstream = upstreams[&workload.payload].address();
        let mut kept = None;
        for _ in 0..=REPEATS_MAX {
            if self.failures[cell.peer] >= FAILURES_MAX {
                self.fail(cell, format!("not run any more after it failed {FAILURES_MAX} times"));
                break;
            }
            match self.sample(cell, workload, upstream) {
                Ok(sample) => {
                    let again = sample.void.is_some() && !self.interrupt.is_raised();
                    kept = Some(sample);
                    if !again {
                        break;
                    }
                }
                Err(TunnelError::Interrupted) => break,
                Err(error) => {
                    self.failures[cell.peer] += 1;
                    bar.suspend(|| eprintln!("{}: {error}", self.runnable[cell.peer].0.name));
                    self.fail(cell, error.to_string());
                    break;
                }
            }
        }
        self.series[cell.workload][cell.peer].samples.extend(kept);
    }

    fn fail(&mut self, cell: Cell, error: String) {
        let message = format!("round {}: {error}", cell.round + 1);
        self.series[cell.workload][cell.peer].error.get_or_insert(message);
    }

    /// Starts the peer, puts the load on it, and ends it.
    fn sample(&self, cell: Cell, workload: Workload, upstream: SocketAddr) -> Result<Sample, TunnelError> {
        let (peer, programs) = &self.runnable[cell.peer];
        let setting = Setting {
            launcher: &self.settings.this,
            credentials: &self.credentials,
            cpus: self.settings.layout.peer.as_ref(),
            cpu_count: self.settings.layout.peer.as_ref().map_or(self.report.host.cores, CpuList::count),
            streams: workload.connections,
            interrupt: self.interrupt,
        };
        let mut load = Load { connections: workload.connections, ..self.settings.load.clone() };
        load.call.payload = workload.payload;
        let mut tunnel = Tunnel::start(peer, programs, upstream, &load, &setting)?;
        load.target = tunnel.target();
        let cpu_time = CpuTime::now();
        let outcome = run_observed(&load, &tunnel.watched(), self.interrupt, &mut |_| {});
        // The death of a process explains more than the connections that failed.
        tunnel.check()?;
        let outcome = outcome?;
        let busy = |cpus: &Option<CpuList>| cpus.as_ref().map(|cpus| cpu_time.busy(cpus));
        // An open loop may have idle connections.
        let in_flight_min = match load.mode {
            Mode::Closed => self.settings.in_flight_min * load.connections as f64,
            Mode::Open { .. } => 0.0,
        };
        let machine = Machine {
            steal_percent: cpu_time.steal_percent(),
            load_cpu_busy: busy(&self.settings.layout.load),
            peer_cpu_busy: busy(&self.settings.layout.peer),
        };
        match outcome.partial {
            // Better than no result at all.
            Some(Partial::Interrupted)
                if outcome.calls > 0 && self.series[cell.workload][cell.peer].samples.is_empty() =>
            {
                Ok(Sample::new(cell.round, &outcome, in_flight_min, machine))
            }
            Some(Partial::Interrupted) => Err(TunnelError::Interrupted),
            Some(lost @ Partial::Lost { .. }) => Err(TunnelError::Lost(lost)),
            None if outcome.calls == 0 => Err(TunnelError::Silent),
            None => Ok(Sample::new(cell.round, &outcome, in_flight_min, machine)),
        }
    }

    /// The report of what was measured so far.
    fn report(&self) -> Report {
        let mut report = self.report.clone();
        report.host.finish(&self.began);
        if self.interrupt.is_raised() {
            report.ended_early.get_or_insert("it was interrupted".to_owned());
        }
        let place = |name: &str| self.runnable.iter().position(|(peer, _)| peer.name == name);
        let nothing = Series::default();
        for (workload, series) in self.settings.workloads.iter().zip(&self.series) {
            let of = |name: &str| place(name).map_or(&nothing, |place| &series[place]);
            let (direct, adit) = (of(DIRECT), of(ADIT));
            let rows = self.runnable.iter().zip(series);
            report.rows.extend(rows.map(|((peer, _), own)| Row::new(peer, *workload, own, direct, adit)));
        }
        report
    }
}

/// A note on a peer on this machine, and its programs if it can be run.
pub(super) fn look_for(peer: &Peer, programs: &Programs) -> (PeerNote, BTreeMap<String, PathBuf>) {
    if let Some(reason) = &peer.file.no_far_side {
        return (PeerNote::new(peer, State::NoFarSide, Some(reason.clone())), BTreeMap::new());
    }
    match programs.of(peer) {
        Err(missing) => {
            let reason = format!("{missing}; to have it: {}", peer.file.install);
            (PeerNote::new(peer, State::NotFound, Some(reason)), BTreeMap::new())
        }
        Ok(found) => {
            let mut note = PeerNote::new(peer, State::Measured, None);
            let versions = peer.file.programs.iter().map(|program| version_of(&found[&program.name], program));
            let mut versions: Vec<String> = versions.collect();
            versions.dedup();
            note.version = (!versions.is_empty()).then(|| versions.join(", "));
            (note, found)
        }
    }
}

fn method(settings: &Settings) -> Method {
    let Load { mode, phases, call, .. } = &settings.load;
    let mode = match mode {
        Mode::Closed => "closed".to_owned(),
        Mode::Open { rate, .. } => format!("{rate} calls per second"),
    };
    Method {
        call: call.kind.name().to_owned(),
        mode,
        rounds: settings.rounds,
        duration_s: phases.measure.as_secs_f64(),
        warm_up_s: phases.warm_up.as_secs_f64(),
    }
}

/// A bar on standard error, drawn only on a terminal.
fn progress_bar(cells: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
    let bar = ProgressBar::new(cells as u64).with_style(style.expect("the template is a valid constant"));
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
