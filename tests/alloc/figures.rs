//! Nothing is allocated when a call is routed, timed and recorded, once its label is known.

use std::time::Duration;

use adit::base::{LinkId, Rng};
use adit::latency::{
    CallPhases, ConnectorTimes, EdgeTimes, LatencySettings, Outcome, Recorder, SERVER_TIMING_LEN_MAX, server_timing,
};
use adit::route::{Hostname, LinkChoice, LinkLoad, RouteEntry, RouteTable, choose_link};

use crate::counting::allocations;

#[test]
fn a_call_whose_label_is_known_allocates_nothing() {
    let entries = ["a.example", "*.b.example"].map(|host| RouteEntry {
        host: host.to_owned(),
        place: String::new(),
        target: host.len(),
    });
    let table = RouteTable::new(entries).expect("both hosts are sound");
    let settings = LatencySettings { labels_per_route_max: 8, ..LatencySettings::default() };
    let mut recorder = Recorder::new(settings);
    let mut header = Vec::with_capacity(SERVER_TIMING_LEN_MAX);
    let mut rng = Rng::new(1);
    let tools: Vec<String> = (0..12).map(|i| format!("tool{i}")).collect();

    let mut round = |n: usize| {
        for tool in tools.iter().cycle().take(n) {
            let host = Hostname::of_authority(b"X.B.example:8443").expect("the host is sound");
            assert_eq!(table.lookup(&host), Some(&"*.b.example".len()));
            let (id, none) = (LinkId(1), Duration::ZERO);
            let link = LinkLoad {
                id,
                open_streams: 0,
                streams_max: 1,
                draining: false,
                silent: none,
                owing: none,
                unproven: 0,
            };
            assert_eq!(choose_link([link], LinkId(0)), LinkChoice::Link(LinkId(1)));

            let mut draw = || Duration::from_nanos(rng.next_u64() >> 20);
            let edge = EdgeTimes { edge: draw(), total: draw(), total_last: Some(draw()), ..EdgeTimes::default() };
            let far = ConnectorTimes { connector: draw(), upstream: draw(), ..ConnectorTimes::default() };
            let phases = CallPhases::split(edge, Some(far));
            header.clear();
            server_timing(&phases, &mut header);
            let label = recorder.label("b", "tools/call", tool);
            recorder.record(label, &phases, Outcome::Ok);
        }
    };
    round(tools.len());
    let before = allocations();
    round(10_000);
    assert_eq!(allocations() - before, 0);
    assert!(before > 0, "the counter counts");
    assert_eq!((recorder.sets(), recorder.over_cap() > 3_000), (9, true));
}
