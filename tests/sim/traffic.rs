//! The same for each kind of traffic, on virtual time: how an agent's cancellation reaches the upstream, and how roles and agents
//! end.

mod bed;

use std::time::Duration;

use adit::base::Traffic;
use adit::engine::ByteStream;
use adit::tls::ALPN_HTTP1;

use crate::http2::frames::{
    CANCEL, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, RST_STREAM, block, frame,
};
use crate::roles::HOST;
use crate::sealed::TRAFFIC;
use bed::{Bed, write};

const SECOND: Duration = Duration::from_secs(1);
/// How long a cancellation may take from the agent to the upstream. Three legs of it are 3 ms.
const PASSED_ON: Duration = Duration::from_millis(10);
/// Within which a role has ended that waits for nothing.
const AT_ONCE: Duration = Duration::from_millis(999);
/// As the edge is set.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

fn request(stream: u32, method: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(method, path, &[]))
}

#[test]
fn a_stream_that_its_agent_resets_is_given_up_at_the_upstream_within_10_ms() {
    for traffic in TRAFFIC {
        let mut bed = Bed::start(traffic);
        // Before an answer, within one, and within the request.
        let upload = frame(HEADERS, END_HEADERS, 5, &block("POST", "/hold", &[("content-length", "10")]));
        let begun = [request(1, "POST", "/hold"), request(3, "GET", "/events"), upload, frame(DATA, 0, 5, b"a part")];
        let mut pieces = vec![(Duration::ZERO, begun.concat())];
        for stream in [1, 3, 5] {
            pieces.push((SECOND / 10, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())));
        }
        pieces.push((SECOND / 10, request(7, "GET", "/5")));
        let heard = bed.http2_agent(pieces, true);
        bed.pass(SECOND);
        let (heard, given_up) = (heard.borrow(), bed.upstream.given_up.borrow());
        assert_eq!((bed.upstream.asked.get(), given_up.len()), (4, 3), "{traffic}");
        for (nth, at) in given_up.iter().enumerate() {
            let took = *at - heard.sent_at[1 + nth];
            assert!(took <= PASSED_ON, "{traffic}: the cancellation of call {nth} took {took:?}");
        }
        let answered = heard.of(&[HEADERS]);
        assert_eq!(
            answered,
            [(HEADERS, END_HEADERS, 3), (HEADERS, END_HEADERS, 7)],
            "{traffic}: the connection goes on"
        );
        assert_eq!(heard.of(&[RST_STREAM, GOAWAY]), [], "{traffic}");
    }
}

/// Whether its agent says that it knows of the end or not.
#[test]
fn a_role_that_ends_waits_for_no_event_stream_over_http_2() {
    for traffic in TRAFFIC {
        for (ends_edge, answers_pings) in [(true, true), (true, false), (false, true), (false, false)] {
            let what = format!("{traffic}, the edge: {ends_edge}, answers: {answers_pings}");
            let mut bed = Bed::start(traffic);
            let heard = bed.http2_agent(vec![(Duration::ZERO, request(1, "GET", "/events"))], answers_pings);
            bed.pass(SECOND);
            assert_eq!(heard.borrow().of(&[HEADERS, DATA]), [(HEADERS, END_HEADERS, 1), (DATA, 0, 1)], "{what}");
            if ends_edge {
                bed.drain_edge()
            } else {
                bed.drain_connector()
            }
            bed.pass(AT_ONCE);
            let heard = heard.borrow();
            assert_eq!(heard.of(&[DATA, RST_STREAM])[1..], [(DATA, END_STREAM, 1)], "{what}");
            let has_ended = if ends_edge { bed.edge_has_ended() } else { bed.connector_has_ended() };
            assert!(has_ended, "{what}");
            let is_told = ends_edge || traffic == Traffic::Passthrough;
            let codes: Vec<_> = heard.frames.iter().filter(|came| came.kind == GOAWAY).map(|end| end.code()).collect();
            assert_eq!((heard.is_closed, !codes.is_empty()), (is_told, is_told), "{what}");
            assert!(codes.iter().all(|code| *code == NO_ERROR), "{what}: {codes:?}");
        }
    }
}

/// It closes without a reset, behind bytes that nobody reads, and takes nothing of what it is sent.
#[test]
fn an_agent_that_closes_behind_bytes_sent_ahead_is_given_up_in_time() {
    for traffic in TRAFFIC {
        // As much as the edge and its system take, so that the end comes through: at once, or behind what the link has no room for.
        let taken: &[usize] =
            if traffic == Traffic::Passthrough { &[1, 150_000, 200_000, 250_000] } else { &[1, 80_000] };
        let silent = taken.iter().map(|ahead| ("/hold", *ahead));
        let stalled = [1, 100_000, 200_000, 600_000].map(|ahead| ("/8000000", ahead));
        for (path, ahead) in silent.chain(stalled) {
            let what = format!("{traffic}, {path}, {ahead} bytes ahead");
            let mut bed = Bed::start(traffic);
            let (core, door) = (bed.agents.clone(), bed.sealed.door(ALPN_HTTP1));
            bed.agents.spawn(async move {
                let agent = door.connect(&core).await.expect("a connector is linked");
                write(&agent, format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await;
                core.sleep(SECOND).await;
                write(&agent, &vec![b'x'; ahead]).await;
                agent.finish();
                core.sleep(600 * SECOND).await;
            });
            bed.pass(SECOND / 2);
            assert_eq!((bed.upstream.asked.get(), bed.held().2), (1, 1), "{what}");
            bed.pass(if ahead == 1 { 2 * SECOND } else { WRITE_TIMEOUT + 12 * SECOND });
            assert_eq!(bed.held(), (0, 0, 0), "{what}");
        }
    }
}
