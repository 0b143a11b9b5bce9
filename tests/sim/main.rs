//! The real roles on the simulated network, from seeds: the same every time. `cargo test --test sim tunnel::` runs one part.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod audits;
mod bodies;
mod breakers;
mod broken_streams;
mod budgets;
mod crowd;
mod deadlines;
mod drains;
mod endings;
mod figures;
mod hedges;
mod hosts;
mod http2;
mod labels;
mod link;
mod overload;
mod roles;
mod sealed;
mod sessions;
mod stalls;
mod stdio;
mod timers;
mod tool_calls;
mod traffic;
mod trust;
mod tunnel;
mod unsent;
