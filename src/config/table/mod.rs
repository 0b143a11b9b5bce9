//! The table of settings. To add a setting, add a row to its section: the structs, the environment variables, the check for
//! unknown keys, `adit config show` and `docs/CONFIG.md` are generated from it.

mod admission;
mod connect;
mod edge;
mod identity;
mod process;
mod tool;

pub use admission::{AdmissionConfig, NetworkSetConfig};
pub use connect::{ConnectConfig, RouteConfig};
pub use edge::{EdgeConfig, HostConfig, TunnelConfig};
pub use identity::{
    ClientAuthorityConfig, EdgeAuthorityConfig, IdentityConfig, IdentityProviderConfig, TokenExchangeConfig,
    TrustedEdgeConfig,
};
pub use process::{ApprovalsConfig, AuditConfig, EngineConfig, LogConfig, OtlpConfig};
pub use tool::ToolConfig;

use crate::config::section::{Part, Setting};

/// Every table of the file, in the order in which they are shown.
pub const PARTS: [Part; 19] = [
    Part::of::<EngineConfig>(),
    Part::of::<EdgeConfig>(),
    Part::of::<TunnelConfig>(),
    Part::of::<HostConfig>(),
    Part::of::<ToolConfig>(),
    Part::of::<AdmissionConfig>(),
    Part::of::<NetworkSetConfig>(),
    Part::of::<ConnectConfig>(),
    Part::of::<RouteConfig>(),
    Part::of::<IdentityConfig>(),
    Part::of::<IdentityProviderConfig>(),
    Part::of::<ClientAuthorityConfig>(),
    Part::of::<EdgeAuthorityConfig>(),
    Part::of::<TokenExchangeConfig>(),
    Part::of::<TrustedEdgeConfig>(),
    Part::of::<ApprovalsConfig>(),
    Part::of::<AuditConfig>(),
    Part::of::<OtlpConfig>(),
    Part::of::<LogConfig>(),
];

/// The routes of a connector as one variable: `HOST=URL`, several with commas between them.
pub(super) const ROUTES_ENV: &str = "ADIT_ROUTES";
/// The flag that gives one route, `HOST=URL`.
pub(super) const ROUTE_FLAG: &str = "--route";
/// The variable that names the file.
pub const FILE_ENV: &str = "ADIT_CONFIG";
/// The variables that `adit tunnel` reads, and that may be set where other commands run.
pub const ADMIN_URL_ENV: &str = "ADIT_ADMIN_URL";
/// The variable for the admin token itself.
pub const ADMIN_TOKEN_ENV: &str = "ADIT_ADMIN_TOKEN";
/// The variable for a file that holds the admin token.
pub const ADMIN_TOKEN_FILE_ENV: &str = "ADIT_ADMIN_TOKEN_FILE";
/// All variables that `adit tunnel` reads.
pub(super) const ADMIN_ENVS: [&str; 3] = [ADMIN_URL_ENV, ADMIN_TOKEN_ENV, ADMIN_TOKEN_FILE_ENV];
/// The settings for a connector's credentials; those that name the tunnel come first. Only the one in the highest layer
/// is used.
pub(super) const CREDENTIAL_KEYS: [&str; 6] = [
    "connect.token",
    "connect.token_file",
    "connect.provisioning_key",
    "connect.provisioning_key_file",
    "connect.secret",
    "connect.secret_file",
];
/// Variables with this prefix belong to tests and measuring programs, and are ignored.
pub(super) const FOREIGN_ENV_PREFIX: &str = "ADIT_TEST_";

/// Every setting of every table.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    PARTS.iter().flat_map(|part| part.settings)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_is_documented_and_every_path_and_variable_is_its_own() {
        let mut names = BTreeSet::from([ROUTES_ENV.to_owned(), FILE_ENV.to_owned()]);
        for setting in settings() {
            assert!(setting.doc().ends_with('.') && setting.doc().len() > 10, "{} needs a sentence", setting.path());
            assert!(names.insert(setting.path()), "{} stands twice", setting.path());
            if let Some(env) = setting.env() {
                assert!(env.starts_with("ADIT_") && !env.starts_with(FOREIGN_ENV_PREFIX), "{env}");
                assert!(names.insert(env.clone()), "{env} stands twice");
            }
        }
    }

    #[test]
    fn a_unit_stands_last_in_the_key() {
        for setting in settings() {
            let unit = match setting.kind {
                "duration" => "_ms",
                "size" => "_bytes",
                "auto or duration" => "_us",
                _ => continue,
            };
            assert!(setting.key.ends_with(unit), "{}", setting.path());
            assert!(setting.bounds.is_some(), "{} has no limit", setting.path());
        }
    }
}
