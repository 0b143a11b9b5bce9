//! The table of a core's sockets and listeners: what the driver reported about each, and which tasks wait for it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use crate::base::Time;
use crate::engine::driver::{Driver, DriverEvent, RawSocket, Token};
use crate::engine::{ALLOWANCE_MAX, DatagramBatch, Lease, StreamError, push_packed};

/// A queue that exceeded its limit continues once it is below one part in this many of the limit.
const LOW_SHARE: usize = 4;
/// A socket accepts more bytes once fewer than this are queued, in bytes.
const SEND_LOW: usize = ALLOWANCE_MAX / LOW_SHARE;
/// Accepting pauses when this many accepted connections wait for a task.
const ACCEPTED_MAX: usize = 128;

/// Receiving datagrams pauses when this many batches wait for a task.
const BATCHES_MAX: usize = 32;

/// The table of a core's sockets and listeners. A [`Token`] names an entry, which is reused only after the driver's
/// last event for it.
#[derive(Default)]
pub(super) struct Sockets {
    places: Vec<Place>,
    free: Vec<u32>,
    open: usize,
}

struct Place {
    generation: u32,
    kind: Kind,
}

enum Kind {
    Free,
    /// Its handle was dropped; the driver has not reported yet that it is gone.
    Leaving,
    Listener(Box<ListenerState>),
    Socket(Box<SocketState>),
    Datagrams(Box<DatagramState>),
}

/// The state of a listener.
#[derive(Default)]
pub(super) struct ListenerState {
    accepted: VecDeque<(RawSocket, Option<SocketAddr>)>,
    error: Option<io::Error>,
    paused: bool,
    waker: Option<Waker>,
}

/// The state of a socket.
#[derive(Default)]
pub(super) struct SocketState {
    /// It carries a link: its limits do not depend on how full the pool is.
    is_link: bool,
    connected: Option<io::Result<()>>,
    received: VecDeque<Lease>,
    received_bytes: usize,
    received_at: Time,
    receive_end: Option<Result<(), StreamError>>,
    receive_paused: bool,
    /// The peer has finished, or the connection has failed, behind bytes that the system may still hold.
    peer_ended: bool,
    /// Bytes were received since anything was sent or acknowledged.
    ack_due: bool,
    receive_waker: Option<Waker>,
    queued_bytes: usize,
    sent_bytes: u64,
    send_error: Option<StreamError>,
    finished: bool,
    send_waker: Option<Waker>,
    /// The other end, if both are on this core and the driver knows neither.
    peer: Option<Token>,
    left: Option<Result<RawSocket, StreamError>>,
}

/// The state of a datagram socket.
#[derive(Default)]
pub(super) struct DatagramState {
    received: VecDeque<DatagramBatch>,
    is_paused: bool,
    receive_waker: Option<Waker>,
    queued_bytes: usize,
    send_waker: Option<Waker>,
}

impl Sockets {
    /// Reserves an entry for a socket that is about to be opened.
    pub(super) fn open_socket(&mut self) -> Token {
        self.open(Kind::Socket(Box::default()))
    }

    /// Opens the two ends of a connection that the driver does not know.
    pub(super) fn open_pair(&mut self) -> [Token; 2] {
        let [near, far] = [self.open_socket(), self.open_socket()];
        self.socket(near).peer = Some(far);
        self.socket(far).peer = Some(near);
        [near, far]
    }

    /// Passes on what one end of a pair sends.
    pub(super) fn pass(&mut self, from: Token, to: Token, lease: Lease, now: Time) {
        match self.find_socket(to) {
            Some(other) => other.receive(lease, now),
            None => self.socket(from).fail_send(StreamError::Reset),
        }
    }

    /// Receives; what an end of a pair takes has left the queue of the other end.
    pub(super) fn poll_recv(
        &mut self,
        token: Token,
        driver: &mut dyn Driver,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Lease>, StreamError>> {
        let state = self.socket(token);
        let polled = state.poll_recv(token, driver, cx);
        if let (Some(peer), Poll::Ready(Ok(Some(lease)))) = (state.peer, &polled)
            && let Some(other) = self.find_socket(peer)
        {
            other.sent(lease.len());
        }
        polled
    }

    /// One end of a pair sends no more.
    pub(super) fn finish_pair(&mut self, peer: Token) {
        if let Some(other) = self.find_socket(peer) {
            other.end_receive(Ok(()));
        }
    }

    /// One end of a pair is reset.
    pub(super) fn abort_pair(&mut self, peer: Token) {
        if let Some(other) = self.find_socket(peer) {
            other.end_receive(Err(StreamError::Reset));
            other.fail_send(StreamError::Reset);
        }
    }

    /// The handle of one end of a pair was dropped.
    pub(super) fn drop_pair(&mut self, token: Token, peer: Token) {
        if let Some(other) = self.find_socket(peer) {
            other.end_receive(Ok(()));
            other.fail_send(StreamError::Reset);
        }
        self.release(token);
    }

    /// Reserves an entry for a listener that is about to be opened.
    pub(super) fn open_listener(&mut self) -> Token {
        self.open(Kind::Listener(Box::default()))
    }

    /// Reserves an entry for a datagram socket that is about to be opened.
    pub(super) fn open_datagrams(&mut self) -> Token {
        self.open(Kind::Datagrams(Box::default()))
    }

    /// Frees an entry that the driver never knew.
    pub(super) fn never_opened(&mut self, token: Token) {
        self.release(token);
    }

    /// The number of entries in use.
    pub(super) fn open_count(&self) -> usize {
        self.open
    }

    /// The state of a socket whose handle still exists.
    pub(super) fn socket(&mut self, token: Token) -> &mut SocketState {
        match &mut self.place(token).kind {
            Kind::Socket(socket) => socket,
            _ => unreachable!("a socket's place is its own until its holder lets it go"),
        }
    }

    /// The state of a listener whose handle still exists.
    pub(super) fn listener(&mut self, token: Token) -> &mut ListenerState {
        match &mut self.place(token).kind {
            Kind::Listener(listener) => listener,
            _ => unreachable!("a listener's place is its own until its holder lets it go"),
        }
    }

    /// The state of a datagram socket whose handle still exists.
    pub(super) fn datagrams(&mut self, token: Token) -> &mut DatagramState {
        match &mut self.place(token).kind {
            Kind::Datagrams(state) => state,
            _ => unreachable!("a datagram socket's place is its own until its holder lets it go"),
        }
    }

    /// The handle was dropped. The entry is freed when the driver reports the end, or at once if it already has.
    pub(super) fn drop_handle(&mut self, token: Token) {
        let place = self.place(token);
        let gone = matches!(&place.kind, Kind::Socket(socket) if socket.left.is_some());
        place.kind = Kind::Leaving;
        if gone {
            self.release(token);
        }
    }

    /// Handles one event of the driver.
    pub(super) fn handle(&mut self, event: DriverEvent, now: Time, driver: &mut dyn Driver) {
        match event {
            DriverEvent::Accepted { listener, socket, peer } => {
                if let Some(state) = self.find_listener(listener) {
                    state.accept(socket, peer);
                    if state.accepted.len() >= ACCEPTED_MAX {
                        state.paused = true;
                        driver.accept(listener, false);
                    }
                }
            }
            DriverEvent::AcceptFailed { listener, error } => {
                if let Some(state) = self.find_listener(listener) {
                    state.fail(error);
                }
            }
            DriverEvent::Connected { socket, result } => {
                if let Some(state) = self.find_socket(socket) {
                    state.connected = Some(result);
                    wake(&mut state.receive_waker);
                }
            }
            DriverEvent::Received { socket, lease } => {
                if let Some(state) = self.find_socket(socket) {
                    let allowance = state.allowance(lease.allowance());
                    state.receive(lease, now);
                    if state.received_bytes >= allowance && !state.receive_paused {
                        state.receive_paused = true;
                        driver.receive(socket, false);
                    }
                }
            }
            DriverEvent::ReceiveEnded { socket, result } => {
                if let Some(state) = self.find_socket(socket) {
                    state.end_receive(result.map_err(|error| StreamError::from(&error)));
                }
            }
            DriverEvent::PeerEnded { socket, has_failed } => {
                if let Some(state) = self.find_socket(socket) {
                    state.peer_ended = true;
                    wake(&mut state.receive_waker);
                    if has_failed {
                        state.fail_send(StreamError::Reset);
                    }
                }
            }
            DriverEvent::Sent { socket, bytes } => {
                if let Some(state) = self.find_socket(socket) {
                    state.sent(bytes);
                } else if let Some(state) = self.find_datagrams(socket) {
                    state.sent(bytes);
                }
            }
            DriverEvent::SendFailed { socket, error } => {
                if let Some(state) = self.find_socket(socket) {
                    state.fail_send(StreamError::from(&error));
                }
            }
            DriverEvent::DatagramsReceived { socket, batch } => {
                if let Some(state) = self.find_datagrams(socket) {
                    state.receive(batch);
                    if state.received.len() >= BATCHES_MAX && !state.is_paused {
                        state.is_paused = true;
                        driver.receive(socket, false);
                    }
                }
            }
            DriverEvent::DatagramsDropped { socket, bytes, error } => {
                if let Some(state) = self.find_datagrams(socket) {
                    // Usual for probes of a path's size; the sender notices the loss by itself.
                    tracing::trace!(bytes, %error, "datagrams dropped");
                    state.sent(bytes);
                }
            }
            DriverEvent::Closed { token } => self.left(token, Err(StreamError::Closed)),
            DriverEvent::Detached { socket, raw } => self.left(socket, Ok(raw)),
        }
    }

    fn left(&mut self, token: Token, result: Result<RawSocket, StreamError>) {
        if let Some(state) = self.find_socket(token) {
            state.left = Some(result);
            state.end_receive(Err(StreamError::Closed));
            state.fail_send(StreamError::Closed);
        } else if self.knows(token) {
            self.release(token);
        }
    }

    fn open(&mut self, kind: Kind) -> Token {
        self.open += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.kind = kind;
            return Token { index, generation: place.generation };
        }
        let index = u32::try_from(self.places.len()).expect("fewer sockets than descriptors");
        self.places.push(Place { generation: 0, kind });
        Token { index, generation: 0 }
    }

    fn release(&mut self, token: Token) {
        let place = self.place(token);
        place.kind = Kind::Free;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(token.index);
        self.open -= 1;
    }

    fn place(&mut self, token: Token) -> &mut Place {
        let place = &mut self.places[token.index as usize];
        debug_assert_eq!(place.generation, token.generation, "a token outlived its place");
        place
    }

    fn knows(&self, token: Token) -> bool {
        self.places
            .get(token.index as usize)
            .is_some_and(|place| place.generation == token.generation && !matches!(place.kind, Kind::Free))
    }

    fn find_socket(&mut self, token: Token) -> Option<&mut SocketState> {
        match self.places.get_mut(token.index as usize) {
            Some(Place { generation, kind: Kind::Socket(socket) }) if *generation == token.generation => Some(socket),
            _ => None,
        }
    }

    fn find_datagrams(&mut self, token: Token) -> Option<&mut DatagramState> {
        match self.places.get_mut(token.index as usize) {
            Some(Place { generation, kind: Kind::Datagrams(state) }) if *generation == token.generation => Some(state),
            _ => None,
        }
    }

    fn find_listener(&mut self, token: Token) -> Option<&mut ListenerState> {
        match self.places.get_mut(token.index as usize) {
            Some(Place { generation, kind: Kind::Listener(state) }) if *generation == token.generation => Some(state),
            _ => None,
        }
    }
}

impl ListenerState {
    /// The next connection, or the error if accepting failed. After an error the listener is paused.
    pub(super) fn poll_accept(
        &mut self,
        token: Token,
        driver: &mut dyn Driver,
        cx: &Context<'_>,
    ) -> Poll<io::Result<(RawSocket, Option<SocketAddr>)>> {
        if let Some(accepted) = self.accepted.pop_front() {
            return Poll::Ready(Ok(accepted));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        if std::mem::take(&mut self.paused) {
            driver.accept(token, true);
        }
        keep(&mut self.waker, cx);
        Poll::Pending
    }

    fn accept(&mut self, socket: RawSocket, peer: Option<SocketAddr>) {
        self.accepted.push_back((socket, peer));
        wake(&mut self.waker);
    }

    fn fail(&mut self, error: io::Error) {
        self.error = Some(error);
        self.paused = true;
        wake(&mut self.waker);
    }
}

impl SocketState {
    pub(super) fn poll_connected(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(result) = self.connected.take() {
            return Poll::Ready(result);
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    fn poll_recv(
        &mut self,
        token: Token,
        driver: &mut dyn Driver,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Lease>, StreamError>> {
        if let Some(lease) = self.received.pop_front() {
            self.received_bytes -= lease.len();
            if self.receive_paused && self.received_bytes <= self.allowance(lease.allowance()) / LOW_SHARE {
                self.receive_paused = false;
                driver.receive(token, true);
            }
            return Poll::Ready(Ok(Some(lease)));
        }
        if let Some(end) = &self.receive_end {
            return Poll::Ready(end.clone().map(|()| None));
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    pub(super) fn poll_ended(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.peer_ended || self.receive_end.is_some() {
            return Poll::Ready(());
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    /// When the first unread bytes arrived, or if none are unread, those that were read last.
    pub(super) fn received_at(&self) -> Time {
        self.received_at
    }

    pub(super) fn queue(&mut self, bytes: usize) -> Result<(), StreamError> {
        if let Some(error) = &self.send_error {
            return Err(error.clone());
        }
        if self.finished {
            return Err(StreamError::Closed);
        }
        self.queued_bytes += bytes;
        // Sent bytes carry the acknowledgement.
        self.ack_due = false;
        Ok(())
    }

    /// Marks the socket as one that carries a link.
    pub(super) fn serve_link(&mut self) {
        self.is_link = true;
    }

    /// The limit of one direction in bytes, if `allowance` is the limit of one queue.
    pub(super) fn allowance(&self, allowance: usize) -> usize {
        if self.is_link { ALLOWANCE_MAX } else { allowance }
    }

    pub(super) fn poll_queued_below(&mut self, mark: usize, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        if let Some(error) = &self.send_error {
            return Poll::Ready(Err(error.clone()));
        }
        if self.queued_bytes <= mark {
            return Poll::Ready(Ok(()));
        }
        keep(&mut self.send_waker, cx);
        Poll::Pending
    }

    pub(super) fn poll_send_failed(&mut self, cx: &Context<'_>) -> Poll<StreamError> {
        if let Some(error) = &self.send_error {
            return Poll::Ready(error.clone());
        }
        keep(&mut self.send_waker, cx);
        Poll::Pending
    }

    /// The other end of a connection that the driver does not know.
    pub(super) fn peer(&self) -> Option<Token> {
        self.peer
    }

    /// Whether both directions are over.
    pub(super) fn is_over(&self) -> bool {
        self.receive_end.is_some() && self.send_error.is_some()
    }

    /// Whether an acknowledgement is due. It then counts as sent.
    pub(super) fn take_ack_due(&mut self) -> bool {
        std::mem::take(&mut self.ack_due)
    }

    /// How many bytes were given to the system.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// How many bytes wait to be given to the system.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Finishes sending. Returns false if it was finished before, or has failed.
    pub(super) fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.finished, true) && self.send_error.is_none()
    }

    pub(super) fn abort(&mut self) {
        self.received.clear();
        self.received_bytes = 0;
        self.end_receive(Err(StreamError::Closed));
        self.fail_send(StreamError::Closed);
    }

    pub(super) fn has_queued(&self) -> bool {
        self.queued_bytes > 0 && self.send_error.is_none()
    }

    pub(super) fn poll_left(&mut self, cx: &Context<'_>) -> Poll<Result<RawSocket, StreamError>> {
        match &mut self.left {
            Some(result) => Poll::Ready(std::mem::replace(result, Err(StreamError::Closed))),
            None => {
                keep(&mut self.receive_waker, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn take_received(&mut self) -> Vec<u8> {
        self.received_bytes = 0;
        self.received.drain(..).flat_map(|lease| lease.to_vec()).collect()
    }

    /// Puts back bytes that were received before the core had the socket.
    pub(super) fn put_back(&mut self, lease: Lease, now: Time) {
        self.receive(lease, now);
    }

    fn receive(&mut self, lease: Lease, now: Time) {
        if self.received.is_empty() {
            self.received_at = now;
        }
        self.received_bytes += lease.len();
        self.ack_due = true;
        push_packed(&mut self.received, 0, lease);
        wake(&mut self.receive_waker);
    }

    fn end_receive(&mut self, result: Result<(), StreamError>) {
        self.receive_end.get_or_insert(result);
        wake(&mut self.receive_waker);
    }

    fn sent(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        self.sent_bytes += bytes as u64;
        if self.queued_bytes <= SEND_LOW {
            wake(&mut self.send_waker);
        }
    }

    fn fail_send(&mut self, error: StreamError) {
        self.queued_bytes = 0;
        self.send_error.get_or_insert(error);
        wake(&mut self.send_waker);
    }
}

impl DatagramState {
    pub(super) fn poll_recv(&mut self, token: Token, driver: &mut dyn Driver, cx: &Context<'_>) -> Poll<DatagramBatch> {
        if let Some(batch) = self.received.pop_front() {
            if self.is_paused && self.received.len() <= BATCHES_MAX / LOW_SHARE {
                self.is_paused = false;
                driver.receive(token, true);
            }
            return Poll::Ready(batch);
        }
        keep(&mut self.receive_waker, cx);
        Poll::Pending
    }

    /// Counts bytes that are about to be queued. Returns false if the queue is full.
    pub(super) fn queue(&mut self, bytes: usize) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.queued_bytes += bytes;
        }
        has_room
    }

    pub(super) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        keep(&mut self.send_waker, cx);
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.queued_bytes < ALLOWANCE_MAX
    }

    fn receive(&mut self, batch: DatagramBatch) {
        self.received.push_back(batch);
        wake(&mut self.receive_waker);
    }

    fn sent(&mut self, bytes: usize) {
        self.queued_bytes = self.queued_bytes.saturating_sub(bytes);
        if self.queued_bytes <= SEND_LOW {
            wake(&mut self.send_waker);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{BUFFER_MEMORY_MIN, Class, Pool};

    #[test]
    fn an_acknowledgement_is_due_until_data_is_sent_or_it_was_sent() {
        let mut state = SocketState::default();
        let receive = |state: &mut SocketState| {
            let mut lease =
                Pool::new(BUFFER_MEMORY_MIN).take_for_receive(Class::Small).expect("a fresh pool has buffers");
            lease.append(b"x");
            state.receive(lease, Time::ZERO);
        };
        assert!(!state.take_ack_due());
        receive(&mut state);
        assert!(state.take_ack_due());
        assert!(!state.take_ack_due());
        receive(&mut state);
        state.queue(1).expect("nothing is wrong with it");
        assert!(!state.take_ack_due());
    }
}
