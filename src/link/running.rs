use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, LinkId, Time};
use crate::engine::{ByteStream, Core, Lease, Pool, Signal, WindowGrant};
use crate::link::packer::transmit;
use crate::link::stream::LinkStream;
use crate::link::streams::{StreamState, Streams, keep, wake};
use crate::wire::mux::{
    EdgeIdentity, Event, Fault, Hello, HelloError, Mux, Open, OpenError, Refusal, Refused, Settings, Side, StreamId,
    Welcome,
};

/// One link, as the tasks on its core hold it. Cheap to clone; the clones are one link.
#[derive(Clone)]
pub struct Link(Rc<Shared>);

struct Shared {
    core: Core,
    /// The core's buffers, with the part that is kept for links.
    pool: Pool,
    id: LinkId,
    mux: RefCell<Mux<Lease>>,
    streams: RefCell<Streams>,
    /// Streams that the edge opened and nobody has taken yet, and their places.
    opened: RefCell<VecDeque<(StreamId, usize)>>,
    /// Who takes them. Apart from those that wait for news of the link as a whole, which has none for each call.
    accept_waker: RefCell<Option<Waker>>,
    greeting: RefCell<Greeting>,
    /// Raised when one side has asked to drain, and when the link has ended.
    going: Signal,
    round_trip: Cell<Option<Duration>>,
    /// Our receive window, once the greeting is over, and the most that it may be.
    window: OnceCell<WindowGrant>,
    window_max: u32,
    ended: RefCell<Option<Ended>>,
    /// Bytes that the transport puts around what it is given.
    around: Cell<(usize, usize)>,
    transmit_waker: RefCell<Option<Waker>>,
    /// Woken whenever something was sent.
    flushing: RefCell<Vec<Waker>>,
    waiting: RefCell<Vec<Waker>>,
}

#[derive(Default)]
struct Greeting {
    hello: Option<Box<Hello>>,
    welcome: Option<Welcome>,
    refused: Option<Refused>,
}

/// How a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The reason why the link ended.
    pub fault: Fault,
    /// Which side ended it.
    pub by: Side,
}

/// Why a link did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The edge does not let this connector in.
    #[error("the edge refused the link: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// Why, as a code.
        refusal: Refusal,
        /// Why, in the edge's words.
        reason: String,
    },
    /// It ended before it was ready.
    #[error("the link ended during the greeting: {0}")]
    Ended(Fault),
}

impl Link {
    /// The edge's side of a link over a new connection.
    #[must_use]
    pub fn edge(core: &Core, id: LinkId, settings: Settings) -> Link {
        Link::new(core, id, settings.link_window, Mux::edge(core.now(), settings))
    }

    /// The connector's side of a link over a new connection.
    ///
    /// # Errors
    ///
    /// When the secret has no length that can be sent.
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
            going: Signal::default(),
            round_trip: Cell::new(None),
            window: OnceCell::new(),
            window_max,
            ended: RefCell::default(),
            around: Cell::new((0, 0)),
            transmit_waker: RefCell::default(),
            flushing: RefCell::default(),
            waiting: RefCell::default(),
        }))
    }

    /// The id of this link, unique in the process.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// Carries the link over `transport` until it ends, and says how. Run it as a task of its own. `first` are bytes that
    /// were received already.
    pub async fn run(&self, transport: &impl ByteStream, first: impl IntoIterator<Item = Lease>) -> Ended {
        self.0.around.set((transport.headroom(), transport.tailroom()));
        transport.serve_link();
        for lease in first {
            self.receive(lease);
        }
        let ended = future::or(self.run_receive(transport), self.run_time());
        let ended = future::or(ended, self.run_transmit(transport)).await;
        // The reason for the end, if it was ours, is the last frame. Whether the peer still reads it is its affair.
        let _ = transmit(&self.0.mux, transport, &self.0.pool, self.0.core.now()).await;
        transport.finish();
        ended
    }

    /// At the edge: who the connector says it is.
    ///
    /// # Errors
    ///
    /// When the link ended instead.
    pub async fn hello(&self) -> Result<Box<Hello>, LinkError> {
        self.wait_for(|link| {
            let hello = link.0.greeting.borrow_mut().hello.take();
            hello.map(Ok).or_else(|| link.ended().map(|ended| Err(LinkError::Ended(ended.fault))))
        })
        .await
    }

    /// At the edge: lets the connector in. The window of the link is as large as the core has memory for, at most as the
    /// settings say.
    pub fn welcome(&self, edge: EdgeIdentity) {
        let window = self.0.window.get_or_init(|| WindowGrant::first(&self.0.pool, self.0.window_max)).size();
        let mut mux = self.0.mux.borrow_mut();
        mux.set_link_window(window);
        mux.welcome(self.0.core.now(), edge);
        drop(mux);
        self.settle();
    }

    /// At the edge: does not let the connector in.
    pub fn refuse(&self, refusal: Refusal, reason: &str) {
        self.0.mux.borrow_mut().refuse(refusal, reason);
        self.settle();
    }

    /// At the connector: what the edge answered.
    ///
    /// # Errors
    ///
    /// When it refused, or the link ended instead.
    pub async fn welcomed(&self) -> Result<Welcome, LinkError> {
        self.wait_for(|link| {
            let greeting = link.0.greeting.borrow();
            if let Some(Refused { refusal, reason }) = &greeting.refused {
                return Some(Err(LinkError::Refused { refusal: *refusal, reason: reason.clone() }));
            }
            greeting.welcome.map(Ok).or_else(|| link.ended().map(|ended| Err(LinkError::Ended(ended.fault))))
        })
        .await
    }

    /// At the edge: opens a stream.
    ///
    /// # Errors
    ///
    /// When the link cannot take it.
    pub fn open(&self, open: &Open<'_>) -> Result<LinkStream, OpenError> {
        let id = self.0.mux.borrow_mut().open(open)?;
        let place = self.0.streams.borrow_mut().add(id);
        self.kick();
        Ok(LinkStream::new(self.clone(), id, place))
    }

    /// At the connector: the next stream that the edge opened; none when the link has ended. One task at a time takes them.
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

    /// Takes no new streams from here on, on either side. What runs may finish.
    pub fn drain(&self) {
        self.0.mux.borrow_mut().drain();
        self.settle();
    }

    /// Waits until one side has asked to drain, or the link has ended.
    pub async fn draining(&self) {
        self.0.going.after(0).await;
    }

    /// Waits until the last stream of a draining link has ended, or the link has.
    pub async fn drained(&self) {
        self.wait_for(|link| {
            let drained = link.0.mux.borrow().is_drained() && link.streams_held() == 0;
            (drained || link.ended().is_some()).then_some(())
        })
        .await;
    }

    /// Ends the link now; open streams are reset.
    pub fn close(&self, fault: Fault) {
        self.0.mux.borrow_mut().close(fault);
        self.settle();
    }

    /// Whether new streams may be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let mux = self.0.mux.borrow();
        mux.is_ready() && !mux.is_draining()
    }

    /// Whether a drain was asked for.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.mux.borrow().is_draining()
    }

    /// How many streams are on it.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        self.0.mux.borrow().streams_live()
    }

    /// How many streams somebody on this side holds.
    #[must_use]
    pub fn streams_held(&self) -> usize {
        self.0.streams.borrow().live()
    }

    /// The last round trip that was measured.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.round_trip.get()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        *self.0.ended.borrow()
    }

    pub(super) fn mux(&self) -> &RefCell<Mux<Lease>> {
        &self.0.mux
    }

    pub(super) fn streams(&self) -> &RefCell<Streams> {
        &self.0.streams
    }

    /// How many bytes one stream may have queued, as far as the core's buffers go.
    pub(super) fn allowance(&self) -> usize {
        self.0.core.pool().allowance()
    }

    pub(super) fn headroom(&self) -> usize {
        self.0.around.get().0
    }

    pub(super) fn tailroom(&self) -> usize {
        self.0.around.get().1
    }

    /// Wakes the transmitting task, if it has something to do.
    pub(super) fn kick(&self) {
        if self.0.mux.borrow().wants_transmit() {
            wake(&mut self.0.transmit_waker.borrow_mut());
        }
    }

    /// Wakes the task the next time that something was sent, or the link has ended.
    pub(super) fn wake_when_sent(&self, cx: &Context<'_>) {
        add_waker(&mut self.0.flushing.borrow_mut(), cx);
    }

    pub(super) fn stream_dropped(&self) {
        if self.is_draining() {
            self.wake_waiting();
        }
    }

    async fn run_receive(&self, transport: &impl ByteStream) -> Ended {
        loop {
            match transport.recv().await {
                Ok(Some(lease)) => self.receive(lease),
                Ok(None) | Err(_) => {
                    self.0.mux.borrow_mut().lost();
                    self.settle();
                }
            }
            if let Some(ended) = self.ended() {
                return ended;
            }
        }
    }

    async fn run_transmit(&self, transport: &impl ByteStream) -> Ended {
        loop {
            poll_fn(|cx| {
                if self.0.mux.borrow().wants_transmit() || self.ended().is_some() {
                    return Poll::Ready(());
                }
                keep(&mut self.0.transmit_waker.borrow_mut(), cx);
                Poll::Pending
            })
            .await;
            if let Some(ended) = self.ended() {
                return ended;
            }
            // What other tasks have to send in this turn goes into the same records.
            self.0.core.turn_end().await;
            self.size_window();
            let sent = transmit(&self.0.mux, transport, &self.0.pool, self.0.core.turn_time()).await;
            let ready = match sent {
                Ok(()) => transport.ready().await,
                failed => failed,
            };
            if ready.is_err() {
                self.0.mux.borrow_mut().lost();
            }
            self.settle();
            self.on_sent();
        }
    }

    async fn run_time(&self) -> Ended {
        let mut timer = self.0.core.timer();
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            let deadline = self.deadline();
            timer.set(deadline);
            let earlier = self.wait_for(|link| (link.deadline() < deadline || link.ended().is_some()).then_some(()));
            future::or(poll_fn(|cx| timer.poll_elapsed(cx)), earlier).await;
            self.0.mux.borrow_mut().handle_timeout(self.0.core.now());
            self.settle();
        }
    }

    /// Gives the window the size that it should have now, when the peer is about to hear of it.
    fn size_window(&self) {
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
        let mut mux = self.0.mux.borrow_mut();
        mux.set_pressed(!self.0.core.pool().can_receive());
        mux.receive(self.0.core.turn_time(), lease);
        drop(mux);
        self.settle();
    }

    /// Passes on what the mux has to say, after anything that may have made it speak.
    fn settle(&self) {
        let mut told = false;
        loop {
            let event = self.0.mux.borrow_mut().poll_event();
            let Some(event) = event else { break };
            told |= self.take(event);
        }
        self.kick();
        if told {
            self.wake_waiting();
        }
    }

    /// Deals with one event; true when it is about the link as a whole.
    fn take(&self, event: Event<Lease>) -> bool {
        let shared = &self.0;
        match event {
            Event::Data { stream, chunk } => {
                let now = shared.core.turn_time();
                self.tell(stream, |state| state.receive(chunk, now));
                return false;
            }
            Event::Finished { stream } => return self.tell(stream, StreamState::finish),
            Event::Reset { stream, cause } => return self.tell(stream, |state| state.reset(cause)),
            Event::Writable { stream } => return self.tell(stream, StreamState::writable),
            Event::Phases { stream, phases } => return self.tell(stream, |state| state.phases = Some(phases)),
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
            Event::Draining => shared.going.raise(),
            Event::RoundTrip(round_trip) => shared.round_trip.set(Some(round_trip)),
            Event::Closed { fault, by } => self.on_closed(Ended { fault, by }),
        }
        true
    }

    /// Tells a stream that is held something; no news for the link as a whole.
    fn tell(&self, stream: StreamId, tell: impl FnOnce(&mut StreamState)) -> bool {
        if let Some(state) = self.0.streams.borrow_mut().find(stream) {
            tell(state);
        }
        false
    }

    fn on_closed(&self, ended: Ended) {
        let shared = &self.0;
        shared.ended.borrow_mut().get_or_insert(ended);
        shared.going.raise();
        // Streams that nobody has taken go with the link.
        for (_, place) in shared.opened.borrow_mut().drain(..) {
            shared.streams.borrow_mut().remove(place);
        }
        wake(&mut shared.transmit_waker.borrow_mut());
        wake(&mut shared.accept_waker.borrow_mut());
    }

    /// Something was sent: it may have been the last of a stream, and that the last of a draining link.
    fn on_sent(&self) {
        self.0.flushing.borrow_mut().drain(..).for_each(Waker::wake);
        if self.is_draining() {
            self.wake_waiting();
        }
    }

    fn deadline(&self) -> Time {
        self.0.mux.borrow().poll_timeout().unwrap_or(Time::NEVER)
    }

    fn wake_waiting(&self) {
        for waker in self.0.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }

    /// Waits until `look` finds something, looking again whenever there is news of the link as a whole.
    async fn wait_for<T>(&self, mut look: impl FnMut(&Link) -> Option<T>) -> T {
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
