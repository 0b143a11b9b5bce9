//! Client certificates: which caller they prove, and which certificates are refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::signer::Signer;
use super::*;
use crate::base::sha256;
use crate::policy::{AgentIdentity, IdentityProof};

/// A time in 2030. Certificates in these tests are valid from 2029 to 2031 by default.
const NOW: u64 = 1_900_000_000;
const RESOURCE: &str = "https://demo.example.com/mcp";
const LOGIN: &str = "https://login.example";

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// A certificate authority with its key.
struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new(name: &str) -> Ca {
        let (mut params, key) = (params(name), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    /// An intermediate authority that this one has certified.
    fn below(&self, name: &str) -> Ca {
        let (mut params, key) = (params(name), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    fn signs(&self, params: &CertificateParams) -> CertificateDer<'static> {
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }

    fn accepted_as(&self, name: &str, named_by: CertificateName) -> Arc<ClientAuthority> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        Arc::new(ClientAuthority::new(name, verifier, named_by))
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2029, 1, 1);
    params.not_after = date_time_ymd(2031, 1, 1);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// The certificate parameters of a caller with this name.
fn caller(name: &str) -> CertificateParams {
    let mut params = params("agent");
    params.subject_alt_names = vec![uri(name)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn auth(authorities: Vec<Arc<ClientAuthority>>) -> Arc<RouteAuth> {
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes: [].into(),
        is_terminated: false,
        authorization: None,
        identity_header: None,
    };
    let certificates = CertificateTerms { is_required: true, authorities: authorities.into() };
    Arc::new(RouteAuth::new(terms, Vec::new()).without_tokens().with_certificates(certificates))
}

fn shown(chain: &[&CertificateDer<'static>]) -> Arc<ShownCertificates> {
    ShownCertificates::of(&chain.iter().map(|certificate| (*certificate).clone()).collect::<Vec<_>>()).unwrap()
}

fn identified(
    auth: &Arc<RouteAuth>,
    chain: &[&CertificateDer<'static>],
    now: u64,
) -> Result<Arc<AgentIdentity>, TokenRefusal> {
    let found = VerifiedTokens::default().identify_by_certificate(auth, &shown(chain), at(now));
    found.map(|shown| shown.identity)
}

fn refused(auth: &Arc<RouteAuth>, chain: &[&CertificateDer<'static>], now: u64) -> CertificateRefusal {
    match identified(auth, chain, now) {
        Err(TokenRefusal::Certificate(why)) => why,
        other => panic!("{:?}", other.map(|identity| identity.subject.to_string())),
    }
}

#[test]
fn a_certificate_identifies_its_subject_and_its_authority() {
    let ca = Ca::new("Partners");
    let mut params = caller("spiffe://partner.example/agent");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "batch");
    params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from("a.example").unwrap()));
    let certificate = ca.signs(&params);
    let auth = auth(vec![ca.accepted_as("partners", CertificateName::Uri)]);
    let identity = identified(&auth, &[&certificate], NOW).unwrap();
    assert_eq!(
        (&*identity.subject, identity.issuer.as_deref()),
        ("spiffe://partner.example/agent", Some("x509:partners"))
    );
    assert_eq!((identity.proof, identity.scopes.len()), (IdentityProof::Certificate, 0));
    assert_eq!(identity.claims["organizational_unit"], json!(["batch"]));
    assert_eq!(identity.claims["dns"], json!(["a.example"]));
    // The chain includes an intermediate authority of the caller's own organisation.
    let below = ca.below("Partners, below");
    let certificate = below.signs(&caller("spiffe://partner.example/other"));
    let identity = identified(&auth, &[&certificate, &below.certificate], NOW).unwrap();
    assert_eq!(&*identity.subject, "spiffe://partner.example/other");
    assert_eq!(refused(&auth, &[&certificate], NOW), CertificateRefusal::Authority);
}

#[test]
fn certificates_of_other_authorities_purposes_or_times_are_refused() {
    // Another authority with the same name.
    let (ca, evil) = (Ca::new("Partners"), Ca::new("Partners"));
    let auth = auth(vec![ca.accepted_as("partners", CertificateName::Uri)]);
    let good = caller("spiffe://partner.example/agent");
    assert_eq!(refused(&auth, &[&evil.signs(&good)], NOW), CertificateRefusal::Authority);
    assert_eq!(refused(&auth, &[&evil.signs(&good), &ca.certificate], NOW), CertificateRefusal::Authority);
    assert_eq!(refused(&auth, &[&evil.signs(&good), &evil.certificate], NOW), CertificateRefusal::Authority);
    // A caller's certificate signs other certificates.
    let own_key = KeyPair::generate().unwrap();
    let own = good.signed_by(&own_key, &ca.issuer).unwrap();
    let own_issuer = Issuer::new(good.clone(), own_key);
    let forged = good.signed_by(&KeyPair::generate().unwrap(), &own_issuer).unwrap();
    assert!(identified(&auth, &[own.der()], NOW).is_ok());
    refused(&auth, &[forged.der(), own.der()], NOW);

    let mut of_server = good.clone();
    of_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    assert_eq!(refused(&auth, &[&ca.signs(&of_server)], NOW), CertificateRefusal::Unfit);
    let certificate = ca.signs(&good);
    assert_eq!(refused(&auth, &[&certificate], 1_930_000_000), CertificateRefusal::Expired);
    assert_eq!(refused(&auth, &[&certificate], 1_850_000_000), CertificateRefusal::NotYet);
    for damaged in [&b"x"[..], b"", &certificate[..certificate.len() - 1], &[&certificate[..], b"x"].concat()] {
        let damaged = CertificateDer::from(damaged.to_vec());
        assert!(identified(&auth, &[&damaged], NOW).is_err(), "{}", damaged.len());
    }
    assert!(ShownCertificates::of(&[]).is_none());
}

#[test]
fn a_certificate_without_exactly_one_name_is_refused() {
    let ca = Ca::new("Partners");
    let by = |named_by| auth(vec![ca.accepted_as("partners", named_by)]);
    let subject = |named_by, params: &CertificateParams| {
        identified(&by(named_by), &[&ca.signs(params)], NOW).map(|identity| identity.subject.to_string())
    };
    let none = Err(TokenRefusal::Certificate(CertificateRefusal::Name));
    let mut params = caller("spiffe://a/b");
    params.subject_alt_names.push(SanType::Rfc822Name(Ia5String::try_from("a@example.com").unwrap()));
    assert_eq!(subject(CertificateName::Email, &params), Ok("a@example.com".to_owned()));
    assert_eq!(subject(CertificateName::CommonName, &params), Ok("agent".to_owned()));
    assert_eq!(subject(CertificateName::Dns, &params), none);
    params.subject_alt_names.push(uri("spiffe://a/admin"));
    assert_eq!(subject(CertificateName::Uri, &params), none, "which of them?");
    assert_eq!(subject(CertificateName::Uri, &caller("")), none);
    assert_eq!(subject(CertificateName::Uri, &caller("a\nb")), none);
    assert_eq!(subject(CertificateName::Uri, &caller(&"x".repeat(1_025))), none);
    params.distinguished_name = DistinguishedName::new();
    assert_eq!(subject(CertificateName::CommonName, &params), none);
    assert_eq!(subject(CertificateName::Subject, &params), none);
}

/// A caller that chooses its own name must not get the subject of another caller.
#[test]
fn two_subjects_are_never_written_alike() {
    let ca = Ca::new("Partners");
    let auth = auth(vec![ca.accepted_as("partners", CertificateName::Subject)]);
    let subject = |parts: &[(DnType, &str)]| {
        let mut params = caller("x:y");
        params.distinguished_name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), *value));
        identified(&auth, &[&ca.signs(&params)], NOW).unwrap().subject.to_string()
    };
    let plain = subject(&[(DnType::OrganizationName, "b"), (DnType::CommonName, "a")]);
    assert_eq!(plain, "CN=a,O=b");
    assert_eq!(subject(&[(DnType::CommonName, "a,O=b")]), r"CN=a\,O\=b");
    assert_eq!(subject(&[(DnType::CommonName, "a\\,O=b")]), r"CN=a\\\,O\=b");
    assert_eq!(subject(&[(DnType::CommonName, " #a+b ")]), r"CN=\ #a\+b\ ");
    assert_eq!(subject(&[(DnType::CommonName, "a\n")]), r"CN=a\0A");
}

#[test]
fn a_certificate_counts_where_its_authority_is_accepted_and_is_not_known_by_another_route() {
    let (ours, theirs) = (Ca::new("ours"), Ca::new("theirs"));
    let [of_ours, of_theirs] = [&ours, &theirs].map(|ca| ca.signs(&caller("spiffe://a/b")));
    let accepted = |ca: &Ca, name| ca.accepted_as(name, CertificateName::Uri);
    let (one, both) =
        (auth(vec![accepted(&ours, "ours")]), auth(vec![accepted(&theirs, "theirs"), accepted(&ours, "ours")]));
    let mut known = VerifiedTokens::default();
    let mut issuer = |auth, certificate, now| {
        let found = known.identify_by_certificate(auth, &shown(&[certificate]), at(now));
        found.map(|shown| shown.identity.issuer.as_deref().map(str::to_owned))
    };
    for now in [NOW, NOW + 1, NOW + 100] {
        assert_eq!(issuer(&both, &of_theirs, now), Ok(Some("x509:theirs".to_owned())));
        assert_eq!(issuer(&both, &of_ours, now), Ok(Some("x509:ours".to_owned())));
        assert_eq!(issuer(&one, &of_ours, now), Ok(Some("x509:ours".to_owned())));
        let refusal = Err(TokenRefusal::Certificate(CertificateRefusal::Authority));
        assert_eq!(issuer(&one, &of_theirs, now), refusal, "cached for the other route");
    }
    // A refusal is remembered, not evaluated for each request.
    let (begins, early) = (1_861_920_000, Err(TokenRefusal::Certificate(CertificateRefusal::NotYet)));
    assert_eq!([0, 1, 59].map(|s| issuer(&one, &of_ours, begins - 1 + s)), [(); 3].map(|()| early.clone()));
    assert_eq!(issuer(&one, &of_ours, begins - 1 + 60), Ok(Some("x509:ours".to_owned())));
    let expired = Err(TokenRefusal::Certificate(CertificateRefusal::Expired));
    assert_eq!(issuer(&one, &of_ours, 1_930_000_000), expired, "a verification expires with its certificate");
}

/// A token that is bound to a certificate (RFC 8705) is accepted only on connections with that certificate.
#[test]
fn a_token_that_is_bound_to_a_certificate_needs_that_one() {
    let (ca, signer) = (Ca::new("Partners"), Signer::ed());
    let [own, other] = ["x:own", "x:other"].map(|name| ca.signs(&caller(name)));
    let rules = TokenRules {
        issuer: LOGIN.into(),
        audiences: [].into(),
        algorithms: [TokenAlgorithm::EdDsa].into(),
        types: ["at+jwt".into()].into(),
        leeway: at(30),
    };
    let set = json!({ "keys": [signer.jwk("k1")] }).to_string();
    let check = TokenCheck::Keys(KeyStore::fixed(KeySet::parse(set.as_bytes()).unwrap()));
    let issuer = TokenIssuer { name: "login".into(), rules, check, refresh: at(600), grace: at(600) };
    let terms = auth(Vec::new()).terms().clone();
    let auth = Arc::new(RouteAuth::new(terms, vec![Arc::new(issuer)]));
    let bound = |cnf| {
        let claims = json!({"iss": LOGIN, "sub": "alice", "aud": RESOURCE, "exp": NOW + 300, "cnf": cnf});
        signer.sign("k1", &claims, json!({}))
    };
    let digest = URL_SAFE_NO_PAD.encode(sha256(&own));
    let token = bound(json!({ "x5t#S256": digest }));
    let mut known = VerifiedTokens::default();
    let mut subject = |token: &str, certificate: Option<&CertificateDer<'static>>| {
        let certificate = certificate.map(|certificate| shown(&[certificate]));
        let found = known.identify(&auth, token.as_bytes(), certificate.as_deref(), at(NOW));
        found.map(|shown| shown.identity.subject.to_string())
    };
    let refused = Err(TokenRefusal::Invalid(TokenError::Bound));
    for _ in 0..2 {
        assert_eq!(subject(&token, None), refused);
        assert_eq!(subject(&token, Some(&own)), Ok("alice".to_owned()));
        assert_eq!(subject(&token, Some(&other)), refused, "the token is cached by then");
    }
    for cnf in [
        json!({ "x5t#S256": digest, "jkt": "x" }),
        json!({ "x5t#s256": digest }),
        json!({ "x5t#S256": &digest[1..] }),
        json!({ "x5t#S256": "" }),
        json!({}),
        json!(null),
    ] {
        assert_eq!(subject(&bound(cnf.clone()), Some(&own)), refused, "{cnf}");
    }
}
