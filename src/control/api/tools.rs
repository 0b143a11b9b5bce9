//! `/v1/tools`: the tools of servers with `pin`, and their approval.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Given;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{JsonObject, ValidQuery};
use super::error::ApiError;
use super::{Api, to_the_end};
use crate::control::bodies::{
    AlikeTools, ApproveTools, ErrorBody, ListedTool, OfferName, PinName, ServerToolsInfo, StandingName, ToolPlace,
    ToolsBody,
};
use crate::control::given_text::checked_reason;
use crate::control::inventories::{ServerTools, ToolApprovalError, alike_names};
use crate::control::state::State;
use crate::control::wall_time::WallTime;
use crate::policy::{NotApproved, OfferKind, PinMode, ToolDigest, ToolRecord, ToolStanding};

/// The most tools that one request can approve.
const APPROVED_MAX: usize = 200;

/// The query for tools.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ToolsQuery {
    /// Only tools behind this host.
    route: Option<String>,
    /// Include the definitions of the tools.
    #[serde(default)]
    #[param(default = false)]
    definitions: bool,
}

/// The tools of the servers of all routes with `pin`, as listed by the servers, and their approval.
#[utoipa::path(
    get, path = "/v1/tools", tag = "tools", operation_id = "tools", security(()), params(ToolsQuery),
    responses((status = 200, body = ToolsBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(
    Given(state): Given<Arc<State>>,
    ValidQuery(ToolsQuery { route, definitions }): ValidQuery<ToolsQuery>,
) -> Json<ToolsBody> {
    let all = state.inventories().all();
    let names = all.iter().map(|server| (&*server.route, &*server.tools));
    let alike = alike_names(names).into_iter().map(|found| AlikeTools {
        same_name: found.is_same,
        tools: found.tools.map(|(route, tool)| ToolPlace { route, kind: offer_name(found.kind), tool }).into(),
    });
    let is_of = |place: &ToolPlace| route.as_ref().is_none_or(|route| place.route == *route);
    let alike = alike.filter(|alike| alike.tools.iter().any(is_of)).collect();
    let wanted = all.into_iter().filter(|server| route.as_ref().is_none_or(|route| server.route == *route));
    Json(ToolsBody { servers: wanted.map(|server| server_info(server, definitions)).collect(), alike })
}

/// Approves the definitions of tools, by their digests. Their route then lists them and allows calls of them, until the
/// server changes them. A connector needs `connect.admin_token_file`.
#[utoipa::path(
    post, path = "/v1/tools/approve", tag = "tools", operation_id = "approve_tools", request_body = ApproveTools,
    responses((status = 200, body = ToolsBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn approve(
    Given(api): Given<Api>,
    JsonObject(wanted): JsonObject<ApproveTools>,
) -> Result<Json<ToolsBody>, ApiError> {
    let ApproveTools { route, tools, reason } = wanted;
    if !(1..=APPROVED_MAX).contains(&tools.len()) {
        return Err(ApiError::invalid("tools has to be a list of 1 to 200 tools"));
    }
    checked_reason(reason.as_ref())?;
    let parsed =
        tools.into_iter().map(|tool| Some((offer_kind(tool.kind), tool.name, ToolDigest::parse(&tool.sha256)?)));
    let parsed: Option<Vec<_>> = parsed.collect();
    let parsed = parsed.ok_or_else(|| ApiError::invalid("sha256 has to be 64 hexadecimal digits"))?;
    let inventories = Arc::clone(api.state.inventories());
    let of = route.clone();
    to_the_end(async move { inventories.approve(&of, &parsed, reason.as_deref()).await }).await?;
    let servers = api.state.inventories().all().into_iter().filter(|server| server.route == route);
    Ok(Json(ToolsBody { servers: servers.map(|server| server_info(server, false)).collect(), alike: Vec::new() }))
}

impl From<ToolApprovalError> for ApiError {
    fn from(error: ToolApprovalError) -> ApiError {
        let (status, code) = match &error {
            ToolApprovalError::NoServer => (StatusCode::NOT_FOUND, "route_not_found"),
            ToolApprovalError::Tool { why: NotApproved::Unknown, .. } => (StatusCode::NOT_FOUND, "tool_not_found"),
            ToolApprovalError::Tool { why: NotApproved::OtherDigest, .. } => (StatusCode::CONFLICT, "tool_changed"),
            ToolApprovalError::Tool { why: NotApproved::Unreadable, .. } => (StatusCode::CONFLICT, "tool_unreadable"),
            ToolApprovalError::Unrecorded => (StatusCode::SERVICE_UNAVAILABLE, "audit_unavailable"),
            ToolApprovalError::NotKept(_) => (StatusCode::INTERNAL_SERVER_ERROR, "not_kept"),
        };
        let message: String = error.to_string().chars().filter(|c| !c.is_control()).take(500).collect();
        ApiError::new(status, code, message)
    }
}

fn offer_name(kind: OfferKind) -> OfferName {
    match kind {
        OfferKind::Tool => OfferName::Tool,
        OfferKind::Prompt => OfferName::Prompt,
        OfferKind::Resource => OfferName::Resource,
        OfferKind::Template => OfferName::Template,
    }
}

fn offer_kind(name: OfferName) -> OfferKind {
    match name {
        OfferName::Tool => OfferKind::Tool,
        OfferName::Prompt => OfferKind::Prompt,
        OfferName::Resource => OfferKind::Resource,
        OfferName::Template => OfferKind::Template,
    }
}

fn server_info(server: ServerTools, definitions: bool) -> ServerToolsInfo {
    ServerToolsInfo {
        route: server.route,
        upstream: server.upstream,
        pin: if server.mode == PinMode::Quarantine { PinName::Quarantine } else { PinName::Warn },
        left_out: server.left_out,
        tools: server.tools.into_iter().map(|tool| tool_info(tool, definitions)).collect(),
    }
}

fn tool_info(tool: ToolRecord, definitions: bool) -> ListedTool {
    let standing = match tool.standing() {
        ToolStanding::New => StandingName::New,
        ToolStanding::Changed => StandingName::Changed,
        ToolStanding::Approved => StandingName::Approved,
        ToolStanding::Unreadable => StandingName::Unreadable,
    };
    let time = |ms| WallTime(ms).to_string();
    ListedTool {
        kind: offer_name(tool.kind),
        standing,
        name: tool.name,
        sha256: tool.digest,
        first_seen_at: time(tool.first_seen_ms),
        last_seen_at: time(tool.last_seen_ms),
        approved_at: tool.approved.as_ref().map(|approved| time(approved.at_ms)),
        approved_sha256: tool.approved.as_ref().map(|approved| approved.digest.clone()),
        definition: tool.definition.filter(|_| definitions),
        approved_definition: tool.approved.and_then(|approved| approved.definition).filter(|_| definitions),
    }
}
