//! The state that a role keeps of a call for its line in the audit log.

use std::cell::Cell;
use std::net::IpAddr;

use crate::audit::{AuditCallLine, AuditedCaller, AuditedDecision, AuditedPolicy, CallEndLine, LineHash, RpcAnswer};
use crate::engine::Core;
use crate::exchange::{CallFailure, trace_of};
use crate::latency::{CallPhases, Outcome, Phase};
use crate::policy::{AnswerNote, ToolDecision, redacted_arguments};
use crate::serve::audit_log::{AuditLog, AuditReceipt};
use crate::serve::label::CallLabel;
use crate::serve::recorded::Answered;
use crate::wire::AnswerScan;
use crate::wire::http1::RequestHead;
use crate::wire::mcp;
use crate::wire::sse::EventData;

/// The outcome in a line that is written before its answer.
const BEGUN: &str = "begun";

/// The state of one call for the audit log; empty if no log is configured.
#[derive(Default)]
pub struct CallAudit(Option<Box<Kept>>);

struct Kept {
    log: AuditLog,
    scan: AnswerScan,
    /// Decodes answers that are event streams.
    events: EventData,
    bytes: u64,
    written: Cell<Written>,
    /// The receipt for an answer by the role itself.
    receipt: Cell<Option<AuditReceipt>>,
}

/// Which lines of a call have been written.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Written {
    #[default]
    Nothing,
    /// The line of the call, written before its answer.
    Begin,
    /// The complete line of the call.
    Whole,
}

/// The facts about a call that its line contains.
#[derive(Clone, Copy, Default)]
pub struct AuditedCall<'a> {
    /// The role that writes the line.
    pub role: &'static str,
    /// The number of the call.
    pub number: u64,
    /// The id of the tunnel.
    pub tunnel: &'a str,
    /// The name of the route; empty if there is none.
    pub route: &'a str,
    /// The number of the edge's process.
    pub edge: Option<u64>,
    /// The number of the connector.
    pub connector: Option<u64>,
    /// The address of the agent.
    pub peer: Option<IpAddr>,
    /// How often the call was retried.
    pub retries: u32,
}

/// How a call has ended.
#[derive(Clone, Copy)]
pub struct AuditedEnd<'a> {
    /// The outcome, as in the metrics.
    pub outcome: Outcome,
    /// The status of the answer; 0 if there was none.
    pub status: u16,
    /// The JSON-RPC code, if adit itself gave the answer.
    pub own_code: Option<i32>,
    /// The phases of the call.
    pub phases: &'a CallPhases,
    /// Whether the MCP server may have received it.
    pub is_opened: bool,
}

impl CallAudit {
    /// Begins a call. Its arguments are hashed while the body passes.
    #[must_use]
    pub fn begin(log: Option<&AuditLog>, label: Option<&mut CallLabel>) -> CallAudit {
        let Some(log) = log else { return CallAudit(None) };
        if let Some(label) = label {
            match log.arguments_len_max() {
                0 => label.hash_arguments(),
                len_max => label.keep_arguments(len_max),
            }
        }
        let (scan, events, written, receipt) = Default::default();
        CallAudit(Some(Box::new(Kept { log: log.clone(), scan, events, bytes: 0, written, receipt })))
    }

    /// Whether the call, or its end, is not written yet.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.written.get() != Written::Whole)
    }

    /// The log, if the call must be written before its answer is sent.
    #[must_use]
    pub fn required(&self) -> Option<&AuditLog> {
        self.0.as_ref().map(|kept| &kept.log).filter(|log| log.is_required())
    }

    /// Whether the call is refused because it cannot be written.
    #[must_use]
    pub fn refuses(&self) -> bool {
        let refuses = self.0.as_ref().is_some_and(|kept| kept.log.refuses());
        if let Some(kept) = self.0.as_ref().filter(|_| refuses) {
            kept.log.on_refused();
        }
        refuses
    }

    /// Reads bytes of the answer's body as they pass.
    pub fn on_body_bytes(&mut self, bytes: &[u8], is_event_stream: bool) {
        let Some(kept) = self.0.as_mut().filter(|kept| kept.written.get() != Written::Whole) else { return };
        kept.bytes += bytes.len() as u64;
        match is_event_stream {
            false => kept.scan.feed(bytes),
            true => {
                let Kept { scan, events, .. } = &mut **kept;
                events.feed(bytes, |data| scan.feed(data));
            }
        }
    }

    /// Writes the line of a call whose answer is complete, or whose answer is not awaited.
    #[must_use]
    pub fn on_answer(
        &self,
        call: &AuditedCall<'_>,
        head: &RequestHead,
        answered: &Answered<'_>,
        phases: &CallPhases,
        label: Option<&mut CallLabel>,
    ) -> Option<AuditReceipt> {
        let kept = self.0.as_ref()?;
        let mut scan = kept.scan;
        scan.feed(answered.rest);
        let (written, outcome) =
            if answered.is_whole { (Written::Whole, Outcome::Ok.name()) } else { (Written::Begin, BEGUN) };
        kept.written.set(written);
        let line = AuditCallLine {
            status: answered.head.status(),
            outcome,
            answer: found(&scan),
            bytes: kept.bytes + answered.rest.len() as u64,
            ..line_of(call, head, phases)
        };
        Some(kept.log.submit(with_label(line, label)))
    }

    /// Writes what is still missing of a call that has ended.
    pub fn on_end(
        &self,
        call: &AuditedCall<'_>,
        head: &RequestHead,
        end: &AuditedEnd<'_>,
        label: Option<&mut CallLabel>,
    ) {
        let Some(kept) = &self.0 else { return };
        let AuditedEnd { outcome, status, own_code, phases, is_opened } = *end;
        let written = kept.written.replace(Written::Whole);
        if kept.log.refuses() && !is_opened {
            // The call was refused because it could not be logged, and had no effect.
            return;
        }
        let found = found(&kept.scan);
        let answer = RpcAnswer { code: own_code.map(i64::from).or(found.code), ..found };
        let (outcome, bytes) = (outcome.name(), kept.bytes);
        let body = match written {
            // The answer was logged as complete. If the agent did not receive all of it, the call still had its effect.
            Written::Whole => return,
            Written::Begin => {
                let (role, call, took) = (call.role, call.number, phases.took());
                let note = label.as_ref().and_then(|label| label.answer_note());
                let (found, limit) = (found_in(note), note.and_then(AnswerNote::reached));
                CallEndLine { role, call, outcome, answer, bytes, found, limit, took }.body()
            }
            Written::Nothing => {
                let line = AuditCallLine { status, outcome, answer, bytes, ..line_of(call, head, phases) };
                with_label(line, label)
            }
        };
        kept.receipt.set(Some(kept.log.submit_if_sound(body)));
    }

    /// The failure to report to the agent: `failure`, or that the call could not be logged.
    pub async fn failure_to_report(&self, failure: CallFailure, core: &Core) -> CallFailure {
        match self.is_settled(core).await {
            true => failure,
            false if failure.may_have_acted() => CallFailure::Unrecorded,
            false => CallFailure::AuditUnavailable,
        }
    }

    /// Waits until a call that the role answers itself is written. False if that failed.
    pub async fn is_settled(&self, core: &Core) -> bool {
        let Some(kept) = &self.0 else { return true };
        match kept.receipt.take() {
            // Boxed, so that the future of other calls does not contain it.
            Some(receipt) => Box::pin(receipt.written_in_time(core)).await,
            None => !kept.log.refuses(),
        }
    }
}

fn found(scan: &AnswerScan) -> RpcAnswer {
    RpcAnswer { code: scan.code(), is_error: scan.is_error() }
}

/// What was found in the texts of an answer, if anything.
fn found_in(note: Option<&AnswerNote>) -> Option<String> {
    let found = note?.found();
    (!found.is_empty()).then(|| found.to_string())
}

fn line_of<'a>(call: &AuditedCall<'a>, head: &'a RequestHead, phases: &CallPhases) -> AuditCallLine<'a> {
    let AuditedCall { role, number, tunnel, route, edge, connector, peer, retries } = *call;
    let phase = |phase: &Phase| Some((phase.name(), phases.get(*phase)?));
    AuditCallLine {
        role,
        call: number,
        tunnel,
        route,
        edge,
        connector,
        peer,
        revision: head.get(mcp::PROTOCOL_VERSION),
        era: if mcp::is_stateless(head) { "stateless" } else { "sessions" },
        http: std::str::from_utf8(head.method_text()).unwrap_or_default(),
        session: head.get(mcp::SESSION_ID).filter(|session| !session.is_empty()),
        trace: trace_of(head).map(|trace| trace.to_string()),
        took: phases.took(),
        phases: Phase::ALL.iter().filter_map(phase).collect(),
        retries,
        ..AuditCallLine::default()
    }
}

/// The line, with the facts that are read from the message.
fn with_label(line: AuditCallLine<'_>, label: Option<&mut CallLabel>) -> Vec<u8> {
    let by_outcome =
        if line.outcome == Outcome::Denied.name() { AuditedDecision::Denied } else { AuditedDecision::Allowed };
    let Some(label) = label else { return AuditCallLine { decision: Some(by_outcome), ..line }.body() };
    // The call is read first, because that updates the label.
    let (kind, method) = (label.call().kind(), label.call().method());
    let name = label.call().target().map(str::to_owned);
    let trace = line.trace.clone().or_else(|| label.trace().map(|trace| trace.to_string()));
    let arguments = label.arguments_hash().map(|(len, hash)| (len, LineHash(hash)));
    let content = label.kept_arguments().and_then(redacted_arguments);
    let (method, id) = (method.unwrap_or(kind.name()), label.rpc_id());
    let governed = label.policy_decision();
    let decided = governed.and_then(|(_, decision)| decision);
    let decision = match decided {
        Some(ToolDecision::Allowed(_)) => Some(AuditedDecision::Allowed),
        Some(ToolDecision::Denied { .. }) => Some(AuditedDecision::Denied),
        // A request that ended before the policy decided was not allowed.
        None => Some(by_outcome).filter(|decision| governed.is_none() || *decision == AuditedDecision::Denied),
    };
    let policy = governed.filter(|_| decided.is_some()).map(|(digest, _)| AuditedPolicy {
        digest: LineHash(digest.bytes()),
        rule: decided.and_then(ToolDecision::rule).map(|rule| &*rule.name),
        limit: decided.and_then(ToolDecision::limit).or_else(|| label.answer_note()?.reached()),
        approval: label.approval_ticket().map(|ticket| ticket.to_string()),
    });
    let caller = label.identity().map(|identity| AuditedCaller {
        subject: &identity.subject,
        issuer: identity.issuer.as_deref(),
        client: identity.client.as_deref(),
        proof: identity.proof.name(),
        forwarded: identity.forwarded_by().zip(identity.forwarded_proof()),
    });
    let proven_edge = label.edge_identity().map(|edge| (&*edge.subject, edge.issuer.as_deref().unwrap_or_default()));
    let found = found_in(label.answer_note());
    let name = name.as_deref();
    let line = AuditCallLine { method, name, id, trace, arguments, content, ..line };
    AuditCallLine { caller, proven_edge, decision, policy, found, ..line }.body()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_event_stream_only_the_data_is_looked_at() {
        let stream = b": \"{ not JSON\n\nevent: message\nid: \"7\ndata: {\"method\":\"notifications/progress\",\"params\":{}}\n\n\
            id: {\"8\ndata: {\"result\":{\"isError\":true}}\n\n";
        for piece in [1, 2, 7, stream.len()] {
            let (log, _entries) = AuditLog::new(true);
            let mut audit = CallAudit::begin(Some(&log), None);
            stream.chunks(piece).for_each(|piece| audit.on_body_bytes(piece, true));
            let kept = audit.0.unwrap();
            assert_eq!(found(&kept.scan), RpcAnswer { code: None, is_error: Some(true) }, "in pieces of {piece}");
            assert_eq!(kept.bytes, stream.len() as u64);
        }
    }
}
