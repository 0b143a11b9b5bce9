//! Formats what the admin API says about calls.

pub(super) use crate::base::{is_seen, printable as plain, printable_quoted as plain_quoted};
use crate::control::bodies::{BreakerStateName, CallStageName, GuardModeName};

/// Stands for a value that does not exist.
pub(super) const NONE: &str = "-";

/// Milliseconds, with three significant digits.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// The mode of deadlines, breakers and concurrency limits.
pub(super) const fn mode_name(mode: GuardModeName) -> &'static str {
    match mode {
        GuardModeName::Off => "off",
        GuardModeName::Observe => "observe",
        GuardModeName::Enforce => "enforce",
    }
}

/// The state of a breaker.
pub(super) const fn breaker_state(state: BreakerStateName) -> &'static str {
    match state {
        BreakerStateName::Closed => "closed",
        BreakerStateName::Open => "open",
        BreakerStateName::HalfOpen => "half open",
        BreakerStateName::ForcedOpen => "open (forced)",
        BreakerStateName::ForcedClosed => "closed (forced)",
    }
}

/// The stage at which a call stopped.
pub(super) const fn stopped(stage: CallStageName) -> &'static str {
    match stage {
        CallStageName::Accept => "accept",
        CallStageName::Tls => "tls",
        CallStageName::Request => "request",
        CallStageName::Admission => "admission",
        CallStageName::Route => "route",
        CallStageName::Breaker => "breaker",
        CallStageName::Concurrency => "concurrency",
        CallStageName::Policy => "policy",
        CallStageName::Link => "link",
        CallStageName::Connector => "connector",
        CallStageName::Upstream => "server",
        CallStageName::Caller => "agent",
        CallStageName::Done => NONE,
    }
}
