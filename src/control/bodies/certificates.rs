//! Certificates of authorities that are registered with tunnels.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A request to register a certificate.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddCertificate {
    /// The certificate of an authority, a root or an intermediate one, as PEM.
    #[schema(min_length = 1, max_length = 8192)]
    pub ca_certificate_pem: String,
}

/// The certificate of an authority that is registered with a tunnel.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CertificateInfo {
    /// The id of the certificate.
    #[schema(example = "tcrt_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// The type of this object: always `tunnel_certificate`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The id of its tunnel.
    pub tunnel_id: String,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub fingerprint: String,
    /// When it was registered.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The end of its validity.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was archived.
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
}
