//! The tables that the connector reads: itself and its routes.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::{GuardMode, Traffic, TunnelId};
use crate::config::addresses::{HostField, HostPort, HttpUrl, WebOrigin};
use crate::config::command_setting::{CommandWords, EnvVariables};
use crate::config::networks::UpstreamNetwork;
use crate::config::proxy::{ProxyExemption, ProxyUrl};
use crate::config::section::section;
use crate::config::table::tool::ToolConfig;
use crate::config::values::{
    Bridge, Bytes, CallerAuth, ChildSharing, ChildStart, ClientCertificate, FieldNameText, FolderPath,
    ForwardedIdentity, IdentityHeaderName, Millis, OriginRule, OwnOrigin, Price, Resend, SecretText, ServerPreset,
    TokenText, Transport,
};
use crate::policy::PinMode;
use crate::route::{HostPattern, Hostname, UpstreamUrl};

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
        /// The transport of links: `tcp`, `quic`, or `auto`, which uses whichever connects first and gives QUIC a start of
        /// 100 ms. QUIC needs `edge.quic` at the edge and UDP to the port in `edge`; on a path that loses packets, calls then
        /// do not wait for each other's. With `auto`, a link whose QUIC carries nothing any more is replaced by one over
        /// TCP within a second, and moved back when QUIC has worked for a while. A link over QUIC sends a PING after
        /// 400 ms of silence, about 30 MB per day. Links through a proxy always use TCP.
        transport: Transport = "tcp", restart, like "auto";
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
        /// standard input and output ([STDIO.md](STDIO.md)).
        upstream: UpstreamUrl = required, live, like "http://127.0.0.1:9000";
        /// The program of a `stdio` upstream and its arguments, as a list. No shell reads it. In a variable or a flag it is a list in JSON.
        command: CommandWords = unset, live, like "mcp-server-time";
        /// Variables that are added to the environment of `command`, each as `NAME=value`. It has the variables of this process,
        /// except those whose names begin with `ADIT_`. The values are not displayed.
        env: EnvVariables = unset, live, like "TZ=UTC";
        /// The folder in which `command` runs, instead of that of this process.
        cwd: Option<FolderPath> = unset, live, like "/srv/mcp";
        /// Which agents share a process of `command` ([STDIO.md](STDIO.md#who-shares-a-process)). `shared`: all of the route.
        /// `per-session`: each session has its own; agents of revision 2026-07-28, which has no sessions, are told to begin one.
        /// `per-identity`: each proven caller has its own; requires `auth`, `client_certificate` or `forwarded_identity`.
        sessions: ChildSharing = "shared", live, like "per-session";
        /// When a process that all agents share is started: `boot`, with the connector, or `first-call`. Other processes are always
        /// started when they are needed.
        child_start: ChildStart = "boot", live, like "first-call";
        /// The maximum number of processes of `command` at one time. One that is not in use makes room for another; if all are in
        /// use, calls are answered 503.
        children_max: u32 = "16" in 1..=4_096, live, like "100";
        /// How long a process may be without a call or an open stream before it is ended. A process that was started at boot stays.
        child_idle_ms: Millis = "1h" in 100..=604_800_000, live, like "10m";
        /// The maximum number of sessions of one process. The one that was not used for longest makes room for another.
        child_sessions_max: u32 = "1024" in 1..=65_536, live, like "100";
        /// The maximum number of requests that wait for an answer of one process. Further ones are answered 503.
        child_calls_max: u32 = "1024" in 1..=65_536, live, like "64";
        /// The maximum length of one message to or from a process. A longer one from an agent is answered 413; a longer one of the
        /// process is skipped, and its caller gets an error if it is certain which one that is.
        child_line_max_bytes: Bytes = "16MiB" in 1_024..=1_073_741_824, live, like "64MiB";
        /// The maximum length of an answer of a process. Its caller gets an error for a longer one.
        child_answer_max_bytes: Bytes = "16MiB" in 1_024..=1_073_741_824, live, like "1MiB";
        /// How long a process may take for its first message after it was sent the first one. Then it is ended, which counts as a
        /// failure. Downloads of `npx` and `uvx` are part of this time.
        child_start_timeout_ms: Millis = "2m" in 100..=3_600_000, live, like "30s";
        /// How long a process has to end after SIGTERM, before it is killed.
        child_stop_grace_ms: Millis = "3s" in 0..=600_000, live, like "10s";
        /// The pause before a process that has failed is started again. Each further pause is twice as long.
        child_restart_min_ms: Millis = "100ms" in 1..=600_000, live, like "1s";
        /// The longest pause before a restart. A process that has run for 30 s resets the pause to `child_restart_min_ms`.
        child_restart_max_ms: Millis = "30s" in 1..=86_400_000, live, like "5m";
        /// After how many failures in a row no process is started for `child_breaker_open_ms`.
        child_failures_max: u32 = "20" in 1..=1_000_000, live, like "5";
        /// How long no process is started then. One more failure after that has the same effect.
        child_breaker_open_ms: Millis = "5m" in 1..=86_400_000, live, like "1h";
        /// The maximum memory of a process with its descendants, by `child_cgroup`. Without a control group it is the data memory of
        /// each of them (RLIMIT_DATA).
        child_memory_max_bytes: Option<Bytes> = unset in 1_048_576..=1_099_511_627_776, live, like "512MiB";
        /// The maximum CPU time of a process with its descendants, in percent of one CPU. Requires `child_cgroup`.
        child_cpu_percent: Option<u32> = unset in 1..=100_000, live, like "50";
        /// The maximum CPU time that a process may use in its life, in whole seconds (RLIMIT_CPU). Then it is killed.
        child_cpu_time_ms: Option<Millis> = unset in 1_000..=604_800_000, live, like "10m";
        /// The maximum number of open files of a process (RLIMIT_NOFILE).
        child_files_max: Option<u32> = unset in 16..=1_048_576, live, like "256";
        /// The maximum number of processes, by `child_cgroup`. Without a control group it is that of the user (RLIMIT_NPROC), which
        /// root does not have.
        child_processes_max: Option<u32> = unset in 1..=1_000_000, live, like "50";
        /// A folder of a control group (cgroup v2) that is delegated to the user of the connector and holds no process itself. Each
        /// process of `command` gets a group in it ([STDIO.md](STDIO.md#limits-of-the-system)).
        child_cgroup: Option<FolderPath> = unset, live, like "/sys/fs/cgroup/adit.slice/children";
        /// The user as which `command` runs: a name of `/etc/passwd` or a number. Requires root.
        child_user: Option<TokenText> = unset, live, like "mcp";
        /// The group as which `command` runs: a name of `/etc/group` or a number. The default is that of `child_user`.
        child_group: Option<TokenText> = unset, live, like "mcp";
        /// Whether `command` and its descendants may gain privileges by executing a program, such as one with the setuid bit.
        child_new_privileges: bool = "false", live, like "true";
        /// The files and folders that `command` may read and execute (Landlock). If this or `child_write_paths` is set, nothing else
        /// can be opened: name also the folders of programs and libraries.
        child_read_paths: Vec<FolderPath> = unset, live, like "/usr";
        /// The files and folders that `command` may read, execute and change (Landlock).
        child_write_paths: Vec<FolderPath> = unset, live, like "/srv/mcp";
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
        /// The names of the `[[edge_authority]]`s: the edge must show a certificate of one of them inside the TLS session with this
        /// connector, and its name is known to the policy and the audit log
        /// ([GOVERNANCE.md](GOVERNANCE.md#the-certificate-of-the-edge)). If it is not set, any edge that has certified this connector
        /// may make the session. Only with `resealed` traffic.
        edge_authorities: Vec<TokenText> = unset, live, like "front";
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
