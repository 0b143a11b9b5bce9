//! Forged tokens of every known kind are refused.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::signer::{Signer, encoded};
use super::*;
use crate::base::Secret;
use crate::identity::token::TOKEN_LEN_MAX;
use crate::policy::IdentityProof;

const ISSUER: &str = "https://login.example/realms/demo";
const RESOURCE: &str = "https://demo.example.com/mcp";
const NOW: u64 = 1_900_000_000;
const LEEWAY: u64 = 30;

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn asymmetric() -> Vec<TokenAlgorithm> {
    TokenAlgorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_shared()).collect()
}

fn rules() -> TokenRules {
    TokenRules {
        issuer: ISSUER.into(),
        audiences: [].into(),
        algorithms: asymmetric().into(),
        types: ["at+jwt".into(), "jwt".into()].into(),
        leeway: at(LEEWAY),
    }
}

fn issuer(rules: TokenRules, keys: KeyStore) -> Arc<TokenIssuer> {
    Arc::new(TokenIssuer {
        name: "demo".into(),
        rules,
        check: TokenCheck::Keys(keys),
        refresh: at(600),
        grace: at(3_600),
    })
}

fn keys(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn auth_of(issuers: Vec<Arc<TokenIssuer>>, scopes: &[&str]) -> Arc<RouteAuth> {
    let scopes = scopes.iter().map(|scope| Box::from(*scope)).collect();
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes,
        is_terminated: false,
        authorization: None,
        identity_header: None,
    };
    Arc::new(RouteAuth::new(terms, issuers))
}

fn auth(signer: &Signer) -> Arc<RouteAuth> {
    auth_of(vec![issuer(rules(), KeyStore::fixed(keys(&[signer.jwk("k1")])))], &[])
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "alice", "aud": RESOURCE, "exp": NOW + 300, "nbf": NOW - 1, "iat": NOW - 1,
        "azp": "agent-7", "scope": "tickets:read tickets:write", "groups": ["support"],
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

fn shown(auth: &Arc<RouteAuth>, token: &str, now: u64) -> Result<Arc<crate::policy::AgentIdentity>, TokenRefusal> {
    VerifiedTokens::default().identify(auth, token.as_bytes(), None, at(now)).map(|shown| shown.identity)
}

fn refused(auth: &Arc<RouteAuth>, token: &str) -> TokenError {
    match shown(auth, token, NOW) {
        Err(TokenRefusal::Invalid(error)) => error,
        other => panic!("{other:?} for {token}"),
    }
}

#[test]
fn a_valid_token_of_each_algorithm_identifies_the_caller() {
    for signer in [Signer::rsa(), Signer::pss(), Signer::ec(), Signer::ed()] {
        let identity = shown(&auth(&signer), &signer.sign("k1", &claims(), json!({})), NOW).unwrap();
        assert_eq!((&*identity.subject, identity.issuer.as_deref()), ("alice", Some(ISSUER)), "{}", signer.algorithm());
        assert_eq!((identity.client.as_deref(), identity.proof), (Some("agent-7"), IdentityProof::Jwt));
        assert_eq!(*identity.scopes, ["tickets:read".into(), "tickets:write".into()]);
        assert_eq!(identity.claims["groups"], json!(["support"]));
    }
}

#[test]
fn unsigned_tokens_are_refused_in_any_spelling_of_none() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    for name in ["none", "None", "NONE", "nOnE", "", "RS256 ", "rs256"] {
        let token = Signer::Nobody.sign("k1", &claims(), json!({ "alg": name }));
        assert_eq!(refused(&auth, &token), TokenError::Algorithm, "{name:?}");
        let signed = signer.sign("k1", &claims(), json!({ "alg": name }));
        assert_eq!(refused(&auth, &signed), TokenError::Algorithm, "{name:?}");
    }
    // The signature of a valid token is removed.
    let good = signer.sign("k1", &claims(), json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    assert_eq!(refused(&auth, &format!("{signed}.")), TokenError::Signature);
    assert_eq!(refused(&auth, signed), TokenError::Malformed);
}

/// The public key is not secret: it must never be used as a shared key.
#[test]
fn a_public_key_is_never_used_as_a_shared_one() {
    let signer = Signer::shared_rsa();
    let jwk = signer.jwk("k1");
    let mut all = rules();
    all.algorithms = TokenAlgorithm::ALL.into();
    let careless = auth_of(vec![issuer(all, KeyStore::fixed(keys(std::slice::from_ref(&jwk))))], &[]);
    for secret in [jwk["n"].as_str().unwrap().to_owned(), jwk.to_string(), String::new()] {
        let token = Signer::Hmac(secret.into_bytes()).sign("k1", &claims(), json!({}));
        assert_eq!(refused(&auth(signer), &token), TokenError::Algorithm);
        assert_eq!(refused(&careless, &token), TokenError::Signature, "even where HS256 is accepted");
    }
    // A shared key in a fetched set is ignored.
    let secret = Signer::Hmac(b"0123456789abcdef0123456789abcdef".to_vec());
    let mixed = keys(&[secret.jwk("k1"), signer.jwk("k2")]);
    assert_eq!(mixed.key_count(), 1);
    let mut all = rules();
    all.algorithms = TokenAlgorithm::ALL.into();
    let mixed = auth_of(vec![issuer(all, KeyStore::fixed(mixed))], &[]);
    assert_eq!(refused(&mixed, &secret.sign("k1", &claims(), json!({}))), TokenError::UnknownKey);
}

#[test]
fn a_shared_key_works_where_it_is_configured_and_for_nothing_else() {
    let secret = b"0123456789abcdef0123456789abcdef".to_vec();
    let set = KeySet::shared(&Secret::new(secret.clone())).unwrap();
    assert_eq!(KeySet::shared(&Secret::new(vec![1; 31])), Err(KeySetError::ShortKey(31)));
    let mut own = rules();
    own.algorithms = [TokenAlgorithm::Hs256].into();
    let auth = auth_of(vec![issuer(own, KeyStore::fixed(set))], &[]);
    assert!(shown(&auth, &Signer::Hmac(secret).sign("any", &claims(), json!({})), NOW).is_ok());
    let other = Signer::Hmac(vec![2; 32]).sign("any", &claims(), json!({}));
    assert_eq!(refused(&auth, &other), TokenError::UnknownKey);
    assert_eq!(
        refused(&auth, &Signer::shared_rsa().sign("k1", &claims(), json!({}))),
        TokenError::Algorithm,
        "what is not listed is not accepted"
    );
}

#[test]
fn the_id_of_a_key_is_a_name_and_nothing_else() {
    let (signer, other) = (Signer::shared_rsa(), Signer::ec());
    let auth = auth_of(vec![issuer(rules(), KeyStore::fixed(keys(&[signer.jwk("k1"), other.jwk("k2")])))], &[]);
    for id in ["../../dev/null", "k1' OR '1'='1", "/etc/passwd", "http://evil.example/key", "k1\0", "K1", "k1 "] {
        assert_eq!(refused(&auth, &signer.sign(id, &claims(), json!({}))), TokenError::UnknownKey, "{id}");
    }
    for id in [json!(["k1"]), json!({"k1": 1}), json!(1), json!("k".repeat(257))] {
        let token = signer.sign("k1", &claims(), json!({ "kid": id }));
        assert_eq!(refused(&auth, &token), TokenError::Malformed);
    }
    // The id of the other key, with a different algorithm.
    assert_eq!(refused(&auth, &signer.sign("k2", &claims(), json!({}))), TokenError::Signature);
    assert!(shown(&auth, &signer.sign("k1", &claims(), json!({ "kid": null })), NOW).is_ok(), "a key id is optional");
}

#[test]
fn keys_that_a_token_brings_itself_are_not_looked_at() {
    let (good, evil) = (Signer::shared_rsa(), Signer::rsa());
    let auth = auth(good);
    for more in [
        json!({ "jwk": evil.jwk("k1") }),
        json!({ "jku": "https://evil.example/jwks.json" }),
        json!({ "x5u": "https://evil.example/cert.pem" }),
        json!({ "x5c": ["MIIB"] }),
        json!({ "x5t": "AAAA", "x5t#S256": "AAAA" }),
    ] {
        assert_eq!(refused(&auth, &evil.sign("k1", &claims(), more.clone())), TokenError::Signature, "{more}");
        let unknown = evil.sign("evil", &claims(), more.clone());
        assert_eq!(refused(&auth, &unknown), TokenError::UnknownKey, "{more}");
        assert!(shown(&auth, &good.sign("k1", &claims(), more), NOW).is_ok(), "they are ignored");
    }
}

#[test]
fn a_signature_holds_for_these_bytes_and_this_key_alone() {
    let signer = Signer::ec();
    let auth = auth(&signer);
    let good = signer.sign("k1", &claims(), json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    assert_eq!(refused(&auth, &Signer::ec().sign("k1", &claims(), json!({}))), TokenError::Signature);
    let root = encoded(with("sub", json!("root")).to_string());
    assert_eq!(refused(&auth, &format!("{}.{root}.{}", parts[0], parts[2])), TokenError::Signature);
    let header = encoded(json!({"alg": "ES256", "typ": "jwt", "kid": "k1"}).to_string());
    assert_eq!(refused(&auth, &format!("{header}.{}.{}", parts[1], parts[2])), TokenError::Signature);
    // All zeros: a careless ECDSA implementation accepts that signature for every message.
    let zeros = encoded([0; 64]);
    assert_eq!(refused(&auth, &format!("{}.{}.{zeros}", parts[0], parts[1])), TokenError::Signature);
    // A key with the same id, for another algorithm.
    let mut jwk = signer.jwk("k1");
    jwk["alg"] = json!("ES384");
    assert!(KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).is_err());
}

#[test]
fn an_audience_is_compared_byte_for_byte() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let of = |audience: Value| signer.sign("k1", &with("aud", audience), json!({}));
    for audience in [
        json!("https://demo.example.com/mcp/"),
        json!("https://demo.example.com"),
        json!("https://demo.example.com/MCP"),
        json!("https://DEMO.example.com/mcp"),
        json!("HTTPS://demo.example.com/mcp"),
        json!("http://demo.example.com/mcp"),
        json!("https://demo.example.com:443/mcp"),
        json!("https://demo.example.com/mcp?"),
        json!("https://demo.example.com/mcp "),
        json!("https://demo.example.com.evil.example/mcp"),
        json!("*"),
        json!(""),
        json!([]),
        json!(["https://other.example/mcp"]),
        json!([["https://demo.example.com/mcp"]]),
        json!([RESOURCE, 1]),
        json!({ RESOURCE: true }),
        json!(vec![RESOURCE; 300]),
        Value::Null,
    ] {
        assert_eq!(refused(&auth, &of(audience.clone())), TokenError::Audience, "{audience}");
    }
    assert!(shown(&auth, &of(json!(["other", RESOURCE])), NOW).is_ok());
    let mut own = rules();
    own.audiences = ["api://demo".into()].into();
    let own = auth_of(vec![issuer(own, KeyStore::fixed(keys(&[signer.jwk("k1")])))], &[]);
    assert!(shown(&own, &of(json!("api://demo")), NOW).is_ok());
    assert_eq!(refused(&own, &of(json!(RESOURCE))), TokenError::Audience, "only the configured audiences");
}

#[test]
fn an_issuer_is_compared_byte_for_byte_and_has_its_own_keys() {
    let (one, two) = (Signer::shared_rsa(), Signer::ec());
    let other = TokenRules { issuer: "https://other.example".into(), ..rules() };
    let issuers = vec![
        issuer(rules(), KeyStore::fixed(keys(&[one.jwk("k1")]))),
        issuer(other, KeyStore::fixed(keys(&[two.jwk("k1")]))),
    ];
    let auth = auth_of(issuers, &[]);
    for named in [format!("{ISSUER}/"), ISSUER.to_uppercase(), String::new(), "https://evil.example".to_owned()] {
        let token = one.sign("k1", &with("iss", json!(named)), json!({}));
        assert_eq!(refused(&auth, &token), TokenError::Issuer, "{named}");
    }
    for named in [Value::Null, json!([ISSUER]), json!(1)] {
        assert_eq!(refused(&auth, &one.sign("k1", &with("iss", named), json!({}))), TokenError::Issuer);
    }
    let of_two = with("iss", json!("https://other.example"));
    assert!(shown(&auth, &two.sign("k1", &of_two, json!({})), NOW).is_ok());
    // An issuer cannot speak for another.
    assert_eq!(refused(&auth, &two.sign("k1", &claims(), json!({}))), TokenError::Signature);
    assert_eq!(refused(&auth, &one.sign("k1", &of_two, json!({}))), TokenError::Signature);
}

#[test]
fn a_token_holds_within_its_time_and_the_leeway() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let token = signer.sign("k1", &with("exp", json!(NOW)), json!({}));
    for (now, holds) in [(NOW - 1, true), (NOW + LEEWAY - 1, true), (NOW + LEEWAY, false), (NOW + LEEWAY + 1, false)] {
        assert_eq!(shown(&auth, &token, now).is_ok(), holds, "{now}");
    }
    let early = signer.sign("k1", &with("nbf", json!(NOW)), json!({}));
    for (now, holds) in [(NOW - LEEWAY - 1, false), (NOW - LEEWAY, true), (NOW, true)] {
        assert_eq!(shown(&auth, &early, now).is_ok(), holds, "{now}");
    }
    for (name, value, error) in [
        ("exp", Value::Null, TokenError::NoExpiry),
        ("exp", json!("9999999999"), TokenError::Malformed),
        ("exp", json!(-1), TokenError::Malformed),
        ("exp", json!(1e300), TokenError::Malformed),
        ("exp", json!([NOW + 1]), TokenError::Malformed),
        ("exp", json!(true), TokenError::Malformed),
        ("nbf", json!("0"), TokenError::Malformed),
        ("nbf", json!(NOW + LEEWAY + 1), TokenError::NotYet),
    ] {
        assert_eq!(refused(&auth, &signer.sign("k1", &with(name, value), json!({}))), error, "{name}");
    }
    let fraction = signer.sign("k1", &with("exp", json!(NOW as f64 + 0.5)), json!({}));
    assert!(shown(&auth, &fraction, NOW).is_ok());
}

#[test]
fn a_cached_token_expires_at_its_own_expiry() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let token = signer.sign("k1", &with("exp", json!(NOW + 10)), json!({}));
    let mut tokens = VerifiedTokens::default();
    let mut identify = |now| tokens.identify(&auth, token.as_bytes(), None, at(now)).map(|shown| shown.identity);
    let first = identify(NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &identify(NOW + 1).unwrap()), "the second time costs a look-up");
    assert!(identify(NOW + 9 + LEEWAY).is_ok());
    assert_eq!(identify(NOW + 10 + LEEWAY), Err(TokenRefusal::Invalid(TokenError::Expired)));
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    for more in
        [json!({"crit": ["exp"]}), json!({"crit": ["b64"], "b64": false}), json!({"crit": []}), json!({"crit": "x"})]
    {
        assert_eq!(refused(&auth, &signer.sign("k1", &claims(), more)), TokenError::Critical);
    }
}

#[test]
fn a_token_of_another_type_is_no_access_token() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let of = |kind: Value| signer.sign("k1", &claims(), json!({ "typ": kind }));
    for kind in [
        json!("at+jwt"),
        json!("AT+JWT"),
        json!("application/at+jwt"),
        json!("Application/At+Jwt"),
        json!("JWT"),
        Value::Null,
    ] {
        assert!(shown(&auth, &of(kind.clone()), NOW).is_ok(), "{kind}");
    }
    for kind in [json!("dpop+jwt"), json!("logout+jwt"), json!("secevent+jwt"), json!("at+jwt ")] {
        assert_eq!(refused(&auth, &of(kind.clone())), TokenError::Type, "{kind}");
    }
    let mut strict = rules();
    strict.types = ["at+jwt".into()].into();
    let strict = auth_of(vec![issuer(strict, KeyStore::fixed(keys(&[signer.jwk("k1")])))], &[]);
    assert!(shown(&strict, &of(json!("at+jwt")), NOW).is_ok());
    for kind in [json!("JWT"), Value::Null] {
        assert_eq!(refused(&strict, &of(kind)), TokenError::Type);
    }
}

#[test]
fn ambiguous_tokens_are_refused() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let (header, body) = (r#"{"alg":"RS256","kid":"k1"}"#, claims().to_string());
    let twice = |name: &str, value: &str| format!(r#"{{"{name}":{value},{}"#, &body[1..]);
    for (header, claims) in [
        (header.to_owned(), twice("sub", "\"root\"")),
        (header.to_owned(), twice("su\\u0062", "\"root\"")),
        (header.to_owned(), twice("aud", "\"x\"")),
        (header.to_owned(), twice("exp", "9999999999")),
        (r#"{"alg":"none","alg":"RS256","kid":"k1"}"#.to_owned(), body.clone()),
        (r#"{"alg":"RS256","kid":"k1","kid":"k2"}"#.to_owned(), body.clone()),
        (format!("{header} {header}"), body.clone()),
        (format!("\u{feff}{header}"), body.clone()),
        ("[]".to_owned(), body.clone()),
        (header.to_owned(), format!("[{body}]")),
        (header.to_owned(), format!("{body}garbage")),
        (header.to_owned(), String::new()),
    ] {
        assert_eq!(refused(&auth, &signer.sign_texts(&header, &claims)), TokenError::Malformed, "{header} {claims}");
    }
    let good = signer.sign_texts(header, &body);
    assert!(shown(&auth, &good, NOW).is_ok());
    for token in [
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.x.y"),
        good.replacen('.', "=.", 1),
        format!(" {good}"),
        good.replacen('.', "\n.", 1),
        String::new(),
        "..".to_owned(),
        "é.é.é".to_owned(),
    ] {
        assert_eq!(refused(&auth, &token), TokenError::Malformed, "{token}");
    }
    assert!(matches!(
        VerifiedTokens::default().identify(&auth, b"\xff.\xff.\xff", None, at(NOW)).map(|shown| shown.identity),
        Err(TokenRefusal::Invalid(TokenError::Malformed))
    ));
    // Only the last characters of the signature differ, in bits that are not significant.
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let last = signature.chars().last().unwrap();
    for other in ["A", "B", "C", "D", "E", "F", "g", "w", "x", "_"].iter().filter(|other| !other.starts_with(last)) {
        let token = format!("{signed}.{}{other}", &signature[..signature.len() - 1]);
        assert_eq!(refused(&auth, &token), TokenError::Signature);
    }
}

#[test]
fn a_token_without_end_is_refused_before_it_is_read() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    let long = signer.sign("k1", &with("more", json!("x".repeat(TOKEN_LEN_MAX))), json!({}));
    assert_eq!(refused(&auth, &long), TokenError::TooLong);
    let header = signer.sign("k1", &claims(), json!({ "more": "x".repeat(4_096) }));
    assert_eq!(refused(&auth, &header), TokenError::TooLong);
    let deep = format!(r#"{{"a":{}{},{}"#, "[".repeat(2_000), "]".repeat(2_000), &claims().to_string()[1..]);
    let deep = signer.sign_texts(r#"{"alg":"RS256","kid":"k1"}"#, &deep);
    assert_eq!(refused(&auth, &deep), TokenError::Malformed);
    let wide = with("scope", json!("s ".repeat(3_000)));
    let identity = shown(&auth, &signer.sign("k1", &wide, json!({})), NOW).unwrap();
    assert_eq!(identity.scopes.len(), 256);
}

#[test]
fn a_subject_is_needed_and_scopes_are_read_as_the_issuers_write_them() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    for subject in [json!(""), json!(7), json!(["alice"]), json!("x".repeat(2_000))] {
        assert_eq!(refused(&auth, &signer.sign("k1", &with("sub", subject), json!({}))), TokenError::Subject);
    }
    let mut service = with("sub", Value::Null);
    let of_client = shown(&auth, &signer.sign("k1", &service, json!({})), NOW).unwrap();
    assert_eq!((&*of_client.subject, of_client.client.as_deref()), ("agent-7", Some("agent-7")));
    service.as_object_mut().unwrap().remove("azp");
    assert_eq!(refused(&auth, &signer.sign("k1", &service, json!({}))), TokenError::Subject);
    for name in ["azp", "client_id", "cid", "appid"] {
        let mut claims = with("azp", Value::Null);
        claims[name] = json!("x".repeat(1_025));
        assert_eq!(refused(&auth, &signer.sign("k1", &claims, json!({}))), TokenError::Client, "{name}");
        claims[name] = json!("x".repeat(1_024));
        assert!(shown(&auth, &signer.sign("k1", &claims, json!({})), NOW).is_ok(), "{name}");
    }
    for (name, value) in [("scope", json!("a b")), ("scp", json!("a b")), ("scp", json!(["a", "b"]))] {
        let mut claims = with("scope", Value::Null);
        claims[name] = value;
        let identity = shown(&auth, &signer.sign("k1", &claims, json!({})), NOW).unwrap();
        assert_eq!(*identity.scopes, ["a".into(), "b".into()], "{name}");
    }
}

/// A thief of the token does not have its key (RFC 9449, RFC 8705).
#[test]
fn a_token_that_is_bound_to_a_key_is_not_taken_from_a_bearer() {
    let signer = Signer::shared_rsa();
    let auth = auth(signer);
    for bound in [
        json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}),
        json!({"x5t#S256": "AAAA"}),
        json!({}),
        json!("x"),
    ] {
        let token = signer.sign("k1", &with("cnf", bound.clone()), json!({}));
        assert_eq!(refused(&auth, &token), TokenError::Bound, "{bound}");
        let message = auth.challenge(TokenRefusal::Invalid(TokenError::Bound));
        assert!(message.contains("error=\"invalid_token\"") && message.contains("is bound to a key"), "{message}");
    }
}

#[test]
fn a_scope_that_all_callers_need_is_asked_for() {
    let signer = Signer::shared_rsa();
    let issuer = issuer(rules(), KeyStore::fixed(keys(&[signer.jwk("k1")])));
    let auth = auth_of(vec![issuer], &["tickets:read", "admin"]);
    let few = signer.sign("k1", &claims(), json!({}));
    assert_eq!(shown(&auth, &few, NOW), Err(TokenRefusal::Scope));
    assert_eq!(
        auth.challenge(TokenRefusal::Scope),
        "Bearer resource_metadata=\"https://demo.example.com/.well-known/oauth-protected-resource/mcp\", \
         error=\"insufficient_scope\", error_description=\"the token lacks a scope\", scope=\"tickets:read admin\""
    );
    let all = signer.sign("k1", &with("scope", json!("admin x tickets:read")), json!({}));
    assert!(shown(&auth, &all, NOW).is_ok());
    let metadata: Value = serde_json::from_str(auth.metadata()).unwrap();
    assert_eq!(
        metadata,
        json!({
            "resource": RESOURCE, "authorization_servers": [ISSUER], "bearer_methods_supported": ["header"],
            "scopes_supported": ["tickets:read", "admin"],
        })
    );
}

#[test]
fn key_rotation_drops_cached_tokens_of_the_old_keys() {
    let (old, new) = (Signer::ec(), Signer::ec());
    let store = issuer(rules(), KeyStore::fetched(at(15)));
    let auth = auth_of(vec![Arc::clone(&store)], &[]);
    let mut tokens = VerifiedTokens::default();
    let by_old = old.sign("old", &claims(), json!({}));
    let by_new = new.sign("new", &claims(), json!({}));
    let mut identify = |token: &str, now| tokens.identify(&auth, token.as_bytes(), None, at(now)).map(|_| ());
    // Before the first fetch ends, all calls wait for it.
    assert!(matches!(identify(&by_old, NOW), Err(TokenRefusal::Awaits(Awaited::Keys { issuer: 0, .. }))));
    store.keys().unwrap().on_failed(at(NOW));
    assert_eq!(identify(&by_old, NOW + 1), Err(TokenRefusal::NoKeys), "no fetch is requested again at once");
    store.keys().unwrap().publish(keys(&[old.jwk("old")]), at(NOW + 15));
    assert_eq!(identify(&by_old, NOW + 16), Ok(()));
    assert_eq!(identify(&by_new, NOW + 16), Err(TokenRefusal::Invalid(TokenError::UnknownKey)));
    assert!(matches!(identify(&by_new, NOW + 30), Err(TokenRefusal::Awaits(_))));
    store.keys().unwrap().publish(keys(&[new.jwk("new")]), at(NOW + 31));
    assert_eq!(identify(&by_new, NOW + 31), Ok(()));
    assert_eq!(identify(&by_old, NOW + 32), Err(TokenRefusal::Invalid(TokenError::UnknownKey)));
    // The issuer was unreachable for longer than its grace period.
    store.keys().unwrap().lose();
    assert_eq!(identify(&by_new, NOW + 33), Err(TokenRefusal::NoKeys));
}

/// Anybody can make a token that matches no key. Only one with an unknown key id, which may be new, triggers a fetch.
#[test]
fn a_token_that_names_no_new_key_causes_no_fetch() {
    let (own, evil) = (Signer::ec(), Signer::ec());
    let store = issuer(rules(), KeyStore::fetched(at(15)));
    let auth = auth_of(vec![Arc::clone(&store)], &[]);
    store.keys().unwrap().publish(keys(&[own.jwk("k1"), Signer::shared_rsa().jwk("k2")]), at(NOW));
    let later = NOW + 100;
    for id in [Value::Null, json!("k1"), json!("k2")] {
        let token = evil.sign("k1", &claims(), json!({ "kid": id }));
        assert_eq!(shown(&auth, &token, later), Err(TokenRefusal::Invalid(TokenError::Signature)), "{id}");
    }
    let cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(store.keys().unwrap().poll_asked(&cx).is_pending(), "no fetch is requested");
    assert!(matches!(shown(&auth, &evil.sign("k3", &claims(), json!({})), later), Err(TokenRefusal::Awaits(_))));
    assert!(store.keys().unwrap().poll_asked(&cx).is_ready());
    // After a failed fetch it is unknown whether that key exists: another token would not help.
    store.keys().unwrap().on_failed(at(later));
    assert_eq!(shown(&auth, &evil.sign("k3", &claims(), json!({})), later), Err(TokenRefusal::NoKeys));
    assert!(shown(&auth, &own.sign("k1", &claims(), json!({})), later).is_ok(), "known keys are used meanwhile");
}

#[test]
fn a_token_for_one_route_is_none_for_another_and_the_memory_has_an_end() {
    let signer = Signer::ed();
    let store = issuer(rules(), KeyStore::fixed(keys(&[signer.jwk("k1")])));
    let auth = auth_of(vec![Arc::clone(&store)], &[]);
    let terms = AuthTerms { resource: "https://other.example.com".into(), ..auth.terms().clone() };
    let other = Arc::new(RouteAuth::new(terms, vec![store]));
    let mut tokens = VerifiedTokens::default();
    let token = signer.sign("k1", &claims(), json!({}));
    assert!(tokens.identify(&auth, token.as_bytes(), None, at(NOW)).is_ok());
    let refused = tokens.identify(&other, token.as_bytes(), None, at(NOW)).map(|shown| shown.identity);
    assert_eq!(refused, Err(TokenRefusal::Invalid(TokenError::Audience)));
    for nth in 0..600 {
        let token = signer.sign("k1", &with("sub", json!(format!("{nth}{}", "x".repeat(900)))), json!({}));
        assert!(tokens.identify(&auth, token.as_bytes(), None, at(NOW)).is_ok());
    }
    let long = with("more", json!("x".repeat(10_000)));
    for nth in 0..400 {
        let mut claims = long.clone();
        claims["jti"] = json!(nth);
        assert!(tokens.identify(&auth, signer.sign("k1", &claims, json!({})).as_bytes(), None, at(NOW)).is_ok());
    }
    let (count, bytes) = tokens.held();
    assert!(count < 1_002 && bytes <= 16 * 1024 * 1024, "{count} tokens of {bytes} bytes");
    assert!(tokens.identify(&auth, token.as_bytes(), None, at(NOW)).is_ok());
    // Claims that take far more memory once parsed than in the token.
    for nth in 0..400 {
        let claims = with("many", json!(vec![0; 4_000]));
        let claims = claims.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.clone()));
        let claims: Value = claims.chain([("jti".to_owned(), json!(nth))]).collect::<serde_json::Map<_, _>>().into();
        assert!(tokens.identify(&auth, signer.sign("k1", &claims, json!({})).as_bytes(), None, at(NOW)).is_ok());
    }
    let (count, bytes) = tokens.held();
    assert!(count < 130 && bytes <= 16 * 1024 * 1024, "{count} tokens of {bytes} bytes");
}

#[test]
fn no_bytes_do_harm() {
    let signer = Signer::ed();
    let auth = auth(&signer);
    let good = signer.sign("k1", &claims(), json!({}));
    let mut rng = crate::base::Rng::new(13);
    let mut tokens = VerifiedTokens::default();
    for _ in 0..5_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..=rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] = rng.next_u64() as u8;
        }
        if bytes != good.as_bytes() {
            assert!(tokens.identify(&auth, &bytes, None, at(NOW)).is_err(), "{}", bytes.escape_ascii());
        }
    }
    let set = json!({ "keys": [signer.jwk("k1"), Signer::shared_rsa().jwk("k2")] }).to_string();
    for _ in 0..5_000 {
        let mut bytes = set.clone().into_bytes();
        let at = rng.below(bytes.len() as u64) as usize;
        bytes[at] = rng.next_u64() as u8;
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
        let _ = KeySet::parse(&bytes);
    }
    assert_eq!(KeySet::parse(&vec![b' '; KEY_SET_LEN_MAX + 1]), Err(KeySetError::TooLong));
    assert_eq!(KeySet::parse(b"{\"keys\":[]}"), Err(KeySetError::NoKeys));
    assert_eq!(KeySet::parse(b"{}"), Err(KeySetError::Malformed));
}
