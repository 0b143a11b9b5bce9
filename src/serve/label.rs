use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Time;
use crate::engine::Core;
use crate::identity::{RouteAuth, TokenRefusal};
use crate::latency::{PolicyMark, TraceContext, TraceId};
use crate::policy::{AgentIdentity, AnswerFilter, AnswerNote, ApprovalTicket, PolicyDigest, ToolDecision};
use crate::serve::caller_tokens::ProvenCaller;
use crate::serve::governed::{Governed, Governing};
use crate::serve::read_ahead::{LabelError, ReadAhead};
use crate::wire::http1::{BodyError, Method, PolicyEdit, RequestHead, ResponseHead};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, CallKind, PeekOutcome};

/// How long a call that was approved waits until it is kept that the approval was used.
const APPROVAL_KEPT_WITHIN: Duration = Duration::from_secs(5);

/// The label of a call, read from its head and from its body while that passes. Reused by the next request, for its
/// memory.
#[derive(Default)]
pub struct CallLabel {
    call: Call,
    pub(super) peek: Peek,
    /// How many bytes of the body `call` was read from.
    call_read: usize,
    /// Whether the head contains the whole label.
    is_in_head: bool,
    /// Whether a rule depends on the label, so that a contradicting body is refused.
    pub(super) is_required: bool,
    /// Whether the caller was sent 100 (Continue).
    pub(super) has_continued: bool,
    /// The part of the body that was read before the call was opened.
    pub(super) ahead: ReadAhead,
    /// The authenticated caller, if the route requires one.
    pub(super) caller: Option<ProvenCaller>,
    /// The state of the route's policy; none without a policy.
    pub(super) governed: Option<Box<Governed>>,
    /// The memory of that state, for the next request.
    spare: Option<Box<Governed>>,
}

/// The counters of a role for what policies find in answers.
pub struct NoteCounters<'a> {
    /// Texts that were changed.
    pub texts_changed: &'a AtomicU64,
    /// Texts that were only flagged.
    pub texts_flagged: &'a AtomicU64,
    /// Answers that were withheld because of a ceiling.
    pub answers_over_ceiling: &'a AtomicU64,
    /// Answers that were cut because of a ceiling.
    pub answers_cut: &'a AtomicU64,
}

impl NoteCounters<'_> {
    fn add(self, note: &AnswerNote) {
        self.texts_changed.fetch_add(note.found().all_changed(), Ordering::Relaxed);
        self.texts_flagged.fetch_add(note.found().all_flagged(), Ordering::Relaxed);
        let of_ceiling = if note.is_cut() { self.answers_cut } else { self.answers_over_ceiling };
        of_ceiling.fetch_add(u64::from(note.reached().is_some()), Ordering::Relaxed);
    }
}

impl CallLabel {
    /// Starts the label of a request with this head.
    pub(super) fn begin(&mut self, head: &RequestHead) {
        self.is_in_head = self.call.read_head(head);
        self.is_required = false;
        self.has_continued = false;
        self.call_read = 0;
        self.peek.clear();
        self.ahead.clear();
        self.end_governed();
        self.spare = self.governed.take().or(self.spare.take());
        self.caller = None;
    }

    /// Sets the caller, for the decision of the policy.
    pub(super) fn set_caller(&mut self, caller: ProvenCaller) {
        self.caller = Some(caller);
    }

    /// Whether the caller's token is exchanged before the request is forwarded.
    pub(super) fn exchanges_token(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.auth.exchange().is_some())
    }

    /// Exchanges the caller's token.
    ///
    /// # Errors
    ///
    /// The route's authentication settings, and why there is no token for the server, or not yet.
    pub(super) fn exchange_token(
        &mut self,
        head: &RequestHead,
        now: Duration,
    ) -> Result<(), (Arc<RouteAuth>, TokenRefusal)> {
        let Some(caller) = self.caller.as_mut() else { return Ok(()) };
        caller.exchange(head, now).map_err(|refusal| (Arc::clone(&caller.auth), refusal))
    }

    /// Learns from the head of the answer which session the caller has.
    pub(super) fn on_answer(&self, head: &RequestHead, answer: &ResponseHead, now: Time) {
        if let Some(caller) = &self.caller {
            caller.on_answer(head, answer, now);
        }
    }

    /// When the caller's authentication expires.
    pub(super) fn proven_until(&self) -> Time {
        self.caller.as_ref().map_or(Time::NEVER, |caller| caller.until)
    }

    /// Forgets the caller of the last call.
    pub(super) fn forget_caller(&mut self) {
        self.caller = None;
    }

    /// The caller's identity, as far as it is authenticated.
    #[must_use]
    pub fn identity(&self) -> Option<&AgentIdentity> {
        let of_token = self.caller.as_ref().and_then(|caller| caller.identity.as_deref());
        of_token.or_else(|| self.governed.as_ref()?.key_owner())
    }

    /// The identity of the edge, if its certificate was asked for.
    #[must_use]
    pub fn edge_identity(&self) -> Option<&AgentIdentity> {
        self.caller.as_ref()?.edge.as_deref()
    }

    /// Makes a policy decide the request with this head before it is forwarded.
    pub(super) fn govern(&mut self, governing: &Governing<'_>, head: &RequestHead) {
        self.peek.be_strict();
        if governing.policy.asks_for_approval() {
            self.peek.hash_arguments();
        }
        let address = self.caller.as_ref().and_then(|caller| caller.address).or(governing.address);
        let governing = Governing { address, ..*governing };
        let governed = Governed::new(&governing, head, self.caller.as_ref());
        self.governed = Some(match self.spare.take() {
            Some(mut spare) => {
                *spare = governed;
                spare
            }
            None => Box::new(governed),
        });
    }

    /// Stops counting the call as in flight.
    pub(super) fn end_governed(&mut self) {
        if let Some(governed) = &mut self.governed {
            governed.end();
        }
    }

    /// The digest of the route's policy, if there is one, and its decision once made.
    pub(super) fn policy_decision(&self) -> Option<(PolicyDigest, Option<&ToolDecision>)> {
        Some(self.governed.as_ref()?.decision())
    }

    /// Whether the call has an approval of which it has to be kept that it was used.
    pub(super) fn has_used_approval(&self) -> bool {
        self.governed.as_ref().is_some_and(|governed| governed.has_used())
    }

    /// Waits until that is kept.
    ///
    /// # Errors
    ///
    /// If it cannot be, or not in time. The call is then denied, and the approval holds.
    pub(super) async fn keep_used_approval(&mut self, head: &RequestHead, core: &Core) -> Result<(), LabelError> {
        let Some(governed) = &mut self.governed else { return Ok(()) };
        let Some(used) = governed.take_used() else { return Ok(()) };
        if core.timeout(APPROVAL_KEPT_WITHIN, used.kept()).await == Ok(true) {
            return Ok(());
        }
        used.put_back();
        Err(LabelError::Denied(governed.deny_unkept(head, &self.peek)?))
    }

    /// The ticket of the approval that the call waits for, or was approved by.
    pub(super) fn approval_ticket(&self) -> Option<ApprovalTicket> {
        self.governed.as_ref()?.ticket()
    }

    /// The decision in its short form.
    #[must_use]
    pub fn policy_mark(&self) -> Option<PolicyMark> {
        self.governed.as_ref()?.mark()
    }

    /// The changes to the request that the route's policy and authentication require.
    #[must_use]
    pub fn policy_edit(&self) -> PolicyEdit<'_> {
        let edit = self.governed.as_ref().map_or(PolicyEdit::NONE, |governed| governed.edit());
        let Some(caller) = &self.caller else { return edit };
        let edit = PolicyEdit { identity: caller.identity_field(), ..edit };
        match caller.auth.terms() {
            terms if terms.is_terminated => {
                PolicyEdit { drop_authorization: true, authorization: caller.authorization(), ..edit }
            }
            _ => edit,
        }
    }

    /// The caller's identity for the connector, if the route forwards it.
    #[must_use]
    pub fn forwarded_identity(&self) -> Option<&str> {
        self.caller.as_ref()?.forwarded()
    }

    /// A number that stands for the caller's identity in this process; none if the route identifies no callers.
    #[must_use]
    pub fn caller_number(&self) -> Option<u64> {
        self.caller.as_ref().map(|caller| caller.number())
    }

    /// Whether the caller's token is removed here. The server's challenges then do not concern the caller.
    pub(super) fn is_terminated(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.auth.terms().is_terminated)
    }

    /// The filter for this answer, if anything of it may change.
    pub(super) fn filter(&mut self, head: &RequestHead, answer: &ResponseHead) -> Option<AnswerFilter> {
        self.governed.as_ref()?;
        self.call();
        // A fetched file is not the answer to a message.
        let may_answer = head.method() != Method::Get || answer.names_event_stream();
        let (call, peek) = (&self.call, &self.peek);
        self.governed.as_mut().filter(|_| may_answer)?.filter(head, call, peek)
    }

    /// What became of the answer by the policy of the route, if that has looked at it.
    pub(super) fn answer_note(&self) -> Option<&AnswerNote> {
        self.governed.as_ref()?.note()
    }

    /// Logs and counts what that is at the end of the call: what was found and how often, and never the texts.
    pub fn log_answer_note(&self, counters: NoteCounters<'_>) {
        let Some(note) = self.answer_note() else { return };
        let found = note.found();
        if !found.is_empty() {
            tracing::info!(%found, "the policy of a route has found something in the texts of an answer");
        }
        if let Some(limit) = note.reached().filter(|_| note.is_cut()) {
            tracing::info!(limit, "an answer was cut: it has more than a rule of the policy of its route lets it have");
        } else if let Some(limit) = note.reached() {
            tracing::info!(
                limit,
                "an answer was withheld: it has more than a rule of the policy of its route lets it have"
            );
        }
        counters.add(note);
    }

    /// Computes a digest of the call's arguments with this seed while they pass.
    pub fn digest_arguments(&mut self, seed: u64) {
        self.peek.digest_arguments(seed);
    }

    /// The digest of the arguments, if it was requested and all of them passed.
    #[must_use]
    pub fn arguments_digest(&self) -> Option<u64> {
        self.peek.arguments_digest()
    }

    /// Computes the SHA-256 of the call's arguments while they pass.
    pub fn hash_arguments(&mut self) {
        self.peek.hash_arguments();
    }

    /// Also keeps the arguments, if they are no longer than this.
    pub fn keep_arguments(&mut self, len_max: usize) {
        self.peek.keep_arguments(len_max);
    }

    /// The arguments as JSON text without white space, if they were kept and all of them passed.
    #[must_use]
    pub fn kept_arguments(&self) -> Option<&str> {
        std::str::from_utf8(self.peek.kept_arguments()?).ok()
    }

    /// The length and SHA-256 of the arguments as JSON text without white space, if that was requested and all of them
    /// passed.
    #[must_use]
    pub fn arguments_hash(&self) -> Option<(u64, [u8; 32])> {
        self.peek.arguments_hash()
    }

    /// Reads the next bytes of the body.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.peek.feed(bytes);
    }

    /// Reads the next bytes of the body before they are sent.
    ///
    /// # Errors
    ///
    /// If a rule depends on the label and the body contradicts it.
    pub(super) fn read_passing(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if let Some(governed) = &mut self.governed {
            return governed.read(&mut self.peek, bytes);
        }
        self.read(bytes);
        let contradicts = self.is_required && self.outcome() == PeekOutcome::Ambiguous;
        if contradicts { Err(BodyError::AmbiguousMessage) } else { Ok(()) }
    }

    /// How much of the label head and body have shown so far.
    pub(super) fn outcome(&self) -> PeekOutcome {
        // Servers check the fields of the head against the body.
        if self.is_in_head { PeekOutcome::Enough } else { PeekOutcome::of(&self.peek) }
    }

    /// Whether the whole body was read and is certainly a message of this method.
    #[must_use]
    pub fn is_surely(&self, method: &str) -> bool {
        self.peek.is_whole() && PeekOutcome::of(&self.peek) == PeekOutcome::Enough && self.peek.method() == Some(method)
    }

    /// Whether the caller was sent 100 (Continue), so that the next hop need not send it.
    #[must_use]
    pub fn has_continued(&self) -> bool {
        self.has_continued
    }

    /// Whether no more of the body needs to be read.
    pub(super) fn is_done(&self) -> bool {
        self.peek.is_done()
    }

    /// The trace id in the message (`params._meta.traceparent`), if read.
    #[must_use]
    pub fn trace(&self) -> Option<TraceId> {
        self.peek.traceparent().and_then(|value| TraceId::of_traceparent(value.as_bytes()))
    }

    /// The trace context in the message (`params._meta.traceparent`), if read.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.peek.traceparent().and_then(|value| TraceContext::of_traceparent(value.as_bytes()))
    }

    /// The id of the JSON-RPC message as JSON text, if it has been read.
    #[must_use]
    pub fn rpc_id(&self) -> Option<&str> {
        self.peek.id()
    }

    /// Whether the message may be a request, judging by what was read. False for a notification, and for the caller's
    /// response to a request of the server.
    pub fn may_expect_answer(&mut self) -> bool {
        let is_answer = self.peek.has_outcome() && self.peek.method().is_none();
        let call = self.call();
        let is_notification = call.kind() == CallKind::Notification
            || call.method().is_some_and(|method| method.starts_with("notifications/"));
        !is_answer && !is_notification && call.kind() != CallKind::Response
    }

    /// The call, as far as it has been read.
    pub fn call(&mut self) -> &Call {
        // For requests without a message, the HTTP method is enough.
        let has_message = !matches!(self.call.kind(), CallKind::Stream | CallKind::EndSession);
        if has_message && self.peek.inspected() > self.call_read {
            self.call_read = self.peek.inspected();
            self.call.read_body(&self.peek);
        }
        &self.call
    }
}
