use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible, ProtocolVersion};

use super::clock::date;
use super::untrusted::take_issuer;
use crate::engine::Class;

/// Why a TLS connection failed or could not be made.
///
/// After one of these errors a [`Session`](super::Session) stays failed. If there is an alert for the peer, it waits in
/// the outgoing bytes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The peer's certificate has expired.
    #[error(
        "the peer's certificate expired on {not_after}, and the clock here says {now}: renew it there, or set this clock"
    )]
    CertificateExpired {
        /// The last second of its validity, as text in UTC.
        not_after: String,
        /// The time on the clock that was used for the check.
        now: String,
    },
    /// The peer's certificate is not valid yet; most often because a clock is wrong.
    #[error(
        "the peer's certificate is valid from {not_before} only, and the clock here says {now}: set this clock, or \
         that of the machine that issued it"
    )]
    CertificateNotYetValid {
        /// The first second of its validity, as text in UTC.
        not_before: String,
        /// The time on the clock that was used for the check.
        now: String,
    },
    /// No trusted authority signed the peer's certificate.
    #[error("the peer's certificate is signed by an authority that is not trusted here: add that authority's PEM file")]
    UnknownIssuer,
    /// No trusted authority signed a server's certificate, with the name of the authority that did.
    #[error(
        "the peer's certificate is signed by '{issuer}', which is not trusted here: add that authority's PEM file if it is the \
         right one; a firewall or proxy that inspects TLS shows such a certificate too, and can read what passes"
    )]
    UntrustedIssuer {
        /// The issuer's distinguished name, as the certificate gives it.
        issuer: String,
    },
    /// The peer's certificate is for other names.
    #[error("the peer's certificate is for {presented}, not for {expected}: use a name it holds, or reissue it")]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate, or a word for none.
        presented: String,
    },
    /// The peer's certificate was refused for another reason.
    #[error("the peer's certificate was refused: {0}")]
    CertificateRefused(String),
    /// The peer sent text that looks like HTTP instead of a TLS record.
    #[error("the peer speaks plain HTTP where TLS is expected: use the https port, or http in the address")]
    PlainHttp,
    /// The peer's first bytes are not a TLS record.
    #[error("the peer does not speak TLS: check address and port")]
    NotTls,
    /// The two sides have no TLS version in common.
    #[error("no TLS version in common with the peer: TLS 1.3 is needed, from agents at least TLS 1.2")]
    ProtocolVersion,
    /// The two sides do not share another parameter of the handshake.
    #[error("the peer's TLS does not support what is required here: {0}")]
    Incompatible(String),
    /// The two sides have no application protocol in common.
    #[error("no application protocol (ALPN) in common with the peer: check that this is the right port")]
    NoApplicationProtocol,
    /// The peer ended the connection with this alert.
    #[error("the peer ended TLS with the alert {}{}", alert_name(*.0), alert_remedy(*.0))]
    AlertReceived(AlertDescription),
    /// The peer violated the rules of the handshake.
    #[error("the peer broke the TLS protocol: {0}")]
    Misbehaved(String),
    /// A record could not be authenticated: it was modified on its way, or the two sides have different keys.
    #[error("a TLS record did not decrypt: the bytes were altered between the two sides")]
    Decrypt,
    /// A record is longer than the protocol allows.
    #[error("a TLS record of {len} bytes is over the protocol's limit")]
    RecordTooLarge {
        /// The length in the header or of the plaintext, in bytes.
        len: usize,
    },
    /// A record of a type that is not allowed at this point.
    #[error("a TLS record of type {0} is not allowed at this point")]
    UnexpectedRecord(u8),
    /// A handshake message of a type that is not allowed at this point.
    #[error("a TLS handshake message of type {0} is not allowed at this point")]
    UnexpectedMessage(u8),
    /// The peer asks for renegotiation, which TLS 1.2 has and TLS 1.3 has not. It is refused.
    #[error("the peer asked for renegotiation, which is refused here: open a new connection instead")]
    Renegotiation,
    /// A message inside a record is malformed.
    #[error("a malformed TLS message: {0}")]
    Malformed(&'static str),
    /// The peer sends many records without content.
    #[error("the peer sent too many {0} in a row")]
    Flood(&'static str),
    /// The peer sent more during the handshake than any real handshake needs.
    #[error("the peer's TLS handshake is over {limit} bytes")]
    HandshakeTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// All handshakes together keep as many bytes of their peers' messages as is allowed.
    #[error("too many TLS handshakes are under way here: try again")]
    Crowded,
    /// The byte stream ended without close_notify, so that data may be missing.
    #[error("the connection ended without TLS close_notify: what was received may be cut short")]
    Truncated,
    /// Sealing was requested after [`close`](super::Session::close) or after a failure.
    #[error("the TLS connection is closed for sending")]
    Closed,
    /// Sealing was requested before the handshake was done.
    #[error("the TLS handshake is not done")]
    Handshaking,
    /// The key has protected as many records as it may, and this TLS version cannot change keys.
    #[error("the TLS keys are used up: open a new connection")]
    KeysExhausted,
    /// The pool has no buffer of this class now. Nothing is lost: try again when a buffer is free.
    #[error("no buffer is free in this core's pool: try again when one is released")]
    NoBuffer(Class),
    /// The bytes in [`take_outgoing`](super::Session::take_outgoing) must be sent before more is sealed.
    #[error("TLS messages wait to be sent first")]
    OutgoingFirst,
    /// The configuration is not valid.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
    /// Any other error of rustls.
    #[error("TLS failed: {0}")]
    Other(rustls::Error),
}

impl TlsError {
    /// The alert that tells the peer about this error, if the record layer of this crate found it.
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

    /// Adds the name of the authority, if this error comes from a client handshake that has just failed on this thread
    /// because no trusted authority signed the server's certificate.
    pub(super) fn naming_issuer(self) -> TlsError {
        match self {
            TlsError::UnknownIssuer => {
                take_issuer().map_or(TlsError::UnknownIssuer, |issuer| TlsError::UntrustedIssuer { issuer })
            }
            other => other,
        }
    }

    /// As [`TlsError::of_io`], for a client handshake that has just failed on this thread.
    #[must_use]
    pub fn of_client_io(error: &io::Error) -> Option<TlsError> {
        TlsError::of_io(error).map(TlsError::naming_issuer)
    }

    /// The TLS error inside an I/O error, which is how libraries pass it on.
    #[must_use]
    pub fn of_io(error: &io::Error) -> Option<TlsError> {
        let inner = error.get_ref()?;
        match inner.downcast_ref::<rustls::Error>() {
            Some(tls) => Some(TlsError::from(tls.clone())),
            None => TlsError::of_io(inner.downcast_ref()?),
        }
    }

    /// The error for a stream that does not begin with a TLS record; `bytes` are its first bytes.
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
            E::PeerMisbehaved(cause) => TlsError::Misbehaved(words(&format!("{cause:?}"))),
            E::DecryptError => TlsError::Decrypt,
            E::PeerSentOversizedRecord => TlsError::RecordTooLarge { len: super::record::RECORD_LEN_MAX + 1 },
            E::InappropriateMessage { got_type, .. } => TlsError::UnexpectedRecord(got_type.into()),
            E::InappropriateHandshakeMessage { got_type, .. } => TlsError::UnexpectedMessage(got_type.into()),
            E::InvalidMessage(cause) => TlsError::Misbehaved(words(&format!("{cause:?}"))),
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
            presented: match &presented[..] {
                [] => "no name at all".to_owned(),
                names => names.iter().map(|name| innermost(name)).collect::<Vec<_>>().join(", "),
            },
        },
        C::BadSignature => TlsError::CertificateRefused(
            "its signature does not verify; perhaps an authority of the same name with a newer key signed it"
                .to_owned(),
        ),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => {
            TlsError::CertificateRefused("its extended key usage does not allow this use".to_owned())
        }
        other => TlsError::CertificateRefused(match innermost(&format!("{other:?}")) {
            "CaUsedAsEndEntity" => {
                "it is an authority's own certificate: show one that the authority issued for this server".to_owned()
            }
            name => words(name),
        }),
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
        other => TlsError::Incompatible(words(&format!("{other:?}"))),
    }
}

/// Returns the text in the innermost brackets. rustls and webpki give some causes and names only as debug output, such
/// as `Other(OtherError(CaUsedAsEndEntity))` or `DnsName("localhost")`.
fn innermost(debug: &str) -> &str {
    let mut inner = debug;
    while let Some((_, rest)) = inner.strip_suffix(')').and_then(|open| open.split_once('(')) {
        inner = rest;
    }
    inner.trim_matches('"')
}

/// The name of a variant as words: `no certificates presented` for `NoCertificatesPresented`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut previous = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() && (previous.is_ascii_lowercase() || previous.is_ascii_digit()) {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
        previous = c;
    }
    words
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
        A::CertificateExpired => ": it considers our certificate expired; renew it, or set the clock there",
        A::BadCertificate | A::CertificateUnknown => ": it refuses our certificate; check that it is for this name",
        A::UnrecognisedName => ": it serves no such name; check the host name",
        A::HandshakeFailure => ": it shares no cipher suite or key exchange with us",
        A::CertificateRequired => ": it requires a client certificate",
        A::AccessDenied => ": it recognizes our certificate, and denies access",
        _ => "",
    }
}

/// The name of the version for people.
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
    fn plain_http_is_distinguished_from_noise() {
        assert_eq!(TlsError::not_tls(b"POST /mcp HTTP/1.1\r\n"), TlsError::PlainHttp);
        assert_eq!(TlsError::not_tls(b"GE"), TlsError::PlainHttp);
        assert_eq!(TlsError::not_tls(b"SSH-2.0-OpenSSH"), TlsError::NotTls);
        assert_eq!(TlsError::not_tls(&[0, 1, 2, 3]), TlsError::NotTls);
    }

    #[test]
    fn no_message_is_the_source_text_of_a_library() {
        let expected = rustls_pki_types::ServerName::try_from("edge.test").unwrap();
        let presented = vec![r#"DnsName("localhost")"#.to_owned(), r#"DnsName("*.a.test")"#.to_owned()];
        for (cause, want) in [
            (
                CertificateError::NotValidForNameContext { expected, presented },
                "for localhost, *.a.test, not for edge.test",
            ),
            (CertificateError::ApplicationVerificationFailure, "refused: application verification failure"),
            (CertificateError::InvalidPurpose, "extended key usage"),
        ] {
            let text = TlsError::from(rustls::Error::InvalidCertificate(cause)).to_string();
            assert!(text.contains(want) && !text.contains('('), "{text}");
        }
        let text =
            TlsError::from(rustls::Error::from(rustls::PeerMisbehaved::IllegalMiddleboxChangeCipherSpec)).to_string();
        assert!(text.contains("illegal middlebox change cipher spec"), "{text}");
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
