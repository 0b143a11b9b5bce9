use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::bed::{Bed, CONNECTOR, EDGE, ms, script, settings, standard_tables, tables};
use crate::base::{CoreId, LinkId};
use crate::connector::link_table::LinkTable;
use crate::connector::{Connector, ConnectorCommand, ConnectorEvent, ConnectorSettings, LinkState};
use crate::engine::sim::{Death, Faults, SimNet};
use crate::engine::{ByteStream, Core, Pool, mailbox};
use crate::wire::mux::{Cause, Fault, RegistrationRefusal};

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answering() -> super::bed::Script {
    script(|mut peer| async move {
        loop {
            peer.talk.head().await;
            peer.talk.write(OK).await;
        }
    })
}

/// An upstream that answers after `after_ms` milliseconds.
fn slow(after_ms: u64) -> super::bed::Script {
    script(move |mut peer| async move {
        peer.talk.head().await;
        peer.core.sleep(ms(after_ms)).await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    })
}

#[test]
fn there_are_as_many_links_as_the_edge_has_cores() {
    let mut bed = Bed::new(answering());
    bed.edge.cores.set(3);
    bed.run(|edge| async move {
        edge.nth_link(2).await;
        edge.core.sleep(ms(1_000)).await;
    });
    assert_eq!(*bed.edge.indices.borrow(), [0, 1, 2]);
    let report = bed.report();
    assert_eq!(report.links.len(), 3);
    assert!(report.links.iter().all(|link| link.state == LinkState::Open && link.round_trip.is_some()), "{report:?}");
    let linked = bed.events().iter().filter(|event| matches!(event, ConnectorEvent::Linked { .. })).count();
    assert_eq!(linked, 3);
}

#[test]
fn every_link_sends_the_hosts_of_the_routes_also_after_a_reload() {
    let mut bed = Bed::with(ConnectorSettings { links: 2, ..settings() }, 1, Faults::none(), Some(answering()));
    let hosts_of = |link: &crate::link::Link| {
        let hosts = link.peer_hosts().expect("it was told");
        (hosts.listed.iter().map(str::to_owned).collect::<Vec<_>>().join(" "), hosts.left_out)
    };
    let links = bed.edge.links.clone();
    bed.run(|edge| async move {
        for nth in 0..2 {
            edge.nth_link(nth).await.peer_hosts_after(0).await;
        }
    });
    let all = || links.borrow().iter().map(hosts_of).collect::<Vec<_>>();
    assert_eq!(all(), vec![("mcp.test".to_owned(), 0); 2]);
    bed.role.reload(tables(&[("mcp.test", "http://10.0.0.9:1"), ("*.new.test", "http://10.0.0.9:1")]));
    bed.pass(ms(1_000));
    assert_eq!(all(), vec![("*.new.test mcp.test".to_owned(), 0); 2]);
    assert_eq!(bed.edge.dialled.get(), 2, "the links continued");
}

#[test]
fn the_configured_number_of_links_is_opened() {
    let mut bed = Bed::with(ConnectorSettings { links: 2, ..settings() }, 1, Faults::none(), Some(answering()));
    bed.edge.cores.set(7);
    bed.run(|edge| async move {
        edge.nth_link(1).await;
        edge.core.sleep(ms(1_000)).await;
        assert_eq!(edge.dialled.get(), 2);
    });
}

#[test]
fn a_lost_link_is_dialled_again_within_the_backoff() {
    let mut bed = Bed::new(answering());
    for n in 0..20 {
        bed.run(|edge| async move {
            let link = edge.nth_link(n).await;
            assert!(edge.get().await.ends_with("ok"));
            edge.core.sleep(ms(6_000)).await;
            link.close(Fault::Ended);
            let lost = edge.now();
            edge.nth_link(n + 1).await;
            assert!(edge.now() - lost <= ms(101));
        });
    }
    let unlinked = bed.events().iter().filter(|event| matches!(event, ConnectorEvent::Unlinked { .. })).count();
    assert_eq!(unlinked, 20);
}

#[test]
fn the_first_call_after_an_edge_restart_succeeds_within_two_seconds() {
    for (seed, how) in [(1, Death::Processes), (2, Death::Processes), (3, Death::Power)] {
        let mut bed = Bed::with(settings(), seed, Faults::none(), Some(answering()));
        bed.run(|edge| async move { assert!(edge.get().await.ends_with("ok")) });
        bed.pass(ms(7_000));
        bed.net.kill(EDGE, how);
        bed.sim.remove(bed.edge_member);
        bed.pass(ms(300));
        bed.restart_edge();
        let restarted = bed.net.now();
        bed.run(|edge| async move {
            assert!(edge.get().await.ends_with("ok"));
            // A host that lost power sends nothing until packets reach it.
            let bound = if how == Death::Power { ms(6_000) } else { ms(2_000) };
            assert!(edge.now() - restarted < bound, "{:?}", edge.now() - restarted);
        });
    }
}

#[test]
fn an_edge_that_is_away_is_asked_ever_less_often_and_reported_once() {
    let mut bed = Bed::new(answering());
    bed.run(|edge| async move { drop(edge.link().await) });
    bed.net.kill(EDGE, Death::Processes);
    bed.sim.remove(bed.edge_member);
    bed.pass(ms(60_000));
    let tries = bed.role.counters().dials_failed.load(std::sync::atomic::Ordering::Relaxed);
    assert!((12..120).contains(&tries), "{tries}");
    let failed = bed.events().into_iter().filter(|event| matches!(event, ConnectorEvent::Failed { .. })).count();
    assert_eq!(failed, 1);
}

#[test]
fn a_refused_connector_retries_and_logs_that_once() {
    let mut bed = Bed::new(answering());
    bed.edge.refuse.set(Some(RegistrationRefusal::Credentials));
    bed.restart_edge();
    bed.run(|edge| async move {
        edge.core.sleep(ms(30_000)).await;
        assert!((6..=10).contains(&edge.dialled.get()), "{}", edge.dialled.get());
        edge.refuse.set(None);
        assert!(edge.get().await.ends_with("ok"));
    });
    let events = bed.events();
    let refused: Vec<&ConnectorEvent> =
        events.iter().filter(|event| matches!(event, ConnectorEvent::Refused { .. })).collect();
    assert_eq!(refused.len(), 1, "{events:?}");
    let ConnectorEvent::Refused { refusal, why, .. } = refused[0] else { unreachable!() };
    assert_eq!(*refusal, RegistrationRefusal::Credentials);
    assert!(why.contains("not today") && !why.contains("secret\""), "{why}");
}

#[test]
fn a_draining_edge_gets_another_link_at_once_and_the_old_one_finishes() {
    let mut bed = Bed::new(slow(500));
    bed.pass(ms(6_000));
    bed.run(|edge| async move {
        let link = edge.link().await;
        let mut call = edge.call_on(&link, GET).await;
        call.stream.finish();
        edge.core.sleep(ms(5)).await;
        link.drain();
        let asked = edge.now();
        let next = edge.nth_link(1).await;
        assert!(edge.now() - asked < ms(1), "{:?}", edge.now() - asked);
        assert_ne!(next.id(), link.id());
        edge.core.sleep(ms(450)).await;
        assert!(link.ended().is_none());
        assert!(call.whole().await.ends_with("ok"));
        drop(call);
        edge.core.sleep(ms(1)).await;
        assert_eq!(link.ended().map(|ended| ended.fault), Some(Fault::Ended));
        assert!(next.ended().is_none());
    });
    bed.assert_clean();
}

#[test]
fn a_drained_connector_finishes_its_calls_and_ends() {
    let mut bed = Bed::new(slow(2_000));
    let role = Rc::new(std::sync::Arc::clone(&bed.role));
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        edge.core.sleep(ms(100)).await;
        assert_eq!(role.command(|| ConnectorCommand::Drain), 1);
        edge.core.sleep(ms(100)).await;
        assert!(edge.links.borrow().iter().all(|link| !link.is_open()));
        assert!(call.whole().await.ends_with("ok"));
    });
    let took = bed.run_to_end();
    assert!(took < ms(10), "{took:?}");
    bed.pass(ms(1_000));
    assert_eq!(bed.edge.dialled.get(), 1, "no link is dialled again");
    assert!(matches!(bed.events().last(), Some(ConnectorEvent::Ended(_))));
    assert_eq!((bed.core.open_sockets(), bed.core.pool().usage().leased_bytes), (0, 0));
}

#[test]
fn a_drain_ends_in_its_time_though_a_call_does_not() {
    let mut bed = Bed::new(slow(500_000));
    let role = std::sync::Arc::clone(&bed.role);
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        edge.core.sleep(ms(10)).await;
        let asked = edge.now();
        role.command(|| ConnectorCommand::Drain);
        assert_eq!(call.cause().await, Cause::LinkLost);
        assert!((ms(30_000)..ms(30_001)).contains(&(edge.now() - asked)));
    });
    let took = bed.run_to_end();
    assert!(took < ms(1_001), "{took:?}");
    bed.pass(ms(6_000));
    assert_eq!((bed.core.open_sockets(), bed.core.pool().usage().leased_bytes), (0, 0));
}

#[test]
fn a_connector_that_never_had_a_link_drains_at_once() {
    let mut bed = Bed::new(answering());
    bed.net.kill(EDGE, Death::Power);
    bed.sim.remove(bed.edge_member);
    bed.pass(ms(1_000));
    bed.role.command(|| ConnectorCommand::Drain);
    assert!(bed.run_to_end() < ms(1));
}

#[test]
fn no_two_cores_give_two_links_the_same_id() {
    const CORES: u16 = 3;
    let (net, (events, _)) = (SimNet::new(1, Faults::none()), mailbox(16));
    let connector = Connector::new(settings(), standard_tables(), CORES.into(), 1, &events);
    let ids_of = |core: u16| {
        let pool = Pool::new(0);
        let driver = Box::new(net.driver(CONNECTOR, pool.clone()));
        let table = LinkTable::new(&Core::new(CoreId(core), driver, pool, Duration::ZERO), &connector);
        (0..100).map(|_| table.next_id()).collect::<Vec<_>>()
    };
    let ids: Vec<LinkId> = (0..CORES).flat_map(ids_of).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}
