//! Idle streams: many calls that are open and silent, what memory they take, and whether they are still alive at the end.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit::base::Clock;
use adit::engine::{Core, Signal, Task};
use serde_json::{Value, json};

use crate::answer::{CallError, Reader};
use crate::core_thread::{CoreError, CoreSettings, CoreThread};
use crate::dial::{Dialer, TargetError};
use crate::files::{self, TooFewFiles};
use crate::interrupt::Interrupt;
use crate::load::{Call, CallKind, GeneratorSettings, Reuse, Target};
use crate::memory::{self, Growth, per_stream};
use crate::outcome::Failures;
use crate::request::{Request, id_of};
use crate::serve::{HELD, HOLD, RELEASED};
use crate::watch::{Watched, is_alive};

/// Streams at the most.
pub const STREAMS_MAX: usize = 10_000;
/// Streams that are opened at the same time: fewer than a listener's queue is long.
const OPENINGS_AT_ONCE: usize = 64;
/// How often it is looked whether more has happened, or it is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What an idle stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleKind {
    /// An event stream: the head of its answer has come, and no event yet.
    Sse,
    /// An MCP call that the upstream does not answer yet.
    Call,
}

impl IdleKind {
    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IdleKind::Sse => "sse",
            IdleKind::Call => "call",
        }
    }
}

/// What is to be held open, and how.
#[derive(Clone, Debug)]
pub struct IdleSettings {
    /// Who is called, to an `adit-loadtest serve` in the end.
    pub target: Target,
    /// How that upstream is told to let go: itself, or the target where that carries any path.
    pub control: Target,
    /// What each stream is.
    pub kind: IdleKind,
    /// How many.
    pub streams: usize,
    /// How long all are silent before memory is read.
    pub settle: Duration,
    /// How long one stream may take to open, and all together to arrive at the upstream.
    pub open_timeout: Duration,
    /// How long they may take to be answered when they are released.
    pub answer_timeout: Duration,
    /// The thread that opens them.
    pub generator: GeneratorSettings,
}

/// Why nothing could be held open.
#[derive(Debug, thiserror::Error)]
pub enum IdleError {
    /// The thread could not start.
    #[error("the generator cannot run: {0}")]
    Core(#[from] CoreError),
    /// The driver broke while it ran.
    #[error("the generator broke: {0}")]
    Driver(std::io::Error),
    /// Too few files.
    #[error(transparent)]
    Files(#[from] TooFewFiles),
    /// The first stream, which is to show that it can be done.
    #[error(
        "one stream could not be opened, held and released, so that many were not tried: {0}; streams must end at an \
         `adit-loadtest serve`"
    )]
    First(String),
    /// The number of streams.
    #[error("{0} streams: give 1 to {STREAMS_MAX}")]
    Streams(usize),
    /// The target cannot be found or trusted.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Nothing keeps calls at the other end.
    #[error(
        "{url} is no `adit-loadtest serve` of this version: it does not say how many calls it keeps ({why}); name one by \
         --upstream"
    )]
    Upstream {
        /// Who was asked.
        url: String,
        /// What came of it.
        why: String,
    },
    /// A process that is to be watched is not there.
    #[error("there is no process {0} to watch: give the id of one that runs")]
    Watched(u32),
}

/// Why it ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdlePartial {
    /// It was told to.
    Interrupted,
    /// No stream could be opened any more.
    GivenUp,
    /// The upstream could not be told to let go.
    Control(String),
}

impl fmt::Display for IdlePartial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdlePartial::Interrupted => f.write_str("interrupted before its time"),
            IdlePartial::GivenUp => {
                write!(f, "given up: of {OPENINGS_AT_ONCE} streams in a row none could be opened")
            }
            IdlePartial::Control(why) => write!(f, "the upstream could not be told to let go: {why}"),
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct IdleOutcome {
    /// Streams that were asked for.
    pub asked: usize,
    /// Those that were open and silent while memory was read.
    pub open: usize,
    /// Those that were not opened, by cause.
    pub refused: Failures,
    /// Those that ended before they were released, or badly afterwards, by cause.
    pub lost: Failures,
    /// How many calls the upstream said that it kept.
    pub held: Option<u64>,
    /// Those that delivered their event or answer when they were released.
    pub answered: usize,
    /// How long opening took.
    pub opening: Duration,
    /// The processes under test.
    pub processes: Vec<Growth>,
    /// Why it ended early.
    pub partial: Option<IdlePartial>,
}

impl IdleOutcome {
    /// Whether all streams that were asked for were open and alive to the end.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let all = [self.open, self.answered].iter().all(|count| *count == self.asked);
        all && self.partial.is_none() && self.processes.iter().all(|process| process.after.is_some())
    }

    /// What is not as it should be, for one that is not good.
    #[must_use]
    pub fn fault(&self) -> String {
        let mut faults = Vec::new();
        let told = |failures: &Failures, what: &str| {
            let first = failures.first().unwrap_or_default();
            (failures.count() > 0).then(|| format!("{} streams {what}, the first: {first}", failures.count()))
        };
        faults.extend(told(&self.refused, "were refused"));
        faults.extend(told(&self.lost, "were lost"));
        let silent = self.open.saturating_sub(self.answered + self.lost.count() as usize);
        if silent > 0 {
            faults.push(format!("{silent} of {} open streams were not answered when they were released", self.open));
        }
        let gone = self.processes.iter().filter(|process| process.after.is_none());
        faults.extend(gone.map(|process| format!("process {} ({}) is gone", process.pid, process.name)));
        faults.extend(self.partial.as_ref().map(IdlePartial::to_string));
        if faults.is_empty() { "not all streams were open".to_owned() } else { faults.join("; ") }
    }

    /// What all processes grew by, in KiB: resident, and in parts.
    #[must_use]
    pub fn grown_kib(&self) -> (i64, Option<i64>) {
        let grown: Vec<(i64, Option<i64>)> = self.processes.iter().filter_map(Growth::grown_kib).collect();
        (grown.iter().map(|(rss, _)| rss).sum(), grown.iter().map(|(_, pss)| *pss).sum())
    }

    /// All of it, for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let watched = !self.processes.is_empty();
        let (rss_kib, pss_kib) = self.grown_kib();
        json!({
            "streams": self.asked,
            "open": self.open,
            "held_by_upstream": self.held,
            "refused": self.refused.to_json(),
            "lost": self.lost.to_json(),
            "answered_when_released": self.answered,
            "opening_s": (self.opening.as_secs_f64() * 1e3).round() / 1e3,
            "processes": self.processes.iter().map(|process| process.to_json(self.open)).collect::<Vec<_>>(),
            "rss_kib": watched.then_some(rss_kib),
            "pss_kib": watched.then_some(pss_kib).flatten(),
            "rss_kib_per_stream": watched.then(|| per_stream(rss_kib, self.open)).flatten(),
            "pss_kib_per_stream": watched.then_some(pss_kib).flatten().and_then(|pss| per_stream(pss, self.open)),
            "partial": self.partial.as_ref().map(IdlePartial::to_string),
        })
    }
}

/// Opens streams, reads what memory the watched processes take for them, and sees whether they are alive. `observer` is told
/// now and then how many are open.
///
/// # Errors
///
/// When it could not begin. What happens later is in the outcome.
pub fn hold(
    settings: &IdleSettings,
    watched: &Watched,
    interrupt: &Interrupt,
    observer: &mut dyn FnMut(usize),
) -> Result<IdleOutcome, IdleError> {
    if !(1..=STREAMS_MAX).contains(&settings.streams) {
        return Err(IdleError::Streams(settings.streams));
    }
    if let Some(pid) = watched.pids.iter().find(|pid| !is_alive(**pid)) {
        return Err(IdleError::Watched(*pid));
    }
    files::allow(settings.streams as u64)?;
    let dialer = |target: &Target| Dialer::new(target, settings.open_timeout);
    let (streams, control) = (dialer(&settings.target)?, dialer(&settings.control)?);
    let opened = Arc::new(AtomicUsize::new(0));
    let (job, told) = ((settings.clone(), watched.clone(), interrupt.clone()), Arc::clone(&opened));
    let core = CoreThread::start(core_settings(&settings.generator), move |core| async move {
        let (settings, watched, interrupt) = job;
        let holding = Holding::new(core, settings, streams, control, told);
        holding.run(&watched, &interrupt).await
    })?;
    while !core.is_finished() {
        observer(opened.load(Ordering::Relaxed));
        std::thread::sleep(LOOK_INTERVAL);
    }
    core.join().map_err(IdleError::Driver)?
}

fn core_settings(generator: &GeneratorSettings) -> CoreSettings {
    CoreSettings {
        name: "generator",
        cpu: generator.cpu,
        driver: generator.driver,
        spin: Duration::ZERO,
        buffer_memory: generator.buffer_memory,
    }
}

/// The streams, on their core.
struct Holding {
    core: Core,
    settings: IdleSettings,
    streams: Dialer,
    control: Dialer,
    request: Request,
    tally: RefCell<Tally>,
    /// Raised whenever a stream was opened or ended.
    news: Signal,
    released: Cell<bool>,
    told: Arc<AtomicUsize>,
}

/// What became of the streams so far.
#[derive(Default)]
struct Tally {
    begun: usize,
    opened: usize,
    answered: usize,
    refused: Failures,
    lost: Failures,
}

impl Tally {
    /// Streams that are open now.
    fn open(&self) -> usize {
        self.opened - self.answered - self.lost.count() as usize
    }

    /// Streams of which it is not known yet whether they can be opened.
    fn opening(&self) -> usize {
        self.begun - self.opened - self.refused.count() as usize
    }
}

impl Holding {
    fn new(
        core: Core,
        settings: IdleSettings,
        streams: Dialer,
        control: Dialer,
        told: Arc<AtomicUsize>,
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
            told,
        })
    }

    async fn run(self: Rc<Holding>, watched: &Watched, interrupt: &Interrupt) -> Result<IdleOutcome, IdleError> {
        self.first().await?;
        let before = memory::read(watched);
        let began = self.core.now();
        let (streams, mut partial) = self.open_all(interrupt).await;
        let opening = self.core.now() - began;
        let held = self.until_held(interrupt).await;
        if partial.is_none() && !self.settle(interrupt).await {
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

    /// Shows with one stream that all of it works, and lets the processes make what they make once.
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
            (_, None) => Err(IdleError::First("it was released, and nothing came of it in time".to_owned())),
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
            self.told.store(self.tally.borrow().open(), Ordering::Relaxed);
            if interrupt.is_raised() {
                return (streams, Some(IdlePartial::Interrupted));
            }
            if self.tally.borrow().opened == opened {
                return (streams, Some(IdlePartial::GivenUp));
            }
        }
        (streams, None)
    }

    /// Waits until of each stream that was begun it is known whether it can be opened. Each has its own time for that.
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

    /// One stream from its first to its last byte.
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
                    let early = CallError::Answer("it was answered although the upstream keeps it");
                    tally.lost.add(early.cause(), &early);
                }
                Err(error) => tally.lost.add(error.cause(), &error),
            }
        }
        self.news.raise();
    }

    async fn open(&self, n: u64, reader: &mut Reader) -> Result<adit::tls::Connection, CallError> {
        let connection = self.streams.dial(&self.core).await?;
        self.request.send(id_of(n), &connection, self.core.pool()).await?;
        if self.settings.kind == IdleKind::Sse {
            reader.begin(&connection, &self.request).await?;
        }
        Ok(connection)
    }

    /// Waits until the upstream keeps all that are open; how many it does.
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

    /// Lets all be silent for a while, as long as there are any; false when it was told to end.
    async fn settle(&self, interrupt: &Interrupt) -> bool {
        let until = self.core.now() + self.settings.settle;
        while self.core.now() < until && self.tally.borrow().open() > 0 {
            if interrupt.is_raised() {
                return false;
            }
            self.core.sleep(LOOK_INTERVAL.min(until - self.core.now())).await;
        }
        !interrupt.is_raised()
    }

    /// Lets the upstream go on, and waits until the streams are answered, or for as long as they may take.
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
            // Those that are left are silent, which the difference tells.
            let _ = self.core.timeout(self.settings.answer_timeout, all_ended).await;
        }
        Ok(())
    }

    async fn held(&self) -> Result<u64, String> {
        self.control(CallKind::Get, "/stats", HELD).await
    }

    /// Asks the upstream, on a connection of its own, and reads the number in a field of its answer.
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
