//! Texts of a limited alphabet and length: names, header fields, paths and log levels.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, list_setting, optional_setting};

/// The longest name of a tool, in bytes. Tools with longer names have no figures of their own.
const TOOL_NAME_LEN_MAX: usize = 128;

/// The name of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolName(pub String);

impl SettingType for ToolName {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<ToolName, String> {
        match raw.text("the name of a tool")? {
            "" => Err("the name is empty".to_owned()),
            name if name.len() > TOOL_NAME_LEN_MAX => Err(format!("the name is longer than {TOOL_NAME_LEN_MAX} bytes")),
            name => Ok(ToolName(name.to_owned())),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// A text as used in tokens and challenges: visible ASCII without quotes and backslashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenText(pub String);

/// The longest such text, in bytes.
const TOKEN_TEXT_LEN_MAX: usize = 1_024;

impl SettingType for TokenText {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<TokenText, String> {
        let text = raw.text("a text")?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        if (1..=TOKEN_TEXT_LEN_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            return Ok(TokenText(text.to_owned()));
        }
        Err(format!(
            "{} is not a text of visible ASCII characters without spaces, quotes and backslashes",
            quoted(text)
        ))
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// The name of a header field that adit adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaderName(pub String);

/// The longest such name, in bytes.
const IDENTITY_HEADER_LEN_MAX: usize = 64;
/// Names that mean something to proxies and servers, in lower case.
const HEADERS_TAKEN: [&str; 4] = ["x-forwarded", "x-real-ip", "x-original-", "x-request-timeout"];

impl SettingType for IdentityHeaderName {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<IdentityHeaderName, String> {
        let text = raw.text("the name of a header field")?;
        let lower = text.to_ascii_lowercase();
        let is_name = lower.len() <= IDENTITY_HEADER_LEN_MAX
            && lower.strip_prefix("x-").is_some_and(|rest| !rest.is_empty())
            && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_name && !HEADERS_TAKEN.iter().any(|taken| lower.starts_with(taken)) {
            return Ok(IdentityHeaderName(text.to_owned()));
        }
        Err(format!("{} is no name for it: use `X-` with letters, digits and `-`, such as X-Caller", quoted(text)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// The name of a header field (RFC 9110, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNameText(pub String);

/// The longest name of a header field, in bytes.
const FIELD_NAME_LEN_MAX: usize = 64;

impl SettingType for FieldNameText {
    const KIND: &'static str = "header field";

    fn parse(raw: &Raw, _dir: &Path) -> Result<FieldNameText, String> {
        let name = raw.text("the name of a header field")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match name {
            name if !(1..=FIELD_NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(is_name) => {
                Err(format!("{} is not the name of a header field, such as X-Task-Id", quoted(name)))
            }
            name if ["authorization", "cookie"].iter().any(|secret| name.eq_ignore_ascii_case(secret)) => {
                Err(format!("{name} carries a secret and cannot be used: `adit tasks` shows the value"))
            }
            name => Ok(FieldNameText(name.to_owned())),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// The path of a directory. Unlike a file that a setting names, it is neither read nor watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPath(pub PathBuf);

impl SettingType for FolderPath {
    const KIND: &'static str = "path";

    fn parse(raw: &Raw, dir: &Path) -> Result<FolderPath, String> {
        PathBuf::parse(raw, dir).map(FolderPath)
    }

    fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

/// How much is logged: a level for everything, and others for single modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels(String);

impl LogLevels {
    /// The levels as directives, `info,adit::link=debug`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingType for LogLevels {
    const KIND: &'static str = "log levels";

    fn parse(raw: &Raw, _dir: &Path) -> Result<LogLevels, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let text = raw.text("log levels")?;
        for directive in text.split(',') {
            let (module, level) = directive.split_once('=').unwrap_or(("adit", directive));
            if module.is_empty() || !module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':') {
                return Err(format!("{} does not name a module; write MODULE=LEVEL", quoted(directive)));
            }
            if !LEVELS.contains(&level) {
                return Err(format!("{} is not one of {}", quoted(level), LEVELS.join(", ")));
            }
        }
        Ok(LogLevels(text.to_owned()))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

optional_setting!(FieldNameText, IdentityHeaderName, FolderPath, TokenText);
list_setting!(TokenText = "list of texts");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: SettingType>(text: &str) -> Result<T, String> {
        T::parse(&Raw::Text(text.to_owned()), Path::new(""))
    }

    #[test]
    fn log_levels_are_known_words() {
        for right in ["info", "off", "info,adit::link=debug", "adit=trace"] {
            assert_eq!(parse::<LogLevels>(right).unwrap().as_str(), right);
        }
        for wrong in ["", "inof", "info,", "=debug", "adit link=debug", "adit=loud"] {
            assert!(parse::<LogLevels>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_field_has_a_name_and_is_no_secret() {
        let parse = |text: &str| FieldNameText::parse(&Raw::Text(text.to_owned()), Path::new("")).is_ok();
        assert!(parse("X-Task-Id") && parse("baggage"));
        for bad in ["", "X Task", "X-Task:", "Authorization", "cookie", &"x".repeat(65)] {
            assert!(!parse(bad), "{bad}");
        }
    }
}
