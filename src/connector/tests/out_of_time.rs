//! Calls whose caller's time is over: the answers to edge and agents, and the notifications to upstreams.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use h2::server::Builder;

use super::bed::{Bed, CONNECTOR, EdgeSide, Talk, UPSTREAM, ms, script};
use super::http2::{bed as http2_bed, server};
use super::sealed::{agent, enforced, sealed_tables};
use crate::base::{BreakerOverrides, Clock, DeadlineOverrides, Time, Traffic};
use crate::connector::{ConnectorRoute, ConnectorTables};
use crate::engine::ByteStream;
use crate::engine::sim::Death;
use crate::link::LinkStream;
use crate::policy::ToolPolicy;
use crate::route::{RouteEntry, RouteTable, ToolOverrides};
use crate::wire::mux::{Cause, Open};

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#;

fn post(fields: &str) -> String {
    format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\n{fields}Content-Length: {}\r\n\r\n{CALL}", CALL.len())
}

/// A call whose caller has to be answered within `left`.
async fn call_within(edge: &EdgeSide, left: Duration, request: &str) -> Talk<LinkStream> {
    let link = edge.link().await;
    let until = Some(edge.now() + left);
    let open = Open { route: "mcp.test", call: 1, traffic: Traffic::Plain, peer: None, until };
    let talk = Talk::new(link.open(&open).unwrap(), &edge.core);
    talk.write(request).await;
    talk.stream.finish();
    talk
}

#[test]
fn a_call_without_a_connection_in_time_is_reported_as_unsent_before_the_edge_answers() {
    let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
    bed.net.partition(CONNECTOR, UPSTREAM);
    bed.run(|edge| async move {
        let until = edge.now() + ms(1_000);
        let mut call = call_within(&edge, ms(1_000), &post("")).await;
        assert_eq!(call.cause().await, Cause::CallerTimeoutUnsent);
        assert!(edge.now() < until && edge.now() + ms(20) > until, "{:?} before", until - edge.now());
    });
    bed.assert_clean();
}

#[test]
fn a_call_that_may_have_run_is_reported_so_when_it_cannot_be_retried() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let _ = peer.talk.rest().await;
    }));
    bed.run(|edge| async move {
        assert!(edge.get().await.contains("ok"));
        let mut call = call_within(&edge, ms(1_000), GET).await;
        edge.core.sleep(ms(5)).await;
        edge.net.kill(UPSTREAM, Death::Processes);
        assert_eq!(call.cause().await, Cause::UpstreamSilent);
    });
    assert_eq!(bed.role.counters().requests_resent.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn a_server_of_http_2_gets_the_cancellation_of_its_era() {
    const STATELESS: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: search\r\n";
    for (fields, expected) in [("", 1), (STATELESS, 0)] {
        let seen = Rc::<RefCell<(Vec<Time>, Vec<String>)>>::default();
        let note = Rc::clone(&seen);
        let (play, asked) = server(Builder::new(), move |mut asked| {
            let note = Rc::clone(&note);
            async move {
                let body = String::from_utf8(asked.body().await.unwrap().0).unwrap();
                if body.contains("notifications/cancelled") {
                    note.borrow_mut().1.push(body);
                    return asked.answer("");
                }
                let _ = poll_fn(|cx| asked.respond.poll_reset(cx)).await;
                note.borrow_mut().0.push(asked.core.now());
            }
        });
        let mut bed = http2_bed(play);
        let ended = Rc::<RefCell<Option<Time>>>::default();
        let told_at = Rc::clone(&ended);
        let request = post(fields);
        bed.run(move |edge| async move {
            let mut call = call_within(&edge, ms(500), &request).await;
            assert_eq!(call.cause().await, Cause::CallerTimeout);
            told_at.replace(Some(edge.now()));
        });
        bed.pass(ms(100));
        let (stopped, messages) = &*seen.borrow();
        let ended = ended.take().expect("it has ended");
        assert!(stopped.len() == 1 && stopped[0] <= ended + ms(10), "{fields}: {stopped:?} {ended:?}");
        assert_eq!(messages.len(), expected, "{fields}: {messages:?}");
        assert!(messages.iter().all(|message| message.contains(r#""requestId":7"#)), "{messages:?}");
        assert!(asked.borrow().iter().all(|(connection, _)| *connection == 0), "the connection goes on: {asked:?}");
        bed.assert_clean();
    }
}

/// The routes of these tables, with a change.
pub(super) fn changed(tables: &ConnectorTables, change: impl Fn(&mut ConnectorRoute)) -> RouteTable<ConnectorRoute> {
    let routes = tables.routes.iter().map(|(host, route)| {
        let mut target = route.clone();
        change(&mut target);
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    RouteTable::new(routes.collect::<Vec<_>>()).unwrap()
}

/// Its head, or the part of its body with the label, arrives after its caller has given up.
#[test]
fn an_agents_call_that_arrives_after_its_time_is_answered_as_unsent() {
    let request = post("X-Request-Timeout: 1\r\n");
    for (is_enforced, first_len) in [(false, 30), (true, request.len() - CALL.len() + 30)] {
        let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
        let (mut tables, config) = sealed_tables(Traffic::Passthrough);
        tables.routes = changed(&tables, |route| {
            if is_enforced {
                route.deadlines = enforced();
            }
        });
        bed.role.reload(tables);
        let (first, rest) = request.split_at(first_len);
        let (first, rest) = (first.to_owned(), rest.to_owned());
        bed.run(move |edge| async move {
            let mut agent = agent(&edge, &config).await;
            agent.write(first).await;
            if !is_enforced {
                edge.core.sleep(ms(2_000)).await;
                agent.write(rest).await;
            }
            let answer = agent.until("}}").await;
            for part in ["HTTP/1.1 504 ", r#""code":-31027"#, r#""may_have_acted":false"#] {
                assert!(answer.contains(part), "{part} in {answer}");
            }
        });
        let counters = bed.role.counters();
        assert_eq!(counters.calls_out_of_time.load(std::sync::atomic::Ordering::Relaxed), 1, "{is_enforced}");
        assert_eq!(counters.cancellations_sent.load(std::sync::atomic::Ordering::Relaxed), 0, "{is_enforced}");
        bed.assert_clean();
    }
}

#[test]
fn a_cancellation_has_no_key_that_the_call_did_not_have_at_the_upstream() {
    let came = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&came);
    let mut bed = Bed::new(script(move |mut peer| {
        let seen = Rc::clone(&seen);
        async move {
            let message = peer.talk.until("}}").await;
            let is_cancellation = message.contains("notifications/cancelled");
            seen.borrow_mut().push(message);
            if is_cancellation {
                peer.talk.write("HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
                return;
            }
            peer.core.sleep(ms(2_000)).await;
        }
    }));
    // The hash of `open-sesame`.
    const POLICY: &str = "[[key]]\nname = 'batch'\n\
        sha256 = 'd7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7'\n\
        [[role]]\nname = 'batch'\nkeys = ['batch']\n\
        [[rule]]\neffect = 'allow'\nroles = ['batch']\n";
    let (mut tables, config) = sealed_tables(Traffic::Passthrough);
    tables.routes = changed(&tables, |route| {
        route.policy = Some(Arc::new(ToolPolicy::parse(POLICY).unwrap()));
        route.deadlines = enforced();
        route.client_timeout = Some(ms(1_000));
    });
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        agent.write(post("Authorization: Bearer open-sesame\r\n")).await;
        let answer = agent.until("}}}").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        edge.core.sleep(ms(100)).await;
    });
    let came = came.take();
    assert_eq!(came.len(), 2, "the call and its cancellation: {came:?}");
    assert!(came.iter().all(|message| !message.contains("open-sesame")), "{came:?}");
    bed.assert_clean();
}

#[test]
fn a_tool_has_limits_of_its_own_where_an_agents_tls_ends_here() {
    let mut bed = Bed::new(script(|mut peer| async move {
        if peer.talk.until("}}").await.contains("notifications/cancelled") {
            peer.talk.write("HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
            return;
        }
        peer.core.sleep(ms(2_000)).await;
        peer.talk.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    }));
    let (mut tables, config) = sealed_tables(Traffic::Passthrough);
    tables.routes = changed(&tables, |route| {
        let own = ToolOverrides {
            tool: "search".into(),
            deadlines: DeadlineOverrides { ceiling: Some(ms(500)), ..DeadlineOverrides::default() },
            breaker: BreakerOverrides::default(),
            price: 0,
            hedge: None,
        };
        route.tools = [own].into();
    });
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut agent = agent(&edge, &config).await;
        agent.write(post("")).await;
        let answer = agent.until("}}}").await;
        assert!(answer.contains(r#""code":-31018"#) && answer.contains(r#""limit_ms":500"#), "{answer}");
        agent.write(post("").replace("search", "report")).await;
        assert!(agent.until("ok").await.starts_with("HTTP/1.1 200 "), "another tool has the limit of the route");
    });
    bed.assert_clean();
}
