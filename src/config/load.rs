use std::path::Path;

use crate::base::Traffic;
use crate::config::checks::Checker;
use crate::config::entries::Entries;
use crate::config::error::{ConfigErrors, Origin};
use crate::config::reader::{EffectiveValue, Holds, NamedFile, Reader};
use crate::config::section::{Reload, Setting, TableSection};
use crate::config::service_variables;
use crate::config::sources::{Purpose, Sources};
use crate::config::table::{
    self, AdmissionConfig, ApprovalsConfig, AuditConfig, ConnectConfig, EdgeConfig, EngineConfig, IdentityConfig,
    LogConfig, OtlpConfig, RouteConfig, TunnelConfig,
};
use crate::config::values::{SecretSource, SecretText};
use crate::policy::Member;

/// The checked configuration of a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data plane: cores, driver and buffers.
    pub engine: EngineConfig,
    /// The public side, if this process is one.
    pub edge: Option<EdgeConfig>,
    /// Which sources may connect to the edge.
    pub admission: AdmissionConfig,
    /// The private side, if this process is one.
    pub connect: Option<ConnectConfig>,
    /// The issuers of the callers' tokens.
    pub identity: IdentityConfig,
    /// Who is told of calls that wait for approval.
    pub approvals: ApprovalsConfig,
    /// How calls are written to the audit log.
    pub audit: AuditConfig,
    /// Where traces and metrics are exported to.
    pub otlp: OtlpConfig,
    /// What is logged, and in which format.
    pub log: LogConfig,
    /// Every value with its origin, in the order of the table of settings.
    pub values: Vec<EffectiveValue>,
    /// Warnings about settings that are allowed but unwise, one sentence each.
    pub warnings: Vec<String>,
    pub(super) files: Vec<NamedFile>,
}

impl Config {
    /// Builds the configuration from its sources.
    ///
    /// # Errors
    ///
    /// All faults, not only the first one.
    pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
        let mut faults = Vec::new();
        let entries = Entries::collect(sources, &mut faults);
        let (wants_edge, wants_connect) = match sources.purpose {
            Purpose::Edge => (true, false),
            Purpose::Connect => (false, true),
            Purpose::Up => (true, true),
            Purpose::Check => (
                ["edge", "tunnel", "host", "tool", "admission", "network_set"]
                    .iter()
                    .any(|part| entries.mentions(part)),
                entries.mentions("connect") || entries.mentions("route"),
            ),
        };

        let mut reader = Reader::new(&entries);
        let engine = reader.section::<EngineConfig>(true);
        let edge = reader.section::<EdgeConfig>(wants_edge);
        let admission = reader.section::<AdmissionConfig>(wants_edge);
        let connect = reader.section::<ConnectConfig>(wants_connect);
        let identity = reader.section::<IdentityConfig>(true);
        let approvals = reader.section::<ApprovalsConfig>(true);
        let audit = reader.section::<AuditConfig>(true);
        let otlp = reader.section::<OtlpConfig>(true);
        let log = reader.section::<LogConfig>(true);
        let Reader { faults: found, values, files, .. } = reader;
        faults.extend(found);

        let mut checker = Checker::new(&entries, &faults);
        let edge = edge.filter(|_| wants_edge);
        let connect = connect.filter(|_| wants_connect);
        edge.iter().for_each(|edge| checker.edge(edge, sources.purpose != Purpose::Up));
        if let (Some(edge), Some(admission)) = (&edge, &admission) {
            checker.admission(admission, &edge.tunnels);
        }
        connect.iter().for_each(|connect| checker.connect(connect, sources.purpose != Purpose::Up));
        if let Some(identity) = &identity {
            checker.identity(identity, edge.as_ref(), connect.as_ref());
        }
        if let Some(approvals) = &approvals {
            // `adit up` has no approvals, and says so itself.
            let is_role = sources.purpose != Purpose::Up;
            checker.approvals(approvals, edge.as_ref().filter(|_| is_role), connect.as_ref().filter(|_| is_role));
        }
        otlp.iter().for_each(|otlp| checker.otlp(otlp));
        faults.extend(checker.into_faults());

        match (engine, admission, identity, approvals, audit, otlp, log) {
            (Some(engine), Some(admission), Some(identity), Some(approvals), Some(audit), Some(otlp), Some(log))
                if faults.is_empty() =>
            {
                let mut warnings = warnings(&values);
                warnings.extend(service_variables::warning(&entries.service_variables));
                let files = files_of_roles(files, wants_edge, wants_connect);
                Ok(Config {
                    engine,
                    edge,
                    admission,
                    connect,
                    identity,
                    approvals,
                    audit,
                    otlp,
                    log,
                    values,
                    warnings,
                    files,
                })
            }
            _ => Err(ConfigErrors::new(faults)),
        }
    }

    /// The files that settings name, without the configuration file itself.
    pub fn named_files(&self) -> impl Iterator<Item = &Path> {
        let others = self.files.iter().filter(|file| file.holds != Holds::SettingsWithSecret);
        others.map(|file| file.path.as_path())
    }

    /// The keys that differ between two configurations and take effect only after a restart. Empty when a reload is enough:
    /// for tunnels, routes, admission and log levels.
    #[must_use]
    pub fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
        let mut changed = old.engine.changed(&new.engine);
        changed.extend(old.approvals.changed(&new.approvals));
        changed.extend(old.audit.changed(&new.audit));
        changed.extend(old.otlp.changed(&new.otlp));
        changed.extend(old.log.changed(&new.log));
        let mut roles = Vec::new();
        match (&old.edge, &new.edge) {
            (Some(old), Some(new)) => changed.extend(old.changed(new)),
            (None, None) => {}
            _ => roles.push("edge".to_owned()),
        }
        match (&old.connect, &new.connect) {
            (Some(old), Some(new)) => changed.extend(old.changed(new)),
            (None, None) => {}
            _ => roles.push("connect".to_owned()),
        }
        changed.iter().filter(|setting| setting.reload == Reload::Restart).map(|s| s.path()).chain(roles).collect()
    }
}

impl AdmissionConfig {
    /// The four lists with their keys.
    pub(super) fn lists(&self) -> [(&'static str, &Vec<Member>); 4] {
        [
            ("allow_from", &self.allow_from),
            ("deny_from", &self.deny_from),
            ("connectors_allow_from", &self.connectors_allow_from),
            ("connectors_deny_from", &self.connectors_deny_from),
        ]
    }
}

impl TunnelConfig {
    /// The source of the secret. A checked configuration always has one.
    #[must_use]
    pub fn secret_source(&self) -> Option<SecretSource> {
        secret_source(self.secret.as_ref(), self.secret_file.as_deref())
    }
}

impl ConnectConfig {
    /// The source of the secret, unless it is part of a token.
    #[must_use]
    pub fn secret_source(&self) -> Option<SecretSource> {
        secret_source(self.secret.as_ref(), self.secret_file.as_deref())
    }

    /// The source of the provisioning key, if there is one.
    #[must_use]
    pub fn provisioning_source(&self) -> Option<SecretSource> {
        secret_source(self.provisioning_key.as_ref(), self.provisioning_key_file.as_deref())
    }

    /// The source of the token, if there is one.
    #[must_use]
    pub fn token_source(&self) -> Option<SecretSource> {
        secret_source(self.token.as_ref(), self.token_file.as_deref())
    }

    /// The source of the token for the admin API, if there is one.
    #[must_use]
    pub fn admin_token_source(&self) -> Option<SecretSource> {
        secret_source(None, self.admin_token_file.as_deref())
    }

    /// How the calls of a route are carried.
    #[must_use]
    pub fn traffic_of(&self, route: &RouteConfig) -> Traffic {
        route.traffic.unwrap_or(self.traffic)
    }

    /// The hosts whose traffic is sealed.
    pub fn sealed_hosts(&self) -> impl Iterator<Item = String> {
        self.routes.iter().filter(|route| self.traffic_of(route).is_sealed()).map(|route| route.host.to_string())
    }
}

fn secret_source(inline: Option<&SecretText>, file: Option<&Path>) -> Option<SecretSource> {
    let file = || file.map(|path| SecretSource::File(path.to_path_buf()));
    inline.cloned().map(SecretSource::Inline).or_else(file)
}

/// The files of the roles that run. Those of another role need not exist.
fn files_of_roles(files: Vec<NamedFile>, edge: bool, connect: bool) -> Vec<NamedFile> {
    let of_edge = |key: &str| {
        ["edge.", "tunnel[", "host[", "admission.", "network_set["].iter().any(|part| key.starts_with(part))
    };
    let of_both = |key: &str| {
        ["identity_provider[", "client_authority[", "token_exchange[", "otlp."].iter().any(|part| key.starts_with(part))
    };
    files.into_iter().filter(|file| of_both(&file.key) || if of_edge(&file.key) { edge } else { connect }).collect()
}

fn warnings(values: &[EffectiveValue]) -> Vec<String> {
    let secrets: Vec<&Setting> = table::settings().filter(|setting| setting.secret).collect();
    values
        .iter()
        .filter_map(|value| match &value.origin {
            Origin::Flag(name)
                if name.starts_with("--") && secrets.iter().any(|setting| is_of(&value.key, setting)) =>
            {
                Some(format!(
                    "{name}: {}: every user of this machine can read a command line; prefer ADIT_TUNNEL_TOKEN, \
                 ADIT_TUNNEL_SECRET or a file",
                    value.key
                ))
            }
            _ => None,
        })
        .collect()
}

/// Whether a key path, such as `tunnel[0].secret`, refers to this setting.
fn is_of(path: &str, setting: &Setting) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(table, key)| key == setting.key && table.split('[').next() == Some(setting.section))
}
