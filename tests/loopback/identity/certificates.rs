//! Routes that ask their callers for client certificates, where the TLS of agents ends: at the edge and at the connector.

use std::sync::Arc;

use adit::base::{Secret, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::identity::{
    AuthTerms, CertificateName, CertificateTerms, ClientAuthority, IdentityHeader, IdentitySigner, KeyStore, RouteAuth,
};
use adit::policy::ToolPolicy;
use adit::tls::{ALPN_HTTP2, Roots, client_verifier, provider};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use super::signer::{Signer, claims};
use super::{ISSUER, RESOURCE, issuer, keys, shown};
use crate::front::Front;
use crate::http2::client::{request, whole, with_client};
use crate::policy::{Got, ask, call, names, serve};
use crate::support::{Agent, Tunnel};

const ALICE: &str = "spiffe://partner.example/alice";
const BOB: &str = "spiffe://partner.example/bob";

/// An authority that certifies callers.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    authority: Arc<ClientAuthority>,
}

impl Ca {
    fn new() -> Ca {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = Roots::new();
        roots.add_der(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let verifier = client_verifier(&roots, None).unwrap();
        let authority = Arc::new(ClientAuthority::new("partners", verifier, CertificateName::Uri));
        Ca { issuer: Issuer::new(params, key), authority }
    }

    fn certifies(&self, uri: &str) -> Arc<CertifiedKey> {
        let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(uri).unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Arc::new(CertifiedKey::from_der(chain, key, &provider()).unwrap())
    }

    fn terms(&self, is_required: bool) -> CertificateTerms {
        CertificateTerms { is_required, authorities: [Arc::clone(&self.authority)].into() }
    }
}

fn terms(scopes: &[&str]) -> AuthTerms {
    AuthTerms {
        resource: RESOURCE.into(),
        scopes: scopes.iter().map(|scope| Box::from(*scope)).collect(),
        is_terminated: true,
        authorization: Some(Secret::from("Bearer of-the-server")),
        identity_header: None,
    }
}

/// A route that asks for certificates, and leaves tokens to its server.
fn only_certificates(ca: &Ca, is_required: bool) -> Arc<RouteAuth> {
    let terms = AuthTerms { is_terminated: false, authorization: None, ..terms(&[]) };
    Arc::new(RouteAuth::new(terms, Vec::new()).without_tokens().with_certificates(ca.terms(is_required)))
}

/// Where the TLS of agents ends, with the kinds of traffic that differ in this.
const PLACES: [(DriverChoice, Traffic, bool); 6] = [
    (DriverChoice::Epoll, Traffic::Plain, true),
    (DriverChoice::Uring, Traffic::Plain, true),
    (DriverChoice::Epoll, Traffic::Resealed, true),
    (DriverChoice::Uring, Traffic::Resealed, true),
    (DriverChoice::Epoll, Traffic::Passthrough, false),
    (DriverChoice::Uring, Traffic::Passthrough, false),
];

fn is_denied(agent: &mut Agent, fields: &str, status: u16, code: &str) -> String {
    let (head, answer) = ask(agent, "/mcp", fields, &call("get_a"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {head}");
    assert_eq!((&answer["error"]["data"]["reason"], &answer["id"]), (&json!(code), &json!(7)), "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

fn is_answered(agent: &mut Agent, fields: &str) {
    let (head, answer) = ask(agent, "/mcp", fields, &call("get_a"));
    assert_eq!(answer["result"], json!({"content": []}), "{head}{answer}");
}

#[test]
fn client_certificates_identify_callers_at_the_edge_and_at_the_connector() {
    let (ca, evil) = (Ca::new(), Ca::new());
    let [alice, bob] = [ALICE, BOB].map(|name| ca.certifies(name));
    let mallory = evil.certifies(ALICE);
    let policy = Arc::new(
        ToolPolicy::parse(&format!(
            "[[role]]\nname = 'alice'\nproofs = ['certificate']\nissuer = 'x509:partners'\nsubjects = ['{ALICE}']\n\
             [[rule]]\nname = 'alice'\neffect = 'allow'\ntools = ['get_*']\nroles = ['alice']\n"
        ))
        .unwrap(),
    );
    for (driver, traffic, at_edge) in PLACES {
        let place = format!("{driver:?} {traffic:?}");
        let got = Got::default();
        let tunnel = Tunnel::with_upstreams(driver, traffic, (2, 1), &[serve(&got)]);
        let mut early = tunnel.agent_with(&alice);
        is_answered(&mut early, "");
        tunnel.govern(at_edge, &policy);
        tunnel.authorize(at_edge, Some(&only_certificates(&ca, true)));
        is_denied(&mut early, "", 421, "certificate_not_asked");
        got.lock().unwrap().clear();
        is_denied(&mut tunnel.agent(), "", 403, "certificate_missing");
        let why = is_denied(&mut tunnel.agent_with(&mallory), "", 403, "certificate_refused");
        assert!(why.contains("no authority that is accepted here has signed it"), "{place}: {why}");
        let (_, denied) = ask(&mut tunnel.agent_with(&bob), "/mcp", "", &call("get_a"));
        assert_eq!(denied["error"]["message"], "Unknown tool: get_a", "{place}");
        assert!(got.lock().unwrap().is_empty(), "{place}: nothing of this has reached the server");

        // Connections of all cores, of which one has the link.
        for _ in 0..4 {
            let mut agent = tunnel.agent_with(&alice);
            is_answered(&mut agent, "Authorization: Bearer of-alice-at-the-server\r\n");
            is_answered(&mut agent, "");
        }
        let passed = std::mem::take(&mut *got.lock().unwrap());
        assert!(passed[0].contains("of-alice-at-the-server"), "{place}: tokens are the server's affair: {}", passed[0]);

        // Over HTTP/2, from which calls go to another core alone.
        for (certificate, wanted) in [(&alice, 200), (&mallory, 403)] {
            let front = Front::of_connections(tunnel.agents, Some(tunnel.tls_with(ALPN_HTTP2, certificate)));
            for _ in 0..4 {
                let status = with_client(front.address, |client| async move {
                    let (response, _) = client.begin(request(Method::GET, "/mcp").body(()).unwrap(), true).await;
                    whole(response).await.unwrap().head.status().as_u16()
                });
                assert_eq!(status, wanted, "{place}");
            }
        }

        // One that need not be shown says who calls if it is, and a bad one is refused all the same.
        tunnel.authorize(at_edge, Some(&only_certificates(&ca, false)));
        let list = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
        let (_, tools) = ask(&mut tunnel.agent_with(&alice), "/mcp", "", list);
        assert_eq!(names(&tools), ["get_a"], "{place}");
        let (_, tools) = ask(&mut tunnel.agent(), "/mcp", "", list);
        assert!(names(&tools).is_empty(), "{place}");
        is_denied(&mut tunnel.agent_with(&mallory), "", 403, "certificate_refused");

        // A session is that of its caller, also towards callers of whom nothing is known.
        let begin = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
        let session = "Mcp-Session-Id: of-alice\r\n";
        assert!(ask(&mut tunnel.agent_with(&alice), "/mcp", session, begin).0.starts_with("HTTP/1.1 200 "));
        for agent in [&mut tunnel.agent(), &mut tunnel.agent_with(&bob)] {
            let (head, _) = ask(agent, "/mcp", session, begin);
            assert!(head.starts_with("HTTP/1.1 404 "), "{place}: {head}");
        }
        tunnel.end();
    }
}

/// What the server is told by the signed header.
fn caller_claims(got: &Got) -> Value {
    let request = got.lock().unwrap().pop().unwrap();
    let line = request.lines().find(|line| line.starts_with("X-Caller: ")).unwrap_or_else(|| panic!("{request}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(line.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[test]
fn a_token_takes_precedence_over_a_certificate_and_both_are_checked() {
    let (ca, signer) = (Ca::new(), Signer::new("k1"));
    let (bob, mallory) = (ca.certifies(BOB), Ca::new().certifies(BOB));
    let issuer = issuer(KeyStore::fixed(keys(&[&signer])));
    let alice = shown(&signer.sign(&claims(ISSUER, RESOURCE)));
    let header = IdentityHeader { name: "X-Caller".into(), signer: Arc::new(IdentitySigner::new(&[7; 32])) };
    // printf %s open-sesame | sha256sum
    let policy =
        "[[key]]\nname = 'night-batch'\nsha256 = 'd7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7'\n";
    let policy = Arc::new(ToolPolicy::parse(policy).unwrap());
    for (driver, traffic, at_edge) in [PLACES[0], PLACES[5]] {
        let got = Got::default();
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
        tunnel.govern(at_edge, &policy);
        let asks = |is_required, scopes: &[&str]| {
            let terms = AuthTerms { identity_header: Some(header.clone()), ..terms(scopes) };
            let auth = RouteAuth::new(terms, vec![Arc::clone(&issuer)]).with_certificates(ca.terms(is_required));
            tunnel.authorize(at_edge, Some(&Arc::new(auth)));
        };
        let says = |agent: &mut Agent, fields: &str| {
            is_answered(agent, fields);
            let stated = caller_claims(&got);
            [&stated["sub"], &stated["sub_iss"], &stated["proof"]]
                .map(|text| text.as_str().unwrap_or_default().to_owned())
        };
        let bad = shown(&Signer::new("k1").sign(&claims(ISSUER, RESOURCE)));
        let key = "Authorization: Bearer open-sesame\r\n";

        asks(false, &[]);
        assert_eq!(says(&mut tunnel.agent_with(&bob), ""), [BOB, "x509:partners", "certificate"]);
        assert_eq!(says(&mut tunnel.agent_with(&bob), &alice), ["alice", ISSUER, "jwt"]);
        assert_eq!(says(&mut tunnel.agent_with(&bob), key), ["night-batch", "", "key"]);
        assert_eq!(says(&mut tunnel.agent(), &alice), ["alice", ISSUER, "jwt"]);
        is_denied(&mut tunnel.agent(), "", 401, "token_missing");
        is_denied(&mut tunnel.agent_with(&bob), &bad, 401, "invalid_token");
        is_denied(&mut tunnel.agent_with(&mallory), &alice, 403, "certificate_refused");
        is_denied(&mut tunnel.agent_with(&mallory), key, 403, "certificate_refused");
        // Credentials that nobody has checked are not sent under the name of the certificate.
        is_denied(&mut tunnel.agent_with(&bob), "Authorization: Basic YTpi\r\n", 401, "token_missing");
        is_denied(&mut tunnel.agent_with(&bob), &format!("{alice}{alice}"), 401, "token_missing");

        // Scopes are those of tokens.
        asks(false, &["mcp:tools"]);
        is_denied(&mut tunnel.agent_with(&bob), "", 403, "insufficient_scope");
        assert_eq!(says(&mut tunnel.agent_with(&bob), &alice), ["alice", ISSUER, "jwt"]);

        asks(true, &[]);
        is_denied(&mut tunnel.agent_with(&bob), "", 401, "token_missing");
        is_denied(&mut tunnel.agent(), &alice, 403, "certificate_missing");
        is_denied(&mut tunnel.agent(), key, 403, "certificate_missing");
        assert_eq!(says(&mut tunnel.agent_with(&bob), &alice), ["alice", ISSUER, "jwt"]);

        // A token that is bound to a certificate (RFC 8705) is nothing without it.
        let digest = URL_SAFE_NO_PAD.encode(adit::base::sha256(&bob.cert[0]));
        let mut bound = claims(ISSUER, RESOURCE);
        bound["cnf"] = json!({ "x5t#S256": digest });
        let bound = shown(&signer.sign(&bound));
        assert_eq!(says(&mut tunnel.agent_with(&bob), &bound), ["alice", ISSUER, "jwt"]);
        is_denied(&mut tunnel.agent_with(&ca.certifies(BOB)), &bound, 401, "invalid_token");
        tunnel.end();
    }
}

/// A caller of whom nothing is known is not told to the server as somebody else by what it sends itself.
#[test]
fn anonymous_callers_get_no_identity_header() {
    let ca = Ca::new();
    let alice = ca.certifies(ALICE);
    let header = IdentityHeader { name: "X-Caller".into(), signer: Arc::new(IdentitySigner::new(&[7; 32])) };
    let forged = "X-Caller: eve\r\nx_caller: eve\r\nX-CALLER: eve\r\n";
    for (driver, traffic, at_edge) in [PLACES[0], PLACES[5]] {
        let got = Got::default();
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
        let terms = AuthTerms {
            is_terminated: false,
            authorization: None,
            identity_header: Some(header.clone()),
            ..terms(&[])
        };
        let auth = RouteAuth::new(terms, Vec::new()).without_tokens().with_certificates(ca.terms(false));
        tunnel.authorize(at_edge, Some(&Arc::new(auth)));
        is_answered(&mut tunnel.agent_with(&alice), forged);
        assert_eq!(caller_claims(&got)["sub"], ALICE);
        is_answered(&mut tunnel.agent(), forged);
        let passed = got.lock().unwrap().pop().unwrap();
        assert!(!passed.to_lowercase().replace('_', "-").contains("x-caller"), "{traffic:?}: {passed}");
        tunnel.end();
    }
}
