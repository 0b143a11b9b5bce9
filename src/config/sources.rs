//! The sources of a configuration: the profile, the file, the environment and the flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::profile::Profile;
use crate::config::table;

/// The command that reads the configuration. It determines which tables must be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `adit edge`: the edge alone.
    Edge,
    /// `adit connect`: the connector alone.
    Connect,
    /// `adit up`: both roles, with certificates that it creates itself.
    Up,
    /// `adit config`: each role for which anything is set.
    Check,
}

/// The text of a configuration file.
#[derive(Clone)]
pub struct FileText {
    /// The file as it was named. Relative paths in it refer to its directory.
    pub path: PathBuf,
    /// The content of the file.
    pub text: String,
}

/// A setting that was given on the command line.
#[derive(Clone)]
pub struct Flag {
    /// The key path, such as `edge.agents_listen` or `tunnel[0].id`; or `route`, whose value is `HOST=URL`.
    pub key: String,
    /// The flag as it was written, such as `--listen`.
    pub name: String,
    /// Its value; a list takes several flags of one key.
    pub value: String,
}

/// All sources of a configuration, in ascending precedence: profile, file, environment, flags.
#[derive(Clone)]
pub struct Sources {
    /// The command that it is for.
    pub purpose: Purpose,
    /// The profile, if one was asked for.
    pub profile: Option<Profile>,
    /// The file, if there is one.
    pub file: Option<FileText>,
    /// The environment. Only names that begin with `ADIT_`, and those of proxies, are used.
    pub env: BTreeMap<String, String>,
    /// The flags in their order.
    pub flags: Vec<Flag>,
    /// Credential files that systemd provides to this service, by the setting that each is for. They apply only if no
    /// other credential of a connector is set.
    pub credentials: Vec<(&'static str, PathBuf)>,
}

/// The names of credentials in that directory, and the settings they are for. The first that exists is used.
pub const CREDENTIALS: [(&str, &str); 2] =
    [("adit.token", "connect.token_file"), ("adit.secret", "connect.secret_file")];

impl Flag {
    /// A flag under the name that the table of settings gives it; `--set` if it gives none.
    #[must_use]
    pub fn new(key: &str, value: impl Into<String>) -> Flag {
        let name = match key {
            "route" => table::ROUTE_FLAG,
            key => table::settings().find(|setting| setting.path() == key).and_then(|s| s.flag).unwrap_or("--set"),
        };
        Flag { key: key.to_owned(), name: name.to_owned(), value: value.into() }
    }
}
