//! A path that loses large packets without a word: the doctor says so, and says what helps.

use std::fs;

use adit::private;
use serde_json::Value;

use crate::process::command;
use crate::site::Site;
use crate::space;

const HOST: &str = "a.test";

pub(crate) fn the_doctor_tells_a_path_that_loses_large_packets() -> Result<(), String> {
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
    let told = || {
        let args = ["doctor", "--json", "--config", config.to_str().unwrap()];
        let said: Value = serde_json::from_slice(&command(&args).output().unwrap().stdout).unwrap();
        let findings = said["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["check"] == "edge.certificate").unwrap();
        (found["verdict"].as_str().unwrap().to_owned(), found["found"].as_str().unwrap().to_owned())
    };
    assert_eq!(told().0, "ok");
    let port = edge.rsplit(':').next().unwrap();
    for rule in [
        "add table inet lossy".to_owned(),
        "add chain inet lossy input { type filter hook input priority 0; }".to_owned(),
        format!("add rule inet lossy input tcp dport {port} meta length > 1000 drop"),
        format!("add rule inet lossy input tcp sport {port} meta length > 1000 drop"),
    ] {
        space::done(&["nft", &rule], "install nftables");
    }
    let (verdict, found) = told();
    assert_eq!(verdict, "fail", "{found}");
    assert!(found.contains("large packets are lost") && found.contains("MTU") && found.contains("MSS"), "{found}");
    // With nothing at all coming through, that is not said.
    space::done(&["nft", &format!("add rule inet lossy input tcp dport {port} meta length > 100 drop")], "");
    let (verdict, found) = told();
    assert!(verdict == "fail" && !found.contains("large packets"), "{found}");
    Ok(())
}
