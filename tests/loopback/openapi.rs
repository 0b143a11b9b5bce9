//! The API for tunnels against its own document: schemathesis, an independent tool, makes requests that fit and requests
//! that do not, and judges the answers.

use std::path::Path;
use std::process::Command;

use crate::fetched::{REQUIREMENTS, fetch_python, fetched, python_of};
use crate::process::Adit;
use adit::control::RoleKind;
use adit::control::bodies::{
    CallsBody, CreateTunnel, CreatedTunnel, ErrorBody, HealthBody, HealthStatus, HostPatternText, LatencyBody,
    ListPart, ProcessState, ReadyBody, ReadyStatus, StatusBody, TasksBody, ToolsBody, TunnelInfo,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Schemathesis, and what it needs.
const PINS: [(&str, &str); 1] = [(REQUIREMENTS, include_str!("openapi/requirements.txt"))];
/// Requests for each operation, beside those for each limit of the document.
const EXAMPLES: &str = "15";
/// What is drawn at random is drawn from this.
const SEED: &str = "20260728";

/// An edge with a data directory; its admin API and the token for it.
struct Edge {
    _dir: tempfile::TempDir,
    _edge: Adit,
    url: String,
    token: String,
}

impl Edge {
    fn start() -> Edge {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();
        let made = crate::process::command(&["edge", "init", "--data-dir", data]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let any = "127.0.0.1:0";
        let edge = Adit::start(&[
            "edge",
            "--json",
            "--data-dir",
            data,
            "--listen",
            any,
            "--connectors-listen",
            any,
            "--admin",
            any,
            "--tunnel-domain",
            "t.test",
            "--cores",
            "1",
            "--set",
            "engine.pin=false",
            "--log-level",
            "error",
        ]);
        let url = format!("http://{}", edge.event("listening")["admin"].as_str().unwrap());
        let token = std::fs::read_to_string(Path::new(data).join("admin.token")).unwrap().trim().to_owned();
        Edge { _dir: dir, _edge: edge, url, token }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request =
            reqwest::Client::new().request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A new tunnel with one host.
    async fn create(&self, host: &str) -> TunnelInfo {
        let body = CreateTunnel { hosts: vec![HostPatternText(host.to_owned())], ..CreateTunnel::default() };
        let created: CreatedTunnel =
            read(self.ask("POST", "/v1/tunnels", Some(serde_json::to_value(body).unwrap())).await);
        assert_eq!((created.token.tunnel_id, created.warnings.len()), (created.tunnel.id.clone(), 0));
        created.tunnel
    }
}

/// The answer as the type that it should be.
fn read<T: DeserializeOwned>((status, answer): (u16, Value)) -> T {
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer).unwrap()
}

#[tokio::test]
async fn read_only_endpoints_are_described_and_need_no_token() {
    let edge = Edge::start();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", edge.url)).await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (_, document) = get("/v1/openapi.json").await;
    for (path, body) in [
        ("/healthz", "HealthBody"),
        ("/readyz", "ReadyBody"),
        ("/v1/status", "StatusBody"),
        ("/v1/latency", "LatencyBody"),
        ("/v1/calls", "CallsBody"),
        ("/v1/tasks", "TasksBody"),
        ("/v1/tools", "ToolsBody"),
    ] {
        let operation = &document["paths"][path]["get"];
        let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
        assert_eq!(schema, &json!(format!("#/components/schemas/{body}")));
        assert_eq!(operation["security"], json!([{}]), "{path}");
    }
    let health: HealthBody = read(get("/healthz").await);
    assert_eq!((health.status, health.silent), (HealthStatus::Ok, vec![]));
    let (status, ready) = get("/readyz").await;
    let ready: ReadyBody = serde_json::from_value(ready).unwrap();
    assert_eq!((status, ready.status, ready.why.is_some()), (503, ReadyStatus::NotReady, true));
    edge.create("a.test").await;
    let status: StatusBody = read(get("/v1/status").await);
    assert_eq!((status.roles, status.state, status.routes.len()), (vec![RoleKind::Edge], ProcessState::Running, 1));
    let latency: LatencyBody = read(get("/v1/latency?route=a.test").await);
    assert_eq!((latency.measured_by, latency.total.calls), (Some(RoleKind::Edge), 0));
    assert_eq!(get("/v1/latency?rout=a.test").await.0, 400);
    let calls: CallsBody = read(get("/v1/calls?host=a.test&failed=true&since_s=60&limit=1000").await);
    assert_eq!(calls.calls, []);
    let tasks: TasksBody = read(get("/v1/tasks?by=amplification&limit=5").await);
    assert_eq!((tasks.counted, tasks.tasks.len(), tasks.total.calls), (false, 0, 0));
    let tools: ToolsBody = read(get("/v1/tools?route=a.test&definitions=true").await);
    assert_eq!(tools, ToolsBody::default());
    assert_eq!(get("/v1/tools?routes=a.test").await.0, 400);
    for bad in ["by=name", "limit=0", "limit=1001", "order=cost"] {
        assert_eq!(get(&format!("/v1/tasks?{bad}")).await.0, 400, "{bad}");
    }
    for bad in ["limit=0", "limit=1001", "id=no-id", "since_s=-1", "hosts=a.test", "failed=maybe"] {
        assert_eq!(get(&format!("/v1/calls?{bad}")).await.0, 400, "{bad}");
    }
}

#[test]
fn schemathesis_finds_no_failure() {
    let edge = Edge::start();
    let mut run = Command::new(python_of(&fetched("openapi", &PINS, fetch_python)));
    run.args(["-m", "schemathesis.cli", "--config-file"]);
    run.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loopback/openapi/schemathesis.toml"));
    run.args(["run", &format!("{}/v1/openapi.json", edge.url), "--no-color", "--generation-database", "none"]);
    run.args(["-H", &format!("Authorization: Bearer {}", edge.token), "--max-examples", EXAMPLES, "--seed", SEED]);
    let done = run.current_dir(env!("CARGO_TARGET_TMPDIR")).output().unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(stdout.contains("Tested: "), "nothing was tested: {stdout}");
}

#[tokio::test]
async fn a_list_is_read_part_by_part() {
    let edge = Edge::start();
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(edge.create(&format!("h{n}.test")).await.id);
    }
    let (mut seen, mut page) = (Vec::new(), String::new());
    loop {
        let part: ListPart<TunnelInfo> = read(edge.ask("GET", &format!("/v1/tunnels?limit=2{page}"), None).await);
        seen.extend(part.data.into_iter().map(|tunnel| tunnel.id));
        match part.next_page {
            Some(next) => page = format!("&page={next}"),
            None => break,
        }
    }
    made.reverse();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn errors_have_one_shape_and_a_code() {
    let edge = Edge::start();
    let one = format!("/v1/tunnels/{}", edge.create("a.test").await.id);
    let cases = [
        ("GET", "/v1/tunnels/tnl_none".to_owned(), None, 404, "tunnel_not_found", "not_found_error"),
        ("POST", format!("{one}/reveal_token"), None, 409, "token_not_kept", "conflict_error"),
        ("POST", "/v1/tunnels".to_owned(), Some(json!({ "hosts": ["A.test"] })), 409, "host_taken", "conflict_error"),
        (
            "POST",
            "/v1/tunnels".to_owned(),
            Some(json!({ "host": [] })),
            400,
            "invalid_request",
            "invalid_request_error",
        ),
        ("POST", "/v1/tunnels".to_owned(), Some(json!([])), 400, "invalid_request", "invalid_request_error"),
        ("DELETE", one.clone(), None, 405, "wrong_method", "invalid_request_error"),
        ("GET", "/v1/tunnels?limit=0".to_owned(), None, 400, "invalid_query", "invalid_request_error"),
        ("GET", format!("{one}/usage?since=yesterday"), None, 400, "invalid_query", "invalid_request_error"),
        ("GET", "/v1/nothing".to_owned(), None, 404, "unknown_path", "not_found_error"),
        (
            "POST",
            "/v1/breakers".to_owned(),
            Some(json!({ "route": "b.test", "tool": "search", "state": "open" })),
            404,
            "breaker_not_found",
            "not_found_error",
        ),
        (
            "POST",
            "/v1/breakers".to_owned(),
            Some(json!({ "route": "a.test", "tool": "search", "state": "auto" })),
            404,
            "breaker_not_found",
            "not_found_error",
        ),
        ("POST", "/v1/breakers".to_owned(), Some(json!({})), 400, "invalid_request", "invalid_request_error"),
        (
            "POST",
            "/v1/approvals/apr_none/approve".to_owned(),
            Some(json!({ "by": "bob" })),
            404,
            "approval_not_found",
            "not_found_error",
        ),
        (
            "POST",
            "/v1/approvals/apr_none/deny".to_owned(),
            Some(json!({ "by": "" })),
            400,
            "invalid_request",
            "invalid_request_error",
        ),
        (
            "POST",
            "/v1/tools/approve".to_owned(),
            Some(json!({ "route": "a.test", "tools": [{ "name": "add", "sha256": "0".repeat(64) }] })),
            404,
            "route_not_found",
            "not_found_error",
        ),
        (
            "POST",
            "/v1/tools/approve".to_owned(),
            Some(json!({ "route": "a.test", "tools": [] })),
            400,
            "invalid_request",
            "invalid_request_error",
        ),
        (
            "POST",
            "/v1/tools/approve".to_owned(),
            Some(json!({ "route": "a.test", "tools": [{ "name": "add", "sha256": "abc" }] })),
            400,
            "invalid_request",
            "invalid_request_error",
        ),
    ];
    for (method, path, body, status, code, kind) in cases {
        let (found, answer) = edge.ask(method, &path, body).await;
        let ErrorBody { kind: of_body, error } = serde_json::from_value(answer).unwrap();
        assert_eq!((found, error.status, of_body.as_str()), (status, status, "error"), "{method} {path}: {error:?}");
        assert_eq!((error.code.as_str(), error.kind.as_str()), (code, kind), "{method} {path}");
        assert!(!error.message.is_empty(), "{method} {path}");
    }
    let long = json!({ "display_name": "x".repeat(70_000) });
    assert_eq!(edge.ask("POST", "/v1/tunnels", Some(long)).await.0, 413);
}

#[tokio::test]
async fn only_the_admin_token_opens_it() {
    let edge = Edge::start();
    let client = reqwest::Client::new();
    let ask = |token: Option<&str>| {
        let request = client.get(format!("{}/v1/tunnels", edge.url));
        let request = match token {
            Some(token) => request.header("Authorization", token),
            None => request,
        };
        async { request.send().await.unwrap() }
    };
    let right = format!("Bearer {}", edge.token);
    assert_eq!(ask(Some(&right)).await.status(), 200);
    assert_eq!(ask(Some(&right.replace("Bearer", "bearer"))).await.status(), 200);
    let wrong =
        [None, Some(""), Some("Bearer"), Some("Bearer x"), Some(&edge.token[..]), Some(&right[..right.len() - 1])];
    for token in wrong {
        let refused = ask(token).await;
        assert_eq!(
            (refused.status().as_u16(), refused.headers()["www-authenticate"].as_bytes()),
            (401, &b"Bearer"[..])
        );
        assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "unauthorized");
    }
    // What only describes it is open.
    assert_eq!(client.get(format!("{}/v1/openapi.json", edge.url)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_edge_without_a_data_directory_reports_the_missing_setting() {
    let up =
        Adit::start(&["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error"]);
    let admin = up.event("listening")["admin_url"].as_str().unwrap().to_owned();
    let answer = reqwest::get(format!("{admin}/v1/tunnels")).await.unwrap();
    assert_eq!(answer.status(), 501);
    let error = answer.json::<Value>().await.unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("adit edge init"), "{error}");
}
