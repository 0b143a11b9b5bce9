//! The certificate with which a connector serves inner TLS sessions: the configured one, or one that its own authority
//! signed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::connector_settings::state_dir;
use crate::config::{ConfigErrors, ConnectConfig};
use crate::connector::Sealing;
use crate::control::StateDir;
use crate::tls::{
    ALPN_HTTP1, ALPN_HTTP2, CallerAuthorities, CertError, CertSet, Clients, ReloadingCerts, ServerCert, ServerSettings,
    Versions, server_config,
};

/// The certificate of the connector's own authority, if it has one.
pub(crate) fn seal_ca(config: &ConnectConfig) -> Option<PathBuf> {
    let own = config.seal_cert_file.is_none() && config.sealed_hosts().next().is_some();
    state_dir(config).filter(|_| own).map(|dir| dir.seal_ca_cert())
}

/// The TLS configurations for sealed sessions with the edges of `callers` and with agents; `None` if no route is
/// sealed. The authority is created if it does not exist.
///
/// # Errors
///
/// Why there can be no certificate.
pub(crate) fn sealing(
    config: &ConnectConfig,
    callers: &Arc<CallerAuthorities>,
) -> Result<Option<Sealing>, ConfigErrors> {
    if config.sealed_hosts().next().is_none() {
        return Ok(None);
    }
    let certs = ReloadingCerts::new(seal_certs(config)?);
    let tls = |http2: bool, versions, clients| {
        let alpn = [ALPN_HTTP2, ALPN_HTTP1].into_iter().skip(usize::from(!http2)).map(<[u8]>::to_vec).collect();
        let settings = ServerSettings { alpn, versions, clients, ..ServerSettings::default() };
        server_config(Arc::<ReloadingCerts>::clone(&certs), &settings)
            .map_err(|error| ConfigErrors::of("connect.seal_cert_file", error))
    };
    Ok(Some(Sealing {
        passthrough: tls(config.http2, Versions::Tls12And13, Clients::Anyone)?,
        passthrough_asking: tls(config.http2, Versions::Tls12And13, Clients::Asked)?,
        // An edge speaks HTTP/1.1 inside a sealed session.
        resealed: tls(false, Versions::Tls13, Clients::Edges(Arc::clone(callers)))?,
    }))
}

fn seal_certs(config: &ConnectConfig) -> Result<CertSet, ConfigErrors> {
    let now = UnixTime::now();
    let (key, made) = match (&config.seal_cert_file, &config.seal_key_file) {
        (Some(cert), Some(key)) => ("connect.seal_cert_file", ServerCert::load(cert, key, now)),
        _ => ("connect.state_dir", own_cert(config, now)),
    };
    made.and_then(|cert| CertSet::new([cert])).map_err(|error| ConfigErrors::of(key, error))
}

/// A certificate signed by the connector's own authority.
fn own_cert(config: &ConnectConfig, now: UnixTime) -> Result<ServerCert, CertError> {
    let hosts: Vec<String> = config.sealed_hosts().map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    // A checked configuration has a state directory if it needs a certificate from the own authority.
    state_dir(config).unwrap_or_else(|| StateDir::new("")).issue_seal_cert(&hosts, now)
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
        assert!(sealing(&plain, &callers).unwrap().is_none() && seal_ca(&plain).is_none() && !state.exists());
        let sealed = config(&state, ROUTES);
        assert_eq!(sealed.sealed_hosts().collect::<Vec<_>>(), ["*.a.example"]);
        let offered = |more: &str| {
            let Sealing { passthrough, resealed, .. } =
                sealing(&config(&state, &format!("{more}{ROUTES}")), &callers).unwrap().unwrap();
            [passthrough, resealed].map(|tls| tls.alpn_protocols.iter().any(|protocol| protocol == ALPN_HTTP2))
        };
        assert_eq!((offered(""), offered("http2 = false\n")), ([true, false], [false, false]));
        let ca = std::fs::read(seal_ca(&sealed).unwrap()).unwrap();
        let mode = |name: &str| std::fs::metadata(state.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("seal-ca.pem"), mode("seal-ca.key")), (0o600, 0o600));
        assert!(sealing(&sealed, &callers).unwrap().is_some());
        assert_eq!(std::fs::read(seal_ca(&sealed).unwrap()).unwrap(), ca);
        assert_eq!(own_cert(&sealed, UnixTime::now()).unwrap().names(), ["*.a.example"]);
        std::fs::remove_file(state.join("seal-ca.key")).unwrap();
        assert!(sealing(&sealed, &callers).err().unwrap().to_string().contains("connect.state_dir"));
    }
}
