//! What policies see of callers, of the time and of the server.

use std::sync::Arc;

use serde_json::json;

use super::{Caller, FINANCE, policy_of, user};
use crate::policy::tools::cedar::CedarRules;
use crate::policy::tools::tool_policy::ToolPolicy;
use crate::policy::{AgentIdentity, IdentityProof};

#[test]
fn a_caller_is_its_identity_its_roles_and_its_groups() {
    let may = |cedar: &str, caller: &Caller| caller.may_call(&policy_of(FINANCE, cedar), "t", "{}");
    let permit = |condition: &str| format!("permit(principal, action, resource) when {{ {condition} }};");
    let claims = json!({"groups": ["finance"], "email_verified": true, "level": 3, "realm_access": {"roles": ["dev"]}});
    let alice = Caller::of(user("alice", claims));
    for condition in [
        r#"principal == User::"https://login.example|alice""#,
        r#"principal is User && principal.subject == "alice""#,
        r#"principal in Group::"https://login.example|finance" && principal in Role::"finance""#,
        r#"principal.scopes.contains("read") && principal.proof == "jwt""#,
        r#"principal has client && principal.client == "agent""#,
        r#"principal.hasTag("email_verified") && principal.getTag("email_verified") == ["true"]"#,
        r#"principal.hasTag("level") && principal.getTag("level").contains("3")"#,
        r#"principal.hasTag("realm_access.roles") && principal.getTag("realm_access.roles").contains("dev")"#,
    ] {
        assert!(may(&permit(condition), &alice), "{condition}");
        assert!(!may(&permit(condition), &Caller::default()), "{condition}");
    }
    // Another issuer has its own Alice and its own groups.
    let other = AgentIdentity { issuer: Some("https://other.example".into()), ..alice.identity.clone().unwrap() };
    assert!(!may(&permit(r#"principal == User::"https://login.example|alice""#), &Caller::of(other.clone())));
    assert!(!may(&permit(r#"principal in Group::"https://login.example|finance""#), &Caller::of(other)));
    // A subject cannot be written like a caller of another issuer.
    let sly = AgentIdentity {
        issuer: Some("https://login".into()),
        subject: ".example|alice".into(),
        ..alice.identity.clone().unwrap()
    };
    assert!(!may(&permit(r#"principal == User::"https://login.example|alice""#), &Caller::of(sly)));
    let of = |proof| Caller::of(AgentIdentity { proof, issuer: None, ..user("alice", json!({})) });
    assert!(may(&permit(r#"principal == Key::"alice""#), &of(IdentityProof::Key)));
    assert!(may(&permit(r#"principal == Certificate::"alice""#), &of(IdentityProof::Certificate)));
    assert!(may(&permit("principal is Anonymous"), &Caller::default()));
}

#[test]
fn time_network_and_route_are_known() {
    let may = |cedar: &str, caller: &Caller| caller.may_call(&policy_of("", cedar), "t", "{}");
    let permit = |condition: &str| format!("permit(principal, action, resource) when {{ {condition} }};");
    // 2026-07-28 is a Tuesday.
    let at = |unix_s| Caller { unix_s, ..Caller::default() };
    let noon = 1_785_240_000;
    let works = permit("context.time.weekday <= 5 && context.time.hour >= 8 && context.time.hour < 18");
    assert!(may(&works, &at(noon)) && !may(&works, &at(noon + 6 * 3_600)) && !may(&works, &at(noon + 4 * 86_400)));
    assert!(may(&permit("context.time.weekday == 2 && context.time.hour == 12"), &at(noon)));
    assert!(may(&permit("context.time.seconds == 1785240000"), &at(noon)));
    let near = permit(r#"context.network has address && context.network.address.isInRange(ip("10.0.0.0/8"))"#);
    let from = |text: &str| Caller { address: Some(text.parse().unwrap()), ..Caller::default() };
    assert!(may(&near, &from("10.1.2.3")) && may(&near, &from("::ffff:10.1.2.3")));
    assert!(!may(&near, &from("192.0.2.1")) && !may(&near, &from("2001:db8::1")) && !may(&near, &Caller::default()));
    let mut policy =
        ToolPolicy::parse_with("", Some(CedarRules::parse(&permit("resource in Route::\"a.test\"")).unwrap())).unwrap();
    assert!(!Caller::default().may_call(&policy, "t", "{}"));
    policy.count_in(&Arc::default(), &Arc::default(), "a.test");
    assert!(Caller::default().may_call(&policy, "t", "{}"));
}

#[test]
fn annotations_need_trust_in_the_server() {
    let cedar = "permit(principal, action == Action::\"tools/call\", resource) when { context.annotations.read_only };";
    let rules = || Some(CedarRules::parse(cedar).unwrap());
    let faults = ToolPolicy::parse_with("", rules()).unwrap_err();
    assert!(faults[0].message.contains("trust_annotations"), "{faults:?}");
    let policy = Arc::new(ToolPolicy::parse_with("[policy]\ntrust_annotations=true\n", rules()).unwrap());
    let caller = Caller::default();
    assert!(!caller.may_call(&policy, "look", "{}"), "not listed yet");
    let tools = [json!({"name": "look", "annotations": {"readOnlyHint": true}}), json!({"name": "put"})];
    assert_eq!(caller.sees_in(&policy, "tools", "name", &tools), ["look"]);
    assert!(caller.may_call(&policy, "look", "{}") && !caller.may_call(&policy, "put", "{}"));
}

#[test]
fn what_is_kept_of_a_caller_is_its_own() {
    let cedar = r#"
        permit(principal in Role::"finance", action, resource == Tool::"t") when { principal.hasTag("level") };
        permit(principal, action, resource == Tool::"open") when { !(principal.scopes.contains("none")) };
    "#;
    let policy = policy_of(FINANCE, cedar);
    let alice = |claims| Caller::of(user("alice", claims));
    let may = |caller: &Caller, tool: &str| caller.may_call(&policy, tool, "{}");
    // More callers and more tools than are kept, and each question twice.
    for nth in 0..300 {
        let (in_finance, without_level) = (json!({"groups": "finance", "level": nth}), json!({"groups": "finance"}));
        for _ in 0..2 {
            assert!(may(&alice(in_finance.clone()), "t"), "{nth}");
            assert!(!may(&alice(without_level.clone()), "t") && !may(&alice(json!({"level": 1})), "t"), "{nth}");
            assert!(!may(&Caller::default(), "t") && may(&Caller::default(), "open"), "{nth}");
            assert!(!may(&alice(in_finance.clone()), &format!("t{nth}")), "{nth}");
        }
        let granted = AgentIdentity {
            scopes: Arc::new(["none".into()]),
            ..user(&format!("user {nth}"), json!({"groups": "finance", "level": 1}))
        };
        assert!(may(&Caller::of(granted.clone()), "t") && !may(&Caller::of(granted), "open"), "{nth}");
    }
}
