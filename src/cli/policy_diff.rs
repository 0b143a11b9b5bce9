//! `adit policy diff`: which recorded calls a new policy would decide in another way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::cli::EXIT_FAILURE;
use crate::cli::audit::{each_line, time};
use crate::cli::policy_args::PolicyDiffArgs;
use crate::cli::policy_diff_text::{diff_json, diff_text};
use crate::config::read_policy;
use crate::control::WallTime;
use crate::policy::{
    AgentIdentity, Asked, CallFate, IdentityProof, RecordedCall, ReplayUnknown, ReplayedCall, Target, ToolPolicy,
};

/// The most groups of calls that are told one by one. Calls beyond them are only counted.
const GROUPS_MAX: usize = 10_000;
/// The most calls whose decision is remembered, so that the next ones like them need not be decided.
const REMEMBERED_MAX: usize = 10_000;
/// From this length on, the log may have only the start of a name, in bytes.
const NAME_CUT_LEN: usize = 253;

/// What has been found.
#[derive(Debug, Default)]
pub(super) struct PolicyDiff {
    /// The calls that were compared.
    pub(super) calls: u64,
    /// Calls that would be decided in another way.
    pub(super) changed: BTreeMap<CallGroup, GroupCount>,
    /// Calls of which the log does not have what decides.
    pub(super) unclear: BTreeMap<CallGroup, GroupCount>,
    /// Calls of groups for which there was no room.
    pub(super) untold: u64,
    /// Calls that were refused before a policy was asked, as their token was missing or not good.
    pub(super) unasked: u64,
    /// Calls of tools that nobody had approved, which `pin` denies whatever the policy says.
    pub(super) pinned: u64,
    /// Calls whose line has no decision, or names more than the log keeps.
    pub(super) unknown: u64,
    /// The routes of the calls that were compared.
    pub(super) routes: BTreeSet<String>,
}

/// Calls that are told together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallGroup {
    pub(super) before: Outcomes,
    pub(super) after: Outcomes,
    pub(super) caller: Option<String>,
    pub(super) issuer: Option<String>,
    /// The address of a caller who has no name.
    pub(super) address: Option<String>,
    pub(super) route: String,
    pub(super) method: String,
    pub(super) name: Option<String>,
    /// What it depends on that the log does not have.
    pub(super) depends_on: BTreeSet<ReplayUnknown>,
}

/// What may become of a call, and by which rules.
pub(super) type Outcomes = BTreeSet<(CallFate, Option<Arc<str>>)>;

/// How many calls are in a group.
#[derive(Clone, Debug, Default)]
pub(super) struct GroupCount {
    pub(super) calls: u64,
    /// When the last of them was.
    pub(super) last: String,
}

/// Runs `adit policy diff`: its text, and the exit code.
pub(super) fn diff(args: &PolicyDiffArgs) -> Result<(String, u8), String> {
    let cedar = |at: usize| args.cedar.get((at + args.cedar.len()).checked_sub(args.files.len())?).map(|file| &**file);
    let files = args.files.iter().enumerate();
    let policies = files.map(|(at, file)| read_policy(file, cedar(at))).collect::<Result<Vec<_>, _>>()?;
    let (old, new) = match &policies[..] {
        [old, new] => (Some(old), new),
        [new, ..] => (None, new),
        [] => return Err("name the file of a policy".to_owned()),
    };
    let since = time(Some(&args.since)).map_err(|failure| failure.to_string())?;
    let mut comparison =
        Comparison { old: Replayer::new(old), new: Replayer::new(Some(new)), diff: PolicyDiff::default() };
    each_line(&args.audit, |line| {
        if is_wanted(&line, since, args.route.as_deref()) {
            comparison.see(&line);
        }
        Ok(())
    })
    .map_err(|failure| failure.to_string())?;
    let found = comparison.diff;
    let text = if args.json { diff_json(&found, old, new) } else { diff_text(&found, old.is_some()) };
    Ok((text, if found.changed.is_empty() { 0 } else { EXIT_FAILURE }))
}

fn is_wanted(line: &Value, since: Option<WallTime>, route: Option<&str>) -> bool {
    let at: Option<WallTime> = line["time"].as_str().and_then(|time| time.parse().ok());
    line["kind"] == "call"
        && line["method"].is_string()
        && at.zip(since).is_none_or(|(at, since)| at >= since)
        && route.is_none_or(|route| line["route"] == *route)
}

/// Compares what was decided about calls, or an old policy decides, with what a new one does.
struct Comparison<'p> {
    old: Replayer<'p>,
    new: Replayer<'p>,
    diff: PolicyDiff,
}

impl Comparison<'_> {
    fn see(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str();
        let logged = match (text("decision"), text("rule"), text("policy")) {
            (Some("denied"), Some("pin"), _) => Err(&mut self.diff.pinned),
            (Some("denied"), _, None) => Err(&mut self.diff.unasked),
            (Some("allowed" | "denied"), ..) if text("name").is_none_or(|name| name.len() < NAME_CUT_LEN) => Ok(()),
            _ => Err(&mut self.diff.unknown),
        };
        if let Err(count) = logged {
            *count += 1;
            return;
        }
        let before = self.old.replay(line).unwrap_or_else(|| recorded(line));
        let Some(after) = self.new.replay(line) else { return };
        self.diff.calls += 1;
        let route = text("route").unwrap_or_default().to_owned();
        if self.diff.routes.len() < GROUPS_MAX && !self.diff.routes.contains(&route) {
            self.diff.routes.insert(route.clone());
        }
        let fates = |replayed: &ReplayedCall| replayed.possible.iter().map(|(fate, _)| *fate).collect::<BTreeSet<_>>();
        let (fates_before, fates_after) = (fates(&before), fates(&after));
        let is_sure = fates_before.is_disjoint(&fates_after);
        if !is_sure && fates_before.len() == 1 && fates_before == fates_after {
            return;
        }
        let caller = text("caller").map(str::to_owned);
        let group = CallGroup {
            address: text("peer").filter(|_| caller.is_none()).map(str::to_owned),
            caller,
            issuer: text("issuer").map(str::to_owned),
            route,
            method: text("method").unwrap_or_default().to_owned(),
            name: text("name").filter(|_| target(line) != Target::Nothing).map(str::to_owned),
            depends_on: before.depends_on.union(&after.depends_on).copied().collect(),
            before: before.possible,
            after: after.possible,
        };
        let room = GROUPS_MAX - self.diff.changed.len() - self.diff.unclear.len();
        let groups = if is_sure { &mut self.diff.changed } else { &mut self.diff.unclear };
        if room == 0 && !groups.contains_key(&group) {
            self.diff.untold += 1;
            return;
        }
        let count = groups.entry(group).or_default();
        count.calls += 1;
        count.last = text("time").unwrap_or_default().to_owned();
    }
}

/// Asks a policy about recorded calls.
struct Replayer<'p> {
    policy: Option<&'p ToolPolicy>,
    known: HashMap<String, ReplayedCall>,
}

impl<'p> Replayer<'p> {
    fn new(policy: Option<&'p ToolPolicy>) -> Replayer<'p> {
        Replayer { policy, known: HashMap::new() }
    }

    fn replay(&mut self, line: &Value) -> Option<ReplayedCall> {
        let policy = self.policy?;
        let members = ["method", "name", "peer", "caller", "issuer", "client", "proof", "edge_name"]
            .map(|name| line[name].as_str());
        let key = format!("{members:?}");
        if let Some(known) = self.known.get(&key) {
            return Some(known.clone());
        }
        let [method, _, peer, caller, issuer, client, proof, edge] = members;
        let proof = IdentityProof::ALL.into_iter().find(|known| proof == Some(known.name()));
        let identity = caller.zip(proof).map(|(subject, proof)| AgentIdentity {
            subject: subject.into(),
            issuer: issuer.map(Into::into),
            client: client.map(Into::into),
            proof,
            scopes: Arc::new([]),
            claims: Arc::default(),
        });
        let address: Option<IpAddr> = peer.and_then(|peer| peer.parse().ok());
        let asked = Asked { method: method.unwrap_or_default(), target: target(line) };
        let replayed = policy.replay(&RecordedCall { asked, address, edge, identity });
        if self.known.len() < REMEMBERED_MAX {
            self.known.insert(key, replayed.clone());
        }
        Some(replayed)
    }
}

/// What the method of a line is about.
fn target(line: &Value) -> Target<'_> {
    let name = line["name"].as_str().unwrap_or_default();
    match line["method"].as_str().unwrap_or_default() {
        "tools/call" => Target::Tool(name),
        "prompts/get" => Target::Prompt(name),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Target::Resource(name),
        // The log does not say of which the name is. Those of prompts are no URIs.
        "completion/complete" if name.contains(':') => Target::Template(name),
        "completion/complete" if !name.is_empty() => Target::Prompt(name),
        _ => Target::Nothing,
    }
}

/// What was decided then, by a line. A call that reached a count was allowed by its rule.
fn recorded(line: &Value) -> ReplayedCall {
    let is_denied = line["decision"] == "denied";
    let fate = match line["limit"].as_str() {
        Some("approval" | "approvals_max") => CallFate::NeedsApproval,
        Some("arguments" | "evaluation") | None if is_denied => CallFate::Denied,
        _ if line["approval"].is_string() => CallFate::NeedsApproval,
        _ => CallFate::Allowed,
    };
    let rule = line["rule"].as_str().map(Arc::from);
    ReplayedCall { possible: BTreeSet::from([(fate, rule)]), depends_on: BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OLD: &str = "[[rule]]\nname='all'\neffect='allow'\ntools=['*']\n";
    const NEW: &str = "[[rule]]\nname='reads'\neffect='allow'\ntools=['get_*']\n\
                       [[rule]]\nname='pays'\neffect='allow'\ntools=['pay']\n[rule.arguments]\nproperties.amount.maximum=5\n\
                       [[rule]]\nname='drops'\neffect='approve'\ntools=['drop']\n";

    fn line(tool: &str, members: Value) -> Value {
        let mut line = json!({"kind": "call", "time": "2026-11-29T12:00:00.000Z", "route": "a.test", "peer": "192.0.2.1",
                              "method": "tools/call", "name": tool, "decision": "allowed"});
        for (name, value) in members.as_object().unwrap() {
            line[name] = value.clone();
        }
        line
    }

    fn compared(old: Option<&str>, lines: &[Value]) -> PolicyDiff {
        let parse = |text| ToolPolicy::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let (old, new) = (old.map(parse), parse(NEW));
        let mut comparison = Comparison {
            old: Replayer::new(old.as_ref()),
            new: Replayer::new(Some(&new)),
            diff: PolicyDiff::default(),
        };
        lines.iter().filter(|line| is_wanted(line, None, None)).for_each(|line| comparison.see(line));
        comparison.diff
    }

    #[test]
    fn changed_decisions_are_grouped() {
        let alice = json!({"caller": "alice", "issuer": "https://i", "proof": "jwt"});
        let lines = [
            line("get_a", json!({})),
            line("set_a", alice.clone()),
            line("set_a", alice),
            line("drop", json!({})),
            line("pay", json!({})),
        ];
        for old in [None, Some(OLD)] {
            let found = compared(old, &lines);
            assert_eq!(found.calls, 5);
            let changed: Vec<_> = found.changed.iter().collect();
            let summary = |(group, count): &(&CallGroup, &GroupCount)| {
                let after = group.after.first().unwrap();
                (
                    group.name.clone().unwrap(),
                    group.caller.clone(),
                    after.0,
                    after.1.as_deref().map(str::to_owned),
                    count.calls,
                )
            };
            let mut changed: Vec<_> = changed.iter().map(summary).collect();
            changed.sort();
            let drops = ("drop".to_owned(), None, CallFate::NeedsApproval, Some("drops".to_owned()), 1);
            let sets = ("set_a".to_owned(), Some("alice".to_owned()), CallFate::Denied, None, 2);
            assert_eq!(changed, [drops, sets], "{old:?}");
            let (unclear, _) = found.unclear.first_key_value().unwrap();
            assert_eq!((found.unclear.len(), unclear.name.as_deref()), (1, Some("pay")));
            assert_eq!(unclear.depends_on, BTreeSet::from([ReplayUnknown::Arguments]));
        }
    }

    #[test]
    fn a_call_that_was_denied_may_pass_now() {
        let policy = json!({"decision": "denied", "policy": "ab", "rule": "no"});
        let found = compared(None, &[line("get_a", policy)]);
        let (group, _) = found.changed.first_key_value().unwrap();
        assert_eq!(group.before, BTreeSet::from([(CallFate::Denied, Some("no".into()))]));
        assert_eq!(group.after, BTreeSet::from([(CallFate::Allowed, Some("reads".into()))]));
        // A count that was reached is no decision of a rule, and neither is an approval that was given.
        let counted = json!({"decision": "denied", "policy": "ab", "rule": "all", "limit": "calls_per_day"});
        let approved = json!({"policy": "ab", "rule": "drops", "approval": "apr_1"});
        let waits =
            json!({"decision": "denied", "policy": "ab", "rule": "drops", "limit": "approval", "approval": "apr_1"});
        let found = compared(None, &[line("get_a", counted), line("drop", approved), line("drop", waits)]);
        assert_eq!((found.calls, found.changed.len(), found.unclear.len()), (3, 0, 0));
    }

    #[test]
    fn calls_about_which_no_rule_was_asked_are_counted_apart() {
        let lines = [
            line("get_a", json!({"decision": "denied"})),
            line("get_a", json!({"decision": "denied", "policy": "ab", "rule": "pin"})),
            line("get_a", json!({"decision": null})),
            line(&"a".repeat(NAME_CUT_LEN), json!({})),
            json!({"kind": "call", "http": "GET", "decision": "allowed"}),
            json!({"kind": "action", "method": "tools/call", "decision": "allowed"}),
        ];
        let found = compared(None, &lines);
        assert_eq!((found.calls, found.unasked, found.pinned, found.unknown), (0, 1, 1, 2));
    }

    #[test]
    fn lines_are_chosen_by_time_and_route() {
        let line = line("a", json!({}));
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(is_wanted(&line, at("2026-11-29T12:00:00Z"), Some("a.test")));
        assert!(!is_wanted(&line, at("2026-11-29T12:00:01Z"), None));
        assert!(!is_wanted(&line, None, Some("b.test")));
    }
}
