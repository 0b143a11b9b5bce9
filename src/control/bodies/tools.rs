//! The tools of servers, as `GET /v1/tools` shows them, and what is approved of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is known of the tools behind a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolsBody {
    /// The servers of routes with `pin`.
    pub servers: Vec<ServerToolsInfo>,
    /// Tools that may be taken for each other, 1,000 at the most.
    pub alike: Vec<AlikeTools>,
}

/// The tools of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerToolsInfo {
    /// The host of its route.
    pub route: String,
    /// The URL of the upstream; empty at an edge, which does not know it.
    pub upstream: String,
    /// What becomes of tools that nobody has approved.
    pub pin: PinName,
    /// How often a list named a tool that there was no room to remember.
    pub left_out: u64,
    /// Its tools, by name.
    pub tools: Vec<ListedTool>,
}

/// What becomes of tools that nobody has approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinName {
    /// New tools and changes are reported.
    Warn,
    /// They are hidden and cannot be called.
    Quarantine,
}

/// One tool of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedTool {
    /// The name by which it is called.
    pub name: String,
    /// Whether it is as it was approved.
    pub standing: StandingName,
    /// The SHA-256 of its definition: name, title, description, schemas and annotations, in canonical form (RFC 8785, but with
    /// numbers as the server writes them). Of one that can be read in two ways it is that of its bytes.
    pub sha256: String,
    /// When a list first named it (RFC 3339).
    #[schema(format = DateTime)]
    pub first_seen_at: String,
    /// When a list last named it.
    #[schema(format = DateTime)]
    pub last_seen_at: String,
    /// The digest of the definition that was approved.
    pub approved_sha256: Option<String>,
    /// When that definition was approved.
    #[schema(format = DateTime)]
    pub approved_at: Option<String>,
    /// The definition; null unless it is asked for, and for one of more than 64 KiB.
    pub definition: Option<String>,
    /// The definition that was approved.
    pub approved_definition: Option<String>,
}

/// How a tool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandingName {
    /// Nobody has approved it.
    New,
    /// Its definition is another one than that which was approved.
    Changed,
    /// It is as it was approved.
    Approved,
    /// Its definition can be read in two ways, so that nobody can approve it.
    Unreadable,
}

/// Tools that may be taken for each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlikeTools {
    /// Whether their names are the same; otherwise they look alike.
    pub same_name: bool,
    /// The first that has such a name, and this one.
    pub tools: Vec<ToolPlace>,
}

/// A tool of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolPlace {
    /// The host of its route.
    pub route: String,
    /// The name by which it is called.
    pub tool: String,
}

/// Which tools are approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTools {
    /// The host of the route.
    #[schema(min_length = 1, max_length = 255)]
    pub route: String,
    /// The tools. All are approved, or none.
    #[schema(min_items = 1, max_items = 200)]
    pub tools: Vec<ApprovedTool>,
    /// The reason, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A tool that is approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovedTool {
    /// The name by which it is called.
    #[schema(max_length = 256)]
    pub name: String,
    /// The digest of the definition that was looked at. If the tool has another one by now, nothing is approved.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: String,
}
