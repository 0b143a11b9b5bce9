//! `/v1/provisioning_keys`: secrets with which many new machines each get their own tunnel; and `/v1/events`.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{JsonObject, PlainPageQuery, ValidQuery, page};
use super::convert::text;
use super::error::ApiError;
use super::{Api, tunnel_id};
use crate::control::bodies::{CreateKey, CreatedKey, ErrorBody, EventInfo, KeyInfo, ListPart};

/// The tunnel whose events are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Only events of this tunnel; by default of all.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    tunnel_id: Option<String>,
    /// The most entries of the page.
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: Option<u32>,
    /// The `next_page` of the previous page.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    page: Option<String>,
}

/// Creates a provisioning key. Its secret is shown only in this answer.
#[utoipa::path(
    post, path = "/v1/provisioning_keys", tag = "provisioning keys", operation_id = "create_key",
    request_body = CreateKey,
    responses((status = 200, body = CreatedKey), (status = "default", body = ErrorBody))
)]
pub(super) async fn create(
    State(api): State<Api>,
    JsonObject(wanted): JsonObject<CreateKey>,
) -> Result<Json<CreatedKey>, ApiError> {
    let tunnels = api.tunnels()?;
    let (key, secret) = tunnels.create_key(wanted).await?;
    let edge = tunnels.settings().connectors.clone();
    Ok(Json(CreatedKey { key: KeyInfo::of(key), secret: text(&secret), edge }))
}

/// Lists provisioning keys, the newest first.
#[utoipa::path(
    get, path = "/v1/provisioning_keys", tag = "provisioning keys", operation_id = "list_keys",
    params(PlainPageQuery),
    responses((status = 200, body = ListPart<KeyInfo>), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(
    State(api): State<Api>,
    ValidQuery(query): ValidQuery<PlainPageQuery>,
) -> Result<Json<ListPart<KeyInfo>>, ApiError> {
    Ok(Json(ListPart::of(api.tunnels()?.keys(query.page()?).await?, KeyInfo::of)))
}

/// Returns one provisioning key, without its secret.
#[utoipa::path(
    get, path = "/v1/provisioning_keys/{key_id}", tag = "provisioning keys", operation_id = "get_key",
    params(("key_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = KeyInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn get(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<KeyInfo>, ApiError> {
    Ok(Json(KeyInfo::of(api.tunnels()?.key(id).await?)))
}

/// Revokes a provisioning key. Tunnels that were created with it stay. Revoking it again changes nothing.
#[utoipa::path(
    post, path = "/v1/provisioning_keys/{key_id}/revoke", tag = "provisioning keys", operation_id = "revoke_key",
    params(("key_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = KeyInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn revoke(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<KeyInfo>, ApiError> {
    Ok(Json(KeyInfo::of(api.tunnels()?.revoke_key(id).await?)))
}

/// Lists events, the newest first.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "list_events", params(EventsQuery),
    responses((status = 200, body = ListPart<EventInfo>), (status = "default", body = ErrorBody))
)]
pub(super) async fn events(
    State(api): State<Api>,
    ValidQuery(query): ValidQuery<EventsQuery>,
) -> Result<Json<ListPart<EventInfo>>, ApiError> {
    let tunnel = query.tunnel_id.as_deref().map(tunnel_id).transpose()?;
    let page = page(query.limit.unwrap_or(20), query.page.as_deref())?;
    Ok(Json(ListPart::of(api.tunnels()?.events(tunnel, page).await?, EventInfo::of)))
}
