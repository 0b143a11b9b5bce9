//! Introspected tokens: an answer is checked like the claims of a signed token, and tokens of other issuers are never
//! sent.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};

use super::signer::Signer;
use super::*;
use crate::policy::{AgentIdentity, IdentityProof};

const ISSUER: &str = "https://login.example/realms/demo";
const RESOURCE: &str = "https://demo.example.com/mcp";
const NOW: u64 = 1_900_000_000;
const LEEWAY: u64 = 30;
/// How long an answer is valid, in seconds.
const CACHE: u64 = 60;

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn issuer(name: &str, check: TokenCheck) -> Arc<TokenIssuer> {
    let rules = TokenRules {
        issuer: name.into(),
        audiences: [].into(),
        algorithms: [TokenAlgorithm::EdDsa].into(),
        types: ["at+jwt".into()].into(),
        leeway: at(LEEWAY),
    };
    Arc::new(TokenIssuer { name: "demo".into(), rules, check, refresh: at(600), grace: at(600) })
}

fn auth(issuers: Vec<Arc<TokenIssuer>>) -> Arc<RouteAuth> {
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes: ["tickets:read".into()].into(),
        is_terminated: false,
        authorization: None,
        identity_header: None,
    };
    Arc::new(RouteAuth::new(terms, issuers))
}

fn asked() -> (Arc<Introspection>, Arc<RouteAuth>) {
    let answers: Arc<Introspection> = Arc::default();
    let auth = auth(vec![issuer(ISSUER, TokenCheck::Introspection(Arc::clone(&answers)))]);
    (answers, auth)
}

fn claims() -> Value {
    json!({
        "active": true, "iss": ISSUER, "sub": "alice", "aud": RESOURCE, "exp": NOW + 300, "nbf": NOW - 1,
        "client_id": "agent-7", "scope": "tickets:read tickets:write", "groups": ["support"],
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

/// Answers the only pending question. Returns the token in it.
fn answer(answers: &Arc<Introspection>, claims: &Value, now: u64) -> String {
    let Poll::Ready(question) = answers.poll_question(&Context::from_waker(Waker::noop())) else {
        panic!("no question is pending")
    };
    let token = String::from_utf8(question.token().expose().to_vec()).unwrap();
    match read_introspection(claims.to_string().as_bytes()) {
        Ok(Some((claims, len))) => question.accept(claims, (at(now), at(now + CACHE)), len),
        Ok(None) => question.refuse(at(now)),
        Err(_) => question.fail(at(now)),
    }
    token
}

fn is_quiet(answers: &Arc<Introspection>) -> bool {
    answers.poll_question(&Context::from_waker(Waker::noop())).is_pending()
}

fn shown(auth: &Arc<RouteAuth>, token: &str, now: u64) -> Result<Arc<AgentIdentity>, TokenRefusal> {
    VerifiedTokens::default().identify(auth, token.as_bytes(), None, at(now)).map(|shown| shown.identity)
}

fn awaits(found: &Result<Arc<AgentIdentity>, TokenRefusal>) -> bool {
    matches!(found, Err(TokenRefusal::Awaits(Awaited::Introspection { issuer: 0, .. })))
}

#[test]
fn a_token_is_introspected_once_and_identifies_the_caller() {
    let (answers, auth) = asked();
    assert!(awaits(&shown(&auth, "opaque", NOW)) && awaits(&shown(&auth, "opaque", NOW)));
    assert_eq!(answer(&answers, &claims(), NOW), "opaque");
    assert!(is_quiet(&answers));
    let identity = shown(&auth, "opaque", NOW + 1).unwrap();
    assert_eq!((&*identity.subject, identity.issuer.as_deref()), ("alice", Some(ISSUER)));
    assert_eq!((identity.client.as_deref(), identity.proof), (Some("agent-7"), IdentityProof::Introspection));
    assert_eq!(identity.claims["groups"], json!(["support"]));
    // Another token of the same caller needs its own answer.
    assert!(awaits(&shown(&auth, "opaque2", NOW)));
}

#[test]
fn claims_of_an_introspection_response_are_checked_like_signed_claims() {
    for (wrong, error) in [
        (with("aud", json!("https://demo.example.com/mcp/")), TokenError::Audience),
        (with("aud", json!("https://other.example.com")), TokenError::Audience),
        (with("aud", Value::Null), TokenError::Audience),
        (with("iss", json!("https://login.example/realms/other")), TokenError::Issuer),
        (with("iss", json!(7)), TokenError::Issuer),
        (with("exp", json!(NOW - LEEWAY)), TokenError::Expired),
        (with("exp", json!("tomorrow")), TokenError::Malformed),
        (with("nbf", json!(NOW + LEEWAY + 1)), TokenError::NotYet),
        (with("cnf", json!({"jkt": "x"})), TokenError::Bound),
        (with("token_use", json!("refresh_token")), TokenError::Type),
        (with("sub", json!("")), TokenError::Subject),
        (with("client_id", json!("x".repeat(2_000))), TokenError::Client),
        (json!({"active": false}), TokenError::Inactive),
    ] {
        let (answers, auth) = asked();
        assert!(awaits(&shown(&auth, "opaque", NOW)));
        answer(&answers, &wrong, NOW);
        assert_eq!(shown(&auth, "opaque", NOW), Err(TokenRefusal::Invalid(error)), "{wrong}");
        assert!(is_quiet(&answers), "{wrong}: it is not asked about again at once");
    }
    let (answers, auth) = asked();
    assert!(awaits(&shown(&auth, "opaque", NOW)));
    answer(&answers, &with("scope", json!("tickets:write")), NOW);
    assert_eq!(shown(&auth, "opaque", NOW), Err(TokenRefusal::Scope));
    // Members that are optional.
    for name in ["iss", "exp", "nbf", "sub"] {
        let (answers, auth) = asked();
        assert!(awaits(&shown(&auth, "opaque", NOW)));
        answer(&answers, &with(name, Value::Null), NOW);
        assert!(shown(&auth, "opaque", NOW).is_ok(), "{name}");
    }
}

#[test]
fn a_revoked_token_stops_after_the_time_of_the_cache_and_no_token_outlives_its_end() {
    let (answers, auth) = asked();
    let mut tokens = VerifiedTokens::default();
    let mut identify = |now| tokens.identify(&auth, b"opaque", None, at(now)).map(|shown| shown.until);
    assert!(identify(NOW).is_err());
    answer(&answers, &claims(), NOW);
    // A stream lasts until the token expires.
    assert_eq!(identify(NOW + CACHE - 1).unwrap(), at(NOW + 300 + LEEWAY));
    assert!(matches!(identify(NOW + CACHE), Err(TokenRefusal::Awaits(_))));
    answer(&answers, &with("exp", json!(NOW + 62)), NOW + CACHE);
    assert!(identify(NOW + 62 + LEEWAY - 1).is_ok());
    assert_eq!(identify(NOW + 62 + LEEWAY), Err(TokenRefusal::Invalid(TokenError::Expired)));
    // The clock was set back to before the answer.
    assert!(matches!(identify(NOW + CACHE - 1), Err(TokenRefusal::Awaits(_))));
    answer(&answers, &json!({"active": false}), NOW + CACHE - 1);
    assert_eq!(identify(NOW + CACHE - 1), Err(TokenRefusal::Invalid(TokenError::Inactive)));
    let (answers, auth) = asked();
    let mut tokens = VerifiedTokens::default();
    assert!(tokens.identify(&auth, b"opaque", None, at(NOW)).is_err());
    answer(&answers, &with("exp", Value::Null), NOW);
    let until = tokens.identify(&auth, b"opaque", None, at(NOW)).map(|shown| shown.until);
    assert_eq!(until, Ok(at(NOW + CACHE)), "without an expiry a stream ends with the answer");
}

#[test]
fn without_an_answer_a_token_that_was_good_is_not_good_any_longer() {
    let (answers, auth) = asked();
    assert!(awaits(&shown(&auth, "opaque", NOW)));
    answer(&answers, &json!("no answer"), NOW);
    assert_eq!(shown(&auth, "opaque", NOW + 1), Err(TokenRefusal::NoIntrospection));
    assert!(awaits(&shown(&auth, "opaque", NOW + 2)));
    answer(&answers, &claims(), NOW + 2);
    assert!(shown(&auth, "opaque", NOW + 3).is_ok());
    assert!(awaits(&shown(&auth, "opaque", NOW + 2 + CACHE)));
    answer(&answers, &json!("no answer"), NOW + 2 + CACHE);
    assert_eq!(shown(&auth, "opaque", NOW + 2 + CACHE), Err(TokenRefusal::NoIntrospection));
    for nth in 0..QUESTIONS_MAX {
        assert!(awaits(&shown(&auth, &nth.to_string(), NOW)));
    }
    assert_eq!(shown(&auth, "another", NOW), Err(TokenRefusal::NoIntrospection), "too many requests are queued");
}

/// The introspection server receives the token, and could use it.
#[test]
fn a_token_of_another_issuer_is_not_sent_to_introspection() {
    let (signer, evil) = (Signer::ed(), Signer::ed());
    let keys = KeySet::parse(json!({ "keys": [signer.jwk("k1")] }).to_string().as_bytes()).unwrap();
    let answers: Arc<Introspection> = Arc::default();
    let auth = auth(vec![
        issuer(ISSUER, TokenCheck::Introspection(Arc::clone(&answers))),
        issuer("https://signs.example", TokenCheck::Keys(KeyStore::fixed(keys))),
    ]);
    let signed = with("iss", json!("https://signs.example"));
    assert_eq!(shown(&auth, &signer.sign("k1", &signed, json!({})), NOW).unwrap().proof, IdentityProof::Jwt);
    let unknown = with("iss", json!("https://else.example"));
    for (token, error) in [
        (evil.sign("k1", &signed, json!({})), TokenError::Signature),
        (signer.sign("k1", &signed, json!({"alg": "none"})), TokenError::Algorithm),
        (signer.sign("k1", &signed, json!({"crit": ["x"]})), TokenError::Critical),
        (signer.sign("k1", &unknown, json!({})), TokenError::Issuer),
    ] {
        assert_eq!(shown(&auth, &token, NOW), Err(TokenRefusal::Invalid(error)));
    }
    for token in ["", "a b", "\u{e9}", "a\u{7f}", &"x".repeat(17 * 1024)] {
        assert!(matches!(shown(&auth, token, NOW), Err(TokenRefusal::Invalid(_))), "{token:.10}");
    }
    assert!(is_quiet(&answers));
    // The issuer is asked about its own tokens, whether they are signed or not, and whatever the signature is.
    let own = evil.sign("k9", &claims(), json!({}));
    assert!(awaits(&shown(&auth, &own, NOW)));
    assert_eq!(answer(&answers, &json!({"active": false}), NOW), own);
}
