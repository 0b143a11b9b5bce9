//! Every method, allowed and denied, as JSON and as events, in both eras, with all kinds of traffic, at the edge and at the connector,
//! before a server of the Python SDK. The policies are generated, and the [model](super::model) says what is to become of a request.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use adit::base::{Rng, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::policy::{Asked, Denial, ListFilter, Target, ToolDecision, ToolPolicy};
use serde_json::{Value, json};

use super::model::{Fate, Model, SCOPE, Thing};
use super::{KEY, read_answer};
use crate::clients::Program;
use crate::conformance::setup::SetUp;
use crate::support::{HOST, Tunnel};

/// How many policies each place has in the ordinary run. `ADIT_TEST_POLICIES` asks for more.
const POLICIES: u64 = 1;
/// Policies that are compared with the model alone.
const MODELS: u64 = 1_000;
const PLACES: [(DriverChoice, Traffic, bool); 6] = [
    (DriverChoice::Epoll, Traffic::Plain, true),
    (DriverChoice::Uring, Traffic::Plain, false),
    (DriverChoice::Uring, Traffic::Resealed, true),
    (DriverChoice::Epoll, Traffic::Resealed, false),
    (DriverChoice::Epoll, Traffic::Passthrough, false),
    (DriverChoice::Uring, Traffic::Passthrough, false),
];
const CALLERS: [(&str, &[&str]); 2] = [("", &["near"]), ("Authorization: Bearer open-sesame\r\n", &["near", "batch"])];
const TOOLS: [&str; 4] = ["get_a", "get_b", "put_a", "drop"];
const PROMPTS: [&str; 3] = ["ask_a", "ask_b", "plan"];
const RESOURCES: [&str; 4] = ["note://items/1", "note://items/2", "file:///docs/a", "file:///etc/b"];
const ITEMS: Thing = Thing::Template("note://items/{id}", &["note://items/1", "note://items/2", "note://items/~"]);
const DOCS: Thing = Thing::Template("file:///docs/{name}", &["file:///docs/a", "file:///docs/~"]);

/// A request.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    params: Value,
    thing: Thing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Era {
    Sessions,
    Stateless,
}

/// An answer: its status, its head and its message, if it has one.
#[derive(Debug)]
struct Answered {
    status: u16,
    head: String,
    message: Value,
}

/// All requests of an era. The list of tools goes first, as its annotations are what later calls are decided by.
fn cases(era: Era) -> Vec<Case> {
    let case = |method, params, thing| Case { method, params, thing };
    let plain = |method| case(method, json!({}), Thing::Nothing);
    let mut all: Vec<_> =
        ["tools/list", "prompts/list", "resources/list", "resources/templates/list"].map(plain).into();
    all.extend(TOOLS.iter().chain(&["none"]).map(|name| case("tools/call", json!({"name": name}), Thing::Tool(name))));
    all.extend(PROMPTS.map(|name| case("prompts/get", json!({"name": name}), Thing::Prompt(name))));
    let mut of_resources = vec!["resources/read"];
    if era == Era::Sessions {
        of_resources.extend(["resources/subscribe", "resources/unsubscribe"]);
    }
    for method in of_resources {
        all.extend(RESOURCES.map(|uri| case(method, json!({"uri": uri}), Thing::Resource(uri))));
    }
    let argument = json!({"name": "a", "value": "b"});
    let complete =
        |reference: Value, thing| case("completion/complete", json!({"ref": reference, "argument": argument}), thing);
    all.extend(PROMPTS.map(|name| complete(json!({"type": "ref/prompt", "name": name}), Thing::Prompt(name))));
    for thing in [ITEMS, DOCS] {
        let Thing::Template(uri, _) = thing else { unreachable!("both are") };
        all.push(complete(json!({"type": "ref/resource", "uri": uri}), thing));
    }
    let task = json!({"taskId": "t"});
    all.extend(["tasks/get", "tasks/cancel", "tasks/other"].map(|method| case(method, task.clone(), Thing::Nothing)));
    all.extend(["x/own", "x/other", "notifications/progress"].map(plain));
    let own = match era {
        Era::Sessions => {
            let client = json!({"name": "a", "version": "1"});
            let begins = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
            all.push(case("initialize", begins, Thing::Nothing));
            all.push(case("logging/setLevel", json!({"level": "info"}), Thing::Nothing));
            ["ping", "notifications/initialized"]
        }
        Era::Stateless => ["server/discover", "subscriptions/listen"],
    };
    all.extend(own.map(plain));
    all
}

impl Case {
    fn is_notification(&self) -> bool {
        self.method.starts_with("notifications/")
    }

    /// The fields of the head, and the message.
    fn request(&self, era: Era, has_events: bool) -> (String, Value) {
        let mut params = self.params.clone();
        let mut meta = json!({});
        if has_events {
            meta["progressToken"] = json!(5);
        }
        let fields = match era {
            Era::Sessions => "MCP-Protocol-Version: 2025-11-25\r\n".to_owned(),
            Era::Stateless => {
                meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
                meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
                let name = match self.thing {
                    Thing::Tool(name) | Thing::Prompt(name) | Thing::Resource(name)
                        if self.method != "completion/complete" =>
                    {
                        format!("Mcp-Name: {name}\r\n")
                    }
                    _ => String::new(),
                };
                format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {}\r\n{name}", self.method)
            }
        };
        params["_meta"] = meta;
        let mut message = json!({"jsonrpc": "2.0", "method": self.method, "params": params});
        if !self.is_notification() {
            message["id"] = json!(7);
        }
        (fields, message)
    }

    /// What the caller is to get, where the server itself answers `own`.
    fn wanted(&self, model: &Model, roles: &[&str], era: Era, own: &Answered) -> (u16, Value) {
        let is_stateless = era == Era::Stateless;
        let error = |code: i32, message: String| json!({"jsonrpc": "2.0", "id": 7, "error": {"code": code, "message": message}});
        match (model.fate(roles, self.method, self.thing), self.thing) {
            (Fate::Allowed, _) => (own.status, shown(&own.message, model, roles)),
            (Fate::Scope, _) => (403, Value::Null),
            (Fate::Hidden, _) if self.is_notification() => (403, Value::Null),
            (Fate::Hidden, Thing::Nothing) => {
                (if is_stateless { 404 } else { 200 }, error(-32_601, "Method not found".to_owned()))
            }
            (Fate::Hidden, Thing::Tool(name)) => (200, error(-32_602, format!("Unknown tool: {name}"))),
            (Fate::Hidden, Thing::Prompt(name)) => (200, error(-32_602, format!("Unknown prompt: {name}"))),
            (Fate::Hidden, Thing::Resource(uri) | Thing::Template(uri, _)) => {
                let code = if is_stateless { -32_602 } else { -32_002 };
                (200, error(code, format!("Resource not found: {uri}")))
            }
        }
    }
}

/// Whether a caller sees the element of a list with this name.
type IsShown<'a> = &'a dyn Fn(&str) -> bool;

/// A message of the server, as the caller is to see it.
fn shown(message: &Value, model: &Model, roles: &[&str]) -> Value {
    let mut message = message.clone();
    let Some(result) = message.get_mut("result").and_then(Value::as_object_mut) else { return message };
    let tool = |name: &str| model.shows(roles, "tools/call", Thing::Tool(known(&TOOLS, name)));
    let prompt = |name: &str| model.shows(roles, "prompts/get", Thing::Prompt(known(&PROMPTS, name)));
    let resource = |uri: &str| model.shows(roles, "resources/read", Thing::Resource(known(&RESOURCES, uri)));
    let template = |uri: &str| model.shows(roles, "resources/read", if uri.starts_with("note") { ITEMS } else { DOCS });
    let lists: [(&str, &str, IsShown<'_>); 4] = [
        ("tools", "name", &tool),
        ("prompts", "name", &prompt),
        ("resources", "uri", &resource),
        ("resourceTemplates", "uriTemplate", &template),
    ];
    for (list, named_by, is_shown) in lists {
        if let Some(elements) = result.get_mut(list).and_then(Value::as_array_mut) {
            elements.retain(|element| is_shown(element[named_by].as_str().unwrap()));
            if let Some(scope) = result.get_mut("cacheScope") {
                *scope = json!("private");
            }
        }
    }
    message
}

fn known(names: &[&'static str], name: &str) -> &'static str {
    names.iter().find(|known| **known == name).unwrap_or_else(|| panic!("the server has no {name}"))
}

/// Sends a request, and reads its answer.
fn exchange(stream: &mut (impl std::io::Read + Write), path: &str, fields: &str, message: &Value) -> Answered {
    let body = message.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let answer = read_answer(stream);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let message = body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or(body);
    let status = head[9..12].parse().unwrap();
    let message = if message.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(message).unwrap_or_else(|error| panic!("{error}: {answer}"))
    };
    Answered { status, head: head.to_ascii_lowercase(), message }
}

/// The server, its address, and its own answers: by era, form and request.
struct Server {
    _program: Program,
    address: SocketAddr,
    own: Vec<Answered>,
}

/// How requests are sent: the era, and whether the answers are events.
const FORMS: [(Era, bool); 4] =
    [(Era::Sessions, false), (Era::Sessions, true), (Era::Stateless, false), (Era::Stateless, true)];

/// All requests in all forms, in the order of [`Server::own`].
fn requests() -> impl Iterator<Item = (Era, &'static str, Case, (String, Value))> {
    FORMS.into_iter().flat_map(|(era, has_events)| {
        let path = if has_events { "/events" } else { "/json" };
        cases(era).into_iter().map(move |case| {
            let request = case.request(era, has_events);
            (era, path, case, request)
        })
    })
}

impl Server {
    fn start() -> Server {
        let script = format!("{}/tests/loopback/policy/server.py", env!("CARGO_MANIFEST_DIR"));
        let mut program = Program::start(Command::new(&SetUp::get().python).arg(script));
        let address = SocketAddr::from(([127, 0, 0, 1], program.line().parse().unwrap()));
        let mut direct = TcpStream::connect(address).unwrap();
        let own: Vec<_> =
            requests().map(|(_, path, _, (fields, message))| exchange(&mut direct, path, &fields, &message)).collect();
        let server = Server { _program: program, address, own };
        assert_eq!(
            server.reached().len(),
            server.own.len(),
            "each request reaches the server where nothing is between"
        );
        server
    }

    /// What has come since the last time.
    fn reached(&self) -> Vec<Value> {
        let answer = exchange(&mut TcpStream::connect(self.address).unwrap(), "/reached", "", &json!({}));
        answer.message.as_array().unwrap().clone()
    }
}

#[test]
fn every_method_follows_the_policy_wherever_it_is_enforced() {
    let policies = std::env::var("ADIT_TEST_POLICIES").map_or(POLICIES, |policies| policies.parse().unwrap());
    let server = Server::start();
    let is_event = |answered: &&Answered| answered.head.contains("text/event-stream");
    assert!(server.own.iter().filter(is_event).count() * 3 > server.own.len(), "about half of the answers are events");
    let mut seen = BTreeSet::new();
    for (nth, (driver, traffic, at_edge)) in (1..).zip(PLACES) {
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
        let mut agent = tunnel.agent();
        for seed in (0..policies).map(|round| nth + 100 * round) {
            let model = Model::generate(&mut Rng::new(seed));
            let file = model.file(KEY);
            let policy = ToolPolicy::parse(&file).unwrap_or_else(|faults| panic!("{faults:?}\n{file}"));
            tunnel.govern(at_edge, &Arc::new(policy));
            let mut reaches = Vec::new();
            for (key, roles) in CALLERS {
                for ((era, path, case, (fields, message)), own) in requests().zip(&server.own) {
                    let place =
                        || format!("{driver:?} {traffic:?} at_edge={at_edge} {path} {era:?} {key}{message}\n{file}");
                    let got = exchange(&mut agent, path, &format!("{key}{fields}"), &message);
                    if got.head.contains("connection: close") {
                        agent = tunnel.agent();
                    }
                    let fate = model.fate(roles, case.method, case.thing);
                    let (status, wanted) = case.wanted(&model, roles, era, own);
                    assert_eq!(got.status, status, "{} {}\n{}", got.head, got.message, place());
                    if status != 403 {
                        assert_eq!(got.message, wanted, "{}", place());
                    }
                    let challenge = format!("error=\"insufficient_scope\", scope=\"{SCOPE}\"");
                    assert_eq!(got.head.contains(&challenge), fate == Fate::Scope, "{}", place());
                    if fate == Fate::Allowed {
                        reaches.push(message);
                    }
                    seen.insert((case.method, fate == Fate::Allowed));
                }
            }
            assert_eq!(server.reached(), reaches, "{driver:?} {traffic:?} at_edge={at_edge}\n{file}");
        }
        drop(agent);
        tunnel.end();
    }
    let methods: BTreeSet<_> = seen.iter().map(|(method, _)| *method).collect();
    let never: Vec<_> = methods
        .iter()
        .flat_map(|method| [(*method, true), (*method, false)])
        // A rule may name any method, but to be asked for a scope or told that there is none is one thing here.
        .filter(|fate| !seen.contains(fate))
        .collect();
    assert!(never.is_empty(), "these seeds never have {never:?}");
}

/// What is decided, as the model says it.
fn fate_of(decision: &ToolDecision) -> Fate {
    match decision {
        ToolDecision::Allowed(_) => Fate::Allowed,
        ToolDecision::Denied { how: Denial::Scope(_), .. } => Fate::Scope,
        ToolDecision::Denied { .. } => Fate::Hidden,
    }
}

/// The list of tools of the server of these tests.
fn list() -> String {
    let tools = TOOLS.map(|name| json!({"name": name, "annotations": {"readOnlyHint": name.starts_with("get_")}}));
    json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": tools}}).to_string()
}

#[test]
fn random_policies_agree_with_the_model() {
    let mut fates = [0_u64; 3];
    for seed in 0..MODELS {
        let model = Model::generate(&mut Rng::new(seed));
        let file = model.file(KEY);
        let policy = ToolPolicy::parse(&file).unwrap_or_else(|faults| panic!("{faults:?}\n{file}"));
        let policy = Arc::new(policy);
        for (_, names) in CALLERS {
            let roles = policy.roles_named(names.iter().copied()).unwrap();
            let own: Value = serde_json::from_str(&list()).unwrap();
            let filtered = ListFilter::new(Arc::clone(&policy), roles, None).apply(list().as_bytes()).unwrap();
            let filtered = filtered.map_or(own.clone(), |text| serde_json::from_slice(&text).unwrap());
            assert_eq!(filtered, shown(&own, &model, names), "{names:?}\n{file}");
            for case in cases(Era::Sessions).into_iter().chain(cases(Era::Stateless)) {
                let target = match case.thing {
                    Thing::Nothing => Target::Nothing,
                    Thing::Tool(name) => Target::Tool(name),
                    Thing::Prompt(name) => Target::Prompt(name),
                    Thing::Resource(uri) => Target::Resource(uri),
                    Thing::Template(uri, _) => Target::Template(uri),
                };
                let decision = policy.decide(roles, &Asked { method: case.method, target });
                let fate = model.fate(names, case.method, case.thing);
                assert_eq!(fate_of(&decision), fate, "{names:?} {case:?}\n{file}");
                fates[fate as usize] += 1;
            }
        }
    }
    assert!(fates.iter().all(|count| *count > MODELS * 2), "{fates:?}");
}
