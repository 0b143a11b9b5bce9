//! Events, and the usage of a tunnel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An event: something that was changed.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventInfo {
    /// Its place in the order of events.
    pub id: i64,
    /// The type of this object: always `event`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// When it happened (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// What happened: `tunnel.created`, `credential.revoked` and so on.
    pub what: String,
    /// The tunnel to which it happened.
    pub tunnel_id: Option<String>,
    /// The credential, certificate or provisioning key to which it happened.
    pub subject_id: Option<String>,
    /// The reason that was given with the request.
    pub reason: Option<String>,
}

/// The calls over a tunnel's links.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// The type of this object: always `tunnel_usage`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The id of the tunnel.
    pub tunnel_id: String,
    /// From when on; calls count from the beginning of that hour.
    #[schema(format = DateTime)]
    pub since: String,
    /// The number of all calls together.
    pub calls: u64,
    /// By credential and what was called, the latest first.
    pub data: Vec<UsageEntry>,
}

/// How often one thing was called.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageEntry {
    /// The credential with which the link came in.
    pub credential_id: String,
    /// The name of the route.
    pub route: String,
    /// The MCP method, or the kind of request if there is none.
    pub method: String,
    /// The tool; null for other methods.
    pub tool: Option<String>,
    /// How many calls of this kind ended.
    pub calls: u64,
    /// When the first of them ended.
    #[schema(format = DateTime)]
    pub first_at: String,
    /// When the last of them ended.
    #[schema(format = DateTime)]
    pub last_at: String,
}
