//! `compare`: the same load on several tunnels, interleaved, so that what differs is theirs.

mod charts;
pub(crate) mod comparison;
pub(crate) mod cpus;
mod host;
pub(crate) mod launch;
pub(crate) mod page;
pub(crate) mod peer;
mod plan;
mod process;
pub(crate) mod programs;
pub(crate) mod report;
mod rows;
#[cfg(test)]
mod sample;
pub(crate) mod series;
mod site;
pub(crate) mod table;
mod tunnel;
