//! The heads of calls over HTTP/2 at the edge: what it sends to a connector, and what it reads from its answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Request, response};
use serde_json::Value;

use super::heads::{FIELDS, META, OF_CONNECTOR, OF_ORIGIN, TRACE, UPGRADE, is_internal, is_of_connection};
use crate::wire::http1::{EDGE_IDENTITY, HEADERS_MAX};

/// Who has answered a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerSource {
    /// The server, with these fields.
    Server(HeaderMap),
    /// The connector, which did not get an answer of the server.
    Connector {
        /// Whether a limit of the connector is the reason, so that nothing was sent to the server.
        is_limited: bool,
    },
}

/// Why an answer of a connector cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It does not say who has answered.
    #[error("the answer does not say whether the server or the connector has answered")]
    Source,
    /// The list of the server's fields is malformed.
    #[error("the list of the server's fields is malformed")]
    Fields,
    /// The server's fields are more than an answer may have.
    #[error("the answer has more than {HEADERS_MAX} fields")]
    TooManyFields,
}

/// The request that begins the control stream.
#[must_use]
pub fn control_request() -> Request<()> {
    let mut request = Request::new(());
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static("https://edge.invalid/");
    request.headers_mut().insert(UPGRADE, HeaderValue::from_static("control-stream"));
    request
}

/// Removes the fields of a request that must not reach a connector of cloudflared.
///
/// A connector would take some of an agent's fields for commands of the edge: with them, an agent could open a connection to
/// any address, or send ingress rules. The signed identity of a caller is for connectors of this project; others would pass it on to
/// the server.
pub fn strip_for_connector(headers: &mut HeaderMap) {
    let is_left_out = |name: &HeaderName| {
        let name = name.as_str();
        is_internal(name.as_bytes()) || name == TRACE.as_str() || name == EDGE_IDENTITY
    };
    if !headers.keys().any(is_left_out) {
        return;
    }
    let left_out: Vec<HeaderName> = headers.keys().filter(|name| is_left_out(name)).cloned().collect();
    for name in left_out {
        headers.remove(name);
    }
}

/// Reads who has answered, and the fields of a server's answer.
///
/// Only the listed fields are the server's. Others are of the connector's library, except for the length of the body.
///
/// # Errors
///
/// If the connector has not answered as the protocol demands.
pub fn read_answer(head: &response::Parts) -> Result<AnswerSource, AnswerFault> {
    let meta = head.headers.get(META).ok_or(AnswerFault::Source)?;
    if *meta != OF_ORIGIN {
        let (is_server, is_limited) = read_source(meta).ok_or(AnswerFault::Source)?;
        if !is_server {
            return Ok(AnswerSource::Connector { is_limited });
        }
    }
    let mut fields = HeaderMap::new();
    if let Some(length) = head.headers.get(CONTENT_LENGTH) {
        fields.insert(CONTENT_LENGTH, length.clone());
    }
    let (mut count, mut decoded) = (0, Vec::new());
    // A connector of this project sends one list. More would be further ones.
    for list in head.headers.get_all(FIELDS) {
        for field in list.as_bytes().split(|&byte| byte == b';').filter(|field| !field.is_empty()) {
            count += 1;
            if count > HEADERS_MAX {
                return Err(AnswerFault::TooManyFields);
            }
            let (name, value) = read_field(field, &mut decoded).ok_or(AnswerFault::Fields)?;
            let is_dropped = is_internal(name.as_str().as_bytes()) || is_of_connection(name.as_str().as_bytes());
            if !is_dropped && name != CONTENT_LENGTH {
                fields.append(name, value);
            }
        }
    }
    Ok(AnswerSource::Server(fields))
}

/// Whether the server has answered, and whether a limit of the connector was reached.
fn read_source(meta: &HeaderValue) -> Option<(bool, bool)> {
    if *meta == OF_CONNECTOR {
        return Some((false, false));
    }
    let meta: Value = serde_json::from_slice(meta.as_bytes()).ok()?;
    let is_limited = meta.get("flow_rate_limited").and_then(Value::as_bool).unwrap_or_default();
    match meta.get("src")?.as_str()? {
        "origin" => Some((true, is_limited)),
        "cloudflared" => Some((false, is_limited)),
        _ => None,
    }
}

/// One field: `name:value`, each in base64 without padding.
fn read_field(field: &[u8], decoded: &mut Vec<u8>) -> Option<(HeaderName, HeaderValue)> {
    let mut parts = field.split(|&byte| byte == b':');
    let (name, value) = (parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    decoded.clear();
    STANDARD_NO_PAD.decode_vec(name, decoded).ok()?;
    let name = HeaderName::from_bytes(decoded).ok()?;
    decoded.clear();
    STANDARD_NO_PAD.decode_vec(value, decoded).ok()?;
    Some((name, HeaderValue::from_bytes(decoded).ok()?))
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};

    use super::*;
    use crate::base::Rng;
    use crate::wire::cloudflared::{RequestKind, answer_head, kind_of, own_answer_head};
    use crate::wire::http1::Method;

    fn parts(response: Response<()>) -> response::Parts {
        response.into_parts().0
    }

    fn with_fields(list: &str) -> response::Parts {
        let response = Response::builder().header(META, OF_ORIGIN).header(FIELDS, list);
        parts(response.body(()).unwrap())
    }

    fn listed(source: &AnswerSource) -> String {
        let AnswerSource::Server(fields) = source else { panic!("the server has answered") };
        fields.iter().map(|(name, value)| format!("{name}={};", value.to_str().unwrap())).collect()
    }

    #[test]
    fn no_field_of_an_agent_is_a_command_to_a_connector_and_no_identity_leaves_the_tunnel() {
        let mut request = Request::post("https://a.test/");
        for name in [
            "cf-cloudflared-proxy-connection-upgrade",
            "CF-Cloudflared-Proxy-Src",
            "cf-trace-id",
            "cf-int-x",
            "cf-proxy-worker",
            "Adit-Caller",
            "cf-ray",
        ] {
            request = request.header(name, "update-configuration").header(name, "websocket");
        }
        let mut request = request.body(()).unwrap();
        strip_for_connector(request.headers_mut());
        assert_eq!(kind_of(request.headers()), RequestKind::Http);
        assert_eq!(request.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["cf-ray"]);
        assert_eq!(kind_of(control_request().headers()), RequestKind::Control);
    }

    #[test]
    fn the_fields_of_a_server_are_read_as_a_connector_wrote_them() {
        let text =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty:\r\n\
                     Content-Length: 12\r\n\r\n";
        let (response, _) = answer_head(text, Method::Get).unwrap();
        let source = read_answer(&parts(response)).unwrap();
        let expected = "content-length=12;content-type=text/event-stream;set-cookie=a=1;set-cookie=b=2;x-empty=;";
        assert_eq!(listed(&source), expected);
    }

    #[test]
    fn only_the_list_and_the_outer_length_count() {
        // `Content-Length: 99`, `Connection: close` and `Cf-Int-X: 1` in the list, and what a library of Go adds outside.
        let list = "Q29udGVudC1MZW5ndGg:OTk;;Q29ubmVjdGlvbg:Y2xvc2U;Q2YtSW50LVg:MQ;WC1B:MQ";
        let response = Response::builder().header(META, OF_ORIGIN).header(FIELDS, list).header("date", "now");
        let response = response.header("content-type", "text/plain").header("content-length", "5");
        assert_eq!(listed(&read_answer(&parts(response.body(()).unwrap())).unwrap()), "content-length=5;x-a=1;");
        let response = Response::builder().header(META, OF_ORIGIN).body(()).unwrap();
        assert_eq!(listed(&read_answer(&parts(response)).unwrap()), "");
    }

    #[test]
    fn a_connector_that_answers_for_itself_says_so() {
        let read = |meta: &str| read_answer(&parts(Response::builder().header(META, meta).body(()).unwrap()));
        let own = read_answer(&parts(own_answer_head(StatusCode::BAD_GATEWAY))).unwrap();
        assert_eq!(own, AnswerSource::Connector { is_limited: false });
        let limited = read(r#"{"src":"cloudflared","flow_rate_limited":true}"#).unwrap();
        assert_eq!(limited, AnswerSource::Connector { is_limited: true });
        assert!(matches!(read(r#"{"src": "origin", "more": 1}"#), Ok(AnswerSource::Server(_))));
        for bad in ["", "{}", "[]", r#"{"src":1}"#, r#"{"src":"else"}"#] {
            assert_eq!(read(bad), Err(AnswerFault::Source), "{bad}");
        }
        assert_eq!(read_answer(&parts(Response::new(()))), Err(AnswerFault::Source));
    }

    #[test]
    fn malformed_fields_are_refused_and_none_breaks_the_reader() {
        for bad in ["YQ", "YQ:YQ:YQ", "YQ==:YQ", "?:YQ", ":YQ", "YSBi:YQ", "YQ:YQo", "YQ:DQ"] {
            assert_eq!(read_answer(&with_fields(bad)), Err(AnswerFault::Fields), "{bad}");
        }
        let many = "YQ:;".repeat(HEADERS_MAX + 1);
        assert_eq!(read_answer(&with_fields(&many)), Err(AnswerFault::TooManyFields));
        let good = "Q29udGVudC1UeXBl:dGV4dC9ldmVudC1zdHJlYW0;U2V0LUNvb2tpZQ:YT0x";
        for seed in 0..2_000 {
            let mut rng = Rng::new(seed);
            let mut list = good.as_bytes().to_vec();
            for _ in 0..rng.between(1, 8) {
                let at = rng.between(0, list.len() as u64 - 1) as usize;
                list[at] = rng.between(0, 255) as u8;
            }
            let Ok(list) = HeaderValue::from_bytes(&list) else { continue };
            let mut response = Response::builder().header(META, OF_ORIGIN).body(()).unwrap();
            response.headers_mut().insert(FIELDS, list);
            if let Ok(AnswerSource::Server(fields)) = read_answer(&parts(response)) {
                assert!(fields.len() <= 10);
            }
        }
    }
}
