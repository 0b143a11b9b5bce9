//! Client certificates that are requested, sent and refused, and authorities that are pinned by their fingerprint.

use std::time::Duration;

use rustls::AlertDescription;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::base::TunnelId;

const DAY_S: i64 = 24 * 3600;

fn tunnel() -> TunnelId {
    "tnl_a".parse().unwrap()
}

/// An identity of the authority, as an enrolment gives it.
fn enrol(authority: &Authority, lifetime: Duration, now: UnixTime) -> Identity {
    let request = KeyRequest::new().unwrap();
    let cert = authority.certify(request.csr(), &tunnel(), lifetime, now).unwrap();
    assert_eq!(cert.lifetime, lifetime);
    request.into_identity(cert.chain).unwrap()
}

/// An edge that asks for certificates of `clients`.
struct Asking {
    authority: Authority,
    config: Arc<ServerConfig>,
}

impl Asking {
    fn new(clock: WallClock) -> Asking {
        let authority = Authority::new("edge", now(), 30).unwrap();
        let certs = ReloadingCerts::new(CertSet::new([issue(&authority, &[NAME])]).unwrap());
        let alpn = vec![ALPN_LINK.to_vec(), ALPN_ENROL.to_vec()];
        let settings =
            ServerSettings { alpn, clients: Clients::Known(roots_of(&authority)), clock, ..ServerSettings::default() };
        let config = server_config(certs, &settings).unwrap();
        Asking { authority, config }
    }

    /// A handshake with a client that has this identity and a session memory. Returns the server's result, the client's
    /// result at the end, and the server's side.
    fn meet(&self, identity: Option<&Identity>, alpn: &[u8]) -> (Result<(), TlsError>, Result<(), TlsError>, Ours) {
        let current = Arc::new(CurrentIdentity::default());
        current.replace(identity);
        let settings = ClientSettings {
            roots: roots_of(&self.authority),
            alpn: vec![alpn.to_vec()],
            sessions: Some(SessionMemory::default()),
            identity: Some(current),
            ..ClientSettings::default()
        };
        let client = client_config(settings).unwrap();
        let mut server = None;
        let mut outcome = (Ok(()), Ok(()));
        for _ in 0..2 {
            let mut ours = Ours::new(Session::client(Arc::clone(&client), name()).unwrap());
            let mut theirs = Ours::new(Session::server(Arc::clone(&self.config)).unwrap());
            let rng = &mut Rng::new(1);
            outcome.0 = exchange(&mut ours, &mut theirs, rng);
            let last = theirs.outgoing();
            outcome.1 = ours.feed(&last, rng);
            assert!(!theirs.session.resumed(), "each connection proves its certificate anew");
            server = Some(theirs);
        }
        (outcome.0, outcome.1, server.expect("it was made"))
    }
}

#[test]
fn an_enrolled_client_is_known_by_its_tunnel() {
    let edge = Asking::new(WallClock::default());
    let identity = enrol(&edge.authority, Duration::from_secs(60), now());
    assert_eq!(identity.tunnel(), &tunnel());
    assert!((58..=60).contains(&identity.left(now()).as_secs()));
    let (met, heard, server) = edge.meet(Some(&identity), ALPN_LINK);
    assert_eq!((met, heard), (Ok(()), Ok(())));
    let shown = server.session.peer_certificates();
    assert_eq!(tunnel_of(&shown[0]).unwrap(), tunnel());
    assert_eq!(server.session.alpn(), Some(ALPN_LINK));
}

#[test]
fn a_client_without_a_certificate_is_anonymous() {
    let (met, heard, server) = Asking::new(WallClock::default()).meet(None, ALPN_ENROL);
    assert_eq!((met, heard), (Ok(()), Ok(())));
    assert!(server.session.peer_certificates().is_empty());
    assert_eq!(server.session.alpn(), Some(ALPN_ENROL));
}

#[test]
fn certificates_of_clients_that_must_be_refused_are_and_the_client_hears_why() {
    let edge = Asking::new(WallClock::default());
    let day = Duration::from_secs(DAY_S as u64);
    let other = Authority::new("other edge", now(), 30).unwrap();
    let (met, heard, _) = edge.meet(Some(&enrol(&other, day, now())), ALPN_LINK);
    assert_eq!(met, Err(TlsError::UnknownIssuer));
    assert_eq!(heard, Err(TlsError::AlertReceived(AlertDescription::UnknownCA)));

    let expired = enrol(&edge.authority, day, WallClock::off_by_s(-2 * DAY_S).now());
    assert_eq!(expired.left(now()), Duration::ZERO);
    let (met, heard, _) = edge.meet(Some(&expired), ALPN_LINK);
    assert!(matches!(met, Err(TlsError::CertificateExpired { .. })), "{met:?}");
    assert_eq!(heard, Err(TlsError::AlertReceived(AlertDescription::CertificateExpired)));

    let early = enrol(&edge.authority, day, WallClock::off_by_s(2 * DAY_S).now());
    assert_eq!(early.left(now()), Duration::ZERO);
    let (met, ..) = edge.meet(Some(&early), ALPN_LINK);
    assert!(matches!(met, Err(TlsError::CertificateNotYetValid { .. })), "{met:?}");

    // The same fault if the clock is wrong and the certificate is not.
    let edge = Asking::new(WallClock::off_by_s(2 * DAY_S));
    let (met, ..) = edge.meet(Some(&enrol(&edge.authority, day, now())), ALPN_LINK);
    assert!(matches!(met, Err(TlsError::CertificateExpired { .. })), "{met:?}");
}

#[test]
fn the_edges_own_certificate_is_none_of_a_client() {
    let edge = Asking::new(WallClock::default());
    let issued = edge.authority.issue(&[NAME]).unwrap();
    let chain = CertificateDer::from(pem::parse(&issued.cert_pem).unwrap().into_contents());
    assert!(tunnel_of(&chain).is_err(), "it names no tunnel");
    let key = String::from_utf8(issued.key_pem.expose().to_vec()).unwrap();
    let error = Identity::from_pem("identity.pem", format!("{}{key}", issued.cert_pem).as_bytes()).err().unwrap();
    assert!(error.to_string().contains(TUNNEL_URI), "{error}");
}

#[test]
fn a_request_must_prove_its_key() {
    let authority = Authority::new("edge", now(), 30).unwrap();
    let request = KeyRequest::new().unwrap();
    let certify = |csr: &[u8]| authority.certify(csr, &tunnel(), Duration::from_secs(60), now());
    for at in [4, request.csr().len() / 2, request.csr().len() - 1] {
        let mut csr = request.csr().to_vec();
        csr[at] ^= 1;
        assert!(matches!(certify(&csr).err(), Some(CertError::KeyUnproven { .. })), "changed at {at}");
    }
    assert!(matches!(certify(b"").err(), Some(CertError::KeyUnproven { .. })));
    let of_other = certify(KeyRequest::new().unwrap().csr()).unwrap();
    assert!(request.into_identity(of_other.chain).is_err(), "a certificate for another key");
}

#[test]
fn an_authority_that_was_kept_goes_on_and_outlives_nothing_that_it_issues() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let from = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now().as_secs());
    (params.not_before, params.not_after) = (from, from + Duration::from_secs(1000));
    let cert = params.self_signed(&key).unwrap().pem();
    let load = |cert: &str, key: &str, now: UnixTime| {
        Authority::from_pem(("ca.pem", cert.as_bytes()), ("ca.key", key.as_bytes()), now)
    };
    let authority = load(&cert, &key.serialize_pem(), now()).unwrap();
    let request = KeyRequest::new().unwrap();
    let issued = authority.certify(request.csr(), &tunnel(), Duration::from_secs(DAY_S as u64), now()).unwrap();
    assert!((990..=1000).contains(&issued.lifetime.as_secs()), "{:?}", issued.lifetime);
    let identity = request.into_identity(issued.chain).unwrap();
    let kept = Identity::from_pem("identity.pem", identity.to_pem().expose()).unwrap();
    assert_eq!(kept.not_after_unix_s(), identity.not_after_unix_s());
    assert_eq!(kept.to_pem().expose(), identity.to_pem().expose());

    let late = WallClock::off_by_s(2000).now();
    assert!(matches!(load(&cert, &key.serialize_pem(), late).err(), Some(CertError::Expired { .. })));
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert!(matches!(load(&cert, &other, now()).err(), Some(CertError::Mismatch { .. })));
    let broken = load(&cert, &key.serialize_pem()[..60], now()).err().unwrap();
    assert!(matches!(broken, CertError::BadKey { .. }), "{broken}");
}

#[test]
fn an_authority_known_by_its_fingerprint_is_believed_when_it_is_shown() {
    let (authority, other) = (Authority::new("a", now(), 30).unwrap(), Authority::new("b", now(), 30).unwrap());
    let issued = authority.issue(&[NAME]).unwrap();
    let server = |chain: String| {
        let cert = ServerCert::from_pem(("c", chain.as_bytes()), ("k", issued.key_pem.expose()), now()).unwrap();
        server_config(ReloadingCerts::new(CertSet::new([cert]).unwrap()), &ServerSettings::default()).unwrap()
    };
    let with_authority = server(format!("{}{}", issued.cert_pem, authority.cert_pem()));
    let alone = server(issued.cert_pem.clone());
    let meet = |server: &Arc<ServerConfig>, pin: &Authority, name: &'static str| {
        let roots = Roots::pinned(Fingerprint::of(pin.cert_der()));
        assert_eq!(roots.len(), 1);
        let client = client_config(ClientSettings { roots, ..ClientSettings::default() }).unwrap();
        let mut met = Ok(());
        for _ in 0..2 {
            let mut ours =
                Ours::new(Session::client(Arc::clone(&client), ServerName::try_from(name).unwrap()).unwrap());
            let mut theirs = Ours::new(Session::server(Arc::clone(server)).unwrap());
            met = exchange(&mut ours, &mut theirs, &mut Rng::new(1));
        }
        met
    };
    assert_eq!(meet(&with_authority, &authority, NAME), Ok(()));
    assert!(matches!(meet(&with_authority, &authority, "else.example"), Err(TlsError::WrongName { .. })));
    let is_untrusted = |met| matches!(met, Err(TlsError::UntrustedIssuer { .. }));
    assert!(is_untrusted(meet(&with_authority, &other, NAME)));
    assert!(is_untrusted(meet(&alone, &authority, NAME)), "it was not shown");
}
