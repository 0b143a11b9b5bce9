//! Lists, which are returned in pages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most entries of one part of a list.
pub const LIMIT_MAX: u32 = 1_000;

/// A part of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListPart<T> {
    /// The entries, the newest first.
    pub data: Vec<T>,
    /// Where the next part begins; null after the last.
    pub next_page: Option<String>,
}
