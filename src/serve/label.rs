use crate::base::Time;
use crate::latency::{PolicyMark, TraceId};
use crate::policy::{AgentIdentity, AnswerFilter, ApprovalTicket, PolicyDigest, SanitiseFound, ToolDecision};
use crate::serve::caller_tokens::ProvenCaller;
use crate::serve::governed::{Governed, Governing};
use crate::serve::read_ahead::ReadAhead;
use crate::wire::http1::{BodyError, Method, PolicyEdit, RequestHead, ResponseHead};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, CallKind, Said};

/// What a request is about, read from its head and from its body while that passes; kept from one request to the next for its
/// memory.
#[derive(Default)]
pub struct CallLabel {
    call: Call,
    pub(super) peek: Peek,
    /// How much of the body `call` was read from.
    call_read: usize,
    /// Whether the head says it all.
    is_in_head: bool,
    /// Whether a rule depends on it, so that a body that contradicts it is refused.
    pub(super) is_required: bool,
    /// Whether the caller was told to send the body.
    pub(super) has_continued: bool,
    /// What was read of the body before the call was opened.
    pub(super) ahead: ReadAhead,
    /// Who calls, where its route asks for that.
    pub(super) caller: Option<ProvenCaller>,
    /// What the policy of the route has to do with it; none without a policy.
    pub(super) governed: Option<Box<Governed>>,
    /// The memory of that, for the next request.
    spare: Option<Box<Governed>>,
}

impl CallLabel {
    /// Starts with the head of a request.
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

    /// Notes who calls, which a policy then goes by.
    pub(super) fn set_caller(&mut self, caller: ProvenCaller) {
        self.caller = Some(caller);
    }

    /// Learns from the head of the answer which session its caller has.
    pub(super) fn on_answer(&self, head: &RequestHead, answer: &ResponseHead, now: Time) {
        if let Some(caller) = &self.caller {
            caller.on_answer(head, answer, now);
        }
    }

    /// When it is no longer proven who calls.
    pub(super) fn proven_until(&self) -> Time {
        self.caller.as_ref().map_or(Time::NEVER, |caller| caller.until)
    }

    /// Forgets who made the last call.
    pub(super) fn forget_caller(&mut self) {
        self.caller = None;
    }

    /// Who calls, as far as that was proven.
    #[must_use]
    pub fn identity(&self) -> Option<&AgentIdentity> {
        let of_token = self.caller.as_ref().and_then(|caller| caller.identity.as_deref());
        of_token.or_else(|| self.governed.as_ref()?.key_owner())
    }

    /// Has the request, with this head, decided by a policy before it is passed on. Its caller is at this address.
    pub(super) fn govern(&mut self, governing: &Governing<'_>, head: &RequestHead) {
        self.peek.be_strict();
        if governing.policy.asks_for_approval() {
            self.peek.hash_arguments();
        }
        let governed = Governed::new(governing, head, self.caller.as_ref());
        self.governed = Some(match self.spare.take() {
            Some(mut spare) => {
                *spare = governed;
                spare
            }
            None => Box::new(governed),
        });
    }

    /// Has the call no longer counted among those under way.
    pub(super) fn end_governed(&mut self) {
        if let Some(governed) = &mut self.governed {
            governed.end();
        }
    }

    /// The digest of the policy of the route, if there is one, and what it has decided, once it has.
    pub(super) fn policy_decision(&self) -> Option<(PolicyDigest, Option<&ToolDecision>)> {
        Some(self.governed.as_ref()?.decision())
    }

    /// By which ticket the call waits for approval, or was approved.
    pub(super) fn approval_ticket(&self) -> Option<ApprovalTicket> {
        self.governed.as_ref()?.ticket()
    }

    /// The same of what was decided, short.
    #[must_use]
    pub fn policy_mark(&self) -> Option<PolicyMark> {
        self.governed.as_ref()?.mark()
    }

    /// What the policy of the route, and what it asks of its callers, change of the request.
    #[must_use]
    pub fn policy_edit(&self) -> PolicyEdit<'_> {
        let edit = self.governed.as_ref().map_or(PolicyEdit::NONE, |governed| governed.edit());
        let Some(caller) = &self.caller else { return edit };
        let edit = PolicyEdit { identity: caller.told(), ..edit };
        match caller.auth.terms() {
            terms if terms.is_terminated => PolicyEdit {
                drop_authorization: true,
                authorization: terms.authorization.as_ref().map(|secret| secret.expose()),
                ..edit
            },
            _ => edit,
        }
    }

    /// Whether the token of the caller stays here, so that what the server asks of its credentials is not the caller's affair.
    pub(super) fn is_terminated(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.auth.terms().is_terminated)
    }

    /// What of this answer to a request the caller may see, if that is not all.
    pub(super) fn filter(&mut self, head: &RequestHead, answer: &ResponseHead) -> Option<AnswerFilter> {
        self.governed.as_ref()?;
        self.call();
        // A file that is fetched is no answer to a message.
        let may_answer = head.method() != Method::Get || answer.names_event_stream();
        self.governed.as_ref().filter(|_| may_answer)?.filter(head, &self.call)
    }

    /// What the policy of the route has found in the texts of the answer, if anything.
    pub(super) fn found(&self) -> Option<SanitiseFound> {
        let found = self.governed.as_ref()?.note()?.found();
        (!found.is_empty()).then_some(found)
    }

    /// Logs what that is at the end of the call: which kinds and how often, and never the texts. Returns it to be counted.
    #[must_use]
    pub fn log_found(&self) -> Option<SanitiseFound> {
        let found = self.found()?;
        tracing::info!(%found, "the policy of a route has found something in the texts of an answer");
        Some(found)
    }

    /// Has the arguments of the call digested with this seed as they pass.
    pub fn digest_arguments(&mut self, seed: u64) {
        self.peek.digest_arguments(seed);
    }

    /// The digest of the arguments, if they passed whole and that was asked for.
    #[must_use]
    pub fn arguments_digest(&self) -> Option<u64> {
        self.peek.arguments_digest()
    }

    /// Has the SHA-256 of the call's arguments computed as they pass.
    pub fn hash_arguments(&mut self) {
        self.peek.hash_arguments();
    }

    /// The length and SHA-256 of the arguments as JSON text without white space, if they passed whole and that was asked for.
    #[must_use]
    pub fn arguments_hash(&self) -> Option<(u64, [u8; 32])> {
        self.peek.arguments_hash()
    }

    /// Reads the next bytes of the body.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.peek.feed(bytes);
    }

    /// Reads the next bytes of the body, which are about to be sent.
    ///
    /// # Errors
    ///
    /// If a rule depends on the label, and the body contradicts what it said first.
    pub(super) fn read_passing(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        if let Some(governed) = &mut self.governed {
            return governed.read(&mut self.peek, bytes);
        }
        self.read(bytes);
        let contradicts = self.is_required && self.said() == Said::Ambiguous;
        if contradicts { Err(BodyError::AmbiguousMessage) } else { Ok(()) }
    }

    /// Whether head and body have said so far what the request is about.
    pub(super) fn said(&self) -> Said {
        // Servers check the fields of the head against the body.
        if self.is_in_head { Said::Enough } else { Said::by(&self.peek) }
    }

    /// Whether its body was read whole, and is a message of this method for certain.
    #[must_use]
    pub fn is_surely(&self, method: &str) -> bool {
        self.peek.is_whole() && Said::by(&self.peek) == Said::Enough && self.peek.method() == Some(method)
    }

    /// Whether the caller was told to send the body, so that the next hop need not tell it.
    #[must_use]
    pub fn has_continued(&self) -> bool {
        self.has_continued
    }

    /// Whether no more of the body needs to be read.
    pub(super) fn is_done(&self) -> bool {
        self.peek.is_done()
    }

    /// The trace that the message names (`params._meta.traceparent`), if that has been read.
    #[must_use]
    pub fn trace(&self) -> Option<TraceId> {
        self.peek.traceparent().and_then(|value| TraceId::of_traceparent(value.as_bytes()))
    }

    /// The id of the JSON-RPC message as JSON text, if it has been read.
    #[must_use]
    pub fn rpc_id(&self) -> Option<&str> {
        self.peek.id()
    }

    /// Whether the message may be a request, as far as it has been read. False for a notification, and for the caller's response to a
    /// request of the server.
    pub fn may_expect_answer(&mut self) -> bool {
        let is_answer = self.peek.has_outcome() && self.peek.method().is_none();
        let call = self.call();
        let is_notification = call.kind() == CallKind::Notification
            || call.method().is_some_and(|method| method.starts_with("notifications/"));
        !is_answer && !is_notification && call.kind() != CallKind::Response
    }

    /// The exchange, as far as it has been read.
    pub fn call(&mut self) -> &Call {
        // The method says it all for those that have no message.
        let has_message = !matches!(self.call.kind(), CallKind::Stream | CallKind::EndSession);
        if has_message && self.peek.inspected() > self.call_read {
            self.call_read = self.peek.inspected();
            self.call.read_body(&self.peek);
        }
        &self.call
    }
}
