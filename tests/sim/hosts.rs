//! Hosts that edge and connectors do not agree on, and connectors of one tunnel that serve different hosts: where calls go, and what
//! each side knows of the other.

use std::time::Duration;

use crate::sessions::bed::{Bed, Place, Running, SERVERS, Served};
use crate::sessions::client::{Answer, Client};

const SECOND: Duration = Duration::from_secs(1);
/// The layouts that matter: one core, and two with a link of each connector on both or on one of them.
const LAYOUTS: [Place; 3] = [Place { cores: 1, links: 1 }, Place { cores: 2, links: 0 }, Place { cores: 2, links: 1 }];
const ONE_CORE: Place = LAYOUTS[0];

/// One tunnel with these hosts, and connectors with these routes.
fn one_tunnel(hosts: &[&'static str], routes: [&[&'static str]; 2]) -> Served {
    Served { hosts: hosts.iter().map(|host| (*host, 0)).collect(), routes: routes.map(|of| (0, of.to_vec())) }
}

/// Clients that call these hosts in turn, in a session of each host or without one, on connections that they replace at times.
fn clients(bed: &Bed, hosts: &'static [&'static str], with_sessions: bool) -> Vec<Running<Vec<Answer>>> {
    let client = |nth: usize| {
        bed.client(move |mut client: Client| async move {
            let mut sessions = Vec::new();
            let mut answers = Vec::new();
            for host in hosts.iter().filter(|_| with_sessions) {
                answers.push(client.initialize(host).await);
                sessions.push(answers.last().and_then(|answer| answer.session.clone()));
            }
            for call in 0..10 * hosts.len() {
                if call % 7 == nth {
                    client.reconnect();
                }
                let of = call % hosts.len();
                let session = sessions.get(of).and_then(Option::as_deref);
                answers.push(client.call("POST", hosts[of], session).await);
            }
            answers
        })
    };
    (0..4).map(client).collect()
}

/// Asserts that the calls of each host went to its server.
fn served_by(bed: &mut Bed, what: &str, clients: Vec<Running<Vec<Answer>>>, servers: &[&str]) {
    bed.pass(20 * SECOND);
    for client in clients {
        for (nth, answer) in client.take().expect("the client has ended").iter().enumerate() {
            let wanted = (200, servers[nth % servers.len()]);
            assert_eq!((answer.status, &*answer.server), wanted, "{what}, call {nth}: {}", answer.body);
        }
    }
}

#[test]
fn connectors_with_different_hosts_take_each_their_own_calls() {
    for (seed, place) in (0..4).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let hosts = &["a.test", "b.test"];
        for with_sessions in [false, true] {
            let mut bed = Bed::serving(seed, place, one_tunnel(hosts, [&["a.test"], &["b.test"]]));
            let clients = clients(&bed, hosts, with_sessions);
            served_by(&mut bed, &format!("seed {seed}, {place:?}"), clients, &SERVERS);
        }
    }
}

#[test]
fn a_route_for_one_host_of_a_wildcard_takes_its_calls_and_no_others() {
    const HOSTS: &[&str] = &["x.w.test", "y.w.test"];
    for (seed, place) in (0..4).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let served = one_tunnel(&["*.w.test"], [&["x.w.test"], &["y.w.test", "other.test"]]);
        let mut bed = Bed::serving(seed, place, served);
        let calls = clients(&bed, HOSTS, false);
        served_by(&mut bed, &format!("seed {seed}, {place:?}"), calls, &SERVERS);
        assert_eq!(bed.service(), [("*.w.test".to_owned(), SERVERS.to_vec())]);
        assert_eq!((bed.missing(0), bed.missing(1)), (vec![], vec!["other.test".to_owned()]));
    }
}

#[test]
fn a_host_that_no_connector_serves_is_known_before_it_is_called() {
    for place in LAYOUTS {
        let served = one_tunnel(&["a.test", "c.test"], [&["a.test", "typo.test"], &["a.test"]]);
        let mut bed = Bed::serving(1, place, served);
        let of = |host: &str, servers: &[&'static str]| (host.to_owned(), servers.to_vec());
        assert_eq!(bed.service(), [of("a.test", &SERVERS), of("c.test", &[])]);
        assert_eq!((bed.missing(0), bed.missing(1)), (vec!["typo.test".to_owned()], vec![]));
        let call = bed.client(|mut client: Client| async move { client.call("POST", "c.test", None).await });
        bed.pass(SECOND);
        let answer = call.take().expect("nothing is waited for");
        assert!(answer.status == 502 && answer.body.contains("no_route"), "{answer:?}");
    }
}

#[test]
fn a_reload_on_either_side_reaches_the_other_and_calls_follow_it() {
    const BOTH: &[&str] = &["a.test", "b.test"];
    for (seed, place) in (0..3).flat_map(|seed| LAYOUTS.map(|place| (seed, place))) {
        let what = format!("seed {seed}, {place:?}");
        let mut bed = Bed::serving(seed, place, one_tunnel(BOTH, [&["a.test"], &["b.test"]]));
        bed.reroute(0, &["a.test", "b.test", "c.test"]);
        bed.reroute(1, &["a.test"]);
        bed.pass(SECOND);
        assert_eq!(bed.missing(0), ["c.test"], "{what}");
        assert_eq!(bed.service()[1], ("b.test".to_owned(), vec![SERVERS[0]]), "{what}");
        let calls = clients(&bed, &["b.test"], false);
        served_by(&mut bed, &what, calls, &SERVERS[..1]);

        bed.rehost(&[("a.test", 0), ("b.test", 0), ("c.test", 0)]);
        // A host is served by the right connector from the moment when the edge has it.
        let calls = clients(&bed, &["c.test"], false);
        served_by(&mut bed, &what, calls, &SERVERS[..1]);
        assert_eq!((bed.missing(0), bed.missing(1)), (vec![], vec![]), "{what}");
        bed.rehost(&[("b.test", 0)]);
        bed.pass(SECOND);
        assert_eq!((bed.missing(0), bed.missing(1)), (vec!["a.test".into(), "c.test".into()], vec!["a.test".into()]));
    }
}

#[test]
fn a_session_whose_connector_no_longer_serves_its_host_goes_to_one_that_does() {
    for place in LAYOUTS {
        let mut bed = Bed::serving(2, place, one_tunnel(&["a.test"], [&["a.test"], &["other.test"]]));
        let begun = bed.client(|mut client: Client| async move { client.initialize("a.test").await });
        bed.pass(SECOND);
        let session = begun.take().and_then(|answer| answer.session).expect("a session");
        bed.reroute(0, &["other.test"]);
        bed.reroute(1, &["a.test"]);
        bed.pass(SECOND);
        let call =
            bed.client(move |mut client: Client| async move { client.call("POST", "a.test", Some(&session)).await });
        bed.pass(SECOND);
        let answer = call.take().expect("nothing is waited for");
        assert_eq!((answer.status, &*answer.server), (404, SERVERS[1]), "the client begins another");
    }
}

#[test]
fn calls_wait_for_the_connector_of_their_host_while_it_is_replaced() {
    for place in LAYOUTS {
        for is_killed in [true, false] {
            let mut bed = Bed::serving(3, place, one_tunnel(&["a.test", "b.test"], [&["a.test"], &["b.test"]]));
            if is_killed {
                bed.kill_connector(1);
            } else {
                bed.drain_connector(1);
            }
            bed.pass(Duration::from_millis(500));
            let waiting = bed.client(|mut client: Client| async move { client.call("POST", "b.test", None).await });
            let other = bed.client(|mut client: Client| async move { client.call("POST", "a.test", None).await });
            bed.pass(Duration::from_millis(500));
            assert_eq!(other.take().expect("it waits for nothing").server, SERVERS[0]);
            assert!(!waiting.has_ended(), "{place:?}, killed: {is_killed}");
            bed.start_connector(1);
            bed.pass(2 * SECOND);
            let answer = waiting.take().expect("the connector is back");
            assert_eq!((answer.status, &*answer.server), (200, SERVERS[1]), "{place:?}, killed: {is_killed}");
        }
    }
}

#[test]
fn a_connector_that_does_not_come_back_is_waited_for_no_longer_than_others_are() {
    let mut bed = Bed::serving(3, ONE_CORE, one_tunnel(&["a.test", "b.test"], [&["a.test"], &["b.test"]]));
    bed.kill_connector(1);
    let waiting = bed.client(|mut client: Client| async move { client.call("POST", "b.test", None).await });
    bed.pass(4 * SECOND);
    let answer = waiting.take().expect("the wait is over");
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    let call = bed.client(|mut client: Client| async move { client.call("POST", "b.test", None).await });
    bed.pass(Duration::from_millis(200));
    let answer = call.take().expect("nothing is waited for");
    assert!(answer.status == 502 && answer.body.contains("no_route"), "{answer:?}");
    assert_eq!(bed.service()[1], ("b.test".to_owned(), vec![]));
}
