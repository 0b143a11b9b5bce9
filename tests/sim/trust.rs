//! Who is who on the link: enrolment, renewal, and everything that can be wrong with a certificate, on a simulated network
//! with real TLS. Simulated time passes; nobody waits.

mod bed;
mod quic;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit::connector::{ConnectorEvent, EdgeStatus};
use adit::edge::EdgeEvent;
use adit::wire::RegistrationRefusal;

use bed::{Bed, ConnectorPlan, ConnectorSide, DAY, EDGE_NAME};

const SECOND: Duration = Duration::from_secs(1);
const DAY_S: i64 = 24 * 3600;

fn enrolments(connector: &ConnectorSide) -> u64 {
    connector.handle.counters().enrolments.load(Ordering::Relaxed)
}

fn links_up(connector: &ConnectorSide) -> u64 {
    connector.handle.counters().links_made.load(Ordering::Relaxed)
}

fn links_down(connector: &ConnectorSide) -> u64 {
    connector.handle.counters().links_ended.load(Ordering::Relaxed)
}

/// Waits for a link; how long it took.
#[track_caller]
fn until_linked(bed: &mut Bed, connector: &ConnectorSide, within: Duration) -> Duration {
    let (handle, before) = (Arc::clone(&connector.handle), links_up(connector));
    bed.until("there is a link", within, || handle.counters().links_made.load(Ordering::Relaxed) > before)
}

#[test]
fn id_and_secret_are_all_that_a_connector_needs() {
    let mut bed = Bed::new(1, DAY);
    let mut connector = bed.connect(&ConnectorPlan::default(), None);
    bed.call();
    assert_eq!((enrolments(&connector), bed.edge_count(|counters| &counters.enrolments)), (1, 1));
    let events = connector.events();
    let certified = events.iter().find_map(|event| match event {
        ConnectorEvent::Certified { identity, lifetime, .. } => Some((identity.tunnel().clone(), *lifetime)),
        _ => None,
    });
    assert_eq!(certified, Some((bed::tunnel(), DAY)));
    let view = &connector.handle.edges()[0];
    assert!(matches!(view.status, EdgeStatus::Certified { .. }), "{view:?}");
    assert!(view.clock_skew.is_some_and(|skew| skew.by <= SECOND) && view.last_error.is_none(), "{view:?}");
    // A day and more later nothing has come to an end.
    bed.pass(3 * DAY);
    bed.call();
    assert_eq!((enrolments(&connector), links_down(&connector)), (5, 0));
}

#[test]
fn certificates_are_renewed_under_load_and_no_call_is_lost() {
    let mut bed = Bed::new(2, Duration::from_secs(90));
    let connector = bed.connect(&ConnectorPlan::default(), None);
    until_linked(&mut bed, &connector, SECOND);
    bed.start_agents(4, 1_200, Duration::from_millis(250));
    bed.pass(Duration::from_secs(330));
    assert_eq!(bed.answered.get(), 4 * 1_200);
    let renewed = enrolments(&connector);
    assert!((5..=7).contains(&renewed), "{renewed} certificates in 330 s");
    assert_eq!((links_up(&connector), links_down(&connector)), (1, 0), "the link that was up goes on");
    assert_eq!(bed.edge_count(|counters| &counters.registrations_failed), 0);
    // The certificate with which the process began has ended long since: a new link shows the present one.
    bed.kill_edge();
    bed.start_edge(true);
    until_linked(&mut bed, &connector, 2 * SECOND);
    assert_eq!(enrolments(&connector), renewed);
    bed.call();
}

#[test]
fn two_hundred_connectors_come_back_within_two_seconds_of_a_restart_and_not_all_at_once() {
    const CONNECTORS: usize = 200;
    let mut bed = Bed::new(3, DAY);
    let connectors: Vec<ConnectorSide> =
        (0..CONNECTORS).map(|_| bed.connect(&ConnectorPlan::default(), None)).collect();
    let handles: Vec<_> = connectors.iter().map(|connector| Arc::clone(&connector.handle)).collect();
    let up = |handle: &Arc<adit::connector::Connector>| handle.counters().links_made.load(Ordering::Relaxed);
    bed.until("all have links", 5 * SECOND, || handles.iter().all(|handle| up(handle) == 1));
    for away in [Duration::from_millis(200), 3 * SECOND, 40 * SECOND] {
        bed.pass(10 * SECOND);
        bed.kill_edge();
        bed.pass(away);
        bed.start_edge(true);
        let began = bed.now();
        let before: u64 = handles.iter().map(up).sum();
        let mut busiest = 0;
        let mut last = before;
        for _ in 0..20 {
            bed.pass(Duration::from_millis(100));
            let now: u64 = handles.iter().map(up).sum();
            busiest = busiest.max(now - last);
            last = now;
        }
        assert_eq!(last - before, CONNECTORS as u64, "within {:?}, after {away:?}", bed.now() - began);
        if away > SECOND {
            assert!(busiest < CONNECTORS as u64 / 4, "{busiest} of {CONNECTORS} within 100 ms, after {away:?}");
        }
    }
    assert!(connectors.iter().all(|connector| enrolments(connector) == 1), "they kept their certificates");
}

#[test]
fn an_edge_without_an_authority_takes_the_secret_alone_and_one_that_gets_an_authority_does_not() {
    let mut bed = Bed::new(4, DAY);
    bed.kill_edge();
    bed.start_edge(false);
    let connector = bed.connect(&ConnectorPlan::default(), None);
    bed.call();
    assert_eq!(enrolments(&connector), 0);
    assert_eq!(connector.handle.edges()[0].status, EdgeStatus::Uncertified);
    bed.kill_edge();
    bed.start_edge(true);
    until_linked(&mut bed, &connector, 5 * SECOND);
    assert_eq!(enrolments(&connector), 1);
    assert_eq!(bed.edge_count(|counters| &counters.certificates_refused), 1, "it came without one first");
    bed.call();
    // And back again.
    bed.kill_edge();
    bed.start_edge(false);
    until_linked(&mut bed, &connector, 5 * SECOND);
    bed.call();
}

#[test]
fn an_edge_that_lost_its_authority_gives_new_certificates() {
    let mut bed = Bed::new(5, DAY);
    let mut connector = bed.connect(&ConnectorPlan::default(), None);
    until_linked(&mut bed, &connector, SECOND);
    bed.kill_edge();
    bed.replace_authority();
    bed.start_edge(true);
    until_linked(&mut bed, &connector, 5 * SECOND);
    assert_eq!(enrolments(&connector), 2);
    assert_eq!(bed.edge_count(|counters| &counters.certificates_refused), 1);
    assert_reported(&mut connector, &["does not trust the authority of this connector's certificate"]);
    bed.call();
}

#[test]
fn a_certificate_from_before_is_used_while_it_is_good() {
    let mut bed = Bed::new(6, DAY);
    let kept = bed.identity("tnl_a", -600);
    let connector = bed.connect(&ConnectorPlan::default(), Some(kept));
    until_linked(&mut bed, &connector, SECOND);
    assert_eq!(enrolments(&connector), 0);
    bed.pass(DAY * 2 / 3);
    assert_eq!((enrolments(&connector), links_down(&connector)), (1, 0), "renewed in time");
    // One that has ended is not even tried.
    let ended = bed.identity("tnl_a", -2 * DAY_S);
    let connector = bed.connect(&ConnectorPlan::default(), Some(ended));
    until_linked(&mut bed, &connector, SECOND);
    assert_eq!(enrolments(&connector), 1);
    assert_eq!(bed.edge_count(|counters| &counters.certificates_refused), 0);
}

#[test]
fn a_certificate_of_another_tunnel_is_refused_and_replaced() {
    let mut bed = Bed::new(7, DAY);
    let kept = bed.identity("tnl_b", 0);
    let mut connector = bed.connect(&ConnectorPlan::default(), Some(kept));
    until_linked(&mut bed, &connector, 5 * SECOND);
    assert_eq!(enrolments(&connector), 1);
    assert_eq!(bed.edge_count(|counters| &counters.certificates_refused), 1);
    assert_reported(
        &mut connector,
        &["the certificate belongs to another tunnel", "it is of tnl_b, and the link is for tnl_a"],
    );
}

#[test]
fn an_expired_certificate_of_a_connector_is_refused_and_replaced() {
    // The connector's clock is two days behind, so that it believes in its certificate; the edge's is right.
    let mut bed = Bed::new(8, DAY);
    let kept = bed.identity("tnl_a", -2 * DAY_S);
    let plan = ConnectorPlan { clock_off: -2 * DAY_S, ..ConnectorPlan::default() };
    bed.kill_edge();
    bed.edge_certificate_off = -5 * DAY_S;
    bed.start_edge(true);
    let mut connector = bed.connect(&plan, Some(kept));
    until_linked(&mut bed, &connector, 5 * SECOND);
    assert_eq!(bed.edge_count(|counters| &counters.certificates_refused), 1);
    assert_reported(
        &mut connector,
        &["finds this connector's certificate expired or not yet valid", "check both clocks"],
    );
    let view = &connector.handle.edges()[0];
    let skew = view.clock_skew.unwrap();
    assert!(!skew.ahead && skew.by >= 2 * DAY - SECOND, "{view:?}");
    // A wall clock that is wrong does not keep certificates from being renewed: their life is counted otherwise.
    bed.pass(2 * DAY);
    bed.call();
    assert_eq!(links_down(&connector), 0);
}

/// A connector that never gets a link, and what it tells of it.
fn in_vain(bed: &mut Bed, plan: &ConnectorPlan, words: &[&str]) -> ConnectorSide {
    let mut connector = bed.connect(plan, None);
    bed.pass(20 * SECOND);
    assert_eq!((links_up(&connector), enrolments(&connector)), (0, 0));
    let trouble = connector.handle.edges()[0].last_error.clone().expect("there is trouble");
    assert!(words.iter().all(|word| trouble.contains(word)), "{trouble}");
    assert_reported(&mut connector, words);
    connector
}

/// Asserts that the connector told people this, once.
#[track_caller]
fn assert_reported(connector: &mut ConnectorSide, words: &[&str]) {
    let events = connector.events();
    let tells = |event: &&ConnectorEvent| match event {
        ConnectorEvent::Refused { why, .. } | ConnectorEvent::Failed { why, .. } => {
            words.iter().all(|word| why.contains(word))
        }
        _ => false,
    };
    assert_eq!(events.iter().filter(tells).count(), 1, "{words:?} in {events:?}");
}

#[test]
fn an_expired_edge_certificate_is_reported_with_its_remedy() {
    let mut bed = Bed::new(9, DAY);
    bed.kill_edge();
    bed.edge_certificate_off = -11 * DAY_S;
    bed.start_edge(true);
    in_vain(&mut bed, &ConnectorPlan::default(), &["the edge's certificate expired on", "renew it at the edge"]);
    assert!(bed.edge_count(|counters| &counters.handshakes_failed) > 5);
}

#[test]
fn a_clock_a_day_behind_is_reported_with_its_remedy() {
    let mut bed = Bed::new(10, DAY);
    let plan = ConnectorPlan { clock_off: -DAY_S, ..ConnectorPlan::default() };
    in_vain(
        &mut bed,
        &plan,
        &["the edge's certificate is not valid before", "this machine's clock says", "set this machine's clock"],
    );
}

#[test]
fn a_clock_a_day_ahead_is_reported_and_does_no_harm() {
    let mut bed = Bed::new(11, DAY);
    let connector = bed.connect(&ConnectorPlan { clock_off: DAY_S + 60, ..ConnectorPlan::default() }, None);
    until_linked(&mut bed, &connector, SECOND);
    let skew = connector.handle.edges()[0].clock_skew.unwrap();
    assert!(skew.ahead && skew.by >= DAY, "{skew:?}");
    bed.pass(3 * DAY);
    bed.call();
    assert_eq!(links_down(&connector), 0);
}

#[test]
fn a_wrong_name_is_reported_with_its_remedy() {
    let mut bed = Bed::new(12, DAY);
    let plan = ConnectorPlan { edge_name: "other.test", ..ConnectorPlan::default() };
    in_vain(&mut bed, &plan, &["the edge's certificate is for", EDGE_NAME, "not for other.test", "`edge_name`"]);
}

#[test]
fn an_unknown_authority_is_reported_with_its_remedy() {
    let mut bed = Bed::new(13, DAY);
    let plan = ConnectorPlan { believes_other: true, ..ConnectorPlan::default() };
    in_vain(&mut bed, &plan, &["is signed by 'CN=", "not trusted here", "--edge-ca-file", "inspects TLS"]);
}

#[test]
fn a_wrong_secret_gets_no_certificate_and_an_error() {
    let mut bed = Bed::new(14, DAY);
    let plan = ConnectorPlan { secret: "a secret of nobody", ..ConnectorPlan::default() };
    let words = ["the edge refused the enrolment", "the tunnel id or its secret is unknown to this edge", "check both"];
    let connector = in_vain(&mut bed, &plan, &words);
    let asked = bed.edge_count(|counters| &counters.registrations_failed);
    assert!((3..=6).contains(&asked), "{asked} times in 20 s");
    let failed = connector.handle.counters().enrolments_failed.load(Ordering::Relaxed);
    assert_eq!(failed, asked);
    assert!(RegistrationRefusal::Credentials.is_final());
}

#[test]
fn a_secret_that_was_changed_does_not_come_back_with_an_old_certificate() {
    let mut bed = Bed::new(15, DAY);
    let kept = bed.identity("tnl_a", 0);
    let plan = ConnectorPlan { secret: "a secret that was changed", ..ConnectorPlan::default() };
    let mut connector = bed.connect(&plan, Some(kept));
    bed.pass(20 * SECOND);
    assert_eq!(links_up(&connector), 0);
    assert_reported(
        &mut connector,
        &["the edge refused the link", "the tunnel id or its secret is unknown to this edge"],
    );
    assert!(!bed.edge_events().iter().any(|event| matches!(event, EdgeEvent::Linked { .. })));
    let answered = Rc::clone(&bed.answered);
    assert_eq!(answered.get(), 0);
}

#[test]
fn a_pinned_tunnel_is_served_from_its_networks_alone() {
    let mut bed = Bed::new(16, DAY);
    bed.pin(&["192.0.2.0/24"]);
    let words = ["the tunnel may not be served from this address", "it comes from 10.1.", "connectors_from"];
    let connector = in_vain(&mut bed, &ConnectorPlan::default(), &words);
    bed.pin(&["192.0.2.0/24", "10.1.0.0/16"]);
    until_linked(&mut bed, &connector, 10 * SECOND);
    bed.call();
    // A link that comes with a certificate is looked at too.
    bed.pin(&["192.0.2.0/24"]);
    bed.kill_edge();
    bed.start_edge(true);
    bed.pin(&["192.0.2.0/24"]);
    bed.pass(10 * SECOND);
    assert_eq!(links_up(&connector), 1);
    assert!(bed.edge_count(|counters| &counters.links_refused) > 0);
}

#[test]
fn a_source_that_guesses_secrets_is_blocked_for_a_while_and_others_are_not() {
    const BURST: u64 = 3;
    let mut bed = Bed::new(31, DAY);
    bed.limit_failures(1, BURST);
    let guesser = bed.connect(&ConnectorPlan { secret: "not the secret of it", ..ConnectorPlan::default() }, None);
    bed.pass(60 * SECOND);
    // It never came as far as a link: each guess was an enrolment.
    assert_eq!((enrolments(&guesser), links_up(&guesser)), (0, 0));
    let refused = bed.edge_count(|counters| &counters.registrations_failed);
    assert!((BURST..=BURST + 1).contains(&refused), "{refused} guesses were heard in a minute");
    assert!(bed.edge_count(|counters| &counters.registrations_limited) > 0);
    assert_eq!(bed.edge_count(|counters| &counters.links_refused), 0);
    let honest = bed.connect(&ConnectorPlan::default(), None);
    until_linked(&mut bed, &honest, SECOND);
    bed.call();
}

#[test]
fn a_call_of_a_revoked_tunnel_is_answered_at_once() {
    let mut bed = Bed::new(20, DAY);
    // No connector is linked, and one may come.
    let (answer, took) = bed.refused_call();
    assert!(answer.contains("\"connector_offline\"") && took >= SECOND, "after {took:?}: {answer}");
    bed.withdraw();
    let (answer, took) = bed.refused_call();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"revoked\""), "{answer}");
    assert!(took < SECOND, "nobody can come, and it took {took:?}");
}
