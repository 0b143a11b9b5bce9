use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

fn at(seconds: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(seconds)
}

/// Makes a call with this verdict if the breaker permits it. Returns whether it did.
fn call(breaker: &mut Breaker, verdict: CallVerdict, now: Time) -> bool {
    let (admitted, _) = breaker.admit(now);
    if let Ok(permit) = admitted {
        breaker.end(permit, Some(verdict), &BreakerTerms::default(), now);
    }
    admitted.is_ok()
}

fn is_open(breaker: &Breaker, now: Time) -> bool {
    matches!(breaker.reading(now).0, BreakerState::Open { .. })
}

/// A breaker that has just opened.
fn opened(now: Time) -> Breaker {
    let mut breaker = Breaker::new(1);
    (0..10).for_each(|_| assert!(call(&mut breaker, CallVerdict::Failed, now)));
    assert!(is_open(&breaker, now));
    breaker
}

/// When its next call may be made.
fn opens_until(breaker: &Breaker, now: Time) -> Time {
    match breaker.reading(now).0 {
        BreakerState::Open { remaining } => now + remaining,
        state => panic!("{state:?}"),
    }
}

#[test]
fn it_takes_the_documented_memory() {
    assert_eq!(size_of::<Breaker>(), 344);
}

#[test]
fn it_opens_when_half_of_the_calls_fail_and_not_for_few_calls() {
    let mut breaker = Breaker::new(1);
    (0..9).for_each(|_| assert!(call(&mut breaker, CallVerdict::Failed, at(1.0))));
    assert!(!is_open(&breaker, at(1.0)), "nine calls are too few");
    assert!(call(&mut breaker, CallVerdict::Good, at(1.0)));
    assert!(is_open(&breaker, at(1.0)), "nine of ten");
    let mut breaker = Breaker::new(1);
    for nth in 0..100 {
        let verdict = if nth % 10 < 3 { CallVerdict::Failed } else { CallVerdict::Good };
        assert!(call(&mut breaker, verdict, at(f64::from(nth) / 10.0)));
    }
    assert!(!is_open(&breaker, at(10.0)), "three of ten");
}

#[test]
fn it_opens_when_four_of_five_calls_are_slow() {
    let share = |slow: u32| {
        let mut breaker = Breaker::new(1);
        for nth in 0..200 {
            let verdict = if nth % 10 < slow { CallVerdict::Slow } else { CallVerdict::Good };
            if !call(&mut breaker, verdict, at(f64::from(nth) / 10.0)) {
                return true;
            }
        }
        false
    };
    assert_eq!([share(6), share(8), share(10)], [false, true, true]);
}

/// A tool that is called once in 20 s has failed ten times within 200 s.
#[test]
fn rare_calls_count_for_five_minutes() {
    let failures_until_open = |seconds: f64| {
        let mut breaker = Breaker::new(1);
        (1..1_000).find(|nth| {
            call(&mut breaker, CallVerdict::Failed, at(f64::from(*nth) * seconds));
            is_open(&breaker, at(f64::from(*nth) * seconds))
        })
    };
    assert_eq!(failures_until_open(20.0), Some(10));
    assert_eq!(failures_until_open(40.0), None, "they are forgotten before they are ten");
}

#[test]
fn calls_from_before_the_last_ten_seconds_do_not_count() {
    let mut breaker = Breaker::new(1);
    (0..1_000).for_each(|nth| assert!(call(&mut breaker, CallVerdict::Good, at(f64::from(nth) / 100.0))));
    let failed = (0..).find(|nth| !call(&mut breaker, CallVerdict::Failed, at(10.0 + f64::from(*nth) / 100.0)));
    assert!(failed.is_some_and(|failed| (450..=550).contains(&failed)), "{failed:?}");
}

#[test]
fn after_its_time_three_calls_are_tried_and_close_it_if_all_are_good() {
    let mut breaker = opened(at(1.0));
    let until = opens_until(&breaker, at(1.0));
    assert!((at(5.0)..=at(7.0)).contains(&until), "{until:?}");
    let (refused, _) = breaker.admit(at(2.0));
    assert_eq!(refused, Err(BreakerOpen { retry_after: Some(until - at(2.0)) }));
    let permits: Vec<BreakerPermit> = (0..3).map(|_| breaker.admit(until).0.unwrap()).collect();
    assert_eq!(breaker.reading(until).0, BreakerState::HalfOpen);
    assert_eq!(breaker.admit(until).0, Err(BreakerOpen { retry_after: Some(PROBING) }));
    // A probe without a verdict frees its place for another one.
    assert_eq!(breaker.end(permits[0], None, &BreakerTerms::default(), until), None);
    let fourth = breaker.admit(until).0.unwrap();
    let mut changes = [permits[1], permits[2], fourth]
        .map(|permit| breaker.end(permit, Some(CallVerdict::Good), &BreakerTerms::default(), until));
    assert_eq!(changes[2].take().map(|change| change.to), Some(BreakerState::Closed));
    assert_eq!(changes, [None; 3]);
    assert!(call(&mut breaker, CallVerdict::Failed, until), "a closed breaker admits calls");
}

/// This happens when the upstream's breaker admits a call that the tool's breaker then refuses.
#[test]
fn a_probe_that_is_given_back_at_once_takes_the_place_of_no_other() {
    let mut breaker = opened(at(1.0));
    let stuck: Vec<BreakerPermit> = (0..3).map(|_| breaker.admit(at(10.0)).0.unwrap()).collect();
    for nth in 0..200 {
        let now = at(11.0 + f64::from(nth) / 1_000.0);
        let unused = breaker.admit(now).0.unwrap_or_else(|_| panic!("after {nth} that were given back"));
        breaker.release(unused);
    }
    assert!(call(&mut breaker, CallVerdict::Good, at(11.3)));
    assert!(breaker.admit(at(11.4)).0.is_ok(), "two of three places are free");
    assert_eq!(breaker.end(stuck[0], Some(CallVerdict::Failed), &BreakerTerms::default(), at(11.5)), None);
    assert!(!is_open(&breaker, at(11.5)));
}

#[test]
fn probes_that_take_long_make_room_for_others_and_do_not_count_when_one_of_those_is_good() {
    let mut breaker = opened(at(1.0));
    let stuck: Vec<BreakerPermit> = (0..3).map(|_| breaker.admit(at(10.0)).0.unwrap()).collect();
    assert!(breaker.admit(at(10.9)).0.is_err());
    // The server is back.
    assert!(call(&mut breaker, CallVerdict::Good, at(11.0)));
    assert_eq!(breaker.end(stuck[0], Some(CallVerdict::Failed), &BreakerTerms::default(), at(11.1)), None);
    (0..2).for_each(|_| assert!(call(&mut breaker, CallVerdict::Good, at(11.2))));
    assert!(breaker.is_closed());
    assert_eq!(breaker.end(stuck[1], Some(CallVerdict::Failed), &BreakerTerms::default(), at(12.0)), None);
    // While the server is down all probes fail. A server that never answers gets about one probe a second.
    let mut breaker = opened(at(1.0));
    let made = (0..10_000).filter(|nth| breaker.admit(at(10.0 + f64::from(*nth) / 10.0)).0.is_ok()).count();
    assert!((900..=1_060).contains(&made), "{made}");
}

/// A probe may stay pending until the longest deadline, and its number may be reused by then.
#[test]
fn a_probe_that_is_no_longer_waited_for_says_nothing_of_a_later_one() {
    let mut breaker = opened(at(1.0));
    let stuck: Vec<BreakerPermit> = (0..90).filter_map(|nth| breaker.admit(at(10.0 + f64::from(nth))).0.ok()).collect();
    assert!(stuck.len() > PROBES_MAX as usize, "{}", stuck.len());
    for old in &stuck[..PROBES_MAX as usize] {
        assert_eq!(breaker.end(*old, Some(CallVerdict::Failed), &BreakerTerms::default(), at(101.0)), None);
    }
    (0..3).for_each(|_| assert!(call(&mut breaker, CallVerdict::Good, at(102.0))));
    assert!(breaker.is_closed());
}

#[test]
fn each_time_it_is_open_about_as_long() {
    let mut breaker = opened(at(1.0));
    let mut now = at(1.0);
    let mut times = Vec::new();
    for _ in 0..50 {
        let until = opens_until(&breaker, now);
        times.push(until - now);
        now = until;
        let permit = breaker.admit(now).0.unwrap();
        let change = breaker.end(permit, Some(CallVerdict::Failed), &BreakerTerms::default(), now);
        assert!(change.is_some_and(|change| change.is_again));
    }
    assert!(times.iter().all(|time| (4 * SECOND..=6 * SECOND).contains(time)), "{times:?}");
    times.sort_unstable();
    assert!(times[49] - times[0] > SECOND, "they vary: {times:?}");
}

#[test]
fn calls_that_end_after_the_breaker_opened_do_not_count() {
    let mut breaker = Breaker::new(1);
    let old = breaker.admit(at(0.0)).0.unwrap();
    (0..10).for_each(|_| assert!(call(&mut breaker, CallVerdict::Failed, at(0.0))));
    let now = opens_until(&breaker, at(0.0));
    let probe = breaker.admit(now).0.unwrap();
    assert_eq!(breaker.end(old, Some(CallVerdict::Failed), &BreakerTerms::default(), now), None);
    assert_eq!(breaker.reading(now).0, BreakerState::HalfOpen);
    assert!(breaker.end(probe, Some(CallVerdict::Failed), &BreakerTerms::default(), now).is_some());
}

#[test]
fn an_operators_word_holds_until_it_is_taken_back() {
    let mut breaker = Breaker::new(1);
    assert!(breaker.force(Some(ForcedState::Open), at(0.0)).is_some());
    assert_eq!(breaker.force(Some(ForcedState::Open), at(0.0)), None, "it is so already");
    assert_eq!(breaker.admit(at(1e6)).0, Err(BreakerOpen { retry_after: None }));
    assert!(breaker.force(Some(ForcedState::Closed), at(0.0)).is_some());
    (0..100).for_each(|_| assert!(call(&mut breaker, CallVerdict::Failed, at(1.0))));
    assert!(breaker.force(None, at(1.0)).is_some());
    assert_eq!(breaker.force(None, at(1.0)), None);
    (0..9).for_each(|_| assert!(call(&mut breaker, CallVerdict::Failed, at(1.0))));
    assert!(!is_open(&breaker, at(1.0)), "what was meanwhile does not count");
}

/// The same rules in their simplest form: all calls are kept, and the state is computed from them each time.
struct Model {
    terms: BreakerTerms,
    forced: Option<ForcedState>,
    /// The calls since it closed, in the parts in which they were counted.
    parts: Vec<(Time, Vec<CallVerdict>)>,
    /// Until when it is open.
    open: Option<Time>,
    /// The probes that are permitted, and how many were good; none while it is not half open.
    probes: Option<(Vec<u64>, u32)>,
    /// All that were permitted since then, whether they are waited for or not.
    all_probes: Vec<u64>,
    /// When the last probe was made.
    probed: Time,
    /// The calls that were permitted while it was closed.
    under_way: Vec<u64>,
}

impl Model {
    fn may_call(&mut self, id: u64, now: Time) -> bool {
        if let Some(forced) = self.forced {
            return forced == ForcedState::Closed;
        }
        match self.open {
            None => self.under_way.push(id),
            Some(until) if now < until => return false,
            Some(_) => {
                if self.probes.is_none() {
                    (self.probes, self.probed) = (Some(Default::default()), now);
                }
                let (probes, good) = self.probes.as_mut().unwrap();
                if probes.len() as u32 + *good >= 3 && now - self.probed < PROBE_EVERY {
                    return false;
                }
                probes.push(id);
                self.all_probes.push(id);
                self.probed = now;
            }
        }
        true
    }

    /// Returns whether it opens.
    fn ends(&mut self, id: u64, verdict: Option<CallVerdict>, now: Time) -> bool {
        if let Some((probes, good)) = &mut self.probes
            && self.all_probes.contains(&id)
        {
            let is_awaited = probes.contains(&id);
            match verdict {
                None => probes.retain(|probe| *probe != id),
                Some(CallVerdict::Good) => {
                    probes.retain(|probe| *probe > id);
                    *good += 1;
                    if *good == 3 {
                        self.begin();
                    }
                }
                Some(_) => return is_awaited,
            }
            return false;
        }
        let Some(at) = self.under_way.iter().position(|call| *call == id) else { return false };
        self.under_way.remove(at);
        let Some(verdict) = verdict else { return false };
        let per_part = self.terms.calls_min.div_ceil(10) as usize;
        let is_over = |(began, calls): &(Time, Vec<CallVerdict>)| {
            (calls.len() >= per_part && now - *began >= SECOND) || now - *began >= 300 * SECOND
        };
        if self.parts.last().is_none_or(is_over) {
            self.parts.push((now, Vec::new()));
        }
        self.parts.last_mut().unwrap().1.push(verdict);
        let last = self.parts.iter().rev().take(10).filter(|(began, _)| now - *began < 300 * SECOND);
        let last: Vec<CallVerdict> = last.flat_map(|(_, calls)| calls.iter().copied()).collect();
        let count = |verdict| last.iter().filter(|call| **call == verdict).count() as f64;
        let (failed, slow, all) = (count(CallVerdict::Failed), count(CallVerdict::Slow), last.len() as f64);
        let percent = |part: f64| part / all * 100.0;
        all >= f64::from(self.terms.calls_min)
            && (percent(failed) >= f64::from(self.terms.failed_percent)
                || percent(failed + slow) >= f64::from(self.terms.slow_percent))
    }

    fn begin(&mut self) {
        (self.open, self.probes, self.all_probes) = (None, None, Vec::new());
        (self.parts, self.under_way) = (Vec::new(), Vec::new());
    }
}

/// Calls at random moments, many at once, to a server that is healthy, fails, is slow or flaps, while an operator
/// interferes.
#[test]
fn it_equals_the_model_for_any_input() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let terms = BreakerTerms {
            failed_percent: rng.between(1, 100) as u32,
            slow_percent: rng.between(1, 100) as u32,
            calls_min: rng.between(1, 40) as u32,
            open_for: Duration::from_millis(rng.between(1, 100_000)),
            ..BreakerTerms::default()
        };
        let mut breaker = Breaker::new(seed);
        let (parts, under_way, all_probes, probed) = (vec![], vec![], vec![], Time::ZERO);
        let mut model = Model { terms, forced: None, parts, open: None, probes: None, all_probes, probed, under_way };
        let (mut now, mut calls, mut opened) = (at(0.0), Vec::<(u64, BreakerPermit)>::new(), 0);
        let per_second = [0.05, 1.0, 100.0][rng.below(3) as usize];
        let (mut failing, mut slow) = (0.0, 0.0);
        for id in 0..3_000_u64 {
            now += Duration::from_secs_f64(rng.unit() * 2.0 / per_second);
            if rng.chance(0.01) {
                (failing, slow) = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (rng.unit(), 0.1)][rng.below(4) as usize];
            }
            if rng.chance(0.002) {
                let forced = [None, Some(ForcedState::Open), Some(ForcedState::Closed)][rng.below(3) as usize];
                breaker.force(forced, now);
                if forced.is_some() || model.forced.is_some() {
                    model.begin();
                    model.forced = forced;
                }
            }
            let (admitted, _) = breaker.admit(now);
            assert_eq!(admitted.is_ok(), model.may_call(id, now), "seed {seed}, call {id} at {now:?}");
            match admitted {
                Ok(permit) => calls.push((id, permit)),
                Err(BreakerOpen { retry_after }) => {
                    assert_eq!(retry_after.is_none(), model.forced.is_some());
                    assert!(retry_after.is_none_or(|wait| wait <= terms.open_for.max(SECOND) * 13 / 10));
                }
            }
            while !calls.is_empty() && rng.chance(0.6) {
                let (id, permit) = calls.swap_remove(rng.below(calls.len() as u64) as usize);
                let verdict = match rng.unit() {
                    lot if lot < 0.02 => None,
                    _ if rng.chance(failing) => Some(CallVerdict::Failed),
                    _ if rng.chance(slow) => Some(CallVerdict::Slow),
                    _ => Some(CallVerdict::Good),
                };
                let opens = model.ends(id, verdict, now);
                let change = breaker.end(permit, verdict, &terms, now);
                let to = change.map(|change| change.to);
                assert_eq!(matches!(to, Some(BreakerState::Open { .. })), opens, "seed {seed}, end of {id}: {to:?}");
                if let Some(BreakerState::Open { remaining }) = to {
                    let (least, most) = (terms.open_for.mul_f64(0.799), terms.open_for.mul_f64(1.201));
                    assert!((least..=most).contains(&remaining), "seed {seed}: {remaining:?}, {terms:?}");
                    model.begin();
                    model.open = Some(now + remaining);
                    opened += 1;
                }
                let is_closed = model.forced.is_none() && model.open.is_none();
                assert_eq!(breaker.is_closed(), is_closed, "seed {seed}, end of {id}");
            }
        }
        assert!(opened > 0 || terms.calls_min > 1, "seed {seed}: {terms:?}");
    }
}

/// The window's parts are few, and calls are counted in them whatever the clock says.
#[test]
fn a_clock_that_stands_still_or_jumps_is_no_trouble() {
    let mut breaker = Breaker::new(9);
    (0..100_000).for_each(|_| assert!(call(&mut breaker, CallVerdict::Good, at(7.0))));
    assert!(call(&mut breaker, CallVerdict::Good, Time::ZERO + FOREVER));
    assert!(call(&mut breaker, CallVerdict::Good, Time::ZERO));
    let (state, counts) = breaker.reading(at(7.0));
    assert_eq!((state, counts.failed, counts.slow), (BreakerState::Closed, 0, 0));
}
