//! The test cases in a policy file.

use std::net::IpAddr;
use std::time::Duration;

use crate::policy::identity::AgentIdentity;
use crate::policy::tools::cedar::CallerFacts;
use crate::policy::tools::decision::{Asked, Target};
use crate::policy::tools::roles::{CallerOrigin, RoleSet};
use crate::policy::tools::tool_policy::{ToolPolicy, UnreadableArguments};

/// A request and the expected decision.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: usize,
    /// Roles of the caller, besides those of its address and identity.
    pub(super) roles: RoleSet,
    pub(super) address: Option<IpAddr>,
    /// The name of the edge that the call comes through, if given.
    pub(super) edge: Option<String>,
    pub(super) identity: Option<AgentIdentity>,
    /// The time of the call since 1970, if given.
    pub(super) unix: Duration,
    pub(super) method: String,
    pub(super) target: OwnedTarget,
    /// The arguments of the call, if given.
    pub(super) arguments: Option<serde_json::Value>,
    pub(super) is_allowed: bool,
    /// Whether the call is expected to require approval.
    pub(super) needs_approval: bool,
    /// The expected deciding rule, if given.
    pub(super) rule: Option<String>,
}

/// The target of a case's method.
#[derive(Clone, Debug)]
pub(super) enum OwnedTarget {
    Nothing,
    Tool(String),
    Prompt(String),
    Resource(String),
}

/// The result of a test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseOutcome {
    /// The name of the test.
    pub name: String,
    /// Its line in the file.
    pub line: usize,
    /// The difference from the expected decision, if any.
    pub wrong: Option<String>,
}

impl ToolPolicy {
    /// Runs the tests of the file, in order.
    pub fn run_cases(&self) -> impl Iterator<Item = CaseOutcome> {
        self.cases.iter().map(|case| case.run(self))
    }
}

impl Case {
    fn run(&self, policy: &ToolPolicy) -> CaseOutcome {
        let origin = CallerOrigin { address: self.address, edge: self.edge.as_deref() };
        let roles = self.roles.and(policy.roles_of(origin, self.identity.as_ref()));
        let target = match &self.target {
            OwnedTarget::Nothing => Target::Nothing,
            OwnedTarget::Tool(name) => Target::Tool(name),
            OwnedTarget::Prompt(name) => Target::Prompt(name),
            OwnedTarget::Resource(uri) => Target::Resource(uri),
        };
        let asked = Asked { method: &self.method, target };
        let facts = CallerFacts { identity: self.identity.as_ref(), address: self.address, unix: self.unix };
        let caller = policy.cedar_caller(roles, &facts);
        let decide_cedar = |decision, message| policy.decide_cedar(decision, caller.as_deref(), &asked, message);
        let mut decision = policy.decide(roles, &asked);
        if let Ok(decided) = decide_cedar(decision.clone(), None) {
            decision = decided;
        }
        // For Cedar a call without arguments has none.
        let none = serde_json::json!({});
        let needs_some = policy.cedar_needs_arguments(&decision, &asked);
        if let Some(arguments) = self.arguments.as_ref().or(Some(&none).filter(|_| needs_some)) {
            let message = format!("{{\"params\":{{\"arguments\":{arguments}}}}}");
            let checked = if self.arguments.is_some() {
                policy.check_arguments(decision, &asked, message.as_bytes())
            } else {
                Ok(decision)
            };
            decision = match checked.and_then(|decision| decide_cedar(decision, Some(message.as_bytes()))) {
                Ok(decision) => decision,
                Err(UnreadableArguments) => {
                    let wrong = Some("servers may read these arguments in different ways".to_owned());
                    return CaseOutcome { name: self.name.clone(), line: self.line, wrong };
                }
            };
        }
        let by = match (decision.rule(), policy.why_refused(&asked)) {
            (Some(rule), _) if decision.failure().is_some() => {
                format!("the rule {rule}, which cannot be evaluated ({})", decision.failure().unwrap_or_default())
            }
            (Some(rule), _) if decision.limit().is_some() => format!("the arguments of the rule {rule}"),
            (Some(rule), _) => format!("the rule {rule}"),
            (None, Some(why)) => format!("no rule ({why})"),
            (None, None) => "no rule".to_owned(),
        };
        let what = |is_allowed| if is_allowed { "allowed" } else { "denied" };
        let wrong = if decision.is_allowed() != self.is_allowed {
            Some(format!("it is {} by {by}, not {}", what(decision.is_allowed()), what(self.is_allowed)))
        } else if decision.is_allowed() && policy.needs_approval(&decision) != self.needs_approval {
            let condition = if self.needs_approval { "without approval" } else { "only with approval" };
            Some(format!("it is allowed {condition} by {by}"))
        } else {
            let expected = self.rule.as_deref();
            let differs = expected.is_some() && expected != decision.rule().map(|rule| &*rule.name);
            differs.then(|| format!("{by} decides it, not {}", expected.unwrap_or_default()))
        };
        CaseOutcome { name: self.name.clone(), line: self.line, wrong }
    }
}
