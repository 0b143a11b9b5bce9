//! Which limits hold for answers that come in another way than the answer to their own request: on a stream that the caller
//! resumes, or as the result of a task.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::sha256_start;
use crate::policy::tools::answer_ceiling::AnswerCeiling;

/// The maximum number of sessions remembered for a route. Those that were used last are kept.
pub(super) const SESSIONS_MAX: usize = 4_096;
/// The maximum number of requests remembered for a session. The last ones are kept.
pub(super) const REQUESTS_MAX: usize = 64;
/// The maximum number of tasks remembered for a route.
pub(super) const TASKS_MAX: usize = 8_192;

/// How many forgotten sessions are marked before the older half of the marks is dropped, and the size of their marks.
const LOST_MAX: usize = 65_536;
const LOST_WORDS: usize = 8_192;
/// The size of the marks of a session's forgotten requests.
const FORGOTTEN_WORDS: usize = 16;

/// A prefix of the SHA-256 of a session, request or task.
pub(super) type AwaitedKey = [u8; 16];

/// The limits for an answer; `None` if there are none.
type Limits = Option<Arc<AnswerCeiling>>;

/// The answers of a route that may come in another way, shared by all cores.
#[derive(Debug, Default)]
pub(super) struct AwaitedAnswers(Mutex<Awaited>);

#[derive(Debug)]
struct Awaited {
    sessions: Recent<Session>,
    tasks: Recent<Limits>,
    /// Sessions with limits that were forgotten, the last ones first. Their ids could be used again without limits.
    lost: [Marks; 2],
    lost_count: usize,
}

/// The last requests of a session.
#[derive(Debug, Default)]
struct Session {
    requests: VecDeque<(AwaitedKey, Limits)>,
    /// The limits of forgotten requests, and their ids, which could be used again without limits.
    forgotten: Limits,
    ids: Marks,
    /// Whether the session was forgotten once, so that nothing is known of it.
    is_lost: bool,
}

/// A set of keys that may also say of others that they are in it (a Bloom filter). It takes no memory while it is empty.
#[derive(Debug, Default)]
struct Marks(Vec<u64>);

impl Marks {
    fn add(&mut self, key: &AwaitedKey, words: usize) {
        self.0.resize(words, 0);
        for at in Marks::places(key, words) {
            self.0[at / 64] |= 1 << (at % 64);
        }
    }

    fn may_have(&self, key: &AwaitedKey) -> bool {
        !self.0.is_empty() && Marks::places(key, self.0.len()).all(|at| self.0[at / 64] & (1 << (at % 64)) != 0)
    }

    fn places(key: &AwaitedKey, words: usize) -> impl Iterator<Item = usize> {
        key.as_chunks::<4>().0.iter().map(move |part| u32::from_be_bytes(*part) as usize % (words * 64))
    }
}

/// Values by key, of which the ones that were used last are kept.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<AwaitedKey, V>,
    old: HashMap<AwaitedKey, V>,
    max: usize,
}

impl Default for Awaited {
    fn default() -> Awaited {
        Awaited {
            sessions: Recent::new(SESSIONS_MAX),
            tasks: Recent::new(TASKS_MAX),
            lost: Default::default(),
            lost_count: 0,
        }
    }
}

/// The key of a session, or of a task.
pub(super) fn awaited_key(name: &[u8]) -> AwaitedKey {
    sha256_start(name)
}

impl AwaitedAnswers {
    /// Remembers the limits for the answer to a request. If the session may have used the id before, the stricter limits hold.
    pub(super) fn on_request(&self, session: AwaitedKey, id: &str, limits: Limits) {
        let (mut awaited, id) = (self.lock(), awaited_key(id.as_bytes()));
        let Session { requests, forgotten, ids, is_lost } = awaited.session(session);
        if *is_lost {
            return;
        }
        if let Some((_, known)) = requests.iter_mut().find(|(known, _)| *known == id) {
            *known = stricter(known.take(), limits);
            return;
        }
        if requests.len() >= REQUESTS_MAX
            && let Some((id, Some(limits))) = requests.pop_front()
        {
            *forgotten = stricter(forgotten.take(), Some(limits));
            ids.add(&id, FORGOTTEN_WORDS);
        }
        let before = forgotten.clone().filter(|_| ids.may_have(&id));
        requests.push_back((id, stricter(before, limits)));
    }

    /// Remembers the limits for the result of a task.
    pub(super) fn on_task(&self, task: &str, limits: Limits) {
        let mut awaited = self.lock();
        let key = awaited_key(task.as_bytes());
        let is_known = awaited.tasks.get(&key).is_some();
        let (known, _) = awaited.tasks.entry(key);
        *known = if is_known { stricter(known.take(), limits) } else { limits };
    }

    /// The limits for the answer to a request; `None` if the request is not known any more.
    pub(super) fn of_request(&self, session: AwaitedKey, id: &str) -> Option<Limits> {
        let id = awaited_key(id.as_bytes());
        let mut awaited = self.lock();
        if !awaited.sessions.has(&session) {
            return None;
        }
        let found = awaited.session(session).requests.iter().find(|(known, _)| *known == id);
        found.map(|(_, limits)| limits.clone())
    }

    /// The limits for the result of a task; `None` if the task is not known any more.
    pub(super) fn of_task(&self, task: &str) -> Option<Limits> {
        self.lock().tasks.get(&awaited_key(task.as_bytes())).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Awaited> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    fn session(&mut self, key: AwaitedKey) -> &mut Session {
        let is_lost = !self.sessions.has(&key) && self.lost.iter().any(|lost| lost.may_have(&key));
        let (session, dropped) = self.sessions.entry(key);
        session.is_lost |= is_lost;
        for (key, session) in dropped {
            let has_limits = session.requests.iter().any(|(_, limits)| limits.is_some());
            if session.is_lost || session.forgotten.is_some() || has_limits {
                self.lost[0].add(&key, LOST_WORDS);
                self.lost_count += 1;
            }
        }
        if self.lost_count >= LOST_MAX {
            self.lost_count = 0;
            self.lost.swap(0, 1);
            self.lost[0] = Marks::default();
        }
        session
    }
}

/// The stricter of each of both limits.
pub(super) fn stricter(one: Limits, other: Limits) -> Limits {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Some(Arc::new(one.and(&other))),
        (one, other) => one.or(other),
    }
}

impl<V: Default> Recent<V> {
    fn new(max: usize) -> Recent<V> {
        Recent { young: HashMap::new(), old: HashMap::new(), max }
    }

    fn has(&self, key: &AwaitedKey) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    fn get(&mut self, key: &AwaitedKey) -> Option<&V> {
        self.has(key).then(|| &*self.entry(*key).0)
    }

    /// The value of a key, and what was dropped for it.
    fn entry(&mut self, key: AwaitedKey) -> (&mut V, HashMap<AwaitedKey, V>) {
        let mut dropped = HashMap::new();
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= self.max / 2 {
                dropped = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            }
            self.young.insert(key, value);
        }
        (self.young.entry(key).or_default(), dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tools::answer_ceiling::{BytesMax, Over};

    fn bytes(max: u32) -> Limits {
        Some(Arc::new(AnswerCeiling { bytes: Some(BytesMax { max, over: Over::Refuse }), rows: Vec::new() }))
    }

    #[test]
    fn an_id_that_is_used_again_has_the_stricter_limits() {
        let (awaited, session) = (AwaitedAnswers::default(), awaited_key(b"s"));
        assert_eq!(awaited.of_request(session, "7"), None);
        awaited.on_request(session, "7", None);
        assert_eq!(awaited.of_request(session, "7"), Some(None));
        for (limits, want) in [(bytes(9), 9), (bytes(5), 5), (bytes(7), 5), (None, 5)] {
            awaited.on_request(session, "7", limits);
            assert_eq!(awaited.of_request(session, "7"), Some(bytes(want)));
        }
        assert_eq!(awaited.of_request(session, "\"7\""), None, "a text is another id");
        assert_eq!(awaited.of_request(awaited_key(b"t"), "7"), None, "of another session");
        awaited.on_task("a", bytes(3));
        awaited.on_task("a", None);
        assert_eq!((awaited.of_task("a"), awaited.of_task("b")), (Some(bytes(3)), None));
    }

    #[test]
    fn no_number_of_other_requests_makes_an_id_free_of_its_limits() {
        let (awaited, session) = (AwaitedAnswers::default(), awaited_key(b"s"));
        awaited.on_request(session, "7", bytes(5));
        (100..200).for_each(|id| awaited.on_request(session, &id.to_string(), None));
        assert_eq!(awaited.of_request(session, "7"), None, "it is forgotten");
        awaited.on_request(session, "7", None);
        assert_eq!(awaited.of_request(session, "7"), Some(bytes(5)));
        assert_eq!(awaited.of_request(session, "199"), Some(None));
        // The same with sessions.
        let many = |from: usize| {
            for nth in from..from + 2 * SESSIONS_MAX {
                awaited.on_request(awaited_key(nth.to_string().as_bytes()), "1", None);
            }
        };
        many(0);
        awaited.on_request(session, "7", None);
        assert_eq!(awaited.of_request(session, "7"), None, "nothing is known of a session that was forgotten");
        many(1_000_000);
        awaited.on_request(session, "7", None);
        assert_eq!(awaited.of_request(session, "7"), None);
    }

    #[test]
    fn memory_is_bounded_and_recently_used_entries_are_kept() {
        let awaited = AwaitedAnswers::default();
        let first = awaited_key(b"first");
        awaited.on_request(first, "1", bytes(1));
        for nth in 0..3 * SESSIONS_MAX {
            awaited.on_request(awaited_key(nth.to_string().as_bytes()), "1", None);
            if nth % 100 == 0 {
                assert_eq!(awaited.of_request(first, "1"), Some(bytes(1)), "{nth}");
            }
        }
        for nth in 0..3 * REQUESTS_MAX {
            awaited.on_request(first, &nth.to_string(), None);
        }
        (0..3 * TASKS_MAX).for_each(|nth| awaited.on_task(&nth.to_string(), None));
        let last = (3 * REQUESTS_MAX - 1).to_string();
        assert_eq!((awaited.of_request(first, "0"), awaited.of_request(first, &last)), (None, Some(None)));
        let held = awaited.lock();
        assert!(held.sessions.young.len() + held.sessions.old.len() <= SESSIONS_MAX);
        assert!(held.tasks.young.len() + held.tasks.old.len() <= TASKS_MAX);
        assert!(held.sessions.young.values().all(|session| session.requests.len() <= REQUESTS_MAX));
    }
}
