//! A whole call, from an agent over TLS through edge, link and connector to an upstream, allocates nothing on a core's
//! thread, once the connections are warm.
//!
//! Counted on the core's thread; agent and upstream are on other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit::base::{GuardMode, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::policy::ToolPolicy;

use crate::counting::count_in;
use crate::support::{Agent, Tunnel, call_with};

const SESSION: &str = "Mcp-Session-Id: the-session\r\n";
const TIMEOUT: &str = "X-Request-Timeout: 60\r\n";
const TRACE: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
/// A stream that carries all calls comes to its first credit after about 2,000 of them.
const STREAM_WARM: u32 = 1_700;
/// Calls after a change, before any is counted.
const CASE_WARM: u32 = 200;
/// Calls that are counted in each case.
const COUNTED: u32 = 400;

#[test]
fn a_plain_call_allocates_nothing_on_a_core() {
    allocates_nothing(Traffic::Plain, &["", SESSION, TRACE], &[TIMEOUT, "", SESSION, TRACE]);
}

#[test]
fn a_resealed_call_allocates_nothing_on_a_core() {
    allocates_nothing(Traffic::Resealed, &[""], &[TIMEOUT]);
}

#[test]
fn a_call_that_is_passed_through_allocates_nothing_on_a_core() {
    allocates_nothing(Traffic::Passthrough, &["", TRACE], &[TIMEOUT, TRACE]);
}

/// Tries these fields with guards that observe, and those with guards that are all enforced.
fn allocates_nothing(traffic: Traffic, observed: &[&str], enforced: &[&str]) {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let mut warm = WarmTunnel::start(driver, traffic);
        for (mode, all) in [(GuardMode::Observe, observed), (GuardMode::Enforce, enforced)] {
            warm.tunnel.set_guards(mode);
            for fields in all {
                let counted = warm.allocations_of_calls(fields);
                assert_eq!(counted, 0, "{driver:?}, {traffic}, {mode:?}, {fields:?}: allocations in {COUNTED} calls");
            }
        }
        warm.end();
    }
}

#[test]
fn a_call_that_rules_of_lists_allow_allocates_nothing_on_a_core() {
    let rules = "[[role]]\nname = 'near'\nnetworks = ['127.0.0.0/8']\n\
                 [[rule]]\neffect = 'deny'\ntools = ['drop_*', 'delete']\n\
                 [[rule]]\neffect = 'allow'\ntools = ['*']\nroles = ['near']\n";
    let policy = Arc::new(ToolPolicy::parse(rules).unwrap());
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, at_edge) in
            Traffic::ALL.map(|traffic| (traffic, false)).into_iter().chain([(Traffic::Plain, true)])
        {
            let mut warm = WarmTunnel::start(driver, traffic);
            warm.tunnel.govern(at_edge, &policy);
            let counted = warm.allocations_of_calls("");
            assert_eq!(counted, 0, "{driver:?}, {traffic}, at_edge={at_edge}: allocations in {COUNTED} calls");
            warm.end();
        }
    }
}

/// A tunnel whose stream has carried many calls, and an agent.
struct WarmTunnel {
    tunnel: Tunnel,
    agent: Agent,
    on_core: &'static AtomicU64,
}

impl WarmTunnel {
    fn start(driver: DriverChoice, traffic: Traffic) -> WarmTunnel {
        // Leaked, as a thread that ends may still count in it.
        let on_core: &'static AtomicU64 = Box::leak(Box::default());
        let tunnel = Tunnel::start(driver, traffic, 1, 0, move || count_in(on_core));
        let mut agent = tunnel.agent();
        if traffic != Traffic::Plain {
            (0..STREAM_WARM).for_each(|_| call_with(&mut agent, ""));
        }
        WarmTunnel { tunnel, agent, on_core }
    }

    /// What is asked for on the core in so many calls, after others of the same kind.
    fn allocations_of_calls(&mut self, fields: &str) -> u64 {
        (0..CASE_WARM).for_each(|_| call_with(&mut self.agent, fields));
        let before = self.on_core.load(Ordering::Relaxed);
        (0..COUNTED).for_each(|_| call_with(&mut self.agent, fields));
        self.on_core.load(Ordering::Relaxed) - before
    }

    fn end(self) {
        drop(self.agent);
        self.tunnel.end();
    }
}
