//! Agents that read or write as fast as they can, all at the same time on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use adit::base::{Chunk, Clock, Time};
use adit::engine::{ByteStream, Core, Lease, Signal, Task};
use adit::exchange::Intake;
use adit::tls::Connection;
use adit::wire::http1::{BodyDecoder, Decoded, Method, ResponseHead};

use super::{Kind, StormSettings, Tally};
use crate::answer::RECEIVED;
use crate::dial::Dialer;
use crate::pattern;
use crate::serve::outgoing::{Part, send};
use crate::serve::ticks::Ticks;

/// How many connections are made at the same time: fewer than the queue of a listener holds.
const DIALS_AT_ONCE: usize = 64;
/// After how many bytes an aborting agent disconnects.
const ABORT_AFTER: u64 = 64 * 1024;
/// How often the end of the storm is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The most interim heads before the final one.
const INTERIM_MAX: usize = 8;

/// Why a call did not complete.
enum Trouble {
    /// It was cut: an answer had begun, or a body was being sent.
    Cut(String),
    /// There was no good answer.
    Failed(String),
}

/// The state that the agents of a storm share.
struct StormState {
    core: Core,
    settings: StormSettings,
    dialer: Dialer,
    authority: String,
    until: Time,
    tallies: RefCell<BTreeMap<Kind, Tally>>,
    dialing: Cell<usize>,
    ended: Cell<usize>,
    go: Cell<bool>,
    /// Raised when an agent has its connection, may begin, or has ended.
    news: Signal,
}

/// Runs all agents. Returns their results when all have ended, the time is over, or `stop` is set.
pub(super) async fn run(
    core: Core,
    settings: StormSettings,
    dialer: Dialer,
    authority: String,
    stop: Arc<AtomicBool>,
) -> BTreeMap<Kind, Tally> {
    let until = core.now() + settings.length;
    let storm = Rc::new(StormState {
        core,
        settings,
        dialer,
        authority,
        until,
        tallies: RefCell::default(),
        dialing: Cell::new(0),
        ended: Cell::new(0),
        go: Cell::new(false),
        news: Signal::default(),
    });
    let asked: Vec<(Kind, usize)> = storm
        .settings
        .counts
        .iter()
        .filter(|(kind, _)| kind.is_active())
        .map(|(kind, count)| (*kind, *count))
        .collect();
    let mut agents: Vec<Task<()>> = Vec::new();
    // One of each kind in turn, so that the kinds are mixed.
    for n in 0..asked.iter().map(|(_, count)| *count).max().unwrap_or(0) {
        for (kind, _) in asked.iter().filter(|(_, count)| n < *count) {
            storm.wait(&stop, || storm.dialing.get() < DIALS_AT_ONCE).await;
            storm.dialing.set(storm.dialing.get() + 1);
            agents.push(storm.core.spawn_held(Rc::clone(&storm).agent(*kind)));
        }
    }
    storm.wait(&stop, || storm.dialing.get() == 0).await;
    storm.go.set(true);
    storm.news.raise();
    storm.wait(&stop, || storm.ended.get() == agents.len()).await;
    drop(agents);
    let mut tallies = storm.tallies.take();
    for (kind, count) in asked {
        let tally = tallies.entry(kind).or_default();
        tally.asked = count as u64;
        // Agents that were dropped.
        for _ in tally.whole + tally.cut + tally.failed..tally.asked {
            tally.fail("the storm ended before the call");
        }
    }
    tallies
}

impl StormState {
    /// Waits until the condition is true, or the storm has to end.
    async fn wait(&self, stop: &AtomicBool, is_so: impl Fn() -> bool) {
        while !is_so() && !stop.load(Ordering::Relaxed) {
            // The condition is checked again in any case.
            let _ = self.core.timeout(LOOK_INTERVAL, self.news.after(self.news.count())).await;
        }
    }

    async fn agent(self: Rc<StormState>, kind: Kind) {
        let dialled = self.dialer.dial(&self.core).await;
        self.dialing.set(self.dialing.get() - 1);
        self.news.raise();
        let result = match dialled {
            Err(error) => Err(Trouble::Failed(error.to_string())),
            Ok(connection) => {
                while !self.go.get() {
                    self.news.after(self.news.count()).await;
                }
                self.bounded(kind, &connection).await
            }
        };
        let mut tallies = self.tallies.borrow_mut();
        let tally = tallies.entry(kind).or_default();
        match result {
            Ok(took) => {
                tally.whole += 1;
                tally.slowest = tally.slowest.max(took);
            }
            Err(Trouble::Cut(why)) => tally.cut(&why),
            Err(Trouble::Failed(why)) => tally.fail(&why),
        }
        drop(tallies);
        self.ended.set(self.ended.get() + 1);
        self.news.raise();
    }

    async fn bounded(&self, kind: Kind, connection: &Connection) -> Result<Duration, Trouble> {
        let began = self.core.now();
        let call = RunningCall { storm: self, connection, under_way: Cell::new(false) };
        let result = self.core.timeout(self.until - began, call.run(kind)).await;
        let result = result.unwrap_or_else(|_| {
            let why = "it was incomplete when the time was over".to_owned();
            Err(if call.under_way.get() { Trouble::Cut(why) } else { Trouble::Failed(why) })
        });
        if result.is_err() {
            connection.abort();
        }
        result.map(|()| self.core.now() - began)
    }
}

/// One call of one agent.
struct RunningCall<'a> {
    storm: &'a StormState,
    connection: &'a Connection,
    /// Whether its answer has begun.
    under_way: Cell<bool>,
}

impl RunningCall<'_> {
    async fn run(&self, kind: Kind) -> Result<(), Trouble> {
        let settings = &self.storm.settings;
        match kind {
            Kind::Upload => self.upload(settings.bytes).await,
            Kind::Chatty => self.events(&settings.events).await,
            Kind::Aborted => self.download(settings.bytes, ABORT_AFTER).await,
            _ => self.download(settings.bytes, u64::MAX).await,
        }
    }

    async fn get(&self, path: &str) -> Result<Answer<'_>, Trouble> {
        let head = request_head("GET", path, &self.storm.authority, None);
        self.send(&[Part::Text(head.as_bytes())]).await?;
        self.answer(Method::Get).await
    }

    async fn send(&self, parts: &[Part<'_>]) -> Result<(), Trouble> {
        let sent = send(self.connection, self.storm.core.pool(), parts).await;
        sent.map_err(|error| Trouble::Failed(format!("the request was not accepted: {error}")))
    }

    async fn answer(&self, method: Method) -> Result<Answer<'_>, Trouble> {
        let mut answer = Answer {
            connection: self.connection,
            intake: Intake::default(),
            head: ResponseHead::default(),
            decoder: BodyDecoder::default(),
        };
        answer.begin(method).await.map_err(Trouble::Failed)?;
        self.under_way.set(true);
        Ok(answer)
    }

    /// Reads an answer of the pattern, at most `enough` bytes.
    async fn download(&self, len: u64, enough: u64) -> Result<(), Trouble> {
        let mut answer = self.get(&format!("/body/{len}")).await?;
        let mut at = 0;
        while let Some(data) = answer.next().await.map_err(|why| Trouble::Cut(format!("{why}, {at} of {len} bytes")))? {
            if !pattern::is_at(at, &data) {
                return Err(Trouble::Cut(format!("wrong bytes came after {at} of {len}")));
            }
            at += data.len() as u64;
            if at >= enough {
                self.connection.abort();
                return Ok(());
            }
        }
        if at == len { Ok(()) } else { Err(Trouble::Cut(format!("it ended after {at} of {len} bytes"))) }
    }

    async fn events(&self, ticks: &Ticks) -> Result<(), Trouble> {
        let mut answer = self.get(&ticks.path()).await?;
        let (mut at, mut event, all) = (0_u64, Vec::new(), ticks.bytes());
        while let Some(data) = answer.next().await.map_err(|why| Trouble::Cut(format!("{why}, {at} of {all} bytes")))? {
            let mut left: &[u8] = &data;
            while !left.is_empty() {
                ticks.write(at / ticks.len as u64, &mut event);
                let due = &event[(at % ticks.len as u64) as usize..];
                let n = due.len().min(left.len());
                if at >= all || left[..n] != due[..n] {
                    return Err(Trouble::Cut(format!("wrong bytes came after {at} of {all}")));
                }
                (at, left) = (at + n as u64, &left[n..]);
            }
        }
        if at == all { Ok(()) } else { Err(Trouble::Cut(format!("it ended after {at} of {all} bytes"))) }
    }

    /// Sends the pattern. An answer that arrives before the end is read at once.
    async fn upload(&self, len: u64) -> Result<(), Trouble> {
        let head = request_head("POST", "/body", &self.storm.authority, Some(len));
        let parts = [Part::Text(head.as_bytes()), Part::Pattern(len)];
        let mut sending = pin!(send(self.connection, self.storm.core.pool(), &parts));
        let mut answering = pin!(self.answer(Method::Post));
        let mut sent = None;
        let answer = poll_fn(|cx| {
            if sent.is_none()
                && let Poll::Ready(done) = sending.as_mut().poll(cx)
            {
                sent = Some(done);
            }
            // The server may have sent a reason before it closed the connection.
            answering.as_mut().poll(cx)
        })
        .await;
        let mut answer = match (answer, sent) {
            (Ok(answer), Some(Ok(()))) => answer,
            (Ok(_), _) => return Err(Trouble::Cut("it was answered before everything was sent".to_owned())),
            (Err(Trouble::Failed(why)), Some(Err(_))) => return Err(Trouble::Cut(why)),
            (Err(trouble), _) => return Err(trouble),
        };
        let received = answer.head.get(RECEIVED).map(|text| String::from_utf8_lossy(text).into_owned());
        while answer.next().await.map_err(Trouble::Cut)?.is_some() {}
        if received.as_deref() == Some(len.to_string().as_str()) {
            return Ok(());
        }
        Err(Trouble::Cut(format!("{} of {len} bytes arrived", received.unwrap_or_default())))
    }
}

/// An answer that is being read.
struct Answer<'a> {
    connection: &'a Connection,
    intake: Intake,
    head: ResponseHead,
    decoder: BodyDecoder,
}

impl Answer<'_> {
    /// Reads the head, which must be that of a good answer.
    async fn begin(&mut self, method: Method) -> Result<(), String> {
        for _ in 0..INTERIM_MAX {
            match self.intake.response_head(self.connection, &mut self.head, method).await {
                Ok(true) if self.head.is_interim() => {}
                Ok(true) if self.head.status() == 200 => {
                    self.decoder.restart(self.head.framing());
                    return Ok(());
                }
                Ok(true) => return Err(format!("it was answered with status {}", self.head.status())),
                Ok(false) => return Err("the connection was closed before the answer".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("it was answered with too many interim responses".to_owned())
    }

    /// The next piece of the body; none at its end.
    async fn next(&mut self) -> Result<Option<Lease>, String> {
        loop {
            let rest = self.intake.rest();
            if rest.as_ref().is_some_and(Chunk::is_empty) {
                *rest = None;
            }
            if self.decoder.is_done() {
                return Ok(None);
            }
            if let Some(input) = self.intake.rest() {
                if let Decoded::Data(data) = self.decoder.next(input).map_err(|error| error.to_string())? {
                    return Ok(Some(data));
                }
            } else if !self.intake.fill(self.connection).await.map_err(|error| error.to_string())? {
                self.decoder.finish().map_err(|error| error.to_string())?;
            }
        }
    }
}

/// The head of a request.
pub(super) fn request_head(method: &str, path: &str, authority: &str, len: Option<u64>) -> String {
    let len = len.map(|len| format!("Content-Length: {len}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n{len}\r\n")
}
