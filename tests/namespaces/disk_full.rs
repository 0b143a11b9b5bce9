//! A disk that is full, a real one though small: an edge says so, loses nothing, and goes on when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::site::Site;
use crate::space;

/// The size of the disk.
const DISK: &str = "size=4m";

pub(crate) fn a_change_is_refused_and_nothing_is_lost() -> Result<(), String> {
    space::done(&["ip", "link", "set", "lo", "up"], "install iproute2");
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().to_str().unwrap();
    space::done(&["mount", "-t", "tmpfs", "-o", DISK, "none", at], "mount is part of every distribution");
    let mut site = Site::within(disk.path(), "epoll");
    let first = site.create(&["--host", "first.test"]);
    let _connector = site.connect("first.test", &first.token.tunnel_token);
    let ballast = disk.path().join("ballast");
    fill(&ballast);
    // What was written before may leave room for some more.
    let mut made = 1;
    let message = loop {
        let host = format!("h{made}.test");
        let done = site.run(&["tunnel", "create", "--host", &host]);
        if !done.status.success() {
            break space::text(&done);
        }
        made += 1;
        assert!(made < 1_000, "the disk does not fill up");
    };
    assert!(message.contains("store_full") && message.contains("free some space"), "{message}");
    assert_eq!(site.call("first.test", "echo").0, 200, "calls need no disk");
    // What has to be done in a hurry is refused as clearly, and not half done.
    let message = site.run(&["tunnel", "revoke", &first.tunnel.id]);
    if !message.status.success() {
        assert!(space::text(&message).contains("store_full"), "{}", space::text(&message));
        assert_eq!(site.call("first.test", "echo").0, 200);
    }
    let count = |site: &Site| site.list(&[]).len();
    assert_eq!(count(&site), made);
    // There is room again: nobody has to restart anything.
    fs::remove_file(&ballast).unwrap();
    let after = site.create(&["--host", "after.test"]);
    assert_eq!(after.tunnel.hosts, ["after.test"]);
    site.end_edge();
    site.run_edge("epoll");
    assert_eq!(count(&site), made + 1);
    assert_eq!(site.call("after.test", "echo").0, 503, "it is served again");
    Ok(())
}

pub(crate) fn calls_are_refused_while_their_log_has_no_room() -> Result<(), String> {
    space::done(&["ip", "link", "set", "lo", "up"], "install iproute2");
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().to_str().unwrap();
    space::done(&["mount", "-t", "tmpfs", "-o", DISK, "none", at], "mount is part of every distribution");
    let mut site = Site::new("epoll");
    site.end_edge();
    let log = disk.path().join("log");
    site.configure(&format!("[audit]\nmode = 'required'\ndir = '{}'\n", log.display()));
    site.run_edge("epoll");
    let made = site.create(&["--host", "first.test"]);
    let _connector = site.connect("first.test", &made.token.tunnel_token);
    assert_eq!(site.call("first.test", "before").0, 200);
    let ballast = disk.path().join("ballast");
    fill(&ballast);
    // The file of the log may have a page that is not full yet.
    let mut answered = vec!["before".to_owned()];
    let refused = loop {
        let tool = format!("t{}", answered.len());
        let (status, reply) = site.call("first.test", &tool);
        if status != 200 {
            assert_eq!(status, 503, "{reply}");
            break reply;
        }
        answered.push(tool);
        assert!(answered.len() < 100_000, "the disk does not fill up");
    };
    // The tool has run, and its answer is withheld.
    assert_eq!(refused["error"]["data"]["reason"], "unrecorded", "{refused}");
    let (status, reply) = site.call("first.test", "later");
    assert_eq!((status, &reply["error"]["data"]["reason"]), (503, &json!("audit_unavailable")), "{reply}");
    let reply = site.refused(&["create", "--host", "second.test"]);
    assert!(reply.contains("audit_unavailable"), "{reply}");
    // There is room again: nobody has to restart anything.
    fs::remove_file(&ballast).unwrap();
    while site.call("first.test", "after").0 != 200 {}
    answered.push("after".to_owned());
    site.end_edge();
    let verified: Value = site.adit(&["audit", "verify", "--json", log.to_str().unwrap()]);
    assert_eq!(verified["ok"], true, "{verified}");
    assert!(verified["notes"].to_string().contains("could not be written"), "{verified}");
    let lines = site.run(&["audit", "query", "--json", "--limit", "100000", log.to_str().unwrap()]);
    let text = String::from_utf8(lines.stdout).unwrap();
    for tool in answered {
        assert!(text.contains(&format!("\"name\":\"{tool}\"")), "{tool} is not in the log");
    }
    Ok(())
}

/// Takes all the room that is left.
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).unwrap();
    for piece in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![0; piece]).is_ok() {}
    }
}
