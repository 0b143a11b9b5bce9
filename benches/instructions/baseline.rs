//! The committed figures, and the machine that they are of.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::callgrind;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.toml");
const HEADER: &str = "# Instructions of one run of each case. Written by `cargo bench --profile instructions --bench instructions -- --renew`.\n";

/// What counts depend on besides the code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    cpu: String,
    rustc: String,
    valgrind: String,
}

/// The committed figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    pub(crate) host: Host,
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Host {
    pub(crate) fn of_this_machine() -> io::Result<Host> {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        Ok(Host {
            cpu: cpu_of(&fs::read_to_string("/proc/cpuinfo")?),
            rustc: first_line(&rustc, "--version", "install Rust")?,
            valgrind: callgrind::version()?,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.cpu, self.rustc, self.valgrind)
    }
}

impl Baseline {
    pub(crate) fn new(host: Host, counts: &[(&str, u64)]) -> Baseline {
        Baseline { host, instructions: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect() }
    }

    pub(crate) fn read() -> io::Result<Baseline> {
        let text = fs::read_to_string(FILE).map_err(|error| io::Error::other(format!("{FILE}: {error}")))?;
        toml::from_str(&text).map_err(|error| io::Error::other(format!("{FILE}: {error}")))
    }

    pub(crate) fn write(&self) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        fs::write(FILE, format!("{HEADER}{text}"))?;
        println!("written to {FILE}");
        Ok(())
    }
}

/// The first CPU's model; its name alone is shared by generations.
fn cpu_of(cpuinfo: &str) -> String {
    let field = |name: &str| {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next().unwrap_or("unknown")
    };
    format!("{}, family {}, model {}", field("model name"), field("cpu family"), field("model"))
}

/// What a program says of itself.
pub(crate) fn first_line(program: &str, argument: &str, remedy: &str) -> io::Result<String> {
    let output = Command::new(program).arg(argument).output();
    let output = output.map_err(|error| io::Error::other(format!("{program} cannot be run; {remedy}: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
}
