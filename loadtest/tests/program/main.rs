//! The verbs of `adit-loadtest` with real processes. They are one binary, so that they run at the same time: most of them wait for far
//! longer than they compute.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;
mod compare;
mod fault;
mod guard;
mod idle;
mod run;
mod storm;
