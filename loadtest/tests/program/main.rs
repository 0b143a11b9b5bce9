//! The verbs of `adit-loadtest` with real processes. They are one binary, so that they run at the same time: most of them wait for far
//! longer than they compute.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

// Of `guard` and `storm`. Tests start in the order of their names: these take the longest, and begin first.
mod agents;
mod agents_storm;
mod common;
mod compare;
mod fault;
mod idle;
mod run;
