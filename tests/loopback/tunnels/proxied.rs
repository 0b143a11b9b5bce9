//! Connectors that reach their edge through a forward proxy alone: its name means something only there.

use super::forward_proxy::ForwardProxy;
use super::site::{Site, text_of};
use crate::process::{Adit, command};

/// A site whose edge connectors know by a name that only the proxy can resolve.
fn site() -> (Site, String) {
    let mut site = Site::new("auto");
    let port = site.connectors.rsplit(':').next().unwrap().to_owned();
    site.connectors = format!("edge.test:{port}");
    let edge = site.connectors.clone();
    (site, edge)
}

#[test]
fn certificates_and_links_come_through_the_proxy_by_either_protocol() {
    for scheme in ["http", "socks5"] {
        let ((site, edge), proxy) = (site(), ForwardProxy::start());
        let made = site.create(&["--host", "a.test"]);
        let setting = format!("connect.proxy={scheme}://me:hunter2@{}", proxy.address);
        let _connector =
            site.connect_with("a.test", &made.token.tunnel_token, &["--edge-name", "localhost", "--set", &setting]);
        assert_eq!(site.call("a.test", "echo").0, 200, "{scheme}");
        let asked = proxy.asked();
        assert!(asked.len() >= 2 && asked.iter().all(|target| *target == edge), "{scheme}: {asked:?}");
    }
}

#[test]
fn the_environment_names_the_proxy_unless_a_setting_does() {
    let ((site, edge), proxy) = (site(), ForwardProxy::start());
    let made = site.create(&["--host", "a.test"]);
    let url = format!("http://me:hunter2@{}", proxy.address);
    let start = |more: &[&str], variables: &[(&str, &str)]| {
        let args = site.connector_args("a.test", &made.token.tunnel_token);
        let args: Vec<&str> =
            args.iter().map(String::as_str).chain(["--edge-name", "localhost"]).chain(more.iter().copied()).collect();
        let mut command = command(&args);
        command.envs(variables.iter().copied());
        Adit::of(command)
    };
    let connector = start(&[], &[("HTTPS_PROXY", &url), ("NO_PROXY", "10.0.0.0/8, other.test")]);
    connector.event("linked");
    assert_eq!(site.call("a.test", "echo").0, 200);
    drop(connector);
    assert!(proxy.asked().iter().all(|target| *target == edge));

    // Directly, the name means nothing.
    let before = proxy.asked().len();
    for (more, no_proxy) in [(&["--set", "connect.proxy=off"][..], ""), (&[], "edge.test")] {
        let message = start(more, &[("HTTPS_PROXY", &url), ("NO_PROXY", no_proxy)]).event("no_link");
        assert!(message["why"].as_str().unwrap().contains("the name edge.test cannot be resolved"), "{message}");
    }
    assert_eq!(proxy.asked().len(), before);
}

#[test]
fn a_provisioning_key_is_traded_through_the_proxy() {
    let ((site, edge), proxy) = (site(), ForwardProxy::start());
    let created = site.create_key(&["--uses", "1", "--host", "{name}.f.test"]);
    let dir = tempfile::tempdir().unwrap();
    let (key, state) = (dir.path().join("key"), dir.path().join("state"));
    adit::private::write(&key, created.secret.as_bytes()).unwrap();
    let (route, setting) = (
        format!("*.f.test=http://{}", site.upstream.address),
        format!("connect.proxy=http://me:hunter2@{}", proxy.address),
    );
    let connector = Adit::start(&[
        "connect",
        "--json",
        "--edge",
        &edge,
        "--edge-name",
        "localhost",
        "--route",
        &route,
        "--log-level",
        "error",
        "--provisioning-key-file",
        text_of(&key),
        "--state-dir",
        text_of(&state),
        "--set",
        &setting,
    ]);
    connector.event("linked");
    assert_eq!(site.call(&site.list(&[])[0].domain, "echo").0, 200);
    assert!(proxy.asked().len() >= 2, "the trade and a link: {:?}", proxy.asked());
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let ((site, _), proxy) = (site(), ForwardProxy::start());
    let made = site.create(&["--host", "a.test"]);
    for (login, expected) in [("me:wrong@", "does not accept the user and password"), ("", "requires a login")] {
        for scheme in ["http", "socks5"] {
            let setting = format!("connect.proxy={scheme}://{login}{}", proxy.address);
            let args = site.connector_args("a.test", &made.token.tunnel_token);
            let args: Vec<&str> = args.iter().map(String::as_str).chain(["--set", &setting]).collect();
            let message = Adit::start(&args).event("no_link");
            let why = message["why"].as_str().unwrap();
            assert!(why.contains(expected) && why.contains(&format!("{scheme}://{}", proxy.address)), "{why}");
            assert!(!why.contains("wrong"), "{why}");
        }
    }
    assert!(proxy.asked().is_empty());
}
