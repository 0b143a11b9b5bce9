//! Provisioning keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::numbers::{whole, whole_if};

/// A request to create a provisioning key.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// A name for display only.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    pub display_name: Option<String>,
    /// The pattern for the names of machines, in which `*` matches any letters, digits and hyphens; by default `*`.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9*-]+$")]
    pub name_template: Option<String>,
    /// The hosts of each tunnel, with `{name}` for the machine's name. Without hosts the edge chooses them.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub hosts: Vec<NamedHostText>,
    /// How many machines may use it.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 100000)]
    pub uses_max: u64,
    /// For how many seconds it is valid; a day by default.
    #[serde(default, deserialize_with = "whole_if")]
    #[schema(minimum = 1, maximum = 31622400)]
    pub life_s: Option<u64>,
}

/// A host with `{name}` in it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(
    max_length = 120,
    pattern = "^(\\*\\.)?([A-Za-z0-9]{1,10}-)?\\{name\\}(-[A-Za-z0-9]{1,10})?(\\.[A-Za-z]([A-Za-z0-9-]{0,15}[A-Za-z0-9])?){1,4}$"
)]
pub struct NamedHostText(pub String);

/// A provisioning key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyInfo {
    /// The id of the key.
    #[schema(example = "pkey_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// The type of this object: always `provisioning_key`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// A name for display only.
    pub display_name: Option<String>,
    /// The pattern for the names of machines.
    pub name_template: String,
    /// The hosts of each tunnel, with `{name}` for the machine's name.
    pub hosts: Vec<String>,
    /// How many machines may use it.
    pub uses_max: u32,
    /// How many machines have used it.
    pub uses: u32,
    /// When the key was created.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When the key expires.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was revoked.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    /// Whether it is valid and not used up.
    pub good: bool,
}

/// A provisioning key that was just created.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The key without its secret.
    #[serde(flatten)]
    pub key: KeyInfo,
    /// Its secret, which is shown only here.
    pub secret: String,
    /// The address that connectors dial: `HOST:PORT`.
    pub edge: String,
}
