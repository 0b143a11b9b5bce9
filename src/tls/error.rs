use rustls::{AlertDescription, CertificateError, PeerIncompatible, ProtocolVersion};

use super::clock::date;
use crate::engine::Class;

/// Why a TLS connection failed, or could not be made.
///
/// Once a [`Session`](super::Session) gave one of these it stays failed; the alert that tells the peer, where there is
/// one to tell, waits in its outgoing bytes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The peer's certificate is past its last day.
    #[error(
        "the peer's certificate expired on {not_after}, and the clock here says {now}: renew it there, or set this clock"
    )]
    CertificateExpired {
        /// The last second of its validity, as text in UTC.
        not_after: String,
        /// The clock by which it was judged.
        now: String,
    },
    /// The peer's certificate begins in the future, nearly always a clock that is wrong.
    #[error(
        "the peer's certificate is valid from {not_before} only, and the clock here says {now}: set this clock, or \
         that of the machine that issued it"
    )]
    CertificateNotYetValid {
        /// The first second of its validity, as text in UTC.
        not_before: String,
        /// The clock by which it was judged.
        now: String,
    },
    /// No authority that we trust signed the peer's certificate.
    #[error("the peer's certificate is signed by an authority that is not trusted here: add that authority's PEM file")]
    UnknownIssuer,
    /// The peer's certificate is for other names.
    #[error("the peer's certificate is for {presented}, not for {expected}: use a name it holds, or reissue it")]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate, or a word for none.
        presented: String,
    },
    /// The peer's certificate cannot be used for another reason.
    #[error("the peer's certificate was refused: {0}")]
    CertificateRefused(String),
    /// The peer sent text that is no TLS record but looks like HTTP.
    #[error("the peer speaks plain HTTP where TLS is expected: use the https port, or http in the address")]
    PlainHttp,
    /// The first bytes of the peer are no TLS record.
    #[error("the peer does not speak TLS: check address and port")]
    NotTls,
    /// The two sides have no protocol version in common.
    #[error("no TLS version in common with the peer: TLS 1.3 is needed, from agents at least TLS 1.2")]
    ProtocolVersion,
    /// The two sides have something else not in common.
    #[error("the peer's TLS lacks what is needed here: {0}")]
    Incompatible(String),
    /// The two sides have no application protocol in common.
    #[error("no application protocol (ALPN) in common with the peer: check that this is the right port")]
    NoApplicationProtocol,
    /// The peer ended the connection and said why.
    #[error("the peer ended TLS with the alert {}{}", alert_name(*.0), alert_remedy(*.0))]
    AlertReceived(AlertDescription),
    /// The peer broke the rules of the handshake.
    #[error("the peer broke the TLS protocol: {0}")]
    Misbehaved(String),
    /// A record did not authenticate: altered on its way, or the two sides disagree about keys.
    #[error("a TLS record did not decrypt: the bytes were altered between the two sides")]
    Decrypt,
    /// A record is longer than the protocol allows.
    #[error("a TLS record of {len} bytes is over the protocol's limit")]
    RecordTooLarge {
        /// The length in its header, or of its plaintext, in bytes.
        len: usize,
    },
    /// A record of a type that has no place where it came.
    #[error("a TLS record of type {0} came where it may not")]
    UnexpectedRecord(u8),
    /// A handshake message of a type that has no place where it came.
    #[error("a TLS handshake message of type {0} came where it may not")]
    UnexpectedMessage(u8),
    /// The peer wants another handshake on the same connection, which TLS 1.2 has and TLS 1.3 has not.
    #[error("the peer asked for renegotiation, which is refused here: open a new connection instead")]
    Renegotiation,
    /// A message inside a record is malformed.
    #[error("a malformed TLS message: {0}")]
    Malformed(&'static str),
    /// The peer sends a lot of records that carry nothing.
    #[error("the peer sent too many {0} in a row")]
    Flood(&'static str),
    /// The handshake sent more than any real one does.
    #[error("the peer's TLS handshake is over {limit} bytes")]
    HandshakeTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// What all handshakes under way keep of their peers' messages is as much as it may be.
    #[error("too many TLS handshakes are under way here: try again")]
    Crowded,
    /// The byte stream ended without close_notify, so what came may be cut short.
    #[error("the connection ended without TLS close_notify: what was received may be cut short")]
    Truncated,
    /// Sealing was asked for after [`close`](super::Session::close) or after a failure.
    #[error("the TLS connection is closed for sending")]
    Closed,
    /// Sealing was asked for before the handshake was done.
    #[error("the TLS handshake is not done")]
    Handshaking,
    /// All the records that one key may protect were used, and this version cannot change keys.
    #[error("the TLS keys are used up: open a new connection")]
    KeysExhausted,
    /// The pool has no buffer of this class now; nothing is lost, try again when one came back.
    #[error("no buffer is free in this core's pool: try again when one came back")]
    NoBuffer(Class),
    /// Bytes wait in [`take_outgoing`](super::Session::take_outgoing) that must be sent before anything more is sealed.
    #[error("TLS messages wait to be sent first")]
    OutgoingFirst,
    /// The configuration cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
    /// Anything else that rustls reports.
    #[error("TLS failed: {0}")]
    Other(rustls::Error),
}

impl TlsError {
    /// The alert that tells the peer of this fault, when it is one that our own record layer found.
    #[must_use]
    pub fn alert(&self) -> Option<AlertDescription> {
        Some(match self {
            TlsError::Decrypt => AlertDescription::BadRecordMac,
            TlsError::RecordTooLarge { .. } => AlertDescription::RecordOverflow,
            TlsError::UnexpectedRecord(_) | TlsError::UnexpectedMessage(_) | TlsError::Flood(_) => {
                AlertDescription::UnexpectedMessage
            }
            TlsError::Renegotiation => AlertDescription::NoRenegotiation,
            TlsError::Malformed(_) => AlertDescription::DecodeError,
            TlsError::HandshakeTooLarge { .. } | TlsError::Other(_) | TlsError::KeysExhausted => {
                AlertDescription::InternalError
            }
            TlsError::Misbehaved(_) => AlertDescription::IllegalParameter,
            _ => return None,
        })
    }

    /// The error for a stream that does not begin with a TLS record; `bytes` are its first.
    #[must_use]
    pub(super) fn not_tls(bytes: &[u8]) -> TlsError {
        const STARTS: [&[u8]; 10] =
            [b"GET ", b"POST", b"PUT ", b"HEAD", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ", b"HTTP"];
        let http = STARTS.iter().any(|start| {
            let seen = bytes.len().min(start.len());
            bytes[..seen] == start[..seen]
        });
        if http { TlsError::PlainHttp } else { TlsError::NotTls }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> TlsError {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(cause) => certificate_error(cause),
            E::AlertReceived(AlertDescription::ProtocolVersion) => TlsError::ProtocolVersion,
            E::AlertReceived(AlertDescription::NoApplicationProtocol) | E::NoApplicationProtocol => {
                TlsError::NoApplicationProtocol
            }
            E::AlertReceived(alert) => TlsError::AlertReceived(alert),
            E::PeerIncompatible(cause) => incompatible(&cause),
            E::PeerMisbehaved(cause) => TlsError::Misbehaved(format!("{cause:?}")),
            E::DecryptError => TlsError::Decrypt,
            E::PeerSentOversizedRecord => TlsError::RecordTooLarge { len: super::record::RECORD_LEN_MAX + 1 },
            E::InappropriateMessage { got_type, .. } => TlsError::UnexpectedRecord(got_type.into()),
            E::InappropriateHandshakeMessage { got_type, .. } => TlsError::UnexpectedMessage(got_type.into()),
            E::InvalidMessage(cause) => TlsError::Misbehaved(format!("{cause:?}")),
            other => TlsError::Other(other),
        }
    }
}

fn certificate_error(cause: CertificateError) -> TlsError {
    use CertificateError as C;
    match cause {
        C::ExpiredContext { time, not_after } => {
            TlsError::CertificateExpired { not_after: date(not_after), now: date(time) }
        }
        C::NotValidYetContext { time, not_before } => {
            TlsError::CertificateNotYetValid { not_before: date(not_before), now: date(time) }
        }
        C::UnknownIssuer => TlsError::UnknownIssuer,
        C::NotValidForNameContext { expected, presented } => TlsError::WrongName {
            expected: expected.to_str().into_owned(),
            presented: if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") },
        },
        C::BadSignature => TlsError::CertificateRefused(
            "its signature does not verify; perhaps an authority of the same name with a newer key signed it"
                .to_owned(),
        ),
        other => TlsError::CertificateRefused(other.to_string()),
    }
}

fn incompatible(cause: &PeerIncompatible) -> TlsError {
    use PeerIncompatible as P;
    match cause {
        P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled
        | P::Tls13RequiredForQuic
        | P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired => TlsError::ProtocolVersion,
        other => TlsError::Incompatible(format!("{other:?}")),
    }
}

fn alert_name(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::Unknown(code) => format!("number {code}"),
        known => format!("{known:?}"),
    }
}

fn alert_remedy(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::UnknownCA => ": it does not trust the authority that signed our certificate",
        A::CertificateExpired => ": it finds our certificate out of date; renew it, or set the clock there",
        A::BadCertificate | A::CertificateUnknown => ": it refuses our certificate; check that it is for this name",
        A::UnrecognisedName => ": it serves no such name; check the host name",
        A::HandshakeFailure => ": it shares no cipher suite or key exchange with us",
        A::CertificateRequired => ": it wants a client certificate",
        A::AccessDenied => ": it knows us and does not let us in",
        _ => "",
    }
}

/// The version as people write it.
#[must_use]
pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::UnixTime;

    use super::*;

    #[test]
    fn plain_http_is_told_from_noise() {
        assert_eq!(TlsError::not_tls(b"POST /mcp HTTP/1.1\r\n"), TlsError::PlainHttp);
        assert_eq!(TlsError::not_tls(b"GE"), TlsError::PlainHttp);
        assert_eq!(TlsError::not_tls(b"SSH-2.0-OpenSSH"), TlsError::NotTls);
        assert_eq!(TlsError::not_tls(&[0, 1, 2, 3]), TlsError::NotTls);
    }

    fn of_day(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(day * 24 * 3600))
    }

    #[test]
    fn messages_name_cause_and_remedy() {
        let text = TlsError::AlertReceived(AlertDescription::UnknownCA).to_string();
        assert!(text.contains("UnknownCA") && text.contains("does not trust"), "{text}");
        let (time, not_before) = (of_day(1), of_day(2));
        let early = CertificateError::NotValidYetContext { time, not_before };
        let text = TlsError::from(rustls::Error::InvalidCertificate(early)).to_string();
        assert!(text.contains("clock here says Jan  2 00:00:00 1970"), "{text}");
        let text = TlsError::AlertReceived(AlertDescription::Unknown(200)).to_string();
        assert!(text.contains("number 200"), "{text}");
    }
}
