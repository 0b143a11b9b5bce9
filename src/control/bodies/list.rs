//! Lists, which are returned in pages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most entries in one page of a list.
pub const LIMIT_MAX: u32 = 1_000;

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListPart<T> {
    /// The entries, the newest first.
    pub data: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next_page: Option<String>,
}
