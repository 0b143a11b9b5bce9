//! Several connectors behind one edge, each in front of an MCP server that keeps sessions of its own, on virtual time: which
//! connector a call goes to, and what becomes of it when a connector freezes, dies or comes back.

pub(crate) mod bed;
pub(crate) mod client;
mod server;

use std::time::Duration;

use adit::base::Traffic;
use bed::{Bed, Place, Running, SERVERS};
use client::{Answer, Client};

const SECOND: Duration = Duration::from_secs(1);
/// How long a call waits for a connector that is away.
const OFFLINE_WAIT: Duration = Duration::from_secs(2);
/// After which a link is given up on which nothing came.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A host for each of two tunnels.
const HOSTS: [&str; 2] = ["one.test", "two.test"];

/// The layouts that matter: one core, and two with a link of each connector on both or on one of them.
const LAYOUTS: [Place; 3] = [Place { cores: 1, links: 1 }, Place { cores: 2, links: 0 }, Place { cores: 2, links: 1 }];

#[test]
fn a_kept_connection_is_served_whichever_core_has_the_link_of_its_next_request() {
    let mut crossed = 0;
    for seed in 0..8 {
        // A tunnel for each connector.
        let mut bed = Bed::start(seed, Place { cores: 2, links: 1 }, &HOSTS);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                bed.client(|mut client: Client| async move {
                    let begun = [client.initialize(HOSTS[0]).await, client.initialize(HOSTS[1]).await];
                    let session = |nth: usize| begun[nth].session.as_deref();
                    let mut answers = begun.to_vec();
                    for nth in 0..20 {
                        answers.push(client.call("POST", HOSTS[nth % 2], session(nth % 2)).await);
                    }
                    for (nth, host) in HOSTS.into_iter().enumerate() {
                        answers.push(client.call("DELETE", host, session(nth)).await);
                    }
                    answers
                })
            })
            .collect();
        bed.pass(10 * SECOND);
        for client in clients {
            let answers = client.take().expect("the client has ended");
            for (nth, answer) in answers.iter().enumerate() {
                assert_eq!((answer.status, &*answer.server), (200, SERVERS[nth % 2]), "seed {seed}, request {nth}");
            }
            assert!(answers.iter().all(|answer| answer.connection == 0), "seed {seed}: the connection was kept");
        }
        assert_eq!(bed.servers.each_ref().map(|server| (server.begun(), server.sessions())), [(4, 0); 2]);
        crossed += u64::from(bed.handed_over() > 20);
    }
    assert!(crossed > 0, "in some layout the two links are on different cores");
}

#[test]
fn each_request_of_a_connection_that_has_moved_has_a_time_of_its_own() {
    let mut crossed = 0;
    for seed in 0..8 {
        let mut bed = Bed::start(seed, Place { cores: 2, links: 1 }, &HOSTS);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                bed.client(|mut client: Client| async move {
                    let first = client.call("POST", HOSTS[0], None).await;
                    client.pause(40 * SECOND).await;
                    [first, client.call_within(HOSTS[0], 30).await]
                })
            })
            .collect();
        bed.pass(45 * SECOND);
        for client in clients {
            let answers = client.take().expect("the client has ended");
            for (nth, answer) in answers.iter().enumerate() {
                assert_eq!((answer.status, answer.connection), (200, 0), "seed {seed}, request {nth}: {answer:?}");
            }
        }
        crossed += bed.handed_over();
    }
    assert!(crossed > 0, "some connections have moved");
}

#[test]
fn a_connection_goes_to_another_core_with_more_than_one_buffer_of_its_request() {
    for seed in 0..8 {
        let mut bed = Bed::start(seed, Place { cores: 2, links: 1 }, &HOSTS);
        let uploads = HOSTS.map(|host| {
            bed.client(move |mut client: Client| async move {
                // The head and what comes with its end are more than a buffer holds.
                client.upload(host, 300_000).await
            })
        });
        bed.pass(10 * SECOND);
        for upload in uploads {
            let answer = upload.take().expect("the upload has ended");
            assert_eq!(answer.status, 200, "seed {seed}: {}", answer.body);
        }
    }
}

/// A whole session: its answers, from the first to that of DELETE.
async fn session(mut client: Client) -> Vec<Answer> {
    let begun = client.initialize(HOSTS[0]).await;
    let id = begun.session.clone();
    let mut answers = vec![begun];
    for method in ["POST", "GET", "POST", "POST", "GET", "POST", "POST", "DELETE"] {
        // Each on a connection of its own at times, which lands on any core.
        if method == "GET" {
            client.reconnect();
        }
        answers.push(client.call(method, HOSTS[0], id.as_deref()).await);
    }
    answers
}

#[test]
fn sessions_stay_with_the_connector_whose_server_began_them() {
    for (seed, place) in (0..6).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let mut bed = Bed::start(seed, place, &HOSTS[..1]);
        let clients: Vec<_> = (0..8).map(|_| bed.client(session)).collect();
        bed.pass(20 * SECOND);
        for client in clients {
            let answers = client.take().expect("the client has ended");
            let server = &answers[0].server;
            for (nth, answer) in answers.iter().enumerate() {
                assert_eq!((answer.status, &answer.server), (200, server), "seed {seed}, {place:?}, request {nth}");
            }
        }
        let servers = bed.servers.each_ref().map(|server| (server.begun(), server.sessions()));
        assert_eq!(servers[0].0 + servers[1].0, 8);
        assert_eq!([servers[0].1, servers[1].1], [0; 2], "all have ended");
        // Where each core has a link of only one connector, agents may all land on the same core.
        assert!(place.links == 1 && place.cores == 2 || servers.iter().all(|(begun, _)| *begun > 1), "{servers:?}");
    }
}

#[test]
fn calls_without_a_session_take_turns() {
    let mut bed = Bed::start(1, Place { cores: 1, links: 1 }, &HOSTS[..1]);
    let client = bed.client(|mut client: Client| async move {
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(client.call("POST", HOSTS[0], None).await);
        }
        answers
    });
    bed.pass(10 * SECOND);
    let answers = client.take().expect("the client has ended");
    assert_eq!(SERVERS.map(|server| answers.iter().filter(|answer| answer.server == server).count()), [50; 2]);
}

#[test]
fn a_call_that_one_connector_cannot_pass_on_goes_to_the_other() {
    for (seed, place) in (0..3).flat_map(|seed| LAYOUTS[..2].iter().map(move |place| (seed, *place))) {
        let mut bed = Bed::start(seed, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.kill_server(owner);
        let client = bed.client(|mut client: Client| async move {
            let mut answers = Vec::new();
            for _ in 0..10 {
                answers.push(client.call("POST", HOSTS[0], None).await);
            }
            answers
        });
        bed.pass(60 * SECOND);
        for answer in client.take().expect("the client has ended") {
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1 - owner]), "seed {seed}, {place:?}");
        }
        assert!(bed.calls_moved() > 0, "seed {seed}, {place:?}");

        let moved = bed.calls_moved();
        let bound = call(&bed, &session);
        bed.pass(60 * SECOND);
        let answer = bound.take().expect("it was answered");
        assert_eq!((answer.status, &*answer.server), (503, ""), "only its own server knows a session");
        assert_eq!(bed.calls_moved(), moved);
    }
}

#[test]
fn a_call_that_no_connector_can_pass_on_is_opened_again_only_so_often() {
    const CALLS: u64 = 60;
    for (seed, place) in (0..3).flat_map(|seed| LAYOUTS[..2].iter().map(move |place| (seed, *place))) {
        let mut bed = Bed::start(seed, place, &HOSTS[..1]);
        bed.kill_server(0);
        bed.kill_server(1);
        let client = bed.client(|mut client: Client| async move {
            let mut answers = Vec::new();
            for _ in 0..CALLS {
                answers.push(client.call("POST", HOSTS[0], None).await);
            }
            answers
        });
        bed.pass(120 * SECOND);
        for answer in client.take().expect("the client has ended") {
            assert_eq!((answer.status, &*answer.server), (503, ""), "seed {seed}, {place:?}");
        }
        // Each goes to the other connector once. Further times come out of the budget of its core.
        assert_eq!(bed.calls_moved(), CALLS, "seed {seed}, {place:?}");
        let again = bed.calls_moved_again();
        let budget = 10 * u64::from(place.cores) + CALLS * 2 / 10;
        assert!((1..=budget).contains(&again), "seed {seed}, {place:?}: {again}");
    }
}

/// The time that an answer may take has not begun while a call waits for a link.
#[test]
fn a_call_that_has_waited_longer_than_its_answer_may_take_goes_to_the_other_connector_as_well() {
    for seed in 0..6 {
        let mut bed = Bed::start(seed, Place { cores: 1, links: 1 }, &HOSTS[..1]);
        bed.limit_first_byte(Duration::from_millis(300));
        bed.kill_server(0);
        [0, 1].into_iter().for_each(|nth| bed.kill_connector(nth));
        bed.pass(Duration::from_millis(100));
        let calls: Vec<_> = (0..8)
            .map(|_| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await }))
            .collect();
        bed.pass(Duration::from_millis(500));
        [0, 1].into_iter().for_each(|nth| bed.start_connector(nth));
        bed.pass(Duration::from_secs(10));
        for call in calls {
            let answer = call.take().expect("it was answered");
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1]), "seed {seed}");
        }
        assert!(bed.calls_moved() > 0, "seed {seed}: none went to the first connector");
    }
}

/// Begins a session, and returns it with the number of the connector that has it.
fn begin(bed: &mut Bed) -> (String, usize) {
    let began = bed.client(|mut client: Client| async move { client.initialize(HOSTS[0]).await });
    bed.pass(SECOND);
    let answer = began.take().expect("the client has ended");
    let owner = SERVERS.iter().position(|server| answer.server == **server).expect("a server answered");
    (answer.session.expect("it began a session"), owner)
}

/// One call of a session on a connection of its own.
fn call(bed: &Bed, session: &str) -> Running<Answer> {
    let session = session.to_owned();
    bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], Some(&session)).await })
}

/// The kinds of traffic that the edge can read, in each layout.
fn readable() -> impl Iterator<Item = (Traffic, Place)> {
    [Traffic::Plain, Traffic::Resealed].into_iter().flat_map(|traffic| LAYOUTS.map(|place| (traffic, place)))
}

#[test]
fn a_session_of_a_drained_connector_is_answered_by_the_other_at_once() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 2, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.drain_connector(owner);
        bed.pass(SECOND / 10);
        let answered = call(&bed, &session);
        bed.pass(SECOND / 10);
        let answer = answered.take().expect("it does not wait");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1 - owner]), "{traffic}, {place:?}");
    }
}

#[test]
fn the_session_of_a_connector_that_was_killed_is_answered_by_the_other_within_about_a_second() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 3, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.kill_connector(owner);
        let waits = call(&bed, &session);
        bed.pass(SECOND / 2);
        assert!(!waits.has_ended(), "{traffic}, {place:?}: the connector may only have lost its connections");
        bed.pass(SECOND * 6 / 10);
        let answer = waits.take().expect("it has ended");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1 - owner]), "{traffic}, {place:?}");
    }
}

#[test]
fn a_connector_that_was_killed_and_is_back_in_time_with_its_number_has_its_sessions() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 6, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.kill_connector(owner);
        let waits = call(&bed, &session);
        bed.pass(SECOND / 2);
        bed.start_connector(owner);
        bed.pass(SECOND);
        let answer = waits.take().expect("it has ended");
        assert_eq!((answer.status, &*answer.server), (200, SERVERS[owner]), "{traffic}, {place:?}");
    }
}

#[test]
fn the_session_of_a_connector_that_was_lost_waits_for_it_and_is_then_answered_by_the_other() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 3, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.cut_off(owner);
        let links = if place.links == 0 { u64::from(place.cores) } else { 1 };
        while bed.links_ended() < links {
            bed.pass(SECOND / 10);
        }
        let waits = call(&bed, &session);
        bed.pass(SECOND * 3 / 2);
        assert!(!waits.has_ended(), "{traffic}, {place:?}: the connector was lost a moment ago");
        // It is given up when it has been away for as long as a call waits.
        bed.pass(OFFLINE_WAIT - SECOND);
        let answer = waits.take().expect("it has ended");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1 - owner]), "{traffic}, {place:?}");
        let later = call(&bed, &session);
        bed.pass(SECOND / 10);
        assert_eq!(later.take().expect("it does not wait any more").status, 404, "{traffic}, {place:?}");
    }
}

#[test]
fn a_connector_that_was_cut_off_has_its_sessions_when_it_is_back() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 4, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.cut_off(owner);
        bed.pass(SILENCE_MAX + OFFLINE_WAIT);
        let away = call(&bed, &session);
        bed.pass(SECOND);
        let answer = away.take().expect("it does not wait for a connector that has been away for long");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1 - owner]), "{traffic}, {place:?}");
        bed.let_back(owner);
        bed.pass(10 * SECOND);
        for _ in 0..4 {
            let back = call(&bed, &session);
            bed.pass(SECOND);
            let answer = back.take().expect("it has ended");
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[owner]), "{traffic}, {place:?}");
        }
    }
}

#[test]
fn a_call_waits_for_the_connector_of_its_session_that_comes_back_in_time() {
    for (traffic, place) in readable() {
        let mut bed = Bed::carrying(traffic, 5, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        bed.cut_off(owner);
        let links = if place.links == 0 { u64::from(place.cores) } else { 1 };
        while bed.links_ended() < links {
            bed.pass(SECOND / 10);
        }
        let answered = call(&bed, &session);
        bed.pass(SECOND / 10);
        assert!(!answered.has_ended(), "{traffic}, {place:?}");
        bed.let_back(owner);
        bed.pass(SECOND);
        let answer = answered.take().expect("it has ended");
        assert_eq!((answer.status, &*answer.server), (200, SERVERS[owner]), "{traffic}, {place:?}");
    }
}

/// The edge cannot read its session, and goes by its address.
#[test]
fn an_agent_whose_tls_ends_in_the_connector_stays_with_one_and_learns_from_the_other_that_its_session_is_gone() {
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Drained,
        Killed,
        CutOff,
    }
    for (fate, place) in
        [Fate::Drained, Fate::Killed, Fate::CutOff].into_iter().flat_map(|fate| LAYOUTS.map(|place| (fate, place)))
    {
        let what = format!("{fate:?}, {place:?}");
        let mut bed = Bed::carrying(Traffic::Passthrough, 7, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        let stays: Vec<_> = (0..4).map(|_| call(&bed, &session)).collect();
        bed.pass(SECOND);
        for call in stays {
            let answer = call.take().expect("it has ended");
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[owner]), "{what}");
        }
        match fate {
            Fate::Drained => bed.drain_connector(owner),
            Fate::Killed => bed.kill_connector(owner),
            Fate::CutOff => {
                bed.cut_off(owner);
                // The first one finds out. It ends with the link.
                let lost = call(&bed, &session);
                bed.pass(SECOND * 3 / 2);
                assert!(!lost.has_ended(), "{what}");
            }
        }
        bed.pass(SECOND / 100);
        let reply = call(&bed, &session);
        bed.pass(SECOND);
        let answer = reply.take().expect("it does not wait");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1 - owner]), "{what}");
        // Once the first one is back, so are its sessions.
        match fate {
            Fate::Drained | Fate::Killed => bed.start_connector(owner),
            Fate::CutOff => bed.let_back(owner),
        }
        bed.pass(SILENCE_MAX);
        let back = call(&bed, &session);
        bed.pass(SECOND);
        let answer = back.take().expect("it has ended");
        assert_eq!((answer.status, &*answer.server), (200, SERVERS[owner]), "{what}");
    }
}

#[test]
fn a_connector_that_stands_still_costs_few_calls_beside_one_that_answers() {
    for (seed, place) in (0..6).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let mut bed = Bed::start(seed, place, &HOSTS[..1]);
        // Idle for long, so that nobody knows yet that it stands still.
        bed.pass(7 * SECOND);
        bed.cut_off(0);
        let one = |bed: &Bed| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await });
        let crowd: Vec<_> = (0..40).map(|_| one(&bed)).collect();
        bed.pass(SECOND * 3 / 2);
        let stuck = crowd.iter().filter(|call| !call.has_ended()).count();
        assert!(stuck <= 2 * usize::from(place.cores), "seed {seed}, {place:?}: {stuck} of 40 are stuck");
        // From here on it is known.
        let later: Vec<_> = (0..40).map(|_| one(&bed)).collect();
        bed.pass(SECOND / 2);
        for call in later {
            let answer = call.take().unwrap_or_else(|| panic!("seed {seed}, {place:?}: stuck with a link that owes"));
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1]), "seed {seed}, {place:?}");
        }
    }
}

#[test]
fn calls_at_a_connector_whose_host_vanishes_end_in_time_and_later_ones_do_not_go_there() {
    for (seed, place) in (0..6).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let mut bed = Bed::start(seed, place, &HOSTS[..1]);
        let one = |bed: &Bed| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await });
        bed.have_patient_systems();
        let crowd: Vec<_> = (0..40).map(|_| one(&bed)).collect();
        // They are with the servers, which take 5 ms.
        bed.pass(SECOND / 125);
        bed.vanish_connector(0);
        bed.pass(SECOND * 2);
        let stuck = crowd.iter().filter(|call| !call.has_ended()).count();
        assert!((1..40).contains(&stuck), "seed {seed}, {place:?}: {stuck} calls were under way there");
        let later: Vec<_> = (0..40).map(|_| one(&bed)).collect();
        bed.pass(SECOND / 2);
        for call in later {
            let answer =
                call.take().unwrap_or_else(|| panic!("seed {seed}, {place:?}: stuck with a host that is gone"));
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1]), "seed {seed}, {place:?}");
        }
        bed.pass(SECOND * 18);
        let lost: Vec<_> = crowd.into_iter().filter_map(Running::take).filter(|answer| answer.status != 200).collect();
        assert_eq!(lost.len(), stuck, "seed {seed}, {place:?}: all have ended");
        assert!(lost.iter().all(|answer| answer.status == 502 && answer.body.contains("link_lost")), "{lost:?}");
    }
}

#[test]
fn calls_that_wait_behind_a_connector_that_stands_still_go_to_another_link() {
    let plain = (0..3).flat_map(|seed| LAYOUTS[..2].iter().map(move |place| (Traffic::Plain, seed, *place)));
    let resealed = (0..2).map(|seed| (Traffic::Resealed, seed, LAYOUTS[0]));
    for (traffic, seed, place) in plain.chain(resealed) {
        let mut bed = Bed::narrow(traffic, seed, place, &HOSTS[..1]);
        let (session, owner) = begin(&mut bed);
        let one = |bed: &Bed| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await });
        // All links were heard a moment ago.
        let _warm: Vec<_> = (0..16).map(|_| one(&bed)).collect();
        bed.pass(SECOND / 10);
        bed.cut_off(0);
        // More than the system takes for the link, whose connector takes nothing.
        let upload = |bed: &Bed| bed.client(|mut client: Client| async move { client.upload(HOSTS[0], 300_000).await });
        let _uploads: Vec<_> = (0..40 * place.cores).map(|_| upload(&bed)).collect();
        bed.pass(SECOND / 5);
        let crowd: Vec<_> = (0..40).map(|_| one(&bed)).collect();
        let bound = call(&bed, &session);
        bed.pass(SECOND / 2);
        assert!(
            crowd.iter().any(|call| !call.has_ended()),
            "{traffic}, seed {seed}, {place:?}: some wait behind the uploads"
        );
        bed.pass(SECOND * 3 / 2);
        for (nth, call) in crowd.into_iter().enumerate() {
            // On two cores one of the links may not have been full: what was sent stays.
            if place.cores > 1 && !call.has_ended() {
                continue;
            }
            let answer =
                call.take().unwrap_or_else(|| panic!("{traffic}, seed {seed}, {place:?}: call {nth} still waits"));
            assert_eq!(
                (answer.status, &*answer.server),
                (200, SERVERS[1]),
                "{traffic}, seed {seed}, {place:?}, call {nth}"
            );
        }
        assert!(bed.calls_moved() > 0, "{traffic}, seed {seed}, {place:?}");
        if place.cores > 1 {
            continue;
        }
        // A call of a session waits for the connector that has it, and then learns that the session is over.
        bed.pass(OFFLINE_WAIT + SECOND);
        let answer =
            bound.take().unwrap_or_else(|| panic!("{traffic}, seed {seed}, {place:?}: the session's call still waits"));
        let expected = if owner == 0 { 404 } else { 200 };
        assert_eq!((answer.status, &*answer.server), (expected, SERVERS[1]), "{traffic}, seed {seed}, {place:?}");
    }
}

#[test]
fn an_only_link_takes_any_number_of_calls_after_a_silence() {
    let mut bed = Bed::start(1, Place { cores: 1, links: 1 }, &HOSTS);
    // Long after the last PING, and before the next.
    bed.pass(7 * SECOND);
    let calls: Vec<_> = (0..40)
        .map(|_| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await }))
        .collect();
    // The legs of a call take 2 ms more than its connection, the server 5 ms: nobody waits for a sign of life.
    bed.pass(SECOND / 50);
    for call in calls {
        assert_eq!(call.take().expect("it did not wait").status, 200);
    }
}

#[test]
fn silent_links_are_believed_again_as_soon_as_one_is_heard() {
    let mut bed = Bed::start(1, Place { cores: 1, links: 1 }, &HOSTS[..1]);
    bed.pass(7 * SECOND);
    let calls: Vec<_> = (0..40)
        .map(|_| bed.client(|mut client: Client| async move { client.call("POST", HOSTS[0], None).await }))
        .collect();
    // One round trip more than on an only link.
    bed.pass(SECOND / 50);
    let answers: Vec<Answer> =
        calls.into_iter().map(|call| call.take().expect("it waited for a moment only")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
}
