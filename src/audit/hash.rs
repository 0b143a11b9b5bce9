use crate::base::{hex, sha256, unhex_lower};

/// The SHA-256 of a line, without its line feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> LineHash {
        LineHash(sha256(bytes))
    }

    /// The hash as 64 hexadecimal digits, as it stands in lines.
    #[must_use]
    pub fn text(self) -> String {
        hex(&self.0)
    }

    /// Parses 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<LineHash> {
        unhex_lower(text).map(LineHash)
    }
}
