//! The secret of a tunnel, and where it comes from.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::{Secret, TunnelToken, TunnelTokenError};
use crate::config::setting_type::{Raw, SettingType, optional_setting};

/// What is displayed instead of a secret.
pub const MASK: &str = "********";
/// The shortest secret that is accepted, in bytes.
pub const SECRET_LEN_MIN: usize = 16;
/// The longest secret that is accepted, in bytes.
pub const SECRET_LEN_MAX: usize = 256;

/// The secret of a tunnel. It is never displayed, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretText(pub Secret);

impl SecretText {
    /// Wraps a secret of a valid length.
    ///
    /// # Errors
    ///
    /// A message that does not repeat the text.
    pub fn new(text: &str) -> Result<SecretText, String> {
        match text.len() {
            SECRET_LEN_MIN..=SECRET_LEN_MAX => Ok(SecretText(Secret::from(text))),
            len => Err(format!("a secret has {SECRET_LEN_MIN} to {SECRET_LEN_MAX} bytes, this one has {len}")),
        }
    }
}

impl SecretText {
    /// The id and the secret, if this is a token.
    ///
    /// # Errors
    ///
    /// If it is not a token.
    pub fn token(&self) -> Result<TunnelToken, TunnelTokenError> {
        std::str::from_utf8(self.0.expose()).map_err(|_| TunnelTokenError)?.parse()
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &SecretText) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl SettingType for SecretText {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(raw: &Raw, _dir: &Path) -> Result<SecretText, String> {
        SecretText::new(raw.text("a text")?)
    }

    fn to_json(&self) -> Value {
        Value::from(MASK)
    }
}

/// The source of a tunnel's secret.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// In the configuration itself, or in a variable or a flag.
    Inline(SecretText),
    /// In a file of its own.
    File(PathBuf),
}

optional_setting!(SecretText);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_bounded_and_never_printed() {
        assert!(SecretText::new(&"s".repeat(SECRET_LEN_MIN - 1)).is_err());
        assert!(SecretText::new(&"s".repeat(SECRET_LEN_MAX + 1)).is_err());
        let secret = SecretText::new("a-very-hidden-thing").unwrap();
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(secret.to_json(), Value::from(MASK));
        assert!(!SecretText::new("hidden").unwrap_err().contains("hidden"));
    }
}
