//! Cancels a call at its upstream because the caller's time is over.
//!
//! From MCP revision 2026-07-28 on, a closed connection cancels a call. In earlier revisions the server continues
//! unless it receives `notifications/cancelled`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::connector::call::{UpstreamWork, addressed};
use crate::connector::call_context::CallContext;
use crate::connector::cancellations::CancellationPermit;
use crate::connector::checkout::Held;
use crate::connector::shared::{Connector, Counters};
use crate::connector::upstreams::Served;
use crate::engine::{ByteStream, Core};
use crate::exchange::{BodySink, Http1Sink, Intake, Outlet};
use crate::serve::Request;
use crate::upstream::{Checkout, UpstreamConnection};
use crate::wire::http1::{Framing, Method, PolicyEdit, RequestEdits, RequestHead, ResponseHead, write_request};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, CallKind, INITIALIZE, is_stateless};

/// How long the upstream may take to answer a notification.
const WITHIN: Duration = Duration::from_secs(5);

/// A cancel notification for an upstream.
struct Cancellation {
    core: Core,
    connector: Arc<Connector>,
    served: Rc<Served>,
    head: Vec<u8>,
    body: Vec<u8>,
    _permit: CancellationPermit,
}

/// Whether a cancellation would need the id in the body of a request, which nothing else reads. If the body `is_kept`,
/// the id is read only on a cancellation, and a guess is enough here.
pub(super) fn may_be_cancelled(context: &CallContext<'_>, head: &RequestHead, is_kept: bool) -> bool {
    !context.is_agents() && head.method() == Method::Post && (is_kept || !is_stateless(head))
}

/// Sends a cancel notification to the upstream of a call that has stopped on this side, if its MCP revision needs one.
/// Returns whether it was sent. `work` has the message if no label was read.
pub(super) fn cancel(context: &CallContext<'_>, request: &mut impl Request, work: &mut UpstreamWork) -> bool {
    let CallContext { core, .. } = *context;
    let Some(body) = message(request, work) else { return false };
    let Some(served) = core.upstreams.for_request(request.head()) else { return false };
    let Some(permit) = core.cancellations.begin() else {
        Counters::add(&core.connector.counters.cancellations_failed);
        return false;
    };
    let caller_key = served.caller_key(request.label().and_then(|label| label.caller_number()));
    let (head, label) = request.context_mut().head_and_label();
    // The fields that the policy removes or replaces in the call.
    let policy = label.map_or(PolicyEdit::NONE, |label| label.policy_edit());
    let head = cancelling_head(context, &served, head, (policy, caller_key.as_deref()), body.len());
    let cancellation = Cancellation {
        core: core.core.clone(),
        connector: Arc::clone(&core.connector),
        served,
        head,
        body,
        _permit: permit,
    };
    core.core.spawn(cancellation.run());
    true
}

/// The notification for a request; none if it must not be cancelled.
fn message(request: &mut impl Request, work: &mut UpstreamWork) -> Option<Vec<u8>> {
    if request.head().method() != Method::Post || is_stateless(request.head()) {
        return None;
    }
    let read = request.label().and_then(|label| {
        let may = is_cancelled_by_id(label.call());
        label.rpc_id().filter(|_| may).map(str::to_owned)
    });
    // The body may not have been read into a label.
    let id = read.or_else(|| work.read_message(id_of).flatten())?;
    let reason = "the caller's time is over";
    let message = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{reason}"}}}}"#
    );
    Some(message.into_bytes())
}

/// The id by which a message is cancelled.
fn id_of(peek: &Peek) -> Option<String> {
    let mut call = Call::default();
    call.read_body(peek);
    peek.id().filter(|_| is_cancelled_by_id(&call)).map(str::to_owned)
}

/// A client must not cancel `initialize`.
fn is_cancelled_by_id(call: &Call) -> bool {
    call.kind() == CallKind::Request && call.method().is_some_and(|method| method != INITIALIZE)
}

/// The head of the notification, with the fields of the request as the server received them.
fn cancelling_head(
    context: &CallContext<'_>,
    served: &Served,
    request: &RequestHead,
    (policy, edge_identity): (PolicyEdit<'_>, Option<&str>),
    len: usize,
) -> Vec<u8> {
    let mut append = None;
    let edits = addressed(context, served, request, &mut append);
    let edits =
        RequestEdits { framing: Framing::Length(len as u64), drop_expect: true, policy, edge_identity, ..edits };
    let mut head = Vec::new();
    write_request(request, &edits, &mut head);
    head
}

impl Cancellation {
    async fn run(self) {
        let sent = self.core.timeout(WITHIN, self.send()).await;
        let counters = &self.connector.counters;
        let is_sent = sent.is_ok_and(|sent| sent.is_some());
        Counters::add(if is_sent { &counters.cancellations_sent } else { &counters.cancellations_failed });
    }

    async fn send(&self) -> Option<()> {
        let Checkout { connection, .. } = self.served.upstream.checkout().await.ok()?;
        let mut held = Held::new(connection);
        let answer = match held.get() {
            UpstreamConnection::Http(connection) => self.post(connection.connection()).await?,
            UpstreamConnection::Http2(stream) => self.post(stream.as_ref()).await?,
        };
        let is_whole = matches!(answer.framing(), Framing::None | Framing::Length(0));
        if is_whole {
            held.release(answer.keep_alive(), answer.idle_timeout());
        }
        Some(())
    }

    /// Sends the notification, and returns the head of the answer if it was accepted.
    async fn post(&self, upstream: &impl ByteStream) -> Option<ResponseHead> {
        let (mut outlet, mut scratch) = (Outlet::default(), Vec::new());
        let mut sink = Http1Sink::new(upstream, self.core.pool(), &mut outlet, &mut scratch);
        sink.begin(Framing::Length(self.body.len() as u64));
        sink.write_head(|out| out.extend_from_slice(&self.head));
        sink.send_head().await.ok()?;
        sink.copy(&self.body).await.ok()?;
        sink.end(std::iter::empty()).await.ok()?;
        let (mut intake, mut answer) = (Intake::default(), ResponseHead::default());
        let is_read = intake.response_head(upstream, &mut answer, Method::Post).await.ok()?;
        (is_read && (200..300).contains(&answer.status()) && !intake.has_rest()).then_some(answer)
    }
}
