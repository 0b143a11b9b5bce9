//! Tunnels, their secrets and their links.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::numbers::whole_if;
use crate::base::Traffic;

/// A request to create a tunnel.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTunnel {
    /// A name for display only.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub display_name: Option<String>,
    /// Its hosts, each a name, or `*.` and a name. Without hosts the edge chooses one below its `tunnel_domain`.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub hosts: Vec<HostPatternText>,
    /// The traffic of its calls; plain by default.
    pub traffic: Option<TrafficKind>,
    /// Networks or addresses from which its connectors may connect; by default all.
    #[schema(max_items = 256)]
    pub connectors_from: Option<Vec<NetworkText>>,
    /// Sources from which agents may call it, among those that the edge allows for all tunnels; by default all.
    #[schema(max_items = 256)]
    pub allow_from: Option<Vec<MemberText>>,
    /// Sources from which agents may not call it; takes precedence over `allow_from`.
    #[schema(max_items = 256)]
    pub deny_from: Option<Vec<MemberText>>,
    /// Whether calls that `allow_from` and `deny_from` would refuse are only counted and logged.
    pub admission_dry_run: Option<bool>,
}

/// A change of a tunnel. Members that are missing or null are not changed; a list replaces the whole current list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateTunnel {
    /// A name for display only.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub display_name: Option<String>,
    /// All of its hosts.
    #[schema(min_items = 1, max_items = 64)]
    pub hosts: Option<Vec<HostPatternText>>,
    /// The traffic of its calls. The routes of its connectors must have the same setting.
    pub traffic: Option<TrafficKind>,
    /// Networks or addresses from which its connectors may connect; all if empty. Links from other addresses are ended.
    #[schema(max_items = 256)]
    pub connectors_from: Option<Vec<NetworkText>>,
    /// Sources from which agents may call it; all if empty.
    #[schema(max_items = 256)]
    pub allow_from: Option<Vec<MemberText>>,
    /// Sources from which agents may not call it; takes precedence over `allow_from`.
    #[schema(max_items = 256)]
    pub deny_from: Option<Vec<MemberText>>,
    /// Whether calls that `allow_from` and `deny_from` would refuse are only counted and logged.
    pub admission_dry_run: Option<bool>,
    /// The reason, for the list of events.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A host: a name, or `*.` and a name, which matches every host with one more label.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(
    max_length = 200,
    pattern = "^(\\*\\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\\.){0,5}[A-Za-z]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$"
)]
pub struct HostPatternText(pub String);

/// The traffic of a tunnel's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficKind {
    /// Encrypted by the link's TLS only: the edge can read calls.
    Plain,
    /// The edge re-encrypts each call, in a TLS session that ends in the connector. This requires a registered
    /// certificate.
    Resealed,
    /// The agent's own TLS ends in the connector: the edge reads only the server name.
    Passthrough,
}

/// A network (`10.0.0.0/8`, `fd00::/8`), or one address. No bit may be set beyond the prefix.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(max_length = 49, pattern = "^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$")]
pub struct NetworkText(pub String);

/// A network or an address; the number of an autonomous system (`AS64500`), which requires the edge's `asn_file`; or a
/// set of networks of the edge (`set:vendor`).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(max_length = 80, pattern = "^([0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?|AS[0-9]{1,10}|set:[A-Za-z0-9._-]{1,64})$")]
pub struct MemberText(pub String);

/// The reason for a change.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The reason, for the list of events.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A request for a new secret.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateToken {
    /// For how many seconds the old secret stays valid; an hour by default.
    #[serde(default, deserialize_with = "whole_if")]
    #[schema(minimum = 0, maximum = 2592000)]
    pub overlap_s: Option<u64>,
    /// The reason, for the list of events.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A request to revoke credentials.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// The credential to revoke; by default all credentials of the tunnel.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub credential_id: Option<String>,
    /// The reason, for the list of events.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// The state of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// A connector is linked and takes calls.
    Online,
    /// No connector is linked.
    Offline,
    /// It has no valid credential: no connector can serve it until a new one is created by a rotation.
    Revoked,
    /// It was archived, which is final.
    Archived,
}

/// A tunnel and its state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TunnelInfo {
    /// The id of the tunnel.
    #[schema(example = "tnl_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// The type of this object: always `tunnel`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// A name for display only.
    pub display_name: Option<String>,
    /// The first of its hosts.
    pub domain: String,
    /// The hosts that agents call, each a name or `*.` and a name.
    pub hosts: Vec<String>,
    /// The hosts for which no linked connector has a route, so that their calls fail; empty if no connector is linked.
    pub hosts_unserved: Vec<String>,
    /// The traffic of its calls.
    pub traffic: TrafficKind,
    /// Networks or addresses from which its connectors may connect; all if empty.
    pub connectors_from: Vec<String>,
    /// Sources from which agents may call it; all if empty.
    pub allow_from: Vec<String>,
    /// Sources from which agents may not call it; takes precedence over `allow_from`.
    pub deny_from: Vec<String>,
    /// Whether calls that `allow_from` and `deny_from` would refuse are only counted and logged.
    pub admission_dry_run: bool,
    /// When it was created (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was archived.
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
    /// Whether it can be called, or why not.
    pub state: TunnelState,
    /// The number of established links.
    pub connections: u32,
    /// The number of its active certificates.
    pub certificates_active: u32,
    /// The valid credentials, the newest first.
    pub credentials: Vec<CredentialInfo>,
    /// The provisioning key with which it was created.
    pub provisioning_key_id: Option<String>,
}

/// A credential, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialInfo {
    /// The id of the credential.
    pub id: String,
    /// When it was created.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it expires, if another has replaced it.
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

/// A credential with its secret, which is shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// The id of the credential; a rotation creates another.
    pub id: String,
    /// The type of this object: always `tunnel_token`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The id of the tunnel.
    pub tunnel_id: String,
    /// Id and secret in one string, for `adit connect --token`.
    pub tunnel_token: String,
    /// The secret alone, for `adit connect --id … --secret …`.
    pub secret: String,
    /// The address that connectors dial: `HOST:PORT`.
    pub edge: String,
    /// When the replaced credential expires, if there is one.
    #[schema(format = DateTime)]
    pub previous_until: Option<String>,
}

/// A tunnel that was just created.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedTunnel {
    /// The tunnel as it is now.
    #[serde(flatten)]
    pub tunnel: TunnelInfo,
    /// Its first credential. The secret is shown only here.
    pub token: IssuedToken,
    /// Warnings for people, for example that its hosts and those of other tunnels overlap.
    pub warnings: Vec<String>,
}

/// A tunnel that was just changed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UpdatedTunnel {
    /// The tunnel as it is now.
    #[serde(flatten)]
    pub tunnel: TunnelInfo,
    /// Warnings for people, for example that its new hosts and those of other tunnels overlap.
    pub warnings: Vec<String>,
}

/// The outcome of a revocation.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Revocation {
    /// The type of this object: always `tunnel_revocation`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The tunnel as it is now.
    pub tunnel: TunnelInfo,
    /// The number of links that were ended.
    pub links_ended: u32,
    /// The number of cores that did not confirm in time that links were ended. They are asked again.
    pub cores_silent: u32,
}

/// A link of a connector.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionInfo {
    /// Its number, unique within this process.
    pub id: u64,
    /// The type of this object: always `tunnel_connection`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The core that carries it.
    pub core: u16,
    /// The credential with which it was registered.
    pub credential_id: Option<String>,
    /// The connector, the same for all of its links.
    pub connector: Option<String>,
    /// The hosts for which the connector has routes; null if it has not reported them.
    pub hosts: Option<Vec<String>>,
    /// The name and version of the connector's software, as the connector reports them.
    pub software: String,
    /// The number of calls in flight on it.
    pub calls: u32,
    /// Its round-trip time in milliseconds, if it was measured.
    pub round_trip_ms: Option<f64>,
    /// Seconds since it was registered.
    pub age_s: f64,
    /// Whether it takes no new calls.
    pub draining: bool,
}

impl From<TrafficKind> for Traffic {
    fn from(kind: TrafficKind) -> Traffic {
        match kind {
            TrafficKind::Plain => Traffic::Plain,
            TrafficKind::Resealed => Traffic::Resealed,
            TrafficKind::Passthrough => Traffic::Passthrough,
        }
    }
}

impl From<Traffic> for TrafficKind {
    fn from(traffic: Traffic) -> TrafficKind {
        match traffic {
            Traffic::Plain => TrafficKind::Plain,
            Traffic::Resealed => TrafficKind::Resealed,
            Traffic::Passthrough => TrafficKind::Passthrough,
        }
    }
}
