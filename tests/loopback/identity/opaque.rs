//! Opaque tokens, about which a real authorization server is asked (RFC 7662).

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use adit::base::{Secret, Traffic};
use adit::control::{ClientCredentials, IntrospectionEndpoint, issuer_client, keep_introspecting};
use adit::engine::ladder::DriverChoice;
use adit::identity::{TokenCheck, TokenIssuer};
use adit::policy::ToolPolicy;
use adit::tls::ALPN_HTTP2;
use http::Method;
use serde_json::{Value, json};

use super::server::{Introspects, LoginServer};
use super::signer::{Signer, claims};
use super::{RESOURCE, auth, call_process, issuer_of, shown, until};
use crate::front::Front;
use crate::http2::client::{request, whole, with_client};
use crate::policy::{Got, ask, call, serve};
use crate::support::{HOST, Tunnel};
use crate::tunnel_processes;

const ID: &str = "adit:1";
const SECRET: &str = "a secret=of&the client";

/// What the server says of a good token.
pub(super) fn active(server: &LoginServer) -> Value {
    let mut text = claims(&server.issuer(), RESOURCE);
    text["active"] = json!(true);
    text
}

fn changed(mut answer: Value, name: &str, value: Value) -> Value {
    answer[name] = value;
    answer
}

/// An issuer that is asked by a thread of its own, as long as the process lasts.
pub(super) fn asked(server: &LoginServer, secret: &str) -> Arc<TokenIssuer> {
    let issuer = issuer_of(&server.issuer(), TokenCheck::Introspection(Arc::default()));
    let endpoint = IntrospectionEndpoint {
        url: format!("{}/introspect", server.issuer()).into(),
        credentials: ClientCredentials { id: ID.into(), secret: Secret::from(secret) },
        cache: Duration::from_secs(60),
    };
    let asks = Arc::clone(&issuer);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keep_introspecting(asks, endpoint, issuer_client(None).unwrap()));
    });
    issuer
}

fn is_asked(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
    server.knows_client(ID, SECRET);
    let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[serve(&got)]);
    let issuer = asked(&server, SECRET);
    tunnel.govern(
        at_edge,
        &Arc::new(
            ToolPolicy::parse(
                "[[role]]\nname = 'support'\nproofs = ['introspection']\nclaims = { groups = 'support' }\n\
                 [[rule]]\nname = 'support'\neffect = 'allow'\ntools = ['get_*']\nroles = ['support']\n",
            )
            .unwrap(),
        ),
    );
    tunnel.authorize(at_edge, Some(&auth(&issuer, Some(""))));
    let good = active(&server);
    for (token, parsed) in [
        ("good", Introspects::Answers(good.clone())),
        ("of-sales", Introspects::Answers(changed(good.clone(), "groups", json!(["sales"])))),
        ("for-another", Introspects::Answers(changed(good.clone(), "aud", json!("https://mcp.test/other")))),
        ("of-another", Introspects::Answers(changed(good.clone(), "iss", json!("https://evil.example")))),
        ("over", Introspects::Answers(changed(good.clone(), "exp", json!(1)))),
        ("revoked", Introspects::Answers(json!({"active": false}))),
        ("twice", Introspects::Text("{\"active\":true,\"active\":false}".into())),
        ("page", Introspects::Text("<html>200 OK</html>".into())),
        ("huge", Introspects::Text(format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(1 << 20)))),
        ("down", Introspects::Fails),
    ] {
        server.introspects(token, parsed);
    }

    let mut agent = tunnel.agent();
    for _ in 0..3 {
        let (head, answer) = ask(&mut agent, "/mcp", &shown("good"), &call("get_a"));
        assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}");
    }
    assert_eq!(server.introspections("good"), 1, "{place}: it is asked about once");
    assert!(got.lock().unwrap().iter().all(|request| !request.contains("good")), "{place}: the token stays here");
    let (_, denied) = ask(&mut tunnel.agent(), "/mcp", &shown("of-sales"), &call("get_a"));
    assert_eq!(denied["error"]["message"], "Unknown tool: get_a", "{place}: the policy knows what was said");
    let passed = got.lock().unwrap().len();
    for (token, status, expected) in [
        ("for-another", 401, "error_description=\"the token is not for this resource\""),
        ("of-another", 401, "error_description=\"the issuer of the token is not accepted\""),
        ("over", 401, "error_description=\"the token has expired\""),
        ("revoked", 401, "error_description=\"the issuer of the token says that it is not active\""),
        ("never-seen", 401, "error=\"invalid_token\""),
        ("twice", 503, "Retry-After: 5"),
        ("page", 503, "Retry-After: 5"),
        ("huge", 503, "Retry-After: 5"),
        ("down", 503, "Retry-After: 5"),
    ] {
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &shown(token), &call("get_a"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(expected), "{place} {token}: {head}");
        assert_eq!(head.contains("WWW-Authenticate"), status == 401, "{place} {token}: {head}");
        let reason = if status == 401 { "invalid_token" } else { "introspection_unavailable" };
        assert_eq!((&answer["error"]["data"]["reason"], &answer["id"]), (&json!(reason), &json!(7)), "{place} {token}");
    }
    assert_eq!(got.lock().unwrap().len(), passed, "{place}: nothing of this has reached the server");
    tunnel.end();
}

#[test]
fn an_issuer_is_asked_about_opaque_tokens_wherever_they_can_be_read() {
    for (driver, traffic, at_edge) in [
        (DriverChoice::Epoll, Traffic::Plain, true),
        (DriverChoice::Uring, Traffic::Plain, false),
        (DriverChoice::Uring, Traffic::Resealed, true),
        (DriverChoice::Epoll, Traffic::Resealed, false),
        (DriverChoice::Epoll, Traffic::Passthrough, false),
        (DriverChoice::Uring, Traffic::Passthrough, false),
    ] {
        is_asked(driver, traffic, at_edge);
    }
}

/// Calls that show one token at the same time, on two cores, cause one question.
#[test]
fn concurrent_calls_share_one_introspection_and_unknown_clients_learn_nothing() {
    let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
    server.knows_client(ID, SECRET);
    let tunnel = Tunnel::with_upstreams(DriverChoice::Epoll, Traffic::Plain, (2, 1), &[serve(&got)]);
    tunnel.authorize(true, Some(&auth(&asked(&server, SECRET), None)));
    server.introspects("slow", Introspects::Held(active(&server)));
    thread::scope(|scope| {
        let calls: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask(&mut tunnel.agent(), "/mcp", &shown("slow"), &call("get_a")).0))
            .collect();
        server.until_asked("slow");
        server.release();
        for call in calls {
            let head = call.join().unwrap();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        }
    });
    assert_eq!(server.introspections("slow"), 1);

    tunnel.authorize(true, Some(&auth(&asked(&server, "wrong"), None)));
    server.introspects("good", Introspects::Answers(active(&server)));
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", &shown("good"), &call("get_a"));
    assert!(head.starts_with("HTTP/1.1 503 "), "the caller's token may be good: {head}");
    tunnel.end();
}

/// The statuses of calls over one connection of HTTP/2 with these tokens, one after the other.
fn statuses(agents: SocketAddr, tokens: &'static [&'static str]) -> Vec<u16> {
    with_client(agents, |client| async move {
        let mut statuses = Vec::new();
        for token in tokens {
            let asked = request(Method::GET, "/mcp").header("authorization", format!("Bearer {token}"));
            let (response, _) = client.begin(asked.body(()).unwrap(), true).await;
            statuses.push(whole(response).await.unwrap().head.status().as_u16());
        }
        statuses
    })
}

/// Over HTTP/2 calls wait just so, whichever side ends the connection of their agent and whichever asks.
#[test]
fn calls_over_http2_wait_for_introspection() {
    for (driver, traffic, at_edge) in [
        (DriverChoice::Epoll, Traffic::Plain, true),
        (DriverChoice::Uring, Traffic::Plain, false),
        (DriverChoice::Epoll, Traffic::Resealed, false),
        (DriverChoice::Uring, Traffic::Passthrough, false),
        (DriverChoice::Epoll, Traffic::Passthrough, false),
    ] {
        let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
        let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
        server.knows_client(ID, SECRET);
        server.introspects("good", Introspects::Answers(active(&server)));
        server.introspects("down", Introspects::Fails);
        let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[serve(&got)]);
        tunnel.authorize(at_edge, Some(&auth(&asked(&server, SECRET), None)));
        let front = Front::of_connections(tunnel.agents, Some(tunnel.tls(ALPN_HTTP2)));
        assert_eq!(statuses(front.address, &["good", "good", "never-seen", "down"]), [200, 200, 401, 503], "{place}");
        assert_eq!((server.introspections("good"), got.lock().unwrap().len()), (1, 2), "{place}");
        drop(front);
        tunnel.end();
    }
}

/// As an operator runs it. A token that is revoked is refused after the time of the cache.
fn lives(at_edge: bool) {
    let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
    server.knows_client(ID, SECRET);
    server.introspects("good", Introspects::Answers(active(&server)));
    let (upstream, issuer) = (serve(&got), server.issuer());
    let provider = format!(
        "[[identity_provider]]\nname = 'login'\nissuer = '{issuer}'\nintrospection_url = '{issuer}/introspect'\n\
         client_id = '{ID}'\nclient_secret_file = 'client.secret'\nintrospection_cache_ms = '5s'\n"
    );
    let asks = format!("auth = 'verify'\nauth_resource = '{RESOURCE}'\nscopes_required = 'mcp:tools'\n");
    let route = format!("[[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\n");
    let mut tunnel = match at_edge {
        true => {
            let tables = format!("[[host]]\nhost = '{HOST}'\n{asks}{provider}");
            tunnel_processes::Tunnel::prepared("plain", HOST, 20_000, "", &tables)
        }
        false => tunnel_processes::Tunnel::prepared("plain", HOST, 20_000, "", ""),
    };
    adit::private::write(&tunnel.file("client.secret"), format!("{SECRET}\n").as_bytes()).unwrap();
    tunnel.run_edge();
    match at_edge {
        true => tunnel.connect_routes(&route),
        false => tunnel.connect_routes(&format!("{route}{asks}{provider}")),
    }
    let call = || call_process(&tunnel, "good");
    let answer = call();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"result\""), "{answer}");
    server.introspects("good", Introspects::Answers(json!({"active": false})));
    let refused = until(&call, "401");
    assert!(refused.contains("is not active"), "{refused}");
    server.introspects("other", Introspects::Fails);
    assert!(call_process(&tunnel, "other").contains("introspection_unavailable"));
}

#[test]
fn an_edge_asks_about_tokens_and_refuses_those_that_were_revoked() {
    lives(true);
}

#[test]
fn a_connector_asks_about_tokens_and_refuses_those_that_were_revoked() {
    lives(false);
}
