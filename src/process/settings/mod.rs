//! Builds the settings and tables of the lower modules from the checked configuration.

mod admission_reader;
mod callers;
mod client_authorities;
mod cloudflared_settings;
mod connector_settings;
mod edge_settings;
mod exchanges;
mod policies;
mod route_identity;
mod sealing;
mod tool_settings;

pub(super) use admission_reader::AdmissionReader;
pub(super) use callers::CallerReader;
pub(super) use cloudflared_settings::{CloudflaredParts, cloudflared_settings, cloudflared_tables};
pub use connector_settings::credentials;
pub(super) use connector_settings::{
    UpstreamTrust, admin_token, child_of, connector_settings, connector_tables, edge_addresses, edge_roots,
    fallback_port, open_state_dir, proxy_for,
};
pub(super) use edge_settings::{
    Certifying, EdgeListeners, connectors_tls_config, edge_settings, edge_tables, sealed_edge_tables,
};
pub(super) use policies::PolicyReader;
pub(super) use route_identity::route_addresses;
pub(super) use sealing::{seal_ca, sealing};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::tls_files::{TlsFiles, data_dir};
use crate::config::{self, Config, Driver, EngineConfig, Spin, WebOrigin};
use crate::control::DataDir;
use crate::engine::EngineSettings;
use crate::engine::ladder::DriverChoice;
use crate::exchange::OwnOrigin;

/// Every file that is read again on a reload or when it changes, apart from the configuration's own files.
pub(super) fn watched_files(config: &Config) -> BTreeSet<PathBuf> {
    let mut files: BTreeSet<PathBuf> = config.named_files().map(Path::to_path_buf).collect();
    if let Some(edge) = &config.edge {
        let pairs = [TlsFiles::for_connectors(edge), TlsFiles::of_authority(edge)].into_iter().flatten();
        files.extend(pairs.flat_map(|tls| [tls.cert_file.into_owned(), tls.key_file.into_owned()]));
        let dir = data_dir(edge);
        files.extend(dir.iter().map(DataDir::admin_token_file));
        let forwards = edge.hosts.iter().any(|host| host.forward_identity);
        files.extend(dir.iter().filter(|_| forwards).map(DataDir::identity_keys_file));
    }
    files
}

/// The settings of the cores.
pub(super) fn engine_settings(config: &EngineConfig) -> EngineSettings {
    EngineSettings {
        driver: match config.driver {
            Driver::Auto => DriverChoice::Auto,
            Driver::Uring => DriverChoice::Uring,
            Driver::Epoll => DriverChoice::Epoll,
        },
        cores: config.cores as usize,
        pin: config.pin,
        spin: match config.spin_us {
            Spin::Auto => None,
            Spin::Micros(us) => Some(Duration::from_micros(us)),
        },
        buffer_memory_max: usize::try_from(config.buffer_memory_max_bytes.0).unwrap_or(usize::MAX),
    }
}

fn allowed_origins(origins: &[WebOrigin]) -> Vec<String> {
    origins.iter().map(|origin| origin.as_str().to_owned()).collect()
}

fn own_origin(setting: config::OwnOrigin) -> OwnOrigin {
    match setting {
        config::OwnOrigin::Exact => OwnOrigin::Exact,
        config::OwnOrigin::Host => OwnOrigin::Host,
    }
}

/// Replaces zero, which stands for no limit, by the longest duration.
fn unless_zero(limit: Duration) -> Duration {
    if limit.is_zero() { Duration::MAX } else { limit }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::base::{BreakerTerms, DeadlineTerms, GuardMode};
    use crate::config::{ConfigErrors, FileText, Purpose, Sources};
    use crate::edge::certifier;
    use crate::engine::BUFFER_MEMORY_MIN;
    use crate::policy::Admission;
    use crate::route::{Hostname, RouteName};
    use crate::tls::{Authority, CertSet, ReloadingCerts, Roots};

    const TEXT: &str = r#"
[engine]
cores = 3
spin_us = "25us"
driver = "epoll"
[edge]
connectors_cert_file = "edge.crt"
connectors_key_file = "edge.key"
first_byte_timeout_ms = 0
slow_call_ms = 0
connections_max = 100
streams_per_link_max = 7
allowed_origins = ["https://app.example.com"]
[[tunnel]]
id = "tnl_a"
secret = "an-example-secret-0123"
hosts = ["a.test", "*.b.test", "[::1]"]
[connect]
edge = ["edge.test:7844", "[::1]:7845"]
tunnel = "tnl_a"
secret = "an-example-secret-0123"
edge_name = "edge.internal"
deadline = "off"
deadline_floor_ms = "2s"
[[route]]
host = "a.test"
deadline = "enforce"
upstream = "https://localhost:9000"
upstream_ca_file = "ca.pem"
upstream_connections_max = 10
[[route]]
host = "b.test"
upstream = "https://localhost:9001"
upstream_ca_file = "ca.pem"
[[route]]
host = "c.test"
upstream = "https://localhost:9001"
upstream_ca_file = "ca.pem"
upstream_http2 = false
"#;

    fn config(dir: &Path, text: &str) -> Config {
        load(dir, text).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn load(dir: &Path, text: &str) -> Result<Config, ConfigErrors> {
        let file = FileText { path: dir.join("adit.toml"), text: text.to_owned() };
        let sources = Sources {
            purpose: Purpose::Check,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        Config::load(&sources)
    }

    fn authority(dir: &Path) -> Authority {
        let authority = Authority::new("test", UnixTime::now(), 1).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.cert_pem()).unwrap();
        authority
    }

    fn hostname(host: &str) -> Hostname {
        host.parse().unwrap()
    }

    #[test]
    fn less_memory_than_a_core_can_work_with_is_an_error() {
        let dir = Path::new("/etc/adit");
        let with = |bytes: usize| load(dir, &TEXT.replace("cores = 3", &format!("buffer_memory_max_bytes = {bytes}")));
        let config = with(BUFFER_MEMORY_MIN).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(engine_settings(&config.engine).buffer_memory_max, BUFFER_MEMORY_MIN);
        let faults = with(BUFFER_MEMORY_MIN - 1).unwrap_err().to_string();
        for part in ["engine.buffer_memory_max_bytes", "2097151", "out of range", "2097152"] {
            assert!(faults.contains(part), "{part} in {faults}");
        }
    }

    #[test]
    fn engine_settings_are_applied() {
        let engine = engine_settings(&config(Path::new(""), TEXT).engine);
        assert_eq!((engine.cores, engine.driver), (3, DriverChoice::Epoll));
        assert_eq!(engine.spin, Some(Duration::from_micros(25)));
        assert_eq!(engine_settings(&config(Path::new(""), "").engine).spin, None);
    }

    #[test]
    fn an_edge_gets_its_share_per_core_and_zero_means_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let cert = authority(dir.path()).issue(&["localhost"]).unwrap().server_cert(UnixTime::now()).unwrap();
        let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
        let any = "127.0.0.1:1".parse().unwrap();
        let (requests, _asked) = certifier();
        let certifying = Some(Certifying { authority: Arc::new(authority(dir.path())), requests });
        let cloudflared = Some((any, Arc::clone(&certs)));
        let listeners = EdgeListeners {
            agents: any,
            agents_certs: None,
            connectors: any,
            connectors_certs: certs,
            cloudflared,
            certifying,
        };
        let edge = config(dir.path(), TEXT).edge.unwrap();
        let settings = edge_settings(&edge, &listeners, 3).unwrap();
        assert!(settings.agents_tls.is_none() && settings.connectors_tls.is_some() && settings.certifier.is_some());
        assert!(settings.cloudflared.is_some_and(|at| at.address == any));
        assert_eq!((settings.connections_max, settings.link.streams_max), (34, 7));
        assert_eq!((settings.deadlines.ceiling, settings.slow_calls.slow_call_ms), (Duration::MAX, None));
        assert_eq!(settings.origins.allowed_origins, ["https://app.example.com"]);
        let tables =
            edge_tables(&edge, Admission::default(), &mut PolicyReader::default(), RouteName::of_host).unwrap();
        assert_eq!(tables.routes.lookup(&hostname("x.b.test")).unwrap().name.as_str(), "*.b.test");
        assert_eq!(tables.routes.lookup(&hostname("[::1]")).unwrap().name.as_str(), "___1_");
        assert_eq!(tables.tunnels.len(), 1);
        let named =
            edge_tables(&edge, Admission::default(), &mut PolicyReader::default(), |_| "one".parse().unwrap()).unwrap();
        assert!(named.routes.iter().all(|(_, route)| route.name.as_str() == "one"));
    }

    #[test]
    fn a_tool_has_the_settings_of_its_host_but_for_its_own() {
        const TABLES: &str = r#"
[[host]]
host = "a.test"
deadline = "enforce"
deadline_floor_ms = "3s"
[[host]]
host = "*.b.test"
first_byte_timeout_ms = "10m"
public_url = "https://b.test"
[[tool]]
host = "a.test"
tool = "report"
deadline = "off"
first_byte_timeout_ms = "15m"
[[tool]]
host = "x.b.test"
tool = "search"
progress_max_ms = "1h"
"#;
        let text = format!("{TEXT}{TABLES}").replace("first_byte_timeout_ms = 0", "first_byte_timeout_ms = \"1m\"");
        let edge = config(Path::new(""), &text).edge.unwrap();
        let tables =
            edge_tables(&edge, Admission::default(), &mut PolicyReader::default(), RouteName::of_host).unwrap();
        let of_edge = DeadlineTerms { ceiling: Duration::from_secs(60), ..DeadlineTerms::default() };
        let own = |host: &str| tables.overrides(&host.parse().unwrap());
        let terms = |host: &str, tool| own(host).terms(&of_edge, tool);
        let seconds = Duration::from_secs;
        let enforced = DeadlineTerms { mode: GuardMode::Enforce, floor: seconds(3), ..of_edge };
        assert_eq!([terms("a.test", None), terms("a.test", Some("other"))], [enforced; 2]);
        let report = DeadlineTerms { mode: GuardMode::Off, ceiling: seconds(900), ..enforced };
        assert_eq!(terms("a.test", Some("report")), report);
        // The host of a tool without a table of its own is covered by the wildcard.
        let below = DeadlineTerms { ceiling: seconds(600), ..of_edge };
        assert_eq!(terms("x.b.test", None), below);
        assert_eq!(terms("x.b.test", Some("search")), DeadlineTerms { progress_max: seconds(3_600), ..below });
        assert!(own("x.b.test").public.is_some());
        assert_eq!(terms("y.b.test", Some("search")), below);
        // Only settings that depend on the tool require reading the body first.
        assert_eq!(
            ["a.test", "x.b.test"].map(|host| own(host).needs_label(&of_edge, &BreakerTerms::default())),
            [true, false]
        );
        let twice = format!("{text}\n[[tool]]\nhost = \"a.test\"\ntool = \"report\"\n");
        let faults = load(Path::new(""), &twice).unwrap_err().to_string();
        assert!(faults.contains("tool[2].tool"), "{faults}");
    }

    #[test]
    fn a_connector_gets_its_edges_and_keeps_its_trust_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path());
        let connect = config(dir.path(), TEXT).connect.unwrap();
        let settings =
            connector_settings(&connect, edge_addresses(&connect), Roots::new(), credentials(&connect).unwrap())
                .unwrap();
        let edges: Vec<String> = settings.edges.iter().map(ToString::to_string).collect();
        assert_eq!(edges, ["edge.test:7844", "[::1]:7845"]);
        assert_eq!(settings.edge_name.as_deref(), Some("edge.internal"));

        let mut trust = UpstreamTrust::default();
        let mut tls_of = |host: &str| {
            let tables = connector_tables(&connect, 3, &mut trust, RouteName::of_host).unwrap();
            let route = tables.routes.lookup(&hostname(host)).unwrap();
            assert_eq!(route.upstream.connections_max, if host == "a.test" { 4 } else { 342 });
            let mode = if host == "a.test" { GuardMode::Enforce } else { GuardMode::Off };
            let deadlines = DeadlineTerms { mode, floor: Duration::from_secs(2), ..DeadlineTerms::default() };
            assert_eq!(route.deadlines, deadlines);
            Arc::clone(route.upstream.tls.as_ref().unwrap())
        };
        let first = tls_of("a.test");
        assert_eq!(first.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(tls_of("c.test").alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(Arc::ptr_eq(&first, &tls_of("a.test")) && Arc::ptr_eq(&first, &tls_of("b.test")));
        authority(dir.path());
        assert!(!Arc::ptr_eq(&first, &tls_of("a.test")));
    }

    #[test]
    fn tool_annotations_survive_a_reload_that_keeps_the_address_of_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let mut trust = UpstreamTrust::default();
        let mut safe_of = |url: &str, resend: &str, more: &str| {
            let route = format!("[[route]]\nhost = \"a.test\"\nupstream = \"{url}\"\nresend = \"{resend}\"\n{more}\n");
            let text =
                format!("[connect]\nedge = \"e:1\"\ntunnel = \"t\"\nsecret = \"an-example-secret-0123\"\n{route}");
            let connect = config(dir.path(), &text).connect.unwrap();
            let tables = connector_tables(&connect, 1, &mut trust, RouteName::of_host).unwrap();
            tables.routes.lookup(&hostname("a.test")).unwrap().resend.clone()
        };
        let first = safe_of("http://10.0.0.1:1", "mcp-safe", "").unwrap();
        let again = safe_of("http://10.0.0.1:1", "mcp-safe", "first_byte_timeout_ms = 1000").unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &safe_of("http://10.0.0.2:1", "mcp-safe", "").unwrap()));
        assert!(safe_of("http://10.0.0.1:1", "idempotent", "").is_none());
        assert!(!Arc::ptr_eq(&first, &safe_of("http://10.0.0.1:1", "mcp-safe", "").unwrap()), "it was off meanwhile");
    }

    #[test]
    fn unusable_files_are_reported_under_their_settings() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), "no PEM").unwrap();
        for file in ["edge.crt", "edge.key"] {
            std::fs::write(dir.path().join(file), "no PEM").unwrap();
        }
        let config = config(dir.path(), TEXT);
        let (edge, connect) = (config.edge.as_ref().unwrap(), config.connect.as_ref().unwrap());
        let faults = TlsFiles::for_connectors(edge).unwrap().load().unwrap_err().to_string();
        assert!(faults.starts_with("edge.connectors_cert_file: "), "{faults}");
        let faults = connector_tables(connect, 1, &mut UpstreamTrust::default(), RouteName::of_host).err().unwrap();
        let keys: Vec<&str> = faults.all().iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["route[0].upstream_ca_file", "route[1].upstream_ca_file", "route[2].upstream_ca_file"]);
    }

    #[test]
    fn a_policy_at_an_edge_that_cannot_read_the_calls_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("p.toml"), "[[rule]]\neffect = 'deny'\ntools = ['drop']\n").unwrap();
        let tables = |traffic: &str, more: &str| {
            let text = format!(
                "[edge]\nconnectors_cert_file = 'e.crt'\nconnectors_key_file = 'e.key'\n[[host]]\nhost = '*.t.test'\npolicy_file = 'p.toml'\n{more}\
                 [[tunnel]]\nid = 'tnl_a'\nsecret = 'an-example-secret-0123'\nhosts = ['a.t.test']\ntraffic = '{traffic}'\n"
            );
            let edge = config(dir.path(), &text).edge.unwrap();
            edge_tables(&edge, Admission::default(), &mut PolicyReader::default(), RouteName::of_host)
        };
        assert!(tables("plain", "").is_ok());
        let faults = tables("passthrough", "").err().unwrap().to_string();
        assert!(faults.starts_with("tunnel[0].hosts: a.t.test has a policy, pin or auth at the edge"), "{faults}");
        assert!(tables("passthrough", "[[host]]\nhost = 'a.t.test'\n").is_ok(), "a table of its own has no policy");
        let asks = "[[host]]\nhost = 'a.t.test'\nauth = 'verify'\nauth_resource = 'https://a.t.test/mcp'\n\
                    [[identity_provider]]\nname = 'a'\nissuer = 'https://a.example'\n";
        assert!(tables("plain", asks).is_ok() && tables("passthrough", asks).is_err(), "nor could a token be seen");
    }

    #[test]
    fn a_tunnel_has_a_policy_for_its_hosts_unless_they_have_one() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, tool: &str| {
            std::fs::write(dir.path().join(name), format!("[[rule]]\neffect = 'deny'\ntools = ['{tool}']\n")).unwrap();
        };
        write("of-tunnel.toml", "a");
        write("of-host.toml", "b");
        let tables = |traffic: &str| {
            let text = format!(
                "[edge]\nconnectors_cert_file = 'e.crt'\nconnectors_key_file = 'e.key'\ndata_dir = '.'\n\
                 [[host]]\nhost = 'own.test'\npolicy_file = 'of-host.toml'\n[[host]]\nhost = 'pinned.test'\npin = 'warn'\n\
                 [[host]]\nhost = '*.t.test'\npolicy_file = 'of-host.toml'\n\
                 [[tunnel]]\nid = 'tnl_a'\nsecret = 'an-example-secret-0123'\npolicy_file = 'of-tunnel.toml'\ntraffic = '{traffic}'\n\
                 hosts = ['plain.test', 'own.test', 'pinned.test', 'x.t.test', '*.u.test']\n\
                 [[tunnel]]\nid = 'tnl_b'\nsecret = 'an-example-secret-0123'\nhosts = ['other.test']\n"
            );
            let edge = config(dir.path(), &text).edge.unwrap();
            edge_tables(&edge, Admission::default(), &mut PolicyReader::default(), RouteName::of_host)
        };
        let tables_of = tables("plain").unwrap_or_else(|faults| panic!("{faults}"));
        let denied = |host: &str| -> Vec<&str> {
            let route = tables_of.routes.lookup(&host.parse().unwrap()).unwrap();
            let Some(policy) = &route.own.policy else { return vec![] };
            let is_denied = |tool: &&str| {
                !policy.decide(crate::policy::RoleSet::default(), &crate::policy::Asked::tool(tool)).is_allowed()
            };
            ["a", "b"].into_iter().filter(is_denied).collect()
        };
        let hosts = ["plain.test", "own.test", "pinned.test", "x.t.test", "y.u.test", "other.test"];
        assert_eq!(hosts.map(denied), [vec!["a"], vec!["b"], vec!["a"], vec!["b"], vec!["a"], vec![]]);
        let faults = tables("passthrough").err().unwrap().to_string();
        assert!(faults.contains("plain.test has a policy"), "{faults}");
    }

    #[test]
    fn the_files_that_are_watched_are_those_that_settings_name() {
        let files: Vec<PathBuf> = watched_files(&config(Path::new("/etc/adit"), TEXT)).into_iter().collect();
        assert_eq!(files, ["/etc/adit/ca.pem", "/etc/adit/edge.crt", "/etc/adit/edge.key"].map(PathBuf::from));
    }
}
