//! `/v1/tunnels`: tunnels, their secrets, links and usage.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{OptionalObject, PageQuery, ValidQuery};
use super::convert::{TunnelLinked, texts};
use super::error::ApiError;
use super::{Api, to_the_end, tunnel_id};
use crate::base::CredentialId;
use crate::control::bodies::{
    ConnectionInfo, CreateTunnel, CreatedTunnel, ErrorBody, IssuedToken, ListPart, Reason, Revocation, RevokeToken,
    RotateToken, TunnelInfo, UpdateTunnel, UpdatedTunnel, UsageEntry, UsageReport,
};
use crate::control::tunnels::OVERLAP_PRESET;
use crate::control::wall_time::WallTime;

/// The period and the credential of a usage report.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageQuery {
    /// The start of the period (RFC 3339); by default all stored usage.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Only links of this credential; by default of all.
    #[param(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")]
    credential_id: Option<String>,
}

/// Creates a tunnel. Its secret is shown only in this answer.
#[utoipa::path(
    post, path = "/v1/tunnels", tag = "tunnels", operation_id = "create_tunnel", request_body = Option<CreateTunnel>,
    responses((status = 200, body = CreatedTunnel), (status = "default", body = ErrorBody))
)]
pub(super) async fn create(
    State(api): State<Api>,
    OptionalObject(wanted): OptionalObject<CreateTunnel>,
) -> Result<Json<CreatedTunnel>, ApiError> {
    let tunnels = api.tunnels()?;
    let (made, overlaps) = tunnels.create(wanted).await?;
    let token = IssuedToken::of(&made, &tunnels.settings().connectors);
    Ok(Json(CreatedTunnel {
        tunnel: TunnelInfo::of(made.tunnel, TunnelLinked::default()),
        token,
        warnings: texts(&overlaps),
    }))
}

/// Lists tunnels, the newest first.
#[utoipa::path(
    get, path = "/v1/tunnels", tag = "tunnels", operation_id = "list_tunnels", params(PageQuery),
    responses((status = 200, body = ListPart<TunnelInfo>), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(
    State(api): State<Api>,
    ValidQuery(query): ValidQuery<PageQuery>,
) -> Result<Json<ListPart<TunnelInfo>>, ApiError> {
    let listed = api.tunnels()?.list(query.include_archived, query.page()?).await?;
    let linked = api.linked_tunnels().await;
    Ok(Json(ListPart::of(listed, |tunnel| {
        let linked = linked.get(tunnel.id.as_str()).cloned().unwrap_or_default();
        TunnelInfo::of(tunnel, linked)
    })))
}

/// Returns one tunnel, including archived ones.
#[utoipa::path(
    get, path = "/v1/tunnels/{tunnel_id}", tag = "tunnels", operation_id = "get_tunnel",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = TunnelInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn get(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<TunnelInfo>, ApiError> {
    let tunnel = api.tunnels()?.get(tunnel_id(&id)?).await?;
    Ok(Json(api.tunnel_info(tunnel).await))
}

/// Changes the name of a tunnel, its hosts, its traffic, or who may use it. When the answer is sent, the change is in
/// effect, and links from addresses that are no longer allowed have ended.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}", tag = "tunnels", operation_id = "update_tunnel",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Option<UpdateTunnel>,
    responses((status = 200, body = UpdatedTunnel), (status = "default", body = ErrorBody))
)]
pub(super) async fn update(
    State(api): State<Api>,
    Path(id): Path<String>,
    OptionalObject(wanted): OptionalObject<UpdateTunnel>,
) -> Result<Json<UpdatedTunnel>, ApiError> {
    let (tunnels, id) = (Arc::clone(api.tunnels()?), tunnel_id(&id)?);
    let (tunnel, overlaps) = to_the_end(async move { tunnels.update(id, wanted).await }).await?;
    Ok(Json(UpdatedTunnel { tunnel: api.tunnel_info(tunnel).await, warnings: texts(&overlaps) }))
}

/// Archives a tunnel for good: its links end, its hosts are no longer served, and its secrets and certificates are no longer
/// valid. Archiving it again changes nothing.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/archive", tag = "tunnels", operation_id = "archive_tunnel",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Option<Reason>,
    responses((status = 200, body = TunnelInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn archive(
    State(api): State<Api>,
    Path(id): Path<String>,
    OptionalObject(why): OptionalObject<Reason>,
) -> Result<Json<TunnelInfo>, ApiError> {
    let (tunnels, id) = (Arc::clone(api.tunnels()?), tunnel_id(&id)?);
    let tunnel = to_the_end(async move { tunnels.archive(id, why.reason).await }).await?;
    Ok(Json(TunnelInfo::of(tunnel, TunnelLinked::default())))
}

/// Always refused: an edge stores a hash of each secret, not the secret. Rotate instead.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/reveal_token", tag = "tunnels", operation_id = "reveal_token",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Option<Reason>,
    responses(
        (status = 409, description = "Always: only a hash is stored", body = ErrorBody),
        (status = "default", body = ErrorBody)
    )
)]
pub(super) async fn reveal_token(
    State(api): State<Api>,
    Path(id): Path<String>,
    OptionalObject(_why): OptionalObject<Reason>,
) -> Result<Json<IssuedToken>, ApiError> {
    let tunnel = api.tunnels()?.get(tunnel_id(&id)?).await?;
    let message = format!(
        "the secret of {} is not stored, only its hash: create a new one with POST /v1/tunnels/{}/rotate_token, which leaves \
         the old one valid for a while",
        tunnel.id, tunnel.id
    );
    Err(ApiError::new(StatusCode::CONFLICT, "token_not_kept", message))
}

/// Creates a new secret. The old one stays valid for a while; then the links that use it end. The secret is shown only
/// in this answer.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/rotate_token", tag = "tunnels", operation_id = "rotate_token",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Option<RotateToken>,
    responses((status = 200, body = IssuedToken), (status = "default", body = ErrorBody))
)]
pub(super) async fn rotate_token(
    State(api): State<Api>,
    Path(id): Path<String>,
    OptionalObject(wanted): OptionalObject<RotateToken>,
) -> Result<Json<IssuedToken>, ApiError> {
    let (tunnels, id) = (Arc::clone(api.tunnels()?), tunnel_id(&id)?);
    let overlap = wanted.overlap_s.map_or(OVERLAP_PRESET, Duration::from_secs);
    let rotating = Arc::clone(&tunnels);
    let made = to_the_end(async move { rotating.rotate(id, overlap, wanted.reason).await }).await?;
    Ok(Json(IssuedToken::of(&made, &tunnels.settings().connectors)))
}

/// Revokes one credential, or all. When the answer is sent, links with these credentials have ended, and their calls
/// were answered with 503.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/revoke_token", tag = "tunnels", operation_id = "revoke_token",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = Option<RevokeToken>,
    responses((status = 200, body = Revocation), (status = "default", body = ErrorBody))
)]
pub(super) async fn revoke_token(
    State(api): State<Api>,
    Path(id): Path<String>,
    OptionalObject(wanted): OptionalObject<RevokeToken>,
) -> Result<Json<Revocation>, ApiError> {
    let (tunnels, id) = (Arc::clone(api.tunnels()?), tunnel_id(&id)?);
    let which = credential_id(wanted.credential_id)?;
    let (tunnel, outcome) = to_the_end(async move { tunnels.revoke(id, which, wanted.reason).await }).await?;
    Ok(Json(Revocation {
        kind: "tunnel_revocation".to_owned(),
        tunnel: api.tunnel_info(tunnel).await,
        links_ended: u32::try_from(outcome.ended).unwrap_or(u32::MAX),
        cores_silent: u32::try_from(outcome.silent).unwrap_or(u32::MAX),
    }))
}

/// Lists the links of a tunnel's connectors.
#[utoipa::path(
    get, path = "/v1/tunnels/{tunnel_id}/connections", tag = "tunnels", operation_id = "list_connections",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    responses((status = 200, body = ListPart<ConnectionInfo>), (status = "default", body = ErrorBody))
)]
pub(super) async fn connections(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ListPart<ConnectionInfo>>, ApiError> {
    let tunnel = api.tunnels()?.get(tunnel_id(&id)?).await?;
    let links = api.links().await;
    let of_tunnel = links.iter().filter(|link| link.tunnel == tunnel.id.as_str());
    Ok(Json(ListPart { data: of_tunnel.map(ConnectionInfo::of).collect(), next_page: None }))
}

/// Reports the calls over a tunnel's links by credential, to show how a leaked secret may have been used.
#[utoipa::path(
    get, path = "/v1/tunnels/{tunnel_id}/usage", tag = "tunnels", operation_id = "tunnel_usage",
    params(
        ("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
        UsageQuery
    ),
    responses((status = 200, body = UsageReport), (status = "default", body = ErrorBody))
)]
pub(super) async fn usage(
    State(api): State<Api>,
    Path(id): Path<String>,
    ValidQuery(query): ValidQuery<UsageQuery>,
) -> Result<Json<UsageReport>, ApiError> {
    let tunnels = api.tunnels()?;
    let since: Option<WallTime> = match query.since {
        Some(text) => Some(
            text.parse()
                .map_err(|error: crate::control::WallTimeError| ApiError::bad_query(&format!("since: {error}")))?,
        ),
        None => None,
    };
    let (id, since) = (tunnel_id(&id)?, since.unwrap_or_default());
    tunnels.get(id.clone()).await?;
    let usage = tunnels.usage(id.clone(), credential_id(query.credential_id)?, since).await?;
    Ok(Json(UsageReport {
        kind: "tunnel_usage".to_owned(),
        tunnel_id: id.to_string(),
        since: since.to_string(),
        calls: usage.iter().map(|line| line.calls).sum(),
        data: usage.into_iter().map(UsageEntry::of).collect(),
    }))
}

fn credential_id(text: Option<String>) -> Result<Option<CredentialId>, ApiError> {
    let parsed = text.map(|text| text.parse::<CredentialId>()).transpose();
    parsed.map_err(|error| ApiError::invalid(format!("credential_id: {error}")))
}
