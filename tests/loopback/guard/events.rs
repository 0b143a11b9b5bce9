//! Whether `adit doctor` finds out what holds events back, with events that are really apart in time.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_lite::{Stream, stream};
use tokio::time::{Interval, interval};

use super::doctor::{examine, of, verdict, write_connector};
use super::site::{LOCALHOST, SECRETS, Site};

/// How far events are apart.
const APART: Duration = Duration::from_millis(150);
const EVENT: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";

/// Events one by one, for as long as somebody listens; `at_once` of them together.
fn events(at_once: usize, apart: Duration) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(interval(apart), move |mut ticks: Interval| async move {
        ticks.tick().await;
        Some((Ok(Bytes::from(EVENT.repeat(at_once))), ticks))
    })
}

/// What every MCP server answers to the first request.
async fn initialized() -> Response {
    let server = r#"{"name":"spaced","version":"1"}"#;
    let result = format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{server}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":"adit-doctor","result":{result}}}"#);
    ([("content-type", "application/json"), ("mcp-session-id", "s")], body).into_response()
}

/// An MCP server that sends such events by itself.
fn serve_events(at_once: usize, apart: Duration) -> SocketAddr {
    let listen = move || async move {
        ([("content-type", "text/event-stream")], Body::from_stream(events(at_once, apart))).into_response()
    };
    let (shared, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.expect("a port");
            shared.send(listener.local_addr().expect("an address")).expect("somebody waits");
            let app = Router::new().route("/mcp", post(initialized).get(listen).delete(|| async {}));
            axum::serve(listener, app).await.expect("it serves");
        });
    });
    address.recv().expect("it starts")
}

/// A proxy that passes everything on but what follows the head of a stream of events, which it keeps to have more of it.
fn hold_events_back(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for agent in listener.incoming().flatten() {
            let edge = TcpStream::connect(to).expect("the edge listens");
            let (mut from, mut into) = (agent.try_clone().expect("a socket"), edge.try_clone().expect("a socket"));
            thread::spawn(move || std::io::copy(&mut from, &mut into));
            thread::spawn(move || pass_heads(edge, agent));
        }
    });
    address
}

fn pass_heads(mut edge: TcpStream, mut agent: TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 4096];
    let mut holding = false;
    loop {
        let read = edge.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&piece[..read]);
        if !holding {
            let head = text.split_once("\r\n\r\n").filter(|(head, _)| head.contains("text/event-stream"));
            holding = head.is_some();
            agent.write_all(head.map_or(text.as_bytes(), |(head, _)| &text.as_bytes()[..head.len() + 4]))?;
        }
    }
}

/// What the doctor says of an upstream behind a tunnel, called at this address or at one in front of the edge.
fn examined(upstream: SocketAddr, front: impl Fn(SocketAddr) -> SocketAddr) -> Vec<serde_json::Value> {
    let mut site = Site::without_connectors(["", ""], "");
    let edge = std::fs::read_to_string(site.file("edge.toml")).expect("it is there");
    std::fs::write(site.file("edge.toml"), edge.replace("hosts = \"one.test\"", "hosts = \"127.0.0.1\""))
        .expect("written");
    site.edge.signal("HUP");
    site.edge.event("reloaded");
    let upstream = format!("http://{upstream}");
    site.connect_to(0, &["127.0.0.1"], &upstream);
    let config = write_connector(&site, SECRETS[0], &site.connectors.to_string(), &upstream, "");
    let route =
        std::fs::read_to_string(&config).expect("it is there").replace("host = \"one.test\"", "host = \"127.0.0.1\"");
    std::fs::write(&config, route).expect("written");
    examine(&config, &["--url", &format!("http://{}/mcp", front(site.agents))]).1
}

#[test]
fn events_that_come_one_by_one_are_found_to() {
    let findings = examined(serve_events(1, APART), |agents| agents);
    assert!(verdict(&findings, "upstream.sse", "ok").contains("one by one"), "{findings:?}");
    assert!(verdict(&findings, "public.sse", "ok").contains("one by one"), "{findings:?}");
}

#[test]
fn a_proxy_that_holds_events_back_is_found_out() {
    let findings = examined(serve_events(1, APART), hold_events_back);
    assert!(verdict(&findings, "upstream.sse", "ok").contains("one by one"), "{findings:?}");
    let text = verdict(&findings, "public.sse", "fail");
    assert!(text.contains("did not come within") && text.contains("proxy_buffering off"), "{text}");
}

#[test]
fn a_server_that_holds_its_own_events_back_is_found_out() {
    // Ten at once, and then none for longer than anybody listens.
    let findings = examined(serve_events(10, Duration::from_secs(3_600)), |agents| agents);
    assert!(verdict(&findings, "upstream.sse", "warn").contains("10 events at once"), "{findings:?}");
    let (verdicts, text) = of(&findings, "public.sse");
    assert!(verdicts == ["warn"] && text.contains("10 events came at once"), "{text}");
}
