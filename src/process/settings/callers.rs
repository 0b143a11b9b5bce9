//! Reads from the configuration what hosts and routes require of their callers, and the issuers of tokens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use reqwest::Client;

use crate::base::{Secret, SecretHash};
use crate::config::{
    AlgorithmName, CallerAuth, CallerTerms, ClientCertificate, ConfigError, ConfigErrors, ForwardedIdentity,
    IdentityConfig, IdentityHeaderName, IdentityProviderConfig, Millis, Origin, TokenText, TrustedEdgeConfig,
    read_named,
};
use crate::control::{
    ClientCredentials, DataDir, IntrospectionEndpoint, KeySource, issuer_client, keep_introspecting, keep_keys,
};
use crate::identity::{
    AuthTerms, CertificateTerms, EdgeTerms, FORWARDED_TYPE, ForwardingKeys, IdentityForwarder, IdentityHeader,
    IdentitySigner, KEY_SET_LEN_MAX, KeySet, KeyStore, RouteAuth, TokenAlgorithm, TokenCheck, TokenIssuer, TokenRules,
    TrustedEdge,
};
use crate::private;
use crate::process::random::random;
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::client_authorities::KnownAuthority;
use crate::process::settings::exchanges::KnownExchange;

/// The longest `Authorization` value and the longest shared key, in bytes.
const SECRET_LEN_MAX: usize = 8 * 1_024;
/// What a file with a credential for a server holds.
const AUTHORIZATION: &str = "such as `Bearer` and a key";
/// The longest file of authorities, in bytes. Those of a whole system take a quarter of this.
pub(super) const CA_FILE_LEN_MAX: usize = 1 << 20;

/// Reads what hosts and routes require of their callers. Issuers and routes with unchanged settings are kept across
/// reloads, and with them their keys and verified tokens.
#[derive(Default)]
pub(crate) struct CallerReader {
    known: Known,
    /// What was read but is not in effect yet.
    next: Option<Known>,
    /// Signs who calls, for servers that are told. It is made once for all routes.
    signer: Option<Arc<IdentitySigner>>,
    /// Where an edge keeps the keys that sign what it forwards.
    data_dir: Option<DataDir>,
}

#[derive(Default)]
struct Known {
    issuers: Vec<KnownIssuer>,
    authorities: Vec<KnownAuthority>,
    exchanges: Vec<KnownExchange>,
    edges: Vec<KnownEdge>,
    /// The issuer of identities that this edge forwards.
    edge_issuer: Option<Arc<str>>,
    /// The keys that sign them, once they were needed.
    forwarding: Option<Arc<ForwardingKeys>>,
    routes: HashMap<String, Arc<RouteAuth>>,
}

/// How the server of an issuer is asked.
struct Fetching {
    source: Source,
    client: Client,
    /// The hashes of the files that this was read from.
    files: [Option<SecretHash>; 2],
}

/// What the server of an issuer is asked for.
enum Source {
    Keys(KeySource),
    Tokens(IntrospectionEndpoint),
}

/// An edge that may say who calls.
struct KnownEdge {
    known: KnownIssuer,
    vouches_for: Box<[Box<str>]>,
}

struct KnownIssuer {
    config: IdentityProviderConfig,
    times: [Millis; 3],
    issuer: Arc<TokenIssuer>,
    /// How its server is asked for keys or about tokens, if it is.
    fetching: Option<Fetching>,
    /// The task that does so.
    task: Option<AbortOnDrop>,
}

impl CallerReader {
    /// Keeps the keys that sign forwarded identities in this directory.
    pub(crate) fn keep_keys_in(&mut self, data_dir: Option<DataDir>) {
        self.data_dir = data_dir;
    }

    /// Reads the issuers of tokens, and their keys if these are in files, and the authorities of client certificates. Routes that are read afterwards use them.
    ///
    /// # Errors
    ///
    /// All faults. Issuers and authorities then stay as they were.
    pub(super) fn read_issuers(&mut self, config: &IdentityConfig) -> Result<(), ConfigErrors> {
        let (mut faults, mut issuers) = (Vec::new(), Vec::new());
        let times = [config.refresh_ms, config.offline_grace_ms, config.unknown_key_ms];
        for (index, provider) in config.providers.iter().enumerate() {
            let table = format!("identity_provider[{index}]");
            match read_issuer(&self.known.issuers, provider, times, &table) {
                Ok(known) => issuers.push(known),
                Err(fault) => faults.push(fault),
            }
        }
        let mut authorities = Vec::new();
        for (index, authority) in config.authorities.iter().enumerate() {
            match KnownAuthority::read(authority, &format!("client_authority[{index}]"), &self.known.authorities) {
                Ok(known) => authorities.push(known),
                Err(fault) => faults.push(fault),
            }
        }
        let mut exchanges = Vec::new();
        for (index, exchange) in config.exchanges.iter().enumerate() {
            match KnownExchange::read(exchange, &format!("token_exchange[{index}]"), &self.known.exchanges) {
                Ok(known) => exchanges.push(known),
                Err(fault) => faults.push(fault),
            }
        }
        let mut edges = Vec::new();
        for (index, edge) in config.trusted_edges.iter().enumerate() {
            let before = self.known.edges.iter().map(|edge| &edge.known);
            match read_issuer(before, &provider_of(edge), times, &format!("trusted_edge[{index}]")) {
                Ok(known) => {
                    let vouches_for = edge.vouches_for.iter().map(|issuer| issuer.0.as_str().into()).collect();
                    edges.push(KnownEdge { known, vouches_for });
                }
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(ConfigErrors::new(faults));
        }
        let edge_issuer = config.edge_issuer.as_ref().map(|issuer| issuer.0.as_str().into());
        let (forwarding, routes) = (None, HashMap::new());
        self.next = Some(Known { issuers, authorities, exchanges, edges, edge_issuer, forwarding, routes });
        Ok(())
    }

    /// Puts what was read into effect: starts to fetch the keys of new issuers, and stops for those that are gone.
    pub(super) fn put_in_force(&mut self) {
        let Some(mut next) = self.next.take() else { return };
        next.exchanges.iter_mut().for_each(|known| known.start(&mut self.known.exchanges));
        let edges = next.edges.iter_mut().map(|edge| &mut edge.known);
        for known in next.issuers.iter_mut().chain(edges) {
            let edges = self.known.edges.iter_mut().map(|edge| &mut edge.known);
            let mut before = self.known.issuers.iter_mut().chain(edges);
            known.start(before.find(|before| Arc::ptr_eq(&before.issuer, &known.issuer)));
        }
        self.known = next;
    }

    /// What a host or route requires of its callers, if anything. A fault is added to `faults`.
    pub(super) fn read(&mut self, asked: &CallerTerms<'_>, faults: &mut Vec<ConfigError>) -> Option<Arc<RouteAuth>> {
        if !asked.asks_for_anything() {
            return None;
        }
        let authorization = match asked.authorization_file.map(|file| read_line(file, AUTHORIZATION)).transpose() {
            Ok(authorization) => authorization,
            Err(why) => {
                faults.push(fault(&asked.table, "upstream_authorization_file", why));
                return None;
            }
        };
        let identity_header = match asked.identity_header.map(|name| self.identity_header(name)).transpose() {
            Ok(header) => header,
            Err(why) => {
                faults.push(fault(&asked.table, "identity_header", why));
                return None;
            }
        };
        let terms = AuthTerms {
            // A checked configuration has one wherever tokens are for it, or servers are told who calls.
            resource: asked.resource().map_or_else(|| format!("https://{}", asked.host), str::to_owned).into(),
            scopes: asked.scopes.iter().map(|scope| scope.0.as_str().into()).collect(),
            is_terminated: asked.auth == CallerAuth::Terminate,
            authorization,
            identity_header,
        };
        let is_meant = |known: &&KnownIssuer| {
            asked.providers.is_empty() || asked.providers.iter().any(|name| *name.0 == *known.issuer.name)
        };
        // Without issuers no caller is admitted.
        let next = self.next.get_or_insert_default();
        let issuers = next.issuers.iter().filter(is_meant).map(|known| Arc::clone(&known.issuer)).collect();
        let mut auth = RouteAuth::new(terms, issuers);
        if asked.auth == CallerAuth::Passthrough {
            auth = auth.without_tokens();
        }
        if asked.client_certificate != ClientCertificate::Off {
            let is_meant = |known: &&KnownAuthority| {
                asked.client_authorities.is_empty()
                    || asked.client_authorities.iter().any(|name| *name.0 == *known.authority.name)
            };
            // Without authorities no certificate is accepted.
            let authorities =
                next.authorities.iter().filter(is_meant).map(|known| Arc::clone(&known.authority)).collect();
            let is_required = asked.client_certificate == ClientCertificate::Required;
            auth = auth.with_certificates(CertificateTerms { is_required, authorities });
        }
        if asked.forwarded_identity != ForwardedIdentity::Off {
            let is_meant = |edge: &&KnownEdge| {
                asked.trusted_edges.is_empty()
                    || asked.trusted_edges.iter().any(|name| *name.0 == *edge.known.issuer.name)
            };
            let trusted = |edge: &KnownEdge| TrustedEdge {
                issuer: Arc::clone(&edge.known.issuer),
                vouches_for: edge.vouches_for.clone(),
            };
            // Without edges no call is accepted.
            let edges = next.edges.iter().filter(is_meant).map(trusted).collect();
            let is_required = asked.forwarded_identity == ForwardedIdentity::Required;
            auth = auth.with_edges(EdgeTerms { is_required, edges });
        }
        if let Some(claims) = asked.forwards {
            match self.forwarder(claims) {
                Ok(forwarder) => auth = auth.with_forwarder(forwarder),
                Err(why) => {
                    faults.push(fault(&asked.table, "forward_identity", why));
                    return None;
                }
            }
        }
        let next = self.next.get_or_insert_default();
        let host = asked.host.to_string();
        if let Some(name) = asked.token_exchange {
            // A checked configuration has it. Without it nothing is sent to the server in place of a token.
            let known = next.exchanges.iter().find(|known| *known.exchange.name == *name.0);
            auth = known.map(|known| Arc::clone(&known.exchange)).into_iter().fold(auth, RouteAuth::with_exchange);
        }
        let known = self.known.routes.get(&host).filter(|known| ***known == auth);
        let auth = known.map_or_else(|| Arc::new(auth), Arc::clone);
        next.routes.insert(host, Arc::clone(&auth));
        Some(auth)
    }

    /// Forwards identities with these claims, by the keys of the data directory. Keys that have not changed stay the same.
    fn forwarder(&mut self, claims: &[TokenText]) -> Result<IdentityForwarder, String> {
        let next = self.next.get_or_insert_default();
        let issuer = next.edge_issuer.clone().ok_or("identity.edge_issuer is not set")?;
        let keys = match &next.forwarding {
            Some(keys) => Arc::clone(keys),
            None => {
                let dir = self
                    .data_dir
                    .as_ref()
                    .ok_or("only an edge with a data directory of its own can sign identities")?;
                let read = dir.identity_keys().map_err(|error| error.to_string())?;
                let same = self.known.forwarding.as_ref().filter(|known| ***known == read);
                Arc::clone(next.forwarding.insert(same.map_or_else(|| Arc::new(read), Arc::clone)))
            }
        };
        Ok(IdentityForwarder { issuer, keys, claims: claims.iter().map(|name| name.0.as_str().into()).collect() })
    }

    fn identity_header(&mut self, name: &IdentityHeaderName) -> Result<IdentityHeader, String> {
        let signer = match &self.signer {
            Some(signer) => Arc::clone(signer),
            None => {
                let seed = random().map_err(|error| error.to_string())?;
                Arc::clone(self.signer.insert(Arc::new(IdentitySigner::new(&seed))))
            }
        };
        Ok(IdentityHeader { name: name.0.as_str().into(), signer })
    }
}

impl KnownIssuer {
    /// Starts to ask the server of the issuer, unless a task of the same issuer `before` does so with the same files.
    fn start(&mut self, before: Option<&mut KnownIssuer>) {
        let files = |known: &KnownIssuer| known.fetching.as_ref().map(|fetching| fetching.files.clone());
        // A running task uses the authorities and the secret with which it began.
        self.task = before.filter(|before| files(before) == files(self)).and_then(|before| before.task.take());
        if let (Some(fetching), None) = (&self.fetching, &self.task) {
            let (issuer, client) = (Arc::clone(&self.issuer), fetching.client.clone());
            let task = match &fetching.source {
                Source::Keys(source) => tokio::spawn(keep_keys(issuer, source.clone(), client)),
                Source::Tokens(endpoint) => tokio::spawn(keep_introspecting(issuer, endpoint.clone(), client)),
            };
            self.task = Some(AbortOnDrop(task));
        }
    }
}

/// Reads an issuer of tokens. One whose settings and keys are as before stays the same object.
fn read_issuer<'k>(
    before: impl IntoIterator<Item = &'k KnownIssuer>,
    provider: &IdentityProviderConfig,
    times: [Millis; 3],
    table: &str,
) -> Result<KnownIssuer, ConfigError> {
    let fixed = fixed_keys(provider, table)?;
    let before = before.into_iter().find(|known| known.config == *provider && known.times == times);
    let [refresh, grace, unknown_key] = times.map(Into::into);
    let config = provider.clone();
    let fetching = match fixed {
        Some(_) => None,
        None => Some(fetching_of(provider, table)?),
    };
    let is_same = |known: &&KnownIssuer| {
        fixed.is_none() || known.issuer.keys().and_then(|store| store.keys().0).as_deref() == fixed.as_ref()
    };
    if let Some(known) = before.filter(is_same) {
        let issuer = Arc::clone(&known.issuer);
        return Ok(KnownIssuer { config, times, issuer, fetching, task: None });
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
        check: match (fixed, &provider.introspection_url) {
            (Some(keys), _) => TokenCheck::Keys(KeyStore::fixed(keys)),
            (None, None) => TokenCheck::Keys(KeyStore::fetched(unknown_key)),
            (None, Some(_)) => TokenCheck::Introspection(Arc::default()),
        },
        refresh,
        grace,
    };
    Ok(KnownIssuer { config, times, issuer: Arc::new(issuer), fetching, task: None })
}

/// An edge as the issuer of forwarded identities.
fn provider_of(edge: &TrustedEdgeConfig) -> IdentityProviderConfig {
    IdentityProviderConfig {
        name: edge.name.clone(),
        issuer: edge.issuer.clone(),
        jwks_url: edge.jwks_url.clone(),
        jwks_file: edge.jwks_file.clone(),
        shared_key_file: None,
        introspection_url: None,
        client_id: None,
        client_secret_file: None,
        introspection_cache_ms: Millis(0),
        ca_file: edge.ca_file.clone(),
        // The route that the identity is for.
        audiences: Vec::new(),
        algorithms: vec![AlgorithmName(TokenAlgorithm::EdDsa)],
        token_types: vec![TokenText(FORWARDED_TYPE.to_owned())],
        leeway_ms: edge.leeway_ms,
    }
}

pub(super) fn fault(table: &str, key: &str, why: String) -> ConfigError {
    ConfigError::new(Origin::Default, format!("{table}.{key}"), why)
}

/// How the server of a provider is asked for keys or about tokens.
fn fetching_of(provider: &IdentityProviderConfig, table: &str) -> Result<Fetching, ConfigError> {
    let wrong = |why: String| fault(table, "ca_file", why);
    let file = provider.ca_file.as_deref();
    let pem = file.map(|file| read_named(file, CA_FILE_LEN_MAX)).transpose();
    let pem = pem.map_err(|error| wrong(error.to_string()))?;
    let client = issuer_client(file.zip(pem.as_deref())).map_err(wrong)?;
    let endpoint = endpoint_of(provider).map_err(|why| fault(table, "client_secret_file", why))?;
    let secret = endpoint.as_ref().map(|endpoint| SecretHash::of_bytes(endpoint.credentials.secret.expose()));
    let files = [pem.as_deref().map(SecretHash::of_bytes), secret];
    let source = endpoint.map_or_else(|| Source::Keys(source_of(provider)), Source::Tokens);
    Ok(Fetching { source, client, files })
}

/// Where a provider is asked about its tokens, if it is.
fn endpoint_of(provider: &IdentityProviderConfig) -> Result<Option<IntrospectionEndpoint>, String> {
    let (Some(url), Some(id), Some(file)) =
        (&provider.introspection_url, &provider.client_id, &provider.client_secret_file)
    else {
        return Ok(None);
    };
    let credentials = ClientCredentials { id: id.0.as_str().into(), secret: read_line(file, "the secret")? };
    let cache = provider.introspection_cache_ms.into();
    Ok(Some(IntrospectionEndpoint { url: url.0.as_str().into(), credentials, cache }))
}

fn source_of(provider: &IdentityProviderConfig) -> KeySource {
    provider.jwks_url.as_ref().map_or(KeySource::Discovery, |url| KeySource::Url(url.0.as_str().into()))
}

/// The keys of a provider, if they are in a file.
fn fixed_keys(provider: &IdentityProviderConfig, table: &str) -> Result<Option<KeySet>, ConfigError> {
    if let Some(file) = &provider.jwks_file {
        let wrong = |why: String| fault(table, "jwks_file", why);
        let content = read_named(file, KEY_SET_LEN_MAX).map_err(|error| wrong(error.to_string()))?;
        let keys = KeySet::parse(&content).map_err(|error| wrong(format!("{}: {error}", file.display())))?;
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

/// Reads the one line of a private file, which holds this.
pub(super) fn read_line(file: &Path, what: &str) -> Result<Secret, String> {
    let content = private::read(file, SECRET_LEN_MAX).map_err(|error| error.to_string())?;
    let value = content.trim_ascii();
    let is_value = !value.is_empty() && value.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let why = || format!("{} does not hold one line of visible ASCII characters: {what}", file.display());
    is_value.then(|| Secret::new(value.to_vec())).ok_or_else(why)
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
        let auth = reader.read(&CallerTerms::of_route(&config.connect.as_ref().unwrap().routes[0], 0), &mut faults);
        if faults.is_empty() { Ok(auth) } else { Err(ConfigErrors::new(faults).to_string()) }
    }

    #[tokio::test]
    async fn unchanged_files_keep_their_parsed_values_on_reload() {
        let dir = tempfile::tempdir().unwrap();
        let jwks = |id: &str| std::fs::write(dir.path().join("jwks.json"), JWKS.replace("ID", id)).unwrap();
        jwks("k1");
        let (asks, mut reader) = (config(dir.path(), "auth = 'verify'"), CallerReader::default());
        let first = read(&mut reader, &asks).unwrap().unwrap();
        assert_eq!(first.terms().resource, "https://a.test".into());
        assert_eq!(first.issuers().len(), 2);
        reader.put_in_force();
        let same = read(&mut reader, &asks).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &same));
        reader.put_in_force();
        jwks("k2");
        let rotated = read(&mut reader, &asks).unwrap().unwrap();
        let [file, url] = [0, 1].map(|nth| Arc::ptr_eq(&first.issuers()[nth], &rotated.issuers()[nth]));
        assert!(!file && url, "another file, the same fetcher");
        // A configuration with a fault changes nothing that is in effect.
        std::fs::write(dir.path().join("jwks.json"), "{}").unwrap();
        assert!(read(&mut reader, &asks).unwrap_err().contains("no JSON Web Key Set"));
        jwks("k2");
        reader.put_in_force();
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
            reader.put_in_force();
            (auth, reader.known.issuers[0].task.as_ref().unwrap().0.id())
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
        assert_eq!(read_line(&path, AUTHORIZATION).unwrap().expose(), b"Bearer of-the-server");
        for wrong in [&b""[..], b"\n", b"Bearer a\nX-Evil: 1", b"Bearer \xc3\xa9", &[b'x'; SECRET_LEN_MAX + 1]] {
            write(wrong);
            assert!(read_line(&path, AUTHORIZATION).is_err(), "{}", wrong.escape_ascii());
        }
    }
}
