//! The table of settings. To add a setting, add a row here: the structs, the environment variables, the check for unknown keys,
//! `adit config show` and `docs/CONFIG.md` are generated from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::{GuardMode, Traffic, TunnelId};
use crate::config::addresses::{HostField, HostPort, HttpUrl, WebOrigin};
use crate::config::networks::UpstreamNetwork;
use crate::config::proxy::{ProxyExemption, ProxyUrl};
use crate::config::section::{Part, Setting, section};
use crate::config::values::{
    AlgorithmName, AuditMode, Bytes, CallerAuth, Driver, FieldNameText, FolderPath, Hedge, LogFormat, LogLevels,
    Millis, OriginRule, OwnOrigin, Price, Resend, SecretText, ServerPreset, Spin, TokenText, ToolName,
};
use crate::policy::{Member, Network, PinMode, SetName};
use crate::route::{HostPattern, Hostname, UpstreamUrl};

/// Every table of the file, in the order in which they are shown.
pub const PARTS: [Part; 13] = [
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
    Part::of::<AuditConfig>(),
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
    /// The data plane: how many cores there are, how they wait for work, and how much memory they may use. Both roles
    /// read it.
    section "engine" => EngineConfig {
        /// The kernel interface for network I/O. `auto` tries io_uring and falls back to epoll where io_uring is
        /// forbidden or does not work.
        driver: Driver = "auto", restart, like "epoll", env "ADIT_DRIVER", flag "--driver";
        /// The number of threads that carry traffic, each on its own CPU; 0 uses every CPU that the process may use.
        cores: u32 = "0" in 0..=256, restart, like "2", flag "--cores";
        /// Whether each core stays on one CPU. Disable it where several busy processes share the CPUs.
        pin: bool = "true", restart, like "false";
        /// How long an idle core polls for new work before it sleeps. `auto` adapts to the traffic and does not poll
        /// where CPUs are scarce; 0 always sleeps, which saves CPU time and costs some tens of microseconds per call.
        spin_us: Spin = "auto" in 0..=1_000, restart, like "50us";
        /// The maximum memory for the buffers of one core. At the limit peers are slowed down, not refused.
        buffer_memory_max_bytes: Bytes = "64MiB" in 2_097_152..=68_719_476_736, restart, like "128MiB";
    }
}

section! {
    /// The public side, read by `adit edge`.
    section "edge" => EdgeConfig {
        /// The address on which the edge accepts connections of agents.
        agents_listen: SocketAddr = "127.0.0.1:8443", restart, like "0.0.0.0:443", flag "--listen";
        /// The certificate chain (PEM) for agents. With it and its key agents use HTTPS, without them plain HTTP. The
        /// file is read again when it changes.
        agents_cert_file: Option<PathBuf> = unset, restart, like "agents.crt", flag "--agents-cert-file";
        /// The private key (PEM) of `agents_cert_file`, mode 0600.
        agents_key_file: Option<PathBuf> = unset, restart, like "agents.key", flag "--agents-key-file";
        /// Allows plain HTTP on `agents_listen` with `agents_cert_file` too, for agents that connect over loopback. A
        /// reverse proxy on the same host makes all of its clients such agents. Without `agents_cert_file` they are
        /// always served.
        allow_plain_http_on_loopback: bool = "false", restart, like "true";
        /// Allows plain HTTP on `agents_listen` from anywhere, with `agents_cert_file` or without, and at an address
        /// other than loopback. Use it only behind a proxy that terminates TLS.
        allow_plain_http_off_loopback: bool = "false", restart, like "true", flag "--allow-plain-http-off-loopback";
        /// Whether agents may speak HTTP/2 besides HTTP/1.1: over HTTPS if they offer it (ALPN `h2`), over plain HTTP if
        /// they begin with it. Calls on one connection then run beside each other.
        http2: bool = "true", restart, like "false";
        /// The address on which the edge accepts connections of connectors, always over TLS.
        connectors_listen: SocketAddr = "0.0.0.0:7844", restart, like "0.0.0.0:7900", flag "--connectors-listen";
        /// Accepts connectors on `agents_listen` too, for networks that let out nothing but port 443. They are told from
        /// agents by the application protocol of their TLS (ALPN), and are shown the certificate for connectors. Something
        /// in front that terminates TLS keeps them out.
        connectors_on_agents_listen: bool = "false", restart, like "true";
        /// The certificate chain (PEM) for connectors. `adit edge` requires it unless it has a `data_dir`. The file
        /// is read again when it changes.
        connectors_cert_file: Option<PathBuf> = unset, restart, like "edge.crt", flag "--connectors-cert-file";
        /// The private key (PEM) of `connectors_cert_file`, mode 0600.
        connectors_key_file: Option<PathBuf> = unset, restart, like "edge.key", flag "--connectors-key-file";
        /// The certificate (PEM) of the edge's own certificate authority. With it and its key, connectors obtain
        /// certificates with their tunnel's id and secret, and every link needs one. Without them, and without a
        /// `data_dir`, which contains them, the secret alone is enough.
        connectors_ca_file: Option<PathBuf> = unset, restart, like "ca.pem";
        /// The private key (PEM, PKCS #8) of `connectors_ca_file`, mode 0600.
        connectors_ca_key_file: Option<PathBuf> = unset, restart, like "ca.key";
        /// How long the certificate of a connector is valid. It is renewed after two thirds of that time.
        connector_cert_life_ms: Millis = "24h" in 2_000..=2_592_000_000, restart, like "8h";
        /// The directory that `adit edge init` creates. It holds the edge's certificate authority, its certificate
        /// for connectors, its admin token and its store. With it connectors enrol for certificates, tunnels are
        /// created and revoked while the edge runs (`adit tunnel`), and `[[tunnel]]` and `connectors_cert_file` are
        /// optional.
        data_dir: Option<FolderPath> = unset, restart, like "/var/lib/adit", flag "--data-dir";
        /// The domain below which a tunnel that is created without hosts gets one. It needs a wildcard record in DNS
        /// and a wildcard certificate for agents.
        tunnel_domain: Option<Hostname> = unset, restart, like "tunnel.example.com", flag "--tunnel-domain";
        /// The address by which connectors reach this edge from outside, if it differs from the first name in its
        /// certificate. It is only shown, in the commands that are printed for a new tunnel.
        connectors_public: Option<HostPort> = unset, restart, like "edge.example.com:7844";
        /// The address that serves metrics, status and health over plain HTTP, or `off`. With a `data_dir` it also
        /// serves the API of `adit tunnel`, which requires the admin token.
        admin_listen: Option<SocketAddr> = "127.0.0.1:9443", restart, like "off", flag "--admin";
        /// Allows `admin_listen` at an address other than loopback. Anyone who can connect to it can read it.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// The URL by which agents reach this edge, if it differs from the listener's address. Upstreams are told its
        /// scheme (`X-Forwarded-Proto`), and for its host also its port (`X-Forwarded-Host`). Set it where something in
        /// front of the edge terminates TLS. It is not matched against requests.
        public_url: Option<HttpUrl> = unset, restart, like "https://mcp.example.com";
        /// Proxies in front of the agents' port that terminate TLS and speak HTTP. Their `X-Forwarded-Proto` and
        /// `X-Forwarded-Host` are believed where `public_url` is not set and no PROXY header tells the scheme; those of
        /// others are removed. Their `X-Forwarded-For` is not believed: the PROXY protocol tells addresses
        /// (`admission.agents_proxies`).
        trusted_proxies: Vec<Network> = unset, restart, like "10.0.0.5";
        /// The web origins whose pages may call, besides the own origin of each host (`own_origin`). A request with
        /// another `Origin` header is refused with 403; one without the header is not.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// Which origin is a host's own, so that its pages may call without being listed. `exact`: scheme, host and
        /// port are those of the call. The scheme is that of `public_url`; if that is not set, the one that a proxy in
        /// front tells (`trusted_proxies`, or its PROXY header), or that of the connection. `host`: the host is that of
        /// the call, whatever scheme and port.
        own_origin: OwnOrigin = "exact", restart, like "host";
        /// Answers browsers (CORS). Preflight requests of origins that may call are answered with 204, without asking the
        /// upstream. All responses let such pages read them, errors of adit too, and the upstream's own
        /// `Access-Control-…` headers are replaced. Cookies are not allowed. If it is off, CORS is left to the upstream.
        cors: bool = "false", restart, like "true";
        /// How long the edge accepts and serves as before after a stop was requested, while `/readyz` answers 503 already, so
        /// that load balancers have time to send no more.
        drain_delay_ms: Millis = "0s" in 0..=600_000, restart, like "10s";
        /// How long calls in flight may continue after that.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an agent may accept no data of an answer, or send no data of a request body, before the call is
        /// ended. The timer restarts with every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
        /// How long an agent may take to send the complete head of a request.
        header_timeout_ms: Millis = "10s" in 100..=600_000, restart, like "5s";
        /// How long a connection of an agent is kept open without a request.
        idle_timeout_ms: Millis = "2m" in 1_000..=86_400_000, restart, like "5m";
        /// How long an upstream may take until the first byte of its answer; 0 for no limit. It does not apply to the
        /// GET streams of MCP, which may stay silent. No deadline is longer, and it is that of calls of which too few were
        /// seen.
        first_byte_timeout_ms: Millis = "2m" in 0..=86_400_000, restart, like "30s";
        /// What becomes of a call that takes more than 1.5 times as long as 95 % of the last calls of its route, method and
        /// tool. `off`: nothing is learned. `observe`: it is counted. `enforce`: it is cut, the agent is told so, and the
        /// upstream's connection is closed; then the bodies of calls are read as far as their method and tool before they
        /// are passed on, and bodies that do not say these for certain are refused.
        deadline: GuardMode = "observe", restart, like "enforce";
        /// The shortest deadline, however quick the last calls were.
        deadline_floor_ms: Millis = "1s" in 1..=86_400_000, restart, like "5s";
        /// Time limit of a call that reports progress (`notifications/progress`). Each such message gives it
        /// another deadline.
        progress_max_ms: Millis = "10m" in 1..=86_400_000, restart, like "1h";
        /// What the circuit breakers do. Each tool and each upstream has one, which opens when its calls fail. `off`: nothing is
        /// counted. `observe`: calls that would be refused are counted. `enforce`: calls are answered with 503 while a breaker
        /// is open, except probes, which find out whether calls succeed again; bodies are read as with `deadline = "enforce"`.
        breaker: GuardMode = "observe", restart, like "enforce";
        /// A breaker opens when at least this percentage of calls fails: the upstream cannot be reached, breaks the connection
        /// off, answers 502, 503 or 504, or does not answer before the deadline. The calls of the last 10 s count, or the last
        /// `breaker_calls_min` calls if those took longer.
        breaker_failed_percent: u32 = "50" in 1..=100, restart, like "30";
        /// A breaker opens when at least this percentage of calls fails or is answered after its deadline.
        breaker_slow_percent: u32 = "80" in 1..=100, restart, like "100";
        /// How many calls a breaker must have seen within 5 minutes before it can open.
        breaker_calls_min: u32 = "10" in 1..=100_000, restart, like "20";
        /// How long a breaker stays open, plus or minus 20 %. Then three calls are made as probes. If one of them fails or is
        /// answered after its deadline, the breaker opens again.
        breaker_open_ms: Millis = "5s" in 100..=3_600_000, restart, like "15s";
        /// Whether the number of calls of a route that are in flight at one time is limited. The limit follows how long calls take:
        /// it grows while they take about as long as they do when few are in flight, and falls when they take longer. `off`: nothing
        /// is counted. `observe`: calls beyond the limit are counted. `enforce`: they wait for up to `concurrency_queue_ms`, and
        /// then, or if too many wait, are answered with 503 and `Retry-After`. Only POST is limited.
        concurrency_limit: GuardMode = "off", restart, like "enforce";
        /// The limit of a route is never lower.
        concurrency_min: u32 = "4" in 1..=1_000_000, restart, like "2";
        /// The limit of a route is never higher. Calls of one route in flight then leave room for those of others on the same
        /// links (`streams_per_link_max`).
        concurrency_max: u32 = "1000" in 1..=1_000_000, restart, like "64";
        /// How many calls of a route may wait for a place. When as many wait, the newest call of the agent that has the most of
        /// them is refused.
        concurrency_queue_max: u32 = "64" in 0..=1_024, restart, like "16";
        /// How long a call may wait for a place. A call that is likely to wait longer, or longer than its caller waits, is refused
        /// at once.
        concurrency_queue_ms: Millis = "1s" in 0..=60_000, restart, like "250ms";
        /// How many percent of the limit one agent may take while other agents have calls of the same route; 100 for all of it.
        /// Agents are told apart by their addresses (IPv6: the /64).
        agent_share_percent: u32 = "50" in 1..=100, restart, like "25";
        /// After how much silence the edge sends a comment on an event stream, which clients ignore; 0 sends none. Use it
        /// behind proxies that close connections on which nothing comes, with half of their limit. Comments are sent only
        /// between two events, and only on streams that are not compressed.
        sse_keepalive_ms: Millis = "0" in 0..=3_600_000, restart, like "25s";
        /// The maximum number of connections of agents at one time, for all cores together.
        connections_max: u32 = "65536" in 1..=10_000_000, restart, like "1000";
        /// The maximum number of calls in flight on one link. Further calls use another link, or are refused with
        /// 503.
        streams_per_link_max: u32 = "4096" in 1..=1_000_000, restart, like "512";
        /// How much data of one stream may be in transit in each direction. With a round trip of 100 ms, each 256 KiB
        /// allow 20 Mbit/s. Connectors use the same value.
        stream_window_bytes: Bytes = "256KiB" in 1_024..=16_777_216, restart, like "2MiB";
        /// The same for all streams of one link together. This limits how much memory a peer can make the edge use. All
        /// links of a core share half of its buffers, so that a link may begin with less.
        link_window_bytes: Bytes = "4MiB" in 1_024..=1_073_741_824, restart, like "32MiB";
        /// How long a call waits for an absent connector to come back before it is refused with 503. A call of an MCP session
        /// whose connector is lost waits as long, and 1 s at most if that connector's process was killed; then it goes to
        /// another connector of the tunnel.
        offline_wait_ms: Millis = "1500ms" in 0..=60_000, restart, like "3s";
        /// How long a call waits while the only connector of its tunnel finishes its calls and ends, as when it is restarted.
        /// `offline_wait_ms` begins when the connector is gone.
        restart_wait_ms: Millis = "30s" in 0..=3_600_000, restart, like "1m";
        /// How long a connector may be silent, although it should answer, before the edge closes connections that wait for it and
        /// whose TLS ends in it, if another connector of the tunnel answers. Agents then reconnect and reach the other connector.
        /// Calls that the edge can read move to another connector without this.
        stalled_connector_timeout_ms: Millis = "5s" in 1_000..=60_000, restart, like "2s";
        /// How long an MCP session (`Mcp-Session-Id`) may be idle until the edge forgets which connector has it. Later calls
        /// of the session go to any connector of the tunnel. This matters only for tunnels with several connectors.
        session_idle_timeout_ms: Millis = "24h" in 1_000..=2_592_000_000, restart, like "8h";
        /// Calls slower than this, and than calls of their tool usually are, are logged with the time of each phase; 0 logs none.
        slow_call_ms: Millis = "1s" in 0..=86_400_000, restart, like "250ms";
        /// How many of the last calls `adit calls` can show: so many for each core of those that were answered, as many that
        /// failed or were slow, and as many that were turned away before they had a route. Each takes 256 bytes; 0 keeps none.
        calls_kept: u32 = "1000" in 0..=100_000, restart, like "10000";
        /// How often a call that a connector did not pass on is opened again, on another connector of its tunnel; 0 for never. The
        /// first time it is at once, then after a random pause. A retry budget of a tenth of the tunnel's calls applies as well.
        retries_max: u32 = "2" in 0..=10, restart, like "1";
        /// How many tasks `adit tasks` keeps; 0 counts no tasks, which saves each call about 4 % of the instructions that it takes in an
        /// edge. Each takes 1 KiB, and a new task replaces the one that was idle longest. A task is identified by `task_header`,
        /// otherwise by the trace of the call (`traceparent`, in the head or in `_meta`), otherwise by its MCP session.
        tasks_max: u32 = "0" in 0..=100_000, restart, like "1000";
        /// The header field by which agents name the task of a call.
        task_header: Option<FieldNameText> = unset, restart, like "X-Task-Id";
        /// The price of a million tokens of answers, in the unit of your choice. Tokens are estimated: a quarter of the bytes of
        /// answers that are text or JSON. The price of a call itself is `price_per_call` of a `[[tool]]`.
        price_per_million_tokens: Price = "0", restart, like "3.00";
    } with {
        /// The tunnels that connectors may open: the tables `[[tunnel]]`.
        tunnels: TunnelConfig
    } with {
        /// Settings of single hosts: the tables `[[host]]`.
        hosts: HostConfig
    } with {
        /// Settings of single tools: the tables `[[tool]]`.
        tools: ToolConfig
    }
}

section! {
    /// A tunnel that a connector may open: one `[[tunnel]]` each. Read by `adit edge`, which requires at least one
    /// unless it has a `data_dir`.
    record "tunnel" => TunnelConfig {
        /// Its id: 1 to 64 letters, digits, `_` or `-`.
        id: TunnelId = required, live, like "tnl_demo";
        /// The secret that authenticates its connector, 16 to 256 bytes. Exactly one of `secret` and `secret_file`.
        secret: Option<SecretText> = unset, live, like "an-example-secret-0123";
        /// A file that holds the secret, mode 0600. White space at its end is ignored.
        secret_file: Option<PathBuf> = unset, live, like "demo.secret";
        /// The hosts of this tunnel that agents call, without port. `*.example.com` stands for every host with one
        /// more label.
        hosts: Vec<HostPattern> = required, live, like "demo.example.com";
        /// How its calls are carried. `plain`: protected by the TLS of the link alone. `resealed`: re-encrypted, with
        /// an inner TLS session from the edge to the connector. `passthrough`: the agent's own TLS session ends in
        /// the connector, and the edge reads only the server name. The connector's routes must have the same value.
        traffic: Traffic = "plain", live, like "passthrough";
        /// The certificates (PEM) of the authorities that sign the connector's certificate for resealed traffic,
        /// which requires them: one, or two while one replaces the other.
        seal_ca_file: Option<PathBuf> = unset, live, like "seal-ca.pem";
        /// The networks and addresses from which its connectors may connect; empty for any. Others get neither a
        /// certificate nor a link, whatever credentials they present.
        connectors_from: Vec<Network> = unset, live, like "198.51.100.7";
        /// The sources from which agents may call this tunnel, in addition to the rules of `[admission]`: networks,
        /// AS numbers such as `AS64500`, and sets such as `set:vendor`; empty for any. Others are answered with 403.
        allow_from: Vec<Member> = unset, live, like "192.0.2.0/24";
        /// The sources from which agents may not call this tunnel. It takes precedence over `allow_from`.
        deny_from: Vec<Member> = unset, live, like "AS64501";
        /// Only counts and logs calls that the two lists of this tunnel would refuse.
        admission_dry_run: bool = "false", live, like "true";
    }
}

section! {
    /// Settings of a host that differ from those of the edge, whichever tunnel serves it, one of the configuration or one that
    /// was created with `adit tunnel`: one `[[host]]` each. Read by `adit edge`.
    record "host" => HostConfig {
        /// The host that agents call, without port. `*.example.com` stands for every host with one more label that has no
        /// table of its own.
        host: HostPattern = required, live, like "demo.example.com";
        /// How long its MCP server may take until the first byte of an answer, if that differs from
        /// `edge.first_byte_timeout_ms`; 0 for no limit.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "10m";
        /// What becomes of calls that miss their deadline, if that differs from `edge.deadline`.
        deadline: Option<GuardMode> = unset, live, like "enforce";
        /// The shortest deadline, if that differs from `edge.deadline_floor_ms`.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "5s";
        /// Time limit of a call that reports progress, if that differs from `edge.progress_max_ms`.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// How long clients of this host wait for the answer to a POST, if they do not send `X-Request-Timeout` or
        /// `grpc-timeout`; for example 5 s with the OpenAI Agents SDK and 60 s with the TypeScript SDK. The call is answered
        /// with 504 before this time is over: earlier by a twentieth of it, at least 50 ms and at most 1 s. Not applied to
        /// `passthrough` traffic, whose calls the edge cannot read.
        client_timeout_ms: Option<Millis> = unset in 100..=86_400_000, live, like "60s";
        /// The mode of the circuit breakers for this host, in place of `edge.breaker`.
        breaker: Option<GuardMode> = unset, live, like "enforce";
        /// Whether the number of calls of this host in flight is limited, in place of `edge.concurrency_limit`. Not applied to
        /// `passthrough` traffic.
        concurrency_limit: Option<GuardMode> = unset, live, like "enforce";
        /// The highest limit for this host, in place of `edge.concurrency_max`.
        concurrency_max: Option<u32> = unset in 1..=1_000_000, live, like "16";
        /// Which slow calls of this host are tried a second time. `read-only`: calls of tools that the server's `tools/list`
        /// declares with `readOnlyHint`, once they take longer than 95 % of the last calls of the tool. The second try goes to
        /// another connector, or over another link of the same connector, if the core has one. The first answer wins; the
        /// second try wins only with a result. The connection of the other try is closed, and its server is sent no
        /// `notifications/cancelled`. At most 2 % of the calls of the host are tried twice. All connectors must lead to servers
        /// that answer alike. Set it only where the server is trusted to say which tools only read. It requires `deadline` to be
        /// `observe` or `enforce`; bodies of calls are then read as with `deadline = "enforce"`. Not applied to calls of an MCP
        /// session, nor to `passthrough` traffic.
        hedge: Hedge = "off", live, like "read-only";
        /// The URL by which agents call it, if that differs from `edge.public_url`: its scheme, and its port if the host is the
        /// one that is called.
        public_url: Option<HttpUrl> = unset, live, like "https://demo.example.com:8443";
        /// What is asked of callers. `passthrough`: nothing, tokens are the server's affair. `verify`: an access token (JWT) of one of
        /// the `[[identity_provider]]`s, which also goes on to the server. `terminate`: the same, and the token stays here
        /// ([GOVERNANCE.md](GOVERNANCE.md#identity)). The tunnel then answers for the metadata of the resource (RFC 9728) and with
        /// the challenges (401, 403) by which clients get a token. It is
        /// refused for a host whose traffic is `passthrough`, which the edge cannot read: set it at the connector.
        auth: CallerAuth = "passthrough", live, like "verify";
        /// The names of the `[[identity_provider]]`s whose tokens are accepted; without any, all.
        identity_providers: Vec<TokenText> = unset, live, like "corporate";
        /// The resource that tokens are for: the URL by which agents call the MCP server, with its path. It is compared byte for
        /// byte with the audience of a token, unless the provider has `audiences`. By default `public_url`.
        auth_resource: Option<TokenText> = unset, live, like "https://demo.example.com/mcp";
        /// The scopes that every caller must have been granted.
        scopes_required: Vec<TokenText> = unset, live, like "mcp:tools";
        /// A file, mode 0600, with the value of `Authorization` that goes on in place of the token, such as `Bearer` and a
        /// key of the server. Only with `auth = "terminate"`. Read again when it changes.
        upstream_authorization_file: Option<PathBuf> = unset, live, like "upstream-authorization";
        /// The policy of the host: a file with the rules of which caller may call which tool, prompt and resource
        /// ([GOVERNANCE.md](GOVERNANCE.md)). Read again when it changes; while it has faults, the last good one stays in
        /// force. It is refused for a host whose traffic is `passthrough`, which the edge cannot read: set it at the connector.
        policy_file: Option<PathBuf> = unset, live, like "policy.toml";
        /// What becomes of tools of the server that nobody has approved, because they are new or their definition has changed since
        /// ([GOVERNANCE.md](GOVERNANCE.md#what-a-server-offers)). `warn`: they are reported. `quarantine`: they are also hidden from
        /// lists, and calls of them are refused, until `adit tools approve`. The tools are learned from the lists that pass. It needs
        /// `edge.data_dir`, and is refused for a table of many hosts and for `passthrough` traffic.
        pin: PinMode = "off", live, like "quarantine";
    }
}

section! {
    /// Settings of a tool that differ from those of its host: one `[[tool]]` each, up to 64 for one host. Read by `adit edge`, and by
    /// `adit connect` for agents whose TLS ends in the connector.
    record "tool" => ToolConfig {
        /// The host as it stands in `[[host]]`, or in the tunnel; for a connector as it stands in `[[route]]`. At the edge a host
        /// without a table of its own keeps the settings of the `*.` table that it falls under.
        host: HostPattern = required, live, like "demo.example.com";
        /// The name of the tool, as `tools/list` has it.
        tool: ToolName = required, live, like "search";
        /// What becomes of its calls that miss their deadline, if that differs from the host's.
        deadline: Option<GuardMode> = unset, live, like "off";
        /// The shortest deadline of its calls, if that differs from the host's.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "10s";
        /// How long the MCP server may take until the first byte of its answer, if that differs from the host's; 0 for no
        /// limit. Bodies of calls to the host are then read as with `deadline = "enforce"`.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "15m";
        /// Time limit of a call that reports progress, if that differs from the host's.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// The mode of the circuit breakers for this tool, in place of the host's.
        breaker: Option<GuardMode> = unset, live, like "off";
        /// Whether its slow calls are tried a second time, in place of `hedge` of the host. `read-only`: if the server
        /// declares it so. Read by `adit edge` only.
        hedge: Option<Hedge> = unset, live, like "off";
        /// The price of one call of this tool, in the unit of `edge.price_per_million_tokens`, for `adit tasks`. It is added for
        /// each call that was handed to a connector, also for one that failed or timed out there; not for one that was refused.
        /// Read by `adit edge` only.
        price_per_call: Price = "0", live, like "0.005";
    }
}

section! {
    /// Which sources may connect to the edge, before TLS. Read by `adit edge`.
    section "admission" => AdmissionConfig {
        /// The sources from which agents may connect: networks, AS numbers such as `AS64500`, and sets such as
        /// `set:vendor`; empty for any. Connections from elsewhere are dropped. The rule also applies to the probes
        /// of `/readyz`, which come from the edge's own address.
        allow_from: Vec<Member> = unset, live, like "192.0.2.0/24";
        /// The sources from which agents may not connect. It takes precedence over `allow_from`.
        deny_from: Vec<Member> = unset, live, like "198.51.100.0/24";
        /// The sources from which connectors may connect; empty for any.
        connectors_allow_from: Vec<Member> = unset, live, like "203.0.113.0/24";
        /// The sources from which connectors may not connect. It takes precedence over `connectors_allow_from`.
        connectors_deny_from: Vec<Member> = unset, live, like "198.51.100.0/24";
        /// Only counts and logs connections that the four lists would refuse.
        dry_run: bool = "false", live, like "true";
        /// A file in MaxMind's format that maps addresses to autonomous systems, such as GeoLite2-ASN.mmdb. AS
        /// numbers in lists require it. It is read again when it changes.
        asn_file: Option<PathBuf> = unset, live, like "GeoLite2-ASN.mmdb";
        /// Trusted proxies in front of the agents' port. Each of their connections must begin with a PROXY protocol
        /// header of version 2. The header is read from no other source.
        agents_proxies: Vec<Network> = unset, live, like "10.0.0.5";
        /// Trusted proxies in front of the connectors' port, in the same way.
        connectors_proxies: Vec<Network> = unset, live, like "10.0.0.5";
        /// How many connections one source (an IPv4 address, or an IPv6 /64) may open per minute on average, on both
        /// ports together; 0 for no limit. Loopback is not counted.
        handshakes_per_min: u32 = "30000" in 0..=60_000_000, live, like "600";
        /// How many of these connections may be opened at once.
        handshakes_burst: u32 = "5000" in 1..=1_000_000, live, like "100";
        /// How many times per minute on average connectors of one source may fail to authenticate, before the source
        /// is refused for a while; 0 for no limit.
        failed_registrations_per_min: u32 = "30" in 0..=1_000_000, live, like "6";
        /// How many of these failures may happen at once.
        failed_registrations_burst: u32 = "60" in 1..=1_000_000, live, like "10";
        /// How many connections of agents one source may have open at one time; 0 for no limit. Loopback is not
        /// counted.
        connections_per_source_max: u32 = "1024" in 0..=10_000_000, live, like "256";
        /// How many calls one source may have in flight at one time, event streams included; 0 for no limit.
        calls_per_source_max: u32 = "1024" in 0..=10_000_000, live, like "128";
        /// How many unauthenticated connections one source may have open on the connectors' port; 0 for no limit.
        strangers_per_source_max: u32 = "64" in 0..=1_000_000, live, like "16";
        /// How many links one tunnel may have at one time, for all its connectors together; 0 for no limit.
        links_per_tunnel_max: u32 = "256" in 0..=1_000_000, live, like "32";
    } with {
        /// Sets of networks: the tables `[[network_set]]`.
        sets: NetworkSetConfig
    }
}

section! {
    /// A set of networks that is kept in a file and named in lists as `set:NAME`: one `[[network_set]]` each. Read by
    /// `adit edge`.
    record "network_set" => NetworkSetConfig {
        /// Its name: 1 to 64 letters, digits, `.`, `_` or `-`.
        name: SetName = required, live, like "vendor";
        /// The file. Either one network on each line, where `#` begins a comment; or JSON as vendors publish it, of
        /// which every string that is a network is used. It is read again when it changes.
        file: PathBuf = required, live, like "vendor-egress.txt";
    }
}

section! {
    /// The private side, read by `adit connect`.
    section "connect" => ConnectConfig {
        /// The edge to connect to, `HOST:PORT`. With several edges, each gets its own links.
        edge: Vec<HostPort> = required, restart, like "edge.example.com:7844", flag "--edge";
        /// The id of the tunnel that this connector opens. Not allowed with a token, which contains it.
        tunnel: Option<TunnelId> = unset, restart, like "tnl_demo", env "ADIT_TUNNEL_ID", flag "--id";
        /// Id and secret of the tunnel in one string, as `adit tunnel create` prints it. Exactly one of `token`,
        /// `token_file`, `secret`, `secret_file`, `provisioning_key` and `provisioning_key_file` is required. If none
        /// is set, the systemd credentials `adit.token` and `adit.secret` in `$CREDENTIALS_DIRECTORY` are used.
        token: Option<SecretText> = unset, restart, like "tnl_demo:an-example-secret-0123", env "ADIT_TUNNEL_TOKEN", flag "--token";
        /// A file that holds the token, mode 0600. White space at its end is ignored.
        token_file: Option<PathBuf> = unset, restart, like "tunnel.token", env "ADIT_TUNNEL_TOKEN_FILE", flag "--token-file";
        /// The secret of the tunnel, 16 to 256 bytes. Prefer the variable or the file: every user of the machine can
        /// read a command line.
        secret: Option<SecretText> = unset, restart, like "an-example-secret-0123", env "ADIT_TUNNEL_SECRET", flag "--secret";
        /// A file that holds the secret, mode 0600. White space at its end is ignored.
        secret_file: Option<PathBuf> = unset, restart, like "tunnel.secret", env "ADIT_TUNNEL_SECRET_FILE", flag "--secret-file";
        /// A key that a new host exchanges for a tunnel of its own, named after the host, at its first start. It is
        /// meant for images from which many hosts are made. The result is kept in `state_dir`, which is required with
        /// it, and is used from then on.
        provisioning_key: Option<SecretText> = unset, restart, like "adpk_an-example-key", env "ADIT_PROVISIONING_KEY", flag "--provisioning-key";
        /// A file that holds the provisioning key, mode 0600. White space at its end is ignored.
        provisioning_key_file: Option<PathBuf> = unset, restart, like "provisioning.key", env "ADIT_PROVISIONING_KEY_FILE", flag "--provisioning-key-file";
        /// The certificates (PEM) of the authorities that sign the edge's certificate. Without it the edge's own
        /// authority is trusted, if the secret names it, as the secrets of `adit tunnel create` do; otherwise the
        /// public authorities are trusted.
        edge_ca_file: Option<PathBuf> = unset, restart, like "edge-ca.pem", flag "--edge-ca-file";
        /// The name in the edge's certificate, if it differs from the host that is dialled.
        edge_name: Option<Hostname> = unset, restart, like "edge.internal", flag "--edge-name";
        /// Another port of the edges, which is tried when the one in `edge` does not answer, directly or through the proxy; 0
        /// for none. It is of use where edges accept connectors beside agents (`edge.connectors_on_agents_listen`), and the
        /// network of the connector lets out nothing but HTTPS.
        edge_fallback: u32 = "443" in 0..=65_535, restart, like "8443";
        /// A forward proxy through which the edges are reached: `http://HOST:PORT` (HTTP CONNECT, with Basic
        /// authentication if the URL has `USER:PASSWORD@`), `socks5://HOST:PORT`, or `off`. The proxy resolves the name of
        /// the edge. If it is not set, the variables `HTTPS_PROXY` and `ALL_PROXY` count, in lower case too. `localhost`
        /// and loopback addresses are always reached directly, and so are upstreams.
        proxy: Option<ProxyUrl> = "off", restart, like "http://proxy.example.com:3128";
        /// The edges that are reached without the proxy: networks, addresses, or domains with everything below them, each
        /// with a port or without; `*` for all. If it is not set, the variable `NO_PROXY` counts, in lower case too.
        no_proxy: Vec<ProxyExemption> = unset, restart, like "internal.example.com";
        /// A directory in which certificates and their keys are kept, so that a restart needs no new ones. It is
        /// created if it does not exist, for this user alone. Without it they are kept in memory only. The number by which
        /// edges know the connector is kept there too: one that is restarted has the MCP sessions that it had before.
        state_dir: Option<FolderPath> = unset, restart, like "state", env "ADIT_STATE_DIR", flag "--state-dir";
        /// The number of links to each edge; 0 opens one for each core of the edge.
        links: u32 = "0" in 0..=64, restart, like "2";
        /// The first wait before a lost link is dialled again. Each further wait is twice as long, with full jitter.
        backoff_min_ms: Millis = "100ms" in 10..=60_000, restart, like "250ms";
        /// The longest wait before a lost link is dialled again. In the first 30 s of an outage, and while the edge's name
        /// cannot be resolved, no wait is longer than 1 s.
        backoff_max_ms: Millis = "5s" in 10..=3_600_000, restart, like "10s";
        /// The address that serves metrics, status and health over plain HTTP without a password, or `off`.
        admin_listen: Option<SocketAddr> = "off", restart, like "127.0.0.1:9444", flag "--admin";
        /// Allows `admin_listen` at an address other than loopback. Anyone who can connect to it can read it.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// A file that holds a token, mode 0600, at least 16 bytes. Who shows it to the admin API may open and close the breakers of
        /// routes with passthrough traffic (`adit breakers`). Without it nothing can be changed there. White space at its end is
        /// ignored.
        admin_token_file: Option<PathBuf> = unset, restart, like "admin.token";
        /// The networks in which upstreams may be, checked on every address that a name resolves to. `private` stands
        /// for all private networks and loopback. Link-local and metadata addresses are refused unless a network
        /// within them is listed. Unix sockets are always allowed.
        allowed_upstreams: Vec<UpstreamNetwork> = "private", live, like "127.0.0.0/8";
        /// How the calls of routes without a `traffic` of their own are carried: `plain`, `resealed` or
        /// `passthrough`. The edge must have the same value. All but `plain` need `seal_cert_file` or `state_dir`.
        traffic: Traffic = "plain", live, like "resealed", env "ADIT_TRAFFIC", flag "--traffic";
        /// The certificate chain (PEM) for the hosts of sealed routes. Without it the connector creates a certificate
        /// authority in `state_dir`, `seal-ca.pem`, and issues certificates itself.
        seal_cert_file: Option<PathBuf> = unset, live, like "hosts.crt";
        /// The private key (PEM) of `seal_cert_file`, mode 0600.
        seal_key_file: Option<PathBuf> = unset, live, like "hosts.key";
        /// The web origins whose pages may call routes with passthrough traffic, which the edge cannot check, besides
        /// the own origin of each host (`own_origin`). A request with another `Origin` header is refused with 403; one
        /// without the header is not.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// Which origin is the own one of a host with passthrough traffic. `exact`: `https`, with host and port of the
        /// call. `host`: the host is that of the call, whatever scheme and port.
        own_origin: OwnOrigin = "exact", restart, like "host";
        /// Answers browsers (CORS) on routes with passthrough traffic, as the setting of the same name does at the edge
        /// for all other routes.
        cors: bool = "false", restart, like "true";
        /// Whether agents whose TLS ends in this connector may speak HTTP/2 besides HTTP/1.1 (ALPN `h2`). For other calls the
        /// edge has the same setting.
        http2: bool = "true", live, like "false";
        /// How long calls in flight may continue after a stop was requested.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an upstream may accept no data of a request before the call is ended, and an agent whose TLS ends in this
        /// connector none of an answer over HTTP/2. The timer restarts with every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
        /// How long an agent whose TLS ends in this connector may take to send the complete head of a request.
        header_timeout_ms: Millis = "10s" in 100..=600_000, restart, like "5s";
        /// How long an inner TLS session is kept open without a request. An edge closes those that it does not use
        /// sooner.
        idle_timeout_ms: Millis = "2m" in 1_000..=86_400_000, restart, like "5m";
        /// How long an upstream may take until the first byte of its answer to an agent whose TLS ends in this
        /// connector; 0 for no limit. It does not apply to the GET streams of MCP. For other calls the edge has the same
        /// setting.
        first_byte_timeout_ms: Millis = "2m" in 0..=86_400_000, live, like "30s";
        /// What becomes of calls of agents whose TLS ends in this connector, if they miss their deadline: `off`, `observe` or
        /// `enforce`. It is learned as `edge.deadline` says; for other calls the edge has the same setting.
        deadline: GuardMode = "observe", live, like "enforce";
        /// The shortest deadline of these calls, however quick the last ones were.
        deadline_floor_ms: Millis = "1s" in 1..=86_400_000, live, like "5s";
        /// Time limit of a call that reports progress (`notifications/progress`).
        progress_max_ms: Millis = "10m" in 1..=86_400_000, live, like "1h";
        /// What the circuit breakers do for calls of agents whose TLS ends in this connector: `off`, `observe` or `enforce`, as
        /// with `edge.breaker`. For other calls the edge has the same setting.
        breaker: GuardMode = "observe", live, like "enforce";
        /// A breaker opens when at least this percentage of calls fails: the upstream cannot be reached, breaks the connection
        /// off, answers 502, 503 or 504, or does not answer before the deadline. The calls of the last 10 s count, or the last
        /// `breaker_calls_min` calls if those took longer.
        breaker_failed_percent: u32 = "50" in 1..=100, live, like "30";
        /// A breaker opens when at least this percentage of calls fails or is answered after its deadline.
        breaker_slow_percent: u32 = "80" in 1..=100, live, like "100";
        /// How many calls a breaker must have seen within 5 minutes before it can open.
        breaker_calls_min: u32 = "10" in 1..=100_000, live, like "20";
        /// How long a breaker stays open, plus or minus 20 %. Then three calls are made as probes. If one of them fails or is
        /// answered after its deadline, the breaker opens again.
        breaker_open_ms: Millis = "5s" in 100..=3_600_000, live, like "15s";
        /// After how much silence the connector sends a comment on an event stream to an agent whose TLS ends in this
        /// connector; 0 sends none. For other calls the edge has the same setting.
        sse_keepalive_ms: Millis = "0" in 0..=3_600_000, restart, like "25s";
        /// How many of the last calls `adit calls` can show, as `edge.calls_kept` says it of an edge.
        calls_kept: u32 = "1000" in 0..=100_000, restart, like "10000";
        /// How often a request is sent again on another connection to its upstream, if that does no harm; 0 for never. The first time
        /// it is at once, then after a random pause. A retry budget of a tenth of the route's calls applies as well.
        retries_max: u32 = "2" in 0..=10, restart, like "1";
    } with {
        /// Where calls go: the tables `[[route]]`.
        routes: RouteConfig
    } with {
        /// Settings of single tools: the tables `[[tool]]`.
        tools: ToolConfig
    }
}

section! {
    /// The private server of a host: one `[[route]]` each. Read by `adit connect`, which requires at least one.
    record "route" => RouteConfig {
        /// The host that agents call, without port. `*.example.com` stands for every host with one more label.
        host: HostPattern = required, live, like "demo.example.com";
        /// The private server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path/of/socket`; for a server that speaks
        /// HTTP/2 without TLS `h2c://HOST:PORT` or `h2c+unix:/path/of/socket`. It has no path: the path of each call is
        /// passed on unchanged.
        upstream: UpstreamUrl = required, live, like "http://127.0.0.1:9000";
        /// How its calls are carried, if that differs from `connect.traffic`.
        traffic: Option<Traffic> = unset, live, like "passthrough";
        /// The certificates (PEM) of the authorities that sign the certificate of an `https` upstream, instead of the
        /// public ones.
        upstream_ca_file: Option<PathBuf> = unset, live, like "upstream-ca.pem";
        /// What is asked of callers. `passthrough`: nothing, tokens are the server's affair. `verify`: an access token (JWT) of one of
        /// the `[[identity_provider]]`s, which also goes on to the server. `terminate`: the same, and the token stays here
        /// ([GOVERNANCE.md](GOVERNANCE.md#identity)). The tunnel then answers for the metadata of the resource (RFC 9728) and with
        /// the challenges (401, 403) by which clients get a token. It holds for all
        /// traffic.
        auth: CallerAuth = "passthrough", live, like "verify";
        /// The names of the `[[identity_provider]]`s whose tokens are accepted; without any, all.
        identity_providers: Vec<TokenText> = unset, live, like "corporate";
        /// The resource that tokens are for: the URL by which agents call the MCP server, with its path. It is compared byte for
        /// byte with the audience of a token, unless the provider has `audiences`. By default `public_url`.
        auth_resource: Option<TokenText> = unset, live, like "https://demo.example.com/mcp";
        /// The scopes that every caller must have been granted.
        scopes_required: Vec<TokenText> = unset, live, like "mcp:tools";
        /// A file, mode 0600, with the value of `Authorization` that the upstream gets in place of the token, such as `Bearer` and a
        /// key of the server. Only with `auth = "terminate"`. Read again when it changes.
        upstream_authorization_file: Option<PathBuf> = unset, live, like "upstream-authorization";
        /// The policy of the route: a file with the rules of which caller may call which tool, prompt and resource
        /// ([GOVERNANCE.md](GOVERNANCE.md)). Read again when it changes; while it has faults, the last good one stays in
        /// force. It holds for all traffic: plain, `resealed` and `passthrough`.
        policy_file: Option<PathBuf> = unset, live, like "policy.toml";
        /// What becomes of tools of the server that nobody has approved, because they are new or their definition has changed since
        /// ([GOVERNANCE.md](GOVERNANCE.md#what-a-server-offers)). `warn`: they are reported. `quarantine`: they are also hidden from
        /// lists, and calls of them are refused, until `adit tools approve`. The tools are learned from the lists that pass. It needs
        /// `connect.state_dir`.
        pin: PinMode = "off", live, like "quarantine";
        /// Whether an `https` upstream is offered HTTP/2 besides HTTP/1.1 (ALPN `h2`). One that takes it gets many calls on
        /// one connection.
        upstream_http2: bool = "true", live, like "false";
        /// The maximum number of connections to the upstream at one time, for all cores together.
        upstream_connections_max: u32 = "1024" in 1..=65_536, live, like "32";
        /// How long connecting to the upstream may take, TLS included.
        connect_timeout_ms: Millis = "5s" in 1..=600_000, live, like "1s";
        /// How long a call waits for an upstream that refuses connections, as one does that is being restarted, before the
        /// call is answered 503. Nothing was sent to the upstream then.
        upstream_wait_ms: Millis = "1500ms" in 0..=60_000, live, like "5s";
        /// How long a connection to the upstream is kept open without a call. Set it at least a second below the idle
        /// timeout of the upstream; many servers have 5 s. An upstream that announces its own (`Keep-Alive: timeout=N`) is
        /// obeyed: its connections are not used in the last second before it.
        idle_timeout_ms: Millis = "4s" in 0..=86_400_000, live, like "10s";
        /// How long the host of the upstream may answer nothing at all, neither data nor keep-alive probes, before the
        /// connections to it fail, and with them the event streams that they carry.
        silence_timeout_ms: Millis = "75s" in 2_000..=3_600_000, live, like "30s";
        /// How long the upstream's host may fail to acknowledge data while a call waits. After that, idle connections are closed,
        /// and the call is sent on a new connection if it is safe to send again; otherwise it is answered 504. The
        /// server itself may take longer: its host acknowledges for it. Over HTTP/2, where a connection is probed after 3 s of
        /// silence, it takes up to 4 s more.
        acknowledge_timeout_ms: Millis = "5s" in 1_000..=600_000, live, like "10s";
        /// How long the upstream may take until the first byte of its answer, after the request was sent to it; 0 for no limit.
        /// It takes the place of `connect.first_byte_timeout_ms`. For traffic that the edge can read, the edge's limit applies
        /// too, so that only a shorter one has an effect. It does not apply to the GET streams of MCP.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "30s";
        /// Whether the upstream is told how long the caller still waits, where that is known (`host.client_timeout_ms` of the
        /// edge): `X-Request-Timeout: 4900ms`, in place of the `X-Request-Timeout` and `grpc-timeout` that the caller sent.
        send_request_timeout: bool = "false", live, like "true";
        /// How long agents whose TLS ends in this connector wait for the answer to a POST, unless they send `X-Request-Timeout` or
        /// `grpc-timeout`. They are answered before that is over. For other agents the edge has `host.client_timeout_ms`.
        client_timeout_ms: Option<Millis> = unset in 100..=86_400_000, live, like "60s";
        /// Which requests are sent once more if a connection that others had used ended without one byte of an answer, as when
        /// the upstream closes it just then. `idempotent`: GET, HEAD, DELETE and OPTIONS. `mcp-safe`: also `ping`,
        /// `server/discover`, `*/list`, and `tools/call` of tools for which the upstream's own answers to `tools/list` say
        /// `readOnlyHint` or `idempotentHint`. Use it only for a server whose word you trust. Retries are limited to a
        /// tenth of the calls of the route, plus a reserve of 10 on each core; the first retry of a request of which nothing
        /// reached the upstream is not counted.
        resend: Resend = "idempotent", live, like "mcp-safe";
        /// What becomes of calls that miss their deadline, if that differs from `connect.deadline`. It applies to agents whose
        /// TLS ends in this connector, and to tools for which `[[tool]]` does not say otherwise.
        deadline: Option<GuardMode> = unset, live, like "enforce";
        /// The shortest deadline of these calls, if that differs from `connect.deadline_floor_ms`.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "5s";
        /// Time limit of a call that reports progress, if that differs from `connect.progress_max_ms`.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// The mode of the circuit breakers for this route, in place of `connect.breaker`.
        breaker: Option<GuardMode> = unset, live, like "enforce";
        /// The `Host` that is sent to the upstream, if it differs from the address in `upstream`. Servers that protect
        /// themselves against DNS rebinding accept certain hosts only, and answer others with 421 or 403.
        upstream_host: Option<HostField> = unset, live, like "localhost:8000";
        /// What becomes of the `Origin` of a browser's request, after the edge has allowed it. `keep` passes it on, `drop`
        /// removes it, `rewrite` replaces it with the upstream's own origin: its scheme and the `Host` that is sent to it.
        /// The default is `keep`, unless `preset` says otherwise.
        upstream_origin: Option<OriginRule> = unset, live, like "rewrite";
        /// The kind of the MCP server, which sets `upstream_host` and `upstream_origin` where they are not set:
        /// `python-sdk`, `typescript-sdk` or `fastmcp`. Such servers accept requests for `localhost` only: with a preset
        /// they get `localhost` with the port of `upstream` as `Host`, and an origin to match. An `https` upstream keeps
        /// its own host.
        preset: Option<ServerPreset> = unset, live, like "python-sdk";
        /// The URL by which agents call the host, if it differs from what they send: scheme, host and port. The upstream is
        /// told it (`X-Forwarded-Proto`, `X-Forwarded-Host`), and `Location` and `Content-Location` that name the upstream
        /// are rewritten to it. Without it, this is the URL that each agent called.
        public_url: Option<HttpUrl> = unset, live, like "https://demo.example.com";
        /// Whether the OAuth metadata of the server (RFC 9728) is rewritten to the public URL where it names the upstream:
        /// `resource_metadata` in `WWW-Authenticate`, and the members of the answers at
        /// `/.well-known/oauth-protected-resource`, up to 64 KiB of plain JSON. Set it for a server that cannot be told
        /// its public URL.
        rewrite_oauth_metadata: bool = "false", live, like "true";
    }
}

section! {
    /// The keys of the issuers of access tokens, which hosts and routes with `auth` accept. Both roles read it.
    section "identity" => IdentityConfig {
        /// How often the keys of each provider are fetched again.
        refresh_ms: Millis = "10m" in 1_000..=86_400_000, live, like "1h";
        /// How long known keys are used while new ones cannot be fetched. After that, calls are answered 503.
        offline_grace_ms: Millis = "4h" in 1_000..=604_800_000, live, like "1h";
        /// The shortest time between two fetches that tokens with unknown keys cause, for example after keys were rotated. In
        /// between, such tokens are refused.
        unknown_key_ms: Millis = "15s" in 1_000..=3_600_000, live, like "1m";
    } with {
        /// Who issues access tokens: the tables `[[identity_provider]]`.
        providers: IdentityProviderConfig
    }
}

section! {
    /// An issuer of access tokens: one `[[identity_provider]]` each. Its keys are fetched from where its metadata says (OpenID
    /// Connect Discovery, RFC 8414), unless one of `jwks_url`, `jwks_file` and `shared_key_file` is set. Both roles read it.
    record "identity_provider" => IdentityProviderConfig {
        /// The name by which hosts and routes name it.
        name: TokenText = required, live, like "corporate";
        /// The issuer, byte for byte as it stands in the claim `iss` of its tokens.
        issuer: TokenText = required, live, like "https://login.example.com/realms/demo";
        /// The URL of its keys (JWKS): `https`, or `http` on this machine. Redirects are not followed.
        jwks_url: Option<TokenText> = unset, live, like "https://login.example.com/realms/demo/protocol/openid-connect/certs";
        /// A file with its keys (JWKS), in place of a URL. Read again when it changes.
        jwks_file: Option<PathBuf> = unset, live, like "jwks.json";
        /// A file, mode 0600, with the key that it shares with this process: at least 32 bytes, used unchanged except for a
        /// line end. Anyone who can read it can make tokens. HS256, HS384 and HS512 require it, and only they use it.
        shared_key_file: Option<PathBuf> = unset, live, like "shared.key";
        /// The certificates (PEM) of the authorities that sign the certificate of its server, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "login-ca.pem";
        /// The accepted audiences of tokens, in place of the URL of the resource: a token must have one of them. A token is then
        /// valid for all hosts and routes that accept the provider.
        audiences: Vec<TokenText> = unset, live, like "api://demo";
        /// The algorithms by which its tokens may be signed. By default those with public keys (RS256, RS384, RS512, PS256, PS384,
        /// PS512, ES256, ES384, EdDSA), or with `shared_key_file` HS256.
        algorithms: Vec<AlgorithmName> = unset, live, like "RS256";
        /// The types of tokens (`typ`) that are accepted, without `application/`. A token without a type counts as `jwt`. `at+jwt`
        /// alone keeps out identity tokens, where the provider types its access tokens (RFC 9068).
        token_types: Vec<TokenText> = "at+jwt,jwt", live, like "at+jwt";
        /// How far the clocks of the provider and of this process may be apart.
        leeway_ms: Millis = "30s" in 0..=600_000, live, like "1m";
    }
}

section! {
    /// The audit log: one line for every call and every action of management, chained and signed. Both roles write it.
    section "audit" => AuditConfig {
        /// `off`: nothing is written. `best_effort`: lines are written without holding up calls, and those that cannot be
        /// written are counted. `required`: an answer leaves only once its call is on the disk, and calls are refused while
        /// nothing can be written.
        mode: AuditMode = "off", restart, like "required";
        /// The directory of the log. By default `audit` in `edge.data_dir`, or in `connect.state_dir`; one of the three is
        /// needed unless `mode` is `off`. The signing key is in `data_dir` or `state_dir`; if neither is set, it is in `dir`.
        dir: Option<FolderPath> = unset, restart, like "/var/log/adit";
        /// The length at which a file is closed and the next one begun, as it is each day (UTC).
        file_max_bytes: Bytes = "64MiB" in 65_536..=17_179_869_184, restart, like "16MiB";
        /// Whether closed files are compressed with zstd.
        compress: bool = "true", restart, like "false";
        /// For how many days closed files are kept.
        keep_days: u32 = "90" in 1..=36_500, restart, like "400";
        /// The most bytes that closed files take together. The oldest are removed first.
        keep_max_bytes: Bytes = "10GiB" in 65_536..=1_125_899_906_842_624, restart, like "100GiB";
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
