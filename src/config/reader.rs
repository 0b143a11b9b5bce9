use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::entries::{Entries, Entry};
use crate::config::error::{ConfigError, Origin};
use crate::config::section::{Preset, ReadSettings, Setting, TableSection};
use crate::config::setting_type::{Raw, SettingType};

/// The effective value of a setting with its origin. Secrets are masked.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveValue {
    /// The key path, such as `edge.agents_listen`.
    pub key: String,
    /// The value, null when it is not set.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// A file that a setting names.
#[derive(Clone, Debug)]
pub(super) struct NamedFile {
    pub(super) key: String,
    pub(super) origin: Origin,
    pub(super) path: PathBuf,
    pub(super) holds: Holds,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// The rules of which caller may call which tool.
    Policy,
    /// The policies in Cedar.
    Cedar,
    /// A file that anyone may read.
    Public,
    /// The secret of a tunnel, or its token.
    Secret,
    /// The private key of a certificate.
    Key,
    /// Settings, a secret among them: the configuration file itself.
    SettingsWithSecret,
}

impl Holds {
    fn of(setting: &Setting) -> Holds {
        match setting.key {
            // One that another server has given, which may be of any length.
            "client_secret_file" | "headers_file" => Holds::Key,
            key if key.ends_with("secret_file") || key.ends_with("token_file") || key == "provisioning_key_file" => {
                Holds::Secret
            }
            key if key.ends_with("key_file") || key.ends_with("authorization_file") => Holds::Key,
            "policy_file" => Holds::Policy,
            "cedar_file" => Holds::Cedar,
            _ => Holds::Public,
        }
    }
}

/// Turns entries into typed values, and records faults and origins.
///
/// After a fault it continues with a placeholder, so that all faults are reported at once. A configuration with faults
/// is never returned.
pub(super) struct Reader<'a> {
    entries: &'a Entries,
    /// The table that is being read: `edge`, `route[0]`.
    at: String,
    /// Whether a missing required setting is a fault.
    demand: bool,
    pub(super) faults: Vec<ConfigError>,
    pub(super) values: Vec<EffectiveValue>,
    pub(super) files: Vec<NamedFile>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(entries: &'a Entries) -> Reader<'a> {
        let at = String::new();
        Reader { entries, at, demand: false, faults: Vec::new(), values: Vec::new(), files: Vec::new() }
    }

    /// Reads a table. Returns `None` only if the table of settings itself is wrong.
    pub(super) fn section<S: TableSection>(&mut self, demand: bool) -> Option<S> {
        self.demand = demand && !self.entries.unreadable;
        S::NAME.clone_into(&mut self.at);
        S::build(self)
    }

    fn name_file(&mut self, key: &str, origin: &Origin, path: PathBuf, holds: Holds) {
        self.files.push(NamedFile { key: key.to_owned(), origin: origin.clone(), path, holds });
    }

    fn read<T: SettingType>(&mut self, setting: &'static Setting, key: &str, entry: &Entry) -> Option<T> {
        match T::parse(&entry.raw, &entry.dir).and_then(|value| bounded(setting, value)) {
            Ok(value) => Some(value),
            Err(message) => {
                let message = if T::SECRET { format!("{message}; {}", secret_advice(key)) } else { message };
                self.faults.push(ConfigError::new(entry.origin.clone(), key, message));
                placeholder(setting)
            }
        }
    }

    fn preset<T: SettingType>(&mut self, setting: &'static Setting, key: &str) -> Option<T> {
        match setting.preset {
            Preset::Value(text) => parse_word(text),
            Preset::Unset => T::absent(),
            Preset::Required => {
                if self.demand {
                    self.faults.push(ConfigError::new(self.entries.place(key), key, missing(setting)));
                }
                placeholder(setting)
            }
        }
    }
}

impl ReadSettings for Reader<'_> {
    fn records<S: TableSection>(&mut self) -> Option<Vec<S>> {
        let outer = std::mem::take(&mut self.at);
        let rows = (0..self.entries.count(S::NAME)).map(|index| {
            self.at = format!("{}[{index}]", S::NAME);
            S::build(self)
        });
        let rows = rows.collect();
        self.at = outer;
        rows
    }

    fn setting<T: SettingType>(&mut self, setting: &'static Setting) -> Option<T> {
        let key = format!("{}.{}", self.at, setting.key);
        let (value, origin) = match self.entries.get(&key) {
            Some(entry) => (self.read::<T>(setting, &key, entry)?, entry.origin.clone()),
            None => (self.preset::<T>(setting, &key)?, Origin::Default),
        };
        if let Some(path) = value.file() {
            self.name_file(&key, &origin, path.to_path_buf(), Holds::of(setting));
        }
        if let Origin::File { name, .. } = &origin
            && setting.secret
        {
            self.name_file(&key, &origin, PathBuf::from(&**name), Holds::SettingsWithSecret);
        }
        let unset = origin == Origin::Default && setting.preset == Preset::Required;
        let shown = if unset { Value::Null } else { value.to_json() };
        self.values.push(EffectiveValue { key, value: shown, origin });
        Some(value)
    }
}

/// How to obtain a secret for this key.
pub(super) fn secret_advice(key: &str) -> &'static str {
    let setting = key.trim_end_matches("_file");
    if setting.ends_with("token") {
        "`adit tunnel create` and `adit tunnel rotate` print a token"
    } else if setting.ends_with("provisioning_key") {
        "`adit tunnel key create` prints a provisioning key"
    } else if setting.starts_with("connect.") {
        "it is the secret that the edge has for the tunnel"
    } else {
        "`openssl rand -hex 32` makes one"
    }
}

fn parse_word<T: SettingType>(text: &str) -> Option<T> {
    T::parse(&Raw::Word(text.to_owned()), Path::new("")).ok()
}

/// A value with which reading continues after a fault.
fn placeholder<T: SettingType>(setting: &'static Setting) -> Option<T> {
    match setting.preset {
        Preset::Value(text) => parse_word(text),
        Preset::Unset => T::absent(),
        Preset::Required => parse_word(setting.example),
    }
}

fn bounded<T: SettingType>(setting: &Setting, value: T) -> Result<T, String> {
    match (setting.bounds, value.size()) {
        (Some((least, greatest)), Some(size)) if !(least..=greatest).contains(&size) => {
            Err(format!("{size} is out of range, {least} to {greatest}"))
        }
        _ => Ok(value),
    }
}

fn missing(setting: &Setting) -> String {
    match (setting.env(), setting.flag) {
        (Some(env), Some(flag)) => {
            format!("missing; set it in [{}] of the file, in {env} or with {flag}", setting.section)
        }
        (Some(env), None) => format!("missing; set it in [{}] of the file or in {env}", setting.section),
        _ => "missing".to_owned(),
    }
}
