use std::fmt;
use std::sync::Arc;

use crate::config::profile::Profile;

/// The most faults that are printed; further ones are only counted.
const FAULTS_SHOWN_MAX: usize = 100;
/// The longest word for which a similar word is suggested.
const NEAREST_LEN_MAX: usize = 64;
/// The longest part of a wrong value that a message repeats.
const QUOTED_LEN_MAX: usize = 80;

/// Where a value came from, in order of precedence: later variants override earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The default, because no layer sets the value.
    Default,
    /// The profile that was selected.
    Profile(Profile),
    /// A file, with the line if one is known (1 is the first).
    File {
        /// The file as it was named.
        name: Arc<str>,
        /// The line of the key; 0 when the whole file is meant.
        line: usize,
    },
    /// An environment variable, by its name.
    Env(Arc<str>),
    /// A flag on the command line, with its dashes.
    Flag(Arc<str>),
}

impl Origin {
    /// The kind of origin in one word: `default`, `profile`, `file`, `env` or `flag`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Profile(_) => "profile",
            Origin::File { .. } => "file",
            Origin::Env(_) => "env",
            Origin::Flag(_) => "flag",
        }
    }

    /// The precedence of the layer, independent of line or name.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::Profile(_) => 1,
            Origin::File { .. } => 2,
            Origin::Env(_) => 3,
            Origin::Flag(_) => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Profile(profile) => write!(f, "--profile {profile}"),
            Origin::File { name, line: 0 } => f.write_str(name),
            Origin::File { name, line } => write!(f, "{name}:{line}"),
            Origin::Env(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// One error in the configuration.
///
/// A message never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the faulty value is; `Default` for something that is missing.
    pub origin: Origin,
    /// The key path, such as `edge.agents_listen` or `route[0].upstream`; empty when no key is concerned.
    pub key: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl ConfigError {
    /// A fault of a key at this place.
    #[must_use]
    pub fn new(origin: Origin, key: impl Into<String>, message: impl Into<String>) -> ConfigError {
        ConfigError { origin, key: key.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All errors in the configuration, ordered by place: the file by line, the environment, the flags, and at the end what
/// is missing. `Display` prints one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts the faults. There must be at least one.
    #[must_use]
    pub fn new(mut faults: Vec<ConfigError>) -> ConfigErrors {
        faults.sort_by_cached_key(|fault| (fault.origin == Origin::Default, fault.origin.clone()));
        // One flag or variable can set a field of several tables. Its fault is reported once.
        faults.dedup_by(|later, first| {
            let one_value = matches!(first.origin, Origin::Flag(_) | Origin::Env(_)) && first.origin == later.origin;
            one_value && first.message == later.message && without_index(&first.key).eq(without_index(&later.key))
        });
        ConfigErrors(faults)
    }

    /// One fault of a key, found when its value was used.
    #[must_use]
    pub fn of(key: &str, error: impl fmt::Display) -> ConfigErrors {
        ConfigErrors::new(vec![ConfigError::new(Origin::Default, key, error.to_string())])
    }

    /// The faults in order.
    #[must_use]
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().take(FAULTS_SHOWN_MAX).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        match self.0.len().checked_sub(FAULTS_SHOWN_MAX) {
            Some(more) if more > 0 => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}

/// A key path without the indices of its tables: `route.host` for `route[2].host`.
fn without_index(key: &str) -> impl Iterator<Item = char> {
    key.chars().filter(|c| !c.is_ascii_digit() && !matches!(c, '[' | ']'))
}

/// The candidate that is most similar to `word`, if one is similar enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > NEAREST_LEN_MAX {
        return None;
    }
    let within = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= within)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Quotes a wrong value for a message: short and without control characters. A value that could contain a password
/// (`user:password@host`) is not quoted at all.
pub(super) fn quoted(text: &str) -> String {
    if text.contains('@') {
        return "the value".to_owned();
    }
    if text.chars().count() > QUOTED_LEN_MAX {
        let head: String = text.chars().take(QUOTED_LEN_MAX).collect();
        return format!("{head:?}…");
    }
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_found_and_a_far_one_is_not() {
        let known = ["agents_listen", "admin_listen", "drain_timeout_ms"];
        assert_eq!(nearest("agents_listenn", known), Some("agents_listen"));
        assert_eq!(nearest("adnim_listen", known), Some("admin_listen"));
        assert_eq!(nearest("upstream", known), None);
        assert_eq!(nearest(&"agents_listen".repeat(6), known), None);
    }

    #[test]
    fn faults_have_the_order_of_their_places_and_are_bounded() {
        let file = |line| Origin::File { name: "a.toml".into(), line };
        let faults = ConfigErrors::new(vec![
            ConfigError::new(Origin::Default, "x", "missing"),
            ConfigError::new(Origin::Flag("--y".into()), "y", "bad"),
            ConfigError::new(file(10), "b", "bad"),
            ConfigError::new(file(9), "a", "bad"),
        ]);
        assert_eq!(faults.to_string(), "a.toml:9: a: bad\na.toml:10: b: bad\n--y: y: bad\nx: missing");
        let many = ConfigErrors::new(vec![ConfigError::new(Origin::Default, "x", "bad"); FAULTS_SHOWN_MAX + 7]);
        let host = |index, message: &str| {
            ConfigError::new(Origin::Flag("--upstream".into()), format!("route[{index}].upstream"), message)
        };
        let once = ConfigErrors::new(vec![host(0, "bad"), host(1, "bad"), host(2, "bad"), host(10, "worse")]);
        assert_eq!(once.to_string(), "--upstream: route[0].upstream: bad\n--upstream: route[10].upstream: worse");
        assert!(many.to_string().ends_with("\nand 7 more"));
    }

    #[test]
    fn a_repeated_value_is_short_plain_and_carries_no_password() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert!(quoted(&"é".repeat(500)).chars().count() < QUOTED_LEN_MAX + 5);
        assert!(!quoted("http://me:hunter2@host").contains("hunter2"));
    }
}
