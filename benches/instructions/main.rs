//! How many instructions the parts need that every call goes through, and a whole call without the kernel: a figure that
//! does not depend on what else the machine does, and so can fail a build.
//!
//! ```sh
//! cargo bench --profile instructions --bench instructions              # compares with baseline.toml
//! cargo bench --profile instructions --bench instructions -- --renew   # writes baseline.toml
//! cargo bench --profile instructions --bench instructions -- --cold    # what one call touches (`cold.rs`)
//! cargo bench --profile instructions --bench instructions -- --governance   # what policies and the audit log cost
//! ```
//!
//! Each case runs alone in a process of its own under valgrind's callgrind, which counts its work and not its set-up.
//! For a call that is what tasks do on the cores of edge, connector, agents and upstream.
//! A change of more than 3 % either way fails where CPU model, compiler and valgrind are the baseline's, and is only
//! told elsewhere. Valgrind shows programs a CPU without AVX-512, so that the cryptography takes its AVX2 code: the
//! figures of `records` tell of changes in our code, not of its speed.

mod baseline;
mod callgrind;
#[path = "../cases/mod.rs"]
mod cases;
mod cold;
mod verdict;

use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use baseline::{Baseline, Host};
use cases::{CASES, Case, GOVERNANCE};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs of the work before those that count: until then it allocates, grows and learns.
const WARM_UP: u32 = 100;
/// Runs of the work that count.
const COUNTED: u32 = 128;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False when the gate is shut.
fn run(arguments: &[String]) -> io::Result<bool> {
    if let [flag, name] = arguments
        && flag == "--case"
    {
        let case = CASES.iter().chain(GOVERNANCE).find(|case| case.name == name);
        callgrind::run_case(case.ok_or_else(|| io::Error::other(format!("there is no case '{name}'")))?);
        return Ok(true);
    }
    if let [flag, side, last_level, line] = arguments
        && flag == "--side"
    {
        let number = |text: &str| text.parse().map_err(io::Error::other);
        cold::run_side(side, number(last_level)?, number(line)?);
        return Ok(true);
    }
    if arguments.iter().any(|argument| argument == "--cold") {
        return cold::print_all().map(|()| true);
    }
    if arguments.iter().any(|argument| argument == "--governance") {
        count_all(GOVERNANCE)?.iter().for_each(|(name, count)| println!("{name:<32} {count:>12}"));
        return Ok(true);
    }
    let host = Host::of_this_machine()?;
    let counts = count_all(CASES)?;
    if arguments.iter().any(|argument| argument == "--renew") {
        counts.iter().for_each(|(name, count)| println!("{name:<32} {count:>12}"));
        Baseline::new(host, &counts).write()?;
        return Ok(true);
    }
    let baseline = Baseline::read()?;
    let verdicts = verdict::judge(&counts, &baseline.instructions);
    verdict::print(&verdicts);
    let changed = verdicts.iter().filter(|verdict| verdict.is_change()).count();
    if changed == 0 {
        return Ok(true);
    }
    let binds = baseline.host == host;
    println!("{changed} of {} changed by more than {} %.", verdicts.len(), verdict::CHANGE_MAX_PERCENT);
    if binds {
        println!(
            "Mend what costs more; if it is worth its cost, or costs less, renew the baseline in the same commit:"
        );
        println!("    cargo bench --profile instructions --bench instructions -- --renew");
    } else {
        println!("Only told, as this is not where the baseline was taken: {host} here, {} there.", baseline.host);
    }
    Ok(!binds)
}

/// Counts every one of these cases, on as many CPUs as there are: that changes no count.
fn count_all(cases: &'static [Case]) -> io::Result<Vec<(&'static str, u64)>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mine = std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.map(|case| Ok((case.name, callgrind::count(case.name)?))).collect::<io::Result<Vec<_>>>()
    };
    let counted = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(worker)).collect();
        let join = |worker: ScopedJoinHandle<'_, _>| worker.join().expect("counting does not panic");
        workers.into_iter().map(join).collect::<io::Result<Vec<_>>>()
    });
    Ok(counted?.into_iter().flatten().collect())
}
