//! The command `adit-loadtest fault`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::bench_args::{BenchArgs, BenchError};
use super::output::print;
use super::progress::Bar;
use super::vanished::{self, VanishedRow};
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::compare::bench::{Bench, Runnable};
use crate::compare::black_hole::{self, CutError};
use crate::compare::peer::{ADIT, Peer, UnknownPeer};
use crate::compare::report::PeerNote;
use crate::compare::series::median;
use crate::compare::striking::{Plan, has, strike};
use crate::compare::table::table_of;
use crate::compare::vanishing::{VanishPlan, vanish};
use crate::fault::{Fault, How, Part, ms};
use crate::idle::STREAMS_MAX;
use crate::load::{Arrivals, Call, CallKind, GeneratorSettings, Limits, Load, LoadError, Mode, Phases, Target};
use crate::run::Interrupt;
use crate::units::time;

/// The most rounds that can be asked for.
const ROUNDS_MAX: u32 = 100;

/// Shown in the help after the flags.
const EXAMPLES: &str = "\
Examples:
  Kill edge, connector and upstream of adit in turn, three times each:
      adit-loadtest fault
  Only the edge, compared with another tunnel; fail if one takes longer than 1.5 s:
      adit-loadtest fault --kill edge --peers adit,rathole --within 1.5s
  Stop the connector and the upstream for 5 s (SIGSTOP), and let all packets between edge and connector vanish for 5 s:
      adit-loadtest fault --freeze connector,upstream --cut link --after 20s
  Let 50 agents vanish, each with a silent event stream; fail if one of these is open after 90 s:
      adit-loadtest fault --vanish 50

A path is cut, and agents vanish, in a network namespace of the program's own, which needs unshare, ip and nft, and root or user
namespaces.";

/// The meaning of the columns.
const LEGEND: &str = "\
Times in ms; medians of the rounds.
  again      from the fault to the first successful answer to a call that was sent after it; worst: in the worst round
  healed     the same, from the end of the fault: the start of the new process, or when process or path worked again
  listens    from the start of the new process until it accepted connections
  in flight  calls that were in flight when the fault began and were lost: answered with an error, or not at all
  after      calls that were sent after that and were lost; last lost: when the last of them was sent, after the fault
  longest    the time of the slowest successful call after the fault
  doubled    calls that reached the upstream more than once, in all rounds
";

/// The command-line flags of `fault`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct FaultArgs {
    /// The tunnels to start and to disturb, as in `compare`, such as adit,rathole,frp
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = ADIT)]
    peers: Vec<String>,
    /// The processes to kill (SIGKILL) and start again, separated by commas; one at a time. All of them, unless --freeze, --cut
    /// or --vanish is given
    #[arg(long, value_enum, value_delimiter = ',')]
    kill: Vec<PartArg>,
    /// The processes to stop (SIGSTOP) and to continue (SIGCONT) after --lasting
    #[arg(long, value_enum, value_delimiter = ',')]
    freeze: Vec<PartArg>,
    /// The paths on which all packets are dropped, for --lasting
    #[arg(long, value_enum, value_delimiter = ',')]
    cut: Vec<PathArg>,
    /// The number of agents that vanish: each holds a silent event stream, then all packets of agents are dropped, so
    /// that nothing closes their connections; 0 for none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=STREAMS_MAX as i64))]
    vanish: u32,
    /// Fail if an event stream of a vanished agent is open at the upstream for longer than this
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "90s")]
    freed_within: Duration,
    /// How long processes are stopped and paths cut
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    lasting: Duration,
    /// How often each fault is repeated, each time with new processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROUNDS_MAX)))]
    rounds: u32,
    /// Calls per second, in an open loop
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0)]
    rate: f64,
    /// Number of connections, which limits the calls in flight
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Service time of the upstream, so that there are calls in flight
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "20ms")]
    service: Duration,
    /// How long calls are made before the fault
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    before: Duration,
    /// How long after the kill the process is started again
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "0s")]
    down: Duration,
    /// How long calls are made after the end of the fault
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    after: Duration,
    /// Time limit of one call; a call that takes longer counts as lost
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    call_timeout: Duration,
    /// Fail if the first successful call comes later than this after the beginning of the fault
    #[arg(long, value_name = "TIME", value_parser = time)]
    within: Option<Duration>,
    #[command(flatten)]
    bench: BenchArgs,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The processes, as command-line values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum PartArg {
    /// The public side of the tunnel
    Edge,
    /// The private side of the tunnel
    Connector,
    /// The server behind the tunnel
    Upstream,
}

/// The paths, as command-line values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PathArg {
    /// Between edge and connector
    Link,
    /// Between connector and upstream
    Upstream,
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Peer(#[from] UnknownPeer),
    #[error(transparent)]
    Cut(#[from] CutError),
}

/// All rounds of one part of one peer.
struct Row {
    peer: String,
    how: How,
    part: Part,
    /// For each round the result, or the reason for its lack.
    rounds: Vec<Result<Fault, String>>,
    within: Option<Duration>,
}

/// The results, also of a run that ended early.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    vanished: Vec<VanishedRow>,
    missing: Vec<PeerNote>,
    /// Peers that do not have this part.
    without: Vec<(String, Part)>,
}

pub(super) fn execute(args: &FaultArgs, interrupt: &Interrupt) -> u8 {
    let found = match args.run(interrupt) {
        Ok(found) => found,
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    if args.json {
        print(&found.to_json(args));
    } else {
        print(&found.text(args));
    }
    let vanished = found.vanished.iter().flat_map(VanishedRow::faults);
    let faults: Vec<String> = found.rows.iter().flat_map(Row::faults).chain(vanished).collect();
    faults.iter().for_each(|fault| _ = fail(fault));
    if interrupt.is_raised() {
        return fail(&"interrupted before the end");
    }
    if found.rows.is_empty() && found.vanished.is_empty() {
        return fail(&"none of the peers can be run on this machine, or none has such a part");
    }
    if faults.is_empty() { 0 } else { EXIT_FAILURE }
}

impl FaultArgs {
    fn run(&self, interrupt: &Interrupt) -> Result<Found, UsageError> {
        if !self.cut.is_empty() || self.vanish > 0 {
            black_hole::enter()?;
        }
        let peers = Peer::named(self.peers.iter().map(|name| name.trim()))?;
        let mut load = self.load()?;
        let bench = self.bench.bench()?;
        load.generator.cpu = bench.layout.generator();
        let (runnable, missing) = bench.look_for(&peers);
        let mut found = Found { missing, ..Found::default() };
        for peer in &runnable {
            for (how, part) in self.faults() {
                if interrupt.is_raised() {
                    return Ok(found);
                }
                if has(peer, part) {
                    found.rows.push(self.row(&bench, peer, (how, part), &load, interrupt));
                } else {
                    found.without.push((peer.0.name.clone(), part));
                }
            }
            if self.vanish > 0 && has(peer, Part::Link) {
                found.vanished.push(self.vanished_row(&bench, peer, &load, interrupt));
            }
        }
        Ok(found)
    }

    fn vanished_row(&self, bench: &Bench, peer: &Runnable, load: &Load, interrupt: &Interrupt) -> VanishedRow {
        let plan = VanishPlan { agents: self.vanish as usize, limit: self.freed_within };
        let rounds = (0..self.rounds).take_while(|_| !interrupt.is_raised());
        let vanished = |_| vanish(bench, peer, load, &plan, interrupt).map_err(|error| error.to_string());
        VanishedRow { peer: peer.0.name.clone(), rounds: rounds.map(vanished).collect() }
    }

    fn row(&self, bench: &Bench, peer: &Runnable, (how, part): (How, Part), load: &Load, interrupt: &Interrupt) -> Row {
        let plan = Plan { how, part, before: self.before, down: self.down_of(how), service: self.service };
        let mut load = load.clone();
        load.phases.measure = load.phases.measure.saturating_add(plan.down);
        // Failed calls are what is measured.
        load.limits.patience = load.phases.measure.saturating_add(self.call_timeout);
        let mut row = Row { peer: peer.0.name.clone(), how, part, rounds: Vec::new(), within: self.within };
        for round in 1..=self.rounds {
            if interrupt.is_raised() {
                break;
            }
            let bar = Bar::new(&format!("{}: {} {round}", row.peer, row.fault()), load.phases);
            let fault = strike(bench, peer, &load, &plan, interrupt, &mut |progress| bar.show(progress));
            row.rounds.push(fault.map_err(|error| error.to_string()));
        }
        row
    }

    /// The faults, each once.
    fn faults(&self) -> Vec<(How, Part)> {
        let is_default = self.kill.is_empty() && self.freeze.is_empty() && self.cut.is_empty() && self.vanish == 0;
        let kill = if is_default { PartArg::value_variants() } else { &self.kill };
        let killed = kill.iter().map(|part| (How::Kill, Part::from(*part)));
        let frozen = self.freeze.iter().map(|part| (How::Freeze, Part::from(*part)));
        let cut = self.cut.iter().map(|path| (How::Cut, Part::from(*path)));
        let mut faults: Vec<(How, Part)> = killed.chain(frozen).chain(cut).collect();
        faults.sort_unstable();
        faults.dedup();
        faults
    }

    fn down_of(&self, how: How) -> Duration {
        match how {
            How::Kill => self.down,
            How::Freeze | How::Cut => self.lasting,
        }
    }

    fn load(&self) -> Result<Load, LoadError> {
        // The target is set for each peer later.
        let target: Target = "http://localhost/mcp".parse()?;
        // Without the time of the fault itself, which differs.
        let measure = self.before.saturating_add(self.after);
        let load = Load {
            call: Call { kind: CallKind::McpStateless, ..Call::default() },
            mode: Mode::Open { rate: self.rate, arrivals: Arrivals::Constant },
            connections: self.connections,
            phases: Phases { warm_up: Duration::from_millis(500), measure, drain: self.call_timeout },
            limits: Limits { call_timeout: self.call_timeout, ..Limits::default() },
            generator: GeneratorSettings::default(),
            ..Load::of(target)
        };
        load.check()?;
        Ok(load)
    }
}

impl From<PartArg> for Part {
    fn from(part: PartArg) -> Part {
        match part {
            PartArg::Edge => Part::Edge,
            PartArg::Connector => Part::Connector,
            PartArg::Upstream => Part::Upstream,
        }
    }
}

impl From<PathArg> for Part {
    fn from(path: PathArg) -> Part {
        match path {
            PathArg::Link => Part::Link,
            PathArg::Upstream => Part::Upstream,
        }
    }
}

impl Row {
    /// The fault in words, such as "edge killed".
    fn fault(&self) -> String {
        format!("{} {}", self.part.name(), self.how.name())
    }

    fn good(&self) -> impl Iterator<Item = &Fault> {
        self.rounds.iter().flatten()
    }

    /// The faults of the results, round by round.
    fn faults(&self) -> Vec<String> {
        let within = |fault: &Fault| {
            let (took, within) = (fault.recovery.from_strike?, self.within?);
            (took > within)
                .then(|| format!("the first good call came after {} ms, and not within {within:?}", ms(took)))
        };
        let fault = |round: &Result<Fault, String>| match round {
            Ok(fault) => fault.fault().or_else(|| within(fault)),
            Err(error) => Some(error.clone()),
        };
        let name = |(i, fault): (usize, Option<String>)| {
            Some(format!("{}: {}, round {}: {}", self.peer, self.fault(), i + 1, fault?))
        };
        self.rounds.iter().map(fault).enumerate().filter_map(name).collect()
    }

    /// The median over the rounds, and the maximum.
    fn spread(&self, pick: impl Fn(&Fault) -> Option<f64>) -> (Option<f64>, Option<f64>) {
        let values: Vec<f64> = self.good().filter_map(pick).collect();
        (median(values.iter().copied()), values.into_iter().reduce(f64::max))
    }

    fn to_json(&self) -> Value {
        let both = |(median, max): (Option<f64>, Option<f64>)| json!({ "median": median, "max": max });
        let rounds = self.rounds.iter().map(|round| match round {
            Ok(fault) => fault.to_json(),
            Err(error) => json!({ "how": self.how.name(), "part": self.part.name(), "error": error }),
        });
        json!({
            "peer": self.peer,
            "how": self.how.name(),
            "part": self.part.name(),
            "good_call_ms": both(self.spread(|fault| fault.recovery.from_strike.map(ms))),
            "good_call_from_launch_ms": both(self.spread(|fault| fault.recovery.from_healed.map(ms))),
            "lost": both(self.spread(|fault| Some(fault.recovery.lost() as f64))),
            "doubled": self.good().map(|fault| fault.doubled).sum::<Option<u64>>(),
            "rounds": rounds.collect::<Vec<Value>>(),
            "errors": self.faults(),
        })
    }

    fn line(&self) -> Vec<String> {
        let show = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        let (again, worst) = self.spread(|fault| fault.recovery.from_strike.map(ms));
        let (healed, _) = self.spread(|fault| fault.recovery.from_healed.map(ms));
        let (listening, _) =
            self.spread(|fault| fault.strike.listening.map(|listening| ms(listening - fault.strike.healed)));
        let (in_flight, _) = self.spread(|fault| Some(fault.recovery.lost_in_flight as f64));
        let (after, _) = self.spread(|fault| Some(fault.recovery.lost_after as f64));
        let (last, _) = self.spread(|fault| fault.recovery.last_lost.map(ms));
        let (longest, _) = self.spread(|fault| fault.recovery.longest.map(ms));
        let doubled: Option<u64> = self.good().map(|fault| fault.doubled).sum();
        let doubled = doubled.filter(|_| self.good().next().is_some());
        let mut line = vec![self.peer.clone(), self.fault()];
        line.extend([again, worst, healed, listening, in_flight, after, last, longest].map(show));
        line.push(doubled.map_or_else(|| "–".to_owned(), |doubled| doubled.to_string()));
        line
    }
}

impl Found {
    fn to_json(&self, args: &FaultArgs) -> Value {
        let without = |(peer, part): &(String, Part)| json!({ "peer": peer, "part": part.name() });
        json!({
            "rate": args.rate,
            "connections": args.connections,
            "down_s": args.down.as_secs_f64(),
            "lasting_s": args.lasting.as_secs_f64(),
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "vanished": self.vanished.iter().map(VanishedRow::to_json).collect::<Vec<_>>(),
            "without_part": self.without.iter().map(without).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(|note| json!({ "peer": note.name, "reason": note.reason })).collect::<Vec<_>>(),
        })
    }

    fn text(&self, args: &FaultArgs) -> String {
        let heads = [
            "peer",
            "fault",
            "again",
            "worst",
            "healed",
            "listens",
            "in flight",
            "after",
            "last lost",
            "longest",
            "doubled",
        ];
        let when = if args.down.is_zero() { "at once".to_owned() } else { format!("after {:?}", args.down) };
        let mut text = String::new();
        if !self.rows.is_empty() {
            text += &format!(
                "{} calls per second; killed processes start again {when}, other faults last {:?}; {} times each\n{}\n{LEGEND}",
                args.rate,
                args.lasting,
                args.rounds,
                table_of(&heads, 2, self.rows.iter().map(Row::line))
            );
        }
        text += &vanished::text(&self.vanished);
        for row in &self.rows {
            let mut causes = std::collections::BTreeMap::<String, u64>::new();
            row.good().flat_map(|fault| &fault.recovery.causes).for_each(|(cause, n)| {
                *causes.entry(cause.to_string()).or_default() += n;
            });
            if !causes.is_empty() {
                let causes: Vec<String> = causes.iter().map(|(cause, n)| format!("{n} by {cause}")).collect();
                text += &format!("{}, {}: lost {}\n", row.peer, row.fault(), causes.join(", "));
            }
        }
        for (peer, part) in &self.without {
            text += &format!("{peer}: it has no {}\n", part.name());
        }
        for note in &self.missing {
            text += &format!("{}: {}\n", note.name, note.reason.as_deref().unwrap_or_default());
        }
        text
    }
}
