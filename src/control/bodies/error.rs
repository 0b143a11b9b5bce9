//! The body of an answer to a request that failed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The body of an error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// The type of this object: always `error`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The error, for programs and for people.
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
    /// The exact error, for programs; stable between versions.
    pub code: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The error and the remedy, for people.
    pub message: String,
}
