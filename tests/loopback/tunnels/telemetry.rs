//! Traces and metrics of an edge and a connector, as a collector decodes them with the messages of the OpenTelemetry project.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use super::site::Site;
use crate::fetched::{REQUIREMENTS, fetch_python, fetched, python_of};
use crate::process::{Adit, PATIENCE, command};
use crate::support::read_message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACE_IN_MESSAGE: &str = "5bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that prints what it decodes.
struct Collector {
    child: Child,
    lines: Receiver<Value>,
    url: String,
    /// The spans and metrics so far, by service.
    spans: Vec<Value>,
    metrics: BTreeMap<String, Vec<Value>>,
    refused: usize,
}

impl Collector {
    /// Starts it; a busy one refuses the first request with spans.
    fn start(is_busy: bool) -> Collector {
        let pins = include_str!("telemetry/requirements.txt");
        let home = fetched("telemetry", &[(REQUIREMENTS, pins)], fetch_python);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/tunnels/telemetry/collector.py");
        let mut child = Command::new(python_of(&home))
            .arg(script)
            .args(is_busy.then_some("busy"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.map(|line| serde_json::from_str(&line).unwrap()).all(|line: Value| sender.send(line).is_ok())
        });
        let port = lines.recv_timeout(PATIENCE).unwrap()["port"].to_string();
        let url = format!("http://127.0.0.1:{port}");
        Collector { child, lines, url, spans: Vec::new(), metrics: BTreeMap::new(), refused: 0 }
    }

    /// Reads the next request.
    fn next(&mut self) {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        assert_eq!((&line["unknown"], &line["type"]), (&json!(0), &json!("application/x-protobuf")), "{line}");
        assert_eq!(line["token"], "a-secret", "{line}");
        if line["status"] != 200 {
            self.refused += 1;
            return;
        }
        self.spans.extend(line["spans"].as_array().unwrap().iter().cloned());
        for metric in line["metrics"].as_array().unwrap() {
            let name = metric["name"].as_str().unwrap().to_owned();
            self.metrics.entry(name).or_default().push(metric.clone());
        }
    }

    /// The spans of a call by service and phase, once all are there.
    fn spans_of(&mut self, tool: &str, count: usize) -> BTreeMap<String, Value> {
        loop {
            let is_of = |span: &&Value| span["attributes"]["gen_ai.tool.name"] == tool;
            let found = self.spans.iter().filter(is_of);
            let by_phase: BTreeMap<String, Value> =
                found.map(|span| (text(&span["attributes"]["adit.phase"]), span.clone())).collect();
            if by_phase.len() >= count {
                return by_phase;
            }
            self.next();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An MCP server that answers with the head of the request.
fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                loop {
                    let message = read_message(&mut stream);
                    if message.is_empty() {
                        return;
                    }
                    let body = json!({"jsonrpc": "2.0", "id": 7, "result": {"request": message}}).to_string();
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
                    if write!(stream, "{head}{}\r\n\r\n{body}", body.len()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Calls a tool with this header field and this `_meta`, and returns what the server received.
fn call(agents: SocketAddr, tool: &str, field: &str, meta: &Value) -> String {
    let params = json!({"name": tool, "_meta": meta});
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).to_string();
    let mut stream = TcpStream::connect(agents).unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: a.test\r\nMcp-Session-Id: a-session\r\nMCP-Protocol-Version: 2025-11-25\r\n{field}\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let answer = read_message(&mut stream);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    text(&answer["result"]["request"])
}

fn is_within(inner: &Value, outer: &Value) -> bool {
    let time = |span: &Value, name: &str| span[name].as_u64().unwrap();
    time(outer, "start") <= time(inner, "start") && time(inner, "end") <= time(outer, "end")
}

#[test]
fn a_collector_gets_one_trace_of_edge_and_connector_and_the_metrics() {
    for driver in ["epoll", "uring"] {
        let mut collector = Collector::start(true);
        let mut site = Site::new(driver);
        let made = site.create(&["--host", "a.test"]);
        site.end_edge();
        let headers = site.data_dir().with_file_name("otlp.headers");
        adit::private::write(&headers, b"# for the collector\nX-Token: a-secret\n").unwrap();
        let otlp = format!("[otlp]\nendpoint = '{}/'\nheaders_file = '{}'\n", collector.url, headers.display());
        site.configure(&format!("{otlp}traces_interval_ms = 100\nmetrics_interval_ms = 100\n"));
        site.run_edge(driver);
        let config = site.data_dir().with_file_name("connect.toml");
        let policy = site.data_dir().with_file_name("policy.toml");
        let rules = "[[rule]]\nname = 'most'\neffect = 'allow'\n[[rule]]\nname = 'none'\ntools = ['forbidden']\neffect = 'deny'\n";
        adit::private::write(&policy, rules.as_bytes()).unwrap();
        let route = format!(
            "[[route]]\nhost = 'a.test'\nupstream = 'http://{}'\npolicy_file = '{}'\n",
            mirror(),
            policy.display()
        );
        // The spans of the connector are sent when it ends.
        let settings = format!(
            "{otlp}traces_interval_ms = 60000\nmetrics_interval_ms = 0\n[engine]\ndriver = '{driver}'\n{route}"
        );
        adit::private::write(&config, settings.as_bytes()).unwrap();
        let args = site.connector_args_of(&config, &made.token.tunnel_token);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let connector = Adit::start(&args);
        connector.event("linked");

        let field = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: vendor=1\r\n");
        let received = call(site.agents, "in-head", &field, &json!({}));
        assert!(received.contains(&field), "the caller's ids reach the server as they are: {received}");
        let meta = json!({"traceparent": format!("00-{TRACE_IN_MESSAGE}-{PARENT}-01")});
        call(site.agents, "in-message", "", &meta);
        call(site.agents, "unsampled", &format!("traceparent: 00-{TRACE}-{PARENT}-00\r\n"), &json!({}));
        call(site.agents, "forbidden", "", &json!({}));
        call(site.agents, "alone", "", &json!({}));
        // The refusal is for the first spans, which are those of the edge.
        collector.spans_of("alone", 2);
        connector.signal("TERM");
        assert_eq!(connector.ended(), Some(0));
        assert_eq!(site.call("a.test", "offline").0, 503);

        for (tool, trace, parent) in
            [("in-head", Some(TRACE), PARENT), ("in-message", Some(TRACE_IN_MESSAGE), PARENT), ("alone", None, "")]
        {
            let spans = collector.spans_of(tool, 4);
            let [edge, tunnel, connector, upstream] =
                ["edge", "tunnel", "connector", "upstream"].map(|phase| &spans[phase]);
            let trace = trace.map_or_else(|| text(&edge["trace"]), str::to_owned);
            assert!(trace.len() == 32 && spans.values().all(|span| span["trace"] == *trace), "{spans:#?}");
            let parents = [edge, tunnel, connector, upstream].map(|span| text(&span["parent"]));
            let of = |span: &Value| text(&span["span"]);
            assert_eq!(parents, [parent.to_owned(), of(edge), of(tunnel), of(connector)]);
            let kinds = [edge, tunnel, connector, upstream].map(|span| &span["kind"]);
            let [server, client] = [json!("SPAN_KIND_SERVER"), json!("SPAN_KIND_CLIENT")];
            assert_eq!(kinds, [&server, &client, &server, &client]);
            assert_eq!((&edge["name"], &tunnel["name"]), (&json!(format!("tools/call {tool}")), &json!("tunnel")));
            assert_eq!((&edge["service"], &connector["service"]), (&json!("adit-edge"), &json!("adit-connector")));
            assert!(is_within(tunnel, edge) && is_within(upstream, connector), "{spans:#?}");
            assert_eq!((&tunnel["events"], &upstream["events"]), (&json!(["first_byte"]), &json!(["first_byte"])));
            let attributes = &edge["attributes"];
            assert_eq!(attributes["adit.call"], connector["attributes"]["adit.call"]);
            assert_eq!(attributes["mcp.session.id"], connector["attributes"]["mcp.session.id"]);
            assert!(!edge.to_string().contains("a-session") && attributes["adit.phase.tunnel_us"].is_u64(), "{edge}");
        }
        let offline = collector.spans_of("offline", 1);
        let edge = &offline["edge"];
        assert_eq!(
            (offline.len(), &edge["status"], &edge["attributes"]["error.type"]),
            (1, &json!(2), &json!("connector_offline"))
        );
        let forbidden = collector.spans_of("forbidden", 3);
        let denied = &forbidden["connector"];
        assert_eq!((denied["status"].as_u64(), text(&denied["parent"])), (Some(2), text(&forbidden["tunnel"]["span"])));
        assert_eq!(denied["attributes"]["adit.outcome"], "denied");
        assert_eq!((collector.refused, collector.spans.len()), (1, 3 * 4 + 3 + 1), "a refused request is sent again");

        while !collector.metrics.contains_key("adit_call_phase_duration") {
            collector.next();
        }
        let calls = &collector.metrics["adit_calls"].last().unwrap()["sum"];
        assert_eq!(
            (&calls["isMonotonic"], &calls["aggregationTemporality"]),
            (&json!(true), &json!("AGGREGATION_TEMPORALITY_CUMULATIVE"))
        );
        let durations = &collector.metrics["adit_call_phase_duration"][0];
        let point = &durations["histogram"]["dataPoints"][0];
        let len = |name: &str| point[name].as_array().unwrap().len();
        assert_eq!((&durations["unit"], len("bucketCounts")), (&json!("s"), len("explicitBounds") + 1));
        site.end_edge();
    }
}

#[test]
fn up_exports_the_spans_of_both_roles() {
    let mut collector = Collector::start(false);
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("otlp.headers");
    adit::private::write(&headers, b"X-Token: a-secret\n").unwrap();
    let mut up = command(&["up", "--once", "--json"]);
    up.env("ADIT_OTLP_ENDPOINT", &collector.url).env("ADIT_OTLP_HEADERS_FILE", &headers);
    up.env("ADIT_OTLP_SAMPLE_RATIO", "0.1");
    let out = up.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let spans = collector.spans_of("echo", 4);
    let services = ["edge", "tunnel", "connector", "upstream"].map(|phase| text(&spans[phase]["service"]));
    assert_eq!(services, ["adit-edge", "adit-edge", "adit-connector", "adit-connector"]);
}
