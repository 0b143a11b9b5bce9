//! Estimates the memory that parsed JSON objects take.

use serde_json::{Map, Value};

/// The estimated overhead of a member, in bytes, besides its name and value.
const MEMBER_LEN: usize = size_of::<String>() + 2 * size_of::<usize>();

/// The estimated size of the members of an object, in bytes.
pub(super) fn members_len(members: &Map<String, Value>) -> usize {
    members.iter().map(|(name, value)| MEMBER_LEN + name.len() + value_len(value)).sum()
}

/// The recursion is bounded: deeply nested tokens are refused when parsed.
fn value_len(value: &Value) -> usize {
    let more = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(value_len).sum(),
        Value::Object(members) => members_len(members),
    };
    size_of::<Value>() + more
}
