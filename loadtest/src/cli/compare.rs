//! The command `adit-loadtest compare`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::bench_args::{BenchArgs, BenchError};
use super::load_args::ArrivalArgs;
use super::output::print;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::compare::bench::Bench;
use crate::compare::comparison::{Comparison, Settings};
use crate::compare::cpus::Layout;
use crate::compare::page::html;
use crate::compare::peer::Peer;
use crate::compare::report::Report;
use crate::compare::series::Workload;
use crate::compare::table;
use crate::load::{Call, CallKind, GeneratorSettings, Limits, Load, Mode, Phases, Target};
use crate::run::Interrupt;
use crate::stdio;
use crate::stdio::comparison::StdioSettings;
use crate::units::{bytes, time};

/// The measurement of a peer ends after this time without a successful answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most rounds that can be asked for.
const ROUNDS_MAX: usize = 1000;

/// The command-line flags of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The tunnels to compare, separated by commas [default: all whose programs are installed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Vec<String>,
    /// Number of connections, each with one call in flight; several values, separated by commas, each make a workload
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,64")]
    connections: Vec<usize>,
    /// Bytes of the body of each request and answer; several values, separated by commas, each make a workload
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = bytes, default_value = "1024")]
    payload: Vec<u64>,
    /// Length of each measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    duration: Duration,
    /// Warm-up time before each measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    warm_up: Duration,
    /// Number of measurements for each tunnel and workload
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Calls per second, in an open loop [default: each connection calls again as soon as it is answered]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write an HTML page with charts to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Compare programs that serve a stdio server over HTTP, with calls over its pipes (direct) and to a
    /// server of HTTP (http): direct, http, adit, adit-http, supergateway, mcp-proxy
    #[arg(long, conflicts_with_all = ["payload", "rate", "html", "from"])]
    stdio: bool,
    /// Measure nothing: print the results that --json wrote to this file; with --html, write the page from them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "connections", "payload", "rounds", "rate", "json"])]
    from: Option<PathBuf>,
    #[command(flatten)]
    bench: BenchArgs,
    /// A measurement is void if the p99 of the generator's own lag is larger
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "50us")]
    lag_p99_max: Duration,
    /// A measurement is void if this lag is a larger share of the measured p99
    #[arg(long, value_name = "SHARE", default_value_t = crate::load::LAG_SHARE_MAX)]
    lag_share_max: f64,
    /// A closed-loop measurement is void if a smaller share of its connections has a call in flight on average
    #[arg(long, value_name = "SHARE", default_value_t = crate::compare::series::IN_FLIGHT_MIN)]
    in_flight_min: f64,
}

/// Why the command line is refused.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error(transparent)]
    Peer(#[from] crate::compare::peer::UnknownPeer),
    #[error(transparent)]
    Load(#[from] crate::load::LoadError),
    #[error("{0} rounds: give 1 to {ROUNDS_MAX}")]
    Rounds(usize),
    #[error("{path} cannot be written: {source}; name a file in an existing folder")]
    Output { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bench(#[from] BenchError),
}

pub(super) fn execute(args: &CompareArgs, interrupt: &Interrupt) -> u8 {
    if let Some(path) = &args.from {
        return args.show(path);
    }
    if args.stdio {
        return args.compare_stdio(interrupt).unwrap_or_else(|error| {
            fail(&error);
            EXIT_USAGE
        });
    }
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => {
            fail(&error);
            return EXIT_USAGE;
        }
    };
    let compared = Comparison::new(&settings, interrupt)
        .and_then(|comparison| comparison.run(&mut |report| drop(args.write_json(report))));
    let report = match compared {
        Ok(report) => report,
        Err(error) => return fail(&error),
    };
    print(&table::text(&report));
    let written = args.write(&report);
    match written {
        Err(error) => fail(&error),
        Ok(()) if report.is_good() => 0,
        Ok(()) => EXIT_FAILURE,
    }
}

impl CompareArgs {
    /// Prints the report of an earlier run.
    fn show(&self, path: &Path) -> u8 {
        let report = match Report::read(path) {
            Ok(report) => report,
            Err(error) => return fail(&error),
        };
        print(&table::text(&report));
        match self.write_page(&report) {
            Ok(()) => 0,
            Err(error) => fail(&error),
        }
    }

    fn compare_stdio(&self, interrupt: &Interrupt) -> Result<u8, UsageError> {
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return Err(UsageError::Rounds(self.rounds));
        }
        let bench = self.bench.bench()?;
        let load = self.load(&bench.layout)?;
        for connections in &self.connections {
            Load { connections: *connections, ..load.clone() }.check()?;
        }
        let (peers, in_flight) = (self.peers.clone(), self.connections.clone());
        let settings = StdioSettings { peers, in_flight, rounds: self.rounds, load, bench };
        let (rows, notes) = stdio::comparison::compare(&settings, interrupt);
        print(&stdio::table::text(&rows));
        notes.iter().for_each(|note| print(note));
        if let Some(path) = &self.json {
            let written = replace(path, &format!("{:#}\n", stdio::table::to_json(&rows, &notes)));
            written.map_err(|source| UsageError::Output { path: path.clone(), source })?;
        }
        let is_complete = !rows.is_empty() && notes.iter().all(|note| note.contains("is left out"));
        Ok(if is_complete { 0 } else { EXIT_FAILURE })
    }

    fn settings(&self) -> Result<Settings, UsageError> {
        let names = self.peers.iter().map(|name| name.trim());
        let peers = if self.peers.is_empty() { Peer::all() } else { Peer::named(names)? };
        if !(1..=ROUNDS_MAX).contains(&self.rounds) {
            return Err(UsageError::Rounds(self.rounds));
        }
        let Bench { programs, layout, this } = self.bench.bench()?;
        let settings = Settings {
            peers,
            programs,
            workloads: self.workloads(),
            rounds: self.rounds,
            load: self.load(&layout)?,
            in_flight_min: self.in_flight_min,
            layout,
            this,
            command: command_line(std::env::args()),
        };
        for workload in &settings.workloads {
            let mut load = Load { connections: workload.connections, ..settings.load.clone() };
            load.call.payload = workload.payload;
            load.check()?;
        }
        // Check now rather than after all measurements.
        for path in self.json.iter().chain(&self.html) {
            let opened = fs::OpenOptions::new().create(true).append(true).open(path);
            opened.map_err(|source| UsageError::Output { path: path.clone(), source })?;
        }
        Ok(settings)
    }

    fn workloads(&self) -> Vec<Workload> {
        let all = self.payload.iter().flat_map(|payload| {
            self.connections.iter().map(|connections| Workload { payload: *payload, connections: *connections })
        });
        let mut workloads: Vec<Workload> = all.collect();
        workloads.sort_unstable();
        workloads.dedup();
        workloads
    }

    /// The load, without the values that differ between measurements.
    fn load(&self, layout: &Layout) -> Result<Load, UsageError> {
        let mode = self.rate.map_or(Mode::Closed, |rate| Mode::Open { rate, arrivals: self.arrivals.arrivals() });
        // The target is set for each peer later.
        let target: Target = "http://localhost/mcp".parse()?;
        Ok(Load {
            call: Call { kind: CallKind::McpStateless, ..Call::default() },
            mode,
            phases: Phases { warm_up: self.warm_up, measure: self.duration, ..Phases::default() },
            limits: Limits {
                patience: PATIENCE,
                lag_p99_max: self.lag_p99_max,
                lag_share_max: self.lag_share_max,
                ..Limits::default()
            },
            generator: GeneratorSettings { cpu: layout.generator(), ..GeneratorSettings::default() },
            ..Load::of(target)
        })
    }

    fn write(&self, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
        self.write_json(report)?;
        self.write_page(report)
    }

    fn write_page(&self, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(path) = &self.html {
            let failed = |source| UsageError::Output { path: path.clone(), source };
            replace(path, &html(report)?).map_err(failed)?;
        }
        Ok(())
    }

    fn write_json(&self, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(path) = &self.json {
            replace(path, &format!("{}\n", serde_json::to_string_pretty(report)?))?;
        }
        Ok(())
    }
}

/// Writes a file atomically.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// The command line as entered, with the program's name instead of its path.
fn command_line(args: impl Iterator<Item = String>) -> String {
    let quoted = args.skip(1).map(|arg| {
        let is_plain = !arg.is_empty() && arg.chars().all(|c| c.is_ascii_alphanumeric() || "-_=.,/:@%+".contains(c));
        if is_plain { arg } else { format!("'{}'", arg.replace('\'', r"'\''")) }
    });
    std::iter::once("adit-loadtest".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_typed_again() {
        let args = ["/x/adit-loadtest", "compare", "--peers", "direct,adit", "--html", "my page.html", "it's"];
        let line = command_line(args.into_iter().map(str::to_owned));
        assert_eq!(line, r"adit-loadtest compare --peers direct,adit --html 'my page.html' 'it'\''s'");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("x.json");
        for text in ["a longer text", "short"] {
            replace(&path, text).expect("the file can be written");
            assert_eq!(fs::read_to_string(&path).expect("the file exists"), text);
        }
        assert!(replace(&folder.path().join("none/x.json"), "").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("the folder exists").count(), 1, "nothing is left behind");
    }
}
