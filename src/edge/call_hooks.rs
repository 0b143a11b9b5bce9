//! The edge's part in an exchange.

use std::time::Duration;

use crate::base::{Budget, Clock, Time};
use crate::edge::audit;
use crate::edge::call_end::{CallEndReason, cut_failure};
use crate::edge::call_work::CallWork;
use crate::edge::hedged::Tries;
use crate::edge::recording::failed_call;
use crate::edge::shared::Counters;
use crate::engine::Core;
use crate::exchange::{CallFailure, CallReport, requested_host, trace_of};
use crate::latency::{CallPhases, SERVER_TIMING_LEN_MAX, server_timing};
use crate::serve::{AnswerSize, Answered, AuditLog, AuditReceipt, CallLabel, RelayError, RelayHooks, ResponseExtras};
use crate::wire::AnswerStream;
use crate::wire::http1::{RequestHead, ResponseHead};
use crate::wire::mcp::Era;

/// Takes the timestamps of an exchange at the edge.
pub(super) struct EdgeHooks<'a, 'h> {
    pub(super) tries: &'a Tries<'h>,
    pub(super) request: &'a RequestHead,
    pub(super) work: &'a mut CallWork,
}

impl RelayHooks for EdgeHooks<'_, '_> {
    fn on_request_head_queued(&mut self) {
        let now = self.tries.core.core.now();
        self.work.stamps.on_handed_to_link(now);
        self.work.guard.deadline.on_sent(now);
    }

    fn received_at(&self) -> Time {
        self.tries.answering().stream.on_link().received_at()
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        if let Some((began, after)) = self.tries.won_by_second() {
            self.work.stamps.on_sent_again(began);
            self.work.guard.deadline.on_sent_again(after);
        }
        self.work.stamps.on_from_link(received_at);
        self.work.stamps.on_status(head.status());
        self.work.notes.status = head.status();
        if self.tries.core.edge.tasks().is_some() {
            self.work.notes.answer = AnswerSize::of(head.get("content-type"));
        }
        self.work.is_refused = Era::is_refusal(head.status());
        self.work.listing.begin(head);
        let answering = self.tries.answering();
        self.tries.core.bonds.on_answer(&answering.usage, self.request, head, self.tries.core.core.turn_time());
        let phases = answering.stream.on_link().times();
        let timing = &mut self.work.timing;
        timing.clear();
        timing.reserve(SERVER_TIMING_LEN_MAX);
        server_timing(&CallPhases::split(self.work.stamps.times(&self.tries.core.core), phases), timing);
        ResponseExtras {
            may_keep: !self.tries.core.is_draining(),
            server_timing: Some(timing),
            public: None,
            is_metadata: false,
        }
    }

    fn on_response_head_queued(&mut self) {
        self.work.stamps.on_to_agent(self.tries.core.core.now());
    }

    fn on_event_stream(&mut self, is_standing: bool) {
        self.work.stamps.on_event_stream(is_standing);
        self.work.answer = AnswerStream::default();
        if is_standing {
            self.work.place.set(None);
        }
    }

    /// When a link drains, its connector ends the streams, after all that it has sent.
    fn streams_end(&self) -> impl Future<Output = ()> {
        self.tries.core.drain.begun()
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        self.tries.core.edge.settings.sse_keepalive
    }

    fn core(&self) -> &Core {
        &self.tries.core.core
    }

    fn lists(&self) -> &Budget {
        &self.tries.core.lists
    }

    fn on_list_filtered(&mut self) {
        self.work.listing.be_part();
    }

    fn on_lists_crowded(&self) {
        Counters::add(&self.tries.core.edge.counters.lists_crowded);
    }

    fn on_body_bytes(&mut self, bytes: &[u8]) {
        self.work.notes.answer.bytes += bytes.len() as u64;
        self.work.notes.audit.on_body_bytes(bytes, self.work.stamps.is_event_stream());
        self.work.listing.keep(bytes);
        if self.work.stamps.is_event_stream() {
            self.on_standing_bytes(bytes);
            self.work.answer.feed(bytes);
            self.work.guard.deadline.on_event_bytes(bytes, self.tries.core.core.turn_time());
        }
    }

    fn records_in(&self) -> Option<&AuditLog> {
        self.work.notes.audit.required()
    }

    fn record_answer(&mut self, answered: &Answered<'_>, label: Option<&mut CallLabel>) -> Option<AuditReceipt> {
        let EdgeHooks { tries, request, work } = self;
        audit::on_answer((tries.core, tries.answering(), request), &work.notes, &mut work.stamps, answered, label)
    }

    fn on_standing_bytes(&self, bytes: &[u8]) {
        let Some(mut changed) = self.work.changed.get() else { return };
        if changed.feed(bytes) {
            self.tries.core.forget_tools(&self.work.host);
        }
        self.work.changed.set(Some(changed));
    }

    fn cuts_at(&self) -> Option<Time> {
        self.work.guard.deadline.cuts_at()
    }

    fn on_cut(&mut self, label: &mut CallLabel) -> Option<Vec<u8>> {
        self.work.guard.deadline.on_cut(self.tries.core.core.now());
        self.last_event(cut_failure(&self.work.guard.deadline), label)
    }

    fn on_broken(&mut self, error: &RelayError, label: &mut CallLabel) -> Option<Vec<u8>> {
        if !self.work.answer.takes_error() {
            return None;
        }
        let CallEndReason::Failed { failure, .. } =
            CallEndReason::of(error.clone(), &mut self.work.guard.deadline, true)
        else {
            return None;
        };
        let event = self.last_event(failure, label)?;
        self.work.sent_failure = Some(failure);
        Some(event)
    }
}

impl EdgeHooks<'_, '_> {
    /// The error event at the end of an event stream whose call failed; none if the id of the call is not known.
    fn last_event(&mut self, failure: CallFailure, label: &mut CallLabel) -> Option<Vec<u8>> {
        let EdgeHooks { tries, request, work } = self;
        let (core, stream) = (tries.core, tries.answering().stream.on_link());
        let tables = core.tables.get();
        let route = tables.routes.lookup(&requested_host(request).ok()?)?;
        let trace = trace_of(request).or_else(|| label.trace());
        work.on_exchange_failed(stream, true, &core.core);
        let call = failed_call(core, route, &work.notes, trace, work.phase_of(failure), label.call());
        let report = match &work.guard.deadline {
            deadline if deadline.was_cut() => deadline.report(call),
            _ => CallReport::of(&call),
        };
        Some(report.event(failure, label.rpc_id()?))
    }
}
