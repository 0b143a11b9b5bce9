//! Writes the calls of an edge to the audit log.

use crate::base::TunnelId;
use crate::edge::call_notes::CallNotes;
use crate::edge::edge_core::EdgeCore;
use crate::edge::open::Opened;
use crate::edge::usage::LinkUsage;
use crate::exchange::requested_host;
use crate::latency::{CallPhases, EdgeStamps, Outcome, OwnAnswer};
use crate::route::Route;
use crate::serve::{Answered, AuditReceipt, AuditedCall, AuditedEnd, CallLabel, Request};
use crate::wire::http1::RequestHead;

/// Writes a call whose answer was received.
pub(super) fn on_answer(
    (core, opened, head): (&EdgeCore, &Opened, &RequestHead),
    notes: &CallNotes,
    stamps: &mut EdgeStamps,
    answered: &Answered<'_>,
    label: Option<&mut CallLabel>,
) -> Option<AuditReceipt> {
    let tables = core.tables.get();
    let route = requested_host(head).ok().and_then(|host| tables.routes.lookup(&host));
    stamps.on_from_link(answered.received_at);
    stamps.on_status(answered.head.status());
    let phases = CallPhases::split(stamps.times(&core.core), opened.stream.on_link().times());
    let call = call(core, opened.usage.tunnel(), route, Some(&opened.usage), notes);
    notes.audit.on_answer(&call, head, answered, &phases, label)
}

/// Writes what is not yet written of a call that has ended. `own` is the answer of the edge itself.
pub(super) fn on_end(
    core: &EdgeCore,
    request: &mut impl Request,
    route: &Route,
    usage: Option<&LinkUsage>,
    phases: &CallPhases,
    (notes, own, outcome): (&CallNotes, Option<OwnAnswer>, Outcome),
) {
    if !notes.audit.is_due() {
        return;
    }
    let call = call(core, &route.tunnel, Some(route), usage, notes);
    let status = own.map_or(notes.status, |own| own.status);
    let own_code = own.map(|own| own.rpc_code).filter(|code| *code != 0);
    let end = AuditedEnd { outcome, status, own_code, phases, is_opened: usage.is_some() };
    let (head, label) = request.context_mut().head_and_label();
    notes.audit.on_end(&call, head, &end, label);
}

fn call<'a>(
    core: &EdgeCore,
    tunnel: &'a TunnelId,
    route: Option<&'a Route>,
    usage: Option<&LinkUsage>,
    notes: &CallNotes,
) -> AuditedCall<'a> {
    AuditedCall {
        role: "edge",
        number: notes.number,
        tunnel: tunnel.as_str(),
        route: route.map(|route| route.name.as_str()).unwrap_or_default(),
        edge: Some(core.edge.instance),
        connector: usage.map(LinkUsage::connector),
        peer: notes.peer(),
        retries: notes.retries,
    }
}
