//! `adit doctor` on both sides, of what is well and of what is not.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use adit::control::demo::Demo;
use adit::private;
use serde_json::Value;

use super::site::{LOCALHOST, SECRETS, Site, serve, serve_upstream_with, text};
use crate::http2::node::Node;
use crate::process::command;

/// What the doctor says of this configuration, and its exit code.
pub(crate) fn examine(config: &Path, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let out = command(&[&["doctor", "--json", "--config", &text(config)], more].concat()).output().expect("it runs");
    let printed = [out.stdout.as_slice(), &out.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    let printed: Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}, {}: {printed}", out.status));
    assert!(!printed.to_string().contains(SECRETS[0]) && !String::from_utf8_lossy(&out.stderr).contains(SECRETS[0]));
    (out.status.code(), printed["findings"].as_array().expect("findings").clone())
}

/// The verdicts of a check, and what was found.
pub(crate) fn of<'a>(findings: &'a [Value], check: &str) -> (Vec<&'a str>, String) {
    let rows: Vec<&Value> = findings.iter().filter(|finding| finding["check"] == check).collect();
    let verdicts = rows.iter().filter_map(|row| row["verdict"].as_str()).collect();
    (verdicts, rows.iter().map(|row| format!("{} → {}\n", row["found"], row["remedy"])).collect())
}

pub(crate) fn verdict(findings: &[Value], check: &str, want: &str) -> String {
    let (verdicts, text) = of(findings, check);
    assert_eq!(verdicts, [want], "{check}: {text}");
    text
}

/// A real MCP server.
fn serve_mcp() -> SocketAddr {
    let (shared, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.expect("a port");
            shared.send(listener.local_addr().expect("an address")).expect("somebody waits");
            Demo::serve(listener, std::future::pending()).await.expect("it serves");
        });
    });
    address.recv().expect("it starts")
}

/// A configuration of a connector beside the edge's.
pub(crate) fn write_connector(site: &Site, secret: &str, edge: &str, upstream: &str, more: &str) -> std::path::PathBuf {
    private::write(&site.file("doctor.secret"), secret.as_bytes()).expect("written");
    let settings = format!(
        "[connect]\nedge = \"{edge}\"\nedge_name = \"localhost\"\ntunnel = \"tnl_0\"\nsecret_file = \"doctor.secret\"\n\
         edge_ca_file = \"ca.pem\"\n{more}\n[[route]]\nhost = \"one.test\"\nupstream = \"{upstream}\"\n"
    );
    let file = site.file("doctor.toml");
    fs::write(&file, settings).expect("written");
    file
}

#[test]
fn a_healthy_connector_passes_every_check() {
    let site = Site::without_connectors([""; 2], "");
    let upstream = format!("http://{}", serve_mcp());
    let config = write_connector(&site, SECRETS[0], &site.connectors.to_string(), &upstream, "");
    let (code, findings) = examine(&config, &[]);
    for check in
        ["config", "driver", "edge.dns", "edge.tcp", "edge.udp", "edge.certificate", "edge.link", "upstream.dns"]
    {
        verdict(&findings, check, "ok");
    }
    assert!(verdict(&findings, "edge.link", "ok").contains("accepts this connector as tnl_0"));
    assert!(verdict(&findings, "upstream.mcp", "ok").contains("MCP 20"));
    assert!(findings.iter().all(|finding| finding["verdict"] != "fail"), "{findings:?}");
    assert_eq!(code, Some(0));
    // For people the same, in lines.
    let out = command(&["doctor", "--config", &text(&config)]).output().unwrap();
    let lines = String::from_utf8(out.stdout).unwrap();
    assert!(lines.lines().any(|line| line.starts_with("OK    edge.link ")), "{lines}");
    // The edge saw the link come and go.
    site.edge.event("linked");
    site.edge.event("unlinked");
}

#[test]
fn an_upstream_that_speaks_http_2_alone_is_called_as_the_connector_calls_it() {
    let site = Site::without_connectors([""; 2], "");
    let (mcp, edge) = (serve_mcp().port(), site.connectors.to_string());
    let judge = |upstream: &str, more: &str| {
        let config = write_connector(&site, SECRETS[0], &edge, upstream, "");
        let with_route = fs::read_to_string(&config).unwrap() + more;
        fs::write(&config, with_route).unwrap();
        examine(&config, &[]).1
    };
    let clear = Node::before("clear", mcp);
    let at = format!("h2c://127.0.0.1:{}", clear.port);
    assert!(verdict(&judge(&at, ""), "upstream.mcp", "ok").contains("MCP 20"));
    verdict(&judge(&format!("http://127.0.0.1:{}", clear.port), ""), "upstream.mcp", "fail");
    let unix = Node::before("unix", mcp);
    assert!(
        verdict(&judge(&format!("h2c+unix:{}", text(&unix.files()[1])), ""), "upstream.mcp", "ok").contains("MCP 20")
    );
    let tls = Node::before("tls", mcp);
    let (at, ca) = (format!("https://127.0.0.1:{}", tls.port), format!("upstream_ca_file = {:?}\n", tls.files()[0]));
    assert!(verdict(&judge(&at, &ca), "upstream.mcp", "ok").contains("MCP 20"));
    verdict(&judge(&at, &(ca + "upstream_http2 = false\n")), "upstream.mcp", "fail");
}

#[test]
fn faults_of_a_connector_are_reported_with_their_remedy() {
    let site = Site::without_connectors([""; 2], "");
    let gone = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let edge = site.connectors.to_string();
    let config = write_connector(&site, "not-the-secret-of-tunnel-one", &edge, &format!("http://{gone}"), "");
    let (code, findings) = examine(&config, &[]);
    assert_eq!(code, Some(2));
    let text = verdict(&findings, "edge.link", "fail");
    assert!(text.contains("refuses this connector as tnl_0") && text.contains("compare connect.tunnel"), "{text}");
    assert!(verdict(&findings, "upstream.mcp", "fail").contains("check that the MCP server runs there"));
    // Nobody listens at the edge: what depends on it is not tried.
    let config = write_connector(&site, SECRETS[0], &gone.to_string(), "unix:/nowhere/mcp.sock", "");
    let (_, findings) = examine(&config, &[]);
    assert!(verdict(&findings, "edge.tcp", "fail").contains("nothing listens there"));
    assert!(of(&findings, "edge.link").0.is_empty() && of(&findings, "edge.certificate").0.is_empty());
    verdict(&findings, "upstream.mcp", "fail");
    // A name that the edge's certificate does not have.
    let config = write_connector(&site, SECRETS[0], &edge, "http://127.0.0.1:9", "");
    let (_, findings) = examine(&config, &["--set", "connect.edge_name=other.test"]);
    assert!(verdict(&findings, "edge.certificate", "fail").contains("not for"), "{findings:?}");
    // An upstream that is no MCP server, and one that is not allowed.
    let silent = serve_upstream_with("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let config = write_connector(&site, SECRETS[0], &edge, &format!("http://{silent}"), "");
    assert!(verdict(&examine(&config, &[]).1, "upstream.mcp", "fail").contains("not an MCP server"));
    let config = write_connector(&site, SECRETS[0], &edge, "http://localhost:9", "allowed_upstreams = \"10.0.0.0/8\"");
    let (_, text) = of(&examine(&config, &[]).1, "upstream.address");
    assert!(text.contains("add 127.0.0.1/32 there"), "{text}");
    // A public URL whose authority is not known here.
    let url = format!("https://localhost:{}/mcp", site.agents.port());
    let text = verdict(&examine(&config, &["--url", &url]).1, "public.mcp", "fail");
    assert!(text.contains("authority that is not trusted here") && text.contains("--url-ca-file"), "{text}");
    // A secret that others can read.
    let config = write_connector(&site, SECRETS[0], &edge, "http://127.0.0.1:9", "");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(site.file("doctor.secret"), mode).unwrap();
    let (code, findings) = examine(&config, &[]);
    assert!(verdict(&findings, "config", "fail").contains("chmod 600"));
    assert_eq!(code, Some(2));
}

#[test]
fn an_upstream_that_checks_host_origin_or_path_is_reported_with_its_setting() {
    let site = Site::without_connectors([""; 2], "");
    // What a server of the SDK for Python does at a loopback address with another port, and a router that adds a slash.
    let upstream = serve(|request| {
        let has = |field: &str| request.to_ascii_lowercase().contains(field);
        let status = if request.starts_with("POST /mcp HTTP") {
            "307 Temporary Redirect\r\nLocation: http://localhost:8000/mcp/"
        } else if !has("host: localhost:8000\r\n") {
            "421 Misdirected Request"
        } else if has("origin: ") && !has("origin: http://localhost:8000\r\n") {
            "403 Forbidden"
        } else if request.starts_with("POST /hidden") {
            "403 Forbidden\r\nX: y"
        } else {
            "202 Accepted"
        };
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")
    });
    let gone = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let judge = |path: &str, route: &str| {
        let config = write_connector(&site, SECRETS[0], &gone, &format!("http://{upstream}"), "");
        let with_route = fs::read_to_string(&config).unwrap() + route;
        fs::write(&config, with_route).unwrap();
        examine(&config, &["--mcp-path", path]).1
    };
    let text = verdict(&judge("/mcp", ""), "upstream.mcp", "fail");
    assert!(text.contains("redirects to http://localhost:8000/mcp/ (307)") && text.contains("--mcp-path"), "{text}");
    let text = verdict(&judge("/mcp/", ""), "upstream.mcp", "fail");
    assert!(text.contains("421") && text.contains("set upstream_host"), "{text}");
    let host = "upstream_host = \"localhost:8000\"\n";
    let text = verdict(&judge("/hidden", host), "upstream.mcp", "fail");
    assert!(text.contains("403") && text.contains("upstream_origin"), "{text}");
    let text = verdict(&judge("/mcp/", host), "upstream.origin", "warn");
    assert!(text.contains("https://one.test (403)") && text.contains("upstream_origin"), "{text}");
    let rewriting = format!("{host}upstream_origin = \"rewrite\"\n");
    verdict(&judge("/mcp/", &rewriting), "upstream.origin", "ok");
    let dropping = format!("{host}upstream_origin = \"drop\"\n");
    assert!(of(&judge("/mcp/", &dropping), "upstream.origin").0.is_empty(), "nothing to try");
}

#[test]
fn an_upstream_that_calls_itself_by_its_private_address_is_found_out() {
    let site = Site::without_connectors([""; 2], "");
    let judge = |metadata: &'static str, route: &str| {
        let challenge = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n";
        let found = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{metadata}", metadata.len());
        let upstream = serve(move |request| {
            if request.starts_with("GET /.well-known/oauth-protected-resource") {
                found.clone()
            } else {
                challenge.to_owned()
            }
        });
        let edge = site.connectors.to_string();
        let config = write_connector(&site, SECRETS[0], &edge, &format!("http://{upstream}"), "");
        let with_route = fs::read_to_string(&config).unwrap() + route;
        fs::write(&config, with_route).unwrap();
        let (_, findings) = examine(&config, &[]);
        assert!(verdict(&findings, "upstream.mcp", "ok").contains("asks for authorization"));
        let (verdicts, text) = of(&findings, "upstream.oauth");
        (verdicts.join(" "), text)
    };
    let servers = r#""authorization_servers":["https://as.test"]"#;
    let good: &'static str = Box::leak(format!(r#"{{"resource":"https://one.test/mcp",{servers}}}"#).into_boxed_str());
    assert_eq!(judge(good, "").0, "ok");
    let own: &'static str =
        Box::leak(format!(r#"{{"resource":"http://127.0.0.1:3000/mcp",{servers}}}"#).into_boxed_str());
    let (verdict, text) = judge(own, "");
    assert_eq!(verdict, "fail");
    assert!(text.contains("agents call one.test") && text.contains("public URL"), "{text}");
    assert!(text.contains("rewrite_oauth_metadata"), "{text}");
    assert_eq!(judge(own, "rewrite_oauth_metadata = true\n").0, "fail", "this is not the upstream's own address");
    let named = "upstream_host = \"127.0.0.1:3000\"\nrewrite_oauth_metadata = true\n";
    let (verdict, text) = judge(own, named);
    assert!(verdict == "ok" && text.contains("https://one.test/mcp"), "agents read it rewritten: {text}");
}

#[test]
fn an_edge_is_looked_at_while_it_runs_and_while_it_does_not() {
    let mut site = Site::without_connectors([""; 2], "");
    site.connect(0, &["one.test"]);
    // The configuration with the ports that the system chose.
    let configured = fs::read_to_string(site.file("edge.toml")).unwrap();
    let running = configured
        .replace("agents_listen = \"127.0.0.1:0\"", &format!("agents_listen = \"{}\"", site.agents))
        .replace("connectors_listen = \"127.0.0.1:0\"", &format!("connectors_listen = \"{}\"", site.connectors))
        .replace("admin_listen = \"127.0.0.1:0\"", &format!("admin_listen = \"{}\"", site.admin));
    fs::write(site.file("running.toml"), &running).unwrap();
    let (code, findings) = examine(&site.file("running.toml"), &[]);
    assert_eq!(code, Some(0), "{findings:?}");
    assert!(verdict(&findings, "agents.listen", "ok").contains("something listens"));
    let (verdicts, text) = of(&findings, "tunnel.links");
    assert_eq!(verdicts, ["ok", "warn"], "{text}");
    assert!(text.contains("tnl_0 has 1 links") && text.contains("tnl_1 has no connector"), "{text}");
    assert!(verdict(&findings, "agents.certificate", "ok").contains("one.test, two.test"));
    assert!(of(&findings, "tunnel.hosts").0.is_empty(), "{findings:?}");
    // The tunnel gets a host for which its connector has no route.
    let more = configured.replace("hosts = \"one.test\"", "hosts = [\"one.test\", \"more.test\"]");
    fs::write(site.file("edge.toml"), more).unwrap();
    site.edge.signal("HUP");
    site.edge.event("reloaded");
    let (code, findings) = examine(&site.file("running.toml"), &[]);
    let found = verdict(&findings, "tunnel.hosts", "fail");
    assert!(code == Some(2) && found.contains("no connector of tnl_0 has a route for more.test"), "{findings:?}");
    // Not running, with a host that the certificate lacks and lists that shut out its own probes.
    let idle = configured.replace("two.test", "three.test");
    fs::write(site.file("idle.toml"), format!("{idle}[admission]\nallow_from = \"192.0.2.0/24\"\n")).unwrap();
    let (code, findings) = examine(&site.file("idle.toml"), &[]);
    assert_eq!(code, Some(2));
    let (verdicts, text) = of(&findings, "agents.certificate");
    assert!(verdicts == ["ok", "fail"] && text.contains("it does not name three.test"), "{text}");
    let (verdicts, text) = of(&findings, "admission");
    assert!(verdicts == ["ok", "warn"] && text.contains("/readyz"), "{text}");
}

#[test]
fn a_stream_of_events_that_something_holds_back_is_found_out() {
    let site = Site::without_connectors([""; 2], "");
    // It answers as an MCP server does, and keeps a stream's head to itself, as a buffering proxy would.
    let holding = serve(|request| {
        if request.starts_with("GET ") {
            loop {
                thread::park();
            }
        }
        let body = r#"{"jsonrpc":"2.0","id":"adit-doctor","result":{"protocolVersion":"2025-11-25","capabilities":{},"#
            .to_owned()
            + r#""serverInfo":{"name":"held","version":"1"}}}"#;
        let head = "Content-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nMcp-Session-Id: s";
        format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let gone = TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let config = write_connector(&site, SECRETS[0], &gone, "http://127.0.0.1:9", "");
    let (_, findings) = examine(&config, &["--url", &format!("http://{holding}/mcp")]);
    assert!(verdict(&findings, "public.sse", "fail").contains("buffering"), "{findings:?}");
    assert!(verdict(&findings, "public.clock", "fail").contains("ahead of"), "{findings:?}");
}

#[test]
fn the_public_url_is_tried_as_an_agent_would() {
    let mut site = Site::without_connectors([""; 2], "");
    let upstream = format!("http://{}", serve_mcp());
    site.connect_to(0, &["one.test", "127.0.0.1"], &upstream);
    // Agents find the host by DNS; here the edge's own address has to do, over plain HTTP.
    let url = format!("http://{}/mcp", site.agents);
    let edge = site.file("edge.toml");
    let hosts =
        fs::read_to_string(&edge).unwrap().replace("hosts = \"one.test\"", "hosts = [\"one.test\", \"127.0.0.1\"]");
    fs::write(&edge, hosts).unwrap();
    site.edge.signal("HUP");
    site.edge.event("reloaded");
    let config = write_connector(&site, SECRETS[0], &site.connectors.to_string(), &upstream, "");
    let with_route =
        fs::read_to_string(&config).unwrap() + &format!("[[route]]\nhost = \"127.0.0.1\"\nupstream = \"{upstream}\"\n");
    fs::write(&config, with_route).unwrap();
    let (_, findings) = examine(&config, &["--url", &url]);
    verdict(&findings, "public.mcp", "ok");
    assert!(verdict(&findings, "public.sse", "ok").contains("began within"), "{findings:?}");
    verdict(&findings, "public.clock", "ok");
    let (code, findings) = examine(&config, &["--url", &format!("http://{}/elsewhere", site.agents)]);
    assert!(verdict(&findings, "public.mcp", "fail").contains("--mcp-path"), "{findings:?}");
    assert_eq!(code, Some(2));
}
