//! What an access token costs a call: the first time, when its signature is verified, and from then on, when it is looked up.
//! `cargo bench --bench token`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit::identity::{
    AuthTerms, KeySet, KeyStore, RouteAuth, TokenAlgorithm, TokenCheck, TokenIssuer, TokenRules, VerifiedTokens,
};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RsaKeyPair};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

const ISSUER: &str = "https://login.example/realms/demo";
const RESOURCE: &str = "https://demo.example.com/mcp";
const NOW: Duration = Duration::from_secs(1_900_000_000);
const ROUNDS: u32 = 3_000;
/// What a key of RSA with 2,048 bits has in front of it in PKCS #8; the library takes the key itself (PKCS #1).
const PKCS8_HEAD_LEN: usize = 26;

fn main() {
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key").as_der().expect("its encoding");
    let all = [
        (Algorithm::ES256, EncodingKey::from_ec_der(ec.as_ref())),
        (Algorithm::RS256, EncodingKey::from_rsa_der(&rsa.as_ref()[PKCS8_HEAD_LEN..])),
    ];
    for (algorithm, key) in &all {
        let mut jwk = Jwk::from_encoding_key(key, *algorithm).expect("a public key");
        jwk.common.key_id = Some("k1".to_owned());
        let keys = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).expect("a set of keys");
        let auth = auth(keys);
        let claims = json!({
            "iss": ISSUER, "sub": "8d7a6a2e-0f7d-4b54-9d3c-6e6d4f0a1b2c", "aud": [RESOURCE], "exp": NOW.as_secs() + 300,
            "azp": "agent-7", "scope": "openid profile mcp:tools", "groups": ["support", "eu", "tickets"],
            "name": "Alice Example", "email": "alice@example.com",
        });
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(*algorithm) };
        let token = encode(&header, &claims, key).expect("a token");
        let first = each(|| {
            let verified = VerifiedTokens::default().identify(&auth, token.as_bytes(), None, NOW);
            assert!(black_box(verified).is_ok());
        });
        let mut tokens = VerifiedTokens::default();
        let again = each(|| assert!(black_box(tokens.identify(&auth, token.as_bytes(), None, NOW)).is_ok()));
        println!("{algorithm:?}, {} bytes: verified in {first:.1} µs, looked up in {again:.2} µs", token.len());
    }
}

fn auth(keys: KeySet) -> Arc<RouteAuth> {
    let issuer = TokenIssuer {
        name: "demo".into(),
        rules: TokenRules {
            issuer: ISSUER.into(),
            audiences: [].into(),
            algorithms: [TokenAlgorithm::Es256, TokenAlgorithm::Rs256].into(),
            types: ["jwt".into()].into(),
            leeway: Duration::from_secs(30),
        },
        check: TokenCheck::Keys(KeyStore::fixed(keys)),
        refresh: Duration::from_secs(600),
        grace: Duration::from_secs(600),
    };
    let scopes = ["mcp:tools".into()].into();
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes,
        is_terminated: false,
        authorization: None,
        identity_header: None,
    };
    Arc::new(RouteAuth::new(terms, vec![Arc::new(issuer)]))
}

/// How many microseconds one of them takes, in the best of ten rounds.
fn each(mut work: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..ROUNDS / 10).for_each(|_| work());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS / 10)
    };
    (0..10).map(round).fold(f64::INFINITY, f64::min)
}
