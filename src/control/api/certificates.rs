//! `/v1/tunnels/{tunnel_id}/certificates`: the authorities that the edge trusts for a tunnel's resealed traffic.

use axum::Json;
use axum::extract::{Path, State};

use super::body::{JsonObject, PageQuery, ValidQuery};
use super::error::ApiError;
use super::{Api, tunnel_id};
use crate::control::bodies::{AddCertificate, CertificateInfo, ErrorBody, ListPart};

/// Registers the certificate of an authority. Two can be active, so that one can replace the other.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/certificates", tag = "certificates", operation_id = "add_certificate",
    params(("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")),
    request_body = AddCertificate,
    responses((status = 200, body = CertificateInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn add(
    State(api): State<Api>,
    Path(id): Path<String>,
    JsonObject(wanted): JsonObject<AddCertificate>,
) -> Result<Json<CertificateInfo>, ApiError> {
    let added = api.tunnels()?.add_certificate(tunnel_id(&id)?, &wanted.ca_certificate_pem).await?;
    Ok(Json(CertificateInfo::of(added)))
}

/// Lists the certificates of a tunnel, the newest first.
#[utoipa::path(
    get, path = "/v1/tunnels/{tunnel_id}/certificates", tag = "certificates", operation_id = "list_certificates",
    params(
        ("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
        PageQuery
    ),
    responses((status = 200, body = ListPart<CertificateInfo>), (status = "default", body = ErrorBody))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Path(id): Path<String>,
    ValidQuery(query): ValidQuery<PageQuery>,
) -> Result<Json<ListPart<CertificateInfo>>, ApiError> {
    let listed = api.tunnels()?.certificates(tunnel_id(&id)?, query.include_archived, query.page()?).await?;
    Ok(Json(ListPart::of(listed, CertificateInfo::of)))
}

/// Returns one certificate of a tunnel.
#[utoipa::path(
    get, path = "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}", tag = "certificates",
    operation_id = "get_certificate",
    params(
        ("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
        ("certificate_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")
    ),
    responses((status = 200, body = CertificateInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn get(
    State(api): State<Api>,
    Path((tunnel, id)): Path<(String, String)>,
) -> Result<Json<CertificateInfo>, ApiError> {
    Ok(Json(CertificateInfo::of(api.tunnels()?.certificate(tunnel_id(&tunnel)?, id).await?)))
}

/// Archives a certificate, which is then no longer used. Archiving it again changes nothing.
#[utoipa::path(
    post, path = "/v1/tunnels/{tunnel_id}/certificates/{certificate_id}/archive", tag = "certificates",
    operation_id = "archive_certificate",
    params(
        ("tunnel_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$"),
        ("certificate_id" = String, Path, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$")
    ),
    responses((status = 200, body = CertificateInfo), (status = "default", body = ErrorBody))
)]
pub(super) async fn archive(
    State(api): State<Api>,
    Path((tunnel, id)): Path<(String, String)>,
) -> Result<Json<CertificateInfo>, ApiError> {
    Ok(Json(CertificateInfo::of(api.tunnels()?.archive_certificate(tunnel_id(&tunnel)?, id).await?)))
}
