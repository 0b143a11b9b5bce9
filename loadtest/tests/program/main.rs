//! The verbs of `adit-loadtest` with real processes. They are one binary, so that they run at the same time: most of them wait for far
//! longer than they compute.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

// Of `guard`. Tests start in the order of their names: this one takes the longest, and begins first.
mod agents;
mod common;
mod compare;
mod fault;
mod idle;
mod run;
mod storm;
