//! Identities that edges forward: what a connector accepts, and what it refuses.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::forwarded_identity::FORWARDED_LEN_MAX;
use super::signer::Signer;
use super::*;
use crate::policy::{AgentIdentity, IdentityProof};

const EDGE: &str = "https://edge.example.com";
const RESOURCE: &str = "https://demo.example.com/mcp";
const LOGIN: &str = "https://login.example/realms/demo";
const NOW: u64 = 1_900_000_000;
const LEEWAY: u64 = 10;

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn edge_keys(seed: u8) -> Arc<ForwardingKeys> {
    Arc::new(ForwardingKeys::new([seed; IDENTITY_SEED_LEN], [seed + 100; IDENTITY_SEED_LEN]))
}

fn keys(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn edge(name: &str, issuer: &str, key: &Value, vouches_for: &[&str]) -> TrustedEdge {
    let rules = TokenRules {
        issuer: issuer.into(),
        audiences: [].into(),
        algorithms: [TokenAlgorithm::EdDsa].into(),
        types: [FORWARDED_TYPE.into()].into(),
        leeway: at(LEEWAY),
    };
    let check = TokenCheck::Keys(KeyStore::fixed(keys(std::slice::from_ref(key))));
    let issuer = TokenIssuer { name: name.into(), rules, check, refresh: at(600), grace: at(600) };
    TrustedEdge { issuer: Arc::new(issuer), vouches_for: vouches_for.iter().map(|name| Box::from(*name)).collect() }
}

fn terms(resource: &str, scopes: &[&str]) -> AuthTerms {
    AuthTerms {
        resource: resource.into(),
        scopes: scopes.iter().map(|scope| Box::from(*scope)).collect(),
        is_terminated: false,
        authorization: None,
        identity_header: None,
    }
}

/// A route of a connector that trusts these edges.
fn trusting(resource: &str, scopes: &[&str], edges: Vec<TrustedEdge>) -> Arc<RouteAuth> {
    let route = RouteAuth::new(terms(resource, scopes), Vec::new()).without_tokens();
    Arc::new(route.with_edges(EdgeTerms { is_required: true, edges: edges.into() }))
}

/// A route of an edge that forwards who calls, with these claims.
fn forwarding(keys: &Arc<ForwardingKeys>, claims: &[&str]) -> Arc<RouteAuth> {
    let claims = claims.iter().map(|name| Box::from(*name)).collect();
    let forwarder = IdentityForwarder { issuer: EDGE.into(), keys: Arc::clone(keys), claims };
    Arc::new(RouteAuth::new(terms(RESOURCE, &[]), Vec::new()).with_forwarder(forwarder))
}

fn alice() -> AgentIdentity {
    let claims = json!({"groups": ["support"], "roles": ["r"], "email": "alice@example.com"});
    AgentIdentity {
        subject: "alice".into(),
        issuer: Some(LOGIN.into()),
        client: Some("agent-7".into()),
        proof: IdentityProof::Jwt,
        scopes: ["mcp:tools".into(), "mcp:write".into()].into(),
        claims: Arc::new(claims.as_object().unwrap().clone()),
    }
}

fn forward(auth: &Arc<RouteAuth>, tokens: &mut VerifiedTokens, address: Option<IpAddr>, now: u64) -> Arc<str> {
    let credential = (ShownCredential::Token(b"token"), address);
    tokens.forward(auth, credential, &alice(), (at(now), at(NOW + 3_600))).unwrap().unwrap()
}

fn shown(auth: &Arc<RouteAuth>, token: &str, now: u64) -> Result<ShownToken, TokenRefusal> {
    VerifiedTokens::default().identify_forwarded(auth, token.as_bytes(), at(now))
}

fn refused(auth: &Arc<RouteAuth>, token: &str, now: u64) -> TokenError {
    match shown(auth, token, now) {
        Err(TokenRefusal::Forwarded(error)) => error,
        Err(other) => panic!("{other:?} for {token}"),
        Ok(_) => panic!("accepted: {token}"),
    }
}

/// What an edge may say, as claims of its own making.
fn claims() -> Value {
    json!({
        "iss": EDGE, "aud": RESOURCE, "sub": "alice", "iat": NOW, "exp": NOW + 60, "proof": "jwt", "sub_iss": LOGIN,
        "proof_exp": NOW + 3_600, "client_id": "agent-7", "scope": "mcp:tools", "addr": "192.0.2.7",
        "claims": {"groups": ["support"]},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn a_forwarded_identity_is_verified_and_names_the_edge() {
    let sent = edge_keys(1);
    let signer = sent.signer();
    let (sends, trusts) = (
        forwarding(&sent, &["groups"]),
        trusting(RESOURCE, &["mcp:tools"], vec![edge("front", EDGE, &signer.public_key(), &[LOGIN])]),
    );
    let address = "192.0.2.7".parse().ok();
    let token = forward(&sends, &mut VerifiedTokens::default(), address, NOW);
    let ShownToken { identity, until, address: shown_address, .. } = shown(&trusts, &token, NOW + 1).unwrap();
    assert_eq!((&*identity.subject, identity.issuer.as_deref()), ("alice", Some(LOGIN)));
    assert_eq!((identity.client.as_deref(), identity.proof), (Some("agent-7"), IdentityProof::Forwarded));
    assert_eq!((identity.forwarded_by(), identity.forwarded_proof()), (Some("front"), Some("jwt")));
    assert_eq!(*identity.scopes, ["mcp:tools".into(), "mcp:write".into()]);
    let wanted = json!({"groups": ["support"], "adit_edge": "front", "adit_proof": "jwt"});
    assert_eq!(Value::Object((*identity.claims).clone()), wanted, "no claim that was not named is forwarded");
    assert_eq!((until, shown_address), (at(NOW + 3_600), address), "streams last as long as the proof of the caller");
    // A scope that every caller needs is needed by these as well.
    let more = trusting(RESOURCE, &["mcp:admin"], vec![edge("front", EDGE, &signer.public_key(), &[])]);
    assert_eq!(shown(&more, &token, NOW).err(), Some(TokenRefusal::Scope));
}

#[test]
fn an_identity_of_another_route_edge_key_or_time_is_refused() {
    let (sent, other) = (edge_keys(1), edge_keys(2));
    let (signer, other) = (sent.signer(), other.signer());
    let key = signer.public_key();
    let token = forward(&forwarding(&sent, &[]), &mut VerifiedTokens::default(), None, NOW);
    let trusts = |resource, edges| trusting(resource, &[], edges);
    for resource in ["https://demo.example.com/mcp/", "https://demo.example.com/", "https://Demo.example.com/mcp"] {
        let elsewhere = trusts(resource, vec![edge("front", EDGE, &key, &[])]);
        assert_eq!(refused(&elsewhere, &token, NOW), TokenError::Audience, "{resource}");
    }
    let own = trusts(RESOURCE, vec![edge("front", EDGE, &key, &[])]);
    assert!(shown(&own, &token, NOW + 60 + LEEWAY - 1).is_ok());
    assert_eq!(refused(&own, &token, NOW + 60 + LEEWAY), TokenError::Expired);
    assert_eq!(refused(&own, &token, NOW - LEEWAY - 1), TokenError::NotYet);
    let foreign = trusts(RESOURCE, vec![edge("front", "https://other.example.com", &key, &[])]);
    assert_eq!(refused(&foreign, &token, NOW), TokenError::Issuer);
    let rotated = trusts(RESOURCE, vec![edge("front", EDGE, &other.public_key(), &[])]);
    assert_eq!(refused(&rotated, &token, NOW), TokenError::UnknownKey);
    let mut same_id = other.public_key();
    same_id["kid"] = key["kid"].clone();
    assert_eq!(
        refused(&trusts(RESOURCE, vec![edge("front", EDGE, &same_id, &[])]), &token, NOW),
        TokenError::Signature
    );
    let narrow = trusts(RESOURCE, vec![edge("front", EDGE, &key, &["https://elsewhere.example"])]);
    assert_eq!(refused(&narrow, &token, NOW), TokenError::Issuer, "it may not vouch for the callers of this issuer");
    // A route that trusts nobody accepts nothing.
    let none = Arc::new(RouteAuth::new(terms(RESOURCE, &[]), Vec::new()).without_tokens());
    assert_eq!(shown(&none, &token, NOW).err(), Some(TokenRefusal::NoForwarded));
    // The second of two edges is found as well, and is named.
    let two = vec![edge("a", "https://a.example", &other.public_key(), &[]), edge("front", EDGE, &key, &[])];
    assert_eq!(shown(&trusts(RESOURCE, two), &token, NOW).unwrap().identity.forwarded_by(), Some("front"));
}

#[test]
fn a_forwarded_identity_must_be_complete_and_short_lived() {
    let sent = edge_keys(1);
    let signer = sent.signer();
    let own = trusting(RESOURCE, &[], vec![edge("front", EDGE, &signer.public_key(), &[])]);
    let sign = |claims: &Value| signer.sign_token(FORWARDED_TYPE, claims);
    assert!(shown(&own, &sign(&claims()), NOW).is_ok());
    for (name, value, wanted) in [
        ("exp", Value::Null, TokenError::NoExpiry),
        ("exp", json!(NOW + 61), TokenError::LivesTooLong),
        ("iat", Value::Null, TokenError::Malformed),
        ("iat", json!(NOW + 3_000), TokenError::NotYet),
        ("iat", json!("now"), TokenError::Malformed),
        ("nbf", json!(NOW + 3_000), TokenError::NotYet),
        ("aud", json!([RESOURCE]), TokenError::Audience),
        ("aud", json!([RESOURCE, "https://other.example"]), TokenError::Audience),
        ("aud", Value::Null, TokenError::Audience),
        ("sub", Value::Null, TokenError::Subject),
        ("sub", json!(""), TokenError::Subject),
        ("sub", json!("x".repeat(1_025)), TokenError::Subject),
        ("sub", json!(7), TokenError::Subject),
        ("sub_iss", json!(7), TokenError::Malformed),
        ("client_id", json!("x".repeat(1_025)), TokenError::Malformed),
        ("proof", Value::Null, TokenError::Malformed),
        ("proof_exp", json!("never"), TokenError::Malformed),
        ("scope", json!(["mcp:tools"]), TokenError::Malformed),
        ("addr", json!("somewhere"), TokenError::Malformed),
        ("claims", json!(["groups"]), TokenError::Malformed),
        ("iss", json!("https://edge.example.com/"), TokenError::Issuer),
    ] {
        assert_eq!(refused(&own, &sign(&with(name, value.clone())), NOW), wanted, "{name} {value}");
    }
    let long = sign(&with("claims", json!({"groups": ["x".repeat(FORWARDED_LEN_MAX)]})));
    assert_eq!(refused(&own, &long, NOW), TokenError::TooLong);
    for garbage in ["", "a.b.c", "alice", &sign(&claims())[1..]] {
        assert_eq!(refused(&own, garbage, NOW), TokenError::Malformed, "{garbage}");
    }
    let good = sign(&claims());
    assert_eq!(refused(&own, &format!("{good} "), NOW), TokenError::Signature);
    let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let swapped = format!("{header}.{}.{signature}", super::signer::encoded(with("sub", json!("admin")).to_string()));
    assert_eq!(refused(&own, &swapped, NOW), TokenError::Signature);
    // The connector itself says who has vouched, whatever the edge says.
    let lies = with("claims", json!({"adit_edge": "another", "adit_proof": "certificate"}));
    let identity = shown(&own, &sign(&lies), NOW).unwrap().identity;
    assert_eq!((identity.forwarded_by(), identity.forwarded_proof()), (Some("front"), Some("jwt")));
}

#[test]
fn no_other_token_is_taken_for_a_forwarded_identity_and_it_for_no_other() {
    let sent = edge_keys(1);
    let signer = sent.signer();
    let key = signer.public_key();
    // The token that a server gets is signed by an edge, too, and here even with the same key.
    let header = signer.sign(&alice(), RESOURCE, (at(NOW), at(NOW + 60)));
    let own = trusting(RESOURCE, &[], vec![edge("front", "adit", &key, &[])]);
    assert_eq!(refused(&own, &header.text, NOW), TokenError::Type);
    // An access token of a provider with the same name and keys.
    let access = Signer::ed();
    let of_login = trusting(RESOURCE, &[], vec![edge("front", EDGE, &access.jwk("k1"), &[])]);
    for (kind, wanted) in [("JWT", TokenError::Type), ("at+jwt", TokenError::Type), ("adit-caller", TokenError::Type)] {
        let token = access.sign("k1", &claims(), json!({ "typ": kind }));
        assert_eq!(refused(&of_login, &token, NOW), wanted, "{kind}");
    }
    for algorithm in ["none", "HS256", "ES256"] {
        let token = access.sign("k1", &claims(), json!({"typ": FORWARDED_TYPE, "alg": algorithm}));
        assert_eq!(refused(&of_login, &token, NOW), TokenError::Algorithm, "{algorithm}");
    }
    let token = access.sign("k1", &claims(), json!({"typ": FORWARDED_TYPE, "crit": ["exp"]}));
    assert_eq!(refused(&of_login, &token, NOW), TokenError::Critical);
    // A route that accepts tokens of the same issuer, and trusts it as an edge: each proof is only what it is.
    let rules = TokenRules { types: ["jwt".into()].into(), ..edge("x", EDGE, &key, &[]).issuer.rules.clone() };
    let check = TokenCheck::Keys(KeyStore::fixed(keys(std::slice::from_ref(&key))));
    let provider = Arc::new(TokenIssuer { name: "x".into(), rules, check, refresh: at(600), grace: at(600) });
    let both = RouteAuth::new(terms(RESOURCE, &[]), vec![provider]);
    let edges = [edge("front", EDGE, &key, &[])].into();
    let both = Arc::new(both.with_edges(EdgeTerms { is_required: false, edges }));
    let forwarded = forward(&forwarding(&sent, &[]), &mut VerifiedTokens::default(), None, NOW);
    let mut tokens = VerifiedTokens::default();
    for _ in 0..2 {
        let as_edge = tokens.identify_forwarded(&both, forwarded.as_bytes(), at(NOW));
        assert_eq!(as_edge.unwrap().identity.proof, IdentityProof::Forwarded);
        let as_token = tokens.identify(&both, forwarded.as_bytes(), None, at(NOW));
        assert_eq!(as_token.err(), Some(TokenRefusal::Invalid(TokenError::Type)), "an agent may have stolen it");
    }
}

#[test]
fn an_identity_is_signed_again_when_it_is_old_or_has_changed_and_not_for_each_call() {
    let sent = edge_keys(1);
    let signer = sent.signer();
    let (sends, mut tokens) = (forwarding(&sent, &["groups"]), VerifiedTokens::default());
    let [here, there] = ["192.0.2.7", "2001:db8::1"].map(|address| address.parse().ok());
    let first = forward(&sends, &mut tokens, here, NOW);
    assert!(Arc::ptr_eq(&first, &forward(&sends, &mut tokens, here, NOW + 29)));
    let elsewhere = forward(&sends, &mut tokens, there, NOW);
    assert!(*elsewhere != *first && Arc::ptr_eq(&elsewhere, &forward(&sends, &mut tokens, there, NOW + 1)));
    assert!(Arc::ptr_eq(&first, &forward(&sends, &mut tokens, here, NOW + 2)), "both are kept");
    assert_ne!(forward(&sends, &mut tokens, here, NOW + 30), first);
    assert_ne!(forward(&sends, &mut tokens, here, NOW - 5), first, "the clock was set back");
    let changed = AgentIdentity { scopes: [].into(), ..alice() };
    let credential = (ShownCredential::Token(b"token"), here);
    let again = tokens.forward(&sends, credential, &changed, (at(NOW - 5), at(NOW + 60))).unwrap().unwrap();
    let trusts = trusting(RESOURCE, &[], vec![edge("front", EDGE, &signer.public_key(), &[])]);
    assert!(shown(&trusts, &again, NOW).unwrap().identity.scopes.is_empty(), "the issuer says something else now");
    // A key and a token with the same text are not the same caller.
    let of_key = tokens.forward(&sends, (ShownCredential::Key(b"token"), here), &alice(), (at(NOW - 5), Duration::MAX));
    let of_key = of_key.unwrap().unwrap();
    assert_eq!(shown(&trusts, &of_key, NOW).unwrap().until, Duration::MAX);
    // A proof that ends soon is not forwarded for longer.
    let ending = (ShownCredential::Token(b"ending"), here);
    let ending = tokens.forward(&sends, ending, &alice(), (at(NOW), at(NOW + 5))).unwrap().unwrap();
    assert_eq!(refused(&trusts, &ending, NOW + 5 + LEEWAY), TokenError::Expired);
    // Nothing is left out silently.
    let long = forwarding(&sent, &["groups", "long"]);
    let mut identity = alice();
    Arc::make_mut(&mut identity.claims).insert("long".into(), json!("x".repeat(FORWARDED_LEN_MAX)));
    let credential = (ShownCredential::Token(b"long"), here);
    let refused = tokens.forward(&long, credential, &identity, (at(NOW), Duration::MAX));
    assert_eq!(refused.err(), Some(TokenRefusal::Unforwardable));
    // The cache does not grow with those who call.
    for nth in 0..10_000_u32 {
        tokens
            .forward(&sends, (ShownCredential::Key(&nth.to_le_bytes()), here), &alice(), (at(NOW), Duration::MAX))
            .unwrap();
    }
    assert_eq!(tokens.forwarded_held().0, 4_096);
}
