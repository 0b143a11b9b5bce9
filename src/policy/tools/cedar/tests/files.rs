//! Cedar files: their faults, their limits and their schema.

use std::sync::Arc;

use serde_json::json;

use super::{Caller, REFUNDS, policy_of};
use crate::policy::tools::cedar::{CedarRules, cedar_schema};
use crate::policy::tools::tool_policy::ToolPolicy;

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

#[test]
fn the_policy_in_the_documentation_passes_its_tests() {
    let page = include_str!("../../../../../docs/GOVERNANCE.md");
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
