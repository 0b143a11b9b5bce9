//! Events, and the usage of a tunnel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An event, which records a change.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventInfo {
    /// Its position in the order of events.
    pub id: i64,
    /// The type of this object: always `event`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// When it happened (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// The kind of event: `tunnel.created`, `credential.revoked` and so on.
    pub what: String,
    /// The id of the tunnel that was changed.
    pub tunnel_id: Option<String>,
    /// The id of the credential, certificate or provisioning key that was changed.
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
    /// The start of the period; calls count from the beginning of that hour.
    #[schema(format = DateTime)]
    pub since: String,
    /// The number of all calls together.
    pub calls: u64,
    /// Usage by credential, route, method and tool, the latest first.
    pub data: Vec<UsageEntry>,
}

/// The calls with one credential and label.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageEntry {
    /// The credential with which the link was registered.
    pub credential_id: String,
    /// The name of the route.
    pub route: String,
    /// The MCP method, or the kind of request if there is none.
    pub method: String,
    /// The tool; null for other methods.
    pub tool: Option<String>,
    /// The number of these calls.
    pub calls: u64,
    /// When the first of them ended.
    #[schema(format = DateTime)]
    pub first_at: String,
    /// When the last of them ended.
    #[schema(format = DateTime)]
    pub last_at: String,
}
