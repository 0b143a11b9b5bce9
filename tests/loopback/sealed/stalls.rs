//! A connector that is stopped beside another one of its tunnel, on each driver.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use adit::base::Traffic;
use adit::control::bodies::StatusBody;
use adit::private;

use super::site::{Agent, HOST, OPEN_HOST, SEAL_CA, Site, get_json, try_call};
use crate::drivers::drivers;
use crate::process::Adit;

const CLIENTS: usize = 8;
/// How many calls each makes, one after the other.
const CALLS: usize = 60;
/// Less than a link may be silent: who is stuck there has no answer by then. Nobody is stuck whose call is sealed.
const PATIENCE: [(Traffic, Duration); 2] =
    [(Traffic::Plain, Duration::from_secs(4)), (Traffic::Resealed, Duration::from_secs(10))];

/// One more connector of the same tunnel, with a folder of its own.
fn another(site: &Site) -> Adit {
    private::folder(&site.path("other")).unwrap();
    for name in ["seal-ca.pem", "seal-ca.key"] {
        let kept = fs::read(site.path("state").join(name)).unwrap();
        private::write(&site.path("other").join(name), &kept).unwrap();
    }
    let config = fs::read_to_string(site.path("connect.toml")).unwrap();
    let config = config.replace("state_dir = 'state'", "state_dir = 'other'");
    private::write(&site.path("other.toml"), config.as_bytes()).unwrap();
    let connector = Adit::start(&["connect", "--json", "--config", site.path("other.toml").to_str().unwrap()]);
    connector.event("linked");
    connector
}

/// Where TLS ends in the connector, an agent's calls go where its address leads, and a connection that it keeps stays there.
#[test]
fn kept_connections_to_a_connector_that_is_stopped_end_and_their_agents_reach_the_other_one() {
    for driver in drivers() {
        let site = Site::start_with(driver, Traffic::Passthrough, "stalled_connector_timeout_ms = '1s'");
        let status = || -> StatusBody { get_json(site.admin, "/v1/status") };
        let (first, _) = site.connect(driver, Traffic::Passthrough);
        let name_of_first = status().links[0].of.connector.clone();
        let second = another(&site);
        let is_served_by_both =
            || status().tunnels.iter().flat_map(|tunnel| &tunnel.of.hosts).any(|host| host.connectors.len() == 2);
        while !is_served_by_both() {}
        let agents = site.agents(SEAL_CA, Some(HOST));
        let is_answered = |agent: &mut Agent| {
            try_call(agent, HOST, "a call").is_ok_and(|answer| answer.head.starts_with("HTTP/1.1 200 "))
        };
        // Of three connections, one waits for an answer when its connector stops, one is idle, and one begins then.
        let agent = || {
            let agent = agents();
            // Less than a link may be silent.
            agent.sock.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
            agent
        };
        // Either connector may have them. A core may learn of the second one between two connections: then each has one.
        let (mut busy, mut idle, stopped) = loop {
            let (mut busy, mut idle) = (agent(), agent());
            assert!(is_answered(&mut busy) && is_answered(&mut idle));
            let mut streams = [0, 0];
            for link in status().links {
                streams[usize::from(link.of.connector != name_of_first)] += link.of.streams;
            }
            match streams {
                [2, 0] => break (busy, idle, &first),
                [0, 2] => break (busy, idle, &second),
                _ => {}
            }
        };
        stopped.stop();
        thread::scope(|scope| {
            let begun = scope.spawn(|| is_answered(&mut agent()));
            assert!(!is_answered(&mut busy), "{driver}");
            assert!(begun.join().unwrap(), "{driver}: it waits for the wrong connector and then goes to the other one");
        });
        assert!(site.metric("adit_passed_through_given_up_total") > 0, "{driver}: it was ended, and not merely slow");
        assert!(!is_answered(&mut idle), "{driver}: what is sent now does not wait");
        assert!(is_answered(&mut agent()), "{driver}: a new connection goes to the other one");
        stopped.signal("CONT");
    }
}

/// What was on its way to it is lost, and nothing that comes later. Of a call that is sealed nothing is on its way before the
/// connector has answered, so that it goes to the other one. Where TLS ends in the connector, an agent's calls go where its address
/// leads, and there is no such choice.
#[test]
fn a_connector_that_is_stopped_costs_few_calls_beside_another_one() {
    // Most of the time is spent waiting: all at once.
    thread::scope(|scope| {
        for driver in drivers() {
            for (traffic, patience) in PATIENCE {
                scope.spawn(move || stop_one_of_two(driver, traffic, patience));
            }
        }
    });
}

fn stop_one_of_two(driver: &str, traffic: Traffic, patience: Duration) {
    let (site, stopped) = Site::linked(driver, traffic, traffic);
    let _other = another(&site);
    let lost = AtomicUsize::new(0);
    let agents = site.agents("ca.pem", Some(OPEN_HOST));
    let agent = || {
        let agent = agents();
        agent.sock.set_read_timeout(Some(patience)).unwrap();
        agent
    };
    stopped.stop();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = agent();
                for _ in 0..CALLS {
                    let answer = try_call(&mut client, HOST, "a call");
                    if !answer.is_ok_and(|answer| answer.head.starts_with("HTTP/1.1 200 ")) {
                        lost.fetch_add(1, Ordering::Relaxed);
                        client = agent();
                    }
                }
            });
        }
    });
    let (lost, moved) = (lost.into_inner(), site.metric("adit_calls_moved_total"));
    let what = format!("{driver} {traffic}: {lost} of {} calls are lost, {moved} moved", CLIENTS * CALLS);
    match traffic {
        Traffic::Plain => assert!((1..=CLIENTS).contains(&lost), "{what}"),
        _ => assert!(lost == 0 && moved > 0, "{what}"),
    }
    stopped.signal("CONT");
}
