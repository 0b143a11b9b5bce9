//! The reload of an edge: what it reads and what it replaces.

use std::sync::Arc;

use crate::base::{AuthorityPin, Secret};
use crate::config::{Config, EdgeConfig};
use crate::control::api::Access;
use crate::control::tunnels::Serving;
use crate::control::{ReloadFn, Reloaded};
use crate::edge::EdgeTables;
use crate::process::edge_identity::{EdgeCerts, EdgeTlsIdentity, authority_pin, load_authority, renew_seal_identity};
use crate::process::error::RunError;
use crate::process::log::Log;
use crate::process::settings::{AdmissionReader, PolicyReader, connectors_tls_config, sealed_edge_tables};
use crate::process::source::{LoadedConfig, ReadConfig, edge_of};
use crate::process::tls_files::data_dir;
use crate::tls::{Authority, Fingerprint, ServerConfig};

/// The parts of a running edge that a reload replaces.
pub(super) struct EdgeReload {
    /// The configuration with which the edge started.
    pub(super) started: Config,
    pub(super) serving: Arc<Serving>,
    pub(super) identity: EdgeTlsIdentity,
    pub(super) access: Option<Access>,
    pub(super) admission: AdmissionReader,
    pub(super) policies: PolicyReader,
}

/// The result of reading a configuration without faults.
struct Fresh {
    tables: EdgeTables,
    certs: EdgeCerts,
    /// The authority, if it differs from the current one.
    authority: Option<NewAuthority>,
    admin_token: Option<Secret>,
    pin: Option<AuthorityPin>,
}

/// An authority, and the TLS configuration that trusts its certificates.
struct NewAuthority {
    authority: Authority,
    tls: Arc<ServerConfig>,
}

impl EdgeReload {
    /// Reads everything first, and replaces parts only if all of it is valid.
    pub(super) fn into_reload(mut self, mut read: ReadConfig, log: Log) -> ReloadFn {
        Box::new(move || {
            let LoadedConfig { config, files } = read().map_err(|faults| faults.to_string())?;
            let fresh = self.read(&config).map_err(|error| error.to_string())?;
            if let Some((tunnel, unmet)) = self.serving.unmet_by(&fresh.tables.admission) {
                return Err(format!(
                    "the tunnel {tunnel} of the store: {unmet}, or change it first with `adit tunnel update`"
                ));
            }
            self.policies.put_in_force();
            self.replace(fresh);
            log.set_levels(&config.log.level);
            let restart_needed = Config::restart_needed(&self.started, &config);
            Ok(Reloaded { restart_needed, files: files.into_iter().collect() })
        })
    }

    fn read(&mut self, config: &Config) -> Result<Fresh, RunError> {
        let admission = self.admission.read(config)?;
        self.policies.begin(&config.identity)?;
        let tables = sealed_edge_tables(edge_of(config)?, admission, &mut self.policies, &self.identity.seals)?;
        // Changed file names take effect at the next start, changed content of the same files at once.
        let started = edge_of(&self.started)?;
        let certs = EdgeCerts::load(started)?;
        let (authority, pin) = self.read_authority(started)?;
        let dir = self.access.as_ref().and_then(|_| data_dir(started));
        let admin_token = dir.map(|dir| dir.admin_token()).transpose()?;
        Ok(Fresh { tables, certs, authority, admin_token, pin })
    }

    /// The authority if it has changed, and its pin.
    fn read_authority(&self, started: &EdgeConfig) -> Result<(Option<NewAuthority>, Option<AuthorityPin>), RunError> {
        let Some(current) = &self.identity.authority else { return Ok((None, None)) };
        let Some(read) = load_authority(started)? else { return Ok((None, None)) };
        let pin = authority_pin(started, &read);
        if *current.current().cert_der() == *read.cert_der() {
            return Ok((None, pin));
        }
        let tls = connectors_tls_config(&self.identity.connectors, Some(&read))?;
        Ok((Some(NewAuthority { authority: read, tls }), pin))
    }

    fn replace(&self, fresh: Fresh) {
        self.serving.set_configured(&fresh.tables);
        self.identity.replace_certs(fresh.certs);
        if let (Some(current), Some(NewAuthority { authority, tls })) = (&self.identity.authority, fresh.authority) {
            tracing::warn!(
                authority = %Fingerprint::of(authority.cert_der()),
                "the authority that certifies connectors was replaced: connectors that the former one certified enrol again with \
                 their next link"
            );
            current.replace(Arc::new(authority));
            self.serving.edge().replace_connectors_tls(tls);
        }
        if let Some(current) = &self.identity.authority {
            // The authority or the name of the edge may have changed.
            renew_seal_identity(&self.identity.seals, &current.current(), &self.identity.connectors);
        }
        if let Some(access) = &self.access {
            if let Some(tunnels) = &access.tunnels {
                tunnels.set_pin(fresh.pin);
            }
            if let Some(token) = &fresh.admin_token {
                access.token.replace(token);
            }
        }
    }
}
