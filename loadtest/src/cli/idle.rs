//! The command `adit-loadtest idle`.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::bench_args::{BenchArgs, BenchError};
use super::load_args::{OptionalTargetArgs, WatchArgs};
use super::output::print;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::compare::bench::{Bench, Runnable};
use crate::compare::peer::{ADIT, Peer, UnknownPeer};
use crate::compare::report::PeerNote;
use crate::compare::site::SiteError;
use crate::compare::table::table_of;
use crate::compare::tunnel::TunnelError;
use crate::compare::upstream::UpstreamError;
use crate::files::TooFewFiles;
use crate::idle::{IdleError, IdleKind, IdleOutcome, IdleSettings, STREAMS_MAX, hold};
use crate::load::{Call, CallKind, GeneratorSettings, Load, Target};
use crate::run::Interrupt;
use crate::units::time;
use crate::watch::Watched;

/// Shown in the help after the flags.
const EXAMPLES: &str = "\
Examples:
  Start edge and connector, hold 10,000 event streams open through them, and print the memory of each:
      adit-loadtest idle --streams 10000
  Compare with another tunnel, whose programs are on the PATH:
      adit-loadtest idle --streams 10000 --peers adit,rathole
  Measure a tunnel that is running already, with `adit-loadtest serve` behind it:
      adit-loadtest idle --streams 1000 --url https://mcp.example.com/mcp --watch 4711 --watch 4712";

/// The command-line flags of `idle`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct IdleArgs {
    /// How many streams to hold open
    #[arg(long, value_name = "N", default_value_t = 1000)]
    streams: usize,
    /// Kind of the streams
    #[arg(long, value_enum, default_value = "sse")]
    kind: KindArg,
    /// The tunnels to start and to measure if there is no --url, as in `compare`, such as adit,rathole,frp
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = ADIT, conflicts_with = "url")]
    peers: Vec<String>,
    #[command(flatten)]
    target: OptionalTargetArgs,
    /// URL of the `adit-loadtest serve` behind the tunnel, if the tunnel does not forward the paths /stats and /release
    #[arg(long, value_name = "URL", requires = "url")]
    upstream: Option<Target>,
    #[command(flatten)]
    watch: WatchArgs,
    /// How long all streams are idle before the memory is read
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "2s")]
    settle: Duration,
    /// Time limit for opening one stream
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    open_timeout: Duration,
    /// Time limit for the answers of all streams after their release
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    answer_timeout: Duration,
    #[command(flatten)]
    bench: BenchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The kinds of idle stream, as command-line values.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KindArg {
    /// An event stream without an event
    Sse,
    /// An MCP call without an answer
    Call,
}

/// The result of one tunnel.
struct Row {
    /// The peer; none for a tunnel that was already running.
    peer: Option<String>,
    result: Result<IdleOutcome, RowError>,
}

/// Why a tunnel has no result.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Idle(#[from] IdleError),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    #[error(transparent)]
    Peer(#[from] UnknownPeer),
    #[error("{0} streams: give 1 to {STREAMS_MAX}")]
    Streams(usize),
}

pub(super) fn execute(args: &IdleArgs, interrupt: &Interrupt) -> u8 {
    let measured = match &args.target.target() {
        Some(target) => args.checked().map(|()| (vec![args.row_of_url(target, interrupt)], Vec::new())),
        None => args.rows_of_peers(interrupt),
    };
    let (rows, missing) = match measured {
        Ok(measured) => measured,
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    if args.json {
        print(&json!({
            "streams": args.streams,
            "kind": IdleKind::from(args.kind).name(),
            "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "missing": missing.iter().map(|note| json!({ "peer": note.name, "reason": note.reason })).collect::<Vec<_>>(),
        }));
    } else {
        print(&text(args, &rows, &missing));
    }
    let faults: Vec<String> = rows.iter().filter_map(Row::fault).collect();
    faults.iter().for_each(|fault| _ = fail(fault));
    if rows.is_empty() {
        return fail(&"none of the peers can be run on this machine");
    }
    if faults.is_empty() { 0 } else { EXIT_FAILURE }
}

impl IdleArgs {
    fn checked(&self) -> Result<(), UsageError> {
        if !(1..=STREAMS_MAX).contains(&self.streams) {
            return Err(UsageError::Streams(self.streams));
        }
        // Child processes inherit the limit.
        Ok(crate::files::allow(self.streams as u64)?)
    }

    fn row_of_url(&self, target: &Target, interrupt: &Interrupt) -> Row {
        let control = self.upstream.clone().unwrap_or_else(|| target.clone());
        let settings = self.settings(target.clone(), control, None);
        Row { peer: None, result: self.hold("idle", &settings, &self.watch.watched(), interrupt).map_err(Into::into) }
    }

    fn rows_of_peers(&self, interrupt: &Interrupt) -> Result<(Vec<Row>, Vec<PeerNote>), UsageError> {
        self.checked()?;
        let peers = Peer::named(self.peers.iter().map(|name| name.trim()))?;
        let bench = self.bench.bench()?;
        let (runnable, missing) = bench.look_for(&peers);
        let mut rows = Vec::new();
        for peer in &runnable {
            if interrupt.is_raised() {
                break;
            }
            rows.push(Row { peer: Some(peer.0.name.clone()), result: self.outcome_of_peer(&bench, peer, interrupt) });
        }
        Ok((rows, missing))
    }

    /// Starts the peer and an upstream behind it, holds streams through it, and ends it.
    fn outcome_of_peer(&self, bench: &Bench, peer: &Runnable, interrupt: &Interrupt) -> Result<IdleOutcome, RowError> {
        let upstream = bench.upstream(&["--answer", "64"])?;
        let credentials = bench.credentials()?;
        let mut load = Load::of(Target::new(upstream.url()));
        load.call = Call { kind: CallKind::McpStateless, ..Call::default() };
        // More than the streams, for the generator's requests for the count.
        let tunnel = bench.tunnel(peer, &upstream, &credentials, self.streams + 16, &load, interrupt)?;
        let settings = self.settings(tunnel.target(), load.target, bench.layout.generator());
        let mut outcome = self.hold(&peer.0.name, &settings, &tunnel.watched(), interrupt)?;
        for (part, pid) in tunnel.parts() {
            let below = crate::watch::tree_ids(pid);
            for process in outcome.processes.iter_mut().filter(|process| below.contains(&process.pid)) {
                let name = if process.pid == pid { part.to_owned() } else { format!("{part}: {}", process.name) };
                process.name = name;
            }
        }
        Ok(outcome)
    }

    fn settings(&self, target: Target, control: Target, cpu: Option<usize>) -> IdleSettings {
        IdleSettings {
            target,
            control,
            kind: self.kind.into(),
            streams: self.streams,
            settle: self.settle,
            open_timeout: self.open_timeout,
            answer_timeout: self.answer_timeout,
            generator: GeneratorSettings { cpu, ..GeneratorSettings::default() },
        }
    }

    fn hold(
        &self,
        what: &str,
        settings: &IdleSettings,
        watched: &Watched,
        interrupt: &Interrupt,
    ) -> Result<IdleOutcome, IdleError> {
        let bar = bar(what, self.streams);
        let outcome = hold(settings, watched, interrupt, &mut |open| bar.set_position(open as u64));
        bar.finish_and_clear();
        outcome
    }
}

impl Row {
    /// The fault of the result, if any.
    fn fault(&self) -> Option<String> {
        let peer = self.peer.as_deref().map(|peer| format!("{peer}: ")).unwrap_or_default();
        let fault = match &self.result {
            Err(error) => error.to_string(),
            Ok(outcome) if outcome.is_good() => return None,
            Ok(outcome) => outcome.fault(),
        };
        Some(peer + &fault)
    }

    fn to_json(&self) -> Value {
        let mut object = self.result.as_ref().map_or_else(|_| json!({}), IdleOutcome::to_json);
        object["peer"] = json!(self.peer);
        object["error"] = json!(self.fault());
        object
    }
}

impl From<KindArg> for IdleKind {
    fn from(kind: KindArg) -> IdleKind {
        match kind {
            KindArg::Sse => IdleKind::Sse,
            KindArg::Call => IdleKind::Call,
        }
    }
}

/// The table: a line for each process, and one for their sum.
fn text(args: &IdleArgs, rows: &[Row], missing: &[PeerNote]) -> String {
    let heads = ["peer", "process", "streams", "RSS MiB", "with", "KiB a stream", "PSS MiB", "with", "KiB a stream"];
    let mut lines = Vec::new();
    for row in rows {
        let Ok(outcome) = &row.result else { continue };
        let peer = row.peer.as_deref().unwrap_or("–");
        for process in &outcome.processes {
            let json = process.to_json(outcome.open);
            let mib =
                |key: &str| json[key].as_f64().map_or_else(|| "–".to_owned(), |kib| format!("{:.1}", kib / 1024.0));
            let kib = |key: &str| json[key].as_f64().map_or_else(|| "–".to_owned(), |kib| format!("{kib:.2}"));
            lines.push(vec![
                peer.to_owned(),
                process.name.clone(),
                outcome.open.to_string(),
                mib("rss_before_kib"),
                mib("rss_after_kib"),
                kib("rss_kib_per_stream"),
                mib("pss_before_kib"),
                mib("pss_after_kib"),
                kib("pss_kib_per_stream"),
            ]);
        }
        if !outcome.processes.is_empty() {
            lines.push(total(peer, outcome));
        }
    }
    let kind = match IdleKind::from(args.kind) {
        IdleKind::Sse => "event streams without an event",
        IdleKind::Call => "MCP calls without an answer",
    };
    let mut text = format!("{} {kind}; memory before and with them\n", args.streams);
    if lines.is_empty() {
        text += "no process was watched: --watch PID names one\n";
    } else {
        text += &format!("{}\n", table_of(&heads, 2, lines));
    }
    for row in rows {
        let Ok(outcome) = &row.result else { continue };
        let peer = row.peer.as_deref().map(|peer| format!("{peer}: ")).unwrap_or_default();
        text += &format!(
            "{peer}{} open after {:.1} s, {} refused, {} lost, {} answered when they were released\n",
            outcome.open,
            outcome.opening.as_secs_f64(),
            outcome.refused.count(),
            outcome.lost.count(),
            outcome.answered
        );
    }
    for note in missing {
        text += &format!("{}: {}\n", note.name, note.reason.as_deref().unwrap_or_default());
    }
    text
}

fn total(peer: &str, outcome: &IdleOutcome) -> Vec<String> {
    let json = outcome.to_json();
    let sum = |pick: fn(&crate::memory::Memory) -> Option<u64>, after: bool| {
        let of = |process: &crate::memory::Growth| if after { process.after } else { Some(process.before) };
        let kib: Option<u64> = outcome.processes.iter().map(|process| of(process).as_ref().and_then(pick)).sum();
        kib.filter(|_| !outcome.processes.is_empty())
            .map_or_else(|| "–".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0))
    };
    let each = |key: &str| json[key].as_f64().map_or_else(|| "–".to_owned(), |kib| format!("{kib:.2}"));
    vec![
        peer.to_owned(),
        "all".to_owned(),
        outcome.open.to_string(),
        sum(|memory| Some(memory.rss_kib), false),
        sum(|memory| Some(memory.rss_kib), true),
        each("rss_kib_per_stream"),
        sum(|memory| memory.pss_kib, false),
        sum(|memory| memory.pss_kib, true),
        each("pss_kib_per_stream"),
    ]
}

fn bar(what: &str, streams: usize) -> ProgressBar {
    let target = if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(streams as u64), target).with_prefix(what.to_owned());
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos} of {len} streams are open");
    bar.with_style(style.expect("the template is a valid constant"))
}
