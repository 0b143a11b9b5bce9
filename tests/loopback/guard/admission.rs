//! Lists of networks, AS numbers and sets, for the whole edge and for one tunnel.

use std::fs;
use std::net::Ipv4Addr;

use super::mmdb::asn_file;
use super::site::{LOCALHOST, Site, ask};

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const THIRD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn is_upstreams(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.contains("upstream ")
}

#[test]
fn denied_sources_are_dropped_before_tls() {
    let site = Site::start([""; 2], "[admission]\ndeny_from = \"127.0.0.2\"\n");
    assert!(is_upstreams(&site.get(LOCALHOST, "one.test").unwrap()));
    assert!(site.get(OTHER, "one.test").is_err(), "the handshake must not come about");
    assert!(site.count("admission_denied") >= 1);
    assert_eq!(site.count("handshakes_failed"), 0, "nothing of it was read");
    // Connectors have lists of their own.
    site.reload([""; 2], "[admission]\nallow_from = \"127.0.0.3\"\n");
    assert!(site.get(LOCALHOST, "one.test").is_err());
    assert!(is_upstreams(&site.get(THIRD, "one.test").unwrap()));
    assert_eq!(site.status().links.len(), 2);
}

#[test]
fn a_connection_that_is_kept_is_judged_by_the_lists_of_the_day() {
    let site = Site::start([""; 2], "");
    let mut agent = site.agent(OTHER, "one.test", b"").unwrap();
    let get = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
    assert!(is_upstreams(&ask(&mut agent, get).unwrap()));
    site.reload([""; 2], "[admission]\ndeny_from = \"127.0.0.2\"\n");
    assert!(ask(&mut agent, get).unwrap().starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_tunnel_has_its_own_lists_and_says_so() {
    let site = Site::start(["allow_from = \"127.0.0.3\"\n", ""], "");
    let answer = site.get(OTHER, "one.test").unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "network_refused");
    assert!(!answer.contains("127.0.0."), "it does not tell what the lists hold");
    assert!(is_upstreams(&site.get(OTHER, "two.test").unwrap()));
    assert!(is_upstreams(&site.get(THIRD, "one.test").unwrap()));
    assert_eq!(site.count("admission_denied"), 1);
}

#[test]
fn rules_can_be_tried_out_before_they_are_in_force() {
    let strict = "allow_from = \"127.0.0.3\"\nadmission_dry_run = true\n";
    let site = Site::start([strict, ""], "[admission]\ndeny_from = \"127.0.0.2\"\ndry_run = true\n");
    assert!(is_upstreams(&site.get(LOCALHOST, "one.test").unwrap()));
    assert_eq!((site.count("admission_dry_run"), site.count("admission_denied")), (1, 0));
    // Once at the gate, once for the call.
    assert!(is_upstreams(&site.get(OTHER, "two.test").unwrap()));
    assert_eq!((site.count("admission_dry_run"), site.count("admission_denied")), (3, 0));
}

#[test]
fn a_set_of_networks_is_read_again_when_its_file_changes() {
    let more = "[admission]\nallow_from = \"set:vendor\"\n[[network_set]]\nname = \"vendor\"\nfile = \"vendor.txt\"\n";
    let site = Site::start([""; 2], "");
    fs::write(site.file("vendor.txt"), "# egress\n127.0.0.3\n").unwrap();
    site.reload([""; 2], more);
    assert!(site.get(OTHER, "one.test").is_err());
    assert!(is_upstreams(&site.get(THIRD, "one.test").unwrap()));
    // Nobody sends a signal: the file is watched.
    fs::write(site.file("vendor.txt"), r#"{"prefixes":[{"ipv4Prefix":"127.0.0.2/32"}]}"#).unwrap();
    site.reloads_until(|| site.get(OTHER, "one.test").is_ok_and(|answer| is_upstreams(&answer)));
    assert!(site.get(THIRD, "one.test").is_err());
    // One that says nothing would let everybody in: it is refused, and what was known stays.
    fs::write(site.file("vendor.txt"), "# nothing yet\n").unwrap();
    let refused = site.edge.event("reload_refused")["faults"].to_string();
    assert!(refused.contains("vendor.txt: it holds no network"), "{refused}");
    assert!(is_upstreams(&site.get(OTHER, "one.test").unwrap()));
}

#[test]
fn autonomous_systems_are_known_from_a_file_that_is_read_again_when_it_changes() {
    let more = "[admission]\nasn_file = \"asn.mmdb\"\ndeny_from = \"AS64666\"\n";
    let site = Site::start([""; 2], "");
    fs::write(site.file("asn.mmdb"), asn_file(&[(OTHER, 32, 64_666), (THIRD, 32, 64_500)])).unwrap();
    site.reload(["allow_from = \"AS64500\"\n", ""], more);
    assert!(site.get(OTHER, "two.test").is_err());
    assert!(is_upstreams(&site.get(THIRD, "one.test").unwrap()));
    assert!(site.get(LOCALHOST, "one.test").unwrap().starts_with("HTTP/1.1 403 "), "of no system that is known");
    assert!(is_upstreams(&site.get(LOCALHOST, "two.test").unwrap()));
    fs::write(site.file("asn.mmdb"), asn_file(&[(Ipv4Addr::new(127, 0, 0, 0), 8, 4_200_000_000)])).unwrap();
    site.reloads_until(|| site.get(OTHER, "two.test").is_ok_and(|answer| is_upstreams(&answer)));
    assert!(site.get(THIRD, "one.test").unwrap().starts_with("HTTP/1.1 403 "));
    fs::write(site.file("asn.mmdb"), "no such file").unwrap();
    let refused = site.edge.event("reload_refused")["faults"].to_string();
    assert!(refused.contains("admission.asn_file") && refused.contains("MaxMind's format"), "{refused}");
}
