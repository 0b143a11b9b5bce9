//! Lists that are filtered by the policies of their routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::bed::{Bed, Script, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables};
use super::out_of_time::changed;
use crate::connector::{ConnectorRoute, ConnectorSettings, ConnectorTables};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::policy::{SafeRequests, ToolPolicy};
use crate::serve::{AuditEntry, AuditLog};
use crate::wire::mux::Cause;

/// The memory of a core has room for one list of this length.
const LONG: usize = 3 << 20;

/// A request for a list, with this id.
fn request(id: usize) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#);
    format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The routes of a bed, with a policy that allows one tool.
fn governed(change: impl Fn(&mut ConnectorRoute)) -> ConnectorTables {
    let plain = tables(&[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))]);
    let policy = Arc::new(ToolPolicy::parse("[[rule]]\neffect = 'allow'\ntools = ['look']\n").unwrap());
    let routes = changed(&plain, |route| {
        route.policy = Some(Arc::clone(&policy));
        change(route);
    });
    ConnectorTables { routes, ..plain }
}

/// A list with two tools, of this length.
fn list(len: usize) -> String {
    let tools = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"look","annotations":{"readOnlyHint":true}},
        {"name":"pay","annotations":{"readOnlyHint":true}}]}"#;
    format!("{tools}{}}}", " ".repeat(len.saturating_sub(tools.len() + 1)))
}

/// A server that pauses in the middle of its first list.
fn slow_server() -> Script {
    script(|mut peer| async move {
        while peer.talk.next_head().await.is_some() {
            let body = peer.talk.until("}").await;
            let list = list(if body.contains("\"id\":3") { 0 } else { LONG });
            let (start, rest) = list.split_at(list.len() * 9 / 10);
            peer.talk.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{start}", list.len())).await;
            if body.contains("\"id\":1") {
                peer.core.sleep(ms(5_000)).await;
            }
            peer.talk.write(rest).await;
        }
    })
}

#[test]
fn a_list_for_which_there_is_no_memory_is_withheld_and_the_next_one_has_it_again() {
    let mut bed = Bed::new(slow_server());
    bed.role.reload(governed(|_| {}));
    bed.run(|edge| async move {
        let mut first = edge.call(request(1)).await;
        first.stream.finish();
        edge.core.sleep(ms(2_000)).await;
        let mut second = edge.call(request(2)).await;
        second.stream.finish();
        assert_eq!(second.cause().await, Cause::CrowdedLists);
        let mut short = edge.call(request(3)).await;
        short.stream.finish();
        assert!(short.whole().await.contains("look"), "a short one needs none of it");
        let answer = first.whole().await;
        assert!(answer.contains("\"look\"") && !answer.contains("\"pay\""));
        let mut again = edge.call(request(2)).await;
        again.stream.finish();
        assert!(again.whole().await.contains("look"));
    });
    assert_eq!(bed.role.counters().lists_crowded.load(Ordering::Relaxed), 1);
    bed.assert_clean();
}

#[test]
fn a_filtered_list_is_learned_from_as_far_as_it_is_shown_and_its_bytes_are_counted() {
    for is_events in [false, true] {
        for is_long in [false, true] {
            let server = script(move |mut peer| async move {
                peer.talk.head().await;
                peer.talk.until("}").await;
                let list = list(0).replace('\n', "");
                let body = if is_events { format!("data: {list}\n\n") } else { list };
                let kind = if is_events { "text/event-stream" } else { "application/json" };
                let (framing, body) = match is_long {
                    true => {
                        ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
                    }
                    false => (format!("Content-Length: {}", body.len()), body),
                };
                peer.talk.write(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n{body}")).await;
                let _ = peer.talk.rest().await;
            });
            let (log, entries) = AuditLog::new(false);
            let settings = ConnectorSettings { audit: Some(log), ..settings() };
            let mut bed = Bed::with(settings, 1, Faults::none(), Some(server));
            let safe: Arc<SafeRequests> = Arc::default();
            // Another caller has seen it.
            let seen = r#"{"result":{"tools":[{"name":"pay","annotations":{"readOnlyHint":true}}]}}"#;
            safe.learn(seen.as_bytes(), false, true);
            bed.role.reload(governed(|route| route.resend = Some(Arc::clone(&safe))));
            bed.run(|edge| async move {
                let mut call = edge.call(request(1)).await;
                call.stream.finish();
                let answer = call.whole().await;
                assert!(answer.contains("\"look\"") && !answer.contains("\"pay\""), "{answer}");
            });
            let what = format!("events: {is_events}, in chunks: {is_long}");
            assert!(safe.is_read_only("look"), "{what}");
            assert!(safe.is_read_only("pay"), "what other callers see is not forgotten ({what})");
            bed.pass(ms(10));
            let AuditEntry::Line { body, .. } = entries.try_next().unwrap() else { panic!("no line") };
            // The log adds the fields before it.
            let body = String::from_utf8(body).unwrap();
            let line: Value = serde_json::from_str(&format!("{{{}", body.trim_start_matches(['{', ',']))).unwrap();
            assert!(line["bytes"].as_u64().unwrap() > 90, "{what}: {line}");
            bed.assert_clean();
        }
    }
}

#[test]
fn events_are_filtered_for_any_status_and_content_type() {
    let resumed = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\nAccept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n";
    for (asked, status, kind) in [
        (resumed.to_owned(), "200 OK", "text/event-stream"),
        (resumed.to_owned(), "200 OK", "Text/Event-Stream; charset=utf-8"),
        (resumed.to_owned(), "206 Partial Content", "application/json\r\nContent-Type: text/event-stream"),
        (request(1), "200 OK", "text/event-stream"),
        (request(1), "201 Created", "text/event-stream"),
        (request(1), "200 OK", "text/plain"),
    ] {
        let what = format!("{} {status} {kind}", &asked[..4]);
        let mut bed = Bed::new(script(move |mut peer| async move {
            peer.talk.head().await;
            let body = format!("id: 1\ndata: {}\n\n", list(0).replace('\n', ""));
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            peer.talk.write(head + &body).await;
            let _ = peer.talk.rest().await;
        }));
        bed.role.reload(governed(|_| {}));
        bed.run(|edge| async move {
            let mut call = edge.call(&asked).await;
            call.stream.finish();
            let answer = call.whole().await;
            assert!(answer.contains("\"look\"") && !answer.contains("\"pay\""), "{what}: {answer}");
        });
        bed.assert_clean();
    }
}
