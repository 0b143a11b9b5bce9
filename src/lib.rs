//! adit: a tunnel through which AI agents reach private MCP servers with no inbound port.
//!
//! The program uses [`cli`] alone. With the feature `internals` all modules are public, for the tests, the benches and
//! `adit-loadtest`; without it the compiler sees what the program does not use, and `.ci/run` fails on that.

#![cfg_attr(
    not(feature = "internals"),
    allow(
        unreachable_pub,
        unused_imports,
        reason = "modules say `pub` for what others may use, as if they were public"
    )
)]

#[cfg(all(test, not(all(feature = "demo", feature = "sim"))))]
compile_error!("the tests need the features `demo` and `sim`, which are on by default");

pub mod cli;

#[cfg(not(feature = "internals"))]
mod audit;
#[cfg(feature = "internals")]
pub mod audit;
#[cfg(not(feature = "internals"))]
mod base;
#[cfg(feature = "internals")]
pub mod base;
#[cfg(not(feature = "internals"))]
mod bridge;
#[cfg(feature = "internals")]
pub mod bridge;
#[cfg(not(feature = "internals"))]
mod config;
#[cfg(feature = "internals")]
pub mod config;
#[cfg(not(feature = "internals"))]
mod connector;
#[cfg(feature = "internals")]
pub mod connector;
#[cfg(not(feature = "internals"))]
mod control;
#[cfg(feature = "internals")]
pub mod control;
#[cfg(not(feature = "internals"))]
mod dial;
#[cfg(feature = "internals")]
pub mod dial;
#[cfg(not(feature = "internals"))]
mod edge;
#[cfg(feature = "internals")]
pub mod edge;
#[cfg(not(feature = "internals"))]
mod engine;
#[cfg(feature = "internals")]
pub mod engine;
#[cfg(not(feature = "internals"))]
mod exchange;
#[cfg(feature = "internals")]
pub mod exchange;
#[cfg(not(feature = "internals"))]
mod http2;
#[cfg(feature = "internals")]
pub mod http2;
#[cfg(not(feature = "internals"))]
mod identity;
#[cfg(feature = "internals")]
pub mod identity;
#[cfg(not(feature = "internals"))]
mod latency;
#[cfg(feature = "internals")]
pub mod latency;
#[cfg(not(feature = "internals"))]
mod link;
#[cfg(feature = "internals")]
pub mod link;
#[cfg(not(feature = "internals"))]
mod policy;
#[cfg(feature = "internals")]
pub mod policy;
#[cfg(not(feature = "internals"))]
mod private;
#[cfg(feature = "internals")]
pub mod private;
#[cfg(not(feature = "internals"))]
mod process;
#[cfg(feature = "internals")]
pub mod process;
#[cfg(not(feature = "internals"))]
mod quic;
#[cfg(feature = "internals")]
pub mod quic;
#[cfg(not(feature = "internals"))]
mod route;
#[cfg(feature = "internals")]
pub mod route;
#[cfg(not(feature = "internals"))]
mod serve;
#[cfg(feature = "internals")]
pub mod serve;
#[cfg(not(feature = "internals"))]
mod stdio;
#[cfg(feature = "internals")]
pub mod stdio;
#[cfg(not(feature = "internals"))]
mod tls;
#[cfg(feature = "internals")]
pub mod tls;
#[cfg(not(feature = "internals"))]
mod upstream;
#[cfg(feature = "internals")]
pub mod upstream;
#[cfg(not(feature = "internals"))]
mod wire;
#[cfg(feature = "internals")]
pub mod wire;
