use std::collections::HashMap;

use super::*;
use crate::base::Rng;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

/// Terms with a fixed limit.
fn terms(limit: u32) -> ConcurrencyTerms {
    ConcurrencyTerms { mode: GuardMode::Enforce, min: limit, max: limit, ..ConcurrencyTerms::default() }
}

fn call(agent: u64) -> AskingCall {
    AskingCall { agent, ends: None, needs: None }
}

fn waits(asked: QueueDecision) -> Ticket {
    match asked {
        QueueDecision::Waits(ticket, _) => ticket,
        other => panic!("{other:?}"),
    }
}

fn refused(asked: QueueDecision) -> Overload {
    match asked {
        QueueDecision::Refused(overload) => overload,
        other => panic!("{other:?}"),
    }
}

fn admit(queue: &mut CallQueue, agent: u64, terms: &ConcurrencyTerms) -> Place {
    queue.admit(agent, terms, Time::ZERO).expect("there is a place")
}

/// Releases `held`, then each place that is given out. Returns the agents in the order in which they were served.
fn served(queue: &mut CallQueue, held: Place, now: Time) -> Vec<u64> {
    let mut agents = Vec::new();
    queue.release(held, Served::default(), now);
    loop {
        let decided: Vec<Ticket> = queue.take_decided().collect();
        let Some(ticket) = decided.first() else { return agents };
        let place = queue.decision(*ticket).expect("it is decided").expect("it is admitted");
        agents.push(place.agent);
        queue.release(place, Served::default(), now);
    }
}

#[test]
fn a_call_beyond_the_limit_waits_and_gets_the_next_place() {
    let (mut queue, terms) = (CallQueue::default(), terms(2));
    let places = [1, 2].map(|agent| admit(&mut queue, agent, &terms));
    assert!(queue.admit(3, &terms, at(0)).is_none());
    let ticket = waits(queue.ask(&call(3), &terms, at(0)));
    assert!(queue.decision(ticket).is_none());
    let [first, second] = places;
    queue.release(first, Served::default(), at(5));
    assert_eq!(queue.take_decided().collect::<Vec<_>>(), [ticket]);
    let place = queue.decision(ticket).expect("it is decided").expect("it has a place");
    assert_eq!((place.began(), queue.in_flight), (at(5), 2));
    queue.release(second, Served::default(), at(6));
    queue.release(place, Served::default(), at(6));
    assert!(queue.is_idle() && queue.agents.is_empty());
}

#[test]
fn a_call_waits_no_longer_than_it_may() {
    let (mut queue, terms) = (CallQueue::default(), terms(1));
    let place = admit(&mut queue, 1, &terms);
    let QueueDecision::Waits(ticket, until) = queue.ask(&call(2), &terms, at(0)) else { panic!("it waits") };
    assert_eq!(until, at(1_000));
    let overload = queue.time_out(ticket, until).unwrap_err();
    assert_eq!((overload.cause, overload.in_flight, overload.limit), (OverloadCause::WaitedTooLong, 1, 1));
    // The place came at the same moment.
    let ticket = waits(queue.ask(&call(2), &terms, at(0)));
    queue.release(place, Served::default(), at(999));
    let place = queue.time_out(ticket, at(1_000)).unwrap();
    queue.release(place, Served::default(), at(1_001));
    assert!(queue.is_idle() && queue.agents.is_empty());
}

#[test]
fn a_call_that_will_not_get_a_place_in_its_time_is_refused_at_once() {
    let (mut queue, terms) = (CallQueue::default(), terms(2));
    for _ in 0..2 {
        let place = admit(&mut queue, 1, &terms);
        queue.release(place, Served { took: Some(SECOND), slowdown: None }, at(0));
    }
    let _places = [1, 2].map(|agent| admit(&mut queue, agent, &terms));
    // The next place is free in half a second, and the call takes 100 ms.
    let asks = |ms| AskingCall { agent: 3, ends: Some(at(ms)), needs: Some(100 * MS) };
    assert_eq!(refused(queue.ask(&asks(550), &terms, at(0))).cause, OverloadCause::TooLate);
    assert_eq!(refused(queue.ask(&asks(0), &terms, at(10))).cause, OverloadCause::TooLate, "its time is over");
    let QueueDecision::Waits(_, until) = queue.ask(&asks(700), &terms, at(0)) else { panic!("it waits") };
    assert_eq!(until, at(600), "then it has to begin");
    let unknown = AskingCall { needs: None, ..asks(1_400) };
    assert_eq!(refused(queue.ask(&unknown, &terms, at(0))).cause, OverloadCause::TooLate, "calls take a second");
    // It is the second that waits, and as long as it may.
    let QueueDecision::Waits(..) = queue.ask(&call(4), &terms, at(0)) else { panic!("it waits") };
    let overload = refused(queue.ask(&call(4), &terms, at(0)));
    assert_eq!((overload.cause, overload.retry_after), (OverloadCause::TooLate, 2 * SECOND));
}

#[test]
fn of_the_calls_of_an_agent_the_one_whose_time_ends_first_is_next() {
    let (mut queue, terms) = (CallQueue::default(), terms(1));
    let place = admit(&mut queue, 1, &terms);
    let asks = |ms| AskingCall { agent: 2, ends: Some(at(ms)), needs: None };
    let tickets = [900, 300, 600].map(|ms| waits(queue.ask(&asks(ms), &terms, at(0))));
    let mut order = Vec::new();
    queue.release(place, Served::default(), at(1));
    loop {
        let decided = queue.take_decided().next();
        let Some(ticket) = decided else { break };
        order.push(tickets.iter().position(|one| *one == ticket).unwrap());
        let place = queue.decision(ticket).unwrap().unwrap();
        queue.release(place, Served::default(), at(2));
    }
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn agents_take_turns_however_many_calls_one_of_them_has() {
    let (mut queue, terms) = (CallQueue::default(), terms(1));
    let place = admit(&mut queue, 1, &terms);
    for _ in 0..20 {
        waits(queue.ask(&call(1), &terms, at(0)));
    }
    for agent in [2, 3, 2, 3] {
        waits(queue.ask(&call(agent), &terms, at(1)));
    }
    assert_eq!(served(&mut queue, place, at(2))[..6], [2, 3, 1, 2, 3, 1]);
    assert!(queue.is_idle() && queue.agents.is_empty());
}

#[test]
fn under_pressure_the_newest_call_of_the_largest_agent_is_refused() {
    let (mut queue, terms) = (CallQueue::default(), ConcurrencyTerms { queue_max: 4, ..terms(1) });
    let _place = admit(&mut queue, 1, &terms);
    let tickets: Vec<Ticket> = (0..4).map(|_| waits(queue.ask(&call(1), &terms, at(0)))).collect();
    assert_eq!(refused(queue.ask(&call(1), &terms, at(0))).cause, OverloadCause::QueueFull);
    let other = waits(queue.ask(&call(2), &terms, at(0)));
    assert_eq!(queue.take_decided().collect::<Vec<_>>(), [tickets[3]]);
    assert_eq!(queue.decision(tickets[3]).unwrap().unwrap_err().cause, OverloadCause::QueueFull);
    waits(queue.ask(&call(2), &terms, at(0)));
    assert_eq!(queue.take_decided().collect::<Vec<_>>(), [tickets[2]]);
    // Both have two.
    assert_eq!(refused(queue.ask(&call(2), &terms, at(0))).cause, OverloadCause::QueueFull);
    assert_eq!(
        refused(queue.ask(&call(3), &ConcurrencyTerms { queue_max: 0, ..terms }, at(0))).cause,
        OverloadCause::QueueFull
    );
    assert!(queue.decision(other).is_none());
}

#[test]
fn an_agent_takes_no_more_than_its_share_while_others_have_calls() {
    let (mut queue, terms) = (CallQueue::default(), terms(10));
    let mut places: Vec<Place> = (0..8).map(|_| admit(&mut queue, 1, &terms)).collect();
    let of_other = admit(&mut queue, 2, &terms);
    let ticket = waits(queue.ask(&call(1), &terms, at(0)));
    // It keeps what it has, and there is a place for all others.
    let overload = queue.time_out(ticket, at(1_000)).unwrap_err();
    assert!(overload.is_of_agent, "{overload:?}");
    for _ in 0..4 {
        queue.release(places.pop().unwrap(), Served::default(), at(1_000));
    }
    places.push(admit(&mut queue, 1, &terms));
    assert!(queue.admit(1, &terms, at(1_000)).is_none(), "five of ten");
    let ticket = waits(queue.ask(&call(1), &terms, at(1_000)));
    // The other one is gone.
    queue.release(of_other, Served::default(), at(1_001));
    places.push(queue.decision(ticket).unwrap().unwrap());
    for _ in 0..4 {
        places.push(admit(&mut queue, 1, &terms));
    }
    assert_eq!((places.len(), queue.reading().unwrap().counts.refused_for_share), (10, 1));
}

#[test]
fn where_it_is_not_enforced_each_call_gets_a_place_and_is_counted() {
    let enforced = terms(2);
    let observed = ConcurrencyTerms { mode: GuardMode::Observe, ..enforced };
    let mut queue = CallQueue::default();
    let mut places: Vec<Place> = (0..5).map(|_| admit(&mut queue, 1, &observed)).collect();
    assert_eq!(queue.reading().unwrap().counts.would_refuse, 3);
    // It is enforced from now on, and then no more.
    let ticket = waits(queue.ask(&call(1), &enforced, at(0)));
    places.push(admit(&mut queue, 1, &observed));
    places.push(queue.decision(ticket).unwrap().unwrap());
    places.into_iter().for_each(|place| queue.release(place, Served::default(), at(1)));
    assert!(queue.is_idle() && queue.agents.is_empty());
}

/// Compared with a model that keeps all calls, in any sequence of events: no call gets a place beyond the limit or its
/// agent's share, no place stays free while a call waits for it, each call ends exactly once, and nothing is left at
/// the end.
#[test]
fn under_any_sequence_places_are_given_out_once_and_come_back() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let limit = rng.between(1, 8) as u32;
        let share = [25, 50, 100][rng.below(3) as usize];
        let queue_max = rng.below(6) as u32;
        let terms = ConcurrencyTerms { queue_max, agent_share_percent: share, ..terms(limit) };
        let (mut queue, mut now) = (CallQueue::default(), Time::ZERO);
        let mut held: Vec<Place> = Vec::new();
        let mut waiting: HashMap<Ticket, (u64, Time)> = HashMap::new();
        let (mut asked, mut ended, mut turned_away) = (0_u64, 0_u64, 0_u64);
        for step in 0..1_500 {
            now += Duration::from_millis(rng.below(20));
            let is_last = step >= 1_300;
            match rng.below(10) {
                0..=4 if !is_last => {
                    asked += 1;
                    let ends = rng.chance(0.3).then(|| now + Duration::from_millis(rng.below(500)));
                    let agent = rng.below(4);
                    match queue.ask(&AskingCall { agent, ends, needs: Some(10 * MS) }, &terms, now) {
                        QueueDecision::Admitted(place) => held.push(place),
                        QueueDecision::Waits(ticket, until) => {
                            assert!(until >= now && until <= now + terms.queue_time, "seed {seed}");
                            assert!(waiting.insert(ticket, (agent, until)).is_none(), "seed {seed}");
                        }
                        QueueDecision::Refused(_) => turned_away += 1,
                    }
                }
                5 if !waiting.is_empty() => {
                    // A caller leaves, decided or not.
                    let ticket = *waiting.keys().min_by_key(|ticket| ticket.0).unwrap();
                    waiting.remove(&ticket);
                    queue.abandon(ticket, now);
                    turned_away += 1;
                }
                _ if !held.is_empty() => {
                    let place = held.swap_remove(rng.below(held.len() as u64) as usize);
                    let took = Some(now - place.began());
                    queue.release(place, Served { took, slowdown: Some(rng.unit()) }, now);
                    ended += 1;
                }
                _ => {}
            }
            // The tasks of waiting calls run in any order, and some of them later.
            let tickets: Vec<Ticket> = waiting.keys().copied().filter(|_| rng.chance(0.8)).collect();
            for ticket in tickets {
                let (_, until) = waiting[&ticket];
                let decided = match queue.decision(ticket) {
                    None if until <= now => Some(queue.time_out(ticket, now)),
                    decided => decided,
                };
                match decided {
                    Some(Ok(place)) => held.push(place),
                    Some(Err(_)) => turned_away += 1,
                    None => continue,
                }
                waiting.remove(&ticket);
            }
            queue.take_decided().for_each(drop);
            let admitted = queue.waiting.iter().filter(|one| matches!(one.decision, Some(Ok(_)))).count();
            assert_eq!(queue.in_flight as usize, held.len() + admitted, "seed {seed}");
            assert!(queue.in_flight <= limit, "seed {seed}: {} of {limit}", queue.in_flight);
            assert!(queue.undecided() <= queue_max, "seed {seed}");
            if queue.in_flight < limit {
                let may = |one: &&Waiting| {
                    one.decision.is_none() && one.until >= now && !queue.is_over_share(one.agent, &terms)
                };
                assert_eq!(queue.waiting.iter().filter(may).count(), 0, "seed {seed}: a place is free");
            }
            for (agent, of) in &queue.agents {
                assert!(of.in_flight + of.waiting > 0, "seed {seed}: agent {agent} is kept for nothing");
            }
        }
        for (ticket, _) in waiting.drain() {
            queue.abandon(ticket, now);
            turned_away += 1;
        }
        for place in held.drain(..) {
            queue.release(place, Served::default(), now);
            ended += 1;
        }
        assert!(queue.is_idle() && queue.agents.is_empty(), "seed {seed}");
        assert_eq!(asked, ended + turned_away, "seed {seed}");
        let counts = queue.reading().unwrap().counts;
        assert!(counts.admitted >= ended && counts.admitted + counts.refused <= asked, "seed {seed}: {counts:?}");
    }
}

/// One agent always has a hundred calls, others one now and then. None of those is refused, and none waits longer than
/// until as many places were given out as there are agents.
#[test]
fn a_greedy_agent_takes_nothing_from_the_others() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let terms = ConcurrencyTerms { queue_max: 8, ..terms(rng.between(2, 10) as u32) };
        let (mut queue, mut held, mut now) = (CallQueue::default(), Vec::<Place>::new(), Time::ZERO);
        let mut polite: HashMap<Ticket, u32> = HashMap::new();
        for _ in 0..2_000 {
            now += MS;
            for _ in 0..10 {
                match queue.ask(&call(0), &terms, now) {
                    QueueDecision::Admitted(place) => held.push(place),
                    QueueDecision::Waits(..) | QueueDecision::Refused(_) => {}
                }
            }
            let agent = rng.between(1, 3);
            if rng.chance(0.2) && polite.is_empty() && held.iter().all(|place| place.agent != agent) {
                match queue.ask(&call(agent), &terms, now) {
                    QueueDecision::Admitted(place) => held.push(place),
                    QueueDecision::Waits(ticket, _) => drop(polite.insert(ticket, 0)),
                    QueueDecision::Refused(overload) => panic!("seed {seed}: {overload:?}"),
                }
            }
            if !held.is_empty() && rng.chance(0.5) {
                let place = held.swap_remove(rng.below(held.len() as u64) as usize);
                queue.release(place, Served::default(), now);
                polite.values_mut().for_each(|places| *places += 1);
            }
            let decided: Vec<Ticket> = queue.take_decided().collect();
            for ticket in decided {
                match queue.decision(ticket) {
                    Some(Ok(place)) => held.push(place),
                    _ => assert!(!polite.contains_key(&ticket), "seed {seed}: refused"),
                }
                polite.remove(&ticket);
            }
            assert!(polite.values().all(|places| *places <= 4), "seed {seed}: {polite:?}");
            // Those of the greedy one time out.
            let old: Vec<Ticket> = queue.waiting.iter().filter(|one| one.until < now).map(|one| one.ticket).collect();
            for ticket in old {
                if let Ok(place) = queue.time_out(ticket, now) {
                    held.push(place);
                }
            }
        }
        queue.take_decided().for_each(drop);
    }
}
