//! Writes the calls of a connector to the audit log.

use crate::base::CallFailure;
use crate::connector::call_context::CallContext;
use crate::connector::call_end::CallEnd;
use crate::connector::kept_calls::outcome_of;
use crate::exchange::requested_host;
use crate::latency::{ConnectorStamps, Outcome, OwnAnswer, Retries};
use crate::serve::{Answered, AuditReceipt, AuditedCall, AuditedEnd, CallAudit, CallLabel, Request};
use crate::wire::http1::RequestHead;

impl CallContext<'_> {
    /// Begins a call, if there is an audit log. Its message is also read if traces are exported.
    pub(super) fn begin_audit(&self, request: &mut impl Request) -> CallAudit {
        let settings = &self.core.connector.settings;
        let log = settings.audit.as_ref();
        if log.is_some() || settings.traces.is_some() {
            request.look_at_message();
        }
        CallAudit::begin(log, request.label())
    }

    /// Writes a call whose answer was received.
    pub(super) fn record_answer(
        &self,
        audit: &CallAudit,
        head: &RequestHead,
        (stamps, retries): (&mut ConnectorStamps, Retries),
        answered: &Answered<'_>,
        label: Option<&mut CallLabel>,
    ) -> Option<AuditReceipt> {
        stamps.on_received(answered.received_at);
        stamps.on_status(answered.head.status());
        let phases = self.phases(stamps);
        let route = self.audited_route(head);
        audit.on_answer(&self.audited(&route, head, retries), head, answered, &phases, label)
    }

    /// Writes what is not yet written of a call that has ended.
    pub(super) fn record_end(
        &self,
        audit: &CallAudit,
        request: &mut impl Request,
        end: &CallEnd,
        ended: Option<Result<(), CallFailure>>,
        retries: Retries,
    ) {
        if !audit.is_due() {
            return;
        }
        let phases = self.phases(&end.stamps);
        let route = self.audited_route(request.head());
        let own = ended.and_then(Result::err).filter(|_| self.is_agents() && !end.has_begun);
        let own = own.map(|failure| failure.own_answer(None));
        let status = own.map_or(end.stamps.status().unwrap_or_default(), |own| own.status);
        let is_opened = ended.is_none_or(|ended| ended.err().is_none_or(CallFailure::may_have_acted));
        let (outcome, own_code) = (outcome_of(ended), own.map(|own| own.rpc_code));
        let end = AuditedEnd { outcome, status, own_code, phases: &phases, is_opened };
        let (head, label) = request.context_mut().head_and_label();
        audit.on_end(&self.audited(&route, head, retries), head, &end, label);
    }

    /// Writes a call that the policy of its route denied.
    pub(super) fn record_denied(&self, audit: &CallAudit, request: &mut impl Request, own: OwnAnswer) {
        if !audit.is_due() {
            return;
        }
        let phases = self.phases(&CallEnd::new(request.began()).stamps);
        let route = self.audited_route(request.head());
        let (outcome, own_code) = (Outcome::Denied, Some(own.rpc_code).filter(|code| *code != 0));
        let end = AuditedEnd { outcome, status: own.status, own_code, phases: &phases, is_opened: false };
        let (head, label) = request.context_mut().head_and_label();
        audit.on_end(&self.audited(&route, head, Retries::default()), head, &end, label);
    }

    /// The name of the route of a request; empty if it has none.
    fn audited_route(&self, head: &RequestHead) -> String {
        let host = requested_host(head).ok();
        host.and_then(|host| self.core.upstreams.route_of(&host, |route| route.name.to_string())).unwrap_or_default()
    }

    fn audited<'c>(&'c self, route: &'c str, head: &RequestHead, retries: Retries) -> AuditedCall<'c> {
        AuditedCall {
            role: "connector",
            number: self.number,
            tunnel: self.core.connector.settings.tunnel.as_str(),
            route,
            connector: Some(self.core.connector.instance),
            peer: self.agent_address(head),
            retries: retries.made(),
            ..AuditedCall::default()
        }
    }
}
