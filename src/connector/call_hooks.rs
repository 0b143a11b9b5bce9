//! What the connector does while an exchange passes: it takes the timestamps and sends them to the edge, and reads the answer.

use std::time::Duration;

use crate::base::{Budget, CallFailure, Clock, Time};
use crate::connector::agent_work::AgentWork;
use crate::connector::call_context::CallContext;
use crate::connector::call_error::{CallError, failed, upstream_fault};
use crate::connector::identity::Addresses;
use crate::connector::shared::Counters;
use crate::connector::upstream_stream::UpstreamStream;
use crate::engine::Core;
use crate::exchange::{CallReport, requested_host, trace_of};
use crate::latency::{ConnectorStamps, Phase, connector_timing};
use crate::serve::{AnswerSize, Answered, AuditLog, AuditReceipt, CallLabel, RelayError, RelayHooks, ResponseExtras};
use crate::wire::AnswerStream;
use crate::wire::http1::{RequestHead, ResponseHead};

/// Takes the timestamps of an exchange at the connector, and sends them to the edge.
pub(super) struct ConnectorHooks<'a, U> {
    pub(super) context: &'a CallContext<'a>,
    pub(super) addresses: &'a Addresses,
    pub(super) request: &'a RequestHead,
    pub(super) upstream: &'a U,
    pub(super) stamps: &'a mut ConnectorStamps,
    pub(super) work: &'a mut AgentWork,
}

impl<U> ConnectorHooks<'_, U> {
    /// The error event at the end of an event stream whose call failed; none if the id of the call is not known.
    fn last_event(&self, failure: CallFailure, label: &mut CallLabel) -> Option<Vec<u8>> {
        let deadline = &self.work.guard.deadline;
        let trace = trace_of(self.request).or_else(|| label.trace());
        let call = label.call();
        let report = self.context.core.upstreams.route_of(&requested_host(self.request).ok()?, |route| {
            let call = self.context.failed_call(route, trace, failure.phase(Phase::Upstream), call);
            if deadline.was_cut() { deadline.report(call) } else { CallReport::of(&call) }
        })?;
        Some(report.event(failure, label.rpc_id()?))
    }

    /// The state of a call of an agent whose TLS ends here.
    fn agents(&mut self) -> Option<&mut AgentWork> {
        self.context.is_agents().then_some(&mut *self.work)
    }
}

impl<U: UpstreamStream> RelayHooks for ConnectorHooks<'_, U> {
    fn on_request_head_queued(&mut self) {
        let now = self.context.core.core.now();
        self.stamps.on_sent(now);
        if let Some(agents) = self.agents() {
            agents.guard.deadline.on_sent(now);
        }
    }

    fn received_at(&self) -> Time {
        self.upstream.received_at()
    }

    fn core(&self) -> &Core {
        &self.context.core.core
    }

    fn lists(&self) -> &Budget {
        &self.context.core.lists
    }

    fn on_list_filtered(&mut self) {
        self.work.listing.be_part();
    }

    fn on_lists_crowded(&self) {
        Counters::add(&self.context.core.connector.counters.lists_crowded);
    }

    fn on_body_bytes(&mut self, bytes: &[u8]) {
        self.work.answer_size.bytes += bytes.len() as u64;
        self.work.listing.keep(bytes);
        self.work.audit.on_body_bytes(bytes, self.stamps.is_event_stream());
        if !self.stamps.is_event_stream() {
            return;
        }
        self.on_standing_bytes(bytes);
        self.work.answer.feed(bytes);
        let now = self.context.core.core.turn_time();
        if let Some(agents) = self.agents() {
            agents.guard.deadline.on_event_bytes(bytes, now);
        }
    }

    fn records_in(&self) -> Option<&AuditLog> {
        self.work.audit.required()
    }

    fn record_answer(&mut self, answered: &Answered<'_>, label: Option<&mut CallLabel>) -> Option<AuditReceipt> {
        let progress = (&mut *self.stamps, self.work.retries);
        self.context.record_answer(&self.work.audit, self.request, progress, answered, label)
    }

    fn on_standing_bytes(&self, bytes: &[u8]) {
        let Some(mut changed) = self.work.changed.get() else { return };
        if changed.feed(bytes)
            && let Some(served) = self.context.core.upstreams.for_request(self.request)
            && let Some(safe) = served.resend()
        {
            safe.forget();
        }
        self.work.changed.set(Some(changed));
    }

    fn cuts_at(&self) -> Option<Time> {
        self.context.is_agents().then(|| self.work.guard.deadline.cuts_at())?
    }

    fn on_cut(&mut self, label: &mut CallLabel) -> Option<Vec<u8>> {
        let now = self.context.core.core.now();
        self.agents()?.guard.deadline.on_cut(now);
        self.last_event(CallFailure::Deadline, label)
    }

    fn on_broken(&mut self, error: &RelayError, label: &mut CallLabel) -> Option<Vec<u8>> {
        self.agents().filter(|agents| agents.answer.takes_error())?;
        if let Some(why) = upstream_fault(error) {
            self.upstream.log_fault(&why);
        }
        let failure = CallError::from(failed(error)).failure();
        let event = self.last_event(failure, label)?;
        self.work.sent_failure = Some(failure);
        Some(event)
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        // For calls of the edge, the edge sends the comments.
        self.context.core.connector.settings.sse_keepalive.filter(|_| self.context.is_agents())
    }

    fn on_response_head(&mut self, head: &ResponseHead, received_at: Time) -> ResponseExtras<'_> {
        self.stamps.on_received(received_at);
        self.stamps.on_status(head.status());
        self.work.listing.begin(head);
        let CallContext { core, stream, .. } = *self.context;
        if core.connector.tasks().is_some() {
            self.work.answer_size = AnswerSize::of(head.get("content-type"));
        }
        let now = core.core.now();
        self.stamps.on_handed_to_link(now);
        let times = self.stamps.times(&core.core);
        stream.on_link().send_times(&times);
        let is_agents = self.context.is_agents();
        let is_metadata = self.addresses.is_metadata(self.request, head);
        let public = (is_metadata || head.may_name_itself())
            .then(|| self.addresses.in_response(self.request, is_agents))
            .flatten();
        let extras = ResponseExtras { may_keep: true, server_timing: None, public, is_metadata };
        match self.agents() {
            None => extras,
            Some(AgentWork { timing, .. }) => {
                timing.clear();
                connector_timing(&times, timing);
                ResponseExtras { may_keep: !core.is_draining(), server_timing: Some(timing), ..extras }
            }
        }
    }

    fn on_event_stream(&mut self, is_standing: bool) {
        self.stamps.on_event_stream(is_standing);
        self.work.answer = AnswerStream::default();
        if is_standing {
            self.work.queue.place.set(None);
        }
    }

    fn streams_end(&self) -> impl Future<Output = ()> {
        self.context.stream.on_link().carrier_draining()
    }
}
