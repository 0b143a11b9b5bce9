//! Routes that ask their callers for tokens, at the edge and at the connector.

mod certificates;
mod edges;
mod exchanges;
mod forwarded;
mod identity_header;
mod opaque;
mod server;
mod sessions;
pub(crate) mod signer;

use std::future::poll_fn;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use adit::base::{Secret, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::identity::{AuthTerms, KeySet, KeyStore, RouteAuth, TokenAlgorithm, TokenCheck, TokenIssuer, TokenRules};
use adit::policy::ToolPolicy;
use serde_json::{Value, json};

use crate::clients;
use crate::conformance::setup::SetUp;
use crate::policy::{Got, ask, call, names, serve};
use crate::support::{HOST, Tunnel, read_message};
use crate::tunnel_processes;
use server::LoginServer;
use signer::{Signer, claims, key_set};

const ISSUER: &str = "https://login.example/realms/demo";
const RESOURCE: &str = "https://mcp.test/mcp";
/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);
const CHALLENGE: &str = "Bearer resource_metadata=\"https://mcp.test/.well-known/oauth-protected-resource/mcp\"";

fn issuer(keys: KeyStore) -> Arc<TokenIssuer> {
    issuer_of(ISSUER, TokenCheck::Keys(keys))
}

fn issuer_of(name: &str, check: TokenCheck) -> Arc<TokenIssuer> {
    Arc::new(TokenIssuer {
        name: "demo".into(),
        rules: TokenRules {
            issuer: name.into(),
            audiences: [].into(),
            algorithms: [TokenAlgorithm::Es256].into(),
            types: ["at+jwt".into()].into(),
            leeway: Duration::from_secs(30),
        },
        check,
        refresh: Duration::from_secs(600),
        grace: Duration::from_secs(600),
    })
}

fn keys(signers: &[&Signer]) -> KeySet {
    KeySet::parse(key_set(signers).to_string().as_bytes()).unwrap()
}

fn auth(issuer: &Arc<TokenIssuer>, authorization: Option<&str>) -> Arc<RouteAuth> {
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes: ["mcp:tools".into()].into(),
        is_terminated: authorization.is_some(),
        authorization: authorization.filter(|value| !value.is_empty()).map(Secret::from),
        identity_header: None,
    };
    Arc::new(RouteAuth::new(terms, vec![Arc::clone(issuer)]))
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims(ISSUER, RESOURCE);
    claims[name] = value;
    claims
}

fn shown(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Where callers prove who they are: at the edge or at the connector, with the kinds of traffic that differ in this.
const PLACES: [(DriverChoice, Traffic, bool); 3] = [
    (DriverChoice::Epoll, Traffic::Plain, true),
    (DriverChoice::Uring, Traffic::Plain, false),
    (DriverChoice::Epoll, Traffic::Passthrough, false),
];

/// All that is tried of one route.
fn is_asked(driver: DriverChoice, traffic: Traffic, at_edge: bool) {
    let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
    let (got, signer) = (Got::default(), Signer::new("k1"));
    let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
    let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
    tunnel.authorize(at_edge, Some(&auth(&issuer, None)));
    let good = signer.sign(&claims(ISSUER, RESOURCE));

    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let (head, metadata) = ask(&mut tunnel.agent(), path, "X-Forwarded-Host: evil.example\r\n", "");
        assert!(head.starts_with("HTTP/1.1 200 "), "{place}: {head}");
        let wanted = json!({
            "resource": RESOURCE, "authorization_servers": [ISSUER], "bearer_methods_supported": ["header"],
            "scopes_supported": ["mcp:tools"],
        });
        assert_eq!(metadata, wanted, "{place}");
    }
    let (other, evil) = (with("aud", json!("https://mcp.test/mcp/")), Signer::new("k1"));
    for (status, fields, error) in [
        (401, String::new(), ""),
        (401, "Authorization: Basic YTpi\r\n".to_owned(), ""),
        (401, format!("{}{}", shown(&good), shown(&good)), ""),
        (401, shown("garbage"), "error=\"invalid_token\""),
        (401, shown(&signer.sign(&other)), "error_description=\"the token is not for this resource\""),
        (401, shown(&evil.sign(&claims(ISSUER, RESOURCE))), "error_description=\"the signature of the token"),
        (401, shown(&signer.sign(&with("exp", json!(1)))), "error_description=\"the token has expired\""),
        (403, shown(&signer.sign(&with("scope", json!("other")))), "error=\"insufficient_scope\""),
    ] {
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp?access_token=x", &fields, &call("get_a"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{place} {fields}: {head}");
        assert!(head.contains(CHALLENGE) && head.contains("scope=\"mcp:tools\"") && head.contains(error), "{head}");
        assert_eq!(answer["id"], 7, "{place}: {answer}");
    }
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", "");
    assert!(head.starts_with("HTTP/1.1 401 "), "{place}: a GET is asked as well: {head}");
    assert!(got.lock().unwrap().is_empty(), "{place}: nothing of this has reached the server");

    let mut agent = tunnel.agent();
    for _ in 0..2 {
        let (head, answer) = ask(&mut agent, "/mcp", &shown(&good), &call("get_a"));
        assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}");
    }
    let passed = got.lock().unwrap().pop().unwrap();
    assert!(passed.contains(&good), "{place}: verify passes the token on");

    for (value, wanted) in [("Bearer of-the-server", "Authorization: Bearer of-the-server\r\n"), ("", "")] {
        tunnel.authorize(at_edge, Some(&auth(&issuer, Some(value))));
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &shown(&good), &call("get_a"));
        assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}");
        let passed = got.lock().unwrap().pop().unwrap();
        assert!(!passed.contains(&good), "{place}: terminate keeps the token: {passed}");
        assert_eq!(passed.to_lowercase().matches("authorization:").count(), usize::from(!wanted.is_empty()));
        assert!(passed.contains(wanted), "{place}: {passed}");
    }
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", "", &call("get_a"));
    assert!(head.starts_with("HTTP/1.1 401 "), "{place}: {head}");

    // What the token says decides what its caller may do.
    let policy = "[[role]]\nname = 'support'\nissuer = 'https://login.example/realms/demo'\nclaims = { groups = 'support' }\n\
                  [[rule]]\nname = 'support'\neffect = 'allow'\ntools = ['get_*']\nroles = ['support']\n\
                  [[rule]]\nname = 'alice'\neffect = 'deny'\ntools = ['put']\nscope = 'mcp:write'\n";
    tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(policy).unwrap()));
    tunnel.authorize(at_edge, Some(&auth(&issuer, None)));
    let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
    let (_, tools) = ask(&mut tunnel.agent(), "/mcp", &shown(&good), list);
    assert_eq!(names(&tools), ["get_a", "put"], "{place}: what a further scope opens is shown");
    let stranger = signer.sign(&with("groups", json!(["sales"])));
    let (_, denied) = ask(&mut tunnel.agent(), "/mcp", &shown(&stranger), &call("get_a"));
    assert_eq!(denied["error"]["message"], "Unknown tool: get_a", "{place}");
    let (head, _) = ask(&mut tunnel.agent(), "/mcp", &shown(&good), &call("put"));
    let asked = format!("{CHALLENGE}, error=\"insufficient_scope\", scope=\"mcp:write\"\r\n");
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains(&asked), "{head}");
    tunnel.end();
}

#[test]
fn a_route_asks_its_callers_for_tokens_wherever_they_can_be_read() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            is_asked(driver, traffic, false);
            if traffic != Traffic::Passthrough {
                is_asked(driver, traffic, true);
            }
        }
    }
}

/// A server that answers all requests with a challenge of its own.
fn challenging() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                while !read_message(&mut socket).is_empty() {
                    let challenge = "www-authenticate: Bearer resource_metadata=\"https://evil.example/x\"\r\n";
                    let answer =
                        format!("HTTP/1.1 401 Unauthorized\r\n{challenge}X-Kept: 1\r\nContent-Length: 2\r\n\r\n{{}}");
                    if socket.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Where callers get tokens is up to the configuration: the server of a route that keeps their tokens cannot send them elsewhere.
#[test]
fn a_challenge_of_the_server_does_not_reach_callers_whose_tokens_stay_here() {
    for (driver, traffic, at_edge) in PLACES {
        let signer = Signer::new("k1");
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[challenging()]);
        let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
        let fields = shown(&signer.sign(&claims(ISSUER, RESOURCE)));
        let asks = |authorization| Some(auth(&issuer, authorization));
        // The last asks for nothing, and is carried with the memory of those before it.
        for (asks, passes) in
            [(asks(None), true), (asks(Some("Bearer of-the-server")), false), (asks(Some("")), false), (None, true)]
        {
            tunnel.authorize(at_edge, asks.as_ref());
            let (head, _) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
            assert!(head.starts_with("HTTP/1.1 401 ") && head.contains("X-Kept: 1"), "{traffic:?} {at_edge}: {head}");
            assert_eq!(head.contains("evil.example"), passes, "{traffic:?} {at_edge}: {head}");
            assert_eq!(head.to_lowercase().contains("www-authenticate"), passes, "{traffic:?} {at_edge}: {head}");
        }
        tunnel.end();
    }
}

/// A call whose token is signed by a key that is not known waits while the keys are fetched, on the core that has it.
#[test]
fn a_call_waits_for_keys_that_are_being_fetched_and_not_for_those_that_are_gone() {
    for (driver, at_edge) in [(DriverChoice::Epoll, true), (DriverChoice::Uring, false)] {
        let (got, old, new) = (Got::default(), Signer::new("old"), Signer::new("new"));
        let tunnel = Tunnel::with_upstreams(driver, Traffic::Plain, (2, 0), &[serve(&got)]);
        let issuer = issuer(KeyStore::fetched(Duration::from_secs(3_600)));
        tunnel.authorize(at_edge, Some(&auth(&issuer, None)));
        let sets = [Some(keys(&[&old])), Some(keys(&[&old, &new])), None];
        let fetcher = thread::spawn({
            let issuer = Arc::clone(&issuer);
            move || {
                for set in sets {
                    futures_lite::future::block_on(poll_fn(|cx| issuer.keys().unwrap().poll_asked(cx)));
                    match set {
                        Some(set) => drop(issuer.keys().unwrap().publish(set, Duration::ZERO)),
                        // Nobody tries again within the hour.
                        None => issuer.keys().unwrap().on_failed(SystemTime::UNIX_EPOCH.elapsed().unwrap()),
                    }
                }
            }
        });
        for signer in [&old, &old, &new, &old] {
            let fields = shown(&signer.sign(&claims(ISSUER, RESOURCE)));
            let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
            assert_eq!(answer["result"], json!({"content": []}), "{driver:?}: {head}");
        }
        let unknown = shown(&Signer::new("third").sign(&claims(ISSUER, RESOURCE)));
        let (head, _) = ask(&mut tunnel.agent(), "/mcp", &unknown, &call("get_a"));
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 5"), "the issuer may have it: {head}");
        fetcher.join().unwrap();
        issuer.keys().unwrap().lose();
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &unknown, &call("get_a"));
        assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("Retry-After: 5"), "{head}");
        assert!(!head.contains("WWW-Authenticate"), "another token would not help: {head}");
        assert_eq!(answer["error"]["data"]["reason"], "keys_unavailable");
        assert_eq!(got.lock().unwrap().len(), 4);
        tunnel.end();
    }
}

/// Sends a call to a process, and returns the answer.
fn call_process(tunnel: &tunnel_processes::Tunnel, token: &str) -> String {
    let mut agent = TcpStream::connect(tunnel.agents).unwrap();
    let body = call("get_a");
    let fields = format!("Host: {HOST}\r\n{}Content-Type: application/json\r\n", shown(token));
    let request = format!("POST /mcp HTTP/1.1\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
    agent.write_all(request.as_bytes()).unwrap();
    read_message(&mut agent)
}

/// Calls until the answer has this status, and returns it.
fn until(call: &dyn Fn() -> String, status: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = call();
        if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "no {status} came: {answer}");
        thread::yield_now();
    }
}

/// The processes as an operator runs them: the keys come from where the metadata of the issuer says, are rotated without a failed call,
/// outlive an outage, and are given up after the grace.
fn keys_live(at_edge: bool) {
    let (got, old, new) = (Got::default(), Arc::new(Signer::new("old")), Signer::new("new"));
    let (upstream, login) = (serve(&got), LoginServer::start(&old));
    let issuer = login.issuer();
    let identity = format!(
        "[identity]\nunknown_key_ms = '1s'\noffline_grace_ms = '3s'\nrefresh_ms = '1h'\n\
         [[identity_provider]]\nname = 'login'\nissuer = '{issuer}'\n"
    );
    let asks = format!("auth = 'verify'\nauth_resource = '{RESOURCE}'\nscopes_required = 'mcp:tools'\n");
    let route = format!("[[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\n");
    let tunnel = match at_edge {
        true => {
            let tables = format!("[[host]]\nhost = '{HOST}'\n{asks}{identity}");
            let mut tunnel = tunnel_processes::Tunnel::with_tables("plain", HOST, 20_000, "", &tables);
            tunnel.connect_routes(&route);
            tunnel
        }
        false => {
            let mut tunnel = tunnel_processes::Tunnel::without_connector("plain", HOST, 20_000, "");
            tunnel.connect_routes(&format!("{route}{asks}{identity}"));
            tunnel
        }
    };
    let of = |signer: &Signer| signer.sign(&claims(&issuer, RESOURCE));
    let passes = |signer: &Signer| {
        let answer = call_process(&tunnel, &of(signer));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"result\""), "{answer}");
    };
    passes(&old);
    assert_eq!(login.fetches(), 1);
    // The next key is there, and the first token by it has the keys fetched.
    login.set_keys(Some(key_set(&[&old, &new])));
    until(&|| call_process(&tunnel, &of(&new)), "200");
    passes(&old);
    assert_eq!(login.fetches(), 2);
    // An outage: known keys stay, until nobody has confirmed them for too long.
    login.set_keys(None);
    passes(&new);
    let lost = until(&|| call_process(&tunnel, &of(&new)), "503");
    assert!(lost.contains("keys_unavailable"), "{lost}");
    // The issuer is back.
    login.set_keys(Some(key_set(&[&new])));
    until(&|| call_process(&tunnel, &of(&new)), "200");
    let refused = call_process(&tunnel, &of(&old));
    assert!(refused.starts_with("HTTP/1.1 401 "), "what was rotated out is over: {refused}");
}

#[test]
fn keys_are_fetched_rotated_and_given_up_by_an_edge() {
    keys_live(true);
}

#[test]
fn keys_are_fetched_rotated_and_given_up_by_a_connector() {
    keys_live(false);
}

/// The whole flow with a client of an SDK, and a server of the Python SDK: the challenge, the metadata of the resource, those of the
/// issuer, a token for this resource with the scope that was asked for, and then calls with it.
fn finds_out_where_to_get_a_token(mut client: Command) {
    let signer = Arc::new(Signer::new("k1"));
    let (login, (_server, upstream)) = (LoginServer::start(&signer), clients::server());
    let mut tunnel = tunnel_processes::Tunnel::without_connector("plain", "localhost", 20_000, "");
    let (url, issuer) = (format!("http://localhost:{}/mcp", tunnel.agents.port()), login.issuer());
    tunnel.connect_routes(&format!(
        "[[route]]\nhost = 'localhost'\nupstream = 'http://{upstream}'\nauth = 'terminate'\nauth_resource = '{url}'\n\
         scopes_required = 'mcp:tools'\n[[identity_provider]]\nname = 'login'\nissuer = '{issuer}'\n"
    ));
    let ended = client.args([&url, &issuer]).output().expect("the client runs");
    let (printed, output) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    let printed: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}{output}"));
    assert_eq!(
        printed,
        json!({"tools": ["work", "hold", "key", "note", "rows"], "result": "done", "tokens": ["mcp:tools"]}),
        "{output}"
    );
}

fn client_file(name: &str) -> String {
    format!("{}/tests/loopback/identity/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_client_of_the_python_sdk_finds_out_where_to_get_a_token_and_calls_with_it() {
    let mut client = Command::new(&SetUp::get().python);
    client.arg(client_file("client.py"));
    finds_out_where_to_get_a_token(client);
}

#[test]
fn a_client_of_the_typescript_sdk_finds_out_where_to_get_a_token_and_calls_with_it() {
    let mut client = Command::new(&SetUp::get().node);
    client.arg(client_file("client.mjs")).arg(&SetUp::get().packages);
    finds_out_where_to_get_a_token(client);
}
