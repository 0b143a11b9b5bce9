//! Hedging: which calls may be sent a second time, and how.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{Clock, Time, Traffic};
use crate::edge::bonds::Bond;
use crate::edge::call_work::CallWork;
use crate::edge::edge_core::EdgeCore;
use crate::edge::hedged_routes::HedgedRoute;
use crate::edge::moves::Moves;
use crate::edge::open::{CallTarget, Opened};
use crate::edge::served_hosts::Wanted;
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::engine::{Core, StreamError, send_bytes};
use crate::exchange::requested_host;
use crate::latency::{hedge_after, hold_for};
use crate::policy::{SafeRequests, Source};
use crate::route::{Hostname, Route};
use crate::serve::{CallPlace, Entry, Request};
use crate::wire::http1::{
    BodyDecoder, Decoded, Method, Progress, RequestEdits, RequestHead, TimeLeftEdit, write_request,
};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp;

/// The longest request, head and body, that is sent twice, in bytes.
pub(super) const REQUEST_LEN_MAX: usize = 8 * 1024;

/// The method whose answer says which tools are read-only.
const LISTING: &str = "tools/list";
/// The method whose calls may be sent twice.
const TOOL_CALL: &str = "tools/call";

/// The plan for a second try of a call that takes too long.
pub(super) struct HedgePlan<'a> {
    pub(super) core: &'a EdgeCore,
    route: &'a Route,
    source: &'a Source,
    of: Rc<HedgedRoute>,
    /// The delay before the second try.
    pub(super) after: Duration,
    /// For how long after that the start of an answer is held back.
    pub(super) hold: Duration,
    /// Any link but that of the first try.
    bond: Bond,
    number: u64,
    /// When the caller has to be answered.
    until: Time,
}

/// A second try whose stream was opened. From then on its server may receive it.
pub(super) struct HandedOver {
    /// The usage counter of its link.
    pub(super) usage: Rc<LinkUsage>,
    /// When it was opened.
    pub(super) began: Time,
}

/// A second try that is about to be sent.
pub(super) struct Firing {
    /// Its place among the route's calls in flight, if those are limited.
    pub(super) place: Option<CallPlace>,
    head: RequestHead,
    /// Head and body, as sent by the first try.
    request: Vec<u8>,
    head_len: usize,
}

impl EdgeCore {
    /// Whether the answer to a request may say which tools of the route are read-only, and hedging needs to know.
    pub(super) fn learns_tools(&self, request: &mut impl Request, route: &Route) -> bool {
        route.own.may_hedge()
            && request.head().method() == Method::Post
            && request.label().is_some_and(|label| label.call().method() == Some(LISTING))
    }

    /// Learns from a complete answer which tools are read-only. `body` is the request's, if it was kept.
    pub(super) fn learn_tools(&self, request: &mut impl Request, route: &Route, work: &CallWork, body: Option<&[u8]>) {
        if route.own.may_hedge()
            && request.label().is_some_and(|label| label.is_surely(LISTING))
            && let Some(of) = self.hedged_routes.of(&self.edge.tool_hints, route)
        {
            let from_start = body.is_some_and(SafeRequests::is_first_page);
            work.listing.read(|answer, is_events, may_be_all| {
                of.hints.learn(answer, is_events, from_start && may_be_all);
            });
        }
    }

    /// Forgets the tool hints of a host's server, after it announced that its tools changed.
    pub(super) fn forget_tools(&self, host: &Hostname) {
        if let Some(route) = self.tables.get().routes.lookup(host)
            && let Some(of) = self.hedged_routes.of(&self.edge.tool_hints, route)
        {
            of.hints.forget();
        }
    }

    /// The plan for a second try of a call that was just opened; none if it must not be sent twice.
    pub(super) fn plan_hedge<'a>(
        &'a self,
        request: &mut impl Request,
        route: &'a Route,
        source: &'a Source,
        work: &CallWork,
        opened: &Opened,
    ) -> Option<HedgePlan<'a>> {
        if !route.own.may_hedge() {
            return None;
        }
        let of = self.hedged_routes.of(&self.edge.tool_hints, route)?;
        // A retried call was already counted, and needs no second try.
        if work.retry.retries.made() > 0 {
            return None;
        }
        of.budget.borrow_mut().on_call();
        if request.head().method() != Method::Post || mcp::asks_for_stream(request.head()) {
            return None;
        }
        // Only one connector knows a session, and its server has already received the id of the call.
        if work.retry.bond != Bond::None {
            return None;
        }
        let call = request.label()?.call();
        let tool = call.tool().filter(|_| call.method() == Some(TOOL_CALL))?;
        if !route.own.hedges(tool) || !of.hints.is_read_only(tool) {
            return None;
        }
        let (connector, link) = (opened.usage.connector(), opened.stream.on_link().carrier_id());
        if self.is_draining() || !self.links.has_other(&route.tunnel, link, Wanted::Any) {
            return None;
        }
        let now = self.core.turn_time();
        let mut recorder = self.figures.recorder.borrow_mut();
        let label = recorder.label(route.name.as_str(), TOOL_CALL, tool);
        // A probe of a breaker must decide alone whether the server is back.
        if !recorder.breakers(label)?.are_closed() {
            return None;
        }
        let deadline = &work.guard.deadline;
        let (left, limit) = (deadline.caller_left(now), deadline.first_byte_timeout());
        let after = hedge_after(recorder.learned(label)?.usual(now), left, limit)?;
        let (number, until) = (work.notes.number, deadline.answer_by());
        let (bond, hold) = (Bond::Beside(connector, link), hold_for(after, left, limit));
        Some(HedgePlan { core: self, route, source, of, after, hold, bond, number, until })
    }
}

impl<'a> HedgePlan<'a> {
    pub(super) fn core(&self) -> &'a Core {
        &self.core.core
    }

    /// Starts a second try of a call with this request, whose answer is late. None if it is not allowed.
    pub(super) fn fire(&self, request: Vec<u8>) -> Option<Firing> {
        let mut head = RequestHead::new();
        let Ok(Progress::Complete { len }) = head.feed(&request) else { return None };
        let mut peek = Peek::default();
        read_body(&head, &request[len..], &mut peek)?;
        let Bond::Beside(_, link) = self.bond else { return None };
        if !self.of.hints.only_reads(&head, &peek) || !self.core.links.has_other(&self.route.tunnel, link, Wanted::Any)
        {
            return None;
        }
        // The second try does not wait for a place, and does not take one that another call waits for.
        let has_budget = self.of.budget.borrow().has_one();
        let entry = has_budget.then(|| self.core.enter_route(&head, self.route, self.source));
        let Some(Entry::Enters(place)) = entry else {
            Counters::add(&self.core.edge.counters.hedges_denied);
            return None;
        };
        self.of.budget.borrow_mut().take();
        Some(Firing { place, head, request, head_len: len })
    }

    /// Sends the second try. Sets `handed` once a part of it may have been sent.
    ///
    /// # Errors
    ///
    /// The error of the stream; none if nothing was sent.
    pub(super) fn send(
        &self,
        firing: Firing,
        handed: Rc<OnceCell<HandedOver>>,
    ) -> impl Future<Output = Result<Opened, Option<StreamError>>> + use<'a> {
        let HedgePlan { core, route, bond, number, until, .. } = *self;
        let Firing { head, request, head_len, .. } = firing;
        async move {
            let host = requested_host(&head).map_err(|_| None)?;
            let tables = core.tables.get();
            let seal = match route.traffic {
                Traffic::Resealed => tables.tunnels.get(&route.tunnel).and_then(|entry| entry.seal.as_ref()),
                Traffic::Plain | Traffic::Passthrough => None,
            };
            let target = CallTarget {
                route,
                host: &host,
                seal,
                peer: None,
                bond,
                moves: Moves::spent(),
                call: number,
                has_waited: true,
                until,
            };
            let began = core.core.now();
            let opened = core.open(target, None).await.map_err(|_| None)?;
            let _ = handed.set(HandedOver { usage: Rc::clone(&opened.usage), began });
            let request = match opened.stream.is_sealed() {
                true => again(&head, &request[head_len..], time_left(core, &opened, until)),
                false => request,
            };
            send_bytes(&opened.stream, core.core.pool(), &request).await.map_err(Some)?;
            opened.stream.finish_message();
            Ok(opened)
        }
    }
}

/// The rest of the caller's time, for the head of a request on a sealed session, whose OPEN says nothing about its
/// calls.
pub(super) fn time_left(core: &EdgeCore, opened: &Opened, until: Time) -> TimeLeftEdit {
    if until == Time::NEVER {
        return TimeLeftEdit::Drop;
    }
    TimeLeftEdit::Replace((until - core.core.turn_time()).saturating_sub(opened.stream.on_link().way()))
}

/// The request with this head and body, and another rest of the time.
fn again(head: &RequestHead, body: &[u8], time_left: TimeLeftEdit) -> Vec<u8> {
    let mut request = Vec::with_capacity(REQUEST_LEN_MAX);
    let edits = RequestEdits { framing: head.framing(), time_left, ..RequestEdits::default() };
    write_request(head, &edits, &mut request);
    request.extend_from_slice(body);
    request
}

/// Parses a body that may lack its end. None if it is malformed.
fn read_body(head: &RequestHead, body: &[u8], peek: &mut Peek) -> Option<()> {
    let (mut decoder, mut rest) = (BodyDecoder::new(head.framing()), body.to_vec());
    loop {
        match decoder.next(&mut rest).ok()? {
            Decoded::Data(data) => peek.feed(&data),
            Decoded::More => return None,
            Decoded::End => return Some(()),
        }
    }
}
