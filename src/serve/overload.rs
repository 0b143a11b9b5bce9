//! The limit of a route's calls in flight: a call takes a place before it is forwarded, and reports its duration at its
//! end. Edge and connector do this for the calls that they can read.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::{ConcurrencyTerms, GuardMode, Time};
use crate::engine::Core;
use crate::latency::{AskingCall, CallPhases, LabelId, Outcome, Overload, Recorder, Served, StatusClass, UsualLatency};
use crate::policy::SourceKey;
use crate::serve::call_deadline::has_answer;
use crate::serve::request::Request;
use crate::serve::route_limits::{CallPlace, PlaceAsked, RouteLimit};
use crate::wire::http1::{Method, RequestHead};
use crate::wire::mcp::{self, Call};

/// The statuses of an overloaded server (RFC 6585, section 4; RFC 9110, section 15.6.4).
const OVERLOADED: [u16; 2] = [429, 503];

/// The result for a new call.
pub enum Entry {
    /// The call proceeds, with a place if it needs one.
    Enters(Option<CallPlace>),
    /// No place is free: the call has to wait or is refused.
    Full(Full),
}

/// A route without a free place.
pub struct Full {
    of: Arc<RouteLimit>,
    agent: u64,
}

/// A call that needs a place, and its route.
#[derive(Clone, Copy)]
pub struct PlaceTerms<'a> {
    /// The core that serves it.
    pub core: &'a Core,
    /// The latencies of earlier calls.
    pub recorder: &'a RefCell<Recorder>,
    /// The name of its route.
    pub route: &'a str,
    /// The limit of the route's calls in flight.
    pub terms: &'a ConcurrencyTerms,
    /// The rest of the caller's time, if known.
    pub left: Option<Duration>,
}

/// The result of a call's wait for a place.
pub struct Queued {
    /// How long it waited.
    pub waited: Duration,
    /// How the wait ended.
    pub end: QueuedEnd,
}

/// How a call's wait for a place ended.
pub enum QueuedEnd {
    /// The call proceeds, with a place if it needs one.
    Enters(Option<CallPlace>),
    /// It is refused a place.
    Refused(Overload),
    /// Its caller has left.
    CallerLeft,
}

/// Whether a call of a route with these terms needs a place. Event streams that last as long as their agents want need
/// none.
#[must_use]
pub fn needs_place(request: &RequestHead, terms: &ConcurrencyTerms) -> bool {
    terms.mode != GuardMode::Off && request.method() == Method::Post && !mcp::asks_for_stream(request)
}

/// Takes a place for a call of an agent at this address, if one is free.
#[must_use]
pub fn enter(of: Arc<RouteLimit>, core: &Core, agent: Option<IpAddr>, terms: &ConcurrencyTerms) -> Entry {
    let agent = agent.map_or(0, |address| SourceKey::of(address).get());
    match of.admit(core, agent, terms) {
        Some(place) => Entry::Enters(Some(place)),
        None => Entry::Full(Full { of, agent }),
    }
}

impl Full {
    /// Waits for a place. If the caller leaves, the call leaves the queue.
    pub async fn wait(self, request: &mut impl Request, call: PlaceTerms<'_>) -> Queued {
        let at_once = |end| Queued { waited: Duration::ZERO, end };
        // Calls in flight may be waiting for this message.
        if request.label().is_some_and(|label| !label.may_expect_answer()) {
            return at_once(QueuedEnd::Enters(None));
        }
        let PlaceTerms { core, terms, left, .. } = call;
        let asked = core.turn_time();
        let needs = usual(request, call).map(|usual| usual.p50);
        let asking = AskingCall { agent: self.agent, ends: left.map(|left| asked + left), needs };
        let waiting = match self.of.ask(core, &asking, terms) {
            PlaceAsked::Admitted(place) => return at_once(QueuedEnd::Enters(Some(place))),
            PlaceAsked::Refused(overload) => return at_once(QueuedEnd::Refused(overload)),
            PlaceAsked::Waits(waiting) => waiting,
        };
        let decided = async {
            match waiting.place().await {
                Ok(place) => QueuedEnd::Enters(Some(place)),
                Err(overload) => QueuedEnd::Refused(overload),
            }
        };
        let left = async {
            request.caller_left().await;
            QueuedEnd::CallerLeft
        };
        let end = future::or(decided, left).await;
        Queued { waited: core.turn_time() - asked, end }
    }
}

/// The usual duration of calls of its label, if label and duration are known.
fn usual(request: &mut impl Request, call: PlaceTerms<'_>) -> Option<UsualLatency> {
    let PlaceTerms { core, recorder, route, .. } = call;
    let call = request.label()?.call();
    let (method, tool) = (call.method()?, call.tool().unwrap_or_default());
    recorder.borrow_mut().usual(route, method, tool, core.turn_time())
}

/// The result of a call that had a place.
#[derive(Clone, Copy)]
pub struct PlacedCall<'a> {
    /// The label of the call.
    pub call: &'a Call,
    /// The label under which it is counted.
    pub label: LabelId,
    /// The phases of the call. The wait for the place does not count as time beyond this side.
    pub phases: &'a CallPhases,
    /// The outcome that is recorded for it.
    pub outcome: Outcome,
    /// The status of the MCP server's answer; 0 if it has not answered.
    pub status: u16,
    /// Whether it was handed to the next hop.
    pub is_opened: bool,
}

/// Ends a call that had this place.
pub fn leave(place: CallPlace, ended: &PlacedCall<'_>, recorder: &Recorder, now: Time) {
    let served = served(&place, ended, recorder, now);
    place.end(served, now);
}

/// What a call shows about the server's load. A failed call shows only that it took long, if it did.
fn served(place: &CallPlace, ended: &PlacedCall<'_>, recorder: &Recorder, now: Time) -> Served {
    let PlacedCall { call, label, phases, outcome, status, is_opened } = *ended;
    let is_told = is_opened && has_answer(call) && !phases.is_of_connector();
    let Some(learned) = recorder.learned(label).filter(|_| is_told) else {
        return Served::default();
    };
    let took = if phases.is_event_stream() { now - place.began() } else { phases.beyond_edge() };
    match outcome {
        Outcome::Ok if OVERLOADED.contains(&status) => Served { took: None, slowdown: Some(Served::OVERLOADED) },
        Outcome::Ok if phases.status() == Some(StatusClass::Success) => {
            Served { took: Some(took), slowdown: learned.slowdown(took, place.is_unhurried()) }
        }
        // The call would have taken longer.
        Outcome::TimedOut | Outcome::AgentGone | Outcome::AgentStalled => {
            Served { took: None, slowdown: learned.slowdown(took, false).filter(|slowdown| *slowdown > 0.0) }
        }
        _ => Served::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{ConnectorTimes, EdgeTimes, LatencySettings};
    use crate::serve::route_limits::tests::idle_core;
    use crate::wire::jsonrpc::Peek;

    fn call(body: &str) -> Call {
        let (mut call, mut peek) = (Call::default(), Peek::default());
        peek.feed(body.as_bytes());
        call.read_body(&peek);
        call
    }

    #[test]
    fn the_outcome_of_a_call_decides_what_is_learned_about_the_server() {
        let (core, _net) = &idle_core();
        let place = Arc::<RouteLimit>::default().admit(core, 1, &ConcurrencyTerms::default()).expect("it is not busy");
        let mut recorder = Recorder::new(LatencySettings::default());
        let label = recorder.label("r", "tools/call", "search");
        let s = Duration::from_secs;
        let learned = Arc::clone(recorder.learned(label).expect("it is a label of its own"));
        for _ in 0..100 {
            learned.slowdown(s(100), true);
        }
        let request = call(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#);
        let learned = |call: &Call, outcome, status: u16, took| {
            let class = Some(StatusClass::of(status)).filter(|_| status > 0);
            let edge = EdgeTimes { total: took, status: class, ..EdgeTimes::default() };
            let phases = &CallPhases::split(edge, Some(ConnectorTimes::default()));
            let ended = PlacedCall { call, label, phases, outcome, status, is_opened: true };
            let Served { took, slowdown } = served(&place, &ended, &recorder, Time::ZERO);
            (took, slowdown.map(|slowdown| (slowdown.exp() * 10.0).round() / 10.0))
        };
        assert_eq!(learned(&request, Outcome::Ok, 200, s(100)), (Some(s(100)), Some(1.0)));
        assert_eq!(learned(&request, Outcome::TimedOut, 0, s(300)), (None, Some(3.0)), "it would have taken longer");
        assert_eq!(learned(&request, Outcome::AgentGone, 0, s(50)), (None, None), "it might have been quick");
        for status in OVERLOADED {
            assert_eq!(learned(&request, Outcome::Ok, status, s(1)), (None, Some(2.0)), "{status}");
        }
        for status in [400, 404, 500, 502] {
            assert_eq!(learned(&request, Outcome::Ok, status, s(1)), (None, None), "{status}");
        }
        for outcome in [Outcome::UpstreamFailed, Outcome::UpstreamRefused, Outcome::LinkLost, Outcome::Offline] {
            assert_eq!(learned(&request, outcome, 0, s(500)), (None, None), "{outcome:?}");
        }
        for status in [200, 429, 503] {
            let edge = EdgeTimes { total: s(1), status: Some(StatusClass::of(status)), ..EdgeTimes::default() };
            let (phases, outcome) = (&CallPhases::split(edge, None), Outcome::Ok);
            let ended = PlacedCall { call: &request, label, phases, outcome, status, is_opened: true };
            let Served { took, slowdown } = served(&place, &ended, &recorder, Time::ZERO);
            assert_eq!((took, slowdown), (None, None), "the connector refused it itself with {status}");
        }
        let notification = call(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!(learned(&notification, Outcome::Ok, 202, s(1)), (None, None), "it expects no answer");
    }
}
