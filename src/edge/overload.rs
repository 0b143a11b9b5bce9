//! How many calls of a route are in flight at one time: a call asks for a place before it is opened, and says at its end how long it
//! took.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{GuardMode, Time};
use crate::edge::edge_core::EdgeCore;
use crate::edge::route_limits::{CallPlace, PlaceAsked, RouteLimit};
use crate::edge::shared::Counters;
use crate::latency::{AskingCall, CallPhases, LabelId, Outcome, Recorder, Served, StatusClass, UsualLatency};
use crate::policy::{Source, SourceKey};
use crate::route::Route;
use crate::serve::{Request, has_answer};
use crate::wire::http1::{Method, RequestHead};
use crate::wire::mcp::{self, Call};

/// What a server answers that has too many calls (RFC 6585, section 4; RFC 9110, section 15.6.4).
const OVERLOADED: [u16; 2] = [429, 503];

/// What becomes of a call.
pub(super) enum Entry {
    /// It goes on, with a place if it needs one.
    Enters(Option<CallPlace>),
    /// It has to wait for a place, or gets none.
    Full(Full),
}

/// A route that had no place for a call at once.
pub(super) struct Full {
    of: Arc<RouteLimit>,
    agent: u64,
}

/// A call gets a place, if there is one at once. Streams of events last as long as their agents want, and need none.
pub(super) fn enter(core: &EdgeCore, request: &RequestHead, route: &Route, source: &Source) -> Entry {
    let terms = route.own.concurrency_terms(&core.edge.settings.concurrency);
    if terms.mode == GuardMode::Off || request.method() != Method::Post || mcp::asks_for_stream(request) {
        return Entry::Enters(None);
    }
    let Some(of) = core.limits.of(&core.edge.limits, &route.name, core.tables.version()) else {
        Counters::add(&core.edge.counters.calls_unlimited);
        return Entry::Enters(None);
    };
    let agent = source.address.map_or(0, |address| SourceKey::of(address).get());
    match of.admit(&core.core, agent, &terms) {
        Some(place) => Entry::Enters(Some(place)),
        None => Entry::Full(Full { of, agent }),
    }
}

impl Full {
    /// Asks for a place, of which the call may have so much time to wait.
    pub(super) fn ask(
        &self,
        core: &EdgeCore,
        request: &mut impl Request,
        route: &Route,
        left: Option<Duration>,
    ) -> PlaceAsked {
        let terms = route.own.concurrency_terms(&core.edge.settings.concurrency);
        let now = core.core.turn_time();
        let needs = usual(core, request, route).map(|usual| usual.p50);
        let call = AskingCall { agent: self.agent, ends: left.map(|left| now + left), needs };
        self.of.ask(&core.core, &call, &terms)
    }
}

/// How long calls of its label take, if its label is known by now, and they are.
fn usual(core: &EdgeCore, request: &mut impl Request, route: &Route) -> Option<UsualLatency> {
    let call = request.label()?.call();
    let (method, tool) = (call.method()?, call.tool().unwrap_or_default());
    core.figures.recorder.borrow_mut().usual(route.name.as_str(), method, tool, core.core.turn_time())
}

/// How a call has ended that had a place.
#[derive(Clone, Copy)]
pub(super) struct PlacedCall<'a> {
    pub(super) call: &'a Call,
    pub(super) label: LabelId,
    pub(super) phases: &'a CallPhases,
    pub(super) outcome: Outcome,
    /// The status of the MCP server's answer; 0 if it has not answered.
    pub(super) status: u16,
    /// Whether it was handed to a link.
    pub(super) is_opened: bool,
}

/// A call has ended `now` that had this place.
pub(super) fn leave(place: CallPlace, ended: &PlacedCall<'_>, recorder: &Recorder, now: Time) {
    let served = served(&place, ended, recorder, now);
    place.end(served, now);
}

/// What a call says of the server. Of one that failed, only that it took long, if it did.
fn served(place: &CallPlace, ended: &PlacedCall<'_>, recorder: &Recorder, now: Time) -> Served {
    let PlacedCall { call, label, phases, outcome, status, is_opened } = *ended;
    let Some(learned) = recorder.learned(label).filter(|_| is_opened && has_answer(call)) else {
        return Served::default();
    };
    let took = if phases.is_event_stream() { now - place.began() } else { phases.beyond_edge() };
    match outcome {
        Outcome::Ok if OVERLOADED.contains(&status) => Served { took: None, slowdown: Some(Served::OVERLOADED) },
        Outcome::Ok if phases.status() == Some(StatusClass::Success) => {
            Served { took: Some(took), slowdown: learned.slowdown(took, place.is_unhurried()) }
        }
        // It would have taken longer.
        Outcome::TimedOut | Outcome::AgentGone | Outcome::AgentStalled => {
            Served { took: None, slowdown: learned.slowdown(took, false).filter(|slowdown| *slowdown > 0.0) }
        }
        _ => Served::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ConcurrencyTerms;
    use crate::edge::tests::Fixture;
    use crate::latency::{EdgeTimes, LatencySettings};
    use crate::policy::Admission;
    use crate::wire::jsonrpc::Peek;

    fn call(body: &str) -> Call {
        let (mut call, mut peek) = (Call::default(), Peek::default());
        peek.feed(body.as_bytes());
        call.read_body(&peek);
        call
    }

    #[test]
    fn what_a_call_says_of_the_server_depends_on_how_it_ended() {
        let Fixture { core, .. } = &Fixture::new(Admission::default());
        let place = Arc::<RouteLimit>::default().admit(core, 1, &ConcurrencyTerms::default()).expect("it is not busy");
        let mut recorder = Recorder::new(LatencySettings::default());
        let label = recorder.label("r", "tools/call", "search");
        let s = Duration::from_secs;
        let learned = Arc::clone(recorder.learned(label).expect("it is a label of its own"));
        for _ in 0..100 {
            learned.slowdown(s(100), true);
        }
        let request = call(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#);
        let said = |call: &Call, outcome, status: u16, took| {
            let class = Some(StatusClass::of(status)).filter(|_| status > 0);
            let edge = EdgeTimes { total: took, status: class, ..EdgeTimes::default() };
            let phases = &CallPhases::split(edge, None);
            let ended = PlacedCall { call, label, phases, outcome, status, is_opened: true };
            let Served { took, slowdown } = served(&place, &ended, &recorder, Time::ZERO);
            (took, slowdown.map(|slowdown| (slowdown.exp() * 10.0).round() / 10.0))
        };
        assert_eq!(said(&request, Outcome::Ok, 200, s(100)), (Some(s(100)), Some(1.0)));
        assert_eq!(said(&request, Outcome::TimedOut, 0, s(300)), (None, Some(3.0)), "it would have taken longer");
        assert_eq!(said(&request, Outcome::AgentGone, 0, s(50)), (None, None), "it might have been quick");
        for status in OVERLOADED {
            assert_eq!(said(&request, Outcome::Ok, status, s(1)), (None, Some(2.0)), "{status}");
        }
        for status in [400, 404, 500, 502] {
            assert_eq!(said(&request, Outcome::Ok, status, s(1)), (None, None), "{status}");
        }
        for outcome in [Outcome::UpstreamFailed, Outcome::UpstreamRefused, Outcome::LinkLost, Outcome::Offline] {
            assert_eq!(said(&request, outcome, 0, s(500)), (None, None), "{outcome:?}");
        }
        let notification = call(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(said(&notification, Outcome::Ok, 202, s(1)), (None, None), "it expects no answer");
    }
}
