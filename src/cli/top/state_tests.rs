//! The state of `adit top`, key by key and sample by sample; and the sample that other tests show.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cli::explain::tests::call;
use crate::cli::top::poll::TopSample;
use crate::cli::top::state::{FILTER_LEN_MAX, TopKey, TopSort, TopState, TopView};
use crate::control::RoleKind;
use crate::control::bodies::{
    BreakerStateName, CallInfo, CallStageName, CallTimesOfLabel, CallTimesSummary, CallsBody, DriverStatus,
    LatencyBody, LinkStatus, OfRole, PhaseTimes, ProcessState, ReloadStatus, StatusBody,
};

fn times(calls: u64, failed: u64) -> CallTimesSummary {
    let us = |p50_us: f64| PhaseTimes {
        count: calls,
        mean_us: p50_us,
        p50_us,
        p95_us: p50_us * 2.0,
        p99_us: p50_us * 3.0,
        max_us: p50_us * 9.0,
    };
    CallTimesSummary {
        calls,
        outcomes: [("ok".to_owned(), calls - failed), ("deadline".to_owned(), failed)].into(),
        phases: [("tunnel".to_owned(), us(45.0)), ("upstream".to_owned(), us(1_200.0))].into(),
        clock_disagreements: 0,
    }
}

fn label(route: &str, tool: &str, calls: u64, failed: u64) -> CallTimesOfLabel {
    CallTimesOfLabel {
        route: route.to_owned(),
        method: "tools/call".to_owned(),
        tool: tool.to_owned(),
        times: times(calls, failed),
        retries: 0,
        hedges: 0,
        hedges_won: 0,
        breaker: Some(if failed > 0 { BreakerStateName::Open } else { BreakerStateName::Closed }),
        deadline: None,
    }
}

/// A sample in which `search` has had this many calls.
pub(super) fn sample(at_s: u64, search: u64) -> TopSample {
    let link = LinkStatus {
        id: 7,
        core: 0,
        tunnel: "tnl_demo".to_owned(),
        peer: "adit/0.1.0".to_owned(),
        connector: Some("build-7".to_owned()),
        streams: 2,
        round_trip_us: Some(123.0),
        transport: "tcp".to_owned(),
        quic: None,
        age_s: 61.0,
        draining: false,
    };
    let status = StatusBody {
        version: "0.1.0".to_owned(),
        commit: "unknown".to_owned(),
        roles: vec![RoleKind::Edge],
        state: ProcessState::Running,
        driver: DriverStatus { name: "uring".to_owned(), why: "it works".to_owned() },
        agent_url: None,
        plain_agent_url: None,
        connectors_listen: None,
        admin_url: None,
        uptime_s: 3_725.0,
        cores: Vec::new(),
        cores_silent: 0,
        links: vec![OfRole { role: RoleKind::Edge, of: link }],
        certificates: Vec::new(),
        edges: Vec::new(),
        upstreams: Vec::new(),
        breakers: Vec::new(),
        limits: Vec::new(),
        routes: Vec::new(),
        tunnels: Vec::new(),
        counts: BTreeMap::new(),
        reload: ReloadStatus { applied: 0, refused: 0, faults: None, restart_needed: Vec::new() },
    };
    let latency = LatencyBody {
        measured_by: Some(RoleKind::Edge),
        route: None,
        total: times(search + 30, 4),
        labels: vec![label("demo.test", "search", search, 0), label("b.test", "fetch\u{1b}[2J", 30, 4)],
        over_cap: 0,
    };
    let fast = CallInfo {
        id: Some("2a".to_owned()),
        status: Some(200),
        outcome: Some("ok".to_owned()),
        stopped_at: CallStageName::Done,
        answered: None,
        decisions: Vec::new(),
        tool: Some("fetch".to_owned()),
        ..call()
    };
    let of_connector = CallInfo { role: RoleKind::Connector, tool: None, ..fast.clone() };
    let calls = CallsBody { calls: vec![fast, of_connector, call()] };
    TopSample { at: Duration::from_secs(at_s), status, latency, calls }
}

fn press(state: &mut TopState, keys: &str) {
    keys.chars().for_each(|key| assert!(state.key(TopKey::Char(key))));
}

fn names(state: &TopState) -> Vec<&str> {
    state.rows().iter().map(|row| row.what.as_str()).collect()
}

#[test]
fn rates_come_from_two_samples_and_a_restart_does_not_make_them_negative() {
    let mut state = TopState::new();
    state.sampled(sample(0, 100));
    assert_eq!((state.rows()[0].per_second, state.rates), (None, None));
    state.sampled(sample(2, 150));
    assert_eq!((state.rows()[0].what.as_str(), state.rows()[0].per_second), ("search", Some(25.0)));
    assert_eq!(state.rates, Some((25.0, 0.0)));
    state.sampled(sample(2, 160));
    assert_eq!(state.rates, None, "no time has passed");
    state.sampled(sample(3, 5));
    assert_eq!(state.rows()[0].per_second, Some(0.0));
}

#[test]
fn keys_sort_filter_pause_and_open_a_call() {
    let mut state = TopState::new();
    state.sampled(sample(0, 100));
    state.sampled(sample(1, 101));
    assert_eq!(names(&state), ["search", "fetch\u{1b}[2J"]);
    press(&mut state, "s");
    assert_eq!((state.sort, names(&state)[0]), (TopSort::Errors, "fetch\u{1b}[2J"));
    press(&mut state, "/SEArq");
    assert!(state.is_typing, "q is typed, it does not end the program");
    state.key(TopKey::Backspace);
    state.key(TopKey::Enter);
    assert_eq!(names(&state), ["search"]);
    state.key(TopKey::Escape);
    assert_eq!(names(&state).len(), 2);

    press(&mut state, "p");
    state.sampled(sample(9, 900));
    assert_eq!(state.rows().iter().map(|row| row.calls).max(), Some(101), "it is paused");
    press(&mut state, "p2");
    assert_eq!(state.view, TopView::Calls);
    state.key(TopKey::Down);
    state.key(TopKey::Enter);
    assert_eq!(state.open_call().and_then(|call| call.id.as_deref()), Some("1f3"));
    state.key(TopKey::Escape);
    assert_eq!((state.view.clone(), state.selected), (TopView::Calls, 1));
    assert!(!state.key(TopKey::Char('q')) && !state.key(TopKey::Interrupt));
}

#[test]
fn the_selection_stays_among_what_is_shown_whatever_is_pressed() {
    let keys = [
        TopKey::Up,
        TopKey::Down,
        TopKey::PageDown,
        TopKey::PageUp,
        TopKey::Tab,
        TopKey::Enter,
        TopKey::Escape,
        TopKey::Backspace,
        TopKey::Char('/'),
        TopKey::Char('x'),
        TopKey::Char('s'),
        TopKey::Char('?'),
        TopKey::Char('3'),
    ];
    let mut state = TopState::new();
    let mut rng = crate::base::Rng::new(7);
    for round in 0..5_000_u64 {
        if round % 50 == 0 {
            state.sampled(sample(round, round));
        }
        state.key(keys[usize::try_from(rng.below(keys.len() as u64)).unwrap()]);
        assert!(state.filter.chars().count() <= FILTER_LEN_MAX);
        if !matches!(state.view, TopView::Help | TopView::Call(..)) {
            assert!(state.selected < state.len().max(1), "{:?}", state.view);
        }
    }
}

#[test]
fn slow_and_failed_calls_are_remarkable_and_each_call_is_there_once() {
    let mut state = TopState::new();
    state.sampled(sample(0, 1));
    assert_eq!(state.calls().len(), 2);
    let remarkable: Vec<Option<&str>> = state.remarkable().map(|call| call.id.as_deref()).collect();
    assert_eq!(remarkable, [Some("1f3")]);
}
