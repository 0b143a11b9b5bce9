//! The policy of a route: which caller may call what.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;

use crate::base::Time;
use crate::policy::identity::AgentIdentity;
use crate::policy::tools::answer_note::AnswerNote;
use crate::policy::tools::approval_keeping::UsedApproval;
use crate::policy::tools::approval_ticket::ApprovalTicket;
use crate::policy::tools::approvals::{ApprovalCall, Approvals, Asker, Asking, caller_told};
use crate::policy::tools::arguments::Misfit;
use crate::policy::tools::case::Case;
use crate::policy::tools::ceilings::{CeilingReached, Ceilings};
use crate::policy::tools::decision::{Asked, Denial, PolicyDigest, Target, ToolDecision};
use crate::policy::tools::hints::{KnownHints, ToolHints};
use crate::policy::tools::json_text::{Unreadable, Value};
use crate::policy::tools::pins::{PIN_RULE, ToolPins};
use crate::policy::tools::quotas::{CountedCaller, QuotaKey, QuotaPermit, QuotaTime, Quotas};
use crate::policy::tools::roles::{Key, Role, RoleSet, owner};
use crate::policy::tools::rule::{Effect, Rule};
use crate::policy::tools::sanitise::SanitiseRules;
use crate::policy::tools::uri::{Ambiguity, TOO_LONG, URI_LEN_MAX, lower, normal, normal_pattern, shorter};

/// The rules of a route, as its file has them, and what is known of the tools of its server.
///
/// A rule that denies goes before all that allow. Where any rule allows, what none allows is denied.
pub struct ToolPolicy {
    pub(super) digest: PolicyDigest,
    pub(super) roles: Vec<Role>,
    /// The different values of `scope` in the rules.
    pub(super) scopes: Vec<Arc<str>>,
    pub(super) keys: Vec<Key>,
    /// Whether a key goes on to the server.
    pub(super) passes_keys: bool,
    /// Whether a server may tell in the list of its tools, or its instructions, what the caller may not use.
    pub(super) passes_instructions: bool,
    pub(super) rules: Vec<Rule>,
    /// What each request has to know of the rules, without looking at all of them.
    pub(super) uses_annotations: bool,
    pub(super) asks_for_approval: bool,
    pub(super) needs_wall_time: bool,
    pub(super) cases: Vec<Case>,
    /// What of the texts of its server is changed or flagged; none if they are not looked at.
    pub(super) sanitise: Option<Box<SanitiseRules>>,
    pub(super) hints: Arc<KnownHints>,
    /// What becomes of tools that nobody has approved, if anything does.
    pub(super) pins: Option<ToolPins>,
    /// What callers have used of what its rules allow.
    pub(super) quotas: Arc<Quotas>,
    /// The calls that wait for approval.
    pub(super) approvals: Arc<Approvals>,
    /// The host for which its callers are counted.
    pub(super) place: Arc<str>,
}

/// The arguments of a call cannot be read, or not in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableArguments;

/// How a method is treated that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodDefault {
    /// It is allowed: it is part of the protocol, or what it lists is filtered.
    Allowed,
    /// It is decided by what it names. One that names nothing is [indirect](MethodDefault::Indirect).
    ByTarget,
    /// It reaches what rules are about without their names: the result of a call that another may have made, resources in a list.
    /// It is denied where any rule is about the caller, or allows something, unless a rule allows it.
    Indirect,
    /// It is denied where any rule allows something.
    Unknown,
}

impl MethodDefault {
    /// How this method is treated.
    #[must_use]
    pub fn of(method: &str) -> MethodDefault {
        match method {
            "tools/call"
            | "prompts/get"
            | "resources/read"
            | "resources/subscribe"
            | "resources/unsubscribe"
            | "completion/complete" => MethodDefault::ByTarget,
            "initialize"
            | "server/discover"
            | "ping"
            | "logging/setLevel"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list" => MethodDefault::Allowed,
            "subscriptions/listen" => MethodDefault::Indirect,
            method if method.starts_with("tasks/") => MethodDefault::Indirect,
            method if method.starts_with("notifications/") => MethodDefault::Allowed,
            _ => MethodDefault::Unknown,
        }
    }
}

impl ToolPolicy {
    /// Shares from now on with another policy of the same route what is known of the tools.
    pub fn learn_from(&mut self, before: &ToolPolicy) {
        self.hints = Arc::clone(&before.hints);
    }

    /// The same policy where tools that nobody has approved are treated so.
    #[must_use]
    pub fn pinned(self, pins: Option<ToolPins>) -> ToolPolicy {
        ToolPolicy { pins, ..self }
    }

    /// Counts from now on in what all policies of the process share, by this place.
    pub fn count_in(&mut self, quotas: &Arc<Quotas>, approvals: &Arc<Approvals>, place: &str) {
        (self.quotas, self.approvals, self.place) = (Arc::clone(quotas), Arc::clone(approvals), place.into());
    }

    /// Says which server the calls of its route go to. What another has said of its tools is forgotten.
    pub fn be_of(&self, server: &str) {
        if self.uses_annotations() {
            self.hints.be_of(server);
        }
    }

    /// Whether a rule depends on the annotations of tools.
    #[must_use]
    pub const fn uses_annotations(&self) -> bool {
        self.uses_annotations
    }

    /// The digest of its file.
    #[must_use]
    pub fn digest(&self) -> PolicyDigest {
        self.digest
    }

    /// The name of the rule at this place of the file, if `mark` is [that](PolicyDigest::mark) of its digest.
    #[must_use]
    pub fn rule_name(&self, mark: u16, index: u16) -> Option<&str> {
        if self.digest.mark() != mark {
            return None;
        }
        let name = self.rules.get(usize::from(index)).map(|rule| &*rule.id.name);
        name.or_else(|| (index == PIN_RULE.0).then_some(PIN_RULE.1))
    }

    /// The roles of a caller, by its address and by who it has proven to be.
    #[must_use]
    pub fn roles_of(&self, address: Option<IpAddr>, identity: Option<&AgentIdentity>) -> RoleSet {
        let roles = self.roles.iter().enumerate().filter(|(_, role)| role.is_of(address, identity));
        let roles = roles.fold(RoleSet::default(), |all, (at, _)| all.and(RoleSet::one(at)));
        let Some(identity) = identity.filter(|identity| !identity.scopes.is_empty()) else { return roles };
        let is_granted =
            |scopes: &str| scopes.split(' ').all(|scope| identity.scopes.iter().any(|has| **has == *scope));
        let granted = self.scopes.iter().enumerate().filter(|(_, scopes)| is_granted(scopes));
        granted.fold(roles, |all, (at, _)| all.and(RoleSet::one_granted(at)))
    }

    /// The roles with these names.
    ///
    /// # Errors
    ///
    /// The first name that no role has.
    pub fn roles_named<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<RoleSet, &'a str> {
        names.into_iter().try_fold(RoleSet::default(), |all, name| {
            let at = self.roles.iter().position(|role| *role.name == *name).ok_or(name)?;
            Ok(all.and(RoleSet::one(at)))
        })
    }

    /// The names of these roles, in the order of the file.
    pub fn names_of(&self, roles: RoleSet) -> impl Iterator<Item = &str> {
        let has = move |(at, _): &(usize, &Role)| roles.contains(*at);
        self.roles.iter().enumerate().filter(has).map(|(_, role)| &*role.name)
    }

    /// Whose static key this is.
    #[must_use]
    pub fn key_of(&self, bearer: &[u8]) -> Option<&AgentIdentity> {
        owner(&self.keys, bearer)
    }

    /// Whether a key goes on to the server.
    #[must_use]
    pub fn passes_keys(&self) -> bool {
        self.passes_keys
    }

    /// Whether the instructions of the server go on to the caller.
    #[must_use]
    pub fn passes_instructions(&self) -> bool {
        self.passes_instructions
    }

    /// What becomes of a request of a caller with these roles.
    #[must_use]
    pub fn decide(&self, roles: RoleSet, asked: &Asked<'_>) -> ToolDecision {
        if let (Target::Tool(tool), Some(pins)) = (asked.target, &self.pins)
            && !pins.may_call(tool)
        {
            return pins.denied();
        }
        // What a request names is one tool, however many rules ask about it.
        let known = OnceCell::new();
        self.decide_with(roles, asked, |tool| *known.get_or_init(|| self.hints.of(tool)))
    }

    /// The same of a tool that the server has just described so in a list, with these annotations. Both are remembered.
    #[must_use]
    pub(super) fn decide_listed(
        &self,
        roles: RoleSet,
        tool: &str,
        said: ToolHints,
        element: &Value<'_>,
    ) -> ToolDecision {
        if self.uses_annotations() {
            self.hints.learn(tool, said);
        }
        if let Some(pins) = &self.pins
            && !pins.may_list(tool, element)
        {
            return pins.denied();
        }
        self.decide_with(roles, &Asked::tool(tool), |_| said)
    }

    /// Whether the arguments of a request have to be known, about which this was decided.
    #[must_use]
    pub fn needs_arguments(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        self.needs_approval(decision) || self.checks_arguments(decision, asked) || self.looks_at_arguments(asked)
    }

    /// Whether something more is asked of a request that was allowed so.
    #[must_use]
    pub fn is_held(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        self.has_ceilings(decision) || (decision.is_allowed() && self.looks_at_arguments(asked))
    }

    /// Whether the texts of its arguments are looked at.
    fn looks_at_arguments(&self, asked: &Asked<'_>) -> bool {
        self.sanitise.as_ref().is_some_and(|rules| rules.denies_arguments) && asked.has_arguments()
    }

    /// Whether the rule that allows a request says what its arguments have to be.
    pub(super) fn checks_arguments(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        asked.has_arguments() && self.ceilings_of(decision).is_some_and(|ceilings| ceilings.arguments.is_some())
    }

    /// Whether any rule asks for approval.
    #[must_use]
    pub const fn asks_for_approval(&self) -> bool {
        self.asks_for_approval
    }

    /// Whether the rule that allows a request asks for approval.
    #[must_use]
    pub fn needs_approval(&self, decision: &ToolDecision) -> bool {
        self.ceilings_of(decision).is_some_and(|ceilings| ceilings.approval.is_some())
    }

    /// Asks for approval of a request, if the rule that allows it does. Returns the ticket by which it was approved, which is still to
    /// be [used up](ToolPolicy::use_approval). `arguments` are the length and hash of its arguments, `message` is all of it.
    ///
    /// # Errors
    ///
    /// If servers may read it in different ways.
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
            caller: caller_told(caller),
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

    /// Uses up an approval, for a request that is about to be passed on. If another one has, it has to be asked for again. If
    /// approvals are kept in a file, the request waits until it is kept that this one was used.
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

    /// The decision about a request with an approval of which it cannot be kept that it was used.
    #[must_use]
    pub fn unkept(decision: ToolDecision) -> ToolDecision {
        reached(decision, CeilingReached::ApprovalUnkept)
    }

    /// Whether any rule counts calls or asks for approval, so that it depends on the time since 1970.
    #[must_use]
    pub const fn needs_wall_time(&self) -> bool {
        self.needs_wall_time
    }

    /// The ceilings of the rule that allows a request, in words; none if it has none.
    #[must_use]
    pub fn ceilings_told(&self, decision: &ToolDecision) -> Option<String> {
        self.ceilings_of(decision).map(ToString::to_string)
    }

    /// Whether the rule that allows a request has a ceiling.
    #[must_use]
    pub(super) fn has_ceilings(&self, decision: &ToolDecision) -> bool {
        self.ceilings_of(decision).is_some()
    }

    /// Where what becomes of the answers to a request is noted, by what was decided about it; none if they are passed on as they are.
    #[must_use]
    pub fn note_answers(&self, decision: &ToolDecision) -> Option<AnswerNote> {
        let ceiling = self.ceilings_of(decision).and_then(|ceilings| ceilings.answer.clone());
        (self.sanitise.is_some() || ceiling.is_some()).then(|| AnswerNote::with(ceiling))
    }

    /// What becomes of a request that a rule allows with these arguments, by what it asks of them. `message` is the whole message.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments in different ways.
    pub fn check_arguments(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        message: &[u8],
    ) -> Result<ToolDecision, UnreadableArguments> {
        let ceilings = self.ceilings_of(&decision).filter(|_| asked.has_arguments());
        let schema = ceilings.and_then(|ceilings| ceilings.arguments.as_ref());
        match schema.map_or(Ok(()), |schema| schema.check_message(message)) {
            Ok(()) => {}
            Err(Misfit::Unreadable) => return Err(UnreadableArguments),
            Err(Misfit::Wrong(why)) => return Ok(reached(decision, CeilingReached::Arguments(why.into()))),
        }
        let rules = self.sanitise.as_ref().filter(|_| decision.is_allowed() && self.looks_at_arguments(asked));
        let Some(rules) = rules else { return Ok(decision) };
        let found = rules.look_at_arguments(message).map_err(|Unreadable| UnreadableArguments)?;
        match found.changed_kinds() {
            kinds if kinds.is_empty() => Ok(decision),
            kinds => Ok(reached(decision, CeilingReached::Arguments(format!("they contain {kinds}").into()))),
        }
    }

    /// Counts a request that a rule allows, or says which of its ceilings is reached. The permit lasts as long as the call.
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

    fn ceilings_of(&self, decision: &ToolDecision) -> Option<&Ceilings> {
        match decision {
            ToolDecision::Allowed(Some(rule)) => self.rules.get(usize::from(rule.index))?.ceilings.as_deref(),
            _ => None,
        }
    }

    /// Why no rule is asked about this request, which is denied: servers may read the URI that it names in different ways.
    #[must_use]
    pub fn why_refused(&self, asked: &Asked<'_>) -> Option<&'static str> {
        match asked.target {
            Target::Resource(uri) if self.names_resources() => normal(uri).err(),
            Target::Template(template) if self.names_resources() => pattern_of(template).err(),
            _ => None,
        }
    }

    /// Whether a rule names resources. Where none does, their URIs are not looked at.
    fn names_resources(&self) -> bool {
        self.rules.iter().any(|rule| !rule.resources.is_empty())
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
                // A server may read it as a shorter one: what denies that denies it too.
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
            // What the protocol itself needs is only denied by a rule that names it.
            let is_about = default != MethodDefault::Allowed || !rule.methods.is_empty();
            if !is_about || (rule.effect == Effect::Allow && allowed.is_some()) || !rule.matches(roles, asked, hints) {
                continue;
            }
            match &rule.effect {
                Effect::Allow => allowed = Some(&rule.id),
                // What asks for approval goes before what does not.
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

/// The arguments in a message that is whole, if it has any.
fn arguments_of(message: &[u8]) -> Result<Option<&[u8]>, Unreadable> {
    let Some(params) = Value::of(message)?.member("params")? else { return Ok(None) };
    Ok(params.value.member("arguments")?.map(|arguments| arguments.value.bytes()))
}

/// The decision about a request that reaches a ceiling of the rule that allows it.
fn reached(decision: ToolDecision, ceiling: CeilingReached) -> ToolDecision {
    ToolDecision::Denied { rule: decision.rule().cloned(), how: Denial::Ceiling(ceiling) }
}

/// The pattern of all URIs that a template can become, in its normal form.
fn pattern_of(template: &str) -> Result<String, Ambiguity> {
    if template.len() > URI_LEN_MAX {
        return Err(TOO_LONG);
    }
    let mut pattern = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        pattern.push_str(before);
        pattern.push('*');
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    pattern.push_str(rest);
    normal_pattern(&pattern).map(Cow::into_owned)
}

/// Two policies are equal if their files are, and they treat tools that nobody has approved alike.
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
