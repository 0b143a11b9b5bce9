//! The layers of a configuration: profile, file, environment and flags. Each overrides the one before.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::base::CREDENTIALS_ENV;
use crate::config::error::{ConfigError, Origin, nearest, quoted};
use crate::config::profile::Profile;
use crate::config::proxy::{NO_PROXY_ENVS, PROXY_ENVS};
use crate::config::section::{Part, Setting};
use crate::config::service_variables::is_service_variable;
use crate::config::setting_type::Raw;
use crate::config::sources::{FileText, Flag, Sources};
use crate::config::table::{self, ADMIN_ENVS, CREDENTIAL_KEYS, FILE_ENV, FOREIGN_ENV_PREFIX, PARTS, ROUTES_ENV};

/// The most tables of one kind, `[[tunnel]]` or `[[route]]`.
pub(super) const RECORDS_MAX: usize = 4_096;

/// A value that a layer sets.
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
    /// The directory that a relative path refers to.
    pub(super) dir: PathBuf,
}

/// All values that are set, by key path.
#[derive(Default)]
pub(super) struct Entries {
    values: BTreeMap<String, Entry>,
    /// Where each table begins: `edge`, `route[0]`.
    heads: BTreeMap<String, Origin>,
    counts: BTreeMap<&'static str, usize>,
    /// Whether the file is not valid TOML, so that no setting can be reported as missing.
    pub(super) unreadable: bool,
    /// The names of variables that Kubernetes sets for a service whose name begins with `adit`.
    pub(super) service_variables: Vec<String>,
}

impl Entries {
    pub(super) fn collect(sources: &Sources, faults: &mut Vec<ConfigError>) -> Entries {
        let mut entries = Entries::default();
        if let Some(profile) = sources.profile {
            entries.add_profile(profile);
        }
        if let Some(file) = &sources.file {
            FileLayer::new(file).walk(&mut entries, faults);
        }
        entries.add_env(&sources.env, faults);
        entries.add_flags(&sources.flags, faults);
        entries.keep_highest_layer();
        entries.add_credentials(&sources.credentials);
        if entries.mentions("connect") || entries.mentions("route") {
            entries.add_conventional("connect.proxy", &PROXY_ENVS, &sources.env);
            entries.add_conventional("connect.no_proxy", &NO_PROXY_ENVS, &sources.env);
        }
        entries
    }

    pub(super) fn get(&self, path: &str) -> Option<&Entry> {
        self.values.get(path)
    }

    /// How many tables of this kind there are.
    pub(super) fn count(&self, record: &str) -> usize {
        self.counts.get(record).copied().unwrap_or(0)
    }

    /// Whether any layer but the profile sets something in this table.
    pub(super) fn mentions(&self, part: &str) -> bool {
        self.heads.contains_key(part) || self.count(part) > 0 || {
            let prefix = format!("{part}.");
            let set = self.values.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
            set.into_iter().any(|(_, entry)| !matches!(entry.origin, Origin::Profile(_)))
        }
    }

    /// The place to report for a key: where it is set, otherwise where its table begins.
    pub(super) fn place(&self, path: &str) -> Origin {
        let table = path.rsplit_once('.').map_or(path, |(table, _)| table);
        let set = self.values.get(path).map(|entry| &entry.origin);
        set.or_else(|| self.heads.get(table)).cloned().unwrap_or(Origin::Default)
    }

    fn set(&mut self, path: String, raw: Raw, origin: Origin, dir: PathBuf) {
        self.values.insert(path, Entry { raw, origin, dir });
    }

    /// Profiles are part of the program, and tests prove them valid. A setting in a profile does not mean that a role
    /// is wanted, so the tables of a profile are not recorded.
    fn add_profile(&mut self, profile: Profile) {
        let file = FileText { path: PathBuf::new(), text: profile.text().to_owned() };
        let mut laid = Entries::default();
        FileLayer::new(&file).walk(&mut laid, &mut Vec::new());
        for (path, entry) in laid.values {
            self.set(path, entry.raw, Origin::Profile(profile), PathBuf::new());
        }
    }

    fn add_env(&mut self, env: &BTreeMap<String, String>, faults: &mut Vec<ConfigError>) {
        let known: BTreeMap<String, &Setting> = table::settings().filter_map(|s| Some((s.env()?, s))).collect();
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with("ADIT_")) {
            let origin = Origin::Env(name.as_str().into());
            match known.get(name) {
                // An empty variable counts as not set, because compose files produce such variables.
                Some(_) if value.is_empty() => {}
                Some(setting) => self.set(setting.path(), Raw::Word(value.clone()), origin, PathBuf::new()),
                None if name == ROUTES_ENV && !value.is_empty() => {
                    self.clear_records("route");
                    value.split(',').for_each(|pair| self.add_route(pair.trim(), origin.clone(), faults));
                }
                None if name == ROUTES_ENV || name == FILE_ENV || ADMIN_ENVS.contains(&name.as_str()) => {}
                None if name.starts_with(FOREIGN_ENV_PREFIX) => {}
                None if is_service_variable(name, value) => self.service_variables.push(name.clone()),
                None => faults.push(ConfigError::new(origin, "", unknown_env(name))),
            }
        }
    }

    fn add_flags(&mut self, flags: &[Flag], faults: &mut Vec<ConfigError>) {
        let mut replaced: Vec<&'static str> = Vec::new();
        for flag in flags {
            let origin = Origin::Flag(flag.name.as_str().into());
            let Some(target) = FlagTarget::of(&flag.key) else {
                faults.push(ConfigError::new(origin, flag.key.as_str(), unknown_path(&flag.key)));
                continue;
            };
            if let Some(record) = target.record()
                && !replaced.contains(&record)
            {
                replaced.push(record);
                self.clear_records(record);
            }
            match target {
                FlagTarget::Route => self.add_route(&flag.value, origin, faults),
                FlagTarget::Field(record, index) => {
                    let count = self.counts.entry(record).or_insert(0);
                    *count = (*count).max(index + 1);
                    self.set(flag.key.clone(), Raw::Word(flag.value.clone()), origin, PathBuf::new());
                }
                FlagTarget::Scalar(setting) => self.add_flag(setting, flag, origin, faults),
            }
        }
    }

    /// Adds a flag. If the setting is a list, the flag may be repeated.
    fn add_flag(&mut self, setting: &Setting, flag: &Flag, origin: Origin, faults: &mut Vec<ConfigError>) {
        let word = Raw::Word(flag.value.clone());
        match self.values.get_mut(&flag.key) {
            Some(Entry { raw, origin: Origin::Flag(first), .. }) => match raw {
                Raw::List(items) => items.push(word),
                _ if setting.kind.starts_with("list") => *raw = Raw::List(vec![raw.clone(), word]),
                _ => faults.push(ConfigError::new(origin, flag.key.as_str(), format!("already given by {first}"))),
            },
            _ => self.set(flag.key.clone(), word, origin, PathBuf::new()),
        }
    }

    /// Adds a route, written as `HOST=URL`.
    fn add_route(&mut self, pair: &str, origin: Origin, faults: &mut Vec<ConfigError>) {
        let index = self.count("route");
        if index == RECORDS_MAX {
            return faults.push(ConfigError::new(origin, "route", format!("more than {RECORDS_MAX} routes")));
        }
        let Some((host, upstream)) = pair.split_once('=') else {
            let message =
                format!("{} is not HOST=URL, for example demo.example.com=http://127.0.0.1:9000", quoted(pair));
            return faults.push(ConfigError::new(origin, "route", message));
        };
        self.counts.insert("route", index + 1);
        let mut set = |key, text: &str| {
            let path = format!("route[{index}].{key}");
            self.set(path, Raw::Word(text.to_owned()), origin.clone(), PathBuf::new());
        };
        set("host", host);
        // A list is a command.
        if upstream.starts_with('[') {
            set("command", upstream);
            set("upstream", "stdio");
        } else {
            set("upstream", upstream);
        }
    }

    /// Removes the tables of this kind that a lower layer set.
    fn clear_records(&mut self, record: &'static str) {
        let prefix = format!("{record}[");
        self.values.retain(|path, _| !path.starts_with(&prefix));
        self.heads.retain(|path, _| !path.starts_with(&prefix));
        self.counts.remove(record);
    }

    fn keep_highest_layer(&mut self) {
        let rank = |path: &str, entries: &Entries| entries.values.get(path).map(|entry| entry.origin.rank());
        let Some(highest) = CREDENTIAL_KEYS.iter().filter_map(|path| rank(path, self)).max() else { return };
        for path in CREDENTIAL_KEYS {
            if rank(path, self).is_some_and(|rank| rank < highest) {
                self.values.remove(path);
            }
        }
        // A token in a higher layer than the id names its own tunnel, and a provisioning key creates one.
        let by_token = CREDENTIAL_KEYS[..4].iter().any(|path| self.values.contains_key(*path));
        if by_token && rank("connect.tunnel", self).is_some_and(|rank| rank < highest) {
            self.values.remove("connect.tunnel");
        }
    }

    /// Sets a setting that no layer sets from the first of these variables, which other programs also read. An empty
    /// variable counts as not set.
    fn add_conventional(&mut self, path: &str, names: &[&str], env: &BTreeMap<String, String>) {
        let set = names.iter().find_map(|name| Some((*name, env.get(*name).filter(|value| !value.is_empty())?)));
        let Some((name, value)) = set.filter(|_| !self.values.contains_key(path)) else { return };
        let value = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",");
        self.set(path.to_owned(), Raw::Word(value), Origin::Env(name.into()), PathBuf::new());
    }

    /// Adds the systemd credential, unless a connector's credential is already set.
    fn add_credentials(&mut self, credentials: &[(&'static str, PathBuf)]) {
        let is_set = CREDENTIAL_KEYS.iter().any(|path| self.values.contains_key(*path));
        let Some((key, file)) = credentials.first().filter(|_| !is_set) else { return };
        let (raw, origin) = (Raw::Word(file.display().to_string()), Origin::Env(CREDENTIALS_ENV.into()));
        self.set((*key).to_owned(), raw, origin, PathBuf::new());
    }
}

/// The setting that the key of a flag stands for.
enum FlagTarget {
    Scalar(&'static Setting),
    /// A field of a table in a list: `tunnel[0].id`.
    Field(&'static str, usize),
    /// A whole route, written as `HOST=URL`.
    Route,
}

impl FlagTarget {
    fn of(key: &str) -> Option<FlagTarget> {
        if key == "route" {
            return Some(FlagTarget::Route);
        }
        let (table, field) = key.rsplit_once('.')?;
        let (name, index) = match table.strip_suffix(']').and_then(|table| table.split_once('[')) {
            Some((name, index)) => (name, Some(index.parse().ok().filter(|index| *index < RECORDS_MAX)?)),
            None => (table, None),
        };
        let part = PARTS.iter().find(|part| part.name == name && part.record == index.is_some())?;
        let setting = part.settings.iter().find(|setting| setting.key == field)?;
        Some(index.map_or(FlagTarget::Scalar(setting), |index| FlagTarget::Field(part.name, index)))
    }

    fn record(&self) -> Option<&'static str> {
        match self {
            FlagTarget::Scalar(_) => None,
            FlagTarget::Field(record, _) => Some(record),
            FlagTarget::Route => Some("route"),
        }
    }
}

/// The layer of the file, read table by table.
struct FileLayer<'a> {
    file: &'a FileText,
    name: Arc<str>,
    line_starts: Vec<usize>,
}

impl<'a> FileLayer<'a> {
    fn new(file: &'a FileText) -> FileLayer<'a> {
        let line_starts = file.text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1).collect();
        FileLayer { file, name: file.path.display().to_string().into(), line_starts }
    }

    fn at(&self, span: &Range<usize>) -> Origin {
        let line = self.line_starts.partition_point(|start| *start <= span.start) + 1;
        Origin::File { name: Arc::clone(&self.name), line }
    }

    fn walk(&self, entries: &mut Entries, faults: &mut Vec<ConfigError>) {
        let (root, errors) = DeTable::parse_recoverable(&self.file.text);
        if !errors.is_empty() {
            entries.unreadable = true;
            faults.extend(errors.iter().map(|error| {
                let origin = self.at(&error.span().unwrap_or(0..0));
                ConfigError::new(origin, "", format!("not valid TOML: {}", error.message()))
            }));
            return;
        }
        for (key, value) in root.get_ref() {
            let origin = self.at(&key.span());
            let name = key.get_ref().as_ref();
            match (PARTS.iter().find(|part| part.name == name), value.get_ref()) {
                (None, _) => faults.push(ConfigError::new(origin, name, unknown_top(name))),
                (Some(part), DeValue::Table(table)) if !part.record => {
                    self.walk_table(part, name, origin, table, entries, faults);
                }
                (Some(part), DeValue::Array(rows)) if part.record => {
                    if rows.len() > RECORDS_MAX {
                        faults.push(ConfigError::new(origin, name, format!("more than {RECORDS_MAX} tables")));
                        continue;
                    }
                    entries.counts.insert(part.name, rows.len());
                    for (index, row) in rows.iter().enumerate() {
                        let (path, origin) = (format!("{name}[{index}]"), self.at(&row.span()));
                        match row.get_ref() {
                            DeValue::Table(table) => self.walk_table(part, &path, origin, table, entries, faults),
                            _ => faults.push(ConfigError::new(origin, path, "expected a table")),
                        }
                    }
                }
                (Some(part), _) if part.record => {
                    faults.push(ConfigError::new(origin, name, format!("expected a list of tables, write [[{name}]]")));
                }
                (Some(_), _) => {
                    faults.push(ConfigError::new(origin, name, format!("expected a table, write [{name}]")))
                }
            }
        }
    }

    fn walk_table(
        &self,
        part: &Part,
        path: &str,
        head: Origin,
        table: &DeTable<'_>,
        entries: &mut Entries,
        faults: &mut Vec<ConfigError>,
    ) {
        let dir = self.file.path.parent().unwrap_or(&self.file.path).to_path_buf();
        entries.heads.insert(path.to_owned(), head);
        for (key, value) in table {
            let (name, origin) = (key.get_ref().as_ref(), self.at(&key.span()));
            let full = format!("{path}.{name}");
            if part.settings.iter().any(|setting| setting.key == name) {
                entries.set(full, raw(value.get_ref()), origin, dir.clone());
            } else {
                faults.push(ConfigError::new(origin, full, unknown_in(part, name)));
            }
        }
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(n) => Raw::Integer(i128::from_str_radix(n.as_str(), n.radix()).unwrap_or(i128::MAX)),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Float(_) => Raw::Other("a number with a fraction"),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

fn unknown(what: &str, meant: Option<String>) -> String {
    match meant {
        Some(meant) => format!("unknown {what}, did you mean {meant}?"),
        None => format!("unknown {what}"),
    }
}

/// The message for a key that its table does not have: it may be misspelt, or in the wrong table.
fn unknown_in(part: &Part, key: &str) -> String {
    let elsewhere = || table::settings().find(|setting| setting.key == key).map(|setting| setting.path());
    let near = || nearest(key, part.settings.iter().map(|setting| setting.key)).map(str::to_owned);
    let table = || PARTS.iter().find(|other| other.name == key).map(heading);
    let meant = near().or_else(elsewhere).map(|key| format!("{key:?}")).or_else(table);
    unknown("key", meant)
}

/// The message for an unknown table.
fn unknown_top(name: &str) -> String {
    let near = nearest(name, PARTS.iter().map(|part| part.name));
    let table = near.and_then(|near| PARTS.iter().find(|part| part.name == near)).map(heading);
    let inside =
        || table::settings().find(|setting| setting.key == name).map(|setting| format!("{:?}", setting.path()));
    unknown("table", table.or_else(inside))
}

/// The message for an unknown key of `--set`.
fn unknown_path(path: &str) -> String {
    let known: Vec<String> = table::settings().map(Setting::path).collect();
    unknown("key", nearest(path, known.iter().map(String::as_str)).map(|path| format!("{path:?}")))
}

fn unknown_env(name: &str) -> String {
    // Some variables have a short name. It is suggested instead of the name that the usual rule gives, and instead of
    // one made from the flag: ADIT_LISTEN for ADIT_EDGE_LISTEN, both for --listen.
    let by_flag = |setting: &Setting| {
        let flag = setting.flag?.trim_start_matches('-').replace('-', "_").to_uppercase();
        Some([format!("ADIT_{flag}"), format!("ADIT_{}_{flag}", setting.section.to_uppercase())])
    };
    let others = [ROUTES_ENV, FILE_ENV].into_iter().chain(ADMIN_ENVS);
    let mut named: Vec<(String, String)> = others.map(|env| (env.to_owned(), env.to_owned())).collect();
    for setting in table::settings() {
        let Some(env) = setting.env() else { continue };
        let aliases = by_flag(setting).into_iter().flatten().chain([env.clone(), setting.env_by_rule()]);
        named.extend(aliases.map(|alias| (alias, env.clone())));
    }
    let near = nearest(name, named.iter().map(|(alias, _)| alias.as_str()));
    let env = near.and_then(|near| named.iter().find(|(alias, _)| alias == near)).map(|(_, env)| env.clone());
    unknown("variable", env)
}

fn heading(part: &Part) -> String {
    if part.record { format!("[[{}]]", part.name) } else { format!("[{}]", part.name) }
}
