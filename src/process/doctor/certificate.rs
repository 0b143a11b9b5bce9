//! Checks a server's certificate: whether it is trusted, its names, and its validity.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls_pki_types::{ServerName, UnixTime};
use socket2::{Domain, Socket, Type};

use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;
use crate::tls::{CertInfo, ClientConfig, TlsError};

/// A segment size that fits every path: IPv4 hosts must accept packets of 576 bytes (RFC 1122 section 3.3.2).
const SMALL_SEGMENT: u32 = 536;

/// What a completed TLS handshake revealed about the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerHandshake {
    /// The certificate that the server sent.
    pub(super) cert: CertInfo,
    /// The version of TLS.
    pub(super) version: &'static str,
}

/// Makes a TLS handshake with the server at `address` for this name, and closes the connection.
///
/// # Errors
///
/// Why it failed, as a sentence.
pub(super) async fn shake_hands(
    address: SocketAddr,
    name: &str,
    config: Arc<ClientConfig>,
) -> Result<ServerHandshake, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} cannot be in a certificate"))?;
    // rustls needs no runtime. The doctor opens few sockets, so each may block a thread for a while.
    let done = tokio::task::spawn_blocking(move || handshake(address, name, config)).await;
    done.map_err(|error| error.to_string())?
}

/// Makes the handshake. If nothing arrives, tries again with small packets, to detect a path that loses large ones.
fn handshake(
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<ServerHandshake, String> {
    let made = handshake_in(None, address, name.clone(), Arc::clone(&config));
    match made {
        Err(Failed::Unanswered) if handshake_in(Some(SMALL_SEGMENT), address, name, config).is_ok() => Err(format!(
            "large packets are lost on the way to {address}: lower the MTU of this host's network interface, or have the MSS \
             clamped on the way; with packets of {SMALL_SEGMENT} bytes the TLS handshake succeeds"
        )),
        Err(Failed::Unanswered) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        Err(Failed::Because(why)) => Err(why),
        Ok(handshake) => Ok(handshake),
    }
}

/// Why a handshake failed.
enum Failed {
    /// The connection is established, but nothing arrives on it.
    Unanswered,
    Because(String),
}

impl From<String> for Failed {
    fn from(why: String) -> Failed {
        Failed::Because(why)
    }
}

/// Connects, and limits the segment size in both directions if a length is given.
fn connect(address: SocketAddr, segment_len_max: Option<u32>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(len) = segment_len_max {
        socket.set_tcp_mss(len)?;
    }
    socket.connect_timeout(&address.into(), ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(socket.into())
}

fn handshake_in(
    segment_len_max: Option<u32>,
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<ServerHandshake, Failed> {
    let mut session = ClientConnection::new(config, name).map_err(|error| TlsError::from(error).to_string())?;
    let mut socket = connect(address, segment_len_max).map_err(|error| reason(&error))?;
    let mut made = || -> io::Result<()> {
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        // A server that refuses the client's last message reports this only after the handshake.
        session.send_close_notify();
        session.complete_io(&mut socket).map(|_| ())
    };
    made().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failed::Unanswered,
        _ => Failed::Because(reason(&error)),
    })?;
    let cert = session.peer_certificates().and_then(|chain| CertInfo::of_der(chain.first()?));
    let version = session.protocol_version().map_or("TLS", crate::tls::version_name);
    let shown = cert.map(|cert| ServerHandshake { cert, version });
    shown.ok_or_else(|| Failed::Because("it showed no certificate that can be read".to_owned()))
}

/// Why the handshake failed, in the same words as the rest of the program.
fn reason(error: &io::Error) -> String {
    match TlsError::of_client_io(error) {
        Some(tls) => tls.to_string(),
        None if error.kind() == io::ErrorKind::TimedOut => {
            format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())
        }
        None => error.to_string(),
    }
}

/// Checks the validity of a certificate, and reports its names.
pub(super) fn check_certificate(
    findings: &mut Findings,
    check: &'static str,
    what: &str,
    cert: &CertInfo,
    now: UnixTime,
) {
    let names = if cert.names.is_empty() { "nobody".to_owned() } else { cert.names.join(", ") };
    let found = format!("{what}: for {names}, from {}, {} days left", cert.issuer, cert.expires_in_days(now));
    if cert.expires_in_s(now) < 0 {
        findings.fail(check, found, "renew it; or set this machine's clock, if that is wrong");
    } else if cert.is_not_yet_valid(now) {
        findings.fail(check, format!("{what}: for {names}, not valid yet"), "set this machine's clock");
    } else if cert.is_renewal_due(now) {
        findings.warn(check, found, "renew it now; the file is read again when it changes, without a restart");
    } else {
        findings.ok(check, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::doctor::Verdict;

    #[test]
    fn a_certificate_is_judged_by_its_validity() {
        const DAY_S: i64 = 24 * 3_600;
        let (first, last) = (1_800_000_000, 1_800_000_000 + 90 * DAY_S);
        let cert = CertInfo {
            names: vec!["edge.test".to_owned()],
            issuer: "CN=test".to_owned(),
            not_before_unix_s: first,
            not_after_unix_s: last,
        };
        let judged = |now_unix_s: i64| {
            let mut findings = Findings::default();
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_unix_s.unsigned_abs()));
            check_certificate(&mut findings, "cert", "the edge", &cert, now);
            findings.all()[0].verdict
        };
        assert_eq!([first + 1, first - 1, last + 1].map(judged), [Verdict::Ok, Verdict::Fail, Verdict::Fail]);
        assert_eq!([last - DAY_S, last - 20 * DAY_S].map(judged), [Verdict::Warn, Verdict::Ok]);
    }
}
