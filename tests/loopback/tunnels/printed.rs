//! Commands that the program prints are run as they are printed. Only what stands for something of the operator's is replaced:
//! FILE, NAME and the upstream.

use std::fs;

use adit::control::bodies::TunnelState;

use super::shell::{Shell, quoted_command};
use super::site::{Site, text_of};
use crate::process::Adit;

/// The upstream in printed commands.
const EXAMPLE_UPSTREAM: &str = "http://127.0.0.1:3000";

/// The commands in a text: its indented lines.
pub(super) fn commands(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The value of a line such as `token        tnl_a:adts_s`.
pub(super) fn value_of<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A site whose paths a shell would take apart, and the flags by which its admin API is reached.
pub(super) fn site() -> (tempfile::TempDir, Site, String) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("an operator's");
    fs::create_dir(&dir).unwrap();
    let site = Site::within(&dir, "auto");
    let flags = format!("--data-dir \"{}\" --admin {}", text_of(&site.data_dir()), site.admin);
    (parent, site, flags)
}

pub(super) fn upstream_of(site: &Site, line: &str) -> String {
    line.replace(EXAMPLE_UPSTREAM, &format!("http://{}", site.upstream.address))
}

#[test]
fn a_new_tunnel_and_a_rotation() {
    let (_parent, site, flags) = site();
    let (operator, connector) = (Shell::new(), Shell::new());
    for traffic in ["plain", "resealed", "passthrough"] {
        let host = format!("{traffic}.test");
        let message = operator
            .run(&format!("adit tunnel create {flags} --host {host} --host '*.{host}' --traffic {traffic}"), "");
        let id = value_of(&message, "id").to_owned();
        let lines = commands(&message);
        assert_eq!(lines.len(), if traffic == "resealed" { 3 } else { 2 }, "{message}");
        connector.run(&lines[0], value_of(&message, "token"));
        let running = connector.start(&upstream_of(&site, &lines[1]));
        site.until_linked(&id);
        if let Some(add) = lines.get(2) {
            fs::copy(connector.path("adit-state/seal-ca.pem"), operator.path("seal-ca.pem")).unwrap();
            operator.run(add, "");
        }
        if traffic == "passthrough" {
            assert!(connector.path("adit-state/seal-ca.pem").exists());
        } else {
            assert_eq!(site.call(&host, "echo").0, 200, "{traffic}");
            assert_eq!(site.call(&format!("x.{host}"), "echo").0, 200, "{traffic}");
        }
        drop(running);

        let message = operator.run(&format!("adit tunnel rotate {flags} {id} --overlap 0s"), "");
        let lines = commands(&message);
        assert_eq!(lines.len(), 2, "{message}");
        connector.run(&lines[0], value_of(&message, "token"));
        let _running = connector.start(&upstream_of(&site, &lines[1]));
        let shown = site.show(&id);
        let current = shown.credentials.iter().find(|credential| credential.until.is_none());
        site.until_linked_by(&id, &[&current.unwrap().id]);
    }
}

#[test]
fn a_provisioning_key() {
    let (_parent, site, flags) = site();
    let (operator, host) = (Shell::new(), Shell::new());
    let message = operator.run(&format!("adit tunnel key create {flags} --uses 1 --host '{{name}}.f.test'"), "");
    let lines = commands(&message);
    assert_eq!(lines.len(), 2, "{message}");
    host.run(&lines[0], value_of(&message, "secret"));
    let _running = host.start(&upstream_of(&site, &lines[1]));
    let id = loop {
        if let Some(tunnel) = site.list(&[]).pop() {
            break tunnel.id;
        }
    };
    site.until_linked(&id);
    let name = host.run("hostname -s", "");
    assert_eq!(site.call(&format!("{}.f.test", name.trim()), "echo").0, 200);
}

#[test]
fn a_new_data_directory() {
    let parent = tempfile::tempdir().unwrap();
    let (operator, dir) = (Shell::new(), parent.path().join("an operator's data"));
    let message = operator.run(&format!("adit edge init --data-dir \"{}\" --name localhost", text_of(&dir)), "");
    let lines = commands(&message);
    assert_eq!(lines.len(), 2, "{message}");
    let authority = adit::tls::Authority::new("agents", rustls_pki_types::UnixTime::now(), 1).unwrap();
    let issued = authority.issue(&["a.test"]).unwrap();
    fs::write(operator.path("agents.pem"), issued.cert_pem).unwrap();
    adit::private::write(&operator.path("agents.key"), issued.key_pem.expose()).unwrap();
    // Other ports, because others use this machine too.
    let line = lines[0]
        .replacen("FILE", "agents.pem", 1)
        .replacen("FILE", "agents.key", 1)
        .replace("0.0.0.0:443", "127.0.0.1:0");
    let mut edge = operator.command(&format!("exec {line} --json"));
    edge.env("ADIT_EDGE_CONNECTORS_LISTEN", "127.0.0.1:0").env("ADIT_EDGE_ADMIN_LISTEN", "127.0.0.1:0");
    let edge = Adit::of(edge);
    let listening = edge.event("listening");
    let create =
        format!("ADIT_ADMIN_URL={} {}", listening["admin"].as_str().unwrap(), lines[1].replace("NAME", "a.test"));
    assert!(operator.run(&create, "").contains("hosts        a.test\n"));
}

#[test]
fn a_restore_and_a_damaged_store() {
    let (_parent, mut site, _) = site();
    let operator = Shell::new();
    let data_dir = format!("--data-dir \"{}\"", text_of(&site.data_dir()));
    let made = site.create(&["--host", "a.test"]);
    let (id, backup) = (made.tunnel.id, operator.run(&format!("adit edge backup {data_dir}"), ""));
    site.run_tunnel(&["revoke", &id]);
    site.end_edge();
    let message = operator.run(&format!("adit edge restore {data_dir} --from \"{}\"", backup.trim()), "");
    let [withdraw, again] = commands(&message).try_into().unwrap_or_else(|lines| panic!("{lines:?} in {message}"));
    site.run_edge("auto");
    // The admin listener has any free port here.
    operator.run(&format!("ADIT_ADMIN_URL={} {withdraw}", site.admin), "");
    assert_eq!(site.show(&id).state, TunnelState::Revoked);
    site.end_edge();
    assert!(operator.run(&again, "").contains("withdrawn as before"));

    let store = site.data_dir().join("store.sqlite");
    let mut bytes = fs::read(&store).unwrap();
    bytes[4096..].fill(0);
    fs::write(&store, &bytes).unwrap();
    let refused = operator.command(&format!("adit edge {data_dir} --listen 127.0.0.1:0 --admin off")).output().unwrap();
    let message = String::from_utf8(refused.stderr).unwrap();
    operator.run(quoted_command(&message), "");
    site.run_edge("auto");
    assert_eq!(site.show(&id).id, id);
}
