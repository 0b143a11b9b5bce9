//! Answers to token introspection (RFC 7662).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::identity::members_len::members_len;
use crate::identity::strict_object::strict_object;
use crate::identity::token_answers::TokenAnswers;

/// The longest accepted answer, in bytes.
pub const INTROSPECTION_LEN_MAX: usize = 64 * 1024;

/// The members of an answer about an active token.
pub type Introspected = Arc<Map<String, Value>>;

/// The answers of an issuer about its tokens.
pub type Introspection = TokenAnswers<Introspected>;

/// An answer that does not state whether a token is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a JSON object with `active` (true or false), or a name stands twice in it")]
pub struct IntrospectionError;

/// Parses an answer about a token. Returns its members and about how many bytes they take, or `None` if the token is
/// not active.
///
/// # Errors
///
/// If the answer does not state whether the token is active.
pub fn read_introspection(content: &[u8]) -> Result<Option<(Introspected, usize)>, IntrospectionError> {
    let answer = strict_object(content).filter(|_| content.len() <= INTROSPECTION_LEN_MAX).ok_or(IntrospectionError)?;
    match answer.get("active") {
        Some(Value::Bool(true)) => {
            let len = members_len(&answer);
            Ok(Some((Arc::new(answer), len)))
        }
        Some(Value::Bool(false)) => Ok(None),
        _ => Err(IntrospectionError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_active_true_counts_as_active() {
        let (answer, len) = read_introspection(br#"{"active":true,"sub":"alice"}"#).unwrap().unwrap();
        assert!(answer["sub"] == "alice" && len > 10);
        assert_eq!(read_introspection(br#"{"active":false,"sub":"alice"}"#), Ok(None));
        let long = format!("{{\"active\":true,\"x\":\"{}\"}}", "x".repeat(INTROSPECTION_LEN_MAX));
        for wrong in [
            r#"{"sub":"alice"}"#,
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":false,"active":true}"#,
            r#"{"ACTIVE":true}"#,
            r#"[{"active":true}]"#,
            "<html>active</html>",
            "",
            &long,
        ] {
            assert_eq!(read_introspection(wrong.as_bytes()), Err(IntrospectionError), "{wrong:.40}");
        }
    }
}
