//! The tables of who may connect: the limits of the edge, and the named sets of networks.

use std::path::PathBuf;

use crate::config::section::section;
use crate::policy::{Member, Network, SetName};

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
