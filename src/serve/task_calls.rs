//! Adds tool calls to their tasks: at the edge, and at the connector where agents' TLS ends there.

use crate::base::Time;
use crate::exchange::trace_of;
use crate::latency::{CallPhases, HostText, Outcome, Phase, TaskCall, TaskId, TaskTable, TraceId};
use crate::wire::http1::RequestHead;
use crate::wire::mcp::Call;

/// The method by which an agent cancels a call and keeps its connection.
const CANCELLED: &str = "notifications/cancelled";

/// The size of an answer, and whether it is text.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerSize {
    /// Bytes of its body.
    pub bytes: u64,
    /// Whether it is text or JSON.
    pub is_text: bool,
}

impl AnswerSize {
    /// An answer of this type, without a body yet.
    #[must_use]
    pub fn of(content_type: Option<&[u8]>) -> AnswerSize {
        let starts = |prefix: &[u8]| {
            content_type
                .is_some_and(|kind| kind.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
        };
        AnswerSize { bytes: 0, is_text: starts(b"text/") || starts(b"application/json") }
    }
}

/// The task of a request, by the first field that names one. `trace` is the trace id of its body, and `session` returns
/// a keyed hash of the session id in its head.
pub fn task_of(
    tasks: &TaskTable,
    head: &RequestHead,
    trace: Option<TraceId>,
    session: impl FnOnce() -> Option<u64>,
) -> Option<TaskId> {
    let value = |name: &str| head.get(name).filter(|value| !value.is_empty());
    let named = tasks.settings().header.as_deref().and_then(value).and_then(|name| std::str::from_utf8(name).ok());
    if let Some(name) = named {
        return Some(TaskId::Named(HostText::of(name)));
    }
    trace_of(head).or(trace).map(TaskId::Trace).or_else(|| session().map(TaskId::Session))
}

/// The result of a call that has ended.
pub struct EndedCall<'a> {
    /// The label of the call.
    pub call: &'a Call,
    /// The digest of its arguments, if it is known.
    pub arguments: Option<u64>,
    /// The size of its answer.
    pub answer: AnswerSize,
    /// The phases of the call.
    pub phases: &'a CallPhases,
    /// The outcome that is recorded for it.
    pub outcome: Outcome,
    /// Whether it was handed to the next hop.
    pub is_opened: bool,
    /// The price of a call of its tool, in millionths of a unit.
    pub price: u64,
}

/// Adds a call to its task, if it calls a tool, or cancels such a call.
pub fn add_to_task(tasks: &TaskTable, id: TaskId, ended: &EndedCall<'_>, now: Time) {
    let EndedCall { call, arguments, answer, phases, outcome, is_opened, price } = ended;
    let Some(tool) = call.tool() else {
        if call.method() == Some(CANCELLED) {
            tasks.record_cancelled(id, now);
        }
        return;
    };
    // Of a call that was cut, nearly all time beyond the edge is that of the server.
    let of_server = [Phase::UpstreamLast, Phase::Upstream, Phase::BeyondEdge];
    let upstream = of_server.into_iter().find_map(|phase| phases.get(phase)).unwrap_or_default();
    let call = TaskCall {
        tool,
        arguments: *arguments,
        is_given_up: *outcome == Outcome::AgentGone,
        is_timed_out: *outcome == Outcome::TimedOut,
        bytes: answer.bytes,
        is_text: answer.is_text,
        tunnel: phases.took().saturating_sub(upstream),
        upstream,
        // Calls that did not reach the tool are not charged.
        price: if *is_opened && outcome.is_timed() { *price } else { 0 },
    };
    tasks.record(id, &call, now);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::TaskSettings;

    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(format!("POST /mcp HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").as_bytes()).unwrap();
        head
    }

    #[test]
    fn a_task_is_named_by_the_header_then_by_a_trace_then_by_the_session() {
        let settings = TaskSettings { tasks_max: 8, header: Some("X-Task-Id".into()), ..TaskSettings::default() };
        let tasks = TaskTable::new(settings).unwrap();
        let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
        let session = "Mcp-Session-Id: secret\r\n";
        let of_session = |fields: &str| fields.contains(session).then_some(7);
        let of = |fields: &str| task_of(&tasks, &head(fields), None, || of_session(fields));
        assert_eq!(of(&format!("x-task-id: t1\r\n{trace}{session}")), Some(TaskId::Named(HostText::of("t1"))));
        assert!(matches!(of(&format!("{trace}{session}")), Some(TaskId::Trace(_))));
        assert_eq!(of(session), Some(TaskId::Session(7)));
        assert_eq!(of("X-Task-Id:\r\n"), None);
        // The trace of the body counts where the head has none.
        let of_body = TraceId::of_digits(b"0000000000000000000000000000000b");
        let in_body = |fields: &str| task_of(&tasks, &head(fields), of_body, || of_session(fields));
        assert_eq!(in_body(session), of_body.map(TaskId::Trace));
        assert_eq!(in_body(trace), of(trace));
    }

    #[test]
    fn tokens_are_estimated_for_text_alone() {
        let is_text = |kind: &str| AnswerSize::of(Some(kind.as_bytes())).is_text;
        assert!(is_text("application/json; charset=utf-8") && is_text("Text/Event-Stream"));
        assert!(!is_text("image/png") && !is_text("") && !AnswerSize::of(None).is_text);
    }
}
