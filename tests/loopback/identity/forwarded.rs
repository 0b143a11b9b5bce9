//! Identities that an edge forwards to a connector that trusts it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use adit::base::Traffic;
use adit::control::DataDir;
use adit::engine::ladder::DriverChoice;
use adit::identity::{
    AuthTerms, EdgeTerms, FORWARDED_TYPE, ForwardingKeys, IdentityForwarder, IdentityHeader, IdentitySigner, KeySet,
    KeyStore, RouteAuth, TokenAlgorithm, TokenCheck, TokenIssuer, TokenRules, TrustedEdge,
};
use adit::policy::ToolPolicy;
use adit::tls::ALPN_HTTP2;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::signer::{Signer, claims};
use super::{ISSUER, RESOURCE, auth, call_process, issuer, keys, shown, until, with};
use crate::front::Front;
use crate::http2::client::{request, whole, with_client};
use crate::policy::{Got, ask, call, names, serve};
use crate::support::{HOST, Tunnel};
use crate::tunnel_processes;

const EDGE: &str = "https://edge.example.com";
const SEED: [u8; 32] = [7; 32];

fn edge_keys() -> Arc<ForwardingKeys> {
    Arc::new(ForwardingKeys::new(SEED, [8; 32]))
}

/// An edge that a connector trusts by these keys.
fn trusted(keys: &ForwardingKeys) -> TrustedEdge {
    let set = KeySet::parse(keys.key_set().to_string().as_bytes()).unwrap();
    let rules = TokenRules {
        issuer: EDGE.into(),
        audiences: [].into(),
        algorithms: [TokenAlgorithm::EdDsa].into(),
        types: [FORWARDED_TYPE.into()].into(),
        leeway: Duration::from_secs(10),
    };
    let (check, grace) = (TokenCheck::Keys(KeyStore::fixed(set)), Duration::from_secs(600));
    let issuer = TokenIssuer { name: "front".into(), rules, check, refresh: grace, grace };
    TrustedEdge { issuer: Arc::new(issuer), vouches_for: [ISSUER.into()].into() }
}

/// What an edge asks of callers that forwards who they are.
fn forwards(tokens: &Signer, edge: &Arc<ForwardingKeys>) -> Arc<RouteAuth> {
    let issuer = issuer(KeyStore::fixed(keys(&[tokens])));
    let forwarder = IdentityForwarder { issuer: EDGE.into(), keys: Arc::clone(edge), claims: ["groups".into()].into() };
    let terms = auth(&issuer, Some("")).terms().clone();
    Arc::new(RouteAuth::new(terms, vec![issuer]).with_forwarder(forwarder))
}

/// What a connector asks that trusts these edges, for this resource.
fn trusts(resource: &str, edges: Vec<TrustedEdge>, is_required: bool) -> Arc<RouteAuth> {
    let signer = Arc::new(IdentitySigner::new(&[9; 32]));
    let terms = AuthTerms {
        resource: resource.into(),
        scopes: [].into(),
        is_terminated: false,
        authorization: None,
        identity_header: Some(IdentityHeader { name: "X-Caller".into(), signer }),
    };
    let edges = EdgeTerms { is_required, edges: edges.into() };
    Arc::new(RouteAuth::new(terms, Vec::new()).without_tokens().with_edges(edges))
}

/// A valid identity, as somebody would have it who has looked into a tunnel: for bob, who may do everything.
fn stolen() -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let claims = json!({
        "iss": EDGE, "aud": RESOURCE, "sub": "bob", "sub_iss": ISSUER, "iat": now, "exp": now + 60, "proof": "jwt",
        "claims": {"groups": ["support"]},
    });
    // The key of PKCS #8 (RFC 8410) begins with these bytes.
    let key = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &SEED].concat();
    let header = Header { typ: Some(FORWARDED_TYPE.into()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, &claims, &EncodingKey::from_ed_der(&key)).unwrap()
}

/// What the server is told of the caller of the last request. The field of the edge must not be in it.
fn caller_claims(got: &Got) -> Value {
    let request = got.lock().unwrap().pop().unwrap();
    assert!(!request.to_lowercase().replace('_', "-").contains("adit-caller"), "{request}");
    let line = request.lines().find(|line| line.starts_with("X-Caller: ")).unwrap_or_else(|| panic!("{request}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(line.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

const POLICY: &str = "[[role]]\nname = 'support'\nproofs = ['forwarded']\nissuer = 'https://login.example/realms/demo'\n\
     claims = { groups = 'support', adit_edge = 'front', adit_proof = 'jwt' }\n\
     [[role]]\nname = 'bob'\nsubjects = ['bob']\nproofs = ['forwarded']\n\
     [[rule]]\nname = 'support'\neffect = 'allow'\ntools = ['get_*']\nroles = ['support']\n\
     [[rule]]\nname = 'bob'\neffect = 'allow'\ntools = ['*']\nroles = ['bob']\n";

#[test]
fn a_connector_accepts_forwarded_identities_of_edges_only() {
    let forged = format!("Adit-Caller: {}\r\nadit_caller: {}\r\nConnection: adit-caller\r\n", stolen(), stolen());
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed] {
            let place = format!("{driver:?} {traffic:?}");
            let (got, tokens, edge) = (Got::default(), Signer::new("k1"), edge_keys());
            let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[serve(&got)]);
            tunnel.authorize(true, Some(&forwards(&tokens, &edge)));
            tunnel.govern(false, &Arc::new(ToolPolicy::parse(POLICY).unwrap()));
            tunnel.authorize(false, Some(&trusts(RESOURCE, vec![trusted(&edge)], true)));
            let alice = tokens.sign(&claims(ISSUER, RESOURCE));
            for fields in [shown(&alice), format!("{}{forged}", shown(&alice))] {
                let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
                assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}{answer}");
                let text = caller_claims(&got);
                assert_eq!((&text["sub"], &text["sub_iss"]), (&json!("alice"), &json!(ISSUER)), "{place}: {text}");
                assert_eq!((&text["proof"], &text["forwarded_by"]), (&json!("forwarded"), &json!("front")), "{text}");
                let (_, denied) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("put"));
                assert_eq!(denied["error"]["message"], "Unknown tool: put", "{place}: what is bob's stays bob's");
            }
            let stranger = shown(&tokens.sign(&with("groups", json!(["sales"]))));
            let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
            let (_, tools) = ask(&mut tunnel.agent(), "/mcp", &format!("{stranger}{forged}"), list);
            assert!(names(&tools).is_empty(), "{place}: {tools}");
            got.lock().unwrap().clear();

            // Without a token, what an agent has stolen opens nothing, over either HTTP.
            let (head, _) = ask(&mut tunnel.agent(), "/mcp", &forged, &call("get_a"));
            assert!(head.starts_with("HTTP/1.1 401 "), "{place}: {head}");
            let front = Front::of_connections(tunnel.agents, Some(tunnel.tls(ALPN_HTTP2)));
            for (authorization, wanted) in [(format!("Bearer {alice}"), 200), ("Basic YTpi".to_owned(), 401)] {
                for _ in 0..4 {
                    let asked = request(Method::GET, "/mcp").header("Adit-Caller", stolen());
                    let asked = asked.header("authorization", &authorization).body(()).unwrap();
                    let status = with_client(front.address, |client| async move {
                        let (response, _) = client.begin(asked, true).await;
                        whole(response).await.unwrap().head.status().as_u16()
                    });
                    assert_eq!(status, wanted, "{place}");
                }
            }
            while !got.lock().unwrap().is_empty() {
                assert_eq!(caller_claims(&got)["sub"], "alice", "{place}: over HTTP/2");
            }

            // The session of a caller is the caller's, also where only the edge knows who that is.
            let (begin, session) = (r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#, "Mcp-Session-Id: of-alice\r\n");
            let first = ask(&mut tunnel.agent(), "/mcp", &format!("{session}{}", shown(&alice)), begin);
            assert!(first.0.starts_with("HTTP/1.1 200 "), "{place}: {}", first.0);
            let other = ask(&mut tunnel.agent(), "/mcp", &format!("{session}{stranger}"), begin);
            assert!(other.0.starts_with("HTTP/1.1 200 "), "{place}: alice in other groups is alice: {}", other.0);
            let bob = shown(&tokens.sign(&with("sub", json!("bob"))));
            let other = ask(&mut tunnel.agent(), "/mcp", &format!("{session}{bob}"), begin);
            assert!(other.0.starts_with("HTTP/1.1 404 "), "{place}: {}", other.0);
            tunnel.end();
        }
    }
}

#[test]
fn a_forwarded_identity_counts_only_from_a_trusted_edge_and_for_its_route() {
    for (driver, traffic) in [(DriverChoice::Epoll, Traffic::Plain), (DriverChoice::Uring, Traffic::Resealed)] {
        let (got, tokens, edge) = (Got::default(), Signer::new("k1"), edge_keys());
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
        let refused = || tunnel.connector.counters().edge_identities_refused.load(Ordering::Relaxed);
        let alice = shown(&tokens.sign(&claims(ISSUER, RESOURCE)));
        let other = ForwardingKeys::new([1; 32], [2; 32]);
        let narrow = TrustedEdge { vouches_for: ["https://elsewhere.example".into()].into(), ..trusted(&edge) };
        let own = trusts(RESOURCE, vec![trusted(&edge)], true);
        let ask_as_alice = || ask(&mut tunnel.agent(), "/mcp", &alice, &call("get_a"));
        tunnel.authorize(true, Some(&forwards(&tokens, &edge)));
        for (asks, why) in [
            (trusts("https://mcp.test/mcp/", vec![trusted(&edge)], false), "the token is not for this resource"),
            (trusts(RESOURCE, vec![trusted(&other)], false), "the key of the token is not known"),
            (trusts(RESOURCE, vec![narrow], false), "the issuer of the token is not accepted"),
            (trusts(RESOURCE, Vec::new(), false), "the issuer of the token is not accepted"),
        ] {
            tunnel.authorize(false, Some(&asks));
            let before = refused();
            let (head, answer) = ask_as_alice();
            assert!(head.starts_with("HTTP/1.1 403 ") && !head.contains("WWW-Authenticate"), "{traffic:?}: {head}");
            assert_eq!(
                (&answer["error"]["data"]["reason"], &answer["id"]),
                (&json!("edge_identity_refused"), &json!(7))
            );
            assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{traffic:?} {why}: {answer}");
            assert_eq!(refused(), before + 1);
        }
        // An edge that says nothing.
        tunnel.authorize(true, None);
        tunnel.authorize(false, Some(&own));
        let before = refused();
        let (head, answer) = ask_as_alice();
        assert!(head.starts_with("HTTP/1.1 403 "), "{traffic:?}: {head}");
        assert_eq!(answer["error"]["data"]["reason"], "edge_identity_missing");
        assert_eq!(refused(), before + 1);
        assert!(got.lock().unwrap().is_empty(), "nothing of this has reached the server");
        tunnel.authorize(false, Some(&trusts(RESOURCE, vec![trusted(&edge)], false)));
        assert_eq!(ask_as_alice().1["result"], json!({"content": []}), "nobody has to be known here");

        // Where nothing is trusted, the field is removed all the same.
        tunnel.authorize(true, Some(&forwards(&tokens, &edge)));
        tunnel.authorize(false, None);
        assert_eq!(ask_as_alice().1["result"], json!({"content": []}));
        assert!(got.lock().unwrap().iter().all(|passed| !passed.to_lowercase().contains("adit-caller")));

        // Too much of a caller is not forwarded in part.
        tunnel.authorize(false, Some(&own));
        let groups: Vec<String> = (0..600).map(|nth| format!("group-{nth:06}")).collect();
        let long = shown(&tokens.sign(&with("groups", json!(groups))));
        let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &long, &call("get_a"));
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert_eq!(answer["error"]["data"]["reason"], "identity_too_long");
        assert_eq!(tunnel.edge.counters().identities_unforwarded.load(Ordering::Relaxed), 1);
        tunnel.end();
    }
}

/// In passthrough traffic no edge has read the request, so nobody but the agent can have written the field.
#[test]
fn the_agents_own_word_counts_for_nothing_where_its_tls_ends_in_the_connector() {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let (got, edge) = (Got::default(), edge_keys());
        let tunnel = Tunnel::with_upstreams(driver, Traffic::Passthrough, (1, 1), &[serve(&got)]);
        let fields = format!("Adit-Caller: {}\r\n", stolen());
        for (is_required, status) in [(true, "403"), (false, "200")] {
            tunnel.authorize(false, Some(&trusts(RESOURCE, vec![trusted(&edge)], is_required)));
            let (head, _) = ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{driver:?} {is_required}: {head}");
        }
        let passed = got.lock().unwrap().pop().unwrap();
        assert!(!passed.to_lowercase().contains("adit-caller") && !passed.contains("X-Caller"), "{passed}");
        tunnel.authorize(false, None);
        assert!(ask(&mut tunnel.agent(), "/mcp", &fields, &call("get_a")).0.starts_with("HTTP/1.1 200 "));
        assert!(!got.lock().unwrap().pop().unwrap().to_lowercase().contains("adit-caller"));
        tunnel.end();
    }
}

/// As operators run it: the keys of the edge survive its restart and are rotated, and the connector has them in a file.
#[test]
fn an_edge_keeps_and_rotates_its_keys_and_a_connector_has_them_in_a_file() {
    let (got, login) = (Got::default(), super::LoginServer::start(&Arc::new(Signer::new("k1"))));
    let (upstream, name) = (serve(&got), login.issuer());
    let tables = format!(
        "[identity]\nedge_issuer = '{EDGE}'\n[[identity_provider]]\nname = 'login'\nissuer = '{name}'\n\
         [[host]]\nhost = '{HOST}'\nauth = 'terminate'\nauth_resource = '{RESOURCE}'\nforward_identity = true\n"
    );
    let more = "data_dir = 'data'\n";
    let mut tunnel = tunnel_processes::Tunnel::prepared("resealed", HOST, 20_000, more, &tables);
    let dir = tunnel.file("data");
    DataDir::new(&dir).init(&["edge.test".to_owned()], rustls_pki_types::UnixTime::now()).unwrap();
    let identity_keys = |more: &[&str]| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        let output = command.args(["edge", "identity-keys", "--data-dir"]).arg(&dir).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let set = identity_keys(&[]);
    adit::private::write(&tunnel.file("front.jwks.json"), set.to_string().as_bytes()).unwrap();
    tunnel.run_edge();
    let audit = tunnel.file("audit");
    tunnel.connect_routes(&format!(
        "[[route]]\nhost = '{HOST}'\nupstream = 'http://{upstream}'\nauth_resource = '{RESOURCE}'\n\
         forwarded_identity = 'required'\ntrusted_edges = 'front'\nedge_authorities = 'front'\n\
         [[edge_authority]]\nname = 'front'\nca_file = 'ca.pem'\n\
         [[trusted_edge]]\nname = 'front'\nissuer = '{EDGE}'\njwks_file = 'front.jwks.json'\nvouches_for = '{name}'\n\
         [audit]\nmode = 'required'\ndir = '{}'\n",
        audit.display()
    ));
    let alice = login.sign(&claims(&name, RESOURCE));
    until(&|| call_process(&tunnel, &alice), "200");
    assert!(!got.lock().unwrap().pop().unwrap().contains(&alice), "the token itself stays at the edge");

    // The line of the call names who has said it.
    let lines = std::fs::read_dir(&audit).unwrap().flatten().map(|file| std::fs::read(file.path()).unwrap());
    let lines = lines.map(|file| String::from_utf8_lossy(&file).into_owned()).collect::<String>();
    let line = lines.lines().find(|line| line.contains("\"tools/call\"")).unwrap_or_else(|| panic!("{lines}"));
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["caller"], &line["issuer"]), (&json!("alice"), &json!(name)), "{line}");
    assert_eq!((&line["proof"], &line["forwarded_by"]), (&json!("forwarded"), &json!("front")), "{line}");
    assert_eq!(line["forwarded_proof"], "jwt", "{line}");
    // The name is that of the certificate with which connectors are served.
    assert_eq!((&line["edge_name"], &line["edge_authority"]), (&json!("edge.test"), &json!("x509:front")), "{line}");

    // The connector keeps running with the file as it is.
    tunnel.edge = None;
    assert_eq!(identity_keys(&[]), set, "a restart changes no key");
    tunnel.run_edge();
    until(&|| call_process(&tunnel, &alice), "200");
    let rotated = identity_keys(&["--rotate"]);
    assert_eq!((&rotated["keys"][0], &rotated["keys"][2]), (&set["keys"][1], &set["keys"][0]));
    assert!(call_process(&tunnel, &alice).starts_with("HTTP/1.1 200 "), "the next key was known before");
    // Twice is too much for a file that nobody has replaced.
    identity_keys(&["--rotate"]);
    let refused = until(&|| call_process(&tunnel, &alice), "403");
    assert!(
        refused.contains("edge_identity_refused") && refused.contains("key of the token is not known"),
        "{refused}"
    );
    adit::private::write(&tunnel.file("front.jwks.json"), identity_keys(&[]).to_string().as_bytes()).unwrap();
    until(&|| call_process(&tunnel, &alice), "200");
}
