use super::method::Version;
use super::names::{Known, is_token_byte};
use super::section::{Field, Section};
use super::{CONNECTION_ELEMENTS_MAX, CONNECTION_OPTIONS_MAX, HeadError};

/// The most digits of a length that fits into 63 bits.
const LENGTH_DIGITS_MAX: usize = 18;

/// How the end of a body is determined (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// The body has this many bytes, as `Content-Length` says (RFC 9112 section 6.2).
    Length(u64),
    /// Chunks, up to an empty one, then trailers (RFC 9112 section 7.1).
    Chunked,
    /// All bytes until the connection ends. Only responses have this.
    UntilClose,
}

impl Framing {
    /// The framing of the same body towards a peer of this version. A 1.1 peer can always detect the end of the body; a
    /// 1.0 peer does not support chunks.
    #[must_use]
    pub const fn toward(self, peer: Version) -> Framing {
        match (self, peer) {
            (Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked, Version::Http10) => Framing::UntilClose,
            (same, _) => same,
        }
    }
}

/// The framing and connection options of a request or response head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// There is an `Expect` field.
    pub(super) expects: bool,
    /// The sender accepts trailers (RFC 9110 section 10.1.4).
    pub(super) takes_trailers: bool,
    /// The number of options in all `Connection` fields.
    pub(super) connection_options: usize,
    /// The number of elements in them, including empty ones and those that are not tokens.
    connection_elements: usize,
}

impl Facts {
    pub(super) const EMPTY: Facts = Facts {
        content_length: None,
        chunked: false,
        close: false,
        keep_alive: false,
        upgrade: false,
        expects: false,
        takes_trailers: false,
        connection_options: 0,
        connection_elements: 0,
    };

    pub(super) fn gather(section: &Section, version: Version) -> Result<Facts, HeadError> {
        let mut facts = Facts::EMPTY;
        for field in section.fields() {
            facts.note(section, field)?;
        }
        if facts.chunked && facts.content_length.is_some() {
            return Err(HeadError::LengthAndEncoding);
        }
        if facts.chunked && version == Version::Http10 {
            return Err(HeadError::TransferEncodingInHttp10);
        }
        Ok(facts)
    }

    /// Whether the connection can carry another message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn note(&mut self, section: &Section, field: &Field) -> Result<(), HeadError> {
        // Most fields do not matter here, and their values are not read.
        let value = || section.value(field);
        match field.known {
            Known::ContentLength if self.content_length.is_some() || value().contains(&b',') => {
                Err(HeadError::RepeatedContentLength)
            }
            Known::ContentLength => {
                self.content_length = Some(parse_length(value()).ok_or(HeadError::BadContentLength)?);
                Ok(())
            }
            Known::TransferEncoding if self.chunked => Err(HeadError::RepeatedTransferEncoding),
            Known::TransferEncoding if value().eq_ignore_ascii_case(b"chunked") => {
                self.chunked = true;
                Ok(())
            }
            Known::TransferEncoding => Err(HeadError::UnsupportedTransferEncoding),
            Known::Connection => {
                let value = value();
                self.connection_elements += value.split(|&byte| byte == b',').take(CONNECTION_ELEMENTS_MAX + 1).count();
                if self.connection_elements > CONNECTION_ELEMENTS_MAX {
                    return Err(HeadError::TooManyConnectionOptions);
                }
                options(value).try_for_each(|option| self.note_option(option))
            }
            Known::Upgrade => {
                self.upgrade = true;
                Ok(())
            }
            Known::Expect => {
                self.expects = true;
                Ok(())
            }
            Known::Te => {
                let mut members = value().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
                self.takes_trailers |= members.any(|member| member.eq_ignore_ascii_case(b"trailers"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn note_option(&mut self, option: &[u8]) -> Result<(), HeadError> {
        self.connection_options += 1;
        self.close |= option.eq_ignore_ascii_case(b"close");
        self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        if self.connection_options > CONNECTION_OPTIONS_MAX { Err(HeadError::TooManyConnectionOptions) } else { Ok(()) }
    }
}

/// The options of a `Connection` value. An element that is not a token cannot name a field and is ignored.
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let plain = |option: &&[u8]| !option.is_empty() && option.iter().all(|&byte| is_token_byte(byte));
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(plain)
}

/// One or more decimal digits and nothing else: no sign, no white space, no list.
pub(super) fn parse_length(text: &[u8]) -> Option<u64> {
    let fits = (1..=LENGTH_DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    fits.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
