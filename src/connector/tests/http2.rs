//! An upstream that speaks HTTP/2.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};

use super::bed::{Bed, CONNECTOR, EdgeSide, Peer, Script, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables_at};
use super::failures::logged;
use crate::base::{Budget, CallFailure, Time};
use crate::connector::ConnectorSettings;
use crate::dial::Resolver;
use crate::engine::sim::Faults;
use crate::engine::{ByteStream, Class, Core, StreamError};
use crate::http2::{Io, Watch};
use crate::upstream::{HttpPool, UpstreamConnection, UpstreamSettings};
use crate::wire::mux::Cause;

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const POST: &str = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody";

/// The server's side has no watcher.
struct Unwatched;

impl Watch for Unwatched {
    fn feed(&self, _: &[u8], _: Time) {}
}

/// One request that reached the upstream.
pub(super) struct Asked {
    request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) core: Core,
}

impl Asked {
    fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    /// Sends the whole answer at once.
    pub(super) fn answer(mut self, body: &'static str) {
        let mut send = self.respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    }

    /// The body of the request, and its trailers.
    pub(super) async fn body(&mut self) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
        let (recv, mut body) = (self.request.body_mut(), Vec::new());
        while let Some(data) = recv.data().await.transpose()? {
            recv.flow_control().release_capacity(data.len()).unwrap();
            body.extend_from_slice(&data);
        }
        Ok((body, recv.trailers().await?.unwrap_or_default()))
    }
}

/// The connections on which requests came, with their paths.
pub(super) type Seen = Rc<RefCell<Vec<(usize, String)>>>;

/// A server that gives each request to `serve`, in its own task.
pub(super) fn server<F: Future<Output = ()> + 'static>(
    builder: Builder,
    serve: impl Fn(Asked) -> F + 'static,
) -> (Script, Seen) {
    let (seen, serve) = (Seen::default(), Rc::new(serve));
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let (builder, serve, note) = (builder.clone(), Rc::clone(&serve), Rc::clone(&note));
        async move {
            let Peer { talk, nth, core } = peer;
            let io = Io::of_client(&core, Rc::new(talk.stream), None, Rc::new(Unwatched));
            let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                note.borrow_mut().push((nth, request.uri().path().to_owned()));
                core.spawn(serve(Asked { request, respond, core: core.clone() }));
            }
        }
    });
    (play, seen)
}

/// A bed with a route to `play` over HTTP/2, and other settings.
fn bed_with(play: Script, set: impl Fn(&mut UpstreamSettings)) -> Bed {
    let bed = Bed::new(play);
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), set));
    bed
}

pub(super) fn bed(play: Script) -> Bed {
    bed_with(play, |_| {})
}

/// Calls this path; returns the whole answer.
async fn get(edge: &EdgeSide, path: &str) -> String {
    let mut call = edge.call(format!("GET {path} HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
    call.stream.finish();
    call.whole().await
}

fn connections_open(bed: &mut Bed) -> usize {
    bed.report().upstreams[0].connections_open
}

#[test]
fn many_calls_share_one_connection_and_each_gets_its_answer() {
    const CALLS: usize = 50;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let (path, host) = (asked.path(), asked.request.uri().authority().unwrap().to_string());
        let (body, _) = asked.body().await.unwrap();
        // The first requests are answered last.
        let nth: u64 = path[1..].parse().unwrap();
        asked.core.sleep(ms(200 - nth)).await;
        let text = format!("{} {path} {host} {}", asked.request.method(), String::from_utf8(body).unwrap());
        let head = Response::builder().header("content-length", text.len()).header("x-nth", nth).body(()).unwrap();
        let mut send = asked.respond.send_response(head, false).unwrap();
        send.send_data(text.into(), true).unwrap();
    });
    let mut bed = bed(play);
    bed.run(move |edge| async move {
        let mut calls = Vec::new();
        for nth in 0..CALLS {
            let head = format!("POST /{nth} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody");
            let call = edge.call(head).await;
            call.stream.finish();
            calls.push(call);
        }
        for (nth, call) in calls.iter_mut().enumerate() {
            let answer = call.whole().await;
            assert!(
                answer.starts_with("HTTP/1.1 200 \r\n") && answer.contains(&format!("x-nth: {nth}\r\n")),
                "{answer}"
            );
            assert!(answer.ends_with(&format!("POST /{nth} {UPSTREAM}:{UPSTREAM_PORT} body")), "{answer}");
        }
    });
    let report = bed.report();
    let of = &report.upstreams[0];
    assert_eq!((of.connections_open, of.http2_connections_open, of.http2_streams_open), (1, 1, 0));
    assert_eq!(seen.borrow().len(), CALLS);
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0), "{seen:?}");
    bed.assert_clean();
}

#[test]
fn a_connection_without_calls_is_closed_after_the_idle_timeout() {
    let (play, seen) = server(Builder::new(), |asked| async move { asked.answer("ok") });
    let mut bed = bed_with(play, |settings| settings.idle_timeout = ms(4_000));
    bed.run(|edge| async move {
        for pause in [3_900, 3_900, 4_100, 0] {
            assert!(edge.get().await.contains("ok"));
            edge.core.sleep(ms(pause)).await;
        }
    });
    let connections: Vec<_> = seen.borrow().iter().map(|(nth, _)| *nth).collect();
    assert_eq!(connections, [0, 0, 0, 1]);
    assert_eq!(connections_open(&mut bed), 1);
    bed.pass(ms(4_100));
    assert_eq!(connections_open(&mut bed), 0);
    assert_eq!(bed.net.open_sockets(UPSTREAM), 0, "it is closed, not only forgotten");
    bed.assert_clean();
}

#[test]
fn a_server_gets_no_more_calls_at_once_on_a_connection_than_it_allows() {
    let (open, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut builder = Builder::new();
    builder.max_concurrent_streams(2);
    let (counted, greatest) = (Rc::clone(&open), Rc::clone(&most));
    let (play, seen) = server(builder, move |asked| {
        let (open, most) = (Rc::clone(&counted), Rc::clone(&greatest));
        async move {
            open.set(open.get() + 1);
            most.set(most.get().max(open.get()));
            asked.core.sleep(ms(100)).await;
            open.set(open.get() - 1);
            asked.answer("ok");
        }
    });
    let mut bed = bed_with(play, |settings| settings.connections_max = 2);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..10 {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
        }
        for call in &mut calls {
            assert!(call.whole().await.contains("ok"));
        }
    });
    assert_eq!((most.get(), seen.borrow().iter().map(|(nth, _)| *nth).max()), (4, Some(1)), "{seen:?}");
    bed.assert_clean();
}

#[test]
fn all_calls_that_wait_for_one_attempt_to_connect_get_its_error() {
    let play = script(|mut peer: Peer| async move {
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let _ = peer.talk.stream.recv().await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let call = edge.call(POST).await;
            call.stream.finish();
            calls.push(call);
        }
        for call in &mut calls {
            assert_eq!(call.cause().await, Cause::UpstreamUnreachable);
        }
    });
    let failing = bed.report().upstreams[0].failing.clone().unwrap();
    assert!(failing.contains("10.0.0.3:9000") && failing.contains("there is no HTTP/2 with it"), "{failing}");
    bed.assert_clean();
}

#[test]
fn bodies_trailers_and_interim_responses_pass() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let hints = Response::builder().status(103).header("link", "</a>").body(()).unwrap();
        asked.respond.send_informational(hints).unwrap();
        let (body, trailers) = asked.body().await.unwrap();
        let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
        send.send_data(body.into(), false).unwrap();
        send.send_trailers(trailers).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let head = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        let mut call = edge.call(head).await;
        call.write("6\r\nhello \r\n5\r\nworld\r\n").await;
        call.write("0\r\nX-Sum: 11\r\n\r\n").await;
        call.stream.finish();
        let answer = call.whole().await;
        let (hints, answer) = answer.split_once("\r\n\r\n").unwrap();
        assert!(hints.starts_with("HTTP/1.1 103 ") && hints.contains("link: </a>"), "{hints}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
        assert!(body.replace("\r\n", "").contains("hello ") && body.ends_with("0\r\nx-sum: 11\r\n\r\n"), "{body}");
        // A response to HEAD has a length and no body; one of 204 has neither.
        let mut call = edge.call("HEAD /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        let answer = call.whole().await;
        assert!(answer.contains("\r\n\r\nHTTP/1.1 200 \r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
    bed.assert_clean();
}

#[test]
fn te_trailers_is_forwarded_to_the_server() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let te = asked.request.headers().get("te").map(|te| te.to_str().unwrap().to_owned()).unwrap_or_default();
        let head = Response::builder().header("x-te", te).body(()).unwrap();
        asked.respond.send_response(head, true).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for (te, expected) in [("TE: gzip, trailers\r\nConnection: te\r\n", "trailers"), ("TE: gzip\r\n", "")] {
            let mut call = edge.call(&format!("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n{te}\r\n")).await;
            call.stream.finish();
            let answer = call.whole().await;
            assert!(answer.contains(&format!("x-te: {expected}\r\n")), "{answer}");
        }
    });
    bed.assert_clean();
}

#[test]
fn trailers_behind_a_body_of_known_length_pass_if_they_are_announced() {
    let (play, _) = server(Builder::new(), |mut asked| async move {
        let head = Response::builder().header("content-length", 4);
        let head = if asked.path() == "/announced" { head.header("trailer", "x-sum") } else { head };
        let mut send = asked.respond.send_response(head.body(()).unwrap(), false).unwrap();
        send.send_data("body".into(), false).unwrap();
        send.send_trailers([("x-sum".parse().unwrap(), "4".parse().unwrap())].into_iter().collect()).unwrap();
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let answer = get(&edge, "/announced").await;
        assert!(answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n"), "{answer}");
        assert!(!answer.contains("ontent-"), "{answer}");
        let answer = get(&edge, "/not").await;
        assert!(
            answer.to_lowercase().contains("content-length: 4\r\n") && answer.ends_with("\r\n\r\nbody"),
            "{answer}"
        );
    });
    bed.assert_clean();
}

#[test]
fn large_bodies_pass_in_both_directions_beside_one_that_is_not_read() {
    const LEN: usize = 2_000_000;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let (body, _) = asked.body().await.unwrap();
        let head = Response::builder().header("content-length", LEN).header("x-received", body.len()).body(()).unwrap();
        let mut send = asked.respond.send_response(head, false).unwrap();
        let mut left = LEN;
        while left > 0 {
            send.reserve_capacity(left);
            // The edge stops reading here.
            let Some(Ok(n)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
            send.send_data(vec![b'x'; n].into(), n == left).unwrap();
            left -= n;
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let unread = edge.call(GET).await;
        unread.stream.finish();
        edge.core.sleep(ms(500)).await;
        for _ in 0..3 {
            let head = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {LEN}\r\n\r\n");
            let mut call = edge.call(head).await;
            call.write("y".repeat(LEN)).await;
            call.stream.finish();
            let answer = call.whole().await;
            assert!(answer.contains(&format!("x-received: {LEN}\r\n")), "{}", &answer[..200]);
            assert!(answer.ends_with(&"x".repeat(LEN)));
        }
        drop(unread);
    });
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0));
    bed.assert_clean();
}

#[test]
fn events_pass_at_once_and_a_call_that_is_given_up_is_cancelled() {
    let reason = Rc::new(Cell::new(None));
    let set = Rc::clone(&reason);
    let (play, _) = server(Builder::new(), move |mut asked| {
        let reason = Rc::clone(&set);
        async move {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut send = asked.respond.send_response(head, false).unwrap();
            for nth in 0..3 {
                send.send_data(format!("data: {nth}\n\n").into(), false).unwrap();
                asked.core.sleep(ms(1_000)).await;
            }
            reason.set(poll_fn(|cx| send.poll_reset(cx)).await.ok());
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        let began = edge.now();
        for nth in 0..3_u64 {
            call.until(&format!("data: {nth}\n\n\r\n")).await;
            let late = edge.now() - began - Duration::from_secs(nth);
            assert!(late < ms(5), "event {nth} is {late:?} late");
        }
        drop(call);
        edge.core.sleep(ms(1_100)).await;
    });
    assert_eq!(reason.get(), Some(Reason::CANCEL));
    assert_eq!(connections_open(&mut bed), 1, "the connection goes on");
    bed.assert_clean();
}

#[test]
fn a_response_that_breaks_a_rule_fails_its_own_call_alone() {
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let head = Response::builder();
        match asked.path().as_str() {
            "/short" => {
                let head = head.header("content-length", 10).body(()).unwrap();
                let mut send = asked.respond.send_response(head, false).unwrap();
                send.send_data("half".into(), true).unwrap();
            }
            "/lengths" => {
                let head = head.header("content-length", 1).header("content-length", 2).body(()).unwrap();
                let _ = asked.respond.send_response(head, false);
            }
            "/many" => {
                let head = (0..200).fold(head, |head, nth| head.header(format!("x-{nth}"), "y")).body(()).unwrap();
                let _ = asked.respond.send_response(head, true);
            }
            "/long" => {
                let _ = asked.respond.send_response(head.header("x", "y".repeat(70_000)).body(()).unwrap(), true);
            }
            "/reset" => asked.respond.send_reset(Reason::INTERNAL_ERROR),
            "/part" => {
                let mut send = asked.respond.send_response(head.body(()).unwrap(), false).unwrap();
                send.send_data("half".into(), false).unwrap();
                asked.core.sleep(ms(10)).await;
                send.send_reset(Reason::INTERNAL_ERROR);
            }
            _ => asked.answer("ok"),
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for (path, cause) in [
            ("/short", Cause::UpstreamClosed),
            ("/lengths", Cause::UpstreamSilent),
            ("/many", Cause::UpstreamProtocol),
            ("/long", Cause::UpstreamSilent),
            ("/reset", Cause::UpstreamSilent),
            ("/part", Cause::UpstreamClosed),
        ] {
            let mut call =
                edge.call(format!("POST {path} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n")).await;
            call.stream.finish();
            assert_eq!(call.cause().await, cause, "{path}");
            assert!(get(&edge, "/good").await.contains("ok"), "after {path}");
        }
    });
    assert_eq!(seen.borrow().len(), 12, "nothing is sent again: {seen:?}");
    bed.assert_clean();
}

#[test]
fn the_reason_of_a_reset_is_logged_and_a_refusal_is_not() {
    for (reason, expected) in
        [(Reason::INTERNAL_ERROR, Some("it reset the call (INTERNAL_ERROR)")), (Reason::REFUSED_STREAM, None)]
    {
        let (play, _) = server(Builder::new(), move |mut asked| async move { asked.respond.send_reset(reason) });
        let mut bed = bed(play);
        let log = logged(|| {
            bed.run(|edge| async move {
                let mut call = edge.call(POST).await;
                call.stream.finish();
                call.cause().await;
            });
        });
        let line = log.lines().find(|line| line.contains("cannot be passed on"));
        match (line, expected) {
            (Some(line), Some(expected)) => {
                assert!(line.contains("10.0.0.3:9000") && line.contains(expected), "{line}")
            }
            (line, expected) => assert_eq!((line, expected), (None, None)),
        }
        bed.assert_clean();
    }
}

#[test]
fn a_refused_request_is_resent_on_other_connections_and_a_processed_one_never() {
    // How often it is refused, the reason, how often it is sent, and the result.
    for (refused, reason, sent, becomes) in [
        (1, Reason::REFUSED_STREAM, 2, None),
        (2, Reason::REFUSED_STREAM, 3, None),
        (3, Reason::REFUSED_STREAM, 3, Some(Cause::UpstreamUnsent)),
        (1, Reason::INTERNAL_ERROR, 1, Some(Cause::UpstreamSilent)),
        (1, Reason::CANCEL, 1, Some(Cause::UpstreamSilent)),
    ] {
        let left = Rc::new(Cell::new(refused));
        let (play, seen) = server(Builder::new(), move |mut asked| {
            let left = Rc::clone(&left);
            async move {
                if asked.path() == "/warm" || left.get() == 0 {
                    return asked.answer("ok");
                }
                left.set(left.get() - 1);
                asked.respond.send_reset(reason);
            }
        });
        let mut bed = bed(play);
        bed.run(move |edge| async move {
            assert!(get(&edge, "/warm").await.contains("ok"));
            let mut call = edge.call(POST).await;
            call.stream.finish();
            match becomes {
                None => assert!(call.whole().await.contains("ok")),
                Some(cause) => assert_eq!(call.cause().await, cause),
            }
        });
        let posts: Vec<_> = seen.borrow().iter().filter(|(_, path)| path == "/mcp").map(|(nth, _)| *nth).collect();
        assert_eq!(posts, (0..sent as usize).collect::<Vec<_>>(), "{reason:?}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), sent - 1);
        bed.assert_clean();
    }
}

/// A server that resets each call over HTTP/2 with this reason, and answers over HTTP/1.1. Returns the version of each
/// connection.
fn picky(reason: Reason) -> (Script, Rc<RefCell<Vec<u8>>>) {
    let seen = Rc::<RefCell<Vec<u8>>>::default();
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let note = Rc::clone(&note);
        async move {
            let mut raw = Raw { peer, received: Vec::new() };
            // The preface, or a request.
            let Some(mut first) = raw.take(4).await else { return };
            if first == b"PRI " {
                note.borrow_mut().push(2);
                raw.take(20).await.expect("the rest of the preface");
                raw.write(SETTINGS, 0, 0, &[]).await;
                while let Some(stream) = raw.request().await {
                    raw.write(RST_STREAM, 0, stream, &u32::from(reason).to_be_bytes()).await;
                }
                return;
            }
            note.borrow_mut().push(1);
            loop {
                while !first.ends_with(b"\r\n\r\n") {
                    let Some(byte) = raw.take(1).await else { return };
                    first.extend(byte);
                }
                first.clear();
                raw.peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    (play, seen)
}

#[test]
fn a_server_that_demands_http_1_1_is_called_so_for_a_while() {
    let (play, seen) = picky(Reason::HTTP_1_1_REQUIRED);
    let mut bed = bed(play);
    let log = logged(|| {
        bed.run(|edge| async move {
            for _ in 0..3 {
                let mut call = edge.call("DELETE /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n").await;
                call.stream.finish();
                assert!(call.whole().await.ends_with("ok"));
            }
        });
        bed.pass(Duration::from_secs(601));
        bed.run(|edge| async move {
            assert!(get(&edge, "/mcp").await.ends_with("ok"), "HTTP/2 is tried again");
        });
    });
    assert_eq!(*seen.borrow(), [2, 1, 2, 1]);
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 2);
    assert_eq!(log.lines().filter(|line| line.contains("requires HTTP/1.1")).count(), 2, "{log}");
    assert!(!log.contains("cannot be passed on"), "{log}");
    bed.assert_clean();
}

#[test]
fn very_small_frames_that_are_not_read_cost_no_other_call() {
    const FLOODS: u64 = 4;
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        match &*asked.path() {
            "/events" => {
                let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
                for _ in 0..400_000 {
                    if send.send_data(Bytes::from_static(b"x"), false).is_err() {
                        return;
                    }
                }
                poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
            }
            "/slow" => {
                asked.core.sleep(ms(3_000)).await;
                asked.answer("ok");
            }
            _ => asked.answer("ok"),
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut slow = edge.call("GET /slow HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        slow.stream.finish();
        let mut streams = Vec::new();
        for _ in 0..FLOODS {
            let events = edge.call("GET /events HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
            events.stream.finish();
            streams.push(events);
        }
        edge.core.sleep(ms(1_000)).await;
        assert!(get(&edge, "/good").await.contains("ok"));
        assert!(slow.whole().await.contains("ok"));
        for mut events in streams {
            let (_, ended) = events.rest().await;
            assert_eq!(ended, Err(StreamError::ResetWith { failure: CallFailure::SlowReader }));
        }
        assert!(get(&edge, "/good").await.contains("ok"));
    });
    assert!(seen.borrow().iter().all(|(nth, _)| *nth == 0), "one connection serves all: {seen:?}");
    assert_eq!(bed.role.counters().calls_cut_unread.load(Ordering::Relaxed), FLOODS);
    bed.assert_clean();
}

/// Calls that wait for the same attempt to connect use HTTP/1.1 too.
#[test]
fn all_that_wait_for_a_connection_on_which_http_1_1_is_demanded_are_called_so() {
    const CALLS: usize = 4;
    let seen = Rc::<RefCell<Vec<u8>>>::default();
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let note = Rc::clone(&note);
        async move {
            let mut raw = Raw { peer, received: Vec::new() };
            let Some(mut first) = raw.take(4).await else { return };
            if first == b"PRI " {
                note.borrow_mut().push(2);
                raw.take(20).await.expect("the rest of the preface");
                raw.peer.core.sleep(ms(100)).await;
                return raw.goaway(0, Reason::HTTP_1_1_REQUIRED.into()).await;
            }
            note.borrow_mut().push(1);
            loop {
                while !first.ends_with(b"\r\n\r\n") {
                    let Some(byte) = raw.take(1).await else { return };
                    first.extend(byte);
                }
                first.clear();
                raw.peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..CALLS {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
        }
        for mut call in calls {
            assert!(call.whole().await.ends_with("ok"));
        }
    });
    let seen = seen.borrow();
    assert_eq!((seen[0], seen.iter().filter(|version| **version == 2).count()), (2, 1), "{seen:?}");
    drop(seen);
    bed.assert_clean();
}

/// More frames than may wait arrive at once, before any could be read.
#[test]
fn very_small_frames_that_come_at_once_and_are_read_are_an_answer_as_any_other() {
    const FRAMES: usize = 9_000;
    let play = script(move |peer: Peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.expect("a request");
        let [_, a, b, c] = (1_u32).to_be_bytes();
        let frame = [&[a, b, c, DATA, 0][..], &stream.to_be_bytes(), b"x"].concat();
        let head = [&[0, 0, 1, HEADERS, END_HEADERS][..], &stream.to_be_bytes(), STATUS_200].concat();
        let end = [&[0, 0, 0, DATA, END_STREAM][..], &stream.to_be_bytes()].concat();
        raw.peer.core.sleep(ms(50)).await;
        raw.peer.talk.write([head, frame.repeat(FRAMES), end].concat()).await;
        raw.take(1_000_000).await;
    });
    let mut bed = Bed::roomy(play);
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |_| {}));
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        edge.core.sleep(ms(20)).await;
        // All that is sent in the meantime arrives when the path is back.
        edge.net.partition(UPSTREAM, CONNECTOR);
        edge.core.sleep(ms(200)).await;
        edge.net.heal(UPSTREAM, CONNECTOR);
        let answer = call.whole().await;
        assert_eq!(answer.matches('x').count(), FRAMES, "{}", &answer[..answer.len().min(200)]);
        assert!(answer.ends_with("\r\n0\r\n\r\n"));
    });
    assert_eq!(bed.role.counters().calls_cut_unread.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

/// A request that the server received is not sent again, although no byte of its answer was passed on.
#[test]
fn a_server_whose_answer_is_cut_for_its_small_frames_has_seen_its_request() {
    let (play, seen) = server(Builder::new(), |mut asked| async move {
        let mut send = asked.respond.send_response(Response::new(()), false).unwrap();
        for _ in 0..20_000 {
            send.send_data(Bytes::from_static(b"x"), false).unwrap();
        }
        poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
    });
    let mut bed = bed(play);
    let settings =
        UpstreamSettings::for_tests(format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}").parse().expect("a good URL"));
    let resolver = Resolver::Table(Rc::new(|_, _| Vec::new()));
    let (core, outcome) = (bed.core.clone(), Rc::<RefCell<Option<(StreamError, bool)>>>::default());
    let (pool, tell) = (HttpPool::new(&core, settings, resolver, &Budget::new(1 << 20, 0)), Rc::clone(&outcome));
    bed.core.spawn(async move {
        let (connection, _) = pool.checkout().await.unwrap();
        let UpstreamConnection::Http2(exchange) = connection else { panic!("it speaks HTTP/2") };
        let mut head = core.pool().lease(Class::Small).await;
        head.append(POST.as_bytes());
        exchange.send(head).unwrap();
        // The answer is not read in the meantime.
        core.sleep(ms(2_000)).await;
        let ended = exchange.recv().await.map(|_| ()).unwrap_err();
        tell.replace(Some((ended, exchange.is_unprocessed())));
    });
    bed.pass(ms(5_000));
    let cut = StreamError::ResetWith { failure: CallFailure::SlowReader };
    assert_eq!(outcome.borrow_mut().take(), Some((cut, false)));
    assert_eq!(seen.borrow().len(), 1);
}

#[test]
fn another_reason_for_which_there_is_no_connection_is_logged_but_not_at_once() {
    let play = script(|peer: Peer| async move {
        // It closes at once, or fails in another way.
        if peer.nth % 2 == 1 {
            peer.talk.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
            peer.core.sleep(ms(100)).await;
        }
    });
    let mut bed = bed(play);
    let lines = |bed: &mut Bed| {
        let log = logged(|| {
            bed.run(|edge| async move {
                let mut call = edge.call(POST).await;
                call.stream.finish();
                assert_eq!(call.cause().await, Cause::UpstreamUnreachable);
            });
        });
        log.lines().filter(|line| line.contains("cannot connect to the upstream")).count()
    };
    assert_eq!(lines(&mut bed), 1);
    assert_eq!(lines(&mut bed), 0, "another reason, and too soon");
    assert_eq!(lines(&mut bed), 0, "the same as was logged");
    bed.pass(ms(10_000));
    assert_eq!(lines(&mut bed), 1, "another reason");
    bed.pass(ms(10_000));
    assert_eq!(lines(&mut bed), 1);
    bed.assert_clean();
}

#[test]
fn a_short_request_that_a_server_gives_no_window_for_is_given_up_in_time() {
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let (play, _) = server(builder, |mut asked| async move {
        let _ = asked.body().await;
    });
    let settings = ConnectorSettings { write_timeout: ms(4_000), ..settings() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(play));
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |_| {}));
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamTimeout);
    });
    bed.assert_clean();
}

#[test]
fn a_connection_that_the_server_closes_is_closed_at_once() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.unwrap();
        raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        raw.peer.core.sleep(ms(1_000)).await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        edge.link().await;
        let sockets = edge.net.open_sockets(CONNECTOR);
        assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(edge.net.open_sockets(CONNECTOR), sockets + 1);
        edge.core.sleep(ms(2_000)).await;
        assert_eq!(edge.net.open_sockets(CONNECTOR), sockets, "it waits for no other call");
    });
    assert_eq!(connections_open(&mut bed), 0);
    bed.assert_clean();
}

/// A server that writes frames by hand.
struct Raw {
    peer: Peer,
    received: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The flags of a head that is whole, and has no body.
const WHOLE: u8 = 5;
/// The header block of an empty response, by its index in the static table (RFC 7541, appendix A).
const STATUS_200: &[u8] = &[0x88];

impl Raw {
    /// Reads the preface, and sends settings.
    async fn begin(peer: Peer) -> Raw {
        let mut raw = Raw { peer, received: Vec::new() };
        raw.take(24).await.expect("the preface");
        raw.write(SETTINGS, 0, 0, &[]).await;
        raw
    }

    async fn take(&mut self, len: usize) -> Option<Vec<u8>> {
        while self.received.len() < len {
            self.received.extend_from_slice(&self.peer.talk.stream.recv().await.ok()??);
        }
        let rest = self.received.split_off(len);
        Some(std::mem::replace(&mut self.received, rest))
    }

    /// The stream of the next request; none at the end.
    async fn request(&mut self) -> Option<u32> {
        loop {
            let header = self.take(9).await?;
            self.take(u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize).await?;
            if header[3] == HEADERS {
                return Some(u32::from_be_bytes([header[5], header[6], header[7], header[8]]));
            }
        }
    }

    async fn write(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.peer.talk.write([&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()).await;
    }

    async fn goaway(&self, last_stream: u32, code: u32) {
        self.write(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat()).await;
    }
}

#[test]
fn of_two_calls_that_cross_a_goaway_the_excluded_one_is_resent_and_the_other_is_answered() {
    for code in [0, 11] {
        let seen = Rc::<RefCell<Vec<(usize, u32)>>>::default();
        let note = Rc::clone(&seen);
        let play = script(move |peer| {
            let note = Rc::clone(&note);
            async move {
                let nth = peer.nth;
                let mut raw = Raw::begin(peer).await;
                let mut requests = 0;
                while let Some(stream) = raw.request().await {
                    note.borrow_mut().push((nth, stream));
                    requests += 1;
                    match (nth, requests) {
                        (0, 1) => {}
                        (0, _) => {
                            raw.write(HEADERS, WHOLE, 1, STATUS_200).await;
                            raw.goaway(1, code).await;
                        }
                        _ => raw.write(HEADERS, WHOLE, stream, STATUS_200).await,
                    }
                }
            }
        });
        let mut bed = bed(play);
        bed.run(|edge| async move {
            let (mut first, mut second) = (edge.call(POST).await, edge.call(POST).await);
            first.stream.finish();
            second.stream.finish();
            assert!(first.whole().await.starts_with("HTTP/1.1 200 "));
            assert!(second.whole().await.starts_with("HTTP/1.1 200 "));
            assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        });
        assert_eq!(*seen.borrow(), [(0, 1), (0, 3), (1, 1), (1, 3)], "{code}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 1);
        bed.assert_clean();
    }
}

#[test]
fn a_connection_that_drains_holds_up_no_other_call() {
    let play = script(|peer| async move {
        let nth = peer.nth;
        let mut raw = Raw::begin(peer).await;
        while let Some(stream) = raw.request().await {
            if nth > 0 {
                raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
                continue;
            }
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            raw.goaway(stream, 0).await;
            raw.peer.core.sleep(ms(30_000)).await;
            raw.write(DATA, END_STREAM, stream, b"the end").await;
        }
    });
    let mut bed = bed_with(play, |settings| settings.connections_max = 1);
    bed.run(|edge| async move {
        let mut events = edge.call(GET).await;
        events.stream.finish();
        events.head().await;
        edge.core.sleep(ms(100)).await;
        assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        assert!(events.whole().await.contains("the end"));
    });
    assert_eq!(connections_open(&mut bed), 1, "the one that drained has ended");
    bed.assert_clean();
}

/// Servers that flush send empty DATA frames.
#[test]
fn frames_that_carry_nothing_cost_no_call() {
    const EACH: usize = 225;
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        while let Some(stream) = raw.request().await {
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            for part in [&b"one "[..], b"two"] {
                let nothing = [&[0, 0, 0, DATA, 0][..], &stream.to_be_bytes()].concat();
                raw.peer.talk.write(nothing.repeat(EACH)).await;
                raw.write(DATA, 0, stream, part).await;
            }
            raw.write(DATA, END_STREAM, stream, &[]).await;
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        for _ in 0..2 {
            let answer = get(&edge, "/mcp").await;
            assert!(answer.contains("one ") && answer.ends_with("two\r\n0\r\n\r\n"), "{answer}");
        }
    });
    assert_eq!(bed.report().upstreams[0].http2_connections_open, 1, "it carries the next call");
    bed.assert_clean();
}

#[test]
fn a_flood_of_frames_that_carry_nothing_ends_the_connection() {
    let (seen, note) = (Rc::<Cell<usize>>::default(), Rc::<Cell<usize>>::default());
    let (shared, read) = (Rc::clone(&seen), Rc::clone(&note));
    let play = script(move |peer| {
        let (shared, read) = (Rc::clone(&shared), Rc::clone(&read));
        async move {
            let mut raw = Raw::begin(peer).await;
            let Some(stream) = raw.request().await else { return };
            raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
            let nothing = [&[0, 0, 0, DATA, 0][..], &stream.to_be_bytes()].concat();
            raw.peer.talk.write(nothing.repeat(5_000)).await;
            shared.set(1);
            while raw.take(1).await.is_some() {}
            read.set(1);
        }
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamClosed);
    });
    assert_eq!((seen.get(), note.get()), (1, 1), "the connection is closed");
    bed.assert_clean();
}

#[test]
fn a_server_that_breaks_off_may_have_acted_on_the_requests_that_it_did_not_leave_out() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        raw.request().await;
        raw.goaway(1, 2).await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamSilent);
    });
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

#[test]
fn a_response_that_is_reset_without_an_error_passes_only_if_it_is_whole() {
    // The body, its flags, and whether the response is complete.
    for (body, flags, is_whole) in
        [(None, 0, false), (Some("half"), 0, false), (Some("all"), END_STREAM, true), (Some(""), END_STREAM, true)]
    {
        let play = script(move |peer| async move {
            let mut raw = Raw::begin(peer).await;
            while let Some(stream) = raw.request().await {
                raw.write(HEADERS, END_HEADERS, stream, STATUS_200).await;
                if let Some(body) = body {
                    raw.write(DATA, flags, stream, body.as_bytes()).await;
                }
                raw.write(RST_STREAM, 0, stream, &[0; 4]).await;
            }
        });
        let mut bed = bed(play);
        bed.run(move |edge| async move {
            // The request is incomplete, so that the server has a reason to reset it.
            let mut call = edge.call("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 9\r\n\r\nbody").await;
            if is_whole {
                let answer = call.whole().await;
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("0\r\n\r\n"), "{body:?}: {answer}");
            } else {
                assert_eq!(call.cause().await, Cause::UpstreamClosed, "{body:?}");
            }
        });
        bed.assert_clean();
    }
}

#[test]
fn a_connection_to_a_host_that_vanished_is_given_up_and_the_first_call_after_its_return_is_answered() {
    let (play, seen) = server(Builder::new(), |asked| async move {
        if asked.path() == "/waits" {
            asked.core.sleep(ms(300_000)).await;
        }
        asked.answer("ok");
    });
    // No connection fails by itself in the meantime.
    let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
    let mut bed = Bed::with(settings(), 1, faults, Some(play));
    bed.role
        .reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| settings.idle_timeout = ms(60_000)));
    bed.run(|edge| async move {
        // With and without data that has to be acknowledged.
        for path in ["/mcp", "/waits"] {
            assert!(edge.get().await.contains("ok"));
            let call = async |method: &str, path: &str| {
                let call = edge.call(format!("{method} {path} HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
                call.stream.finish();
                call
            };
            let mut calls = Vec::new();
            if path == "/waits" {
                calls = vec![call("POST", path).await, call("GET", path).await];
                edge.core.sleep(ms(20_000)).await;
            }
            edge.net.partition(CONNECTOR, UPSTREAM);
            if path == "/mcp" {
                calls = vec![call("POST", path).await, call("GET", path).await];
            }
            let began = edge.now();
            let [post, get] = &mut calls[..] else { panic!("two calls") };
            assert_eq!(post.cause().await, Cause::UpstreamTimeout, "it may have been received");
            assert!(edge.now() - began < ms(10_000), "{:?}", edge.now() - began);
            assert_eq!(get.cause().await, Cause::UpstreamConnectTimeout, "it went on to a new connection");
            assert_eq!(call("POST", path).await.cause().await, Cause::UpstreamConnectTimeout);
            edge.net.heal(CONNECTOR, UPSTREAM);
            assert!(call("POST", "/mcp").await.whole().await.contains("ok"));
        }
    });
    assert!(seen.borrow().last().unwrap().0 >= 2, "on new connections: {seen:?}");
    bed.net.calm();
    bed.assert_clean();
}

#[test]
fn a_silent_event_stream_of_a_host_that_vanished_ends_in_time() {
    for acknowledged_within in [1_000, 5_000, 20_000] {
        let (play, _) = server(Builder::new(), |mut asked| async move {
            let head = Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
            let mut send = asked.respond.send_response(head, false).unwrap();
            send.send_data(Bytes::from_static(b"data: 1\n\n"), false).unwrap();
            asked.core.sleep(ms(600_000)).await;
        });
        // No connection fails by itself in the meantime.
        let faults = Faults { stall_timeout_ns: 600_000_000_000, ..Faults::none() };
        let mut bed = Bed::with(settings(), 1, faults, Some(play));
        bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| {
            settings.acknowledged_within = ms(acknowledged_within);
        }));
        bed.run(move |edge| async move {
            let mut events = edge.call(GET).await;
            events.stream.finish();
            events.until("data: 1\n\n").await;
            edge.core.sleep(ms(300_000)).await;
            edge.net.partition(CONNECTOR, UPSTREAM);
            let began = edge.now();
            let (rest, ended) = events.rest().await;
            assert!(ended.is_err(), "{rest}");
            // It is probed after 3 s of silence.
            let took = edge.now() - began;
            assert!(took >= ms(acknowledged_within) && took <= ms(acknowledged_within + 5_000), "{took:?}");
        });
        bed.net.calm();
        bed.assert_clean();
    }
}

#[test]
fn a_server_that_stops_reading_for_a_while_keeps_its_calls() {
    const LEN: usize = 8_000_000;
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        // Only the system's buffers limit the upload, not a window of HTTP/2.
        raw.write(SETTINGS, 0, 0, &[&[0, 4][..], &0x7fff_ffff_u32.to_be_bytes()].concat()).await;
        raw.write(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
        let (first, second) = (raw.request().await.unwrap(), raw.request().await.unwrap());
        raw.peer.core.sleep(ms(20_000)).await;
        for stream in [first, second] {
            raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        }
        while raw.request().await.is_some() {}
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut waits = edge.call(GET).await;
        waits.stream.finish();
        edge.core.sleep(ms(100)).await;
        let mut upload =
            edge.call(format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {LEN}\r\n\r\n")).await;
        let sending = async {
            // It is cut short by the answer.
            let _ = edge.core.timeout(ms(25_000), upload.write("y".repeat(LEN))).await;
        };
        sending.await;
        let answer = waits.whole().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(upload.head().await.starts_with("HTTP/1.1 200 "));
    });
    bed.assert_clean();
}

#[test]
fn a_server_that_answers_no_ping_is_waited_for_as_long_as_its_host_is_there() {
    let play = script(|peer| async move {
        let mut raw = Raw::begin(peer).await;
        let stream = raw.request().await.unwrap();
        raw.peer.core.sleep(ms(60_000)).await;
        raw.write(HEADERS, WHOLE, stream, STATUS_200).await;
        raw.request().await;
    });
    let mut bed = bed(play);
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert!(call.whole().await.starts_with("HTTP/1.1 200 "));
    });
    bed.assert_clean();
}
