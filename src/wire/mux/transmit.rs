use zeroize::Zeroize;

use crate::base::{Chunk, Time};

use super::cause::Cause;
use super::event::{Event, StreamId};
use super::fault::Fault;
use super::frame::{CONTROL_LEN_MAX, FrameKind, HEADER_LEN, Header, PAYLOAD_LEN_MAX};
use super::machine::{Greeting, LinkRole, LinkState, Mux};
use super::open::put_budget;
use super::phases::{PHASES_LEN, Phases};
use super::stream::{Item, QUEUE_ITEMS_MAX, SendState, Withdrawal};

/// The smallest budget of [`Mux::poll_transmit`], in bytes: any control frame but HOSTS fits. A smaller budget counts
/// as this one.
pub const TRANSMIT_BUDGET_MIN: usize = HEADER_LEN + CONTROL_LEN_MAX;
/// When a budget or a turn is nearly used up, a chunk is not cut for less than this, in bytes.
const CUT_MIN: usize = 1_024;

/// Receives the frames of [`Mux::poll_transmit`]; implemented by the transport.
pub trait FrameSink<B> {
    /// Receives one frame. `head` is its header and, except for DATA, its payload; `payload` is that of DATA.
    fn frame(&mut self, head: &[u8], payload: Option<B>);
}

/// A control frame that can be sent next.
#[derive(Clone, Copy, Debug)]
enum Control {
    Greeting,
    Close(Fault),
    Hosts,
    Pong(u64),
    Ping,
    LinkCredit,
    Drain,
    TurnAway(u32, Cause),
    Open(u32),
    Credit(u32),
    Reset(u32, Cause),
}

/// The next piece of a stream to send.
enum Piece<B> {
    Data { payload: Option<B>, fin: bool },
    Phases(Phases),
}

/// What to do with the stream at turn.
enum Choice {
    /// Send this many payload bytes of its first item.
    Send(usize),
    /// Its turn is almost used up.
    EndTurn,
    /// It has nothing that it may send.
    Pass,
    /// The budget is almost used up.
    Stop,
}

impl<B: Chunk> Mux<B> {
    /// Whether [`poll_transmit`](Mux::poll_transmit) has something to send.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.wants_control() || (self.progress == LinkState::Ready && self.ready > 0 && self.credit.left() > 0)
    }

    /// Gives frames to `outlet`, most urgent first, until about `budget` bytes are used up or nothing is left. Returns
    /// the number of bytes, never more than the budget unless HOSTS needs it. The rest stays queued here, where a newer and smaller message
    /// can still be sent before it.
    pub fn poll_transmit<O: FrameSink<B>>(&mut self, now: Time, budget: usize, outlet: &mut O) -> usize {
        let budget = budget.max(TRANSMIT_BUDGET_MIN);
        let mut used = 0;
        while let Some(control) = self.next_control() {
            let len = self.encode_control(now, control);
            if used + len > budget && !(used == 0 && matches!(control, Control::Hosts)) {
                return used;
            }
            outlet.frame(&self.scratch, None);
            used += len;
            self.book_control(now, control);
        }
        while let Some(len) = self.transmit_data(budget.saturating_sub(used), outlet) {
            used += len;
        }
        used
    }

    fn wants_control(&self) -> bool {
        self.close_due.is_some()
            || self.greeting.is_some()
            || !self.pongs.is_empty()
            || self.hosts.due
            || self.ping_due
            || self.link_credit_due
            || self.drain_due
            || !self.turned_away.is_empty()
            || !self.control.is_empty()
    }

    /// The control frame whose turn it is. DRAIN comes last, so that it follows every OPEN that was queued before.
    fn next_control(&mut self) -> Option<Control> {
        if self.greeting.is_some() {
            return Some(Control::Greeting);
        }
        if let Some(fault) = self.close_due {
            return Some(Control::Close(fault));
        }
        if self.progress != LinkState::Ready {
            return None;
        }
        if self.hosts.due {
            return Some(Control::Hosts);
        }
        if let Some(stamp) = self.pongs.front() {
            return Some(Control::Pong(*stamp));
        }
        if self.ping_due {
            return Some(Control::Ping);
        }
        if self.link_credit_due {
            return Some(Control::LinkCredit);
        }
        if let Some((id, cause)) = self.turned_away.front() {
            return Some(Control::TurnAway(*id, *cause));
        }
        self.next_stream_control().or(self.drain_due.then_some(Control::Drain))
    }

    fn next_stream_control(&mut self) -> Option<Control> {
        while let Some(slot) = self.control.front().copied() {
            let stream = self.streams.at(slot);
            if let Some(cause) = stream.reset_due {
                return Some(Control::Reset(slot, cause));
            }
            if stream.open_due {
                return Some(Control::Open(slot));
            }
            if stream.credit_due {
                return Some(Control::Credit(slot));
            }
            stream.listed = false;
            self.control.pop_front();
        }
        None
    }

    /// Writes a control frame to `scratch`; returns its length.
    fn encode_control(&mut self, now: Time, control: Control) -> usize {
        let out = &mut self.scratch;
        out.clear();
        match control {
            Control::Greeting => match &self.greeting {
                Some(Greeting::Hello(hello)) => put(out, FrameKind::Hello, 0, |out| hello.encode(self.version, out)),
                Some(Greeting::Welcome(welcome)) => put(out, FrameKind::Welcome, 0, |out| welcome.encode(out)),
                Some(Greeting::Refused(refused)) => put(out, FrameKind::Refused, 0, |out| refused.encode(out)),
                None => {}
            },
            Control::Close(fault) => {
                let last = if self.role == LinkRole::Connector { self.last_id } else { 0 };
                put(out, FrameKind::Close, 0, |out| {
                    out.extend_from_slice(&fault.code().to_be_bytes());
                    out.extend_from_slice(&last.to_be_bytes());
                });
            }
            Control::Hosts => put(out, FrameKind::Hosts, 0, |out| self.hosts.encode(out)),
            Control::Pong(stamp) => put(out, FrameKind::Pong, 0, |out| out.extend_from_slice(&stamp.to_be_bytes())),
            Control::Ping => {
                put(out, FrameKind::Ping, 0, |out| out.extend_from_slice(&now.as_nanos().to_be_bytes()));
            }
            Control::Drain => put(out, FrameKind::Drain, 0, |_| {}),
            Control::LinkCredit => put(out, FrameKind::Credit, 0, |out| {
                out.extend_from_slice(&self.window.owed().to_be_bytes());
                out.extend_from_slice(&self.window.size().to_be_bytes());
            }),
            Control::Credit(slot) => {
                let stream = self.streams.at(slot);
                put(out, FrameKind::Credit, stream.id, |out| {
                    out.extend_from_slice(&stream.window.owed().to_be_bytes())
                });
            }
            Control::TurnAway(id, cause) => put_reset(out, id, cause),
            Control::Reset(slot, cause) => put_reset(out, self.streams.at(slot).id, cause),
            Control::Open(slot) => {
                let stream = self.streams.at(slot);
                put(out, FrameKind::Open, stream.id, |out| {
                    out.extend_from_slice(&stream.opening);
                    // The rest of the time is computed only now, because the frame may have waited.
                    if let Some(until) = stream.until {
                        put_budget(out, until, now);
                    }
                });
            }
        }
        out.len()
    }

    /// Updates the state for a control frame that was handed out.
    fn book_control(&mut self, now: Time, control: Control) {
        match control {
            Control::Greeting => {
                self.scratch.zeroize();
                self.greeting = None;
            }
            Control::Close(_) => self.close_due = None,
            Control::Hosts => {
                self.scratch = Vec::new();
                self.hosts.on_sent(now);
            }
            Control::Pong(_) => drop(self.pongs.pop_front()),
            Control::Ping => {
                self.ping_due = false;
                self.pings_out.push_back(now.as_nanos());
            }
            Control::LinkCredit => {
                self.link_credit_due = false;
                self.window.grant();
                self.watch_window();
            }
            Control::Drain => {
                self.drain_due = false;
                self.drain_sent = true;
            }
            Control::TurnAway(..) => drop(self.turned_away.pop_front()),
            Control::Open(slot) => self.streams.at(slot).open_due = false,
            Control::Credit(slot) => {
                let stream = self.streams.at(slot);
                stream.credit_due = false;
                stream.window.grant();
            }
            Control::Reset(slot, _) => self.release(slot),
        }
    }

    /// Hands out one frame of the stream at turn; `None` if the budget is used up or nothing can be sent.
    fn transmit_data<O: FrameSink<B>>(&mut self, room: usize, outlet: &mut O) -> Option<usize> {
        if self.progress != LinkState::Ready || self.credit.left() == 0 {
            return None;
        }
        loop {
            let (slot, allowance) = self.schedule.turn()?;
            match self.choose(slot, room, allowance) {
                Choice::Stop => return None,
                Choice::Pass => self.schedule.pass(slot),
                Choice::EndTurn => self.schedule.end_turn(slot),
                Choice::Send(n) => return Some(self.transmit_piece(slot, n, outlet)),
            }
        }
    }

    fn choose(&mut self, slot: u32, room: usize, allowance: usize) -> Choice {
        let stream = self.streams.at(slot);
        if stream.id == 0 || !stream.can_send() {
            return Choice::Pass;
        }
        let share = match stream.queue.front() {
            Some(Item::Bytes(chunk)) => {
                let wanted = chunk.len();
                match self.share_left(slot, wanted) {
                    0 => return Choice::Pass,
                    share => share,
                }
            }
            _ => 0,
        };
        let credit = self.credit.left().min(share);
        let stream = self.streams.at(slot);
        let (most, least) = match stream.queue.front() {
            Some(Item::Bytes(chunk)) => {
                let most = chunk.len().min(PAYLOAD_LEN_MAX).min(stream.credit.left()).min(credit);
                (most, most.min(CUT_MIN))
            }
            Some(Item::Phases(_)) => (PHASES_LEN, PHASES_LEN),
            None => (0, 0),
        };
        if room < HEADER_LEN + least {
            return Choice::Stop;
        }
        if allowance < HEADER_LEN + least {
            return Choice::EndTurn;
        }
        Choice::Send(most.min(room - HEADER_LEN).min(allowance - HEADER_LEN))
    }

    fn transmit_piece<O: FrameSink<B>>(&mut self, slot: u32, n: usize, outlet: &mut O) -> usize {
        let id = self.streams.at(slot).id;
        let len = match self.take_piece(slot, n) {
            Piece::Phases(phases) => {
                self.scratch.clear();
                put(&mut self.scratch, FrameKind::Phases, id, |out| phases.encode(out));
                outlet.frame(&self.scratch, None);
                self.scratch.len()
            }
            Piece::Data { payload: None, .. } => {
                outlet.frame(&Header::new(FrameKind::Fin, id, 0).encode(), None);
                HEADER_LEN
            }
            Piece::Data { payload, fin } => {
                self.credit.spend(n);
                outlet.frame(&Header { fin, ..Header::new(FrameKind::Data, id, n) }.encode(), payload);
                HEADER_LEN + n
            }
        };
        self.schedule.spend(slot, len);
        self.touch(slot);
        self.release_if_done(slot);
        len
    }

    /// Removes the next piece from the queue of a stream; FIN goes with the last data.
    fn take_piece(&mut self, slot: u32, n: usize) -> Piece<B> {
        let stream = self.streams.at(slot);
        if stream.withdrawal == Withdrawal::UntilSent {
            stream.withdrawal = Withdrawal::Forbidden;
        }
        let payload = match stream.queue.pop_front() {
            Some(Item::Phases(phases)) => return Piece::Phases(phases),
            Some(Item::Bytes(mut chunk)) => {
                stream.queued -= n;
                stream.credit.spend(n);
                stream.allow_phases();
                stream.under_way = stream.under_way.saturating_add(n as u32);
                if n == chunk.len() {
                    Some(chunk)
                } else {
                    let part = chunk.split_to(n);
                    stream.queue.push_front(Item::Bytes(chunk));
                    Some(part)
                }
            }
            None => None,
        };
        let fin = stream.sending == SendState::Finishing && stream.queue.is_empty();
        if fin {
            stream.sending = SendState::Finished;
            stream.wants_room = false;
        }
        if stream.wants_room && stream.queued <= stream.room_below && stream.queue.len() <= QUEUE_ITEMS_MAX / 2 {
            stream.wants_room = false;
            self.events.push_back(Event::Writable { stream: StreamId { id: stream.id, slot } });
        }
        Piece::Data { payload, fin }
    }
}

/// Writes a frame whose length is known once its payload is written.
fn put(out: &mut Vec<u8>, kind: FrameKind, stream: u32, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_LEN]);
    payload(out);
    let header = Header::new(kind, stream, out.len() - start - HEADER_LEN);
    out[start..start + HEADER_LEN].copy_from_slice(&header.encode());
}

fn put_reset(out: &mut Vec<u8>, stream: u32, cause: Cause) {
    put(out, FrameKind::Reset, stream, |out| out.extend_from_slice(&cause.code().to_be_bytes()));
}
