//! How many bytes what was read of a token takes, about.

use serde_json::{Map, Value};

/// What a member of an object takes besides its name and its value, about.
const MEMBER_LEN: usize = size_of::<String>() + 2 * size_of::<usize>();

/// About how many bytes the members of an object take.
pub(super) fn members_len(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER_LEN + name.len() + value_len(value)).sum()
}

/// Tokens are not nested deeper than is safe to follow.
fn value_len(value: &Value) -> usize {
    let more = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_len).sum(),
        Value::Object(members) => members_len(members),
    };
    size_of::<Value>() + more
}
