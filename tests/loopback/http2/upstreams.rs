//! Upstreams that speak HTTP/2: the server of Node, which is built on nghttp2, behind a tunnel on each real driver.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use adit::base::Traffic;
use adit::tls::{ALPN_HTTP1, ALPN_HTTP2, Authority, ClientSettings, Roots, client_config};
use adit::upstream::UpstreamSettings;
use bytes::Bytes;
use http::{HeaderMap, Method};
use rustls::pki_types::UnixTime;

use crate::http2::client::{Client, next, request, whole, with_client};
use crate::http2::site::DRIVERS;
use crate::support::Tunnel;

const LARGE: usize = 8_000_000;

/// The server, which ends with this.
pub(crate) struct Node {
    child: Child,
    said: BufReader<ChildStdout>,
    files: tempfile::TempDir,
    authority: Authority,
    pub(crate) port: u16,
}

impl Node {
    /// Starts one that listens so.
    fn start(how: &str) -> Node {
        Node::start_with(how, None)
    }

    /// Starts one that listens so, and passes all requests on to a server of HTTP/1.1 at this port.
    pub(crate) fn before(how: &str, port: u16) -> Node {
        Node::start_with(how, Some(port))
    }

    fn start_with(how: &str, passes_on_to: Option<u16>) -> Node {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let issued = authority.issue(&["127.0.0.1"]).unwrap();
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("ca"), authority.cert_pem()).unwrap();
        std::fs::write(path("cert"), &issued.cert_pem).unwrap();
        std::fs::write(path("key"), issued.key_pem.expose()).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/http2/server.mjs");
        let mut node = Command::new("node");
        node.args([script, how]).args(["key", "cert", "socket"].map(path));
        node.args(passes_on_to.map(|port| port.to_string()));
        let mut child = node.stdout(Stdio::piped()).spawn().expect("node is there, as npm is");
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut started = Node { child, said, files, authority, port: 0 };
        started.port = started.says().parse().unwrap();
        started
    }

    /// The next line that it writes.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The file of its authority, and the path of its socket.
    pub(crate) fn files(&self) -> [PathBuf; 2] {
        ["ca", "socket"].map(|name| self.files.path().join(name))
    }

    /// The upstream as a route has it, where the server speaks TLS and is offered these protocols.
    fn over_tls(&self, alpn: &[&[u8]]) -> UpstreamSettings {
        let mut roots = Roots::new();
        roots.add_der(self.authority.cert_der().clone()).unwrap();
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tls = client_config(ClientSettings { roots, alpn, ..ClientSettings::default() }).unwrap();
        let url = format!("https://127.0.0.1:{}", self.port);
        UpstreamSettings { tls: Some(tls), ..UpstreamSettings::for_tests(url.parse().unwrap()) }
    }

    fn in_the_clear(&self) -> UpstreamSettings {
        UpstreamSettings::for_tests(format!("h2c://127.0.0.1:{}", self.port).parse().unwrap())
    }

    fn over_unix(&self) -> UpstreamSettings {
        let [_, socket] = self.files();
        UpstreamSettings::for_tests(format!("h2c+unix:{}", socket.display()).parse().unwrap())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test on each driver, with a server that listens so.
fn on_each_driver(how: &str, settings: impl Fn(&Node) -> UpstreamSettings, test: impl Fn(&Tunnel, &mut Node)) {
    for driver in DRIVERS {
        for traffic in [Traffic::Plain, Traffic::Resealed] {
            let mut node = Node::start(how);
            let tunnel = Tunnel::with_upstream(driver, traffic, settings(&node));
            test(&tunnel, &mut node);
            tunnel.end();
        }
    }
}

/// A call that is answered by the server, over HTTP/2.
async fn echo(client: &Client, scheme: &str) {
    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
    assert_eq!((answer.head.status().as_u16(), &answer.body[..]), (200, &b"hello"[..]), "{answer:?}");
    assert_eq!(answer.head.headers()["x-scheme"], scheme);
    assert_eq!(answer.trailers["x-length"], "5");
}

#[test]
fn a_server_that_speaks_http_2_alone_is_called_by_alpn_and_where_it_is_configured_without_tls() {
    let both = |node: &Node| node.over_tls(&[ALPN_HTTP2, ALPN_HTTP1]);
    on_each_driver("tls", both, |tunnel, _| with_client(tunnel.agents, async |client| echo(&client, "https").await));
    on_each_driver("clear", Node::in_the_clear, |tunnel, _| {
        with_client(tunnel.agents, async |client| echo(&client, "http").await);
    });
    on_each_driver("unix", Node::over_unix, |tunnel, _| {
        with_client(tunnel.agents, async |client| echo(&client, "http").await);
    });
}

#[test]
fn a_server_that_speaks_both_is_called_in_the_version_that_it_is_offered() {
    for (alpn, version) in [(&[ALPN_HTTP1][..], "1.1"), (&[ALPN_HTTP2, ALPN_HTTP1], "2.0")] {
        on_each_driver(
            "tls-or-1",
            |node| node.over_tls(alpn),
            |tunnel, _| {
                with_client(tunnel.agents, async |client| {
                    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
                    assert_eq!(answer.body, format!("spoken to in HTTP/{version}"));
                });
            },
        );
    }
}

#[test]
fn large_bodies_and_trailers_pass_both_ways() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                let answer = client.call(Method::GET, &format!("/bytes/{LARGE}"), b"").await.unwrap();
                assert_eq!(answer.head.headers()["content-length"], LARGE.to_string());
                assert_eq!(answer.body.iter().filter(|byte| **byte == b'x').count(), LARGE);
                let (response, mut send) = client.begin(request(Method::POST, "/mcp").body(()).unwrap(), false).await;
                let mut left = LARGE;
                while left > 0 {
                    send.reserve_capacity(left);
                    let n = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    left -= n;
                    send.send_data(vec![b'z'; n].into(), false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "12".parse().unwrap());
                send.send_trailers(trailers).unwrap();
                let answer = whole(response).await.unwrap();
                assert_eq!(answer.body.iter().filter(|byte| **byte == b'z').count(), LARGE);
                assert_eq!((&answer.trailers["x-length"], &answer.trailers["x-sum"]), (&LARGE.into(), &12.into()));
            });
        },
    );
}

#[test]
fn interim_responses_pass_and_one_to_head_has_no_body() {
    on_each_driver("clear", Node::in_the_clear, |tunnel, _| {
        with_client(tunnel.agents, async |client| {
            let (mut response, _) = client.begin(request(Method::GET, "/mcp").body(()).unwrap(), true).await;
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((interim.status().as_u16(), &interim.headers()["link"]), (103, &"</a>".parse().unwrap()));
            assert!(whole(response).await.unwrap().body.is_empty());
            let answer = client.call(Method::HEAD, "/bytes/5", b"").await.unwrap();
            assert_eq!((&answer.head.headers()["content-length"], answer.body.len()), (&5.into(), 0));
            echo(&client, "http").await;
        });
    });
}

#[test]
fn a_hundred_calls_at_once_share_a_connection() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                echo(&client, "https").await;
                let calls = (0..100_usize).map(|nth| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let answer = client.call(Method::GET, &format!("/bytes/{}", 1000 + nth), b"").await.unwrap();
                        assert_eq!(answer.body.len(), 1000 + nth);
                    })
                });
                for call in calls.collect::<Vec<_>>() {
                    call.await.unwrap();
                }
                let answer = client.call(Method::POST, "/mcp", b"").await.unwrap();
                assert_eq!(answer.head.headers()["x-sessions"], "1", "{answer:?}");
            });
        },
    );
}

#[test]
fn events_pass_at_once_and_a_call_that_is_given_up_is_cancelled() {
    on_each_driver("clear", Node::in_the_clear, |tunnel, node| {
        with_client(tunnel.agents, async |client| {
            let get = |path: &str| request(Method::GET, path).header("accept", "text/event-stream").body(()).unwrap();
            let (response, mut send) = client.begin(get("/events"), true).await;
            let mut events = response.await.unwrap().into_body();
            assert_eq!(next(&mut events).await.unwrap().unwrap(), "data: 0\n\n");
            for nth in 1..10 {
                // The event is sent before this is answered, and passes before anything else comes.
                client.call(Method::POST, &format!("/next/{nth}"), b"").await.unwrap();
                assert_eq!(next(&mut events).await.unwrap().unwrap(), format!("data: {nth}\n\n"));
            }
            send.send_reset(h2::Reason::CANCEL);
            let (held, mut upload) = client.begin(request(Method::POST, "/hold").body(()).unwrap(), false).await;
            upload.send_data(Bytes::from_static(b"a part"), false).unwrap();
            echo(&client, "http").await;
            upload.send_reset(h2::Reason::CANCEL);
            drop(held);
            echo(&client, "http").await;
        });
        let cancel = u32::from(h2::Reason::CANCEL);
        let mut said = [node.says(), node.says()];
        said.sort();
        assert_eq!(said, [format!("reset /events {cancel}"), format!("reset /hold {cancel}")]);
    });
}

#[test]
fn a_request_that_the_server_did_not_look_at_is_sent_once_more() {
    on_each_driver(
        "tls",
        |node| node.over_tls(&[ALPN_HTTP2]),
        |tunnel, _| {
            with_client(tunnel.agents, async |client| {
                echo(&client, "https").await;
                let answer = client.call(Method::POST, "/refused-once", b"hello").await.unwrap();
                assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &2.into()));
                // One that ends its connection answers what it has looked at, and the next call goes elsewhere.
                let answer = client.call(Method::POST, "/goodbye", b"hello").await.unwrap();
                assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &2.into()));
                for _ in 0..3 {
                    let answer = client.call(Method::POST, "/mcp", b"hello").await.unwrap();
                    assert_eq!((&answer.body[..], &answer.head.headers()["x-sessions"]), (&b"hello"[..], &3.into()));
                }
            });
        },
    );
}
