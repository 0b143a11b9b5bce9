//! What a policy costs: a decision from lists, and a list of 1,000 tools that is filtered, without and with an inventory of the tools.
//! `cargo bench --bench policy`, and with `--features cedar` also what Cedar costs.

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
    #[cfg(feature = "cedar")]
    cedar::measure(&tools);
}

/// What the second tier costs.
#[cfg(feature = "cedar")]
mod cedar {
    use std::sync::Arc;
    use std::time::Duration;

    use adit::policy::{
        AgentIdentity, Asked, CallerFacts, CallerOrigin, CedarRules, IdentityProof, ListFilter, ToolPolicy,
    };
    use serde_json::json;
    use std::hint::black_box;

    use super::{TOOLS, each};

    /// Those of docs/GOVERNANCE.md, for the tools of this bench: arguments, groups, time, scopes, and names with a pattern.
    const POLICIES: &str = r#"
        @id("refunds-by-finance")
        permit(principal in Role::"finance", action == Action::"tools/call", resource == Tool::"refund")
        when {
          context.decimals has amount &&
          context.decimals.amount.greaterThan(decimal("0.0")) &&
          context.decimals.amount.lessThanOrEqual(decimal("500.0"))
        };
        @id("reads")
        permit(principal, action, resource is Tool) when { resource.name like "tool_*" };
        @id("docs")
        permit(principal, action == Action::"resources/read", resource is Resource)
        when { resource.uri like "file:///docs/*" };
        @id("office-hours")
        forbid(principal, action == Action::"tools/call", resource == Tool::"refund")
        unless { context.time.weekday <= 5 && context.time.hour >= 8 && context.time.hour < 18 };
        @id("writes-need-a-scope") @scope("tickets:write")
        forbid(principal, action == Action::"tools/call", resource == Tool::"put_ticket")
        unless { principal.scopes.contains("tickets:write") };
    "#;
    const LISTS: &str =
        "[[role]]\nname = 'finance'\nissuer = 'https://login.example.com'\nclaims = { groups = 'finance' }\n";
    const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"refund","arguments":{"amount":12.5,"to":"a customer","why":["late","broken"]}}}"#;

    pub(super) fn measure(tools: &[u8]) {
        let rules = CedarRules::parse(POLICIES).expect("the policies have no fault");
        let policy = Arc::new(ToolPolicy::parse_with(LISTS, Some(rules)).expect("the policy has no fault"));
        let identity = AgentIdentity {
            subject: "alice".into(),
            issuer: Some("https://login.example.com".into()),
            client: Some("agent".into()),
            proof: IdentityProof::Jwt,
            scopes: Arc::new(["tickets:read".into()]),
            claims: Arc::new(
                json!({"groups": ["finance", "staff"], "email": "alice@example.com"})
                    .as_object()
                    .expect("it is an object")
                    .clone(),
            ),
        };
        let facts = CallerFacts {
            identity: Some(&identity),
            address: Some([10, 0, 0, 1].into()),
            // A Tuesday at noon.
            unix: Duration::from_secs(1_785_240_000),
        };
        // All of a call: its caller is prepared, too.
        let decide = |tool: &str, arguments: Option<&[u8]>| {
            let roles = policy.roles_of(CallerOrigin { address: facts.address, edge: None }, facts.identity);
            let caller = policy.cedar_caller(roles, &facts);
            let asked = Asked::tool(black_box(tool));
            let decision = policy.decide(roles, &asked);
            let decision = policy.decide_cedar(decision, caller.as_deref(), &asked, arguments).expect("it can be read");
            assert!(decision.is_allowed() && decision.rule().is_some());
        };
        let arguments = each(100, || decide("refund", Some(CALL)));
        let pattern = each(100, || decide("tool_7", Some(CALL)));
        println!("a decision of Cedar by arguments, group and time: {arguments:.1} µs, by a pattern: {pattern:.1} µs");
        let list = each(1, || {
            let roles = policy.roles_of(CallerOrigin { address: facts.address, edge: None }, facts.identity);
            let filter = ListFilter::new(Arc::clone(&policy), roles, policy.cedar_caller(roles, &facts));
            let filtered = filter.apply(black_box(tools)).expect("the list can be read");
            assert!(filtered.is_some_and(|filtered| filtered.len() < tools.len()));
        });
        println!("the list of {TOOLS} tools, filtered by Cedar: {list:.0} µs");
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
