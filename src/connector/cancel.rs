//! Telling an upstream that a call is cancelled, because its caller does not wait any longer.
//!
//! From revision 2026-07-28 of MCP on, a closed connection says so. In the revisions before, a server goes on after that, unless it
//! is sent `notifications/cancelled`.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::connector::call::{CallContext, UpstreamWork, addressed};
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

/// How many such messages may be under way on one core: a server that answers nothing any more must keep its connections for calls.
const UNDER_WAY_MAX: u32 = 16;
/// How long one may take until the upstream has answered it.
const WITHIN: Duration = Duration::from_secs(5);

/// The messages that are under way on one core.
#[derive(Clone, Default)]
pub(super) struct Cancellations(Rc<Cell<u32>>);

/// A message to an upstream.
struct Cancellation {
    core: Core,
    connector: Arc<Connector>,
    served: Rc<Served>,
    head: Vec<u8>,
    body: Vec<u8>,
    under_way: Rc<Cell<u32>>,
}

/// Whether the id in the body of a request is needed if the call is cancelled, and nothing else reads it. If the body `is_kept`, it is read
/// only then, so that it need not be known for certain.
pub(super) fn may_be_cancelled(context: &CallContext<'_>, head: &RequestHead, is_kept: bool) -> bool {
    !context.is_agents() && head.method() == Method::Post && (is_kept || !is_stateless(head))
}

/// Tells the upstream of a call that it is cancelled, if its revision of MCP needs that, and returns whether it does. It has stopped on
/// this side. `work` knows its message if no label does.
pub(super) fn cancel(context: &CallContext<'_>, request: &mut impl Request, work: &mut UpstreamWork) -> bool {
    let CallContext { core, .. } = *context;
    let Some(body) = message(request, work) else { return false };
    let Some(served) = core.upstreams.for_request(request.head()) else { return false };
    let under_way = &core.cancellations.0;
    if under_way.get() >= UNDER_WAY_MAX {
        Counters::add(&core.connector.counters.cancellations_failed);
        return false;
    }
    under_way.set(under_way.get() + 1);
    let (head, label) = request.context_mut().head_and_label();
    // What the server must not see of the call, or gets in its place.
    let policy = label.map_or(PolicyEdit::NONE, |label| label.policy_edit());
    let head = cancelling_head(context, &served, head, policy, body.len());
    let cancellation = Cancellation {
        core: core.core.clone(),
        connector: Arc::clone(&core.connector),
        served,
        head,
        body,
        under_way: Rc::clone(under_way),
    };
    core.core.spawn(cancellation.run());
    true
}

/// The message for a request; none if it is not to be sent.
fn message(request: &mut impl Request, work: &mut UpstreamWork) -> Option<Vec<u8>> {
    if request.head().method() != Method::Post || is_stateless(request.head()) {
        return None;
    }
    let read = request.label().and_then(|label| {
        let may = is_cancelled_by_id(label.call());
        label.rpc_id().filter(|_| may).map(str::to_owned)
    });
    // A label may not have been fed.
    let id = read.or_else(|| work.read_message(id_of).flatten())?;
    let reason = "the caller does not wait any longer";
    let message = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"{reason}"}}}}"#
    );
    Some(message.into_bytes())
}

/// The id of a message by which it is cancelled.
fn id_of(peek: &Peek) -> Option<String> {
    let mut call = Call::default();
    call.read_body(peek);
    peek.id().filter(|_| is_cancelled_by_id(&call)).map(str::to_owned)
}

/// A client must not cancel `initialize`.
fn is_cancelled_by_id(call: &Call) -> bool {
    call.kind() == CallKind::Request && call.method().is_some_and(|method| method != INITIALIZE)
}

/// The head of the message, with the fields of the request as the server got them.
fn cancelling_head(
    context: &CallContext<'_>,
    served: &Served,
    request: &RequestHead,
    policy: PolicyEdit<'_>,
    len: usize,
) -> Vec<u8> {
    let mut append = None;
    let edits = addressed(context, served, request, &mut append);
    let edits = RequestEdits { framing: Framing::Length(len as u64), drop_expect: true, policy, ..edits };
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

    /// Sends the message, and returns the head of the answer if it was accepted.
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

impl Drop for Cancellation {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get() - 1);
    }
}
