//! Tests of whole policies: policy files and the resulting decisions.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::base::{Rng, hex, sha256};
use crate::policy::tools::json_text::Value;
use crate::policy::tools::roles::CallerOrigin;
use crate::policy::{AgentIdentity, IdentityProof};

pub(super) fn policy(text: &str) -> ToolPolicy {
    ToolPolicy::parse(text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

pub(super) fn faults(text: &str) -> Vec<String> {
    ToolPolicy::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

/// The deciding rule: `+name` for allow, `-name` for deny.
pub(super) fn verdict(policy: &ToolPolicy, roles: &[&str], asked: Asked<'_>) -> String {
    let roles = policy.roles_named(roles.iter().copied()).unwrap();
    let decision = policy.decide(roles, &asked);
    let sign = if decision.is_allowed() { '+' } else { '-' };
    format!("{sign}{}", decision.rule().map(|rule| &*rule.name).unwrap_or_default())
}

/// The decision about a tool that a list has just named.
fn listed(policy: &ToolPolicy, tool: &str, hints: ToolHints) -> ToolDecision {
    policy.decide_listed(RoleSet::default(), &Asked::tool(tool), hints, &Value::of(b"{}").unwrap())
}

fn identity(proof: IdentityProof, subject: &str) -> AgentIdentity {
    AgentIdentity {
        subject: subject.into(),
        issuer: Some("https://login.example".into()),
        client: None,
        proof,
        scopes: Arc::new(["tickets:read".into()]),
        claims: Arc::new(json!({"groups": ["support", "eu"], "level": 3}).as_object().unwrap().clone()),
    }
}

const FILE: &str = r#"
[policy]
trust_annotations = true

[[key]]
name = "nightly"
# printf %s correct-horse-battery | sha256sum
sha256 = "24b2aa5fea7e7e8a6a6a5e0c8e3a0a3f4f8a7e1b0b9c2d3e4f5061728394a5b6"

[[role]]
name = "office"
networks = ["10.0.0.0/8"]

[[role]]
name = "batch"
keys = ["nightly"]

[[role]]
name = "support"
issuer = "https://login.example"
claims = { groups = "support" }

[[rule]]
name = "no-deletes"
effect = "deny"
tools = ["delete_*", "drop"]

[[rule]]
name = "ask-for-write"
effect = "deny"
tools = ["write_*"]
roles = ["office"]
scope = "tickets:write"

[[rule]]
name = "support-tools"
effect = "allow"
tools = ["search_*", "get_ticket"]
prompts = ["summary"]
resources = ["file:///docs/*"]
roles = ["support"]

[[rule]]
name = "what-only-reads"
effect = "allow"
annotations = { read_only = true }

[[test]]
name = "support searches"
identity = { subject = "a", issuer = "https://login.example", claims = { groups = ["support"] } }
tool = "search_tickets"
expect = "allow"
rule = "support-tools"

[[test]]
name = "nobody deletes"
roles = ["support"]
tool = "delete_ticket"
expect = "deny"
rule = "no-deletes"
"#;

#[test]
fn deny_rules_win_and_the_default_is_to_deny() {
    let policy = policy(FILE);
    for (roles, asked, want) in [
        (&["support"][..], Asked::tool("search_tickets"), "+support-tools"),
        (&["support"], Asked::tool("get_ticket"), "+support-tools"),
        (&["support"], Asked::tool("get_tickets"), "-"),
        (&["support"], Asked::tool("delete_x"), "-no-deletes"),
        (&["support", "office"], Asked::tool("write_x"), "-ask-for-write"),
        (&["office"], Asked::tool("search_tickets"), "-"),
        (&[], Asked::tool("search_tickets"), "-"),
        (&["support"], Asked::prompt("summary"), "+support-tools"),
        (&["support"], Asked::prompt("search_x"), "-"),
        (&["support"], Asked::resource("file:///docs/a"), "+support-tools"),
        (&["support"], Asked::resource("file:///docs/../key"), "-"),
        (&["support"], Asked::resource("file:///docs/%2e%2e/key"), "-"),
        (&["support"], Asked::template("file:///docs/{name}"), "+support-tools"),
        (&["support"], Asked::template("file:///{path}"), "+support-tools"),
        (&["support"], Asked::template("db://{table}"), "-"),
    ] {
        assert_eq!(verdict(&policy, roles, asked), want, "{roles:?} {asked:?}");
    }
}

#[test]
fn protocol_methods_are_denied_only_by_name() {
    let policy = policy(FILE);
    let ask = |method| Asked { method, target: Target::Nothing };
    for method in ["initialize", "ping", "tools/list", "notifications/cancelled", "server/discover"] {
        assert_eq!(verdict(&policy, &[], ask(method)), "+", "{method}");
    }
    assert_eq!(verdict(&policy, &["support"], ask("vendor/run")), "-", "no revision has it, and no rule allows it");
    assert_eq!(verdict(&policy, &["support"], ask("Tools/call")), "-");
    let named =
        "[[rule]]\neffect = 'deny'\nmethods = ['logging/*', 'vendor/*']\n[[rule]]\nname = 'all'\neffect = 'allow'\n";
    let named = super::tests::policy(named);
    assert_eq!(verdict(&named, &[], ask("logging/setLevel")), "-#1");
    assert_eq!(verdict(&named, &[], ask("vendor/run")), "-#1");
    assert_eq!(verdict(&named, &[], ask("other/run")), "+all");
    let none = super::tests::policy("");
    assert_eq!(verdict(&none, &[], ask("other/run")), "+");
    assert_eq!(verdict(&none, &[], Asked::tool("x")), "+");
}

#[test]
fn methods_that_name_no_target_are_denied_to_roles_with_a_rule() {
    let ask = |method| Asked { method, target: Target::Nothing };
    let roles = "[[role]]\nname = 'r'\nnetworks = ['::1']\n[[role]]\nname = 's'\nnetworks = ['::1']\n";
    let deny = format!("{roles}[[rule]]\nname = 'no'\neffect = 'deny'\nroles = ['r']\ntools = ['x']\n");
    let allow = format!("{roles}[[rule]]\nname = 'x'\neffect = 'allow'\nroles = ['r']\ntools = ['x']\n");
    let named = format!("{allow}[[rule]]\nname = 'tasks'\neffect = 'allow'\nmethods = ['tasks/*']\n");
    let all = format!("{deny}[[rule]]\nname = 'all'\neffect = 'allow'\n");
    let [deny, allow, named, all, none] = [&*deny, &allow, &named, &all, ""].map(policy);
    let tasks = ["tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update"];
    for method in tasks.into_iter().chain(["subscriptions/listen", "completion/complete", "resources/read"]) {
        assert_eq!(verdict(&none, &[], ask(method)), "+", "{method}");
        assert_eq!(verdict(&deny, &["r"], ask(method)), "-", "{method}");
        assert_eq!(verdict(&deny, &["s"], ask(method)), "+", "no rule is about them: {method}");
        assert_eq!(verdict(&allow, &["r"], ask(method)), "-", "{method}");
        assert_eq!(verdict(&allow, &["s"], ask(method)), "-", "{method}");
        assert_eq!(verdict(&all, &["r"], ask(method)), "+all", "{method}");
        let want = if method.starts_with("tasks/") { "+tasks" } else { "-" };
        assert_eq!(verdict(&named, &["r"], ask(method)), want, "{method}");
    }
}

#[test]
fn a_resource_that_can_be_read_in_two_ways_is_refused_where_rules_name_resources() {
    const REFUSED: &[&str] = &[
        "file:///key#x",
        "file:///key#",
        "file:///key?",
        "file:/key",
        "file:key",
        "file://localhost/key",
        "file://h/key",
        " file:///key",
        "file:///key ",
        "fi\tle:///key",
        "file:///k\ney",
        "file:///key%0a",
        "file:///key%00",
        "file:///docs/../key",
        "file:///docs/%2e%2e/key",
        "file:///docs/.%2E/key",
        "file:///docs/..;a/key",
        "file:///docs/%252e%252e/key",
        "file:///docs/..%2fkey",
        "file:///docs%2fkey",
        "file:///docs\\..\\key",
        "file:///docs/..%5ckey",
        "file:////key",
        "file:///./key",
        "file:///%256bey",
        "file:///key%23x",
        "file:///key%3f",
        "/key",
        "key",
        "",
        "notes://a/../secret",
        "notes://../secret",
        "notes://a/x?/../../secret",
        "note:a/../b",
        "notes:/a",
        "https:example.com",
        "https:///example.com/",
        "https://example.com:443/",
        "https://example.com:/",
        "https://example.com:0443/",
        "https://u@example.com/",
        "https://example.com./",
        "https://\u{ff45}xample.com/",
        "file:///a%zz",
        "file:///a%",
        "file:///%ff",
        "1a://b",
        "a b://c",
    ];
    let deny = policy("[[rule]]\nname = 'key'\neffect = 'deny'\nresources = ['file:///key']\n");
    let allow = policy("[[rule]]\nname = 'all'\neffect = 'allow'\nresources = ['*']\n");
    for uri in REFUSED {
        assert_eq!(verdict(&deny, &[], Asked::resource(uri)), "-", "{uri:?}");
        assert_eq!(verdict(&allow, &[], Asked::resource(uri)), "-", "{uri:?}");
        assert!(allow.why_refused(&Asked::resource(uri)).is_some(), "{uri:?}");
    }
    for policy in [policy(""), policy("[[rule]]\neffect = 'deny'\ntools = ['x']\n")] {
        for uri in REFUSED {
            assert_eq!(verdict(&policy, &[], Asked::resource(uri)), "+", "no rule names resources: {uri:?}");
        }
    }
    for uri in
        ["file:///docs/a.md", "file:///a%20b", "note:a", "db://t/a?limit=5&q=x", "https://example.com:8443/a", "x://a/"]
    {
        assert_eq!(verdict(&deny, &[], Asked::resource(uri)), "+", "{uri}");
        assert_eq!(verdict(&allow, &[], Asked::resource(uri)), "+all", "{uri}");
    }
    for uri in [
        "file:///key",
        "FILE:///key",
        "file:///%6bey",
        "file:///key?a=1",
        "file:///key/",
        "file:///key/?a=1",
        "file:///key;v=1",
        "file:///key/;v?a",
    ] {
        assert_eq!(verdict(&deny, &[], Asked::resource(uri)), "-key", "{uri}");
    }
}

#[test]
fn a_resource_can_be_named_in_every_spelling_that_is_its_own() {
    for (pattern, uris) in [
        ("file:///my%20docs/*", &["file:///my%20docs/a", "FILE:///my%20docs/a", "file:///%6dy%20docs/a"][..]),
        ("FILE:///docs/*", &["file:///docs/a", "File:///docs/a"]),
        ("https://Example.com/A%7e*", &["https://example.com/A~b", "https://EXAMPLE.com/A%7Eb"]),
        ("https://EXAMPLE.com/100%25", &["https://example.com/100%25"]),
        ("file:///caf%C3%A9", &["file:///caf%c3%a9", "file:///caf\u{e9}"]),
        ("*/my%20docs/*", &["file:///my%20docs/a"]),
        ("H*://example.com/*", &["https://EXAMPLE.com/a"]),
    ] {
        for effect in ["allow", "deny"] {
            let policy = policy(&format!("[[rule]]\nname = 'it'\neffect = '{effect}'\nresources = ['{pattern}']\n"));
            let want = if effect == "allow" { "+it" } else { "-it" };
            for uri in uris {
                assert_eq!(verdict(&policy, &[], Asked::resource(uri)), want, "{pattern} {uri}");
                assert_eq!(verdict(&policy, &[], Asked::template(uri)), want, "{pattern} {uri}");
            }
        }
    }
    let policy = policy("[[rule]]\neffect = 'allow'\nresources = ['FILE:///my%20docs/*', 'https://a/*']\n");
    for (template, want) in [
        ("file:///my%20docs/{name}", "+#1"),
        ("file:///{+path}", "+#1"),
        ("{+uri}", "+#1"),
        ("https://A/x{?q}", "+#1"),
        ("https://b/{x}", "-"),
        ("file:///my%20docs/../{name}", "-"),
    ] {
        assert_eq!(verdict(&policy, &[], Asked::template(template)), want, "{template}");
    }
}

#[test]
fn deny_patterns_ignore_case() {
    for (pattern, uri) in [
        ("file:///key", "file:///KEY"),
        ("*/SECRET", "notes://Secret"),
        ("https*Example.com/a", "https://EXAMPLE.com/a"),
        ("x://\u{c9}t\u{c9}", "x://\u{e9}t%C3%A9"),
    ] {
        let deny = policy(&format!("[[rule]]\nname = 'no'\neffect = 'deny'\nresources = ['{pattern}']\n"));
        assert_eq!(verdict(&deny, &[], Asked::resource(uri)), "-no", "{pattern} {uri}");
        assert_eq!(verdict(&deny, &[], Asked::template(uri)), "-no", "{pattern} {uri}");
    }
    let allow = policy("[[rule]]\nname = 'it'\neffect = 'allow'\nresources = ['file:///Docs/*']\n");
    assert_eq!(verdict(&allow, &[], Asked::resource("file:///Docs/A")), "+it");
    assert_eq!(verdict(&allow, &[], Asked::resource("file:///docs/A")), "-");
}

#[test]
fn a_pattern_that_no_resource_can_have_is_a_fault() {
    for (pattern, why) in [
        ("file:///docs/../*", "'..'"),
        ("file:/docs/*", "'/'"),
        ("file://localhost/*", "host"),
        ("file:///my docs/*", "space"),
        ("file:///a%2a", "%2a"),
        ("file:///a%2*", "'%'"),
        ("/docs/*", "scheme"),
        ("https://*.Example.com/*", "lower case"),
    ] {
        let found = faults(&format!("[[rule]]\neffect = 'deny'\nresources = ['{pattern}']\n"));
        assert!(found[0].starts_with("line 3: ") && found[0].contains(why), "{pattern}: {found:?}");
    }
}

#[test]
fn the_uri_of_a_hostile_list_takes_no_long_time() {
    let deny = policy("[[rule]]\neffect = 'deny'\nresources = ['file:///key', '*a*b*c']\n");
    let uri = format!("file:///%{}41", "25".repeat(500_000));
    for asked in [Asked::resource(&uri), Asked::template(&uri)] {
        assert_eq!(verdict(&deny, &[], asked), "-");
        assert!(deny.why_refused(&asked).is_some_and(|why| why.contains("long")));
    }
}

#[test]
fn a_denial_for_a_missing_scope_names_the_scope() {
    let policy = policy(FILE);
    let roles = policy.roles_named(["office"]).unwrap();
    let ToolDecision::Denied { how, .. } = policy.decide(roles, &Asked::tool("write_x")) else { panic!() };
    assert_eq!(how, Denial::Scope("tickets:write".into()));
}

#[test]
fn a_caller_to_whom_the_scope_was_granted_is_not_denied_for_it() {
    let policy = policy("[[rule]]\neffect = 'deny'\ntools = ['write']\nscope = 'a b'\n");
    let may_write = |scopes: &[&str]| {
        let identity = AgentIdentity {
            scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
            ..identity(IdentityProof::Jwt, "a")
        };
        policy.decide(policy.roles_of(CallerOrigin::default(), Some(&identity)), &Asked::tool("write")).is_allowed()
    };
    assert!(may_write(&["a", "b"]) && may_write(&["c", "b", "a"]));
    assert!(!may_write(&[]) && !may_write(&["a"]) && !may_write(&["a b"]));
    assert!(!policy.decide(policy.roles_of(CallerOrigin::default(), None), &Asked::tool("write")).is_allowed());
}

#[test]
fn annotations_count_as_the_last_list_had_them_and_the_worst_is_assumed_before() {
    let policy = policy(FILE);
    assert_eq!(verdict(&policy, &[], Asked::tool("look")), "-");
    let hints = ToolHints { read_only_hint: true, ..ToolHints::default() };
    assert!(listed(&policy, "look", hints).is_allowed());
    assert_eq!(verdict(&policy, &[], Asked::tool("look")), "+what-only-reads");
    assert!(!listed(&policy, "delete_all", hints).is_allowed());
    assert!(!listed(&policy, "look", ToolHints::default()).is_allowed());
    assert_eq!(verdict(&policy, &[], Asked::tool("look")), "-");
}

#[test]
fn roles_come_from_networks_keys_and_identities() {
    let policy = policy(FILE);
    let near: IpAddr = "10.1.2.3".parse().unwrap();
    let far: IpAddr = "192.0.2.1".parse().unwrap();
    let names = |address, identity: Option<&AgentIdentity>| -> Vec<String> {
        policy.names_of(policy.roles_of(CallerOrigin { address, edge: None }, identity)).map(str::to_owned).collect()
    };
    assert_eq!(names(Some(near), None), ["office"]);
    assert!(names(Some(far), None).is_empty() && names(None, None).is_empty());
    assert_eq!(names(None, Some(&identity(IdentityProof::Jwt, "a"))), ["support"]);
    let other = AgentIdentity { issuer: Some("https://else.example".into()), ..identity(IdentityProof::Jwt, "a") };
    assert!(names(None, Some(&other)).is_empty());
    let token = identity(IdentityProof::Jwt, "nightly");
    assert_eq!(names(None, Some(&token)), ["support"], "the name of a key in a token is no key");
    let key = identity(IdentityProof::Key, "nightly");
    assert_eq!(names(Some(near), Some(&key)), ["office", "batch"], "a key has no groups");
}

#[test]
fn a_claim_is_found_by_its_own_name_or_within_others() {
    let claims =
        json!({"realm_access": {"roles": ["a", "b"]}, "https://x.example/groups": ["c"], "a.b": 1, "a": {"b": 2}});
    let claims = Arc::new(claims.as_object().unwrap().clone());
    let caller = AgentIdentity { claims, ..identity(IdentityProof::Jwt, "a") };
    for (name, value, fits) in [
        ("realm_access.roles", "'b'", true),
        ("realm_access.roles", "'c'", false),
        ("realm_access", "'b'", false),
        ("realm_access.roles.b", "'b'", false),
        ("https://x.example/groups", "'c'", true),
        ("a.b", "1", true),
        ("a.b", "2", false),
        ("", "1", false),
    ] {
        let text = format!("[[role]]\nname = 'r'\nproofs = ['jwt']\nclaims = {{ '{name}' = {value} }}\n");
        assert_eq!(
            policy(&text).roles_of(CallerOrigin::default(), Some(&caller)) != RoleSet::default(),
            fits,
            "{text}"
        );
    }
}

#[test]
fn a_role_must_name_an_issuer_or_a_proof() {
    let role = |line: &str| format!("[[role]]\nname = 'r'\n{line}\n");
    for line in ["subjects = ['alice']", "clients = ['app']", "scopes = ['a']", "claims = { groups = 'a' }"] {
        let found = faults(&role(line));
        assert!(
            found.len() == 1 && found[0].starts_with("line 1: ") && found[0].contains("issuer"),
            "{line}: {found:?}"
        );
        for vouches in ["issuer = 'https://login.example'", "proofs = ['jwt']"] {
            policy(&role(&format!("{vouches}\n{line}")));
        }
    }
    // An unknown proof is reported with the list of known ones.
    for proof in ["x509", "network", "edge"] {
        let found = faults(&role(&format!("proofs = ['{proof}']")));
        assert!(
            found.len() == 1
                && found[0].starts_with("line 3: ")
                && found[0].ends_with("key, jwt, introspection, certificate, forwarded"),
            "{found:?}"
        );
    }
    let found = faults(&role("proofs = ['jwt', 'key']"));
    assert!(found.len() == 1 && found[0].starts_with("line 3: ") && found[0].contains("keys = "), "{found:?}");
}

#[test]
fn a_key_is_known_by_its_hash_alone() {
    let hex = hex(&sha256(b"correct-horse-battery"));
    let text = format!("[[key]]\nname = 'a'\nsha256 = '{}'\n[[key]]\nname = 'b'\nsha256 = '{hex}'\n", "0".repeat(64));
    let policy = policy(&text);
    assert_eq!(
        policy.key_of(b"correct-horse-battery").map(|key| (&*key.subject, key.proof)),
        Some(("b", IdentityProof::Key))
    );
    for wrong in [&b""[..], b"correct-horse-batterx", b"correct-horse-battery ", hex.as_bytes()] {
        assert!(policy.key_of(wrong).is_none());
    }
}

#[test]
fn failed_test_cases_of_a_policy_file_name_the_reason() {
    let policy = policy(FILE);
    assert!(policy.run_cases().all(|case| case.wrong.is_none()));
    let broken = FILE.replace("expect = \"allow\"", "expect = \"deny\"").replace("roles = [\"support\"]\ntool", "tool");
    let broken = super::tests::policy(&broken.replace("rule = \"no-deletes\"", "rule = \"ask-for-write\""));
    let wrong: Vec<Option<String>> = broken.run_cases().map(|case| case.wrong).collect();
    assert_eq!(
        wrong,
        [
            Some("it is allowed by the rule support-tools, not denied".to_owned()),
            Some("the rule no-deletes decides it, not ask-for-write".to_owned())
        ]
    );
}

#[test]
fn all_faults_of_a_policy_file_are_reported_with_their_lines() {
    let text = r#"
[policy]
trust_anotations = true
[[key]]
name = "k"
sha256 = "abc"
[[role]]
name = "r"
[[role]]
name = "r"
networks = ["10.0.0.1/8"]
[[rule]]
effect = "permit"
roles = ["none"]
tools = []
annotations = { read_only = true }
[[rule]]
effect = "allow"
scope = "a"
[[test]]
tool = "a"
prompt = "b"
expect = "deny"
[extra]
"#;
    let found = faults(text);
    for (line, part) in [
        (3, "unknown key \"trust_anotations\""),
        (6, "64 hexadecimal digits"),
        (7, "no caller can have this role"),
        (10, "is used twice"),
        (11, "bits beyond its prefix"),
        (13, "effect must be"),
        (14, "no [[role]] has the name \"none\""),
        (15, "tools is empty"),
        (16, "trust_annotations = true"),
        (19, "scope is only for rules that deny"),
        (20, "must name one tool, prompt, resource or method"),
        (24, "unknown table \"extra\""),
    ] {
        let begins = format!("line {line}: ");
        assert!(
            found.iter().any(|fault| fault.starts_with(&begins) && fault.contains(part)),
            "{line} {part}: {found:#?}"
        );
    }
    let reserved = faults("[[rule]]\neffect = 'deny'\nname = 'pin'\ntools = ['a']\n");
    assert!(reserved.len() == 1 && reserved[0].starts_with("line 3: the name \"pin\" stands for"), "{reserved:?}");
    assert!(faults("[[rule]\n")[0].starts_with("line 1: not valid TOML"));
}

#[test]
fn rules_that_never_decide_are_found() {
    let useless = |text: &str| -> Vec<String> { policy(text).useless().iter().map(ToString::to_string).collect() };
    assert_eq!(useless(FILE), ["line 14: no rule names the role batch"]);
    let text = "[[role]]\nname = 'a'\nnetworks = ['::1']\n[[role]]\nname = 'b'\nnetworks = ['::1']\n\
                [[rule]]\neffect = 'deny'\ntools = ['delete_*']\n\
                [[rule]]\neffect = 'allow'\ntools = ['delete_mine']\nroles = ['a']\n\
                [[rule]]\neffect = 'allow'\ntools = ['x*']\n\
                [[rule]]\neffect = 'allow'\ntools = ['xy', 'x*z']\n";
    assert_eq!(
        useless(text),
        [
            "line 4: no rule names the role b",
            "line 10: the rule #2 has no effect: the rule #1 (line 7) denies all that it allows",
            "line 17: the rule #4 has no effect: the rule #3 (line 14) decides all that it matches before it",
        ]
    );
}

/// Random policies over a few names.
fn any_file(rng: &mut Rng) -> String {
    const NAMES: [&str; 7] = ["a", "b", "ab", "a*", "*b", "*", "c"];
    let mut text = String::new();
    for role in ["r", "s"] {
        text += &format!("[[role]]\nname = '{role}'\nnetworks = ['::1']\n");
    }
    for _ in 0..rng.below(6) {
        text += &format!("[[rule]]\neffect = '{}'\n", if rng.chance(0.5) { "allow" } else { "deny" });
        for kind in ["tools", "prompts", "resources"] {
            if rng.chance(0.6) {
                let name = NAMES[rng.below(7) as usize];
                let scheme = if kind == "resources" && !name.starts_with('*') { "x:" } else { "" };
                text += &format!("{kind} = ['{scheme}{name}']\n");
            }
        }
        if rng.chance(0.4) {
            text += &format!("roles = ['{}']\n", if rng.chance(0.5) { "r" } else { "s" });
        }
        if rng.chance(0.2) {
            text += "methods = ['tools/*']\n";
        }
    }
    text
}

#[test]
fn a_rule_without_effect_can_be_left_out_and_a_deny_only_takes_away() {
    let mut rng = Rng::new(77);
    let (mut left_out, mut compared) = (0, 0);
    for _ in 0..3_000 {
        let text = any_file(&mut rng);
        let whole = policy(&text);
        let asked: Vec<Asked<'_>> = ["x:a", "x:b", "x:ab", "x:ba", "x:c", "x:d"]
            .into_iter()
            .flat_map(|uri| [Asked::tool(&uri[2..]), Asked::prompt(&uri[2..]), Asked::resource(uri)])
            .collect();
        let verdicts = |policy: &ToolPolicy| -> Vec<bool> {
            let roles = [&[][..], &["r"], &["s"], &["r", "s"]];
            let all = roles.iter().flat_map(|roles| asked.iter().map(move |asked| (roles, asked)));
            all.map(|(roles, asked)| {
                policy.decide(policy.roles_named(roles.iter().copied()).unwrap(), asked).is_allowed()
            })
            .collect()
        };
        let before = verdicts(&whole);
        let useless: Vec<usize> =
            whole.useless().iter().filter(|fault| fault.message.contains("no effect")).map(|f| f.line).collect();
        for line in useless {
            let at = text.lines().take(line - 1).map(|line| line.len() + 1).sum::<usize>();
            let end = text[at + 1..].find("[[").map_or(text.len(), |end| at + 1 + end);
            let without = policy(&format!("{}{}", &text[..at], &text[end..]));
            // Without its last allow rule, a policy allows whatever no rule denies.
            if text[..at].contains("'allow'") || text[end..].contains("'allow'") || !text[at..end].contains("'allow'") {
                left_out += 1;
                assert_eq!(verdicts(&without), before, "{text}\nwithout line {line}");
            }
        }
        let stricter = policy(&format!("{text}[[rule]]\neffect = 'deny'\ntools = ['a*']\n"));
        for (after, before) in verdicts(&stricter).into_iter().zip(before) {
            compared += 1;
            assert!(before || !after, "{text}");
        }
    }
    assert!(left_out > 300 && compared > 10_000, "{left_out}");
}
