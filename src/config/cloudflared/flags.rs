//! The flags of cloudflared, of all levels of its command line.

/// A flag, by its first name.
pub(super) struct FlagSpec {
    pub(super) names: &'static [&'static str],
    pub(super) variables: &'static [&'static str],
    pub(super) kind: FlagKind,
    pub(super) meaning: FlagMeaning,
}

/// What follows a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// Nothing, or `=true` or `=false`.
    Switch,
    Value,
    /// A value. The flag may be repeated, and a variable has its values between commas.
    List,
}

/// What a flag does here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FlagMeaning {
    Used,
    /// It is accepted and changes nothing.
    Ignored,
    /// It asks for something that is not there, so it is an error.
    Missing(&'static str),
}

const fn flag(
    names: &'static [&'static str],
    variables: &'static [&'static str],
    kind: FlagKind,
    meaning: FlagMeaning,
) -> FlagSpec {
    FlagSpec { names, variables, kind, meaning }
}

use FlagKind::{List, Switch, Value};
use FlagMeaning::{Ignored, Missing, Used};

pub(super) const FLAGS: &[FlagSpec] = &[
    flag(&["config"], &[], Value, Used),
    flag(&["token"], &["TUNNEL_TOKEN"], Value, Used),
    flag(&["token-file"], &["TUNNEL_TOKEN_FILE"], Value, Used),
    flag(&["credentials-file", "cred-file"], &["TUNNEL_CRED_FILE"], Value, Used),
    flag(&["credentials-contents"], &["TUNNEL_CRED_CONTENTS"], Value, Used),
    flag(&["edge"], &["TUNNEL_EDGE"], List, Used),
    flag(&["cacert"], &["TUNNEL_CACERT"], Value, Used),
    flag(&["region"], &["TUNNEL_REGION"], Value, Used),
    flag(&["protocol", "p"], &["TUNNEL_TRANSPORT_PROTOCOL"], Value, Used),
    flag(&["ha-connections"], &["TUNNEL_HA_CONNECTIONS"], Value, Used),
    flag(&["grace-period"], &["TUNNEL_GRACE_PERIOD"], Value, Used),
    flag(&["metrics"], &["TUNNEL_METRICS"], Value, Used),
    flag(&["pidfile"], &["TUNNEL_PIDFILE"], Value, Used),
    flag(&["loglevel"], &["TUNNEL_LOGLEVEL"], Value, Used),
    flag(&["output"], &["TUNNEL_LOG_OUTPUT", "TUNNEL_MANAGEMENT_OUTPUT"], Value, Used),
    flag(&["url"], &["TUNNEL_URL"], Value, Used),
    flag(&["unix-socket"], &["TUNNEL_UNIX_SOCKET"], Value, Used),
    flag(&["hello-world"], &["TUNNEL_HELLO_WORLD"], Switch, Used),
    flag(&["tunnel"], &[], Value, Used),
    flag(&["features", "F"], &["TUNNEL_FEATURES"], List, Used),
    flag(&["proxy-connect-timeout"], &["TUNNEL_PROXY_CONNECT_TIMEOUT"], Value, Used),
    flag(&["proxy-keepalive-connections"], &["TUNNEL_PROXY_KEEPALIVE_CONNECTIONS"], Value, Used),
    flag(&["proxy-keepalive-timeout"], &["TUNNEL_PROXY_KEEPALIVE_TIMEOUT"], Value, Used),
    flag(&["http-host-header"], &["TUNNEL_HTTP_HOST_HEADER"], Value, Used),
    flag(&["origin-ca-pool"], &["TUNNEL_ORIGIN_CA_POOL"], Value, Used),
    flag(&["http2-origin"], &["TUNNEL_ORIGIN_ENABLE_HTTP2"], Switch, Used),
    flag(&["no-tls-verify"], &["NO_TLS_VERIFY"], Switch, Missing("trust the server's certificate with origin-ca-pool")),
    flag(
        &["origin-server-name"],
        &["TUNNEL_ORIGIN_SERVER_NAME"],
        Value,
        Missing("dial the server by a name that is in its certificate"),
    ),
    flag(&["bastion"], &["TUNNEL_BASTION"], Switch, Missing("a connector calls only the servers of its rules")),
    flag(&["socks5"], &["TUNNEL_SOCKS"], Switch, Missing("a connector calls only the servers of its rules")),
    flag(&["proxy-address"], &["TUNNEL_PROXY_ADDRESS"], Value, Ignored),
    flag(&["proxy-port"], &["TUNNEL_PROXY_PORT"], Value, Ignored),
    flag(&["edge-ip-version"], &["TUNNEL_EDGE_IP_VERSION"], Value, Ignored),
    flag(
        &["edge-bind-address"],
        &["TUNNEL_EDGE_BIND_ADDRESS"],
        Value,
        Missing("the system chooses the address that the edge is dialled from"),
    ),
    flag(&["origincert"], &["TUNNEL_ORIGIN_CERT"], Value, Ignored),
    flag(&["autoupdate-freq"], &[], Value, Ignored),
    flag(&["no-autoupdate"], &["NO_AUTOUPDATE"], Switch, Ignored),
    flag(&["no-prechecks"], &["TUNNEL_NO_PRECHECKS"], Switch, Ignored),
    flag(&["is-autoupdated"], &[], Switch, Ignored),
    flag(
        &["transport-loglevel", "proto-loglevel"],
        &["TUNNEL_TRANSPORT_LOGLEVEL", "TUNNEL_PROTO_LOGLEVEL"],
        Value,
        Ignored,
    ),
    flag(&["logfile"], &["TUNNEL_LOGFILE"], Value, Missing("the log goes to standard error: redirect that")),
    flag(&["log-directory"], &["TUNNEL_LOGDIRECTORY"], Value, Missing("the log goes to standard error: redirect that")),
    flag(&["trace-output"], &["TUNNEL_TRACE_OUTPUT"], Value, Ignored),
    flag(
        &["post-quantum", "pq"],
        &["TUNNEL_POST_QUANTUM"],
        Switch,
        Missing("X25519MLKEM768 is offered first, and an edge without it is not refused"),
    ),
    flag(&["icmpv4-src"], &["TUNNEL_ICMPV4_SRC"], Value, Ignored),
    flag(&["icmpv6-src"], &["TUNNEL_ICMPV6_SRC"], Value, Ignored),
    flag(&["max-active-flows"], &["TUNNEL_MAX_ACTIVE_FLOWS"], Value, Ignored),
    flag(&["dns-resolver-addrs"], &["TUNNEL_DNS_RESOLVER_ADDRS"], List, Ignored),
    flag(&["proxy-tls-timeout"], &["TUNNEL_PROXY_TLS_TIMEOUT"], Value, Ignored),
    flag(&["proxy-tcp-keepalive"], &["TUNNEL_PROXY_TCP_KEEPALIVE"], Value, Ignored),
    flag(&["proxy-no-happy-eyeballs"], &["TUNNEL_PROXY_NO_HAPPY_EYEBALLS"], Switch, Ignored),
    flag(&["no-chunked-encoding"], &["TUNNEL_NO_CHUNKED_ENCODING"], Switch, Ignored),
    flag(&["retries"], &["TUNNEL_RETRIES"], Value, Ignored),
    flag(&["max-edge-addr-retries"], &["TUNNEL_MAX_EDGE_ADDR_RETRIES"], Value, Ignored),
    flag(&["label"], &[], Value, Ignored),
    flag(&["compression-quality"], &["TUNNEL_COMPRESSION_LEVEL"], Value, Ignored),
    flag(&["metrics-update-freq"], &["TUNNEL_METRICS_UPDATE_FREQ"], Value, Ignored),
    flag(&["management-diagnostics"], &["TUNNEL_MANAGEMENT_DIAGNOSTICS"], Switch, Ignored),
    flag(&["management-hostname"], &["TUNNEL_MANAGEMENT_HOSTNAME"], Value, Ignored),
    flag(&["service-op-ip"], &["TUNNEL_SERVICE_OP_IP"], Value, Ignored),
    flag(&["tag"], &["TUNNEL_TAG"], List, Ignored),
    flag(&["stdin-control"], &[], Switch, Ignored),
    flag(&["api-url"], &["TUNNEL_API_URL"], Value, Ignored),
    flag(&["rpc-timeout"], &[], Value, Ignored),
    flag(&["write-stream-timeout"], &["TUNNEL_STREAM_WRITE_TIMEOUT"], Value, Ignored),
    flag(&["quic-disable-pmtu-discovery"], &["TUNNEL_DISABLE_QUIC_PMTU"], Switch, Ignored),
    flag(&["quic-connection-level-flow-control-limit"], &["TUNNEL_QUIC_CONN_LEVEL_FLOW_CONTROL_LIMIT"], Value, Ignored),
    flag(&["quic-stream-level-flow-control-limit"], &["TUNNEL_QUIC_STREAM_LEVEL_FLOW_CONTROL_LIMIT"], Value, Ignored),
    flag(&["dial-edge-timeout"], &[], Value, Ignored),
    flag(&["heartbeat-interval"], &[], Value, Ignored),
    flag(&["heartbeat-count"], &[], Value, Ignored),
    flag(&["use-reconnect-token"], &["TUNNEL_USE_RECONNECT_TOKEN"], Switch, Ignored),
    flag(&["id"], &["TUNNEL_ID"], Value, Ignored),
    flag(&["name", "n"], &["TUNNEL_NAME"], Value, Ignored),
    flag(&["hostname"], &["TUNNEL_HOSTNAME"], Value, Ignored),
    flag(&["lb-pool"], &["TUNNEL_LB_POOL"], Value, Ignored),
    flag(&["overwrite-dns", "f"], &["TUNNEL_FORCE_PROVISIONING_DNS"], Switch, Ignored),
    flag(
        &["quick-service"],
        &["TUNNEL_QUICK_SERVICE"],
        Value,
        Missing("there are no quick tunnels: run a tunnel with its token"),
    ),
];

/// The variable with the folder in which settings and credentials are looked for.
pub(super) const HOME: &str = "HOME";

/// The variables that a connector in place of cloudflared reads.
pub fn cloudflared_variables() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().flat_map(|flag| flag.variables.iter().copied()).chain([HOME])
}

/// The flag with this name.
pub(super) fn spec(name: &str) -> Option<&'static FlagSpec> {
    FLAGS.iter().find(|flag| flag.names.contains(&name))
}
