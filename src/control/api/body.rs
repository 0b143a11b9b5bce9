//! Extractors of requests: bodies, queries, and pages of lists.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::error::ApiError;
use crate::control::bodies::LIMIT_MAX;
use crate::control::store::Page;

/// The longest body of a request, in bytes.
pub const BODY_LEN_MAX: usize = 64 * 1024;
/// The default number of entries in one page of a list.
const LIMIT_PRESET: u32 = 20;

/// A JSON object in the body.
pub(super) struct JsonObject<T>(pub(super) T);

/// A JSON object whose members are all optional. The body may also be missing or `null`.
pub(super) struct OptionalObject<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonObject<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<JsonObject<T>, ApiError> {
        object(&json(request).await?).map(JsonObject)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalObject<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<OptionalObject<T>, ApiError> {
        let bytes = json(request).await?;
        match bytes.trim_ascii() {
            b"" | b"null" => object(b"{}").map(OptionalObject),
            _ => object(&bytes).map(OptionalObject),
        }
    }
}

/// Reads a body that is declared as JSON, or missing.
async fn json(request: Request) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let too_large = |_| ApiError::too_large("the body is longer than 64 KiB, or the connection ended within it");
    let bytes = to_bytes(request.into_body(), BODY_LEN_MAX).await.map_err(too_large)?;
    let kind = kind.unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !bytes.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
        let message = "the body must be JSON, with Content-Type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
    }
    Ok(bytes)
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would accept an array as the fields of a struct.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

/// The requested page of a list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The most entries of the page.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: u32,
    /// The `next_page` of the previous page.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    page: Option<String>,
    /// Whether archived entries are included.
    #[serde(default)]
    #[param(default = false)]
    pub(super) include_archived: bool,
}

fn limit_preset() -> u32 {
    LIMIT_PRESET
}

impl PageQuery {
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        page(self.limit, self.page.as_deref())
    }
}

/// The requested page of a list without archived entries.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlainPageQuery {
    /// The most entries of the page.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: u32,
    /// The `next_page` of the previous page.
    #[param(pattern = "^[1-9][0-9]{0,17}$")]
    page: Option<String>,
}

impl PlainPageQuery {
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        page(self.limit, self.page.as_deref())
    }
}

pub(super) fn page(limit: u32, cursor: Option<&str>) -> Result<Page, ApiError> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::bad_query("limit must be 1 to 1000"));
    }
    let before = match cursor {
        None => None,
        Some(text) => {
            let invalid = || ApiError::bad_query("page must be the next_page of an earlier answer for this list");
            // Excludes forms that parsing a number accepts and no cursor has, such as a sign.
            let plain =
                (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            Some(text.parse().ok().filter(|_| plain).ok_or_else(invalid)?)
        }
    };
    Ok(Page { limit, before })
}

/// The parameters of the query, checked for unknown ones.
pub(super) struct ValidQuery<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ValidQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<ValidQuery<T>, ApiError> {
        Ok(ValidQuery(Query::<T>::from_request_parts(parts, state).await?.0))
    }
}
