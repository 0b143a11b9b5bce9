//! The certificate that a server shows: whether it is believed, for whom it is, and for how long.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::control::doctor::{Findings, PATIENCE};
use crate::tls::{ClientConfig, TlsError};

/// Below so many days a certificate should have been renewed already.
const DAYS_LEFT_MIN: i64 = 14;
const DAY_S: i64 = 24 * 3_600;

/// A handshake that came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// The certificate that was shown.
    pub shown: Shown,
    /// Which version of TLS.
    pub version: &'static str,
}

/// A certificate, as far as an operator asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its names and addresses.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// The first second of its validity, since 1970.
    pub not_before_unix_s: i64,
    /// The last one.
    pub not_after_unix_s: i64,
}

impl Shown {
    /// Reads a certificate; nothing if it is damaged.
    #[must_use]
    pub fn of(cert: &CertificateDer<'_>) -> Option<Shown> {
        let (_, cert) = X509Certificate::from_der(cert).ok()?;
        let names = cert.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        Some(Shown {
            names: names.collect(),
            issuer: cert.issuer().to_string(),
            not_before_unix_s: cert.validity().not_before.timestamp(),
            not_after_unix_s: cert.validity().not_after.timestamp(),
        })
    }
}

impl Shown {
    /// For how many seconds it is still good; less than none when it has ended.
    #[must_use]
    pub fn left_s(&self, now: UnixTime) -> i64 {
        self.not_after_unix_s.saturating_sub(unix_s(now))
    }

    /// Whether it should have been renewed already: 14 days before its end, or in the last third of a short life.
    #[must_use]
    pub fn is_renewal_due(&self, now: UnixTime) -> bool {
        let lifetime_days = (self.not_after_unix_s - self.not_before_unix_s) / DAY_S;
        self.left_s(now).div_euclid(DAY_S) < DAYS_LEFT_MIN.min(lifetime_days / 3)
    }
}

fn unix_s(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string());
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    v4().or_else(v6)
}

/// Makes a TLS handshake with a server at `address`, under this name, and ends it.
///
/// # Errors
///
/// Why none came about, for a person.
pub async fn meet(address: SocketAddr, name: &str, config: Arc<ClientConfig>) -> Result<Met, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} cannot stand in a certificate"))?;
    // rustls alone needs no runtime; the few sockets of a doctor may each have a thread for a while.
    let met = tokio::task::spawn_blocking(move || handshake(address, name, config)).await;
    met.map_err(|error| error.to_string())?
}

fn handshake(address: SocketAddr, name: ServerName<'static>, config: Arc<ClientConfig>) -> Result<Met, String> {
    let mut session = ClientConnection::new(config, name).map_err(|error| TlsError::from(error).to_string())?;
    let mut made = || -> io::Result<()> {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        // What a server refuses of the handshake's end comes behind it.
        session.send_close_notify();
        session.complete_io(&mut socket).map(|_| ())
    };
    made().map_err(|error| said_by(&error))?;
    let shown = session.peer_certificates().and_then(|chain| Shown::of(chain.first()?));
    let version = session.protocol_version().map_or("TLS", crate::tls::version_name);
    shown.map(|shown| Met { shown, version }).ok_or_else(|| "it showed no certificate that can be read".to_owned())
}

/// What went wrong, in the words that the rest of the program has for it.
fn said_by(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => TlsError::from(tls.clone()).to_string(),
        None if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        None => error.to_string(),
    }
}

/// Says for whom a certificate is, and whether it lasts.
pub fn judge_certificate(findings: &mut Findings, check: &'static str, what: &str, shown: &Shown, now: UnixTime) {
    let names = if shown.names.is_empty() { "nobody".to_owned() } else { shown.names.join(", ") };
    let days = shown.left_s(now).div_euclid(DAY_S);
    let told = format!("{what}: for {names}, from {}, {days} days left", shown.issuer);
    if shown.left_s(now) < 0 {
        findings.fail(check, told, "renew it; or set this machine's clock, if that is wrong");
    } else if unix_s(now) < shown.not_before_unix_s {
        findings.fail(check, format!("{what}: for {names}, not valid yet"), "set this machine's clock");
    } else if shown.is_renewal_due(now) {
        findings.warn(check, told, "renew it now; the file is read again when it changes, without a restart");
    } else {
        findings.ok(check, told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::doctor::Verdict;
    use crate::tls::Authority;

    fn judged(shown: &Shown, now_unix_s: i64) -> Verdict {
        let mut findings = Findings::default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix_s.unsigned_abs()));
        judge_certificate(&mut findings, "cert", "the edge", shown, now);
        findings.all()[0].verdict
    }

    #[test]
    fn a_certificate_is_told_by_its_names_and_its_days() {
        let authority = Authority::new("the test's own", UnixTime::now(), 90).unwrap();
        let cert = authority.issue(&["edge.test", "*.edge.test", "127.0.0.1", "::1"]).unwrap();
        let der = <CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(cert.cert_pem.as_bytes());
        let shown = Shown::of(&der.unwrap()).unwrap();
        assert_eq!(shown.names, ["edge.test", "*.edge.test", "127.0.0.1", "::1"]);
        assert!(shown.issuer.contains("the test's own"));
        let (first, last) = (shown.not_before_unix_s, shown.not_after_unix_s);
        assert_eq!(judged(&shown, first + 1), Verdict::Ok);
        assert_eq!(judged(&shown, first - 1), Verdict::Fail);
        assert_eq!(judged(&shown, last + 1), Verdict::Fail);
        assert_eq!(judged(&shown, last - DAYS_LEFT_MIN * DAY_S + 1), Verdict::Warn);
        assert_eq!(judged(&shown, last - (DAYS_LEFT_MIN + 1) * DAY_S), Verdict::Ok);
        // One of a day is meant to be short.
        let of_a_day = Shown { not_before_unix_s: last - DAY_S, ..shown };
        assert_eq!(judged(&of_a_day, last - 600), Verdict::Ok);
        assert_eq!(Shown::of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
