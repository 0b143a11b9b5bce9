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
    let mut bed = Bed::new(1, DAY);
    let connector = bed.connect(&over(LinkTransport::Quic), None);
    bed.call();
    assert_eq!((enrolments(&connector), links_up(&connector)), (1, 1));
    // The certificate and the connection outlive an idle day.
    bed.pass(DAY / 2);
    bed.call();
    assert_eq!(links_down(&connector), 0);
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
        if !is_blocked {
            // TCP would go on; a link over QUIC is lost with its datagrams.
            bed.net.set_faults(Faults { datagram_loss_chance: 1.0, ..Faults::none() });
            until_linked(&mut bed, &connector, 30 * SECOND);
            bed.call();
        }
    }
}

#[test]
fn a_connector_comes_back_after_a_restart_of_the_edge() {
    let mut bed = Bed::new(5, DAY);
    let connector = bed.connect(&over(LinkTransport::Quic), None);
    bed.call();
    bed.kill_edge();
    bed.start_edge(true);
    until_linked(&mut bed, &connector, 30 * SECOND);
    bed.call();
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
