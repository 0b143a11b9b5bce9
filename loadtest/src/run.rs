//! Runs a load.

use std::time::Duration;

use crate::load::{Load, LoadError};
use crate::outcome::Outcome;
use crate::watch::Watched;

pub use crate::interrupt::Interrupt;

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Connections and sessions are made.
    #[default]
    Connect,
    /// Calls are made and not counted.
    WarmUp,
    /// Calls are counted.
    Measure,
    /// What is in flight may end.
    Drain,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub elapsed: Duration,
    /// Good calls in the measured time so far.
    pub calls: u64,
    /// Failed calls in the measured time so far.
    pub failed: u64,
}

/// Why a run could not begin. What happens later is in [`Outcome::partial`].
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The load itself is at fault.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The host has no address.
    #[error(
        "the host {host} cannot be resolved ({reason}): check its spelling and this machine's DNS, or give --resolve-to"
    )]
    Resolve {
        /// The host.
        host: String,
        /// In the system's words.
        reason: String,
    },
}

/// Runs a load and watches some processes meanwhile. Returns when it is over.
///
/// # Errors
///
/// When it could not begin.
pub fn run(load: &Load, watched: &Watched) -> Result<Outcome, RunError> {
    run_observed(load, watched, &Interrupt::new(), &mut |_| {})
}

/// As [`run`], until it is interrupted, telling now and then how far it has come.
///
/// # Errors
///
/// When it could not begin.
pub fn run_observed(
    load: &Load,
    _watched: &Watched,
    _interrupt: &Interrupt,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Outcome, RunError> {
    load.check()?;
    observer(&Progress::default());
    let host = load.target.host_name().to_owned();
    Err(RunError::Resolve { host, reason: "the generator is not there yet".to_owned() })
}
