use std::io;

use rustls::AlertDescription;

use crate::edge::gate::TurnedAway;
use crate::engine::StreamError;
use crate::link::LinkError;
use crate::tls::{HandshakeError, TlsError};
use crate::wire::enrol::EnrolFault;
use crate::wire::mux::Fault;

/// Why a connector's connection became no link, in words for the edge's log: what is wrong, and what to do here or there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLink {
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error("no TLS with the connector: {0}")]
    Handshake(HandshakeError),
    #[error("the connection failed during the greeting: {0}")]
    Stream(#[from] StreamError),
    #[error("the greeting was broken: {0}")]
    Greeting(Fault),
    #[error("the enrolment was broken: {0}")]
    Enrolment(#[from] EnrolFault),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Proxy(#[from] TurnedAway),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it took too long")]
    Timeout,
    #[error("the connection ended before it said who it is")]
    Silent,
}

/// What is wrong with the certificate that a connector showed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CertificateFault {
    #[error(
        "the connector's certificate expired on {not_after}, and this edge's clock says {now}: it gets another one by itself, \
         unless it cannot enrol; if it should still be valid, set this edge's clock"
    )]
    Expired { not_after: String, now: String },
    #[error(
        "the connector's certificate is valid from {not_before} only, and this edge's clock says {now}: this edge's clock went \
         back, set it"
    )]
    NotYetValid { not_before: String, now: String },
    #[error(
        "the connector's certificate is not of this edge's authority: it enrolled with another edge, or before the authority \
         was replaced; it gets another one by itself, unless it was told a certificate that it cannot renew"
    )]
    OtherAuthority,
    #[error("the connector's certificate cannot be used: {0}")]
    Unfit(String),
}

/// Why a connector does not believe this edge, as far as its alert tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untrusted {
    #[error(
        "the connector does not know the authority that signed this edge's certificate: give it that authority with \
         --edge-ca-file, or a token that names it"
    )]
    Authority,
    #[error(
        "the connector finds this edge's certificate out of date: renew the certificate of connectors_cert_file, or set the \
         connector's clock"
    )]
    Validity,
    #[error(
        "the connector refuses this edge's certificate: most likely it is for other names than the one that is dialled; reissue \
         it, or give the connector --edge-name"
    )]
    Name,
}

impl NoLink {
    /// Whether it is the connector's certificate that was not good.
    pub(super) fn is_of_certificate(&self) -> bool {
        matches!(self, NoLink::Certificate(_))
    }

    /// Whether the connector offered what an edge without an authority does not speak: nearly always an enrolment.
    pub(super) fn asks_to_enrol(&self) -> bool {
        matches!(self, NoLink::Handshake(HandshakeError::Tls(TlsError::NoApplicationProtocol)))
    }
}

impl From<HandshakeError> for NoLink {
    fn from(error: HandshakeError) -> NoLink {
        let HandshakeError::Tls(cause) = &error else { return NoLink::Handshake(error) };
        match cause.clone() {
            TlsError::CertificateExpired { not_after, now } => CertificateFault::Expired { not_after, now }.into(),
            TlsError::CertificateNotYetValid { not_before, now } => {
                CertificateFault::NotYetValid { not_before, now }.into()
            }
            TlsError::UnknownIssuer => CertificateFault::OtherAuthority.into(),
            TlsError::CertificateRefused(cause) => CertificateFault::Unfit(cause).into(),
            TlsError::AlertReceived(AlertDescription::UnknownCA) => Untrusted::Authority.into(),
            TlsError::AlertReceived(AlertDescription::CertificateExpired) => Untrusted::Validity.into(),
            TlsError::AlertReceived(AlertDescription::BadCertificate) => Untrusted::Name.into(),
            _ => NoLink::Handshake(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_trouble_with_a_certificate_has_its_own_words() {
        let (a_date, now) = (String::from("Jan 1"), String::from("Jan 2"));
        let troubles = [
            TlsError::CertificateExpired { not_after: a_date.clone(), now: now.clone() },
            TlsError::CertificateNotYetValid { not_before: a_date, now },
            TlsError::UnknownIssuer,
            TlsError::CertificateRefused("no use".to_owned()),
            TlsError::AlertReceived(AlertDescription::UnknownCA),
            TlsError::AlertReceived(AlertDescription::CertificateExpired),
            TlsError::AlertReceived(AlertDescription::BadCertificate),
            TlsError::NoApplicationProtocol,
        ];
        let found: Vec<NoLink> = troubles.iter().map(|error| HandshakeError::from(error.clone()).into()).collect();
        let texts: HashSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), troubles.len());
        assert_eq!(found.iter().filter(|error| error.is_of_certificate()).count(), 4);
    }
}
