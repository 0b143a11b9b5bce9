//! Links over QUIC, on a path that loses, doubles and swaps datagrams and changes addresses.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit::connector::LinkTransport;
use adit::edge::EdgeCommand;
use adit::engine::sim::Faults;
use adit::engine::{MailSender, mailbox};

use super::bed::{Bed, ConnectorPlan, DAY};
use super::{enrolments, links_down, links_up, until_linked};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn over(transport: LinkTransport) -> ConnectorPlan {
    ConnectorPlan { transport, ..ConnectorPlan::default() }
}

/// Paths of 2 ms whose datagrams meet with all that can happen to them.
fn rough(loss: f64) -> Faults {
    Faults {
        delay_ns_min: 2_000_000,
        delay_ns_max: 2_000_000,
        datagram_bytes_max: 1_472,
        datagram_loss_chance: loss,
        datagram_double_chance: 0.03,
        datagram_late_chance: 0.1,
        datagram_late_ns_max: 6_000_000,
        ..Faults::none()
    }
}

#[test]
fn calls_go_over_quic_with_the_certificate_that_was_enrolled() {
    // An hour is many PINGs of an idle connection, and longer than the certificate lives.
    let mut bed = Bed::new(1, Duration::from_secs(3000));
    let connector = bed.connect(&over(LinkTransport::Quic), None);
    bed.call();
    assert_eq!((enrolments(&connector), links_up(&connector)), (1, 1));
    bed.pass(Duration::from_secs(3600));
    bed.call();
    assert_eq!((enrolments(&connector), links_down(&connector)), (2, 0));
}

#[test]
fn no_call_is_lost_on_a_rough_path_and_over_changes_of_address() {
    for (seed, faults) in [
        (1, rough(0.0)),
        (2, rough(0.03)),
        (3, Faults { datagram_rebind_chance: 0.01, ..rough(0.01) }),
        (4, Faults { datagram_rebind_chance: 0.02, ..rough(0.0) }),
    ] {
        let mut bed = Bed::new(seed, DAY);
        bed.net.set_faults(faults);
        let connector = bed.connect(&over(LinkTransport::Quic), None);
        until_linked(&mut bed, &connector, 30 * SECOND);
        bed.start_agents(8, 20, Duration::from_millis(1));
        let answered = Rc::clone(&bed.answered);
        bed.until("all calls are answered", 120 * SECOND, || answered.get() == 8 * 20);
        assert_eq!(links_down(&connector), 0, "seed {seed}");
    }
}

#[test]
fn where_udp_is_blocked_tcp_is_used_at_once_and_where_it_is_not_quic_is() {
    for (seed, is_blocked) in [(1, true), (2, false)] {
        let mut bed = Bed::new(seed, DAY);
        // With a certificate from before, nothing but the link is waited for.
        let kept = bed.identity("tnl_a", 0);
        bed.net.set_faults(Faults { datagram_loss_chance: if is_blocked { 1.0 } else { 0.0 }, ..Faults::none() });
        let connector = bed.connect(&over(LinkTransport::Auto), Some(kept));
        let took = until_linked(&mut bed, &connector, SECOND);
        assert_eq!(took >= Duration::from_millis(100), is_blocked, "{took:?}");
        bed.call();
    }
}

#[test]
fn where_udp_is_lost_later_tcp_takes_over_within_a_second_and_quic_comes_back_when_it_is_proven() {
    let mut bed = Bed::new(3, DAY);
    let kept = bed.identity("tnl_a", 0);
    let blocked = |loss| Faults { datagram_loss_chance: loss, delay_ns_min: 2_000_000, ..Faults::none() };
    bed.net.set_faults(blocked(0.0));
    let connector = bed.connect(&over(LinkTransport::Auto), Some(kept));
    until_linked(&mut bed, &connector, SECOND);
    bed.start_agents(4, 10, MILLISECOND);
    let answered = Rc::clone(&bed.answered);
    bed.until("all calls are answered", 5 * SECOND, || answered.get() == 40);
    bed.net.set_faults(blocked(1.0));
    let took = until_linked(&mut bed, &connector, 2 * SECOND);
    assert!(took <= SECOND, "{took:?}");
    // The edge leaves the link alone that carries nothing any more: no call waits for it.
    bed.start_agents(4, 10, MILLISECOND);
    let answered = Rc::clone(&bed.answered);
    bed.until("all calls are answered", SECOND, || answered.get() == 80);
    let handle = Arc::clone(&connector.handle);
    let back_on_quic = move || handle.counters().links_back_on_quic.load(Ordering::Relaxed);
    assert_eq!(connector.handle.counters().links_silent.load(Ordering::Relaxed), 1);
    // QUIC is tried while it is still blocked, and again later when it is not.
    bed.pass(120 * SECOND);
    assert_eq!((back_on_quic(), links_up(&connector), links_down(&connector)), (0, 2, 1));
    bed.net.set_faults(blocked(0.0));
    bed.start_agents(2, 300, SECOND);
    let is_back = back_on_quic.clone();
    bed.until("it is back on QUIC", 300 * SECOND, || is_back() == 1);
    let answered = Rc::clone(&bed.answered);
    bed.until("all calls are answered", 400 * SECOND, || answered.get() == 80 + 600);
    assert_eq!((back_on_quic(), links_up(&connector), links_down(&connector)), (1, 3, 2));
}

#[test]
fn a_link_stays_on_a_path_that_is_silent_for_a_moment() {
    let mut bed = Bed::new(4, DAY);
    let kept = bed.identity("tnl_a", 0);
    let connector = bed.connect(&over(LinkTransport::Quic), Some(kept));
    until_linked(&mut bed, &connector, SECOND);
    bed.net.set_faults(Faults { datagram_loss_chance: 1.0, ..Faults::none() });
    bed.pass(3 * SECOND);
    bed.net.set_faults(Faults::none());
    bed.pass(60 * SECOND);
    bed.call();
    let silent = connector.handle.counters().links_silent.load(Ordering::Relaxed);
    assert_eq!((silent, links_up(&connector).saturating_sub(links_down(&connector))), (1, 1));
}

#[test]
fn a_connector_comes_back_after_a_restart_of_the_edge() {
    let mut bed = Bed::new(5, DAY);
    let connector = bed.connect(&over(LinkTransport::Quic), None);
    bed.call();
    for pause in [Duration::ZERO, 200 * MILLISECOND, 20 * SECOND] {
        bed.pass(10 * SECOND);
        bed.kill_edge();
        bed.pass(pause);
        bed.start_edge(true);
        // The new process answers the next packet with a stateless reset. After a long outage it waits for the next attempt.
        let took = until_linked(&mut bed, &connector, 30 * SECOND);
        assert!(took <= SECOND + pause / 10, "{took:?} after {pause:?}");
        bed.call();
    }
}

#[test]
fn a_wrong_secret_is_refused_and_a_revocation_ends_the_link() {
    let mut bed = Bed::new(6, DAY);
    let kept = bed.identity("tnl_a", 0);
    let connector = bed.connect(&over(LinkTransport::Quic), Some(kept));
    bed.call();
    bed.withdraw();
    // The control thread asks for this after a reload.
    let (reviews, _) = mailbox(1);
    let edge = bed.edge.as_ref().expect("it runs");
    edge.handle.command(|| EdgeCommand::Review(MailSender::clone(&reviews)));
    let handle = Arc::clone(&connector.handle);
    bed.until("the link ends", 2 * SECOND, || handle.counters().links_ended.load(Ordering::Relaxed) > 0);
    let handle = Arc::clone(&connector.handle);
    bed.until("it is told why", 30 * SECOND, || {
        handle.edges()[0].last_error.as_ref().is_some_and(|error| error.contains("refused"))
    });
}
