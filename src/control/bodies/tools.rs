//! `GET /v1/tools`: the tools of servers, and their approval.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The tools behind a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolsBody {
    /// The servers of routes with `pin`.
    pub servers: Vec<ServerToolsInfo>,
    /// Tools, and prompts, with similar names, at most 1,000.
    pub alike: Vec<AlikeTools>,
}

/// The tools of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerToolsInfo {
    /// The host of its route.
    pub route: String,
    /// The URL of the upstream; empty at an edge, which does not know it.
    pub upstream: String,
    /// The treatment of tools that are not approved.
    pub pin: PinName,
    /// How often a listed tool was not stored because the table was full.
    pub left_out: u64,
    /// Its tools, prompts, resources and templates, by name.
    pub tools: Vec<ListedTool>,
}

/// The treatment of tools that are not approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PinName {
    /// New tools and changes are reported.
    Warn,
    /// New and changed tools are hidden and cannot be called.
    Quarantine,
}

/// What a server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferName {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A prompt, by its name.
    Prompt,
    /// A resource, by its URI.
    Resource,
    /// A template of resources, by its URI template.
    Template,
}

/// One tool of a server, or something else that it offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListedTool {
    /// What kind of offer it is.
    pub kind: OfferName,
    /// The name by which it is called; the URI of a resource, or the URI template.
    pub name: String,
    /// Whether its definition is the approved one.
    pub standing: StandingName,
    /// The SHA-256 of its definition: name, title, description, schemas, arguments, media type and annotations, in canonical
    /// form (RFC 8785, but with numbers as the server writes them). For an ambiguous definition it is the hash of its bytes.
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
    /// The definition; null unless requested, and if it is longer than 64 KiB.
    pub definition: Option<String>,
    /// The definition that was approved.
    pub approved_definition: Option<String>,
}

/// The approval status of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StandingName {
    /// It has not been approved.
    New,
    /// Its definition differs from the approved one.
    Changed,
    /// Its definition is the approved one.
    Approved,
    /// Its definition is ambiguous, so it cannot be approved.
    Unreadable,
}

/// Tools whose names are equal or look alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlikeTools {
    /// Whether their names are the same; otherwise they look alike.
    pub same_name: bool,
    /// The first tool with such a name, and this one.
    pub tools: Vec<ToolPlace>,
}

/// A tool, or a prompt, of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolPlace {
    /// The host of its route.
    pub route: String,
    /// What kind of offer it is.
    pub kind: OfferName,
    /// The name by which it is called.
    pub tool: String,
}

/// A request to approve tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTools {
    /// The host of the route.
    #[schema(min_length = 1, max_length = 255)]
    pub route: String,
    /// The tools; either all or none are approved.
    #[schema(min_items = 1, max_items = 200)]
    pub tools: Vec<ApprovedTool>,
    /// The reason, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub reason: Option<String>,
}

/// A tool to approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovedTool {
    /// What kind of offer it is.
    #[serde(default)]
    pub kind: OfferName,
    /// The name by which it is called; the URI of a resource, or the URI template.
    #[schema(max_length = 512)]
    pub name: String,
    /// The digest of the reviewed definition. If the tool has another one now, nothing is approved.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub sha256: String,
}
