//! The table of settings. To add a setting, add a row here: the structs, the environment variables, the check for unknown keys,
//! `adit config show` and `docs/CONFIG.md` are generated from it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::{GuardMode, Traffic, TunnelId};
use crate::config::addresses::{HostField, HostPort, HttpUrl, WebOrigin};
use crate::config::command_setting::{CommandWords, EnvVariables};
use crate::config::networks::UpstreamNetwork;
use crate::config::proxy::{ProxyExemption, ProxyUrl};
use crate::config::section::{Part, Setting, section};
use crate::config::values::{
    AlgorithmName, AuditMode, Bridge, Bytes, CallerAuth, CallerName, ClientCertificate, Driver, FieldNameText,
    FolderPath, ForwardedIdentity, Hedge, IdentityHeaderName, LogFormat, LogLevels, Millis, OriginRule, OwnOrigin,
    Price, Resend, SecretText, ServerPreset, Spin, TokenText, ToolName,
};
use crate::policy::{Member, Network, PinMode, SetName};
use crate::route::{HostPattern, Hostname, UpstreamUrl};

/// Every table of the file, in the order in which they are shown.
pub const PARTS: [Part; 17] = [
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
    Part::of::<TokenExchangeConfig>(),
    Part::of::<TrustedEdgeConfig>(),
    Part::of::<ApprovalsConfig>(),
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
        /// Allows plain HTTP on `agents_listen` together with `agents_cert_file`, for agents that connect over
        /// loopback. If a reverse proxy on the same host connects over loopback, this includes all of its clients.
        /// Without `agents_cert_file`, agents on loopback are always served.
        allow_plain_http_on_loopback: bool = "false", restart, like "true";
        /// Allows plain HTTP on `agents_listen` from anywhere, with or without `agents_cert_file`, also at an address
        /// other than loopback. Use it only behind a proxy that terminates TLS.
        allow_plain_http_off_loopback: bool = "false", restart, like "true", flag "--allow-plain-http-off-loopback";
        /// Whether agents may speak HTTP/2 besides HTTP/1.1: over HTTPS if they offer it (ALPN `h2`), over plain HTTP
        /// if they begin with it. One connection then carries several calls at the same time.
        http2: bool = "true", restart, like "false";
        /// The address on which the edge accepts connections of connectors, always over TLS.
        connectors_listen: SocketAddr = "0.0.0.0:7844", restart, like "0.0.0.0:7900", flag "--connectors-listen";
        /// Accepts connectors on `agents_listen` too, for networks that allow only port 443 outbound. The application
        /// protocol of their TLS (ALPN) distinguishes them from agents, and they get the certificate for connectors.
        /// This does not work behind a proxy that terminates TLS.
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
        /// The domain for generated hosts: a tunnel that is created without hosts gets one below this domain. The
        /// domain needs a wildcard record in DNS and a wildcard certificate for agents.
        tunnel_domain: Option<Hostname> = unset, restart, like "tunnel.example.com", flag "--tunnel-domain";
        /// The address by which connectors reach this edge from outside, if it differs from the first name in its
        /// certificate. It is only shown, in the commands that are printed for a new tunnel.
        connectors_public: Option<HostPort> = unset, restart, like "edge.example.com:7844";
        /// The address that serves metrics, status and health over plain HTTP, or `off`. With a `data_dir` it also
        /// serves the API of `adit tunnel`, which requires the admin token.
        admin_listen: Option<SocketAddr> = "127.0.0.1:9443", restart, like "off", flag "--admin";
        /// Allows `admin_listen` at an address other than loopback. Anyone who can connect to it can read the state of
        /// the process.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// The URL by which agents reach this edge, if it differs from the listener's address. Upstreams receive its
        /// scheme (`X-Forwarded-Proto`), and for its host also its port (`X-Forwarded-Host`). Set it if a proxy in
        /// front of the edge terminates TLS. It is not matched against requests.
        public_url: Option<HttpUrl> = unset, restart, like "https://mcp.example.com";
        /// Proxies in front of the agents' port that terminate TLS and speak HTTP. Their `X-Forwarded-Proto` and
        /// `X-Forwarded-Host` are used if `public_url` is not set and no PROXY header states the scheme. The fields of
        /// other sources are removed. `X-Forwarded-For` is never used; addresses come from the PROXY protocol
        /// (`admission.agents_proxies`).
        trusted_proxies: Vec<Network> = unset, restart, like "10.0.0.5";
        /// The web origins whose pages may call, besides the own origin of each host (`own_origin`). A request with
        /// another `Origin` header is refused with 403. A request without the header is allowed.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// Which origin is a host's own, so that its pages may call without being listed. `exact`: scheme, host and
        /// port are those of the call. The scheme is that of `public_url`. If this is not set, it is the scheme that a
        /// proxy in front states (`trusted_proxies`, or its PROXY header), otherwise that of the connection. `host`:
        /// the host is that of the call, with any scheme and port.
        own_origin: OwnOrigin = "exact", restart, like "host";
        /// Answers browsers (CORS). Preflight requests of allowed origins are answered with 204, without asking the
        /// upstream. All responses allow such pages to read them, including errors of adit. The upstream's own
        /// `Access-Control-…` headers are replaced. Cookies are not allowed. If this is off, CORS is left to the
        /// upstream.
        cors: bool = "false", restart, like "true";
        /// How long the edge continues to accept and serve after a stop was requested. `/readyz` answers 503 during
        /// this time, so that load balancers can stop sending.
        drain_delay_ms: Millis = "0s" in 0..=600_000, restart, like "10s";
        /// How long calls in flight may continue after `drain_delay_ms`.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an agent may accept no data of a response, or send no data of a request body, before the call is
        /// ended. The timer restarts with every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
        /// How long an agent may take to send the complete head of a request.
        header_timeout_ms: Millis = "10s" in 100..=600_000, restart, like "5s";
        /// How long a connection of an agent is kept open without a request.
        idle_timeout_ms: Millis = "2m" in 1_000..=86_400_000, restart, like "5m";
        /// How long an upstream may take until the first byte of its response; 0 for no limit. It does not apply to the
        /// GET streams of MCP, which may stay silent. It is also the longest deadline, and the deadline of calls of
        /// which too few were seen.
        first_byte_timeout_ms: Millis = "2m" in 0..=86_400_000, restart, like "30s";
        /// What happens to a call that takes more than 1.5 times as long as 95 % of the last calls of its route, method
        /// and tool. `off`: nothing is learned. `observe`: the call is counted. `enforce`: the call is ended with an
        /// error to the agent, and the upstream's connection is closed. With `enforce`, bodies of calls are read up to
        /// their method and tool before they are passed on, and bodies that do not state these unambiguously are
        /// refused.
        deadline: GuardMode = "observe", restart, like "enforce";
        /// The shortest deadline, even if the last calls were faster.
        deadline_floor_ms: Millis = "1s" in 1..=86_400_000, restart, like "5s";
        /// The time limit of a call that reports progress (`notifications/progress`). Each such message restarts its
        /// deadline.
        progress_max_ms: Millis = "10m" in 1..=86_400_000, restart, like "1h";
        /// What the circuit breakers do. Each tool and each upstream has one, which opens when its calls fail. `off`:
        /// nothing is counted. `observe`: calls that would be refused are counted. `enforce`: while a breaker is open,
        /// calls are answered with 503, except probes, which find out whether calls succeed again. With `enforce`,
        /// bodies are read as with `deadline = "enforce"`.
        breaker: GuardMode = "observe", restart, like "enforce";
        /// A breaker opens when at least this percentage of calls fails: the upstream cannot be reached, breaks off,
        /// answers 502, 503 or 504, or does not answer before the deadline. This counts the calls of the last 10 s, or
        /// the last `breaker_calls_min` calls if those took longer.
        breaker_failed_percent: u32 = "50" in 1..=100, restart, like "30";
        /// A breaker opens when at least this percentage of calls fails or is answered after its deadline.
        breaker_slow_percent: u32 = "80" in 1..=100, restart, like "100";
        /// How many calls a breaker must have seen within 5 minutes before it can open.
        breaker_calls_min: u32 = "10" in 1..=100_000, restart, like "20";
        /// How long a breaker stays open, plus or minus 20 %. Then three calls are made as probes. If one of them fails or is
        /// answered after its deadline, the breaker opens again.
        breaker_open_ms: Millis = "5s" in 100..=3_600_000, restart, like "15s";
        /// Whether the number of calls in flight is limited for each route. The limit is learned: it grows while calls
        /// take about as long as they do when few are in flight, and falls when they take longer. `off`: nothing is
        /// counted. `observe`: calls beyond the limit are counted. `enforce`: they wait for up to
        /// `concurrency_queue_ms`. After that, or if too many wait, they are answered with 503 and `Retry-After`. Only
        /// POST is limited.
        concurrency_limit: GuardMode = "off", restart, like "enforce";
        /// The lower bound of the limit of a route.
        concurrency_min: u32 = "4" in 1..=1_000_000, restart, like "2";
        /// The upper bound of the limit of a route. A value below `streams_per_link_max` leaves room on the links for
        /// calls of other routes.
        concurrency_max: u32 = "1000" in 1..=1_000_000, restart, like "64";
        /// How many calls of a route may wait for a place. If this many wait, the newest call of the agent with the
        /// most waiting calls is refused.
        concurrency_queue_max: u32 = "64" in 0..=1_024, restart, like "16";
        /// How long a call may wait for a place. A call that is likely to wait longer than this, or longer than its
        /// caller waits, is refused at once.
        concurrency_queue_ms: Millis = "1s" in 0..=60_000, restart, like "250ms";
        /// The percentage of the limit that one agent may use while other agents have calls of the same route; 100 for
        /// all of it. Agents are distinguished by address (IPv6: by /64).
        agent_share_percent: u32 = "50" in 1..=100, restart, like "25";
        /// After how much silence the edge sends a comment on an event stream, which clients ignore; 0 sends none. Use
        /// it behind proxies that close idle connections, with half of their idle timeout. Comments are sent only
        /// between two events, and only on streams that are not compressed.
        sse_keepalive_ms: Millis = "0" in 0..=3_600_000, restart, like "25s";
        /// The maximum number of connections of agents at one time, for all cores together.
        connections_max: u32 = "65536" in 1..=10_000_000, restart, like "1000";
        /// The maximum number of calls in flight on one link. Further calls use another link, or are refused with
        /// 503.
        streams_per_link_max: u32 = "4096" in 1..=1_000_000, restart, like "512";
        /// The maximum data of one stream in transit, in each direction. With a round-trip time of 100 ms, each 256 KiB
        /// allow 20 Mbit/s. Connectors use the same value.
        stream_window_bytes: Bytes = "256KiB" in 1_024..=16_777_216, restart, like "2MiB";
        /// The maximum data in transit of all streams of one link together, in each direction. This limits how much
        /// memory a peer can make the edge use. All links of a core share half of its buffers, so a link may start with
        /// less.
        link_window_bytes: Bytes = "4MiB" in 1_024..=1_073_741_824, restart, like "32MiB";
        /// How long a call waits for an absent connector to come back before it is refused with 503. A call of an MCP
        /// session whose connector is lost waits just as long, but at most 1 s if the connector's process was killed.
        /// It then goes to another connector of the tunnel.
        offline_wait_ms: Millis = "1500ms" in 0..=60_000, restart, like "3s";
        /// How long a call waits while the only connector of its tunnel shuts down, as during a restart.
        /// `offline_wait_ms` begins when the connector is gone.
        restart_wait_ms: Millis = "30s" in 0..=3_600_000, restart, like "1m";
        /// For connections whose TLS ends in the connector: how long the connector may owe an answer before the edge
        /// closes the connections that wait for it, if another connector of the tunnel responds. Agents then reconnect
        /// and reach the other connector. Calls that the edge can read move to another connector without this.
        stalled_connector_timeout_ms: Millis = "5s" in 1_000..=60_000, restart, like "2s";
        /// How long an MCP session (`Mcp-Session-Id`) may be idle until the edge forgets which connector serves it.
        /// Later calls of the session go to any connector of the tunnel. This matters only for tunnels with several
        /// connectors.
        session_idle_timeout_ms: Millis = "24h" in 1_000..=2_592_000_000, restart, like "8h";
        /// Calls that take longer than this, and longer than calls of their tool usually do, are logged with the time
        /// of each phase; 0 logs none.
        slow_call_ms: Millis = "1s" in 0..=86_400_000, restart, like "250ms";
        /// How many of the last calls each core keeps for `adit calls`, in each of three groups: calls that were
        /// answered, calls that failed or were slow, and calls that were turned away before they had a route. Each call
        /// takes 256 bytes; 0 keeps none.
        calls_kept: u32 = "1000" in 0..=100_000, restart, like "10000";
        /// How often a call that a connector did not pass on is retried on another connector of its tunnel; 0 for
        /// never. The first retry is immediate, later ones follow a random pause. A retry budget of a tenth of the
        /// tunnel's calls applies as well.
        retries_max: u32 = "2" in 0..=10, restart, like "1";
        /// How many tasks `adit tasks` keeps. 0 counts no tasks, which saves about 4 % of the instructions that a call
        /// takes in an edge. Each task takes 1 KiB, and a new task replaces the one that was idle for longest. A task
        /// is identified by `task_header`, otherwise by the trace of the call (`traceparent`, in the head or in
        /// `_meta`), otherwise by its MCP session.
        tasks_max: u32 = "0" in 0..=100_000, restart, like "1000";
        /// The header field in which agents name the task of a call.
        task_header: Option<FieldNameText> = unset, restart, like "X-Task-Id";
        /// The price of a million tokens of answers, in any currency. Tokens are estimated as a quarter of the bytes of
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
        /// The hosts of this tunnel that agents call, without port. `*.example.com` matches every host with exactly one
        /// more label.
        hosts: Vec<HostPattern> = required, live, like "demo.example.com";
        /// How its calls are carried. `plain`: protected only by the TLS of the link. `resealed`: re-encrypted, with an
        /// inner TLS session from the edge to the connector. `passthrough`: the agent's own TLS session ends in the
        /// connector, and the edge reads only the server name. The connector's routes must have the same value.
        traffic: Traffic = "plain", live, like "passthrough";
        /// The certificates (PEM) of the authorities that sign the connector's certificate; required for resealed
        /// traffic. One certificate, or two during a replacement.
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
    /// Settings of a host that differ from those of the edge: one `[[host]]` each. They apply whether the host's tunnel
    /// is in the configuration or was created with `adit tunnel`. Read by `adit edge`.
    record "host" => HostConfig {
        /// The host that agents call, without port. `*.example.com` matches every host with exactly one more label that
        /// has no table of its own.
        host: HostPattern = required, live, like "demo.example.com";
        /// How long its MCP server may take until the first byte of a response, if that differs from
        /// `edge.first_byte_timeout_ms`; 0 for no limit.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "10m";
        /// What happens to calls that miss their deadline, if that differs from `edge.deadline`.
        deadline: Option<GuardMode> = unset, live, like "enforce";
        /// The shortest deadline, if that differs from `edge.deadline_floor_ms`.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "5s";
        /// The time limit of a call that reports progress, if that differs from `edge.progress_max_ms`.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// How long clients of this host wait for the response to a POST if they send neither `X-Request-Timeout` nor
        /// `grpc-timeout`. Examples: 5 s with the OpenAI Agents SDK, 60 s with the TypeScript SDK. The call is answered
        /// with 504 shortly before this time is over: earlier by a twentieth of it, at least 50 ms and at most 1 s. It
        /// does not apply to `passthrough` traffic, whose calls the edge cannot read.
        client_timeout_ms: Option<Millis> = unset in 100..=86_400_000, live, like "60s";
        /// The mode of the circuit breakers for this host, instead of `edge.breaker`.
        breaker: Option<GuardMode> = unset, live, like "enforce";
        /// Whether the calls of this host in flight are limited, instead of `edge.concurrency_limit`. It does not apply
        /// to `passthrough` traffic, whose connector has the same setting.
        concurrency_limit: Option<GuardMode> = unset, live, like "enforce";
        /// The upper bound of the limit for this host, instead of `edge.concurrency_max`.
        concurrency_max: Option<u32> = unset in 1..=1_000_000, live, like "16";
        /// Which slow calls of this host get a second try. `read-only`: calls of tools that the server's `tools/list`
        /// declares with `readOnlyHint`, once they take longer than 95 % of the last calls of the tool. The second try
        /// goes to another connector, or over another link of the same connector, if the core has one. The first answer
        /// wins, but the second try wins only with a result. The connection of the other try is closed, and its server
        /// is sent no `notifications/cancelled`. At most 2 % of the calls of the host get a second try. All connectors
        /// must lead to equivalent servers. Set this only if you trust the server's declaration of read-only tools. It
        /// requires `deadline` to be `observe` or `enforce`; bodies of calls are then read as with `deadline =
        /// "enforce"`. It does not apply to calls of an MCP session, nor to `passthrough` traffic.
        hedge: Hedge = "off", live, like "read-only";
        /// The URL by which agents call it, if that differs from `edge.public_url`: its scheme, and its port if the
        /// host is the called one.
        public_url: Option<HttpUrl> = unset, live, like "https://demo.example.com:8443";
        /// What callers must present. `passthrough`: nothing; tokens are left to the server. `verify`: an access token
        /// of one of the `[[identity_provider]]`s, which is also passed on to the server. `terminate`: the same,
        /// but the token is not passed on ([GOVERNANCE.md](GOVERNANCE.md#identity)). With `verify` and `terminate` the
        /// tunnel serves the metadata of the resource (RFC 9728) and sends the challenges (401, 403) by which clients
        /// get a token. Both are refused for a host with `passthrough` traffic, which the edge cannot read: set them at
        /// the connector.
        auth: CallerAuth = "passthrough", live, like "verify";
        /// Whether callers are asked for a client certificate in their TLS handshake. `off`: no. `optional`: a certificate says who
        /// calls, if one is shown, and is accepted in place of a token. `required`: every caller must show one, besides the token
        /// that `auth` may ask for ([GOVERNANCE.md](GOVERNANCE.md#client-certificates)). Requires `edge.agents_cert_file`.
        client_certificate: ClientCertificate = "off", live, like "required";
        /// The names of the `[[client_authority]]`s whose certificates are accepted; empty for all.
        client_authorities: Vec<TokenText> = unset, live, like "partners";
        /// The names of the `[[identity_provider]]`s whose tokens are accepted; empty for all.
        identity_providers: Vec<TokenText> = unset, live, like "corporate";
        /// The resource that tokens are for: the URL by which agents call the MCP server, with its path. It is compared
        /// byte for byte with the audience of a token, unless the provider has `audiences`. The default is
        /// `public_url`.
        auth_resource: Option<TokenText> = unset, live, like "https://demo.example.com/mcp";
        /// The scopes that every caller needs.
        scopes_required: Vec<TokenText> = unset, live, like "mcp:tools";
        /// A file, mode 0600, with an `Authorization` value, such as `Bearer` and a key of the server. It is sent to
        /// the server instead of the token. Only with `auth = "terminate"`. It is read again when it changes.
        upstream_authorization_file: Option<PathBuf> = unset, live, like "upstream-authorization";
        /// The name of a `[[token_exchange]]`: the server gets the token that is given there for that of the caller (RFC 8693). Only
        /// with `auth = "terminate"`, and without `upstream_authorization_file`.
        token_exchange: Option<TokenText> = unset, live, like "tickets";
        /// The header field in which the MCP server is told who calls: a JWT that is signed by adit, holds for a minute and
        /// has `auth_resource` as its audience. Its name begins with `X-`. Header fields with this name in requests are
        /// removed. The key pair is generated at each start; the public key is available at `/v1/identity-keys` of the
        /// admin API.
        identity_header: Option<IdentityHeaderName> = unset, live, like "X-Caller";
        /// Whether the connector is told who calls: the edge sends it the identity that it has checked, signed, in a field that never
        /// leaves the tunnel ([GOVERNANCE.md](GOVERNANCE.md#identities-that-an-edge-forwards)). Requires `edge.data_dir`,
        /// `identity.edge_issuer`, and `auth` or `client_certificate`.
        forward_identity: bool = "false", live, like "true";
        /// The claims of callers that are forwarded besides subject, issuer, client and scopes, because roles of the connector need
        /// them. A forwarded identity has at most 8 KiB; calls with a longer one are refused with 403.
        forwarded_claims: Vec<TokenText> = "groups,roles", live, like "groups";
        /// The policy of the host: a file with the rules for which caller may call which tool, prompt and resource
        /// ([GOVERNANCE.md](GOVERNANCE.md)). It is read again when it changes; while it has faults, the last good
        /// version stays in effect. It is refused for a host with `passthrough` traffic, which the edge cannot read:
        /// set it at the connector.
        policy_file: Option<PathBuf> = unset, live, like "policy.toml";
        /// Policies in Cedar, the second tier of the policy of the host ([GOVERNANCE.md](GOVERNANCE.md#cedar)): a call passes if
        /// both tiers allow it. For builds with the feature `cedar`. It is read again when it changes, as `policy_file` is, and refused for
        /// `passthrough` traffic.
        cedar_file: Option<PathBuf> = unset, live, like "policy.cedar";
        /// What happens to tools, prompts and resources that are new, or whose definition has changed since it was approved
        /// ([GOVERNANCE.md](GOVERNANCE.md#what-a-server-offers)). `off`: nothing. `warn`: they are reported. `quarantine`: they are also
        /// removed from lists, and calls of them are refused, until they are approved with `adit tools approve`. They are learned from
        /// the results of list requests that pass through. Requires `edge.data_dir`. Not allowed for a wildcard host or for
        /// `passthrough` traffic.
        pin: PinMode = "off", live, like "quarantine";
    }
}

section! {
    /// Settings of a tool that differ from those of its host: one `[[tool]]` each, up to 64 for one host. Read by `adit edge`, and by
    /// `adit connect` for agents whose TLS ends in the connector.
    record "tool" => ToolConfig {
        /// The host as it is written in `[[host]]` or in the tunnel; for a connector, as in `[[route]]`. At the edge, a
        /// host without a table of its own keeps the settings of the `*.` table that covers it.
        host: HostPattern = required, live, like "demo.example.com";
        /// The name of the tool, as in `tools/list`.
        tool: ToolName = required, live, like "search";
        /// What happens to its calls that miss their deadline, if that differs from the host's.
        deadline: Option<GuardMode> = unset, live, like "off";
        /// The shortest deadline of its calls, if that differs from the host's.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "10s";
        /// How long the MCP server may take until the first byte of its response, if that differs from the host's; 0
        /// for no limit. Bodies of calls to the host are then read as with `deadline = "enforce"`.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "15m";
        /// The time limit of a call that reports progress, if that differs from the host's.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// The mode of the circuit breakers for this tool, instead of the host's.
        breaker: Option<GuardMode> = unset, live, like "off";
        /// Whether its slow calls get a second try, instead of `hedge` of the host. `read-only`: only if the server
        /// declares the tool as read-only. Read by `adit edge` only.
        hedge: Option<Hedge> = unset, live, like "off";
        /// The price of one call of this tool, in the unit of `edge.price_per_million_tokens`, for `adit tasks`. It is
        /// added for each call that was handed to a connector, including calls that failed or timed out there, but not
        /// for calls that were refused. A connector adds it for each call that it sent to the server.
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
        /// The file: either one network per line, where `#` begins a comment, or JSON as vendors publish it, in which
        /// every string that is a network is used. It is read again when it changes.
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
        /// Another port of the edges, which is tried if the one in `edge` does not answer, directly or through the
        /// proxy; 0 for none. It helps if edges accept connectors on the agents' port
        /// (`edge.connectors_on_agents_listen`) and the network of the connector allows only HTTPS outbound.
        edge_fallback: u32 = "443" in 0..=65_535, restart, like "8443";
        /// A forward proxy for reaching the edges: `http://HOST:PORT` (HTTP CONNECT, with Basic authentication if the
        /// URL has `USER:PASSWORD@`), `socks5://HOST:PORT`, or `off`. The proxy resolves the name of the edge. If it is
        /// not set, the variables `HTTPS_PROXY` and `ALL_PROXY` are used, in upper or lower case. `localhost`, loopback
        /// addresses and upstreams are always reached directly.
        proxy: Option<ProxyUrl> = "off", restart, like "http://proxy.example.com:3128";
        /// The edges that are reached without the proxy: networks, addresses, or domains with their subdomains, each
        /// with or without a port; `*` for all. If it is not set, the variable `NO_PROXY` is used, in upper or lower
        /// case.
        no_proxy: Vec<ProxyExemption> = unset, restart, like "internal.example.com";
        /// A directory for certificates and their keys, so that a restart needs no new ones. It is created if it does
        /// not exist, for this user alone. Without it they are kept in memory only. It also stores the number by which
        /// edges know the connector, so that a restarted connector keeps its MCP sessions.
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
        /// Allows `admin_listen` at an address other than loopback. Anyone who can connect to it can read the state of
        /// the process.
        allow_admin_off_loopback: bool = "false", restart, like "true";
        /// A file that holds a token, mode 0600, at least 16 bytes. With this token the admin API allows forcing
        /// breakers of routes with passthrough traffic open or closed (`adit breakers`), deciding about calls that need
        /// approval (`adit approvals`), and approving tools (`adit tools approve`). Without the file nothing can be
        /// changed there. White space at its end is ignored.
        admin_token_file: Option<PathBuf> = unset, restart, like "admin.token";
        /// The networks in which upstreams may be, checked on every address that a name resolves to. `private` stands
        /// for all private networks and loopback. Link-local and metadata addresses are refused unless a network
        /// within them is listed. Unix sockets are always allowed.
        allowed_upstreams: Vec<UpstreamNetwork> = "private", live, like "127.0.0.0/8";
        /// How the calls of routes without their own `traffic` are carried: `plain`, `resealed` or `passthrough`. The
        /// edge must have the same value. `resealed` and `passthrough` need `seal_cert_file` or `state_dir`.
        traffic: Traffic = "plain", live, like "resealed", env "ADIT_TRAFFIC", flag "--traffic";
        /// The certificate chain (PEM) for the hosts of sealed routes. Without it the connector creates a certificate
        /// authority in `state_dir`, `seal-ca.pem`, and issues certificates itself.
        seal_cert_file: Option<PathBuf> = unset, live, like "hosts.crt";
        /// The private key (PEM) of `seal_cert_file`, mode 0600.
        seal_key_file: Option<PathBuf> = unset, live, like "hosts.key";
        /// The web origins whose pages may call routes with passthrough traffic, which the edge cannot check, besides
        /// the own origin of each host (`own_origin`). A request with another `Origin` header is refused with 403. A
        /// request without the header is allowed.
        allowed_origins: Vec<WebOrigin> = unset, restart, like "https://app.example.com";
        /// Which origin counts as a host's own, with passthrough traffic. `exact`: `https`, with host and port of the
        /// call. `host`: the host is that of the call, with any scheme and port.
        own_origin: OwnOrigin = "exact", restart, like "host";
        /// Answers browsers (CORS) on routes with passthrough traffic. For all other routes the edge has the same
        /// setting.
        cors: bool = "false", restart, like "true";
        /// Whether agents whose TLS ends in this connector may speak HTTP/2 besides HTTP/1.1 (ALPN `h2`). For other
        /// calls the edge has the same setting.
        http2: bool = "true", live, like "false";
        /// How long calls in flight may continue after a stop was requested.
        drain_timeout_ms: Millis = "30s" in 0..=3_600_000, restart, like "10s";
        /// How long an upstream may accept no data of a request before the call is ended. It also limits how long an
        /// agent whose TLS ends in this connector may accept no data of a response over HTTP/2. The timer restarts with
        /// every byte.
        write_timeout_ms: Millis = "60s" in 100..=3_600_000, restart, like "30s";
        /// How long an agent whose TLS ends in this connector may take to send the complete head of a request.
        header_timeout_ms: Millis = "10s" in 100..=600_000, restart, like "5s";
        /// How long an inner TLS session is kept open without a request. An edge closes sessions that it does not use
        /// earlier.
        idle_timeout_ms: Millis = "2m" in 1_000..=86_400_000, restart, like "5m";
        /// How long an upstream may take until the first byte of its response to an agent whose TLS ends in this
        /// connector; 0 for no limit. It does not apply to the GET streams of MCP. For other calls the edge has the
        /// same setting.
        first_byte_timeout_ms: Millis = "2m" in 0..=86_400_000, live, like "30s";
        /// What happens to calls of agents whose TLS ends in this connector if they miss their deadline: `off`,
        /// `observe` or `enforce`, as with `edge.deadline`. For other calls the edge has the same setting.
        deadline: GuardMode = "observe", live, like "enforce";
        /// The shortest deadline of these calls, even if the last ones were faster.
        deadline_floor_ms: Millis = "1s" in 1..=86_400_000, live, like "5s";
        /// The time limit of a call that reports progress (`notifications/progress`).
        progress_max_ms: Millis = "10m" in 1..=86_400_000, live, like "1h";
        /// What the circuit breakers do for calls of agents whose TLS ends in this connector: `off`, `observe` or `enforce`, as
        /// with `edge.breaker`. For other calls the edge has the same setting.
        breaker: GuardMode = "observe", live, like "enforce";
        /// A breaker opens when at least this percentage of calls fails: the upstream cannot be reached, breaks off,
        /// answers 502, 503 or 504, or does not answer before the deadline. This counts the calls of the last 10 s, or
        /// the last `breaker_calls_min` calls if those took longer.
        breaker_failed_percent: u32 = "50" in 1..=100, live, like "30";
        /// A breaker opens when at least this percentage of calls fails or is answered after its deadline.
        breaker_slow_percent: u32 = "80" in 1..=100, live, like "100";
        /// How many calls a breaker must have seen within 5 minutes before it can open.
        breaker_calls_min: u32 = "10" in 1..=100_000, live, like "20";
        /// How long a breaker stays open, plus or minus 20 %. Then three calls are made as probes. If one of them fails or is
        /// answered after its deadline, the breaker opens again.
        breaker_open_ms: Millis = "5s" in 100..=3_600_000, live, like "15s";
        /// Whether the number of calls in flight is limited for each route, for agents whose TLS ends in this
        /// connector: `off`, `observe` or `enforce`, as with `edge.concurrency_limit`. For other calls the edge has the
        /// same setting.
        concurrency_limit: GuardMode = "off", live, like "enforce";
        /// The lower bound of the limit of a route.
        concurrency_min: u32 = "4" in 1..=1_000_000, live, like "2";
        /// The upper bound of the limit of a route.
        concurrency_max: u32 = "1000" in 1..=1_000_000, live, like "64";
        /// How many calls of a route may wait for a place. If this many wait, the newest call of the agent with the
        /// most waiting calls is refused.
        concurrency_queue_max: u32 = "64" in 0..=1_024, live, like "16";
        /// How long a call may wait for a place. A call that is likely to wait longer than this, or longer than its
        /// caller waits, is refused at once.
        concurrency_queue_ms: Millis = "1s" in 0..=60_000, live, like "250ms";
        /// The percentage of the limit that one agent may use while other agents have calls of the same route; 100 for
        /// all of it. Agents are distinguished by the address that the edge reports (IPv6: by /64).
        agent_share_percent: u32 = "50" in 1..=100, live, like "25";
        /// After how much silence the connector sends a comment on an event stream to an agent whose TLS ends in this
        /// connector; 0 sends none. For other calls the edge has the same setting.
        sse_keepalive_ms: Millis = "0" in 0..=3_600_000, restart, like "25s";
        /// How many of the last calls each core keeps for `adit calls`, as with `edge.calls_kept`.
        calls_kept: u32 = "1000" in 0..=100_000, restart, like "10000";
        /// How often a request is sent again on another connection to its upstream, if that is safe; 0 for never. The
        /// first retry is immediate, later ones follow a random pause. A retry budget of a tenth of the route's calls
        /// applies as well.
        retries_max: u32 = "2" in 0..=10, restart, like "1";
        /// How many tasks `adit tasks` keeps of agents whose TLS ends in this connector, as with `edge.tasks_max`; 0
        /// counts none. For other agents the edge has the same setting.
        tasks_max: u32 = "0" in 0..=100_000, restart, like "1000";
        /// The header field by which these agents name the task of a call.
        task_header: Option<FieldNameText> = unset, restart, like "X-Task-Id";
        /// The price of a million tokens of answers to them, as with `edge.price_per_million_tokens`.
        price_per_million_tokens: Price = "0", restart, like "3.00";
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
        /// The host that agents call, without port. `*.example.com` matches every host with exactly one more label.
        host: HostPattern = required, live, like "demo.example.com";
        /// The private server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path/of/socket`. For a server that
        /// speaks HTTP/2 without TLS, it is `h2c://HOST:PORT` or `h2c+unix:/path/of/socket`. It has no path, because
        /// the path of each call is passed on unchanged. `stdio`: a program that is started with `command` and speaks MCP over its
        /// standard input and output ([OPERATING.md](OPERATING.md#servers-that-speak-stdio)).
        upstream: UpstreamUrl = required, live, like "http://127.0.0.1:9000";
        /// The program of a `stdio` upstream and its arguments, as a list. No shell reads it. In a variable or a flag it is a list in JSON.
        command: CommandWords = unset, live, like "mcp-server-time";
        /// Variables that are added to the environment of `command`, each as `NAME=value`. It has the variables of this process,
        /// except those whose names begin with `ADIT_`. The values are not displayed.
        env: EnvVariables = unset, live, like "TZ=UTC";
        /// The folder in which `command` runs, instead of that of this process.
        cwd: Option<FolderPath> = unset, live, like "/srv/mcp";
        /// How its calls are carried, if that differs from `connect.traffic`.
        traffic: Option<Traffic> = unset, live, like "passthrough";
        /// The certificates (PEM) of the authorities that sign the certificate of an `https` upstream, instead of the
        /// public ones.
        upstream_ca_file: Option<PathBuf> = unset, live, like "upstream-ca.pem";
        /// What callers must present. `passthrough`: nothing; tokens are left to the server. `verify`: an access token
        /// of one of the `[[identity_provider]]`s, which is also passed on to the server. `terminate`: the same,
        /// but the token is not passed on ([GOVERNANCE.md](GOVERNANCE.md#identity)). With `verify` and `terminate` the
        /// tunnel serves the metadata of the resource (RFC 9728) and sends the challenges (401, 403) by which clients
        /// get a token. It applies to all kinds of traffic.
        auth: CallerAuth = "passthrough", live, like "verify";
        /// Whether callers are asked for a client certificate in their TLS handshake. `off`: no. `optional`: a certificate says who
        /// calls, if one is shown, and is accepted in place of a token. `required`: every caller must show one, besides the token
        /// that `auth` may ask for ([GOVERNANCE.md](GOVERNANCE.md#client-certificates)). Only with `passthrough`
        /// traffic, because otherwise the TLS of agents does not end in the connector.
        client_certificate: ClientCertificate = "off", live, like "required";
        /// The names of the `[[client_authority]]`s whose certificates are accepted; empty for all.
        client_authorities: Vec<TokenText> = unset, live, like "partners";
        /// The names of the `[[identity_provider]]`s whose tokens are accepted; empty for all.
        identity_providers: Vec<TokenText> = unset, live, like "corporate";
        /// The resource that tokens are for: the URL by which agents call the MCP server, with its path. It is compared
        /// byte for byte with the audience of a token, unless the provider has `audiences`. The default is
        /// `public_url`.
        auth_resource: Option<TokenText> = unset, live, like "https://demo.example.com/mcp";
        /// The scopes that every caller needs.
        scopes_required: Vec<TokenText> = unset, live, like "mcp:tools";
        /// A file, mode 0600, with an `Authorization` value, such as `Bearer` and a key of the server. It is sent to
        /// the upstream instead of the token. Only with `auth = "terminate"`. It is read again when it changes.
        upstream_authorization_file: Option<PathBuf> = unset, live, like "upstream-authorization";
        /// The name of a `[[token_exchange]]`: the server gets the token that is given there for that of the caller (RFC 8693). Only
        /// with `auth = "terminate"`, and without `upstream_authorization_file`.
        token_exchange: Option<TokenText> = unset, live, like "tickets";
        /// The header field in which the MCP server is told who calls: a JWT that is signed by adit, holds for a minute and
        /// has `auth_resource` as its audience. Its name begins with `X-`. Header fields with this name in requests are
        /// removed. The key pair is generated at each start; the public key is available at `/v1/identity-keys` of the
        /// admin API.
        identity_header: Option<IdentityHeaderName> = unset, live, like "X-Caller";
        /// Whether an edge may say who calls, in place of a token that the connector would check itself. `off`: no. `optional`: what a
        /// trusted edge says counts, if it says something. `required`: every call must come from a trusted edge that says who
        /// calls ([GOVERNANCE.md](GOVERNANCE.md#identities-that-an-edge-forwards)). Requires a `[[trusted_edge]]`, and `auth_resource`
        /// or `public_url`. Not for `passthrough` traffic, which no edge can read.
        forwarded_identity: ForwardedIdentity = "off", live, like "required";
        /// The names of the `[[trusted_edge]]`s that may say who calls; empty for all.
        trusted_edges: Vec<TokenText> = unset, live, like "front";
        /// The policy of the route: a file with the rules for which caller may call which tool, prompt and resource
        /// ([GOVERNANCE.md](GOVERNANCE.md)). It is read again when it changes; while it has faults, the last good
        /// version stays in effect. It applies to all kinds of traffic.
        policy_file: Option<PathBuf> = unset, live, like "policy.toml";
        /// Policies in Cedar, the second tier of the policy of the route ([GOVERNANCE.md](GOVERNANCE.md#cedar)): a call passes if
        /// both tiers allow it. For builds with the feature `cedar`. It is read again when it changes, as `policy_file` is.
        cedar_file: Option<PathBuf> = unset, live, like "policy.cedar";
        /// What happens to tools, prompts and resources that are new, or whose definition has changed since it was approved
        /// ([GOVERNANCE.md](GOVERNANCE.md#what-a-server-offers)). `off`: nothing. `warn`: they are reported. `quarantine`: they are also
        /// removed from lists, and calls of them are refused, until they are approved with `adit tools approve`. They are learned from
        /// the results of list requests that pass through. Requires `connect.state_dir`; `quarantine` also requires
        /// `connect.admin_listen` and `connect.admin_token_file`.
        pin: PinMode = "off", live, like "quarantine";
        /// Whether HTTP/2 is offered to an `https` upstream besides HTTP/1.1 (ALPN `h2`). If the upstream accepts it,
        /// one connection carries many calls.
        upstream_http2: bool = "true", live, like "false";
        /// The maximum number of connections to the upstream at one time, for all cores together.
        upstream_connections_max: u32 = "1024" in 1..=65_536, live, like "32";
        /// How long connecting to the upstream may take, TLS included.
        connect_timeout_ms: Millis = "5s" in 1..=600_000, live, like "1s";
        /// How long a call waits for an upstream that refuses connections, for example during a restart, before the
        /// call is answered with 503. Nothing was sent to the upstream in this case.
        upstream_wait_ms: Millis = "1500ms" in 0..=60_000, live, like "5s";
        /// How long a connection to the upstream is kept open without a call. Set it at least a second below the idle
        /// timeout of the upstream; many servers have 5 s. If an upstream announces its own timeout (`Keep-Alive:
        /// timeout=N`), its connections are not used in the last second of it.
        idle_timeout_ms: Millis = "4s" in 0..=86_400_000, live, like "10s";
        /// How long the host of the upstream may send neither data nor answers to keep-alive probes before the
        /// connections to it fail, and with them the event streams that they carry.
        silence_timeout_ms: Millis = "75s" in 2_000..=3_600_000, live, like "30s";
        /// How long the upstream's host may fail to acknowledge data while a call waits. After that, idle connections
        /// are closed, and the call is sent on a new connection if that is safe; otherwise it is answered with 504. The
        /// server itself may take longer, because its host acknowledges the data. Over HTTP/2, where a connection is
        /// probed after 3 s of silence, detection takes up to 4 s more.
        acknowledge_timeout_ms: Millis = "5s" in 1_000..=600_000, live, like "10s";
        /// How long the upstream may take until the first byte of its response, after the request was sent; 0 for no
        /// limit. It replaces `connect.first_byte_timeout_ms`. For traffic that the edge can read, the edge's limit
        /// applies too, so that only a shorter one has an effect. It does not apply to the GET streams of MCP.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "30s";
        /// Whether to tell the upstream how long the caller still waits, if that is known (`host.client_timeout_ms` of
        /// the edge): `X-Request-Timeout: 4900ms`, instead of the `X-Request-Timeout` and `grpc-timeout` that the
        /// caller sent.
        send_request_timeout: bool = "false", live, like "true";
        /// How long agents whose TLS ends in this connector wait for the response to a POST, unless they send
        /// `X-Request-Timeout` or `grpc-timeout`. They are answered shortly before this time is over. For other agents
        /// the edge has `host.client_timeout_ms`.
        client_timeout_ms: Option<Millis> = unset in 100..=86_400_000, live, like "60s";
        /// Which requests are sent again if a reused connection ended without one byte of a response, as when the
        /// upstream closes it at that moment. `idempotent`: GET, HEAD, DELETE and OPTIONS. `mcp-safe`: also `ping`,
        /// `server/discover`, `*/list`, and `tools/call` of tools that the upstream's own `tools/list` declares with
        /// `readOnlyHint` or `idempotentHint`. Use `mcp-safe` only if you trust the server's declarations. Retries are
        /// limited to a tenth of the calls of the route, plus a reserve of 10 on each core. The first retry of a
        /// request that did not reach the upstream is not counted.
        resend: Resend = "idempotent", live, like "mcp-safe";
        /// What happens if agent and server speak different eras of MCP, which have no revision in common: 2026-07-28
        /// without sessions, and 2024-11-05 to 2025-11-25 with sessions. `off`: calls are passed on unchanged. `auto`:
        /// the server is probed at the first call of each era and path, and calls of agents of the other era are
        /// translated. Other calls are passed on unchanged ([BRIDGE.md](BRIDGE.md)).
        bridge: Bridge = "off", live, like "auto";
        /// What happens to calls that miss their deadline, if that differs from `connect.deadline`. It applies to
        /// agents whose TLS ends in this connector, and to tools whose `[[tool]]` does not set it.
        deadline: Option<GuardMode> = unset, live, like "enforce";
        /// The shortest deadline of these calls, if that differs from `connect.deadline_floor_ms`.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "5s";
        /// The time limit of a call that reports progress, if that differs from `connect.progress_max_ms`.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// The mode of the circuit breakers for this route, instead of `connect.breaker`.
        breaker: Option<GuardMode> = unset, live, like "enforce";
        /// Whether these calls in flight are limited, instead of `connect.concurrency_limit`.
        concurrency_limit: Option<GuardMode> = unset, live, like "enforce";
        /// The upper bound of the limit for this route, instead of `connect.concurrency_max`.
        concurrency_max: Option<u32> = unset in 1..=1_000_000, live, like "16";
        /// The `Host` that is sent to the upstream, if it differs from the address in `upstream`. Servers with
        /// protection against DNS rebinding accept only certain hosts, and answer others with 421 or 403.
        upstream_host: Option<HostField> = unset, live, like "localhost:8000";
        /// What happens to the `Origin` of a browser's request after the edge has allowed it. `keep` passes it on,
        /// `drop` removes it, `rewrite` replaces it with the upstream's own origin: its scheme and the `Host` that is
        /// sent to it. The default is `keep`, unless `preset` says otherwise.
        upstream_origin: Option<OriginRule> = unset, live, like "rewrite";
        /// The kind of the MCP server, which sets the defaults of `upstream_host` and `upstream_origin`: `python-sdk`,
        /// `typescript-sdk` or `fastmcp`. Such servers accept only requests for `localhost`. With a preset they get
        /// `localhost` with the port of `upstream` as `Host`, and a matching origin. An `https` upstream keeps its own
        /// host.
        preset: Option<ServerPreset> = unset, live, like "python-sdk";
        /// The URL by which agents call the host, if it differs from what they send: scheme, host and port. It is sent
        /// to the upstream (`X-Forwarded-Proto`, `X-Forwarded-Host`), and `Location` and `Content-Location` fields that
        /// name the upstream are rewritten to it. The default is the URL that each agent called.
        public_url: Option<HttpUrl> = unset, live, like "https://demo.example.com";
        /// Whether the OAuth metadata of the server (RFC 9728) is rewritten to the public URL where it names the
        /// upstream. This covers `resource_metadata` in `WWW-Authenticate`, and the members of the responses at
        /// `/.well-known/oauth-protected-resource`, up to 64 KiB of plain JSON. Set it for a server in which the public
        /// URL cannot be configured.
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
        /// The name of this edge as the issuer of identities that it forwards (`forward_identity`), such as its URL. Connectors compare
        /// it byte for byte with `issuer` of a `[[trusted_edge]]`.
        edge_issuer: Option<TokenText> = unset, live, like "https://edge.example.com";
    } with {
        /// The issuers of access tokens: the tables `[[identity_provider]]`.
        providers: IdentityProviderConfig
    } with {
        /// The authorities of client certificates: the tables `[[client_authority]]`.
        authorities: ClientAuthorityConfig
    } with {
        /// Where tokens are exchanged: the tables `[[token_exchange]]`.
        exchanges: TokenExchangeConfig
    } with {
        /// The edges that may say who calls: the tables `[[trusted_edge]]`.
        trusted_edges: TrustedEdgeConfig
    }
}

section! {
    /// An edge that may say who calls, for routes with `forwarded_identity`: one `[[trusted_edge]]` each. It can then claim to be called
    /// by anybody. Read by `adit connect`.
    record "trusted_edge" => TrustedEdgeConfig {
        /// The name that routes, policies and the audit log use for it.
        name: TokenText = required, live, like "front";
        /// Its name as an issuer, byte for byte as in its `identity.edge_issuer`.
        issuer: TokenText = required, live, like "https://edge.example.com";
        /// A file with its public keys (JWKS), as `adit edge identity-keys` prints them. Read again when it changes. This or `jwks_url`
        /// is required.
        jwks_file: Option<PathBuf> = unset, live, like "front.jwks.json";
        /// The URL of its public keys (JWKS): `https`, or `http` on this machine. Redirects are not followed.
        jwks_url: Option<TokenText> = unset, live, like "https://keys.example.com/front.jwks.json";
        /// The certificates (PEM) of the authorities that sign the certificate of `jwks_url`, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "keys-ca.pem";
        /// The issuers of the identities that it may forward: those of tokens, `x509:` with the name of a `[[client_authority]]`
        /// of the edge, or its own `issuer` for static keys. Empty for any.
        vouches_for: Vec<TokenText> = unset, live, like "https://login.example.com/realms/demo";
        /// How far the clocks of the edge and of this process may be apart.
        leeway_ms: Millis = "10s" in 0..=60_000, live, like "2s";
    }
}

section! {
    /// An authorization server at which tokens of callers are exchanged for tokens of an MCP server (RFC 8693), for hosts and
    /// routes with `token_exchange`: one `[[token_exchange]]` each. Both roles read it.
    record "token_exchange" => TokenExchangeConfig {
        /// The name that hosts and routes use for it.
        name: TokenText = required, live, like "tickets";
        /// The URL of the token endpoint: `https`, or `http` on this machine.
        token_url: TokenText = required, live, like "https://login.example.com/realms/demo/protocol/openid-connect/token";
        /// The id with which adit authenticates there (HTTP Basic).
        client_id: TokenText = required, live, like "adit";
        /// A file, mode 0600, with the secret for `client_id`. It is read again when it changes.
        client_secret_file: PathBuf = required, live, like "exchange.secret";
        /// The name of the MCP server at the authorization server. This or `resource` is required.
        audience: Option<TokenText> = unset, live, like "tickets-api";
        /// The URL of the MCP server (RFC 8707), for authorization servers that know it by its URL.
        resource: Option<TokenText> = unset, live, like "https://tickets.internal.example.com/";
        /// The scopes to ask for. By default, the authorization server decides.
        scopes: Vec<TokenText> = unset, live, like "tickets:read";
        /// The certificates (PEM) of the authorities that sign the certificate of the token endpoint, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "login-ca.pem";
    }
}

section! {
    /// An authority that signs client certificates of callers, for hosts and routes with `client_certificate`: one
    /// `[[client_authority]]` each. Both roles read it.
    record "client_authority" => ClientAuthorityConfig {
        /// The name that hosts and routes use for it. As the issuer of an identity it is written with `x509:` before it.
        name: TokenText = required, live, like "partners";
        /// The certificates (PEM) of the authority. Intermediate certificates may also come from the caller. Read again when it
        /// changes.
        ca_file: PathBuf = required, live, like "partners-ca.pem";
        /// Which name in a certificate says who calls: the `uri`, `dns` name or `email` address of its alternative names, the
        /// `common-name` of its subject, or the whole `subject` (RFC 4514). A certificate with none or several of them is refused.
        /// For `subject`, the authority must never give one subject to two callers.
        name_from: CallerName = "uri", live, like "email";
        /// The lists of revoked certificates (PEM, `X509 CRL`). If it is set, a certificate that no list covers is refused, and
        /// so are all certificates once the next list is overdue. Intermediate certificates need a list of their authority too. Read again when it changes.
        crl_file: Option<PathBuf> = unset, live, like "partners.crl.pem";
    }
}

section! {
    /// An issuer of access tokens: one `[[identity_provider]]` each. Its keys are fetched from the URL in its metadata
    /// (OpenID Connect Discovery, RFC 8414), unless one of `jwks_url`, `jwks_file`, `shared_key_file` and
    /// `introspection_url` is set. Both
    /// roles read it.
    record "identity_provider" => IdentityProviderConfig {
        /// The name that hosts and routes use for it.
        name: TokenText = required, live, like "corporate";
        /// The issuer, byte for byte as in the claim `iss` of its tokens.
        issuer: TokenText = required, live, like "https://login.example.com/realms/demo";
        /// The URL of its keys (JWKS): `https`, or `http` on this machine. Redirects are not followed.
        jwks_url: Option<TokenText> = unset, live, like "https://login.example.com/realms/demo/protocol/openid-connect/certs";
        /// A file with its keys (JWKS), in place of a URL. Read again when it changes.
        jwks_file: Option<PathBuf> = unset, live, like "jwks.json";
        /// A file, mode 0600, with the key that it shares with this process: at least 32 bytes, used unchanged except
        /// for a line end. Anyone who can read it can create tokens. It is required for, and only used by, HS256, HS384
        /// and HS512.
        shared_key_file: Option<PathBuf> = unset, live, like "shared.key";
        /// The URL at which it is asked about each token (RFC 7662), for opaque tokens or for tokens that can be revoked: `https`,
        /// or `http` on this machine. It is used in place of keys, and requires `client_id` and `client_secret_file`. At most one
        /// provider of a host or route can have it.
        introspection_url: Option<TokenText> = unset, live, like "https://login.example.com/realms/demo/introspect";
        /// The id with which adit authenticates at `introspection_url` (HTTP Basic).
        client_id: Option<TokenText> = unset, live, like "adit";
        /// A file, mode 0600, with the secret for `client_id`. It is read again when it changes.
        client_secret_file: Option<PathBuf> = unset, live, like "introspection.secret";
        /// How long a token is accepted after the provider has said that it is active. A token that is revoked is refused after this
        /// time. A token is never accepted after its own end.
        introspection_cache_ms: Millis = "1m" in 5_000..=3_600_000, live, like "10s";
        /// The certificates (PEM) of the authorities that sign the certificate of its server, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "login-ca.pem";
        /// The accepted audiences of tokens, in place of the URL of the resource: a token must have one of them. A token is then
        /// valid for all hosts and routes that accept the provider.
        audiences: Vec<TokenText> = unset, live, like "api://demo";
        /// The algorithms by which its tokens may be signed. By default those with public keys (RS256, RS384, RS512, PS256, PS384,
        /// PS512, ES256, ES384, EdDSA), or with `shared_key_file` HS256.
        algorithms: Vec<AlgorithmName> = unset, live, like "RS256";
        /// The types of tokens (`typ`) that are accepted, without `application/`. A token without a type counts as
        /// `jwt`. If the provider types its access tokens (RFC 9068), `at+jwt` alone keeps out identity tokens.
        token_types: Vec<TokenText> = "at+jwt,jwt", live, like "at+jwt";
        /// How far the clocks of the provider and of this process may be apart.
        leeway_ms: Millis = "30s" in 0..=600_000, live, like "1m";
    }
}

section! {
    /// Who is told of calls that wait for approval. Both roles read it; `adit up` does not.
    section "approvals" => ApprovalsConfig {
        /// The URL to which a message is sent (POST) for each call that waits: `https`, or `http` on this machine. The messages have
        /// the form of Standard Webhooks. Calls are approved with `adit approvals`, the admin API, or `link_url`. The URL is shown
        /// by `adit config show`, so it must not contain a secret.
        webhook_url: Option<TokenText> = unset, restart, like "https://hooks.example.com/adit";
        /// A file with the secret that signs the messages (HMAC-SHA256), mode 0600. One that begins with `whsec_` is Base64.
        webhook_secret_file: Option<PathBuf> = unset, restart, like "webhook.secret";
        /// The certificates (PEM) of the authorities that may certify `webhook_url`. By default public ones.
        webhook_ca_file: Option<PathBuf> = unset, restart, like "hooks-ca.pem";
        /// Whether the messages contain the arguments of calls. Otherwise they have their length and hash.
        webhook_arguments: bool = "false", restart, like "true";
        /// The external URL of the admin listener, for example that of a reverse proxy: `https`, or `http` on this machine. With it,
        /// each message contains a signed link to a page below this URL, `approve/`, on which the call can be approved or denied.
        /// Anyone who has the link can decide that call, and no other. The URL is shown by `adit config show`.
        link_url: Option<TokenText> = unset, restart, like "https://adit.example.com";
        /// Whether the page shows the arguments of the call, without secrets, payment cards and bank accounts. Otherwise it shows
        /// their length and hash.
        link_arguments: bool = "false", restart, like "true";
    }
}

section! {
    /// The audit log: one line for every call and every management action, chained and signed. Both roles write it.
    section "audit" => AuditConfig {
        /// `off`: nothing is written. `best_effort`: lines are written without delaying calls, and lines that cannot be
        /// written are counted. `required`: a response is sent only once its call is on the disk, and calls are refused
        /// while nothing can be written.
        mode: AuditMode = "off", restart, like "required";
        /// The directory of the log. By default `audit` in `edge.data_dir`, or in `connect.state_dir`; one of the three is
        /// needed unless `mode` is `off`. The signing key is in `data_dir` or `state_dir`; if neither is set, it is in `dir`.
        dir: Option<FolderPath> = unset, restart, like "/var/log/adit";
        /// The size at which a file is closed and the next one begun. This also happens once a day (UTC).
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
