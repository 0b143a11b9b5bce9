//! Agents over HTTP/2 that stand still, through the real edge and the real connector on virtual time: how long each may, and
//! what it loses.

pub(crate) mod frames;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::engine::ByteStream;
use adit::latency::Outcome;

use crate::bodies::send;
use crate::http2::frames::{
    DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR, RST_STREAM,
    WINDOW_UPDATE, begin, block, block_to, frame,
};
use crate::stalls::{Bed, LARGE, WRITE_TIMEOUT, connect};

const SECOND: Duration = Duration::from_secs(1);
/// How long a head may take, and a connection until its first request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the rest of a request may take after its response.
const REST_TIMEOUT: Duration = SECOND;
/// How long an agent that is told of the end may take to end its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What came: kinds of frames, of those that end something their codes, and the end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Head(u32),
    Reset(u32, u32),
    Goaway(u32),
    Closed,
}

/// An agent that sends this behind its preface, with streams that may be sent so many bytes each, and reads what comes.
fn agent(bed: &Bed, window: u32, frames: &[Vec<u8>]) -> Rc<RefCell<Vec<Came>>> {
    agent_with_pauses(bed, window, vec![frames.concat()])
}

/// The same, with a millisecond after each piece.
pub(crate) fn agent_with_pauses(bed: &Bed, window: u32, pieces: Vec<Vec<u8>>) -> Rc<RefCell<Vec<Came>>> {
    agent_that_pauses(bed, window, pieces, Duration::from_millis(1))
}

/// The same, with this pause after each piece.
pub(crate) fn agent_that_pauses(
    bed: &Bed,
    window: u32,
    pieces: Vec<Vec<u8>>,
    pause: Duration,
) -> Rc<RefCell<Vec<Came>>> {
    let begin = begin(window);
    let (core, came) = (bed.agents.clone(), Rc::<RefCell<Vec<Came>>>::default());
    let shared = Rc::clone(&came);
    bed.agents.spawn(async move {
        let socket = Rc::new(connect(&core).await);
        let sending = Rc::clone(&socket);
        core.spawn(async move {
            send(&sending, &begin).await.unwrap();
            for piece in pieces {
                // The edge may have ended it.
                let _ = send(&sending, &piece).await;
                sending.core().sleep(pause).await;
            }
        });
        let mut received = Vec::new();
        while let Ok(Some(lease)) = socket.recv().await {
            received.extend_from_slice(&lease);
            while let Some(frame) = Frame::take(&mut received) {
                match frame.kind {
                    HEADERS => shared.borrow_mut().push(Came::Head(frame.stream)),
                    RST_STREAM => shared.borrow_mut().push(Came::Reset(frame.stream, frame.code())),
                    GOAWAY => shared.borrow_mut().push(Came::Goaway(frame.code())),
                    _ => {}
                }
            }
        }
        shared.borrow_mut().push(Came::Closed);
    });
    came
}

#[test]
fn a_connection_without_a_request_is_closed_in_time() {
    let mut bed = Bed::start();
    let came = agent(&bed, 65_535, &[]);
    bed.pass(HEADER_TIMEOUT - SECOND);
    assert_eq!(*came.borrow(), []);
    bed.pass(SECOND + CLOSE_TIMEOUT);
    assert_eq!(came.borrow().last(), Some(&Came::Closed));
    assert!(came.borrow().contains(&Came::Goaway(NO_ERROR)), "{came:?}");
    bed.assert_nothing_is_left();
}

#[test]
fn a_head_that_does_not_come_to_its_end_closes_the_connection_in_time() {
    let mut bed = Bed::start();
    let head = block("GET", "/5", &[]);
    // Behind a call, so that it is not the limit of the first one.
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
    let came = agent(&bed, 65_535, &[whole, frame(HEADERS, END_STREAM, 3, &head)]);
    bed.pass(HEADER_TIMEOUT - SECOND);
    assert_eq!(*came.borrow(), [Came::Head(1)]);
    bed.pass(SECOND + CLOSE_TIMEOUT);
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Goaway(ENHANCE_YOUR_CALM), Came::Closed]);
    bed.assert_nothing_is_left();
}

/// Neither a call nor the end of the connection waits for an agent that reads nothing at all.
#[test]
fn a_late_head_closes_the_connection_of_an_agent_that_reads_nothing() {
    let mut bed = Bed::start();
    let window = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let get = |stream, flags| frame(HEADERS, END_STREAM | flags, stream, &block("GET", &format!("/{LARGE}"), &[]));
    let bytes = [begin(1 << 30), window, get(1, END_HEADERS), get(3, 0)].concat();
    let core = bed.agents.clone();
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        send(&socket, &bytes).await.unwrap();
        core.sleep(600 * SECOND).await;
    });
    bed.pass(HEADER_TIMEOUT - SECOND);
    assert_eq!(bed.outcomes(), []);
    assert!(bed.edge_core.pool().usage().leased_bytes > 100_000, "more waits than the agent's system takes");
    bed.pass(SECOND + CLOSE_TIMEOUT);
    assert_eq!(bed.outcomes(), [(Outcome::AgentGone, 1)]);
    bed.pass(WRITE_TIMEOUT + CLOSE_TIMEOUT);
    bed.assert_nothing_is_left();
}

#[test]
fn an_idle_connection_is_closed_in_time_though_its_agent_answers_nothing() {
    let mut bed = Bed::start();
    let came = agent(&bed, 65_535, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block("GET", "/5", &[]))]);
    bed.pass(IDLE_TIMEOUT - SECOND);
    assert_eq!(*came.borrow(), [Came::Head(1)]);
    bed.pass(SECOND + CLOSE_TIMEOUT);
    assert_eq!(came.borrow().last(), Some(&Came::Closed));
    assert_eq!(came.borrow()[1], Came::Goaway(NO_ERROR));
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 1)]);
    bed.assert_nothing_is_left();
}

#[test]
fn a_stream_that_takes_nothing_loses_its_call_and_leaves_the_connection() {
    let mut bed = Bed::start();
    let head = block("GET", &format!("/{LARGE}"), &[]);
    let came = agent(&bed, 0, &[frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)]);
    bed.pass(WRITE_TIMEOUT - SECOND);
    assert_eq!((came.borrow().clone(), bed.outcomes()), (vec![Came::Head(1)], vec![]));
    assert!(bed.edge_core.pool().usage().leased_bytes > 0, "the edge holds what the agent does not take");
    bed.pass(10 * SECOND);
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Reset(1, INTERNAL_ERROR)]);
    assert_eq!(bed.outcomes(), [(Outcome::AgentStalled, 1)]);
    bed.assert_nothing_is_left();
}

#[test]
fn a_body_that_does_not_come_ends_its_call_in_time() {
    let mut bed = Bed::start();
    let head = block("POST", "/10", &[("content-length", "10")]);
    let came = agent(&bed, 65_535, &[frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, 0, 1, b"three")]);
    bed.pass(WRITE_TIMEOUT - SECOND);
    assert_eq!((came.borrow().clone(), bed.outcomes()), (vec![], vec![]));
    bed.pass(10 * SECOND);
    assert_eq!(*came.borrow(), [Came::Reset(1, INTERNAL_ERROR)]);
    assert_eq!(bed.outcomes(), [(Outcome::AgentStalled, 1)]);
    bed.assert_nothing_is_left();
}

/// The call is over when the announced length has come; END_STREAM may follow in a frame of its own.
#[test]
fn a_request_may_end_after_its_response() {
    let pause = Duration::from_millis(50);
    let post =
        [frame(HEADERS, END_HEADERS, 1, &block("POST", "/1", &[("content-length", "1")])), frame(DATA, 0, 1, b"x")];
    let trailers = [&[0, 1][..], b"x", &[1], b"y"].concat();
    for end in [frame(DATA, END_STREAM, 1, b""), frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers)] {
        let mut bed = Bed::start();
        let get = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block("GET", "/5", &[]));
        let came = agent_that_pauses(&bed, 65_535, vec![post.concat(), end, get], pause);
        bed.pass(pause - Duration::from_millis(10));
        assert_eq!((came.borrow().clone(), bed.outcomes()), (vec![Came::Head(1)], vec![(Outcome::Ok, 1)]));
        bed.pass(5 * SECOND);
        assert_eq!(*came.borrow(), [Came::Head(1), Came::Head(3)]);
        assert_eq!(bed.outcomes(), [(Outcome::Ok, 2)]);
        bed.pass(IDLE_TIMEOUT + CLOSE_TIMEOUT);
        assert_eq!(came.borrow()[2..], [Came::Goaway(NO_ERROR), Came::Closed]);
        bed.assert_nothing_is_left();
    }
}

/// Clients that flush send frames of a body that carry nothing.
#[test]
fn frames_that_carry_nothing_cost_no_call() {
    let mut bed = Bed::start();
    let mut frames = Vec::new();
    for stream in [1, 3] {
        frames.push(frame(HEADERS, END_HEADERS, stream, &block("POST", "/4", &[("content-length", "4")])));
        for _ in 0..400 {
            frames.push(frame(DATA, 0, stream, &[]));
        }
        frames.extend([frame(DATA, 0, stream, b"body"), frame(DATA, END_STREAM, stream, &[])]);
    }
    let came = agent(&bed, 65_535, &frames);
    bed.pass(SECOND);
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Head(3)]);
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 2)]);
    bed.pass(IDLE_TIMEOUT + CLOSE_TIMEOUT);
    bed.assert_nothing_is_left();
}

#[test]
fn a_request_that_does_not_end_after_its_response_is_reset_in_time() {
    let mut bed = Bed::start();
    let tasks = bed.edge_core.open_tasks();
    let post = |stream| {
        let head = block("POST", "/1", &[("content-length", "1")]);
        [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, b"x")].concat()
    };
    let came = agent(&bed, 65_535, &[post(1)]);
    bed.pass(REST_TIMEOUT - Duration::from_millis(100));
    assert_eq!((came.borrow().clone(), bed.outcomes()), (vec![Came::Head(1)], vec![(Outcome::Ok, 1)]));
    bed.pass(Duration::from_millis(200));
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Reset(1, NO_ERROR)]);
    // The connection does not outlive its idle time for many of them.
    let posts = (3..99).step_by(2).map(post).collect();
    let many = agent_with_pauses(&bed, 65_535, posts);
    bed.pass(5 * SECOND);
    assert_eq!(many.borrow().iter().filter(|came| matches!(came, Came::Reset(_, NO_ERROR))).count(), 48);
    bed.pass(IDLE_TIMEOUT + CLOSE_TIMEOUT);
    assert_eq!(many.borrow().last(), Some(&Came::Closed));
    assert_eq!(bed.outcomes(), [(Outcome::Ok, 49)]);
    assert_eq!(bed.edge_core.open_tasks(), tasks);
    bed.assert_nothing_is_left();
}

/// The edge refuses it by its head, and takes 64 KiB of its body.
#[test]
fn a_refused_request_is_received_up_to_a_limit() {
    let mut bed = Bed::start();
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &block_to("unknown.test", "POST", "/1", &[]));
    let part = |stream| frame(DATA, 0, stream, &[b'x'; 16_383]).repeat(4);
    let longer = frame(DATA, 0, 3, &[b'x'; 5]);
    let pieces = vec![head(1), part(1), frame(DATA, END_STREAM, 1, b"xxxx"), head(3), part(3), longer];
    let came = agent_that_pauses(&bed, 65_535, pieces, Duration::from_millis(50));
    bed.pass(Duration::from_millis(240));
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Head(3)]);
    bed.pass(Duration::from_millis(100));
    assert_eq!(*came.borrow(), [Came::Head(1), Came::Head(3), Came::Reset(3, NO_ERROR)]);
    bed.assert_nothing_is_left();
}

#[test]
fn calls_that_are_given_up_while_they_wait_for_a_connector_do_not_pile_up() {
    let mut bed = Bed::start();
    bed.kill_connector();
    let tasks = bed.edge_core.open_tasks();
    let head = block("GET", "/5", &[]);
    let given_up = |stream| {
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [frame(HEADERS, END_HEADERS | END_STREAM, stream, &head), reset].concat()
    };
    // One after the other, so that each is begun before it is given up.
    let pieces = (1..2_000_u32).step_by(2).map(given_up).collect();
    let came = agent_with_pauses(&bed, 65_535, pieces);
    for _ in 0..40 {
        bed.pass(Duration::from_millis(50));
        let open = bed.edge_core.open_tasks() - tasks;
        assert!(open <= 140, "{open} tasks");
    }
    assert!(came.borrow().contains(&Came::Goaway(ENHANCE_YOUR_CALM)), "{came:?}");
    bed.pass(10 * SECOND);
    assert_eq!(came.borrow().last(), Some(&Came::Closed));
}

/// Answers that are read all the time, as large as they come, hold up no small one.
#[test]
fn a_small_answer_does_not_wait_for_its_turn_behind_large_ones() {
    const BULK: u32 = 40;
    const SMALL: u32 = 2 * BULK + 1;
    let mut bed = Bed::start();
    let get = |stream, path: &str| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block("GET", path, &[]));
    let mut begin = [begin(1 << 30), frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes())].concat();
    (0..BULK).for_each(|nth| begin.extend(get(2 * nth + 1, "/1000000")));
    let (core, came) = (bed.agents.clone(), Rc::<RefCell<Option<usize>>>::default());
    let shared = Rc::clone(&came);
    bed.agents.spawn(async move {
        let socket = Rc::new(connect(&core).await);
        send(&socket, &begin).await.unwrap();
        let (mut received, mut of_others, mut asked_at) = (Vec::new(), 0, None);
        while let Ok(Some(lease)) = socket.recv().await {
            received.extend_from_slice(&lease);
            // It reads more slowly than the link brings them.
            core.sleep(Duration::from_millis(5)).await;
            while let Some(frame) = Frame::take(&mut received) {
                if frame.kind == DATA && frame.stream == SMALL {
                    shared.borrow_mut().get_or_insert(of_others - asked_at.unwrap());
                }
                of_others += frame.payload.len();
            }
            // All of the others are under way.
            if asked_at.is_none() && of_others > 4_000_000 {
                asked_at = Some(of_others);
                send(&socket, &get(SMALL, "/5")).await.unwrap();
            }
        }
    });
    bed.pass(600 * SECOND);
    let of_others = came.borrow().unwrap();
    // What the connection's own queue holds, and the systems on the way.
    assert!(of_others < 400_000, "{of_others} bytes of others came first");
    assert_eq!(bed.outcomes(), [(Outcome::Ok, u64::from(BULK) + 1)]);
}
