//! Servers that get a token of their own in place of that of the caller (RFC 8693), from a real authorization server.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use adit::base::{Secret, Traffic};
use adit::control::{ClientCredentials, ExchangeEndpoint, issuer_client, keep_exchanging};
use adit::engine::ladder::DriverChoice;
use adit::identity::{AuthTerms, KeyStore, RouteAuth, TokenExchange, TokenIssuer};
use adit::policy::ToolPolicy;
use adit::tls::ALPN_HTTP2;
use http::Method;
use serde_json::{Value, json};

use super::opaque;
use super::server::{Exchanges, Introspects, LoginServer};
use super::signer::{Signer, claims};
use super::{ISSUER, RESOURCE, auth, call_process, issuer, keys, shown, until, with};
use crate::front::Front;
use crate::http2::client::{request, whole, with_client};
use crate::policy::{Got, ask, call, serve};
use crate::support::{HOST, Tunnel, read_message};
use crate::tunnel_processes;

const ID: &str = "adit:1";
const SECRET: &str = "a secret=of&the client";

/// Tokens of callers are exchanged by a thread of its own, as long as the process lasts.
fn exchange(server: &LoginServer, secret: &str) -> Arc<TokenExchange> {
    let exchange = Arc::new(TokenExchange { name: "tickets".into(), answers: Arc::default() });
    let endpoint = ExchangeEndpoint {
        url: format!("{}/token", server.issuer()).into(),
        credentials: ClientCredentials { id: ID.into(), secret: Secret::from(secret) },
        audience: Some("tickets-api".into()),
        resource: None,
        scopes: "tickets:read tickets:write".into(),
    };
    let exchanging = Arc::clone(&exchange);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(keep_exchanging(exchanging, endpoint, issuer_client(None).unwrap()));
    });
    exchange
}

fn exchanging(issuer: &Arc<TokenIssuer>, exchange: &Arc<TokenExchange>) -> Arc<RouteAuth> {
    let terms: AuthTerms = auth(issuer, Some("")).terms().clone();
    Arc::new(RouteAuth::new(terms, vec![Arc::clone(issuer)]).with_exchange(Arc::clone(exchange)))
}

fn is_exchanged(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let (got, signer) = (Got::default(), Signer::new("k1"));
    let server = LoginServer::start(&Arc::new(Signer::new("other")));
    server.knows_client(ID, SECRET);
    let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[serve(&got)]);
    let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
    // printf %s open-sesame | sha256sum
    let policy = "[[key]]\nname = 'night-batch'\nsha256 = 'd7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7'\n\
         [[rule]]\nname = 'no-drops'\neffect = 'deny'\ntools = ['drop']\n";
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(policy).unwrap()));
    tunnel.authorize(at_edge, Some(&exchanging(&issuer, &exchange(&server, SECRET))));
    let token_of = |subject: &str| signer.sign(&with("sub", json!(subject)));
    let [alice, bob] = ["alice", "bob"].map(token_of);
    server.exchanges(&alice, Exchanges::Gives("of-alice".into()));
    server.exchanges(&bob, Exchanges::Gives("of-bob".into()));

    let (_, denied) = ask(&mut tunnel.agent(), "/mcp", &shown(&alice), &call("drop"));
    assert_eq!(denied["error"]["message"], "Unknown tool: drop", "{place}");
    assert!(server.was_asked_for().is_empty(), "{place}: no token is made for a call that is denied");

    for (token, wanted) in [(&alice, "of-alice"), (&bob, "of-bob"), (&alice, "of-alice"), (&bob, "of-bob")] {
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &shown(token), &call("get_a"));
        assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}");
        let passed = got.lock().unwrap().pop().unwrap();
        assert!(passed.contains(&format!("Authorization: Bearer {wanted}\r\n")), "{place}: {passed}");
        assert_eq!(passed.to_lowercase().matches("authorization:").count(), 1, "{place}: {passed}");
        assert!(!passed.contains(token.as_str()), "{place}: the token of the caller stays here");
    }
    let asked = server.was_asked_for();
    assert_eq!(asked.len(), 2, "{place}: once for each token");
    let text: Vec<Option<&str>> =
        ["audience", "scope", "subject_token", "resource"].map(|name| asked[0].get(name).map(String::as_str)).into();
    assert_eq!(text, [Some("tickets-api"), Some("tickets:read tickets:write"), Some(&*alice), None], "{place}");

    // What is not given is not sent, and what is given has to be a token of somebody else.
    let [refused, down, own, wrong] = ["refused", "down", "own", "wrong"].map(token_of);
    server.exchanges(&refused, Exchanges::Answers(400, "{\"error\":\"invalid_target\"}".into()));
    server.exchanges(&down, Exchanges::Answers(502, String::new()));
    server.exchanges(&own, Exchanges::Gives(own.clone()));
    server.exchanges(&wrong, Exchanges::Answers(200, "{\"access_token\":\"x\",\"token_type\":\"N_A\"}".into()));
    let unknown = shown(&Signer::new("k1").sign(&claims(ISSUER, RESOURCE)));
    let for_another = shown(&signer.sign(&with("aud", json!("https://mcp.test/other"))));
    for (fields, status, reason) in [
        (shown(&refused), 403, "exchange_refused"),
        (shown(&down), 503, "exchange_unavailable"),
        (shown(&own), 503, "exchange_unavailable"),
        (shown(&wrong), 503, "exchange_unavailable"),
        ("Authorization: Bearer open-sesame\r\n".to_owned(), 401, "token_missing"),
        (unknown, 401, "invalid_token"),
        (for_another, 401, "invalid_token"),
    ] {
        for _ in 0..2 {
            let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{place} {reason}: {head}");
            assert_eq!(head.contains("Retry-After: 5"), status == 503, "{place} {reason}: {head}");
            assert_eq!((&answer["error"]["data"]["reason"], &answer["id"]), (&json!(reason), &json!(7)), "{place}");
        }
    }
    assert!(got.lock().unwrap().is_empty(), "{place}: nothing of this has reached the server");
    assert_eq!(server.was_asked_for().len(), 4, "{place}: nobody is asked about tokens that prove nobody");

    let front = Front::of_connections(tunnel.agents, Some(tunnel.tls(ALPN_HTTP2)));
    let statuses = with_client(front.address, |client| async move {
        let mut statuses = Vec::new();
        for token in [&alice, &refused] {
            let asked = request(Method::GET, "/mcp").header("authorization", format!("Bearer {token}"));
            let (response, _) = client.begin(asked.body(()).unwrap(), true).await;
            statuses.push(whole(response).await.unwrap().head.status().as_u16());
        }
        statuses
    });
    assert_eq!(statuses, [200, 403], "{place}");
    drop(front);

    // A client that is not known is not the caller's affair.
    tunnel.authorize(at_edge, Some(&exchanging(&issuer, &exchange(&server, "wrong"))));
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", &shown(&bob), &call("get_a"));
    assert!(head.starts_with("HTTP/1.1 503 "), "{place}: what was got elsewhere is not known here: {head}");
    tunnel.end();
}

#[test]
fn a_server_gets_a_token_of_its_own_for_that_of_the_caller() {
    for (driver, traffic, at_edge) in [
        (DriverChoice::Epoll, Traffic::Plain, true),
        (DriverChoice::Uring, Traffic::Plain, false),
        (DriverChoice::Uring, Traffic::Resealed, true),
        (DriverChoice::Epoll, Traffic::Resealed, false),
        (DriverChoice::Epoll, Traffic::Passthrough, false),
        (DriverChoice::Uring, Traffic::Passthrough, false),
    ] {
        is_exchanged(driver, traffic, at_edge);
    }
}

/// Calls with one token on two cores wait for one request. A call waits for what is said of its token, and then for another one.
#[test]
fn one_request_for_all_calls_with_a_token_which_may_be_opaque() {
    for at_edge in [true, false] {
        let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
        server.knows_client(ID, SECRET);
        server.introspects("opaque", Introspects::Answers(opaque::active(&server)));
        server.exchanges("opaque", Exchanges::Held("of-alice".into()));
        let tunnel = Tunnel::with_upstreams(DriverChoice::Epoll, Traffic::Plain, (2, 1), &[serve(&got)]);
        let issuer = opaque::asked(&server, SECRET);
        tunnel.authorize(at_edge, Some(&exchanging(&issuer, &exchange(&server, SECRET))));
        thread::scope(|scope| {
            let calls: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| ask(&mut tunnel.agent(), "/mcp", &shown("opaque"), &call("get_a")).0))
                .collect();
            server.until_exchanged();
            server.release();
            for call in calls {
                let head = call.join().unwrap();
                assert!(head.starts_with("HTTP/1.1 200 "), "{at_edge}: {head}");
            }
        });
        assert_eq!((server.was_asked_for().len(), server.introspections("opaque")), (1, 1), "{at_edge}");
        assert!(
            got.lock().unwrap().iter().all(|passed| passed.contains("Bearer of-alice") && !passed.contains("opaque"))
        );
        tunnel.end();
    }
}

/// A server that refuses the token `stale`.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                loop {
                    let request = read_message(&mut socket);
                    let status = if request.contains("Bearer stale\r\n") { "401 Unauthorized" } else { "200 OK" };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                    if request.is_empty() || socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A token may be revoked before it ends, and only the server knows.
#[test]
fn a_token_that_the_server_refuses_is_not_used_again() {
    for (driver, at_edge) in [(DriverChoice::Epoll, true), (DriverChoice::Uring, false)] {
        let (signer, server) = (Signer::new("k1"), LoginServer::start(&Arc::new(Signer::new("other"))));
        server.knows_client(ID, SECRET);
        let tunnel = Tunnel::with_upstreams(driver, Traffic::Plain, (1, 1), &[refusing()]);
        let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
        tunnel.authorize(at_edge, Some(&exchanging(&issuer, &exchange(&server, SECRET))));
        let alice = signer.sign(&claims(ISSUER, RESOURCE));
        for (given, wanted) in [("stale", "401"), ("fresh", "200"), ("unused", "200")] {
            server.exchanges(&alice, Exchanges::Gives(given.into()));
            let (head, _) = ask(&mut tunnel.agent(), "/mcp", &shown(&alice), &call("get_a"));
            assert!(head.starts_with(&format!("HTTP/1.1 {wanted} ")), "{driver:?} {given}: {head}");
        }
        assert_eq!(server.was_asked_for().len(), 2, "{driver:?}");
        tunnel.end();
    }
}

/// A call waits for the authorization server no longer than the exchange may take, and is counted.
#[test]
fn an_exchange_that_takes_too_long_is_given_up_and_counted() {
    let (got, signer) = (Got::default(), Signer::new("k1"));
    let server = LoginServer::start(&Arc::new(Signer::new("other")));
    server.knows_client(ID, SECRET);
    let tunnels = [true, false].map(|at_edge| {
        let tunnel = Tunnel::with_upstreams(DriverChoice::Epoll, Traffic::Plain, (1, 1), &[serve(&got)]);
        let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
        tunnel.authorize(at_edge, Some(&exchanging(&issuer, &exchange(&server, SECRET))));
        tunnel
    });
    let alice = signer.sign(&claims(ISSUER, RESOURCE));
    server.exchanges(&alice, Exchanges::Held("never".into()));
    thread::scope(|scope| {
        for tunnel in &tunnels {
            scope.spawn(|| {
                let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &shown(&alice), &call("get_a"));
                assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 5"), "{head}");
                assert_eq!(answer["error"]["data"]["reason"], "exchange_unavailable");
            });
        }
    });
    let counted = tunnels.each_ref().map(|tunnel| {
        let (edge, connector) = (tunnel.edge.counters(), tunnel.connector.counters());
        [&edge.tokens_unexchanged, &connector.tokens_unexchanged].map(|count| count.load(Ordering::Relaxed))
    });
    assert_eq!(counted, [[1, 0], [0, 1]]);
    assert_eq!(server.was_asked_for().len(), 2, "each was asked for once");
    assert!(got.lock().unwrap().is_empty(), "nothing of this has reached the server");
    server.release();
    tunnels.into_iter().for_each(Tunnel::end);
}

/// As an operator runs it: with a secret that is replaced while calls come.
#[test]
fn a_connector_exchanges_tokens_as_configured() {
    let (got, server) = (Got::default(), LoginServer::start(&Arc::new(Signer::new("k1"))));
    server.knows_client(ID, SECRET);
    let stated = |subject: &str| {
        let mut stated: Value = claims(&server.issuer(), RESOURCE);
        stated["sub"] = json!(subject);
        stated
    };
    let [alice, bob] = ["alice", "bob"].map(|subject| server.sign(&stated(subject)));
    server.exchanges(&alice, Exchanges::Gives("of-alice".into()));
    server.exchanges(&bob, Exchanges::Gives("of-bob".into()));
    let (upstream, login) = (serve(&got), server.issuer());
    let tables = format!(
        "[[identity_provider]]\nname = 'login'\nissuer = '{login}'\n\
         [[token_exchange]]\nname = 'tickets'\ntoken_url = '{login}/token'\nclient_id = '{ID}'\n\
         client_secret_file = 'client.secret'\nresource = 'https://tickets.internal/'\n"
    );
    let route = format!(
        "[[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\nauth = 'terminate'\nauth_resource = '{RESOURCE}'\n\
         token_exchange = 'tickets'\n"
    );
    let mut tunnel = tunnel_processes::Tunnel::prepared("plain", HOST, 20_000, "", "");
    adit::private::write(
        &tunnel.file("client.secret"),
        b"outdated
",
    )
    .unwrap();
    tunnel.run_edge();
    tunnel.connect_routes(&format!("{route}{tables}"));
    let answer = call_process(&tunnel, &alice);
    assert!(answer.contains("exchange_unavailable"), "{answer}");
    adit::private::write(&tunnel.file("client.secret"), format!("{SECRET}\n").as_bytes()).unwrap();
    until(&|| call_process(&tunnel, &alice), "200");
    until(&|| call_process(&tunnel, &bob), "200");
    let passed = got.lock().unwrap().clone();
    assert!(
        passed.iter().any(|passed| passed.contains("Bearer of-alice"))
            && passed.last().unwrap().contains("Bearer of-bob")
    );
    let asked = server.was_asked_for();
    assert!(asked.iter().all(|form| form["resource"] == "https://tickets.internal/" && !form.contains_key("audience")));
}
