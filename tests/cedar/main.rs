//! Policies in Cedar on real sockets. A binary of its own, as only it needs the feature `cedar`, with which every crate that
//! depends on `serde_json` is built again.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cedar_calls;
#[path = "../loopback/free_address.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod free_address;
#[path = "../loopback/process.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod process;
#[path = "../loopback/support.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod support;
#[path = "../loopback/policy/tool_server.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod tool_server;
#[path = "../loopback/tunnel_processes.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod tunnel_processes;

use tool_server::{Got, ask, names, serve};
