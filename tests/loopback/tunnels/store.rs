//! The store and the data directory: damaged, restored, held by others.

use super::*;

#[test]
fn a_damaged_store_is_reported_and_replaced_by_its_back_up() {
    let mut site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let backup = site.data_dir().join("mine.sqlite");
    // While the edge runs.
    let done = site.run(&["edge", "backup", "--to", text_of(&backup)]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o7777, 0o600);
    let refused = site.run(&["edge", "restore"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another `adit edge` uses"), "the edge runs");
    site.end_edge();

    let store = site.data_dir().join("store.sqlite");
    let mut bytes = fs::read(&store).unwrap();
    bytes[4096..].fill(0);
    fs::write(&store, &bytes).unwrap();
    let message = start_refused(&site.data_dir());
    assert!(message.contains("is damaged") && message.contains("adit edge restore --data-dir"), "{message}");
    assert!(fs::read(&store).unwrap() == bytes, "it was not touched");
    let done = site.run(&["edge", "restore", "--from", text_of(&backup)]);
    assert!(String::from_utf8_lossy(&done.stdout).contains("is kept as"), "{}", String::from_utf8_lossy(&done.stderr));
    site.run_edge("auto");
    assert_eq!(site.show(&made.tunnel.id).id, made.tunnel.id);
}

#[test]
fn a_restore_lists_its_credentials_with_the_command_that_revokes_them() {
    let mut site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let (id, credential) = (made.tunnel.id, made.token.id);
    let backup = site.data_dir().join("mine.sqlite");
    assert!(site.run(&["edge", "backup", "--to", text_of(&backup)]).status.success());
    site.run_tunnel(&["revoke", &id]);
    site.end_edge();
    let restore = |site: &Site, more: &[&str]| {
        let done = site.run(&[&["edge", "restore", "--from", text_of(&backup)], more].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let first = restore(&site, &[]);
    let command = format!("\n  adit tunnel revoke {id} --credential {credential}\n");
    assert!(first.contains(&command), "{first}");
    site.run_edge("auto");
    assert_eq!(site.show(&id).state, TunnelState::Offline);
    site.run_tunnel(&["revoke", &id, "--credential", &credential]);
    site.end_edge();
    let message = restore(&site, &["--keep-withdrawn"]);
    assert!(message.contains(&credential) && !message.contains(&command), "{message}");
    site.run_edge("auto");
    assert_eq!(site.show(&id).state, TunnelState::Revoked);
}

#[test]
fn an_edge_finishes_a_restore_that_was_cut_off() {
    let mut site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let store = site.data_dir().join("store.sqlite");
    let pending = site.data_dir().join("store.sqlite.restored-20270115T080000Z");
    assert!(site.run(&["edge", "backup", "--to", text_of(&pending)]).status.success());
    site.create(&["--host", "b.test"]);
    site.end_edge();
    // Just before the last move, where no store is left.
    fs::rename(&store, site.data_dir().join("store.sqlite.replaced-20270115T080000Z")).unwrap();
    for args in [&["edge", "backup"][..], &["edge", "init"]] {
        let stderr = String::from_utf8(site.run(args).stderr).unwrap();
        assert!(stderr.contains("was interrupted"), "{stderr}");
    }
    assert!(!store.exists(), "no empty one took its place");
    site.run_edge("auto");
    let ids: Vec<String> = site.list(&[]).into_iter().map(|tunnel| tunnel.id).collect();
    assert_eq!(ids, [made.tunnel.id]);
}

#[test]
fn a_store_that_somebody_holds_stops_no_call_and_loses_nothing() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let _connector = site.connect("a.test", &made.token.tunnel_token);
    let holder = rusqlite::Connection::open(site.data_dir().join("store.sqlite")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let message = site.refused(&["create", "--host", "b.test"]);
    assert!(message.contains("store_locked") && message.contains("fuser"), "{message}");
    assert_eq!(site.call("a.test", "echo").0, 200);
    holder.execute_batch("ROLLBACK").unwrap();
    site.create(&["--host", "b.test"]);
    assert_eq!(site.call("b.test", "echo").0, 503);
}

#[test]
fn a_data_directory_is_one_edges_and_its_owners_alone() {
    let site = Site::new("auto");
    let message = start_refused(&site.data_dir());
    assert!(message.contains("another `adit edge` uses"), "{message}");
    let token = site.data_dir().join("admin.token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let message = site.refused(&["list"]);
    assert!(message.contains(&format!("chmod 600 {}", token.display())), "{message}");
    let other = tempfile::tempdir().unwrap();
    let message = start_refused(&other.path().join("none"));
    assert!(message.contains("adit edge init --data-dir"), "{message}");
    let wrong = other.path().join("wrong.token");
    private_write(&wrong, "adat_not-the-token");
    let message = site.refused(&["list", "--admin-token-file", text_of(&wrong)]);
    assert!(message.contains("unauthorized"), "{message}");
}
