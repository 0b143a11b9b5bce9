//! Servers that are told who calls.

use std::sync::Arc;

use adit::base::{Secret, Traffic};
use adit::engine::ladder::DriverChoice;
use adit::identity::{AuthTerms, IdentityHeader, IdentitySigner, KeyStore, RouteAuth};
use adit::policy::ToolPolicy;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::signer::{Signer, claims};
use super::{ISSUER, RESOURCE, auth, issuer, keys, shown, with};
use crate::policy::{Got, ask, call, serve};
use crate::support::Tunnel;

const FORGED: &str = "X-Caller: eve\r\nx_caller: eve\r\nX-CALLER: eve\r\n";

/// What the last request that a server got says of its caller, for this audience.
fn caller_claims(got: &Got, signer: &IdentitySigner, audience: &str) -> Option<(String, Value)> {
    let request = got.lock().unwrap().pop().unwrap();
    let lines = request.lines().filter(|line| line.to_lowercase().replace('_', "-").starts_with("x-caller:"));
    let [line] = lines.collect::<Vec<_>>()[..] else { panic!("one, which is not forged: {request}") };
    let text = line.strip_prefix("X-Caller: ").unwrap();
    let key: Jwk = serde_json::from_value(signer.public_key()).unwrap();
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["adit"]);
    rules.leeway = 0;
    let token = decode::<Value>(text, &DecodingKey::from_jwk(&key).unwrap(), &rules).ok()?;
    assert_eq!(token.header.kid.as_deref(), signer.public_key()["kid"].as_str());
    Some((text.to_owned(), token.claims))
}

#[test]
fn the_identity_header_cannot_be_forged_by_callers() {
    for (driver, traffic, at_edge, terminated) in [
        (DriverChoice::Epoll, Traffic::Plain, true, true),
        (DriverChoice::Uring, Traffic::Plain, false, true),
        (DriverChoice::Epoll, Traffic::Passthrough, false, false),
    ] {
        let place = format!("{driver:?} {traffic:?} at_edge={at_edge}");
        let (got, tokens) = (Got::default(), Signer::new("k1"));
        let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
        let issuer = issuer(KeyStore::fixed(keys(&[&tokens])));
        let signer = Arc::new(IdentitySigner::new(&[7; 32]));
        let authorization = terminated.then(|| Secret::from("Bearer of-the-server"));
        let terms = AuthTerms {
            is_terminated: terminated,
            authorization,
            identity_header: Some(IdentityHeader { name: "X-Caller".into(), signer: Arc::clone(&signer) }),
            ..auth(&issuer, None).terms().clone()
        };
        // printf %s open-sesame | sha256sum
        let policy = "[[key]]\nname = 'night-batch'\nsha256 = 'd7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7'\n";
        tunnel.govern(at_edge, &Arc::new(ToolPolicy::parse(policy).unwrap()));
        tunnel.authorize(at_edge, Some(&Arc::new(RouteAuth::new(terms, vec![Arc::clone(&issuer)]))));
        let call_as = |fields: &str| {
            let (head, answer) = ask(&mut tunnel.agent(), "/mcp", &format!("{FORGED}{fields}"), &call("get_a"));
            assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}");
        };

        let alice = shown(&tokens.sign(&claims(ISSUER, RESOURCE)));
        call_as(&alice);
        let has_token = got.lock().unwrap().last().unwrap().contains(alice.trim_end());
        assert_eq!(has_token, !terminated, "{place}: the token goes on where that is so");
        let (text, stated) = caller_claims(&got, &signer, RESOURCE).unwrap();
        assert_eq!((&stated["sub"], &stated["sub_iss"]), (&json!("alice"), &json!(ISSUER)), "{place}");
        assert_eq!(
            (&stated["client_id"], &stated["scope"], &stated["proof"]),
            (&json!("agent-7"), &json!("mcp:tools"), &json!("jwt"))
        );
        assert!(stated["exp"].as_u64().unwrap() - stated["iat"].as_u64().unwrap() <= 60, "{place}: {stated}");
        call_as(&alice);
        assert_eq!(caller_claims(&got, &signer, RESOURCE).unwrap().0, text, "{place}: it is not signed for each call");

        // It is for this resource only, and signed with this key only.
        call_as(&alice);
        assert!(caller_claims(&got, &signer, "https://mcp.test/mcp/").is_none());
        call_as(&alice);
        assert!(caller_claims(&got, &IdentitySigner::new(&[8; 32]), RESOURCE).is_none());

        call_as(&shown(&tokens.sign(&with("sub", json!("bob")))));
        assert_eq!(caller_claims(&got, &signer, RESOURCE).unwrap().1["sub"], "bob", "{place}");
        call_as("Authorization: Bearer open-sesame\r\n");
        let (_, stated) = caller_claims(&got, &signer, RESOURCE).unwrap();
        assert_eq!((&stated["sub"], &stated["proof"]), (&json!("night-batch"), &json!("key")), "{place}");
        tunnel.end();
    }
}
