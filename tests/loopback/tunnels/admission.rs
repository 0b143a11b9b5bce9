//! Who may call a tunnel and link for it, changed while the edge runs.

use super::*;

#[test]
fn access_to_a_tunnel_can_be_set_while_the_edge_runs_and_survives_other_changes() {
    let mut site = Site::new("auto");
    let made = site.create(&["--host", "a.test", "--allow", "192.0.2.0/24"]);
    let id = &made.tunnel.id;
    let _connector = site.connect("a.test", &made.token.tunnel_token);
    assert_eq!(site.call("a.test", "echo").0, 403, "as soon as it is made");
    // Another tunnel is made, and the configuration read again: neither opens it.
    site.create(&["--host", "b.test"]);
    site.edge.as_ref().unwrap().signal("HUP");
    site.edge.as_ref().unwrap().event("reloaded");
    assert_eq!(site.call("a.test", "echo").0, 403);
    let message = site.update(id, &["--dry-run", "--reason", "trying"]);
    assert_eq!(message.tunnel.allow_from, ["192.0.2.0/24"]);
    assert!(message.tunnel.admission_dry_run);
    assert_eq!(site.call("a.test", "echo").0, 200);
    site.update(id, &["--dry-run=false", "--allow", "127.0.0.0/8", "--allow", "::1"]);
    assert_eq!(site.call("a.test", "echo").0, 200);
    site.update(id, &["--deny", "127.0.0.1"]);
    assert_eq!(site.call("a.test", "echo").0, 403);
    // It is kept over a restart.
    site.end_edge();
    site.run_edge("auto");
    assert_eq!(site.call("a.test", "echo").0, 403);
    let shown = String::from_utf8(site.run(&["tunnel", "show", id]).stdout).unwrap();
    assert!(
        shown.contains("allowed from 127.0.0.0/8, ::1/128") && shown.contains("denied from  127.0.0.1/32"),
        "{shown}"
    );
    let opened = site.update(id, &["--deny", "none", "--allow", "none"]);
    assert!(opened.tunnel.allow_from.is_empty() && opened.tunnel.deny_from.is_empty(), "{opened:?}");
    for (args, code) in [
        (["update", id, "--allow", "set:vendor"], "network_set"),
        (["update", id, "--allow", "AS64500"], "asn_file"),
        (["update", id, "--allow", "10.0.0.1/8"], "write 10.0.0.0/8"),
        (["update", "tnl_none", "--name", "x"], "tunnel_not_found"),
    ] {
        let message = site.refused(&args);
        assert!(message.contains(code), "{args:?}: {message}");
    }
}

#[test]
fn access_to_a_configured_tunnel_survives_changes_of_the_store() {
    let mut site = Site::new("auto");
    site.end_edge();
    let configure = |site: &Site, from: &str| {
        site.configure(&format!(
            "[[tunnel]]\nid = 'tnl_file'\nsecret = 'the-secret-of-the-file'\nhosts = ['f.test']\nallow_from = ['{from}']\n"
        ));
    };
    configure(&site, "192.0.2.0/24");
    site.run_edge("auto");
    assert_eq!(site.call("f.test", "echo").0, 403);
    let made = site.create(&["--host", "a.test", "--deny", "127.0.0.1"]);
    assert_eq!((site.call("f.test", "echo").0, site.call("a.test", "echo").0), (403, 403));
    configure(&site, "127.0.0.1");
    let edge = site.edge.as_ref().unwrap();
    edge.signal("HUP");
    edge.event("reloaded");
    assert_eq!((site.call("f.test", "echo").0, site.call("a.test", "echo").0), (503, 403));
    site.run_tunnel(&["archive", &made.tunnel.id]);
    assert_eq!((site.call("f.test", "echo").0, site.call("a.test", "echo").0), (503, 421));
}

#[test]
fn a_set_that_a_tunnel_names_is_read_again_and_cannot_be_taken_from_under_it() {
    let mut site = Site::new("auto");
    site.end_edge();
    let vendor = site.data_dir().with_file_name("vendor.txt");
    fs::write(&vendor, "127.0.0.1\n").unwrap();
    let set = format!("[[network_set]]\nname = 'vendor'\nfile = '{}'\n", vendor.display());
    site.configure(&set);
    site.run_edge("auto");
    let made = site.create(&["--host", "a.test", "--allow", "set:vendor"]);
    let _connector = site.connect("a.test", &made.token.tunnel_token);
    assert_eq!(site.call("a.test", "echo").0, 200);
    fs::write(&vendor, "192.0.2.1\n").unwrap();
    let edge = site.edge.as_ref().unwrap();
    edge.signal("HUP");
    edge.event("reloaded");
    assert_eq!(site.call("a.test", "echo").0, 403);
    // Without the set nobody could say who is meant.
    site.configure("");
    edge.signal("HUP");
    let refused = edge.event("reload_refused")["faults"].to_string();
    assert!(refused.contains("vendor") && refused.contains("adit tunnel update"), "{refused}");
    // An edge that starts without it lets nobody call that tunnel, and serves the others.
    site.end_edge();
    site.run_edge("auto");
    assert_eq!(site.call("a.test", "echo").0, 403);
    site.update(&made.tunnel.id, &["--allow", "127.0.0.1"]);
    assert_ne!(site.call("a.test", "echo").0, 403);
}

#[test]
fn connectors_that_may_no_longer_come_from_where_they_are_are_ended() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test", "--connectors-from", "127.0.0.0/8"]);
    let connector = site.connect("a.test", &made.token.tunnel_token);
    assert_eq!(site.call("a.test", "echo").0, 200);
    let slow = site.begin_call("a.test", "slow");
    site.upstream.until_called();
    let message = site.update(&made.tunnel.id, &["--connectors-from", "192.0.2.7"]);
    assert_eq!(message.tunnel.connectors_from, ["192.0.2.7/32"]);
    assert_eq!(slow.answer().0, 503);
    connector.event("unlinked");
    assert_eq!(site.call("a.test", "echo").0, 503);
    site.upstream.release();
    site.update(&made.tunnel.id, &["--connectors-from", "none"]);
    site.until_linked(&made.tunnel.id);
    assert_eq!(site.call("a.test", "echo").0, 200);
}
