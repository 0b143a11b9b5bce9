//! Tunnels that are made, rotated, revoked and given up while the edge runs, as an operator does it: with the program alone.

mod admission;
mod approvals;
mod audit;
mod beside_agents;
mod forward_proxy;
mod governed;
mod hosts;
mod printed;
mod proxied;
mod remedies;
mod restarted;
pub(crate) mod shell;
pub(crate) mod site;
mod store;
mod telemetry;
mod trade;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use adit::control::CertificateState;
use adit::control::bodies::{
    CertificateInfo, EventInfo, IssuedToken, KeyInfo, ListPart, Revocation, StatusBody, TrafficKind, TunnelInfo,
    TunnelState, UsageReport,
};
use adit::tls::KeyRequest;
use adit::wire::enrol::EnrolAnswer;
use serde_json::{Value, json};

use site::{Site, text_of};

use crate::process::{Adit, command};

/// How often each tool was called, by credential.
fn called(usage: UsageReport) -> Vec<(String, String, u64)> {
    usage.data.into_iter().map(|line| (line.credential_id, line.tool.unwrap_or_default(), line.calls)).collect()
}

#[test]
fn a_tunnel_is_served_as_soon_as_it_is_made_and_revoked_under_its_calls() {
    for driver in ["epoll", "uring"] {
        let site = Site::new(driver);
        assert_eq!(site.call("a.test", "echo").0, 421);
        let made = site.create(&["--host", "a.test", "--name", "the first"]);
        let (id, credential) = (&made.tunnel.id, &made.token.id);
        assert_eq!((made.tunnel.state, &*made.tunnel.domain), (TunnelState::Offline, "a.test"));
        assert_eq!(site.call("a.test", "echo").0, 503, "{driver}: it is known, and nobody is linked");

        let connector = site.connect("a.test", &made.token.tunnel_token);
        assert_eq!(site.call("a.test", "echo"), (200, json!({ "jsonrpc": "2.0", "id": 7, "result": {} })));
        site.until_linked_by(id, &[credential]);
        assert_eq!(site.show(id).state, TunnelState::Online);

        let slow = site.begin_call("a.test", "slow");
        site.upstream.until_called();
        let revoked: Revocation = site.tunnel(&["revoke", id, "--reason", "it leaked", "--leak-report", "1h"]);
        assert!(revoked.links_ended >= 1 && revoked.cores_silent == 0, "{driver}: {revoked:?}");
        let (status, answer) = slow.answer();
        assert_eq!((status, &answer["id"], &answer["error"]["data"]["reason"]), (503, &json!(7), &json!("revoked")));
        assert_eq!(connector.event("unlinked")["event"], "unlinked");
        let (status, answer) = site.call("a.test", "echo");
        let data = &answer["error"]["data"];
        assert_eq!(
            (status, &data["reason"], &data["may_have_acted"]),
            (503, &json!("revoked"), &json!(false)),
            "{answer}"
        );
        assert_eq!(site.show(id).state, TunnelState::Revoked);

        // What came after the report too, once it is counted.
        let usage = loop {
            let usage = called(site.tunnel(&["usage", id, "--since", "1h", "--credential", credential]));
            if usage.len() == 2 {
                break usage;
            }
        };
        let of = |tool: &str, calls| (credential.to_owned(), tool.to_owned(), calls);
        assert_eq!(usage, [of("slow", 1), of("echo", 1)], "{driver}");
        let events: ListPart<EventInfo> = site.tunnel(&["events", id]);
        let last = &events.data[0];
        assert_eq!((&*last.what, last.reason.as_deref()), ("credential.revoked", Some("it leaked")));
        site.upstream.release();
    }
}

#[test]
fn a_revocation_continues_when_its_client_hangs_up() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let id = &made.tunnel.id;
    let connector = site.connect("a.test", &made.token.tunnel_token);
    let token = fs::read_to_string(site.data_dir().join("admin.token")).unwrap();
    let head = format!("POST /v1/tunnels/{id}/revoke_token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
    // Whoever hangs up before the request was read has asked nothing, and asks again.
    let asked = (0..100).any(|_| {
        let mut socket = std::net::TcpStream::connect(&site.admin).unwrap();
        socket.write_all(format!("{head}Authorization: Bearer {}\r\n\r\n", token.trim()).as_bytes()).unwrap();
        drop(socket);
        site.show(id).state == TunnelState::Revoked
    });
    assert!(asked, "the revocation was never begun");
    connector.event("unlinked");
}

#[test]
fn during_a_rotation_both_secrets_are_good_and_then_the_old_one_is_cut() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let (id, old) = (&made.tunnel.id, &made.token.id);
    let before = site.connect("a.test", &made.token.tunnel_token);
    let token: IssuedToken = site.tunnel(&["rotate", id, "--overlap", "1h"]);
    let new = &token.id;
    assert!(token.previous_until.is_some() && token.secret != made.token.secret);
    let _after = site.connect("a.test", &token.tunnel_token);
    site.until_linked_by(id, &[old, new]);
    let message = site.refused(&["rotate", id]);
    assert!(message.contains("rotation_under_way"), "{message}");

    // One of the two is withdrawn: what came in with it ends, and the other goes on.
    site.run_tunnel(&["revoke", id, "--credential", old]);
    before.event("unlinked");
    site.until_linked_by(id, &[new]);
    assert_eq!(site.call("a.test", "echo").0, 200);

    // The old secret's foreseen end lets what is under way finish.
    let slow = site.begin_call("a.test", "slow");
    site.upstream.until_called();
    let newest: IssuedToken = site.tunnel(&["rotate", id, "--overlap", "1s"]);
    site.until_linked_by(id, &[]);
    site.upstream.release();
    assert_eq!(slow.answer().0, 200);
    // Whoever comes with the old one is told what happened to it.
    let message = site.start_connector("a.test", &token.tunnel_token, &[]).event("no_link")["why"].to_string();
    assert!(message.contains("this secret was rotated"), "{message}");
    let _last = site.connect("a.test", &newest.tunnel_token);
    assert_eq!(site.call("a.test", "echo").0, 200);
}

#[test]
fn a_restart_keeps_all_tunnels_and_archived_ones_stay_archived() {
    let mut site = Site::new("auto");
    let kept = site.create(&[]);
    let host = &*kept.tunnel.domain;
    assert!(host.ends_with(".t.test"), "{host}");
    let archived = site.create(&["--host", "b.test"]);
    site.run_tunnel(&["archive", &archived.tunnel.id]);
    assert_eq!(site.call("b.test", "echo").0, 421);
    let connector = site.connect(host, &kept.token.tunnel_token);
    assert_eq!(site.call(host, "echo").0, 200);
    site.end_edge();
    connector.event("unlinked");
    site.run_edge("auto");
    // The connector's second link to the old edge may be announced after the first one has ended: the new edge is asked.
    site.until_linked(&kept.tunnel.id);
    assert_eq!(site.call(host, "echo").0, 200);
    let ids = |all: Vec<TunnelInfo>| all.into_iter().map(|tunnel| tunnel.id).collect::<Vec<_>>();
    assert_eq!(ids(site.list(&[])), [&*kept.tunnel.id]);
    assert_eq!(ids(site.list(&["--all"])), [&*archived.tunnel.id, &*kept.tunnel.id]);
    // What was called before the end was put down.
    let before = called(site.tunnel(&["usage", &kept.tunnel.id]));
    assert_eq!(before.iter().map(|(_, tool, _)| tool.as_str()).collect::<Vec<_>>(), ["echo"]);
    let table = String::from_utf8(site.run(&["tunnel", "list"]).stdout).unwrap();
    assert!(table.starts_with("ID ") && table.contains(&kept.tunnel.id) && table.contains("online"), "{table}");
}

#[test]
fn configured_tunnels_go_on_beside_those_of_the_store() {
    let mut site = Site::new("auto");
    site.end_edge();
    let configure = |site: &Site, secret: &str| {
        site.configure(&format!("[[tunnel]]\nid = 'tnl_file'\nsecret = '{secret}'\nhosts = ['f.test']\n"));
    };
    let token = |secret: &str| format!("tnl_file:{secret}");
    configure(&site, "the-first-secret-0123");
    site.run_edge("auto");
    let message = site.refused(&["create", "--host", "f.test"]);
    assert!(message.contains("host_taken") && message.contains("tnl_file"), "{message}");
    let made = site.create(&["--host", "a.test"]);
    let _stored = site.connect("a.test", &made.token.tunnel_token);
    let ca = site.data_dir().join("ca.pem");
    let configured = site.connect_with("f.test", &token("the-first-secret-0123"), &["--edge-ca-file", text_of(&ca)]);
    assert_eq!((site.call("a.test", "echo").0, site.call("f.test", "echo").0), (200, 200));

    // A secret that the configuration no longer has is good for nothing, also for the link that came in with it.
    configure(&site, "the-second-secret-0123");
    let edge = site.edge.as_ref().unwrap();
    edge.signal("HUP");
    edge.event("reloaded");
    configured.event("unlinked");
    assert_eq!((site.call("a.test", "echo").0, site.call("f.test", "echo").0), (200, 503));
    let _again = site.connect_with("f.test", &token("the-second-secret-0123"), &["--edge-ca-file", text_of(&ca)]);
    assert_eq!(site.call("f.test", "echo").0, 200);
}

#[test]
fn a_tunnel_gets_other_hosts_while_its_connector_is_linked() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let id = &made.tunnel.id;
    let _connector = site.connect("*.t.test", &made.token.tunnel_token);
    assert_eq!(site.call("x.t.test", "echo").0, 421);
    let message = site.update(id, &["--host", "x.t.test", "--name", "another"]);
    let tunnel = &message.tunnel;
    assert_eq!((&tunnel.hosts[..], tunnel.display_name.as_deref()), (&["x.t.test".to_owned()][..], Some("another")));
    assert_eq!((site.call("x.t.test", "echo").0, site.call("a.test", "echo").0), (200, 421));
    // What it gave up another may have; what it has nobody.
    let other = site.create(&["--host", "a.test"]);
    assert_eq!(site.call("a.test", "echo").0, 503);
    let message = site.refused(&["update", &other.tunnel.id, "--host", "a.test", "--host", "x.t.test"]);
    assert!(message.contains("host_taken") && message.contains(id), "{message}");
    assert_eq!(site.call("x.t.test", "echo").0, 200);
}

#[test]
fn a_tunnel_is_sealed_by_the_authority_that_is_registered_with_it() {
    for driver in ["auto", "epoll"] {
        let site = Site::new(driver);
        let made = site.create(&["--host", "a.test", "--traffic", "resealed"]);
        let (id, state) = (&made.tunnel.id, site.data_dir().with_file_name("state"));
        assert_eq!(made.tunnel.traffic, TrafficKind::Resealed);
        let how = ["--traffic", "resealed", "--state-dir", state.to_str().unwrap()];
        let connector = site.connect_with("a.test", &made.token.tunnel_token, &how);
        let refused = |(status, body): (u16, Value)| {
            assert_eq!((status, &body["error"]["data"]["reason"]), (502, &json!("seal_refused")), "{body}");
        };
        refused(site.call("a.test", "echo"));
        let ca = state.join("seal-ca.pem");
        let certificate: CertificateInfo = site.tunnel(&["cert", "add", id, ca.to_str().unwrap()]);
        assert_eq!(site.call("a.test", "echo").0, 200);
        assert_eq!(site.show(id).certificates_active, 1);
        // Whoever is told otherwise on one side is told so.
        site.update(id, &["--traffic", "plain"]);
        refused(site.call("a.test", "echo"));
        site.update(id, &["--traffic", "passthrough"]);
        let (status, body) = site.call("a.test", "echo");
        assert_eq!((status, &body["error"]["code"]), (421, &json!("passthrough")), "{body}");
        site.update(id, &["--traffic", "resealed"]);
        assert_eq!(site.call("a.test", "echo").0, 200);
        site.run_tunnel(&["cert", "archive", id, &certificate.id]);
        refused(site.call("a.test", "echo"));
        drop(connector);
    }
}

#[tokio::test]
async fn the_status_of_both_sides_tells_of_certificates_clocks_and_trouble() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let admin = free.to_string();
    let connector = site.connect_with("a.test", &made.token.tunnel_token, &["--admin", &admin]);
    let status = async |admin: &str| -> StatusBody {
        reqwest::get(format!("http://{admin}/v1/status")).await.unwrap().json().await.unwrap()
    };
    let edge = status(&site.admin).await;
    let certificate = &edge.certificates[0].of;
    assert_eq!((&*certificate.of, certificate.renewal_due), ("connectors", false), "{edge:#?}");
    assert_eq!(certificate.names, ["localhost", "127.0.0.1"]);
    assert!(certificate.expires_in_s > 0 && edge.edges.is_empty(), "{edge:#?}");
    let answer = status(&admin).await.edges.remove(0).of;
    let (left, renewal) = (answer.expires_in_s.unwrap(), answer.renews_in_s.unwrap());
    assert!((0..left).contains(&renewal) && left <= 86_400, "{answer:#?}");
    assert_eq!(
        (answer.standing, &answer.edge, &answer.trouble),
        (CertificateState::Certified, &site.connectors, &None)
    );
    assert!(answer.clock_ahead_s.is_some_and(|ahead| ahead.abs() <= 2), "{answer:#?}");
    site.run_tunnel(&["revoke", &made.tunnel.id]);
    connector.event("no_link");
    let answer = status(&admin).await.edges.remove(0).of;
    assert!(answer.trouble.as_ref().unwrap().contains("secret is unknown"), "{answer:#?}");
}

#[test]
fn the_doctor_enrols_as_the_connector_does_and_tells_how_that_went() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        private_write(&dir.path().join(name), text);
        dir.path().join(name)
    };
    let config = write(
        "connect.toml",
        &format!(
            "[connect]\nedge = '{}'\ntoken_file = 'tunnel.token'\n[[route]]\nhost = 'a.test'\nupstream = 'http://{}'\n",
            site.connectors, site.upstream.address
        ),
    );
    let examined = |token: &str| {
        write("tunnel.token", token);
        let done = site.run(&["doctor", "--json", "--config", text_of(&config)]);
        let findings: Value = serde_json::from_slice(&done.stdout).unwrap();
        let finding = |check: &str| {
            let all = findings["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
            all.map(|finding| (finding["verdict"].clone(), finding["found"].to_string())).collect::<Vec<_>>()
        };
        ["edge.certificate", "edge.enrolment", "edge.link", "edge.clock"].map(finding)
    };
    let token = &made.token.tunnel_token;
    let findings = examined(token);
    for (finding, words) in
        findings.iter().zip(["days left", "issues certificates", "accepts this connector", "the clock of"])
    {
        assert!(matches!(&finding[..], [(verdict, found)] if verdict == "ok" && found.contains(words)), "{findings:?}");
    }
    site.run_tunnel(&["revoke", &made.tunnel.id]);
    let [certificate, enrolment, link, clock] = examined(token);
    assert_eq!((&certificate[0].0, enrolment.len(), &clock[0].0), (&json!("ok"), 0, &json!("ok")));
    assert!(link[0].0 == "fail" && link[0].1.contains("refuses this connector as"), "{link:?}");
}

#[test]
fn strangers_at_the_connectors_port_get_one_line_a_minute() {
    use std::io::{BufRead, BufReader, Read};
    use std::net::{Shutdown, TcpStream};
    const STRANGERS: usize = 50;

    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let data_dir = text_of(&data_dir);
    assert!(
        command(&["edge", "init", "--data-dir", data_dir, "--name", "localhost"]).output().unwrap().status.success()
    );
    let mut edge = command(&["edge", "--json", "--data-dir", data_dir, "--listen", "127.0.0.1:0", "--admin", "off"]);
    edge.env("ADIT_EDGE_CONNECTORS_LISTEN", "127.0.0.1:0")
        .env("ADIT_LOG_FORMAT", "json")
        .stderr(std::process::Stdio::piped());
    let mut edge = Adit::of(edge);
    let log = BufReader::new(edge.take_log());
    let log = std::thread::spawn(move || log.lines().map_while(Result::ok).collect::<Vec<_>>());
    let connectors = edge.event("listening")["connectors"].as_str().unwrap().to_owned();
    for _ in 0..STRANGERS {
        let mut socket = TcpStream::connect(&connectors).unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        // The edge has noticed once it has closed; it may reset what it has not read.
        let _ = socket.read_to_end(&mut Vec::new());
    }
    edge.signal("TERM");
    assert_eq!(edge.ended(), Some(0));
    let lines = log.join().unwrap();
    let logged = lines.iter().filter(|line| line.contains("link setup failed")).count();
    assert_eq!(logged, 1, "{lines:#?}");
}

#[test]
fn a_host_without_a_route_is_reported_to_agents_and_operators() {
    use std::io::{BufRead, BufReader};

    let site = Site::new("auto");
    let made = site.create(&["--host", "orders.test"]);
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    private_write(&token, &made.token.tunnel_token);
    let route = format!("order.test=http://{}", site.upstream.address);
    let args = ["connect", "--json", "--edge", &site.connectors, "--token-file", text_of(&token), "--route", &route];
    let mut connector = command(&args);
    connector.stderr(std::process::Stdio::piped());
    let mut connector = Adit::of(connector);
    let log = BufReader::new(connector.take_log());
    connector.event("linked");
    for _ in 0..3 {
        let (status, answer) = site.call("orders.test", "echo");
        assert_eq!((status, &answer["error"]["data"]["reason"]), (502, &json!("no_route")), "{answer}");
    }
    connector.signal("TERM");
    let lines: Vec<String> = log.lines().map_while(Result::ok).filter(|line| line.contains("no route")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["WARN", "orders.test", "order.test", &made.tunnel.id] {
        assert!(lines[0].contains(part), "{part} in {lines:?}");
    }
    assert_eq!(connector.ended(), Some(0));

    // The doctor beside the connector compares, and says what the edge answers.
    let connect = format!("[connect]\nedge = '{}'\ntoken_file = 'token'\n", site.connectors);
    let route = format!("[[route]]\nhost = 'order.test'\nupstream = 'http://{}'\n", site.upstream.address);
    let config = dir.path().join("connect.toml");
    private_write(&config, &format!("{connect}{route}"));
    let url = format!("http://orders.test:{}/mcp", site.agents.port());
    let done = site.run(&["doctor", "--json", "--config", text_of(&config), "--url", &url]);
    let findings: Value = serde_json::from_slice(&done.stdout).unwrap();
    let found = findings["findings"].as_array().unwrap().iter().find(|finding| finding["check"] == "public.route");
    let found = found.unwrap_or_else(|| panic!("{findings:#}"));
    assert_eq!(found["verdict"], "fail", "{found}");
    assert!(found["found"].as_str().unwrap().contains("order.test"), "{found}");
}

#[test]
fn another_admin_token_acts_without_a_restart() {
    let site = Site::new("auto");
    let (token, old) = (site.data_dir().join("admin.token"), site.data_dir().join("old.token"));
    fs::copy(&token, &old).unwrap();
    site.run_tunnel(&["list", "--admin-token-file", text_of(&old)]);
    // A file that holds none changes nothing.
    private_write(&token, "\n");
    let edge = site.edge.as_ref().unwrap();
    edge.signal("HUP");
    let refused = edge.event("reload_refused")["faults"].to_string();
    assert!(refused.contains("holds no admin token"), "{refused}");
    site.run_tunnel(&["list", "--admin-token-file", text_of(&old)]);
    private_write(&token, "adat_another-token-of-the-operator");
    edge.signal("HUP");
    edge.event("reloaded");
    site.list(&[]);
    let message = site.refused(&["list", "--admin-token-file", text_of(&old)]);
    assert!(message.contains("unauthorized"), "{message}");
}

#[test]
fn another_authority_acts_without_a_restart_and_no_call_is_lost() {
    let site = Site::new("auto");
    let before = site.create(&["--host", "a.test"]);
    let _old = site.connect("a.test", &before.token.tunnel_token);
    let slow = site.begin_call("a.test", "slow");
    site.upstream.until_called();
    let (pem, key) = (site.data_dir().join("ca.pem"), site.data_dir().join("ca.key"));
    let first = fs::read(&pem).unwrap();
    for file in [&pem, &key] {
        fs::rename(file, file.with_extension("before")).unwrap();
    }
    assert_eq!(site.init(&[]).made.len(), 4);
    assert!(fs::read(&pem).unwrap() != first);
    let edge = site.edge.as_ref().unwrap();
    edge.signal("HUP");
    edge.event("reloaded");
    // Its secret names the new authority, which vouches for the edge's new certificate and for the connector's.
    let after = site.create(&["--host", "b.test"]);
    let new = site.connect("b.test", &after.token.tunnel_token);
    assert_eq!((site.call("a.test", "echo").0, site.call("b.test", "echo").0), (200, 200));
    site.upstream.release();
    assert_eq!(slow.answer().0, 200);
    new.signal("TERM");
    // What came in before goes on until it has to link again; then its secret names an authority that is gone.
    assert_eq!(site.call("a.test", "echo").0, 200);
}

#[test]
fn certificates_and_provisioning_keys_are_managed_from_the_command_line() {
    let site = Site::new("auto");
    let made = site.create(&["--host", "a.test"]);
    let id = &made.tunnel.id;
    let dir = tempfile::tempdir().unwrap();
    let certificate = |n: u32| {
        let file = dir.path().join(format!("{n}.pem"));
        let made = adit::tls::Authority::make("theirs", rustls_pki_types::UnixTime::now()).unwrap();
        fs::write(&file, made.cert_pem).unwrap();
        file
    };
    let first: CertificateInfo = site.tunnel(&["cert", "add", id, text_of(&certificate(1))]);
    assert_eq!(first.fingerprint.len(), 64);
    site.run_tunnel(&["cert", "add", id, text_of(&certificate(2))]);
    let third = certificate(3);
    let message = site.refused(&["cert", "add", id, text_of(&third)]);
    assert!(message.contains("certificate_slots_taken"), "{message}");
    site.run_tunnel(&["cert", "archive", id, &first.id]);
    site.run_tunnel(&["cert", "add", id, text_of(&third)]);
    let certificates =
        |more: &[&str]| -> ListPart<CertificateInfo> { site.tunnel(&[&["cert", "list", id], more].concat()) };
    assert_eq!((certificates(&[]).data.len(), certificates(&["--all"]).data.len()), (2, 3));

    let created = site.create_key(&["--uses", "2", "--template", "web-*", "--host", "{name}.f.test", "--life", "1h"]);
    let id = &created.key.id;
    assert!(created.secret.starts_with("adpk_"));
    let message = site.refused(&["key", "create", "--uses", "2", "--host", "same.test"]);
    assert!(message.contains("{name}"), "{message}");
    // By key: the type has no secret, and what is printed must have none either.
    let revoked: Value = site.tunnel(&["key", "revoke", id]);
    assert_eq!((&revoked["good"], revoked["secret"].is_null()), (&json!(false), true));
    assert_eq!(&site.keys()[0].id, id);
}

#[test]
fn a_trade_whose_answer_was_lost_is_made_again_for_the_same_tunnel() {
    let site = Site::new("auto");
    let created = site.create_key(&["--uses", "1", "--host", "{name}.f.test"]);
    let secret = &*created.secret;
    let ca = site.data_dir().join("ca.pem");
    let ask = |key: &KeyRequest| trade::trade(&site.connectors, &ca, secret, key);
    let own = KeyRequest::new().unwrap();
    let EnrolAnswer::Granted(lost) = ask(&own) else { panic!("the key is good") };
    // Another host has another key: for it the provisioning key is used up.
    assert!(matches!(ask(&KeyRequest::new().unwrap()), EnrolAnswer::Refused(_)));

    // The host that got no answer starts again, with the key that it had kept.
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    adit::private::folder(&state).unwrap();
    private_write(&state.join("trade.key"), std::str::from_utf8(own.key_pem().expose()).unwrap());
    private_write(&dir.path().join("key"), secret);
    let route = format!("web-1.f.test=http://{}", site.upstream.address);
    let key_file = dir.path().join("key");
    let args = ["connect", "--json", "--edge", &site.connectors, "--route", &route, "--log-level", "error"];
    let more = ["--provisioning-key-file", text_of(&key_file), "--state-dir", text_of(&state)];
    let connector = crate::process::Adit::start(&[&args[..], &more].concat());
    assert_eq!(connector.next_of(&["certified", "linked"])["event"], "linked");
    assert_eq!(site.call("web-1.f.test", "echo").0, 200);
    assert!(!state.join("trade.key").exists(), "it is needed no more");
    let tunnels = site.list(&[]);
    assert_eq!((tunnels.len(), &*tunnels[0].id), (1, lost.tunnel.as_str()), "no orphan is left");
    assert_eq!(site.keys()[0].uses, 1);
    // What was lost on the way is good for nothing.
    let lost = format!("{}:{}", lost.tunnel, String::from_utf8_lossy(lost.secret.unwrap().expose()));
    assert!(site.is_refused("web-1.f.test", &lost));
    // A tunnel that was revoked does not come back so.
    site.run_tunnel(&["revoke", &tunnels[0].id]);
    assert!(matches!(ask(&own), EnrolAnswer::Refused(_)));
}

#[test]
fn a_host_below_anothers_wildcard_is_warned_of_and_no_provisioning_key_gets_one() {
    let mut site = Site::new("auto");
    let wide = site.create(&["--host", "*.f.test"]);
    assert!(wide.warnings.is_empty());
    // Whoever has the admin token may mean it.
    let below = site.create(&["--host", "a.f.test"]);
    let message = &below.warnings[0];
    assert!(
        message.contains("a.f.test") && message.contains("*.f.test") && message.contains(&wide.tunnel.id),
        "{message}"
    );
    let shown = site.run(&["tunnel", "create", "--host", "b.f.test"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("warning      calls for b.f.test"), "{shown}");
    // Nor does a wildcard come silently over what is there.
    let other = site.create(&["--host", "c.g.test"]);
    let over = site.update(&below.tunnel.id, &["--host", "*.g.test"]);
    let message = &over.warnings[0];
    assert!(
        message.contains("c.g.test") && message.contains("*.g.test") && message.contains(&other.tunnel.id),
        "{message}"
    );
    assert!(site.update(&below.tunnel.id, &["--name", "x"]).warnings.is_empty());

    // A host with a provisioning key did not come by anybody's leave: it takes no calls that are another's.
    let ca = site.data_dir().join("ca.pem");
    let ask = |site: &Site, secret: &str| trade::trade(&site.connectors, &ca, secret, &KeyRequest::new().unwrap());
    let refused = |site: &Site, host: &str| {
        let created = site.create_key(&["--uses", "1", "--host", host]);
        let EnrolAnswer::Refused(refused) = ask(site, &created.secret) else { panic!("{host} is taken") };
        assert_eq!(refused.refusal, adit::wire::RegistrationRefusal::ProvisioningKey);
        assert!(refused.reason.contains("wildcard"), "{}", refused.reason);
        let key: KeyInfo = site.tunnel(&["key", "show", &created.key.id]);
        assert_eq!(key.uses, 0, "it is not used up");
    };
    refused(&site, "{name}.f.test");
    site.create(&["--host", "z.web-1.h.test"]);
    refused(&site, "*.{name}.h.test");

    // The same where the wildcard stands in the configuration.
    site.end_edge();
    let secret = site.data_dir().join("c.secret");
    private_write(&secret, &"s".repeat(43));
    let file = text_of(&secret);
    site.configure(&format!("[[tunnel]]\nid = 'tnl_c'\nsecret_file = '{file}'\nhosts = ['*.i.test']\n"));
    site.run_edge("auto");
    refused(&site, "{name}.i.test");
    let message = site.create(&["--host", "a.i.test"]);
    assert!(message.warnings[0].contains("tnl_c"), "{:?}", message.warnings);
}

/// What `adit edge` says when it cannot start over a directory.
fn start_refused(dir: &Path) -> String {
    let args = ["--listen", "127.0.0.1:0", "--connectors-listen", "127.0.0.1:0", "--admin", "off", "--data-dir"];
    let done = crate::process::command(&[&["edge"], &args[..], &[text_of(dir)]].concat()).output().unwrap();
    assert!(matches!(done.status.code(), Some(1 | 2)), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

fn private_write(path: &Path, text: &str) {
    adit::private::write(path, text.as_bytes()).unwrap();
}
