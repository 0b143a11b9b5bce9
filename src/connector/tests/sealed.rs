//! Sealed sessions on virtual time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bed::{Bed, EdgeSide, Talk, ms, script, settings, standard_tables};
use crate::base::{BreakerTerms, Clock, DeadlineTerms, GuardMode, Traffic};
use crate::connector::{ConnectorCommand, ConnectorSettings, ConnectorTables, Sealing};
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::link::LinkStream;
use crate::route::{RouteEntry, RouteTable};
use crate::tls::{
    ALPN_HTTP1, ALPN_HTTP2, Authority, CallerAuthorities, CertSet, ClientConfig, ClientSettings, Clients,
    ReloadingCerts, Roots, ServerName, ServerSettings, Session, TlsStream, WallClock, client_config, server_config,
};
use crate::wire::mux::{Cause, Open};

const POST: &str =
    "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 29\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":\"four\"}";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The address of the agents.
const PEER: &str = "192.0.2.7";

pub(super) type Agent = Talk<TlsStream<LinkStream>>;

/// The standard tables with this traffic, and a client that trusts the connector and speaks HTTP/1.1.
pub(super) fn sealed_tables(traffic: Traffic) -> (ConnectorTables, Arc<ClientConfig>) {
    sealed_tables_for(traffic, ALPN_HTTP1)
}

/// Like [`sealed_tables`], with a client that speaks this protocol.
pub(super) fn sealed_tables_for(traffic: Traffic, alpn: &[u8]) -> (ConnectorTables, Arc<ClientConfig>) {
    let now = WallClock::default().now();
    let authority = Authority::new("test", now, 1).unwrap();
    let cert = authority.issue(&["mcp.test"]).unwrap().server_cert(now).unwrap();
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    let server = |clients| {
        let alpn = [ALPN_HTTP2, ALPN_HTTP1].map(<[u8]>::to_vec).to_vec();
        let settings = ServerSettings { alpn, clients, ..ServerSettings::default() };
        server_config(certs.clone(), &settings).unwrap()
    };
    let callers = CallerAuthorities::default();
    callers.set(0, authority.cert_der().clone());
    let sealing = Sealing {
        passthrough: server(Clients::Anyone),
        passthrough_asking: server(Clients::Asked),
        resealed: server(Clients::Edges(Arc::new(callers))),
    };
    let standard = standard_tables();
    let routes = standard.routes.iter().map(|(host, route)| {
        let mut target = route.clone();
        target.traffic = traffic;
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    let routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    let settings = ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() };
    (ConnectorTables { routes, ingress: None, sealing: Some(sealing) }, client_config(settings).unwrap())
}

async fn open(edge: &EdgeSide, traffic: Traffic, peer: &str) -> LinkStream {
    let peer = Some(peer);
    edge.link().await.open(&Open { route: "mcp.test", call: 1, traffic, peer, until: None }).unwrap()
}

/// An agent's session through a passthrough edge.
pub(super) async fn agent(edge: &EdgeSide, config: &Arc<ClientConfig>) -> Agent {
    agent_at(edge, config, PEER).await
}

/// Like [`agent`], with this address.
pub(super) async fn agent_at(edge: &EdgeSide, config: &Arc<ClientConfig>, peer: &str) -> Agent {
    let stream = open(edge, Traffic::Passthrough, peer).await;
    let session = Session::client(Arc::clone(config), ServerName::try_from("mcp.test").unwrap()).unwrap();
    let never = std::future::pending();
    let made = TlsStream::handshake(stream, session, edge.core.pool().clone(), never).await;
    Talk::new(made.map_err(|(error, _)| error).unwrap(), &edge.core)
}

#[test]
fn an_agents_session_carries_one_call_after_the_other_and_ends_when_idle() {
    let mut bed = Bed::new(script(|mut peer| async move {
        for _ in 0..3 {
            let head = peer.talk.until("four\"}").await;
            assert!(head.contains("X-Forwarded-For: 192.0.2.7\r\n"), "{head}");
            peer.talk.write(OK).await;
        }
        let _ = peer.talk.rest().await;
    }));
    let (tables, config) = sealed_tables(Traffic::Passthrough);
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        for _ in 0..3 {
            agent.write(POST).await;
            assert!(agent.until("ok").await.contains("Server-Timing: connector;dur="));
        }
        let began = edge.core.now();
        assert_eq!(agent.rest().await, (String::new(), Ok(())));
        let waited = edge.core.now() - began;
        assert!((ms(120_000)..ms(121_000)).contains(&waited), "{waited:?}");
    });
    assert_eq!(bed.role.counters().sessions_sealed.load(Ordering::Relaxed), 1);
    bed.assert_clean();
}

/// Only the connector can read requests whose TLS ends there; the edge counts the others.
#[test]
fn an_agent_that_meets_a_server_of_the_other_era_is_counted_where_its_tls_ends() {
    const OPENING: &str = r#"{"jsonrpc":"2.0","id":"four","method":"initialize"}"#;
    let post = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n{OPENING}", OPENING.len());
    for (is_agents, counted) in [(true, 1), (false, 0)] {
        let mut bed = Bed::new(script(|mut peer| async move {
            for status in ["200 OK", "404 Not Found", "401 Unauthorized"] {
                peer.talk.until("initialize\"}").await;
                peer.talk.write(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok")).await;
            }
            let _ = peer.talk.rest().await;
        }));
        let (mut tables, config) = sealed_tables(Traffic::Passthrough);
        if !is_agents {
            tables = standard_tables();
        }
        bed.role.reload(tables);
        let post = post.clone();
        bed.run(move |edge| async move {
            if is_agents {
                let mut agent = agent(&edge, &config).await;
                for _ in 0..3 {
                    agent.write(&post).await;
                    agent.until("ok").await;
                }
            } else {
                for _ in 0..3 {
                    let mut call = edge.call(&post).await;
                    call.stream.finish();
                    assert!(call.whole().await.ends_with("ok"));
                }
            }
        });
        assert_eq!(bed.role.counters().eras_differed.load(Ordering::Relaxed), counted);
        bed.assert_clean();
    }
}

#[test]
fn an_agent_whose_upstream_never_answers_gets_an_error_with_the_id_of_its_call() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.until("four\"}").await;
        let _ = peer.talk.rest().await;
    }));
    let (tables, config) = sealed_tables(Traffic::Passthrough);
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        let began = edge.core.now();
        agent.write(POST).await;
        let answer = agent.until("}}}").await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("\"id\":\"four\""), "{answer}");
        let waited = edge.core.now() - began;
        assert!((ms(120_000)..ms(121_000)).contains(&waited), "{waited:?}");
    });
    bed.assert_clean();
}

#[test]
fn a_stream_that_is_sealed_otherwise_than_its_route_reaches_no_upstream() {
    for (of_route, of_stream) in [
        (Traffic::Plain, Traffic::Passthrough),
        (Traffic::Plain, Traffic::Resealed),
        (Traffic::Resealed, Traffic::Passthrough),
        (Traffic::Passthrough, Traffic::Resealed),
        (Traffic::Passthrough, Traffic::Plain),
        (Traffic::Resealed, Traffic::Plain),
    ] {
        let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
        bed.role.reload(sealed_tables(of_route).0);
        bed.run(move |edge| async move {
            let mut stream = Talk::new(open(&edge, of_stream, PEER).await, &edge.core);
            stream.write(POST).await;
            assert_eq!(stream.cause().await, Cause::SealMismatch, "{of_route} {of_stream}");
        });
        bed.assert_clean();
    }
}

#[test]
fn a_peer_without_the_edges_certificate_gets_an_alert() {
    let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
    let (tables, config) = sealed_tables(Traffic::Resealed);
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let stream = open(&edge, Traffic::Resealed, PEER).await;
        let session = Session::client(config, ServerName::try_from("mcp.test").unwrap()).unwrap();
        let never = std::future::pending();
        let made = TlsStream::handshake(stream, session, edge.core.pool().clone(), never).await;
        // In TLS 1.3 this side completes the handshake before the peer checks the certificate.
        let session = made.map_err(|(error, _)| error).unwrap();
        let error = session.recv().await.unwrap_err();
        assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    });
    assert_eq!(bed.role.counters().seals_failed.load(Ordering::Relaxed), 1);
    bed.assert_clean();
}

#[test]
fn bytes_that_are_no_handshake_end_the_stream_and_nothing_else() {
    let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
    bed.role.reload(sealed_tables(Traffic::Passthrough).0);
    bed.run(|edge| async move {
        for bytes in ["GET / HTTP/1.1\r\nHost: mcp.test\r\n\r\n", "\u{16}\u{3}\u{1}\u{0}\u{4}none"] {
            let mut stream = Talk::new(open(&edge, Traffic::Passthrough, PEER).await, &edge.core);
            stream.write(bytes).await;
            let (_, ended) = stream.rest().await;
            assert!(ended.is_err());
        }
        // A silent peer has a timeout too.
        let mut silent = Talk::new(open(&edge, Traffic::Passthrough, PEER).await, &edge.core);
        assert_eq!(silent.cause().await, Cause::SealFailed);
    });
    bed.assert_clean();
}

#[test]
fn a_connector_that_is_to_end_closes_idle_sessions_and_finishes_the_call_of_others() {
    let answered = Rc::new(Cell::new(false));
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.until("four\"}").await;
        peer.core.sleep(ms(3_000)).await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    }));
    let (tables, config) = sealed_tables(Traffic::Passthrough);
    bed.role.reload(tables);
    let (role, set) = (Arc::clone(&bed.role), Rc::clone(&answered));
    bed.run(|edge| async move {
        let (mut busy, mut idle) = (agent(&edge, &config).await, agent(&edge, &config).await);
        busy.write(POST).await;
        edge.core.sleep(ms(1_000)).await;
        role.command(|| ConnectorCommand::Drain);
        let began = edge.core.now();
        assert_eq!(idle.rest().await, (String::new(), Ok(())));
        assert!(edge.core.now() - began < ms(100));
        let (answer, ended) = busy.rest().await;
        assert!(answer.contains("Connection: close\r\n") && answer.ends_with("ok"), "{answer}");
        assert_eq!(ended, Ok(()));
        set.set(true);
    });
    assert!(answered.get());
    assert!(bed.run_to_end() < ms(5_000));
}

/// The body of a chunked response with these fields. Its upstream sends the pieces, each after a pause in seconds; the
/// agent gets a comment after 10 s of silence.
fn kept_alive(fields: &'static str, pieces: &'static [(u64, &'static str)]) -> String {
    let play = script(move |mut peer| async move {
        peer.talk.until("four\"}").await;
        peer.talk.write(format!("HTTP/1.1 200 OK\r\n{fields}Transfer-Encoding: chunked\r\n\r\n")).await;
        for (after_s, piece) in pieces {
            peer.core.sleep(ms(after_s * 1_000)).await;
            peer.talk.write(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        }
        peer.talk.write("0\r\n\r\n").await;
        let _ = peer.talk.rest().await;
    });
    let settings = ConnectorSettings { sse_keepalive: Some(ms(10_000)), ..settings() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(play));
    let (tables, config) = sealed_tables(Traffic::Passthrough);
    bed.role.reload(tables);
    let body = Rc::new(RefCell::new(String::new()));
    let shared = Rc::clone(&body);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        agent.write(POST.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        agent.head().await;
        loop {
            let size = usize::from_str_radix(agent.until("\r\n").await.trim(), 16).unwrap();
            if size == 0 {
                break;
            }
            let chunk = agent.until("\r\n").await;
            let chunk = if chunk.len() < size + 2 { chunk + &agent.until("\r\n").await } else { chunk };
            shared.borrow_mut().push_str(&chunk[..size]);
        }
    });
    bed.assert_clean();
    body.take()
}

#[test]
fn a_silent_event_stream_gets_comments_and_only_between_its_events() {
    let events = "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache, no-transform\r\n";
    let body = kept_alive(
        events,
        &[
            (25, "data: a"),
            (25, "\n"),
            (25, "\n"),
            // Each within 10 s, so that there is no silence.
            (9, "data: b\n\n"),
            (9, ": own\n\n"),
            (9, "id: 8\ndata: c\n\n"),
            (11, "data: d\n\n"),
        ],
    );
    assert_eq!(body, ":\n\n:\n\ndata: a\n\ndata: b\n\n: own\n\nid: 8\ndata: c\n\n:\n\ndata: d\n\n");
}

#[test]
fn only_plain_event_streams_get_comments() {
    for fields in [
        "Content-Type: application/json\r\n",
        "Content-Type: text/event-streams\r\n",
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        "Content-Type: text/event-stream\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n",
        "",
    ] {
        assert_eq!(kept_alive(fields, &[(25, "one"), (25, "two")]), "onetwo", "{fields}");
    }
    let plain = "Content-Type: Text/Event-Stream\r\nContent-Encoding: identity\r\n";
    assert_eq!(kept_alive(plain, &[(15, "data\n\n")]), ":\n\ndata\n\n");
}

pub(super) fn enforced() -> DeadlineTerms {
    DeadlineTerms { mode: GuardMode::Enforce, ..DeadlineTerms::default() }
}

#[test]
fn an_agents_call_whose_label_is_needed_is_read_ahead_or_refused() {
    const SEARCH: &str = r#"{"id":1,"method":"tools/call","params":{"name":"search"}}"#;
    const TWICE: &str = r#"{"id":1,"method":"tools/list","method":"tools/call"}    "#;
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.until(SEARCH).await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    }));
    let (mut tables, config) = sealed_tables(Traffic::Passthrough);
    let routes = tables.routes.iter().map(|(host, route)| {
        let target = crate::connector::ConnectorRoute { deadlines: enforced(), ..route.clone() };
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        let head = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n", SEARCH.len());
        agent.write(&head).await;
        for piece in [&SEARCH[..9], &SEARCH[9..30], &SEARCH[30..]] {
            edge.core.sleep(ms(5)).await;
            agent.write(piece).await;
        }
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "));
        let head = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n", TWICE.len());
        agent.write(head + TWICE).await;
        let (answer, _) = agent.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("bad_request_body"), "{answer}");
    });
    assert_eq!(bed.role.counters().requests_refused.load(Ordering::Relaxed), 1);
    bed.assert_clean();
}

#[test]
fn an_agents_call_beyond_its_deadline_is_cut_and_its_session_continues() {
    const SEARCH: &str = r#"{"id":1,"method":"tools/call","params":{"name":"search"}}"#;
    const USUAL: usize = 25;
    let mut bed = Bed::new(script(|mut peer| async move {
        for _ in 0..USUAL {
            if peer.talk.until("}}").await.contains("notifications/cancelled") {
                peer.talk.write("HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
                break;
            }
            peer.core.sleep(ms(2_000)).await;
            peer.talk.write(OK).await;
        }
        let _ = peer.talk.rest().await;
    }));
    let (mut tables, config) = sealed_tables(Traffic::Passthrough);
    let routes = tables.routes.iter().map(|(host, route)| {
        let target = crate::connector::ConnectorRoute { deadlines: enforced(), ..route.clone() };
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        let call = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n{SEARCH}", SEARCH.len());
        for _ in 0..USUAL {
            agent.write(&call).await;
            assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "));
        }
        let began = edge.core.now();
        agent.write(&call).await;
        let answer = agent.until("}}}").await;
        let waited = edge.core.now() - began;
        assert!((ms(3_000)..ms(3_300)).contains(&waited), "{waited:?}: {answer}");
        for part in
            ["HTTP/1.1 504 ", r#""reason":"deadline""#, r#""tool":"search""#, r#""tunnel":"tnl_t""#, r#""id":1"#]
        {
            assert!(answer.contains(part), "{part} in {answer}");
        }
        // The call goes over another connection to the upstream.
        agent.write(&call).await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "));
    });
    let cancellations = bed.role.counters().cancellations_sent.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(cancellations, 1, "the notification names the id of the call");
    bed.assert_clean();
}

#[test]
fn an_agents_calls_of_a_failing_tool_are_refused_and_its_session_continues() {
    const SEARCH: &str = r#"{"id":1,"method":"tools/call","params":{"name":"search"}}"#;
    const OTHER: &str = r#"{"id":1,"method":"tools/call","params":{"name":"other"}}"#;
    const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad";
    let mut bed = Bed::new(script(|mut peer| async move {
        for _ in 0..10 {
            peer.talk.until(SEARCH).await;
            peer.talk.write(BAD).await;
        }
        peer.talk.until(OTHER).await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    }));
    let (mut tables, config) = sealed_tables(Traffic::Passthrough);
    let routes = tables.routes.iter().map(|(host, route)| {
        let breaker = BreakerTerms { mode: GuardMode::Enforce, ..BreakerTerms::default() };
        let target = crate::connector::ConnectorRoute { breaker, ..route.clone() };
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap();
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        let call = |body: &str| {
            format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        };
        for _ in 0..10 {
            agent.write(call(SEARCH)).await;
            assert!(agent.until("bad").await.starts_with("HTTP/1.1 503 "));
        }
        agent.write(call(SEARCH)).await;
        let answer = agent.until("}}}").await;
        for part in ["HTTP/1.1 503 ", "Retry-After: ", r#""reason":"breaker_open""#, r#""tool":"search""#, "tnl_t"] {
            assert!(answer.contains(part), "{part} in {answer}");
        }
        agent.write(call(OTHER)).await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "));
    });
    let readings = bed.role.breakers().readings(bed.net.now());
    let refused: Vec<(&str, u64)> = readings.iter().map(|reading| (&*reading.label.tool, reading.refused)).collect();
    assert_eq!(refused, [("", 0), ("other", 0), ("search", 1)]);
    bed.assert_clean();
}
