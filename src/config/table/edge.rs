//! The tables that the edge reads: itself, its tunnels and their hosts.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::{GuardMode, Traffic, TunnelId};
use crate::config::addresses::{HostPort, HttpUrl, WebOrigin};
use crate::config::section::section;
use crate::config::table::tool::ToolConfig;
use crate::config::values::{
    Bytes, CallerAuth, ClientCertificate, FieldNameText, FolderPath, Hedge, IdentityHeaderName, Millis, OwnOrigin,
    Price, SecretText, TokenText,
};
use crate::policy::{Member, Network, PinMode};
use crate::route::{HostPattern, Hostname};

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
        /// Accepts connectors over QUIC too, at the UDP port of `connectors_listen`. Connectors behind a proxy that sends
        /// PROXY headers cannot use it.
        quic: bool = "false", restart, like "true";
        /// The address on which the edge accepts connectors in the protocol of cloudflared, over HTTP/2
        /// ([CLOUDFLARED.md](CLOUDFLARED.md#an-edge-for-cloudflared)), or `off`. They present the secret of their tunnel, and no
        /// certificate.
        cloudflared_listen: Option<SocketAddr> = "off", restart, like "0.0.0.0:7845";
        /// The certificate chain (PEM) for `cloudflared_listen`, for the names `h2.cftunnel.com` and `probe.cftunnel.com`. Without
        /// it, the edge's own authority issues one at each start. The file is read again when it changes.
        cloudflared_cert_file: Option<PathBuf> = unset, restart, like "cloudflared.crt";
        /// The private key (PEM) of `cloudflared_cert_file`, mode 0600.
        cloudflared_key_file: Option<PathBuf> = unset, restart, like "cloudflared.key";
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
        /// The service to which its connectors of cloudflared send all calls, as they reach it (`edge.cloudflared_listen`). The edge
        /// sends it to them in place of the rules that they were started with. If it is unset, they keep theirs.
        cloudflared_service: Option<HttpUrl> = unset, live, like "http://127.0.0.1:3000";
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
        /// The policy of the hosts of this tunnel, like `policy_file` of a `[[host]]`. It applies to a host unless its `[[host]]`,
        /// or one that covers it, has a policy. Each host counts its calls for itself. It is refused for `passthrough` traffic.
        policy_file: Option<PathBuf> = unset, live, like "policy.toml";
        /// Policies in Cedar for the hosts of this tunnel, the second tier of the policy
        /// ([GOVERNANCE.md](GOVERNANCE.md#cedar)). It applies where `policy_file` of this table does, or alone.
        cedar_file: Option<PathBuf> = unset, live, like "policy.cedar";
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
