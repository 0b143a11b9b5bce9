//! Checks of combinations of settings that are valid individually.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::base::{GuardMode, Traffic};
use crate::config::caller_terms::CallerTerms;
use crate::config::entries::Entries;
use crate::config::error::{ConfigError, nearest};
use crate::config::networks::UpstreamNetwork;
use crate::config::table::{AdmissionConfig, ConnectConfig, EdgeConfig, ToolConfig, TunnelConfig};
use crate::config::values::{ChildSharing, Hedge, SecretText};
use crate::policy::Member;

/// The most `[[tool]]` tables of one host.
const TOOLS_PER_HOST_MAX: usize = 64;

/// Checks settings against each other. It skips checks of settings that are invalid themselves.
pub(super) struct Checker<'a> {
    entries: &'a Entries,
    wrong: BTreeSet<String>,
    faults: Vec<ConfigError>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(entries: &'a Entries, faults: &[ConfigError]) -> Checker<'a> {
        Checker { entries, wrong: faults.iter().map(|fault| fault.key.clone()).collect(), faults: Vec::new() }
    }

    pub(super) fn into_faults(self) -> Vec<ConfigError> {
        self.faults
    }

    /// `certificates` says whether certificates for HTTPS and for connectors are required. Only `adit up` creates its
    /// own.
    pub(super) fn edge(&mut self, edge: &EdgeConfig, certificates: bool) {
        let agents = ("edge.agents_cert_file", "edge.agents_key_file");
        self.pair(agents, (edge.agents_cert_file.is_some(), edge.agents_key_file.is_some()));
        let connectors = ("edge.connectors_cert_file", "edge.connectors_key_file");
        let given = (edge.connectors_cert_file.is_some(), edge.connectors_key_file.is_some());
        self.pair(connectors, given);
        if certificates && given == (false, false) && edge.data_dir.is_none() {
            self.missing(
                connectors.0,
                "missing; connectors use TLS only: set this and connectors_key_file, or set data_dir to a directory that \
                 `adit edge init` made",
            );
        }
        let plain = edge.agents_cert_file.is_none() && edge.agents_key_file.is_none();
        if certificates && plain && !edge.agents_listen.ip().is_loopback() && !edge.allow_plain_http_off_loopback {
            self.fault(
                "edge.agents_listen",
                &["edge.agents_cert_file", "edge.agents_key_file", "edge.allow_plain_http_off_loopback"],
                "plain HTTP on an address other than loopback; set agents_cert_file and agents_key_file, or \
                 allow_plain_http_off_loopback if a proxy in front terminates TLS",
            );
        }
        let authority = ("edge.connectors_ca_file", "edge.connectors_ca_key_file");
        self.pair(authority, (edge.connectors_ca_file.is_some(), edge.connectors_ca_key_file.is_some()));
        let cloudflared = ("edge.cloudflared_cert_file", "edge.cloudflared_key_file");
        let given = (edge.cloudflared_cert_file.is_some(), edge.cloudflared_key_file.is_some());
        self.pair(cloudflared, given);
        let has_authority = edge.connectors_ca_file.is_some() || edge.data_dir.is_some();
        if edge.cloudflared_listen.is_some() && given == (false, false) && !has_authority {
            self.missing(
                cloudflared.0,
                "missing; cloudflared_listen needs a certificate, and this edge has no authority that issues one: set this and \
                 cloudflared_key_file, or data_dir",
            );
        }
        self.admin("edge", edge.admin_listen, edge.allow_admin_off_loopback);
        self.listeners(edge);
        self.tunnels(edge);
        self.tools(&edge.tools);
        self.hedges(edge);
        self.pins_of_hosts(edge);
    }

    /// `ports` says whether the port of the edge must be known. Only in `adit up` the system chooses it.
    pub(super) fn connect(&mut self, connect: &ConnectConfig, ports: bool) {
        self.credentials(connect);
        self.tools(&connect.tools);
        self.pins_of_routes(connect);
        if connect.backoff_min_ms > connect.backoff_max_ms {
            self.fault(
                "connect.backoff_min_ms",
                &["connect.backoff_max_ms"],
                "must not be greater than backoff_max_ms",
            );
        }
        self.admin("connect", connect.admin_listen, connect.allow_admin_off_loopback);
        if connect.edge.is_empty() {
            self.fault("connect.edge", &[], "the list is empty");
        }
        if ports && connect.edge.iter().any(|edge| edge.port == 0) {
            self.fault("connect.edge", &[], "port 0 cannot be dialled");
        }
        if connect.routes.is_empty() && !self.entries.unreadable {
            self.fault("route", &[], "missing; add at least one [[route]], or give --route HOST=URL or ADIT_ROUTES");
        }
        let given = (connect.seal_cert_file.is_some(), connect.seal_key_file.is_some());
        self.pair(("connect.seal_cert_file", "connect.seal_key_file"), given);
        if connect.sealed_hosts().next().is_some() && given == (false, false) && connect.state_dir.is_none() {
            self.missing(
                "connect.state_dir",
                "missing; sealed routes need a certificate: set state_dir, where the connector makes and keeps an authority of its \
                 own, or seal_cert_file and seal_key_file",
            );
        }
        let mut hosts = BTreeMap::new();
        let allowed = UpstreamNetwork::allowed(&connect.allowed_upstreams);
        for (index, route) in connect.routes.iter().enumerate() {
            let upstream = format!("route[{index}].upstream");
            if let Some(Err(why)) = route.upstream.literal_address().map(|address| allowed.judge(address)) {
                self.fault(&upstream, &["connect.allowed_upstreams"], &format!("{} is {why}", route.upstream));
            }
            let key = format!("route[{index}].host");
            self.unique(&mut hosts, &key, &route.host.to_string());
            let command = format!("route[{index}].command");
            match (route.upstream.is_stdio(), route.command.0.is_empty()) {
                (true, true) => {
                    self.missing(&command, "missing; a stdio upstream is a program: name it and its arguments")
                }
                (false, false) => {
                    self.fault(&command, &[&upstream], "only a `stdio` upstream is started: set `upstream = \"stdio\"`")
                }
                _ => {}
            }
            if route.sessions == ChildSharing::PerIdentity && !CallerTerms::of_route(route, index).asks_for_anything() {
                let why =
                    "no caller is identified on this route: set `auth`, `client_certificate` or `forwarded_identity`";
                self.fault(&format!("route[{index}].sessions"), &[&format!("route[{index}].auth")], why);
            }
            if route.child_cpu_percent.is_some() && route.child_cgroup.is_none() {
                let why = "only a control group limits this: set `child_cgroup`, or `child_cpu_time_ms` instead";
                self.fault(&format!("route[{index}].child_cpu_percent"), &[], why);
            }
            if !route.upstream.is_stdio() && (!route.env.0.is_empty() || route.cwd.is_some()) {
                let key = if route.cwd.is_some() { "cwd" } else { "env" };
                self.fault(&format!("route[{index}].{key}"), &[&upstream], "only a `stdio` upstream is started");
            }
            if route.upstream_ca_file.is_some() && !route.upstream.is_tls() {
                let key = format!("route[{index}].upstream_ca_file");
                self.fault(&key, &[&upstream], "only an https upstream has a certificate");
            }
        }
    }

    /// Sets that lists name must exist, and AS numbers in lists require the file of AS numbers.
    pub(super) fn admission(&mut self, admission: &AdmissionConfig, tunnels: &[TunnelConfig]) {
        let mut names = BTreeMap::new();
        for (index, set) in admission.sets.iter().enumerate() {
            self.unique(&mut names, &format!("network_set[{index}].name"), set.name.as_str());
        }
        let lists = admission.lists().into_iter().map(|(key, list)| (format!("admission.{key}"), list));
        let of_tunnels = tunnels.iter().enumerate().flat_map(|(index, tunnel)| {
            let lists = [("allow_from", &tunnel.allow_from), ("deny_from", &tunnel.deny_from)];
            lists.map(|(key, list)| (format!("tunnel[{index}].{key}"), list))
        });
        for (key, list) in lists.chain(of_tunnels) {
            for member in list {
                match member {
                    Member::Asn(asn) if admission.asn_file.is_none() => {
                        let message = format!("AS{asn} needs a file of AS numbers; set admission.asn_file");
                        self.fault(&key, &["admission.asn_file"], &message);
                    }
                    Member::Set(name) if !names.contains_key(name.as_str()) => {
                        let meant = nearest(name.as_str(), names.keys().map(String::as_str));
                        let meant = meant.map(|meant| format!(", did you mean set:{meant}?")).unwrap_or_default();
                        let message = format!("no [[network_set]] has the name {}{meant}", name.as_str());
                        self.fault(&key, &[], &message);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Requires exactly one credential, and an id with a secret.
    fn credentials(&mut self, connect: &ConnectConfig) {
        let ways = [
            ("connect.token", connect.token.is_some()),
            ("connect.token_file", connect.token_file.is_some()),
            ("connect.provisioning_key", connect.provisioning_key.is_some()),
            ("connect.provisioning_key_file", connect.provisioning_key_file.is_some()),
            ("connect.secret", connect.secret.is_some()),
            ("connect.secret_file", connect.secret_file.is_some()),
        ];
        let given: Vec<&str> = ways.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
        match given[..] {
            [] if ways.iter().any(|(key, _)| self.wrong.contains(*key)) => {}
            [] => {
                self.missing(
                "connect.secret",
                "missing; set token_file (--token-file, ADIT_TUNNEL_TOKEN), or tunnel (--id, ADIT_TUNNEL_ID) and secret_file \
                 (--secret-file, ADIT_TUNNEL_SECRET)",
            )
            }
            [key] => {
                let by_key = key.starts_with("connect.provisioning_key");
                let by_token = by_key || key.starts_with("connect.token");
                if by_token && connect.tunnel.is_some() {
                    let message = if by_key { "a provisioning key creates a tunnel" } else { "a token names the tunnel already" };
                    self.fault("connect.tunnel", &[key], &format!("{message}; remove one"));
                }
                if by_key && connect.state_dir.is_none() {
                    self.missing("connect.state_dir", "missing; the token that a provisioning key is exchanged for is kept there");
                }
                if !by_token && connect.tunnel.is_none() {
                    self.missing(
                        "connect.tunnel",
                        "missing; set it (--id, ADIT_TUNNEL_ID), or a token in place of the secret",
                    );
                }
            }
            [key, other, ..] => {
                let short = |key: &str| key.trim_start_matches("connect.").to_owned();
                let message = format!("{} and {} are both set; remove one", short(key), short(other));
                self.fault(key, &[other], &message);
            }
        }
        if let Some(Err(error)) = connect.token.as_ref().map(SecretText::token) {
            self.fault("connect.token", &[], &error.to_string());
        }
    }

    fn tunnels(&mut self, edge: &EdgeConfig) {
        if edge.tunnels.is_empty() && edge.data_dir.is_none() {
            self.missing(
                "tunnel",
                "missing; add at least one [[tunnel]], or set data_dir for tunnels that are created later",
            );
        }
        let (mut ids, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for (index, tunnel) in edge.tunnels.iter().enumerate() {
            self.unique(&mut ids, &format!("tunnel[{index}].id"), tunnel.id.as_str());
            self.one_secret(&format!("tunnel[{index}]"), tunnel.secret.is_some(), tunnel.secret_file.is_some());
            let key = format!("tunnel[{index}].hosts");
            if tunnel.hosts.is_empty() {
                self.fault(&key, &[], "the list is empty");
            }
            if tunnel.traffic == Traffic::Resealed {
                self.resealed(edge, index, tunnel);
            }
            for host in &tunnel.hosts {
                self.unique(&mut hosts, &key, &host.to_string());
            }
        }
    }

    /// A host has at most one table for each of its tools, and a limited number, because they are searched for every
    /// call.
    fn tools(&mut self, all: &[ToolConfig]) {
        let (mut tools, mut of_host) = (BTreeMap::new(), BTreeMap::<String, usize>::new());
        for (index, tool) in all.iter().enumerate() {
            let key = format!("tool[{index}].tool");
            self.unique(&mut tools, &key, &format!("{} of {}", tool.tool.0, tool.host));
            let count = of_host.entry(tool.host.to_string()).or_default();
            *count += 1;
            if *count == TOOLS_PER_HOST_MAX + 1 {
                self.fault(&key, &[], &format!("a host has at most {TOOLS_PER_HOST_MAX} tables for its tools"));
            }
        }
    }

    /// Hedging needs the durations of the last calls, which are known only if deadlines are learned.
    fn hedges(&mut self, edge: &EdgeConfig) {
        for (index, host) in edge.hosts.iter().enumerate() {
            let mode = host.deadline.unwrap_or(edge.deadline);
            if host.hedge == Hedge::ReadOnly && mode == GuardMode::Off {
                let message = "a second try begins when a call takes longer than 95 % of the last ones, of which nothing is known \
                               with deadline = \"off\": set deadline to observe or enforce";
                self.fault(
                    &format!("host[{index}].hedge"),
                    &[&format!("host[{index}].deadline"), "edge.deadline"],
                    message,
                );
            }
        }
    }

    /// Resealed traffic requires the authority of the connector, and an edge with an authority of its own.
    fn resealed(&mut self, edge: &EdgeConfig, index: usize, tunnel: &TunnelConfig) {
        let key = format!("tunnel[{index}].seal_ca_file");
        if tunnel.seal_ca_file.is_none() {
            self.fault(
                &key,
                &[],
                "missing; resealed traffic needs the certificate of the connector's authority, which the connector writes to seal-ca.pem",
            );
        }
        if edge.data_dir.is_none() && edge.connectors_ca_file.is_none() {
            let message = "resealed traffic needs an edge with an authority of its own; set edge.data_dir";
            self.fault(&format!("tunnel[{index}].traffic"), &["edge.data_dir", "edge.connectors_ca_file"], message);
        }
    }

    fn listeners(&mut self, edge: &EdgeConfig) {
        let mut taken: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        let listeners = [
            ("edge.agents_listen", Some(edge.agents_listen)),
            ("edge.connectors_listen", Some(edge.connectors_listen)),
            ("edge.cloudflared_listen", edge.cloudflared_listen),
            ("edge.admin_listen", edge.admin_listen),
        ];
        for (key, address) in listeners {
            // Port 0 lets the system choose a free one.
            let Some(address) = address.filter(|address| address.port() != 0) else { continue };
            if let Some(other) = taken.insert(address, key) {
                self.fault(key, &[other], &format!("{address} is already used by {other}"));
            }
        }
    }

    fn admin(&mut self, section: &str, listen: Option<SocketAddr>, allowed: bool) {
        if listen.is_some_and(|address| !address.ip().is_loopback()) && !allowed {
            let allow = format!("{section}.allow_admin_off_loopback");
            self.fault(
                &format!("{section}.admin_listen"),
                &[&allow],
                "not a loopback address: anyone who can connect can read it; set allow_admin_off_loopback if that is intended",
            );
        }
    }

    fn pair(&mut self, (cert, key): (&str, &str), given: (bool, bool)) {
        match given {
            (true, false) => self.fault(cert, &[key], &format!("{key} must be set too")),
            (false, true) => self.fault(key, &[cert], &format!("{cert} must be set too")),
            _ => {}
        }
    }

    fn one_secret(&mut self, table: &str, inline: bool, file: bool) {
        let (key, other) = (format!("{table}.secret"), format!("{table}.secret_file"));
        match (inline, file) {
            (true, true) => self.fault(&key, &[&other], "secret and secret_file are both set; remove one"),
            (false, false) if !self.wrong.contains(&other) => {
                self.missing(&key, "missing; set secret or secret_file");
            }
            _ => {}
        }
    }

    /// Checks that a name is used only once.
    pub(super) fn unique(&mut self, seen: &mut BTreeMap<String, String>, key: &str, name: &str) {
        if self.wrong.contains(key) {
            return;
        }
        match seen.get(name) {
            Some(first) => {
                let message = format!("{name:?} is already used in {first}");
                self.fault(key, &[], &message);
            }
            None => _ = seen.insert(name.to_owned(), key.to_owned()),
        }
    }

    /// Adds a fault for a missing setting, unless the file could not be read at all.
    pub(super) fn missing(&mut self, key: &str, message: &str) {
        if !self.entries.unreadable {
            self.fault(key, &[], message);
        }
    }

    /// Adds a fault of `key` that involves `others`, unless one of them is invalid itself.
    pub(super) fn fault(&mut self, key: &str, others: &[&str], message: &str) {
        if !others.iter().copied().chain([key]).any(|key| self.wrong.contains(key)) {
            self.faults.push(ConfigError::new(self.entries.place(key), key, message));
        }
    }
}
