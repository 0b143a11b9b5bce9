//! Hosts that a tunnel has and its connector does not, or the other way round: what both sides tell their operators before a call.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use adit::control::HostReading;
use adit::control::bodies::StatusBody;
use serde_json::Value;

use super::private_write;
use super::shell::{Shell, quoted_command};
use super::site::{Site, text_of};
use crate::process::{Adit, PATIENCE, command};

/// The lines of a log, as they come.
pub(super) struct Log(Receiver<String>);

impl Log {
    pub(super) fn of(log: impl Read + Send + 'static) -> Log {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Log(lines)
    }

    /// The next line with all of these words; others are passed over.
    pub(super) fn line(&self, words: &[&str]) -> String {
        loop {
            let line = self.0.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("no line {words:?}: {error}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }

    /// How many lines there still are with these words, until the end of the log.
    fn count(&self, words: &str) -> usize {
        std::iter::from_fn(|| self.0.recv_timeout(PATIENCE).ok()).filter(|line| line.contains(words)).count()
    }
}

/// The findings of the doctor beside a connector with this configuration: verdict, words and remedy of one check.
fn examine(site: &Site, config: &std::path::Path, check: &str) -> Vec<(String, String, String)> {
    let done = site.run(&["doctor", "--json", "--config", text_of(config)]);
    let findings: Value = serde_json::from_slice(&done.stdout).unwrap();
    let of = findings["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == check);
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    of.map(|finding| (text(finding, "verdict"), text(finding, "found"), text(finding, "remedy"))).collect()
}

#[tokio::test]
async fn hosts_that_one_side_lacks_are_reported_on_both_before_any_call() {
    const MISSING: &str = "the tunnel does not have these hosts";
    const UNSERVED: &str = "no connector of the tunnel has a route";
    for driver in ["epoll", "uring"] {
        let mut site = Site::new(driver);
        site.end_edge();
        site.run_edge_with(driver, |edge| {
            edge.stderr(Stdio::piped());
        });
        let edge_log = Log::of(site.edge.as_mut().unwrap().take_log());
        let made = site.create(&["--host", "orders.test", "--host", "*.spare.test"]);
        let id = &made.tunnel.id;
        assert!(made.tunnel.hosts_unserved.is_empty(), "nobody is linked");

        // A typing error in one of two routes.
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let config = dir.path().join("connect.toml");
            private_write(&config, text);
            config
        };
        private_write(&dir.path().join("token"), &made.token.tunnel_token);
        let route = |host: &str| format!("[[route]]\nhost = '{host}'\nupstream = 'http://{}'\n", site.upstream.address);
        let head = format!("[connect]\nedge = '{}'\ntoken_file = 'token'\n", site.connectors);
        let config = write(&format!("{head}{}{}", route("order.test"), route("*.spare.test")));
        let found = examine(&site, &config, "edge.hosts");
        let verdicts: Vec<&str> = found.iter().map(|(verdict, ..)| verdict.as_str()).collect();
        assert_eq!(verdicts, ["fail", "ok"], "{found:#?}");
        assert!(
            found[0].1.contains("does not have the host order.test")
                && found[1].1.contains("has the host *.spare.test")
        );
        // What the doctor advises is run as it stands, and taken back.
        let operator = Shell::new();
        operator.run_at(&site, quoted_command(&found[0].2));
        assert!(examine(&site, &config, "edge.hosts").iter().all(|(verdict, ..)| verdict == "ok"));
        site.update(id, &["--host", "orders.test", "--host", "*.spare.test"]);

        // Its trial link is not the one that is looked at below.
        site.until_linked_by(id, &[]);

        let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let args = ["connect", "--json", "--config", text_of(&config), "--cores", "1", "--admin", &admin];
        let mut connector = command(&args);
        connector.stderr(Stdio::piped());
        let mut connector = Adit::of(connector);
        let connector_log = Log::of(connector.take_log());
        connector.event("linked");
        let line = connector_log.line(&["WARN", MISSING, id, "order.test"]);
        let unserved = edge_log.line(&["WARN", UNSERVED, id, "orders.test"]);

        assert_eq!(site.show(id).hosts_unserved, ["orders.test"]);
        let shown = String::from_utf8(site.run(&["tunnel", "show", id]).stdout).unwrap();
        assert!(shown.contains("unserved     orders.test (no connector has a route)\n"), "{shown}");
        let links = site.connections(id);
        let name = links[0].connector.clone().unwrap();
        assert_eq!(links[0].hosts.as_ref().unwrap(), &["*.spare.test", "order.test"], "{links:?}");
        let shown = String::from_utf8(site.run(&["tunnel", "connections", id]).stdout).unwrap();
        assert!(shown.contains(&name) && shown.contains("*.spare.test, order.test"), "{shown}");
        let get = async |admin: &str, path: &str| {
            reqwest::get(format!("http://{admin}{path}")).await.unwrap().text().await.unwrap()
        };
        let status: StatusBody = serde_json::from_str(&get(&admin, "/v1/status").await).unwrap();
        assert_eq!(status.edges[0].of.hosts_missing, ["order.test"], "{status:#?}");
        let status: StatusBody = serde_json::from_str(&get(&site.admin, "/v1/status").await).unwrap();
        let tunnel = status.tunnels.iter().find(|tunnel| tunnel.of.id == *id).unwrap();
        let host = |host: &str, connectors: Vec<String>| HostReading {
            unserved: connectors.is_empty(),
            host: host.to_owned(),
            connectors,
        };
        assert_eq!(tunnel.of.hosts, [host("*.spare.test", vec![name.clone()]), host("orders.test", vec![])]);
        assert!(status.links.iter().all(|link| link.of.connector.as_ref() == Some(&name)), "{status:#?}");
        let metrics = get(&site.admin, "/metrics").await;
        assert!(metrics.contains(&format!("adit_tunnel_hosts_unserved{{tunnel=\"{id}\"}} 1.0\n")), "{metrics}");

        // What the connector advises is run as it stands.
        operator.run_at(&site, quoted_command(&line));
        connector_log.line(&["the tunnel has the hosts of all routes now"]);
        assert_eq!(site.call("order.test", "echo").0, 200);
        assert!(examine(&site, &config, "edge.hosts").iter().all(|(verdict, ..)| verdict == "ok"));
        // The host that was meant is the connector's to add.
        write(&format!("{head}{}{}", route("orders.test"), route("*.spare.test")));
        connector.signal("HUP");
        connector.event("reloaded");
        edge_log.line(&["WARN", UNSERVED, id, "order.test"]);
        assert_eq!(site.call("orders.test", "echo").0, 200);
        assert_eq!(site.show(id).hosts_unserved, ["order.test"]);
        // What the edge advises leaves the hosts open.
        let hosts = "--host orders.test --host '*.spare.test'";
        operator.run_at(&site, &quoted_command(&unserved).replace("--host …", hosts));
        edge_log.line(&["connectors have routes for all hosts of the tunnel now"]);
        connector.signal("TERM");
        assert_eq!(connector.ended(), Some(0));
        site.end_edge();
        assert_eq!((connector_log.count(MISSING), edge_log.count(UNSERVED)), (0, 0), "each change is told once");
    }
}
