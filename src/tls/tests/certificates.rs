use std::os::unix::fs::PermissionsExt;

use rustls::AlertDescription;

use super::*;
use crate::private::{self, FileError, PrivateError};

const DAY_S: u64 = 24 * 3600;

fn days_from_now(days: i64) -> UnixTime {
    let shift = std::time::Duration::from_secs(days.unsigned_abs() * DAY_S);
    let now = std::time::Duration::from_secs(now().as_secs());
    UnixTime::since_unix_epoch(if days < 0 { now - shift } else { now + shift })
}

/// A handshake between our client, which trusts `roots` and asks for `name`, and a server with `cert`.
fn meet(roots: Roots, cert: ServerCert, name: &str) -> (Result<(), TlsError>, Ours, Ours) {
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    let server = server_config(certs, &ServerSettings::default()).unwrap();
    let client = client_config(ClientSettings { roots, ..ClientSettings::default() }).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = Ours::new(Session::client(client, name).unwrap());
    let mut server = Ours::new(Session::server(server).unwrap());
    let result = exchange(&mut client, &mut server, &mut Rng::new(1));
    (result, client, server)
}

/// An authority created on another day, and one of its certificates, loaded on that day.
fn of_day(days: i64) -> (Authority, ServerCert) {
    let authority = Authority::new("other day", days_from_now(days), 2).unwrap();
    let cert = authority.issue(&[NAME]).unwrap().server_cert(days_from_now(days)).unwrap();
    (authority, cert)
}

#[test]
fn certificates_that_must_be_refused_are() {
    let authority = Authority::new("trusted", now(), 2).unwrap();
    let other = Authority::new("not trusted", now(), 2).unwrap();

    let (result, mut client, mut server) = meet(roots_of(&authority), issue(&other, &[NAME]), NAME);
    let Err(error @ TlsError::UntrustedIssuer { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("not trusted") && error.to_string().contains("inspects TLS"), "{error}");
    let alert = client.outgoing();
    let result = server.feed(&alert, &mut Rng::new(1));
    assert_eq!(result, Err(TlsError::AlertReceived(AlertDescription::UnknownCA)));

    let (result, ..) = meet(roots_of(&authority), issue(&authority, &["a.example", "*.b.example", "127.0.0.1"]), NAME);
    let Err(TlsError::WrongName { expected, presented }) = result else { panic!("{result:?}") };
    assert_eq!(expected, NAME);
    assert_eq!(presented, "a.example, *.b.example, 127.0.0.1");

    let made = Authority::make("its own", now()).unwrap();
    let own = ("ca.pem", made.cert_pem.as_bytes());
    let cert = ServerCert::from_pem(own, ("ca.key", made.key_pem.expose()), now()).unwrap();
    let mut roots = Roots::new();
    roots.add_pem(own.0, own.1).unwrap();
    let refused = meet(roots, cert, NAME).0.unwrap_err().to_string();
    assert!(refused.contains("it is an authority's own certificate"), "{refused}");

    let (past, cert) = of_day(-10);
    let refused = meet(roots_of(&past), cert, NAME).0;
    assert!(matches!(refused, Err(TlsError::CertificateExpired { .. })), "{refused:?}");
    let (future, cert) = of_day(10);
    let refused = meet(roots_of(&future), cert, NAME).0;
    assert!(matches!(refused, Err(TlsError::CertificateNotYetValid { .. })), "{refused:?}");
}

#[test]
fn wildcards_and_addresses_are_served() {
    let authority = Authority::new("trusted", now(), 2).unwrap();
    assert_eq!(meet(roots_of(&authority), issue(&authority, &["*.example.com"]), NAME).0, Ok(()));
    let cert = issue(&authority, &["127.0.0.1", "::1", "localhost"]);
    assert_eq!(cert.names(), ["localhost"]);
    assert_eq!(meet(roots_of(&authority), cert.clone(), "127.0.0.1").0, Ok(()));
    assert_eq!(meet(roots_of(&authority), cert, "::1").0, Ok(()));
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let authority = Authority::new("trusted", now(), 2).unwrap();
    let named = [&["default.example"][..], &["*.example.com"], &["edge.example.com", "Two.Example.com"]];
    let certs = named.map(|names| issue(&authority, names));
    let certs = ReloadingCerts::new(CertSet::new(certs).unwrap());
    let server = server_config(certs, &ServerSettings::default()).unwrap();
    for (asked, given) in [
        ("edge.example.com", 2),
        ("two.example.com", 2),
        ("any.example.com", 1),
        ("deep.any.example.com", 0),
        ("example.com", 0),
        ("default.example", 0),
    ] {
        let settings = ClientSettings { roots: roots_of(&authority), ..ClientSettings::default() };
        let name = ServerName::try_from(asked).unwrap();
        let mut client = Ours::new(Session::client(client_config(settings).unwrap(), name).unwrap());
        let mut server = Ours::new(Session::server(Arc::clone(&server)).unwrap());
        let result = exchange(&mut client, &mut server, &mut Rng::new(1));
        match result {
            Err(TlsError::WrongName { presented, .. }) => assert!(presented.contains(named[given][0]), "{asked}"),
            Ok(()) => {}
            Err(error) => panic!("{asked}: {error}"),
        }
    }
}

fn pem() -> (String, String) {
    let authority = Authority::new("a", now(), 2).unwrap();
    let issued = authority.issue(&[NAME]).unwrap();
    (issued.cert_pem, String::from_utf8(issued.key_pem.expose().to_vec()).unwrap())
}

fn load(cert: &str, key: &str, at: UnixTime) -> Result<ServerCert, CertError> {
    ServerCert::from_pem(("cert.pem", cert.as_bytes()), ("key.pem", key.as_bytes()), at)
}

#[test]
fn files_that_cannot_serve_are_refused_at_load() {
    let (cert, key) = pem();
    let (other_cert, other_key) = pem();
    let file = || "cert.pem".to_owned();
    let key_file = || "key.pem".to_owned();

    let both = load(&format!("{cert}{key}"), &format!("{cert}{key}"), now()).unwrap();
    assert_eq!(both.names(), [NAME]);

    let mismatch = CertError::Mismatch { cert_file: file(), key_file: key_file() };
    assert_eq!(load(&cert, &other_key, now()).unwrap_err(), mismatch);
    assert_eq!(load(&other_cert, &key, now()).unwrap_err(), mismatch);
    assert_eq!(load(&key, &key, now()).unwrap_err(), CertError::NoCertificate { file: file() });
    assert_eq!(load(&cert, &cert, now()).unwrap_err(), CertError::NoKey { file: key_file() });
    assert!(matches!(load(&cert, &key, days_from_now(3)), Err(CertError::Expired { .. })));
    assert!(matches!(load(&cert, &key, days_from_now(-3)), Err(CertError::NotYetValid { .. })));
    let encrypted = key.replace("BEGIN PRIVATE", "BEGIN ENCRYPTED PRIVATE");
    assert_eq!(load(&cert, &encrypted, now()).unwrap_err(), CertError::EncryptedKey { file: key_file() });
    let cut: String = cert.lines().take(3).collect::<Vec<_>>().join("\n");
    assert!(matches!(load(&cut, &key, now()), Err(CertError::BadPem { .. } | CertError::NoCertificate { .. })));
    assert!(matches!(CertSet::new([]), Err(CertError::Empty)));
}

#[test]
fn no_error_shows_the_key() {
    let (cert, key) = pem();
    let secret: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let damaged = [
        key.replace(secret[0], &format!("{}!", secret[0])),
        key.replace("-----END", "----END"),
        key.replace("-----BEGIN", "-----BEGIN-----BEGIN"),
    ];
    for key in damaged {
        let text = format!("{:?}", load(&cert, &key, now()).unwrap_err());
        assert!(secret.iter().all(|line| !text.contains(line)), "{text}");
    }
}

#[test]
fn files_are_read_and_named() {
    let (cert, key) = pem();
    let dir = tempfile::tempdir().unwrap();
    let (cert_path, key_path) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_path, cert).unwrap();
    let error = ServerCert::load(&cert_path, &key_path, now()).unwrap_err();
    assert!(
        matches!(&error, CertError::KeyFile(PrivateError::File(FileError::Unreadable { path, .. })) if *path == key_path),
        "{error}"
    );
    private::write(&key_path, key.as_bytes()).unwrap();
    ServerCert::load(&cert_path, &key_path, now()).unwrap();
    std::fs::set_permissions(&key_path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = ServerCert::load(&cert_path, &key_path, now()).unwrap_err();
    assert!(matches!(&error, CertError::KeyFile(PrivateError::FileOpenToOthers { .. })), "{error}");
}

#[test]
fn pem_files_may_begin_with_a_byte_order_mark_and_other_encodings_are_named() {
    let authority = Authority::new("marked", now(), 2).unwrap();
    let issued = authority.issue(&[NAME]).unwrap();
    let marked = |pem: &[u8]| [b"\xef\xbb\xbf", pem].concat();
    let (cert, key) = (marked(issued.cert_pem.as_bytes()), marked(issued.key_pem.expose()));
    ServerCert::from_pem(("cert.pem", &cert), ("key.pem", &key), now()).unwrap();
    let mut roots = Roots::new();
    roots.add_pem("ca.pem", &marked(authority.cert_pem().as_bytes())).unwrap();

    let utf16: Vec<u8> = format!("\u{feff}{}", issued.cert_pem).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let message = ServerCert::from_pem(("cert.pem", &utf16), ("key.pem", &key), now()).unwrap_err().to_string();
    assert_eq!(message, "cert.pem is not well-formed PEM: it is UTF-16: save it as UTF-8");
    let message = Roots::new().add_pem("ca.pem", &utf16[2..]).unwrap_err().to_string();
    assert!(message.starts_with("ca.pem is not well-formed PEM: it has a NUL byte"), "{message}");
    // Text around the certificates may be in any encoding.
    let with_comment = [b"# caf\xe9\n".as_slice(), authority.cert_pem().as_bytes()].concat();
    Roots::new().add_pem("ca.pem", &with_comment).unwrap();
}
