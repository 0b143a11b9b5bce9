//! Ceilings and approvals of rules, as the files of policies have them.

use super::tests::{faults, policy, verdict};
use super::*;

#[test]
fn ceilings_are_of_rules_that_allow_and_say_something() {
    let rule = |lines: &str| format!("[[rule]]\neffect = 'allow'\ntools = ['a']\n{lines}\n");
    for (text, why) in [
        (rule("calls_per_minute = 0"), "line 4: calls_per_minute has to be a whole number from 1 to 1000000"),
        (rule("calls_per_minute = 'x'"), "line 4: calls_per_minute has to be a whole number"),
        (rule("calls_per_day = 1.5"), "line 4: calls_per_day has to be a whole number"),
        (rule("calls_burst = 5"), "line 4: calls_burst says how many calls may come at one time"),
        (rule("calls_at_once_max = -1"), "line 4: calls_at_once_max has to be"),
        (rule("calls_per_minute = 5").replace("allow", "deny"), "line 4: calls_per_minute is for rules that allow"),
        (
            rule("arguments = { properties = { a = { maximim = 5 } } }"),
            "line 4: arguments.properties.a.maximim is not checked",
        ),
        (rule("arguments = 5"), "line 4: arguments has to be a table"),
        (
            rule("[rule.arguments]\nrequired = ['a']").replace("tools", "resources").replace("'a'", "'a:b'"),
            "name some in tools or prompts",
        ),
    ] {
        let faults = faults(&text);
        assert!(faults.iter().any(|fault| fault.contains(why)), "{text}: {faults:?}");
    }
    let good = policy(&rule(
        "calls_per_minute = 5\n[rule.arguments.properties.a]\nmaximum = 1_000\npattern = '^a$'\ntype = ['number', 'string']",
    ));
    let decision = good.decide(RoleSet::default(), &Asked::tool("a"));
    assert!(good.needs_arguments(&decision) && good.counts_calls());
    let other = good.decide(RoleSet::default(), &Asked::tool("b"));
    assert!(!good.needs_arguments(&other) && !good.has_ceilings(&other));
    let plain = policy(&rule(""));
    assert!(!plain.counts_calls() && !plain.has_ceilings(&plain.decide(RoleSet::default(), &Asked::tool("a"))));
}

#[test]
fn what_asks_for_approval_goes_before_what_allows_and_behind_what_denies() {
    let text = "[[rule]]\nname = 'all'\neffect = 'allow'\ntools = ['*']\n\
                [[rule]]\nname = 'asks'\neffect = 'approve'\ntools = ['pay', 'drop']\napproval_wait_ms = 5_000\n\
                [[rule]]\nname = 'never'\neffect = 'deny'\ntools = ['drop']\n\
                [[test]]\ntool = 'pay'\nexpect = 'approve'\nrule = 'asks'\n\
                [[test]]\ntool = 'pay'\nexpect = 'allow'\n\
                [[test]]\ntool = 'get'\nexpect = 'approve'\n";
    let policy = super::tests::policy(text);
    for (tool, want, asks) in [("pay", "+asks", true), ("get", "+all", false), ("drop", "-never", false)] {
        assert_eq!(verdict(&policy, &[], Asked::tool(tool)), want);
        assert_eq!(policy.needs_approval(&policy.decide(RoleSet::default(), &Asked::tool(tool))), asks, "{tool}");
    }
    assert!(policy.asks_for_approval() && policy.useless().is_empty(), "{:?}", policy.useless());
    let wrong: Vec<Option<String>> = policy.run_cases().map(|case| case.wrong).collect();
    assert_eq!(wrong[0], None);
    assert_eq!(wrong[1].as_deref(), Some("it is allowed only with approval by the rule asks"));
    assert_eq!(wrong[2].as_deref(), Some("it is allowed without approval by the rule all"));
    let hidden = super::tests::policy(&text.replace("['*']", "['pay']"));
    let told: Vec<String> = hidden.useless().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["line 1: the rule all has no effect: the rule asks (line 5) asks for approval of all that it allows"]
    );
    for (line, why) in [
        ("effect = 'allow'\napproval_wait_ms = 5", "approval_wait_ms is for rules with effect"),
        ("effect = 'approve'\nscope = 'x'", "scope is for rules that deny"),
        ("effect = 'approve'\napproval_use_within_ms = 0", "has to be a whole number from 1 to 604800000"),
        ("effect = 'ask'", "effect has to be \"allow\", \"approve\" or \"deny\""),
    ] {
        let faults = faults(&format!("[[rule]]\ntools = ['a']\n{line}\n"));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{line}: {faults:?}");
    }
}
