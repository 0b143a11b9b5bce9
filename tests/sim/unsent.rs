//! Calls whose callers' time is over before anything of them was passed on: they are told so, and no upstream sees them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit::base::{DeadlineOverrides, GuardMode, Traffic};
use adit::engine::ByteStream;
use adit::engine::driver::{Address, SocketOptions};
use adit::route::RouteOverrides;
use futures_lite::future;

use crate::bodies::send;
use crate::budgets::{Bed, MS, SECOND, WAY, is_whole};
use crate::http2::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame};
use crate::roles::{self, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM};
use crate::sealed::Sealed;

const UNSENT: &str = r#""code":-31027"#;
/// The error by which an agent ends a stream that it does not need any more (RFC 9113, section 7).
const CANCEL: u32 = 8;

/// What an agent has been sent by now, and when its answer was whole.
type Answer = Rc<RefCell<(Vec<u8>, Option<adit::base::Time>)>>;

/// An agent that sends these pieces, each after a pause, and reads what comes.
fn agent(bed: &Bed, pieces: Vec<(Duration, Vec<u8>)>) -> Answer {
    let (core, answer) = (bed.agents.clone(), Answer::default());
    let shared = Rc::clone(&answer);
    bed.agents.spawn(async move {
        let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.unwrap();
        let sending = async {
            for (pause, piece) in pieces {
                core.sleep(pause).await;
                let _ = send(&socket, &piece).await;
            }
            std::future::pending().await
        };
        let receiving = async {
            while let Ok(Some(lease)) = socket.recv().await {
                let mut shared = shared.borrow_mut();
                shared.0.extend_from_slice(&lease);
                if shared.1.is_none() && is_whole(&String::from_utf8_lossy(&shared.0)) {
                    shared.1 = Some(core.turn_time());
                }
            }
        };
        future::or(receiving, sending).await;
    });
    answer
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.borrow().0).into_owned()
}

fn call(id: u64, waits: Duration, pad: usize) -> String {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"search","pad":"{}"}}}}"#,
        "x".repeat(pad)
    );
    let (waits_ms, len) = (waits.as_millis(), body.len());
    format!(
        "POST /answer/10 HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Timeout: {waits_ms}ms\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

#[test]
fn a_call_that_comes_after_its_callers_time_is_answered_as_unsent() {
    let request = call(1, 2 * SECOND, 0);
    let body_at = request.find("\r\n\r\n").unwrap() + 4;
    // The head comes late; where the label is needed before a call is opened, the body.
    for (mode, len) in [(GuardMode::Observe, 40), (GuardMode::Enforce, body_at + 50)] {
        let mut bed = Bed::start(false, |settings| settings);
        let deadlines = DeadlineOverrides { mode: Some(mode), ..DeadlineOverrides::default() };
        bed.edge.reload(roles::edge_tables_with(RouteOverrides { deadlines, ..RouteOverrides::default() }));
        bed.pass(SECOND);
        let (first, rest) = request.as_bytes().split_at(len);
        let answer = agent(&bed, vec![(Duration::ZERO, first.to_vec()), (3 * SECOND, rest.to_vec())]);
        bed.pass(5 * SECOND);
        let text = text(&answer);
        assert!(text.starts_with("HTTP/1.1 504 ") && text.contains(UNSENT), "{mode:?}: {text}");
        assert!(text.contains(r#""may_have_acted":false"#), "{mode:?}: {text}");
        assert!(bed.upstream.seen.borrow().is_empty(), "{mode:?}: it was sent");
    }
}

/// The host of the server answers nothing, so that there is no connection to it.
#[test]
fn a_call_whose_server_cannot_be_reached_in_its_callers_time_is_answered_as_unsent_in_time() {
    let mut bed = Bed::start(false, |settings| settings);
    // Until both sides of the link know how long the way is.
    bed.pass(180 * SECOND);
    bed.sim.net().partition(CONNECTOR, UPSTREAM);
    let began = bed.sim.net().now();
    let answer = agent(&bed, vec![(Duration::ZERO, call(1, 2 * SECOND, 0).into_bytes())]);
    bed.pass(5 * SECOND);
    let text = text(&answer);
    assert!(text.starts_with("HTTP/1.1 504 ") && text.contains(UNSENT) && text.contains(r#""id":1"#), "{text}");
    let took = answer.borrow().1.expect("it is answered") - began;
    assert!(took <= 2 * SECOND, "{took:?}");
}

fn http2(id: u64, fields: &[(&str, &str)]) -> Vec<u8> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"search"}}}}"#);
    let len = body.len().to_string();
    let fields = [&[("content-type", "application/json"), ("content-length", &*len)], fields].concat();
    let settings = frame(4, 0, 0, &[]);
    let head = frame(HEADERS, END_HEADERS, 1, &block("POST", "/answer/60000", &fields));
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings, head, frame(DATA, END_STREAM, 1, body.as_bytes())].concat()
}

/// Agents of both eras over HTTP/2: one is answered in time, one leaves.
#[test]
fn the_time_of_a_call_over_http2_bounds_it_and_its_end_reaches_the_upstream() {
    const STATELESS: [(&str, &str); 3] =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "search")];
    let slack = 10 * MS + 2 * WAY;
    let mut bed = Bed::start(false, |settings| settings);
    let began = bed.sim.net().now();
    let waits = ("x-request-timeout", "2000ms");
    let stateless = [&STATELESS[..], &[waits]].concat();
    let answered = [
        agent(&bed, vec![(Duration::ZERO, http2(1, &[waits]))]),
        agent(&bed, vec![(Duration::ZERO, http2(2, &stateless))]),
    ];
    let reset = frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes());
    agent(&bed, vec![(Duration::ZERO, http2(3, &STATELESS)), (SECOND, reset)]);
    // An agent that speaks HTTP/2 has connected, and one way later its frames are at the edge.
    bed.pass(2 * SECOND);
    for (id, answer) in (1..).zip(&answered) {
        let text = text(answer);
        assert!(text.contains(r#""code":-31021"#) && text.contains(&format!(r#""id":{id}"#)), "call {id}: {text}");
    }
    bed.pass(SECOND);
    assert_eq!(*bed.upstream.cancelled.borrow(), [1], "a server with sessions goes on unless it is told");
    for seen in bed.upstream.seen.borrow().iter().filter(|seen| seen.id != u64::MAX) {
        let ended = seen.ended.unwrap_or_else(|| panic!("the upstream still works for call {}", seen.id));
        let latest = began + 3 * WAY + slack + if seen.id == 3 { SECOND } else { 2 * SECOND };
        assert!(ended <= latest, "call {}: {:?}", seen.id, ended - began);
    }
}

/// Nothing of a call is sent before the inner TLS session with its connector is made. The connector's host answers nothing, and the
/// caller's time is over before its link is given up.
#[test]
fn a_resealed_call_whose_inner_session_is_not_made_in_its_callers_time_is_answered_as_unsent_in_time() {
    let mut bed = Bed::start(false, |settings| settings);
    let sealed = Sealed::new(Traffic::Resealed, &[HOST]);
    bed.connector.reload(sealed.connector_tables(&roles::connector_tables()));
    bed.edge.reload(sealed.edge_tables(roles::edge_tables()));
    bed.pass(SECOND);
    bed.sim.net().partition(EDGE, CONNECTOR);
    let began = bed.sim.net().now();
    let late = agent(&bed, vec![(Duration::ZERO, call(2, 500 * MS, 0).into_bytes())]);
    bed.pass(2 * SECOND);
    let message = text(&late);
    assert!(
        message.starts_with("HTTP/1.1 504 ") && message.contains(UNSENT) && message.contains(r#""id":2"#),
        "{message}"
    );
    assert!(
        message.contains(r#""reason":"caller_timeout_unsent""#) && message.contains(r#""may_have_acted":false"#),
        "{message}"
    );
    let took = late.borrow().1.expect("it is answered") - began;
    // Its time begins once it has connected.
    assert!(took <= 500 * MS + 2 * WAY, "{took:?}");
    assert!(bed.upstream.seen.borrow().is_empty(), "it was sent");
    let counters = bed.edge.counters();
    assert_eq!(
        counters.seals_failed.load(Ordering::Relaxed),
        0,
        "that the caller's time is over is no fault of the session"
    );
    // With a connector that is heard, such a call is answered.
    bed.sim.net().heal(EDGE, CONNECTOR);
    bed.pass(10 * SECOND);
    let good = agent(&bed, vec![(Duration::ZERO, call(3, 500 * MS, 0).into_bytes())]);
    bed.pass(SECOND);
    assert!(text(&good).starts_with("HTTP/1.1 200 "), "{}", text(&good));
}
