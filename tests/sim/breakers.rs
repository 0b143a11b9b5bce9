//! Breakers, through the real edge and the real connector on virtual time.

use std::time::Duration;

use adit::base::{BreakerOverrides, DeadlineOverrides, GuardMode, Rng};
use adit::latency::{BreakerReading, BreakerScope, BreakerState, ForcedState, Outcome};
use adit::route::{RouteOverrides, ToolOverrides};

use crate::stalls::Bed;
use crate::tool_calls::{Answer, call_tool, call_with_body, json_of, status_of};

const SECOND: Duration = Duration::from_secs(1);

fn bed(breaker: GuardMode, deadlines: GuardMode) -> Bed {
    let bed = Bed::start();
    bed.reload(own(breaker, deadlines));
    bed
}

fn own(breaker: GuardMode, deadlines: GuardMode) -> RouteOverrides {
    RouteOverrides {
        deadlines: DeadlineOverrides { mode: Some(deadlines), ..DeadlineOverrides::default() },
        breaker: BreakerOverrides { mode: Some(breaker) },
        ..RouteOverrides::default()
    }
}

/// A call of a tool that asks the upstream for `what`: `status/LENGTH/200`.
fn call(bed: &Bed, tool: &str, what: &str) -> Answer {
    call_tool(bed, tool, what, "", None)
}

/// So many calls, one after the other. Returns the status of each.
fn calls(bed: &mut Bed, tool: &str, what: &str, count: usize) -> Vec<u32> {
    (0..count)
        .map(|_| {
            let answer = call(bed, tool, what);
            bed.pass(SECOND / 20);
            status_of(&answer)
        })
        .collect()
}

/// The breaker of a tool, or that of the upstream if there is no name.
fn breaker(bed: &Bed, tool: &str) -> BreakerReading {
    let readings = bed.breakers();
    readings
        .into_iter()
        .find(|reading| *reading.label.tool == *tool)
        .unwrap_or_else(|| panic!("no breaker of {tool:?}"))
}

#[test]
fn a_tool_that_fails_is_not_called_for_a_while_and_its_neighbours_are() {
    for failing in ["status/LENGTH/503", "drop/LENGTH"] {
        let mut bed = bed(GuardMode::Enforce, GuardMode::Off);
        assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 5), [200; 5]);
        let expected = if failing.starts_with("drop") { 502 } else { 503 };
        assert_eq!(calls(&mut bed, "search", failing, 5), [expected; 5]);
        let refused = call(&bed, "search", "status/LENGTH/200");
        bed.pass(SECOND / 100);
        let (answer, after_ms) = refused.borrow().clone();
        assert!(answer.starts_with("HTTP/1.1 503 ") && after_ms < 10, "after {after_ms} ms: {answer}");
        assert!(answer.contains("\r\nRetry-After: ") && !answer.contains("Connection: close"), "{answer}");
        let error = json_of(&refused)["error"].clone();
        let data = &error["data"];
        assert_eq!((&error["code"], &data["reason"]), (&(-31_020).into(), &"breaker_open".into()));
        assert_eq!(
            (&data["may_have_acted"], &data["tool"], &data["breaker"]),
            (&false.into(), &"search".into(), &"tool".into())
        );
        assert_eq!((&data["calls"], &data["failed"]), (&10.into(), &5.into()));
        assert!(data["retry_after_ms"].as_u64().is_some_and(|ms| (3_000..=6_000).contains(&ms)), "{data}");
        assert_eq!(calls(&mut bed, "other", "status/LENGTH/200", 5), [200; 5]);
        // Errors of applications and refused requests are none of its business.
        assert_eq!(calls(&mut bed, "third", "status/LENGTH/404", 20), [404; 20]);
        assert_eq!(calls(&mut bed, "third", "status/LENGTH/500", 20), [500; 20]);
        bed.pass(7 * SECOND);
        assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 20), [200; 20]);
        let reading = breaker(&bed, "search");
        assert_eq!((reading.state, reading.opened, reading.refused), (BreakerState::Closed, 1, 1));
        assert!(bed.outcomes().contains(&(Outcome::BreakerOpen, 1)), "{:?}", bed.outcomes());
        bed.pass(130 * SECOND);
        bed.assert_nothing_is_left();
    }
}

/// Only the id says that a message expects an answer, and it may be the last that comes.
#[test]
fn a_call_whose_id_stands_at_the_end_of_a_long_body_passes_no_open_breaker() {
    let mut bed = bed(GuardMode::Enforce, GuardMode::Off);
    calls(&mut bed, "search", "status/LENGTH/200", 5);
    calls(&mut bed, "search", "status/LENGTH/503", 5);
    let long = |last: &str| {
        let arguments = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
        let params = format!(r#"{{"name":"search","arguments":{arguments}}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","method":"tools/call","params":{params}{last}}}"#);
        call_with_body(&bed, body, "status/LENGTH/200", "", None)
    };
    let refused = long(r#","id":7"#);
    bed.pass(SECOND);
    assert_eq!(status_of(&refused), 503, "{refused:?}");
    assert!(refused.borrow().0.contains("breaker_open"), "{refused:?}");
    assert_eq!(breaker(&bed, "search").refused, 1);
}

#[test]
fn an_upstream_that_is_gone_closes_all_its_tools_until_it_is_back() {
    let mut bed = bed(GuardMode::Enforce, GuardMode::Off);
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 3), [200; 3]);
    bed.kill_upstream();
    let answers: Vec<Answer> = (0..12).map(|_| call(&bed, "search", "status/LENGTH/200")).collect();
    bed.pass(5 * SECOND);
    assert!(answers.iter().all(|answer| status_of(answer) == 503));
    let refused = call(&bed, "other", "status/LENGTH/200");
    bed.pass(SECOND / 100);
    assert_eq!(json_of(&refused)["error"]["data"]["breaker"], "upstream");
    assert_eq!(breaker(&bed, "").refused, 1);
    bed.start_upstream();
    bed.pass(10 * SECOND);
    assert_eq!(calls(&mut bed, "other", "status/LENGTH/200", 5), [200; 5]);
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 5), [200; 5]);
    assert!(bed.breakers().iter().all(|reading| reading.state == BreakerState::Closed));
}

#[test]
fn by_default_refusals_are_only_counted() {
    let mut bed = Bed::start();
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/503", 10), [503; 10]);
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 5), [200; 5]);
    let reading = breaker(&bed, "search");
    assert!(matches!(reading.state, BreakerState::Open { .. }), "{reading:?}");
    assert_eq!((reading.refused, reading.would_refuse, reading.mode), (0, 5, GuardMode::Observe));
    bed.pass(7 * SECOND);
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 3), [200; 3]);
    assert_eq!(breaker(&bed, "search").state, BreakerState::Closed);
}

#[test]
fn an_operator_opens_a_breaker_in_each_mode_and_before_the_first_call() {
    for mode in [GuardMode::Off, GuardMode::Observe, GuardMode::Enforce] {
        let mut bed = bed(mode, GuardMode::Off);
        bed.force_breaker("search", Some(ForcedState::Open));
        assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 3), [503; 3], "{mode}");
        assert_eq!(calls(&mut bed, "other", "status/LENGTH/200", 3), [200; 3], "{mode}");
        assert_eq!(breaker(&bed, "search").refused, 3, "{mode}");
        let refused = call(&bed, "search", "status/LENGTH/200");
        bed.pass(SECOND);
        let error = json_of(&refused)["error"].clone();
        assert_eq!((&error["code"], &error["data"]["terminal"]), (&(-31_020).into(), &true.into()), "{mode}");
        bed.force_breaker("search", None);
        assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 3), [200; 3], "{mode}");
    }
}

#[test]
fn a_tool_may_be_exempt() {
    let mut bed = Bed::start();
    let exempt = ToolOverrides {
        tool: "search".into(),
        deadlines: DeadlineOverrides::default(),
        breaker: BreakerOverrides { mode: Some(GuardMode::Off) },
        price: 0,
        hedge: None,
    };
    bed.reload(RouteOverrides { tools: [exempt].into(), ..own(GuardMode::Enforce, GuardMode::Off) });
    calls(&mut bed, "search", "status/LENGTH/503", 20);
    assert_eq!(calls(&mut bed, "search", "status/LENGTH/200", 3), [200; 3]);
    assert!(bed.breakers().is_empty(), "{:?}", bed.breakers());
}

/// The deadline of a server that answers nothing for ten minutes does not rise with each call that is cut, so that it is right when
/// the server is back. Without a breaker it is at its ceiling by then.
#[test]
fn while_a_breaker_is_open_deadlines_do_not_rise() {
    let limit_after = |breaker: GuardMode| {
        let mut bed = bed(breaker, GuardMode::Enforce);
        let taught: Vec<Answer> = (0..60).map(|_| call(&bed, "search", "slow/LENGTH/2000")).collect();
        bed.pass(3 * SECOND);
        assert!(taught.iter().all(|answer| status_of(answer) == 200));
        for _ in 0..600 {
            call(&bed, "search", "slow/LENGTH/1000000");
            bed.pass(SECOND);
        }
        let limit = bed.figures(0).deadline.expect("it is learned").limit;
        // It is back, and found to be so when the next calls are tried.
        let mut back = Vec::new();
        for _ in 0..60 {
            back.push(call(&bed, "search", "slow/LENGTH/2000"));
            bed.pass(SECOND);
        }
        bed.pass(3 * SECOND);
        assert!(back[20..].iter().all(|answer| status_of(answer) == 200), "{breaker}");
        limit
    };
    let [without, with] = [GuardMode::Observe, GuardMode::Enforce].map(limit_after);
    assert_eq!(without, 120 * SECOND);
    assert!(with <= 10 * SECOND, "{with:?}");
}

/// A server that becomes ten times as slow for good is called again, although nothing is learned while its breaker is open.
#[test]
fn a_server_that_stays_slow_is_found_to_be_so() {
    let mut bed = bed(GuardMode::Enforce, GuardMode::Enforce);
    let mut taught = Vec::new();
    for _ in 0..300 {
        taught.push(call(&bed, "search", "slow/LENGTH/1000"));
        bed.pass(SECOND / 10);
    }
    bed.pass(SECOND);
    assert!(taught.iter().all(|answer| status_of(answer) == 200));
    let mut answers = Vec::new();
    for _ in 0..8 * 60 {
        answers.push(call(&bed, "search", "slow/LENGTH/10000"));
        bed.pass(SECOND / 2);
    }
    bed.pass(20 * SECOND);
    let good = answers[6 * 60..].iter().filter(|answer| status_of(answer) == 200).count();
    assert_eq!(good, 2 * 60, "of the calls after three minutes");
}

/// Agents that wait for 5 s, and say so or simply leave, before a server that becomes slow for a quarter of the calls and then for
/// all: the first part teaches a deadline that no agent waits for, and the second one opens the breaker all the same.
#[test]
fn calls_that_their_callers_give_up_open_the_breaker_of_a_server_that_answers_none() {
    let leaves: (&str, Option<Duration>) = ("", Some(5 * SECOND));
    for (fields, gives_up) in [("X-Request-Timeout: 5\r\n", None), leaves] {
        let mut bed = bed(GuardMode::Enforce, GuardMode::Enforce);
        let call = |bed: &Bed, ms: u64| call_tool(bed, "search", &format!("slow/LENGTH/{ms}"), fields, gives_up);
        let run = |bed: &mut Bed, ms: &dyn Fn(usize) -> u64, seconds: usize| -> Vec<Answer> {
            let mut answers = Vec::new();
            for nth in 0..10 * seconds {
                answers.push(call(bed, ms(nth)));
                bed.pass(SECOND / 10);
            }
            answers
        };
        let refused = |answers: &[Answer]| answers.iter().filter(|answer| status_of(answer) == 503).count();
        run(&mut bed, &|_| 50, 10);
        let quarter = run(&mut bed, &|nth| if nth % 4 == 0 { 30_000 } else { 50 }, 20);
        assert_eq!(refused(&quarter), 0, "{fields:?}: three of four calls are answered");
        let limit = bed.figures(0).deadline.expect("it is learned").limit;
        assert!(limit > 5 * SECOND, "{fields:?}: {limit:?}");
        let all = run(&mut bed, &|_| 30_000, 60);
        assert!(refused(&all) > 400, "{fields:?}: {} of 600 refused", refused(&all));
        // It is back, and found to be so within seconds.
        let back = run(&mut bed, &|_| 50, 20);
        assert_eq!(refused(&back[80..]), 0, "{fields:?}");
        bed.pass(130 * SECOND);
        bed.assert_nothing_is_left();
    }
}

/// Who waits for less than calls usually take, or less than the shortest deadline, does not keep others from calling.
#[test]
fn impatient_callers_open_no_breaker() {
    for (usual_ms, waits) in [(8_000, "5"), (100, "300ms")] {
        let mut bed = bed(GuardMode::Enforce, GuardMode::Enforce);
        let slow =
            |bed: &Bed, ms: u64, fields: &str| call_tool(bed, "search", &format!("slow/LENGTH/{ms}"), fields, None);
        let taught: Vec<Answer> = (0..40).map(|_| slow(&bed, usual_ms, "")).collect();
        bed.pass(10 * SECOND);
        assert!(taught.iter().all(|answer| status_of(answer) == 200));
        let fields = format!("X-Request-Timeout: {waits}\r\n");
        let hasty: Vec<Answer> = (0..200)
            .map(|_| {
                bed.pass(SECOND / 20);
                slow(&bed, 10_000, &fields)
            })
            .collect();
        bed.pass(10 * SECOND);
        assert!(hasty.iter().all(|answer| status_of(answer) == 504));
        assert_eq!(breaker(&bed, "search").opened, 0, "{waits}");
    }
}

/// Servers that are well, slow, dead or flapping, from seeds: whatever becomes of a call, it is answered; a dead server gets few
/// calls; and one that is well again gets all of them within ten seconds.
#[test]
fn servers_that_are_slow_dead_or_flapping_get_few_calls_while_they_are() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut bed = bed(GuardMode::Enforce, GuardMode::Enforce);
        let tools = ["search", "fetch", "mail"];
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(call(&bed, tools[rng.below(3) as usize], "slow/LENGTH/200"));
            bed.pass(SECOND / 10);
        }
        bed.pass(SECOND);
        assert!(answers.iter().all(|answer| status_of(answer) == 200), "seed {seed}");
        // One tool, or the whole server.
        let [one_tool, dies, flaps] = [rng.chance(0.5), rng.chance(0.3), rng.chance(0.5)];
        let kind = ["slow/LENGTH/100000", "status/LENGTH/502", "drop/LENGTH"][rng.below(3) as usize];
        if dies {
            bed.kill_upstream();
        }
        let mut bad = Vec::new();
        for nth in 0..1_200 {
            let tool = if one_tool { "search" } else { tools[rng.below(3) as usize] };
            let is_well = flaps && nth / 100 % 2 == 1;
            let answer = call(&bed, tool, if is_well { "slow/LENGTH/200" } else { kind });
            bad.push((answer, is_well));
            if one_tool && !dies && nth % 10 == 0 {
                answers.push(call(&bed, "mail", "slow/LENGTH/200"));
            }
            bed.pass(SECOND / 10);
        }
        bed.pass(125 * SECOND);
        let case = format!("seed {seed}: {kind}, one tool: {one_tool}, dies: {dies}, flaps: {flaps}");
        assert!(bad.iter().all(|(answer, _)| status_of(answer) != 0), "{case}: a call without an answer");
        assert!(answers.iter().all(|answer| status_of(answer) == 200), "{case}: a neighbour");
        let refused = |(answer, _): &&(Answer, bool)| answer.borrow().0.contains("breaker_open");
        let (refused, all) = (bad.iter().filter(refused).count(), bad.len());
        let limit = if flaps && !dies { all / 4 } else { all * 3 / 4 };
        assert!(refused >= limit, "{case}: {refused} of {all} refused");
        if dies {
            bed.start_upstream();
        }
        let mut after = Vec::new();
        for _ in 0..300 {
            after.push(call(&bed, tools[rng.below(3) as usize], "slow/LENGTH/200"));
            bed.pass(SECOND / 10);
        }
        bed.pass(SECOND);
        let late = after[100..].iter().filter(|answer| status_of(answer) != 200).count();
        assert_eq!(late, 0, "{case}: not well after 10 s");
        let is_closed = |reading: &BreakerReading| reading.state == BreakerState::Closed;
        assert!(bed.breakers().iter().all(is_closed), "{case}: {:?}", bed.breakers());
        let upstream = breaker(&bed, "");
        assert_eq!(upstream.scope, BreakerScope::Upstream);
        assert!(!one_tool || dies || upstream.opened == 0, "{case}: {upstream:?}");
        bed.pass(130 * SECOND);
        bed.assert_nothing_is_left();
    }
}
