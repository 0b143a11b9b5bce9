//! Requests of routes with a policy: each is parsed as its server parses it, and decided before it is forwarded.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::Clock;
use crate::engine::Core;
use crate::exchange::ToolDenied;
use crate::identity::RouteAuth;
use crate::latency::PolicyMark;
use crate::policy::{
    AgentIdentity, AnswerFilter, AnswerNote, AnsweredRequest, ApprovalTask, ApprovalTicket, Asked, BodyKind,
    CallerFacts, CallerOrigin, CedarCaller, CountedCaller, Denial, ListFilter, PolicyDigest, QuotaPermit, QuotaTime,
    Reads, RoleSet, SanitiseFound, ToolDecision, ToolPolicy, UnreadableArguments, UsedApproval, check_message,
    read_request,
};
use crate::serve::caller_tokens::{ProvenCaller, bearer};
use crate::serve::read_ahead::ReadAhead;
use crate::wire::Utf8Check;
use crate::wire::http1::{BodyError, Method, PolicyEdit, RequestHead};
use crate::wire::jsonrpc::{PEEK_LEN_MAX, Peek};
use crate::wire::mcp::{self, Call};

/// The state of a request of a route with a policy.
pub(super) struct Governed {
    policy: Arc<ToolPolicy>,
    roles: RoleSet,
    /// The owner of the policy's static key that the caller presented. The key is not forwarded to the server.
    key: Option<AgentIdentity>,
    /// The authentication settings, which tell callers where tokens are issued.
    auth: Option<Arc<RouteAuth>>,
    /// Whether the request uses a protocol revision without sessions.
    is_stateless: bool,
    kind: Result<BodyKind, BodyError>,
    utf8: Utf8Check,
    has_begun: bool,
    decision: Option<ToolDecision>,
    address: Option<IpAddr>,
    time: QuotaTime,
    /// The clock that limits the time for the texts of its arguments.
    core: Option<Core>,
    /// The caller as Cedar sees it, if the policy has Cedar.
    cedar: Option<Arc<CedarCaller>>,
    /// Counts the call as in flight, if calls are limited.
    permit: Option<QuotaPermit>,
    /// The approval under which it is forwarded.
    ticket: Option<ApprovalTicket>,
    /// The task in which it waits for approval, or that it asks about.
    task: Option<ApprovalTask>,
    /// That approval, until it is kept that it was used.
    used: Option<Box<UsedApproval>>,
    /// What was found in its arguments.
    found: SanitiseFound,
    /// What becomes of its answers, where they are looked at.
    note: Option<AnswerNote>,
    /// Whether the results in its answers are held to their limits already: the whole message was known then.
    holds_results: bool,
}

/// The policy that decides a request, and when.
pub(super) struct Governing<'a> {
    pub(super) policy: &'a Arc<ToolPolicy>,
    /// The address of its caller.
    pub(super) address: Option<IpAddr>,
    pub(super) time: QuotaTime,
    /// The core of the request; none in tests without one, where nothing is limited in time.
    pub(super) core: Option<&'a Core>,
}

/// A request, as far as it has been read.
pub(super) struct ReadRequest<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) peek: &'a Peek,
    /// The bytes of the body that were read.
    pub(super) ahead: &'a ReadAhead,
    pub(super) has_ended: bool,
    /// The caller's identity, from its token.
    pub(super) identity: Option<&'a AgentIdentity>,
}

/// The decision about a request.
pub(super) enum Judged {
    /// More of the request has to be read.
    Unknown,
    /// The request is forwarded.
    Allowed,
    Denied(Box<ToolDenied>),
}

impl Governed {
    /// A request with this head, of a caller with this authentication.
    pub(super) fn new(governing: &Governing<'_>, head: &RequestHead, caller: Option<&ProvenCaller>) -> Governed {
        let Governing { policy, address, time, core } = *governing;
        let key = bearer(head).and_then(|bearer| policy.key_of(bearer)).cloned();
        let identity = key.as_ref().or(caller.and_then(|caller| caller.identity.as_deref()));
        let edge = caller.and_then(|caller| caller.edge.as_deref()).map(|edge| &*edge.subject);
        let roles = policy.roles_of(CallerOrigin { address, edge }, identity);
        Governed {
            policy: Arc::clone(policy),
            roles,
            cedar: policy.cedar_caller(roles, &CallerFacts { identity, address, unix: time.unix }),
            key,
            auth: caller.map(|caller| Arc::clone(&caller.auth)),
            is_stateless: mcp::is_stateless(head),
            kind: BodyKind::of(head),
            utf8: Utf8Check::default(),
            has_begun: false,
            decision: None,
            address,
            time,
            core: core.cloned(),
            permit: None,
            ticket: None,
            found: SanitiseFound::default(),
            task: None,
            note: None,
            holds_results: false,
            used: None,
        }
    }

    /// Reads the next bytes of the body into `peek`.
    ///
    /// # Errors
    ///
    /// If servers may interpret them in different ways.
    pub(super) fn read(&mut self, peek: &mut Peek, bytes: &[u8]) -> Result<(), BodyError> {
        let kind = self.kind?;
        if let Some(first) = bytes.first().filter(|_| !self.has_begun) {
            self.has_begun = true;
            if !kind.begins_with(*first) {
                return Err(BodyError::MalformedMessage);
            }
        }
        if kind == BodyKind::Form {
            return Ok(());
        }
        peek.feed(bytes);
        if !self.utf8.feed(bytes) {
            return Err(BodyError::MalformedMessage);
        }
        check_message(peek)
    }

    /// Decides about the request, once enough is known.
    ///
    /// # Errors
    ///
    /// If servers may interpret it in different ways.
    pub(super) fn judge(&mut self, read: &ReadRequest<'_>) -> Result<Judged, BodyError> {
        let ReadRequest { head, peek, has_ended, .. } = *read;
        if self.kind? == BodyKind::Form && (self.has_begun || has_ended) {
            self.decision = Some(ToolDecision::Allowed(None));
            return Ok(Judged::Allowed);
        }
        let asked = match read_request(head, peek, has_ended)? {
            Reads::Unknown => return Ok(Judged::Unknown),
            Reads::NoMethod => {
                let decision = ToolDecision::Allowed(None);
                // The registration of a client is no message, and the secrets in its answer are meant for its caller.
                let is_part = head.method() == Method::Get || peek.has_outcome();
                self.note = is_part.then(|| self.policy.note_answers(&decision)).flatten();
                self.decision = Some(decision);
                return Ok(Judged::Allowed);
            }
            Reads::Asks(asked) => asked,
        };
        if let Some(judged) = self.judge_task(&asked, read) {
            return Ok(judged);
        }
        let mut decision = self.policy.decide(self.roles, &asked);
        decision = self.decide_cedar(decision, &asked, None)?;
        if self.policy.is_held(&decision, &asked) {
            let Some(held) = self.hold_to_ceilings(decision, &asked, read)? else { return Ok(Judged::Unknown) };
            decision = held;
        }
        let judged = match &decision {
            ToolDecision::Allowed(_) => {
                self.note = self.policy.note_answers(&decision);
                Judged::Allowed
            }
            ToolDecision::Denied { how, .. } => {
                self.log(&asked, &decision);
                let metadata_url = self.auth.as_ref().map(|auth| auth.metadata_url());
                let denied = ToolDenied::new(&asked, how, self.is_stateless, metadata_url);
                Judged::Denied(Box::new(match &self.task {
                    Some(task) => denied.in_task(task),
                    None => denied,
                }))
            }
        };
        if !self.found.is_empty() {
            self.note.get_or_insert_default().add(&self.found);
        }
        self.decision = Some(decision);
        Ok(judged)
    }

    /// Answers a request about a call that waits for approval as a task. Its server never gets it. None for other requests.
    fn judge_task(&mut self, asked: &Asked<'_>, read: &ReadRequest<'_>) -> Option<Judged> {
        if !asked.method.starts_with("tasks/") || !self.policy.asks_for_approval() {
            return None;
        }
        let Some(id) = read.peek.task_id() else {
            let may_come = !read.has_ended && !read.peek.is_whole();
            return may_come.then_some(Judged::Unknown);
        };
        let ticket = id.parse::<ApprovalTicket>().ok()?;
        let caller = CountedCaller { identity: self.key.as_ref().or(read.identity), address: self.address };
        let (decision, task) = self.policy.answer_task(asked.method, ticket, &caller, self.time);
        let ToolDecision::Denied { how, .. } = &decision else { return None };
        let denied = ToolDenied::new(asked, how, self.is_stateless, None);
        self.decision = Some(decision);
        Some(Judged::Denied(Box::new(match task {
            Some(task) => denied.in_task(&task),
            None => denied,
        })))
    }

    /// Decides about a request that is allowed by a rule with ceilings. None if more of it has to be read.
    ///
    /// # Errors
    ///
    /// If servers may interpret its arguments in different ways.
    #[cold]
    fn hold_to_ceilings(
        &mut self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        read: &ReadRequest<'_>,
    ) -> Result<Option<ToolDecision>, BodyError> {
        let mut decision = decision;
        let caller = CountedCaller { identity: self.key.as_ref().or(read.identity), address: self.address };
        if self.policy.needs_arguments(&decision, asked) {
            // A longer body is refused, however it is split.
            if read.ahead.len() > PEEK_LEN_MAX {
                return Ok(None);
            }
            if !read.peek.is_whole() {
                return if read.has_ended { Err(BodyError::MalformedMessage) } else { Ok(None) };
            }
            let message = read.ahead.copy();
            let arguments = (read.peek.arguments_hash(), &message[..]);
            let clock = || self.core.as_ref().map(|core| Rc::new(core.clone()) as Rc<dyn Clock>);
            let checked = self
                .policy
                .check_arguments_finding(decision, asked, &message, (&mut self.found, clock))
                .and_then(|decision| self.policy.decide_cedar(decision, self.cedar.as_deref(), asked, Some(&message)))
                .and_then(|decision| self.policy.ask_approval(decision, asked, &caller, self.time, arguments));
            (decision, self.ticket) = checked.map_err(|UnreadableArguments| BodyError::UncertainArguments)?;
            if self.is_stateless {
                self.task = self.policy.task_of_call(&decision, asked, &message, &caller, self.time);
            }
        }
        // An approval is used up last, so that only a call that passes all other checks uses it.
        let (mut decision, permit) = self.policy.count(decision, asked, &caller, self.time);
        if let Some(ticket) = self.ticket.filter(|_| decision.is_allowed()) {
            (decision, self.used) = self.policy.use_approval(decision, ticket, self.time.now);
        }
        self.permit = permit.filter(|_| decision.is_allowed());
        Ok(Some(decision))
    }

    /// Whether it has an approval of which it has to be kept that it was used.
    pub(super) fn has_used(&self) -> bool {
        self.used.is_some()
    }

    /// Takes the approval that the call has used up.
    pub(super) fn take_used(&mut self) -> Option<Box<UsedApproval>> {
        self.used.take()
    }

    /// Denies the request, which is whole, because it cannot be kept that its approval was used.
    ///
    /// # Errors
    ///
    /// If it is no request that asks for something.
    #[cold]
    pub(super) fn deny_unkept(&mut self, head: &RequestHead, peek: &Peek) -> Result<Box<ToolDenied>, BodyError> {
        let (Reads::Asks(asked), Some(decision)) = (read_request(head, peek, true)?, self.decision.take()) else {
            return Err(BodyError::MalformedMessage);
        };
        let decision = self.decision.insert(ToolPolicy::unkept(decision));
        let ToolDecision::Denied { how, .. } = &*decision else { return Err(BodyError::MalformedMessage) };
        let metadata_url = self.auth.as_ref().map(|auth| auth.metadata_url());
        self.permit = None;
        Ok(Box::new(ToolDenied::new(&asked, how, self.is_stateless, metadata_url)))
    }

    /// The ticket of the approval that the call waits for, or was approved by.
    pub(super) fn ticket(&self) -> Option<ApprovalTicket> {
        let waits = self.decision.as_ref().and_then(|decision| match decision {
            ToolDecision::Denied { how: Denial::Ceiling(reached), .. } => reached.ticket(),
            _ => None,
        });
        waits.or(self.ticket)
    }

    /// Ends the call, which then no longer counts as in flight.
    pub(super) fn end(&mut self) {
        self.permit = None;
    }

    /// The digest of the policy, and the decision once it is made.
    pub(super) fn decision(&self) -> (PolicyDigest, Option<&ToolDecision>) {
        (self.policy.digest(), self.decision.as_ref())
    }

    /// The start of that digest, and the position of the rule that decided, once it has.
    pub(super) fn mark(&self) -> Option<PolicyMark> {
        let rule = self.decision.as_ref()?.rule().map(|rule| rule.index);
        Some(PolicyMark::new(self.policy.digest().mark(), rule))
    }

    /// The filter for the answer, if anything of it may change.
    pub(super) fn filter(&mut self, head: &RequestHead, call: &Call, peek: &Peek) -> Option<AnswerFilter> {
        if let Some(decision) = self.decision.as_ref().filter(|_| !self.holds_results) {
            // By now the whole message was read, and so its id.
            let asked = AnsweredRequest {
                is_stream: head.method() == Method::Get,
                method: peek.method(),
                tool: peek.name().filter(|_| peek.method() == Some("tools/call")),
                id: peek.id(),
                session: head.get(mcp::SESSION_ID),
                task: peek.task_id(),
            };
            self.policy.hold_results(&mut self.note, self.roles, decision, &asked);
            self.holds_results = peek.is_whole();
        }
        let has_lists = ListFilter::is_needed(&self.policy, head, call);
        AnswerFilter::new(&self.policy, (self.roles, self.cedar.as_ref()), has_lists, self.note.as_ref())
    }

    /// What was noted of its answers, where they are looked at.
    pub(super) fn note(&self) -> Option<&AnswerNote> {
        self.note.as_ref()
    }

    /// The changes to make to the request.
    pub(super) fn edit(&self) -> PolicyEdit<'static> {
        let drop_authorization = self.key.is_some() && !self.policy.passes_keys();
        PolicyEdit { drop_authorization, identity_only: true, ..PolicyEdit::NONE }
    }

    /// The owner of the static key that the caller presented, if any.
    pub(super) fn key_owner(&self) -> Option<&AgentIdentity> {
        self.key.as_ref()
    }

    /// The decision of both tiers, if it does not wait for the message.
    fn decide_cedar(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        message: Option<&[u8]>,
    ) -> Result<ToolDecision, BodyError> {
        let decided = self.policy.decide_cedar(decision, self.cedar.as_deref(), asked, message);
        decided.map_err(|UnreadableArguments| BodyError::UncertainArguments)
    }

    fn log(&self, asked: &Asked<'_>, decision: &ToolDecision) {
        tracing::info!(
            method = asked.method,
            name = asked.target.name().unwrap_or_default(),
            rule = decision.rule().map_or("", |rule| &*rule.name),
            limit = decision.limit().unwrap_or_default(),
            failure = decision.failure().unwrap_or_default(),
            policy = %self.policy.digest(),
            "a call was denied by the policy of its route"
        );
    }
}
