//! How `adit policy diff` tells what it has found.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::cli::call_text::{NONE, plain};
use crate::cli::policy_diff::{CallGroup, GroupCount, Outcomes, PolicyDiff};
use crate::cli::table::Table;
use crate::policy::ToolPolicy;

/// What has been found, as text for people.
pub(super) fn diff_text(found: &PolicyDiff, has_old: bool) -> String {
    let mut text = table_of(&found.changed, "LAST", |_, count| plain(&count.last))
        .text("no call that the log can decide about would be decided in another way");
    if !found.unclear.is_empty() {
        text.push_str("\nWhat the log does not have decides about these calls:\n");
        let depends_on = |group: &CallGroup, _: &GroupCount| {
            let unknown: Vec<&str> = group.depends_on.iter().map(|unknown| unknown.name()).collect();
            unknown.join(", ")
        };
        text.push_str(&table_of(&found.unclear, "DEPENDS ON", depends_on).text(""));
    }
    let sum = |groups: &mut dyn Iterator<Item = &GroupCount>| groups.map(|count| count.calls).sum::<u64>();
    let (changed, unclear) = (sum(&mut found.changed.values()), sum(&mut found.unclear.values()));
    let with = if has_old { "by the old policy" } else { "as they were decided" };
    let _ = writeln!(text, "\n{} calls compared {with}: {changed} change, {unclear} cannot be told", found.calls);
    for (count, what) in [
        (found.untold, "more calls change or cannot be told; choose fewer with --route or --since"),
        (found.unasked, "calls left out: they were refused for their token, before a policy was asked"),
        (found.pinned, "calls left out: nobody had approved their tool, which `pin` denies whatever the policy says"),
        (found.unknown, "calls left out: their line has no decision, or only the start of the name"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "{count} {what}");
        }
    }
    if found.routes.len() > 1 {
        let routes: Vec<String> = found.routes.iter().take(10).map(|route| plain(route)).collect();
        let _ = writeln!(
            text,
            "the calls are of several routes: {}; choose that of the policy with --route",
            routes.join(", ")
        );
    }
    text.push_str("rates, counts of the day and calls at once are not compared\n");
    text
}

/// A table of groups of calls, with a last column of its own.
fn table_of(
    groups: &BTreeMap<CallGroup, GroupCount>,
    heading: &'static str,
    last: impl Fn(&CallGroup, &GroupCount) -> String,
) -> Table {
    let mut table = Table::new(["CALLS", "BEFORE", "AFTER", "CALLER", "ROUTE", "METHOD", "NAME", heading]);
    for (group, count) in groups {
        table.row([
            count.calls.to_string(),
            outcomes_text(&group.before),
            outcomes_text(&group.after),
            caller_text(group),
            plain(&group.route),
            plain(&group.method),
            group.name.as_deref().map_or(NONE.to_owned(), plain),
            last(group, count),
        ]);
    }
    table
}

/// What has been found, as JSON for programs.
pub(super) fn diff_json(found: &PolicyDiff, old: Option<&ToolPolicy>, new: &ToolPolicy) -> String {
    let groups = |groups: &mut dyn Iterator<Item = (&CallGroup, &GroupCount)>| -> Value {
        groups.map(|(group, count)| group_json(group, count)).collect()
    };
    let body = json!({
        "old": old.map(|old| old.digest().to_string()),
        "new": new.digest().to_string(),
        "calls": found.calls,
        "routes": found.routes,
        "changed": groups(&mut found.changed.iter()),
        "unclear": groups(&mut found.unclear.iter()),
        "untold": found.untold,
        "left_out": { "token": found.unasked, "pin": found.pinned, "unknown": found.unknown },
    });
    format!("{body:#}\n")
}

fn group_json(group: &CallGroup, count: &GroupCount) -> Value {
    let outcomes = |outcomes: &Outcomes| -> Value {
        outcomes.iter().map(|(fate, rule)| json!({ "decision": fate.name(), "rule": rule.as_deref() })).collect()
    };
    json!({
        "before": outcomes(&group.before),
        "after": outcomes(&group.after),
        "caller": group.caller,
        "issuer": group.issuer,
        "address": group.address,
        "route": group.route,
        "method": group.method,
        "name": group.name,
        "depends_on": group.depends_on.iter().map(|unknown| unknown.name()).collect::<Vec<_>>(),
        "calls": count.calls,
        "last": count.last,
    })
}

fn outcomes_text(outcomes: &Outcomes) -> String {
    let texts = outcomes.iter().map(|(fate, rule)| match rule {
        Some(rule) => format!("{} ({})", fate.name(), plain(rule)),
        None => fate.name().to_owned(),
    });
    texts.collect::<Vec<_>>().join(" or ")
}

fn caller_text(group: &CallGroup) -> String {
    let caller = group.caller.as_deref().or(group.address.as_deref()).map_or(NONE.to_owned(), plain);
    match &group.issuer {
        Some(issuer) => format!("{caller} of {}", plain(issuer)),
        None => caller,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::{CallFate, ReplayUnknown};

    fn found() -> PolicyDiff {
        let group = CallGroup {
            before: BTreeSet::from([(CallFate::Allowed, Some("all".into()))]),
            after: BTreeSet::from([(CallFate::Denied, None)]),
            caller: Some("alice".to_owned()),
            issuer: Some("https://i".to_owned()),
            address: None,
            route: "a.test".to_owned(),
            method: "tools/call".to_owned(),
            name: Some("set\u{202e}".to_owned()),
            depends_on: BTreeSet::new(),
        };
        let mut unclear = CallGroup { name: None, depends_on: [ReplayUnknown::Claims].into(), ..group.clone() };
        unclear.after.insert((CallFate::Allowed, Some("staff".into())));
        let count = GroupCount { calls: 2, last: "2026-11-29T12:00:00.000Z".to_owned() };
        PolicyDiff {
            calls: 7,
            changed: [(group, count.clone())].into(),
            unclear: [(unclear, count)].into(),
            pinned: 1,
            routes: ["a.test", "b.test"].map(str::to_owned).into(),
            ..PolicyDiff::default()
        }
    }

    #[test]
    fn the_text_names_the_caller_the_call_and_the_reason() {
        let text = diff_text(&found(), false);
        assert!(
            text.contains("2      allowed (all)  denied  alice of https://i  a.test  tools/call  set\\u{202e}  2026-"),
            "{text}"
        );
        assert!(
            text.contains("allowed (staff) or denied  alice of https://i  a.test  tools/call  -     claims\n"),
            "{text}"
        );
        assert!(
            text.contains("7 calls compared as they were decided: 2 change, 2 cannot be told\n1 calls left out"),
            "{text}"
        );
        assert!(text.contains("several routes: a.test, b.test;"), "{text}");
        assert!(diff_text(&PolicyDiff::default(), true).starts_with("no call that the log can decide about"));
    }

    #[test]
    fn the_json_has_the_same_facts() {
        let new = ToolPolicy::parse("").unwrap();
        let body: Value = serde_json::from_str(&diff_json(&found(), None, &new)).unwrap();
        assert_eq!(body["changed"][0]["before"][0], json!({"decision": "allowed", "rule": "all"}));
        assert_eq!(body["changed"][0]["calls"], 2);
        assert_eq!(body["unclear"][0]["depends_on"], json!(["claims"]));
        assert_eq!((&body["old"], &body["left_out"]["pin"]), (&Value::Null, &json!(1)));
    }
}
