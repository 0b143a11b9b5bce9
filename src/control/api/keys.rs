//! `/v1/provisioning_keys`: one secret that many new hosts trade for a tunnel of their own; and the record of what was
//! done.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::body::{Asked, ListBody, Object, PlainPageQuery, checked_name, page, whole, whole_if};
use super::error::{ApiError, ErrorBody};
use super::shapes::{CreatedKeyBody, EventBody, KeyBody, text};
use super::{Api, tunnel_id};
use crate::control::tunnels::WantedKey;

/// How long a key is good unless something else is asked for: a day.
const LIFE_PRESET: Duration = Duration::from_secs(24 * 3_600);

/// A provisioning key that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// What people call it.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    display_name: Option<String>,
    /// What the names of hosts must look like; `*` stands for any letters, digits and hyphens. Any name without it.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9*-]+$")]
    name_template: Option<String>,
    /// The hosts of each tunnel, with `{name}` for the host's name. Without any the edge makes them up.
    #[serde(default)]
    #[schema(max_items = 64)]
    hosts: Vec<NamedHostText>,
    /// How many hosts may use it.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 100000)]
    uses_max: u64,
    /// For how many seconds it is good; a day unless this says something else.
    #[serde(default, deserialize_with = "whole_if")]
    #[schema(minimum = 1, maximum = 31622400)]
    life_s: Option<u64>,
}

/// A host with `{name}` in it.
#[derive(Deserialize, ToSchema)]
#[schema(
    max_length = 120,
    pattern = "^(\\*\\.)?([A-Za-z0-9]{1,10}-)?\\{name\\}(-[A-Za-z0-9]{1,10})?(\\.[A-Za-z]([A-Za-z0-9-]{0,15}[A-Za-z0-9])?){1,4}$"
)]
struct NamedHostText(String);

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// Those of one tunnel; of all without it.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    tunnel_id: Option<String>,
    /// At most so many entries.
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: Option<u32>,
    /// The `next_page` of the part before.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    page: Option<String>,
}

/// Makes a provisioning key. Its secret is shown in this answer, and never again.
#[utoipa::path(
    post, path = "/v1/provisioning_keys", tag = "provisioning keys", operation_id = "create_key",
    request_body = CreateKey,
    responses((status = 200, body = CreatedKeyBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn create(
    State(api): State<Api>,
    Object(wanted): Object<CreateKey>,
) -> Result<Json<CreatedKeyBody>, ApiError> {
    let tunnels = api.tunnels()?;
    let wanted = WantedKey {
        display_name: checked_name(wanted.display_name)?,
        name_template: wanted.name_template.unwrap_or_else(|| "*".to_owned()),
        hosts: wanted.hosts.into_iter().map(|host| host.0).collect(),
        uses_max: u32::try_from(wanted.uses_max).unwrap_or(u32::MAX),
        life: wanted.life_s.map_or(LIFE_PRESET, Duration::from_secs),
    };
    let (key, secret) = tunnels.create_key(wanted).await?;
    let edge = tunnels.settings().connectors.clone();
    Ok(Json(CreatedKeyBody { key: KeyBody::of(key), secret: text(&secret), edge }))
}

/// Provisioning keys, the newest first.
#[utoipa::path(
    get, path = "/v1/provisioning_keys", tag = "provisioning keys", operation_id = "list_keys",
    params(PlainPageQuery),
    responses((status = 200, body = ListBody<KeyBody>), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Asked(query): Asked<PlainPageQuery>,
) -> Result<Json<ListBody<KeyBody>>, ApiError> {
    Ok(Json(ListBody::of(api.tunnels()?.keys(query.page()?).await?, KeyBody::of)))
}

/// One provisioning key.
#[utoipa::path(
    get, path = "/v1/provisioning_keys/{key_id}", tag = "provisioning keys", operation_id = "get_key",
    params(("key_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = KeyBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn get(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<KeyBody>, ApiError> {
    Ok(Json(KeyBody::of(api.tunnels()?.key(id).await?)))
}

/// Withdraws a provisioning key. Tunnels that were made for it stay. Once more changes nothing.
#[utoipa::path(
    post, path = "/v1/provisioning_keys/{key_id}/revoke", tag = "provisioning keys", operation_id = "revoke_key",
    params(("key_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = KeyBody), (status = "default", body = ErrorBody))
)]
pub(super) async fn revoke(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<KeyBody>, ApiError> {
    Ok(Json(KeyBody::of(api.tunnels()?.revoke_key(id).await?)))
}

/// What was done, the newest first.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "list_events", params(EventsQuery),
    responses((status = 200, body = ListBody<EventBody>), (status = "default", body = ErrorBody))
)]
pub(super) async fn events(
    State(api): State<Api>,
    Asked(query): Asked<EventsQuery>,
) -> Result<Json<ListBody<EventBody>>, ApiError> {
    let tunnel = query.tunnel_id.as_deref().map(tunnel_id).transpose()?;
    let page = page(query.limit.unwrap_or(20), query.page.as_deref())?;
    Ok(Json(ListBody::of(api.tunnels()?.events(tunnel, page).await?, EventBody::of)))
}
