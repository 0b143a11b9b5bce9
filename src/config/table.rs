//! The table of settings. A row here is all there is to do to add one: the structs, the environment variables, the
//! check for unknown keys, `adit config show` and `docs/CONFIG.md` are made from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::{Traffic, TunnelId};
use crate::config::addresses::{HostPort, HttpUrl, WebOrigin};
use crate::config::networks::UpstreamNetwork;
use crate::config::section::{Part, Setting, section};
use crate::config::values::{Bytes, Driver, FolderPath, LogFormat, LogLevels, Millis, SecretText, Spin};
use crate::policy::{Member, Network, SetName};
use crate::route::{HostPattern, Hostname, UpstreamUrl};

/// Every table of the file, in the order in which they are shown.
pub const PARTS: [Part; 8] = [
    Part::of::<EngineConfig>(),
    Part::of::<EdgeConfig>(),
    Part::of::<TunnelConfig>(),
    Part::of::<AdmissionConfig>(),
    Part::of::<NetworkSetConfig>(),
    Part::of::<ConnectConfig>(),
    Part::of::<RouteConfig>(),
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
/// The admin token itself.
pub const ADMIN_TOKEN_ENV: &str = "ADIT_ADMIN_TOKEN";
/// A file that holds the admin token.
pub const ADMIN_TOKEN_FILE_ENV: &str = "ADIT_ADMIN_TOKEN_FILE";
/// All variables that `adit tunnel` reads.
pub(super) const ADMIN_ENVS: [&str; 3] = [ADMIN_URL_ENV, ADMIN_TOKEN_ENV, ADMIN_TOKEN_FILE_ENV];
/// The settings by which a connector proves itself, those that name the tunnel first. Only one of them counts: the one that
/// the highest layer sets.
pub(super) const CREDENTIAL_KEYS: [&str; 6] = [
    "connect.token",
    "connect.token_file",
    "connect.provisioning_key",
    "connect.provisioning_key_file",
    "connect.secret",
    "connect.secret_file",
];
/// Variables that begin so belong to tests and measuring programs and are left alone.
pub(super) const FOREIGN_ENV_PREFIX: &str = "ADIT_TEST_";

/// Every setting of every table.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    PARTS.iter().flat_map(|part| part.settings)
}

section! {
    /// The data plane: how many cores, how they wait, how much memory they may take. Both roles read it.
    section "engine" => EngineConfig {
        /// What talks to the kernel. `auto` tries io_uring and falls back to epoll where it is forbidden or broken.
        driver: Driver = "auto", restart, like "epoll", env "ADIT_DRIVER", flag "--driver";
        /// How many threads carry traffic, each on its own CPU; 0 takes every CPU that the process may use.
        cores: u32 = "0" in 0..=256, restart, like "2", flag "--cores";
        /// Whether each core stays on one CPU. Switch it off where several busy processes share the CPUs.
        pin: bool = "true", restart, like "false";
        /// How long an idle core looks for new work before it sleeps: `auto` adapts to the traffic and does not spin
        /// where CPUs are scarce; 0 always sleeps, which saves CPU and costs some tens of microseconds per call.
        spin_us: Spin = "auto" in 0..=1_000, restart, like "50us";
        /// The most memory that the buffers of one core may take. At the limit peers are slowed down, not refused.
        buffer_memory_max_bytes: Bytes = "64MiB" in 1_048_576..=68_719_476_736, restart, like "128MiB";
    }
}

section! {
    /// The public side, read by `adit edge`.
    section "edge" => EdgeConfig {
        /// Where agents connect.
        agents_listen: SocketAddr = "127.0.0.1:8443", restart, like "0.0.0.0:443", flag "--listen";
        /// The certificate chain (PEM) shown to agents. With it and its key agents speak HTTPS, without them plain
        /// HTTP. The file is read again when it changes.
        agents_cert_file: Option<PathBuf> = unset, restart, like "agents.crt", flag "--agents-cert-file";
        /// The private key (PEM) of `agents_cert_file`, mode 0600.
        agents_key_file: Option<PathBuf> = unset, restart, like "agents.key", flag "--agents-key-file";
        /// Lets agents speak plain HTTP to an address other than loopback: only behind something that ends TLS.
        allow_plain_http_off_loopback: bool = "false", restart, like "true", flag "--allow-plain-http-off-loopback";
        /// Where connectors connect, always over TLS.
        connectors_listen: SocketAddr = "0.0.0.0:7844", restart, like "0.0.0.0:7900", flag "--connectors-listen";
        /// The certificate chain (PEM) shown to connectors; `adit edge` demands it unless it has a `data_dir`. The file is
        /// read again when it changes.
        connectors_cert_file: Option<PathBuf> = unset, restart, like "edge.crt", flag "--connectors-cert-file";
        /// The private key (PEM) of `connectors_cert_file`, mode 0600.
        connectors_key_file: Option<PathBuf> = unset, restart, like "edge.key", flag "--connectors-key-file";
        /// The certificate (PEM) of the edge's own authority. With it and its key connectors get certificates by their
        /// tunnel's id and secret, and no link comes up without one; without them, and without a `data_dir`, which has
        /// them, the secret alone is enough.
        connectors_ca_file: Option<PathBuf> = unset, restart, like "ca.pem";
        /// The private key (PEM, PKCS #8) of `connectors_ca_file`, mode 0600.
        connectors_ca_key_file: Option<PathBuf> = unset, restart, like "ca.key";
        /// How long a connector's certificate is good for. It is renewed when two thirds of that are over.
        connector_cert_life_ms: Millis = "24h" in 2_000..=2_592_000_000, restart, like "8h";
        /// The directory that `adit edge init` made: the edge's own authority, its certificate for connectors, its admin
        /// token and its store. With it connectors enrol for certificates, and tunnels are made and revoked while the edge
        /// runs (`adit tunnel`); `[[tunnel]]` and connectors_cert_file are not demanded then.
        data_dir: Option<FolderPath> = unset, restart, like "/var/lib/adit", flag "--data-dir";
        /// The domain below which a tunnel that is created without hosts gets one; a wildcard record in DNS and a wildcard
        /// certificate for agents belong to it.
        tunnel_domain: Option<Hostname> = unset, restart, like "tunnel.example.com", flag "--tunnel-domain";
        /// Where connectors dial this edge from outside, where it differs from the first name in its certificate; only
        /// shown, in the commands that are printed for a new tunnel.
        connectors_public: Option<HostPort> = unset, restart, like "edge.example.com:7844";
        /// Where metrics, status and health are served, over plain HTTP, and with a data_dir also the API of `adit tunnel`,
        /// which asks for the admin token; `off` for nowhere.
        admin_listen: Option<SocketAddr> = "127.0.0.1:9443", restart, like "off", flag "--admin";
        /// Lets the admin listener take an address other than loopback: whoever reaches it can read it.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// The URL under which agents reach this edge, where it differs from the listener's; only shown, never matched.
        public_url: Option<HttpUrl> = unset, restart, like "https://mcp.example.com";
        /// The web origins whose pages may call; a request with any other `Origin` header is refused, one without the
        /// header is not.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// How long calls in flight may go on after a stop was asked for.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an agent may take nothing of what waits to be sent to it, or send nothing of a body that it has begun, before the call is ended. The
        /// time begins anew with every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
        /// How long an agent may take to send the whole head of a request.
        header_timeout_ms: Millis = "10s" in 100..=600_000, restart, like "5s";
        /// How long a kept connection of an agent may stay without a request.
        idle_timeout_ms: Millis = "2m" in 1_000..=86_400_000, restart, like "5m";
        /// How long an upstream may take until the first byte of its answer; 0 for ever. It does not act on the GET
        /// streams of MCP, which may stay silent.
        first_byte_timeout_ms: Millis = "2m" in 0..=86_400_000, restart, like "30s";
        /// The most connections of agents at one time, all cores together.
        connections_max: u32 = "65536" in 1..=10_000_000, restart, like "1000";
        /// The most calls in flight on one link; further ones take another link or are refused with 503.
        streams_per_link_max: u32 = "4096" in 1..=1_000_000, restart, like "512";
        /// How much of one stream may be on its way in each direction, unread: with a round trip of 100 ms each 256 KiB
        /// are 20 Mbit/s. Connectors follow.
        stream_window_bytes: Bytes = "256KiB" in 1_024..=16_777_216, restart, like "2MiB";
        /// The most for all streams of one link together: what its peer can make us hold. The links of a core have half of
        /// its buffers together; where there are many of them each begins with less.
        link_window_bytes: Bytes = "4MiB" in 1_024..=1_073_741_824, restart, like "32MiB";
        /// How long a call waits for an absent connector to come back before it is refused with 503.
        offline_wait_ms: Millis = "1500ms" in 0..=60_000, restart, like "3s";
        /// A call slower than this is logged with its time taken apart; 0 for none.
        slow_call_ms: Millis = "1s" in 0..=86_400_000, restart, like "250ms";
    } with {
        /// The tunnels that connectors may open: the tables `[[tunnel]]`.
        tunnels: TunnelConfig
    }
}

section! {
    /// A tunnel that a connector may open: `[[tunnel]]`, once for each. Read by `adit edge`, which demands one at least
    /// unless it has a `data_dir`.
    record "tunnel" => TunnelConfig {
        /// Its id: 1 to 64 letters, digits, `_` or `-`.
        id: TunnelId = required, live, like "tnl_demo";
        /// The secret by which its connector proves itself, 16 to 256 bytes. Exactly one of `secret` and `secret_file`.
        secret: Option<SecretText> = unset, live, like "an-example-secret-0123";
        /// A file that holds the secret, mode 0600; white space at its end does not count.
        secret_file: Option<PathBuf> = unset, live, like "demo.secret";
        /// The hosts that agents call and that belong to this tunnel, without port; `*.example.com` is every host of one
        /// label more.
        hosts: Vec<HostPattern> = required, live, like "demo.example.com";
        /// How its calls are carried. `plain`: under the link's TLS alone. `resealed`: the edge seals each call again, in a TLS
        /// session that ends in the connector. `passthrough`: the agent's own TLS ends in the connector, and the edge reads
        /// nothing but the name that the agent asks for. The connector's routes must say the same.
        traffic: Traffic = "plain", live, like "passthrough";
        /// The certificates (PEM) of the authorities that may vouch for the connector where traffic is resealed, which
        /// demands it: one, or two while one takes the other's place.
        seal_ca_file: Option<PathBuf> = unset, live, like "seal-ca.pem";
        /// From where its connectors may come: networks, or single addresses. Empty for from everywhere. Others get neither a
        /// certificate nor a link, whatever they show.
        connectors_from: Vec<Network> = unset, live, like "198.51.100.7";
        /// From where agents may call this tunnel, besides what `[admission]` says: networks, AS numbers such as
        /// `AS64500`, and sets such as `set:vendor`. Empty for from everywhere. Others are answered 403.
        allow_from: Vec<Member> = unset, live, like "192.0.2.0/24";
        /// From where agents may not call this tunnel; stronger than `allow_from`.
        deny_from: Vec<Member> = unset, live, like "AS64501";
        /// Only counts and logs whom the two lists of this tunnel would turn away.
        admission_dry_run: bool = "false", live, like "true";
    }
}

section! {
    /// Who may come to the edge at all, before any TLS. Read by `adit edge`.
    section "admission" => AdmissionConfig {
        /// From where agents may come: networks, AS numbers such as `AS64500`, and sets such as `set:vendor`. Empty for
        /// from everywhere. Connections from elsewhere are dropped. It also acts on probes of `/readyz`, which come from
        /// the edge's own address.
        allow_from: Vec<Member> = unset, live, like "192.0.2.0/24";
        /// From where agents may not come; stronger than `allow_from`.
        deny_from: Vec<Member> = unset, live, like "198.51.100.0/24";
        /// From where connectors may come. Empty for from everywhere.
        connectors_allow_from: Vec<Member> = unset, live, like "203.0.113.0/24";
        /// From where connectors may not come; stronger than `connectors_allow_from`.
        connectors_deny_from: Vec<Member> = unset, live, like "198.51.100.0/24";
        /// Only counts and logs whom the four lists would turn away.
        dry_run: bool = "false", live, like "true";
        /// A file in MaxMind's format that says which autonomous system announces an address, such as GeoLite2-ASN.mmdb.
        /// AS numbers in lists demand it. It is read again when it changes.
        asn_file: Option<PathBuf> = unset, live, like "GeoLite2-ASN.mmdb";
        /// Proxies in front of the agents' port, each of which must begin its connections with a PROXY protocol header of
        /// version 2 and is believed. From nobody else is one read.
        agents_proxies: Vec<Network> = unset, live, like "10.0.0.5";
        /// The same, in front of the connectors' port.
        connectors_proxies: Vec<Network> = unset, live, like "10.0.0.5";
        /// How many connections one source (an IPv4 address, or a /64 of IPv6) may make in a minute on the average, on
        /// both ports together; 0 for any number. Loopback is not counted.
        handshakes_per_min: u32 = "30000" in 0..=60_000_000, live, like "600";
        /// How many of them at once.
        handshakes_burst: u32 = "5000" in 1..=1_000_000, live, like "100";
        /// How often connectors of one source may fail to prove themselves in a minute on the average, before all of that
        /// source are turned away for a while; 0 for any number.
        failed_registrations_per_min: u32 = "30" in 0..=1_000_000, live, like "6";
        /// How many of them at once.
        failed_registrations_burst: u32 = "60" in 1..=1_000_000, live, like "10";
        /// How many connections of agents one source may have open at one time; 0 for any number. Loopback is not counted.
        connections_per_source_max: u32 = "1024" in 0..=10_000_000, live, like "256";
        /// How many calls one source may have in flight at one time, streams of events among them; 0 for any number.
        calls_per_source_max: u32 = "1024" in 0..=10_000_000, live, like "128";
        /// How many connections one source may have open at the connectors' port that have not yet proved themselves; 0 for
        /// any number.
        strangers_per_source_max: u32 = "64" in 0..=1_000_000, live, like "16";
        /// How many links one tunnel may have at one time, those of all its connectors together; 0 for any number.
        links_per_tunnel_max: u32 = "256" in 0..=1_000_000, live, like "32";
    } with {
        /// Sets of networks: the tables `[[network_set]]`.
        sets: NetworkSetConfig
    }
}

section! {
    /// Networks that are kept in a file and named in lists as `set:NAME`: `[[network_set]]`, once for each. Read by
    /// `adit edge`.
    record "network_set" => NetworkSetConfig {
        /// Its name: 1 to 64 letters, digits, `.`, `_` or `-`.
        name: SetName = required, live, like "vendor";
        /// The file: one network on a line, `#` begins a comment; or JSON as vendors publish it, of which every text
        /// that is a network counts. It is read again when it changes.
        file: PathBuf = required, live, like "vendor-egress.txt";
    }
}

section! {
    /// The private side, read by `adit connect`.
    section "connect" => ConnectConfig {
        /// The edge to dial, `HOST:PORT`; several for several edges, each of which gets its own links.
        edge: Vec<HostPort> = required, restart, like "edge.example.com:7844", flag "--edge";
        /// The id of the tunnel that this connector opens; not beside a token, which names it.
        tunnel: Option<TunnelId> = unset, restart, like "tnl_demo", env "ADIT_TUNNEL_ID", flag "--id";
        /// Id and secret of the tunnel in one string, as `adit tunnel create` prints it. Exactly one of `token`,
        /// `token_file`, `secret`, `secret_file`, `provisioning_key` and `provisioning_key_file`; where none is set,
        /// systemd's credentials `adit.token` and `adit.secret` are looked for in `$CREDENTIALS_DIRECTORY`.
        token: Option<SecretText> = unset, restart, like "tnl_demo:an-example-secret-0123", env "ADIT_TUNNEL_TOKEN", flag "--token";
        /// A file that holds the token, mode 0600; white space at its end does not count.
        token_file: Option<PathBuf> = unset, restart, like "tunnel.token", env "ADIT_TUNNEL_TOKEN_FILE", flag "--token-file";
        /// The secret of the tunnel, 16 to 256 bytes. Prefer the variable or the file: a command line can be read by
        /// every user of the machine.
        secret: Option<SecretText> = unset, restart, like "an-example-secret-0123", env "ADIT_TUNNEL_SECRET", flag "--secret";
        /// A file that holds the secret, mode 0600; white space at its end does not count.
        secret_file: Option<PathBuf> = unset, restart, like "tunnel.secret", env "ADIT_TUNNEL_SECRET_FILE", flag "--secret-file";
        /// A key that new hosts trade for a tunnel of their own, named after the host, at their first start: for images that
        /// many hosts are made from. What they got is kept in `state_dir`, which is demanded with it, and used from then on.
        provisioning_key: Option<SecretText> = unset, restart, like "adpk_an-example-key", env "ADIT_PROVISIONING_KEY", flag "--provisioning-key";
        /// A file that holds the provisioning key, mode 0600; white space at its end does not count.
        provisioning_key_file: Option<PathBuf> = unset, restart, like "provisioning.key", env "ADIT_PROVISIONING_KEY_FILE", flag "--provisioning-key-file";
        /// The certificates (PEM) of the authorities that may vouch for the edge. Without it that is the edge's own
        /// authority, where the secret names it as the secrets of `adit tunnel create` do, else the well-known public ones.
        edge_ca_file: Option<PathBuf> = unset, restart, like "edge-ca.pem", flag "--edge-ca-file";
        /// The name that the edge's certificate must bear, where it is not the host that is dialled.
        edge_name: Option<Hostname> = unset, restart, like "edge.internal", flag "--edge-name";
        /// A folder in which certificates and their keys are kept, so that a new start needs no new ones. Made if it is not
        /// there, for this user alone. Without it they are in memory only.
        state_dir: Option<FolderPath> = unset, restart, like "state", env "ADIT_STATE_DIR", flag "--state-dir";
        /// How many links to each edge; 0 opens one for each core that the edge says it has.
        links: u32 = "0" in 0..=64, restart, like "2";
        /// The first wait before a lost link is dialled again; each further one doubles, with full jitter.
        backoff_min_ms: Millis = "100ms" in 10..=60_000, restart, like "250ms";
        /// The longest wait before a lost link is dialled again. In the first 30 s of an outage no wait is longer than 1 s.
        backoff_max_ms: Millis = "5s" in 10..=3_600_000, restart, like "10s";
        /// Where metrics, status and health are served, over plain HTTP without a password; `off` for nowhere.
        admin_listen: Option<SocketAddr> = "off", restart, like "127.0.0.1:9444", flag "--admin";
        /// Lets the admin listener take an address other than loopback: whoever reaches it can read it.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// The networks in which upstreams may be, checked on every address that a name resolves to; `private` is every
        /// private network and loopback. Link-local and metadata addresses are refused unless a network within them is
        /// named. Unix sockets are always allowed.
        allowed_upstreams: Vec<UpstreamNetwork> = "private", live, like "127.0.0.0/8";
        /// How the calls of routes are carried that do not say it themselves: `plain`, `resealed` or `passthrough`. The edge
        /// must be told the same. What is not plain needs seal_cert_file or a state_dir.
        traffic: Traffic = "plain", live, like "resealed", env "ADIT_TRAFFIC", flag "--traffic";
        /// The certificate chain (PEM) that is shown for the hosts of sealed routes. Without it the connector makes an
        /// authority of its own in state_dir, `seal-ca.pem`, and certificates by it.
        seal_cert_file: Option<PathBuf> = unset, live, like "hosts.crt";
        /// The private key (PEM) of `seal_cert_file`, mode 0600.
        seal_key_file: Option<PathBuf> = unset, live, like "hosts.key";
        /// The web origins whose pages may call routes whose traffic is passthrough; the edge cannot see them there.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// How long calls in flight may go on after a stop was asked for.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an upstream may take nothing of what waits to be sent to it, before the call is ended. The
        /// time begins anew with every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
    } with {
        /// Where calls go: the tables `[[route]]`.
        routes: RouteConfig
    }
}

section! {
    /// Which private server answers for a host: `[[route]]`, once for each. Read by `adit connect`, which demands
    /// one at least.
    record "route" => RouteConfig {
        /// The host that agents call, without port; `*.example.com` is every host of one label more.
        host: HostPattern = required, live, like "demo.example.com";
        /// The private server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path/of/socket`. No path: the path of
        /// each call is passed unchanged.
        upstream: UpstreamUrl = required, live, like "http://127.0.0.1:9000";
        /// How its calls are carried, where that is not what `connect.traffic` says.
        traffic: Option<Traffic> = unset, live, like "passthrough";
        /// The certificates (PEM) of the authorities that may vouch for an `https` upstream, instead of the well-known
        /// public ones.
        upstream_ca_file: Option<PathBuf> = unset, live, like "upstream-ca.pem";
        /// The most connections to the upstream at one time, all cores together.
        upstream_connections_max: u32 = "1024" in 1..=65_536, live, like "32";
        /// How long a connection to the upstream may take to be made, with TLS.
        connect_timeout_ms: Millis = "5s" in 1..=600_000, live, like "1s";
        /// How long a connection to the upstream is kept without a call. Keep it below what the upstream does.
        idle_timeout_ms: Millis = "30s" in 0..=86_400_000, live, like "10s";
    }
}

section! {
    /// The log, on standard error. Both roles read it.
    section "log" => LogConfig {
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`; for single modules `info,adit::link=debug`.
        level: LogLevels = "info", live, like "debug", env "ADIT_LOG", flag "--log-level";
        /// `text` for people, `json` for machines: one object on each line.
        format: LogFormat = "text", restart, like "json", flag "--log-format";
    }
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
