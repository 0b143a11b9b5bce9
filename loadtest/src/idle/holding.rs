//! The streams, on one core: opened, held, released.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use adit::base::Clock;
use adit::engine::{Core, Signal, Task};
use adit::tls::Connection;

use super::{IdleError, IdleKind, IdleOutcome, IdlePartial, IdleSettings, LOOK_INTERVAL, OPENINGS_AT_ONCE};
use crate::answer::{CallError, Reader};
use crate::dial::Dialer;
use crate::interrupt::Interrupt;
use crate::load::{Call, CallKind, Reuse};
use crate::memory::{self, Growth};
use crate::outcome::Failures;
use crate::request::{Request, id_of};
use crate::serve::{HELD, HOLD, RELEASED};
use crate::watch::Watched;

/// The streams of a run, on their core.
pub(super) struct Holding {
    core: Core,
    settings: IdleSettings,
    streams: Dialer,
    control: Dialer,
    request: Request,
    tally: RefCell<Tally>,
    /// Raised whenever a stream was opened or ended.
    news: Signal,
    released: Cell<bool>,
    opened: Arc<AtomicUsize>,
}

/// The state of all streams.
#[derive(Default)]
struct Tally {
    begun: usize,
    opened: usize,
    answered: usize,
    refused: Failures,
    lost: Failures,
}

impl Tally {
    /// The number of streams that are open now.
    fn open(&self) -> usize {
        self.opened - self.answered - self.lost.count() as usize
    }

    /// The number of streams that are being opened.
    fn opening(&self) -> usize {
        self.begun - self.opened - self.refused.count() as usize
    }
}

impl Holding {
    pub(super) fn new(
        core: Core,
        settings: IdleSettings,
        streams: Dialer,
        control: Dialer,
        opened: Arc<AtomicUsize>,
    ) -> Rc<Holding> {
        let mut target = settings.target.clone();
        let kind = match settings.kind {
            IdleKind::Sse => {
                target.url.set_path("/events");
                CallKind::Sse
            }
            IdleKind::Call => CallKind::McpStateless,
        };
        let call = Call { kind, headers: vec![(HOLD.to_owned(), "1".to_owned())], ..Call::default() };
        Rc::new(Holding {
            core,
            request: Request::of_call(&target, &call, Reuse::KeepAlive, None),
            settings,
            streams,
            control,
            tally: RefCell::default(),
            news: Signal::default(),
            released: Cell::new(false),
            opened,
        })
    }

    pub(super) async fn run(
        self: Rc<Holding>,
        watched: &Watched,
        interrupt: &Interrupt,
    ) -> Result<IdleOutcome, IdleError> {
        self.first().await?;
        let before = memory::read(watched);
        let began = self.core.now();
        let (streams, mut partial) = self.open_all(interrupt).await;
        let opening = self.core.now() - began;
        let held = self.until_held(interrupt).await;
        if partial.is_none() && !self.wait_idle(interrupt).await {
            partial = Some(IdlePartial::Interrupted);
        }
        let (after, open) = (memory::read(watched), self.tally.borrow().open());
        if let Err(why) = self.release(open).await {
            partial.get_or_insert(IdlePartial::Control(why));
        }
        drop(streams);
        let tally = self.tally.take();
        Ok(IdleOutcome {
            asked: self.settings.streams,
            open,
            refused: tally.refused,
            lost: tally.lost,
            held,
            answered: tally.answered,
            opening,
            processes: Growth::between(&before, &after),
            partial,
        })
    }

    /// Checks with one stream that everything works, and triggers one-time allocations of the processes.
    async fn first(self: &Rc<Holding>) -> Result<(), IdleError> {
        let url = self.settings.control.url.to_string();
        self.held().await.map_err(|why| IdleError::Upstream { url, why })?;
        let stream = self.begin(0);
        self.until_opened().await;
        if self.tally.borrow().opened == 1 {
            self.until_held(&Interrupt::new()).await;
            self.release(1).await.map_err(IdleError::First)?;
        }
        drop(stream);
        self.released.set(false);
        let tally = self.tally.take();
        let failed = tally.refused.first().or(tally.lost.first());
        match (tally.answered, failed) {
            (1, _) => Ok(()),
            (_, Some(why)) => Err(IdleError::First(why.to_owned())),
            (_, None) => Err(IdleError::First("it was released, and was not answered in time".to_owned())),
        }
    }

    async fn open_all(self: &Rc<Holding>, interrupt: &Interrupt) -> (Vec<Task<()>>, Option<IdlePartial>) {
        let asked = self.settings.streams;
        let mut streams = Vec::with_capacity(asked);
        while streams.len() < asked {
            let opened = self.tally.borrow().opened;
            let end = asked.min(streams.len() + OPENINGS_AT_ONCE);
            (streams.len()..end).for_each(|n| streams.push(self.begin(n as u64)));
            self.until_opened().await;
            self.opened.store(self.tally.borrow().open(), Ordering::Relaxed);
            if interrupt.is_raised() {
                return (streams, Some(IdlePartial::Interrupted));
            }
            if self.tally.borrow().opened == opened {
                return (streams, Some(IdlePartial::GivenUp));
            }
        }
        (streams, None)
    }

    /// Waits until every stream was opened or refused. Each has its own time limit.
    async fn until_opened(&self) {
        loop {
            let count = self.news.count();
            if self.tally.borrow().opening() == 0 {
                return;
            }
            self.news.after(count).await;
        }
    }

    fn begin(self: &Rc<Holding>, n: u64) -> Task<()> {
        self.tally.borrow_mut().begun += 1;
        self.core.spawn_held(Rc::clone(self).carry(n))
    }

    /// Carries one stream from its first to its last byte.
    async fn carry(self: Rc<Holding>, n: u64) {
        let mut reader = Reader::default();
        let opening = self.core.timeout(self.settings.open_timeout, self.open(n, &mut reader)).await;
        let connection = match opening.unwrap_or(Err(CallError::TimedOut)) {
            Ok(connection) => connection,
            Err(error) => {
                self.tally.borrow_mut().refused.add(error.cause(), &error);
                self.news.raise();
                return;
            }
        };
        self.tally.borrow_mut().opened += 1;
        self.news.raise();
        let ended = match self.settings.kind {
            IdleKind::Sse => reader.finish(&self.core, &connection, &self.request, id_of(n)).await,
            IdleKind::Call => reader.read(&self.core, &connection, &self.request, id_of(n)).await,
        };
        {
            let mut tally = self.tally.borrow_mut();
            match ended {
                Ok(_) if self.released.get() => tally.answered += 1,
                Ok(_) => {
                    let early = CallError::Answer("it was answered although the upstream holds it");
                    tally.lost.add(early.cause(), &early);
                }
                Err(error) => tally.lost.add(error.cause(), &error),
            }
        }
        self.news.raise();
    }

    async fn open(&self, n: u64, reader: &mut Reader) -> Result<Connection, CallError> {
        let connection = self.streams.dial(&self.core).await?;
        self.request.send(id_of(n), &connection, self.core.pool()).await?;
        if self.settings.kind == IdleKind::Sse {
            reader.begin(&connection, &self.request).await?;
        }
        Ok(connection)
    }

    /// Waits until the upstream holds all open streams; returns their number.
    async fn until_held(&self, interrupt: &Interrupt) -> Option<u64> {
        let until = self.core.now() + self.settings.open_timeout;
        loop {
            let held = self.held().await.ok()?;
            if held >= self.tally.borrow().open() as u64 || interrupt.is_raised() || self.core.now() >= until {
                return Some(held);
            }
            self.core.sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits for the settle time while all streams are silent and some are open; returns false if the run was
    /// interrupted.
    async fn wait_idle(&self, interrupt: &Interrupt) -> bool {
        let until = self.core.now() + self.settings.settle;
        while self.core.now() < until && self.tally.borrow().open() > 0 {
            if interrupt.is_raised() {
                return false;
            }
            self.core.sleep(LOOK_INTERVAL.min(until - self.core.now())).await;
        }
        !interrupt.is_raised()
    }

    /// Releases the streams at the upstream, and waits until they are answered or the time limit has passed.
    async fn release(&self, open: usize) -> Result<(), String> {
        self.released.set(true);
        self.control(CallKind::Post, "/release", RELEASED).await?;
        let all_ended = async {
            loop {
                let count = self.news.count();
                if self.tally.borrow().open() == 0 {
                    return;
                }
                self.news.after(count).await;
            }
        };
        if open > 0 {
            // Unanswered streams show in the difference.
            let _ = self.core.timeout(self.settings.answer_timeout, all_ended).await;
        }
        Ok(())
    }

    async fn held(&self) -> Result<u64, String> {
        self.control(CallKind::Get, "/stats", HELD).await
    }

    /// Sends a request to the upstream on its own connection, and reads the number in a field of the answer.
    async fn control(&self, kind: CallKind, path: &str, field: &str) -> Result<u64, String> {
        let mut target = self.settings.control.clone();
        target.url.set_path(path);
        let call = Call { kind, payload: 0, ..Call::default() };
        let request = Request::of_call(&target, &call, Reuse::PerCall, None);
        let mut reader = Reader::default();
        let asked = async {
            let connection = self.control.dial(&self.core).await?;
            request.send(0, &connection, self.core.pool()).await?;
            reader.read(&self.core, &connection, &request, 0).await
        };
        let answered = self.core.timeout(self.settings.open_timeout, asked).await.unwrap_or(Err(CallError::TimedOut));
        answered.map_err(|error| error.to_string())?;
        let number = reader.head().get(field).and_then(|text| std::str::from_utf8(text).ok()?.trim().parse().ok());
        number.ok_or_else(|| format!("its answer has no {field}"))
    }
}
