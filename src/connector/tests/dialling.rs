//! Connections to edges and upstreams with addresses that do not respond.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use super::bed::{
    Bed, CONNECTOR, EDGE_PORT, NAMED, Script, UPSTREAM, UPSTREAM_PORT, add_core, ms, script, settings, start_upstream,
    tables_at, tables_set,
};
use crate::connector::{ConnectorEvent, ConnectorSettings, EdgeAddress};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::tls::{ClientSettings, Roots, client_config};
use crate::wire::mux::Cause;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// A host that drops every packet.
const HOLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
/// A host on which nothing listens.
const BARE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));

fn answering() -> Script {
    script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    })
}

/// How long a call to an upstream with these addresses takes, and then one on a new connection.
fn calls_with(addresses: &[IpAddr]) -> [Duration; 2] {
    let mut bed = Bed::new(answering());
    add_core(&mut bed.sim, BARE);
    bed.net.partition(CONNECTOR, HOLE);
    bed.meanings.borrow_mut().push(addresses.to_vec());
    bed.role.reload(tables_at(&format!("http://{NAMED}:{UPSTREAM_PORT}"), |settings| {
        settings.idle_timeout = Duration::ZERO;
    }));
    let times = Rc::new(std::cell::RefCell::new(Vec::new()));
    let taken = Rc::clone(&times);
    bed.run(|edge| async move {
        edge.link().await;
        for _ in 0..2 {
            let began = edge.now();
            assert!(edge.get().await.ends_with("ok"));
            taken.borrow_mut().push(edge.now() - began);
        }
    });
    bed.assert_clean();
    let times = times.borrow();
    [times[0], times[1]]
}

#[test]
fn an_upstream_is_reached_by_the_first_of_its_addresses_that_answers_and_that_one_is_tried_first_from_then_on() {
    let [first, second] = calls_with(&[HOLE, UPSTREAM]);
    assert!((ms(250)..ms(251)).contains(&first), "{first:?}");
    assert!(second < ms(1), "{second:?}");
    let [first, _] = calls_with(&[BARE, UPSTREAM]);
    assert!(first < ms(1), "after a refusal the next address is tried at once: {first:?}");
    let [first, _] = calls_with(&[HOLE, HOLE, HOLE, UPSTREAM]);
    assert!((ms(750)..ms(751)).contains(&first), "{first:?}");
}

#[test]
fn an_edge_is_linked_by_the_first_of_its_addresses_that_answers() {
    let edge = EdgeAddress { host: NAMED.into(), port: EDGE_PORT };
    let settings = ConnectorSettings { edges: vec![edge], connect_timeout: ms(2_000), ..settings() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(answering()));
    bed.net.partition(CONNECTOR, HOLE);
    bed.meanings.borrow_mut().push(vec![HOLE, super::bed::EDGE]);
    let began = bed.net.now();
    bed.run(|edge| async move {
        edge.link().await;
    });
    let took = bed.net.now() - began;
    assert!((ms(250)..ms(251)).contains(&took), "{took:?}");
}

#[test]
fn an_edge_is_linked_soon_after_its_name_can_be_resolved_again() {
    for seed in 0..8 {
        let edge = EdgeAddress { host: NAMED.into(), port: EDGE_PORT };
        let mut bed = Bed::with(ConnectorSettings { edges: vec![edge], ..settings() }, seed, Faults::none(), None);
        // Long enough for the waits between attempts to reach their maximum.
        bed.pass(ms(120_000));
        bed.meanings.borrow_mut().push(vec![super::bed::EDGE]);
        let began = bed.net.now();
        bed.run(|edge| async move {
            edge.link().await;
        });
        let took = bed.net.now() - began;
        assert!(took < ms(1_001), "seed {seed}: {took:?}");
    }
}

#[test]
fn an_edge_that_does_not_answer_is_distinguished_from_one_that_refuses() {
    let cases = [
        (HOLE, "the edge at 10.0.0.9:7844 did not answer within 2000 ms"),
        (BARE, "cannot connect to the edge at 10.0.0.8:7844 (connection refused)"),
    ];
    for (address, text) in cases {
        let edge = EdgeAddress { host: address.to_string().into(), port: EDGE_PORT };
        let settings = ConnectorSettings { edges: vec![edge], connect_timeout: ms(2_000), ..settings() };
        let mut bed = Bed::with(settings, 1, Faults::none(), None);
        add_core(&mut bed.sim, BARE);
        bed.net.partition(CONNECTOR, HOLE);
        bed.pass(ms(2_500));
        let events = bed.events();
        let why = events.iter().find_map(|event| match event {
            ConnectorEvent::Failed { why, .. } => Some(why.clone()),
            _ => None,
        });
        assert!(why.as_ref().is_some_and(|why| why.starts_with(text)), "{why:?}");
    }
}

/// The cause and the reason of a call to an upstream with these settings.
fn failed_call(bed: &mut Bed) -> (Cause, String) {
    let cause = Rc::new(std::cell::Cell::new(None));
    let set = Rc::clone(&cause);
    bed.run(|edge| async move {
        let mut call = edge.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        set.set(Some(call.cause().await));
    });
    let why = bed.report().upstreams[0].failing.clone().unwrap();
    (cause.get().unwrap(), why)
}

#[test]
fn an_upstream_that_stalls_in_the_tls_handshake_is_distinguished_from_an_unreachable_one() {
    let mut bed =
        Bed::new(script(|peer| async move { while peer.talk.stream.recv().await.is_ok_and(|it| it.is_some()) {} }));
    let tls = client_config(ClientSettings { roots: Roots::new(), ..ClientSettings::default() }).unwrap();
    bed.role.reload(tables_at(&format!("https://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| {
        settings.tls = Some(tls.clone());
    }));
    let (cause, why) = failed_call(&mut bed);
    assert_eq!(cause, Cause::UpstreamTls);
    assert!(why.starts_with("the upstream 10.0.0.3:9000 took the connection, but did not complete the TLS"), "{why}");
    bed.net.partition(CONNECTOR, UPSTREAM);
    let (cause, why) = failed_call(&mut bed);
    assert_eq!(cause, Cause::UpstreamConnectTimeout);
    assert!(why.starts_with("the upstream 10.0.0.3:9000 did not answer within 2000 ms"), "{why}");
}

#[test]
fn a_call_waits_for_an_upstream_that_is_being_restarted() {
    let mut bed = Bed::with(settings(), 1, Faults::none(), None);
    bed.role.reload(tables_set(|settings| settings.refused_wait = ms(1_500)));
    let (upstream, _) = add_core(&mut bed.sim, UPSTREAM);
    let core = upstream.clone();
    upstream.spawn(async move {
        core.sleep(ms(1_000)).await;
        start_upstream(&core, answering());
    });
    bed.run(|edge| async move {
        let began = edge.now();
        assert!(edge.get().await.ends_with("ok"));
        let took = edge.now() - began;
        assert!((ms(1_000)..ms(1_201)).contains(&took), "{took:?}");
    });
    bed.assert_clean();
}

#[test]
fn a_call_waits_no_longer_than_its_setting_for_an_upstream_that_stays_away() {
    let mut bed = Bed::with(settings(), 1, Faults::none(), None);
    bed.role.reload(tables_set(|settings| settings.refused_wait = ms(1_500)));
    bed.run(|edge| async move {
        edge.link().await;
        let began = edge.now();
        let mut call = edge.call("POST / HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(call.cause().await, Cause::UpstreamRefused);
        let took = edge.now() - began;
        assert!((ms(1_500)..ms(1_501)).contains(&took), "{took:?}");
    });
    bed.assert_clean();
}

#[test]
fn the_other_port_of_an_edge_is_tried_when_its_own_does_not_answer_and_first_from_then_on() {
    let edge = EdgeAddress { host: super::bed::EDGE.to_string().into(), port: EDGE_PORT - 1 };
    let plain = ConnectorSettings { edges: vec![edge], links: 1, ..settings() };
    let settings = ConnectorSettings { edge_fallback_port: Some(EDGE_PORT), ..plain.clone() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(answering()));
    bed.run(|edge| async move {
        edge.link().await;
        assert!(edge.get().await.ends_with("ok"));
    });
    let is_preferred = || bed.role.edges[0].prefers_fallback_port.load(std::sync::atomic::Ordering::Relaxed);
    assert!(is_preferred());
    // Without another port, or with the same one, the edge is unreachable.
    for other in [None, Some(EDGE_PORT - 1)] {
        let mut bed =
            Bed::with(ConnectorSettings { edge_fallback_port: other, ..plain.clone() }, 1, Faults::none(), None);
        bed.pass(ms(5_000));
        assert_eq!(bed.edge.dialled.get(), 0, "{other:?}");
        assert!(bed.role.counters().dials_failed.load(std::sync::atomic::Ordering::Relaxed) > 3);
    }
}
