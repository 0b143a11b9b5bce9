//! How many cache lines and pages one call touches on each side, when nothing of them is in a cache: with one call in flight a side
//! runs after a CPU has slept or has done other work.
//!
//! Callgrind simulates the caches. The first level has two lines, so that it hides little from the last one. The last
//! level is large and is emptied before each turn of the side, so that it misses each line once in a turn. With lines of 4 KiB,
//! these are pages.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use adit::engine::sim::TurnMoment;

use crate::WARM_UP;
use crate::cases::call;

/// Calls that count.
const CALLS: u32 = 8;
/// The bytes of the last level: more than any turn touches.
const LAST_LEVEL: usize = 1 << 20;
/// The same in pages, as lines of the last level.
const LAST_LEVEL_OF_PAGES: usize = 1 << 24;
/// How the last level is divided.
const WAYS: usize = 16;
const LINE: usize = 64;
const PAGE: usize = 4096;

/// One side of the tunnel, and its place among the cores of the simulation.
#[derive(Clone, Copy)]
pub(crate) enum TunnelSide {
    Edge = 2,
    Connector = 3,
}

const SIDES: [(&str, TunnelSide); 2] = [("edge", TunnelSide::Edge), ("connector", TunnelSide::Connector)];

/// What one call touches on one side.
#[derive(Default)]
struct Touched {
    turns: u64,
    instructions: u64,
    code: u64,
    data: u64,
}

/// Counts both sides and prints a table.
pub(crate) fn print_all() -> io::Result<()> {
    println!(
        "{:<10} {:>6} {:>13} {:>11} {:>11} {:>11} {:>11}",
        "side", "turns", "instructions", "code lines", "data lines", "code pages", "data pages"
    );
    for (name, _) in SIDES {
        let (lines, pages) = (count(name, LINE, LAST_LEVEL)?, count(name, PAGE, LAST_LEVEL_OF_PAGES)?);
        let Touched { turns, instructions, code, data } = lines;
        println!(
            "{name:<10} {turns:>6} {instructions:>13} {code:>11} {data:>11} {:>11} {:>11}",
            pages.code, pages.data
        );
    }
    Ok(())
}

/// Makes calls, and lets callgrind count the turns of this side.
pub(crate) fn run_side(name: &str, last_level: usize, line: usize) {
    let side = SIDES.iter().find(|(known, _)| *known == name).map_or(TunnelSide::Edge, |(_, side)| *side);
    let mut path = call::Path::start();
    let agents = path.connect(1);
    for _ in 0..WARM_UP {
        path.call(&agents);
    }
    // Twice the last level: the rest of it is gone then, also where a set is used unevenly.
    let ballast = vec![1_u8; 2 * last_level];
    path.sim.watch_turns(move |member, moment| {
        if member.nth() != side as u64 {
            return;
        }
        match moment {
            TurnMoment::Begin => {
                empty_caches(&ballast, line);
                turn_begins();
            }
            TurnMoment::End => turn_ends(),
        }
    });
    for _ in 0..CALLS {
        path.call(&agents);
    }
}

/// Reads one byte of each line, in its order.
fn empty_caches(ballast: &[u8], line: usize) {
    let sum: u64 = ballast.iter().step_by(line).map(|byte| u64::from(*byte)).sum();
    black_box(sum);
}

/// Callgrind knows the begin of a turn by this name.
#[inline(never)]
fn turn_begins() {
    black_box(TurnMoment::Begin);
}

/// Callgrind knows the end of a turn by this name.
#[inline(never)]
fn turn_ends() {
    black_box(TurnMoment::End);
}

/// What one call touches on a side, in lines of this length.
fn count(side: &str, line: usize, last_level: usize) -> io::Result<Touched> {
    let folder = tempfile::tempdir()?;
    let first_level = format!("{},2,{line}", 2 * line);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--cache-sim=yes"])
        .arg("--toggle-collect=*engine::executor::Executor::run")
        .args(["--zero-before=*cold::turn_begins", "--dump-before=*cold::turn_ends"])
        .arg(format!("--I1={first_level}"))
        .arg(format!("--D1={first_level}"))
        .arg(format!("--LL={last_level},{WAYS},{line}"))
        .arg(format!("--callgrind-out-file={}", folder.path().join("turn").display()))
        .arg(std::env::current_exe()?)
        .args(["--side", side, &last_level.to_string(), &line.to_string()])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{side} failed under valgrind:\n{stderr}")));
    }
    let mut all = Touched::default();
    for file in fs::read_dir(folder.path())? {
        if let Some(turn) = turn_of(&file?.path())? {
            all.turns += 1;
            all.instructions += turn.instructions;
            all.code += turn.code;
            all.data += turn.data;
        }
    }
    let each = |sum: u64| sum / u64::from(CALLS);
    Ok(Touched {
        turns: each(all.turns),
        instructions: each(all.instructions),
        code: each(all.code),
        data: each(all.data),
    })
}

/// The costs of one turn, if the file is of one.
fn turn_of(file: &Path) -> io::Result<Option<Touched>> {
    let text = fs::read_to_string(file)?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let is_turn = field("desc: Trigger: ").is_some_and(|trigger| trigger.contains("turn_ends"));
    let (Some(events), Some(totals), true) = (field("events: "), field("totals: "), is_turn) else { return Ok(None) };
    let costs: Vec<u64> = totals.split_whitespace().filter_map(|cost| cost.parse().ok()).collect();
    let cost = |event: &str| {
        let at = events.split_whitespace().position(|known| known == event);
        at.and_then(|at| costs.get(at)).copied().unwrap_or_default()
    };
    Ok(Some(Touched { turns: 1, instructions: cost("Ir"), code: cost("ILmr"), data: cost("DLmr") + cost("DLmw") }))
}
