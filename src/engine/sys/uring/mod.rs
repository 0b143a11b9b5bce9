//! The io_uring driver: multishot accept and receive, buffers that the kernel picks, one send in flight per socket.
//!
//! A socket's entry is freed only when the last of its operations has ended in the kernel. A cancelled receive loses no
//! bytes: the kernel polls the socket, so that a receive either takes bytes and reports them, or is cancelled while it
//! waits.

mod buffers;
mod connection;
mod datagrams;
mod message;
mod operation;
mod ring;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::opcode;
use io_uring::types::Fd;
use socket2::SockRef;

use crate::base::{Clock, Time};
use crate::engine::clock::MonotonicClock;
use crate::engine::driver::{
    Address, Close, Driver, DriverEvent, DriverKind, RawSocket, SocketOptions, Token, Wait, Wake,
};
use crate::engine::pool::Pool;
use crate::engine::sys::alarm::Alarm;
use crate::engine::sys::places::Places;
use crate::engine::sys::socket;
use crate::engine::sys::wake::EventFd;
use crate::engine::{BoundDatagrams, DatagramBatch, Lease};

use buffers::Buffers;
use connection::{Advance, Connection, DriverShared, Leaving, is_passing, outcome};
use datagrams::PolledDatagrams;
use operation::{InKernel, Verb, name, named};
use ring::{Completion, Ring};

/// The longest wait of a turn while a socket has no buffer.
const STARVED_WAIT: Duration = Duration::from_millis(2);
/// How often, and how long each time, a driver that ends waits for the kernel to finish its operations.
const END_ROUNDS: usize = 100;
const END_WAIT: Duration = Duration::from_millis(10);
/// The token of operations without a socket.
const NO_TOKEN: Token = Token { index: 0, generation: 0 };

/// A driver on io_uring.
pub(in crate::engine) struct UringDriver {
    shared: DriverShared,
    wake: Arc<EventFd>,
    wake_is_armed: bool,
    alarm: Alarm,
    alarm_is_armed: bool,
    /// The part of the pool that is reserved for links. Datagram sockets carry nothing else.
    link_pool: Pool,
    places: Places<Endpoint>,
    /// Sockets and listeners with something to start or cancel.
    dirty: VecDeque<Token>,
    /// Sockets that need a buffer to receive into.
    starved: VecDeque<Token>,
    /// Datagram sockets that need a buffer, which do not receive from rings.
    starved_datagrams: Vec<Token>,
    completions: Vec<Completion>,
    /// Events that happened between turns.
    happened: Vec<DriverEvent>,
}

enum Endpoint {
    Connection(Box<Connection>),
    Datagrams(Box<PolledDatagrams>),
    Listener(Listener),
}

struct Listener {
    fd: OwnedFd,
    armed: bool,
    accept: InKernel,
    is_leaving: bool,
}

impl UringDriver {
    /// Creates a driver that receives into buffers of `pool`.
    ///
    /// # Errors
    ///
    /// The error of the system: io_uring is not permitted, the kernel is too old, or there is no memory.
    pub(in crate::engine) fn new(pool: &Pool) -> io::Result<UringDriver> {
        let ring = Ring::new()?;
        let buffers = Buffers::new(&ring, pool)?;
        Ok(UringDriver {
            shared: DriverShared { ring, buffers, messages: Vec::new() },
            wake: Arc::new(EventFd::new()?),
            wake_is_armed: false,
            alarm: Alarm::new()?,
            alarm_is_armed: false,
            link_pool: pool.for_links(),
            places: Places::new(),
            dirty: VecDeque::new(),
            starved: VecDeque::new(),
            starved_datagrams: Vec::new(),
            completions: Vec::new(),
            happened: Vec::new(),
        })
    }

    /// How the ring was set up, as text.
    pub(in crate::engine) fn describe(&self) -> &'static str {
        self.shared.ring.describe()
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        match self.places.get_mut(token)? {
            Endpoint::Connection(connection) => Some(connection),
            Endpoint::Datagrams(_) | Endpoint::Listener(_) => None,
        }
    }

    fn insert(&mut self, token: Token, connection: Connection) -> io::Result<()> {
        self.places.insert(token, Endpoint::Connection(Box::new(connection)))?;
        self.list_dirty(token);
        Ok(())
    }

    /// Schedules the socket to be advanced when the next turn begins.
    fn list_dirty(&mut self, token: Token) {
        if let Some(is_dirty) = self.is_dirty(token)
            && !std::mem::replace(is_dirty, true)
        {
            self.dirty.push_back(token);
        }
    }

    /// Whether the socket is in the list of those to advance.
    fn is_dirty(&mut self, token: Token) -> Option<&mut bool> {
        match self.places.get_mut(token)? {
            Endpoint::Connection(connection) => Some(&mut connection.is_dirty),
            Endpoint::Datagrams(datagrams) => Some(&mut datagrams.socket.is_dirty),
            Endpoint::Listener(_) => None,
        }
    }

    fn advance_dirty(&mut self, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        for _ in 0..self.dirty.len() {
            let Some(token) = self.dirty.pop_front() else { break };
            if let Some(is_dirty) = self.is_dirty(token) {
                *is_dirty = false;
            }
            self.advance(token, events)?;
        }
        Ok(())
    }

    /// Starts and cancels the operations of a socket or listener as requested, or removes it.
    fn advance(&mut self, token: Token, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        let advance = match self.places.get_mut(token) {
            Some(Endpoint::Connection(connection)) => connection.advance(token, &mut self.shared)?,
            Some(Endpoint::Datagrams(datagrams)) => {
                datagrams.advance(token, &mut self.shared.ring, &self.link_pool, events)?
            }
            Some(Endpoint::Listener(listener)) => listener.advance(token, &mut self.shared.ring)?,
            None => return Ok(()),
        };
        match advance {
            Advance::More => self.list_dirty(token),
            Advance::Stays => {}
            Advance::Starves => self.list_starved(token),
            Advance::Goes => events.push(self.end(token)),
        }
        Ok(())
    }

    fn list_starved(&mut self, token: Token) {
        if let Some(Endpoint::Datagrams(datagrams)) = self.places.get_mut(token)
            && !std::mem::replace(&mut datagrams.socket.is_listed, true)
        {
            self.starved_datagrams.push(token);
        }
        if let Some(connection) = self.connection(token)
            && !std::mem::replace(&mut connection.is_starved, true)
        {
            // Links come first: their frames let other sockets continue.
            if connection.serves_link() { self.starved.push_front(token) } else { self.starved.push_back(token) }
        }
    }

    /// Frees the entry of a socket or listener without operations in the kernel.
    fn end(&mut self, token: Token) -> DriverEvent {
        let Some(Endpoint::Connection(connection)) = self.places.remove(token) else {
            return DriverEvent::Closed { token };
        };
        match connection.leaving {
            Some(Leaving::Detach) if !connection.is_broken() => {
                DriverEvent::Detached { socket: token, raw: RawSocket::Fd(connection.into_fd()) }
            }
            Some(Leaving::Close(Close::Abort)) => {
                socket::reset_on_close(connection.fd());
                DriverEvent::Closed { token }
            }
            _ => DriverEvent::Closed { token },
        }
    }

    /// Retries the sockets without a buffer, as many at a time as there are buffers.
    fn retry_starved(&mut self, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        for token in std::mem::take(&mut self.starved_datagrams) {
            if let Some(Endpoint::Datagrams(datagrams)) = self.places.get_mut(token) {
                datagrams.socket.is_listed = false;
            }
            self.advance(token, events)?;
        }
        self.starved.retain(|token| self.places.contains(*token));
        for _ in 0..self.starved.len().min(self.shared.buffers.held()) {
            let Some(token) = self.starved.pop_front() else { break };
            if let Some(connection) = self.connection(token) {
                connection.is_starved = false;
            }
            self.advance(token, events)?;
        }
        Ok(())
    }

    fn arm_wakers(&mut self) -> io::Result<()> {
        if !self.wake_is_armed {
            watch(&mut self.shared.ring, self.wake.as_fd(), Verb::Wake)?;
            self.wake_is_armed = true;
        }
        if !self.alarm_is_armed {
            watch(&mut self.shared.ring, self.alarm.as_fd(), Verb::Alarm)?;
            self.alarm_is_armed = true;
        }
        Ok(())
    }

    fn enter(&mut self, wait: Wait, has_happened: bool) -> io::Result<()> {
        let deadline = match wait {
            Wait::Until(deadline) if !has_happened => deadline,
            _ => return self.shared.ring.poll(),
        };
        let now = MonotonicClock.now();
        let is_starved = !(self.starved.is_empty() && self.starved_datagrams.is_empty());
        if deadline <= now || (!is_starved && !self.alarm.goes_off_by(deadline, now)?) {
            return self.shared.ring.poll();
        }
        let timeout = is_starved.then(|| (deadline - now).min(STARVED_WAIT));
        self.shared.ring.wait(timeout)
    }

    /// Handles the completions, and continues from there.
    fn take_completions(&mut self, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        let mut completions = std::mem::take(&mut self.completions);
        self.shared.ring.collect(&mut completions);
        for completion in completions.drain(..) {
            if let Some(token) = self.note(completion, events) {
                self.advance(token, events)?;
            }
        }
        self.completions = completions;
        Ok(())
    }

    /// Handles one completion; returns the socket or listener that it belongs to.
    fn note(&mut self, completion: Completion, events: &mut Vec<DriverEvent>) -> Option<Token> {
        let (verb, token) = named(completion.name)?;
        match (verb, self.places.get_mut(token)) {
            // Eventfd and alarm are not read: each write to the one and each end of the other triggers a new edge.
            (Verb::Wake, _) => {
                self.wake_is_armed = completion.more;
                return None;
            }
            (Verb::Alarm, _) => {
                self.alarm_is_armed = completion.more;
                return None;
            }
            (Verb::Connect, Some(Endpoint::Connection(connection))) => {
                connection.connect_ended(token, completion, events);
            }
            (Verb::Send, Some(Endpoint::Connection(connection))) => {
                connection.send_ended(token, completion, &mut self.shared, events);
            }
            (Verb::Receive, Some(Endpoint::Connection(connection))) => {
                connection.received(token, completion, &mut self.shared, events);
            }
            (Verb::Receive | Verb::Send, Some(Endpoint::Datagrams(datagrams))) => datagrams.polled(verb, completion),
            (Verb::Watch, Some(Endpoint::Connection(connection))) => connection.watched(token, completion, events),
            (Verb::Accept, Some(Endpoint::Listener(listener))) => listener.accepted(token, completion, events),
            _ => return None,
        }
        Some(token)
    }

    /// Cancels everything and waits until the kernel has finished; returns whether it has.
    fn end_all(&mut self) -> bool {
        let mut events = Vec::new();
        if self.shared.ring.cancel_all(NO_TOKEN).is_err() {
            return false;
        }
        for _ in 0..END_ROUNDS {
            if self.shared.ring.wait(Some(END_WAIT)).is_err() {
                return false;
            }
            let mut completions = std::mem::take(&mut self.completions);
            self.shared.ring.collect(&mut completions);
            for completion in completions.drain(..) {
                self.note(completion, &mut events);
            }
            self.completions = completions;
            if self.shared.ring.in_kernel() == 0 {
                return true;
            }
        }
        false
    }
}

/// Completes whenever the descriptor becomes readable. The driver keeps it, and the operation ends before it does.
fn watch(ring: &mut Ring, fd: BorrowedFd<'_>, verb: Verb) -> io::Result<()> {
    let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32).multi(true);
    // SAFETY: the operation points to nothing; the driver keeps the descriptor until it ends, and then waits for the
    // operation to end.
    unsafe { ring.push(&entry.build().user_data(name(verb, NO_TOKEN))) }
}

impl Listener {
    fn advance(&mut self, token: Token, ring: &mut Ring) -> io::Result<Advance> {
        let wanted = self.armed && !self.is_leaving;
        if wanted && !self.accept.is_there {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let entry = opcode::AcceptMulti::new(Fd(self.fd.as_raw_fd())).flags(flags).build();
            // SAFETY: the operation points to nothing; the descriptor is kept until it ended.
            unsafe { ring.push(&entry.user_data(name(Verb::Accept, token))) }?;
            self.accept.started();
        } else if !wanted && self.accept.take_cancel() {
            ring.cancel(Verb::Accept, token)?;
        }
        Ok(if self.is_leaving && !self.accept.is_there { Advance::Goes } else { Advance::Stays })
    }

    fn accepted(&mut self, token: Token, completion: Completion, events: &mut Vec<DriverEvent>) {
        if !completion.more {
            self.accept.ended();
        }
        match outcome(completion.result) {
            Ok(_) => {
                // SAFETY: the kernel has just opened this descriptor for us, and nothing else knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
                // Fails if the connection is already broken; the peer is then unknown.
                let peer = SockRef::from(&fd).peer_addr().ok().and_then(|peer| peer.as_socket());
                if !self.is_leaving {
                    events.push(DriverEvent::Accepted { listener: token, socket: RawSocket::Fd(fd), peer });
                }
            }
            Err(error) if is_passing(&error) || socket::is_of_one_connection(&error) => {}
            Err(error) => {
                self.armed = false;
                if !self.is_leaving {
                    events.push(DriverEvent::AcceptFailed { listener: token, error });
                }
            }
        }
    }
}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    fn now(&self) -> Time {
        MonotonicClock.now()
    }

    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address> {
        self.places.check_free(listener)?;
        let (fd, bound) = socket::listen(address)?;
        let place = Listener { fd, armed: false, accept: InKernel::default(), is_leaving: false };
        self.places.insert(listener, Endpoint::Listener(place))?;
        Ok(bound)
    }

    fn accept(&mut self, listener: Token, armed: bool) {
        if let Some(Endpoint::Listener(place)) = self.places.get_mut(listener) {
            place.armed = armed;
            self.dirty.push_back(listener);
        }
    }

    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()> {
        self.places.check_free(socket)?;
        let (opened, target) = socket::open(address)?;
        let fd = OwnedFd::from(opened);
        socket::set_up(&fd, options);
        self.insert(socket, Connection::connecting(fd, target, options))
    }

    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()> {
        let fd = socket::take_fd(raw)?;
        socket::set_up(&fd, options);
        self.insert(socket, Connection::connected(fd, options))
    }

    fn receive(&mut self, socket: Token, armed: bool) {
        match self.places.get_mut(socket) {
            Some(Endpoint::Connection(connection)) => connection.arm(armed),
            Some(Endpoint::Datagrams(datagrams)) => datagrams.socket.arm(armed),
            Some(Endpoint::Listener(_)) | None => return,
        }
        self.list_dirty(socket);
    }

    fn serve_link(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket) {
            connection.serve_link();
            self.list_dirty(socket);
        }
    }

    fn bind(&mut self, socket: Token, address: SocketAddr) -> io::Result<BoundDatagrams> {
        self.places.check_free(socket)?;
        let (datagrams, bound) = PolledDatagrams::bind(address)?;
        self.places.insert(socket, Endpoint::Datagrams(Box::new(datagrams)))?;
        self.list_dirty(socket);
        Ok(bound)
    }

    fn send_datagrams(&mut self, socket: Token, batch: DatagramBatch) {
        if let Some(Endpoint::Datagrams(datagrams)) = self.places.get_mut(socket) {
            datagrams.socket.queue(batch);
            self.list_dirty(socket);
        }
    }

    fn acknowledge(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket) {
            connection.acknowledge();
        }
    }

    fn send(&mut self, socket: Token, lease: Lease) {
        if let Some(connection) = self.connection(socket) {
            connection.queue(lease);
            self.list_dirty(socket);
        }
    }

    fn unacknowledged_bytes(&self, socket: Token) -> usize {
        match self.places.get(socket) {
            Some(Endpoint::Connection(connection)) => socket::unacknowledged_bytes(connection.fd()),
            _ => 0,
        }
    }

    fn in_flight_bytes(&self, socket: Token) -> usize {
        match self.places.get(socket) {
            Some(Endpoint::Connection(connection)) => socket::in_flight_bytes(connection.fd()),
            _ => 0,
        }
    }

    fn is_over(&self, socket: Token) -> bool {
        matches!(self.places.get(socket), Some(Endpoint::Connection(connection)) if socket::is_over(connection.fd()))
    }

    fn has_pending_input(&self, socket: Token) -> bool {
        matches!(
            self.places.get(socket),
            Some(Endpoint::Connection(connection)) if socket::has_pending_input(connection.fd())
        )
    }

    fn shutdown(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket) {
            connection.finish();
            self.list_dirty(socket);
        }
    }

    fn close(&mut self, token: Token, how: Close) {
        match self.places.get_mut(token) {
            Some(Endpoint::Connection(connection)) => {
                if connection.leaving != Some(Leaving::Close(Close::Abort)) {
                    connection.leaving = Some(Leaving::Close(how));
                }
                self.list_dirty(token);
            }
            Some(Endpoint::Datagrams(datagrams)) => {
                datagrams.is_leaving = true;
                self.list_dirty(token);
            }
            Some(Endpoint::Listener(listener)) => {
                listener.is_leaving = true;
                self.dirty.push_back(token);
            }
            None => {}
        }
    }

    fn detach(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket)
            && connection.leaving.is_none()
        {
            connection.leaving = Some(Leaving::Detach);
            self.list_dirty(socket);
        }
    }

    fn wake(&self) -> Arc<dyn Wake> {
        Arc::clone(&self.wake) as Arc<dyn Wake>
    }

    fn flush(&mut self, _events: &mut Vec<DriverEvent>) -> bool {
        false
    }

    fn trim(&mut self) {
        if self.completions.is_empty() && self.shared.ring.buffers_are_empty() {
            // SAFETY: all completions were handled and the kernel keeps none back. Task work is deferred, so that the kernel
            // receives only within `Ring::enter`, on this thread.
            unsafe { self.shared.buffers.trim() };
        }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        let before = events.len();
        events.append(&mut self.happened);
        self.arm_wakers()?;
        self.shared.buffers.refill();
        self.advance_dirty(events)?;
        self.retry_starved(events)?;
        self.enter(wait, events.len() > before)?;
        self.take_completions(events)
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        // Memory that the kernel does not release is leaked by its owners: `SendQueue`, `Group`, `BufRing`.
        if self.end_all() {
            // Fails only when a ring is not registered, and then its memory is leaked too.
            let _ = self.shared.buffers.unregister(&self.shared.ring);
        }
    }
}
