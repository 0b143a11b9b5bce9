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
use crate::support::{Tunnel, call_with};

const SESSION: &str = "Mcp-Session-Id: the-session\r\n";
const TIMEOUT: &str = "X-Request-Timeout: 60\r\n";
const TRACE: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";

#[test]
fn a_call_allocates_nothing_on_a_core() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, fields) in Traffic::ALL.map(|traffic| (traffic, "")).into_iter().chain([
            (Traffic::Plain, SESSION),
            (Traffic::Plain, TRACE),
            (Traffic::Passthrough, TRACE),
        ]) {
            let (counted, calls) = allocations_of_warm_calls(driver, traffic, fields, GuardMode::Observe);
            assert_eq!(counted, 0, "{driver:?}, {traffic}, {fields:?}: allocations in {calls} calls");
        }
    }
}

#[test]
fn a_call_whose_guards_are_all_enforced_allocates_nothing_on_a_core() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for (traffic, fields) in Traffic::ALL.map(|traffic| (traffic, TIMEOUT)).into_iter().chain([
            (Traffic::Plain, ""),
            (Traffic::Plain, SESSION),
            (Traffic::Plain, TRACE),
            (Traffic::Passthrough, TRACE),
        ]) {
            let (counted, calls) = allocations_of_warm_calls(driver, traffic, fields, GuardMode::Enforce);
            assert_eq!(counted, 0, "{driver:?}, {traffic}, {fields:?}: allocations in {calls} calls");
        }
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
            let govern = |tunnel: &Tunnel| tunnel.govern(at_edge, &policy);
            let (counted, calls) = allocations_of_calls_through(driver, traffic, "", govern);
            assert_eq!(counted, 0, "{driver:?}, {traffic}, at_edge={at_edge}: allocations in {calls} calls");
        }
    }
}

fn allocations_of_warm_calls(driver: DriverChoice, traffic: Traffic, fields: &str, mode: GuardMode) -> (u64, u32) {
    allocations_of_calls_through(driver, traffic, fields, |tunnel| tunnel.set_guards(mode))
}

fn allocations_of_calls_through(
    driver: DriverChoice,
    traffic: Traffic,
    fields: &str,
    set_up: impl Fn(&Tunnel),
) -> (u64, u32) {
    // Leaked, as a thread that ends may still count in it.
    let on_core: &'static AtomicU64 = Box::leak(Box::default());
    let tunnel = Tunnel::start(driver, traffic, 1, 0, move || count_in(on_core));
    set_up(&tunnel);
    let mut agent = tunnel.agent();
    // A stream that carries all calls comes to its first credit after about 2,000 of them.
    let warm = if traffic == Traffic::Plain { 300 } else { 2_000 };
    (0..warm).for_each(|_| call_with(&mut agent, fields));
    let before = on_core.load(Ordering::Relaxed);
    let calls = 1000;
    (0..calls).for_each(|_| call_with(&mut agent, fields));
    let counted = on_core.load(Ordering::Relaxed) - before;
    drop(agent);
    tunnel.end();
    (counted, calls)
}
