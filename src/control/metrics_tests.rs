use std::collections::BTreeMap;

use crate::control::metric_families::BOUNDS_US;
use crate::control::metrics::metrics;
use crate::control::reading::{RoleKind, RoleReading};
use crate::control::sample;

/// A sample: its labels and its value.
type Sample = (BTreeMap<String, String>, f64);

/// Parses samples by name; panics on a line that is not valid OpenMetrics.
fn parse(text: &str) -> BTreeMap<String, Vec<Sample>> {
    let mut samples: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let mut family = String::new();
    for line in text.strip_suffix("# EOF\n").expect("the text ends with EOF").lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.split(' ');
            assert!(matches!(words.next(), Some("HELP" | "TYPE" | "UNIT")), "{line}");
            family = words.next().unwrap().to_owned();
            continue;
        }
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match head.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').unwrap())),
            None => (head, BTreeMap::new()),
        };
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
        assert!(name.starts_with(&family), "{line} is not of {family}");
        samples.entry(name.to_owned()).or_default().push((labels, value.parse().unwrap()));
    }
    samples
}

fn parse_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let (mut value, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().expect("a value ends with a quote") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c => c,
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} stands twice");
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}

#[test]
fn names_and_labels_are_stable() {
    let samples = parse(&metrics(sample::report()));
    let lines: Vec<String> = samples
        .iter()
        .map(|(name, rows)| format!("{name} {}", rows[0].0.keys().cloned().collect::<Vec<_>>().join(",")))
        .collect();
    assert_eq!(
        lines,
        [
            "adit_agent_connections_open core,role",
            "adit_approval_deliveries_total outcome",
            "adit_approval_links_total outcome",
            "adit_approvals_unwritten_total ",
            "adit_breaker_open method,role,route,tool",
            "adit_breaker_openings_total method,role,route,tool",
            "adit_breaker_refused_total method,role,route,tool",
            "adit_breaker_would_refuse_total method,role,route,tool",
            "adit_buffers_allocated_bytes core,role",
            "adit_buffers_allowance_bytes core,role",
            "adit_buffers_exhausted_total core,role",
            "adit_buffers_for_links_bytes core,role",
            "adit_buffers_for_receiving_bytes core,role",
            "adit_buffers_for_sending_bytes core,role",
            "adit_buffers_leased_bytes core,role",
            "adit_buffers_limit_bytes core,role",
            "adit_buffers_waiting core,role",
            "adit_build_info commit,version",
            "adit_call_phase_duration_seconds_bucket le,method,phase,route,tool",
            "adit_call_phase_duration_seconds_count method,phase,route,tool",
            "adit_call_phase_duration_seconds_sum method,phase,route,tool",
            "adit_calls_open core,role",
            "adit_calls_total method,outcome,route,tool",
            "adit_calls_without_label_total ",
            "adit_certificate_left_seconds of,role",
            "adit_clock_disagreements_total ",
            "adit_concurrency_in_flight role,route",
            "adit_concurrency_limit role,route",
            "adit_concurrency_refused_for_share_total role,route",
            "adit_concurrency_refused_total role,route",
            "adit_concurrency_waited_total role,route",
            "adit_concurrency_waiting role,route",
            "adit_concurrency_would_refuse_total role,route",
            "adit_config_reloads_total result",
            "adit_cores_silent role",
            "adit_dashboard_log_ins_total outcome",
            "adit_dashboard_streams_total outcome",
            "adit_deadline_seconds method,route,tool",
            "adit_deadlines_missed_total method,route,tool",
            "adit_engine_info driver,why",
            "adit_link_age_seconds core,link,role,tunnel",
            "adit_link_quic_congestion_window_bytes core,link,role,tunnel",
            "adit_link_quic_packets_lost core,link,role,tunnel",
            "adit_link_quic_packets_sent core,link,role,tunnel",
            "adit_link_round_trip_seconds core,link,role,tunnel",
            "adit_link_streams_open core,link,role,tunnel",
            "adit_link_windows_bytes core,role",
            "adit_links_ended_total role",
            "adit_links_open role",
            "adit_otlp_calls_dropped_total ",
            "adit_otlp_calls_waiting ",
            "adit_otlp_requests_total outcome,signal",
            "adit_otlp_spans_total outcome",
            "adit_sockets_open core,role",
            "adit_stdio_children role,route",
            "adit_stdio_exits_total kind,role,route",
            "adit_stdio_sessions role,route",
            "adit_tasks_open core,role",
            "adit_tools kind,route,standing",
            "adit_tunnel_hosts_unserved tunnel",
            "adit_tunnel_idle_seconds tunnel",
            "adit_upstream_answers_total class,method,route,tool",
            "adit_upstream_connections_open role,route",
            "adit_upstream_failing role,route",
            "adit_upstream_http2_connections_open role,route",
            "adit_upstream_http2_streams_open role,route",
            "adit_uptime_seconds ",
        ]
    );
}

#[test]
fn values_come_through_and_names_of_tools_are_escaped() {
    let samples = parse(&metrics(sample::report()));
    let only = |name: &str| samples[name][0].1;
    assert_eq!(only("adit_uptime_seconds"), 61.23);
    assert_eq!(only("adit_link_round_trip_seconds"), 0.000_042);
    assert_eq!(only("adit_link_quic_packets_lost"), 3.0);
    assert_eq!(only("adit_links_ended_total"), 5.0);
    assert_eq!(only("adit_tunnel_idle_seconds"), 720.5);
    assert_eq!(only("adit_tunnel_hosts_unserved"), 1.0);
    assert_eq!(samples["adit_engine_info"][0].0["why"], "epoll (as asked)");
    let calls = &samples["adit_calls_total"];
    let of = |outcome: &str| calls.iter().find(|(labels, _)| labels["outcome"] == outcome).map(|(_, n)| *n);
    assert_eq!((of("ok"), of("offline"), of("link_lost")), (Some(2.0), Some(1.0), None));
    assert_eq!(calls[0].0["tool"], "say \"hi\"\n");
    let answers = samples["adit_upstream_answers_total"].iter().map(|(labels, n)| (labels["class"].as_str(), *n));
    assert_eq!(answers.collect::<Vec<_>>(), [("2xx", 1.0), ("gateway", 1.0)]);
}

#[test]
fn buckets_are_cumulative_and_end_in_the_count() {
    let samples = parse(&metrics(sample::report()));
    let of_total = |name: &str| -> Vec<Sample> {
        samples[name].iter().filter(|(labels, _)| labels["phase"] == "total").cloned().collect()
    };
    let buckets = of_total("adit_call_phase_duration_seconds_bucket");
    let below = |le: &str| buckets.iter().find(|(labels, _)| labels["le"] == le).unwrap().1;
    assert_eq!((below("0.00015"), below("0.00025"), below("0.001"), below("0.0025")), (0.0, 1.0, 1.0, 2.0));
    assert_eq!(below("+Inf"), of_total("adit_call_phase_duration_seconds_count")[0].1);
    assert_eq!(of_total("adit_call_phase_duration_seconds_sum")[0].1, 0.001_32);
    assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    assert!(BOUNDS_US.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn nothing_to_tell_is_still_well_formed() {
    let mut report = sample::report();
    report.roles = vec![RoleReading::new(RoleKind::Connector, 2)];
    report.latency = None;
    let samples = parse(&metrics(report));
    assert_eq!(samples["adit_cores_silent"][0].1, 2.0);
    assert!(!samples.contains_key("adit_calls_total") && !samples.contains_key("adit_link_age_seconds"));
}

#[test]
fn a_counter_of_both_roles_has_one_help() {
    let (edge, connector) = (crate::edge::Counters::default().counts(), crate::connector::Counters::default().counts());
    let shared: Vec<_> =
        edge.iter().filter_map(|edge| Some((edge, connector.iter().find(|count| count.name == edge.name)?))).collect();
    assert!(!shared.is_empty());
    for (edge, connector) in shared {
        assert_eq!(edge.help, connector.help, "{}", edge.name);
    }
}
