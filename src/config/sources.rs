//! The sources of a configuration: the profile, the file, the environment and the flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::profile::Profile;
use crate::config::table;

/// The command that reads the configuration: this decides which tables must be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `adit edge`: the edge alone.
    Edge,
    /// `adit connect`: the connector alone.
    Connect,
    /// `adit up`: both, with certificates made on the spot.
    Up,
    /// `adit config`: whichever of the two anything is set for.
    Check,
}

/// The text of a configuration file.
#[derive(Clone)]
pub struct FileText {
    /// The file as it was named; relative paths in it count from its folder.
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

/// Everything that a configuration is made from. What comes later wins: profile, file, environment, flags.
#[derive(Clone)]
pub struct Sources {
    /// The command that it is for.
    pub purpose: Purpose,
    /// The profile, if one was asked for.
    pub profile: Option<Profile>,
    /// The file, if there is one.
    pub file: Option<FileText>,
    /// The environment; only names that begin with `ADIT_` are looked at, and those of proxies.
    pub env: BTreeMap<String, String>,
    /// The flags in their order.
    pub flags: Vec<Flag>,
    /// Credential files that systemd provides to this service, by the setting that each is for. They count where no other
    /// credential of a connector is set.
    pub credentials: Vec<(&'static str, PathBuf)>,
}

/// The variable that names the folder of systemd's credentials.
pub const CREDENTIALS_ENV: &str = "CREDENTIALS_DIRECTORY";
/// The credentials that are looked for there, and the settings that they are for; the first that is there counts.
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
