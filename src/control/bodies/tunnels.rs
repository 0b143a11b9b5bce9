//! Tunnels, their secrets and their links.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::numbers::whole_if;
use crate::base::Traffic;

/// A tunnel that is wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTunnel {
    /// What people call it.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub display_name: Option<String>,
    /// Its hosts, each a name or `*.` and a name. Without any the edge makes one up below its `tunnel_domain`.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub hosts: Vec<HostText>,
    /// How its calls are carried; plain without it.
    pub traffic: Option<TrafficKind>,
    /// From where its connectors may come: networks, or single addresses. From everywhere without any.
    #[schema(max_items = 256)]
    pub connectors_from: Option<Vec<NetworkText>>,
    /// From where agents may call it, besides what the edge says for all. From everywhere without any.
    #[schema(max_items = 256)]
    pub allow_from: Option<Vec<MemberText>>,
    /// From where agents may not call it; stronger than `allow_from`.
    #[schema(max_items = 256)]
    pub deny_from: Option<Vec<MemberText>>,
    /// Whether the two lists for agents only count and log whom they would turn away.
    pub admission_dry_run: Option<bool>,
}

/// What is to become of a tunnel. What is left out, or null, stays as it is; a list that is given takes the place of the
/// whole list.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateTunnel {
    /// What people call it.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub display_name: Option<String>,
    /// All of its hosts.
    #[schema(min_items = 1, max_items = 64)]
    pub hosts: Option<Vec<HostText>>,
    /// How its calls are carried. Its connectors must be told the same.
    pub traffic: Option<TrafficKind>,
    /// From where its connectors may come; from everywhere if it is empty. Links that came from elsewhere end.
    #[schema(max_items = 256)]
    pub connectors_from: Option<Vec<NetworkText>>,
    /// From where agents may call it; from everywhere if it is empty.
    #[schema(max_items = 256)]
    pub allow_from: Option<Vec<MemberText>>,
    /// From where agents may not call it; stronger than `allow_from`.
    #[schema(max_items = 256)]
    pub deny_from: Option<Vec<MemberText>>,
    /// Whether the two lists for agents only count and log whom they would turn away.
    pub admission_dry_run: Option<bool>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A host: a name, or `*.` and a name for every host of one label more.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(
    max_length = 200,
    pattern = "^(\\*\\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\\.){0,5}[A-Za-z]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$"
)]
pub struct HostText(pub String);

/// How a tunnel's calls are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficKind {
    /// Under the link's TLS alone: the edge reads them.
    Plain,
    /// The edge seals each call again, in a TLS session that ends in the connector. That needs a registered certificate.
    Resealed,
    /// The agent's own TLS ends in the connector: the edge reads nothing but the name.
    Passthrough,
}

/// A network (`10.0.0.0/8`, `fd00::/8`), or one address. No bit is set beyond its prefix.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(max_length = 49, pattern = "^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$")]
pub struct NetworkText(pub String);

/// A network or an address; the number of an autonomous system (`AS64500`), for which the edge needs its `asn_file`; or a set
/// of networks of the edge (`set:vendor`).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(max_length = 80, pattern = "^([0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?|AS[0-9]{1,10}|set:[A-Za-z0-9._-]{1,64})$")]
pub struct MemberText(pub String);

/// Why something is done.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A new secret is wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateToken {
    /// For how many seconds the old secret stays good; an hour unless this says something else.
    #[serde(default, deserialize_with = "whole_if")]
    #[schema(minimum = 0, maximum = 2592000)]
    pub overlap_s: Option<u64>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// Secrets are to be withdrawn.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// Which credential; without it all of the tunnel's.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    pub credential_id: Option<String>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// How a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// A connector is linked and takes calls.
    Online,
    /// No connector is linked.
    Offline,
    /// No credential is good: nobody can serve it until it is rotated.
    Revoked,
    /// It was given up for good.
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
    /// What people call it.
    pub display_name: Option<String>,
    /// The first of its hosts.
    pub domain: String,
    /// The hosts that agents call, each a name or `*.` and a name.
    pub hosts: Vec<String>,
    /// How its calls are carried.
    pub traffic: TrafficKind,
    /// From where its connectors may come; from everywhere if it is empty.
    pub connectors_from: Vec<String>,
    /// From where agents may call it; from everywhere if it is empty.
    pub allow_from: Vec<String>,
    /// From where agents may not call it; stronger than `allow_from`.
    pub deny_from: Vec<String>,
    /// Whether the two lists for agents are only tried out.
    pub admission_dry_run: bool,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was given up for good.
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
    /// Whether it can be called, and why not.
    pub state: TunnelState,
    /// Links of connectors that are up.
    pub connections: u32,
    /// Certificates that are registered with it and active.
    pub certificates_active: u32,
    /// The credentials that are good, the newest first.
    pub credentials: Vec<CredentialInfo>,
    /// The provisioning key for which it was made.
    pub provisioning_key_id: Option<String>,
}

/// A credential, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialInfo {
    /// The id of the credential.
    pub id: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends, if another has taken its place.
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

/// A credential with its secret, which is shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// The id of the credential; a rotation makes another.
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
    /// Where connectors dial: `HOST:PORT`.
    pub edge: String,
    /// When the credential ends that this one replaces, if one does.
    #[schema(format = DateTime)]
    pub previous_until: Option<String>,
}

/// A tunnel that was just made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedTunnel {
    /// The tunnel as it is now.
    #[serde(flatten)]
    pub tunnel: TunnelInfo,
    /// Its first credential. This is the one time that the secret is shown.
    pub token: IssuedToken,
    /// What was done and may not have been meant, for people: where its hosts and those of other tunnels overlap.
    pub warnings: Vec<String>,
}

/// A tunnel that was just changed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UpdatedTunnel {
    /// The tunnel as it is now.
    #[serde(flatten)]
    pub tunnel: TunnelInfo,
    /// What was done and may not have been meant, for people: where its new hosts and those of other tunnels overlap.
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
    /// How many links were ended.
    pub links_ended: u32,
    /// How many cores did not say within the time that they had done so. They are told again.
    pub cores_silent: u32,
}

/// A link of a connector.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ConnectionInfo {
    /// Its number, unlike that of any other link of this process.
    pub id: u64,
    /// The type of this object: always `tunnel_connection`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The core that carries it.
    pub core: u16,
    /// The credential that it came in with.
    pub credential_id: Option<String>,
    /// What the connector says that it runs.
    pub software: String,
    /// Calls that are under way on it.
    pub calls: u32,
    /// Its own round trip, when it was measured, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// For how long it has been there, in seconds.
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
