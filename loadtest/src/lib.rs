//! The benchmark harness for the overhead of any tunnel: a load generator without coordinated omission, and an upstream
//! that is never the bottleneck.
//!
//! The library behind the program `adit-loadtest`, for custom runs: describe a [`Load`], name the processes to watch,
//! and [`run()`] it for an [`Outcome`].

mod answer;
pub mod bulk;
mod check;
pub mod cli;
pub(crate) mod compare;
mod core_thread;
mod dial;
mod events;
pub mod fault;
pub mod files;
mod generator;
pub(crate) mod guard;
pub mod idle;
mod interrupt;
pub mod latencies;
pub mod load;
pub mod memory;
mod monitor;
pub mod outcome;
mod pattern;
pub mod plan;
mod request;
pub mod run;
pub mod search;
pub mod serve;
pub mod slo;
pub mod split;
pub(crate) mod stdio;
pub(crate) mod storm;
mod target;
pub mod units;
pub mod watch;

pub use latencies::Latencies;
pub use load::Load;
pub use outcome::Outcome;
pub use run::{Interrupt, Progress, RunError, run, run_observed, run_together};
pub use watch::Watched;
