//! The program as people run it: `adit up`, and `adit edge` with `adit connect`, as processes of their own.

mod foreign;
mod printed;
mod registrations;
mod trust;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::process::{Adit, PATIENCE, command};
use adit::control::RoleKind;
use adit::control::bodies::{CallStageName, CallsBody, StatusBody};
use adit::private;
use adit::tls::Authority;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use reqwest::{Certificate, Client};
use rustls_pki_types::UnixTime;
use serde_json::Value;
use tokio::sync::{Semaphore, broadcast};

const UP: [&str; 6] = ["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
const ADMIN_PATHS: [&str; 8] =
    ["/healthz", "/metrics", "/readyz", "/v1/calls", "/v1/identity-keys", "/v1/latency", "/v1/status", "/v1/tasks"];

#[test]
fn two_hundred_calls_go_through_and_their_time_is_taken_apart() {
    let out = command(&["up", "--once", "--json"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&object["calls"], &object["failed"]), (&Value::from(200), &Value::from(0)));
    assert!(["uring", "epoll"].contains(&object["driver"].as_str().unwrap()));
    assert!(object["agent_url"].as_str().unwrap().starts_with("https://localhost:"));
    assert!(object["admin_url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    for phase in ["edge", "tunnel", "connector", "upstream", "total"] {
        let at = |quantile: &str| object["phases"][phase][quantile].as_f64().unwrap();
        let sorted = [at("p50_us"), at("p95_us"), at("p99_us"), at("max_us")];
        assert!(sorted[0] > 0.0 && sorted.is_sorted(), "{phase}: {sorted:?}");
    }
}

#[test]
fn the_split_is_a_table_for_people() {
    let out = command(&["up", "--once", "--host", "tools.test", "--driver", "epoll"]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let table = String::from_utf8(out.stdout).unwrap();
    assert!(table.starts_with("200 calls of the tool echo through the tunnel, 0 failed, driver epoll\n"), "{table}");
    let rows: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().next()).skip(1).collect();
    assert_eq!(rows, ["microseconds", "edge", "tunnel", "connector", "upstream", "total"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("driver: epoll (as asked for)"));
}

#[test]
fn each_exit_code_of_the_table_is_used() {
    for (code, args) in [
        (0, &["version", "--json"][..]),
        (1, &["calls", "--admin", "http://127.0.0.1:1"]),
        (2, &["edge", "--config", "no such file.toml"]),
        (2, &["up", "--no-such-flag"]),
    ] {
        assert!(adit::cli::EXIT_CODES.iter().any(|(known, _)| *known == code));
        let out = command(args).output().unwrap();
        assert_eq!(out.status.code(), Some(i32::from(code)), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }
    let out = command(&["calls", "--admin", "http://127.0.0.1:1"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.ends_with("more in docs/OPERATING.md#when-something-is-wrong\n"), "{stderr}");
}

#[test]
fn an_upstream_that_is_not_there_fails_with_code_1() {
    let out = command(&["up", "--once", "--json", "--upstream", "http://127.0.0.1:9/mcp"]).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("no MCP session with https://localhost:"));
}

#[test]
fn an_address_in_use_is_reported_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin"] {
        let out = command(&["up", "--once", flag, &address]).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains(flag), "{stderr}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_code_2_and_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adit.toml");
    std::fs::write(&path, "[edge]\nagents_listn = \"127.0.0.1:0\"\ndrain_timeout_ms = \"soon\"\n").unwrap();
    let out = command(&["edge", "--config", path.to_str().unwrap()]).output().unwrap();
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("adit.toml:2: edge.agents_listn: unknown key, did you mean"), "{stderr}");
    assert!(stderr.contains("adit.toml:3: edge.drain_timeout_ms: "), "{stderr}");
    assert!(stderr.contains("tunnel: missing"), "{stderr}");
    assert_eq!(command(&["connect"]).output().unwrap().status.code(), Some(2));
    assert_eq!(command(&["up", "--host", "not a host"]).output().unwrap().status.code(), Some(2));
}

#[tokio::test]
async fn the_admin_api_of_up_answers_and_up_ends_on_a_signal() {
    let adit = Adit::start(&UP);
    let [listening, _] = adit.events(["listening", "linked"]);
    let admin = listening["admin_url"].as_str().unwrap().to_owned();
    let client = Client::new();
    for path in ADMIN_PATHS {
        let answer = client.get(format!("{admin}{path}")).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {body}");
    }
    let text = client.get(format!("{admin}/v1/status")).send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("secret"));
    let status: StatusBody = serde_json::from_str(&text).unwrap();
    assert_eq!(status.roles, [RoleKind::Edge, RoleKind::Connector]);
    assert_eq!(status.agent_url.as_deref(), listening["agent_url"].as_str());
    assert!(status.roles.iter().all(|role| status.links.iter().any(|link| link.role == *role)), "{status:#?}");
    // The probe of /readyz went all the way, and left no session with the demo server.
    let metrics = client.get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("adit_calls_total{route=\"localhost\",method=\"unknown\""), "{metrics}");

    let ca = PathBuf::from(listening["ca_file"].as_str().unwrap());
    let pem = std::fs::read(&ca).unwrap();
    let agents: SocketAddr = listening["agents"].as_str().unwrap().parse().unwrap();
    let https = client_trusting(&pem, "localhost", agents);
    let answer = https.get(format!("https://localhost:{}/nothing", agents.port())).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert!(answer.headers()["server-timing"].to_str().unwrap().contains("upstream;dur="));
    let plain = client.get(format!("http://{agents}/nothing")).send().await.unwrap();
    assert_eq!(plain.status(), 404, "plain HTTP is spoken over loopback, at the same port");

    let initialize = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" },
        },
    });
    let called = client.post(format!("http://{agents}/mcp")).header("accept", "application/json, text/event-stream");
    let called = called.json(&initialize).send().await.unwrap();
    let (status, text) = (called.status(), called.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    let shown = command(&["latency", "--admin", &admin, "--route", "localhost"]).output().unwrap();
    let table = String::from_utf8(shown.stdout).unwrap();
    let row = table.lines().find(|line| line.contains(" initialize ")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("120000    too few calls  observe"), "{table}");
    let shown = command(&["latency", "--admin", &admin, "--json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let label = json["labels"].as_array().unwrap().iter().find(|label| label["method"] == "initialize").unwrap();
    assert_eq!((&label["deadline"]["why"], &label["deadline"]["missed"]), (&"cold".into(), &0.into()));
    assert_eq!(command(&["latency", "--admin", "127.0.0.1:1"]).output().unwrap().status.code(), Some(1));
    let shown = command(&["breakers", "--admin", &admin]).output().unwrap();
    let table = String::from_utf8(shown.stdout).unwrap();
    let row = table.lines().find(|line| line.contains(" initialize ")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("closed") && row.contains("observe"), "{table}");

    // Both roles keep the call, under one number.
    let shown = command(&["calls", "--admin", &admin, "--host", "localhost", "--json"]).output().unwrap();
    let listed: CallsBody = serde_json::from_slice(&shown.stdout).unwrap();
    let called = listed.calls.iter().find(|call| call.method.as_deref() == Some("initialize")).unwrap();
    let shown = command(&["explain", "--admin", &admin, called.id.as_ref().unwrap(), "--json"]).output().unwrap();
    let of_both: CallsBody = serde_json::from_slice(&shown.stdout).unwrap();
    let mut roles: Vec<_> = of_both.calls.iter().map(|call| (call.role, call.stopped_at, call.status)).collect();
    roles.sort_by_key(|(role, ..)| *role);
    assert_eq!(roles, [RoleKind::Edge, RoleKind::Connector].map(|role| (role, CallStageName::Done, Some(200))));
    assert!(of_both.calls.iter().all(|call| call.phases.contains_key("upstream") && call.route.is_some()));

    adit.signal("TERM");
    adit.event("ended");
    assert_eq!(adit.ended(), Some(0));
    assert!(!ca.exists());
}

/// The connector sees such a call end as one that the edge has given up.
#[tokio::test]
async fn both_roles_list_a_cut_call_under_the_number_in_its_answer() {
    // It takes connections and answers nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let adit = Adit::start(&[&UP[..], &["--upstream", &format!("http://{}", silent.local_addr().unwrap())]].concat());
    let [listening, _] = adit.events(["listening", "linked"]);
    let (admin, agents) = (listening["admin_url"].as_str().unwrap(), listening["agents"].as_str().unwrap());
    let message =
        serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "look" } });
    let called = Client::new().post(format!("http://{agents}/mcp")).header("x-request-timeout", "300ms").json(&message);
    let called = called.send().await.unwrap();
    assert_eq!(called.status(), 504);
    let error: Value = serde_json::from_str(&called.text().await.unwrap()).unwrap();
    let id = error["error"]["data"]["call"].as_str().unwrap_or_else(|| panic!("{error}"));
    let of_both = || {
        let shown = command(&["explain", "--admin", admin, id, "--json"]).output().unwrap();
        serde_json::from_slice::<CallsBody>(&shown.stdout).map(|body| body.calls).unwrap_or_default()
    };
    // The connector learns of it a moment later.
    let roles =
        (0..50).map(|_| of_both().iter().map(|call| call.role).collect::<Vec<_>>()).find(|roles| roles.len() > 1);
    let mut roles = roles.unwrap_or_else(|| panic!("{:#?}", of_both()));
    roles.sort();
    assert_eq!(roles, [RoleKind::Edge, RoleKind::Connector]);
}

#[tokio::test]
async fn a_proxy_in_front_of_a_dead_server_is_not_health() {
    let router = Router::new().fallback(|| async { (axum::http::StatusCode::BAD_GATEWAY, "no server behind") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let adit = Adit::start(&[&UP[..], &["--upstream", &proxy]].concat());
    let [listening, _] = adit.events(["listening", "linked"]);
    let (admin, agents) = (listening["admin_url"].as_str().unwrap(), listening["agents"].as_str().unwrap());
    let client = Client::new();
    let answer = client.post(format!("http://{agents}/mcp")).body("{}").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (502, "no server behind"));

    let ready = client.get(format!("{admin}/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    let why = ready.text().await.unwrap();
    assert!(why.contains("as a proxy does when the server behind it is down"), "{why}");
    let metrics = client.get(format!("{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    let has = |name: &str, end: &str| metrics.lines().any(|line| line.starts_with(name) && line.ends_with(end));
    assert!(has("adit_upstream_failing{", " 1.0"), "{metrics}");
    assert!(metrics.contains("class=\"gateway\""), "{metrics}");
    let status: StatusBody = client.get(format!("{admin}/v1/status")).send().await.unwrap().json().await.unwrap();
    let mut whys = status.upstreams.iter().filter_map(|upstream| upstream.why.as_deref());
    assert!(whys.any(|why| why.contains("a proxy answers for the upstream")), "{status:#?}");
}

#[tokio::test]
async fn routes_reload_without_dropping_a_stream() {
    let site = Site::start().await;
    let client = site.client("one.test");
    let mut stream = client.get(site.url("one.test", "/events")).send().await.unwrap();
    assert_eq!(next(&mut stream).await, "data: hello\n\n");
    assert_eq!(site.client("two.test").get(site.url("two.test", "/")).send().await.unwrap().status(), 421);

    site.write_configs(&["two.test", "one.test"]);
    site.connect.signal("HUP");
    site.connect.event("reloaded");
    site.edge.signal("HUP");
    site.edge.event("reloaded");
    assert_eq!(site.client("two.test").get(site.url("two.test", "/")).send().await.unwrap().status(), 200);
    site.upstream.events.send("data: still here\n\n").unwrap();
    assert_eq!(next(&mut stream).await, "data: still here\n\n");
}

#[tokio::test]
async fn a_faulty_configuration_changes_nothing_and_is_reported() {
    let site = Site::start().await;
    std::fs::write(site.dir.path().join("edge.toml"), "[edge]\nagents_listn = 1\n").unwrap();
    site.edge.signal("HUP");
    let faults = site.edge.event("reload_refused")["faults"].to_string();
    assert!(faults.contains("agents_listn") && faults.contains("tunnel"), "{faults}");
    assert_eq!(site.client("one.test").get(site.url("one.test", "/")).send().await.unwrap().status(), 200);
    let status: StatusBody =
        Client::new().get(format!("http://{}/v1/status", site.admin)).send().await.unwrap().json().await.unwrap();
    // The watched file may have brought a second try.
    assert!(status.reload.refused >= 1 && status.reload.applied == 0, "{status:#?}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_once_its_file_has_changed() {
    let site = Site::start().await;
    let renewed = Authority::new("renewed", UnixTime::now(), 1).unwrap();
    write_cert(&renewed, site.dir.path(), "agents", &["one.test"]);
    // Nobody sends a signal: the file is watched.
    site.edge.event("reloaded");
    let client = client_trusting(renewed.cert_pem().as_bytes(), "one.test", site.agents);
    assert_eq!(client.get(site.url("one.test", "/")).send().await.unwrap().status(), 200);
    assert!(site.client("one.test").get(site.url("one.test", "/")).send().await.is_err());
}

#[tokio::test]
async fn a_call_in_flight_is_finished_when_the_edge_ends() {
    let site = Site::start().await;
    let (client, url) = (site.client("one.test"), site.url("one.test", "/slow"));
    let call = tokio::spawn(async move { client.get(url).send().await.unwrap().text().await.unwrap() });
    let arrived = site.upstream.arrived.acquire().await.unwrap();
    site.edge.signal("TERM");
    site.edge.event("draining");
    site.upstream.release.add_permits(1);
    assert_eq!(call.await.unwrap(), "slow but sure");
    drop(arrived);
    let Site { edge, connect, .. } = site;
    assert_eq!(edge.ended(), Some(0));
    connect.event("unlinked");
    connect.signal("TERM");
    assert_eq!(connect.ended(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let site = Site::start().await;
    let (client, url) = (site.client("one.test"), site.url("one.test", "/slow"));
    let call = tokio::spawn(async move { client.get(url).send().await });
    let _arrived = site.upstream.arrived.acquire().await.unwrap();
    site.edge.signal("TERM");
    site.edge.event("draining");
    let Site { edge, .. } = site;
    assert_eq!(edge.ended_by("INT"), Some(1));
    assert!(call.await.unwrap().is_err());
}

/// An edge and a connector as processes of their own, with an upstream in this one.
struct Site {
    dir: tempfile::TempDir,
    authority: Authority,
    upstream: Upstream,
    upstream_address: SocketAddr,
    agents: SocketAddr,
    connectors: SocketAddr,
    admin: String,
    edge: Adit,
    connect: Adit,
}

/// What the upstream's answers wait for.
#[derive(Clone)]
struct Upstream {
    events: broadcast::Sender<&'static str>,
    arrived: Arc<Semaphore>,
    release: Arc<Semaphore>,
}

impl Site {
    async fn start() -> Site {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::new("test", UnixTime::now(), 1).expect("an authority");
        write_cert(&authority, dir.path(), "agents", &["one.test", "two.test"]);
        write_cert(&authority, dir.path(), "link", &["localhost"]);
        std::fs::write(dir.path().join("ca.pem"), authority.cert_pem()).expect("written");
        let (upstream, upstream_address) = Upstream::start().await;
        write_edge(dir.path(), &["one.test"]);
        let edge = Adit::start(&["edge", "--json", "--config", &text(&dir.path().join("edge.toml"))]);
        let listening = edge.event("listening");
        let address = |key: &str| listening[key].as_str().expect("an address").parse().expect("an address");
        let (agents, connectors): (SocketAddr, SocketAddr) = (address("agents"), address("connectors"));
        let admin = listening["admin"].as_str().expect("an address").to_owned();
        write_connect(dir.path(), connectors, upstream_address, &["one.test"]);
        let connect = Adit::start(&["connect", "--json", "--config", &text(&dir.path().join("connect.toml"))]);
        connect.event("linked");
        edge.event("linked");
        Site { dir, authority, upstream, upstream_address, agents, connectors, admin, edge, connect }
    }

    fn write_configs(&self, hosts: &[&str]) {
        write_connect(self.dir.path(), self.connectors, self.upstream_address, hosts);
        write_edge(self.dir.path(), hosts);
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.agents.port())
    }

    fn client(&self, host: &str) -> Client {
        client_trusting(self.authority.cert_pem().as_bytes(), host, self.agents)
    }
}

impl Upstream {
    async fn start() -> (Upstream, SocketAddr) {
        let (arrived, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let upstream = Upstream { events: broadcast::channel(8).0, arrived, release };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/events", get(events))
            .route("/slow", get(slow))
            .with_state(upstream.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        (upstream, address)
    }
}

async fn slow(State(upstream): State<Upstream>) -> &'static str {
    upstream.arrived.add_permits(1);
    let _released = upstream.release.acquire().await.expect("it is never closed");
    "slow but sure"
}

async fn events(State(upstream): State<Upstream>) -> ([(&'static str, &'static str); 1], Body) {
    let events = upstream.events.subscribe();
    let stream = futures_lite::stream::unfold((Some("data: hello\n\n"), events), |(first, mut events)| async move {
        let event = match first {
            Some(first) => first,
            None => events.recv().await.ok()?,
        };
        Some((Ok::<_, Infallible>(Bytes::from_static(event.as_bytes())), (None, events)))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(stream))
}

async fn next(stream: &mut reqwest::Response) -> String {
    let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("in time").expect("the stream lives");
    String::from_utf8(chunk.expect("the stream goes on").to_vec()).expect("text")
}

pub(crate) fn client_trusting(pem: &[u8], host: &str, at: SocketAddr) -> Client {
    let certs = Certificate::from_pem_bundle(pem).expect("a certificate");
    let builder = Client::builder().tls_certs_only(certs).resolve(host, at).no_proxy();
    builder.timeout(PATIENCE).build().expect("a client")
}

fn write_cert(authority: &Authority, dir: &Path, name: &str, hosts: &[&str]) {
    let issued = authority.issue(hosts).expect("a certificate");
    // The key goes first: the two are read when they have settled, and then together.
    private::write(&dir.join(format!("{name}.key")), issued.key_pem.expose()).expect("written");
    std::fs::write(dir.join(format!("{name}.crt")), issued.cert_pem).expect("written");
}

fn write_edge(dir: &Path, hosts: &[&str]) {
    let hosts = hosts.iter().map(|host| format!("{host:?}")).collect::<Vec<_>>().join(", ");
    let settings = BTreeMap::from([
        ("agents_listen", "127.0.0.1:0"),
        ("connectors_listen", "127.0.0.1:0"),
        ("admin_listen", "127.0.0.1:0"),
        ("agents_cert_file", "agents.crt"),
        ("agents_key_file", "agents.key"),
        ("connectors_cert_file", "link.crt"),
        ("connectors_key_file", "link.key"),
    ]);
    let lines: String = settings.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
    let tunnel = format!("[[tunnel]]\nid = \"tnl_test\"\nsecret = \"a-secret-of-the-tests\"\nhosts = [{hosts}]\n");
    private::write(&dir.join("edge.toml"), format!("[edge]\n{lines}{tunnel}").as_bytes()).expect("written");
}

fn write_connect(dir: &Path, edge: SocketAddr, upstream: SocketAddr, hosts: &[&str]) {
    let routes: String =
        hosts.iter().map(|host| format!("[[route]]\nhost = {host:?}\nupstream = \"http://{upstream}\"\n")).collect();
    let connect = format!(
        "[connect]\nedge = \"localhost:{}\"\ntunnel = \"tnl_test\"\nsecret = \"a-secret-of-the-tests\"\n\
         edge_ca_file = \"ca.pem\"\n{routes}",
        edge.port()
    );
    private::write(&dir.join("connect.toml"), connect.as_bytes()).expect("written");
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path that is text").to_owned()
}
