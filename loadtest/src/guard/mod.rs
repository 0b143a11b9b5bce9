//! Agents that time out and retry calls of a server that becomes slow: the cost without guards, with them, and without
//! a tunnel.

mod agent;
pub(crate) mod picture;
pub(crate) mod report;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit::base::Rng;

use self::agent::{Agent, CallEnd, RefusedCall, ServerCalls};
use crate::compare::bench::Bench;
use crate::compare::cpus::CpuList;
use crate::compare::peer::Peer;
use crate::compare::site::{Credentials, HOST, SiteError};
use crate::compare::tunnel::{Setting, Tunnel, TunnelError};
use crate::interrupt::Interrupt;
use crate::load::{Call, CallKind, Load, Target};
use crate::serve::{ServeError, ServeSettings, Server};

/// The peer file with which the tunnel is started.
const SITE: &str = include_str!("site.toml");
/// The most tasks at the same time, each on its own thread.
pub(crate) const TASKS_MAX: usize = 4_000;
/// Memory for the stack of each thread, in bytes.
const STACK_LEN: usize = 128 * 1024;
/// How long an agent waits before a retry, unless the answer says how long.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest wait that an answer can cause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the server's counts are polled.
pub(crate) const SAMPLE: Duration = Duration::from_secs(1);
/// A task is normal if it takes at most this many times the service time, plus [`NORMAL_SLACK`].
const NORMAL_FACTOR: u32 = 3;
/// Additional time for a normal task, on a busy machine.
const NORMAL_SLACK: Duration = Duration::from_millis(100);

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct GuardSettings {
    /// Tasks that begin each second.
    pub(crate) rate: f64,
    /// How long an agent waits for an answer.
    pub(crate) timeout: Duration,
    /// How often it retries a call.
    pub(crate) retries: u32,
    /// How long the server works on a call in normal times.
    pub(crate) service: Duration,
    /// How long the server works on a slow call.
    pub(crate) slow: Duration,
    /// How long each part lasts, in the order of [`Part::ALL`].
    pub(crate) parts: [Duration; 4],
    /// Tokens that an agent reads again for each call that it makes.
    pub(crate) context_tokens: u64,
    /// The shortest deadline that the guard enforces.
    pub(crate) floor: Duration,
    /// Whether the guard also limits the calls in flight.
    pub(crate) limits_concurrency: bool,
    /// How long a breaker is open before it sends probes.
    pub(crate) open: Duration,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The server is as fast as usual.
    Normal = 0,
    /// One call in four is slow.
    Quarter = 1,
    /// All calls are slow.
    All = 2,
    /// The server has recovered.
    Recovered = 3,
}

impl Part {
    pub(crate) const ALL: [Part; 4] = [Part::Normal, Part::Quarter, Part::All, Part::Recovered];

    /// The share of slow calls.
    const fn slow_share(self) -> f64 {
        match self {
            Part::Normal | Part::Recovered => 0.0,
            Part::Quarter => 0.25,
            Part::All => 1.0,
        }
    }
}

/// The path to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Without a tunnel.
    Direct,
    /// A tunnel without deadlines and breakers.
    Unguarded,
    /// A tunnel that enforces both, and concurrency limits if requested; agents send the time that they wait.
    Guarded,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Direct, Way::Unguarded, Way::Guarded];

    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Unguarded => "adit, no guard",
            Way::Guarded => "adit, guarded",
        }
    }

    /// The mode of deadlines and breakers.
    const fn guard(self) -> Option<&'static str> {
        match self {
            Way::Direct => None,
            Way::Unguarded => Some("off"),
            Way::Guarded => Some("enforce"),
        }
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    #[error("adit cannot be run: {0}")]
    Program(String),
    #[error("the count of the server's calls cannot be read: {0}")]
    Stats(io::Error),
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Site(#[from] SiteError),
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error("interrupted before its end")]
    Interrupted,
}

/// The result of one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskEnd {
    /// When it began, from the start of the run.
    pub(crate) began: Duration,
    /// How long all its calls took together.
    pub(crate) took: Duration,
    /// How many calls it made.
    pub(crate) calls: u32,
    /// Whether one of them was answered without error.
    pub(crate) is_done: bool,
    /// Whether an earlier call than the last may have run, so that the tool may have run more than once.
    pub(crate) may_have_run: bool,
    /// Whether it ended because an answer said not to retry.
    pub(crate) is_terminal: bool,
    /// The length of all answer bodies, in bytes.
    pub(crate) bytes: u64,
}

/// The result of one path.
#[derive(Clone, Debug)]
pub(crate) struct WayOutcome {
    pub(crate) way: Way,
    pub(crate) tasks: Vec<TaskEnd>,
    /// Tasks that were not begun, because too many were running.
    pub(crate) left_out: u64,
    /// Calls on which the server began to work, by part of the run.
    pub(crate) served: [u64; Part::ALL.len()],
    /// Calls of tasks for which it had already begun to work.
    pub(crate) repeated: u64,
    /// Calls on which it began to work, by [`SAMPLE`].
    pub(crate) served_over_time: Vec<u64>,
}

impl TaskEnd {
    /// Whether it succeeded and the tool ran once.
    pub(crate) fn is_done_once(&self) -> bool {
        self.is_done && !self.may_have_run
    }
}

impl GuardSettings {
    /// The part of the run at this time.
    fn part_at(&self, elapsed: Duration) -> Option<Part> {
        let mut end = Duration::ZERO;
        Part::ALL.into_iter().zip(self.parts).find_map(|(part, length)| {
            end += length;
            (elapsed < end).then_some(part)
        })
    }

    /// When a part begins and ends.
    pub(crate) fn time_of(&self, part: Part) -> Range<Duration> {
        let begins: Duration = self.parts[..part as usize].iter().sum();
        begins..begins + self.parts[part as usize]
    }

    /// When the slow time begins and ends.
    pub(crate) fn bad(&self) -> Range<Duration> {
        self.time_of(Part::Quarter).start..self.time_of(Part::All).end
    }

    fn length(&self) -> Duration {
        self.parts.iter().sum()
    }

    /// Whether a task took a normal time.
    pub(crate) fn is_normal(&self, task: &TaskEnd) -> bool {
        task.is_done && task.took <= self.service * NORMAL_FACTOR + NORMAL_SLACK
    }
}

/// Runs one path to its end.
///
/// # Errors
///
/// If it could not begin, or a process failed.
pub(crate) fn run(
    way: Way,
    settings: &GuardSettings,
    bench: &Bench,
    interrupt: &Interrupt,
) -> Result<WayOutcome, GuardError> {
    let upstream = Server::start(ServeSettings { count_doubled: true, ..ServeSettings::default() })?;
    let credentials = Credentials::new()?;
    let tunnel = way.guard().map(|guard| start(guard, settings, bench, &upstream, &credentials, interrupt));
    let tunnel = tunnel.transpose()?;
    let to = tunnel.as_ref().and_then(|tunnel| tunnel.target().resolve_to).unwrap_or_else(|| upstream.address());
    agent::forget_calls(upstream.address()).map_err(GuardError::Stats)?;
    let outcome = let_run(way, settings, to, upstream.address(), interrupt)?;
    drop(tunnel);
    Ok(outcome)
}

fn start(
    guard: &str,
    settings: &GuardSettings,
    bench: &Bench,
    upstream: &Server,
    credentials: &Credentials,
    interrupt: &Interrupt,
) -> Result<Tunnel, GuardError> {
    let values = [
        ("driver", "auto".to_owned()),
        ("guard", guard.to_owned()),
        ("floor", format!("{}ms", settings.floor.as_millis())),
        ("limit", if settings.limits_concurrency { guard } else { "off" }.to_owned()),
        ("open", format!("{}ms", settings.open.as_millis())),
    ];
    let peer = Peer {
        name: "adit".to_owned(),
        values: values.map(|(name, value)| (name.to_owned(), value)).into(),
        file: toml::from_str(SITE).expect("the embedded file is valid"),
    };
    let programs = bench.programs.of(&peer).map_err(|missing| GuardError::Program(missing.to_string()))?;
    let cpus = bench.layout.peer.as_ref();
    let setting = Setting {
        launcher: &bench.this,
        credentials,
        cpus,
        cpu_count: cpus.map_or(1, CpuList::count),
        streams: TASKS_MAX,
        interrupt,
    };
    let mut ready = Load::of(format!("http://{HOST}/mcp").parse::<Target>().expect("a valid URL"));
    ready.call = Call { kind: CallKind::McpStateless, payload: 0, ..Call::default() };
    Ok(Tunnel::start(&peer, &programs, upstream.address(), &ready, &setting)?)
}

/// Begins tasks at a fixed rate, independently of earlier ones.
fn let_run(
    way: Way,
    settings: &GuardSettings,
    to: SocketAddr,
    upstream: SocketAddr,
    interrupt: &Interrupt,
) -> Result<WayOutcome, GuardError> {
    let ends: Arc<Mutex<Vec<TaskEnd>>> = Arc::default();
    let under_way = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let (mut left_out, mut threads) = (0, Vec::new());
    let mut counted = Counted::default();
    for nth in 0_u64.. {
        let planned = Duration::from_secs_f64(nth as f64 / settings.rate);
        std::thread::sleep(planned.saturating_sub(began.elapsed()));
        if interrupt.is_raised() {
            return Err(GuardError::Interrupted);
        }
        counted.at(began.elapsed(), settings, upstream).map_err(GuardError::Stats)?;
        if planned >= settings.length() {
            break;
        }
        if under_way.fetch_add(1, Ordering::Relaxed) >= TASKS_MAX {
            under_way.fetch_sub(1, Ordering::Relaxed);
            left_out += 1;
            continue;
        }
        let (settings, ends, under_way) = (settings.clone(), Arc::clone(&ends), Arc::clone(&under_way));
        let task = move || {
            let end = run_task(nth, way, &settings, to, began);
            ends.lock().unwrap_or_else(PoisonError::into_inner).push(end);
            under_way.fetch_sub(1, Ordering::Relaxed);
        };
        let thread = std::thread::Builder::new().name("agent".to_owned()).stack_size(STACK_LEN).spawn(task);
        threads.push(thread.map_err(GuardError::Thread)?);
    }
    // Each ends within its timeouts.
    threads.into_iter().for_each(|thread| drop(thread.join()));
    let end = agent::count_calls(upstream).map_err(GuardError::Stats)?;
    let mut tasks = std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner));
    tasks.sort_by_key(|task| task.began);
    let (served, served_over_time) = (counted.of_parts(end.all), counted.over_time());
    Ok(WayOutcome { way, tasks, left_out, served, repeated: end.repeated, served_over_time })
}

/// The number of calls on which the server had begun to work.
#[derive(Default)]
struct Counted {
    /// At the end of each part.
    parts: Vec<u64>,
    /// At the end of each [`SAMPLE`].
    samples: Vec<u64>,
}

impl Counted {
    /// Polls the counts, if it is time to.
    fn at(&mut self, elapsed: Duration, settings: &GuardSettings, upstream: SocketAddr) -> io::Result<()> {
        let part_ends: Duration = settings.parts.iter().take(self.parts.len() + 1).sum();
        let is_part_over = self.parts.len() < settings.parts.len() && elapsed >= part_ends;
        let is_sample_over = elapsed >= SAMPLE * (self.samples.len() as u32 + 1);
        if !is_part_over && !is_sample_over {
            return Ok(());
        }
        let ServerCalls { all, .. } = agent::count_calls(upstream)?;
        self.parts.extend(is_part_over.then_some(all));
        self.samples.extend(is_sample_over.then_some(all));
        Ok(())
    }

    /// The calls in each part; later ones belong to the last part.
    fn of_parts(&self, end: u64) -> [u64; Part::ALL.len()] {
        let last = Part::ALL.len() - 1;
        let until = |part: usize| if part == last { end } else { self.parts.get(part).copied().unwrap_or(end) };
        std::array::from_fn(|part| until(part) - part.checked_sub(1).map_or(0, until))
    }

    fn over_time(&self) -> Vec<u64> {
        let before = std::iter::once(&0).chain(&self.samples);
        self.samples.iter().zip(before).map(|(count, before)| count - before).collect()
    }
}

/// One task: a call, and its retries. The tool is not marked as safe to repeat. All calls of a task have the same
/// JSON-RPC id, so that the server can count how often the tool ran for it.
fn run_task(nth: u64, way: Way, settings: &GuardSettings, to: SocketAddr, run_began: Instant) -> TaskEnd {
    let began = run_began.elapsed();
    let mut rng = Rng::new(nth);
    let mut agent = Agent::new(to, settings.timeout, way == Way::Guarded);
    let mut end = TaskEnd {
        began,
        took: Duration::ZERO,
        calls: 0,
        is_done: false,
        may_have_run: false,
        is_terminal: false,
        bytes: 0,
    };
    for attempt in 0..=settings.retries {
        let share = settings.part_at(run_began.elapsed()).map_or(0.0, Part::slow_share);
        let service = if rng.chance(share) { settings.slow } else { settings.service };
        end.calls += 1;
        let pause = match agent.call(nth, service) {
            CallEnd::Answered { bytes } => {
                end.bytes += bytes;
                end.is_done = true;
                break;
            }
            CallEnd::Refused(RefusedCall { bytes, is_terminal, retry_after, may_have_run }) => {
                end.bytes += bytes;
                end.may_have_run |= may_have_run;
                if is_terminal {
                    end.is_terminal = true;
                    break;
                }
                retry_after.unwrap_or(PAUSE).min(PAUSE_MAX)
            }
            CallEnd::TimedOut | CallEnd::Broken => {
                end.may_have_run = true;
                PAUSE
            }
        };
        if attempt < settings.retries {
            std::thread::sleep(pause);
        }
    }
    end.took = run_began.elapsed() - began;
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn settings() -> GuardSettings {
        let s = Duration::from_secs;
        GuardSettings {
            rate: 10.0,
            timeout: s(5),
            retries: 3,
            service: Duration::from_millis(50),
            slow: s(30),
            parts: [s(10), s(20), s(30), s(10)],
            context_tokens: 20_000,
            floor: s(1),
            limits_concurrency: false,
            open: s(2),
        }
    }

    #[test]
    fn the_parts_follow_one_another() {
        let settings = settings();
        let at = |s| settings.part_at(Duration::from_secs(s));
        let seen = [0, 9, 10, 29, 30, 59, 60, 69, 70].map(at);
        let [normal, quarter, all, recovered] = Part::ALL.map(Some);
        assert_eq!(seen, [normal, normal, quarter, quarter, all, all, recovered, recovered, None]);
        assert_eq!(settings.bad(), Duration::from_secs(10)..Duration::from_secs(60));
        assert_eq!(settings.length(), Duration::from_secs(70));
        assert_eq!(settings.time_of(Part::All), Duration::from_secs(30)..Duration::from_secs(60));
    }

    #[test]
    fn calls_are_counted_by_part_and_by_second() {
        let counted = Counted { parts: vec![10, 30, 30], samples: vec![5, 10, 30] };
        assert_eq!(counted.of_parts(42), [10, 20, 0, 12]);
        assert_eq!(counted.over_time(), [5, 5, 20]);
        // The run was so slow that the last parts were never reached.
        assert_eq!(Counted { parts: vec![10], samples: vec![] }.of_parts(42), [10, 32, 0, 0]);
    }
}
