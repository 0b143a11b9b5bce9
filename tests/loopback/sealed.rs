//! Sealed traffic: who can read what, who believes whom, and that calls cross it whole.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "sealed/blind.rs"]
mod blind;
#[path = "sealed/link.rs"]
mod link;
#[path = "up/process.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod process;
#[path = "sealed/sessions.rs"]
mod sessions;
#[path = "sealed/site.rs"]
mod site;
#[allow(dead_code, reason = "other tests need more of it")]
mod support;
