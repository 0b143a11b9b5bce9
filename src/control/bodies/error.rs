//! The body of an answer to a request that failed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, as the body of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The type of this object: always `error`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// What went wrong, for programs and for people.
    pub error: ErrorDetail,
}

/// The error, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// The kind of error: `invalid_request_error`, `authentication_error`, `not_found_error`, `conflict_error`,
    /// `overloaded_error` or `api_error`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// What exactly, for programs; it does not change from version to version.
    pub code: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// What went wrong and what to do, for people.
    pub message: String,
}
