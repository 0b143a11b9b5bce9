//! Decisions by policies in Cedar, and what the tests of them share.

mod alike;
mod arguments;
mod callers;
mod calls;
mod files;
mod lists;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::policy::tools::cedar::{CallerFacts, CedarRules};
use crate::policy::tools::decision::{Asked, ToolDecision};
use crate::policy::tools::list_filter::ListFilter;
use crate::policy::tools::roles::CallerOrigin;
use crate::policy::tools::tool_policy::{ToolPolicy, UnreadableArguments};
use crate::policy::{AgentIdentity, IdentityProof};

const ISSUER: &str = "https://login.example";

fn policy_of(lists: &str, cedar: &str) -> Arc<ToolPolicy> {
    let cedar = CedarRules::parse(cedar).unwrap_or_else(|faults| panic!("{faults:?}"));
    Arc::new(ToolPolicy::parse_with(lists, Some(cedar)).unwrap_or_else(|faults| panic!("{faults:?}")))
}

fn user(subject: &str, claims: Value) -> AgentIdentity {
    AgentIdentity {
        subject: subject.into(),
        issuer: Some(ISSUER.into()),
        client: Some("agent".into()),
        proof: IdentityProof::Jwt,
        scopes: Arc::new(["read".into()]),
        claims: Arc::new(claims.as_object().unwrap().clone()),
    }
}

/// A caller with what its decisions depend on.
#[derive(Clone, Default)]
struct Caller {
    identity: Option<AgentIdentity>,
    address: Option<IpAddr>,
    unix_s: u64,
}

impl Caller {
    fn of(identity: AgentIdentity) -> Caller {
        Caller { identity: Some(identity), ..Caller::default() }
    }

    /// What a call comes to in both tiers.
    fn asks(
        &self,
        policy: &ToolPolicy,
        asked: &Asked<'_>,
        arguments: &str,
    ) -> Result<ToolDecision, UnreadableArguments> {
        let roles = policy.roles_of(CallerOrigin { address: self.address, edge: None }, self.identity.as_ref());
        let unix = Duration::from_secs(self.unix_s);
        let facts = CallerFacts { identity: self.identity.as_ref(), address: self.address, unix };
        let caller = policy.cedar_caller(roles, &facts);
        let message = format!("{{\"method\":\"x\",\"params\":{{\"arguments\":{arguments}}}}}");
        let decision = policy.decide(roles, asked);
        let decision = policy.decide_cedar(decision, caller.as_deref(), asked, None)?;
        policy.decide_cedar(decision, caller.as_deref(), asked, Some(message.as_bytes()))
    }

    fn may_call(&self, policy: &ToolPolicy, tool: &str, arguments: &str) -> bool {
        self.asks(policy, &Asked::tool(tool), arguments).is_ok_and(|decision| decision.is_allowed())
    }

    /// Which of these tools a list shows.
    fn sees(&self, policy: &Arc<ToolPolicy>, tools: &[&str]) -> Vec<String> {
        let list: Vec<Value> = tools.iter().map(|tool| json!({"name": tool})).collect();
        self.sees_in(policy, "tools", "name", &list)
    }

    fn sees_in(&self, policy: &Arc<ToolPolicy>, kind: &str, named_by: &str, list: &[Value]) -> Vec<String> {
        let roles = policy.roles_of(CallerOrigin { address: self.address, edge: None }, self.identity.as_ref());
        let unix = Duration::from_secs(self.unix_s);
        let facts = CallerFacts { identity: self.identity.as_ref(), address: self.address, unix };
        let filter = ListFilter::new(Arc::clone(policy), roles, policy.cedar_caller(roles, &facts));
        let answer = json!({"result": {kind: list}}).to_string();
        let seen = filter.apply(answer.as_bytes()).unwrap();
        let seen: Value = serde_json::from_slice(seen.as_deref().unwrap_or(answer.as_bytes())).unwrap();
        let seen = seen["result"][kind].as_array().unwrap();
        seen.iter().map(|element| element[named_by].as_str().unwrap().to_owned()).collect()
    }
}

const REFUNDS: &str = r#"
    @id("finance-refunds")
    permit(principal in Role::"finance", action == Action::"tools/call", resource == Tool::"refund")
    when { context.arguments has amount && context.arguments.amount <= 500 };
    @id("reads")
    permit(principal, action, resource is Tool) when { resource.name like "get_*" };
    @id("no-secrets")
    forbid(principal, action, resource is Tool) when { resource.name like "*_secret" };
"#;
const FINANCE: &str = "[[role]]\nname='finance'\nissuer='https://login.example'\nclaims={groups='finance'}\n";
