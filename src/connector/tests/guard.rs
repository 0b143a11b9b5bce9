//! Destinations that a connector never calls.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::bed::{Bed, NAMED, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables, tables_allowing};
use super::out_of_time::changed;
use crate::connector::ConnectorSettings;
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::latency::Outcome;
use crate::policy::{AllowedUpstreams, ToolPolicy};
use crate::serve::AuditLog;
use crate::wire::mux::Cause;

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const METADATA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));

fn only(network: &str) -> AllowedUpstreams {
    AllowedUpstreams::of([network.parse().unwrap()])
}

fn by_address() -> String {
    format!("http://{UPSTREAM}:{UPSTREAM_PORT}")
}

fn by_name() -> String {
    format!("http://{NAMED}:{UPSTREAM_PORT}")
}

#[test]
fn an_upstream_outside_the_allowed_networks_is_never_dialled_and_the_reason_is_logged() {
    let nobody = script(|_| async { panic!("no call may arrive here") });
    let mut bed = Bed::with(settings(), 1, Faults::none(), Some(nobody));
    bed.meanings.borrow_mut().push(vec![UPSTREAM]);
    for url in [by_address(), by_name()] {
        bed.role.reload(tables_allowing(only("192.0.2.0/24"), &[("mcp.test", &url)]));
        bed.run(|edge| async move { assert_eq!(edge.call(GET).await.cause().await, Cause::UpstreamNotAllowed) });
        let why = bed.report().upstreams[0].failing.clone().unwrap();
        let want = format!("{UPSTREAM} is outside of `connect.allowed_upstreams`: add {UPSTREAM}/32 there");
        assert!(why.contains(&want), "{why}");
    }
    bed.assert_clean();
}

#[test]
fn a_name_that_means_another_address_the_next_time_is_checked_again() {
    let mut bed = Bed::new(script(|mut peer| async move {
        assert_eq!(peer.nth, 0);
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
    }));
    bed.meanings.borrow_mut().extend([vec![UPSTREAM], vec![METADATA]]);
    bed.role.reload(tables(&[("mcp.test", &by_name())]));
    bed.run(|edge| async move {
        assert!(edge.get().await.starts_with("HTTP/1.1 200 "));
        assert_eq!(edge.call(GET).await.cause().await, Cause::UpstreamNotAllowed);
    });
    let why = bed.report().upstreams[0].failing.clone().unwrap();
    assert!(why.contains("169.254.169.254 is a link-local address, where clouds keep"), "{why}");
    bed.assert_clean();
}

#[test]
fn of_several_addresses_only_those_that_are_allowed_are_tried() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk.write(OK).await;
        let _ = peer.talk.rest().await;
    }));
    bed.meanings.borrow_mut().push(vec![METADATA, UPSTREAM]);
    bed.role.reload(tables(&[("mcp.test", &by_name())]));
    bed.run(|edge| async move { assert!(edge.get().await.ends_with("ok")) });
    bed.assert_clean();
}

#[test]
fn an_upstream_that_is_allowed_no_longer_loses_its_kept_connections() {
    let mut bed = Bed::new(script(|mut peer| async move {
        assert_eq!(peer.nth, 0);
        peer.talk.head().await;
        peer.talk.write(OK).await;
        assert_eq!(peer.talk.rest().await.0, "");
    }));
    bed.run(|edge| async move { assert!(edge.get().await.ends_with("ok")) });
    bed.role.reload(tables_allowing(AllowedUpstreams::of([]), &[("mcp.test", &by_address())]));
    bed.run(|edge| async move { assert_eq!(edge.call(GET).await.cause().await, Cause::UpstreamNotAllowed) });
    bed.assert_clean();
}

#[test]
fn a_redirect_is_the_agents_to_follow() {
    let seen: Rc<std::cell::Cell<usize>> = Rc::default();
    let count = Rc::clone(&seen);
    let mut bed = Bed::new(script(move |mut peer| {
        let count = Rc::clone(&count);
        async move {
            for code in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
                let asked = peer.talk.head().await;
                assert!(asked.starts_with("GET /mcp "), "{asked}");
                count.set(count.get() + 1);
                let to = if code.starts_with("307") { "/within" } else { "http://169.254.169.254/latest/meta-data/" };
                peer.talk.write(format!("HTTP/1.1 {code}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")).await;
            }
            assert_eq!(peer.talk.rest().await.0, "");
        }
    }));
    bed.run(|edge| async move {
        for code in ["301", "302", "303", "307", "308"] {
            let answer = edge.get().await;
            let to = if code == "307" { "/within" } else { "http://169.254.169.254/latest/meta-data/" };
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
            assert!(answer.contains(&format!("\r\nLocation: {to}\r\n")), "{answer}");
        }
    });
    assert_eq!(seen.get(), 5);
    bed.assert_clean();
}

#[test]
fn a_request_that_an_earlier_policy_has_let_in_is_not_sent_by_later_routes() {
    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search"}}"#;
    let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
    let with = |policy: &str| {
        let plain = tables(&[("mcp.test", &by_address())]);
        let policy = Arc::new(ToolPolicy::parse(policy).unwrap());
        let routes = changed(&plain, |route| route.policy = Some(Arc::clone(&policy)));
        crate::connector::ConnectorTables { routes, ..plain }
    };
    bed.role.reload(with("[[rule]]\neffect = 'allow'\ntools = ['search']\n"));
    let (role, later) = (Arc::clone(&bed.role), with("[[rule]]\neffect = 'deny'\ntools = ['search']\n"));
    bed.run(|edge| async move {
        let mut call =
            edge.call(&format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {}\r\n\r\n", CALL.len())).await;
        call.write(&CALL[..20]).await;
        edge.core.sleep(ms(100)).await;
        // The call waits for its body, and its policy is already chosen.
        role.reload(later);
        call.write(&CALL[20..]).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamUnsent);
    });
    bed.assert_clean();
}

#[test]
fn a_call_that_cannot_be_written_to_the_audit_log_is_logged_as_refused() {
    let nobody = script(|_| async { panic!("no call may arrive here") });
    let (log, _entries) = AuditLog::new(true);
    log.set_broken(true);
    let settings = ConnectorSettings { audit: Some(log), calls_kept: 8, ..settings() };
    let mut bed = Bed::with(settings, 1, Faults::none(), Some(nobody));
    bed.run(|edge| async move { assert_eq!(edge.call(GET).await.cause().await, Cause::AuditUnavailable) });
    let calls = bed.calls();
    assert_eq!(calls.iter().map(|call| call.record.outcome).collect::<Vec<_>>(), [Some(Outcome::AuditUnavailable)]);
    assert_eq!(calls[0].record.number, 1);
    bed.assert_clean();
}
