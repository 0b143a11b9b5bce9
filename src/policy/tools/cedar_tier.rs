//! The second tier of a policy: what Cedar says of a request that the lists allow.

use std::sync::Arc;

use crate::policy::tools::cedar::{CallerFacts, CedarCaller, CedarQuestion, CedarVerdict, KnownEntities};
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, Denial, RuleId, Target, ToolDecision};
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::hints::ToolHints;
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::{ToolPolicy, UnreadableArguments};

const FORBIDDEN: &str = "a policy forbids them";
const NOT_PERMITTED: &str = "no policy permits them";

impl ToolPolicy {
    /// Prepares what Cedar is told of a caller; `None` if the policy has no Cedar.
    #[must_use]
    pub fn cedar_caller(&self, roles: RoleSet, facts: &CallerFacts<'_>) -> Option<Arc<CedarCaller>> {
        self.cedar.as_ref()?.caller(facts, self.names_of(roles)).map(Arc::new)
    }

    /// Whether the decision of Cedar about a request that the lists allow waits for its arguments.
    pub(super) fn cedar_needs_arguments(&self, decision: &ToolDecision, asked: &Asked<'_>) -> bool {
        decision.is_allowed() && self.cedar.as_ref().is_some_and(|cedar| cedar.needs_arguments(asked))
    }

    /// The decision of both tiers about a request, given that of the lists. `message` is the complete message, `None` before it is
    /// known: a decision that needs arguments then stays as it is.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments in different ways.
    pub fn decide_cedar(
        &self,
        decision: ToolDecision,
        caller: Option<&CedarCaller>,
        asked: &Asked<'_>,
        message: Option<&[u8]>,
    ) -> Result<ToolDecision, UnreadableArguments> {
        let Some(cedar) = self.cedar.as_ref().filter(|_| decision.is_allowed()) else { return Ok(decision) };
        let needs_arguments = cedar.needs_arguments(asked);
        if needs_arguments != message.is_some() {
            return Ok(decision);
        }
        let Some(caller) = caller else { return Ok(HIDDEN) };
        let question = self.question(asked, |tool| self.hints.of(tool));
        let message = message.unwrap_or_default();
        let verdict = cedar.decide(caller, &question, message).map_err(|Unreadable| UnreadableArguments)?;
        // A tool that could be called with other arguments is in lists, so its caller is told what is wrong.
        let is_listed =
            || needs_arguments && matches!(cedar.decide_listed(caller, &question, None), CedarVerdict::Permitted(_));
        let arguments = |why: &str| Denial::Ceiling(CeilingReached::Arguments(why.into()));
        Ok(match verdict {
            CedarVerdict::Permitted(rule) => ToolDecision::Allowed(decision.rule().cloned().or(rule)),
            CedarVerdict::Forbidden { rule, scope: Some(scope) } => {
                ToolDecision::Denied { rule: Some(rule), how: Denial::Scope(scope) }
            }
            CedarVerdict::Forbidden { rule, scope: None } => {
                let how = if is_listed() { arguments(FORBIDDEN) } else { Denial::Hidden };
                ToolDecision::Denied { rule: Some(rule), how }
            }
            CedarVerdict::NotPermitted => {
                let how = if is_listed() { arguments(NOT_PERMITTED) } else { Denial::Hidden };
                ToolDecision::Denied { rule: None, how }
            }
            CedarVerdict::Failed { rule, why } => {
                let is_listed = is_listed();
                let how =
                    if is_listed { Denial::Ceiling(CeilingReached::Evaluation(why)) } else { Denial::Unevaluated(why) };
                ToolDecision::Denied { rule: Some(rule), how }
            }
        })
    }

    /// Whether Cedar shows something in lists that the other rules show: whether it could be used with some arguments.
    /// `known` is what was prepared for the list.
    pub(super) fn is_shown_by_cedar(
        &self,
        (caller, known): (Option<&CedarCaller>, Option<&KnownEntities>),
        asked: &Asked<'_>,
        hints: ToolHints,
    ) -> bool {
        let Some(cedar) = &self.cedar else { return true };
        let Some(caller) = caller else { return false };
        let verdict = cedar.decide_listed(caller, &self.question(asked, |_| hints), known);
        matches!(verdict, CedarVerdict::Permitted(_) | CedarVerdict::Forbidden { scope: Some(_), .. })
    }

    /// Whether Cedar allows a request with some arguments; `None` if the policy has no Cedar.
    #[must_use]
    pub fn listed_by_cedar(&self, caller: Option<&CedarCaller>, asked: &Asked<'_>) -> Option<bool> {
        self.cedar.as_ref().filter(|cedar| cedar.needs_arguments(asked))?;
        Some(self.is_shown_by_cedar((caller, None), asked, self.hints_of(asked)))
    }

    /// Prepares the questions to Cedar about elements of a list; `None` if the policy has no Cedar.
    pub(super) fn prepare_list<'a>(
        &self,
        caller: Option<&CedarCaller>,
        targets: impl Iterator<Item = Target<'a>>,
    ) -> Option<KnownEntities> {
        self.cedar.as_ref()?.prepare_list(caller?, targets, &self.place)
    }

    /// The line of a rule in the Cedar file, if it is there.
    #[must_use]
    pub fn cedar_line(&self, rule: &RuleId) -> Option<usize> {
        let cedar = self.cedar.as_ref()?;
        cedar.rule_name(rule.index)?;
        cedar.named().find(|(name, _)| **name == *rule.name).map(|(_, line)| line)
    }

    /// All faults that the Cedar policies have with these tools, each of which is an element of `tools/list`; none without Cedar.
    ///
    /// # Errors
    ///
    /// If no schema can be made of the tools.
    pub fn validate_cedar(&self, tools: &[serde_json::Value]) -> Result<Vec<PolicyFault>, String> {
        self.cedar.as_ref().map_or(Ok(Vec::new()), |cedar| cedar.validate(tools))
    }

    fn hints_of(&self, asked: &Asked<'_>) -> ToolHints {
        asked.target.name().map_or_else(ToolHints::default, |name| self.hints.of(name))
    }

    fn question<'a>(&'a self, asked: &Asked<'a>, hints: impl Fn(&str) -> ToolHints) -> CedarQuestion<'a> {
        let hints = match asked.target {
            Target::Tool(tool) if self.uses_annotations => Some(hints(tool)),
            _ => None,
        };
        CedarQuestion { asked: *asked, place: &self.place, hints }
    }
}

/// The decision about a caller of whom nothing was prepared.
const HIDDEN: ToolDecision = ToolDecision::Denied { rule: None, how: Denial::Hidden };
