//! The cache of resolved names. Concurrent requests for a name share one query, and the last good answer is used while
//! the resolver fails or hangs. It does no I/O, and the time is passed in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::Time;
use crate::dial::ResolveError;

/// How long resolving one name may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is used without a new query.
const FRESH: Duration = Duration::from_secs(5);
/// How long a failure is reported without a new query.
const FAILURE_FRESH: Duration = Duration::from_millis(500);
/// How long the resolver may take before the last good answer is used instead.
const STALE_AFTER: Duration = Duration::from_millis(500);
/// The age up to which a good answer is used while the resolver fails. RFC 8767, section 5, suggests one to three days.
const STALE_MAX: Duration = Duration::from_secs(24 * 3_600);
/// When an unanswered query is repeated. The resolver may be back by then, while its own next retry is still far off.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1_500);
/// The most queries for one name at a time.
const QUESTIONS_PER_NAME_MAX: usize = 3;
/// The most queries at a time. Each blocks a thread in the system's resolver until it ends, however long that takes.
const QUESTIONS_MAX: usize = 16;
/// The most names that are kept.
const NAMES_MAX: usize = 1_024;
/// The most requests that wait for answers.
const WAITING_MAX: usize = 1_024;

/// The addresses of a name, or why there are none.
type Resolved = Result<Vec<IpAddr>, ResolveError>;

/// The known names and the requests that wait for them. `W` identifies a requester.
pub struct Names<W> {
    known: HashMap<Box<str>, Name<W>>,
    questions: usize,
    waiting: usize,
    /// The pending work for the owner.
    pub due: Due<W>,
}

/// Work for the owner of [`Names`], which must empty it after each call.
pub struct Due<W> {
    /// Names to resolve. The owner passes each result to [`Names::answered`].
    pub questions: Vec<Box<str>>,
    /// Answers to deliver to waiting requesters.
    pub answers: Vec<(W, Resolved)>,
}

struct Name<W> {
    good: Option<(Vec<IpAddr>, Time)>,
    /// The last failure since the last good answer.
    failure: Option<(ResolveError, Time)>,
    /// How many queries are unanswered.
    questions: usize,
    /// When the first and the last of them were made.
    first_put: Time,
    last_put: Time,
    waiting: Vec<(W, Time)>,
    used: Time,
}

impl<W> Default for Names<W> {
    fn default() -> Names<W> {
        let due = Due { questions: Vec::new(), answers: Vec::new() };
        Names { known: HashMap::new(), questions: 0, waiting: 0, due }
    }
}

impl<W> Names<W> {
    /// Requests the addresses of a name.
    pub fn ask(&mut self, now: Time, host: &str, who: W) {
        if self.waiting >= WAITING_MAX || !self.has_room_for(host) {
            return self.due.answers.push((who, Err(ResolveError::Busy)));
        }
        let name = self.known.entry(host.into()).or_insert_with(|| Name::new(now));
        name.used = now;
        name.waiting.push((who, now));
        self.waiting += 1;
        self.review(now, host);
    }

    /// Takes the resolver's answer to a query.
    pub fn answered(&mut self, now: Time, host: &str, answer: Resolved) {
        self.questions -= 1;
        if let Some(name) = self.known.get_mut(host) {
            name.questions -= 1;
            match answer {
                Ok(addresses) => {
                    name.good = Some((addresses, now));
                    name.failure = None;
                }
                // Another query may still succeed.
                Err(_) if name.questions > 0 => {}
                Err(error) => name.failure = Some((error, now)),
            }
        }
        // A query slot is free now, for any name that needs one.
        self.on_time(now);
    }

    /// Does the work that is due by now.
    pub fn on_time(&mut self, now: Time) {
        let waited_for = self.known.iter().filter(|(_, name)| !name.waiting.is_empty());
        let hosts: Vec<Box<str>> = waited_for.map(|(host, _)| host.clone()).collect();
        hosts.iter().for_each(|host| self.review(now, host));
    }

    /// When [`Names::on_time`] must be called, unless something happens before.
    pub fn next_at(&self) -> Option<Time> {
        let may_ask = self.questions < QUESTIONS_MAX;
        self.known.values().filter_map(|name| name.next_at(may_ask)).min()
    }

    fn review(&mut self, now: Time, host: &str) {
        let Some(name) = self.known.get_mut(host) else { return };
        let before = name.waiting.len();
        name.answer(now, host, &mut self.due.answers);
        self.waiting -= before - name.waiting.len();
        if name.wants_question(now, before > 0) && self.questions < QUESTIONS_MAX {
            if name.questions == 0 {
                name.first_put = now;
            }
            name.last_put = now;
            name.questions += 1;
            self.questions += 1;
            self.due.questions.push(host.into());
        }
    }

    /// Whether a name is in the table or fits into it. The least recently used name is dropped if necessary.
    fn has_room_for(&mut self, host: &str) -> bool {
        if self.known.contains_key(host) || self.known.len() < NAMES_MAX {
            return true;
        }
        let idle = self.known.iter().filter(|(_, name)| name.waiting.is_empty() && name.questions == 0);
        let Some(oldest) = idle.min_by_key(|(_, name)| name.used).map(|(host, _)| host.clone()) else { return false };
        self.known.remove(&oldest).is_some()
    }
}

impl<W> Name<W> {
    fn new(now: Time) -> Name<W> {
        Name { good: None, failure: None, questions: 0, first_put: now, last_put: now, waiting: Vec::new(), used: now }
    }

    /// Answers the requests that need not wait any longer.
    fn answer(&mut self, now: Time, host: &str, answers: &mut Vec<(W, Resolved)>) {
        let failing = self.failure.is_some() || (self.questions > 0 && now >= self.first_put + STALE_AFTER);
        let failed_lately = self.failure.as_ref().filter(|(_, at)| now < *at + FAILURE_FRESH);
        self.good.take_if(|(_, at)| now >= *at + STALE_MAX);
        let good = self.good.as_ref();
        let no_answer = || ResolveError::Failed {
            name: host.into(),
            reason: format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs()).into(),
        };
        let mut kept = Vec::new();
        for (who, since) in self.waiting.drain(..) {
            let answer = match good {
                Some((addresses, at)) if now < *at + FRESH || failing || now >= since + STALE_AFTER => {
                    Ok(addresses.clone())
                }
                None if failed_lately.is_some() => {
                    Err(failed_lately.map_or_else(no_answer, |(error, _)| error.clone()))
                }
                None if now >= since + RESOLVE_TIMEOUT => Err(no_answer()),
                _ => {
                    kept.push((who, since));
                    continue;
                }
            };
            answers.push((who, answer));
        }
        self.waiting = kept;
    }

    /// Whether to query the resolver. `asked` says that a request has just come, even if it is answered already.
    fn wants_question(&self, now: Time, asked: bool) -> bool {
        let fresh = self.good.as_ref().is_some_and(|(_, at)| now < *at + FRESH);
        let failed_lately = self.failure.as_ref().is_some_and(|(_, at)| now < *at + FAILURE_FRESH);
        let again =
            self.questions == 0 || (self.questions < QUESTIONS_PER_NAME_MAX && now >= self.last_put + ASK_AGAIN_AFTER);
        asked && !fresh && !failed_lately && again
    }

    fn next_at(&self, may_ask: bool) -> Option<Time> {
        let (_, since) = self.waiting.first()?;
        let answer_by = *since + if self.good.is_some() { STALE_AFTER } else { RESOLVE_TIMEOUT };
        let asks_again = may_ask && (1..QUESTIONS_PER_NAME_MAX).contains(&self.questions);
        Some(if asks_again { answer_by.min(self.last_put + ASK_AGAIN_AFTER) } else { answer_by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGE: &str = "edge.test";

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    fn address(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::from([192, 0, 2, last])]
    }

    fn failure() -> ResolveError {
        ResolveError::Failed { name: EDGE.into(), reason: "SERVFAIL".into() }
    }

    /// Takes the work that is due: the number of queries, and the answers.
    fn due(names: &mut Names<u32>) -> (usize, Vec<(u32, Resolved)>) {
        (std::mem::take(&mut names.due.questions).len(), std::mem::take(&mut names.due.answers))
    }

    #[test]
    fn concurrent_queries_share_one_answer_which_is_cached() {
        let mut names = Names::default();
        for who in 1..=3 {
            names.ask(at(0), EDGE, who);
        }
        assert_eq!(due(&mut names), (1, vec![]));
        names.answered(at(20), EDGE, Ok(address(1)));
        assert_eq!(due(&mut names), (0, (1..=3).map(|who| (who, Ok(address(1)))).collect()));
        names.ask(at(5_019), EDGE, 4);
        assert_eq!(due(&mut names), (0, vec![(4, Ok(address(1)))]));
        names.ask(at(5_020), EDGE, 5);
        assert_eq!(due(&mut names), (1, vec![]));
        names.answered(at(5_030), EDGE, Ok(address(2)));
        assert_eq!(due(&mut names), (0, vec![(5, Ok(address(2)))]));
        assert_eq!(names.next_at(), None);
    }

    #[test]
    fn the_last_good_answer_serves_while_the_resolver_fails_and_it_is_asked_again() {
        let mut names = Names::default();
        names.ask(at(0), EDGE, 1);
        names.answered(at(0), EDGE, Ok(address(1)));
        due(&mut names);
        names.ask(at(10_000), EDGE, 2);
        names.answered(at(10_010), EDGE, Err(failure()));
        assert_eq!(due(&mut names), (1, vec![(2, Ok(address(1)))]));
        // No new query right after a failure; later one, in addition to the cached answer.
        names.ask(at(10_100), EDGE, 3);
        assert_eq!(due(&mut names), (0, vec![(3, Ok(address(1)))]));
        names.ask(at(10_510), EDGE, 4);
        assert_eq!(due(&mut names), (1, vec![(4, Ok(address(1)))]));
        names.answered(at(10_520), EDGE, Ok(address(2)));
        names.ask(at(10_530), EDGE, 5);
        assert_eq!(due(&mut names), (0, vec![(5, Ok(address(2)))]));
        // The cached answer expires in the end.
        names.ask(at(100_000_000), EDGE, 6);
        names.answered(at(100_000_010), EDGE, Err(failure()));
        assert_eq!(due(&mut names), (1, vec![(6, Err(failure()))]));
    }

    #[test]
    fn a_cached_answer_is_used_while_the_resolver_hangs() {
        let mut names = Names::default();
        names.ask(at(0), EDGE, 1);
        names.answered(at(0), EDGE, Ok(address(1)));
        due(&mut names);
        names.ask(at(10_000), EDGE, 2);
        assert_eq!(due(&mut names), (1, vec![]));
        assert_eq!(names.next_at(), Some(at(10_500)));
        names.on_time(at(10_500));
        assert_eq!(due(&mut names), (0, vec![(2, Ok(address(1)))]));
        // A request that comes now is answered at once, and the query is repeated after a while.
        names.ask(at(11_000), EDGE, 3);
        assert_eq!(due(&mut names), (0, vec![(3, Ok(address(1)))]));
        names.ask(at(11_500), EDGE, 4);
        assert_eq!(due(&mut names), (1, vec![(4, Ok(address(1)))]));
    }

    #[test]
    fn a_name_without_a_good_answer_fails_in_time_and_is_asked_for_thrice() {
        let mut names = Names::default();
        names.ask(at(0), EDGE, 1);
        let mut questions = due(&mut names).0;
        let mut answers = Vec::new();
        while let Some(next) = names.next_at() {
            names.on_time(next);
            let (more, mut some) = due(&mut names);
            questions += more;
            answers.append(&mut some);
            if !answers.is_empty() {
                assert_eq!(next, at(5_000));
            }
        }
        assert_eq!(questions, 3);
        let [(1, Err(ResolveError::Failed { reason, .. }))] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(&**reason, "no answer within 5 s");
        // The first good answer of the three is used, however late. A failure among them does not replace it.
        names.ask(at(6_000), EDGE, 2);
        names.answered(at(6_100), EDGE, Err(failure()));
        assert_eq!(due(&mut names).1, vec![]);
        names.answered(at(6_200), EDGE, Ok(address(1)));
        assert_eq!(due(&mut names).1, vec![(2, Ok(address(1)))]);
    }

    #[test]
    fn failures_are_shared_for_half_a_second_so_that_many_links_ask_little() {
        let mut names = Names::default();
        let mut questions = 0;
        for ms in (0..25_000).step_by(50) {
            names.ask(at(ms), EDGE, 0);
            let (asked, _) = due(&mut names);
            questions += asked;
            (0..asked).for_each(|_| names.answered(at(ms), EDGE, Err(failure())));
            let (_, answers) = due(&mut names);
            assert!(answers.iter().all(|(_, answer)| *answer == Err(failure())));
        }
        assert_eq!(questions, 50);
    }

    #[test]
    fn names_that_hang_leave_room_for_others_and_every_table_has_an_end() {
        let mut names = Names::default();
        for nth in 0..QUESTIONS_MAX {
            names.ask(at(0), &format!("{nth}.test"), 1);
        }
        assert_eq!(due(&mut names).0, QUESTIONS_MAX);
        names.ask(at(1), EDGE, 2);
        assert_eq!(due(&mut names), (0, vec![]));
        names.answered(at(2), "0.test", Ok(address(1)));
        assert_eq!(due(&mut names), (1, vec![(1, Ok(address(1)))]));
        names.answered(at(3), EDGE, Ok(address(2)));
        due(&mut names);
        for who in 0..2_000 {
            names.ask(at(4), "new.test", who);
            names.ask(at(4), &format!("more-{who}.test"), who);
        }
        assert!(
            names.known.len() <= NAMES_MAX && names.waiting <= WAITING_MAX,
            "{} {}",
            names.known.len(),
            names.waiting
        );
        assert!(due(&mut names).1.iter().any(|(_, answer)| *answer == Err(ResolveError::Busy)));
    }
}
