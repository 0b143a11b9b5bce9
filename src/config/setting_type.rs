//! The types of settings: how a value is parsed from a file, a variable or a flag, and how it is displayed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::TunnelId;
use crate::config::error::quoted;

/// A value as it was found, before its type is known.
#[derive(Clone)]
pub(super) enum Raw {
    /// The text of a variable or a flag. Every type can be written in this form; lists use commas.
    Word(String),
    /// A TOML string, used unchanged.
    Text(String),
    /// A TOML integer. One that is too large is replaced by the largest value.
    Integer(i128),
    /// A TOML boolean, `true` or `false`.
    Boolean(bool),
    /// A TOML array, or a flag that was given several times.
    List(Vec<Raw>),
    /// A TOML type that no setting has, by its name.
    Other(&'static str),
}

impl Raw {
    fn name(&self) -> &'static str {
        match self {
            Raw::Word(_) | Raw::Text(_) => "a text",
            Raw::Integer(_) => "an integer",
            Raw::Boolean(_) => "a boolean",
            Raw::List(_) => "a list",
            Raw::Other(name) => name,
        }
    }

    /// The text, if it is one; otherwise a message with what was expected.
    pub(super) fn text(&self, expected: &str) -> Result<&str, String> {
        match self {
            Raw::Word(text) | Raw::Text(text) => Ok(text),
            other => Err(format!("expected {expected}, found {}", other.name())),
        }
    }

    /// The integer, or the text that must be read further.
    pub(super) fn integer_or_text(&self, expected: &str) -> Result<Result<i128, &str>, String> {
        match self {
            Raw::Integer(n) => Ok(Ok(*n)),
            other => other.text(expected).map(Err),
        }
    }
}

/// A type that a setting can have.
pub(super) trait SettingType: Sized + PartialEq {
    /// Its name in the documentation.
    const KIND: &'static str;
    /// Whether its value is never shown.
    const SECRET: bool = false;

    /// Parses the value. Relative paths refer to `dir`. The message never repeats a secret.
    fn parse(raw: &Raw, dir: &Path) -> Result<Self, String>;

    /// The value as it is displayed; a secret is masked.
    fn to_json(&self) -> Value;

    /// The value if the setting is not set and has no default; `None` if that is not allowed.
    fn absent() -> Option<Self> {
        None
    }

    /// The number to which the bounds of the setting apply.
    fn size(&self) -> Option<u64> {
        None
    }

    /// The file that it names.
    fn file(&self) -> Option<&Path> {
        None
    }
}

impl SettingType for bool {
    const KIND: &'static str = "boolean";

    fn parse(raw: &Raw, _dir: &Path) -> Result<bool, String> {
        match raw {
            Raw::Boolean(value) => Ok(*value),
            Raw::Word(word) => word.parse().map_err(|_| format!("expected true or false, found {}", quoted(word))),
            other => Err(format!("expected true or false, found {}", other.name())),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(*self)
    }
}

impl SettingType for u32 {
    const KIND: &'static str = "integer";

    fn parse(raw: &Raw, _dir: &Path) -> Result<u32, String> {
        let number = match raw {
            Raw::Integer(n) => u32::try_from(*n).map_err(|_| n.to_string()),
            Raw::Word(word) => word.parse().map_err(|_| quoted(word)),
            other => Err(other.name().to_owned()),
        };
        number.map_err(|found| format!("expected an integer, 0 or more, found {found}"))
    }

    fn to_json(&self) -> Value {
        Value::from(*self)
    }

    fn size(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl SettingType for SocketAddr {
    const KIND: &'static str = "address";

    fn parse(raw: &Raw, _dir: &Path) -> Result<SocketAddr, String> {
        let text = raw.text("an address")?;
        text.parse().map_err(|_| {
            format!("{} is not an address; write IP:PORT, for example 127.0.0.1:8443 or [::1]:8443", quoted(text))
        })
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl SettingType for Option<SocketAddr> {
    const KIND: &'static str = "address or off";

    fn parse(raw: &Raw, dir: &Path) -> Result<Option<SocketAddr>, String> {
        if raw.text("an address or \"off\"")? == "off" { Ok(None) } else { SocketAddr::parse(raw, dir).map(Some) }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or_else(|| Value::from("off"), SettingType::to_json)
    }
}

impl SettingType for PathBuf {
    const KIND: &'static str = "path";

    fn parse(raw: &Raw, dir: &Path) -> Result<PathBuf, String> {
        match raw.text("the path of a file")? {
            "" => Err("the path is empty".to_owned()),
            text if text.contains('\0') => Err("the path holds a NUL character".to_owned()),
            text => Ok(dir.join(text)),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.display().to_string())
    }

    fn file(&self) -> Option<&Path> {
        Some(self)
    }
}

impl SettingType for TunnelId {
    const KIND: &'static str = "tunnel id";

    fn parse(raw: &Raw, _dir: &Path) -> Result<TunnelId, String> {
        raw.text("a tunnel id")?.parse().map_err(|error: crate::base::TunnelIdError| error.to_string())
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// Implements types whose setting is optional: `Option`, which is `None` if the setting is not set.
macro_rules! optional_setting {
    ($($value:ty),+) => { $(
        impl $crate::config::setting_type::SettingType for Option<$value> {
            const KIND: &'static str = <$value as $crate::config::setting_type::SettingType>::KIND;
            const SECRET: bool = <$value as $crate::config::setting_type::SettingType>::SECRET;

            fn parse(raw: &$crate::config::setting_type::Raw, dir: &std::path::Path) -> Result<Self, String> {
                <$value as $crate::config::setting_type::SettingType>::parse(raw, dir).map(Some)
            }

            fn to_json(&self) -> serde_json::Value {
                self.as_ref().map_or(serde_json::Value::Null, $crate::config::setting_type::SettingType::to_json)
            }

            fn absent() -> Option<Self> {
                Some(None)
            }

            fn size(&self) -> Option<u64> {
                self.as_ref().and_then($crate::config::setting_type::SettingType::size)
            }

            fn file(&self) -> Option<&std::path::Path> {
                self.as_ref().and_then($crate::config::setting_type::SettingType::file)
            }
        }
    )+ };
}

/// Implements lists as types of settings: in a file a list or one value, in a variable separated by commas.
macro_rules! list_setting {
    ($($value:ty = $kind:literal),+) => { $(
        impl $crate::config::setting_type::SettingType for Vec<$value> {
            const KIND: &'static str = $kind;

            fn parse(raw: &$crate::config::setting_type::Raw, dir: &std::path::Path) -> Result<Self, String> {
                $crate::config::setting_type::parse_list(raw, dir)
            }

            fn to_json(&self) -> serde_json::Value {
                serde_json::Value::Array(self.iter().map($crate::config::setting_type::SettingType::to_json).collect())
            }

            fn absent() -> Option<Self> {
                Some(Vec::new())
            }
        }
    )+ };
}

pub(super) use {list_setting, optional_setting};

optional_setting!(PathBuf, TunnelId, u32);

/// The most entries that one list may have.
const LIST_LEN_MAX: usize = 1_024;

pub(super) fn parse_list<T: SettingType>(raw: &Raw, dir: &Path) -> Result<Vec<T>, String> {
    let taken: Vec<T> = match raw {
        Raw::List(items) => items.iter().map(|item| T::parse(item, dir)).collect::<Result<_, _>>()?,
        Raw::Word(words) => {
            words.split(',').map(|word| T::parse(&Raw::Word(word.trim().to_owned()), dir)).collect::<Result<_, _>>()?
        }
        single => vec![T::parse(single, dir)?],
    };
    if taken.len() > LIST_LEN_MAX {
        return Err(format!("a list has at most {LIST_LEN_MAX} entries, this one has {}", taken.len()));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::HostPattern;

    fn word(text: &str) -> Raw {
        Raw::Word(text.to_owned())
    }

    #[test]
    fn a_variable_can_hold_every_type_and_a_file_is_strict() {
        let here = Path::new("");
        assert_eq!(u32::parse(&word("12"), here), Ok(12));
        assert_eq!(bool::parse(&word("true"), here), Ok(true));
        assert!(u32::parse(&Raw::Text("12".to_owned()), here).is_err());
        assert!(bool::parse(&Raw::Text("true".to_owned()), here).is_err());
        assert!(u32::parse(&Raw::Integer(-1), here).is_err());
        assert!(u32::parse(&Raw::Integer(1 << 40), here).is_err());
        assert!(SocketAddr::parse(&Raw::List(Vec::new()), here).is_err());
    }

    #[test]
    fn a_relative_path_counts_from_the_given_folder() {
        let dir = Path::new("/etc/adit");
        assert_eq!(PathBuf::parse(&word("a.pem"), dir), Ok(PathBuf::from("/etc/adit/a.pem")));
        assert_eq!(PathBuf::parse(&word("/a.pem"), dir), Ok(PathBuf::from("/a.pem")));
        assert!(PathBuf::parse(&word(""), dir).is_err());
    }

    #[test]
    fn a_list_may_be_written_with_commas_and_has_an_end() {
        let here = Path::new("");
        let two: Vec<HostPattern> = SettingType::parse(&word("A.example, b.example"), here).unwrap();
        assert_eq!(two.iter().map(HostPattern::to_string).collect::<Vec<_>>(), ["a.example", "b.example"]);
        let many = Raw::List(vec![word("a.example"); LIST_LEN_MAX + 1]);
        assert!(<Vec<HostPattern> as SettingType>::parse(&many, here).is_err());
    }

    #[test]
    fn off_is_no_address() {
        assert_eq!(<Option<SocketAddr> as SettingType>::parse(&word("off"), Path::new("")), Ok(None));
        assert!(<Option<SocketAddr> as SettingType>::parse(&word("of"), Path::new("")).is_err());
    }
}
