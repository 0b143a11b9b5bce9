//! The cost of the tool calls of each agent task.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call_id::TraceId;
use super::call_record::HostText;
use crate::base::{Digest, Time};

/// The tasks in one part of the table. Each part has its own lock.
const PART_LEN: usize = 32;
/// The most tools of one task that are distinguished.
pub const TASK_TOOLS_MAX: usize = 16;
/// How many of a task's last calls are kept to detect repetitions.
const RECENT_MAX: usize = 32;
/// A call with the same tool and arguments counts as a repetition within this time.
pub const REPEATED_WITHIN: Duration = Duration::from_secs(600);
/// About how many bytes of text make one token. This is a rule of thumb: English prose has about four, JSON fewer.
pub const BYTES_PER_TOKEN: u64 = 4;
/// The number of parts of a price unit: prices and costs are counted in millionths.
pub const PRICE_UNIT: u64 = 1_000_000;

/// How tasks are distinguished, and what calls cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// The most tasks that are kept; zero switches the table off.
    pub tasks_max: usize,
    /// The header field that names the task of a call. It takes precedence over trace and session.
    pub header: Option<Box<str>>,
    /// The price of a million tokens of answers, in millionths of a unit.
    pub price_per_million_tokens: u64,
}

/// Which task a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskId {
    /// The value of the configured header field.
    Named(HostText),
    /// The trace that the call belongs to.
    Trace(TraceId),
    /// The MCP session; a keyed hash of its id, which is a secret of the agent.
    Session(u64),
}

/// A tool call that has ended, and belongs to a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskCall<'a> {
    /// The tool that was called.
    pub tool: &'a str,
    /// The digest of its arguments, if it is known.
    pub arguments: Option<u64>,
    /// Whether the agent gave up before the response was complete.
    pub is_given_up: bool,
    /// Whether the response said that a deadline had passed.
    pub is_timed_out: bool,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Whether the response is text, so that its tokens can be estimated.
    pub is_text: bool,
    /// The time in the tunnel: all time but that of the MCP server.
    pub tunnel: Duration,
    /// The time of the MCP server.
    pub upstream: Duration,
    /// The price of the call itself, in millionths of a unit.
    pub price: u64,
}

/// Totals of the tool calls of a task, or of all tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskFigures {
    /// How many calls there were.
    pub calls: u64,
    /// How many calls repeated the tool and arguments of a call within the last [`REPEATED_WITHIN`].
    pub repeated: u64,
    /// How many calls the agent gave up.
    pub given_up: u64,
    /// How many responses said that a deadline had passed.
    pub timed_out: u64,
    /// Bytes of the bodies of the answers.
    pub bytes: u64,
    /// Estimated tokens of the responses that are text.
    pub tokens: u64,
    /// Time in the tunnel.
    pub tunnel: Duration,
    /// Time of the MCP server.
    pub upstream: Duration,
    /// What they cost, in millionths of a unit.
    pub cost: u64,
}

/// One task in a snapshot.
#[derive(Clone, Copy, Debug)]
pub struct TaskLine {
    /// Which task it is.
    pub id: TaskId,
    /// Totals of its calls.
    pub figures: TaskFigures,
    /// How many different tools were called; [`TASK_TOOLS_MAX`] means this many or more.
    pub tools: usize,
    /// The time since its first call ended.
    pub age: Duration,
    /// The time since its last call ended.
    pub idle: Duration,
}

/// A snapshot of all tasks.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    /// The tasks that are kept, in no order.
    pub lines: Vec<TaskLine>,
    /// The totals of all tasks since the start.
    pub total: TaskFigures,
    /// How many tasks were dropped to make room.
    pub forgotten: u64,
}

/// The tasks of an edge, on all cores together, in memory of fixed size. A new task replaces the one that was idle for
/// longest.
///
/// A call locks one part of the table, and adds a few numbers.
pub struct TaskTable {
    settings: TaskSettings,
    parts: Vec<Mutex<Part>>,
    /// Hashes the ids of sessions, which are secrets.
    hasher: RandomState,
    /// Seeds all other hashes.
    seed: u64,
}

struct Part {
    hashes: Vec<u64>,
    tasks: Vec<Task>,
    total: TaskFigures,
    forgotten: u64,
}

struct Task {
    id: TaskId,
    figures: TaskFigures,
    first: Time,
    last: Time,
    tools: [u64; TASK_TOOLS_MAX],
    tools_len: usize,
    /// Hashes of tool and arguments of the last calls, with the time when each ended.
    recent: [(u64, Time); RECENT_MAX],
    recent_len: usize,
    recent_next: usize,
}

impl TaskFigures {
    /// The number of calls for each call that is not a repetition.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        let distinct = self.calls - self.repeated;
        if distinct == 0 { 1.0 } else { self.calls as f64 / distinct as f64 }
    }

    fn add(&mut self, other: &TaskFigures) {
        let TaskFigures { calls, repeated, given_up, timed_out, bytes, tokens, tunnel, upstream, cost } = other;
        self.calls += calls;
        self.repeated += repeated;
        self.given_up += given_up;
        self.timed_out += timed_out;
        self.bytes = self.bytes.saturating_add(*bytes);
        self.tokens = self.tokens.saturating_add(*tokens);
        self.tunnel = self.tunnel.saturating_add(*tunnel);
        self.upstream = self.upstream.saturating_add(*upstream);
        self.cost = self.cost.saturating_add(*cost);
    }
}

impl TaskTable {
    /// An empty table; `None` if the settings switch it off.
    #[must_use]
    pub fn new(settings: TaskSettings) -> Option<TaskTable> {
        let parts = settings.tasks_max.div_ceil(PART_LEN);
        let part = || Part {
            hashes: Vec::with_capacity(PART_LEN),
            tasks: Vec::with_capacity(PART_LEN),
            total: TaskFigures::default(),
            forgotten: 0,
        };
        let (parts, hasher) = ((0..parts).map(|_| Mutex::new(part())).collect::<Vec<_>>(), RandomState::new());
        let seed = hasher.hash_one(0);
        (!parts.is_empty()).then_some(TaskTable { settings, parts, hasher, seed })
    }

    /// The seed for digests of arguments. It differs in each process, so an agent cannot find arguments with equal
    /// digests.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How tasks are told apart and what they cost.
    #[must_use]
    pub fn settings(&self) -> &TaskSettings {
        &self.settings
    }

    /// A keyed hash of the id of an MCP session, for [`TaskId::Session`].
    #[must_use]
    pub fn session_hash(&self, session: &[u8]) -> u64 {
        self.hasher.hash_one(session)
    }

    /// The hash of a task's id. That of a session is one already.
    fn hash_of(&self, id: TaskId) -> u64 {
        match id {
            TaskId::Session(key) => key,
            TaskId::Named(_) | TaskId::Trace(_) => self.hash(id),
        }
    }

    fn hash(&self, value: impl Hash) -> u64 {
        let mut digest = Digest::new(self.seed);
        value.hash(&mut digest);
        digest.finish()
    }

    /// Adds a call that has ended.
    pub fn record(&self, id: TaskId, call: &TaskCall<'_>, now: Time) {
        let (hash, tool) = (self.hash_of(id), self.hash(call.tool));
        let Some(part) = self.parts.get(hash as usize % self.parts.len().max(1)) else { return };
        let tokens = if call.is_text { call.bytes / BYTES_PER_TOKEN } else { 0 };
        let of_tokens = price_of(tokens, self.settings.price_per_million_tokens);
        let mut part = locked(part);
        let at = part.place(id, hash, now);
        let task = &mut part.tasks[at];
        let repeated = call.arguments.is_some_and(|arguments| task.repeats(tool ^ arguments.rotate_left(32), now));
        task.note_tool(tool);
        task.last = now;
        let figures = TaskFigures {
            calls: 1,
            repeated: repeated.into(),
            given_up: call.is_given_up.into(),
            timed_out: call.is_timed_out.into(),
            bytes: call.bytes,
            tokens,
            tunnel: call.tunnel,
            upstream: call.upstream,
            cost: call.price.saturating_add(of_tokens),
        };
        task.figures.add(&figures);
        part.total.add(&figures);
    }

    /// Adds a cancellation by the agent of a task. It is counted here because the end of the cancelled call does not
    /// tell.
    pub fn record_cancelled(&self, id: TaskId, now: Time) {
        let hash = self.hash_of(id);
        let Some(part) = self.parts.get(hash as usize % self.parts.len().max(1)) else { return };
        let mut part = locked(part);
        let at = part.place(id, hash, now);
        part.tasks[at].figures.given_up += 1;
        part.tasks[at].last = now;
        part.total.given_up += 1;
    }

    /// All tasks at this moment.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> TaskSnapshot {
        let mut snapshot = TaskSnapshot { lines: Vec::new(), total: TaskFigures::default(), forgotten: 0 };
        for part in &self.parts {
            let part = locked(part);
            snapshot.total.add(&part.total);
            snapshot.forgotten += part.forgotten;
            snapshot.lines.extend(part.tasks.iter().map(|task| TaskLine {
                id: task.id,
                figures: task.figures,
                tools: task.tools_len,
                age: now - task.first,
                idle: now - task.last,
            }));
        }
        snapshot
    }
}

fn locked(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    /// The index of a task, which is added if it is not in the table.
    fn place(&mut self, id: TaskId, hash: u64, now: Time) -> usize {
        let known = self.hashes.iter().enumerate().find(|(at, known)| **known == hash && self.tasks[*at].id == id);
        if let Some((at, _)) = known {
            return at;
        }
        let task = Task::new(id, now);
        if self.tasks.len() < PART_LEN {
            self.hashes.push(hash);
            self.tasks.push(task);
            return self.tasks.len() - 1;
        }
        let oldest = (0..self.tasks.len()).min_by_key(|at| self.tasks[*at].last).unwrap_or_default();
        self.hashes[oldest] = hash;
        self.tasks[oldest] = task;
        self.forgotten += 1;
        oldest
    }
}

impl Task {
    fn new(id: TaskId, now: Time) -> Task {
        Task {
            id,
            figures: TaskFigures::default(),
            first: now,
            last: now,
            tools: [0; TASK_TOOLS_MAX],
            tools_len: 0,
            recent: [(0, Time::ZERO); RECENT_MAX],
            recent_len: 0,
            recent_next: 0,
        }
    }

    /// Whether a call with this hash ended recently. Remembers that one ended now.
    fn repeats(&mut self, hash: u64, now: Time) -> bool {
        let known = self.recent[..self.recent_len].iter_mut().find(|(known, _)| *known == hash);
        if let Some((_, at)) = known {
            let is_recent = now - *at <= REPEATED_WITHIN;
            *at = now;
            return is_recent;
        }
        self.recent[self.recent_next] = (hash, now);
        self.recent_next = (self.recent_next + 1) % RECENT_MAX;
        self.recent_len = (self.recent_len + 1).min(RECENT_MAX);
        false
    }

    fn note_tool(&mut self, tool: u64) {
        if self.tools_len < TASK_TOOLS_MAX && !self.tools[..self.tools_len].contains(&tool) {
            self.tools[self.tools_len] = tool;
            self.tools_len += 1;
        }
    }
}

/// The price of so many tokens, in millionths of a unit.
fn price_of(tokens: u64, per_million: u64) -> u64 {
    match tokens.checked_mul(per_million) {
        Some(product) => product / PRICE_UNIT,
        // A division of 128 bits is slow, and almost never needed.
        None => {
            u64::try_from(u128::from(tokens) * u128::from(per_million) / u128::from(PRICE_UNIT)).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(s: u32) -> Time {
        Time::ZERO + SECOND * s
    }

    fn table(tasks_max: usize, price_per_million_tokens: u64) -> TaskTable {
        TaskTable::new(TaskSettings { tasks_max, header: None, price_per_million_tokens }).unwrap()
    }

    fn named(name: &str) -> TaskId {
        TaskId::Named(HostText::of(name))
    }

    fn search(arguments: u64) -> TaskCall<'static> {
        TaskCall { tool: "search", arguments: Some(arguments), ..TaskCall::default() }
    }

    #[test]
    fn a_call_with_the_same_tool_and_arguments_is_a_repetition_for_a_while() {
        let table = table(8, 0);
        let task = named("a");
        for (s, call) in [
            (0, search(1)),
            (1, search(1)),
            (2, search(2)),
            (3, TaskCall { tool: "fetch", ..search(1) }),
            (4, TaskCall { arguments: None, ..search(0) }),
            (5, TaskCall { arguments: None, ..search(0) }),
            (600, search(1)),
            (1_201, search(1)),
        ] {
            table.record(task, &call, at(s));
        }
        table.record(named("b"), &search(1), at(2));
        let TaskSnapshot { lines, total, .. } = table.snapshot(at(1_211));
        let line = lines.iter().find(|line| line.id == task).unwrap();
        assert_eq!((line.figures.calls, line.figures.repeated, line.tools), (8, 2, 2));
        assert_eq!((line.age, line.idle), (SECOND * 1_211, SECOND * 10));
        assert!((line.figures.amplification() - 8.0 / 6.0).abs() < 1e-9);
        assert_eq!((total.calls, total.repeated), (9, 2));
    }

    #[test]
    fn a_task_costs_its_calls_and_the_tokens_of_its_answers() {
        let table = table(8, 3 * PRICE_UNIT);
        let answer = TaskCall { bytes: 4_000_000, is_text: true, price: 250_000, ..search(1) };
        table.record(named("a"), &answer, at(0));
        let image = TaskCall { is_text: false, is_given_up: true, ..answer };
        table.record(named("a"), &image, at(1));
        table.record_cancelled(named("a"), at(2));
        let snapshot = table.snapshot(at(2));
        let figures = snapshot.lines[0].figures;
        assert_eq!((figures.bytes, figures.tokens, figures.given_up), (8_000_000, 1_000_000, 2));
        assert_eq!(figures.cost, 3 * PRICE_UNIT + 500_000);
        assert_eq!(snapshot.total, figures);
        let huge = TaskCall { bytes: u64::MAX, is_text: true, price: u64::MAX, ..search(1) };
        table.record(named("a"), &huge, at(3));
        table.record(named("a"), &huge, at(3));
        assert_eq!(table.snapshot(at(3)).lines[0].figures.cost, u64::MAX);
    }

    #[test]
    fn the_task_that_was_idle_for_longest_is_forgotten() {
        let table = table(1, 0);
        let names: Vec<String> = (0..100).map(|n| format!("task {n}")).collect();
        for (s, name) in (0..).zip(&names) {
            table.record(named(name), &search(1), at(s));
            table.record(named("busy"), &search(1), at(s));
        }
        let TaskSnapshot { lines, total, forgotten } = table.snapshot(at(100));
        assert_eq!(lines.len(), PART_LEN);
        let is_known = |name: &str| lines.iter().any(|line| line.id == named(name));
        assert!(is_known("busy") && is_known("task 99") && !is_known("task 0"));
        assert_eq!(forgotten, 101 - PART_LEN as u64);
        assert_eq!(total.calls, 200, "the total keeps what was forgotten");
    }

    #[test]
    fn switched_off_there_is_no_table() {
        assert!(TaskTable::new(TaskSettings::default()).is_none());
    }

    #[test]
    fn more_tools_and_calls_than_are_kept_take_no_more_memory() {
        let table = table(8, 0);
        let tools: Vec<String> = (0..100).map(|n| format!("tool {n}")).collect();
        for tool in &tools {
            table.record(named("a"), &TaskCall { tool, ..search(1) }, at(0));
        }
        table.record(named("a"), &TaskCall { tool: "tool 0", ..search(1) }, at(1));
        let line = table.snapshot(at(1)).lines[0];
        assert_eq!((line.tools, line.figures.calls, line.figures.repeated), (TASK_TOOLS_MAX, 101, 0));
    }
}
