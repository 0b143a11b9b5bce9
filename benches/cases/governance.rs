//! What a policy and an audit log do with a call and a list, by themselves.

use std::hint::black_box;
use std::sync::Arc;

use super::Work;
use super::jsonrpc::tools_call;
use adit::audit::Chain;
use adit::policy::{
    Asked, InventoryMemory, ListFilter, PinMode, ToolInventory, ToolPins, ToolPolicy, redacted_arguments,
};

/// As many tools as the longest list that has to be filtered quickly.
const TOOLS: usize = 1_000;
/// Rules that do not decide the call of the bench.
const RULES: usize = 16;

/// Rules as a team would have them, ceilings for the tool that is called, and texts that are looked at.
pub(crate) fn policy() -> ToolPolicy {
    let mut text =
        "[sanitise]\ntags = 'strip'\nzero_width = 'strip'\nbidi = 'strip'\nansi = 'strip'\nsecrets = 'redact'\n\
                    cards = 'redact'\nibans = 'redact'\n[[role]]\nname = 'agents'\nnetworks = ['10.0.0.0/8']\n\
                    [[rule]]\neffect = 'deny'\ntools = ['delete_*', 'drop_*']\n"
            .to_owned();
    for nth in 0..RULES {
        text.push_str(&format!(
            "[[rule]]\neffect = 'allow'\ntools = ['get_{nth}_*', 'list_{nth}', 'search_{nth}', 'tool_*']\nroles = ['agents']\n"
        ));
    }
    text.push_str(
        "[[rule]]\nname = 'echo'\neffect = 'allow'\ntools = ['echo']\nroles = ['agents']\ncalls_at_once_max = 1000\n\
         calls_per_day = 1000000000\nanswer_bytes_max = 1000000\nanswer_rows_max = 50\nanswer_rows_at = '/rows'\n",
    );
    ToolPolicy::parse(&text).expect("the policy has no fault")
}

/// The result of a tool, of so many bytes.
pub(crate) fn answer(len: usize) -> String {
    const TEXT: &str = "The ticket of a customer, opened on 2026-07-28 about order 4711: the parcel came late, and one of its parts is broken. ";
    let with = |text: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":17,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
        )
    };
    let len = len - with("").len();
    with(&TEXT.repeat(len / TEXT.len() + 1)[..len])
}

/// The definitions of tools, of which the policy hides a quarter.
fn list() -> Vec<u8> {
    let tool = |nth: usize| {
        let name = if nth % 4 == 3 { format!("hidden_{nth}") } else { format!("tool_{nth}") };
        format!(
            r#"{{"name":"{name}","title":"Search number {nth}","inputSchema":{{"type":"object","required":["query"],"properties":{{"query":{{"type":"string","description":"What to search for, in plain words."}},"limit":{{"type":"integer","minimum":1,"maximum":100,"default":20}},"since":{{"type":"string","format":"date-time"}}}}}},"description":"Searches the archive with the number {nth}, and returns what it has found, the newest first.","annotations":{{"readOnlyHint":true,"openWorldHint":false}}}}"#
        )
    };
    let tools: Vec<String> = (0..TOOLS).map(tool).collect();
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}]}}}}"#, tools.join(",")).into_bytes()
}

/// A decision from the lists.
pub(crate) fn decision() -> Work {
    let policy = policy();
    let roles = policy.roles_named(["agents"]).expect("there is this role");
    Box::new(move || assert!(policy.decide(roles, &Asked::tool(black_box("echo"))).is_allowed()))
}

/// A list that is filtered, with or without an inventory that knows all of it.
pub(crate) fn filtered_list(is_pinned: bool) -> Work {
    let inventory = Arc::new(ToolInventory::new(&InventoryMemory::new(32 << 20)));
    let mode = if is_pinned { PinMode::Warn } else { PinMode::Off };
    let rules = "[[rule]]\neffect = 'allow'\ntools = ['tool_*']\n";
    let policy = ToolPolicy::parse(rules).expect("the policy has no fault").pinned(ToolPins::new(mode, &inventory));
    let (policy, list) = (Arc::new(policy), list());
    Box::new(move || {
        let roles = policy.roles_named([]).expect("no role is missing");
        let filter = ListFilter::new(Arc::clone(&policy), roles, None);
        let filtered = filter.apply(black_box(&list)).expect("the list can be read");
        assert!(filtered.is_some_and(|filtered| filtered.len() < list.len()));
    })
}

/// A text in which secrets, cards and bank accounts are looked for.
pub(crate) fn redaction() -> Work {
    let text = answer(1024);
    Box::new(move || assert_eq!(redacted_arguments(black_box(&text)).map(|text| text.len()), Some(1024)))
}

/// A line of the audit log that is chained.
pub(crate) fn chained_line() -> Work {
    let body = format!("\"kind\":\"call\",\"name\":\"{}\"}}", tools_call(600).replace('"', "'"));
    let (mut chain, mut out) = (Chain::new(), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        chain.append(black_box("2026-11-30T19:00:00.000Z"), body.as_bytes(), &mut out);
        assert!(out.len() > body.len());
    })
}
