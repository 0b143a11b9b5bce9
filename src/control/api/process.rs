//! `/healthz`, `/readyz`, `/v1/status` and `/v1/latency`: the state of the process, and the times of calls. They only read, and
//! need no token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Given;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::ValidQuery;
use super::error::ApiError;
use crate::control::bodies::{ErrorBody, HealthBody, HealthStatus, LatencyBody, ReadyBody, ReadyStatus, StatusBody};
use crate::control::state::State;

/// The calls whose times are reported.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LatencyQuery {
    /// The name of a route; all calls without it.
    route: Option<String>,
}

pub(super) fn routes() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(status)).routes(routes!(latency))
}

/// Whether every core of the process answers: 200 if so, 503 if not.
#[utoipa::path(
    get, path = "/healthz", tag = "process", operation_id = "health", security(()),
    responses(
        (status = 200, body = HealthBody), (status = 503, body = HealthBody), (status = "default", body = ErrorBody)
    )
)]
async fn health(Given(state): Given<Arc<State>>) -> (StatusCode, Json<HealthBody>) {
    let body = state.health().await;
    (status_of(body.status == HealthStatus::Ok), Json(body))
}

/// Whether calls can be expected to succeed: 200 if so, 503 if not.
#[utoipa::path(
    get, path = "/readyz", tag = "process", operation_id = "ready", security(()),
    responses(
        (status = 200, body = ReadyBody), (status = 503, body = ReadyBody), (status = "default", body = ErrorBody)
    )
)]
async fn ready(Given(state): Given<Arc<State>>) -> (StatusCode, Json<ReadyBody>) {
    let body = state.ready().await;
    (status_of(body.status == ReadyStatus::Ready), Json(body))
}

/// The state of the process: its cores, links, certificates, upstreams, routes, tunnels and counters.
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

const fn status_of(is_good: bool) -> StatusCode {
    if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
