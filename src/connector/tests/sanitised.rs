//! Answers that the policies of their routes have sanitised.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bed::{Bed, Script, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables};
use super::out_of_time::changed;
use crate::connector::{ConnectorSettings, ConnectorTables};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::policy::ToolPolicy;
use crate::serve::{AuditEntries, AuditEntry, AuditLog};
use crate::wire::mux::Cause;

const POLICY: &str = "[sanitise]\nzero_width = 'strip'\nsecrets = 'redact'\nemails = 'flag'\n";
const RAW: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a \u200bAKIAIOSFODNN7EXAMPLE b@c.de"}]}}"#;
const CLEAN: &str =
    r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a [redacted:secret] b@c.de"}]}}"#;

/// A request whose body has this media type.
fn request(kind: &str, body: &str) -> String {
    let len = body.len();
    format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{body}")
}

fn call() -> String {
    request("application/json", r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#)
}

fn governed(policy: &str) -> ConnectorTables {
    let plain = tables(&[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))]);
    let policy = Arc::new(ToolPolicy::parse(policy).unwrap());
    let routes = changed(&plain, |route| route.policy = Some(Arc::clone(&policy)));
    ConnectorTables { routes, ..plain }
}

/// A server that answers each request with this, and then hangs up.
fn server(fields: &str, body: &str) -> Script {
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
    script(move |mut peer| {
        let answer = answer.clone();
        async move {
            peer.talk.head().await;
            peer.talk.write(answer).await;
            peer.talk.stream.finish();
            let _ = peer.talk.rest().await;
        }
    })
}

/// The same that says how long the body is.
fn plain_server(kind: &str, body: &str) -> Script {
    server(&format!("Content-Type: {kind}\r\nContent-Length: {}", body.len()), body)
}

fn chunk(part: &str) -> String {
    format!("{:x}\r\n{part}\r\n", part.len())
}

/// The next line of the log, which is then written.
#[track_caller]
fn written(entries: &AuditEntries) -> String {
    let AuditEntry::Line { body, written } = entries.try_next().expect("there is a line") else { panic!("no line") };
    if let Some(written) = written {
        let _ = written.send(());
    }
    String::from_utf8(body).unwrap()
}

#[test]
fn an_event_that_is_cut_anywhere_is_sanitised_and_the_rest_of_the_stream_stays_as_it_is() {
    let events = format!(": hi\r\nretry: 9\n\nid: 1\nevent: message\ndata: {RAW}\n\ndata: end\n\n");
    let want = events.replace(RAW, CLEAN);
    let (len, events) = (events.len() - 1, Arc::new(events));
    let parts = Arc::clone(&events);
    let mut bed = Bed::new(script(move |mut peer| {
        let parts = Arc::clone(&parts);
        async move {
            while let Some(head) = peer.talk.next_head().await {
                let at: usize = head.split(' ').nth(1).unwrap()[1..].parse().unwrap();
                peer.talk.until("}}").await;
                let (one, two) = parts.split_at(at);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                peer.talk.write(format!("{head}{}", chunk(one))).await;
                peer.core.sleep(ms(1)).await;
                peer.talk.write(format!("{}0\r\n\r\n", chunk(two))).await;
            }
        }
    }));
    bed.role.reload(governed(POLICY));
    bed.run(move |edge| async move {
        for at in 1..=len {
            let mut asked = edge.call(call().replace("/mcp", &format!("/{at}"))).await;
            asked.stream.finish();
            let answer = asked.whole().await;
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let got: String = body.split("\r\n").skip(1).step_by(2).collect();
            // Chunks end where they like; line ends within events are as they were.
            assert_eq!(got.replace('\r', ""), want.replace('\r', ""), "cut at {at}: {body}");
        }
    });
    let counters = bed.role.counters();
    assert_eq!(counters.texts_changed.load(Ordering::Relaxed), 2 * len as u64);
    assert_eq!(counters.texts_flagged.load(Ordering::Relaxed), len as u64);
    bed.assert_clean();
}

#[test]
fn an_answer_is_sent_after_its_line_which_names_the_findings() {
    for (is_events, body) in [(false, RAW.to_owned()), (true, format!("data: {RAW}\n\n"))] {
        let fields = match is_events {
            true => "Content-Type: text/event-stream\r\nConnection: close".to_owned(),
            false => format!("Content-Type: application/json\r\nContent-Length: {}", body.len()),
        };
        let (log, entries) = AuditLog::new(true);
        let settings = ConnectorSettings { audit: Some(log), ..settings() };
        let mut bed = Bed::with(settings, 1, Faults::none(), Some(server(&fields, &body)));
        bed.role.reload(governed(POLICY));
        bed.run(move |edge| async move {
            let mut asked = edge.call(call()).await;
            asked.stream.finish();
            edge.core.sleep(ms(1_000)).await;
            let line = written(&entries);
            let (found, bytes) =
                (r#""found":"zero_width changed 1, secrets changed 1, emails flagged 1""#, CLEAN.len());
            assert_eq!(line.contains(found), !is_events, "{line}");
            assert_eq!(line.contains(r#""outcome":"ok""#), !is_events, "{line}");
            assert_eq!(line.contains(&format!(r#""bytes":{bytes},"#)), !is_events, "{line}");
            let answer = asked.whole().await;
            assert!(answer.contains(CLEAN) && !answer.contains("AKIA"), "{answer}");
            assert!(is_events || answer.contains(&format!("ontent-Length: {bytes}\r\n")), "{answer}");
            edge.core.sleep(ms(10)).await;
            if is_events {
                let end = written(&entries);
                assert!(end.contains(r#""kind":"call_end""#) && end.contains(found), "{end}");
            }
            assert!(entries.try_next().is_none(), "there is nothing more to say");
        });
        bed.assert_clean();
    }
}

#[test]
fn an_answer_that_cannot_be_read_is_withheld() {
    let long = RAW.replace("a \\u200b", &"a".repeat(2_000));
    let long_policy = format!("{POLICY}scan_bytes_max = 1000\n");
    for (policy, fields, body, is_passed) in [
        (POLICY, "", RAW, true),
        (POLICY, "Content-Encoding: gzip\r\n", RAW, false),
        (POLICY, "Content-Encoding: identity\r\n", RAW, true),
        (POLICY, "", &RAW[..RAW.len() - 1], false),
        (POLICY, "", "{\"result\":\"\u{0}\"}", false),
        (&long_policy, "", &long, false),
    ] {
        let fields = format!("{fields}Content-Type: application/json\r\nContent-Length: {}", body.len());
        let (log, entries) = AuditLog::new(true);
        let settings = ConnectorSettings { audit: Some(log), ..settings() };
        let mut bed = Bed::with(settings, 1, Faults::none(), Some(server(&fields, body)));
        bed.role.reload(governed(policy));
        let what = format!("{fields} {} bytes", body.len());
        bed.run(move |edge| async move {
            let mut asked = edge.call(call()).await;
            asked.stream.finish();
            edge.core.sleep(ms(1_000)).await;
            let line = written(&entries);
            if is_passed {
                assert!(asked.whole().await.contains("[redacted:secret]"), "{what}");
            } else {
                assert_eq!(asked.cause().await, Cause::UpstreamProtocol, "{what}");
                assert!(line.contains(r#""outcome":"upstream_failed""#), "{what}: {line}");
            }
            assert!(entries.try_next().is_none(), "{what}: it has one line");
        });
        bed.assert_clean();
    }
}

#[test]
fn answers_to_other_requests_are_not_sanitised() {
    let token = r#"{"access_token":"ghp_0123456789abcdefghijABCDEFGHIJ012345","client_secret":"q8Zr2LxT9vWm4KpN"}"#;
    for (kind, body, is_passed) in [
        ("application/x-www-form-urlencoded", "grant_type=client_credentials", true),
        ("application/json", r#"{"client_name":"agent","redirect_uris":[]}"#, true),
        ("application/json", r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#, false),
        ("application/json", r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, false),
    ] {
        let mut bed = Bed::new(plain_server("application/json", token));
        bed.role.reload(governed(POLICY));
        bed.run(move |edge| async move {
            let mut asked = edge.call(request(kind, body)).await;
            asked.stream.finish();
            let answer = asked.whole().await;
            assert_eq!(answer.ends_with(token), is_passed, "{body}: {answer}");
        });
        bed.assert_clean();
    }
}

#[test]
fn findings_count_even_if_the_agent_leaves_before_the_end_of_the_stream() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        peer.talk.write(format!("{head}{}", chunk(&format!("data: {RAW}\n\n")))).await;
        let _ = peer.talk.rest().await;
    }));
    bed.role.reload(governed(POLICY));
    bed.run(|edge| async move {
        let mut asked = edge.call(call()).await;
        asked.stream.finish();
        asked.until("[redacted:secret]").await;
        asked.stream.abort();
        edge.core.sleep(ms(100)).await;
    });
    assert_eq!(bed.role.counters().texts_changed.load(Ordering::Relaxed), 2);
    bed.assert_clean();
}

/// A result with so many rows.
fn rows(count: usize) -> String {
    let rows: Vec<String> = (0..count).map(|row| format!("{{\"n\":{row}}}")).collect();
    format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"structuredContent":{{"rows":[{}]}}}}}}"#, rows.join(","))
}

#[test]
fn an_answer_beyond_a_ceiling_is_withheld_and_its_line_names_the_ceiling() {
    let rule = "[[rule]]\nname = 'few'\neffect = 'allow'\ntools = ['t']\n";
    let bytes = format!("{rule}answer_bytes_max = {}\n", rows(2).len());
    let three = format!("{rule}answer_rows_max = 2\nanswer_rows_at = '/rows'\n");
    for (policy, count, limit) in [
        (&bytes, 2, None),
        (&bytes, 3, Some("answer_bytes_max")),
        (&bytes, 3_000, Some("answer_bytes_max")),
        (&three, 2, None),
        (&three, 3, Some("answer_rows_max")),
    ] {
        let body = rows(count);
        let answer = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        let (log, entries) = AuditLog::new(true);
        let settings = ConnectorSettings { audit: Some(log), ..settings() };
        let mut bed = Bed::with(settings, 1, Faults::none(), Some(server(&answer, &body)));
        bed.role.reload(governed(policy));
        let what = format!("{policy} {count}");
        bed.run(move |edge| async move {
            let mut asked = edge.call(call()).await;
            asked.stream.finish();
            edge.core.sleep(ms(1_000)).await;
            let line = written(&entries);
            match limit {
                None => assert!(asked.whole().await.ends_with(&body), "{what}"),
                Some(limit) => {
                    assert_eq!(asked.cause().await, Cause::AnswerOverCeiling, "{what}");
                    let parts = [r#""decision":"allowed""#.to_owned(), r#""rule":"few""#.to_owned()];
                    let of_limit = [format!(r#""limit":"{limit}""#), r#""outcome":"denied""#.to_owned()];
                    assert!(parts.iter().chain(&of_limit).all(|part| line.contains(part)), "{what}: {line}");
                }
            }
            assert!(entries.try_next().is_none(), "{what}: it has one line");
        });
        let count = bed.role.counters().answers_over_ceiling.load(Ordering::Relaxed);
        assert_eq!(count, u64::from(limit.is_some()));
        bed.assert_clean();
    }
}

#[test]
fn an_answer_that_is_cut_is_counted_and_its_line_names_the_ceiling() {
    let rule = "[[rule]]\nname = 'few'\neffect = 'allow'\ntools = ['t']\nanswer_over = 'cut'\n";
    let bytes = format!("{rule}answer_bytes_max = 1000\n");
    let two = format!("{rule}answer_rows_max = 2\nanswer_rows_at = '/rows'\n");
    let text = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"TEXT"}]}}"#
        .replace("TEXT", &"x".repeat(2_000));
    for (policy, body, limit) in
        [(&two, rows(2), None), (&two, rows(3), Some("answer_rows_max")), (&bytes, text, Some("answer_bytes_max"))]
    {
        for is_events in [false, true] {
            let (fields, body) = match is_events {
                true => {
                    ("Content-Type: text/event-stream\r\nConnection: close".to_owned(), format!("data: {body}\n\n"))
                }
                false => (format!("Content-Type: application/json\r\nContent-Length: {}", body.len()), body.clone()),
            };
            let (log, entries) = AuditLog::new(true);
            let settings = ConnectorSettings { audit: Some(log), ..settings() };
            let mut bed = Bed::with(settings, 1, Faults::none(), Some(server(&fields, &body)));
            bed.role.reload(governed(policy));
            let what = format!("{policy} events={is_events}");
            bed.run(move |edge| async move {
                let mut asked = edge.call(call()).await;
                asked.stream.finish();
                edge.core.sleep(ms(1_000)).await;
                let begin = written(&entries);
                let answer = asked.whole().await;
                assert_eq!(answer.contains("adit/cut"), limit.is_some(), "{what}: {answer}");
                edge.core.sleep(ms(10)).await;
                let line = if is_events { written(&entries) } else { begin };
                assert!(line.contains(r#""outcome":"ok""#), "{what}: {line}");
                assert_eq!(line.contains(r#""limit":"#), limit.is_some(), "{what}: {line}");
                assert!(limit.is_none_or(|limit| line.contains(&format!(r#""limit":"{limit}""#))), "{what}: {line}");
            });
            let (cut, over) = (&bed.role.counters().answers_cut, &bed.role.counters().answers_over_ceiling);
            let count = (cut.load(Ordering::Relaxed), over.load(Ordering::Relaxed));
            assert_eq!(count, (u64::from(limit.is_some()), 0));
            bed.assert_clean();
        }
    }
}

#[test]
fn of_a_stream_that_goes_beyond_a_ceiling_the_events_before_it_are_passed_on() {
    let notice = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n";
    let (small, large) = (format!("data: {}\n\n", rows(1)), format!("data: {}\n\n", rows(50)));
    let max = notice.len() + small.len();
    for (last, is_passed) in [(&small, true), (&large, false)] {
        let (log, entries) = AuditLog::new(true);
        let settings = ConnectorSettings { audit: Some(log), ..settings() };
        let last = last.clone();
        let play = script(move |mut peer| {
            let last = last.clone();
            async move {
                peer.talk.head().await;
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
                peer.talk.write(format!("{head}{notice}")).await;
                peer.core.sleep(ms(100)).await;
                peer.talk.write(last).await;
                peer.talk.stream.finish();
                let _ = peer.talk.rest().await;
            }
        });
        let mut bed = Bed::with(settings, 1, Faults::none(), Some(play));
        bed.role.reload(governed(&format!("[[rule]]\neffect = 'allow'\ntools = ['t']\nanswer_bytes_max = {max}\n")));
        bed.run(move |edge| async move {
            let mut asked = edge.call(call()).await;
            asked.stream.finish();
            edge.core.sleep(ms(50)).await;
            assert!(written(&entries).contains(r#""outcome":"begun""#));
            asked.until("notifications/progress").await;
            let (answer, ended) = asked.rest().await;
            assert_eq!((answer.contains("structuredContent"), ended.is_ok()), (is_passed, is_passed), "{answer}");
            edge.core.sleep(ms(10)).await;
            let end = written(&entries);
            assert_eq!(end.contains(r#""limit":"answer_bytes_max""#), !is_passed, "{end}");
        });
        bed.assert_clean();
    }
}
