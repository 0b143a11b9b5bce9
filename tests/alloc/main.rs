//! What allocates nothing once it is warm: counted, not believed. A binary of its own, for its allocator.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod arguments;
mod call;
mod counting;
mod drivers;
mod figures;
mod link;
mod records;
#[path = "../loopback/support.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod support;
mod tls_pair;
