//! The benchmark harness for tunnel overhead, of any tunnel: a load generator that tells the truth, and an upstream that
//! is never the bottleneck.
//!
//! The library is what the program `adit-loadtest` is made of, for those who want to compose runs of their own: describe a
//! [`Load`], say which processes to watch, and [`run`] it for an [`Outcome`].

pub mod cli;
mod interrupt;
pub mod latencies;
pub mod load;
pub mod outcome;
pub mod plan;
pub mod run;
pub mod slo;
pub mod watch;

pub use latencies::Latencies;
pub use load::Load;
pub use outcome::Outcome;
pub use run::{Interrupt, Progress, RunError, run, run_observed};
pub use watch::Watched;
