use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, HostSet, LinkId, Time};
use crate::engine::{ByteStream, Core, Lease, Pool, Signal, StreamError, WindowGrant};
use crate::link::packer::transmit;
use crate::link::progress::Progress;
use crate::link::stalls::Stalls;
use crate::link::stream::LinkStream;
use crate::link::streams::{LinkStreams, StreamState, keep, wake};
use crate::link::unproven::Unproven;
use crate::quic::QuicConnection;
use crate::wire::mux::{
    Event, Fault, Hello, HelloError, Hosts, Mux, Open, OpenError, Refused, Settings, Side, StreamId, Welcome,
};
use crate::wire::quic::QuicPath;

/// A link, as tasks on its core use it. Clones refer to the same link.
#[derive(Clone)]
pub struct Link(pub(super) Rc<Shared>);

pub(super) struct Shared {
    pub(super) core: Core,
    /// The core's buffer pool, including the part reserved for links.
    pub(super) pool: Pool,
    pub(super) id: LinkId,
    pub(super) mux: RefCell<Mux<Lease>>,
    pub(super) streams: RefCell<LinkStreams>,
    /// Streams that the edge opened and that are not accepted yet, with their places in the table.
    pub(super) opened: RefCell<VecDeque<(StreamId, usize)>>,
    /// The task that accepts streams. It is separate because the other tasks wait for changes of the link as a whole.
    pub(super) accept_waker: RefCell<Option<Waker>>,
    pub(super) greeting: RefCell<Greeting>,
    /// Raised when either side has asked to drain, or the link has ended.
    pub(super) drain_begun: Signal,
    /// The hosts of the other side, once it has sent them.
    pub(super) peer_hosts: RefCell<Option<Hosts>>,
    pub(super) peer_hosts_changed: Signal,
    pub(super) round_trip: Cell<Option<Duration>>,
    pub(super) unproven: Unproven,
    pub(super) stalls: Stalls,
    pub(super) progress: Progress,
    /// When the last PING was sent that followed an unanswered one.
    pub(super) pinged_again_at: Cell<Time>,
    /// When the timer of the link expires.
    pub(super) timer_at: Cell<Time>,
    /// Our receive window and its upper limit; set once the greeting is over.
    pub(super) window: OnceCell<WindowGrant>,
    pub(super) window_max: u32,
    /// Whether the peer's system has closed or reset the connection.
    pub(super) closed_by_peer: Cell<bool>,
    pub(super) ended: RefCell<Option<LinkEnded>>,
    /// The connection of a link over QUIC, which the task of the link holds.
    pub(super) quic: RefCell<Weak<QuicConnection>>,
    /// The bytes that the transport adds before and after each payload.
    pub(super) around: Cell<(usize, usize)>,
    pub(super) transmit_waker: RefCell<Option<Waker>>,
    /// Tasks that are woken whenever bytes were sent.
    pub(super) flushing: RefCell<Vec<Waker>>,
    pub(super) waiting: RefCell<Vec<Waker>>,
}

#[derive(Default)]
pub(super) struct Greeting {
    pub(super) hello: Option<Box<Hello>>,
    pub(super) welcome: Option<Welcome>,
    pub(super) refused: Option<Refused>,
}

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEnded {
    /// The reason, as a code of the protocol.
    pub fault: Fault,
    /// The side that ended it.
    pub by: Side,
}

impl Link {
    /// Creates the edge's side of a link over a new connection.
    #[must_use]
    pub fn edge(core: &Core, id: LinkId, settings: Settings) -> Link {
        Link::new(core, id, settings.link_window, Mux::edge(core.now(), settings))
    }

    /// Creates the connector's side of a link over a new connection.
    ///
    /// # Errors
    ///
    /// If the secret is too long or too short to be sent.
    pub fn connector(core: &Core, id: LinkId, settings: Settings, hello: Hello) -> Result<Link, HelloError> {
        Ok(Link::new(core, id, settings.link_window, Mux::connector(core.now(), settings, hello)?))
    }

    fn new(core: &Core, id: LinkId, window_max: u32, mux: Mux<Lease>) -> Link {
        Link(Rc::new(Shared {
            core: core.clone(),
            pool: core.pool().for_links(),
            id,
            mux: RefCell::new(mux),
            streams: RefCell::default(),
            opened: RefCell::default(),
            accept_waker: RefCell::default(),
            greeting: RefCell::default(),
            drain_begun: Signal::default(),
            peer_hosts: RefCell::default(),
            peer_hosts_changed: Signal::default(),
            round_trip: Cell::new(None),
            unproven: Unproven::default(),
            stalls: Stalls::default(),
            progress: Progress::default(),
            pinged_again_at: Cell::new(Time::ZERO),
            timer_at: Cell::new(Time::NEVER),
            window: OnceCell::new(),
            window_max,
            closed_by_peer: Cell::new(false),
            ended: RefCell::default(),
            quic: RefCell::default(),
            around: Cell::new((0, 0)),
            transmit_waker: RefCell::default(),
            flushing: RefCell::default(),
            waiting: RefCell::default(),
        }))
    }

    /// The number of the link, unique on its side.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Carries the link over `transport` until it ends, and returns how it ended. Run it as a task of its own. `first`
    /// are bytes that were already received.
    pub async fn run(&self, transport: &impl ByteStream, first: impl IntoIterator<Item = Lease>) -> LinkEnded {
        self.0.around.set((transport.headroom(), transport.tailroom()));
        transport.serve_link();
        for lease in first {
            self.receive(lease);
        }
        let ended = future::or(self.run_receive(transport), self.run_time(|| transport.acked_before_others()));
        let ended = future::or(ended, self.run_transmit(transport)).await;
        if ended.fault == Fault::Stuck && ended.by == Side::Local {
            // The peer no longer reads, so an orderly close would not arrive. A reset does.
            transport.abort();
            return ended;
        }
        // If this side ended the link, the last frame carries the reason. The peer may have stopped reading.
        let _ = transmit(&self.0.mux, transport, &self.0.pool, self.0.core.now()).await;
        transport.finish();
        ended
    }

    /// At the edge: opens a stream.
    ///
    /// # Errors
    ///
    /// If the link cannot take another stream.
    pub fn open(&self, open: &Open<'_>) -> Result<LinkStream, OpenError> {
        // The connector starts its clock when it receives OPEN, so the transit time is subtracted.
        let until = open.until.map(|until| until.back(self.way()));
        let id = self.0.mux.borrow_mut().open(&Open { until, ..*open })?;
        let place = self.0.streams.borrow_mut().add(id);
        self.wake_transmitter();
        Ok(LinkStream::new(self.clone(), id, place))
    }

    /// At the connector: the next stream that the edge opened; `None` when the link has ended. Only one task may wait
    /// here at a time.
    pub async fn accept(&self) -> Option<LinkStream> {
        poll_fn(|cx| {
            if let Some((id, place)) = self.0.opened.borrow_mut().pop_front() {
                return Poll::Ready(Some(LinkStream::new(self.clone(), id, place)));
            }
            if self.ended().is_some() {
                return Poll::Ready(None);
            }
            keep(&mut self.0.accept_waker.borrow_mut(), cx);
            Poll::Pending
        })
        .await
    }

    /// Stops new streams in both directions. Streams that are open can finish.
    pub fn drain(&self) {
        self.0.mux.borrow_mut().drain();
        self.process_events();
    }

    /// Waits until either side has asked to drain, or the link has ended.
    pub async fn draining(&self) {
        self.0.drain_begun.after(0).await;
    }

    /// Waits until the last stream of a draining link has ended, or the link has ended.
    pub async fn drained(&self) {
        self.wait_for(|link| {
            let drained = link.0.mux.borrow().is_drained() && link.streams_held() == 0;
            (drained || link.ended().is_some()).then_some(())
        })
        .await;
    }

    /// Ends the link now, for the reason `fault`. Open streams are reset.
    pub fn close(&self, fault: Fault) {
        self.0.mux.borrow_mut().close(fault);
        self.process_events();
    }

    /// Whether new streams can be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mux = self.0.mux.borrow();
        mux.is_ready() && !mux.is_draining()
    }

    /// Whether either side has asked to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.mux.borrow().is_draining()
    }

    /// The number of streams on the link.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        self.0.mux.borrow().streams_live()
    }

    /// The number of streams held on this side.
    #[must_use]
    pub fn streams_held(&self) -> usize {
        self.0.streams.borrow().live()
    }

    /// Sends the hosts of this side to the peer: the routes of a connector, or the hosts of the edge's tunnel.
    pub fn set_hosts(&self, hosts: &HostSet) {
        self.0.mux.borrow_mut().set_hosts(self.0.core.now(), hosts);
        self.process_events();
        // The timer may have to fire earlier now.
        self.wake_waiting();
    }

    /// The hosts of the other side; `None` until it has sent them.
    #[must_use]
    pub fn peer_hosts(&self) -> Option<Hosts> {
        self.0.peer_hosts.borrow().clone()
    }

    /// Waits until the other side has sent its hosts more than `seen` times. Returns how often it has.
    pub async fn peer_hosts_after(&self, seen: u64) -> u64 {
        self.0.peer_hosts_changed.after(seen).await;
        self.0.peer_hosts_changed.count()
    }

    /// At the edge: withdraws the streams that [allow it](LinkStream::set_withdrawal).
    pub fn withdraw(&self) {
        let withdrawn = self.0.mux.borrow_mut().withdraw();
        for stream in withdrawn {
            self.notify(stream, StreamState::withdraw);
        }
        self.process_events();
    }

    /// How the link ended; `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<LinkEnded> {
        *self.0.ended.borrow()
    }

    /// Whether the peer's system has closed or reset the connection, as it does when the peer's process ends.
    #[must_use]
    pub fn is_closed_by_peer(&self) -> bool {
        self.0.closed_by_peer.get()
    }

    /// Whether the link runs over QUIC. False when it has ended.
    #[must_use]
    pub fn is_quic(&self) -> bool {
        self.0.quic.borrow().strong_count() > 0
    }

    /// What is known of the path of a link over QUIC; `None` over TCP, and when it has ended.
    #[must_use]
    pub fn quic_path(&self) -> Option<QuicPath> {
        self.0.quic.borrow().upgrade()?.path()
    }

    pub(super) fn mux(&self) -> &RefCell<Mux<Lease>> {
        &self.0.mux
    }

    pub(super) fn streams(&self) -> &RefCell<LinkStreams> {
        &self.0.streams
    }

    /// The number of bytes that one stream may have queued, within the memory of the core.
    pub(super) fn allowance(&self) -> usize {
        self.0.core.pool().allowance()
    }

    pub(super) fn headroom(&self) -> usize {
        self.0.around.get().0
    }

    pub(super) fn tailroom(&self) -> usize {
        self.0.around.get().1
    }

    /// Wakes the transmitting task if there is something to send.
    pub(super) fn wake_transmitter(&self) {
        if self.0.mux.borrow().wants_transmit() {
            wake(&mut self.0.transmit_waker.borrow_mut());
        }
    }

    /// Wakes the task of `cx` the next time bytes are sent, or when the link ends.
    pub(super) fn wake_when_sent(&self, cx: &Context<'_>) {
        add_waker(&mut self.0.flushing.borrow_mut(), cx);
    }

    pub(super) fn stream_dropped(&self) {
        if self.is_draining() {
            self.wake_waiting();
        }
    }

    async fn run_receive(&self, transport: &impl ByteStream) -> LinkEnded {
        loop {
            match transport.recv().await {
                Ok(Some(lease)) => self.receive(lease),
                Ok(None) => self.lost(None),
                Err(error) => self.lost(Some(&error)),
            }
            if let Some(ended) = self.ended() {
                return ended;
            }
        }
    }

    async fn run_transmit(&self, transport: &impl ByteStream) -> LinkEnded {
        loop {
            self.wants_transmit().await;
            if let Some(ended) = self.ended() {
                return ended;
            }
            // Waits for the end of the turn, so that frames of other tasks in this turn share the same records.
            self.0.core.turn_end().await;
            self.size_window();
            let sent = transmit(&self.0.mux, transport, &self.0.pool, self.0.core.turn_time()).await;
            if self.0.progress.on_sent(self.0.core.turn_time()) {
                self.wake_waiting();
            }
            let ready = match sent {
                Ok(()) => transport.ready().await,
                failed => failed,
            };
            match ready {
                Ok(()) => self.process_events(),
                Err(error) => self.lost(Some(&error)),
            }
            self.on_sent();
        }
    }

    /// Waits until there is something to send, or the link has ended.
    pub(super) async fn wants_transmit(&self) {
        poll_fn(|cx| {
            if self.0.mux.borrow().wants_transmit() || self.ended().is_some() {
                return Poll::Ready(());
            }
            keep(&mut self.0.transmit_waker.borrow_mut(), cx);
            Poll::Pending
        })
        .await;
    }

    pub(super) fn core(&self) -> &Core {
        &self.0.core
    }

    /// The core's buffer pool, including the part reserved for links.
    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Ends the link, because the peer closed the connection or it failed.
    pub(super) fn lost(&self, error: Option<&StreamError>) {
        // A killed process does not close its TLS session, so these errors count as a close.
        if matches!(error, None | Some(StreamError::Reset | StreamError::Truncated)) {
            self.0.closed_by_peer.set(true);
        }
        self.0.mux.borrow_mut().lost();
        self.process_events();
    }

    /// Adjusts the size of the window, just before the new size is sent to the peer.
    pub(super) fn size_window(&self) {
        let mut mux = self.0.mux.borrow_mut();
        if mux.is_window_due()
            && let Some(window) = self.0.window.get()
        {
            let wanted = window.wanted(mux.is_window_short(), self.0.window_max);
            if wanted != window.size() {
                window.set(mux.resize_window(wanted));
            }
        }
    }

    fn receive(&self, lease: Lease) {
        self.receive_with(|mux, now| mux.receive(now, lease));
    }

    /// Gives received bytes to the state machine, and handles what follows from them.
    pub(super) fn receive_with(&self, receive: impl FnOnce(&mut Mux<Lease>, Time)) {
        let mut mux = self.0.mux.borrow_mut();
        mux.set_pressed(!self.0.core.pool().can_receive());
        receive(&mut mux, self.0.core.turn_time());
        drop(mux);
        self.0.unproven.on_received();
        self.process_events();
    }

    /// Handles the events of the mux, after anything that may have caused some.
    pub(super) fn process_events(&self) {
        let mut link_changed = false;
        loop {
            let event = self.0.mux.borrow_mut().poll_event();
            let Some(event) = event else { break };
            link_changed |= self.handle(event);
        }
        self.wake_transmitter();
        if link_changed {
            self.wake_waiting();
        }
    }

    /// Handles one event; true if it concerns the link as a whole.
    fn handle(&self, event: Event<Lease>) -> bool {
        let shared = &self.0;
        match event {
            Event::Data { stream, chunk } => {
                let now = shared.core.turn_time();
                self.notify(stream, |state| state.receive(chunk, now));
                return false;
            }
            Event::Finished { stream } => return self.notify(stream, StreamState::finish),
            Event::Reset { stream, cause } => return self.notify(stream, |state| state.reset(cause)),
            Event::Writable { stream } => return self.notify(stream, StreamState::writable),
            Event::Phases { stream, phases } => return self.notify(stream, |state| state.phases = Some(phases)),
            Event::Opened { stream } => {
                let place = shared.streams.borrow_mut().add(stream);
                shared.opened.borrow_mut().push_back((stream, place));
                wake(&mut shared.accept_waker.borrow_mut());
                return false;
            }
            Event::Hello(hello) => shared.greeting.borrow_mut().hello = Some(hello),
            Event::Welcomed(welcome) => {
                shared.window.get_or_init(|| WindowGrant::of_size(&shared.pool, welcome.link_window));
                shared.greeting.borrow_mut().welcome = Some(welcome);
            }
            Event::Refused(refused) => shared.greeting.borrow_mut().refused = Some(refused),
            Event::Hosts(hosts) => {
                shared.peer_hosts.replace(Some(hosts));
                shared.peer_hosts_changed.raise();
                return false;
            }
            Event::Draining => shared.drain_begun.raise(),
            Event::RoundTrip(round_trip) => shared.round_trip.set(Some(round_trip)),
            Event::Closed { fault, by } => self.on_closed(LinkEnded { fault, by }),
        }
        true
    }

    /// Updates the state of a stream, if a task holds it. Returns false, because the link as a whole does not change.
    fn notify(&self, stream: StreamId, update: impl FnOnce(&mut StreamState)) -> bool {
        if let Some(state) = self.0.streams.borrow_mut().find(stream) {
            update(state);
        }
        false
    }

    fn on_closed(&self, ended: LinkEnded) {
        let shared = &self.0;
        shared.ended.borrow_mut().get_or_insert(ended);
        shared.drain_begun.raise();
        // Streams that were never accepted end with the link.
        for (_, place) in shared.opened.borrow_mut().drain(..) {
            shared.streams.borrow_mut().remove(place);
        }
        wake(&mut shared.transmit_waker.borrow_mut());
        wake(&mut shared.accept_waker.borrow_mut());
    }

    /// Called after bytes were sent. They may have been the last of a stream, and that stream the last of a draining
    /// link.
    pub(super) fn on_sent(&self) {
        self.0.flushing.borrow_mut().drain(..).for_each(Waker::wake);
        if self.is_draining() {
            self.wake_waiting();
        }
    }

    pub(super) fn wake_waiting(&self) {
        for waker in self.0.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits until `look` returns a value. It is called again whenever the link as a whole changes.
    pub(super) async fn wait_for<T>(&self, mut look: impl FnMut(&Link) -> Option<T>) -> T {
        poll_fn(|cx| {
            if let Some(found) = look(self) {
                return Poll::Ready(found);
            }
            add_waker(&mut self.0.waiting.borrow_mut(), cx);
            Poll::Pending
        })
        .await
    }
}

fn add_waker(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}
