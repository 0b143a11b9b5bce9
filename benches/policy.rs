//! What a policy costs: a decision from lists, and a list of 1,000 tools that is filtered, without and with an inventory of the tools.
//! `cargo bench --bench policy`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit::policy::{Asked, InventoryMemory, ListFilter, PinMode, ToolInventory, ToolPins, ToolPolicy};
use serde_json::{Value, json};

const TOOLS: usize = 1_000;
const ROUNDS: usize = 200;
const RULES: usize = 20;
const NAMES: usize = 50;

fn main() {
    let (text, tools) = (file(), list("tool"));
    let policy = ToolPolicy::parse(&text).expect("the policy has no fault");
    let roles = policy.roles_named(["agents"]).expect("there is this role");
    // The last name of the last rule that allows, and one that no rule knows.
    let names = [format!("tool_{}", RULES * NAMES - 1), "unknown".to_owned()];
    let decided = each(1_000, || {
        names.iter().for_each(|name| drop(black_box(policy.decide(roles, &Asked::tool(black_box(name))))));
    });
    let decided = decided / 2.0;
    println!("a decision from {RULES} rules with {NAMES} names each and a glob: {decided:.2} µs");

    let inventory = || Arc::new(ToolInventory::new(&InventoryMemory::new(32 << 20)));
    let policy = Arc::new(policy);
    let plain = each(1, || filter(&policy, &tools));
    println!("a list of {TOOLS} tools, {} KiB, filtered: {plain:.0} µs", tools.len() / 1024);
    for mode in [PinMode::Warn, PinMode::Quarantine] {
        let known = inventory();
        let pins = ToolPins::new(mode, &known);
        let policy = Arc::new(ToolPolicy::parse(&text).expect("the policy has no fault").pinned(pins));
        let first = once(|| filter(&policy, &tools));
        let again = each(1, || filter(&policy, &tools));
        // A server that changes what all its tools say.
        let others = [list("other"), tools.clone()];
        let mut turn = 0;
        let changed = each(1, || {
            turn += 1;
            filter(&policy, &others[turn % 2]);
        });
        let mode = mode.name();
        println!(
            "the same with pin = \"{mode}\": first {first:.0} µs, known {again:.0}, all of them changed {changed:.0}"
        );
    }
}

/// A policy of many names.
fn file() -> String {
    let mut text = "[[role]]\nname = 'agents'\nnetworks = ['10.0.0.0/8']\n\
                    [[rule]]\neffect = 'deny'\ntools = ['delete_*', '*_secret']\n"
        .to_owned();
    for rule in 0..RULES {
        let names: Vec<String> = (0..NAMES).map(|nth| format!("'tool_{}'", rule * NAMES + nth)).collect();
        text.push_str(&format!(
            "[[rule]]\neffect = 'allow'\ntools = [{}, 'read_{rule}_*']\nroles = ['agents']\n",
            names.join(", ")
        ));
    }
    text
}

fn list(what: &str) -> Vec<u8> {
    // Every fourth is not allowed.
    let tool = |nth: usize| {
        let name = if nth % 4 == 3 { format!("hidden_{nth}") } else { format!("tool_{nth}") };
        let schema = json!({"type": "object", "required": ["query"], "properties": {
            "query": {"type": "string", "description": "What to search for, in plain words."},
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
            "since": {"type": "string", "format": "date-time"},
        }});
        json!({
            "name": name, "title": format!("The {what} with the number {nth}"), "inputSchema": schema,
            "description": format!("Searches the {what} with the number {nth}, and returns what it has found, the newest first."),
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        })
    };
    let tools: Vec<Value> = (0..TOOLS).map(tool).collect();
    json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools}}).to_string().into_bytes()
}

fn filter(policy: &Arc<ToolPolicy>, list: &[u8]) {
    let roles = policy.roles_named(["agents"]).expect("there is this role");
    let filtered =
        ListFilter::new(Arc::clone(policy), roles, None).apply(black_box(list)).expect("the list can be read");
    assert!(filtered.is_some_and(|filtered| filtered.len() < list.len()));
}

fn once(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    micros(began.elapsed())
}

/// How many microseconds one of them takes, by the median of all rounds.
fn each(repeat: u32, mut work: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> =
        (0..ROUNDS).map(|_| once(|| (0..repeat).for_each(|_| work())) / f64::from(repeat)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
