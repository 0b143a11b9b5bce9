//! Ceilings of rules, at the edge and at the connector: what is beyond them reaches no server, and its caller is told why.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use adit::base::{Clock, Traffic};
use adit::engine::MonotonicClock;
use adit::engine::ladder::DriverChoice;
use adit::policy::{ApprovalTicket, Approvals, QuotaTime, ToolPolicy};
use futures_lite::future::block_on;
use serde_json::{Value, json};

use crate::policy::{ask, read_answer};
use crate::process::PATIENCE;
use crate::support::{HOST, Tunnel, read_message};

/// `printf %s open-sesame | sha256sum`
const KEY: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";
const WITH_KEY: &str = "Authorization: Bearer open-sesame\r\n";

fn policy() -> Arc<ToolPolicy> {
    let text = format!(
        "[[key]]\nname = 'batch'\nsha256 = '{KEY}'\n[[role]]\nname = 'batch'\nkeys = ['batch']\n\
         [[rule]]\nname = 'refunds'\neffect = 'allow'\ntools = ['refund']\n\
         arguments = {{ required = ['amount'], properties = {{ amount = {{ minimum = 0, maximum = 500 }} }} }}\n\
         [[rule]]\nname = 'searches'\neffect = 'allow'\ntools = ['search']\ncalls_per_minute = 1\ncalls_burst = 2\n\
         [[rule]]\nname = 'mails'\neffect = 'allow'\ntools = ['mail']\ncalls_per_day = 1\n\
         [[rule]]\nname = 'waits'\neffect = 'allow'\ntools = ['wait']\ncalls_at_once_max = 1\n"
    );
    Arc::new(ToolPolicy::parse(&text).unwrap())
}

/// A server that notes what it is asked, and answers `wait` when it is told to.
struct Server {
    address: SocketAddr,
    got: Arc<Mutex<Vec<String>>>,
    waits: Receiver<()>,
    go_on: Sender<()>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (has_come, waits) = channel();
        let (go_on, may_go) = channel();
        let may_go = Arc::new(Mutex::new(may_go));
        let noted = Arc::clone(&got);
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let (got, has_come, may_go) = (Arc::clone(&noted), has_come.clone(), Arc::clone(&may_go));
                thread::spawn(move || {
                    loop {
                        let request = read_message(&mut socket);
                        let Some((_, body)) = request.split_once("\r\n\r\n") else { return };
                        if request.starts_with("GET ") {
                            let _ = socket.write_all(resumed().as_bytes());
                            return;
                        }
                        let asked: Value = serde_json::from_str(body).unwrap_or_default();
                        got.lock().unwrap().push(body.to_owned());
                        if asked["params"]["name"] == "wait" {
                            has_come.send(()).unwrap();
                            may_go.lock().unwrap().recv().unwrap();
                        }
                        let arguments = &asked["params"]["arguments"];
                        let result = match (arguments["rows"].as_u64(), arguments["text"].as_u64()) {
                            _ if asked["method"] == "tasks/result" => rows(10),
                            _ if arguments["task"].is_string() => json!({"task": {"taskId": arguments["task"]}}),
                            (Some(count), _) => rows(count),
                            (_, Some(len)) => json!({"content": [{"type": "text", "text": "x".repeat(len as usize)}]}),
                            _ => json!({"content": []}),
                        };
                        let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string();
                        let answer = match request.starts_with("POST /events") {
                            true => {
                                let event = format!("data: {answer}\n\n");
                                format!(
                                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                                     {:x}\r\n{event}\r\n0\r\n\r\n",
                                    event.len()
                                )
                            }
                            false => format!(
                                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                                answer.len()
                            ),
                        };
                        if socket.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server { address, got, waits, go_on }
    }

    fn calls(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

fn rows(count: u64) -> Value {
    json!({"structuredContent": {"rows": vec![7; count as usize]}})
}

/// A stream on which the answers to earlier requests come.
fn resumed() -> String {
    let answers = (7..=9).map(|id| json!({"jsonrpc": "2.0", "id": id, "result": rows(10)}));
    let note = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
    let events: String = answers.chain([note]).map(|message| format!("data: {message}\n\n")).collect();
    // The server closes the connection behind it.
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    format!("{head}{:x}\r\n{events}\r\n0\r\n\r\n", events.len())
}

fn call(tool: &str, arguments: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#)
}

/// The status of an answer, the code of its error, the reason of that and the ceiling.
fn error_of(answer: &(String, Value)) -> (String, Value, Value, Value) {
    let status = answer.0.split(' ').nth(1).unwrap().to_owned();
    let error = &answer.1["error"];
    (status, error["code"].clone(), error["data"]["reason"].clone(), error["data"]["limit"].clone())
}

fn holds(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    tunnel.govern(at_edge, &policy());
    let mut agent = tunnel.agent();
    let mut says = |fields: &str, body: &str| ask(&mut agent, "/mcp", fields, body);
    let passes = |answer: &(String, Value)| answer.1["result"] == json!({"content": []});

    // Arguments.
    assert!(passes(&says("", &call("refund", r#"{"amount": 500}"#))), "{place}");
    let before = server.calls();
    for amount in ["501", "5.001e2", "1e400", "-1", "\"9\"", "null"] {
        let answer = says("", &call("refund", &format!("{{\"amount\": {amount}}}")));
        let want = ("200".to_owned(), json!(-32602), json!("arguments_denied"), json!("arguments"));
        assert_eq!(error_of(&answer), want, "{place} {amount}");
        let message = answer.1["error"]["message"].as_str().unwrap();
        assert!(message.contains("these arguments: amount "), "{message}");
    }
    for arguments in [r#"{"amount": 1, "amount": 501}"#, r#"{"amount": 1, "Amount": 501}"#, r#"{"amount": 1e-400}"#] {
        let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &call("refund", arguments));
        assert!(head.starts_with("HTTP/1.1 400 "), "{place} {arguments}: {head}");
    }
    assert_eq!(server.calls(), before, "{place}: nothing of this has reached the server");

    // Rates, for each caller.
    assert!((0..2).all(|_| passes(&says("", &call("search", "{}")))), "{place}");
    let refused = says("", &call("search", "{}"));
    let want = ("429".to_owned(), json!(-31_060), json!("rate_reached"), json!("calls_per_minute"));
    assert_eq!(error_of(&refused), want, "{place}");
    if traffic == Traffic::Plain {
        // By this the edge knows that its server was not asked.
        assert_eq!(refused.0.contains(", beyond_edge;dur="), !at_edge, "{place}: {}", refused.0);
    }
    let after: u64 = refused.0.split("Retry-After: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{place}: {after}");
    assert_eq!(refused.1["error"]["data"]["retry_after_ms"], json!(after * 1_000));
    assert!(passes(&says(WITH_KEY, &call("search", "{}"))), "{place}: another caller has its own rate");

    // The day.
    assert!(passes(&says("", &call("mail", "{}"))), "{place}");
    let want = ("429".to_owned(), json!(-31_062), json!("day_budget_reached"), json!("calls_per_day"));
    assert_eq!(error_of(&says("", &call("mail", "{}"))), want, "{place}");

    // Calls at once.
    let before = server.calls();
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(&mut tunnel.agent(), "/mcp", "", &call("wait", "{}")));
        server.waits.recv().unwrap();
        let want = ("429".to_owned(), json!(-31_061), json!("calls_at_once_reached"), json!("calls_at_once_max"));
        assert_eq!(error_of(&says("", &call("wait", "{}"))), want, "{place}");
        server.go_on.send(()).unwrap();
        assert!(passes(&first.join().unwrap()), "{place}");
    });
    // Its place is free once its answer was sent, which the agent may have before that.
    server.go_on.send(()).unwrap();
    let began = Instant::now();
    let again = loop {
        let answer = says("", &call("wait", "{}"));
        if error_of(&answer).0 != "429" {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "{place}: its place is never free");
    };
    assert!(passes(&again), "{place}");
    assert_eq!(server.calls(), before + 2, "{place}");
    tunnel.end();
}

/// Keeps approvals as a process does that has a directory, on a disk that may break.
fn keep_on_a_disk(approvals: &Arc<Approvals>) -> Arc<AtomicBool> {
    let (approvals, is_sound) = (Arc::clone(approvals), Arc::new(AtomicBool::new(true)));
    approvals.keep_in_file();
    let disk = Arc::clone(&is_sound);
    thread::spawn(move || {
        loop {
            block_on(approvals.wanted());
            let time = QuotaTime { now: MonotonicClock.now(), unix: Duration::ZERO };
            if let Some((change, _)) = approvals.unwritten(time) {
                approvals.on_written(change, disk.load(Ordering::Relaxed));
            }
            thread::yield_now();
        }
    });
    is_sound
}

/// Calls that wait for approval, which is given once.
fn waits(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    let text = format!(
        "[[key]]\nname = 'batch'\nsha256 = '{KEY}'\n[[role]]\nname = 'batch'\nkeys = ['batch']\n\
         [[rule]]\nname = 'all'\neffect = 'allow'\ntools = ['*']\n\
         [[rule]]\nname = 'pays'\neffect = 'approve'\ntools = ['pay']\n\
         arguments = {{ properties = {{ amount = {{ maximum = 500 }} }} }}\n"
    );
    let (mut policy, approvals) = (ToolPolicy::parse(&text).unwrap(), Arc::<Approvals>::default());
    policy.count_in(&Arc::default(), &approvals, "a.test");
    tunnel.govern(at_edge, &Arc::new(policy));
    let is_disk_sound = keep_on_a_disk(&approvals);
    let mut agent = tunnel.agent();
    let mut says = |fields: &str, body: &str| ask(&mut agent, "/mcp", fields, body);
    let ticket_of = |answer: &(String, Value)| {
        let want = ("200".to_owned(), json!(-31_070), json!("approval_needed"), json!("approval"));
        assert_eq!(error_of(answer), want, "{place}");
        assert!(answer.0.contains("\r\nRetry-After: "), "{place}");
        answer.1["error"]["data"]["ticket"].as_str().unwrap().parse::<ApprovalTicket>().unwrap()
    };
    let pay = call("pay", r#"{"amount": 1, "to": "bob"}"#);
    let ticket = ticket_of(&says("", &pay));
    assert_eq!(ticket_of(&says("", &pay.replace("1, ", "1,"))), ticket, "{place}: white space is no other call");
    assert_ne!(ticket_of(&says("", &pay.replace("bob", "eve"))), ticket, "{place}");
    assert_ne!(ticket_of(&says(WITH_KEY, &pay)), ticket, "{place}");
    let answer = says("", &pay.replace('1', "501"));
    assert_eq!(error_of(&answer).2, json!("arguments_denied"), "{place}: nobody is asked about it");
    let waiting = approvals.all(MonotonicClock.now());
    assert_eq!(waiting.len(), 3, "{place}");
    let first = waiting.iter().find(|one| one.ticket == ticket).unwrap();
    assert_eq!(first.call.shown.as_deref(), Some(r#"{"amount": 1, "to": "bob"}"#), "{place}");
    assert!(first.asked > Duration::from_secs(1_700_000_000), "{place}: by the clock of people, {:?}", first.asked);
    assert_eq!(server.calls(), 0, "{place}: nothing of this has reached the server");

    approvals.decide(ticket, true, "carol", MonotonicClock.now()).unwrap();
    for other in [pay.replace("bob", "eve"), pay.replace("\"to\":", "\"To\":")] {
        ticket_of(&says("", &other));
    }
    ticket_of(&says(WITH_KEY, &pay));
    let doubled = pay.replace("}}}", "},\"arguments\":{\"amount\":2}}}");
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &doubled);
    assert!(head.starts_with("HTTP/1.1 400 "), "{place}: {head}");
    is_disk_sound.store(false, Ordering::Relaxed);
    let unkept = error_of(&says("", &pay));
    assert_eq!((&*unkept.0, &unkept.2), ("503", &json!("approval_unkept")), "{place}: it could be made again");
    assert_eq!(server.calls(), 0, "{place}");
    is_disk_sound.store(true, Ordering::Relaxed);
    assert_eq!(says("", &pay).1["result"], json!({"content": []}), "{place}");
    assert_eq!(ticket_of(&says("", &pay)), ticket, "{place}: it was approved once");
    approvals.decide(ticket, false, "carol", MonotonicClock.now()).unwrap();
    assert_eq!(error_of(&says("", &pay)).2, json!("approval_denied"), "{place}");
    assert_eq!(server.calls(), 1, "{place}");
    tunnel.end();
}

/// A client that handles tasks is told of its call as a task, and nobody else is.
fn waits_as_task(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    let text = format!(
        "[[key]]\nname = 'batch'\nsha256 = '{KEY}'\n[[rule]]\nname = 'pays'\neffect = 'approve'\ntools = ['pay']\n\
         approval_wait_ms = 600_000\napproval_use_within_ms = 60_000\n"
    );
    let (mut policy, approvals) = (ToolPolicy::parse(&text).unwrap(), Arc::<Approvals>::default());
    policy.count_in(&Arc::default(), &approvals, "a.test");
    tunnel.govern(at_edge, &Arc::new(policy));
    let mut agent = tunnel.agent();
    let mut says = |method: &str, name: &str, fields: &str, params: Value| {
        let fields =
            format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\nMcp-Name: {name}\r\n{fields}");
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
        ask(&mut agent, "/mcp", &fields, &body)
    };
    let pay = |extensions: Value| {
        let capabilities = json!({"extensions": extensions});
        let meta = json!({"io.modelcontextprotocol/clientCapabilities": capabilities});
        json!({"name": "pay", "arguments": {"amount": 1}, "_meta": meta})
    };
    let tasks = || pay(json!({"io.modelcontextprotocol/tasks": {}}));
    let (head, made) = says("tools/call", "pay", "", tasks());
    let task = &made["result"];
    assert!(head.starts_with("HTTP/1.1 200 ") && made.get("error").is_none(), "{place}: {head} {made}");
    assert_eq!((&task["resultType"], &task["status"], &made["id"]), (&json!("task"), &json!("working"), &json!(7)));
    let (id, lasts) = (task["taskId"].as_str().unwrap().to_owned(), task["ttlMs"].as_u64().unwrap());
    assert!((599_000..=601_000).contains(&lasts) && task["pollIntervalMs"].as_u64() > Some(0), "{place}: {task}");
    assert!(task["createdAt"].as_str().unwrap().ends_with('Z'), "{place}: {task}");
    let (_, other) = says("tools/call", "pay", "", pay(json!({})));
    assert_eq!(other["error"]["data"]["ticket"], *id, "{place}: a client without tasks is told as before");

    let about = || json!({"taskId": id});
    let (_, polled) = says("tasks/get", &id, "", about());
    assert_eq!((&polled["result"]["resultType"], &polled["result"]["status"]), (&json!("complete"), &json!("working")));
    for method in ["tasks/cancel", "tasks/update"] {
        assert_eq!(says(method, &id, "", about()).1["result"], json!({"resultType": "complete"}), "{place} {method}");
    }
    // Whoever calls as somebody else, or for something else, learns nothing.
    let unknown = "apr_00000000000000000000000000000000";
    for (method, name, fields) in
        [("tasks/get", &*id, WITH_KEY), ("tasks/cancel", &id, WITH_KEY), ("tasks/get", unknown, "")]
    {
        let (_, answer) = says(method, name, fields, json!({"taskId": name}));
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(-32_602), &json!("task_unknown")), "{answer}");
    }
    let ticket = id.parse::<ApprovalTicket>().unwrap();
    approvals.decide(ticket, true, "carol", MonotonicClock.now()).unwrap();
    let ended = says("tasks/get", &id, "", about()).1["result"].clone();
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!(-31_074)), "{place}: {ended}");
    assert_eq!(ended["error"]["data"]["reason"], "approval_given", "{place}");
    assert_eq!(server.calls(), 0, "{place}: nothing of this has reached the server");
    assert_eq!(says("tools/call", "pay", "", tasks()).1["result"], json!({"content": []}), "{place}: once");
    assert_eq!(
        says("tasks/get", &id, "", about()).1["error"]["data"]["reason"],
        "task_unknown",
        "{place}: it was made"
    );
    assert_eq!(says("tools/call", "pay", "", tasks()).1["result"]["taskId"], *id, "{place}: approved once");
    approvals.decide(ticket, false, "carol", MonotonicClock.now()).unwrap();
    let ended = says("tasks/get", &id, "", about()).1["result"].clone();
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!(-31_071)), "{place}: {ended}");
    assert_eq!(server.calls(), 1, "{place}");
    tunnel.end();
}

#[test]
fn a_client_that_handles_tasks_waits_for_an_approval_as_for_a_task() {
    waits_as_task(DriverChoice::Epoll, Traffic::Plain, true);
    waits_as_task(DriverChoice::Uring, Traffic::Resealed, false);
    waits_as_task(DriverChoice::Epoll, Traffic::Passthrough, false);
}

/// Answers that have more than a rule lets them have.
fn withholds(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    let text = "[[rule]]\neffect = 'allow'\ntools = ['rows']\nanswer_rows_max = 3\nanswer_rows_at = '/rows'\n\
                [[rule]]\neffect = 'allow'\ntools = ['bytes']\nanswer_bytes_max = 5000\n";
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(text).unwrap()));
    for (tool, few, many) in [("rows", 3, 4), ("bytes", 2_000, 3_000)] {
        for path in ["/mcp", "/events"] {
            let place = format!("{place} {tool} {path}");
            let asks = |rows: usize| ask(&mut tunnel.agent(), path, "", &call(tool, &format!("{{\"rows\":{rows}}}")));
            let (_, passed) = asks(few);
            assert_eq!(passed["result"]["structuredContent"]["rows"].as_array().map(Vec::len), Some(few), "{place}");
            let (head, message) = asks(many);
            assert!(head.starts_with("HTTP/1.1 200 "), "{place}: {head}");
            let error = &message["error"];
            assert_eq!((&message["id"], &error["code"]), (&json!(7), &json!(-31_064)), "{place}: {message}");
            assert_eq!(error["data"]["reason"], "answer_too_large", "{place}: {message}");
            assert_eq!(error["data"]["may_have_acted"], true, "{place}: {message}");
        }
    }
    assert_eq!(server.calls(), 8, "{place}: no call is made twice");
    tunnel.end();
}

/// Answers that are cut, because the rule says so.
fn cuts(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    let text = "[[rule]]\neffect = 'allow'\ntools = ['rows']\nanswer_rows_max = 3\nanswer_rows_at = '/rows'\n\
                answer_over = 'cut'\n\
                [[rule]]\neffect = 'allow'\ntools = ['bytes']\nanswer_bytes_max = 5000\nanswer_over = 'cut'\n";
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(text).unwrap()));
    for path in ["/mcp", "/events"] {
        let place = format!("{driver:?} {traffic:?} at_edge={at_edge} {path}");
        let asks = |tool: &str, arguments: Value| {
            let (head, answer) = ask(&mut tunnel.agent(), path, "", &call(tool, &arguments.to_string()));
            assert!(head.starts_with("HTTP/1.1 200 ") && answer["id"] == 7, "{place}: {head} {answer}");
            answer
        };
        let rows = |result: &Value| result["structuredContent"]["rows"].as_array().map(Vec::len);
        let few = &asks("rows", json!({"rows": 3}))["result"];
        assert_eq!((rows(few), &few["_meta"]), (Some(3), &Value::Null), "{place}");
        let many = &asks("rows", json!({"rows": 100}))["result"];
        assert_eq!(rows(many), Some(3), "{place}: {many}");
        let marker = many["content"][0]["text"].as_str().unwrap();
        assert!(marker.contains("97 of 100 rows"), "{place}: {marker}");
        assert_eq!(many["_meta"]["adit/cut"]["rows"][0]["count"], 100, "{place}");

        let short = &asks("bytes", json!({"text": 4_000}))["result"];
        assert_eq!(short["content"], json!([{"type": "text", "text": "x".repeat(4_000)}]), "{place}");
        for len in [6_000, 300_000] {
            let answer = asks("bytes", json!({"text": len}));
            let content = &answer["result"]["content"];
            let (left, marker) = (content[0]["text"].as_str().unwrap(), content[1]["text"].as_str().unwrap());
            assert!(left.chars().all(|char| char == 'x') && left.len() > 4_000, "{place}: {}", left.len());
            assert!(
                answer.to_string().len() <= 5_000 && marker.contains(" are allowed, so that text is missing"),
                "{place}: {marker}"
            );
        }
        // Nothing of these rows can be left out, because nobody said where they are.
        let refused = asks("bytes", json!({"rows": 3_000}));
        assert_eq!(refused["error"]["code"], -31_064, "{place}: {refused}");
    }
    tunnel.end();
}

/// Answers that are not those to their own requests: on a stream that the caller resumes, and of tasks.
fn holds_later_answers(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let server = Server::start();
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[server.address]);
    let text = "[[rule]]\neffect = 'allow'\ntools = ['few']\nanswer_rows_max = 3\nanswer_rows_at = '/rows'\n\
                [[rule]]\neffect = 'allow'\ntools = ['free']\n\
                [[rule]]\neffect = 'allow'\nmethods = ['tasks/result']\n";
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(text).unwrap()));
    let session = "Mcp-Session-Id: s-1\r\n";
    let asks = |body: &str| ask(&mut tunnel.agent(), "/mcp", session, body).1;
    let count = |answer: &Value| answer["result"]["structuredContent"]["rows"].as_array().map(Vec::len);
    assert_eq!(count(&asks(&call("few", r#"{"rows":2}"#))), Some(2), "{place}");
    // As the Python SDK writes it: its id comes last.
    let last = r#"{"method":"tools/call","params":{"name":"free","arguments":{"rows":50}},"jsonrpc":"2.0","id":8}"#;
    assert_eq!(count(&asks(last)), Some(50), "{place}");

    let resumes = |fields: &str| -> Vec<Value> {
        let mut agent = tunnel.agent();
        let head = format!("GET /mcp HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n");
        agent.write_all(format!("{head}{fields}\r\n").as_bytes()).unwrap();
        let answer = read_answer(&mut agent);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{place}: {answer}");
        let events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
        events.map(|event| serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {answer}"))).collect()
    };
    let withheld = |answer: &Value| answer["error"]["code"] == -31_064;
    for (fields, is_known) in [(session, true), ("", false), ("Mcp-Session-Id: s-2\r\n", false)] {
        let reply = resumes(fields);
        assert_eq!(reply.len(), 4, "{place} {fields}: the stream goes on {reply:?}");
        assert!(withheld(&reply[0]) && reply[0]["id"] == 7, "{place} {fields}: {reply:?}");
        assert_eq!((withheld(&reply[1]), reply[1]["id"].as_u64()), (!is_known, Some(8)), "{place} {fields}: {reply:?}");
        assert!(withheld(&reply[2]), "{place} {fields}: nobody knows what it answers {reply:?}");
        assert_eq!(reply[3]["method"], "notifications/message", "{place} {fields}");
    }

    for (tool, task) in [("few", "t1"), ("free", "t2")] {
        let begun = asks(&call(tool, &json!({"task": task}).to_string()));
        assert_eq!(begun["result"]["task"]["taskId"], *task, "{place}: {begun}");
    }
    for (task, is_withheld) in [("t1", true), ("t2", false), ("t3", true)] {
        let params = json!({"taskId": task});
        let reply = asks(&json!({"jsonrpc": "2.0", "id": 9, "method": "tasks/result", "params": params}).to_string());
        assert_eq!(
            (withheld(&reply), count(&reply)),
            (is_withheld, (!is_withheld).then_some(10)),
            "{place} {task}: {reply}"
        );
    }
    tunnel.end();
}

#[test]
fn later_answers_are_held_to_the_ceilings_of_their_calls() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            holds_later_answers(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                holds_later_answers(driver, traffic, true);
            }
        }
    }
}

#[test]
fn an_answer_over_the_ceiling_is_cut_with_a_notice() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            cuts(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                cuts(driver, traffic, true);
            }
        }
    }
}

#[test]
fn an_answer_over_the_ceiling_is_replaced_by_an_error() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            withholds(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                withholds(driver, traffic, true);
            }
        }
    }
}

#[test]
fn an_approved_call_passes_once() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            waits(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                waits(driver, traffic, true);
            }
        }
    }
}

#[test]
fn a_call_over_a_ceiling_does_not_reach_the_server() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            holds(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                holds(driver, traffic, true);
            }
        }
    }
}
