//! Calls whose label is needed before they are opened, through the real edge and the real connector on virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::base::{DeadlineOverrides, GuardMode, Rng};
use adit::engine::ByteStream;
use adit::latency::Outcome;
use adit::route::RouteOverrides;

use crate::bodies::{send, sum};
use crate::http2::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, block, frame};
use crate::http2::{Came, agent_with_pauses};
use crate::roles::HOST;
use crate::stalls::{Bed, connect};

const SECOND: Duration = Duration::from_secs(1);
/// How long a body may take to say what it calls.
const SAYS_WITHIN: Duration = Duration::from_secs(30);
/// The longest frame of HTTP/2 that is sent.
const FRAME_LEN_MAX: usize = 16_000;
/// A message that is certain from `params` on.
const GOOD: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"q":"x"}}}"#;
/// One whose method comes twice, the second time at its end.
const TWICE: &str = r#"{"id":7,"method":"ping","params":{"q":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"method":"tools/call"}"#;

/// Which version of HTTP an agent speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// An edge with a rule that needs the label of each call.
fn bed() -> Bed {
    let bed = Bed::start();
    let deadlines = DeadlineOverrides { mode: Some(GuardMode::Enforce), ..DeadlineOverrides::default() };
    bed.reload(RouteOverrides { deadlines, ..RouteOverrides::default() });
    bed
}

/// A call with this body in pieces, a millisecond after one another. Its answer is in what is returned, once it came.
fn call(bed: &Bed, version: Version, body: &[u8], pieces: &[&[u8]]) -> Box<dyn Fn() -> Option<u16>> {
    let path = format!("/sum/{}/{}", body.len(), sum(body));
    match version {
        Version::Http1 => {
            let head = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n", body.len());
            let answer = http1(bed, [head.as_bytes()].into_iter().chain(pieces.iter().copied()));
            Box::new(move || answer.borrow().get(9..12).and_then(|status| status.parse().ok()))
        }
        Version::Http2 => {
            let len = body.len().to_string();
            let head = frame(HEADERS, END_HEADERS, 1, &block("POST", &path, &[("content-length", &len)]));
            let last = pieces.len().wrapping_sub(1);
            let is_whole = pieces.concat() == body;
            let data = pieces.iter().enumerate().map(|(nth, piece)| {
                let flags = if nth == last && is_whole { END_STREAM } else { 0 };
                frame(DATA, flags, 1, piece)
            });
            let came = agent_with_pauses(bed, 65_535, [head].into_iter().chain(data).collect());
            Box::new(move || came.borrow().contains(&Came::Head(1)).then_some(0))
        }
    }
}

/// What an agent of HTTP/1.1 reads that sends these pieces.
fn http1<'a>(bed: &Bed, pieces: impl Iterator<Item = &'a [u8]>) -> Rc<RefCell<String>> {
    let pieces: Vec<Vec<u8>> = pieces.map(<[u8]>::to_vec).collect();
    let (core, answer) = (bed.agents.clone(), Rc::<RefCell<String>>::default());
    let shared = Rc::clone(&answer);
    bed.agents.spawn(async move {
        let socket = Rc::new(connect(&core).await);
        let sending = Rc::clone(&socket);
        core.spawn(async move {
            for piece in pieces {
                // It may have been refused.
                let _ = send(&sending, &piece).await;
                sending.core().sleep(Duration::from_millis(1)).await;
            }
            sending.core().sleep(Duration::from_secs(60)).await;
        });
        while let Ok(Some(lease)) = socket.recv().await {
            shared.borrow_mut().push_str(&String::from_utf8_lossy(&lease));
        }
    });
    answer
}

/// The body cut at random places.
fn cut<'a>(body: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = (0..rng.below(6)).map(|_| rng.between(1, body.len() as u64 - 1) as usize).collect();
    at.sort_unstable();
    at.dedup();
    let ends = at.iter().copied().chain([body.len()]);
    let starts = [0].into_iter().chain(at.iter().copied());
    starts.zip(ends).flat_map(|(start, end)| body[start..end].chunks(FRAME_LEN_MAX)).collect()
}

#[test]
fn a_body_that_was_read_ahead_reaches_the_upstream_as_it_is() {
    for version in VERSIONS {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            // What an agent of HTTP/2 may send before it is told more.
            let long_max = if version == Version::Http2 { 60_000 } else { 150_000 };
            let len_max = if rng.chance(0.5) { long_max } else { 3_000 };
            let long = "x".repeat(rng.below(len_max) as usize);
            let body = match rng.below(4) {
                0 => GOOD.to_owned(),
                1 => format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"a","q":"{long}"}}}}"#),
                2 => format!(r#"{{"id":1,"result":{{"q":"{long}"}}}}"#),
                _ => format!("grant_type=refresh_token&q={long}"),
            };
            let mut bed = bed();
            let answered = call(&bed, version, body.as_bytes(), &cut(body.as_bytes(), &mut rng));
            bed.pass(SECOND);
            assert!(matches!(answered(), Some(0 | 200)), "{version:?}, seed {seed}: {:?}", answered());
            assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)], "{version:?}, seed {seed}");
            bed.pass(60 * SECOND);
            bed.assert_nothing_is_left();
        }
    }
}

#[test]
fn a_body_that_can_be_read_in_two_ways_is_refused_wherever_that_shows() {
    for version in VERSIONS {
        let batch = format!("[{GOOD}]");
        // At once; before the call is opened; when the call was opened and a part of the body has been sent.
        for pieces in [vec![TWICE], vec![&TWICE[..10], &TWICE[10..]], vec![&TWICE[..40], &TWICE[40..]], vec![&batch]] {
            let mut bed = bed();
            let body = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            let answered = call(&bed, version, body.as_bytes(), &pieces);
            bed.pass(SECOND);
            assert!(matches!(answered(), Some(0 | 400)), "{version:?}, {pieces:?}: {:?}", answered());
            assert_eq!(bed.outcomes(), [(Outcome::BadRequest, 1)], "{version:?}, {pieces:?}");
            bed.pass(60 * SECOND);
            bed.assert_nothing_is_left();
        }
    }
}

#[test]
fn where_no_rule_asks_such_a_body_is_passed_on() {
    for version in VERSIONS {
        let mut bed = Bed::start();
        let answered = call(&bed, version, TWICE.as_bytes(), &[TWICE.as_bytes()]);
        bed.pass(SECOND);
        assert!(matches!(answered(), Some(0 | 200)), "{version:?}: {:?}", answered());
        assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
    }
}

#[test]
fn a_body_that_does_not_name_its_call_in_time_is_refused() {
    for version in VERSIONS {
        let mut bed = bed();
        let answered = call(&bed, version, GOOD.as_bytes(), &[&GOOD.as_bytes()[..20]]);
        bed.pass(SAYS_WITHIN - SECOND);
        assert_eq!((answered(), bed.outcomes()), (None, vec![]), "{version:?}");
        bed.pass(2 * SECOND);
        assert!(matches!(answered(), Some(0 | 408)), "{version:?}: {:?}", answered());
        assert_eq!(bed.outcomes(), [(Outcome::BadRequest, 1)]);
        bed.pass(90 * SECOND);
        bed.assert_nothing_is_left();
    }
}

#[test]
fn a_body_whose_first_64_kib_do_not_name_its_call_is_refused() {
    for version in VERSIONS {
        let mut bed = bed();
        let body = format!(r#"{{"params":{{"q":"{}"}},"method":"ping"}}"#, "x".repeat(70_000));
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(FRAME_LEN_MAX).collect();
        let answered = call(&bed, version, body.as_bytes(), &pieces);
        bed.pass(SECOND);
        assert!(matches!(answered(), Some(0 | 413)), "{version:?}: {:?}", answered());
        assert_eq!(bed.outcomes(), [(Outcome::BadRequest, 1)]);
        bed.pass(60 * SECOND);
        bed.assert_nothing_is_left();
    }
}

#[test]
fn bodies_that_say_nothing_do_not_take_the_memory_of_others() {
    let mut bed = bed();
    let silent = format!(r#"{{"q":"{}"#, "x".repeat(60_000));
    let pieces: Vec<&[u8]> = silent.as_bytes().chunks(20_000).collect();
    let waiting: Vec<_> = (0..40).map(|_| call(&bed, Version::Http1, &[0; 100_000], &pieces)).collect();
    bed.pass(SECOND);
    let refused = waiting.iter().filter(|answered| answered() == Some(503)).count();
    let usage = bed.edge_core.pool().usage();
    assert!((1..40).contains(&refused) && usage.leased_bytes < usage.bytes_max / 4, "{refused} refused, {usage:?}");
    let answered = call(&bed, Version::Http1, GOOD.as_bytes(), &[&GOOD.as_bytes()[..20], &GOOD.as_bytes()[20..]]);
    bed.pass(SECOND);
    assert_eq!(answered(), Some(200), "a short one waits all the same");
    bed.pass(90 * SECOND);
    bed.assert_nothing_is_left();
}

#[test]
fn an_agent_that_leaves_while_its_body_is_read_ahead_leaves_nothing() {
    let mut bed = bed();
    let core = bed.agents.clone();
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        let head = format!("POST /sum/1/1 HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n{{");
        send(&socket, head.as_bytes()).await.unwrap();
        core.sleep(SECOND).await;
    });
    bed.pass(2 * SECOND);
    assert_eq!(bed.outcomes(), [(Outcome::AgentGone, 1)]);
    bed.assert_nothing_is_left();
}

#[test]
fn expect_100_continue_is_answered_once() {
    let mut bed = bed();
    let (len, sum) = (GOOD.len(), sum(GOOD.as_bytes()));
    let head = format!(
        "POST /sum/{len}/{sum} HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n"
    );
    let answer = http1(&bed, [head.as_bytes(), b"", b"", GOOD.as_bytes()].into_iter());
    bed.pass(SECOND);
    let answer = answer.borrow();
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
}
