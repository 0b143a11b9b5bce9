//! The epoll driver, which turns readiness into completions.
//!
//! Each socket is registered once, edge-triggered, and its readiness is remembered. A buffer is taken only if there is
//! something to receive.

mod connection;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::clock::MonotonicClock;
use crate::engine::driver::{
    Address, Close, Driver, DriverEvent, DriverKind, RawSocket, SocketOptions, Token, Wait, Wake,
};
use crate::engine::pool::Pool;
use crate::engine::sys::alarm::Alarm;
use crate::engine::sys::datagram_socket::{DatagramRound, DatagramSocket};
use crate::engine::sys::places::Places;
use crate::engine::sys::poller::{Poller, SocketReadiness};
use crate::engine::sys::socket;
use crate::engine::sys::wake::EventFd;
use crate::engine::{BoundDatagrams, DatagramBatch, Lease};

use connection::{Connection, Leaving, Received};

/// How many connections a listener may accept in one turn before it is the turn of others.
const TURN_ACCEPTS_MAX: usize = 64;
/// The longest wait of a turn while a socket has no buffer.
const STARVED_WAIT: Duration = Duration::from_millis(2);
/// The token of the eventfd and of the alarm; no socket has this index.
const WAKE_TOKEN: Token = Token { index: u32::MAX, generation: u32::MAX };

/// A driver on epoll.
pub(in crate::engine) struct EpollDriver {
    poller: Poller,
    wake: Arc<EventFd>,
    alarm: Alarm,
    pool: Pool,
    /// The same pool, for sockets that carry links.
    link_pool: Pool,
    places: Places<Endpoint>,
    /// Sockets with something to send or to close.
    dirty: VecDeque<Token>,
    /// Sockets to receive from, and listeners to accept from.
    ready: VecDeque<Token>,
    /// Sockets that need a buffer to receive into.
    starved: VecDeque<Token>,
    /// Events that happened between turns.
    happened: Vec<DriverEvent>,
}

enum Endpoint {
    Connection(Box<Connection>),
    Datagrams(Box<DatagramSocket>),
    Listener(Listener),
}

struct Listener {
    fd: OwnedFd,
    armed: bool,
    readable: bool,
    is_listed: bool,
}

impl EpollDriver {
    /// Creates a driver that receives into buffers of `pool`.
    ///
    /// # Errors
    ///
    /// The error of the system, for example if the process has too many open files.
    pub(in crate::engine) fn new(pool: &Pool) -> io::Result<EpollDriver> {
        let poller = Poller::new()?;
        let wake = Arc::new(EventFd::new()?);
        poller.add(&*wake, WAKE_TOKEN)?;
        let alarm = Alarm::new()?;
        poller.add(&alarm, WAKE_TOKEN)?;
        Ok(EpollDriver {
            poller,
            wake,
            alarm,
            pool: pool.clone(),
            link_pool: pool.for_links(),
            places: Places::new(),
            dirty: VecDeque::new(),
            ready: VecDeque::new(),
            starved: VecDeque::new(),
            happened: Vec::new(),
        })
    }

    fn connection(&mut self, token: Token) -> Option<&mut Connection> {
        match self.places.get_mut(token)? {
            Endpoint::Connection(connection) => Some(connection),
            Endpoint::Datagrams(_) | Endpoint::Listener(_) => None,
        }
    }

    fn insert(&mut self, token: Token, connection: Connection) -> io::Result<()> {
        self.places.check_free(token)?;
        self.poller.add(&connection, token)?;
        self.places.insert(token, Endpoint::Connection(Box::new(connection)))
    }

    /// Schedules the socket to be flushed when the next turn begins.
    fn list_dirty(&mut self, token: Token) {
        let is_dirty = match self.places.get_mut(token) {
            Some(Endpoint::Connection(connection)) => &mut connection.is_dirty,
            Some(Endpoint::Datagrams(socket)) => &mut socket.is_dirty,
            Some(Endpoint::Listener(_)) | None => return,
        };
        if !std::mem::replace(is_dirty, true) {
            self.dirty.push_back(token);
        }
    }

    /// Schedules the socket or listener to be served in this turn or the next, if there is something to receive.
    fn list_ready(&mut self, token: Token) {
        let (wanted, is_listed) = match self.places.get_mut(token) {
            Some(Endpoint::Connection(connection)) => (connection.wants_to_receive(), &mut connection.is_listed),
            Some(Endpoint::Datagrams(socket)) => (socket.wants_to_receive(), &mut socket.is_listed),
            Some(Endpoint::Listener(listener)) => (listener.armed && listener.readable, &mut listener.is_listed),
            None => return,
        };
        if wanted && !std::mem::replace(is_listed, true) {
            self.ready.push_back(token);
        }
    }

    fn flush_dirty(&mut self, events: &mut Vec<DriverEvent>) {
        for _ in 0..self.dirty.len() {
            let Some(token) = self.dirty.pop_front() else { break };
            match self.places.get_mut(token) {
                Some(Endpoint::Connection(connection)) => {
                    connection.is_dirty = false;
                    connection.flush(token, events);
                    self.leave_when_out(token, events);
                }
                Some(Endpoint::Datagrams(socket)) => {
                    socket.is_dirty = false;
                    self.flush_datagrams(token, events);
                }
                Some(Endpoint::Listener(_)) | None => {}
            }
        }
    }

    /// Sends queued datagrams. The poller is asked for room only while some wait for it.
    fn flush_datagrams(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        let Some(Endpoint::Datagrams(socket)) = self.places.get_mut(token) else { return };
        let waited = socket.waits_for_room();
        socket.flush(token, events);
        let waits = socket.waits_for_room();
        if waits != waited {
            // Fails only for lack of memory. What waits is then sent together with what is queued next.
            let _ = self.poller.report_writable(&**socket, token, waits);
        }
    }

    /// Ends a socket that leaves the driver and has nothing more to send.
    fn leave_when_out(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        let Some(connection) = self.connection(token) else { return };
        let Some(leaving) = connection.leaving else { return };
        if !connection.is_out() {
            return;
        }
        let Some(Endpoint::Connection(connection)) = self.places.remove(token) else { return };
        let stays_whole = leaving == Leaving::Detach && !connection.is_broken();
        if stays_whole && self.poller.remove(&*connection).is_ok() {
            events.push(DriverEvent::Detached { socket: token, raw: RawSocket::Fd(connection.into_fd()) });
        } else {
            events.push(DriverEvent::Closed { token });
        }
    }

    /// Handles the reports of the poller.
    fn take_reports(&mut self, reports: usize, events: &mut Vec<DriverEvent>) {
        for at in 0..reports {
            let (token, readiness) = self.poller.report(at);
            // Eventfd and alarm are not read: each write to the one and each end of the other triggers a new edge.
            if token != WAKE_TOKEN {
                self.take_report(token, readiness, events);
            }
        }
    }

    fn take_report(&mut self, token: Token, readiness: SocketReadiness, events: &mut Vec<DriverEvent>) {
        match self.places.get_mut(token) {
            Some(Endpoint::Connection(connection)) => {
                connection.note(readiness);
                connection.note_connected(token, events);
                connection.flush(token, events);
                connection.tell_end(token, events);
                self.leave_when_out(token, events);
            }
            Some(Endpoint::Datagrams(socket)) => {
                let waited = socket.waits_for_room();
                socket.note(readiness.readable(), readiness.writable());
                if waited && !socket.waits_for_room() {
                    let _ = self.poller.report_writable(&**socket, token, false);
                    self.flush_datagrams(token, events);
                }
            }
            Some(Endpoint::Listener(listener)) => listener.readable |= readiness.readable(),
            None => return,
        }
        self.list_ready(token);
    }

    /// Retries the sockets without a buffer, if there are buffers again.
    fn retry_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        self.starved.retain(|token| self.places.contains(*token));
        if self.pool.can_receive() {
            self.ready.append(&mut self.starved);
        } else {
            // The buffers reserved for links are not for the other sockets.
            let left_for_links = self.link_pool.can_receive();
            for _ in 0..self.starved.len() {
                let Some(token) = self.starved.pop_front() else { break };
                let is_link = match self.places.get(token) {
                    Some(Endpoint::Connection(connection)) => connection.serves_link,
                    Some(Endpoint::Datagrams(_)) => true,
                    Some(Endpoint::Listener(_)) | None => false,
                };
                if is_link && left_for_links { self.ready.push_back(token) } else { self.starved.push_back(token) }
            }
        }
    }

    fn serve_ready(&mut self, events: &mut Vec<DriverEvent>) {
        for _ in 0..self.ready.len() {
            let Some(token) = self.ready.pop_front() else { break };
            match self.places.get_mut(token) {
                Some(Endpoint::Connection(connection)) => {
                    let pool = if connection.serves_link { &self.link_pool } else { &self.pool };
                    let outcome = connection.receive(token, pool, events);
                    connection.is_listed = outcome != Received::Drained;
                    match outcome {
                        Received::Drained => {}
                        Received::More => self.ready.push_back(token),
                        Received::Starved => self.starved.push_back(token),
                    }
                }
                Some(Endpoint::Datagrams(socket)) => {
                    let outcome = socket.receive(token, &self.link_pool, events);
                    socket.is_listed = outcome != DatagramRound::Drained;
                    match outcome {
                        DatagramRound::Drained => {}
                        DatagramRound::More => self.ready.push_back(token),
                        DatagramRound::Starved => self.starved.push_back(token),
                    }
                }
                Some(Endpoint::Listener(listener)) => {
                    listener.accept(token, events);
                    listener.is_listed = listener.armed && listener.readable;
                    if listener.is_listed {
                        self.ready.push_back(token);
                    }
                }
                None => {}
            }
        }
    }

    /// How long the poller may wait; `None` until something happens, which the alarm is too.
    fn timeout(&mut self, wait: Wait, has_happened: bool) -> io::Result<Option<Duration>> {
        let deadline = match wait {
            Wait::Until(deadline) if !has_happened && self.ready.is_empty() => deadline,
            _ => return Ok(Some(Duration::ZERO)),
        };
        let now = MonotonicClock.now();
        if !self.starved.is_empty() {
            return Ok(Some((deadline - now).min(STARVED_WAIT)));
        }
        Ok(if self.alarm.goes_off_by(deadline, now)? { None } else { Some(Duration::ZERO) })
    }
}

impl Listener {
    fn accept(&mut self, token: Token, events: &mut Vec<DriverEvent>) {
        for _ in 0..TURN_ACCEPTS_MAX {
            if !self.armed {
                return;
            }
            match socket::accept(self.fd.as_fd()) {
                Ok((fd, peer)) => {
                    events.push(DriverEvent::Accepted { listener: token, socket: RawSocket::Fd(fd), peer })
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return;
                }
                Err(error) if socket::is_of_one_connection(&error) => {}
                Err(error) => {
                    self.armed = false;
                    events.push(DriverEvent::AcceptFailed { listener: token, error });
                }
            }
        }
    }
}

impl Driver for EpollDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Epoll
    }

    fn now(&self) -> Time {
        MonotonicClock.now()
    }

    fn listen(&mut self, listener: Token, address: &Address) -> io::Result<Address> {
        self.places.check_free(listener)?;
        let (fd, bound) = socket::listen(address)?;
        self.poller.add(&fd, listener)?;
        let place = Listener { fd, armed: false, readable: false, is_listed: false };
        self.places.insert(listener, Endpoint::Listener(place))?;
        Ok(bound)
    }

    fn accept(&mut self, listener: Token, armed: bool) {
        if let Some(Endpoint::Listener(place)) = self.places.get_mut(listener) {
            place.armed = armed;
            self.list_ready(listener);
        }
    }

    fn connect(&mut self, socket: Token, address: &Address, options: SocketOptions) -> io::Result<()> {
        self.places.check_free(socket)?;
        let (opened, target) = socket::open(address)?;
        let started = opened.connect(&target);
        let fd = OwnedFd::from(opened);
        socket::set_up(&fd, options);
        // Registered after connecting began, because epoll reports an unconnected socket as hung up.
        let mut connection = Connection::connecting(fd, options);
        match started {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => connection.expect_writable(),
            result => connection.end_connecting(socket, result, &mut self.happened),
        }
        self.insert(socket, connection)
    }

    fn adopt(&mut self, socket: Token, raw: RawSocket, options: SocketOptions) -> io::Result<()> {
        let fd = socket::take_fd(raw)?;
        socket::set_up(&fd, options);
        self.insert(socket, Connection::connected(fd, options))
    }

    fn receive(&mut self, socket: Token, armed: bool) {
        match self.places.get_mut(socket) {
            Some(Endpoint::Connection(connection)) => {
                connection.arm(armed);
                connection.tell_end(socket, &mut self.happened);
            }
            Some(Endpoint::Datagrams(datagrams)) => datagrams.arm(armed),
            Some(Endpoint::Listener(_)) | None => return,
        }
        self.list_ready(socket);
    }

    fn serve_link(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket) {
            connection.serves_link = true;
            socket::set_up_link(connection);
        }
    }

    fn bind(&mut self, socket: Token, address: SocketAddr) -> io::Result<BoundDatagrams> {
        self.places.check_free(socket)?;
        let (datagrams, bound) = DatagramSocket::bind(address)?;
        self.poller.add_readable(&datagrams, socket)?;
        self.places.insert(socket, Endpoint::Datagrams(Box::new(datagrams)))?;
        Ok(bound)
    }

    fn send_datagrams(&mut self, socket: Token, batch: DatagramBatch) {
        if let Some(Endpoint::Datagrams(datagrams)) = self.places.get_mut(socket) {
            datagrams.queue(batch);
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
            Some(Endpoint::Connection(connection)) => socket::unacknowledged_bytes(&**connection),
            _ => 0,
        }
    }

    fn in_flight_bytes(&self, socket: Token) -> usize {
        match self.places.get(socket) {
            Some(Endpoint::Connection(connection)) => socket::in_flight_bytes(&**connection),
            _ => 0,
        }
    }

    fn is_over(&self, socket: Token) -> bool {
        matches!(self.places.get(socket), Some(Endpoint::Connection(connection)) if socket::is_over(&**connection))
    }

    fn has_pending_input(&self, socket: Token) -> bool {
        matches!(
            self.places.get(socket),
            Some(Endpoint::Connection(connection)) if socket::has_pending_input(&**connection)
        )
    }

    fn shutdown(&mut self, socket: Token) {
        if let Some(connection) = self.connection(socket) {
            connection.finish();
            self.list_dirty(socket);
        }
    }

    fn close(&mut self, token: Token, how: Close) {
        match (self.places.get_mut(token), how) {
            (None, _) => {}
            (Some(Endpoint::Connection(connection)), Close::Flush) => {
                connection.leaving = Some(Leaving::Close);
                self.list_dirty(token);
            }
            (Some(place), _) => {
                if let Endpoint::Connection(connection) = place {
                    socket::reset_on_close(&**connection);
                }
                // Dropping the entry closes the descriptor, which also ends its registration.
                drop(self.places.remove(token));
                self.happened.push(DriverEvent::Closed { token });
            }
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

    fn flush(&mut self, events: &mut Vec<DriverEvent>) -> bool {
        events.append(&mut self.happened);
        self.flush_dirty(events);
        true
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<DriverEvent>) -> io::Result<()> {
        let before = events.len();
        self.flush(events);
        self.retry_starved();
        let timeout = self.timeout(wait, events.len() > before)?;
        let reports = self.poller.wait(timeout)?;
        self.take_reports(reports, events);
        self.serve_ready(events);
        Ok(())
    }
}
