//! With what a connector serves sealed sessions: a certificate that it is given, or one by an authority of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::fault;
use crate::config::fault::Faults;
use crate::config::table::ConnectConfig;
use crate::connector::Sealing;
use crate::private;
use crate::tls::{
    ALPN_HTTP1, Authority, CallerAuthorities, CertError, CertSet, Clients, ReloadingCerts, ServerCert, ServerSettings,
    Versions, server_config,
};

/// The certificate of a connector's own authority, in its state directory.
const CA_FILE: &str = "seal-ca.pem";
/// Its key.
const CA_KEY_FILE: &str = "seal-ca.key";
/// How long a certificate by it is good for. It is made anew at every start and reload, and once a day.
const CERT_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

impl ConnectConfig {
    /// The hosts whose traffic is sealed.
    pub fn sealed_hosts(&self) -> impl Iterator<Item = String> {
        self.routes.iter().filter(|route| self.traffic_of(route).is_sealed()).map(|route| route.host.to_string())
    }

    /// The certificate of the authority that this connector makes for itself, if it does.
    #[must_use]
    pub fn seal_ca(&self) -> Option<PathBuf> {
        let own = self.seal_cert_file.is_none() && self.sealed_hosts().next().is_some();
        self.state_dir.as_ref().filter(|_| own).map(|dir| dir.0.join(CA_FILE))
    }

    /// With what sealed sessions are served, to edges of `callers` and to agents; nothing where no route is sealed. The
    /// authority is made now if it is not there.
    ///
    /// # Errors
    ///
    /// Why there can be no certificate.
    pub fn sealing(&self, callers: &Arc<CallerAuthorities>) -> Result<Option<Sealing>, Faults> {
        if self.sealed_hosts().next().is_none() {
            return Ok(None);
        }
        let certs = ReloadingCerts::new(self.seal_certs()?);
        let config = |versions, clients| {
            let settings =
                ServerSettings { alpn: vec![ALPN_HTTP1.to_vec()], versions, clients, ..ServerSettings::default() };
            server_config(Arc::<ReloadingCerts>::clone(&certs), &settings)
                .map_err(|error| fault("connect.seal_cert_file", error))
        };
        Ok(Some(Sealing {
            passthrough: config(Versions::Tls12And13, Clients::Anyone)?,
            resealed: config(Versions::Tls13, Clients::Edges(Arc::clone(callers)))?,
        }))
    }

    fn seal_certs(&self) -> Result<CertSet, Faults> {
        let now = UnixTime::now();
        let (key, made) = match (&self.seal_cert_file, &self.seal_key_file) {
            (Some(cert), Some(key)) => ("connect.seal_cert_file", ServerCert::load(cert, key, now)),
            _ => ("connect.state_dir", self.own_cert(now)),
        };
        made.and_then(|cert| CertSet::new([cert])).map_err(|error| fault(key, error))
    }

    /// A certificate by an authority of our own.
    fn own_cert(&self, now: UnixTime) -> Result<ServerCert, CertError> {
        let dir = self.state_dir.as_ref().map(|dir| dir.0.clone()).unwrap_or_default();
        private::folder(&dir)?;
        let (cert, key) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        if !cert.exists() {
            let made = Authority::make("adit connector", now)?;
            // The key first: without its certificate nobody believes it.
            private::write(&key, made.key_pem.expose())?;
            private::write(&cert, made.cert_pem.as_bytes())?;
            tracing::info!(file = %cert.display(), "made an authority for sealed routes");
        }
        let authority = Authority::load(&cert, &key, now)?;
        let hosts: Vec<String> = self.sealed_hosts().map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
        authority.issue_chain(&hosts, now, CERT_LIFE)?.server_cert(now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Purpose, Sources};

    fn config(state: &Path, more: &str) -> ConnectConfig {
        let text = format!(
            "[connect]\nedge = \"e:1\"\ntunnel = \"t\"\nsecret = \"an-example-secret-0123\"\nstate_dir = {state:?}\n{more}"
        );
        let file = crate::config::FileText { path: state.join("adit.toml"), text };
        let sources = Sources {
            purpose: Purpose::Connect,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        Config::load(&sources).unwrap().connect.unwrap()
    }

    const ROUTES: &str = "[[route]]\nhost = \"*.a.example\"\nupstream = \"http://127.0.0.1:1\"\ntraffic = \"resealed\"\n\
                          [[route]]\nhost = \"b.example\"\nupstream = \"http://127.0.0.1:1\"\n";

    #[test]
    fn an_authority_is_made_once_and_only_where_something_is_sealed() {
        let parent = tempfile::tempdir().unwrap();
        let state = parent.path().join("state");
        let callers = Arc::default();
        let plain = config(&state, &ROUTES.replace("resealed", "plain"));
        assert!(plain.sealing(&callers).unwrap().is_none() && plain.seal_ca().is_none() && !state.exists());
        let sealed = config(&state, ROUTES);
        assert_eq!(sealed.sealed_hosts().collect::<Vec<_>>(), ["*.a.example"]);
        assert!(sealed.sealing(&callers).unwrap().is_some());
        let ca = std::fs::read(sealed.seal_ca().unwrap()).unwrap();
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(CA_FILE), mode(CA_KEY_FILE)), (0o600, 0o600));
        assert!(sealed.sealing(&callers).unwrap().is_some());
        assert_eq!(std::fs::read(sealed.seal_ca().unwrap()).unwrap(), ca);
        assert_eq!(sealed.own_cert(UnixTime::now()).unwrap().names(), ["*.a.example"]);
        std::fs::remove_file(state.join(CA_KEY_FILE)).unwrap();
        assert!(sealed.sealing(&callers).err().unwrap().to_string().contains("connect.state_dir"));
    }
}
