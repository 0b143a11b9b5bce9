//! A link over QUIC: each call on a stream of its own, so that a lost packet of one call delays no other.
//!
//! The connector opens the first stream, for control. The stream with the id `n` of the link is the stream `(n - 1) / 2` that the
//! edge opens, so that each side finds one by the other.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;
use quinn_proto::{Dir, Side};

use crate::engine::{Class, LARGE_LEN, Lease, StreamError};
use crate::link::running::{Link, LinkEnded};
use crate::quic::{QuicConnection, QuicNews};
use crate::wire::mux::{Cause, FrameSink, Lane, LaneAfter, LanePlace, Side as LinkSide};
use crate::wire::quic::{ConnectionError, QuicRead, StreamId};

/// How many bytes of frames are given to QUIC at a time.
const TRANSMIT_BUDGET: usize = 64 * 1024;
/// How long the last frame of a link may take to reach the peer.
const LAST_FRAME_MAX: Duration = Duration::from_secs(1);

/// The QUIC streams of a link.
struct Lanes<'a> {
    connection: &'a QuicConnection,
    is_edge: bool,
    control: Option<StreamId>,
    control_lane: Lane,
    calls: HashMap<StreamId, CallLane>,
    /// How many streams the edge has opened.
    opened: u64,
    /// Frames that QUIC had no room for, in order. Nothing else is sent while there are some.
    waiting: VecDeque<Waiting>,
    /// Streams that the other side has opened and that were not read yet. There is no other news of their first bytes.
    fresh: Vec<StreamId>,
    /// Streams of calls that came before the link was ready.
    early: Vec<StreamId>,
}

/// The stream of a call.
struct CallLane {
    lane: Lane,
    /// This side sends nothing more.
    has_sent_all: bool,
    /// The other side sends nothing more, or nothing more of it is wanted.
    has_read_all: bool,
    /// The other side has asked to stop before its OPEN was read.
    stopped: Option<Cause>,
}

/// A frame, or the rest of one, that waits for room.
struct Waiting {
    place: LanePlace,
    bytes: Vec<u8>,
}

impl Link {
    /// Carries the link over `connection` until it ends, and returns how it ended. Run it as a task of its own.
    pub async fn run_quic(&self, connection: &Rc<QuicConnection>, is_edge: bool) -> LinkEnded {
        self.0.quic.replace(Rc::downgrade(connection));
        self.mux().borrow_mut().use_lanes();
        let lanes = RefCell::new(Lanes::new(connection, is_edge));
        let ended = future::or(self.receive_lanes(&lanes), self.run_time(|| None));
        let ended = future::or(ended, self.transmit_lanes(&lanes)).await;
        if ended.by == LinkSide::Local {
            // The last frame carries the reason.
            self.transmit_once(&lanes);
            let _ = self.core().timeout(LAST_FRAME_MAX, delivered(&lanes)).await;
        }
        ended
    }

    async fn receive_lanes(&self, lanes: &RefCell<Lanes<'_>>) -> LinkEnded {
        let connection = lanes.borrow().connection;
        loop {
            while self.ended().is_none() {
                let Some(fresh) = lanes.borrow_mut().fresh.pop() else { break };
                self.read(lanes, fresh).await;
            }
            if let Some(ended) = self.ended() {
                return ended;
            }
            match poll_fn(|cx| connection.poll_news(cx)).await {
                Ok(QuicNews::Opened) => lanes.borrow_mut().accept(),
                Ok(QuicNews::Readable(stream)) => self.read(lanes, stream).await,
                Ok(QuicNews::Unblocked) => {
                    lanes.borrow_mut().send_waiting();
                    self.wake_transmitter();
                }
                Ok(QuicNews::Stopped(stream, code)) => self.stopped(lanes, stream, code),
                Ok(QuicNews::Delivered(_)) => {}
                Err(ConnectionError::TimedOut) => self.lost(Some(&StreamError::TimedOut)),
                Err(_) => self.lost(None),
            }
        }
    }

    async fn transmit_lanes(&self, lanes: &RefCell<Lanes<'_>>) -> LinkEnded {
        loop {
            self.wants_transmit().await;
            if let Some(ended) = self.ended() {
                return ended;
            }
            // Waits for the end of the turn, so that frames of other tasks in this turn share packets.
            self.core().turn_end().await;
            self.size_window();
            if !self.transmit_once(lanes) {
                // `Unblocked` wakes this task, which sends what waits and then continues here.
                poll_fn(|cx| {
                    if lanes.borrow().waiting.is_empty() || self.ended().is_some() {
                        return std::task::Poll::Ready(());
                    }
                    self.wake_when_sent(cx);
                    std::task::Poll::Pending
                })
                .await;
            }
            self.process_events();
            self.on_sent();
        }
    }

    /// Gives QUIC the next frames. Returns false if it has no room for more.
    fn transmit_once(&self, lanes: &RefCell<Lanes<'_>>) -> bool {
        let mut lanes = lanes.borrow_mut();
        let now = self.core().turn_time();
        if lanes.waiting.is_empty() {
            self.mux().borrow_mut().poll_transmit(now, TRANSMIT_BUDGET, &mut *lanes);
        }
        lanes.waiting.is_empty()
    }

    /// Reads what has arrived on a stream.
    async fn read(&self, lanes: &RefCell<Lanes<'_>>, stream: StreamId) {
        let is_control = lanes.borrow().control == Some(stream);
        if !is_control && !self.mux().borrow().is_ready() {
            // OPEN may overtake the WELCOME before it.
            let mut lanes = lanes.borrow_mut();
            if !lanes.early.contains(&stream) {
                lanes.early.push(stream);
            }
            return;
        }
        self.read_lane(lanes, stream).await;
        while is_control && self.mux().borrow().is_ready() {
            let Some(early) = lanes.borrow_mut().early.pop() else { break };
            self.read_lane(lanes, early).await;
        }
    }

    async fn read_lane(&self, lanes: &RefCell<Lanes<'_>>, stream: StreamId) {
        let connection = lanes.borrow().connection;
        loop {
            match connection.read(stream, LARGE_LEN) {
                QuicRead::Bytes(bytes) => {
                    // While there is no buffer nothing is read, and QUIC gives the peer no more credit.
                    let mut lease = self.pool().lease(Class::for_len(bytes.len())).await;
                    lease.append(&bytes);
                    self.receive_on(lanes, stream, lease);
                }
                QuicRead::Blocked => break,
                QuicRead::Finished => {
                    lanes.borrow_mut().read_all(stream);
                    break;
                }
                QuicRead::Reset(code) => {
                    self.receive_with(|mux, now| mux.receive_reset(now, id_of(stream), cause_of(code)));
                    lanes.borrow_mut().read_all(stream);
                    break;
                }
            }
            if self.ended().is_some() {
                return;
            }
        }
        if lanes.borrow().control == Some(stream) {
            return;
        }
        let stopped = lanes.borrow().calls.get(&stream).and_then(|call| call.stopped);
        if let Some(cause) = stopped {
            self.receive_with(|mux, now| mux.receive_reset(now, id_of(stream), cause));
        }
        let is_live = self.mux().borrow().is_live(id_of(stream));
        lanes.borrow_mut().settle(stream, is_live);
    }

    fn receive_on(&self, lanes: &RefCell<Lanes<'_>>, stream: StreamId, lease: Lease) {
        let mut lanes = lanes.borrow_mut();
        if lanes.control == Some(stream) {
            return self.receive_with(|mux, now| mux.receive_on(now, &mut lanes.control_lane, lease));
        }
        if let Some(call) = lanes.calls.get_mut(&stream) {
            self.receive_with(|mux, now| mux.receive_on(now, &mut call.lane, lease));
        }
    }

    /// The other side wants nothing more of a call, and sends nothing more that matters.
    fn stopped(&self, lanes: &RefCell<Lanes<'_>>, stream: StreamId, code: u64) {
        if lanes.borrow().control == Some(stream) {
            return self.lost(None);
        }
        let is_live = self.mux().borrow().is_live(id_of(stream));
        if is_live {
            self.receive_with(|mux, now| mux.receive_reset(now, id_of(stream), cause_of(code)));
        } else if let Some(call) = lanes.borrow_mut().calls.get_mut(&stream) {
            call.stopped = Some(cause_of(code));
        }
        let mut lanes = lanes.borrow_mut();
        lanes.connection.reset(stream, 0);
        if let Some(call) = lanes.calls.get_mut(&stream) {
            call.has_sent_all = true;
        }
        lanes.tidy(stream);
    }
}

impl<'a> Lanes<'a> {
    fn new(connection: &'a QuicConnection, is_edge: bool) -> Lanes<'a> {
        let control = if is_edge { None } else { connection.open_stream() };
        let (calls, waiting) = (HashMap::new(), VecDeque::new());
        let control_lane = Lane::control();
        let mut lanes = Lanes {
            connection,
            is_edge,
            control,
            control_lane,
            calls,
            opened: 0,
            waiting,
            fresh: Vec::new(),
            early: Vec::new(),
        };
        lanes.accept();
        lanes
    }

    /// Notes the streams that the other side has opened.
    fn accept(&mut self) {
        while let Some(stream) = self.connection.accept_stream() {
            if !self.is_edge {
                self.calls.insert(stream, CallLane::new(stream));
                self.fresh.push(stream);
            } else if self.control.is_none() {
                self.control = Some(stream);
                self.fresh.push(stream);
            } else {
                // A connector has no other stream to open.
                self.connection.reset(stream, 0);
                self.connection.stop(stream, 0);
            }
        }
    }

    /// Sends a frame, or the rest of one; keeps what QUIC has no room for.
    fn send(&mut self, place: LanePlace, bytes: &[u8]) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(Waiting { place, bytes: bytes.to_vec() });
        }
        let written = self.write(place, bytes);
        if written < bytes.len() {
            self.waiting.push_front(Waiting { place, bytes: bytes[written..].to_vec() });
        }
    }

    /// Writes what there is room for. Bytes for a stream that takes none any more count as written.
    fn write(&mut self, place: LanePlace, bytes: &[u8]) -> usize {
        let stream = match place {
            LanePlace::Control => self.control,
            LanePlace::Call { stream, .. } => self.stream_of(stream),
        };
        let Some(stream) = stream else { return 0 };
        self.connection.write(stream, bytes).unwrap_or(bytes.len())
    }

    /// The QUIC stream of a call; the edge opens it with the first frame. `None` if the other side permits no further one now.
    fn stream_of(&mut self, id: u32) -> Option<StreamId> {
        let wanted = stream_of(id);
        while self.is_edge && self.opened <= wanted.index() {
            let stream = self.connection.open_stream()?;
            self.opened += 1;
            if stream == wanted {
                self.calls.insert(stream, CallLane::new(stream));
            } else {
                // The call with this id ended before anything of it was sent.
                self.connection.reset(stream, 0);
                self.connection.stop(stream, 0);
            }
        }
        Some(wanted)
    }

    /// Ends a stream as its last frame demands.
    fn after(&mut self, place: LanePlace) {
        let LanePlace::Call { stream: id, after } = place else { return };
        let stream = stream_of(id);
        let Some(call) = self.calls.get_mut(&stream) else { return };
        match after {
            LaneAfter::Continues => return,
            LaneAfter::Finishes => self.connection.finish(stream),
            LaneAfter::Resets(cause) => {
                self.connection.finish(stream);
                self.connection.stop(stream, cause.code());
                call.has_read_all = true;
            }
        }
        call.has_sent_all = true;
        self.tidy(stream);
    }

    /// Sends what waits for room, and returns whether nothing waits any more.
    fn send_waiting(&mut self) -> bool {
        while let Some(mut waiting) = self.waiting.pop_front() {
            let written = self.write(waiting.place, &waiting.bytes);
            if written < waiting.bytes.len() {
                waiting.bytes.drain(..written);
                self.waiting.push_front(waiting);
                return false;
            }
            self.after(waiting.place);
        }
        true
    }

    fn read_all(&mut self, stream: StreamId) {
        if let Some(call) = self.calls.get_mut(&stream) {
            call.has_read_all = true;
        }
    }

    /// After reading: ends the sending direction of a call that has ended, and forgets what is over.
    fn settle(&mut self, stream: StreamId, is_live: bool) {
        let Some(call) = self.calls.get_mut(&stream) else { return };
        if call.has_read_all && !is_live && !call.has_sent_all {
            call.has_sent_all = true;
            self.connection.finish(stream);
        }
        self.tidy(stream);
    }

    fn tidy(&mut self, stream: StreamId) {
        if self.calls.get(&stream).is_some_and(|call| call.has_sent_all && call.has_read_all) {
            self.calls.remove(&stream);
        }
    }
}

impl CallLane {
    fn new(stream: StreamId) -> CallLane {
        CallLane { lane: Lane::of_call(id_of(stream)), has_sent_all: false, has_read_all: false, stopped: None }
    }
}

impl FrameSink<Lease> for Lanes<'_> {
    fn frame(&mut self, head: &[u8], payload: Option<Lease>) {
        let place = LanePlace::of(head);
        // The peer may have stopped the call, or it has finished on this side and is reset now.
        if let LanePlace::Call { stream, after } = place
            && let Some(call) = self.calls.get_mut(&stream_of(stream))
            && call.has_sent_all
        {
            if let LaneAfter::Resets(cause) = after {
                self.connection.stop(stream_of(stream), cause.code());
                call.has_read_all = true;
                self.tidy(stream_of(stream));
            }
            return;
        }
        match payload {
            None => self.send(place, head),
            Some(payload) => {
                self.send(place.without_end(), head);
                self.send(place, &payload);
            }
        }
        if self.waiting.is_empty() {
            self.after(place);
        }
    }
}

/// Waits until the last frame has reached the peer's system, or the connection has ended.
async fn delivered(lanes: &RefCell<Lanes<'_>>) {
    let (connection, control) = (lanes.borrow().connection, lanes.borrow().control);
    let Some(control) = control else { return };
    loop {
        if lanes.borrow_mut().send_waiting() {
            connection.finish(control);
        }
        match poll_fn(|cx| connection.poll_news(cx)).await {
            Ok(QuicNews::Delivered(stream)) if stream == control => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn stream_of(id: u32) -> StreamId {
    StreamId::new(Side::Server, Dir::Bi, u64::from(id.saturating_sub(1) / 2))
}

fn id_of(stream: StreamId) -> u32 {
    u32::try_from(stream.index()).map_or(u32::MAX, |index| index.saturating_mul(2).saturating_add(1))
}

fn cause_of(code: u64) -> Cause {
    u16::try_from(code).map_or(Cause::LinkLost, Cause::from_code)
}
