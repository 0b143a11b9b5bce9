//! Second tries of slow calls, through the real edge, two real connectors and a server behind each, on virtual time.

pub(crate) mod tools;

use std::time::Duration;

use adit::base::{BreakerOverrides, ConcurrencyOverrides, DeadlineOverrides, GuardMode, Rng, Time};
use adit::engine::sim::Faults;
use adit::latency::SentAgain;
use adit::route::{RouteOverrides, ToolOverrides};
use adit::wire::mux;

use crate::sessions::bed::{Bed, Place, Running, SERVERS};
use crate::sessions::client::{Answer, Client};
use tools::{Answers, RESULT, Seen};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOST: &str = "one.test";
const PLACE: Place = Place { cores: 1, links: 1 };
/// A server that answers at once takes a call so long, and the way to it and back takes 6 ms more.
const QUICK: Answers = Answers::With(200, Duration::from_millis(5));
const SLOW: Answers = Answers::With(200, Duration::from_secs(20));

fn hedging() -> RouteOverrides {
    RouteOverrides { hedge: true, ..RouteOverrides::default() }
}

/// A bed whose edge knows the tools and how long they take, and may try so many calls twice.
fn bed(seed: u64, place: Place, own: RouteOverrides, tries: usize) -> Bed {
    let mut bed = Bed::start(seed, place, &[HOST]);
    bed.reload(own);
    teach(&mut bed, 50 * tries);
    bed
}

/// Lets the edge see the list of the tools, and so many calls.
fn teach(bed: &mut Bed, calls: usize) {
    let taught = bed.client(move |mut client: Client| async move {
        let mut answers = vec![client.call("POST", HOST, None).await];
        for _ in 1..calls {
            answers.push(client.tool(HOST, "look", None, 0).await);
        }
        answers
    });
    bed.pass(SECOND / 10 * calls as u32);
    let answers = taught.take().expect("all are answered");
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
}

/// One call of a tool: its answer, and how long that took.
fn call(bed: &Bed, tool: &'static str) -> Running<(Answer, Duration)> {
    bed.client(move |mut client: Client| async move {
        let began = client.now();
        (client.tool(HOST, tool, None, 0).await, client.now() - began)
    })
}

/// The calls that came to the servers since `since`.
fn seen_since(bed: &Bed, since: Time) -> [Vec<Seen>; 2] {
    bed.servers.each_ref().map(|server| {
        let mut seen = server.tools.seen();
        seen.retain(|seen| seen.came >= since);
        seen
    })
}

#[test]
fn a_hedged_call_is_answered_by_the_faster_server_and_cancelled_at_the_slower() {
    for (seed, slow) in (0..6).flat_map(|seed| [0, 1].map(|slow| (seed, slow))) {
        let mut bed = bed(seed, PLACE, hedging(), 3);
        bed.servers[slow].tools.answers.set(SLOW);
        let since = bed.now();
        let calls = [call(&bed, "look"), call(&bed, "look")];
        bed.pass(SECOND);
        for call in calls {
            let (answer, took) = call.take().expect("it is answered");
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1 - slow]), "seed {seed}");
            assert!(took < 40 * MS, "seed {seed}: {took:?}");
        }
        let mut seen = seen_since(&bed, since);
        assert_eq!((seen[slow].len(), seen[1 - slow].len()), (1, 2), "seed {seed}: one of the calls was sent twice");
        let answered = seen[1 - slow].iter().filter_map(|seen| seen.ended).max().expect("both are answered");
        let given_up = seen[slow].remove(0);
        let given_up_after = given_up.ended.expect("it was given up") - answered;
        assert!(!given_up.is_answered && given_up_after < 10 * MS, "seed {seed}: {given_up_after:?} after the answer");
        assert_eq!(bed.hedges(), (1, 1, 0), "seed {seed}");
        // Both tries are counted where they went, and the call once.
        assert_eq!(bed.usage(), 3 * 50 + 2 + 1, "seed {seed}");
        let again: Vec<_> = bed.calls("tools/call").into_iter().filter_map(|line| line.record.again).collect();
        // The number of a connector is that of its process.
        let [SentAgain::Slow { connector, after, won: true }] = again[..] else { panic!("{again:?}") };
        assert_eq!(connector, 3 - slow as u64, "seed {seed}");
        assert!(after.get() > 9 * MS && after.get() < 20 * MS, "seed {seed}: {after:?}");
    }
}

/// What is made so that no call is tried twice, and how its calls are made.
struct Never {
    name: &'static str,
    own: RouteOverrides,
    change: fn(&mut Bed),
    call: fn(&Bed) -> Running<Answer>,
}

fn one_call(bed: &Bed) -> Running<Answer> {
    bed.client(|mut client: Client| async move { client.tool(HOST, "look", None, 0).await })
}

#[test]
fn no_other_call_is_ever_sent_twice() {
    let own = hedging;
    let of_tool = |tool: &str, hedge| {
        let tool = ToolOverrides {
            tool: tool.into(),
            deadlines: DeadlineOverrides::default(),
            breaker: BreakerOverrides::default(),
            price: 0,
            hedge,
        };
        RouteOverrides { tools: [tool].into(), ..hedging() }
    };
    let limited = RouteOverrides {
        concurrency: ConcurrencyOverrides { mode: Some(GuardMode::Enforce), max: Some(2) },
        ..hedging()
    };
    let patient = RouteOverrides {
        deadlines: DeadlineOverrides { mode: Some(GuardMode::Off), ..DeadlineOverrides::default() },
        ..hedging()
    };
    let not_first = |bed: &mut Bed| bed.pass(MS);
    let cases = [
        Never { name: "off", own: RouteOverrides::default(), change: not_first, call: one_call },
        Never { name: "off for the tool", own: of_tool("look", Some(false)), change: not_first, call: one_call },
        Never { name: "nothing is learned", own: patient, change: not_first, call: one_call },
        Never {
            name: "only idempotent",
            own: own(),
            change: not_first,
            call: |bed| bed.client(|mut client: Client| async move { client.tool(HOST, "set", None, 0).await }),
        },
        Never {
            name: "declares nothing",
            own: own(),
            change: not_first,
            call: |bed| bed.client(|mut client: Client| async move { client.tool(HOST, "pay", None, 0).await }),
        },
        Never {
            name: "an unknown tool",
            own: own(),
            change: not_first,
            call: |bed| bed.client(|mut client: Client| async move { client.tool(HOST, "new", None, 0).await }),
        },
        Never {
            name: "a session",
            own: own(),
            change: not_first,
            call: |bed| {
                bed.client(|mut client: Client| async move {
                    let begun = client.initialize(HOST).await;
                    client.tool(HOST, "look", begun.session.as_deref(), 0).await
                })
            },
        },
        Never {
            name: "a long body",
            own: own(),
            change: not_first,
            call: |bed| bed.client(|mut client: Client| async move { client.tool(HOST, "look", None, 8_192).await }),
        },
        Never { name: "no place", own: limited, change: not_first, call: one_call },
        Never { name: "no other link", own: own(), change: |bed| bed.kill_connector(0), call: one_call },
        Never {
            name: "too little time",
            own: own(),
            change: |bed| {
                // The last calls took longer than the agent waits.
                slow_down(bed, 2 * SECOND);
            },
            call: |bed| bed.client(|mut client: Client| async move { client.tool_within(HOST, "look", 2).await }),
        },
    ];
    for Never { name, own, change, call } in cases {
        let mut bed = bed(1, PLACE, own, 2);
        change(&mut bed);
        bed.pass(SECOND);
        bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::With(200, 10 * SECOND)));
        let (since, before) = (bed.now(), bed.hedges().0);
        let calls = [call(&bed), call(&bed)];
        bed.pass(60 * SECOND);
        let ended = calls.into_iter().filter_map(Running::take).count();
        let seen: usize = seen_since(&bed, since).iter().map(Vec::len).sum();
        assert_eq!((ended, seen, bed.hedges().0 - before), (2, 2, 0), "{name}");
    }
}

/// Lets the edge see that calls take so long now.
fn slow_down(bed: &mut Bed, time: Duration) {
    let answers = bed.servers.each_ref().map(|server| server.tools.answers.replace(Answers::With(200, time)));
    let calls: Vec<_> = (0..30).map(|_| one_call(bed)).collect();
    bed.pass(10 * SECOND);
    assert!(calls.into_iter().all(|call| call.take().is_some_and(|answer| answer.status == 200)));
    bed.servers.iter().zip(answers).for_each(|(server, answers)| server.tools.answers.set(answers));
}

#[test]
fn however_slow_all_are_one_call_in_fifty_is_sent_twice_at_the_most() {
    let mut made = 0;
    for (seed, place) in (0..4).flat_map(|seed| [PLACE, Place { cores: 2, links: 0 }].map(|place| (seed, place))) {
        let mut bed = bed(seed, place, hedging(), 1);
        let mut sent = 50;
        for round in 0..20 {
            // Slower than what is known.
            let time = MS.mul_f64(20.0 * 1.3_f64.powi(round));
            bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::With(200, time)));
            let calls: Vec<_> = (0..20).map(|_| one_call(&bed)).collect();
            sent += calls.len() as u64;
            bed.pass(10 * SECOND);
            assert!(calls.into_iter().all(|call| call.take().is_some_and(|answer| answer.status == 200)));
            let (tried_twice, ..) = bed.hedges();
            assert!(tried_twice * 50 <= sent, "seed {seed}: {tried_twice} of {sent}");
        }
        let seen: usize = bed.servers.iter().map(|server| server.tools.seen().len()).sum();
        let (tried_twice, _, denied) = bed.hedges();
        // The first was the list of the tools.
        assert_eq!(seen as u64, sent - 1 + tried_twice, "seed {seed}");
        assert!(denied > 0, "seed {seed}: more were slow");
        made += tried_twice;
    }
    assert!(made > 8, "{made} were");
}

#[test]
fn an_event_stream_that_begins_at_once_says_nothing_and_its_first_event_does() {
    for (slow, quick) in [
        (Answers::Events(20 * SECOND), Answers::Events(5 * MS)),
        (Answers::Notifies("progress", 20 * SECOND), Answers::Notifies("progress", 5 * MS)),
        (Answers::Events(20 * SECOND), QUICK),
        (SLOW, Answers::Events(5 * MS)),
    ] {
        let mut bed = bed(2, PLACE, hedging(), 2);
        bed.servers[0].tools.answers.set(slow);
        bed.servers[1].tools.answers.set(quick);
        let since = bed.now();
        let calls = [events(&bed), events(&bed)];
        bed.pass(SECOND);
        for call in calls {
            let (text, took) = call.take().expect("it is answered");
            assert!(
                text.contains("X-Server: beta") && text.contains(RESULT) && took < 60 * MS,
                "{slow:?} {took:?}: {text}"
            );
        }
        assert_eq!(bed.hedges(), (1, 1, 0), "{slow:?}");
        let [given_up, _] = seen_since(&bed, since);
        assert!(given_up.len() == 1 && given_up[0].ended.is_some() && !given_up[0].is_answered, "{given_up:?}");
    }
}

#[test]
fn the_losing_server_is_cancelled_when_the_race_is_decided() {
    let mut bed = bed(6, PLACE, hedging(), 1);
    let slow = next_goes_to(&mut bed);
    bed.servers[slow].tools.answers.set(SLOW);
    bed.servers[1 - slow].tools.answers.set(Answers::Notifies("progress", 300 * MS));
    let since = bed.now();
    let call = events(&bed);
    bed.pass(2 * SECOND);
    assert!(call.take().is_some_and(|(text, _)| text.contains(RESULT)));
    let seen = seen_since(&bed, since);
    let [given_up, answered] = [slow, 1 - slow].map(|nth| seen[nth][0].ended.expect("it has ended"));
    assert!(given_up + 300 * MS < answered, "{given_up:?} {answered:?}");
}

#[test]
fn learned_annotations_end_with_a_list_changed_notification() {
    let mut bed = bed(5, PLACE, hedging(), 2);
    bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::Notifies("tools/list_changed", MS)));
    let message = events(&bed);
    bed.pass(SECOND);
    assert!(message.take().is_some_and(|(text, _)| text.contains(RESULT)));
    let mut hedges_of_slow = || {
        let before = bed.hedges().0;
        bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::With(200, SECOND)));
        let slow = call(&bed, "look");
        bed.pass(5 * SECOND);
        assert!(slow.take().is_some_and(|(answer, _)| answer.status == 200));
        bed.servers.iter().for_each(|server| server.tools.answers.set(QUICK));
        let listed = bed.client(|mut client: Client| async move { client.call("POST", HOST, None).await });
        bed.pass(SECOND);
        assert!(listed.take().is_some_and(|answer| answer.status == 200));
        bed.hedges().0 - before
    };
    assert_eq!([hedges_of_slow(), hedges_of_slow()], [0, 1], "until they are listed again");
}

/// Where both are slow to say anything, the stream that began first is passed on after a while, and ends as it would have.
#[test]
fn an_event_stream_is_not_held_back_for_long() {
    let mut bed = bed(3, PLACE, hedging(), 1);
    bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::Events(SECOND)));
    let calls = [events(&bed), events(&bed)];
    bed.pass(SECOND / 10);
    for call in &calls {
        assert!(!call.has_ended());
    }
    bed.pass(2 * SECOND);
    for call in calls {
        let (text, took) = call.take().expect("it is answered");
        assert!(text.contains(RESULT) && took < SECOND + 30 * MS, "{took:?}: {text}");
    }
    assert_eq!(bed.hedges(), (1, 0, 1));
}

/// One call whose answer may be an event stream: all of it, and how long it took.
fn events(bed: &Bed) -> Running<(String, Duration)> {
    bed.client(|mut client: Client| async move {
        let began = client.now();
        (client.tool_text(HOST, "look").await, client.now() - began)
    })
}

/// Answers of a server that cannot do what it is asked, as JSON-RPC has them: with success of HTTP.
const ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"the index is being built"}}"#;
const TOOL_ERROR: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#;

/// The first try is answered well, and later.
#[test]
fn an_error_of_the_second_try_that_comes_with_status_200_does_not_win() {
    let later = 100 * MS;
    let failing = [
        Answers::Returns(ERROR, MS),
        Answers::Returns(TOOL_ERROR, MS),
        Answers::Returns("", MS),
        Answers::Returns("<html>", MS),
        Answers::Tells(ERROR, MS),
        Answers::Tells(TOOL_ERROR, MS),
        Answers::Tells("", MS),
    ];
    for second in failing {
        // Where the first fails, any answer is better.
        for (first, expected) in [(Answers::With(200, later), RESULT), (Answers::Closes(later), "")] {
            let mut bed = bed(4, PLACE, hedging(), 1);
            let slow = next_goes_to(&mut bed);
            bed.servers[slow].tools.answers.set(first);
            bed.servers[1 - slow].tools.answers.set(second);
            let asked = call(&bed, "look");
            bed.pass(SECOND);
            let (answer, _) = asked.take().expect("it is answered");
            let case = format!("{first:?} {second:?}: {answer:?}");
            let server = if expected.is_empty() { SERVERS[1 - slow] } else { SERVERS[slow] };
            assert_eq!((&*answer.server, bed.hedges()), (server, (1, u64::from(expected.is_empty()), 0)), "{case}");
            assert!(answer.body.contains(expected), "{case}");
            assert_eq!(bed.streams_open(), 0, "{case}");
        }
    }
}

#[test]
fn a_second_try_that_was_not_sent_whole_is_counted_too() {
    let mut bed = Bed::start_windowed(8, PLACE, &[HOST]);
    bed.reload(hedging());
    teach(&mut bed, 50);
    let slow = next_goes_to(&mut bed);
    bed.servers[slow].tools.answers.set(Answers::With(200, 200 * MS));
    let since = bed.now();
    bed.usage();
    let asked = bed.client(|mut client: Client| async move { client.tool(HOST, "look", None, 6_000).await });
    bed.pass(6 * MS);
    bed.cut_off(1 - slow);
    bed.pass(SECOND);
    assert_eq!(asked.take().expect("it is answered").server, SERVERS[slow]);
    let seen = seen_since(&bed, since).map(|seen| seen.len());
    assert_eq!((seen[slow], seen[1 - slow]), (1, 0), "the second waits for the connector to read");
    assert_eq!((bed.hedges(), bed.usage()), ((1, 0, 0), 2));
    assert_eq!(bed.streams_open(), 0);
}

/// How both servers answer, and what the agent of a call that was tried twice is answered.
#[test]
fn a_second_try_never_makes_an_answer_worse() {
    let (later, much_later) = (100 * MS, 300 * MS);
    for (first, second, status, won) in [
        // Of the second try only a success is taken while the first may still answer.
        (Answers::With(200, much_later), Answers::With(503, MS), 200, false),
        (Answers::With(200, much_later), Answers::With(404, MS), 200, false),
        (Answers::With(200, much_later), Answers::Closes(MS), 200, false),
        (Answers::With(500, later), Answers::With(200, much_later), 500, false),
        (Answers::With(404, later), Answers::With(503, MS), 404, false),
        // Where the first fails, any answer is better.
        (Answers::Closes(later), Answers::With(200, much_later), 200, true),
        (Answers::Closes(later), Answers::With(503, MS), 503, true),
        (Answers::Closes(later), Answers::Closes(much_later), 502, false),
        (Answers::Closes(much_later), Answers::Closes(later), 502, false),
        (Answers::Closes(later), Answers::Closes(later), 502, false),
    ] {
        let mut bed = bed(4, PLACE, hedging(), 1);
        // Only one call is tried twice: that whose first try the next server gets.
        let answers = if next_goes_to(&mut bed) == 0 { [first, second] } else { [second, first] };
        bed.servers.iter().zip(answers).for_each(|(server, answers)| server.tools.answers.set(answers));
        let since = bed.now();
        let one = call(&bed, "look");
        bed.pass(5 * SECOND);
        let (answer, _) = one.take().expect("it is answered");
        let seen = seen_since(&bed, since).map(|seen| seen.len());
        let case = format!("{first:?} {second:?}");
        assert_eq!((answer.status, seen, bed.hedges()), (status, [1, 1], (1, u64::from(won), 0)), "{case}");
        assert_eq!(answer.body.contains("may_have_acted\":true"), status == 502, "{case}: {}", answer.body);
        assert_eq!(bed.streams_open(), 0, "{case}");
    }
}

/// The server that the next call goes to.
fn next_goes_to(bed: &mut Bed) -> usize {
    let asked = one_call(bed);
    bed.pass(SECOND);
    let last = asked.take().expect("it is answered").server;
    usize::from(last == SERVERS[0])
}

/// What an agent does in a storm, and what it must not see.
fn any_agent(bed: &Bed, rng: &mut Rng) -> Running<Result<(), String>> {
    let (pause, kind, leaves) = (MS * rng.below(30) as u32, rng.below(4), MS * rng.below(80) as u32);
    let tool = ["look", "look", "look", "set"][rng.below(4) as usize];
    bed.client(move |mut client: Client| async move {
        client.pause(pause).await;
        match kind {
            0 => {
                client.leave(HOST, tool, leaves).await;
                Ok(())
            }
            1 => {
                let text = client.tool_text(HOST, tool).await;
                // A connection that is reset because its stream was cut may take the head with it.
                let (heads, results) = (text.matches("HTTP/1.1 ").count(), text.matches(RESULT).count());
                if heads <= 1 && results <= heads {
                    Ok(())
                } else {
                    Err(format!("{tool}, at {:?}: {heads} heads, {results} results: {text}", client.now()))
                }
            }
            _ => {
                let answer = client.tool_within(HOST, tool, 1 + kind).await;
                let bodies = [RESULT, ERROR, TOOL_ERROR, ""];
                let is_whole = answer.server.is_empty() || bodies.contains(&&*answer.body);
                if answer.status > 0 && is_whole {
                    Ok(())
                } else {
                    Err(format!("{tool}, at {:?}: {answer:?}", client.now()))
                }
            }
        }
    })
}

fn any_answers(rng: &mut Rng) -> Answers {
    let time = MS * rng.below(120) as u32;
    match rng.below(10) {
        8 => Answers::Returns([ERROR, TOOL_ERROR, ""][rng.below(3) as usize], time),
        9 => Answers::Tells([ERROR, TOOL_ERROR, ""][rng.below(3) as usize], time),
        0..3 => Answers::With(200, time),
        3 => Answers::With([503, 404, 500][rng.below(3) as usize], time),
        4 => Answers::Events(time),
        5 => Answers::Notifies("progress", time),
        6 => Answers::Closes(time),
        _ => Answers::With(200, 5 * SECOND),
    }
}

/// A network that is as slow and as ragged as it likes, and delivers all.
fn unsteady(rng: &mut Rng) -> Faults {
    let drawn = Faults::draw(rng);
    Faults {
        delay_ns_max: drawn.delay_ns_max.min(10_000_000),
        jitter_ns_max: drawn.jitter_ns_max.min(10_000_000),
        segment_bytes_max: drawn.segment_bytes_max,
        send_buffer_bytes: drawn.send_buffer_bytes,
        receive_buffer_bytes: drawn.receive_buffer_bytes,
        short_read_chance: drawn.short_read_chance,
        short_write_chance: drawn.short_write_chance,
        shuffle: drawn.shuffle,
        ..Faults::none()
    }
}

/// Servers of all tempers, agents that leave, connectors that are killed or fall silent, limits that pass while both tries run.
fn storm(seed: u64) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let ceiling = rng.chance(0.5).then(|| 100 * MS + MS * rng.below(400) as u32);
    let deadlines = DeadlineOverrides { ceiling, ..DeadlineOverrides::default() };
    let place = Place { cores: 1, links: 1 + rng.below(2) as u16 };
    let link = match rng.below(3) {
        0 => mux::Settings { stream_window: 2_000, ..mux::Settings::default() },
        _ => mux::Settings::default(),
    };
    let mut bed = Bed::start_in(seed, place, &[HOST], (unsteady(&mut rng), link));
    bed.reload(RouteOverrides { deadlines, ..hedging() });
    teach(&mut bed, 250);
    let (mut calls, mut agents, mut is_up) = (250, Vec::new(), [true; 2]);
    for _ in 0..60 {
        bed.servers.iter().for_each(|server| server.tools.answers.set(any_answers(&mut rng)));
        let new: Vec<_> = (0..1 + rng.below(6)).map(|_| any_agent(&bed, &mut rng)).collect();
        calls += new.len() as u64;
        agents.extend(new);
        bed.pass(MS * rng.below(150) as u32);
        let nth = rng.below(2) as usize;
        match rng.below(20) {
            0 if is_up == [true; 2] => {
                bed.kill_connector(nth);
                is_up[nth] = false;
            }
            1 if is_up == [true; 2] => {
                bed.cut_off(nth);
                bed.pass(SECOND);
                bed.let_back(nth);
            }
            2 if is_up == [true; 2] => {
                bed.drain_connector(nth);
                is_up[nth] = false;
            }
            3..7 if !is_up[nth] => {
                bed.start_connector(nth);
                is_up[nth] = true;
                bed.pass(SECOND);
            }
            _ => {}
        }
        let (made, ..) = bed.hedges();
        assert!(made * 50 <= calls, "seed {seed}: {made} of {calls}");
    }
    bed.pass(60 * SECOND);
    for agent in agents {
        let seen = agent.take().unwrap_or_else(|| panic!("seed {seed}: an agent still waits"));
        assert_eq!(seen, Ok(()), "seed {seed}");
    }
    let (made, won, _) = bed.hedges();
    assert_eq!(bed.streams_open(), 0, "seed {seed}");
    assert_eq!(bed.leased_bytes(), 0, "seed {seed}");
    (made, won)
}

#[test]
fn in_storms_with_second_tries_each_agent_gets_one_answer_and_nothing_is_left() {
    if let Some(seeds) = crate::tunnel::seeds_asked_for() {
        return seeds.into_iter().for_each(|seed| println!("seed {seed}: {:?} tried twice, won", storm(seed)));
    }
    let (mut made, mut won) = (0, 0);
    for seed in 0..12 {
        let of_seed = storm(seed);
        (made, won) = (made + of_seed.0, won + of_seed.1);
    }
    assert!(made > 20 && won > 5 && won < made, "{won} of {made}");
}

/// The times of calls to two servers that are slow at times, in milliseconds, and how many calls were sent twice.
fn times_of(own: RouteOverrides, slow_of_thousand: u64) -> (Vec<u64>, u64) {
    let mut bed = bed(7, PLACE, own, 1);
    bed.servers.iter().for_each(|server| server.tools.answers.set(Answers::SlowAtTimes(slow_of_thousand)));
    let agents: Vec<_> = (0..8)
        .map(|_| {
            bed.client(|mut client: Client| async move {
                let mut times = Vec::new();
                for _ in 0..300 {
                    let began = client.now();
                    assert_eq!(client.tool(HOST, "look", None, 0).await.status, 200);
                    times.push((client.now() - began).as_millis() as u64);
                }
                times
            })
        })
        .collect();
    bed.pass(120 * SECOND);
    let mut times: Vec<u64> = agents.into_iter().flat_map(|agent| agent.take().expect("all are answered")).collect();
    times.sort_unstable();
    (times, bed.hedges().0)
}

/// The table of `docs/BENCHMARKS.md`: `cargo test --test sim hedges::where_few -- --nocapture`.
#[test]
fn where_few_calls_are_slow_most_of_them_are_not_any_more() {
    println!("| slow calls | second tries | sent twice | p50 ms | p95 ms | p98 ms | p99 ms | longer than 500 ms |");
    for (slow, fewer) in [(10, 3), (20, 2)] {
        let mut long = [0; 2];
        for (nth, (name, own)) in [("off", RouteOverrides::default()), ("on", hedging())].into_iter().enumerate() {
            let (times, sent_twice) = times_of(own, slow);
            let [p50, p95, p98, p99] = [50, 95, 98, 99].map(|percent| times[times.len() * percent / 100]);
            long[nth] = times.iter().filter(|time| **time > 500).count();
            let share = 100.0 * sent_twice as f64 / times.len() as f64;
            println!(
                "| {} % | {name} | {share:.1} % | {p50} | {p95} | {p98} | {p99} | {} |",
                slow as f64 / 10.0,
                long[nth]
            );
        }
        assert!(long[1] * fewer <= long[0], "{slow} of a thousand: {long:?}");
    }
}
