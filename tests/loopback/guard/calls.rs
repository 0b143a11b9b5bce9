//! The list of the last calls: how far each came, and connections that made none.

use std::net::Ipv4Addr;

use adit::control::bodies::{CallInfo, CallStageName, CallsBody, TaskNamedBy, TasksBody};

use super::site::{LOCALHOST, Scale, Site, ask, serve};
use crate::process::command;

const DENIED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// One that is named in the body of a call.
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SECRET: &str = "a-secret-of-the-agent";

fn call(host: &str, tool: &str, fields: &str) -> String {
    call_with(host, tool, fields, "")
}

/// The same, with more members of `params`, each behind a comma.
fn call_with(host: &str, tool: &str, fields: &str, members: &str) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"x":"{SECRET}"}}{members}}}}}"#
    );
    format!(
        "POST /mcp?key={SECRET} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {SECRET}\r\n{fields}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The member `_meta` that names [`OTHER_TRACE`].
fn meta() -> String {
    format!(r#","_meta":{{"traceparent":"00-{OTHER_TRACE}-00f067aa0ba902b7-01"}}"#)
}

/// The calls that the edge lists.
fn calls(site: &Site, query: &str) -> Vec<CallInfo> {
    read::<CallsBody>(site, &format!("calls?{query}")).calls
}

fn read<T: serde::de::DeserializeOwned>(site: &Site, path: &str) -> T {
    let body = site.body(path);
    assert!(!body.contains(SECRET), "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn code(call: &CallInfo) -> Option<&str> {
    call.answered.as_ref().map(|answered| &*answered.code)
}

#[test]
fn every_call_and_every_connection_that_made_none_is_listed_with_where_it_stopped() {
    let mut site = Site::without_connectors([""; 2], "[admission]\ndeny_from = \"127.0.0.9\"\n");
    site.connect(0, &["one.test"]);
    let mut agent = site.agent(LOCALHOST, "one.test", b"").unwrap();
    let trace = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n");
    assert!(ask(&mut agent, &call("one.test", "search", &trace)).unwrap().starts_with("HTTP/1.1 200 "));
    let message = ask(&mut agent, &call_with("two.test", "other", "", &meta())).unwrap();
    assert!(message.starts_with("HTTP/1.1 503 "), "{message}");
    assert!(ask(&mut agent, &call("three.test", "other", "")).unwrap().starts_with("HTTP/1.1 421 "));
    // The agent finds the certificate to be for other names.
    assert!(site.agent(LOCALHOST, "three.test", b"").is_err());
    assert!(site.agent(DENIED, "one.test", b"").is_err());
    let mut broken = site.agent(LOCALHOST, "one.test", b"").unwrap();
    assert!(ask(&mut broken, "GET /\r\n\r\n").unwrap().starts_with("HTTP/1.1 400 "));

    let all = calls(&site, "limit=1000");
    let seen = |stage, code_of: Option<&str>| {
        all.iter().filter(|call| (call.stopped_at, code(call)) == (stage, code_of)).collect::<Vec<_>>()
    };
    let [answered] = seen(CallStageName::Done, None)[..] else { panic!("{all:#?}") };
    assert_eq!((answered.status, answered.outcome.as_deref()), (Some(200), Some("ok")));
    assert_eq!((answered.method.as_deref(), answered.tool.as_deref()), (Some("tools/call"), Some("search")));
    assert_eq!((answered.host.as_deref(), answered.tunnel.as_deref()), (Some("one.test"), Some("tnl_0")));
    assert_eq!((answered.trace_id.as_deref(), answered.from.as_deref()), (Some(TRACE), Some("127.0.0.1")));
    assert!(answered.connector.is_some() && answered.phases.contains_key("upstream"), "{answered:#?}");
    let [offline] = seen(CallStageName::Link, Some("connector_offline"))[..] else { panic!("{all:#?}") };
    assert_eq!((offline.status, offline.host.as_deref()), (Some(503), Some("two.test")));
    assert!(offline.decisions.iter().any(|decision| decision.rule.contains("waited")), "{offline:#?}");
    // The agent is told by which ids its operator finds the call.
    let message: serde_json::Value = serde_json::from_str(message.split_once("\r\n\r\n").unwrap().1).unwrap();
    let data = &message["error"]["data"];
    assert_eq!((data["call"].as_str(), data["trace"].as_str()), (offline.id.as_deref(), Some(OTHER_TRACE)));
    assert_eq!(
        (&data["tool"], &data["tunnel"], offline.trace_id.as_deref()),
        (&"other".into(), &"tnl_1".into(), Some(OTHER_TRACE))
    );
    let [unknown] = seen(CallStageName::Route, Some("unknown_host"))[..] else { panic!("{all:#?}") };
    assert_eq!((unknown.status, unknown.host.as_deref()), (Some(421), Some("three.test")));
    assert_eq!(seen(CallStageName::Tls, Some("tls_failed")).len(), 1, "{all:#?}");
    let [denied] = seen(CallStageName::Accept, Some("address_denied"))[..] else { panic!("{all:#?}") };
    assert_eq!((denied.from.as_deref(), &denied.id), (Some("127.0.0.9"), &None));
    assert_eq!(seen(CallStageName::Request, Some("bad_request_head")).len(), 1, "{all:#?}");

    let only = |found: Vec<CallInfo>, call: &CallInfo| {
        let ids: Vec<_> = found.iter().map(|found| &found.id).collect();
        assert_eq!(ids, [&call.id]);
    };
    only(calls(&site, &format!("id={TRACE}")), answered);
    only(calls(&site, &format!("id={OTHER_TRACE}")), offline);
    only(calls(&site, &format!("id={}", offline.id.as_ref().unwrap())), offline);
    only(calls(&site, "host=three.test"), unknown);
    assert!(calls(&site, "failed=true").iter().all(|call| call.id != answered.id));

    let admin = site.admin.to_string();
    let run = |args: &[&str]| {
        let output = command(&[args, &["--admin", &admin]].concat()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        (output.status.code(), text)
    };
    let (status, listed) = run(&["calls", "--host", "three.test", "--since", "1h"]);
    assert_eq!((status, listed.lines().count()), (Some(0), 2), "{listed}");
    assert!(listed.contains("unknown_host") && listed.contains("route"), "{listed}");
    let (status, story) = run(&["explain", TRACE]);
    assert!(status == Some(0) && story.contains("search") && story.contains("upstream"), "{story}");
    assert_eq!(run(&["explain", &"a".repeat(32)]), (Some(1), String::new()));
    assert_eq!(run(&["explain", "no-id"]).0, Some(1));
}

#[test]
fn calls_of_one_task_are_counted_with_repeats_and_cost() {
    let prices = "[[tool]]\nhost = \"one.test\"\ntool = \"search\"\nprice_per_call = \"0.25\"\n\
                  [[tool]]\nhost = \"two.test\"\ntool = \"search\"\nprice_per_call = \"0.25\"\n";
    let scale = Scale {
        edge: "tasks_max = 100\ntask_header = \"X-Task\"\nprice_per_million_tokens = \"1000000\"\n",
        ..Scale::default()
    };
    let mut site = Site::scaled(scale, [""; 2], prices);
    let upstream =
        serve(|_| "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{\"a\": 1}");
    site.connect_to(0, &["one.test"], &format!("http://{upstream}"));
    let mut agent = site.agent(LOCALHOST, "one.test", b"").unwrap();
    let mut ask_for = |tool: &str, fields: &str| {
        assert!(ask(&mut agent, &call("one.test", tool, fields)).unwrap().starts_with("HTTP/1.1 200 "));
    };
    let session = format!("Mcp-Session-Id: {SECRET}\r\n");
    (0..3).for_each(|_| ask_for("search", &session));
    ask_for("fetch", &session);
    ask_for("fetch", &format!("X-Task: run-7\r\n{session}"));
    ask_for("search", "");
    // No connector serves this host.
    let refused = call_with("two.test", "search", "", &meta());
    (0..2).for_each(|_| assert!(ask(&mut agent, &refused).unwrap().starts_with("HTTP/1.1 503 ")));

    let body: TasksBody = read(&site, "tasks?by=calls");
    assert!(body.counted && body.tasks.len() == 3, "{body:#?}");
    let of_session = &body.tasks[0];
    let summary = &of_session.summary;
    assert_eq!((of_session.named_by, of_session.tools), (TaskNamedBy::Session, 2));
    assert_eq!((summary.calls, summary.repeated, summary.amplification), (4, 2, 2.0));
    // Two tokens for each answer, at one each; and the price of three calls.
    assert_eq!((summary.answer_bytes, summary.answer_tokens, summary.cost), (32, 8, 8.75));
    // What did not reach the tool is not charged.
    let of_trace = &body.tasks[1];
    assert_eq!((of_trace.named_by, &*of_trace.id), (TaskNamedBy::Trace, OTHER_TRACE));
    assert_eq!((of_trace.summary.calls, of_trace.summary.repeated, of_trace.summary.cost), (2, 1, 0.0));
    assert_eq!((body.tasks[2].named_by, &*body.tasks[2].id), (TaskNamedBy::Header, "run-7"));
    assert_eq!((body.total.calls, body.forgotten), (7, 0));
    assert_eq!((site.count("task_calls"), site.count("task_calls_repeated")), (7, 3));

    let output = command(&["tasks", "--by", "calls", "--admin", &site.admin.to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().nth(3).is_some_and(|row| row.starts_with("run-7")), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}
