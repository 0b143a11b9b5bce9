//! A path that loses large packets without a word: the doctor says so, and says what helps.

use std::fs;

use adit::private;
use serde_json::Value;

use crate::packet_filter::PacketFilter;
use crate::process::command;
use crate::site::Site;
use crate::space;

const HOST: &str = "a.test";

pub(crate) fn the_doctor_tells_a_path_that_loses_large_packets() -> Result<(), String> {
    let (verdict, found) = finding_for_a_path_that_loses("length > 1000");
    assert_eq!(verdict, "fail", "{found}");
    assert!(found.contains("large packets are lost") && found.contains("MTU") && found.contains("MSS"), "{found}");
    Ok(())
}

pub(crate) fn the_doctor_does_not_blame_the_size_where_nothing_comes_through() -> Result<(), String> {
    let (verdict, found) = finding_for_a_path_that_loses("length > 100");
    assert!(verdict == "fail" && !found.contains("large packets"), "{found}");
    Ok(())
}

/// The finding of the doctor about the edge's certificate once packets of these lengths are lost, both ways.
fn finding_for_a_path_that_loses(lengths: &str) -> (String, String) {
    // Packets on loopback are as those on a wire: not joined before they are filtered.
    space::done(&["ip", "link", "set", "lo", "up", "gso_max_segs", "1"], "install iproute2");
    let dir = tempfile::tempdir().unwrap();
    let site = Site::within(dir.path(), "epoll");
    let made = site.create(&["--host", HOST]);
    let token = dir.path().join("doctor.token");
    private::write(&token, made.token.tunnel_token.as_bytes()).unwrap();
    let config = dir.path().join("doctor.toml");
    let (edge, upstream) = (&site.connectors, site.upstream.address);
    let text = format!(
        "[connect]\nedge = '{edge}'\ntoken_file = 'doctor.token'\n[[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\n"
    );
    fs::write(&config, text).unwrap();
    let finding = || {
        let args = ["doctor", "--json", "--config", config.to_str().unwrap()];
        let report: Value = serde_json::from_slice(&command(&args).output().unwrap().stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == "edge.certificate").unwrap();
        (found["verdict"].as_str().unwrap().to_owned(), found["found"].as_str().unwrap().to_owned())
    };
    assert_eq!(finding().0, "ok");
    let port = edge.rsplit(':').next().unwrap();
    let filter = PacketFilter::new("lossy");
    ["dport", "sport"].iter().for_each(|way| filter.add(&format!("tcp {way} {port} meta {lengths} drop")));
    finding()
}
