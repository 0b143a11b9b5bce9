//! Agents whose TLS ends in the connector, and that speak HTTP/2.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Method, Request};

use super::bed::{Bed, EdgeSide, Peer, Script, ms, script, settings};
use super::places::changed;
use super::sealed::{agent, sealed_tables_for};
use crate::base::{Clock, ConcurrencyTerms, GuardMode, Time, Traffic};
use crate::connector::ConnectorCommand;
use crate::engine::sim::Faults;
use crate::http2::{Io, Watch};
use crate::tls::{ALPN_HTTP2, ClientConfig};
use crate::wire::mux::Fault;

const BODY: &str = "{\"jsonrpc\":\"2.0\",\"id\":\"four\"}";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The client's side has no watcher.
struct Unwatched;

impl Watch for Unwatched {
    fn feed(&self, _: &[u8], _: Time) {}
}

/// An agent's session.
#[derive(Clone)]
struct Agent {
    send: SendRequest<Bytes>,
    /// The result of the session, once it has ended.
    ended: Rc<RefCell<Option<Result<(), h2::Error>>>>,
}

/// A response: its status, its fields as text, and its body.
#[derive(Debug)]
struct Answer {
    status: u16,
    fields: String,
    body: String,
}

impl Agent {
    async fn new(edge: &EdgeSide, config: &Arc<ClientConfig>) -> Agent {
        let session = Rc::new(agent(edge, config).await.stream);
        let io = Io::of_server(&edge.core, session, Rc::new(Unwatched));
        let (send, connection) = Builder::new().handshake(io).await.unwrap();
        let ended = Rc::<RefCell<Option<_>>>::default();
        let set = Rc::clone(&ended);
        edge.core.spawn(async move {
            let end = connection.await;
            set.replace(Some(end));
        });
        Agent { send, ended }
    }

    async fn begin(&self, method: Method, url: &str, is_end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder().method(method).uri(url).body(()).unwrap();
        self.send.clone().ready().await.unwrap().send_request(request, is_end).unwrap()
    }

    async fn post(&self, url: &str) -> Result<Answer, h2::Error> {
        let (response, mut send) = self.begin(Method::POST, url, false).await;
        send.send_data(BODY.into(), true).unwrap();
        whole(response).await
    }
}

async fn whole(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend_from_slice(&data);
    }
    let fields = head.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    Ok(Answer { status: head.status.as_u16(), fields, body: String::from_utf8(bytes).unwrap() })
}

fn bed(play: Script) -> (Bed, Arc<ClientConfig>) {
    let bed = Bed::new(play);
    let (tables, config) = sealed_tables_for(Traffic::Passthrough, ALPN_HTTP2);
    bed.role.reload(tables);
    (bed, config)
}

#[test]
fn calls_on_one_session_run_in_parallel_and_are_measured() {
    /// The number of connections that the upstream accepts.
    const CALLS: usize = 8;
    let heads = Rc::<RefCell<Vec<String>>>::default();
    let seen = Rc::clone(&heads);
    let (mut bed, config) = bed(script(move |mut peer: Peer| {
        let seen = Rc::clone(&seen);
        async move {
            while let Some(head) = peer.talk.next_head().await {
                let request = head + &peer.talk.until("four\"}").await;
                // The end of the chunked body, before the next head.
                peer.talk.until("0\r\n\r\n").await;
                seen.borrow_mut().push(request);
                peer.core.sleep(ms(1_000)).await;
                peer.talk.write(OK).await;
            }
        }
    }));
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        let (began, done) = (edge.now(), Rc::new(Cell::new(0)));
        for _ in 0..CALLS {
            let (agent, done) = (agent.clone(), Rc::clone(&done));
            edge.core.spawn(async move {
                let answer = agent.post("https://mcp.test/mcp").await.unwrap();
                assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{answer:?}");
                assert!(answer.fields.contains("server-timing: connector;dur="), "{answer:?}");
                done.set(done.get() + 1);
            });
        }
        while done.get() < CALLS {
            edge.core.sleep(ms(10)).await;
        }
        assert!(edge.now() - began < ms(1_100), "{:?}", edge.now() - began);
    });
    for head in heads.borrow().iter() {
        assert!(head.starts_with("POST /mcp HTTP/1.1\r\n") && head.ends_with(BODY), "{head}");
        assert!(head.contains("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"), "{head}");
    }
    assert_eq!(heads.borrow().len(), CALLS);
    assert_eq!(bed.role.counters().sessions_sealed.load(Ordering::Relaxed), 1);
    bed.pass(ms(121_000));
    bed.assert_clean();
}

#[test]
fn a_session_may_call_its_own_host_alone_and_failures_carry_the_id() {
    let (mut bed, config) = bed(script(|mut peer: Peer| async move {
        peer.talk.until("four\"}").await;
    }));
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        assert_eq!(agent.post("https://other.test/mcp").await.unwrap().status, 421);
        let answer = agent.post("https://mcp.test/mcp").await.unwrap();
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(answer.body.contains("\"id\":\"four\"") && answer.body.contains("upstream_broken"), "{answer:?}");
        let foreign = Request::post("https://mcp.test/").header("origin", "https://evil.test").body(()).unwrap();
        let (response, _) = agent.send.clone().ready().await.unwrap().send_request(foreign, true).unwrap();
        assert_eq!(whole(response).await.unwrap().status, 403);
    });
    let counters = bed.role.counters();
    assert_eq!(counters.requests_refused.load(Ordering::Relaxed), 2);
    assert_eq!(counters.calls_failed.load(Ordering::Relaxed), 1);
    bed.pass(ms(121_000));
    bed.assert_clean();
}

#[test]
fn a_call_that_its_agent_gives_up_ends_at_the_upstream_and_others_go_on() {
    let ends = Rc::new(Cell::new(0));
    let count = Rc::clone(&ends);
    let (mut bed, config) = bed(script(move |mut peer: Peer| {
        let ends = Rc::clone(&count);
        async move {
            peer.talk.until("four\"}").await;
            if peer.nth == 1 {
                peer.core.sleep(ms(500)).await;
                return peer.talk.write(OK).await;
            }
            let _ = peer.talk.rest().await;
            ends.set(ends.get() + 1);
        }
    }));
    let counted = Rc::clone(&ends);
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        let (held, mut send) = agent.begin(Method::POST, "https://mcp.test/mcp", false).await;
        send.send_data(BODY.into(), true).unwrap();
        edge.core.sleep(ms(100)).await;
        let other = agent.clone();
        edge.core.spawn(async move {
            assert_eq!(other.post("https://mcp.test/mcp").await.unwrap().status, 200);
        });
        edge.core.sleep(ms(100)).await;
        send.send_reset(Reason::CANCEL);
        edge.core.sleep(ms(100)).await;
        assert_eq!(counted.get(), 1, "at once");
        drop(held);
        edge.core.sleep(ms(1_000)).await;
        // And with the whole session.
        let (held, mut send) = agent.begin(Method::POST, "https://mcp.test/mcp", false).await;
        send.send_data(BODY.into(), true).unwrap();
        edge.core.sleep(ms(100)).await;
        edge.link().await.close(Fault::Ended);
        assert!(held.await.is_err());
        edge.core.sleep(ms(100)).await;
        assert_eq!(counted.get(), 2);
    });
    bed.assert_clean();
}

#[test]
fn a_connector_that_ends_lets_calls_finish_and_takes_no_new_ones_on_the_session() {
    let play = script(|mut peer: Peer| async move {
        peer.talk.until("four\"}").await;
        peer.core.sleep(ms(2_000)).await;
        peer.talk.write(OK).await;
    });
    let mut bed = Bed::with(settings(), 1, Faults::none(), Some(play));
    let (tables, config) = sealed_tables_for(Traffic::Passthrough, ALPN_HTTP2);
    bed.role.reload(tables);
    let role = Arc::clone(&bed.role);
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        let (response, mut send) = agent.begin(Method::POST, "https://mcp.test/mcp", false).await;
        send.send_data(BODY.into(), true).unwrap();
        edge.core.sleep(ms(100)).await;
        role.command(|| ConnectorCommand::Drain);
        edge.core.sleep(ms(100)).await;
        assert!(poll_fn(|cx| agent.send.clone().poll_ready(cx)).await.is_err(), "it received GOAWAY");
        assert_eq!(whole(response).await.unwrap().body, "ok");
        edge.core.sleep(ms(100)).await;
        assert!(matches!(*agent.ended.borrow(), Some(Ok(()))), "{:?}", agent.ended);
    });
    assert!(bed.run_to_end() < ms(3_000));
}

#[test]
fn an_idle_session_is_ended_and_one_with_too_many_resets_is_refused() {
    let (mut bed, config) = bed(script(|mut peer: Peer| async move {
        let _ = peer.talk.rest().await;
    }));
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        let began = edge.core.now();
        while agent.ended.borrow().is_none() {
            edge.core.sleep(ms(100)).await;
        }
        let waited = edge.core.now() - began;
        assert!((ms(120_000)..ms(123_000)).contains(&waited), "{waited:?}");
        let agent = Agent::new(&edge, &config).await;
        for _ in 0..400 {
            let Ok(mut send) = agent.send.clone().ready().await else { break };
            let request = Request::get("https://mcp.test/mcp").body(()).unwrap();
            let Ok((_, mut stream)) = send.send_request(request, true) else { break };
            edge.core.sleep(ms(1)).await;
            stream.send_reset(Reason::CANCEL);
        }
        edge.core.sleep(ms(100)).await;
        let reason = agent.ended.borrow().as_ref().and_then(|ended| ended.as_ref().err()?.reason());
        assert_eq!(reason, Some(Reason::ENHANCE_YOUR_CALM));
    });
    bed.pass(ms(6_000));
    bed.assert_clean();
}

/// The agent resets its stream, and the session continues.
#[test]
fn a_call_that_its_agent_gives_up_while_it_waits_for_a_place_is_not_sent() {
    const SEARCH: &str = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"search"}}"#;
    let calls = Rc::<Cell<u32>>::default();
    let seen = Rc::clone(&calls);
    let (mut bed, config) = bed(script(move |mut peer: Peer| {
        let seen = Rc::clone(&seen);
        async move {
            while peer.talk.next_head().await.is_some() {
                peer.talk.until("0\r\n\r\n").await;
                seen.set(seen.get() + 1);
                peer.core.sleep(ms(500)).await;
                peer.talk.write(OK).await;
            }
        }
    }));
    let one = ConcurrencyTerms { mode: GuardMode::Enforce, min: 1, max: 1, ..ConcurrencyTerms::default() };
    bed.role.reload(changed(&bed.role.tables(), |route| route.concurrency = one));
    let role = Arc::clone(&bed.role);
    bed.run(move |edge| async move {
        let agent = Agent::new(&edge, &config).await;
        let (first, answered) = (agent.clone(), Rc::<Cell<u16>>::default());
        let shared = Rc::clone(&answered);
        edge.core.spawn(async move { shared.set(first.post("https://mcp.test/mcp").await.unwrap().status) });
        edge.core.sleep(ms(50)).await;
        let (_response, mut send) = agent.begin(Method::POST, "https://mcp.test/mcp", false).await;
        send.send_data(SEARCH.into(), true).unwrap();
        edge.core.sleep(ms(50)).await;
        assert_eq!(role.limits()[0].1.waiting, 1);
        send.send_reset(Reason::CANCEL);
        edge.core.sleep(ms(50)).await;
        assert_eq!((role.limits()[0].1.waiting, role.limits()[0].1.in_flight), (0, 1));
        edge.core.sleep(ms(1_000)).await;
        assert_eq!(answered.get(), 200);
        assert_eq!(agent.post("https://mcp.test/mcp").await.unwrap().status, 200);
    });
    assert_eq!(calls.get(), 2);
    bed.assert_clean();
}
