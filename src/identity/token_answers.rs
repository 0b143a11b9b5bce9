//! The answers of another server about tokens, which a task requests for the cores.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::{Secret, sha256};
use crate::identity::remembered::Remembered;

/// The most tokens that are queued or in flight at the same time. More are refused.
pub const QUESTIONS_MAX: usize = 256;
/// The most calls that wait for answers at the same time, over all cores. More are refused.
const WAITING_MAX: usize = 1_024;
/// How long a refusal is cached.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// The shortest time in which two answers about one token are dropped.
const DROPPED_EVERY: Duration = Duration::from_secs(10);
/// How long a failure is cached, before the server is asked again about the same token.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// The SHA-256 digest of a token, which does not reveal it.
type Name = [u8; 32];

/// The answers of one server about tokens. Each token has at most one request in flight. A core holds the lock only for
/// a lookup.
pub struct TokenAnswers<V>(Mutex<Shared<V>>);

struct Shared<V> {
    /// Separate from refusals, so that forged tokens cannot evict valid ones.
    good: Remembered<Name, Known<V>>,
    bad: Remembered<Name, Known<V>>,
    /// The tokens without an answer yet, and the calls that wait for one.
    open: FxHashMap<Name, Vec<Waker>>,
    waiting: usize,
    /// The tokens that are not requested yet.
    queue: VecDeque<(Name, Secret)>,
    asker: Option<Waker>,
}

struct Known<V> {
    answer: TokenAnswer<V>,
    since: Duration,
    until: Duration,
    /// When an answer about the token was dropped the last time.
    dropped: Option<Duration>,
}

/// The answer of a server about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAnswer<V> {
    /// The token is valid, with this result.
    Good(V),
    /// The token is refused.
    Refused,
    /// The request failed, or its answer is not usable.
    Failed,
}

/// The result of a lookup.
pub(super) enum Looked<V> {
    /// The answer of the server, when it was given, and until when it is valid.
    Answered(TokenAnswer<V>, Duration, Duration),
    /// The answer is requested.
    Asked(TokenAsked),
    /// Too many tokens are queued or in flight.
    Busy,
}

/// A pending question, by the digest of its token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenAsked(Name);

/// A question for the task that sends requests. Dropping it counts as a failure.
pub struct TokenQuestion<V> {
    name: Name,
    token: Secret,
    answers: Arc<TokenAnswers<V>>,
    is_open: bool,
}

impl<V: Clone> TokenAnswers<V> {
    /// A store without any answers.
    #[must_use]
    pub fn new() -> TokenAnswers<V> {
        TokenAnswers(Mutex::new(Shared {
            good: Remembered::default(),
            bad: Remembered::default(),
            open: FxHashMap::default(),
            waiting: 0,
            queue: VecDeque::new(),
            asker: None,
        }))
    }

    /// Looks up the answer for a token. If there is none, a request is queued.
    pub(super) fn look(&self, token: &[u8], now: Duration) -> Looked<V> {
        let name = sha256(token);
        let mut shared = self.lock();
        // An answer is not valid before it was given, as a wall clock may be set back.
        let holds = |known: &&Known<V>| known.since <= now && now < known.until;
        let known = shared.good.get(&name).filter(holds).or_else(|| shared.bad.get(&name).filter(holds));
        if let Some(known) = known {
            return Looked::Answered(known.answer.clone(), known.since, known.until);
        }
        if !shared.open.contains_key(&name) {
            if shared.open.len() >= QUESTIONS_MAX {
                return Looked::Busy;
            }
            shared.open.insert(name, Vec::new());
            shared.queue.push_back((name, Secret::new(token.to_vec())));
            if let Some(asker) = shared.asker.take() {
                asker.wake();
            }
        }
        Looked::Asked(TokenAsked(name))
    }

    /// Waits for an answer. Returns at once if too many calls wait.
    pub fn poll_answered(&self, asked: TokenAsked, cx: &Context<'_>) -> Poll<()> {
        let mut shared = self.lock();
        let Shared { open, waiting, .. } = &mut *shared;
        let Some(wakers) = open.get_mut(&asked.0) else { return Poll::Ready(()) };
        if wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        if *waiting >= WAITING_MAX {
            return Poll::Ready(());
        }
        *waiting += 1;
        wakers.push(cx.waker().clone());
        Poll::Pending
    }

    /// Called by the task that sends requests: waits for the next token.
    pub fn poll_question(self: &Arc<Self>, cx: &Context<'_>) -> Poll<TokenQuestion<V>> {
        let mut shared = self.lock();
        let Some((name, token)) = shared.queue.pop_front() else {
            shared.asker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(TokenQuestion { name, token, answers: Arc::clone(self), is_open: true })
    }
}

#[cfg(test)]
impl<V: Clone> TokenAnswers<V> {
    /// Queues an unknown token. Returns what a call waits for, and the question.
    pub(crate) fn asked_about(answers: &Arc<Self>, token: &[u8], now: Duration) -> (TokenAsked, TokenQuestion<V>) {
        let Looked::Asked(asked) = answers.look(token, now) else { panic!("an answer to this token is cached") };
        let Poll::Ready(question) = answers.poll_question(&Context::from_waker(Waker::noop())) else {
            panic!("the request for this token is not queued")
        };
        (asked, question)
    }
}

impl<V> TokenAnswers<V> {
    /// Drops a good answer about a token if it is this one, because it has proven useless. If an answer about the token was dropped
    /// shortly before, it is kept: another one would not help.
    pub(super) fn drop_answer(&self, token: &[u8], is_meant: impl FnOnce(&V) -> bool, now: Duration) {
        let mut shared = self.lock();
        let Some(known) = shared.good.get_mut(&sha256(token)) else { return };
        let TokenAnswer::Good(value) = &known.answer else { return };
        let was_lately = |dropped: Duration| dropped <= now && now < dropped.saturating_add(DROPPED_EVERY);
        if is_meant(value) && !known.dropped.is_some_and(was_lately) {
            (known.until, known.dropped) = (Duration::ZERO, Some(now));
        }
    }

    /// Ends the request for a token. Stores its answer with its length in bytes, if there is one.
    fn close(&self, name: Name, known: Option<(Known<V>, usize)>) {
        let mut shared = self.lock();
        if let Some((mut known, len)) = known {
            known.dropped = shared.good.get(&name).and_then(|before| before.dropped);
            match known.answer {
                TokenAnswer::Good(_) => {
                    shared.bad.forget(&name);
                    shared.good.enter(name, known, len);
                }
                TokenAnswer::Refused | TokenAnswer::Failed => {
                    shared.good.forget(&name);
                    shared.bad.enter(name, known, len);
                }
            }
        }
        let wakers = shared.open.remove(&name).unwrap_or_default();
        shared.waiting -= wakers.len();
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Shared<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Default for TokenAnswers<V> {
    fn default() -> TokenAnswers<V> {
        TokenAnswers::new()
    }
}

impl<V> TokenQuestion<V> {
    /// The token, only for the request to the server.
    #[must_use]
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// Accepts the token from the first time until the second. The value takes about `len` bytes.
    pub fn accept(mut self, value: V, (since, until): (Duration, Duration), len: usize) {
        self.close(Some((Known { answer: TokenAnswer::Good(value), since, until, dropped: None }, len)));
    }

    /// Refuses the token at this time.
    pub fn refuse(mut self, now: Duration) {
        let until = now.saturating_add(REFUSED_FOR);
        self.close(Some((Known { answer: TokenAnswer::Refused, since: now, until, dropped: None }, 0)));
    }

    /// Records at this time that the request has failed.
    pub fn fail(mut self, now: Duration) {
        let until = now.saturating_add(FAILED_FOR);
        self.close(Some((Known { answer: TokenAnswer::Failed, since: now, until, dropped: None }, 0)));
    }

    fn close(&mut self, known: Option<(Known<V>, usize)>) {
        if std::mem::replace(&mut self.is_open, false) {
            self.answers.close(self.name, known);
        }
    }
}

impl<V> Drop for TokenQuestion<V> {
    fn drop(&mut self) {
        self.close(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::identity::remembered::{BYTES_MAX, ENTRIES_MAX};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn idle() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn question(answers: &Arc<TokenAnswers<u32>>) -> TokenQuestion<u32> {
        match answers.poll_question(&idle()) {
            Poll::Ready(question) => question,
            Poll::Pending => panic!("no token is queued"),
        }
    }

    fn asked(answers: &TokenAnswers<u32>, token: &[u8], now: u64) -> TokenAsked {
        match answers.look(token, at(now)) {
            Looked::Asked(asked) => asked,
            Looked::Answered(answer, ..) => panic!("{answer:?}"),
            Looked::Busy => panic!("busy"),
        }
    }

    fn known(answers: &TokenAnswers<u32>, token: &[u8], now: u64) -> TokenAnswer<u32> {
        match answers.look(token, at(now)) {
            Looked::Answered(answer, ..) => answer,
            Looked::Asked(_) | Looked::Busy => panic!("no answer is cached"),
        }
    }

    #[test]
    fn all_calls_with_a_token_wait_for_one_question_and_are_woken_once() {
        let answers = Arc::new(TokenAnswers::new());
        let woken = [(); 2].map(|()| Arc::new(Woken::default()));
        let wakers = woken.each_ref().map(|woken| Waker::from(Arc::clone(woken)));
        let asks = [asked(&answers, b"a", 100), asked(&answers, b"a", 101)];
        for (asked, waker) in asks.into_iter().zip(&wakers) {
            let cx = Context::from_waker(waker);
            assert!(answers.poll_answered(asked, &cx).is_pending() && answers.poll_answered(asked, &cx).is_pending());
        }
        let question = question(&answers);
        assert_eq!(question.token().expose(), b"a");
        assert!(answers.poll_question(&idle()).is_pending(), "one question for both");
        assert!(answers.poll_answered(asks[0], &Context::from_waker(&wakers[0])).is_pending(), "it is under way");
        question.accept(7, (at(101), at(161)), 1);
        assert!(answers.poll_answered(asks[0], &idle()).is_ready());
        assert_eq!(woken.map(|woken| woken.0.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!(known(&answers, b"a", 160), TokenAnswer::Good(7));
        let again = asked(&answers, b"a", 161);
        assert!(answers.poll_answered(again, &idle()).is_pending(), "its time is over");
    }

    #[test]
    fn a_bad_token_is_bad_for_a_while_and_one_that_was_good_is_bad_at_once() {
        let answers = Arc::new(TokenAnswers::new());
        asked(&answers, b"a", 100);
        question(&answers).accept(7, (at(100), at(200)), 1);
        asked(&answers, b"a", 200);
        question(&answers).refuse(at(200));
        assert_eq!(known(&answers, b"a", 209), TokenAnswer::Refused);
        assert_eq!(answers.lock().good.held(), (0, 0));
        asked(&answers, b"a", 210);
        question(&answers).fail(at(210));
        assert_eq!(known(&answers, b"a", 211), TokenAnswer::Failed);
        asked(&answers, b"a", 212);
        question(&answers).accept(8, (at(212), at(300)), 1);
        assert_eq!(known(&answers, b"a", 213), TokenAnswer::Good(8));
        // The clock was set back.
        asked(&answers, b"a", 211);
    }

    #[test]
    fn a_useless_answer_is_dropped_and_the_next_one_only_after_a_while() {
        let answers = Arc::new(TokenAnswers::new());
        let get = |now: u64, value: u32| {
            asked(&answers, b"a", now);
            question(&answers).accept(value, (at(now), at(now + 300)), 1);
        };
        let drops = |value: u32, now: u64| answers.drop_answer(b"a", |known| *known == value, at(now));
        get(100, 1);
        drops(7, 100);
        assert_eq!(known(&answers, b"a", 100), TokenAnswer::Good(1), "another one was meant");
        drops(1, 100);
        get(100, 2);
        drops(1, 101);
        drops(2, 109);
        assert_eq!(
            known(&answers, b"a", 109),
            TokenAnswer::Good(2),
            "a server that refuses all of them causes no requests"
        );
        drops(2, 110);
        get(110, 3);
        drops(3, 111);
        assert_eq!(known(&answers, b"a", 111), TokenAnswer::Good(3));
        answers.drop_answer(b"unknown", |_: &u32| true, at(111));
    }

    /// A reload of the configuration replaces the task that sends requests.
    #[test]
    fn a_question_that_is_dropped_has_no_answer_and_can_be_asked_again() {
        let answers = Arc::new(TokenAnswers::new());
        let first = asked(&answers, b"a", 100);
        drop(question(&answers));
        assert!(answers.poll_answered(first, &idle()).is_ready());
        asked(&answers, b"a", 100);
        question(&answers).accept(1, (at(100), at(200)), 1);
        assert_eq!(known(&answers, b"a", 100), TokenAnswer::Good(1));
    }

    #[test]
    fn requests_cached_answers_and_waiting_calls_are_bounded() {
        let answers = Arc::new(TokenAnswers::new());
        let name = |nth: usize| nth.to_le_bytes();
        let all: Vec<TokenAsked> = (0..QUESTIONS_MAX).map(|nth| asked(&answers, &name(nth), 100)).collect();
        assert!(matches!(answers.look(b"one more", at(100)), Looked::Busy));
        assert!(matches!(answers.look(&name(0), at(100)), Looked::Asked(_)), "one that is being asked");
        let wakers: Vec<Waker> = (0..=WAITING_MAX).map(|_| Waker::from(Arc::new(Woken::default()))).collect();
        let waiting = wakers.iter().enumerate().filter(|(nth, waker)| {
            let asked = all[nth % all.len()];
            answers.poll_answered(asked, &Context::from_waker(waker)).is_pending()
        });
        assert_eq!(waiting.count(), WAITING_MAX);
        for _ in &all {
            question(&answers).accept(1, (at(100), at(200)), 10);
        }
        assert_eq!(answers.lock().waiting, 0);
        // Tokens that anybody can make do not evict valid ones.
        for nth in QUESTIONS_MAX..2 * ENTRIES_MAX {
            asked(&answers, &name(nth), 100);
            question(&answers).refuse(at(100));
        }
        assert_eq!(answers.lock().bad.held().0, ENTRIES_MAX);
        assert_eq!(known(&answers, &name(0), 199), TokenAnswer::Good(1));
        for nth in 2 * ENTRIES_MAX..2 * ENTRIES_MAX + 40 {
            asked(&answers, &name(nth), 100);
            question(&answers).accept(1, (at(100), at(200)), BYTES_MAX / 32);
        }
        let (entries, bytes) = answers.lock().good.held();
        assert!(entries <= 32 && bytes <= BYTES_MAX, "{entries}");
    }
}
