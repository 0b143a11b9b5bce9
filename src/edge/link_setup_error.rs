use std::io;

use rustls::AlertDescription;

use crate::edge::gate::AdmissionError;
use crate::engine::StreamError;
use crate::link::{LinkError, RegistrationFault};
use crate::tls::{HandshakeError, TlsError};
use crate::wire::enrol::EnrolFault;
use crate::wire::mux::Fault;

/// Why a connector's connection did not become a link, with a remedy, for the edge's log.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkSetupError {
    #[error(transparent)]
    ClientCertificate(#[from] CertificateFault),
    #[error(transparent)]
    EdgeDistrusted(#[from] EdgeDistrusted),
    #[error("the TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    #[error("the connection failed during the link's handshake: {0}")]
    Stream(#[from] StreamError),
    #[error("the link's handshake was invalid: {0}")]
    Greeting(Fault),
    #[error("the enrolment request was invalid: {0}")]
    Enrolment(#[from] EnrolFault),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("a connector of cloudflared did not register: {0}")]
    Cloudflared(#[from] RegistrationFault),
    #[error(transparent)]
    Proxy(#[from] AdmissionError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the handshake timed out")]
    Timeout,
    #[error("the connection ended during the handshake")]
    Silent,
}

/// Why the certificate of a connector is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateFault {
    #[error(
        "the connector's certificate expired on {not_after}, and this edge's clock says {now}: the connector renews it by \
         itself if it can enrol; if it should still be valid, set this edge's clock"
    )]
    Expired { not_after: String, now: String },
    #[error(
        "the connector's certificate is not valid before {not_before}, and this edge's clock says {now}: set this edge's clock"
    )]
    NotYetValid { not_before: String, now: String },
    #[error(
        "the connector's certificate was not issued by this edge's authority: the connector enrolled with another edge, or \
         before the authority was replaced; it enrols again by itself"
    )]
    OtherAuthority,
    #[error("the connector's certificate is not usable: {0}")]
    Unfit(String),
}

/// Why a connector does not trust this edge's certificate, according to its TLS alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EdgeDistrusted {
    #[error(
        "the connector does not trust the authority of this edge's certificate: pass that authority with --edge-ca-file, or use \
         a token that contains it"
    )]
    Authority,
    #[error(
        "the connector finds this edge's certificate expired or not yet valid: renew connectors_cert_file, or set the \
         connector's clock"
    )]
    Validity,
    #[error(
        "the connector refuses this edge's certificate, most likely because it does not contain the dialled name: reissue it, or \
         start the connector with --edge-name"
    )]
    Name,
}

impl LinkSetupError {
    /// The kind of error, for the log: one line per source, kind and minute.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            LinkSetupError::ClientCertificate(_) => "certificate",
            LinkSetupError::EdgeDistrusted(_) => "edge distrusted",
            LinkSetupError::Handshake(_) => "TLS handshake",
            LinkSetupError::Stream(_) => "connection",
            LinkSetupError::Greeting(_) => "greeting",
            LinkSetupError::Enrolment(_) => "enrolment",
            LinkSetupError::Link(_) => "link",
            LinkSetupError::Cloudflared(_) => "cloudflared",
            LinkSetupError::Proxy(_) => "PROXY header",
            LinkSetupError::Io(_) => "system",
            LinkSetupError::Timeout => "timeout",
            LinkSetupError::Silent => "silent",
        }
    }

    /// Whether the connector's certificate was refused.
    pub(super) fn is_of_certificate(&self) -> bool {
        matches!(self, LinkSetupError::ClientCertificate(_))
    }

    /// Whether the connector offered no protocol that this edge supports: nearly always an enrolment at an edge without
    /// an authority.
    pub(super) fn asks_to_enrol(&self) -> bool {
        matches!(self, LinkSetupError::Handshake(HandshakeError::Tls(TlsError::NoApplicationProtocol)))
    }
}

impl From<HandshakeError> for LinkSetupError {
    fn from(error: HandshakeError) -> LinkSetupError {
        let HandshakeError::Tls(cause) = &error else { return LinkSetupError::Handshake(error) };
        match cause.clone() {
            TlsError::CertificateExpired { not_after, now } => CertificateFault::Expired { not_after, now }.into(),
            TlsError::CertificateNotYetValid { not_before, now } => {
                CertificateFault::NotYetValid { not_before, now }.into()
            }
            TlsError::UnknownIssuer => CertificateFault::OtherAuthority.into(),
            TlsError::CertificateRefused(cause) => CertificateFault::Unfit(cause).into(),
            TlsError::AlertReceived(AlertDescription::UnknownCA) => EdgeDistrusted::Authority.into(),
            TlsError::AlertReceived(AlertDescription::CertificateExpired) => EdgeDistrusted::Validity.into(),
            TlsError::AlertReceived(AlertDescription::BadCertificate) => EdgeDistrusted::Name.into(),
            _ => LinkSetupError::Handshake(error),
        }
    }
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
            TlsError::UnknownIssuer,
            TlsError::CertificateRefused("no use".to_owned()),
            TlsError::AlertReceived(AlertDescription::UnknownCA),
            TlsError::AlertReceived(AlertDescription::CertificateExpired),
            TlsError::AlertReceived(AlertDescription::BadCertificate),
            TlsError::NoApplicationProtocol,
        ];
        let found: Vec<LinkSetupError> =
            errors.iter().map(|error| HandshakeError::from(error.clone()).into()).collect();
        let texts: HashSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), errors.len());
        assert_eq!(found.iter().filter(|error| error.is_of_certificate()).count(), 4);
    }
}
