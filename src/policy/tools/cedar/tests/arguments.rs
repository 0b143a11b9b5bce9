//! Arguments and names as values of Cedar.

use serde_json::json;

use super::{Caller, policy_of, user};
use crate::policy::tools::decision::Asked;
use crate::policy::tools::tool_policy::UnreadableArguments;

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
fn a_policy_that_takes_the_arguments_as_a_whole_sees_all_of_them() {
    let may = |condition: &str, arguments: &str| {
        let cedar = format!("permit(principal, action, resource) when {{ {condition} }};");
        Caller::default().may_call(&policy_of("", &cedar), "t", arguments)
    };
    for whole in [r#"context.arguments == {"a": 1}"#, r#"(if true then context.arguments else {"a": 2}) == {"a": 1}"#] {
        assert!(may(whole, r#"{"a": 1}"#), "{whole}");
        assert!(!may(whole, r#"{"a": 1, "b": 2}"#), "{whole}");
    }
    let time = |condition: &str| may(condition, "{}");
    assert!(time("context.time has hour && !(context.time has minute)"));
    assert!(time("context.time.weekday == 4 && context.time.seconds == 0"));
    assert!(time("context.time == {seconds: 0, hour: 0, weekday: 4}"));
    // What is not read is checked all the same.
    let deep = format!("{{\"a\": 1, \"b\": {}{}}}", "[".repeat(40), "]".repeat(40));
    assert!(may("context.arguments.a == 1", r#"{"a": 1, "b": {"c": [1.25, "x", null, true]}}"#));
    for unreadable in [r#"{"a": 1, "b": {"c": 1, "c": 2}}"#, r#"{"a": 1, "b": 01}"#, &deep] {
        assert!(!may("context.arguments.a == 1", unreadable), "{unreadable}");
    }
}
