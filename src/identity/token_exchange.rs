//! Exchanges tokens of callers for tokens of a server (RFC 8693): cached results, and parsing of answers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::Secret;
use crate::identity::strict_object::strict_object;
use crate::identity::token::TOKEN_LEN_MAX;
use crate::identity::token_answers::TokenAnswers;

/// The longest accepted answer of a token endpoint, in bytes.
pub const EXCHANGE_LEN_MAX: usize = 64 * 1024;
/// How long a token without `expires_in` is used.
const UNSAID_LIFE: Duration = Duration::from_secs(60);
/// The longest time for which a token is reused.
const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// The unused end of a token's lifetime is a tenth of it, and at most this: the request must reach the server in time,
/// and the server's clock may be ahead.
const LEFT_MAX: Duration = Duration::from_secs(30);
/// The longest error code that is logged, in bytes.
const CODE_LEN_MAX: usize = 64;

/// The value of `Authorization` for the server.
pub type ExchangedToken = Arc<Secret>;

/// The exchange of callers' tokens for those of one server, and its results.
pub struct TokenExchange {
    /// The name in the configuration and the log.
    pub name: Box<str>,
    /// The results by token of the caller.
    pub answers: Arc<TokenAnswers<ExchangedToken>>,
}

impl TokenExchange {
    /// Exchanges the token of a caller again with the next call, because the server has refused what was got for it.
    pub fn on_refused(&self, token: &[u8], exchanged: &ExchangedToken, now: Duration) {
        self.answers.drop_answer(token, |known| Arc::ptr_eq(known, exchanged), now);
    }
}

/// A successful answer of the token endpoint.
pub struct ExchangeAnswer {
    /// The `Authorization` value with the token.
    pub token: ExchangedToken,
    /// How long the token is used.
    pub usable: Duration,
}

/// Why an answer contains no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeAnswerError {
    /// The content is not an answer of a token endpoint.
    #[error("the answer is not a JSON object of at most 64 KiB, or a name stands twice in it")]
    Malformed,
    /// The answer has no token, or one that is not valid in a header.
    #[error("the answer has no `access_token` of visible ASCII characters")]
    Token,
    /// The token type is not Bearer.
    #[error("the `token_type` of the answer is not Bearer")]
    NotBearer,
    /// The token is not an access token, for example a refresh token.
    #[error("the `issued_token_type` of the answer is neither that of access tokens nor that of JWTs")]
    Kind,
    /// The token is the caller's own.
    #[error("the answer has the caller's own token, which is not for the server")]
    Own,
    /// The token has expired or is about to.
    #[error("the token in the answer has expired or is about to (`expires_in`)")]
    Expired,
}

impl ExchangeAnswer {
    /// Parses the answer to the exchange of a caller's token (RFC 8693 section 2.2.1).
    ///
    /// # Errors
    ///
    /// If it contains no token that can be sent to the server.
    pub fn read(content: &[u8], own: &Secret) -> Result<ExchangeAnswer, ExchangeAnswerError> {
        let answer = strict_object(content).filter(|_| content.len() <= EXCHANGE_LEN_MAX);
        let answer = answer.ok_or(ExchangeAnswerError::Malformed)?;
        let token = text(&answer, "access_token").filter(|token| is_token(token)).ok_or(ExchangeAnswerError::Token)?;
        if !text(&answer, "token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("Bearer")) {
            return Err(ExchangeAnswerError::NotBearer);
        }
        let kind =
            text(&answer, "issued_token_type").and_then(|kind| kind.strip_prefix("urn:ietf:params:oauth:token-type:"));
        if !matches!(kind, Some("access_token" | "jwt")) {
            return Err(ExchangeAnswerError::Kind);
        }
        if token.as_bytes() == own.expose() {
            return Err(ExchangeAnswerError::Own);
        }
        let life = match answer.get("expires_in") {
            None => UNSAID_LIFE,
            Some(seconds) => {
                let seconds = seconds.as_f64().ok_or(ExchangeAnswerError::Expired)?;
                Duration::try_from_secs_f64(seconds).map_err(|_| ExchangeAnswerError::Expired)?
            }
        };
        let usable = life.saturating_sub((life / 10).min(LEFT_MAX)).min(LIFE_MAX);
        if usable < Duration::from_secs(1) {
            return Err(ExchangeAnswerError::Expired);
        }
        Ok(ExchangeAnswer { token: Arc::new(Secret::new(format!("Bearer {token}").into_bytes())), usable })
    }
}

/// The error code of a token endpoint (RFC 6749 section 5.2), if it refuses the token or its target, as opposed to the
/// client or the request.
#[must_use]
pub fn read_exchange_refusal(content: &[u8]) -> Option<String> {
    let answer = strict_object(content).filter(|_| content.len() <= EXCHANGE_LEN_MAX)?;
    let code = text(&answer, "error")?;
    let is_client = ["invalid_client", "unauthorized_client", "unsupported_grant_type"].contains(&code);
    let is_code = code.len() <= CODE_LEN_MAX && code.bytes().all(|byte| byte.is_ascii_graphic());
    (is_code && !is_client).then(|| code.to_owned())
}

/// Whether this is a valid token for a header field (RFC 6750 section 2.1).
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.len() <= TOKEN_LEN_MAX && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

    fn answer() -> Value {
        json!({"access_token": "new", "issued_token_type": ACCESS, "token_type": "bearer", "expires_in": 300})
    }

    fn read(answer: &Value) -> Result<ExchangeAnswer, ExchangeAnswerError> {
        ExchangeAnswer::read(answer.to_string().as_bytes(), &Secret::from("own"))
    }

    fn with(name: &str, value: Value) -> Value {
        let mut changed = answer();
        match value {
            Value::Null => drop(changed.as_object_mut().unwrap().remove(name)),
            value => changed[name] = value,
        }
        changed
    }

    #[test]
    fn a_token_is_used_only_if_it_is_for_the_server_and_can_be_sent() {
        let read_token = read(&answer()).ok().unwrap();
        assert_eq!((read_token.token.expose(), read_token.usable), (&b"Bearer new"[..], Duration::from_secs(270)));
        for (name, value, wanted) in [
            ("access_token", json!(null), ExchangeAnswerError::Token),
            ("access_token", json!(7), ExchangeAnswerError::Token),
            ("access_token", json!(""), ExchangeAnswerError::Token),
            ("access_token", json!("a\r\nX-Evil: 1"), ExchangeAnswerError::Token),
            ("access_token", json!("a b"), ExchangeAnswerError::Token),
            ("access_token", json!("x".repeat(TOKEN_LEN_MAX + 1)), ExchangeAnswerError::Token),
            ("access_token", json!("own"), ExchangeAnswerError::Own),
            ("token_type", json!(null), ExchangeAnswerError::NotBearer),
            ("token_type", json!("N_A"), ExchangeAnswerError::NotBearer),
            ("token_type", json!("DPoP"), ExchangeAnswerError::NotBearer),
            ("issued_token_type", json!(null), ExchangeAnswerError::Kind),
            ("issued_token_type", json!("urn:ietf:params:oauth:token-type:refresh_token"), ExchangeAnswerError::Kind),
            ("expires_in", json!(0), ExchangeAnswerError::Expired),
            ("expires_in", json!(-1), ExchangeAnswerError::Expired),
            ("expires_in", json!("300"), ExchangeAnswerError::Expired),
            ("expires_in", json!(1e300), ExchangeAnswerError::Expired),
        ] {
            assert_eq!(read(&with(name, value.clone())).err(), Some(wanted), "{name} {value}");
        }
        for (life, wanted) in [(json!(null), 54), (json!(10), 9), (json!(100_000), 3_600)] {
            assert_eq!(read(&with("expires_in", life)).ok().unwrap().usable, Duration::from_secs(wanted));
        }
        let twice = answer().to_string().replacen('{', "{\"access_token\":\"x\",", 1);
        for wrong in [&twice, "", "[]", "<html>"] {
            let read = ExchangeAnswer::read(wrong.as_bytes(), &Secret::from("own"));
            assert_eq!(read.err(), Some(ExchangeAnswerError::Malformed));
        }
    }

    #[test]
    fn a_refusal_is_about_the_token_and_not_about_the_client() {
        let refusal = |code: &str| read_exchange_refusal(json!({"error": code}).to_string().as_bytes());
        for code in ["invalid_grant", "invalid_target", "invalid_request", "invalid_scope", "access_denied"] {
            assert_eq!(refusal(code).as_deref(), Some(code));
        }
        for code in ["invalid_client", "unauthorized_client", "unsupported_grant_type", "a\nb", "ä", &"x".repeat(65)] {
            assert_eq!(refusal(code), None, "{code}");
        }
        assert_eq!(read_exchange_refusal(b"<html>400</html>"), None);
    }
}
