//! `compare`: the same load on several tunnels, interleaved, so that differences are those of the tunnels. Also starts
//! tunnels for the commands that test them one by one.

pub(crate) mod bench;
pub(crate) mod black_hole;
mod charts;
pub(crate) mod comparison;
pub(crate) mod cpus;
pub(crate) mod host;
pub(crate) mod launch;
pub(crate) mod page;
pub(crate) mod peer;
mod plan;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod report;
mod rows;
#[cfg(test)]
mod sample;
pub(crate) mod series;
pub(crate) mod site;
pub(crate) mod striking;
pub(crate) mod table;
pub(crate) mod tunnel;
pub(crate) mod upstream;
pub(crate) mod vanishing;
