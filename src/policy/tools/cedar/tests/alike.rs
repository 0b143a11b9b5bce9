//! Random policies: in both forms, and in lists and calls.

use std::sync::Arc;

use serde_json::json;

use super::{Caller, FINANCE, policy_of, user};
use crate::base::Rng;
use crate::policy::tools::decision::{Asked, Target};
use crate::policy::tools::tool_policy::ToolPolicy;

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
