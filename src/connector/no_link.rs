use std::time::Duration;

use rustls::AlertDescription;

use crate::base::TunnelId;
use crate::engine::StreamError;
use crate::link::LinkError;
use crate::tls::{CertError, HandshakeError, TlsError};
use crate::upstream::ResolveError;
use crate::wire::Refusal;
use crate::wire::enrol::EnrolFault;
use crate::wire::mux::HelloError;

/// Why there is no link, or no certificate for one, in words for the connector's log: what is wrong, and what to do here
/// or there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLink {
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error("the edge {address} takes no connection ({reason}): check the address, and that `adit edge` runs there")]
    Connect { address: String, reason: String },
    #[error("'{0}' cannot stand in a certificate: set `edge_name` to the name that the edge's certificate bears")]
    BadName(Box<str>),
    #[error(transparent)]
    EdgeCertificate(#[from] EdgeCertificate),
    #[error(transparent)]
    OwnCertificate(#[from] OwnCertificate),
    #[error("no TLS with the edge: {0}")]
    Tls(HandshakeError),
    #[error("the edge did not take a connection within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Enrolment(#[from] NotEnrolled),
}

/// What is wrong with the certificate that the edge showed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EdgeCertificate {
    #[error(
        "the edge's certificate expired on {not_after}, and this machine's clock says {now}: renew it at the edge, or set this \
         machine's clock"
    )]
    Expired { not_after: String, now: String },
    #[error(
        "the edge's certificate is valid from {not_before} only, and this machine's clock says {now}: this clock is behind, \
         or the edge's was ahead when the certificate was made; set it"
    )]
    NotYetValid { not_before: String, now: String },
    #[error(
        "the edge's certificate is for {presented}, not for {expected}: dial one of its names, set `edge_name` to one, or \
         reissue it at the edge"
    )]
    WrongName { expected: String, presented: String },
    #[error(
        "the edge's certificate is signed by an authority that is not trusted here: give the edge's ca.pem with \
         --edge-ca-file, or the token that names it; if neither helps, this is not the edge that it should be"
    )]
    UnknownAuthority,
    #[error("the edge's certificate cannot be used: {0}")]
    Unfit(String),
}

/// Why the edge does not take the certificate that it was shown, as far as its alert tells.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OwnCertificate {
    #[error(
        "the edge finds this connector's certificate out of date, so one of the two clocks is wrong: set it; another \
         certificate is asked for"
    )]
    Validity,
    #[error(
        "the edge does not know the authority that signed this connector's certificate, so it was replaced, or this is another \
         edge; another certificate is asked for"
    )]
    OtherAuthority,
    #[error("the edge does not take this connector's certificate ({0}); another one is asked for")]
    Unfit(String),
}

/// Why an enrolment gave no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotEnrolled {
    #[error("the edge gave no certificate: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused { refusal: Refusal, reason: String, retry_after: Duration },
    #[error("the edge's answer to the enrolment was broken: {0}")]
    Broken(#[from] EnrolFault),
    #[error("the connection failed during the enrolment: {0}")]
    Stream(#[from] StreamError),
    #[error("the edge ended the connection before it answered the enrolment: its log says why")]
    Silent,
    #[error("the certificate that the edge gave cannot be used: {0}")]
    Unfit(#[from] CertError),
    #[error("the edge gave a certificate of {given} to {asked}")]
    OfOther { given: TunnelId, asked: TunnelId },
}

impl NoLink {
    /// That the edge will not let this connector in, however often it asks.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            NoLink::Link(LinkError::Refused { refusal, .. })
            | NoLink::Enrolment(NotEnrolled::Refused { refusal, .. })
                if refusal.is_final() =>
            {
                Some(*refusal)
            }
            _ => None,
        }
    }

    /// What makes it the same trouble as the last one: its words without the time, which passes.
    pub(super) fn gist(&self) -> String {
        let mut certificate = match self {
            NoLink::EdgeCertificate(certificate) => certificate.clone(),
            other => return other.to_string(),
        };
        if let EdgeCertificate::Expired { now, .. } | EdgeCertificate::NotYetValid { now, .. } = &mut certificate {
            now.clear();
        }
        certificate.to_string()
    }

    /// Whether it is the certificate that was shown, or that none was, so that another one mends it.
    pub(super) fn doubts_certificate(&self) -> bool {
        match self {
            NoLink::OwnCertificate(_) => true,
            NoLink::Link(LinkError::Refused { refusal, .. }) => refusal.is_of_certificate(),
            _ => false,
        }
    }

    /// That the edge knows no enrolment: it has no authority.
    pub(super) fn is_not_offered(&self) -> bool {
        matches!(self, NoLink::Tls(HandshakeError::Tls(TlsError::NoApplicationProtocol)))
    }

    /// How long the edge asks to be left alone.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            NoLink::Enrolment(NotEnrolled::Refused { retry_after, .. }) => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

impl From<HandshakeError> for NoLink {
    fn from(error: HandshakeError) -> NoLink {
        let HandshakeError::Tls(cause) = &error else { return NoLink::Tls(error) };
        match cause.clone() {
            TlsError::CertificateExpired { not_after, now } => EdgeCertificate::Expired { not_after, now }.into(),
            TlsError::CertificateNotYetValid { not_before, now } => {
                EdgeCertificate::NotYetValid { not_before, now }.into()
            }
            TlsError::WrongName { expected, presented } => EdgeCertificate::WrongName { expected, presented }.into(),
            TlsError::UnknownIssuer => EdgeCertificate::UnknownAuthority.into(),
            TlsError::CertificateRefused(cause) => EdgeCertificate::Unfit(cause).into(),
            other => OwnCertificate::of(&other).map_or(NoLink::Tls(error), NoLink::from),
        }
    }
}

impl OwnCertificate {
    /// What an alert means that came after the certificate was shown.
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
            TlsError::WrongName { expected: "a".to_owned(), presented: "b".to_owned() },
            TlsError::UnknownIssuer,
            TlsError::CertificateRefused("no use".to_owned()),
            TlsError::AlertReceived(AlertDescription::UnknownCA),
            TlsError::AlertReceived(AlertDescription::CertificateExpired),
            TlsError::AlertReceived(AlertDescription::CertificateRequired),
            TlsError::NoApplicationProtocol,
        ];
        let found: Vec<NoLink> = troubles.iter().map(|error| HandshakeError::from(error.clone()).into()).collect();
        let texts: HashSet<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), troubles.len());
        assert_eq!(found.iter().filter(|error| error.doubts_certificate()).count(), 3);
        assert_eq!(found.iter().filter(|error| error.is_not_offered()).count(), 1);
    }
}
