//! One rule, and what it says of a request.

use std::borrow::Cow;

use crate::policy::tools::ceilings::Ceilings;
use crate::policy::tools::decision::{Asked, Denial, RuleId, Target};
use crate::policy::tools::hints::{ToolHints, WantedHints};
use crate::policy::tools::pattern::Patterns;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::uri::normal;

/// What a rule does with the requests that it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    /// Once somebody has approved it.
    Approve,
    Deny(Denial),
}

/// A rule. What it does not say fits all.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) line: usize,
    pub(super) effect: Effect,
    /// Callers with one of them; all callers if there are none.
    pub(super) roles: RoleSet,
    /// The place of its scopes among those of all rules: it is not about callers to whom they were granted.
    pub(super) scope: Option<usize>,
    pub(super) methods: Patterns,
    pub(super) tools: Patterns,
    pub(super) prompts: Patterns,
    pub(super) resources: Patterns,
    pub(super) hints: WantedHints,
    /// What it asks of the calls that it allows; none if it limits nothing.
    pub(super) ceilings: Option<Box<Ceilings>>,
}

impl Rule {
    /// Whether it says something about what a request names, and not only about methods.
    pub(super) fn names_targets(&self) -> bool {
        !(self.tools.is_empty() && self.prompts.is_empty() && self.resources.is_empty() && self.hints.is_empty())
    }

    pub(super) fn is_allow(&self) -> bool {
        matches!(self.effect, Effect::Allow | Effect::Approve)
    }

    /// Whether it allows what was approved.
    pub(super) fn is_approve(&self) -> bool {
        self.effect == Effect::Approve
    }

    /// Which rules go before others, whatever their order.
    pub(super) fn effect_rank(&self) -> u8 {
        match self.effect {
            Effect::Deny(_) => 0,
            Effect::Approve => 1,
            Effect::Allow => 2,
        }
    }

    /// Whether it is about this request. `hints` says what is known of a tool. A rule that allows matches a template of which it
    /// allows some resource, one that denies only if it denies all.
    pub(super) fn matches(&self, roles: RoleSet, asked: &Asked<'_>, hints: impl Fn(&str) -> ToolHints) -> bool {
        if !self.is_for(roles) || !(self.methods.is_empty() || self.methods.matches(asked.method)) {
            return false;
        }
        if !self.names_targets() {
            return true;
        }
        match asked.target {
            Target::Nothing => false,
            Target::Tool(name) if self.tools.is_empty() => !self.hints.is_empty() && self.hints.fit(hints(name)),
            Target::Tool(name) => self.tools.matches(name) && (self.hints.is_empty() || self.hints.fit(hints(name))),
            Target::Prompt(name) => self.prompts.matches(name),
            Target::Resource(uri) => self.resources.matches(uri),
            Target::Template(pattern) if self.is_allow() => self.resources.overlap(pattern),
            Target::Template(pattern) => self.resources.cover(pattern),
        }
    }

    /// Under which name a request that it allows is counted, if it has ceilings: what it writes out has a count of its own. All that it
    /// matches in another way is counted together, as its caller can invent any number of names. A URI counts in its normal form.
    pub(super) fn counted_name<'a>(&self, asked: &Asked<'a>) -> Cow<'a, str> {
        const TOGETHER: Cow<'_, str> = Cow::Borrowed("");
        match asked.target {
            Target::Tool(name) if self.tools.names(name) => name.into(),
            Target::Prompt(name) if self.prompts.names(name) => name.into(),
            Target::Resource(uri) => normal(uri).ok().filter(|uri| self.resources.names(uri)).unwrap_or(TOGETHER),
            Target::Nothing if self.methods.names(asked.method) => asked.method.into(),
            _ => TOGETHER,
        }
    }

    pub(super) fn is_for(&self, roles: RoleSet) -> bool {
        (self.roles.is_empty() || self.roles.intersects(roles)) && !self.scope.is_some_and(|at| roles.has_granted(at))
    }

    /// Whether it matches all that `other` matches, as far as that can be told.
    pub(super) fn covers(&self, other: &Rule) -> bool {
        let roles = self.roles.is_empty() || (!other.roles.is_empty() && self.roles.contains_all(other.roles));
        let scope = self.scope.is_none() || self.scope == other.scope;
        let part = |own: &Patterns, other: &Patterns| other.is_empty() || own.cover_all(other);
        let methods = self.methods.is_empty() || (!other.methods.is_empty() && self.methods.cover_all(&other.methods));
        let hints = self.hints.is_empty() || self.hints == other.hints;
        let targets = !self.names_targets()
            || (other.names_targets()
                && part(&self.tools, &other.tools)
                && part(&self.prompts, &other.prompts)
                && part(&self.resources, &other.resources)
                && (other.hints.is_empty()
                    || !other.tools.is_empty()
                    || self.tools.is_empty() && !self.hints.is_empty()));
        roles && scope && methods && hints && targets
    }
}
