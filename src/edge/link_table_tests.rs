//! The links of one core, without traffic on them.

use super::*;
use crate::base::{CoreId, Secret, Traffic};
use crate::edge::served_hosts::Serves;
use crate::edge::tests::{Fixture, tables, tunnel};
use crate::latency::LatencySettings;
use crate::link::CallOpen;
use crate::policy::Admission;
use crate::wire::mux::Fault;

const CONNECTOR: u64 = 7;

fn add(fixture: &Fixture, table: &LinkTable) -> Carrier {
    let proof = fixture.edge.tables().verify(&tunnel(), &Secret::from("secret"), fixture.core.now()).cloned();
    let proof = Proof { credential: proof.unwrap(), from: None };
    let carrier = Carrier::Link(fixture.link(table.next_id()));
    let of = Registered { tunnel: &tunnel(), instance: CONNECTOR, index: 0, software: "adit/test", proof: &proof };
    table.add(&of, &carrier);
    carrier
}

fn table(fixture: &Fixture) -> LinkTable {
    LinkTable::new(&fixture.core, &fixture.edge, fixture.events.clone())
}

#[test]
fn ids_of_links_differ_between_cores() {
    let fixture = Fixture::new(Admission::default());
    let table = table(&fixture);
    // Core 1 of two has the odd numbers.
    assert_eq!([table.next_id(), table.next_id(), table.next_id()], [LinkId(1), LinkId(3), LinkId(5)]);
}

#[test]
fn a_link_is_announced_reported_and_forgotten() {
    let mut fixture = Fixture::new(Admission::default());
    let table = table(&fixture);
    let seen = table.changes();
    let carrier = add(&fixture, &table);
    assert!(table.changes() > seen);
    let is_present = || fixture.edge.presence.cores_with(&tunnel(), |of, _| of == CONNECTOR).contains(CoreId(1));
    assert!(is_present());
    let report = table.report();
    assert_eq!((report.len(), report[0].id, &*report[0].software), (1, carrier.id(), "adit/test"));
    let idle = |table: &LinkTable, now: Time| table.by_tunnel.borrow()[&tunnel()].entries[0].idle(now);
    let now = |s| fixture.core.now() + Duration::from_secs(s);
    assert_eq!(idle(&table, now(60)), Duration::from_secs(60), "since it came up");
    let stream =
        carrier.open(&CallOpen { host: "a.test", call: 1, traffic: Traffic::Plain, peer: None, until: None }).unwrap();
    assert_eq!(idle(&table, now(60)), Duration::ZERO, "a call is under way");
    drop(stream);
    let label = Recorder::new(LatencySettings::default()).label("a", "b", "");
    table.by_tunnel.borrow()[&tunnel()].entries[0].usage.count(label, now(50));
    table.on_draining(&tunnel(), CONNECTOR, &carrier);
    assert!(!is_present());
    table.remove(&tunnel(), &carrier, &Recorder::new(LatencySettings::default()));
    assert!(table.report().is_empty());
    let mut next = || futures_lite::future::block_on(fixture.sent.recv()).unwrap();
    assert!(matches!(next(), EdgeEvent::Linked { link, .. } if link == carrier.id()));
    assert!(matches!(next(), EdgeEvent::Unlinked { link, .. } if link == carrier.id()));
}

#[test]
fn a_call_goes_to_the_link_with_the_fewest_streams_that_takes_calls() {
    let fixture = Fixture::new(Admission::default());
    let table = table(&fixture);
    let carriers = [add(&fixture, &table), add(&fixture, &table)];
    let mut opened = Vec::new();
    let mut call = || {
        let (choice, chosen) = table.choose(&tunnel(), Wanted::Any, Connectors::All).unwrap();
        let chosen = chosen.unwrap();
        assert_eq!(choice, LinkChoice::Link(chosen.carrier.id()));
        let open = CallOpen { host: "a.test", call: 1, traffic: Traffic::Plain, peer: None, until: None };
        opened.push(chosen.carrier.open(&open).unwrap());
        chosen.carrier.id()
    };
    assert_ne!(call(), call(), "after the first call the other link has fewer streams");
    carriers[0].drain();
    assert_eq!([call(), call()], [carriers[1].id(); 2]);
    assert_eq!(carriers[1].streams_live(), 3);
}

#[test]
fn links_take_turns_and_only_those_of_a_connector_that_fits_are_chosen() {
    let fixture = Fixture::new(Admission::default());
    let table = table(&fixture);
    let carriers = [add(&fixture, &table), add(&fixture, &table)];
    let next = || {
        let chosen = table.choose(&tunnel(), Wanted::Any, Connectors::All).unwrap().1.unwrap();
        table.on_call(&tunnel(), &chosen.carrier, true);
        chosen.carrier.id()
    };
    let [first, second] = carriers.each_ref().map(Carrier::id);
    assert_eq!([next(), next(), next()], [first, second, first]);
    table.on_call(&tunnel(), &carriers[1], false);
    assert_eq!(next(), second, "a call that had to go there does not change the turn");
    assert!(table.has(&tunnel(), CONNECTOR) && !table.has(&tunnel(), 8));
    assert_eq!(
        table.choose(&tunnel(), Wanted::Any, Connectors::Only(8)).unwrap().0,
        LinkChoice::Offline(Offline::NoConnector)
    );
}

#[test]
fn hosts_are_checked_unless_all_connectors_serve_all_hosts() {
    let fixture = Fixture::new(Admission::default());
    let (table, core_tables) = (table(&fixture), CoreTables::new(&fixture.edge));
    let unasked = || {
        core_tables.get();
        let choice = table.choose(&tunnel(), Wanted::AllServe(core_tables.version()), Connectors::All);
        choice.map(|(choice, _)| choice)
    };
    assert_eq!(unasked(), None, "it has no link on this core");
    let link = LinkChoice::Link(add(&fixture, &table).id());
    assert_eq!(unasked(), None, "it was not looked up yet");
    assert!(table.all_serve(&tunnel(), &core_tables), "there is nothing to serve");
    assert_eq!(unasked(), Some(link));
    add(&fixture, &table);
    assert_eq!(unasked(), None, "another connector may serve less");
    assert!(table.all_serve(&tunnel(), &core_tables));
    let mut tables = tables("secret", Admission::default());
    let hosts = ["a.test".parse::<crate::base::HostPattern>().unwrap()];
    tables.tunnels.get_mut(&tunnel()).unwrap().hosts = hosts.into_iter().collect();
    fixture.edge.reload(tables);
    assert_eq!(unasked(), None, "the tunnel may have other hosts now");
    assert!(!table.all_serve(&tunnel(), &core_tables), "the connectors have not reported hosts yet");
    assert_eq!(unasked(), None);
    let choose = |least| table.choose(&tunnel(), Wanted::Of("a.test", least), Connectors::All).unwrap().0;
    assert_eq!((choose(Serves::Unknown), choose(Serves::Yes)), (link, LinkChoice::Offline(Offline::NoConnector)));
}

#[test]
fn a_review_ends_links_whose_credential_is_revoked_and_drains_those_whose_credential_expired() {
    let fixture = Fixture::new(Admission::default());
    let table = table(&fixture);
    let carrier = add(&fixture, &table);
    let counts = || {
        let reviewed = table.review();
        (reviewed.ended, reviewed.draining)
    };
    assert_eq!(counts(), (0, 0));

    let mut expired = tables("secret", Admission::default());
    for credential in expired.tunnels.get_mut(&tunnel()).into_iter().flat_map(|entry| &mut entry.credentials) {
        credential.until = Time::ZERO;
    }
    fixture.edge.reload(expired);
    assert_eq!(counts(), (0, 1));
    assert!(carrier.is_draining() && carrier.ended().is_none());
    assert_eq!(counts(), (0, 0), "it is already draining");

    fixture.edge.reload(tables("another secret", Admission::default()));
    assert_eq!(counts(), (1, 0));
    assert_eq!(carrier.ended().unwrap().to_string(), Fault::Revoked.to_string());
    assert_eq!(counts(), (0, 0), "it has already ended");
}
