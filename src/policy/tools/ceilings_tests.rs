//! Tests of ceilings and approvals, from policy files.

use std::time::Duration;

use super::quotas::day_of;
use super::tests::{faults, policy, verdict};
use super::*;
use crate::base::Time;

#[test]
fn ceilings_need_an_allow_rule_and_a_limit() {
    let rule = |lines: &str| format!("[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['a']\n{lines}\n");
    for (text, why) in [
        (rule("calls_per_minute = 0"), "line 5: calls_per_minute must be a whole number from 1 to 1000000"),
        (rule("calls_per_minute = 'x'"), "line 5: calls_per_minute must be a whole number"),
        (rule("calls_per_day = 1.5"), "line 5: calls_per_day must be a whole number"),
        (rule("calls_burst = 5"), "line 5: calls_burst needs calls_per_minute"),
        (rule("calls_at_once_max = -1"), "line 5: calls_at_once_max must be"),
        (
            rule("calls_per_minute = 5").replace("allow", "deny"),
            "line 5: calls_per_minute is only for rules that allow",
        ),
        (
            rule("arguments = { properties = { a = { maximim = 5 } } }"),
            "line 5: arguments.properties.a.maximim is not checked",
        ),
        (rule("arguments = 5"), "line 5: arguments must be a table"),
        (
            rule("[rule.arguments]\nrequired = ['a']").replace("tools", "resources").replace("'a'", "'a:b'"),
            "name them in tools or prompts",
        ),
        (rule("answer_bytes_max = 4_194_305"), "line 5: answer_bytes_max must be a whole number from 1 to 4194304"),
        (rule("answer_rows_max = 5"), "line 5: answer_rows_max and answer_rows_at need each other"),
        (rule("answer_rows_at = '/a'"), "line 5: answer_rows_max and answer_rows_at need each other"),
        (rule("answer_rows_max = 5\nanswer_rows_at = 'a'"), "line 6: answer_rows_at must be a JSON pointer"),
        (
            rule("answer_rows_max = 5\nanswer_rows_at = ''").replace("tools", "prompts"),
            "line 5: answer_rows_max limits results of tools",
        ),
        (rule("answer_over = 'cut'"), "line 5: answer_over says what becomes of an answer beyond"),
        (rule("answer_bytes_max = 5\nanswer_over = 'shorten'"), "line 6: answer_over must be \"refuse\" or \"cut\""),
        (
            rule("answer_bytes_max = 5\nanswer_over = 'cut'").replace("tools", "prompts"),
            "line 6: only results of tools can be cut",
        ),
        (rule("calls_per_day = 5").replace("name = 'r'\n", ""), "line 1: a rule that counts calls needs a name"),
        (
            "[[rule]]\neffect = 'approve'\ntools = ['a']\n".to_owned(),
            "line 1: a rule that asks for approval needs a name",
        ),
        (
            "[[rule]]\nname = 'r'\neffect = 'approve'\nmethods = ['tasks/*']\n".to_owned(),
            "line 1: approval is for tools, prompts and resources",
        ),
    ] {
        let faults = faults(&text);
        assert!(faults.iter().any(|fault| fault.contains(why)), "{text}: {faults:?}");
    }
    let good = policy(&rule(
        "calls_per_minute = 5\n[rule.arguments.properties.a]\nmaximum = 1_000\npattern = '^a$'\ntype = ['number', 'string']",
    ));
    let decision = good.decide(RoleSet::default(), &Asked::tool("a"));
    assert!(good.needs_arguments(&decision, &Asked::tool("a")) && good.needs_wall_time());
    let other = good.decide(RoleSet::default(), &Asked::tool("b"));
    assert!(!good.needs_arguments(&other, &Asked::tool("b")) && !good.has_ceilings(&other));
    let ceilings_of = |lines: &str| {
        let policy = policy(&rule(lines));
        let decision = policy.decide(RoleSet::default(), &Asked::tool("a"));
        assert!(policy.note_answers(&decision).is_some() && !policy.needs_arguments(&decision, &Asked::tool("a")));
        assert!(policy.note_answers(&policy.decide(RoleSet::default(), &Asked::tool("b"))).is_none());
        policy.ceilings_text(&decision).unwrap()
    };
    assert_eq!(ceilings_of("answer_bytes_max = 500"), "answers of at most 500 bytes");
    assert_eq!(ceilings_of("answer_rows_max = 5\nanswer_rows_at = '/a'"), "answers of at most 5 rows at \"/a\"");
    let cut = "answers of at most 500 bytes, cut beyond that, answers of at most 5 rows at \"\", cut beyond that";
    assert_eq!(
        ceilings_of("answer_bytes_max = 500\nanswer_rows_max = 5\nanswer_rows_at = ''\nanswer_over = 'cut'"),
        cut
    );
    let plain = policy(&rule(""));
    assert!(!plain.needs_wall_time() && !plain.has_ceilings(&plain.decide(RoleSet::default(), &Asked::tool("a"))));
}

#[test]
fn approval_rules_rank_between_deny_and_allow() {
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
    assert!(
        policy.asks_for_approval() && policy.needs_wall_time() && policy.useless().is_empty(),
        "{:?}",
        policy.useless()
    );
    let wrong: Vec<Option<String>> = policy.run_cases().map(|case| case.wrong).collect();
    assert_eq!(wrong[0], None);
    assert_eq!(wrong[1].as_deref(), Some("it is allowed only with approval by the rule asks"));
    assert_eq!(wrong[2].as_deref(), Some("it is allowed without approval by the rule all"));
    let hidden = super::tests::policy(&text.replace("['*']", "['pay']"));
    let useless_rules: Vec<String> = hidden.useless().iter().map(ToString::to_string).collect();
    assert_eq!(
        useless_rules,
        ["line 1: the rule all has no effect: the rule asks (line 5) asks for approval of all that it allows"]
    );
    for (line, why) in [
        ("effect = 'allow'\napproval_wait_ms = 5", "approval_wait_ms is only for rules with effect"),
        ("effect = 'approve'\nscope = 'x'", "scope is only for rules that deny"),
        ("effect = 'approve'\napproval_use_within_ms = 0", "must be a whole number from 1 to 604800000"),
        ("effect = 'ask'", "effect must be \"allow\", \"approve\" or \"deny\""),
    ] {
        let faults = faults(&format!("[[rule]]\ntools = ['a']\n{line}\n"));
        assert!(faults.iter().any(|fault| fault.contains(why)), "{line}: {faults:?}");
    }
}

const TIME: QuotaTime = QuotaTime { now: Time::ZERO, unix: Duration::from_secs(20_000 * 86_400) };

/// How many of these calls of an anonymous caller pass, one after the other.
fn passed<'a>(policy: &ToolPolicy, address: [u8; 4], all: impl IntoIterator<Item = Asked<'a>>) -> usize {
    let caller = CountedCaller { identity: None, address: Some(address.into()) };
    let passes = |asked: &Asked<'_>| {
        let decision = policy.decide(RoleSet::default(), asked);
        assert!(decision.is_allowed(), "{asked:?}");
        policy.count(decision, asked, &caller, TIME).0.is_allowed()
    };
    all.into_iter().filter(passes).count()
}

#[test]
fn names_that_a_caller_invents_have_one_count_and_take_no_room() {
    let policy = policy(
        "[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['*', 'own']\nprompts = ['p*']\nmethods = ['tools/*', 'x/*', 'x/y', 'prompts/*']\n\
         calls_per_day = 5\n[[rule]]\nname = 'any'\neffect = 'allow'\ncalls_per_day = 5\n",
    );
    let invented: Vec<String> = (0..200).map(|nth| format!("x{nth}")).collect();
    assert_eq!(passed(&policy, [1, 2, 3, 4], invented.iter().map(|name| Asked::tool(name))), 5);
    assert_eq!(passed(&policy, [1, 2, 3, 4], vec![Asked::prompt("p1")]), 0, "it counts with them");
    assert_eq!(passed(&policy, [1, 2, 3, 4], vec![Asked::tool("own"); 9]), 5, "what the rule writes out has its own");
    let methods: Vec<String> = (0..200).map(|nth| format!("y/{nth}")).collect();
    let of_method = |method| Asked { method, target: Target::Nothing };
    assert_eq!(passed(&policy, [1, 2, 3, 4], methods.iter().map(|method| of_method(method))), 5);
    let mut held = 0;
    policy.quotas.each_of_day(day_of(TIME.unix), |_, _| held += 1);
    assert_eq!(held, 3);
    assert_eq!(passed(&policy, [1, 2, 3, 5], invented.iter().map(|name| Asked::tool(name))), 5, "another caller");
}

#[test]
fn a_resource_has_one_count_however_it_is_spelled() {
    let policy = policy(
        "[[rule]]\nname = 'r'\neffect = 'allow'\nresources = ['file:///docs/a', 'file:///docs/*']\ncalls_per_day = 1\n",
    );
    let asked = |uris: &[&'static str]| -> Vec<Asked<'static>> {
        uris.iter().map(|uri| Asked { method: "resources/read", target: Target::Resource(uri) }).collect()
    };
    let one = asked(&["file:///docs/a", "FILE:///docs/a", "file:///docs/%61", "file:///%64ocs/a"]);
    assert_eq!(passed(&policy, [1, 2, 3, 4], one), 1);
    assert_eq!(passed(&policy, [1, 2, 3, 4], asked(&["file:///docs/b", "file:///docs/c"])), 1, "all others together");
}

#[test]
fn arguments_are_asked_of_methods_that_have_them() {
    let policy = policy(
        "[[rule]]\neffect = 'allow'\nprompts = ['report']\ntools = ['t']\nresources = ['a:b']\narguments = { required = ['year'] }\n",
    );
    let needs = |method, target| {
        let asked = Asked { method, target };
        let decision = policy.decide(RoleSet::default(), &asked);
        let needs = policy.needs_arguments(&decision, &asked);
        (needs, policy.check_arguments(decision, &asked, b"{\"params\":{}}").unwrap().is_allowed())
    };
    assert_eq!(needs("prompts/get", Target::Prompt("report")), (true, false));
    assert_eq!(needs("tools/call", Target::Tool("t")), (true, false));
    assert_eq!(needs("completion/complete", Target::Prompt("report")), (false, true));
    assert_eq!(needs("resources/read", Target::Resource("a:b")), (false, true));
}
