//! `adit policy`: checks and explains a policy before it is used.

use std::fmt::Write;

use crate::cli::call_text::plain;
use crate::cli::output::print;
use crate::cli::policy_args::{PolicyArgs, PolicyCommand, PolicyExplainArgs};
use crate::cli::policy_diff::diff;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::read_policy;
use crate::policy::{
    Asked, CeilingReached, Denial, MethodDefault, Target, ToolDecision, ToolPolicy, UnreadableArguments,
};

/// Runs `adit policy …` and returns the exit code.
#[must_use]
pub fn run_policy(args: &PolicyArgs) -> u8 {
    let run = match &args.command {
        PolicyCommand::Check { file } => read_policy(file).map(|policy| (checked(&policy), 0)),
        PolicyCommand::Test { file } => read_policy(file).map(|policy| tested(&policy)),
        PolicyCommand::Explain(args) => read_policy(&args.file).and_then(|policy| explained(&policy, args)),
        PolicyCommand::Diff(args) => diff(args),
    };
    match run {
        Ok((text, code)) => {
            print(&text);
            code
        }
        Err(why) => {
            // Prints each fault on its own line.
            eprintln!("{}", why.replace("; line ", "\nline ").replace("policy: line ", "policy:\nline "));
            EXIT_USAGE
        }
    }
}

fn checked(policy: &ToolPolicy) -> String {
    let mut text: String = policy.useless().iter().fold(String::new(), |text, fault| format!("{text}{fault}\n"));
    let what = if text.is_empty() { "nothing is wrong" } else { "nothing else is wrong" };
    let _ = writeln!(text, "{what} (policy {})", policy.digest());
    text
}

fn tested(policy: &ToolPolicy) -> (String, u8) {
    let (mut text, mut run, mut failed) = (String::new(), 0, 0);
    for case in policy.run_cases() {
        run += 1;
        if let Some(wrong) = &case.wrong {
            failed += 1;
            let _ = writeln!(text, "line {}: {}: {wrong}", case.line, plain(&case.name));
        }
    }
    let _ = writeln!(text, "{} of {run} tests passed", run - failed);
    (text, if failed == 0 { 0 } else { EXIT_FAILURE })
}

/// The decision about a request, and the reason for it.
fn explained(policy: &ToolPolicy, args: &PolicyExplainArgs) -> Result<(String, u8), String> {
    let given = policy
        .roles_named(args.roles.iter().map(String::as_str))
        .map_err(|name| format!("no [[role]] has the name {name:?}"))?;
    let roles = policy.roles_of(args.from, None).and(given);
    let asked = match args {
        PolicyExplainArgs { call: Some(tool), .. } => Asked::tool(tool),
        PolicyExplainArgs { prompt: Some(prompt), .. } => Asked::prompt(prompt),
        PolicyExplainArgs { resource: Some(uri), .. } => Asked::resource(uri),
        PolicyExplainArgs { method: Some(method), .. } => Asked { method, target: Target::Nothing },
        _ => return Err("nothing is asked: give --call, --prompt, --resource or --method".to_owned()),
    };
    let names: Vec<&str> = policy.names_of(roles).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut decision = policy.decide(roles, &asked);
    let ceilings = policy.ceilings_told(&decision).map(|told| format!("\n  limits  {told}")).unwrap_or_default();
    if let Some(arguments) = &args.arguments {
        let message = format!("{{\"params\":{{\"arguments\":{arguments}}}}}");
        decision = policy.check_arguments(decision, &asked, message.as_bytes()).map_err(|UnreadableArguments| {
            "servers may read these arguments in different ways, or not at all".to_owned()
        })?;
    }
    let refused = policy.why_refused(&asked);
    let wrong = match &decision {
        ToolDecision::Denied { how: Denial::Ceiling(CeilingReached::Arguments(why)), .. } => Some(plain(why)),
        _ => None,
    };
    let what = match &decision {
        ToolDecision::Allowed(_) if policy.needs_approval(&decision) => "allowed once somebody has approved it",
        ToolDecision::Allowed(_) => "allowed",
        ToolDecision::Denied { how: Denial::Hidden | Denial::Pinned, .. } => "denied, and hidden",
        ToolDecision::Denied { how: Denial::Scope(_), .. } => "denied, and told which scope is missing",
        ToolDecision::Denied { how: Denial::Ceiling(_), .. } => "denied, and told which ceiling is reached",
    };
    let why = match (decision.rule(), decision.is_allowed(), MethodDefault::of(asked.method)) {
        _ if refused.is_some() => {
            format!("servers may read this URI in different ways: {}", refused.unwrap_or_default())
        }
        (Some(rule), ..) if wrong.is_some() => {
            format!("{}, by the rule {rule} (number {} of the file)", wrong.unwrap_or_default(), rule.index + 1)
        }
        (Some(rule), ..) => format!("the rule {rule} (number {} of the file) decides", rule.index + 1),
        (None, true, MethodDefault::Allowed) => "the protocol needs it, and no rule denies it".to_owned(),
        (None, true, _) => "no rule denies it, and no rule allows anything".to_owned(),
        (None, false, MethodDefault::Indirect) => {
            "it reaches things without naming them, and no rule allows it: name the method in `methods`".to_owned()
        }
        (None, false, _) => "no rule allows it".to_owned(),
    };
    let name = asked.target.name().map(|name| format!(" {}", plain(name))).unwrap_or_default();
    let text = format!(
        "{}{name}: {what}\n  roles   {names}\n  why     {why}{ceilings}\n  policy  {}\n",
        plain(asked.method),
        policy.digest()
    );
    Ok((text, if decision.is_allowed() { 0 } else { EXIT_FAILURE }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[role]]\nname = 'office'\nnetworks = ['10.0.0.0/8']\n\
                        [[rule]]\nname = 'reads'\neffect = 'allow'\ntools = ['get_*']\nroles = ['office']\n\
                        [[rule]]\nname = 'ask'\neffect = 'deny'\ntools = ['set_*']\nscope = 'write'\n\
                        [[test]]\nroles = ['office']\ntool = 'get_a'\nexpect = 'allow'\n\
                        [[test]]\nname = 'wrong'\ntool = 'get_a'\nexpect = 'allow'\n";

    fn policy() -> ToolPolicy {
        ToolPolicy::parse(FILE).unwrap()
    }

    fn args(roles: &[&str], call: Option<&str>, method: Option<&str>) -> PolicyExplainArgs {
        PolicyExplainArgs {
            file: "policy.toml".into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            from: None,
            call: call.map(str::to_owned),
            prompt: None,
            resource: None,
            method: method.map(str::to_owned),
            arguments: None,
        }
    }

    #[test]
    fn a_decision_is_shown_with_its_rule_and_its_reason() {
        let policy = policy();
        let told = |args: &PolicyExplainArgs| explained(&policy, args).unwrap();
        let (text, code) = told(&args(&["office"], Some("get_a"), None));
        assert!(
            text.starts_with(
                "tools/call get_a: allowed\n  roles   office\n  why     the rule reads (number 1 of the file) decides\n"
            ),
            "{text}"
        );
        assert_eq!(code, 0);
        let (text, code) = told(&args(&[], Some("get_a"), None));
        assert!(text.contains("denied, and hidden\n  roles   none\n  why     no rule allows it"), "{text}");
        assert_eq!(code, EXIT_FAILURE);
        assert!(told(&args(&[], Some("set_a"), None)).0.contains("which scope is missing"));
        assert!(told(&args(&[], None, Some("ping"))).0.contains("the protocol needs it"));
        assert!(told(&args(&[], None, Some("tasks/get"))).0.contains("name the method in `methods`"));
        let near = PolicyExplainArgs { from: Some([10, 0, 0, 1].into()), ..args(&[], Some("get_a"), None) };
        assert!(told(&near).0.contains("roles   office"));
        assert_eq!(
            explained(&policy, &args(&["boss"], Some("a"), None)),
            Err("no [[role]] has the name \"boss\"".to_owned())
        );
        assert!(explained(&policy, &args(&[], None, None)).is_err());
    }

    #[test]
    fn arguments_are_held_against_the_ceilings_of_the_rule() {
        let file = "[[rule]]\nname = 'refunds'\neffect = 'allow'\ntools = ['refund']\ncalls_per_minute = 30\ncalls_burst = 5\n\
                    calls_at_once_max = 2\ncalls_per_day = 100\n[rule.arguments]\nproperties.amount.maximum = 500\n\
                    [[test]]\ntool = 'refund'\narguments = { amount = 900 }\nexpect = 'deny'\n\
                    [[test]]\ntool = 'refund'\narguments = { amount = 900 }\nexpect = 'allow'\n";
        let policy = ToolPolicy::parse(file).unwrap();
        let told = |arguments: &str| {
            let args = PolicyExplainArgs { arguments: Some(arguments.to_owned()), ..args(&[], Some("refund"), None) };
            explained(&policy, &args)
        };
        let (text, code) = told("{\"amount\": 5}").unwrap();
        let limits = "\n  limits  arguments as it says, 30 calls a minute in bursts of 5, 2 at once, 100 a day\n";
        assert!(text.starts_with("tools/call refund: allowed\n") && text.contains(limits) && code == 0, "{text}");
        let (text, code) = told("{\"amount\": 900}").unwrap();
        assert!(
            text.contains("why     amount is a number out of the range that is allowed, by the rule refunds"),
            "{text}"
        );
        assert_eq!(code, EXIT_FAILURE);
        assert!(told("{\"amount\": 9").unwrap_err().contains("or not at all"));
        let (text, _) = tested(&policy);
        assert_eq!(
            text,
            "line 15: line 15: it is denied by the arguments of the rule refunds, not allowed\n1 of 2 tests passed\n"
        );
    }

    #[test]
    fn tests_that_fail_are_named() {
        let (text, code) = tested(&policy());
        assert_eq!(text, "line 18: wrong: it is denied by no rule, not allowed\n1 of 2 tests passed\n");
        assert_eq!(code, EXIT_FAILURE);
        assert!(checked(&policy()).starts_with("nothing is wrong (policy "));
    }
}
