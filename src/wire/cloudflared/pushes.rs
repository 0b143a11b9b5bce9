//! Ingress rules that an edge sends to a connector, as a request of HTTP/2 with JSON.

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Uri, Version};
use serde_json::{Value, json};

use super::heads::UPGRADE;

/// The longest answer to a push, in bytes.
pub const PUSH_ANSWER_LEN_MAX: usize = 16 * 1024;

/// Why a connector did not apply the rules of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushFault {
    /// The answer is not the JSON that the protocol has.
    #[error("its answer is malformed")]
    Malformed,
    /// The connector cannot use the rules. Stock connectors say no more.
    #[error("it cannot use the rules: its log says why")]
    Refused,
    /// The connector has rules with a higher version.
    #[error("it has rules with the version {0}, which is not lower")]
    Newer(i64),
}

/// The head of a push with this body.
#[must_use]
pub fn push_request(body: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::PUT;
    *request.uri_mut() = Uri::from_static("https://edge.invalid/");
    request.headers_mut().insert(UPGRADE, HeaderValue::from_static("update-configuration"));
    request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    request
}

/// The body of a push with one rule: all calls go to this service. A connector applies it if the version is higher than that of
/// its rules.
#[must_use]
pub fn push_body(version: i32, service: &str) -> String {
    json!({ "version": version, "config": { "ingress": [{ "service": service }], "warp-routing": { "enabled": false } } })
        .to_string()
}

/// Reads the answer to the push of this version.
///
/// # Errors
///
/// Why the connector did not apply it.
pub fn read_push_answer(version: i32, body: &[u8]) -> Result<(), PushFault> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| PushFault::Malformed)?;
    let applied = answer.get("lastAppliedVersion").and_then(Value::as_i64).ok_or(PushFault::Malformed)?;
    if answer.get("err").is_some_and(|error| !error.is_null()) {
        return Err(PushFault::Refused);
    }
    if applied == i64::from(version) { Ok(()) } else { Err(PushFault::Newer(applied)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::cloudflared::{RequestKind, kind_of};

    #[test]
    fn a_push_is_a_request_of_its_kind() {
        let body = push_body(7, "http://127.0.0.1:3000");
        let request = push_request(&body);
        assert_eq!(kind_of(request.headers()), RequestKind::Configuration);
        assert_eq!(request.headers()[CONTENT_LENGTH], body.len().to_string().as_str());
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&json["version"], &json["config"]["ingress"][0]["service"]),
            (&7.into(), &"http://127.0.0.1:3000".into())
        );
    }

    #[test]
    fn the_answer_says_whether_the_rules_are_applied() {
        let read = |body: &str| read_push_answer(7, body.as_bytes());
        assert_eq!(read(r#"{"lastAppliedVersion":7,"err":null}"#), Ok(()));
        assert_eq!(read(r#"{"lastAppliedVersion":-1,"err":{}}"#), Err(PushFault::Refused));
        assert_eq!(read(r#"{"lastAppliedVersion":9,"err":null}"#), Err(PushFault::Newer(9)));
        for bad in ["", "{}", "[7]", r#"{"lastAppliedVersion":"7"}"#] {
            assert_eq!(read(bad), Err(PushFault::Malformed), "{bad}");
        }
    }
}
