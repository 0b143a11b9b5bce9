use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest tunnel id that is accepted, in bytes.
pub const TUNNEL_ID_LEN_MAX: usize = 64;
/// The longest credential id that is accepted, in bytes.
pub const CREDENTIAL_ID_LEN_MAX: usize = 64;

/// The number of a core within its role: 0 to the number of cores minus one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a link, assigned by the side that uses it. It is never reused within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The public name of a tunnel: 1 to 64 characters of `A-Z a-z 0-9 _ -`, usually `tnl_…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(Box<str>);

impl TunnelId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The error for a text that is not a valid tunnel id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tunnel id is 1 to 64 letters, digits, '_' or '-'")]
pub struct TunnelIdError;

impl FromStr for TunnelId {
    type Err = TunnelIdError;

    fn from_str(text: &str) -> Result<TunnelId, TunnelIdError> {
        if is_plain(text, TUNNEL_ID_LEN_MAX) { Ok(TunnelId(text.into())) } else { Err(TunnelIdError) }
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public name of one credential of a tunnel: 1 to 64 characters of `A-Z a-z 0-9 _ -`, usually `crd_…`. It
/// identifies a secret without revealing anything about it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId(Arc<str>);

impl CredentialId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The error for a text that is not a valid credential id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential id is 1 to 64 letters, digits, '_' or '-'")]
pub struct CredentialIdError;

impl FromStr for CredentialId {
    type Err = CredentialIdError;

    fn from_str(text: &str) -> Result<CredentialId, CredentialIdError> {
        if is_plain(text, CREDENTIAL_ID_LEN_MAX) { Ok(CredentialId(text.into())) } else { Err(CredentialIdError) }
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(text: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_id_is_plain_and_bounded() {
        assert!("tnl_0aZ-9".parse::<TunnelId>().is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<TunnelId>(), Err(TunnelIdError));
            assert_eq!(bad.parse::<CredentialId>(), Err(CredentialIdError));
        }
    }
}
