//! What a report says.

use serde::Serialize;

/// The report of one edge or connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ToolReport {
    /// When it was made (RFC 3339).
    pub(super) made_at: String,
    /// Since when calls count.
    pub(super) since: String,
    /// `audit.mode` of the configuration.
    pub(super) audit: &'static str,
    /// The servers of all routes, those that are called most first.
    pub(super) servers: Vec<ServerReport>,
    /// Tools that may be taken for each other.
    pub(super) alike: Vec<String>,
    /// What the report does not know, and why.
    pub(super) gaps: Vec<String>,
}

/// One server, by its route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ServerReport {
    pub(super) route: String,
    /// Where it is, as far as this side knows.
    pub(super) upstream: String,
    pub(super) calls: u64,
    pub(super) denied: u64,
    /// When it was last called (RFC 3339).
    pub(super) last_call: Option<String>,
    /// Who calls it most, with the number of calls.
    pub(super) callers: Vec<Count>,
    pub(super) callers_count: usize,
    /// The tools that were called or listed, by name.
    pub(super) tools: Vec<ToolUse>,
    /// What else the server offers.
    pub(super) others: Vec<Offered>,
    /// The names of tools that agents can call, and that nobody has approved as they are.
    pub(super) unapproved: Vec<String>,
    /// Whether it is known what agents can call.
    pub(super) is_inventoried: bool,
    /// Who would notice what.
    pub(super) notices: Vec<Notice>,
}

/// How much a server offers of one kind: prompts, resources or templates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Offered {
    /// `prompt`, `resource` or `template`.
    pub(super) kind: &'static str,
    pub(super) count: usize,
    /// How many nobody has approved as they are.
    pub(super) unapproved: usize,
}

/// How often something was counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Count {
    pub(super) name: String,
    pub(super) calls: u64,
}

/// One tool of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct ToolUse {
    pub(super) name: String,
    pub(super) calls: u64,
    pub(super) denied: u64,
    /// `new`, `changed`, `approved`, `unreadable`, or `unknown` if no list has named it.
    pub(super) standing: &'static str,
}

/// Whether something would be noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Notice {
    pub(super) is_good: bool,
    pub(super) what: String,
}
