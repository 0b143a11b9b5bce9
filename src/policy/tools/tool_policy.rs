//! The policy of a route: which callers may call which tools, prompts and resources.

use std::cell::OnceCell;
use std::fmt;
use std::iter;
use std::sync::Arc;

use crate::base::Time;
use crate::policy::identity::AgentIdentity;
use crate::policy::tools::answer_note::AnswerNote;
use crate::policy::tools::approval_keeping::UsedApproval;
use crate::policy::tools::approval_ticket::ApprovalTicket;
use crate::policy::tools::approvals::{ApprovalCall, Approvals, Asker, Asking, caller_text};
use crate::policy::tools::awaited::AwaitedAnswers;
use crate::policy::tools::case::Case;
use crate::policy::tools::cedar::CedarRules;
use crate::policy::tools::ceilings::{CeilingReached, Ceilings};
use crate::policy::tools::decision::{Asked, Denial, PolicyDigest, Target, ToolDecision};
use crate::policy::tools::hints::{KnownHints, ToolHints};
use crate::policy::tools::json_text::{Unreadable, Value};
use crate::policy::tools::known_lists::{KnownList, KnownLists, LearnedCounts};
use crate::policy::tools::method_default::MethodDefault;
use crate::policy::tools::pins::{PIN_RULE, ToolPins};
use crate::policy::tools::quotas::{CountedCaller, QuotaKey, QuotaPermit, QuotaTime, Quotas};
use crate::policy::tools::result_schema::OutputSchemas;
use crate::policy::tools::roles::{CallerOrigin, Key, Role, RoleSet, owner};
use crate::policy::tools::rule::{Effect, Rule};
use crate::policy::tools::sanitise::{SanitiseMode, SanitiseRules};
use crate::policy::tools::uri::{lower, normal, pattern_of, shorter};

/// The rules of a route's policy file, with the state that they depend on.
///
/// A deny rule overrides all allow rules. If the policy has any allow rule, a request that no rule allows is denied.
pub struct ToolPolicy {
    pub(super) digest: PolicyDigest,
    pub(super) roles: Vec<Role>,
    /// The different values of `scope` in the rules.
    pub(super) scopes: Vec<Arc<str>>,
    pub(super) keys: Vec<Key>,
    /// Whether the caller's key is forwarded to the server.
    pub(super) passes_keys: bool,
    /// Whether the server's list of tools or its instructions may mention tools that the caller may not use.
    pub(super) passes_instructions: bool,
    pub(super) rules: Vec<Rule>,
    /// The second tier; `None` if there is none.
    pub(super) cedar: Option<CedarRules>,
    /// Properties of the rules, computed once so that a request need not scan them.
    pub(super) uses_annotations: bool,
    pub(super) asks_for_approval: bool,
    pub(super) needs_wall_time: bool,
    /// Whether any rule limits answers, and whether there may be tasks whose results are then limited.
    pub(super) limits_answers: bool,
    pub(super) shows_tasks: bool,
    pub(super) cases: Vec<Case>,
    /// The sanitising rules for texts of the server; `None` if texts are not scanned.
    pub(super) sanitise: Option<Box<SanitiseRules>>,
    pub(super) hints: Arc<KnownHints>,
    /// The output schemas of the tools, where their results may change.
    pub(super) schemas: Arc<OutputSchemas>,
    /// The limits of answers that may come in another way.
    pub(super) awaited: Arc<AwaitedAnswers>,
    /// Long lists of the server, as they were filtered.
    pub(super) lists: KnownLists,
    /// How unapproved tools are handled; `None` if they are not checked.
    pub(super) pins: Option<ToolPins>,
    /// The quota usage of callers.
    pub(super) quotas: Arc<Quotas>,
    /// The calls that wait for approval.
    pub(super) approvals: Arc<Approvals>,
    /// The host of the route, under which callers are counted.
    pub(super) place: Arc<str>,
}

/// The arguments of a call cannot be parsed, or have more than one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableArguments;

impl ToolPolicy {
    /// Shares what was learned under the route's previous policy: tool annotations, and the limits of awaited answers.
    pub fn learn_from(&mut self, before: &ToolPolicy) {
        self.hints = Arc::clone(&before.hints);
        self.awaited = Arc::clone(&before.awaited);
        self.schemas = Arc::clone(&before.schemas);
    }

    /// Sets how unapproved tools are handled.
    #[must_use]
    pub fn pinned(self, pins: Option<ToolPins>) -> ToolPolicy {
        ToolPolicy { pins, ..self }
    }

    /// Counts calls of the host `place` in the quotas and approvals that all policies of the process share.
    pub fn count_in(&mut self, quotas: &Arc<Quotas>, approvals: &Arc<Approvals>, place: &str) {
        (self.quotas, self.approvals, self.place) = (Arc::clone(quotas), Arc::clone(approvals), place.into());
    }

    /// Sets the server of the route. Annotations of another server are discarded.
    pub fn be_of(&self, server: &str) {
        if self.uses_annotations() {
            self.hints.be_of(server);
        }
    }

    /// Whether a rule depends on tool annotations.
    #[must_use]
    pub const fn uses_annotations(&self) -> bool {
        self.uses_annotations
    }

    /// The digest of the policy file.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// The name of the rule with this index, if `mark` is the [mark](PolicyDigest::mark) of this policy's digest.
    #[must_use]
    pub fn rule_name(&self, mark: u16, index: u16) -> Option<&str> {
        if self.digest.mark() != mark {
            return None;
        }
        let name = self.rules.get(usize::from(index)).map(|rule| &*rule.id.name);
        let name = name.or_else(|| self.cedar.as_ref()?.rule_name(index));
        name.or_else(|| (index == PIN_RULE.0).then_some(PIN_RULE.1))
    }

    /// The roles of a caller, by where its call comes from and its identity.
    #[must_use]
    pub fn roles_of(&self, origin: CallerOrigin<'_>, identity: Option<&AgentIdentity>) -> RoleSet {
        let roles = self.roles.iter().enumerate().filter(|(_, role)| role.is_of(origin, identity));
        let roles = roles.fold(RoleSet::default(), |all, (at, _)| all.and(RoleSet::one(at)));
        let Some(identity) = identity.filter(|identity| !identity.scopes.is_empty()) else { return roles };
        let is_granted =
            |scopes: &str| scopes.split(' ').all(|scope| identity.scopes.iter().any(|has| **has == *scope));
        let granted = self.scopes.iter().enumerate().filter(|(_, scopes)| is_granted(scopes));
        granted.fold(roles, |all, (at, _)| all.and(RoleSet::one_granted(at)))
    }

    /// Resolves the names of roles.
    ///
    /// # Errors
    ///
    /// The first name without a role.
    pub fn roles_named<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<RoleSet, &'a str> {
        names.into_iter().try_fold(RoleSet::default(), |all, name| {
            let at = self.roles.iter().position(|role| *role.name == *name).ok_or(name)?;
            Ok(all.and(RoleSet::one(at)))
        })
    }

    /// The names of these roles, in file order.
    pub fn names_of(&self, roles: RoleSet) -> impl Iterator<Item = &str> + Clone {
        let has = move |(at, _): &(usize, &Role)| roles.contains(*at);
        self.roles.iter().enumerate().filter(has).map(|(_, role)| &*role.name)
    }

    /// The identity of the holder of a static key.
    #[must_use]
    pub fn key_of(&self, bearer: &[u8]) -> Option<&AgentIdentity> {
        owner(&self.keys, bearer)
    }

    /// Whether the caller's key is forwarded to the server.
    #[must_use]
    pub fn passes_keys(&self) -> bool {
        self.passes_keys
    }

    /// Whether the server's instructions are forwarded to the caller.
    #[must_use]
    pub fn passes_instructions(&self) -> bool {
        self.passes_instructions
    }

    /// Evaluates the rules for a request of a caller with these roles.
    #[must_use]
    pub fn decide(&self, roles: RoleSet, asked: &Asked<'_>) -> ToolDecision {
        if let Some(pins) = &self.pins
            && !pins.may_call(asked.target)
        {
            return pins.denied();
        }
        // A request names one tool, so its annotations are looked up at most once.
        let known = OnceCell::new();
        self.decide_with(roles, asked, |tool| *known.get_or_init(|| self.hints.of(tool)))
    }

    /// Evaluates the rules for an element of a list, by its definition, and by its annotations if it is a tool. Remembers both.
    #[must_use]
    pub(super) fn decide_listed(
        &self,
        roles: RoleSet,
        asked: &Asked<'_>,
        hints: ToolHints,
        element: &Value<'_>,
    ) -> ToolDecision {
        if let (Target::Tool(tool), true) = (asked.target, self.uses_annotations()) {
            self.hints.learn(tool, hints);
        }
        if let Some(pins) = &self.pins
            && !pins.may_list(asked.target, element)
        {
            return pins.denied();
        }
        self.decide_with(roles, asked, |_| hints)
    }

    /// How often what is learned from lists has changed.
    pub(super) fn learned(&self) -> LearnedCounts {
        let inventory = self.pins.as_ref().map_or(0, ToolPins::changes);
        LearnedCounts { hints: self.hints.changes(), schemas: self.schemas.changes(), inventory }
    }

    /// Records that the elements of a list were listed again.
    pub(super) fn list_again(&self, list: &KnownList) {
        if let Some(pins) = &self.pins {
            pins.list_again(list);
        }
    }

    /// Whether structured results may be changed, so that they may no longer fit the schemas of their tools.
    pub(super) fn keeps_schemas(&self) -> bool {
        self.sanitise.as_ref().is_some_and(|rules| rules.changes())
    }

    /// Whether the decision depends on the arguments of the request.
    #[must_use]
    pub fn needs_arguments(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        self.needs_approval(decision)
            || self.checks_arguments(decision, asked)
            || self.looks_at_arguments(asked)
            || self.cedar_needs_arguments(decision, asked)
    }

    /// Whether an allowed request has further checks to pass.
    #[must_use]
    pub fn is_held(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        self.has_ceilings(decision)
            || (decision.is_allowed() && self.looks_at_arguments(asked))
            || self.cedar_needs_arguments(decision, asked)
    }

    /// Whether the texts of the arguments are scanned.
    pub(super) fn looks_at_arguments(&self, asked: &Asked<'_>) -> bool {
        self.sanitise.as_ref().is_some_and(|rules| rules.arguments != SanitiseMode::Off) && asked.has_arguments()
    }

    /// Whether the rule that allows the request has an argument schema.
    pub(super) fn checks_arguments(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        asked.has_arguments() && self.ceilings_of(decision).is_some_and(|ceilings| ceilings.arguments.is_some())
    }

    /// Whether any rule requires approval.
    #[must_use]
    pub const fn asks_for_approval(&self) -> bool {
        self.asks_for_approval
    }

    /// Whether the rule that allows the request requires approval.
    #[must_use]
    pub fn needs_approval(&self, decision: &ToolDecision) -> bool {
        self.ceilings_of(decision).is_some_and(|ceilings| ceilings.approval.is_some())
    }

    /// Requests approval if the rule that allows the request requires it. Returns the ticket of the approval, which must then be
    /// [used up](ToolPolicy::use_approval). `arguments` are the length and hash of the arguments; `message` is the complete
    /// message.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments differently.
    pub fn ask_approval(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        caller: &CountedCaller<'_>,
        time: QuotaTime,
        (arguments, message): (Option<(u64, [u8; 32])>, &[u8]),
    ) -> Result<(ToolDecision, Option<ApprovalTicket>), UnreadableArguments> {
        let terms = self.ceilings_of(&decision).and_then(|ceilings| ceilings.approval);
        let (Some(terms), Some(rule)) = (terms, decision.rule()) else { return Ok((decision, None)) };
        let text = arguments_of(message).map_err(|Unreadable| UnreadableArguments)?;
        if text.is_some() != arguments.is_some() {
            return Err(UnreadableArguments);
        }
        let name = asked.target.name().unwrap_or(asked.method);
        let ticket = ApprovalTicket::of(&QuotaKey::of(&self.place, &rule.name, caller, name), asked.method, arguments);
        let asker = Asker { key: QuotaKey::of(&self.place, "", caller, ""), is_proven: caller.identity.is_some() };
        let call = || ApprovalCall {
            place: self.place.to_string(),
            rule: rule.name.to_string(),
            caller: caller_text(caller),
            method: asked.method.to_owned(),
            name: name.to_owned(),
            arguments,
            shown: text.map(|text| String::from_utf8_lossy(text).into_owned()),
        };
        match self.approvals.ask(call, (ticket, asker), terms, time) {
            Asking::Approved(ticket) => Ok((decision, Some(ticket))),
            Asking::Waits(ticket) => Ok((reached(decision, CeilingReached::ApprovalWaits(ticket)), None)),
            Asking::Denied(ticket) => Ok((reached(decision, CeilingReached::ApprovalDenied(ticket)), None)),
            Asking::Full => Ok((reached(decision, CeilingReached::ApprovalsFull), None)),
        }
    }

    /// Uses up an approval for a request that is about to be forwarded. If another request has used it, approval is requested
    /// again. If approvals are kept in a file, the request must wait until the use is written.
    #[must_use]
    pub fn use_approval(
        &self,
        decision: ToolDecision,
        ticket: ApprovalTicket,
        now: Time,
    ) -> (ToolDecision, Option<Box<UsedApproval>>) {
        let Some((approval, change)) = self.approvals.use_up(ticket, now) else {
            return (reached(decision, CeilingReached::ApprovalWaits(ticket)), None);
        };
        let used = change.map(|change| Box::new(UsedApproval::new(&self.approvals, approval, change)));
        (decision, used)
    }

    /// The decision for an approved request if the use of the approval cannot be written.
    #[must_use]
    pub fn unkept(decision: ToolDecision) -> ToolDecision {
        reached(decision, CeilingReached::ApprovalUnkept)
    }

    /// Whether any rule counts calls, requires approval or has times, and so depends on the time since 1970.
    #[must_use]
    pub const fn needs_wall_time(&self) -> bool {
        self.needs_wall_time
    }

    /// The ceilings of the rule that allows a request, in words; `None` if it has none.
    #[must_use]
    pub fn ceilings_text(&self, decision: &ToolDecision) -> Option<String> {
        self.ceilings_of(decision).map(ToString::to_string)
    }

    /// Whether the rule that allows a request has a ceiling.
    #[must_use]
    pub(super) fn has_ceilings(&self, decision: &ToolDecision) -> bool {
        self.ceilings_of(decision).is_some()
    }

    /// The note for the answers to a request, by its decision; `None` if the answers are passed on unchanged.
    #[must_use]
    pub fn note_answers(&self, decision: &ToolDecision) -> Option<AnswerNote> {
        let ceiling = self.ceilings_of(decision).and_then(|ceilings| ceilings.answer.clone());
        (self.sanitise.is_some() || ceiling.is_some()).then(|| AnswerNote::with(ceiling))
    }

    /// Counts an allowed request, or reports the ceiling that it reaches. The permit is held until the call ends.
    #[must_use]
    pub fn count(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        caller: &CountedCaller<'_>,
        time: QuotaTime,
    ) -> (ToolDecision, Option<QuotaPermit>) {
        let quota = self.ceilings_of(&decision).map(|ceilings| ceilings.quota).filter(|quota| !quota.is_empty());
        let rule = decision.rule().and_then(|rule| self.rules.get(usize::from(rule.index)));
        let (Some(quota), Some(rule)) = (quota, rule) else { return (decision, None) };
        let key = QuotaKey::of(&self.place, &rule.id.name, caller, &rule.counted_name(asked));
        match self.quotas.take(key, caller.identity.is_some(), &quota, time) {
            Ok(permit) => (decision, permit),
            Err(ceiling) => (reached(decision, ceiling), None),
        }
    }

    pub(super) fn ceilings_of(&self, decision: &ToolDecision) -> Option<&Ceilings> {
        match decision {
            ToolDecision::Allowed(Some(rule)) => self.rules.get(usize::from(rule.index))?.ceilings.as_deref(),
            _ => None,
        }
    }

    /// Why a request is denied without evaluating the rules: servers may read its URI differently.
    #[must_use]
    pub fn why_refused(&self, asked: &Asked<'_>) -> Option<&'static str> {
        match asked.target {
            Target::Resource(uri) if self.names_resources() => normal(uri).err(),
            Target::Template(template) if self.names_resources() => pattern_of(template).err(),
            _ => None,
        }
    }

    /// Whether any rule may name resources. If none does, URIs are not normalised.
    fn names_resources(&self) -> bool {
        self.cedar.is_some() || self.rules.iter().any(|rule| !rule.resources.is_empty())
    }

    pub(super) fn decide_with(
        &self,
        roles: RoleSet,
        asked: &Asked<'_>,
        hints: impl Fn(&str) -> ToolHints,
    ) -> ToolDecision {
        const REFUSED: ToolDecision = ToolDecision::Denied { rule: None, how: Denial::Hidden };
        let is_explicit = |decision: &ToolDecision| !decision.is_allowed() && decision.rule().is_some();
        match asked.target {
            Target::Resource(uri) if self.names_resources() => {
                let Ok(uri) = normal(uri) else { return REFUSED };
                let ask = |uri| self.decide_one(roles, &Asked { target: Target::Resource(uri), ..*asked }, &hints);
                // A server may read the URI as a shorter one: a rule that denies the shorter one denies this one too.
                let lower = lower(&uri);
                let mut read = iter::once(&*lower).chain(shorter(&lower)).map(ask);
                read.find(is_explicit).unwrap_or_else(|| ask(&uri))
            }
            Target::Template(template) if self.names_resources() => {
                let Ok(pattern) = pattern_of(template) else { return REFUSED };
                let ask = |uri| self.decide_one(roles, &Asked { target: Target::Template(uri), ..*asked }, &hints);
                Some(ask(&lower(&pattern))).filter(is_explicit).unwrap_or_else(|| ask(&pattern))
            }
            _ => self.decide_one(roles, asked, &hints),
        }
    }

    fn decide_one(&self, roles: RoleSet, asked: &Asked<'_>, hints: &impl Fn(&str) -> ToolHints) -> ToolDecision {
        let default = match MethodDefault::of(asked.method) {
            MethodDefault::ByTarget if asked.target == Target::Nothing => MethodDefault::Indirect,
            default => default,
        };
        let (mut allowed, mut held) = (None, None);
        let mut needs_allow = false;
        for rule in &self.rules {
            needs_allow |= rule.is_allow() || (default == MethodDefault::Indirect && rule.is_for(roles));
            // Methods that the protocol itself needs are denied only by a rule that names them.
            let is_about = default != MethodDefault::Allowed || !rule.methods.is_empty();
            if !is_about || (rule.effect == Effect::Allow && allowed.is_some()) || !rule.matches(roles, asked, hints) {
                continue;
            }
            match &rule.effect {
                Effect::Allow => allowed = Some(&rule.id),
                // A rule that requires approval overrides one that does not.
                Effect::Approve => held = held.or(Some(&rule.id)),
                Effect::Deny(how) => return ToolDecision::Denied { rule: Some(rule.id.clone()), how: how.clone() },
            }
        }
        let allowed = held.or(allowed);
        if allowed.is_some() || !needs_allow || default == MethodDefault::Allowed {
            return ToolDecision::Allowed(allowed.cloned());
        }
        ToolDecision::Denied { rule: None, how: Denial::Hidden }
    }
}

/// The arguments in a complete message, if there are any.
fn arguments_of(message: &[u8]) -> Result<Option<&[u8]>, Unreadable> {
    let Some(params) = Value::of(message)?.member("params")? else { return Ok(None) };
    Ok(params.value.member("arguments")?.map(|arguments| arguments.value.bytes()))
}

/// The decision for a request that reaches a ceiling of the rule that allows it.
pub(super) fn reached(decision: ToolDecision, ceiling: CeilingReached) -> ToolDecision {
    ToolDecision::Denied { rule: decision.rule().cloned(), how: Denial::Ceiling(ceiling) }
}

/// Policies are equal if their files are equal and they handle unapproved tools alike.
impl PartialEq for ToolPolicy {
    fn eq(&self, other: &ToolPolicy) -> bool {
        self.digest == other.digest && self.pins == other.pins
    }
}

impl Eq for ToolPolicy {}

impl fmt::Debug for ToolPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPolicy").field("digest", &self.digest).field("rules", &self.rules.len()).finish()
    }
}
