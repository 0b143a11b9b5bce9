//! The flags of the commands that start tunnels themselves.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::compare::bench::Bench;
use crate::compare::cpus::{CpuList, Layout};
use crate::compare::launch::keep_to;
use crate::compare::programs::Programs;

/// The paths of programs, and the CPUs on which they run.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// The path of a program, or the folder of a peer's programs; may be repeated
    #[arg(long = "peer-bin", value_name = "NAME=PATH", value_parser = name_and_path)]
    peer_bins: Vec<(String, PathBuf)>,
    /// The CPUs for the peers [default: the last one]
    #[arg(long, value_name = "CPUS")]
    sut_cpus: Option<CpuList>,
    /// The CPUs for the generator and the upstream [default: the first one]
    #[arg(long, value_name = "CPUS")]
    load_cpus: Option<CpuList>,
    /// Pin no process to a CPU
    #[arg(long)]
    no_pin: bool,
}

/// Why the test environment cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    #[error("CPUs {cpus} cannot be used: {source}; name CPUs that this machine has, or give --no-pin")]
    Cpus { cpus: CpuList, source: rustix::io::Errno },
    #[error("the path of this program is unknown: {0}")]
    This(io::Error),
}

impl BenchArgs {
    /// The environment that these flags describe. Pins the calling thread, which will run the load.
    pub(crate) fn bench(&self) -> Result<Bench, BenchError> {
        let this = std::env::current_exe().map_err(BenchError::This)?;
        let allowed = adit::engine::cpus_allowed().unwrap_or_default();
        let layout = Layout::new(self.load_cpus.clone(), self.sut_cpus.clone(), !self.no_pin, &allowed);
        if let Some(cpus) = &layout.load {
            keep_to(cpus).map_err(|source| BenchError::Cpus { cpus: cpus.clone(), source })?;
        }
        Ok(Bench { programs: Programs::new(self.peer_bins.iter().cloned(), &this), layout, this })
    }
}

fn name_and_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), PathBuf::from(path))),
        _ => Err(format!("'{text}' is not a program: write NAME=PATH, such as frp=/opt/frp")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_given_by_name() {
        assert_eq!(name_and_path("frp=/opt/a=b"), Ok(("frp".to_owned(), PathBuf::from("/opt/a=b"))));
        for text in ["", "frp", "=x", "frp="] {
            assert!(name_and_path(text).is_err(), "{text}");
        }
    }
}
