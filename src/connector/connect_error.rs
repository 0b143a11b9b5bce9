use std::time::Duration;

use rustls::AlertDescription;

use crate::base::TunnelId;
use crate::dial::{ProxyError, ResolveError};
use crate::engine::StreamError;
use crate::link::{LinkError, RegisterError};
use crate::quic::QuicError;
use crate::tls::{CertError, HandshakeError, TlsError};
use crate::wire::RegistrationRefusal;
use crate::wire::enrol::EnrolFault;
use crate::wire::mux::HelloError;

/// The longest wait that an edge of cloudflared can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Why connecting to an edge or enrolling with it failed, with a remedy, for the connector's log.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error("cannot connect to the edge at {address} ({reason}): check the address, and that `adit edge` runs there")]
    Connect { address: String, reason: String },
    #[error(
        "the proxy {proxy} does not connect to the edge ({cause}): check `connect.proxy`, or HTTPS_PROXY and ALL_PROXY in the \
         environment"
    )]
    Proxy { proxy: String, cause: ProxyError },
    #[error("'{0}' is not a valid name for a certificate: set `edge_name` to a name in the edge's certificate")]
    BadName(Box<str>),
    #[error(transparent)]
    EdgeCertificate(#[from] EdgeCertificate),
    #[error(transparent)]
    OwnCertificate(#[from] OwnCertificate),
    #[error("the TLS handshake with the edge failed: {0}")]
    Tls(HandshakeError),
    #[error(
        "the edge at {address} did not answer within {} ms: check the address, and that no firewall drops the connection",
        .limit.as_millis()
    )]
    Unanswered { address: String, limit: Duration },
    #[error(
        "the edge at {address} accepted the connection, but did not complete the TLS handshake within {} ms: check that `adit \
         edge` listens there for connectors, and that no device on the path delays the handshake",
        .limit.as_millis()
    )]
    TlsTimeout { address: String, limit: Duration },
    #[error(
        "the edge at {address} cannot be reached over QUIC ({cause}): check that it has `edge.quic = true` and that no firewall drops \
         UDP to this port, or set `connect.transport` to \"auto\" or \"tcp\""
    )]
    Quic { address: String, cause: QuicError },
    #[error(
        "the peer does not speak the protocol of connectors: dial the edge's port for connectors (connectors_listen, 7844 by \
         default), not the one for agents"
    )]
    OtherPort,
    #[error(
        "the peer speaks plain HTTP, as an edge behind a proxy does to agents: dial the edge's port for connectors \
         (connectors_listen, 7844 by default)"
    )]
    PlainHttp,
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Enrolment(#[from] EnrolError),
    #[error(transparent)]
    Cloudflared(#[from] RegisterError),
}

/// Why the edge's certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EdgeCertificate {
    #[error(
        "the edge's certificate expired on {not_after}, and this machine's clock says {now}: renew it at the edge, or set this \
         machine's clock"
    )]
    Expired { not_after: String, now: String },
    #[error(
        "the edge's certificate is not valid before {not_before}, and this machine's clock says {now}: set this machine's \
         clock, or the edge's if it was ahead when the certificate was made"
    )]
    NotYetValid { not_before: String, now: String },
    #[error(
        "the edge's certificate is for {presented}, not for {expected}: dial one of its names, set `edge_name` to one, or \
         reissue it at the edge"
    )]
    WrongName { expected: String, presented: String },
    #[error(
        "the edge's certificate is signed by {}, which is not trusted here: pass the edge's ca.pem with --edge-ca-file, or use a \
         token that contains it; if neither helps, this is not the expected edge. If that is a firewall or proxy of this network, \
         it inspects TLS: it terminates TLS itself, can read the content, and lets no link through; have the edge's address \
         exempted from inspection",
        signer(.issuer.as_deref())
    )]
    UnknownAuthority { issuer: Option<String> },
    #[error("the edge's certificate is not usable: {0}")]
    Unfit(String),
}

/// Why the edge refuses this connector's certificate, according to its TLS alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OwnCertificate {
    #[error(
        "the edge finds this connector's certificate expired or not yet valid: check both clocks; a new certificate is \
         requested"
    )]
    Validity,
    #[error(
        "the edge does not trust the authority of this connector's certificate: the authority was replaced, or this is another \
         edge; a new certificate is requested"
    )]
    OtherAuthority,
    #[error("the edge refuses this connector's certificate ({0}); a new one is requested")]
    Unfit(String),
}

/// Why an enrolment failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnrolError {
    #[error("the edge refused the enrolment: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused { refusal: RegistrationRefusal, reason: String, retry_after: Duration },
    #[error("the edge's answer to the enrolment was invalid: {0}")]
    Broken(#[from] EnrolFault),
    #[error("the connection failed during the enrolment: {0}")]
    Stream(#[from] StreamError),
    #[error("the edge closed the connection before it answered the enrolment: see its log")]
    Silent,
    #[error("the edge did not answer the enrolment within {} ms: see its log", .0.as_millis())]
    Timeout(Duration),
    #[error("the certificate from the edge is not usable: {0}")]
    Unfit(#[from] CertError),
    #[error("the edge issued a certificate for {given} instead of {asked}")]
    OfOther { given: TunnelId, asked: TunnelId },
}

impl ConnectError {
    /// The refusal, if it is final, so that an early retry is useless.
    pub(super) fn refusal(&self) -> Option<RegistrationRefusal> {
        match self {
            ConnectError::Link(LinkError::Refused { refusal, .. })
            | ConnectError::Enrolment(EnrolError::Refused { refusal, .. })
                if refusal.is_final() =>
            {
                Some(*refusal)
            }
            ConnectError::Cloudflared(RegisterError::Refused(error))
                if !error.should_retry && !error.is_duplicate() =>
            {
                Some(RegistrationRefusal::Credentials)
            }
            _ => None,
        }
    }

    /// The text without the current time, for comparing errors.
    pub(super) fn key(&self) -> String {
        let mut certificate = match self {
            ConnectError::EdgeCertificate(certificate) => certificate.clone(),
            other => return other.to_string(),
        };
        if let EdgeCertificate::Expired { now, .. } | EdgeCertificate::NotYetValid { now, .. } = &mut certificate {
            now.clear();
        }
        certificate.to_string()
    }

    /// Whether the certificate was refused or is missing, so that a new one is needed.
    pub(super) fn needs_certificate(&self) -> bool {
        match self {
            ConnectError::OwnCertificate(_) => true,
            ConnectError::Link(LinkError::Refused { refusal, .. }) => refusal.is_of_certificate(),
            _ => false,
        }
    }

    /// Whether the peer does not support the requested protocol. An edge without an authority answers an enrolment in
    /// the same way.
    pub(super) fn is_not_offered(&self) -> bool {
        let is_refused_protocol = |cause: &QuicError| {
            matches!(cause, QuicError::Alert(TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)))
        };
        match self {
            ConnectError::OtherPort => true,
            ConnectError::Quic { cause, .. } => is_refused_protocol(cause),
            _ => false,
        }
    }

    /// Whether another address of the edges may have more success.
    pub(super) fn is_of_address(&self) -> bool {
        let is_duplicate =
            matches!(self, ConnectError::Cloudflared(RegisterError::Refused(error)) if error.is_duplicate());
        self.is_unanswered() || is_duplicate || matches!(self, ConnectError::Name(_) | ConnectError::Tls(_))
    }

    /// Whether no answer of the edge was received, so that its other port may work.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(
            self,
            ConnectError::Connect { .. }
                | ConnectError::Proxy { .. }
                | ConnectError::Unanswered { .. }
                | ConnectError::TlsTimeout { .. }
                | ConnectError::Tls(HandshakeError::Stream(_))
        )
    }

    /// The delay that the edge asks for before a retry.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            ConnectError::Enrolment(EnrolError::Refused { retry_after, .. }) => *retry_after,
            ConnectError::Cloudflared(RegisterError::Refused(error)) => error.retry_after.min(RETRY_AFTER_MAX),
            _ => Duration::ZERO,
        }
    }
}

impl From<HandshakeError> for ConnectError {
    fn from(error: HandshakeError) -> ConnectError {
        let HandshakeError::Tls(cause) = &error else { return ConnectError::Tls(error) };
        match cause.clone() {
            TlsError::CertificateExpired { not_after, now } => EdgeCertificate::Expired { not_after, now }.into(),
            TlsError::CertificateNotYetValid { not_before, now } => {
                EdgeCertificate::NotYetValid { not_before, now }.into()
            }
            TlsError::WrongName { expected, presented } => EdgeCertificate::WrongName { expected, presented }.into(),
            TlsError::UnknownIssuer => EdgeCertificate::UnknownAuthority { issuer: None }.into(),
            TlsError::UntrustedIssuer { issuer } => EdgeCertificate::UnknownAuthority { issuer: Some(issuer) }.into(),
            TlsError::NoApplicationProtocol => ConnectError::OtherPort,
            TlsError::PlainHttp => ConnectError::PlainHttp,
            TlsError::CertificateRefused(cause) => EdgeCertificate::Unfit(cause).into(),
            other => OwnCertificate::of(&other).map_or(ConnectError::Tls(error), ConnectError::from),
        }
    }
}

impl OwnCertificate {
    /// The meaning of an alert that arrived after the certificate was sent.
    pub(super) fn of(error: &TlsError) -> Option<OwnCertificate> {
        use AlertDescription as A;
        let TlsError::AlertReceived(alert) = error else { return None };
        match alert {
            A::CertificateExpired => Some(OwnCertificate::Validity),
            A::UnknownCA => Some(OwnCertificate::OtherAuthority),
            A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::DecryptError
            | A::AccessDenied => Some(OwnCertificate::Unfit(format!("{alert:?}"))),
            _ => None,
        }
    }
}

/// The signer of a certificate, in words.
fn signer(issuer: Option<&str>) -> String {
    issuer.map_or_else(|| "an authority".to_owned(), |issuer| format!("'{issuer}'"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_certificate_error_has_its_own_text() {
        let (a_date, now) = (String::from("Jan 1"), String::from("Jan 2"));
        let errors = [
            TlsError::CertificateExpired { not_after: a_date.clone(), now: now.clone() },
            TlsError::CertificateNotYetValid { not_before: a_date, now },
            TlsError::WrongName { expected: "a".to_owned(), presented: "b".to_owned() },
            TlsError::UnknownIssuer,
            TlsError::UntrustedIssuer { issuer: "CN=Example Inspection".to_owned() },
            TlsError::CertificateRefused("no use".to_owned()),
            TlsError::AlertReceived(AlertDescription::UnknownCA),
            TlsError::AlertReceived(AlertDescription::CertificateExpired),
            TlsError::AlertReceived(AlertDescription::CertificateRequired),
            TlsError::NoApplicationProtocol,
            TlsError::PlainHttp,
        ];
        let found: Vec<ConnectError> = errors.iter().map(|error| HandshakeError::from(error.clone()).into()).collect();
        let texts: HashSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), errors.len());
        assert_eq!(found.iter().filter(|error| error.needs_certificate()).count(), 3);
        assert_eq!(found.iter().filter(|error| error.is_not_offered()).count(), 1);
        assert!(texts.iter().filter(|text| text.contains("connectors_listen")).count() == 2, "{texts:#?}");
        let inspected = texts.iter().find(|text| text.contains("signed by 'CN=Example Inspection'")).unwrap();
        assert!(inspected.contains("exempted from inspection"), "{inspected}");
    }
}
