//! Errors of the admin API, and the status and code of each.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};

use crate::control::bodies::{ErrorBody, ErrorDetail};
use crate::control::data_dir::DataDirError;
use crate::control::given_text::UnfitText;
use crate::control::store::{RuleViolation, StoreError};
use crate::control::tunnels::TunnelsError;

/// An error response of the API.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(in crate::control) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, code, message: message.into() }
    }

    /// The request is malformed or out of bounds.
    pub(super) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// The path does not exist.
    pub(in crate::control) fn unknown_path(paths: &str) -> ApiError {
        let message = format!("there is no such path: the paths are {paths}, and those in /v1/openapi.json");
        ApiError::new(StatusCode::NOT_FOUND, "unknown_path", message)
    }

    pub(in crate::control) fn wrong_method() -> ApiError {
        ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "wrong_method",
            "this path does not allow this method: see the Allow header",
        )
    }

    pub(in crate::control) fn forbidden_host() -> ApiError {
        let message = "the Host header must be an IP address or localhost";
        ApiError::new(StatusCode::FORBIDDEN, "forbidden_host", message)
    }

    pub(in crate::control) fn too_large(message: &str) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(in crate::control) fn bad_query(message: &str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", message)
    }

    pub(super) fn unauthorized() -> ApiError {
        let message =
            "send the admin token as `Authorization: Bearer …`: it is in the file admin.token of the data directory";
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    pub(in crate::control) fn no_store() -> ApiError {
        let message = "this process has no admin token for that: an edge needs a data directory (`adit edge init`, --data-dir), a connector \
             connect.admin_token_file, which opens its breakers and approvals alone";
        ApiError::new(StatusCode::NOT_IMPLEMENTED, "no_store", message)
    }

    /// The header field that accompanies the status, if any.
    fn header(&self) -> Option<[(HeaderName, &'static str); 1]> {
        match self.status {
            StatusCode::UNAUTHORIZED => Some([(WWW_AUTHENTICATE, "Bearer")]),
            StatusCode::SERVICE_UNAVAILABLE => Some([(RETRY_AFTER, "1")]),
            _ => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::CONFLICT => "conflict_error",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let header = self.header();
        let detail = ErrorDetail {
            kind: self.kind().to_owned(),
            code: self.code.to_owned(),
            status: self.status.as_u16(),
            message: self.message,
        };
        let body = ErrorBody { kind: "error".to_owned(), error: detail };
        match header {
            Some(header) => (self.status, header, Json(body)).into_response(),
            None => (self.status, Json(body)).into_response(),
        }
    }
}

impl From<UnfitText> for ApiError {
    fn from(unfit: UnfitText) -> ApiError {
        ApiError::invalid(unfit.to_string())
    }
}

impl From<TunnelsError> for ApiError {
    fn from(error: TunnelsError) -> ApiError {
        match error {
            TunnelsError::Store(error) => error.into(),
            TunnelsError::Invalid(message) => ApiError::invalid(message),
            TunnelsError::Certificate(fault) => {
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_certificate", fault.to_string())
            }
            TunnelsError::Random(error) => error.into(),
        }
    }
}

impl From<DataDirError> for ApiError {
    fn from(error: DataDirError) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        use StatusCode as S;
        let message = error.to_string();
        match error {
            StoreError::Refused(refused) => refused.into(),
            StoreError::Busy => ApiError::new(S::SERVICE_UNAVAILABLE, "store_busy", message),
            StoreError::Closed => ApiError::new(S::SERVICE_UNAVAILABLE, "ending", message),
            StoreError::Locked { .. } => ApiError::new(S::SERVICE_UNAVAILABLE, "store_locked", message),
            StoreError::Full { .. } => ApiError::new(S::INSUFFICIENT_STORAGE, "store_full", message),
            StoreError::Unrecorded => ApiError::new(S::SERVICE_UNAVAILABLE, "audit_unavailable", message),
            StoreError::Damaged { .. } => ApiError::new(S::INTERNAL_SERVER_ERROR, "store_damaged", message),
            StoreError::Newer { .. } | StoreError::Unusable { .. } | StoreError::HalfRestored { .. } => {
                ApiError::new(S::INTERNAL_SERVER_ERROR, "store_unusable", message)
            }
        }
    }
}

impl From<RuleViolation> for ApiError {
    fn from(refused: RuleViolation) -> ApiError {
        use StatusCode as S;
        let (status, code) = match refused {
            RuleViolation::NoTunnel(_) => (S::NOT_FOUND, "tunnel_not_found"),
            RuleViolation::NoCertificate(_) => (S::NOT_FOUND, "certificate_not_found"),
            RuleViolation::NoCredential(_) => (S::NOT_FOUND, "credential_not_found"),
            RuleViolation::NoKey(_) => (S::NOT_FOUND, "provisioning_key_not_found"),
            RuleViolation::Archived(_) => (S::CONFLICT, "tunnel_archived"),
            RuleViolation::HostTaken { .. } => (S::CONFLICT, "host_taken"),
            RuleViolation::HostOverlaps(_) => (S::CONFLICT, "host_overlaps"),
            RuleViolation::HostRetired(_) => (S::CONFLICT, "host_retired"),
            RuleViolation::TooManyTunnels(_) => (S::CONFLICT, "too_many_tunnels"),
            RuleViolation::TooManyHosts(_) => (S::CONFLICT, "too_many_hosts"),
            RuleViolation::RotationUnderWay => (S::CONFLICT, "rotation_under_way"),
            RuleViolation::CertificateSlots(_) => (S::CONFLICT, "certificate_slots_taken"),
            RuleViolation::CertificateKnown(_) => (S::CONFLICT, "certificate_known"),
            RuleViolation::TooManyKeys(_) => (S::CONFLICT, "too_many_provisioning_keys"),
            RuleViolation::KeyNotGood => (S::CONFLICT, "provisioning_key_not_good"),
        };
        ApiError::new(status, code, refused.to_string())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> ApiError {
        ApiError::bad_query(&rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn each_trouble_of_the_store_has_its_status_and_code() {
        let path = PathBuf::from("store.sqlite");
        let cause = "why".to_owned();
        let cases = [
            (StoreError::Busy, 503, "store_busy"),
            (StoreError::Closed, 503, "ending"),
            (StoreError::Locked { path: path.clone() }, 503, "store_locked"),
            (StoreError::Full { path: path.clone() }, 507, "store_full"),
            (StoreError::Unrecorded, 503, "audit_unavailable"),
            (StoreError::Damaged { path: path.clone(), cause: cause.clone(), backup: None }, 500, "store_damaged"),
            (StoreError::Newer { path: path.clone(), found: 2, known: 1 }, 500, "store_unusable"),
            (StoreError::Unusable { path, cause }, 500, "store_unusable"),
            (StoreError::Refused(RuleViolation::RotationUnderWay), 409, "rotation_under_way"),
        ];
        for (error, status, code) in cases {
            let message = error.to_string();
            let converted = ApiError::from(error);
            assert_eq!((converted.status.as_u16(), converted.code, &converted.message), (status, code, &message));
            let answer = converted.into_response();
            assert_eq!(answer.status().as_u16(), status, "{code}");
        }
    }
}
