//! The same hop on four engines: TLS 1.3 from the agent ends in it, plain TCP goes on to the upstream.
//!
//! ```sh
//! cargo bench --manifest-path benches/apart/Cargo.toml --bench hop -- [--seconds 1] [--rounds 7] [--only uring,epoll,tokio,…]
//! ```
//!
//! This is why adit has an engine of its own, or why it should not: each row is printed against ours, and below it where
//! a rival is ahead. Load and upstream share one thread on the first CPU, and are tokio's, so that the ruler is not ours.
//! Each hop is one thread of a process of its own on the last CPU. All have the same certificate, suites, allocator and
//! buffers of 64 KiB; none has TCP delay. Rounds are interleaved, and reversed each other time; medians are printed.

mod client;
mod figures;
mod hops;
mod on_adit;
mod on_monoio;
mod on_tokio;
mod on_tokio_uring;
mod place;
#[path = "../../process/mod.rs"]
mod process;
mod upstream;

use std::io;
use std::time::Duration;

use client::Client;
use figures::{Figures, Round, print_losses, print_row};
use hops::{HOPS, Hop};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is asked of every hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) connections: usize,
    pub(crate) response_len: usize,
}

const ROWS: [Row; 4] = [
    Row { connections: 1, response_len: 1024 },
    Row { connections: 64, response_len: 1024 },
    Row { connections: 1, response_len: 64 * 1024 },
    Row { connections: 1, response_len: 1024 * 1024 },
];

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--serve") {
        return place::serve(&arguments[at + 1..]);
    }
    let options = Options::of(&arguments)?;
    let cpus = adit::engine::cpus_allowed()?;
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    adit::engine::pin_to_cpu(first)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compare(&options, first, last))
}

async fn compare(options: &Options, first: usize, last: usize) -> io::Result<()> {
    let upstream = upstream::start().await?;
    let secrets = place::Secrets::issue()?;
    let client = Client::new(&secrets)?;
    let mut hops = Vec::new();
    for name in HOPS.iter().map(|(name, _)| *name).filter(|name| options.wants(name)) {
        match Hop::start(name, upstream, last, &secrets) {
            Ok(hop) => hops.push(hop),
            // Where rings are forbidden, for one.
            Err(error) => println!("{name}: left out, {error}"),
        }
    }
    println!(
        "load and upstream on CPU {first}, the hop on CPU {last}; {} rounds of {:?}",
        options.rounds, options.time
    );
    if first == last {
        println!("there is only one CPU: latencies are those of a shared one");
    }
    for row in ROWS {
        let mut rounds = Vec::new();
        for nth in 0..options.rounds {
            rounds.push(round(&hops, &client, row, options.time, nth % 2 == 1).await?);
        }
        print_row(row, &hops, &rounds);
        print_losses(&hops, &rounds);
    }
    Ok(())
}

/// Measures every hop once, in order or in reverse; the figures are in order.
async fn round(hops: &[Hop], client: &Client, row: Row, time: Duration, reverse: bool) -> io::Result<Round> {
    let mut round = vec![Figures::default(); hops.len()];
    for step in 0..hops.len() {
        let at = if reverse { hops.len() - 1 - step } else { step };
        round[at] = client.measure(&hops[at], row, time).await?;
    }
    Ok(round)
}

struct Options {
    rounds: usize,
    time: Duration,
    only: Option<Vec<String>>,
}

impl Options {
    fn of(arguments: &[String]) -> io::Result<Options> {
        let value = |name: &str| arguments.iter().position(|it| it == name).and_then(|at| arguments.get(at + 1));
        let number = |name: &str, default: f64| match value(name).map(|text| text.parse::<f64>()) {
            None => Ok(default),
            Some(Ok(number)) if number > 0.0 && number < 1e6 => Ok(number),
            Some(_) => Err(io::Error::other(format!("{name} wants a number above 0"))),
        };
        let only = value("--only").map(|names| names.split(',').map(str::to_owned).collect::<Vec<_>>());
        if let Some(stranger) = only.iter().flatten().find(|name| !HOPS.iter().any(|(known, _)| known == name)) {
            let known: Vec<&str> = HOPS.iter().map(|(name, _)| *name).collect();
            return Err(io::Error::other(format!("there is no hop '{stranger}'; there are {}", known.join(", "))));
        }
        let rounds = number("--rounds", 7.0)?.ceil() as usize;
        Ok(Options { rounds, time: Duration::from_secs_f64(number("--seconds", 1.0)?), only })
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == name))
    }
}
