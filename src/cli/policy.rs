//! `adit policy`: checks and explains a policy before it is used.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::call_text::plain;
use crate::cli::output::print;
use crate::cli::policy_args::{PolicyArgs, PolicyCommand, PolicyExplainArgs, PolicyFiles};
use crate::cli::policy_diff::diff;
use crate::cli::policy_tools::known_tools;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::read_policy;
use crate::control::WallTime;
use crate::policy::{
    AgentIdentity, Asked, CallerFacts, CallerOrigin, CeilingReached, Denial, IdentityProof, MethodDefault, RuleId,
    Target, ToolDecision, ToolPolicy, UnreadableArguments, cedar_schema,
};

/// Runs `adit policy …` and returns the exit code.
#[must_use]
pub fn run_policy(args: &PolicyArgs, env: &BTreeMap<String, String>) -> u8 {
    let read = |files: &PolicyFiles| read_policy(&files.file, files.cedar.as_deref());
    let run = match &args.command {
        PolicyCommand::Check { files, tools, json } => {
            read(files).and_then(|policy| checked(&policy, known_tools(tools, env)?.as_deref(), *json))
        }
        PolicyCommand::Test { files, json } => read(files).map(|policy| tested(&policy, *json)),
        PolicyCommand::Explain(args) => read(&args.files).and_then(|policy| explained(&policy, args)),
        PolicyCommand::Diff(args) => diff(args),
        PolicyCommand::Schema(tools) => {
            known_tools(tools, env).and_then(|tools| Ok((cedar_schema(&tools.unwrap_or_default())?, 0)))
        }
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

/// What has no effect, what names no tool of the server, and what of Cedar does not fit its tools, which is a failure.
fn checked(policy: &ToolPolicy, tools: Option<&[Value]>, json: bool) -> Result<(String, u8), String> {
    let names: Option<Vec<&str>> = tools.map(|tools| tools.iter().filter_map(|tool| tool["name"].as_str()).collect());
    let unmatched = names.map(|names| policy.unmatched(&names)).unwrap_or_default();
    let mut notes: Vec<String> = policy.useless().iter().chain(&unmatched).map(ToString::to_string).collect();
    let unfit = tools.map_or(Ok(Vec::new()), |tools| policy.validate_cedar(tools))?;
    notes.extend(policy.doubtful_cedar().iter().chain(&unfit).map(|fault| format!("Cedar, {fault}")));
    let code = if unfit.is_empty() { 0 } else { EXIT_FAILURE };
    if json {
        let body = json!({ "ok": unfit.is_empty(), "notes": notes, "digest": policy.digest().to_string() });
        return Ok((format!("{body:#}\n"), code));
    }
    let what = if notes.is_empty() { "nothing is wrong" } else { "nothing else is wrong" };
    let notes: String = notes.iter().map(|note| format!("{note}\n")).collect();
    Ok((format!("{notes}{what} (policy {})\n", policy.digest()), code))
}

fn tested(policy: &ToolPolicy, json: bool) -> (String, u8) {
    let (mut text, mut run, mut failed) = (String::new(), 0, Vec::new());
    for case in policy.run_cases() {
        run += 1;
        if let Some(wrong) = &case.wrong {
            failed.push(json!({ "line": case.line, "name": case.name, "wrong": wrong.to_string() }));
            let _ = writeln!(text, "line {}: {}: {wrong}", case.line, plain(&case.name));
        }
    }
    let _ = writeln!(text, "{} of {run} tests passed", run - failed.len());
    let code = if failed.is_empty() { 0 } else { EXIT_FAILURE };
    (if json { format!("{:#}\n", json!({ "run": run, "failed": failed })) } else { text }, code)
}

/// The decision about a request, and the reason for it.
fn explained(policy: &ToolPolicy, args: &PolicyExplainArgs) -> Result<(String, u8), String> {
    let given = policy
        .roles_named(args.roles.iter().map(String::as_str))
        .map_err(|name| format!("no [[role]] has the name {name:?}"))?;
    let identity = args.identity.as_deref().map(identity_of).transpose()?;
    let roles =
        policy.roles_of(CallerOrigin { address: args.from, edge: args.edge.as_deref() }, identity.as_ref()).and(given);
    let at: Option<WallTime> = match &args.at {
        Some(text) => Some(text.parse().map_err(|error| format!("--at {text}: {error}"))?),
        None => None,
    };
    let unix = at.unwrap_or_else(WallTime::now).since(WallTime(0));
    let caller = policy.cedar_caller(roles, &CallerFacts { identity: identity.as_ref(), address: args.from, unix });
    let asked = match args {
        PolicyExplainArgs { call: Some(tool), .. } => Asked::tool(tool),
        PolicyExplainArgs { prompt: Some(prompt), .. } => Asked::prompt(prompt),
        PolicyExplainArgs { resource: Some(uri), .. } => Asked::resource(uri),
        PolicyExplainArgs { method: Some(method), .. } => Asked { method, target: Target::Nothing },
        _ => return Err("nothing is asked: give --call, --prompt, --resource or --method".to_owned()),
    };
    let names: Vec<&str> = policy.names_of(roles).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let unreadable =
        |UnreadableArguments| "servers may read these arguments in different ways, or not at all".to_owned();
    let mut decision = policy.decide(roles, &asked);
    decision = policy.decide_cedar(decision, caller.as_deref(), &asked, None).map_err(unreadable)?;
    let limits = policy.ceilings_text(&decision);
    let mut is_open = None;
    if let Some(arguments) = &args.arguments {
        let message = format!("{{\"params\":{{\"arguments\":{arguments}}}}}");
        decision = policy
            .check_arguments(decision, &asked, message.as_bytes())
            .and_then(|decision| policy.decide_cedar(decision, caller.as_deref(), &asked, Some(message.as_bytes())))
            .map_err(unreadable)?;
    } else if decision.is_allowed() && policy.needs_arguments(&decision, &asked) {
        is_open = policy.listed_by_cedar(caller.as_deref(), &asked);
    }
    let refused = policy.why_refused(&asked);
    let wrong = match &decision {
        ToolDecision::Denied { how: Denial::Ceiling(CeilingReached::Arguments(why)), .. } => Some(plain(why)),
        _ => None,
    };
    let what = match &decision {
        _ if is_open == Some(false) => "denied with any arguments, and hidden",
        _ if is_open == Some(true) => "depends on the arguments: give --arguments",
        ToolDecision::Denied { how: Denial::Unevaluated(_), .. } => "denied, and hidden",
        ToolDecision::Allowed(_) if policy.needs_approval(&decision) => "allowed once somebody has approved it",
        ToolDecision::Allowed(_) => "allowed",
        ToolDecision::Denied { how: Denial::Hidden | Denial::Pinned, .. } => "denied, and hidden",
        ToolDecision::Denied { how: Denial::Scope(_), .. } => "denied, and told which scope is missing",
        ToolDecision::Denied { how: Denial::Ceiling(_), .. } => "denied, and told which ceiling is reached",
    };
    let number = |rule: &RuleId| match policy.cedar_line(rule) {
        Some(line) => format!("line {line} of the Cedar file"),
        None => format!("number {} of the file", rule.index + 1),
    };
    let why = match (decision.rule(), decision.is_allowed(), MethodDefault::of(asked.method)) {
        _ if is_open.is_some() => "policies in Cedar read the arguments".to_owned(),
        (Some(rule), ..) if decision.failure().is_some() => {
            let failure = plain(decision.failure().unwrap_or_default());
            format!("the rule {rule} ({}) cannot be evaluated: {failure}", number(rule))
        }
        _ if refused.is_some() => {
            format!("servers may read this URI in different ways: {}", refused.unwrap_or_default())
        }
        (Some(rule), ..) if wrong.is_some() => {
            format!("{}, by the rule {rule} ({})", wrong.unwrap_or_default(), number(rule))
        }
        (Some(rule), ..) => format!("the rule {rule} ({}) decides", number(rule)),
        (None, false, _) if wrong.is_some() => wrong.unwrap_or_default(),
        (None, true, MethodDefault::Allowed) => "the protocol needs it, and no rule denies it".to_owned(),
        (None, true, _) => "no rule denies it, and no rule allows anything".to_owned(),
        (None, false, MethodDefault::Indirect) => {
            "it reaches things without naming them, and no rule allows it: name the method in `methods`".to_owned()
        }
        (None, false, _) => "no rule allows it".to_owned(),
    };
    let is_allowed = decision.is_allowed() && is_open != Some(false);
    let code = if is_allowed { 0 } else { EXIT_FAILURE };
    if args.json {
        let body = json!({
            "method": asked.method,
            "name": asked.target.name(),
            "allowed": is_allowed,
            "decision": what,
            "roles": policy.names_of(roles).collect::<Vec<_>>(),
            "edge": args.edge,
            "why": why,
            "limits": limits,
            "digest": policy.digest().to_string(),
        });
        return Ok((format!("{body:#}\n"), code));
    }
    let name = asked.target.name().map(|name| format!(" {}", plain(name))).unwrap_or_default();
    let edge = args.edge.as_deref().map(|edge| format!("\n  edge    {}", plain(edge))).unwrap_or_default();
    let ceilings = limits.map(|limits| format!("\n  limits  {limits}")).unwrap_or_default();
    let text = format!(
        "{}{name}: {what}\n  roles   {names}{edge}\n  why     {why}{ceilings}\n  policy  {}\n",
        plain(asked.method),
        policy.digest()
    );
    Ok((text, code))
}

/// An identity as JSON, with the members that `identity` of a `[[test]]` has.
fn identity_of(text: &str) -> Result<AgentIdentity, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct GivenIdentity {
        subject: String,
        issuer: Option<String>,
        client: Option<String>,
        proof: Option<String>,
        #[serde(default)]
        scopes: Vec<Box<str>>,
        #[serde(default)]
        claims: Map<String, Value>,
    }
    let given: GivenIdentity = serde_json::from_str(text).map_err(|error| format!("--identity: {error}"))?;
    let proof = given.proof.as_deref().unwrap_or(IdentityProof::Jwt.name());
    let known = IdentityProof::ALL.into_iter().find(|known| known.name() == proof);
    Ok(AgentIdentity {
        subject: given.subject.into(),
        issuer: given.issuer.map(Into::into),
        client: given.client.map(Into::into),
        proof: known.ok_or_else(|| format!("--identity: {proof:?} is no proof of an identity"))?,
        scopes: given.scopes.into(),
        claims: Arc::new(given.claims),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[role]]\nname = 'office'\nnetworks = ['10.0.0.0/8']\n\
                        [[rule]]\nname = 'reads'\neffect = 'allow'\ntools = ['get_*']\nroles = ['office']\n\
                        [[rule]]\nname = 'ask'\neffect = 'deny'\ntools = ['set_*']\nscope = 'write'\n\
                        [[role]]\nname = 'front'\nedges = ['*.edge.example']\n\
                        [[rule]]\nname = 'deletes'\neffect = 'allow'\ntools = ['del_*']\nroles = ['front']\n\
                        [[test]]\nroles = ['office']\ntool = 'get_a'\nexpect = 'allow'\n\
                        [[test]]\nname = 'wrong'\ntool = 'get_a'\nexpect = 'allow'\n";

    fn policy() -> ToolPolicy {
        ToolPolicy::parse(FILE).unwrap()
    }

    fn args(roles: &[&str], call: Option<&str>, method: Option<&str>) -> PolicyExplainArgs {
        PolicyExplainArgs {
            files: PolicyFiles { file: "policy.toml".into(), cedar: None },
            identity: None,
            at: None,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            from: None,
            edge: None,
            call: call.map(str::to_owned),
            prompt: None,
            resource: None,
            method: method.map(str::to_owned),
            arguments: None,
            json: false,
        }
    }

    #[test]
    fn programs_get_the_same_answers_as_json() {
        let policy = policy();
        let args = PolicyExplainArgs { json: true, ..args(&["office"], Some("get_a"), None) };
        let (text, code) = explained(&policy, &args).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&body["allowed"], &body["roles"], code), (&true.into(), &json!(["office"]), 0));
        let body: Value = serde_json::from_str(&tested(&policy, true).0).unwrap();
        assert_eq!((&body["run"], &body["failed"][0]["name"]), (&2.into(), &"wrong".into()));
        let body: Value = serde_json::from_str(&checked(&policy, None, true).unwrap().0).unwrap();
        assert_eq!((&body["ok"], &body["notes"]), (&true.into(), &json!([])));
    }

    #[test]
    fn a_decision_is_shown_with_its_rule_and_its_reason() {
        let policy = policy();
        let explain = |args: &PolicyExplainArgs| explained(&policy, args).unwrap();
        let (text, code) = explain(&args(&["office"], Some("get_a"), None));
        assert!(
            text.starts_with(
                "tools/call get_a: allowed\n  roles   office\n  why     the rule reads (number 1 of the file) decides\n"
            ),
            "{text}"
        );
        assert_eq!(code, 0);
        let (text, code) = explain(&args(&[], Some("get_a"), None));
        assert!(text.contains("denied, and hidden\n  roles   none\n  why     no rule allows it"), "{text}");
        assert_eq!(code, EXIT_FAILURE);
        assert!(explain(&args(&[], Some("set_a"), None)).0.contains("which scope is missing"));
        assert!(explain(&args(&[], None, Some("ping"))).0.contains("the protocol needs it"));
        assert!(explain(&args(&[], None, Some("tasks/get"))).0.contains("name the method in `methods`"));
        let near = PolicyExplainArgs { from: Some([10, 0, 0, 1].into()), ..args(&[], Some("get_a"), None) };
        assert!(explain(&near).0.contains("roles   office"));
        let through = |edge: &str| PolicyExplainArgs { edge: Some(edge.to_owned()), ..args(&[], Some("del_a"), None) };
        assert_eq!(explain(&through("eu.edge.example")).1, 0);
        let (text, _) = explain(&through("eu.edge.example"));
        assert!(text.contains("roles   front\n  edge    eu.edge.example\n  why     the rule deletes"), "{text}");
        let (body, _) = explain(&PolicyExplainArgs { json: true, ..through("eu.edge.example") });
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["edge"], &body["roles"]), (&json!("eu.edge.example"), &json!(["front"])));
        assert_eq!(explain(&through("edge.example")).1, EXIT_FAILURE);
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
        let explain = |arguments: &str| {
            let args = PolicyExplainArgs { arguments: Some(arguments.to_owned()), ..args(&[], Some("refund"), None) };
            explained(&policy, &args)
        };
        let (text, code) = explain("{\"amount\": 5}").unwrap();
        let limits = "\n  limits  arguments as it says, 30 calls a minute in bursts of 5, 2 at once, 100 a day\n";
        assert!(text.starts_with("tools/call refund: allowed\n") && text.contains(limits) && code == 0, "{text}");
        let (text, code) = explain("{\"amount\": 900}").unwrap();
        assert!(text.contains("why     amount is a number out of the allowed range, by the rule refunds"), "{text}");
        assert_eq!(code, EXIT_FAILURE);
        assert!(explain("{\"amount\": 9").unwrap_err().contains("or not at all"));
        let (text, _) = tested(&policy, false);
        assert_eq!(
            text,
            "line 15: line 15: it is denied by the arguments of the rule refunds, not allowed\n1 of 2 tests passed\n"
        );
    }

    #[cfg(feature = "cedar")]
    #[test]
    fn both_tiers_with_cedar_are_checked_tested_and_explained() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let cedar = "@id(\"small\")\npermit(principal in Role::\"finance\", action == Action::\"tools/call\", resource == Tool::\"refund\")\n\
                     when { context.arguments has amount && context.arguments.amount <= 500 };\n\
                     permit(principal, action == Action::\"tools/call\", resource == Tool::\"put\") when { context.time.hour < 9 };\n";
        let lists = "[[role]]\nname='finance'\nissuer='https://i'\nsubjects=['alice']\n\
                     [[test]]\nidentity={subject='alice',issuer='https://i'}\ntool='refund'\narguments={amount=5}\nexpect='allow'\nrule='small'\n\
                     [[test]]\nidentity={subject='bob',issuer='https://i'}\ntool='refund'\narguments={amount=5}\nexpect='deny'\n\
                     [[test]]\ntool='put'\ntime='2026-07-28T08:00:00Z'\nexpect='allow'\n\
                     [[test]]\ntool='put'\ntime='2026-07-28T10:00:00Z'\nexpect='allow'\n";
        let (cedar, lists) = (file("p.cedar", cedar), file("p.toml", lists));
        let policy = read_policy(&lists, Some(&cedar)).unwrap();
        let (text, code) = tested(&policy, false);
        assert_eq!(
            (&*text, code),
            ("line 20: line 20: it is denied by no rule, not allowed\n3 of 4 tests passed\n", EXIT_FAILURE)
        );
        let explain = |identity: Option<&str>, arguments: Option<&str>, at: &str, tool: &str| {
            let identity = identity.map(|subject| format!("{{\"subject\":\"{subject}\",\"issuer\":\"https://i\"}}"));
            let arguments = arguments.map(str::to_owned);
            explained(
                &policy,
                &PolicyExplainArgs { identity, arguments, at: Some(at.to_owned()), ..args(&[], Some(tool), None) },
            )
            .unwrap()
        };
        let noon = "2026-07-28T12:00:00Z";
        let (text, code) = explain(Some("alice"), Some("{\"amount\":5}"), noon, "refund");
        assert!(
            text.contains("allowed\n  roles   finance\n  why     the rule small (line 1 of the Cedar file)"),
            "{text}"
        );
        assert_eq!(code, 0);
        assert!(explain(Some("alice"), None, noon, "refund").0.contains("depends on the arguments"));
        let (text, code) = explain(Some("bob"), None, noon, "refund");
        assert!(text.contains("denied with any arguments") && code == EXIT_FAILURE, "{text}");
        let (text, _) = explain(Some("alice"), Some("{\"amount\":\"5\"}"), noon, "refund");
        assert!(text.contains("cannot be evaluated: type error"), "{text}");
        assert!(explain(Some("alice"), Some("{\"amount\":900}"), noon, "refund").0.contains("no policy permits them"));
        assert_eq!(explain(None, Some("{}"), "2026-07-28T08:59:59Z", "put").1, 0);
        assert_eq!(explain(None, Some("{}"), noon, "put").1, EXIT_FAILURE);
        let tools =
            [serde_json::json!({"name": "refund", "inputSchema": {"properties": {"amount": {"type": "string"}}}})];
        let (text, code) = checked(&policy, Some(&tools), false).unwrap();
        assert!(text.contains("Cedar, line 3: ") && text.contains("line 4: the server has no tool \"put\""), "{text}");
        assert_eq!(code, EXIT_FAILURE);
        assert_eq!(checked(&policy, None, false).unwrap().1, 0);
        // A file in Cedar is a policy by itself, without the role.
        let alone = read_policy(&cedar, None).unwrap();
        assert!(
            checked(&alone, None, false)
                .unwrap()
                .0
                .contains("Cedar, line 1: no [[role]] of the policy file has the name \"finance\"")
        );
        let wrong = file("w.cedar", "permit(principal, action, resource)\n\nwhen { 1 + };\nforbid(x);");
        let why = read_policy(&lists, Some(&wrong)).unwrap_err();
        assert!(why.contains("w.cedar is not a valid Cedar policy: line 3: ") && why.contains("; line 4: "), "{why}");
    }

    #[cfg(not(feature = "cedar"))]
    #[test]
    fn a_build_without_cedar_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.cedar");
        std::fs::write(&file, "permit(principal, action, resource);").unwrap();
        let why = read_policy(&file, None).unwrap_err();
        assert!(why.starts_with("cannot read ") && why.contains("p.cedar: this build of adit has no Cedar"), "{why}");
        assert!(why.contains("--features cedar") && !why.contains("valid") && !why.contains("line 1"), "{why}");
        assert!(cedar_schema(&[]).unwrap_err().contains("--features cedar"));
    }

    #[test]
    fn tests_that_fail_are_named() {
        let (text, code) = tested(&policy(), false);
        assert_eq!(text, "line 26: wrong: it is denied by no rule, not allowed\n1 of 2 tests passed\n");
        assert_eq!(code, EXIT_FAILURE);
        assert!(checked(&policy(), None, false).unwrap().0.starts_with("nothing is wrong (policy "));
        let tools = ["get_a", "set_b"].map(|name| serde_json::json!({"name": name}));
        let (text, code) = checked(&policy(), Some(&tools), false).unwrap();
        assert!(
            text.starts_with("line 17: no tool of the server is \"del_*\", which the rule deletes names\n"),
            "{text}"
        );
        assert!(text.lines().count() == 2 && code == 0, "{text}");
    }
}
