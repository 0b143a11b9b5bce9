use zeroize::Zeroize;

use crate::base::{Chunk, Time};
use crate::wire::RegistrationRefusal;
use crate::wire::field::Fields;

use super::cause::Cause;
use super::event::{Event, Side, StreamId};
use super::fault::Fault;
use super::flow::{Credit, Window};
use super::frame::{CONTROL_LEN_MAX, FrameKind, HEADER_LEN, Header};
use super::hello::{Hello, Refused, Welcome};
use super::hosts::{HOSTS_LEN_MAX, Hosts};
use super::machine::{LinkRole, LinkState, Mux, PONGS_MAX, TURNED_AWAY_MAX};
use super::open::Open;
use super::phases::Phases;

/// The position in the peer's frames.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The beginning of a header or of a control payload that arrives in pieces.
    gathered: Vec<u8>,
    /// The header of the control frame whose payload is being received.
    header: Option<Header>,
    data: Option<Payload>,
}

/// The payload of a DATA frame that is being received.
#[derive(Clone, Copy, Debug)]
struct Payload {
    /// The stream that it is for; `None` if it is discarded.
    stream: Option<StreamId>,
    left: usize,
    fin: bool,
}

/// The stream that a frame is for.
enum Target {
    Live(u32),
    Ended,
}

impl Inbound {
    pub(super) fn new() -> Inbound {
        Inbound { gathered: Vec::new(), header: None, data: None }
    }

    /// Collects `need` bytes. If `bytes` has all of them, they are used in place, without a copy.
    fn gather<'a>(&'a mut self, bytes: &'a [u8], need: usize) -> (usize, Option<&'a [u8]>) {
        debug_assert!(need <= HOSTS_LEN_MAX);
        if self.gathered.is_empty() && bytes.len() >= need {
            return (need, Some(&bytes[..need]));
        }
        let used = (need - self.gathered.len()).min(bytes.len());
        self.gathered.reserve_exact(need - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..used]);
        (used, (self.gathered.len() == need).then_some(&self.gathered[..]))
    }
}

impl<B: Chunk> Mux<B> {
    /// Processes bytes from the peer, cut anywhere. Payload is reported as it arrives, without waiting for the end of
    /// its frame. A protocol violation ends the link; [`Event::Closed`] contains the fault.
    pub fn receive(&mut self, now: Time, chunk: B) {
        if self.progress == LinkState::Over || chunk.is_empty() {
            return;
        }
        self.heard_at = now;
        match self.read(now, chunk) {
            Ok(()) => self.watch(now),
            Err(Fault::VersionUnsupported) if self.role == LinkRole::Edge => {
                self.turn_down(
                    RegistrationRefusal::Version,
                    "this edge speaks versions 1 and 2",
                    Fault::VersionUnsupported,
                );
            }
            Err(fault) => self.end(fault, Side::Local, true, u32::MAX),
        }
    }

    fn read(&mut self, now: Time, mut chunk: B) -> Result<(), Fault> {
        let mut at = 0;
        while at < chunk.len() && self.progress != LinkState::Over {
            let Some(payload) = self.inbound.data else {
                at += self.read_control(now, &chunk.as_ref()[at..])?;
                continue;
            };
            if at > 0 {
                drop(chunk.split_to(at));
                at = 0;
            }
            if payload.left >= chunk.len() {
                self.on_payload(payload, chunk);
                return Ok(());
            }
            let part = chunk.split_to(payload.left);
            self.on_payload(payload, part);
        }
        Ok(())
    }

    /// Reads a header or a control payload, or a part of one; returns the number of bytes read.
    fn read_control(&mut self, now: Time, bytes: &[u8]) -> Result<usize, Fault> {
        let Some(header) = self.inbound.header else {
            let (used, whole) = self.inbound.gather(bytes, HEADER_LEN);
            let Some(whole) = whole.and_then(<[u8]>::first_chunk) else { return Ok(used) };
            let header = Header::decode(whole)?;
            self.inbound.gathered.clear();
            self.on_header(now, header)?;
            return Ok(used);
        };
        let mut inbound = std::mem::replace(&mut self.inbound, Inbound::new());
        let (used, whole) = inbound.gather(bytes, usize::from(header.len));
        let result = match whole {
            None => Ok(()),
            Some(payload) => self.on_control(now, header, payload),
        };
        if whole.is_some() {
            if header.kind == FrameKind::Hello {
                inbound.gathered.zeroize();
            }
            inbound.gathered.clear();
            // A list of hosts can be long and is rare.
            inbound.gathered.shrink_to(CONTROL_LEN_MAX);
            inbound.header = None;
        }
        self.inbound = inbound;
        result.map(|()| used)
    }

    /// Checks a frame by its header, before any of its payload is processed.
    fn on_header(&mut self, now: Time, header: Header) -> Result<(), Fault> {
        self.admit(header.kind)?;
        self.check_lane(header)?;
        match header.kind {
            FrameKind::Data => self.on_data(now, header),
            _ if header.len == 0 => self.on_control(now, header, &[]),
            _ => {
                self.inbound.header = Some(header);
                Ok(())
            }
        }
    }

    /// Whether this side accepts a frame of this kind now.
    fn admit(&self, kind: FrameKind) -> Result<(), Fault> {
        let greeting = matches!(kind, FrameKind::Hello | FrameKind::Welcome | FrameKind::Refused);
        let foreign = match self.role {
            LinkRole::Edge => matches!(kind, FrameKind::Welcome | FrameKind::Refused | FrameKind::Open),
            LinkRole::Connector => matches!(kind, FrameKind::Hello | FrameKind::Phases),
        };
        match self.progress {
            _ if kind == FrameKind::Close => Ok(()),
            LinkState::HelloAwaited if kind != FrameKind::Hello => Err(Fault::HelloExpected),
            LinkState::AnswerAwaited => Err(if greeting { Fault::GreetingRepeated } else { Fault::TooEarly }),
            LinkState::WelcomeAwaited if !matches!(kind, FrameKind::Welcome | FrameKind::Refused) => {
                Err(Fault::WelcomeExpected)
            }
            _ if foreign => Err(Fault::WrongSide),
            LinkState::Ready if greeting => Err(Fault::GreetingRepeated),
            _ => Ok(()),
        }
    }

    fn on_control(&mut self, now: Time, header: Header, payload: &[u8]) -> Result<(), Fault> {
        match header.kind {
            FrameKind::Hello => self.on_hello(payload),
            FrameKind::Welcome => self.on_welcome(now, payload),
            FrameKind::Refused => self.on_refused(payload),
            FrameKind::Open => self.on_open(now, header.stream, payload),
            FrameKind::Credit => self.on_credit(header.stream, payload),
            FrameKind::Fin => self.on_fin(header.stream),
            FrameKind::Reset => self.on_reset(now, header.stream, payload),
            FrameKind::Phases => self.on_phases(header.stream, payload),
            FrameKind::Ping => self.on_ping(now, payload),
            FrameKind::Pong => self.on_pong(now, payload),
            FrameKind::Drain => self.on_drain(),
            FrameKind::Close => self.on_close(payload),
            FrameKind::Hosts => self.on_hosts(now, payload),
            FrameKind::Data => Ok(()),
        }
    }

    fn on_hello(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (hello, version) = Hello::decode(payload, self.version)?;
        self.version = version;
        self.progress = LinkState::AnswerAwaited;
        self.events.push_back(Event::Hello(Box::new(hello)));
        Ok(())
    }

    fn on_welcome(&mut self, now: Time, payload: &[u8]) -> Result<(), Fault> {
        let welcome = Welcome::decode(payload, self.version)?;
        self.version = welcome.version;
        self.settings.streams_max = welcome.streams_max;
        self.settings.stream_window = welcome.stream_window;
        self.settings.link_window = welcome.link_window;
        self.settings.ping_interval_ms = welcome.ping_interval_ms;
        self.credit = Credit::new(welcome.link_window);
        self.window = Window::new(welcome.link_window);
        self.events.push_back(Event::Welcomed(welcome));
        self.become_ready(now);
        Ok(())
    }

    fn on_refused(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let refused = Refused::decode(payload)?;
        self.events.push_back(Event::Refused(refused));
        self.end(Fault::Refused, Side::Peer, false, u32::MAX);
        Ok(())
    }

    fn on_open(&mut self, now: Time, id: u32, payload: &[u8]) -> Result<(), Fault> {
        // With transport streams of their own, an older stream's OPEN or DRAIN may come later. The transport uses no stream twice.
        let is_repeated = if self.has_lanes { self.is_live(id) } else { id <= self.last_id };
        if is_repeated {
            return Err(Fault::StreamIdReused);
        }
        if self.drain_received && !self.has_lanes {
            return Err(Fault::OpenAfterDrain);
        }
        let until = Open::decode(payload, self.version, now)?.until;
        self.last_id = self.last_id.max(id);
        let (live, max) = (self.streams.live(), self.settings.streams_max as usize);
        if live - self.lingering >= max {
            return Err(Fault::StreamsExceeded);
        }
        if live >= max {
            return self.turn_away(now, id);
        }
        let slot = self.streams.insert(id, self.settings.stream_window);
        let stream = self.streams.at(slot);
        stream.opening.extend_from_slice(payload);
        stream.until = until;
        self.events.push_back(Event::Opened { stream: StreamId { id, slot } });
        Ok(())
    }

    /// Resets a stream because no slot is free: the application has not finished with earlier streams.
    fn turn_away(&mut self, now: Time, id: u32) -> Result<(), Fault> {
        if self.turned_away.len() >= TURNED_AWAY_MAX || !self.resets.admit(now) {
            return Err(Fault::ResetFlood);
        }
        self.turned_away.push_back((id, Cause::StreamLimit));
        self.expect_stale(self.settings.stream_window);
        Ok(())
    }

    fn on_data(&mut self, now: Time, header: Header) -> Result<(), Fault> {
        let len = u32::from(header.len);
        if len == 0 && !header.fin && !self.empties.admit(now) {
            return Err(Fault::EmptyDataFlood);
        }
        let target = self.target(header.stream)?;
        if let Target::Live(slot) = target {
            let stream = self.streams.at(slot);
            if stream.peer_finished {
                return Err(Fault::FrameAfterFin);
            }
            if !stream.window.receive(len) {
                return Err(Fault::StreamCreditExceeded);
            }
            if len > 0 {
                stream.stages = 0;
                stream.allow_phases();
            }
        } else {
            self.book_stale(len)?;
        }
        if !self.window.receive(len) {
            return Err(Fault::LinkCreditExceeded);
        }
        self.watch_window();
        let stream = match target {
            Target::Live(slot) if self.streams.at(slot).reset_due.is_none() => {
                Some(StreamId { id: header.stream, slot })
            }
            Target::Live(slot) => {
                let stream = self.streams.at(slot);
                stream.window.consume(len);
                stream.peer_finished |= header.fin;
                self.give_back(len);
                None
            }
            Target::Ended => {
                self.give_back(len);
                None
            }
        };
        let payload = Payload { stream, left: usize::from(header.len), fin: header.fin };
        if payload.left == 0 {
            self.end_payload(payload);
        } else {
            self.inbound.data = Some(payload);
        }
        Ok(())
    }

    /// Reports a piece of DATA.
    fn on_payload(&mut self, mut payload: Payload, chunk: B) {
        payload.left -= chunk.len();
        if let Some(stream) = payload.stream
            && self.streams.get(stream).is_some_and(|found| found.reset_due.is_none())
        {
            self.events.push_back(Event::Data { stream, chunk });
        }
        if payload.left == 0 {
            self.inbound.data = None;
            self.end_payload(payload);
        } else {
            self.inbound.data = Some(payload);
        }
    }

    fn end_payload(&mut self, payload: Payload) {
        if let Some(stream) = payload.stream
            && payload.fin
            && self.streams.get(stream).is_some()
        {
            self.peer_finished(stream.slot);
        }
    }

    fn on_fin(&mut self, id: u32) -> Result<(), Fault> {
        match self.target(id)? {
            Target::Ended => self.book_stale_frame(),
            Target::Live(slot) if self.streams.at(slot).peer_finished => Err(Fault::FrameAfterFin),
            Target::Live(slot) => {
                self.peer_finished(slot);
                Ok(())
            }
        }
    }

    fn peer_finished(&mut self, slot: u32) {
        let stream = self.streams.at(slot);
        stream.peer_finished = true;
        if stream.reset_due.is_none() {
            let stream = StreamId { id: stream.id, slot };
            self.events.push_back(Event::Finished { stream });
            self.release_if_done(slot);
        }
    }

    pub(super) fn on_reset(&mut self, now: Time, id: u32, payload: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(payload);
        let cause = Cause::from_code(fields.u16()?);
        fields.end()?;
        if self.role == LinkRole::Connector && !self.resets.admit(now) {
            return Err(Fault::ResetFlood);
        }
        match self.target(id)? {
            Target::Ended => self.book_stale_frame(),
            Target::Live(slot) => {
                let stream = self.streams.at(slot);
                stream.peer_finished = true;
                if stream.reset_due.is_none() {
                    self.events.push_back(Event::Reset { stream: StreamId { id, slot }, cause });
                }
                self.release(slot);
                Ok(())
            }
        }
    }

    fn on_credit(&mut self, id: u32, payload: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(payload);
        let n = fields.u32()?;
        if id == 0 {
            let size = fields.u32()?;
            fields.end()?;
            self.credit.add(n)?;
            self.credit.set_size(size);
            self.uncap();
            return Ok(());
        }
        fields.end()?;
        match self.target(id)? {
            Target::Ended => self.book_stale_frame(),
            Target::Live(slot) => {
                let stream = self.streams.at(slot);
                let stalled = (stream.credit.left() == 0 || stream.capped) && !stream.queue.is_empty();
                stream.credit.add(n)?;
                stream.under_way = stream.under_way.saturating_sub(n);
                stream.capped = false;
                if stalled {
                    self.resume(slot)
                } else {
                    self.touch(slot)
                }
                Ok(())
            }
        }
    }

    fn on_phases(&mut self, id: u32, payload: &[u8]) -> Result<(), Fault> {
        let phases = Phases::decode(payload)?;
        match self.target(id)? {
            Target::Ended => self.book_stale_frame(),
            Target::Live(slot) => {
                let stream = self.streams.at(slot);
                if stream.peer_finished {
                    return Err(Fault::FrameAfterFin);
                }
                if !stream.book_phases() {
                    return Err(Fault::PhasesRepeated);
                }
                if stream.reset_due.is_none() {
                    self.events.push_back(Event::Phases { stream: StreamId { id, slot }, phases });
                }
                Ok(())
            }
        }
    }

    fn on_ping(&mut self, now: Time, payload: &[u8]) -> Result<(), Fault> {
        let stamp = Fields::new(payload).u64()?;
        if self.pongs.len() >= PONGS_MAX || !self.pings.admit(now) {
            return Err(Fault::PingFlood);
        }
        self.pongs.push_back(stamp);
        Ok(())
    }

    fn on_pong(&mut self, now: Time, payload: &[u8]) -> Result<(), Fault> {
        let stamp = Fields::new(payload).u64()?;
        if self.pings_out.pop_front() != Some(stamp) {
            return Err(Fault::PongUnexpected);
        }
        self.events.push_back(Event::RoundTrip(now.since(Time::from_nanos(stamp))));
        Ok(())
    }

    fn on_drain(&mut self) -> Result<(), Fault> {
        if self.drain_received {
            return Err(Fault::DrainRepeated);
        }
        self.drain_received = true;
        self.events.push_back(Event::Draining);
        self.drain();
        Ok(())
    }

    fn on_close(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(payload);
        let (fault, last_taken) = (Fault::from_code(fields.u16()?), fields.u32()?);
        self.end(fault, Side::Peer, false, last_taken);
        Ok(())
    }

    fn on_hosts(&mut self, now: Time, payload: &[u8]) -> Result<(), Fault> {
        if !self.hosts_received.admit(now) {
            return Err(Fault::HostsFlood);
        }
        self.events.push_back(Event::Hosts(Hosts::decode(payload)?));
        Ok(())
    }

    /// Finds the stream that a frame names.
    fn target(&mut self, id: u32) -> Result<Target, Fault> {
        match self.streams.find(id) {
            Some(slot) if self.streams.at(slot).open_due => Err(Fault::StreamUnknown),
            Some(slot) => Ok(Target::Live(slot)),
            None if id <= self.last_id => Ok(Target::Ended),
            None => Err(Fault::StreamUnknown),
        }
    }

    /// Counts data for a stream that has ended.
    fn book_stale(&mut self, len: u32) -> Result<(), Fault> {
        if len == 0 {
            return self.book_stale_frame();
        }
        self.stale_bytes = self.stale_bytes.checked_sub(len).ok_or(Fault::StaleData)?;
        Ok(())
    }

    /// Counts a frame without data for a stream that has ended.
    fn book_stale_frame(&mut self) -> Result<(), Fault> {
        self.stale_frames = self.stale_frames.checked_sub(1).ok_or(Fault::StaleFrames)?;
        Ok(())
    }
}
