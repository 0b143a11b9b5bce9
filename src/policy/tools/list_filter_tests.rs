//! Tests of lists as callers receive them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::base::Rng;
use crate::policy::tools::answer_filter::AnswerFilter;
use crate::policy::tools::answer_note::AnswerWithheld;
use crate::policy::tools::decision::{Asked, Target};
use crate::policy::tools::inventory::{InventoryMemory, ToolInventory};
use crate::policy::tools::pins::{PinMode, ToolPins};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::ToolPolicy;
use crate::policy::tools::tool_record::{OfferKind, ToolDigest, ToolStanding};

fn filter(text: &str) -> AnswerFilter {
    AnswerFilter::new(&Arc::new(ToolPolicy::parse(text).unwrap()), (RoleSet::default(), None), true, None).unwrap()
}

fn some() -> AnswerFilter {
    filter(
        "[policy]\npass_instructions = false\n[[rule]]\neffect = 'allow'\ntools = ['a*']\nprompts = ['a*']\n\
         resources = ['x://a*']\n[[rule]]\neffect = 'deny'\ntools = ['asked']\nscope = 's'\n",
    )
}

fn applied(filter: &AnswerFilter, text: &str) -> String {
    filter.apply(text.as_bytes()).unwrap().map_or_else(|| text.to_owned(), |out| String::from_utf8(out).unwrap())
}

#[test]
fn hidden_elements_are_taken_out_and_every_other_byte_stays() {
    let filter = some();
    for (text, want) in [
        (
            r#"{ "jsonrpc":"2.0", "id":1,"result" : {"tools": [ {"name":"b"}, {"x" : 1e3,"name":"a1"},{"name":"c"} , {"name":"a2","y":"é"} ], "nextCursor":"q", "z":[1 ,2]} }"#,
            r#"{ "jsonrpc":"2.0", "id":1,"result" : {"tools": [ {"x" : 1e3,"name":"a1"}, {"name":"a2","y":"é"} ], "nextCursor":"q", "z":[1 ,2]} }"#,
        ),
        (r#"{"result":{"tools":[{"name":"b"},{"name":"c"}]}}"#, r#"{"result":{"tools":[]}}"#),
        (r#"{"result":{"tools":[{"name":"a"}]}}"#, r#"{"result":{"tools":[{"name":"a"}]}}"#),
        (r#"{"result":{"tools":[]}}"#, r#"{"result":{"tools":[]}}"#),
        (r#"{"result":{"tools":[{"name":"asked"},{"name":"b"}]}}"#, r#"{"result":{"tools":[{"name":"asked"}]}}"#),
        (
            r#"{"result":{"tools":[{"name":"\u0062"},{"name":"\u0061"}]}}"#,
            r#"{"result":{"tools":[{"name":"\u0061"}]}}"#,
        ),
        (
            r#"{"result":{"tools":[{"name":"a"}],"cacheScope":"public","ttlMs":5}}"#,
            r#"{"result":{"tools":[{"name":"a"}],"cacheScope":"private","ttlMs":5}}"#,
        ),
        (r#"{"result":{"prompts":[{"name":"b"},{"name":"ab"}]}}"#, r#"{"result":{"prompts":[{"name":"ab"}]}}"#),
        (
            r#"{"result":{"resources":[{"uri":"x://a"},{"uri":"x://b"},{"uri":"x://a/../b"}]}}"#,
            r#"{"result":{"resources":[{"uri":"x://a"}]}}"#,
        ),
        (
            r#"{"result":{"resourceTemplates":[{"uriTemplate":"y://{p}"},{"uriTemplate":"x://{p}"}]}}"#,
            r#"{"result":{"resourceTemplates":[{"uriTemplate":"x://{p}"}]}}"#,
        ),
        (r#"{"result":{"serverInfo":{},"instructions":"use b"}}"#, r#"{"result":{"serverInfo":{},"instructions":""}}"#),
        (r#"[{"id":1,"result":{"tools":[{"name":"b"}]}},{"id":2}]"#, r#"[{"id":1,"result":{"tools":[]}},{"id":2}]"#),
        (r#"{"method":"x","params":{"tools":[{"name":"b"}]}}"#, r#"{"method":"x","params":{"tools":[{"name":"b"}]}}"#),
        (r#"{"error":{"code":1}}"#, r#"{"error":{"code":1}}"#),
        (
            r#"{"result":{"tools":[{"name":"a","name":"b"},{"Name":"b","name":"a"},{"n":1},7,{"name":"a"}]}}"#,
            r#"{"result":{"tools":[{"name":"a"}]}}"#,
        ),
    ] {
        assert_eq!(applied(&filter, text), want);
    }
}

#[test]
fn ambiguous_lists_are_refused() {
    let filter = some();
    for text in [
        r#"{"result":{"tools":[]},"result":{"tools":[{"name":"b"}]}}"#,
        r#"{"result":{"tools":[],"tools":[{"name":"b"}]}}"#,
        r#"{"result":{"Tools":[{"name":"b"}]}}"#,
        r#"{"Result":{"tools":[{"name":"b"}]}}"#,
        r#"{"result":{"tools":[{"name":"b"}]}} x"#,
        r#"{"result":{"tools":[{"name":"b"},]}}"#,
        r#"{"result":{"tools":[{"name":"b"}"#,
        "{\"result\":{\"tools\":[{\"name\":\"b\u{1}\"}]}}",
        "",
    ] {
        assert_eq!(filter.apply(text.as_bytes()), Err(AnswerWithheld::Unreadable), "{text}");
    }
    assert_eq!(filter.apply(b"{\"result\":\"\xff\"}"), Err(AnswerWithheld::Unreadable));
    let deep = format!(r#"{{"result":{{"tools":[],"x":{}{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert_eq!(filter.apply(deep.as_bytes()), Err(AnswerWithheld::Unreadable));
}

#[test]
fn a_list_is_filtered_as_a_reader_of_it_would_filter_it() {
    let (filter, mut rng) = (some(), Rng::new(3));
    let mut taken_out = 0;
    for _ in 0..3_000 {
        let tools: Vec<Value> = (0..rng.below(6))
            .map(|nth| {
                let name = ["a", "b", "ab", "c"][rng.below(4) as usize];
                json!({"name": name, "n": nth, "d": "],{\"name\":\"a\""})
            })
            .collect();
        let message =
            json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools, "nextCursor": "x", "_meta": {"k": [1]}}});
        let text = if rng.chance(0.5) { message.to_string() } else { format!("{message:#}") };
        let out: Value = serde_json::from_str(&applied(&filter, &text)).unwrap();
        let mut want = message.clone();
        want["result"]["tools"].as_array_mut().unwrap().retain(|tool| tool["name"].as_str().unwrap().starts_with('a'));
        taken_out += usize::from(want != message);
        assert_eq!(out, want, "{text}");
    }
    assert!(taken_out > 1_000);
}

#[test]
fn events_keep_their_lines_without_hidden_entries() {
    let filter = some();
    let apply = |event: &str| {
        let out = filter.apply_to_event(event.as_bytes()).unwrap();
        out.map_or_else(|| event.to_owned(), |out| String::from_utf8(out).unwrap())
    };
    let list = r#"{"id":1,"result":{"tools":[{"name":"a"},{"name":"b"}]}}"#;
    let want = r#"{"id":1,"result":{"tools":[{"name":"a"}]}}"#;
    for (event, wanted) in [
        (
            format!("id: 7\nevent: message\ndata: {list}\nretry: 5\n\n"),
            format!("id: 7\nevent: message\ndata: {want}\nretry: 5\n\n"),
        ),
        (format!("data:{list}\r\n\r\n"), format!("data: {want}\r\n\r\n")),
        (format!("\u{feff}data: {list}\n\n"), format!("\u{feff}data: {want}\n\n")),
        (format!("data: {list}"), format!("data: {want}")),
        (
            list.replace(",{", "\r\ndata: ,{").replacen('{', "data: {", 1) + "\r\n\r\n",
            format!("data: {want}\r\ndata: \r\n\r\n").replace("]}}\r\ndata: ", "\r\ndata: ]}}"),
        ),
    ] {
        let out = apply(&event);
        let data = |text: &str| -> Value {
            let lines = text.trim_start_matches('\u{feff}').lines().filter_map(|line| line.strip_prefix("data:"));
            serde_json::from_str(&lines.collect::<Vec<_>>().join("\n")).unwrap()
        };
        assert_eq!(data(&out), data(&format!("data:{want}")), "{event:?} {out:?}");
        if !event.contains("\r\ndata: ,") {
            assert_eq!(out, wanted);
        }
    }
    for event in [
        ": hi\n\n",
        "id: 1\ndata:\n\n",
        "event: endpoint\ndata: /messages?x=1\n\n",
        "data: {\"method\":\"n\"}\n\n",
        "database: {\n\n",
    ] {
        assert_eq!(apply(event), event);
    }
    for event in ["data: {\"result\":\n\n", "data: [\n\n", "data: {\"result\":{\"tools\":[],\ndata: \"tools\":[]}}\n\n"]
    {
        assert!(filter.apply_to_event(event.as_bytes()).is_err(), "{event}");
    }
}

#[test]
fn a_list_shows_exactly_the_callable_entries() {
    let mut rng = Rng::new(8);
    for _ in 0..2_000 {
        let mut text = String::from("[policy]\ntrust_annotations = true\n");
        for _ in 0..rng.below(4) {
            let effect = if rng.chance(0.6) { "allow" } else { "deny" };
            text += &format!(
                "[[rule]]\neffect = '{effect}'\ntools = ['{}']\n",
                ["a", "b*", "*c", "*"][rng.below(4) as usize]
            );
            if rng.chance(0.3) {
                text += &format!("annotations = {{ read_only = {} }}\n", rng.chance(0.5));
            }
        }
        let policy = Arc::new(ToolPolicy::parse(&text).unwrap());
        let filter = AnswerFilter::new(&Arc::clone(&policy), (RoleSet::default(), None), true, None).unwrap();
        let names = ["a", "b", "bc", "c", "d"];
        let tools: Vec<Value> =
            names.iter().map(|name| json!({"name": name, "annotations": {"readOnlyHint": rng.chance(0.5)}})).collect();
        let list = json!({"id": 1, "result": {"tools": tools}}).to_string();
        let shown: Value = serde_json::from_str(&applied(&filter, &list)).unwrap();
        let shown: Vec<&str> =
            shown["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        let callable: Vec<&str> = names
            .into_iter()
            .filter(|name| policy.decide(RoleSet::default(), &crate::policy::Asked::tool(name)).is_allowed())
            .collect();
        assert_eq!(shown, callable, "{text}");
    }
}

#[test]
fn a_tool_in_quarantine_is_hidden_and_cannot_be_called_until_it_is_approved() {
    let inventory = Arc::new(ToolInventory::new(&InventoryMemory::new(1 << 20)));
    let pinned = |mode| {
        let policy = ToolPolicy::parse("[[rule]]\neffect = 'deny'\ntools = ['asked']\nscope = 's'\n").unwrap();
        let policy = Arc::new(policy.pinned(ToolPins::new(mode, &inventory)));
        (Arc::clone(&policy), AnswerFilter::new(&policy, (RoleSet::default(), None), true, None).unwrap())
    };
    let (policy, filter) = pinned(PinMode::Quarantine);
    let may_call = |policy: &ToolPolicy, tool| policy.decide(RoleSet::default(), &Asked::tool(tool));
    let list = r#"{"result":{"tools":[{"name":"a"},{"name":"asked"}]}}"#;
    assert_eq!(
        applied(&filter, list),
        r#"{"result":{"tools":[]}}"#,
        "whoever may ask for a scope does not see it either"
    );
    assert_eq!(may_call(&policy, "a").rule().unwrap().to_string(), "pin");
    assert!(!may_call(&policy, "never-listed").is_allowed());
    let mark = policy.digest().mark();
    assert_eq!(policy.rule_name(mark, may_call(&policy, "a").rule().unwrap().index), Some("pin"));
    for record in inventory.records() {
        let digest = ToolDigest::parse(&record.digest).unwrap();
        inventory.approve(inventory.approval(record.kind, &record.name, digest).unwrap(), 1);
    }
    assert_eq!(applied(&filter, list), list);
    assert!(may_call(&policy, "a").is_allowed() && !may_call(&policy, "asked").is_allowed());
    let changed = r#"{"result":{"tools":[{"name":"a","description":"x"},{"name":"asked"}]}}"#;
    assert_eq!(applied(&filter, changed), r#"{"result":{"tools":[{"name":"asked"}]}}"#);
    assert!(!may_call(&policy, "a").is_allowed());
    // If unapproved tools are only reported, nothing is hidden.
    let (policy, filter) = pinned(PinMode::Warn);
    assert_eq!(applied(&filter, changed), changed);
    assert!(may_call(&policy, "a").is_allowed());
    assert!(ToolPins::new(PinMode::Off, &inventory).is_none());
    // A definition with more than one reading is reported even if the tool is hidden anyway, and calls are denied.
    let approved = ToolDigest::parse(&inventory.records()[0].digest).unwrap();
    inventory.approve(inventory.approval(OfferKind::Tool, "a", approved).unwrap(), 2);
    let (quarantine, _) = pinned(PinMode::Quarantine);
    assert!(may_call(&quarantine, "a").is_allowed());
    for (unclear, want) in [
        (r#"{"result":{"tools":[{"name":"a","description":"x","description":"y"}]}}"#, None),
        (
            r#"{"result":{"tools":[{"name":"a","annotations":{},"annotations":{}}]}}"#,
            Some(r#"{"result":{"tools":[]}}"#),
        ),
    ] {
        assert_eq!(applied(&filter, unclear), want.unwrap_or(unclear));
        assert_eq!(inventory.records()[0].standing(), ToolStanding::Unreadable, "{unclear}");
        assert!(!may_call(&quarantine, "a").is_allowed(), "{unclear}");
    }
}

#[test]
fn prompts_and_resources_in_quarantine_are_hidden_and_cannot_be_used_until_they_are_approved() {
    let inventory = Arc::new(ToolInventory::new(&InventoryMemory::new(1 << 20)));
    let policy = ToolPolicy::parse("").unwrap().pinned(ToolPins::new(PinMode::Quarantine, &inventory));
    let policy = Arc::new(policy);
    let filter = AnswerFilter::new(&policy, (RoleSet::default(), None), true, None).unwrap();
    let may = |asked: Asked<'_>| policy.decide(RoleSet::default(), &asked).is_allowed();
    let lists = [
        r#"{"result":{"prompts":[{"name":"p","description":"asks"}]}}"#,
        r#"{"result":{"resources":[{"uri":"a:1","name":"one"},{"uri":"file:///d/x","name":"x"}]}}"#,
        r#"{"result":{"resourceTemplates":[{"uriTemplate":"file:///d/{name}","name":"all"}]}}"#,
    ];
    let template = Asked { method: "completion/complete", target: Target::Template("file:///d/{name}") };
    for list in lists {
        let start = list.find('[').unwrap();
        assert_eq!(applied(&filter, list), format!("{}[]}}}}", &list[..start]));
    }
    let denied =
        [Asked::prompt("p"), Asked::resource("a:1"), Asked::resource("file:///d/y"), template, Asked::tool("p")];
    assert!(denied.iter().all(|asked| !may(*asked)));
    for record in inventory.records() {
        let digest = ToolDigest::parse(&record.digest).unwrap();
        inventory.approve(inventory.approval(record.kind, &record.name, digest).unwrap(), 1);
    }
    for list in lists {
        assert_eq!(applied(&filter, list), list);
    }
    assert!(denied[..4].iter().all(|asked| may(*asked)) && !may(denied[4]), "a tool is no prompt");
    assert!(may(Asked::resource("file:///d/never-listed")), "its template is approved");
    assert!(!may(Asked::resource("file:///e/x")) && !may(Asked::resource("file:///d/../e/x")));
    let changed = lists[1].replace(r#""name":"x""#, r#""name":"y""#);
    assert_eq!(applied(&filter, &changed), r#"{"result":{"resources":[{"uri":"a:1","name":"one"}]}}"#);
    assert!(!may(Asked::resource("file:///d/x")), "it has changed, whatever the template says");
}

/// A long list, with the id of its message before or behind it.
fn long_list(id: &str, is_first: bool, tools: &[&str]) -> String {
    let tool = |name: &&str| format!(r#"{{"name":"{name}","description":"{}"}}"#, "x".repeat(9_000));
    let tools: Vec<String> = tools.iter().map(tool).collect();
    let result = format!(r#""result":{{"tools":[{}]}}"#, tools.join(","));
    if is_first { format!(r#"{{"id":{id},{result}}}"#) } else { format!(r#"{{{result},"id":{id}}}"#) }
}

#[test]
fn a_list_that_comes_again_is_filtered_as_before_and_never_by_what_was_learned_earlier() {
    let rules = "[[role]]\nname = 'r'\nnetworks = ['10.0.0.0/8']\n[[rule]]\neffect = 'allow'\ntools = ['a*']\n\
                 [[rule]]\neffect = 'deny'\ntools = ['a2']\nroles = ['r']\n";
    let with = |policy: &Arc<ToolPolicy>, roles: &[&str], text: &str| {
        let roles = policy.roles_named(roles.iter().copied()).unwrap();
        applied(&AnswerFilter::new(policy, (roles, None), true, None).unwrap(), text)
    };
    for is_first in [true, false] {
        let inventory = Arc::new(ToolInventory::new(&InventoryMemory::new(1 << 20)));
        let pins = ToolPins::new(PinMode::Quarantine, &inventory);
        let policy = Arc::new(ToolPolicy::parse(rules).unwrap().pinned(pins));
        let approve = |tool: &str| {
            let record = inventory.records().into_iter().find(|record| record.name == tool).unwrap();
            let digest = ToolDigest::parse(&record.digest).unwrap();
            inventory.approve(inventory.approval(OfferKind::Tool, tool, digest).unwrap(), 1);
        };
        let list = |id: &str, tools: &[&str]| long_list(id, is_first, tools);
        let all = ["b1", "a1", "a2", "b2"];
        let _ = with(&policy, &[], &list("0", &all));
        approve("a1");
        for id in ["1", "2", "12345", "\"a-3\"", "1.5", "-4", "null", "\"\\u0061\"", "6"] {
            assert_eq!(with(&policy, &[], &list(id, &all)), list(id, &["a1"]), "{id}");
        }
        // What was hidden until now.
        approve("a2");
        for id in ["7", "8", "9"] {
            assert_eq!(with(&policy, &[], &list(id, &all)), list(id, &["a1", "a2"]), "{id}");
            assert_eq!(with(&policy, &["r"], &list(id, &all)), list(id, &["a1"]), "{id}, of another role");
        }
        // Of a list that is not quite the same, nothing is known.
        let other = list("9", &all).replacen("xx\"}", "xy\"}", 3);
        assert_eq!(with(&policy, &[], &other), list("9", &[]));
        assert!(!policy.decide(RoleSet::default(), &Asked::tool("a1")).is_allowed(), "its definition has changed");
        assert_eq!(with(&policy, &[], &list("10", &all)), list("10", &["a1", "a2"]));
        assert!(policy.decide(RoleSet::default(), &Asked::tool("a1")).is_allowed());
        // Its tools count as listed.
        for ms in [10, 20, 30, 40] {
            let _ = with(&policy, &[], &list("11", &all));
            let _ = inventory.stamp(ms);
            assert!(inventory.records().iter().all(|tool| tool.last_seen_ms == ms));
        }
    }
}
