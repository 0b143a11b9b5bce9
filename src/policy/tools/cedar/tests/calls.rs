//! What becomes of calls and other requests.

use std::sync::Arc;

use serde_json::json;

use super::{Caller, FINANCE, REFUNDS, policy_of, user};
use crate::policy::AgentIdentity;
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, Denial, Target, ToolDecision};
use crate::policy::tools::tool_policy::ToolPolicy;

#[test]
fn a_call_passes_if_a_policy_permits_it_with_its_arguments() {
    let policy = policy_of(FINANCE, REFUNDS);
    let finance = Caller::of(user("alice", json!({"groups": ["finance"]})));
    let other = Caller::of(user("bob", json!({})));
    assert!(finance.may_call(&policy, "refund", r#"{"amount": 500}"#));
    assert!(finance.may_call(&policy, "get_a", "{}") && other.may_call(&policy, "get_a", "{}"));
    assert!(!finance.may_call(&policy, "get_secret", "{}") && !finance.may_call(&policy, "put", "{}"));
    let refund = |caller: &Caller, arguments: &str| caller.asks(&policy, &Asked::tool("refund"), arguments).unwrap();
    // Its tool is listed, so its caller is told what is wrong.
    for arguments in [r#"{"amount": 501}"#, "{}"] {
        let ToolDecision::Denied { rule: None, how: Denial::Ceiling(CeilingReached::Arguments(_)) } =
            refund(&finance, arguments)
        else {
            panic!("{arguments}");
        };
    }
    let denied = refund(&finance, r#"{"amount": "500"}"#);
    assert_eq!((denied.limit(), denied.rule().map(|rule| &*rule.name)), (Some("evaluation"), Some("finance-refunds")));
    assert!(denied.failure().is_some_and(|why| why.contains("long")), "{denied:?}");
    // Who may call it with no arguments at all does not learn that it is there.
    let hidden = ToolDecision::Denied { rule: None, how: Denial::Hidden };
    assert_eq!(refund(&other, r#"{"amount": 1}"#), hidden);
    let tools = ["refund", "get_a", "get_secret", "put"];
    assert_eq!(finance.sees(&policy, &tools), ["refund", "get_a"]);
    assert_eq!(other.sees(&policy, &tools), ["get_a"]);
    let by = finance.asks(&policy, &Asked::tool("refund"), r#"{"amount": 1}"#).unwrap();
    let rule = by.rule().unwrap();
    assert_eq!(&*rule.name, "finance-refunds");
    assert_eq!(policy.rule_name(policy.digest().mark(), rule.index), Some("finance-refunds"));
}

#[test]
fn cedar_and_rules_must_both_allow() {
    let lists =
        "[[rule]]\nname='tools'\neffect='allow'\ntools=['a','b']\n[[rule]]\nname='not-b'\neffect='deny'\ntools=['b']\n";
    let policy = policy_of(lists, "forbid(principal, action, resource == Tool::\"c\");");
    let caller = Caller::default();
    let may = |policy: &ToolPolicy| ["a", "b", "c", "d"].map(|tool| caller.may_call(policy, tool, "{}"));
    assert_eq!(may(&policy), [true, false, false, false]);
    assert_eq!(may(&policy_of("", "forbid(principal, action, resource == Tool::\"c\");")), [true, true, false, true]);
    assert_eq!(may(&policy_of(lists, "permit(principal, action, resource == Tool::\"c\");")), [false; 4]);
    assert_eq!(may(&policy_of("", "")), [true; 4], "no policy, nothing denied");
    // A rule of the lists stays the one whose ceilings hold.
    let policy = policy_of(lists, "permit(principal, action, resource);");
    let decision = caller.asks(&policy, &Asked::tool("a"), "{}").unwrap();
    assert_eq!(decision.rule().map(|rule| (rule.index, &*rule.name)), Some((0, "tools")));
}

#[test]
fn methods_without_a_target_are_decided_as_by_lists() {
    let may = |cedar: &str, method: &'static str| {
        let asked = Asked { method, target: Target::Nothing };
        Caller::default().asks(&policy_of("", cedar), &asked, "{}").unwrap().is_allowed()
    };
    let tool = "permit(principal, action, resource == Tool::\"a\");";
    let nothing = "forbid(principal, action, resource);";
    for method in ["initialize", "ping", "tools/list", "notifications/initialized"] {
        assert!(may(tool, method) && may(nothing, method), "{method}");
        let named = format!("forbid(principal, action == Action::\"{method}\", resource);");
        assert!(!may(&named, method), "{method}");
    }
    for method in ["tasks/get", "subscriptions/listen"] {
        assert!(!may(tool, method) && !may("forbid(principal, action, resource == Tool::\"a\");", method), "{method}");
        let named = format!("{tool}permit(principal, action == Action::\"{method}\", resource);");
        assert!(may(&named, method), "{method}");
    }
    assert!(!may(tool, "custom/method") && may("forbid(principal, action, resource is Tool);", "custom/method"));
    assert!(!may(tool, "tools/call"), "a call without a name");
}

#[test]
fn a_step_up_names_the_scope_and_stays_in_lists() {
    let cedar = "@id(\"write\") @scope(\"tickets:write\")\n\
                 forbid(principal, action, resource == Tool::\"put\") unless { principal.scopes.contains(\"tickets:write\") };";
    let policy = policy_of("", cedar);
    let caller = Caller::of(user("alice", json!({})));
    let denied = caller.asks(&policy, &Asked::tool("put"), "{}").unwrap();
    let ToolDecision::Denied { how: Denial::Scope(scope), .. } = denied else { panic!("{denied:?}") };
    assert_eq!(&*scope, "tickets:write");
    assert_eq!(caller.sees(&policy, &["put"]), ["put"]);
    let granted = AgentIdentity { scopes: Arc::new(["tickets:write".into()]), ..user("alice", json!({})) };
    assert!(Caller::of(granted).may_call(&policy, "put", "{}"));
}
