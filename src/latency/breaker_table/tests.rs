use super::*;
use crate::base::Rng;
use crate::latency::{LatencySettings, Recorder};
use std::time::Duration;

const TERMS: BreakerTerms = BreakerTerms {
    mode: GuardMode::Enforce,
    failed_percent: 50,
    slow_percent: 80,
    calls_min: 10,
    open_for: Duration::from_secs(5),
};

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn label(tool: &str) -> Label {
    Label { route: "r".into(), method: "tools/call".into(), tool: tool.into() }
}

/// Makes this many calls with this result. Returns the scopes of the breakers that refused any.
fn calls(of: &Arc<LabelBreakers>, count: u32, result: CallResult, now: Time) -> Vec<BreakerScope> {
    let mut refused = Vec::new();
    for _ in 0..count {
        match of.admit(now).0 {
            Ok(permit) => {
                permit.end(Some(result), &TERMS, now, now);
            }
            Err((scope, _)) => refused.push(scope),
        }
    }
    refused
}

#[test]
fn a_tool_that_fails_leaves_its_neighbours_alone() {
    let table = BreakerTable::default();
    let [bad, good] = ["bad", "good"].map(|tool| table.of(&label(tool)));
    assert_eq!(calls(&good, 5, CallResult::Answered, at(1)), []);
    assert_eq!(calls(&bad, 12, CallResult::Failed, at(2)), [BreakerScope::Tool; 2]);
    assert_eq!(calls(&good, 5, CallResult::Answered, at(2)), []);
    assert!(good.are_closed() && !bad.are_closed());
    // This holds however often it alone is called.
    assert_eq!(calls(&bad, 1, CallResult::Failed, at(60)), []);
    assert_eq!(table.readings(at(60))[0].state, BreakerState::Closed);
}

#[test]
fn an_upstream_that_cannot_be_reached_closes_all_its_tools() {
    let table = BreakerTable::default();
    let [one, other] = ["one", "other"].map(|tool| table.of(&label(tool)));
    assert_eq!(calls(&one, 12, CallResult::Unreached, at(1)), [BreakerScope::Upstream; 2]);
    assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
    let readings = table.readings(at(1));
    let states = readings.iter().map(|reading| (reading.scope, reading.state == BreakerState::Closed));
    // The other tool has had no calls yet.
    assert_eq!(states.collect::<Vec<_>>(), [(BreakerScope::Upstream, false), (BreakerScope::Tool, true)]);
    assert_eq!((readings[0].refused, readings[0].opened, readings[0].mode), (3, 1, GuardMode::Enforce));
    // Three successful calls of any tool close it.
    assert_eq!(calls(&other, 3, CallResult::Answered, at(10)), []);
    assert!(one.are_closed());
}

#[test]
fn an_upstream_that_answers_no_call_of_several_tools_closes_all() {
    let table = BreakerTable::default();
    let [one, other, third] = ["one", "other", "third"].map(|tool| table.of(&label(tool)));
    for nth in 0..20 {
        let of = if nth % 2 == 0 { &one } else { &other };
        calls(of, 1, CallResult::Failed, at(1));
    }
    assert_eq!(calls(&third, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
    // An answer in between proves that the upstream is there.
    let table = BreakerTable::default();
    let [one, other, third] = ["one", "other", "third"].map(|tool| table.of(&label(tool)));
    for nth in 0..20 {
        let of = if nth % 2 == 0 { &one } else { &other };
        if let Ok(permit) = of.admit(at(nth)).0 {
            calls(&third, 1, CallResult::Answered, at(nth + 1));
            permit.end(Some(CallResult::Failed), &TERMS, at(nth), at(nth + 2));
        }
    }
    assert!(third.are_closed() && !one.are_closed() && !other.are_closed());
}

#[test]
fn a_call_that_is_dropped_leaves_its_place_to_another() {
    let table = BreakerTable::default();
    let of = table.of(&label("a"));
    calls(&of, 10, CallResult::Failed, at(1));
    let probes: Vec<_> = (0..3).map(|_| of.admit(at(10)).0.ok().unwrap()).collect();
    assert!(probes.iter().all(|probe| probe.patience() == 3));
    assert_eq!(calls(&of, 1, CallResult::Answered, at(10)), [BreakerScope::Tool]);
    drop(probes);
    assert_eq!(calls(&of, 3, CallResult::Answered, at(10)), []);
    assert!(of.are_closed());
    assert_eq!(of.admit(at(10)).0.ok().unwrap().patience(), 1);
}

#[test]
fn where_nothing_is_enforced_calls_are_counted_that_would_be_refused() {
    let table = BreakerTable::default();
    let of = table.of(&label("a"));
    let observe = |result, now| of.observe(Some(result), &TERMS, now, now);
    let opened = (0..10).map(|_| observe(CallResult::Failed, at(1))).filter(|changes| changes.tool.is_some());
    assert_eq!(opened.count(), 1);
    (0..7).for_each(|_| assert_eq!(observe(CallResult::Answered, at(2)), BreakerChanges::default()));
    let counts = |table: &BreakerTable| (table.readings(at(2))[1].refused, table.readings(at(2))[1].would_refuse);
    assert_eq!(counts(&table), (0, 7));
    (0..3).for_each(|_| _ = observe(CallResult::Answered, at(10)));
    assert!(of.are_closed());
}

#[test]
fn an_operator_forces_a_breaker_whether_or_not_calls_were_seen() {
    let table = BreakerTable::default();
    let [one, other] = ["one", "other"].map(|tool| table.of(&label(tool)));
    let force = |label: &Label, forced| Some(table.force(label, forced, at(1))?.state);
    let (open, is_open) = (Some(ForcedState::Open), Some(BreakerState::Forced(ForcedState::Open)));
    assert_eq!(force(&label("none"), None), None, "it has seen no call");
    assert!(!table.is_forced_open("r") && !one.is_forced_open());
    assert_eq!(force(&label("one"), open), is_open);
    assert!(table.is_forced_open("r") && !table.is_forced_open("other route"));
    assert!(one.is_forced_open() && !other.is_forced_open() && other.are_closed());
    assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), []);
    let upstream = Label { method: "".into(), tool: "".into(), ..label("") };
    assert_eq!((force(&upstream, open), force(&upstream, open)), (is_open, is_open));
    assert_eq!(calls(&other, 1, CallResult::Answered, at(1)), [BreakerScope::Upstream]);
    assert_eq!(force(&upstream, None), Some(BreakerState::Closed));
    assert_eq!(table.readings(at(1))[0].refused, 1);
    assert!(other.are_closed() && table.is_forced_open("r"));
    force(&label("one"), None);
    assert!(!table.is_forced_open("r"));
    let forced = (0..2 * FORCED_UNSEEN_MAX).filter(|nth| force(&label(&nth.to_string()), open).is_some()).count();
    assert_eq!(forced, FORCED_UNSEEN_MAX, "of tools that nobody has called there are so many");
}

#[test]
fn calls_without_a_label_of_their_own_have_no_breaker() {
    let table = Arc::<BreakerTable>::default();
    let settings = LatencySettings { labels_per_route_max: 1, ..LatencySettings::default() };
    let mut recorder = Recorder::new(settings).with_breakers(&table);
    for nth in 0..100 {
        let id = recorder.label("r", "tools/call", &format!("tool{nth}"));
        assert_eq!(recorder.breakers(id).is_some(), nth == 0);
    }
    let labels = table.lock().labels.len();
    assert_eq!((labels, table.readings(at(1)).len()), (1, 0), "none has seen a call");
}

/// The number of probes is limited for all cores together.
#[test]
fn cores_share_their_findings() {
    let table = Arc::new(BreakerTable::new(7));
    let cores: Vec<_> = (0..4).map(|_| table.of(&label("a"))).collect();
    calls(&cores[0], 10, CallResult::Failed, at(1));
    let mut rng = Rng::new(1);
    let mut admit = || cores[rng.below(4) as usize].admit(at(10)).0.ok();
    let probes: Vec<Permit> = (0..1_000).filter_map(|_| admit()).collect();
    assert_eq!(probes.len(), 3);
    for probe in probes {
        assert!(cores.iter().all(|core| !core.are_closed()));
        probe.end(Some(CallResult::Answered), &TERMS, at(10), at(10));
    }
    assert!(cores.iter().all(|core| core.are_closed()));
}

/// Reads all that a table says of its breakers.
fn states(table: &BreakerTable, now: Time) -> Vec<(BreakerScope, Label, BreakerState, CallCounts, u64, u64, u64)> {
    let of = |reading: BreakerReading| {
        let BreakerReading { scope, label, state, counts, opened, refused, would_refuse, .. } = reading;
        (scope, label, state, counts, opened, refused, would_refuse)
    };
    table.readings(now).into_iter().map(of).collect()
}

/// Cores that count good calls apart reach the same decisions, from the first bad call on, as if every call took the
/// lock.
#[test]
fn calls_that_are_counted_apart_change_nothing_that_is_decided() {
    const TOOLS: [&str; 3] = ["a", "b", "c"];
    let (mut apart, mut opened, mut compared) = (0, 0, 0);
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let (model, table) = (BreakerTable::new(seed), BreakerTable::new(seed));
        let alone = TOOLS.map(|tool| model.of(&label(tool)));
        let cores = [(); 3].map(|()| {
            let first = table.of_core(&label(TOOLS[0]), None);
            let [second, third] = [1, 2].map(|nth| table.of_core(&label(TOOLS[nth]), Some(&first)));
            [first, second, third]
        });
        let mut now = at(1);
        let mut open: Vec<(usize, usize, Permit, Permit, Time)> = Vec::new();
        // Long periods of good calls, with bad ones in between.
        let mut bad = 0.0;
        for nth in 0..4_000 {
            if nth % 250 == 0 {
                bad = if rng.chance(0.4) { 0.95 } else { 0.0 };
            }
            now += Duration::from_micros(if rng.chance(0.02) { rng.below(3_000_000) } else { rng.below(3_000) });
            let (core, tool) = (rng.below(3) as usize, rng.below(3) as usize);
            let result = match (rng.chance(bad), rng.below(8)) {
                (false, _) => Some(CallResult::Answered),
                (true, 0) => Some(CallResult::Late),
                (true, 1) => Some(CallResult::Unreached),
                (true, 2) => None,
                (true, _) => Some(CallResult::Failed),
            };
            let terms = BreakerTerms { open_for: Duration::from_millis(700), ..TERMS };
            let began = now - (Time::ZERO + Duration::from_micros(rng.below(5_000)));
            let began = Time::ZERO + began;
            match rng.below(4) {
                0 => match (alone[tool].admit(now).0, cores[core][tool].admit(now).0) {
                    (Ok(one), Ok(other)) => open.push((core, tool, one, other, now)),
                    (one, other) => assert_eq!(one.err(), other.err(), "seed {seed}, call {nth}"),
                },
                1 if !open.is_empty() => {
                    let at = rng.below(open.len() as u64) as usize;
                    let (core, tool, one, other, began) = open.swap_remove(at);
                    let changes = cores[core][tool].end(other, result, &terms, began, now);
                    assert_eq!(changes, one.end(result, &terms, began, now), "seed {seed}, call {nth}");
                }
                _ => {
                    let changes = cores[core][tool].observe(result, &terms, began, now);
                    assert_eq!(changes, alone[tool].observe(result, &terms, began, now), "seed {seed}, call {nth}");
                    opened += u32::from(changes.tool.is_some() || changes.upstream.is_some());
                }
            }
            apart += u32::from(cores[core][tool].tool.is_counting());
            if rng.chance(0.01) {
                assert_eq!(states(&table, now), states(&model, now), "seed {seed}, call {nth}");
                compared += 1;
            }
        }
    }
    assert!(apart > 10_000 && opened > 100 && compared > 500, "{apart} apart, {opened} changes, {compared} compared");
}

/// While nothing is wrong, calls of one core wait for no other.
#[test]
fn good_calls_take_no_lock_while_nothing_is_wrong() {
    let table = BreakerTable::default();
    let of = table.of_core(&label("a"), None);
    let good = |now| of.observe(Some(CallResult::Answered), &TERMS, now, now);
    good(at(1));
    assert!(!of.tool.is_counting(), "the first is told");
    good(at(1));
    assert!(of.tool.is_counting() && of.upstream.is_counting());
    assert_eq!(states(&table, at(1)).iter().map(|state| state.3.calls).collect::<Vec<_>>(), [2, 2]);
    good(at(1) + Duration::from_millis(100));
    assert!(!of.tool.is_counting(), "that was long ago");
    of.observe(Some(CallResult::Failed), &TERMS, at(1), at(1) + Duration::from_millis(100));
    good(at(1) + Duration::from_millis(100));
    assert!(!of.tool.is_counting(), "a call was bad");
    let terms = BreakerTerms { mode: GuardMode::Observe, ..TERMS };
    let other = table.of_core(&label("b"), Some(&of));
    (0..2).for_each(|_| _ = other.observe(Some(CallResult::Answered), &TERMS, at(2), at(2)));
    assert!(other.tool.is_counting());
    other.observe(Some(CallResult::Answered), &terms, at(2), at(2));
    assert!(!other.tool.is_counting(), "the mode has changed");
}
