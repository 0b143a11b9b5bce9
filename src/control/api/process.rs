//! `/v1/status` and `/v1/latency`: how the process is, and the times of calls. They only read, and need no token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Given;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::ValidQuery;
use super::error::ApiError;
use crate::control::bodies::{ErrorBody, LatencyBody, StatusBody};
use crate::control::state::State;

/// Of which calls the times are wanted.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LatencyQuery {
    /// The name of a route; all calls without it.
    route: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(latency))
}

/// How the process is: its cores, links, certificates, upstreams, routes, tunnels and counters.
#[utoipa::path(
    get, path = "/v1/status", tag = "process", operation_id = "status", security(()),
    responses((status = 200, body = StatusBody), (status = "default", body = ErrorBody))
)]
async fn status(Given(state): Given<Arc<State>>) -> Json<StatusBody> {
    Json(state.report().await.status_body(&state.served()))
}

/// The times of calls, taken apart into phases, for each route, MCP method and tool.
#[utoipa::path(
    get, path = "/v1/latency", tag = "process", operation_id = "latency", security(()), params(LatencyQuery),
    responses((status = 200, body = LatencyBody), (status = "default", body = ErrorBody))
)]
async fn latency(
    Given(state): Given<Arc<State>>,
    ValidQuery(query): ValidQuery<LatencyQuery>,
) -> Result<Json<LatencyBody>, ApiError> {
    Ok(Json(state.report().await.latency_body(query.route.as_deref())))
}
