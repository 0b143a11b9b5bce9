//! What hosts and routes ask of their callers, and the issuers of tokens, made from the configuration.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use reqwest::Client;

use crate::base::{HostPattern, Secret, SecretHash};
use crate::config::{
    CallerAuth, ConfigError, ConfigErrors, HostConfig, HttpUrl, IdentityConfig, IdentityProviderConfig, Millis, Origin,
    RouteConfig, TokenText,
};
use crate::control::{KeySource, keep_keys, key_client};
use crate::identity::{
    AuthTerms, KEY_SET_LEN_MAX, KeySet, KeyStore, RouteAuth, TokenAlgorithm, TokenIssuer, TokenRules,
};
use crate::private;
use crate::process::runtime::AbortOnDrop;

/// The longest value of `Authorization` and the longest shared key, in bytes.
const SECRET_LEN_MAX: usize = 8 * 1_024;

/// Reads what hosts and routes ask of their callers. Issuers and routes whose settings are as before stay the same, so that keys and
/// verified tokens are kept when the configuration is read again.
#[derive(Default)]
pub(crate) struct CallerReader {
    issuers: Vec<KnownIssuer>,
    /// Those that were read, until their keys are to be fetched.
    next: Option<Vec<KnownIssuer>>,
    routes: HashMap<String, Arc<RouteAuth>>,
}

struct KnownIssuer {
    config: IdentityProviderConfig,
    times: [Millis; 3],
    issuer: Arc<TokenIssuer>,
    /// Where and how its keys are fetched, if they are.
    fetching: Option<(KeySource, Client)>,
    /// The hash of the authorities that are trusted with that.
    ca: Option<SecretHash>,
    /// The task that does it.
    task: Option<AbortOnDrop>,
}

/// What a host or route says of its callers.
pub(super) struct Asked<'a> {
    pub(super) host: &'a HostPattern,
    /// Its table in the configuration.
    pub(super) table: String,
    auth: CallerAuth,
    providers: &'a [TokenText],
    resource: Option<&'a str>,
    scopes: &'a [TokenText],
    authorization_file: Option<&'a Path>,
}

impl<'a> Asked<'a> {
    pub(super) fn by_host(host: &'a HostConfig, index: usize) -> Asked<'a> {
        Asked {
            host: &host.host,
            table: format!("host[{index}]"),
            auth: host.auth,
            providers: &host.identity_providers,
            resource: resource(host.auth_resource.as_ref(), host.public_url.as_ref()),
            scopes: &host.scopes_required,
            authorization_file: host.upstream_authorization_file.as_deref(),
        }
    }

    pub(super) fn by_route(route: &'a RouteConfig, index: usize) -> Asked<'a> {
        Asked {
            host: &route.host,
            table: format!("route[{index}]"),
            auth: route.auth,
            providers: &route.identity_providers,
            resource: resource(route.auth_resource.as_ref(), route.public_url.as_ref()),
            scopes: &route.scopes_required,
            authorization_file: route.upstream_authorization_file.as_deref(),
        }
    }
}

fn resource<'a>(own: Option<&'a TokenText>, public: Option<&'a HttpUrl>) -> Option<&'a str> {
    own.map(|own| own.0.as_str()).or(public.map(HttpUrl::as_str))
}

impl CallerReader {
    /// Reads the issuers of tokens, with their keys where those are in files. Routes that are read next use them.
    ///
    /// # Errors
    ///
    /// All faults; then the issuers are as before.
    pub(crate) fn read_issuers(&mut self, config: &IdentityConfig) -> Result<(), ConfigErrors> {
        let (mut faults, mut issuers) = (Vec::new(), Vec::new());
        let times = [config.refresh_ms, config.offline_grace_ms, config.unknown_key_ms];
        for (index, provider) in config.providers.iter().enumerate() {
            let table = format!("identity_provider[{index}]");
            match self.read_issuer(provider, times, &table) {
                Ok(known) => issuers.push(known),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(ConfigErrors::new(faults));
        }
        self.next = Some(issuers);
        Ok(())
    }

    /// Fetches the keys of the issuers that were read, from now on. Those that are gone are no longer asked.
    pub(crate) fn fetch_keys(&mut self) {
        let Some(mut issuers) = self.next.take() else { return };
        for known in &mut issuers {
            let before = self.issuers.iter_mut().find(|before| Arc::ptr_eq(&before.issuer, &known.issuer));
            // A task goes on with the authorities that it began with.
            known.task = before.filter(|before| before.ca == known.ca).and_then(|before| before.task.take());
            if let (Some((source, client)), None) = (&known.fetching, &known.task) {
                let task = keep_keys(Arc::clone(&known.issuer), source.clone(), client.clone());
                known.task = Some(AbortOnDrop(tokio::spawn(task)));
            }
        }
        self.issuers = issuers;
    }

    /// What a host or route asks of its callers, if it asks for anything. It is reported if that cannot be read.
    pub(super) fn read(&mut self, asked: &Asked<'_>, faults: &mut Vec<ConfigError>) -> Option<Arc<RouteAuth>> {
        if asked.auth == CallerAuth::Passthrough {
            return None;
        }
        let authorization = match asked.authorization_file.map(read_authorization).transpose() {
            Ok(authorization) => authorization,
            Err(why) => {
                faults.push(fault(&asked.table, "upstream_authorization_file", why));
                return None;
            }
        };
        let terms = AuthTerms {
            resource: asked.resource?.into(),
            scopes: asked.scopes.iter().map(|scope| scope.0.as_str().into()).collect(),
            is_terminated: asked.auth == CallerAuth::Terminate,
            authorization,
        };
        let is_meant = |known: &&KnownIssuer| {
            asked.providers.is_empty() || asked.providers.iter().any(|name| *name.0 == *known.issuer.name)
        };
        let issuers = self
            .next
            .as_ref()
            .unwrap_or(&self.issuers)
            .iter()
            .filter(is_meant)
            .map(|known| Arc::clone(&known.issuer))
            .collect();
        let auth = RouteAuth::new(terms, issuers);
        let known = self.routes.get(&asked.host.to_string()).filter(|known| ***known == auth);
        let auth = known.map_or_else(|| Arc::new(auth), Arc::clone);
        self.routes.insert(asked.host.to_string(), Arc::clone(&auth));
        Some(auth)
    }

    fn read_issuer(
        &self,
        provider: &IdentityProviderConfig,
        times: [Millis; 3],
        table: &str,
    ) -> Result<KnownIssuer, ConfigError> {
        let fixed = fixed_keys(provider, table)?;
        let before = self.issuers.iter().find(|known| known.config == *provider && known.times == times);
        let [refresh, grace, unknown_key] = times.map(Into::into);
        let config = provider.clone();
        let wrong = |why: String| fault(table, "ca_file", why);
        let file = provider.ca_file.as_deref();
        let read =
            |file: &Path| std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()));
        let pem = file.map(read).transpose().map_err(wrong)?;
        let client = key_client(file.zip(pem.as_deref())).map_err(wrong)?;
        let ca = pem.as_deref().map(SecretHash::of_bytes);
        let fetching = fixed.is_none().then(|| (source_of(provider), client));
        let is_same = |known: &&KnownIssuer| fixed.is_none() || known.issuer.keys.keys().0.as_deref() == fixed.as_ref();
        if let Some(known) = before.filter(is_same) {
            let issuer = Arc::clone(&known.issuer);
            return Ok(KnownIssuer { config, times, issuer, fetching, ca, task: None });
        }
        let issuer = TokenIssuer {
            name: provider.name.0.as_str().into(),
            rules: TokenRules {
                issuer: provider.issuer.0.as_str().into(),
                audiences: provider.audiences.iter().map(|text| text.0.as_str().into()).collect(),
                algorithms: algorithms_of(provider),
                types: provider.token_types.iter().map(|text| text.0.to_ascii_lowercase().into()).collect(),
                leeway: provider.leeway_ms.into(),
            },
            keys: fixed.map_or_else(|| KeyStore::fetched(unknown_key), KeyStore::fixed),
            refresh,
            grace,
        };
        Ok(KnownIssuer { config, times, issuer: Arc::new(issuer), fetching, ca, task: None })
    }
}

fn fault(table: &str, key: &str, why: String) -> ConfigError {
    ConfigError::new(Origin::Default, format!("{table}.{key}"), why)
}

fn source_of(provider: &IdentityProviderConfig) -> KeySource {
    provider.jwks_url.as_ref().map_or(KeySource::Discovery, |url| KeySource::Url(url.0.as_str().into()))
}

/// The keys of a provider that are in a file.
fn fixed_keys(provider: &IdentityProviderConfig, table: &str) -> Result<Option<KeySet>, ConfigError> {
    if let Some(file) = &provider.jwks_file {
        let read = std::fs::metadata(file)
            .and_then(|metadata| match metadata.len() > KEY_SET_LEN_MAX as u64 {
                true => Err(std::io::Error::other(format!("longer than {KEY_SET_LEN_MAX} bytes"))),
                false => std::fs::read(file),
            })
            .map_err(|error| error.to_string());
        let keys = read.and_then(|content| KeySet::parse(&content).map_err(|error| error.to_string()));
        let keys = keys.map_err(|why| fault(table, "jwks_file", format!("{}: {why}", file.display())))?;
        return Ok(Some(keys));
    }
    let Some(file) = &provider.shared_key_file else { return Ok(None) };
    let wrong = |why: String| fault(table, "shared_key_file", why);
    let content = private::read(file, SECRET_LEN_MAX).map_err(|error| wrong(error.to_string()))?;
    let secret = Secret::new(content.trim_ascii_end().to_vec());
    let keys = KeySet::shared(&secret).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
    Ok(Some(keys))
}

fn algorithms_of(provider: &IdentityProviderConfig) -> Box<[TokenAlgorithm]> {
    if !provider.algorithms.is_empty() {
        return provider.algorithms.iter().map(|algorithm| algorithm.0).collect();
    }
    match provider.shared_key_file.is_some() {
        true => [TokenAlgorithm::Hs256].into(),
        false => TokenAlgorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_shared()).collect(),
    }
}

/// The value of a field of a request, from a private file.
fn read_authorization(file: &Path) -> Result<Secret, String> {
    let content = private::read(file, SECRET_LEN_MAX).map_err(|error| error.to_string())?;
    let value = content.trim_ascii();
    let is_value = !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    if is_value {
        Ok(Secret::new(value.to_vec()))
    } else {
        Err(format!(
            "{} does not hold one line of visible ASCII characters, such as `Bearer` and a key",
            file.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, FileText, Purpose, Sources};

    const JWKS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"ID","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn config(dir: &Path, more: &str) -> Config {
        let text = format!(
            "[connect]\nedge = 'a:1'\ntunnel = 'tnl_a'\nsecret = 'a-very-hidden-secret-0123'\n[[route]]\nhost = 'a.test'\n\
             upstream = 'http://127.0.0.1:1'\npublic_url = 'https://a.test'\n{more}\n\
             [[identity_provider]]\nname = 'file'\nissuer = 'https://a.example'\njwks_file = 'jwks.json'\n\
             [[identity_provider]]\nname = 'url'\nissuer = 'https://b.example'\n"
        );
        let file = Some(FileText { path: dir.join("adit.toml"), text });
        let env = BTreeMap::new();
        let sources =
            Sources { purpose: Purpose::Connect, profile: None, file, env, flags: Vec::new(), credentials: Vec::new() };
        Config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn read(reader: &mut CallerReader, config: &Config) -> Result<Option<Arc<RouteAuth>>, String> {
        reader.read_issuers(&config.identity).map_err(|faults| faults.to_string())?;
        let mut faults = Vec::new();
        let auth = reader.read(&Asked::by_route(&config.connect.as_ref().unwrap().routes[0], 0), &mut faults);
        if faults.is_empty() { Ok(auth) } else { Err(ConfigErrors::new(faults).to_string()) }
    }

    #[tokio::test]
    async fn what_has_not_changed_stays_the_same_when_it_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let jwks = |id: &str| std::fs::write(dir.path().join("jwks.json"), JWKS.replace("ID", id)).unwrap();
        jwks("k1");
        let (asks, mut reader) = (config(dir.path(), "auth = 'verify'"), CallerReader::default());
        let first = read(&mut reader, &asks).unwrap().unwrap();
        assert_eq!(first.terms().resource, "https://a.test".into());
        assert_eq!(first.issuers().len(), 2);
        reader.fetch_keys();
        let same = read(&mut reader, &asks).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        reader.fetch_keys();
        jwks("k2");
        let rotated = read(&mut reader, &asks).unwrap().unwrap();
        let [file, url] = [0, 1].map(|nth| Arc::ptr_eq(&first.issuers()[nth], &rotated.issuers()[nth]));
        assert!(!file && url, "another file, the same fetcher");
        // A configuration with a fault changes nothing.
        std::fs::write(dir.path().join("jwks.json"), "{}").unwrap();
        assert!(read(&mut reader, &asks).unwrap_err().contains("no JSON Web Key Set"));
        jwks("k2");
        reader.fetch_keys();
        assert!(Arc::ptr_eq(&rotated, &read(&mut reader, &asks).unwrap().unwrap()));
        let one =
            config(dir.path(), "auth = 'terminate'\nidentity_providers = 'url'\nauth_resource = 'https://a.test/mcp'");
        let one = read(&mut reader, &one).unwrap().unwrap();
        assert!(one.terms().is_terminated && one.terms().resource == "https://a.test/mcp".into());
        assert!(one.issuers().len() == 1 && Arc::ptr_eq(&one.issuers()[0], &rotated.issuers()[1]));
        assert!(read(&mut reader, &config(dir.path(), "")).unwrap().is_none());
    }

    #[tokio::test]
    async fn keys_are_fetched_anew_if_other_authorities_are_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let ca = || {
            let cert = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap().cert;
            std::fs::write(dir.path().join("ca.pem"), cert.pem()).unwrap();
        };
        ca();
        let own = "[[identity_provider]]\nname = 'own'\nissuer = 'https://c.example'\nca_file = 'ca.pem'";
        std::fs::write(dir.path().join("jwks.json"), JWKS).unwrap();
        let (asks, mut reader) = (config(dir.path(), &format!("auth = 'verify'\n{own}")), CallerReader::default());
        let mut task = || {
            let auth = read(&mut reader, &asks).unwrap().unwrap();
            reader.fetch_keys();
            (auth, reader.issuers[0].task.as_ref().unwrap().0.id())
        };
        let (first, of_first) = task();
        assert_eq!(task().1, of_first, "nothing has changed");
        ca();
        let (second, of_second) = task();
        assert_ne!(of_second, of_first);
        assert!(Arc::ptr_eq(&first, &second), "what was verified is kept");
    }

    #[test]
    fn a_credential_for_the_server_is_one_line_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("authorization");
        let write = |content: &[u8]| private::write(&path, content).unwrap();
        write(b"Bearer of-the-server\n");
        assert_eq!(read_authorization(&path).unwrap().expose(), b"Bearer of-the-server");
        for wrong in [&b""[..], b"\n", b"Bearer a\nX-Evil: 1", b"Bearer \xc3\xa9", &[b'x'; SECRET_LEN_MAX + 1]] {
            write(wrong);
            assert!(read_authorization(&path).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
