//! What comes in: the body of a request, and which part of a list is wanted.

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::ApiError;
use crate::control::store::{Listed, Page};

/// The longest body of a request, in bytes.
pub const BODY_LEN_MAX: usize = 64 * 1024;
/// Entries of one part of a list, unless something else is asked for.
const LIMIT_PRESET: u32 = 20;
/// The most entries of one part of a list.
pub const LIMIT_MAX: u32 = 1_000;
/// What a cursor begins with before it is encoded, so that a text of somebody's own is not taken for one.
const CURSOR_MARK: &[u8; 4] = b"seq:";

/// A JSON object in the body. An empty body is one without members.
pub(super) struct Object<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Object<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Object<T>, ApiError> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let too_large = |_| ApiError::too_large("the body is longer than 64 KiB, or it broke off");
        let bytes = to_bytes(request.into_body(), BODY_LEN_MAX).await.map_err(too_large)?;
        if bytes.is_empty() {
            return object(b"{}").map(Object);
        }
        let kind = kind.unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let message = "the body must be JSON, with Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
        }
        object(&bytes).map(Object)
    }
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // An array would be taken for a struct's fields in their order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid(format!("the body: {error}")))
}

/// What `reason` may be.
pub(super) fn checked_reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    checked_text("reason", reason, 500)
}

/// What `display_name` may be.
pub(super) fn checked_name(name: Option<String>) -> Result<Option<String>, ApiError> {
    checked_text("display_name", name, 255)
}

fn checked_text(what: &str, text: Option<String>, len_max: usize) -> Result<Option<String>, ApiError> {
    if text.as_ref().is_some_and(|text| !(1..=len_max).contains(&text.chars().count())) {
        return Err(ApiError::invalid(format!("{what} is 1 to {len_max} characters")));
    }
    if text.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
        return Err(ApiError::invalid(format!("{what} has no control characters")));
    }
    Ok(text)
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// At most so many entries.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: u32,
    /// The `next_page` of the part before.
    #[param(max_length = 64)]
    page: Option<String>,
    /// Whether those that are archived are wanted too.
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

/// Which part of a list is wanted of which nothing is archived.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PlainPageQuery {
    /// At most so many entries.
    #[serde(default = "limit_preset")]
    #[param(minimum = 1, maximum = 1000, default = 20)]
    limit: u32,
    /// The `next_page` of the part before.
    #[param(max_length = 64)]
    page: Option<String>,
}

impl PlainPageQuery {
    pub(super) fn page(&self) -> Result<Page, ApiError> {
        page(self.limit, self.page.as_deref())
    }
}

pub(super) fn page(limit: u32, cursor: Option<&str>) -> Result<Page, ApiError> {
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::bad_query("limit is 1 to 1000"));
    }
    let before = match cursor {
        None => None,
        Some(text) => {
            let invalid = || ApiError::bad_query("page is not the next_page of a part of this list");
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
            let place = bytes.strip_prefix(CURSOR_MARK).and_then(|place| place.try_into().ok());
            Some(i64::from_be_bytes(place.ok_or_else(invalid)?))
        }
    };
    Ok(Page { limit, before })
}

/// A part of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ListBody<T> {
    /// The entries, the newest first.
    pub data: Vec<T>,
    /// Where the next part begins; null after the last.
    pub next_page: Option<String>,
}

impl<T> ListBody<T> {
    pub(super) fn of<R>(listed: Listed<R>, show: impl Fn(R) -> T) -> ListBody<T> {
        let cursor = |seq: i64| URL_SAFE_NO_PAD.encode([&CURSOR_MARK[..], &seq.to_be_bytes()].concat());
        ListBody { data: listed.rows.into_iter().map(show).collect(), next_page: listed.next.map(cursor) }
    }
}

/// The parameters of the query, checked for unknown ones.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, ApiError> {
        Ok(Asked(Query::<T>::from_request_parts(parts, state).await?.0))
    }
}
