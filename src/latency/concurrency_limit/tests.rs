//! The limit with simulated servers of a given parallelism, and random service times from seeds.

use std::collections::BTreeMap;

use super::*;
use crate::base::Rng;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A server that works on a number of calls at a time and queues the rest, or on any number; and callers that always
/// make another call.
struct World {
    now: Time,
    rng: Rng,
    limit: ConcurrencyLimit,
    baseline: Baseline,
    terms: ConcurrencyTerms,
    /// When each worker is free; none if there are always enough.
    free_at: Vec<Time>,
    /// The mean time that a worker needs for a call.
    service: Duration,
    /// How many callers there are.
    callers: u32,
    /// The calls in flight by their ends: when each began, and how busy it was then.
    in_flight: BTreeMap<(Time, u64), (Time, Load)>,
    calls: u64,
}

impl World {
    fn new(seed: u64, workers: usize, service: Duration, callers: u32) -> World {
        World {
            now: Time::ZERO,
            rng: Rng::new(seed),
            limit: ConcurrencyLimit::new(),
            baseline: Baseline::default(),
            terms: ConcurrencyTerms::default(),
            free_at: vec![Time::ZERO; workers],
            service,
            callers,
            in_flight: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Runs the world for this long. Returns how many calls ended, and the longest duration of one.
    fn pass(&mut self, time: Duration) -> (u64, Duration) {
        let until = self.now + time;
        let (mut ended, mut longest) = (0, Duration::ZERO);
        loop {
            while (self.in_flight.len() as u32) < self.callers.min(self.limit.get(&self.terms)) {
                self.begin();
            }
            let Some(next) = self.in_flight.first_entry().filter(|next| next.key().0 <= until) else { break };
            let ((now, _), (began, load)) = next.remove_entry();
            self.now = now;
            let slowdown = self.baseline.slowdown(now - began, load.is_low);
            if let Some(slowdown) = slowdown.filter(|_| load.is_high) {
                self.limit.record(began, slowdown, &self.terms, now);
            }
            ended += 1;
            longest = longest.max(now - began);
            let limit = self.limit.get(&self.terms);
            assert!((self.terms.min..=self.terms.max).contains(&limit), "{limit}");
        }
        self.now = until;
        (ended, longest)
    }

    fn begin(&mut self) {
        // From half to one and a half times the mean.
        let work = self.service.mul_f64(self.rng.unit() + 0.5);
        let mut ends = self.now + work;
        if let Some(worker) = self.free_at.iter_mut().min() {
            ends = (*worker).max(self.now) + work;
            *worker = ends;
        }
        self.calls += 1;
        let load = self.limit.load(self.in_flight.len() as u32 + 1, &self.terms);
        self.in_flight.insert((ends, self.calls), (self.now, load));
    }

    /// Callers that come one at a time, so that the server is known.
    fn teach(&mut self) {
        let callers = std::mem::replace(&mut self.callers, 1);
        self.pass(50 * self.service);
        self.callers = callers;
    }

    fn limit(&self) -> u32 {
        self.limit.get(&self.terms)
    }
}

#[test]
fn a_busy_server_gets_about_as_many_calls_as_it_can_work_on_and_no_fewer() {
    for (seed, workers) in [1, 4, 8, 16, 40].into_iter().enumerate() {
        let mut world = World::new(seed as u64, workers, 50 * MS, 500);
        world.teach();
        world.pass(60 * SECOND);
        let limit = world.limit();
        let least = world.terms.min.max(workers as u32);
        assert!(limit >= least && limit <= least * 9 / 4, "{workers} workers: {limit}");
        let (ended, longest) = world.pass(20 * SECOND);
        let possible = 20 * 20 * workers as u64;
        assert!(ended >= possible * 9 / 10, "{workers} workers: {ended} of {possible}");
        let longest_max = 50 * MS * (least * 4).div_ceil(workers as u32);
        assert!(longest <= longest_max, "{workers} workers: {longest:?}, not {longest_max:?}");
    }
}

#[test]
fn a_server_without_limits_is_not_limited() {
    let mut world = World::new(3, 0, 50 * MS, 600);
    world.teach();
    world.pass(20 * SECOND);
    assert!(world.limit() >= 600, "{}", world.limit());
    world.callers = 2_000;
    world.pass(20 * SECOND);
    assert_eq!(world.limit(), world.terms.max);
}

/// Calls to a fast server wait for each other on their way, far longer than the server takes. It is not overloaded, and fewer calls in
/// flight would only make each of them dearer.
#[test]
fn waits_of_a_millisecond_are_no_overload() {
    for (seed, service_us) in [15, 60].into_iter().enumerate() {
        let mut world = World::new(seed as u64, 1, Duration::from_micros(service_us), 64);
        world.teach();
        world.pass(20 * SECOND);
        assert!(world.limit() >= 64, "{service_us} µs: {}", world.limit());
    }
}

/// The server becomes slower or faster for good without being overloaded, so earlier durations say nothing.
#[test]
fn a_step_in_the_time_of_the_server_is_followed_both_ways() {
    for (seed, factor) in [2.0, 3.0, 10.0, 0.5, 0.1].into_iter().enumerate() {
        for callers in [3, 30, 300] {
            let mut world = World::new(seed as u64, 0, 50 * MS, callers);
            world.teach();
            world.pass(10 * SECOND);
            let before = world.limit();
            assert!(before >= callers, "{callers} callers: {before}");
            world.service = world.service.mul_f64(factor);
            world.pass((200 * world.service).max(20 * SECOND));
            let after = world.limit();
            assert!(after >= callers, "{callers} callers, {factor} times as slow: {after}, before {before}");
        }
    }
}

/// The server's capacity drops to a quarter, and later recovers.
#[test]
fn a_step_in_the_capacity_of_the_server_is_followed_both_ways() {
    let mut world = World::new(5, 40, 50 * MS, 400);
    world.teach();
    world.pass(60 * SECOND);
    assert!((40..=90).contains(&world.limit()), "{}", world.limit());
    world.free_at.truncate(10);
    world.pass(60 * SECOND);
    assert!((10..=25).contains(&world.limit()), "{}", world.limit());
    world.free_at.resize(40, world.now);
    world.pass(60 * SECOND);
    assert!((40..=90).contains(&world.limit()), "{}", world.limit());
}

#[test]
fn after_an_outage_the_limit_is_back_within_seconds() {
    let mut world = World::new(7, 40, 50 * MS, 400);
    world.teach();
    world.pass(60 * SECOND);
    let before = world.limit();
    // All workers hang for a minute, then finish the calls that wait.
    let stuck_until = world.now + 60 * SECOND;
    world.free_at.fill(stuck_until);
    world.pass(60 * SECOND);
    world.pass(10 * SECOND);
    let (ended, _) = world.pass(5 * SECOND);
    assert!(ended >= 5 * 20 * 40 * 9 / 10, "{ended} in five seconds");
    assert!(world.limit() * 2 >= before, "{}, before {before}", world.limit());
}

#[test]
fn one_long_call_among_many_does_not_lower_the_limit() {
    let (terms, mut limit) = (ConcurrencyTerms::default(), ConcurrencyLimit::new());
    let mut now = Time::ZERO;
    for nth in 0..1_000 {
        now += 50 * MS;
        limit.record(now, if nth % 10 == 0 { 10.0 } else { 0.0 }, &terms, now);
    }
    assert!(limit.get(&terms) >= 20, "{}", limit.get(&terms));
}

#[test]
fn calls_that_began_before_the_last_change_do_not_count() {
    let (terms, mut limit) = (ConcurrencyTerms::default(), ConcurrencyLimit::new());
    let began = Time::ZERO + SECOND;
    let slow = 2.0;
    (0..100).for_each(|nth| limit.record(began, slow, &terms, began + nth * MS * 10));
    assert_eq!(limit.get(&terms), 10, "one step, whatever else of them comes");
}

#[test]
fn it_stays_within_its_terms_for_any_input() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (min, max) = (rng.between(1, 50) as u32, rng.between(1, 200) as u32);
        let mut terms = ConcurrencyTerms { min, max, ..ConcurrencyTerms::default() };
        let (mut limit, mut now) = (ConcurrencyLimit::new(), Time::ZERO);
        for _ in 0..2_000 {
            now += Duration::from_millis(rng.below(100));
            let slowdown = [f64::MAX, f64::MIN, rng.unit() * 20.0 - 10.0][rng.below(3) as usize];
            limit.record(now, slowdown, &terms, now);
            let got = limit.get(&terms);
            assert!(got >= 1 && got <= terms.max && (got >= terms.min || terms.min > terms.max), "seed {seed}: {got}");
            if rng.chance(0.01) {
                terms.max = rng.between(1, 200) as u32;
            }
        }
        assert!(limit.limit.is_finite());
    }
}

#[test]
fn a_baseline_is_known_after_ten_calls_and_follows_those_that_teach() {
    let mut baseline = Baseline::default();
    for _ in 0..BASELINE_CALLS_MIN {
        assert_eq!(baseline.slowdown(10 * SECOND, false), None);
    }
    let near = |slowdown: Option<f64>, factor: f64| {
        let slowdown = slowdown.expect("it is known");
        assert!((slowdown - factor.ln()).abs() < 0.01, "{slowdown}, not {}", factor.ln());
    };
    near(baseline.slowdown(20 * SECOND, false), 2.0);
    near(baseline.slowdown(5 * SECOND, false), 0.5);
    for _ in 0..300 {
        baseline.slowdown(20 * SECOND, true);
    }
    near(baseline.slowdown(20 * SECOND, false), 1.0);
    assert!(baseline.slowdown(Duration::ZERO, true).is_some_and(f64::is_finite));
    assert!(baseline.slowdown(Duration::MAX, true).is_some_and(f64::is_finite));
}
