//! The real thing on real sockets of this machine: the engine, edge and connector in this process, and the program as people
//! run it. `cargo test --test loopback guard::` runs one part.
//!
//! One binary, as each that holds all of adit takes seconds to link.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bridge;
mod browsers;
mod budgets;
mod ceilings;
mod clients;
mod cloudflared;
mod cloudflared_edge;
mod config_files;
mod conformance;
mod dashboard;
mod drivers;
mod endings;
mod engine;
mod fetched;
mod free_address;
mod front;
mod guard;
mod hedges;
mod http2;
mod identity;
mod many_cores;
mod no_ring;
mod openapi;
mod overload;
mod packages;
mod plain_http;
mod policy;
mod presets;
mod process;
mod raw;
mod sanitise;
mod sealed;
mod service_manager;
mod sessions;
mod stdio;
mod support;
mod tools;
mod transparency;
mod tunnel_processes;
mod tunnels;
mod up;
