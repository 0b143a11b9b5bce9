use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::base::{Secret, Traffic};
use crate::control::store::OVERLAPS_REPORTED_MAX;
use crate::policy::TunnelLists;

const NOW: WallTime = WallTime(1_800_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    store: SqliteStore,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        Bench { dir, store }
    }

    fn create(&mut self, id: &str, hosts: &[&str]) -> Result<Tunnel, StoreError> {
        self.store.create_tunnel(&new_tunnel(id, hosts), &note(NOW))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store.sqlite")
    }

    /// Closes the store, changes its files, and opens it again.
    fn reopened(self, change: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<SqliteStore, StoreError>) {
        let Bench { dir, store } = self;
        drop(store);
        change(&dir.path().join("store.sqlite"));
        let opened = open(dir.path());
        (dir, opened)
    }
}

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(&dir.join("store.sqlite"), &dir.join("backups"))
}

fn note(at: WallTime) -> Note {
    Note { at, reason: Some("because".to_owned()) }
}

fn tunnel_id(id: &str) -> TunnelId {
    id.parse().unwrap()
}

fn credential(id: &str) -> NewCredential {
    NewCredential { id: id.parse().unwrap(), hash: SecretHash::of(&Secret::from(id)) }
}

fn new_tunnel(id: &str, hosts: &[&str]) -> NewTunnel {
    NewTunnel {
        id: tunnel_id(id),
        display_name: Some(format!("the {id}")),
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        hosts_made_up: false,
        traffic: Traffic::Plain,
        lists: TunnelLists::default(),
        credential: credential(&format!("crd_{id}")),
        requester: None,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>) -> RuleViolation {
    match result.unwrap_err() {
        StoreError::Refused(refused) => refused,
        other => panic!("{other}"),
    }
}

fn hosts_of(tunnel: &Tunnel) -> Vec<String> {
    tunnel.hosts.iter().map(ToString::to_string).collect()
}

const PAGE: Page = Page { limit: 100, before: None };

#[test]
fn a_restart_keeps_all() {
    let mut bench = Bench::new();
    let made = bench.create("tnl_a", &["a.test", "*.a.test"]).unwrap();
    assert_eq!((hosts_of(&made), made.authorities.len()), (vec!["a.test".to_owned(), "*.a.test".to_owned()], 0));
    let (_dir, opened) = bench.reopened(|path| {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o600);
    });
    let mut store = opened.unwrap();
    assert_eq!(store.tunnel(&made.id).unwrap(), made);
    let served = store.active_tunnels().unwrap();
    assert_eq!((served.len(), served[0].hosts.len()), (1, 2));
    let kept = &served[0].credentials[0];
    assert!(kept.id.as_str() == "crd_tnl_a" && kept.until.is_none());
    assert!(kept.hash == SecretHash::of(&Secret::from("crd_tnl_a")));
    let events = store.events(Some(&made.id), PAGE).unwrap();
    assert_eq!((events.rows[0].kind.as_str(), events.rows[0].reason.as_deref()), ("tunnel.created", Some("because")));
}

#[test]
fn a_host_belongs_to_one_tunnel() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test"]).unwrap();
    let taken = RuleViolation::HostTaken { host: "a.test".to_owned(), tunnel: tunnel_id("tnl_a") };
    assert_eq!(refused(bench.create("tnl_b", &["b.test", "A.test"])), taken);
    assert_eq!(refused(bench.store.tunnel(&tunnel_id("tnl_b"))), RuleViolation::NoTunnel(tunnel_id("tnl_b")));
    bench.store.archive_tunnel(&tunnel_id("tnl_a"), &note(NOW)).unwrap();
    bench.create("tnl_b", &["a.test"]).unwrap();
    let made_up = NewTunnel { hosts_made_up: true, ..new_tunnel("tnl_c", &["c.test"]) };
    bench.store.create_tunnel(&made_up, &note(NOW)).unwrap();
    bench.store.archive_tunnel(&tunnel_id("tnl_c"), &note(NOW)).unwrap();
    assert_eq!(refused(bench.create("tnl_d", &["c.test"])), RuleViolation::HostRetired("c.test".to_owned()));
}

#[test]
fn hosts_of_two_tunnels_overlap_where_one_is_a_wildcard_over_the_other() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["*.a.test", "x.b.test", "a.test"]).unwrap();
    bench.create("tnl_b", &["x.a.test", "*.b.test", "y.x.a.test"]).unwrap();
    let overlap = |host: &str, theirs: &str, tunnel: &str| Overlap {
        host: host.parse().unwrap(),
        theirs: theirs.parse().unwrap(),
        tunnel: tunnel_id(tunnel),
    };
    let found = bench.store.overlaps(&tunnel_id("tnl_b")).unwrap();
    assert_eq!(found, [overlap("x.a.test", "*.a.test", "tnl_a"), overlap("*.b.test", "x.b.test", "tnl_a")]);
    let found = bench.store.overlaps(&tunnel_id("tnl_a")).unwrap();
    assert_eq!(found, [overlap("*.a.test", "x.a.test", "tnl_b"), overlap("x.b.test", "*.b.test", "tnl_b")]);
    // Hosts of one tunnel may overlap, and archived hosts cover nothing.
    bench.create("tnl_c", &["*.c.test", "x.c.test"]).unwrap();
    assert!(bench.store.overlaps(&tunnel_id("tnl_c")).unwrap().is_empty());
    bench.store.archive_tunnel(&tunnel_id("tnl_a"), &note(NOW)).unwrap();
    assert!(bench.store.overlaps(&tunnel_id("tnl_b")).unwrap().is_empty());
    // Exactly this many are reported.
    for n in 0..=OVERLAPS_REPORTED_MAX {
        bench.create(&format!("tnl_d{n}"), &[&format!("h{n}.d.test")]).unwrap();
    }
    bench.create("tnl_d", &["*.d.test"]).unwrap();
    assert_eq!(bench.store.overlaps(&tunnel_id("tnl_d")).unwrap().len(), OVERLAPS_REPORTED_MAX);
}

#[test]
fn a_provisioning_key_takes_nothing_from_anothers_wildcard() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["*.a.test", "x.b.test"]).unwrap();
    let key = ProvisioningKey {
        id: "pkey_a".to_owned(),
        display_name: None,
        name_template: "*".to_owned(),
        hosts: Vec::new(),
        uses_max: 1,
        uses: 0,
        created_at: NOW,
        expires_at: NOW.after(MINUTE),
        revoked_at: None,
    };
    bench.store.add_key(&NewKey { key, hash: SecretHash::of(&Secret::from("key")) }, &note(NOW)).unwrap();
    for hosts in [&["web.a.test"][..], &["web.c.test", "*.b.test"]] {
        let refused = refused(bench.store.trade_key("pkey_a", &new_tunnel("tnl_b", hosts), &note(NOW)));
        assert!(
            matches!(&refused, RuleViolation::HostOverlaps(overlap) if overlap.tunnel == tunnel_id("tnl_a")),
            "{refused}"
        );
        assert!(refused.to_string().contains("wildcard"), "{refused}");
    }
    assert_eq!(refused(bench.store.tunnel(&tunnel_id("tnl_b"))), RuleViolation::NoTunnel(tunnel_id("tnl_b")));
    assert_eq!(bench.store.key("pkey_a").unwrap().uses, 0);
    // A generated host cannot belong to another tunnel.
    let made_up = NewTunnel { hosts_made_up: true, ..new_tunnel("tnl_b", &["random.a.test", "*.random.a.test"]) };
    bench.store.trade_key("pkey_a", &made_up, &note(NOW)).unwrap();
}

#[test]
fn hosts_below_a_wildcard_are_found_by_their_index() {
    let bench = Bench::new();
    let sql = format!("EXPLAIN QUERY PLAN SELECT host FROM host WHERE retired = 0 AND {} = 'a.test'", schema::PARENT);
    let plan: String = bench.store.connection.query_row(&sql, [], |row| row.get("detail")).unwrap();
    assert!(plan.contains("host_by_parent"), "{plan}");
}

#[test]
fn access_lists_are_stored_and_changed_one_by_one() {
    let mut bench = Bench::new();
    let lists = TunnelLists {
        connectors_from: vec!["198.51.100.7".parse().unwrap()],
        allow_from: ["192.0.2.0/24", "AS64500", "set:vendor"].map(|text| text.parse().unwrap()).into(),
        deny_from: Vec::new(),
        dry_run: true,
    };
    let new = NewTunnel { lists: lists.clone(), ..new_tunnel("tnl_a", &["a.test"]) };
    let made = bench.store.create_tunnel(&new, &note(NOW)).unwrap();
    assert_eq!((&made.lists, &bench.store.active_tunnels().unwrap()[0].lists), (&lists, &lists));
    let change = TunnelChange {
        deny_from: Some(vec!["AS64501".parse().unwrap()]),
        dry_run: Some(false),
        ..TunnelChange::default()
    };
    let changed = bench.store.change_tunnel(&made.id, &change, &note(NOW)).unwrap();
    let wanted = TunnelLists { deny_from: vec!["AS64501".parse().unwrap()], dry_run: false, ..lists };
    assert_eq!((&changed.lists, &changed.hosts, &changed.display_name), (&wanted, &made.hosts, &made.display_name));
    let open = TunnelChange { allow_from: Some(Vec::new()), ..TunnelChange::default() };
    let changed = bench.store.change_tunnel(&made.id, &open, &note(NOW)).unwrap();
    assert!(changed.lists.allow_from.is_empty() && !changed.lists.deny_from.is_empty());
    assert_eq!(bench.store.events(Some(&made.id), PAGE).unwrap().rows[0].kind, "tunnel.updated");
}

#[test]
fn a_tunnel_changes_its_hosts_and_released_ones_are_free() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test", "b.test"]).unwrap();
    bench.create("tnl_b", &["c.test"]).unwrap();
    let mut set = |id: &str, hosts: &[&str]| {
        let hosts = Some(hosts.iter().map(|host| host.parse().unwrap()).collect());
        bench.store.change_tunnel(&tunnel_id(id), &TunnelChange { hosts, ..TunnelChange::default() }, &note(NOW))
    };
    let taken = RuleViolation::HostTaken { host: "c.test".to_owned(), tunnel: tunnel_id("tnl_b") };
    assert_eq!(refused(set("tnl_a", &["b.test", "c.test"])), taken);
    let changed = set("tnl_a", &["b.test", "d.test"]).unwrap();
    assert_eq!(hosts_of(&changed), ["b.test", "d.test"]);
    assert_eq!(set("tnl_b", &["c.test", "a.test"]).unwrap().hosts.len(), 2);
    let served = bench.store.active_tunnels().unwrap();
    assert_eq!(served.iter().map(|tunnel| tunnel.hosts.len()).sum::<usize>(), 4);
    let archived = bench.store.archive_tunnel(&tunnel_id("tnl_a"), &note(NOW)).unwrap();
    assert_eq!(hosts_of(&archived), ["b.test", "d.test"]);
    let change = TunnelChange::default();
    let late = bench.store.change_tunnel(&tunnel_id("tnl_a"), &change, &note(NOW));
    assert_eq!(refused(late), RuleViolation::Archived(tunnel_id("tnl_a")));
}

#[test]
fn a_host_that_was_made_up_comes_back_to_its_tunnel_alone() {
    let mut bench = Bench::new();
    let made_up = NewTunnel { hosts_made_up: true, ..new_tunnel("tnl_a", &["x.test", "*.x.test"]) };
    bench.store.create_tunnel(&made_up, &note(NOW)).unwrap();
    let hosts = |hosts: &[&str]| TunnelChange {
        hosts: Some(hosts.iter().map(|host| host.parse().unwrap()).collect()),
        ..TunnelChange::default()
    };
    let store = &mut bench.store;
    assert_eq!(hosts_of(&store.change_tunnel(&made_up.id, &hosts(&["a.test"]), &note(NOW)).unwrap()), ["a.test"]);
    let other = store.create_tunnel(&new_tunnel("tnl_b", &["x.test"]), &note(NOW));
    assert_eq!(refused(other), RuleViolation::HostRetired("x.test".to_owned()));
    let back = store.change_tunnel(&made_up.id, &hosts(&["x.test", "a.test"]), &note(NOW)).unwrap();
    assert_eq!(hosts_of(&back), ["x.test", "a.test"]);
    assert_eq!(hosts_of(&store.archive_tunnel(&made_up.id, &note(NOW)).unwrap()), ["x.test", "a.test"]);
}

#[test]
fn a_store_of_the_first_version_is_backed_up_and_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    private::ensure(&path).unwrap();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::FIRST).unwrap();
    old.execute_batch(
        "INSERT INTO tunnel (id, created_at) VALUES ('tnl_a', 1);
         INSERT INTO host (host, tunnel, made_up) VALUES ('a.test', 'tnl_a', 0);
         INSERT INTO credential (id, tunnel, hash, created_at) VALUES ('crd_a', 'tnl_a', zeroblob(32), 1);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let mut store = open(dir.path()).unwrap();
    assert_eq!(schema::version(&store.connection).unwrap(), SCHEMA_VERSION);
    let served = store.active_tunnels().unwrap();
    assert_eq!((served.len(), served[0].hosts.len(), served[0].credentials.len()), (1, 1, 1));
    assert_eq!(served[0].lists, TunnelLists::default(), "as open as it was");
    let backup = newest_backup(&dir.path().join("backups")).unwrap();
    assert_eq!(schema::version(&Connection::open(backup).unwrap()).unwrap(), 1, "as it was before");
    drop(store);
    assert_eq!(open(dir.path()).unwrap().active_tunnels().unwrap().len(), 1);
}

#[test]
fn a_rotation_leaves_two_good_and_ends_the_old_one() {
    let mut bench = Bench::new();
    let id = bench.create("tnl_a", &["a.test"]).unwrap().id;
    let end = NOW.after(MINUTE);
    let rotated = bench.store.rotate(&id, &credential("crd_2"), end, &note(NOW)).unwrap();
    let good = |tunnel: &Tunnel, at: WallTime| -> Vec<String> {
        tunnel.good_credentials(at).map(|credential| credential.id.to_string()).collect()
    };
    assert_eq!(good(&rotated, NOW), ["crd_2", "crd_tnl_a"]);
    assert_eq!(good(&rotated, end), ["crd_2"]);
    assert_eq!(
        refused(bench.store.rotate(&id, &credential("crd_3"), end, &note(NOW))),
        RuleViolation::RotationUnderWay
    );
    let cut = bench.store.rotate(&id, &credential("crd_3"), NOW, &note(NOW)).unwrap();
    assert_eq!(good(&cut, NOW), ["crd_3"]);
    // The edge still gets ended credentials for a while.
    assert_eq!(bench.store.active_tunnels().unwrap()[0].known_credentials(NOW).count(), 3);
    assert_eq!(bench.store.active_tunnels().unwrap()[0].known_credentials(NOW.after(MINUTE * 61)).count(), 1);
}

#[test]
fn a_revoked_tunnel_is_not_served() {
    let mut bench = Bench::new();
    let id = bench.create("tnl_a", &["a.test"]).unwrap().id;
    bench.store.rotate(&id, &credential("crd_2"), NOW.after(MINUTE), &note(NOW)).unwrap();
    let one = "crd_tnl_a".parse().unwrap();
    bench.store.revoke(&id, Some(&one), &note(NOW)).unwrap();
    assert_eq!(bench.store.active_tunnels().unwrap()[0].known_credentials(NOW).count(), 1);
    assert_eq!(refused(bench.store.revoke(&id, Some(&one), &note(NOW))), RuleViolation::NoCredential(one));
    let revoked = bench.store.revoke(&id, None, &note(NOW)).unwrap();
    assert_eq!(revoked.good_credentials(NOW).count(), 0);
    assert!(bench.store.active_tunnels().unwrap()[0].known_credentials(NOW).next().is_none(), "its hosts stay its own");
    bench.store.archive_tunnel(&id, &note(NOW)).unwrap();
    assert!(bench.store.active_tunnels().unwrap().is_empty());
    assert_eq!(bench.store.archive_tunnel(&id, &note(NOW.after(MINUTE))).unwrap().archived_at, Some(NOW));
    assert_eq!(refused(bench.store.revoke(&id, None, &note(NOW))), RuleViolation::Archived(id));
}

#[test]
fn certificates_have_two_slots() {
    let mut bench = Bench::new();
    let tunnel = bench.create("tnl_a", &["a.test"]).unwrap().id;
    let mut add = |n: u32| {
        let new = Certificate {
            id: format!("tcrt_{n}"),
            tunnel: tunnel.clone(),
            fingerprint: format!("f{n}"),
            pem: "pem".to_owned(),
            created_at: NOW,
            expires_at: NOW.after(MINUTE),
            archived_at: None,
        };
        bench.store.add_certificate(&new, &note(NOW))
    };
    add(1).unwrap();
    assert_eq!(refused(add(1)), RuleViolation::CertificateKnown("tcrt_1".to_owned()));
    add(2).unwrap();
    assert_eq!(refused(add(3)), RuleViolation::CertificateSlots(2));
    bench.store.archive_certificate(&tunnel, "tcrt_1", &note(NOW)).unwrap();
    assert_eq!(bench.store.certificates(&tunnel, false, PAGE).unwrap().rows.len(), 1);
    assert_eq!(bench.store.certificates(&tunnel, true, PAGE).unwrap().rows.len(), 2);
    assert_eq!(bench.store.tunnel(&tunnel).unwrap().authorities.len(), 1);
    bench.create("tnl_b", &["b.test"]).unwrap();
    let elsewhere = bench.store.certificate(&tunnel_id("tnl_b"), "tcrt_2");
    assert_eq!(refused(elsewhere), RuleViolation::NoCertificate("tcrt_2".to_owned()));
}

#[test]
fn a_provisioning_key_is_good_for_so_many_hosts_and_so_long() {
    let mut bench = Bench::new();
    let key = ProvisioningKey {
        id: "pkey_a".to_owned(),
        display_name: None,
        name_template: "web-*".to_owned(),
        hosts: vec!["{name}.a.test".to_owned(), "*.{name}.a.test".to_owned()],
        uses_max: 2,
        uses: 0,
        created_at: NOW,
        expires_at: NOW.after(MINUTE),
        revoked_at: None,
    };
    let hash = SecretHash::of(&Secret::from("key"));
    let kept = bench.store.add_key(&NewKey { key: key.clone(), hash: hash.clone() }, &note(NOW)).unwrap();
    assert_eq!(kept, key);
    assert_eq!(bench.store.good_key(&hash, NOW).unwrap(), key);
    assert!(bench.store.may_trade(&hash, NOW, NOW).unwrap());
    for n in 0..2 {
        let (id, host) = (format!("tnl_{n}"), format!("web-{n}.a.test"));
        let tunnel = bench.store.trade_key("pkey_a", &new_tunnel(&id, &[&host]), &note(NOW)).unwrap();
        assert_eq!(tunnel.provisioning_key.as_deref(), Some("pkey_a"));
    }
    let third = new_tunnel("tnl_3", &["web-3.a.test"]);
    assert_eq!(refused(bench.store.trade_key("pkey_a", &third, &note(NOW))), RuleViolation::KeyNotGood);
    assert_eq!(refused(bench.store.good_key(&hash, NOW)), RuleViolation::KeyNotGood);
    assert_eq!(bench.store.key("pkey_a").unwrap().uses, 2);
    assert!(!key.is_good(NOW.after(MINUTE)) && !ProvisioningKey { revoked_at: Some(NOW), ..key }.is_good(NOW));
}

#[test]
fn a_host_that_trades_again_is_known_by_its_key_for_a_while() {
    let mut bench = Bench::new();
    let key = ProvisioningKey {
        id: "pkey_a".to_owned(),
        display_name: None,
        name_template: "*".to_owned(),
        hosts: vec!["{name}.test".to_owned()],
        uses_max: 1,
        uses: 0,
        created_at: NOW,
        expires_at: NOW.after(MINUTE),
        revoked_at: None,
    };
    let [hash, other] = ["key", "another"].map(|text| SecretHash::of(&Secret::from(text)));
    bench.store.add_key(&NewKey { key, hash: hash.clone() }, &note(NOW)).unwrap();
    let (me, stranger) = (Requester([1; 32]), Requester([2; 32]));
    let new = NewTunnel { requester: Some(me), ..new_tunnel("tnl_a", &["a.test"]) };
    let made = bench.store.trade_key("pkey_a", &new, &note(NOW)).unwrap();
    let store = &mut bench.store;
    assert_eq!(store.traded(&hash, &me, NOW).unwrap(), Some(made.clone()), "though the key is used up");
    for (hash, requester, since) in [(&hash, stranger, NOW), (&other, me, NOW), (&hash, me, WallTime(NOW.0 + 1))] {
        assert_eq!(store.traded(hash, &requester, since).unwrap(), None);
    }
    // The check of the key alone does not keep such a host out.
    let late = NOW.after(MINUTE * 90);
    for (hash, now, since, may) in
        [(&hash, NOW, NOW, true), (&hash, late, NOW, true), (&hash, late, late, false), (&other, NOW, NOW, false)]
    {
        assert_eq!(store.may_trade(hash, now, since).unwrap(), may);
    }
    store.revoke_key("pkey_a", &note(NOW)).unwrap();
    assert!(!store.may_trade(&hash, NOW, NOW).unwrap());
    assert_eq!(store.traded(&hash, &me, NOW).unwrap(), None, "the key was withdrawn");
}

#[test]
fn a_key_whose_tunnel_cannot_be_made_is_not_used_up() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test"]).unwrap();
    let key = ProvisioningKey {
        id: "pkey_a".to_owned(),
        display_name: None,
        name_template: "*".to_owned(),
        hosts: vec!["{name}.test".to_owned()],
        uses_max: 1,
        uses: 0,
        created_at: NOW,
        expires_at: NOW.after(MINUTE),
        revoked_at: None,
    };
    let hash = SecretHash::of(&Secret::from("key"));
    bench.store.add_key(&NewKey { key, hash }, &note(NOW)).unwrap();
    let taken = bench.store.trade_key("pkey_a", &new_tunnel("tnl_b", &["a.test"]), &note(NOW));
    assert!(matches!(refused(taken), RuleViolation::HostTaken { .. }));
    assert_eq!(bench.store.key("pkey_a").unwrap().uses, 0);
}

#[test]
fn lists_come_in_parts_the_newest_first() {
    let mut bench = Bench::new();
    for n in 0..5 {
        bench.create(&format!("tnl_{n}"), &[&format!("h{n}.test")]).unwrap();
    }
    let mut page = Page { limit: 2, before: None };
    let mut seen = Vec::new();
    loop {
        let part = bench.store.tunnels(false, page).unwrap();
        assert!(part.rows.len() <= 2);
        seen.extend(part.rows.iter().map(|tunnel| tunnel.id.to_string()));
        // Tunnels created meanwhile do not shift the pages.
        bench.create(&format!("tnl_new{}", seen.len()), &[&format!("new{}.test", seen.len())]).unwrap();
        match part.next {
            Some(before) => page.before = Some(before),
            None => break,
        }
    }
    assert_eq!(seen, ["tnl_4", "tnl_3", "tnl_2", "tnl_1", "tnl_0"]);
}

#[test]
fn calls_add_up_by_the_hour() {
    let mut bench = Bench::new();
    let usage = |credential: &str, tool: &str, calls, at: WallTime| Usage {
        tunnel: tunnel_id("tnl_a"),
        credential: credential.parse().unwrap(),
        route: "a.test".to_owned(),
        method: "tools/call".to_owned(),
        tool: tool.to_owned(),
        calls,
        first: at,
        last: at,
    };
    let later = NOW.after(MINUTE * 180);
    bench.store.add_usage(&[usage("crd_1", "echo", 3, NOW), usage("crd_1", "add", 1, NOW)]).unwrap();
    bench.store.add_usage(&[usage("crd_1", "echo", 4, NOW.after(MINUTE)), usage("crd_2", "echo", 9, later)]).unwrap();
    let all = bench.store.usage(&tunnel_id("tnl_a"), None, NOW).unwrap();
    let rows: Vec<_> = all.iter().map(|row| (row.credential.as_str(), row.tool.as_str(), row.calls)).collect();
    assert_eq!(rows, [("crd_2", "echo", 9), ("crd_1", "echo", 7), ("crd_1", "add", 1)]);
    assert_eq!((all[1].first, all[1].last), (NOW, NOW.after(MINUTE)));
    let one = bench.store.usage(&tunnel_id("tnl_a"), Some(&"crd_1".parse().unwrap()), NOW.after(MINUTE)).unwrap();
    assert_eq!(one.len(), 1);
    assert!(bench.store.usage(&tunnel_id("tnl_b"), None, WallTime(0)).unwrap().is_empty());
}

#[test]
fn a_store_in_use_is_reported_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test"]).unwrap();
    bench.store.connection.busy_timeout(Duration::ZERO).unwrap();
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let locked = bench.create("tnl_b", &["b.test"]).unwrap_err();
    assert!(matches!(locked, StoreError::Locked { .. }) && locked.to_string().contains("fuser"), "{locked}");
    assert_eq!(bench.store.tunnels(false, PAGE).unwrap().rows.len(), 1, "it can still be read");
    other.execute_batch("ROLLBACK").unwrap();
    bench.create("tnl_b", &["b.test"]).unwrap();
}

#[test]
fn a_change_for_which_there_is_no_room_leaves_all_as_it_was() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test"]).unwrap();
    let pages: i64 = bench.store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    bench.store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let mut made = 0;
    let full = loop {
        match bench.create(&format!("tnl_{made}"), &[&format!("h{made}.test")]) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }) && full.to_string().contains("free some space"), "{full}");
    assert_eq!(bench.store.active_tunnels().unwrap().len(), made + 1);
    bench.store.connection.pragma_update(None, "max_page_count", pages + 100).unwrap();
    bench.create(&format!("tnl_{made}"), &[&format!("h{made}.test")]).unwrap();
    let (_dir, opened) = bench.reopened(|_| {});
    assert_eq!(opened.unwrap().active_tunnels().unwrap().len(), made + 2);
}

#[test]
fn a_damaged_store_is_left_as_it_is_and_its_back_up_takes_its_place() {
    let mut bench = Bench::new();
    bench.create("tnl_a", &["a.test"]).unwrap();
    let backup = bench.store.keep_backup(NOW).unwrap();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o7777, 0o600);
    let (dir, opened) = bench.reopened(|path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[4096..].fill(0xa5);
        fs::write(path, bytes).unwrap();
    });
    let path = dir.path().join("store.sqlite");
    let damaged = fs::read(&path).unwrap();
    let error = opened.err().unwrap();
    let StoreError::Damaged { backup: Some(offered), .. } = &error else { panic!("{error}") };
    assert_eq!(*offered, backup);
    assert!(error.to_string().contains(" --from "), "{error}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "it was not touched");
    let restored = restore(&backup, &path, false, NOW, None).unwrap();
    assert_eq!(restored.reinstated, None, "it cannot be told");
    assert_eq!(fs::read(restored.aside.unwrap()).unwrap(), damaged, "it is kept");
    assert_eq!(open(dir.path()).unwrap().active_tunnels().unwrap().len(), 1);
}

#[test]
fn a_file_of_another_kind_is_reported_and_never_restored() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store.sqlite"), dir.path().join("other"));
    private::write(&path, &[b'x'; 8192]).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { backup: None, .. }), "{error}");
    private::write(&other, &[b'y'; 8192]).unwrap();
    assert!(matches!(restore(&other, &path, false, NOW, None), Err(StoreError::Damaged { .. })));
    assert!(restore(&dir.path().join("none"), &path, false, NOW, None).is_err());
    assert_eq!(fs::read(&path).unwrap(), [b'x'; 8192]);
}

#[test]
fn a_store_of_a_newer_version_or_open_to_others_is_refused() {
    let (dir, opened) = Bench::new().reopened(|path| {
        Connection::open(path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    });
    let error = opened.err().unwrap();
    assert_eq!(error, StoreError::Newer { path: dir.path().join("store.sqlite"), found: 99, known: SCHEMA_VERSION });
    let (_dir, opened) = Bench::new().reopened(|path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    });
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn so_many_back_ups_are_kept_and_a_copy_goes_into_a_new_file_only() {
    let mut bench = Bench::new();
    let mut last = PathBuf::new();
    for n in 0..BACKUPS_MAX as i64 + 3 {
        last = bench.store.keep_backup(WallTime(NOW.0 + n / 2)).unwrap();
    }
    let backups = bench.dir.path().join("backups");
    assert_eq!(fs::read_dir(&backups).unwrap().count(), BACKUPS_MAX);
    assert_eq!(newest_backup(&backups), Some(last.clone()));
    let message = bench.store.backup(&last).unwrap_err().to_string();
    assert!(message.contains("there is a file already"), "{message}");
}

/// Otherwise a commit would write the log back, while a caller waits for the commit.
#[test]
fn the_log_is_written_back_in_a_pause_and_not_by_a_commit() {
    let mut bench = Bench::new();
    let in_file = |bench: &Bench| {
        let copy = tempfile::tempdir().unwrap();
        // The file alone, without its log.
        fs::copy(bench.path(), copy.path().join("store.sqlite")).unwrap();
        open(copy.path()).unwrap().active_tunnels().unwrap().len()
    };
    bench.store.on_idle();
    let host = |n: usize| format!("h{n}.example.test");
    for n in 0..150 {
        bench.create(&format!("tnl_{n}"), &[&host(n)]).unwrap();
    }
    assert_eq!(in_file(&bench), 0);
    bench.store.on_idle();
    assert_eq!(in_file(&bench), 150);
}
