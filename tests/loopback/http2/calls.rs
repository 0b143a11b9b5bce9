//! Calls over HTTP/2 are those of HTTP/1.1 in another form.

use std::process::Command;
use std::sync::atomic::Ordering;

use adit::base::Traffic;
use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::http2::client::{request, whole, with_client};
use crate::http2::site::{DRIVERS, Site, on_each_driver};
use crate::support::HOST;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#;

/// What curl says of a request, which must be one of HTTP/2: the body, and the version and status behind it.
fn curl(args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--max-time", "20"]).args(args);
    let out = command.args(["--write-out", "|%{http_version} %{http_code}"]).output().expect("curl is there");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn curl_calls_over_tls_and_in_the_clear() {
    on_each_driver(|site| {
        let port = site.agents().port();
        let resolve = format!("{HOST}:{port}:127.0.0.1");
        for (version, scheme) in [("--http2", "https"), ("--http2-prior-knowledge", "http")] {
            let url = format!("{scheme}://{HOST}:{port}/mcp");
            let text = curl(&[version, "--resolve", &resolve, "--data", "{\"id\":7}", &url]);
            assert!(text.ends_with("{\"id\":7}|2 200"), "{text}");
            assert!(text.starts_with("POST /mcp HTTP/1.1\r\n"), "{text}");
            assert!(text.contains(&format!("X-Forwarded-Proto: {scheme}\r\n")), "{text}");
        }
        let url = format!("https://{HOST}:{port}/mcp");
        let text = curl(&["--http1.1", "--resolve", &resolve, "--data", "{\"id\":7}", &url]);
        assert!(text.ends_with("{\"id\":7}|1.1 200"), "HTTP/1.1 is spoken as before: {text}");
    });
}

#[test]
fn curl_calls_where_its_tls_ends_in_the_connector() {
    const CALLS: usize = 30;
    for driver in DRIVERS {
        let site = Site::start(driver, Traffic::Passthrough, (1, 1));
        let port = site.tunnel.agents.port();
        let resolve = format!("{HOST}:{port}:127.0.0.1");
        let url = |path: &str| format!("https://{HOST}:{port}{path}");
        for (version, spoken) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let text = curl(&[version, "--resolve", &resolve, "--data", "{\"id\":7}", &url("/mcp")]);
            assert!(text.ends_with(&format!("{{\"id\":7}}|{spoken} 200")), "{text}");
            assert!(text.starts_with("POST /mcp HTTP/1.1\r\n"), "{text}");
            assert!(text.contains("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"), "{text}");
        }
        // Large bodies, interim responses, and trailers, which curl shows among the fields.
        let text = curl(&["--http2", "--resolve", &resolve, &url("/bytes/3000000")]);
        assert_eq!(text.len(), 3_000_000 + "|2 200".len());
        let text = curl(&["--http2", "--include", "--resolve", &resolve, &url("/early")]);
        assert!(text.starts_with("HTTP/2 103") && text.ends_with("ok|2 200"), "{text}");
        let text = curl(&["--http2", "--include", "--resolve", &resolve, &url("/chunks/100")]);
        assert!(text.contains("x-sum: 100\r\n") && text.ends_with("|2 200"), "{text}");
        // Many at once, on one connection.
        site.asked();
        let urls = url(&format!("/bytes/[1-{CALLS}]"));
        let text = curl(&["--http2", "--parallel", "--parallel-max", "30", "--resolve", &resolve, &urls]);
        assert_eq!((text.matches("|2 200").count(), site.asked().len()), (CALLS, CALLS), "{text}");
        site.end();
    }
}

#[test]
fn a_call_arrives_as_it_was_sent_and_its_answer_too() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let answer = client.call(Method::POST, "/mcp?a=b", CALL).await.unwrap();
            let stated = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
            assert_eq!(answer.head.status(), 200);
            assert!(stated.starts_with("post /mcp?a=b http/1.1\r\n"), "{stated}");
            assert!(stated.contains(&format!("host: {HOST}\r\n")), "{stated}");
            assert!(stated.ends_with(std::str::from_utf8(CALL).unwrap()), "{stated}");
            assert!(answer.head.headers().contains_key("server-timing"), "{:?}", answer.head);
            assert_eq!(answer.head.headers()["content-type"], "text/plain");
            let head = request(Method::HEAD, "/bytes/5").body(()).unwrap();
            let answer = whole(client.begin(head, true).await.0).await.unwrap();
            assert_eq!((answer.head.headers()["content-length"].as_bytes(), answer.body.len()), (&b"5"[..], 0));
        });
    });
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            // A body without an announced length, with fields behind it.
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "12".parse().unwrap());
            let (response, mut send) = client.begin(request(Method::POST, "/mcp").body(()).unwrap(), false).await;
            send.send_data(Bytes::from_static(b"hello "), false).unwrap();
            send.send_data(Bytes::from_static(b"world!"), false).unwrap();
            send.send_trailers(trailers).unwrap();
            let text = String::from_utf8(whole(response).await.unwrap().body.to_vec()).unwrap();
            assert!(text.contains("\r\nTransfer-Encoding: chunked\r\n"), "{text}");
            assert!(text.ends_with("hello world!x-sum: 12\r\n"), "{text}");
            // The same with an announced length.
            let request = request(Method::POST, "/mcp").header("content-length", 6).header("trailer", "x-sum");
            let (response, mut send) = client.begin(request.body(()).unwrap(), false).await;
            send.send_data(Bytes::from_static(b"hello "), false).unwrap();
            send.send_trailers([("x-sum".parse().unwrap(), "6".parse().unwrap())].into_iter().collect()).unwrap();
            let text = String::from_utf8(whole(response).await.unwrap().body.to_vec()).unwrap();
            assert!(text.ends_with("hello x-sum: 6\r\n"), "{text}");
            // And back.
            let answer = client.call(Method::GET, "/chunks/100000", b"").await.unwrap();
            assert_eq!((answer.body.len(), &answer.trailers["x-sum"]), (100_000, &"100000".parse().unwrap()));
            for name in ["transfer-encoding", "connection", "keep-alive"] {
                assert!(!answer.head.headers().contains_key(name), "{name}");
            }
            let answer = client.call(Method::GET, "/empty", b"").await.unwrap();
            assert_eq!((answer.head.status().as_u16(), answer.body.len()), (204, 0));
            assert_eq!(answer.head.headers()["x-empty"], "yes");
        });
    });
}

#[test]
fn interim_responses_pass() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let early = request(Method::GET, "/early").body(()).unwrap();
            let (mut response, _) = client.begin(early, true).await;
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!((interim.status().as_u16(), &interim.headers()["link"]), (103, &"</a>".parse().unwrap()));
            assert_eq!(whole(response).await.unwrap().body, "ok");
            // A body that is sent only when it is asked for.
            let expects = request(Method::POST, "/mcp").header("expect", "100-continue").body(()).unwrap();
            let (mut response, mut send) = client.begin(expects, false).await;
            let interim = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
            assert_eq!(interim.status(), 100);
            send.send_data(Bytes::from_static(b"asked for"), true).unwrap();
            assert!(whole(response).await.unwrap().body.ends_with(b"asked for"));
        });
    });
}

#[test]
fn bodies_larger_than_all_windows_pass_whole() {
    const LEN: usize = 3_000_000;
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let (response, mut send) = client.begin(request(Method::POST, "/mcp").body(()).unwrap(), false).await;
            let mut left = LEN;
            while left > 0 {
                send.reserve_capacity(left);
                let n = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                left -= n;
                send.send_data(vec![b'z'; n].into(), left == 0).unwrap();
            }
            let answer = whole(response).await.unwrap();
            assert_eq!(answer.body.iter().filter(|byte| **byte == b'z').count(), LEN);
            let answer = client.call(Method::GET, "/bytes/3000000", b"").await.unwrap();
            assert_eq!(answer.body.len(), LEN);
        });
    });
}

#[test]
fn a_hundred_calls_at_once_get_their_own_answers() {
    const CALLS: usize = 100;
    for traffic in [Traffic::Plain, Traffic::Resealed] {
        for driver in DRIVERS {
            let site = Site::start(driver, traffic, (1, 1));
            with_client(site.agents(), async |client| {
                let calls = (0..CALLS).map(|nth| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let path = format!("/mcp/{nth}");
                        let answer = client.call(Method::POST, &path, CALL).await.unwrap();
                        let text = String::from_utf8(answer.body.to_vec()).unwrap();
                        assert!(text.starts_with(&format!("POST /mcp/{nth} HTTP/1.1\r\n")), "{text}");
                    })
                });
                for call in calls.collect::<Vec<_>>() {
                    call.await.unwrap();
                }
            });
            assert_eq!(site.asked().len(), CALLS, "{driver:?} {traffic}");
            site.tunnel.end();
        }
    }
}

#[test]
fn hosts_origins_and_metrics_are_those_of_any_call() {
    on_each_driver(|site| {
        with_client(site.agents(), async |client| {
            let unknown = http::Request::get("http://b.test/mcp").body(()).unwrap();
            let answer = whole(client.begin(unknown, true).await.0).await.unwrap();
            assert_eq!(answer.head.status(), 421);
            assert!(answer.body.starts_with(br#"{"error":{"code":"unknown_host""#), "{answer:?}");
            assert!(answer.head.headers().contains_key("server-timing"), "{answer:?}");
            let foreign = request(Method::POST, "/mcp").header("origin", "https://evil.test").body(()).unwrap();
            assert_eq!(whole(client.begin(foreign, true).await.0).await.unwrap().head.status(), 403);
            assert_eq!(site.asked(), [""; 0]);
            client.call(Method::POST, "/mcp", CALL).await.unwrap();
        });
        assert_eq!(site.asked(), ["POST /mcp"]);
        assert!(site.tunnel.edge.counters().http2_connections.load(Ordering::Relaxed) > 0);
    });
}

#[test]
fn a_call_that_another_core_has_the_link_for_is_served_there() {
    const CORES: usize = 3;
    const AGENTS: usize = 24;
    for driver in DRIVERS {
        for traffic in [Traffic::Plain, Traffic::Resealed] {
            let site = Site::start(driver, traffic, (CORES, 1));
            for _ in 0..AGENTS {
                with_client(site.agents(), async |client| {
                    for _ in 0..3 {
                        let answer = client.call(Method::POST, "/mcp", CALL).await.unwrap();
                        let text = String::from_utf8(answer.body.to_vec()).unwrap();
                        assert!(text.contains("X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"), "{text}");
                        assert!(text.ends_with(std::str::from_utf8(CALL).unwrap()), "{text}");
                        assert_eq!(answer.head.headers().get_all("server-timing").iter().count(), 1);
                    }
                    let answer = client.call(Method::GET, "/chunks/200000", b"").await.unwrap();
                    assert_eq!((answer.body.len(), answer.trailers.len()), (200_000, 1));
                    let (response, mut send) =
                        client.begin(request(Method::POST, "/hold").body(()).unwrap(), true).await;
                    let held = site.held().await;
                    send.send_reset(h2::Reason::CANCEL);
                    tokio::task::spawn_blocking(move || held.until_closed()).await.unwrap();
                    drop(response);
                });
            }
            let handed_over = site.tunnel.edge.counters().handed_over.load(Ordering::Relaxed);
            assert!(handed_over > 0, "{driver:?} {traffic}: of {AGENTS} some landed on a core without a link");
            site.tunnel.end();
        }
    }
}

/// It asks for a place there, and keeps none on the core that it came to.
#[test]
fn a_call_that_goes_to_another_core_has_one_place() {
    const CORES: usize = 3;
    const AGENTS: usize = 24;
    for driver in DRIVERS {
        let site = Site::start(driver, Traffic::Plain, (CORES, 1));
        site.tunnel.limit_calls(1);
        for _ in 0..AGENTS {
            with_client(site.agents(), async |client| {
                let answer = client.call(Method::POST, "/mcp", CALL).await.unwrap();
                assert_eq!(answer.head.status(), 200, "{driver:?}: {answer:?}");
            });
        }
        let handed_over = site.tunnel.edge.counters().handed_over.load(Ordering::Relaxed);
        assert!(handed_over > 0, "{driver:?}: of {AGENTS} some landed on a core without a link");
        let limits = site.tunnel.edge.limits();
        let [(_, reading)] = &limits[..] else { panic!("one route has had calls: {limits:?}") };
        assert_eq!((reading.limit, reading.counts.refused), (1, 0), "{driver:?}: {reading:?}");
        site.tunnel.end();
    }
}
