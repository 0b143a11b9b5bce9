use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::Rng;
use crate::policy::tools::cedar::{CallerFacts, CedarRules, cedar_schema};
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, Denial, Target, ToolDecision};
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
fn arguments_keep_their_values_or_cannot_be_compared() {
    let decide = |condition: &str, arguments: &str| {
        let cedar = format!("permit(principal, action, resource) when {{ {condition} }};");
        let decided = Caller::default().asks(&policy_of("", &cedar), &Asked::tool("t"), arguments);
        decided.map(|decision| (decision.is_allowed(), decision.failure().is_some()))
    };
    let (yes, no, fails) = (Ok((true, false)), Ok((false, false)), Ok((false, true)));
    let at_most = "context.arguments.amount <= 500";
    for (arguments, expected) in [
        (r#"{"amount": 500}"#, yes),
        (r#"{"amount": 5e2}"#, yes),
        (r#"{"amount": 500.0}"#, yes),
        (r#"{"amount": -9007199254740992}"#, yes),
        (r#"{"amount": 501}"#, no),
        (r#"{"amount": 1.5}"#, fails),
        (r#"{"amount": 1e30}"#, fails),
        (r#"{"amount": -1e30}"#, fails),
        (r#"{"amount": "1"}"#, fails),
        (r#"{"amount": null}"#, fails),
        (r#"{"amount": [1]}"#, fails),
        (r#"{"amount": {"__extn": {"fn": "decimal", "arg": "1.0"}}}"#, fails),
        (r#"{"Amount": 1}"#, Err(UnreadableArguments)),
        (r#"{"amount": 1, "amount": 2}"#, Err(UnreadableArguments)),
        (r#"{"amount": 1, "AMOUNT": 2}"#, Err(UnreadableArguments)),
        (r#"{"amount": 9007199254740993}"#, Err(UnreadableArguments)),
        (r#"{"amount": 01}"#, Err(UnreadableArguments)),
        ("[1]", Err(UnreadableArguments)),
    ] {
        assert_eq!(decide(at_most, arguments), expected, "{arguments}");
    }
    assert_eq!(decide("!(context.arguments has amount)", "null"), yes);
    // What no policy reads may be any number.
    assert_eq!(decide("context.arguments.a == 1", r#"{"a": 1, "id": 9007199254740993, "n": null}"#), yes);
    let decimals = r#"context.decimals.amount.lessThanOrEqual(decimal("500.0"))"#;
    for (arguments, expected) in [
        (r#"{"amount": 500}"#, yes),
        (r#"{"amount": 499.99}"#, yes),
        (r#"{"amount": 500.01}"#, no),
        (r#"{"amount": 0.00001}"#, fails),
        (r#"{"amount": "1"}"#, fails),
        (r#"{"amount": 1e30}"#, fails),
    ] {
        assert_eq!(decide(decimals, arguments), expected, "{arguments}");
    }
    for condition in [
        r#"context.arguments.to.contains("a@b.test")"#,
        r#"context.arguments.deep.er == true"#,
        r#"context.arguments.text == "a\"};permit(principal,action,resource);\u{e9}""#,
        r#"context.arguments.half == decimal("0.5")"#,
        r#"context.arguments.entity == {"__entity": {"type": "Role", "id": "boss"}}"#,
    ] {
        let arguments = r#"{"to": ["a@b.test", "c"], "deep": {"er": true}, "half": 0.5,
            "text": "a\"};permit(principal,action,resource);\u00e9", "entity": {"__entity": {"type": "Role", "id": "boss"}}}"#;
        assert_eq!(decide(condition, arguments), yes, "{condition}");
    }
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(decide("context.arguments has a", &deep), Err(UnreadableArguments));
}

#[test]
fn names_cannot_inject_into_a_policy() {
    let names = [
        "a\"b",
        "a\\",
        "\\\"",
        "a\");permit(principal,action,resource);//",
        "Tool::\"allowed\"",
        "allowed\u{0}",
        "a\u{202e}dewolla",
        "аllowed",
        "allowed ",
        "ALLOWED",
        "\u{1f600}",
        "*",
        "",
    ];
    let policy = policy_of("", "permit(principal, action, resource == Tool::\"allowed\");");
    let caller = Caller::default();
    assert!(caller.may_call(&policy, "allowed", "{}"));
    for name in names {
        assert!(!caller.may_call(&policy, name, "{}"), "{name:?}");
    }
    assert_eq!(caller.sees(&policy, &[&["allowed"], &names[..]].concat()), ["allowed"]);
    // Named in a policy, each is itself and nothing else.
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        let policy =
            policy_of("", &format!("permit(principal, action, resource == Tool::\"{}\");", name.escape_default()));
        assert_eq!(caller.sees(&policy, &names), [name], "{name:?}");
    }
    let policy = policy_of("", "permit(principal == User::\"https://login.example|alice\", action, resource);");
    for subject in ["alice\"", "alice\\", "alice\u{0}", "alice ", "\"||true||\""] {
        assert!(!Caller::of(user(subject, json!({}))).may_call(&policy, "t", "{}"), "{subject:?}");
    }
}

#[test]
fn lists_show_tools_that_some_arguments_allow() {
    let sees = |cedar: &str| !Caller::default().sees(&policy_of("", cedar), &["t"]).is_empty();
    let permit = |condition: &str| format!("permit(principal, action, resource is Tool) when {{ {condition} }};");
    for condition in [
        "context.arguments.a == 1",
        "!(context.arguments.a == 1)",
        "context.arguments.a == 1 || principal is User",
        "if context.arguments has a then context.arguments.a == 1 else false",
        "if principal is User then false else context.arguments.a == 1",
        "context.arguments has a && context.arguments.a == 1 && resource.name == \"t\"",
        "context has arguments && context.arguments has a",
        "!(context.arguments.a == 1 && resource.name == \"t\")",
    ] {
        assert!(sees(&permit(condition)), "{condition}");
    }
    for condition in [
        "context.arguments.a == 1 && principal is User",
        "!(context.arguments.a == 1 || principal is Anonymous)",
        "if context.arguments has a then false else principal is User",
        "if principal is Anonymous then false else context.arguments.a == 1",
    ] {
        assert!(!sees(&permit(condition)), "{condition}");
    }
    let all = "permit(principal, action, resource);";
    let forbid = |condition: &str| format!("{all}forbid(principal, action, resource) when {{ {condition} }};");
    assert!(sees(&forbid("context.arguments.a == 1")), "not with other arguments");
    assert!(!sees(&forbid("context.arguments.a == 1 || principal is Anonymous")));
    assert!(sees(&format!("{all}forbid(principal, action, resource) unless {{ context.arguments has a }};")));
    // A failure that no arguments can change hides, one that they can does not.
    let fails = "context.time.seconds + 9223372036854775807 > 0";
    let policy = |condition: &str| policy_of("", &forbid(condition));
    let late = Caller { unix_s: 1, ..Caller::default() };
    assert!(late.sees(&policy(fails), &["t"]).is_empty());
    let hidden = late.asks(&policy(fails), &Asked::tool("t"), "{}").unwrap();
    assert!(matches!(hidden, ToolDecision::Denied { how: Denial::Unevaluated(_), .. }), "{hidden:?}");
    assert_eq!((hidden.limit(), hidden.rule().map(|rule| &*rule.name)), (Some("evaluation"), Some("cedar#2")));
    let guarded = policy(&format!("context.arguments has a && {fails}"));
    assert_eq!(late.sees(&guarded, &["t"]), ["t"]);
    assert!(late.may_call(&guarded, "t", "{}") && !late.may_call(&guarded, "t", "{\"a\": 1}"));
}

#[test]
fn resources_and_templates_are_decided_by_their_uris() {
    let cedar = "permit(principal, action == Action::\"resources/read\", resource is Resource)\n\
                 when { resource.uri like \"file:///docs/*\" };\n\
                 permit(principal, action, resource == Resource::\"file:///one\");\n\
                 forbid(principal, action, resource) when { resource has uri && resource.uri like \"*/secret*\" };";
    let policy = policy_of("", cedar);
    let caller = Caller::default();
    let may = |uri: &str, method: &'static str| {
        let asked = Asked { method, target: Target::Resource(uri) };
        caller.asks(&policy, &asked, "{}").unwrap().is_allowed()
    };
    for method in ["resources/read", "resources/subscribe", "resources/unsubscribe"] {
        assert!(may("file:///docs/a", method) && may("FILE:///docs/a", method) && may("file:///one", method));
        for uri in
            ["file:///two", "file:///docs/secret", "file:///docs/SECRET", "file:///docs/../x", "file:///docs/%73ecret"]
        {
            assert!(!may(uri, method), "{uri}");
        }
    }
    let uris = ["file:///docs/a", "file:///docs/secret", "file:///one", "file:///x"].map(|uri| json!({"uri": uri}));
    assert_eq!(caller.sees_in(&policy, "resources", "uri", &uris), ["file:///docs/a", "file:///one"]);
    let templates = |cedar: &str| {
        let list = ["file:///{name}", "db:///{table}"].map(|uri| json!({"uriTemplate": uri}));
        caller.sees_in(&policy_of("", cedar), "resourceTemplates", "uriTemplate", &list)
    };
    assert_eq!(templates("permit(principal, action, resource == Resource::\"file:///one\");"), ["file:///{name}"]);
    assert_eq!(templates(cedar), ["file:///{name}", "db:///{table}"], "a condition may hold for some of its URIs");
    assert!(templates("permit(principal is User, action, resource);").is_empty());
    assert!(templates("permit(principal, action, resource is Tool);").is_empty());
    assert_eq!(templates("forbid(principal, action, resource == Resource::\"file:///one\");").len(), 2);
    // A completion is a use of what it completes.
    let completes = |cedar: &str, target| {
        let asked = Asked { method: "completion/complete", target };
        caller.asks(&policy_of("", cedar), &asked, "{}").unwrap().is_allowed()
    };
    let cedar = "permit(principal, action == Action::\"prompts/get\", resource == Prompt::\"p\") when { context.arguments has a };";
    assert!(completes(cedar, Target::Prompt("p")) && !completes(cedar, Target::Prompt("q")));
    assert!(!completes(cedar, Target::Template("file:///{x}")));
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

#[test]
fn all_faults_are_reported_with_their_lines() {
    let faults = |cedar: &str| -> Vec<(usize, String)> {
        let faults = CedarRules::parse(cedar).err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.line, fault.message)).collect()
    };
    let cedar = "permit(principal, action, resource);\npermit(principal, acton, resource);\n\n// x\npermit(\n  principal, action,\n  resource) when { 1 + };\n@id(\"a b\")\nforbid(principal, action, resource);";
    let found_faults = faults(cedar);
    assert_eq!(found_faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 7, 8], "{found_faults:?}");
    for (wrong, found_faults) in [
        ("permit(principal, action, resource == Tols::\"a\");", "Tol"),
        ("permit(principal, action == Action::\"tool/call\", resource);", "tool/call"),
        ("permit(principal, action, resource) when { context.argments.a == 1 };", "argments"),
        ("permit(principal, action, resource) when { principal.subjct == \"a\" };", "subjct"),
        ("permit(principal, action, resource) when { principal.issuer == \"a\" };", "issuer"),
        (
            "permit(principal, action, resource) when { context.arguments.a == 1 && principal.subjct == \"a\" };",
            "subjct",
        ),
        ("permit(principal == ?principal, action, resource);", "template"),
        ("permit(principal, action, resource == Resource::\"FILE:///a\");", "another form"),
        ("forbid(principal, action, resource == Resource::\"file:///A\");", "file:///a"),
        ("permit(principal, action, resource == Resource::\"nowhere\");", "different ways"),
        ("permit(principal, action == Action::\"completion/complete\", resource);", "prompts/get"),
        ("@scope(\"a\") permit(principal, action, resource);", "forbid"),
        ("@id(\"a\") permit(principal, action, resource); @id(\"a\") permit(principal, action, resource);", "twice"),
    ] {
        let found = faults(wrong);
        assert!(
            !found.is_empty() && found.iter().all(|(_, message)| message.contains(found_faults)),
            "{wrong}: {found:?}"
        );
    }
    let long = format!("permit(principal, action, resource) when {{ {} }};", "true  ".repeat(3_000) + "true");
    assert!(faults(&long)[0].1.contains("bytes"));
    assert!(faults(&"permit(principal, action, resource);".repeat(1_001))[0].1.contains("1000"));
    let lists = "[[rule]]\nname='reads'\neffect='allow'\ntools=['a']\n";
    let rules = CedarRules::parse(REFUNDS).unwrap();
    assert!(ToolPolicy::parse_with(lists, Some(rules)).unwrap_err()[0].message.contains("in Cedar"));
}

#[test]
fn the_deepest_policies_that_are_read_neither_overflow_nor_hang() {
    let any = |count: usize| {
        [
            format!("{}true", "true&&".repeat(count)),
            format!("{}context.arguments has a", "context.arguments has a||".repeat(count / 3)),
            format!("{}true", "if context.arguments has a then true else ".repeat(count / 2)),
            format!("context.arguments{} == 1", ".a".repeat(count - 1)),
            format!("1{} == 1", "+1".repeat(count)),
            format!("{}true", "!".repeat(count)),
            format!("{}true{}", "(".repeat(count / 9), ")".repeat(count / 9)),
            format!("{}1{} == 1", "[".repeat(count / 9), "]".repeat(count / 9)),
        ]
    };
    for condition in [125, 248, 1_000, 3_000].into_iter().flat_map(any) {
        // Read or refused: a process goes on.
        if let Ok(rules) = CedarRules::parse(&format!("permit(principal, action, resource) when {{ {condition} }};")) {
            let policy = Arc::new(ToolPolicy::parse_with("", Some(rules)).unwrap());
            Caller::default().may_call(&policy, "t", r#"{"a": 1}"#);
            Caller::default().sees(&policy, &["t"]);
        }
    }
}

#[test]
fn the_schema_of_tools_finds_policies_that_do_not_fit() {
    let tools = [
        json!({"name": "refund", "inputSchema": {"type": "object", "required": ["amount"], "properties": {
            "amount": {"type": "number"}, "to": {"type": "array", "items": {"type": "string"}},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "card": {"$ref": "#/$defs/Card"}, "odd\" name": {"enum": ["a"]}},
            "$defs": {"Card": {"type": "object", "properties": {"last": {"type": "integer"}}}}}}),
        json!({"name": "find", "inputSchema": {"properties": {"amount": {"type": "string"}, "any": {}}}}),
    ];
    let found = |condition: &str, resource: &str| {
        let cedar =
            format!("permit(principal, action == Action::\"tools/call\", resource{resource})\nwhen {{ {condition} }};");
        CedarRules::parse(&cedar).unwrap().validate(&tools).unwrap()
    };
    let refund = r#" == Tool::"refund""#;
    for good in [
        "context.arguments has amount && context.arguments.amount <= 500",
        "context.decimals has amount && context.decimals.amount.lessThan(decimal(\"5.0\"))",
        "context.arguments has note && context.arguments.note like \"a*\"",
        "context.arguments has card && context.arguments.card has last && context.arguments.card.last == 1",
        "context.arguments has to && context.arguments.to.contains(\"a\")",
        "context.arguments has \"odd\\\" name\" && context.arguments[\"odd\\\" name\"] == \"a\"",
    ] {
        assert_eq!(found(good, refund), [], "{good}");
    }
    for (bad, expected) in [
        ("context.arguments.amount <= 500", "amount"),
        ("context.arguments has amont && context.arguments.amont <= 500", "impossible"),
        ("context.arguments has note && context.arguments.note < 5", "type"),
    ] {
        let faults = found(bad, refund);
        assert!(faults.iter().any(|fault| fault.line == 2 || fault.message.contains(expected)), "{bad}: {faults:?}");
        assert!(!faults.is_empty(), "{bad}");
    }
    // A type that two tools disagree about is that of the tool which the policy names.
    assert_eq!(found("context.arguments has amount && context.arguments.amount == \"a\"", " == Tool::\"find\""), []);
    assert!(!found("context.arguments has amount && context.arguments.amount < 1", "").is_empty());
    assert!(found("true", " == Tool::\"refnd\"").iter().any(|fault| fault.message.contains("no tool")));
    let text = cedar_schema(&tools).unwrap();
    assert!(text.contains("action \"tools/call\"") && text.starts_with("// \"amount\" has another type"), "{text}");
    assert!(cedar_policy::Schema::from_cedarschema_str(&text).is_ok(), "{text}");
    assert!(cedar_schema(&[]).is_ok());
}

/// A policy written twice: as lists, and as Cedar.
fn in_both_forms(rng: &mut Rng) -> (String, String) {
    let (mut lists, mut cedar) = (FINANCE.to_owned(), String::new());
    for nth in 0..1 + rng.below(4) {
        let is_allow = rng.chance(0.6);
        let (effect, word) = if is_allow { ("allow", "permit") } else { ("deny", "forbid") };
        let is_finance = rng.chance(0.3);
        let (role, principal) = if is_finance { ("roles=['finance']\n", " in Role::\"finance\"") } else { ("", "") };
        let name = ["a", "b", "ab", "c"][rng.below(4) as usize];
        let kind = rng.below(4);
        let (named, resource) = match kind {
            0 => (format!("tools=['{name}']\n"), format!("resource == Tool::\"{name}\"")),
            1 => (format!("prompts=['{name}']\n"), format!("resource == Prompt::\"{name}\"")),
            2 => (format!("tools=['{name}*']\n"), "resource is Tool".to_owned()),
            _ => (String::new(), "resource".to_owned()),
        };
        let condition = if kind == 2 { format!(" when {{ resource.name like \"{name}*\" }}") } else { String::new() };
        lists.push_str(&format!("[[rule]]\nname='r{nth}'\neffect='{effect}'\n{role}{named}"));
        cedar.push_str(&format!("@id(\"c{nth}\") {word}(principal{principal}, action, {resource}){condition};\n"));
    }
    (lists, cedar)
}

#[test]
fn the_same_policy_in_lists_and_in_cedar_decides_alike() {
    let mut rng = Rng::new(13);
    let callers = [Caller::default(), Caller::of(user("alice", json!({"groups": "finance"})))];
    let names = ["a", "b", "ab", "abc", "c", "d"];
    for round in 0..300 {
        let (lists, cedar) = in_both_forms(&mut rng);
        let by_lists = Arc::new(ToolPolicy::parse(&lists).unwrap());
        let by_cedar = policy_of(FINANCE, &cedar);
        for caller in &callers {
            for name in names {
                let targets =
                    [Asked::tool(name), Asked::prompt(name), Asked { method: "tasks/get", target: Target::Nothing }];
                for asked in
                    targets.iter().chain([&Asked { method: "completion/complete", target: Target::Prompt(name) }])
                {
                    let decide = |policy: &ToolPolicy| caller.asks(policy, asked, "{}").unwrap().is_allowed();
                    // Lists deny what reaches things without naming them only to callers of whom some rule speaks.
                    let is_indirect = asked.target == Target::Nothing;
                    let (one, other) = (decide(&by_lists), decide(&by_cedar));
                    assert!(one == other || (is_indirect && !other), "round {round}: {asked:?}\n{lists}\n{cedar}");
                }
            }
            assert_eq!(
                caller.sees(&by_lists, &names),
                caller.sees(&by_cedar, &names),
                "round {round}\n{lists}\n{cedar}"
            );
        }
    }
}

#[test]
fn a_list_shows_all_that_can_be_called_and_little_else() {
    let mut rng = Rng::new(31);
    let atoms = [
        "context.arguments.n < 3",
        "context.arguments.s == \"x\"",
        "principal is User",
        "resource.name == \"t\"",
        "context.arguments has n",
    ];
    fn any(rng: &mut Rng, atoms: &[&str], depth: u32) -> String {
        match rng.below(if depth == 0 { 1 } else { 5 }) {
            0 => atoms[rng.below(atoms.len() as u64) as usize].to_owned(),
            1 => format!("!({})", any(rng, atoms, depth - 1)),
            2 => format!("({} && {})", any(rng, atoms, depth - 1), any(rng, atoms, depth - 1)),
            3 => format!("({} || {})", any(rng, atoms, depth - 1), any(rng, atoms, depth - 1)),
            _ => {
                let [one, two, three] = [0; 3].map(|_| any(rng, atoms, depth - 1));
                format!("(if {one} then {two} else {three})")
            }
        }
    }
    let arguments = [r#"{"n":1,"s":"x"}"#, r#"{"n":5,"s":"x"}"#, r#"{"n":1,"s":"y"}"#, r#"{"n":5,"s":"y"}"#];
    let (mut hidden, mut shown) = (0, 0);
    for _ in 0..400 {
        let cedar: String = (0..1 + rng.below(3))
            .map(|_| {
                let word = if rng.chance(0.7) { "permit" } else { "forbid" };
                let kind = if rng.chance(0.8) { "when" } else { "unless" };
                format!("{word}(principal, action, resource is Tool) {kind} {{ {} }};", any(&mut rng, &atoms, 3))
            })
            .collect();
        let policy = policy_of("", &cedar);
        for caller in [Caller::default(), Caller::of(user("alice", json!({})))] {
            let can_be_called = arguments.iter().any(|arguments| caller.may_call(&policy, "t", arguments));
            let is_shown = !caller.sees(&policy, &["t"]).is_empty();
            assert!(is_shown || !can_be_called, "hidden though it can be called: {cedar}");
            shown += u32::from(is_shown);
            hidden += u32::from(!is_shown);
        }
    }
    assert!(hidden > 50 && shown > 50, "{hidden} {shown}");
}

#[test]
fn the_policy_in_the_documentation_passes_its_tests() {
    let page = include_str!("../../../../docs/GOVERNANCE.md");
    let (_, section) = page.split_once("\n## Cedar\n").unwrap();
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    let policy = policy_of(block("toml"), block("cedar"));
    let failed: Vec<String> = policy.run_cases().filter_map(|case| case.wrong).collect();
    assert_eq!((failed, policy.run_cases().count()), (Vec::<String>::new(), 4));
    assert_eq!((policy.useless(), policy.doubtful_cedar()), (vec![], vec![]));
}
