//! The entries of a connector's call log.

use std::net::IpAddr;

use crate::base::{CallFailure, Clock};
use crate::connector::call_context::{CallContext, Caller};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::settings::ConnectorRoute;
use crate::exchange::{FailedCall, Refusal, forwarded_peer, trace_of};
use crate::latency::{
    CallFilter, CallLine, CallPhases, CallRecord, CallStage, ConnectorStamps, FoundCall, HostText, Outcome, OwnAnswer,
    Phase, TraceId,
};
use crate::link::CarrierStream;
use crate::wire::http1::RequestHead;
use crate::wire::mcp::Call;

/// The outcome of an agent's call; `ended` is none if the edge gave it up.
pub(super) fn outcome_of(ended: Option<Result<(), CallFailure>>) -> Outcome {
    match ended {
        Some(Ok(())) => Outcome::Ok,
        Some(Err(CallFailure::Cancelled)) | None => Outcome::AgentGone,
        Some(Err(CallFailure::RequestBroken)) => Outcome::BadRequest,
        Some(Err(failure)) => failure.outcome(),
    }
}

impl CallContext<'_> {
    /// The failed call and its phase, for the report to its agent.
    pub(super) fn failed_call<'c>(
        &'c self,
        route: &'c ConnectorRoute,
        trace: Option<TraceId>,
        phase: Phase,
        call: &'c Call,
    ) -> FailedCall<'c> {
        let (method, tool) = (call.method().unwrap_or_default(), call.tool());
        let mut recorder = self.core.figures.recorder.borrow_mut();
        let now = self.core.core.turn_time();
        FailedCall {
            tunnel: self.core.connector.settings.tunnel.as_str(),
            route: route.name.as_str(),
            method,
            tool,
            number: self.number,
            trace,
            phase,
            usual: recorder.usual(route.name.as_str(), method, tool.unwrap_or_default(), now),
        }
    }

    /// The phases of a call so far.
    pub(super) fn phases(&self, stamps: &ConnectorStamps) -> CallPhases {
        let core = &self.core.core;
        CallPhases::of_connector(stamps.times(core), core.now() - stamps.began())
            .answered(stamps.status(), stamps.is_event_stream())
    }

    /// The log entry of a call with this head that ends now.
    pub(super) fn kept(&self, head: &RequestHead) -> CallRecord {
        CallRecord {
            number: self.number,
            trace: trace_of(head),
            peer: self.agent_address(head),
            host: HostText::of(head.host().unwrap_or_default()),
            ..CallRecord::new(self.core.core.turn_time())
        }
    }

    /// Adds a request that is refused before it became a call.
    pub(super) fn keep_refused(&self, head: &RequestHead, refusal: Refusal) {
        let (stage, outcome) = (refusal.stage(), Some(refusal.outcome()));
        let record = CallRecord { stage, outcome, ..self.kept(head).with_own(Some(refusal.own_answer())) };
        self.core.figures.keep(&record);
    }

    /// The address of the call's agent, if that is known.
    pub(super) fn agent_address(&self, head: &RequestHead) -> Option<IpAddr> {
        let text = match self.caller {
            Caller::Edge(_) => std::str::from_utf8(forwarded_peer(head)).unwrap_or_default(),
            Caller::Agent(agent) => &agent.address,
        };
        text.parse().ok()
    }

    /// Adds a request that cannot be parsed.
    pub(super) fn keep_unreadable(&self, own: Option<OwnAnswer>) {
        let peer = match self.caller {
            Caller::Edge(_) => None,
            Caller::Agent(agent) => agent.address.parse().ok(),
        };
        let number = self.number;
        let record =
            CallRecord { number, peer, stage: CallStage::Request, ..CallRecord::new(self.core.core.turn_time()) };
        self.core.figures.keep(&record.with_own(own));
    }
}

/// The number that the edge gave to a stream's call or session; 0 if none.
pub(super) fn number_of(stream: &CarrierStream) -> u64 {
    stream.call().map_or(0, |(number, _)| number)
}

impl ConnectorCore {
    /// The logged calls that match the filter.
    pub(super) fn find_calls(&self, filter: &CallFilter) -> Vec<CallLine> {
        let (calls, recorder) = (self.figures.calls.borrow(), self.figures.recorder.borrow());
        let line = |FoundCall { record, age, label }: FoundCall<'_>| {
            let host = record.host.as_str().parse().ok();
            let known = host.and_then(|host| {
                self.upstreams.route_of(&host, |route| {
                    let rule = record
                        .policy
                        .and_then(|mark| Some(route.policy.as_ref()?.rule_name(mark.policy, mark.rule()?)?.to_owned()));
                    (route.name.to_string(), rule)
                })
            });
            let (route, rule) = known.unzip();
            CallLine { record: *record, age, label: label.cloned(), route, tunnel: None, rule: rule.flatten() }
        };
        calls.find(filter, &recorder, self.core.now()).into_iter().map(line).collect()
    }
}
