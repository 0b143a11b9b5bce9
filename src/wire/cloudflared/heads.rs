//! The heads of calls over HTTP/2: what kind of request the edge sends, and how a connector writes the head of an answer.
//!
//! The fields of a server's answer stand in one field, so that nothing between connector and edge changes them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use crate::wire::http1::{Framing, Method};
use crate::wire::http2::{lines, split_field};

/// The field of a request that says what it is.
const UPGRADE: HeaderName = HeaderName::from_static("cf-cloudflared-proxy-connection-upgrade");
/// The field of a request for a TCP connection.
const TCP_SOURCE: HeaderName = HeaderName::from_static("cf-cloudflared-proxy-src");
/// The identity of a trace, for the connector alone.
const TRACE: HeaderName = HeaderName::from_static("cf-trace-id");
/// The field of an answer that says whether the server or the connector has answered.
const META: HeaderName = HeaderName::from_static("cf-cloudflared-response-meta");
/// The field of an answer with the server's own fields.
const FIELDS: HeaderName = HeaderName::from_static("cf-cloudflared-response-headers");

const OF_ORIGIN: HeaderValue = HeaderValue::from_static(r#"{"src":"origin"}"#);
const OF_CONNECTOR: HeaderValue = HeaderValue::from_static(r#"{"src":"cloudflared"}"#);

/// Names of fields between connector and edge that are not a server's to set.
const INTERNAL: [&[u8]; 4] = [b":", b"cf-int-", b"cf-cloudflared-", b"cf-proxy-"];
/// Fields that belong to a connection of HTTP/1.1 (RFC 9110, section 7.6.1).
const OF_CONNECTION: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// What an edge wants with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// An ordinary call of HTTP.
    Http,
    /// A connection of WebSocket.
    WebSocket,
    /// A connection of TCP to any address.
    Tcp,
    /// The stream on which the connector registers.
    Control,
    /// New ingress rules for the connector.
    Configuration,
}

/// The kind of a request, by its fields.
#[must_use]
pub fn kind_of(headers: &HeaderMap) -> RequestKind {
    let upgrade = headers.get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
    match upgrade {
        b"update-configuration" => RequestKind::Configuration,
        b"websocket" => RequestKind::WebSocket,
        _ if headers.get(TCP_SOURCE).is_some_and(|source| !source.is_empty()) => RequestKind::Tcp,
        b"control-stream" => RequestKind::Control,
        _ => RequestKind::Http,
    }
}

/// Removes the fields that are for the connector, and not for the server.
pub fn strip_request(headers: &mut HeaderMap) {
    for name in [UPGRADE, TCP_SOURCE, TRACE] {
        headers.remove(name);
    }
}

/// The head of an answer for an edge, and the framing of the body that follows in `text`, which is the head of an HTTP/1.1
/// answer to a request of this method. None for an interim answer, which cannot be passed on.
#[must_use]
pub fn answer_head(text: &[u8], method: Method) -> Option<(Response<()>, Framing)> {
    let mut lines = lines(text);
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|digits| StatusCode::from_bytes(digits).ok());
    // Heads that this program writes always have a status.
    let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
    if status.is_informational() {
        return None;
    }
    let (mut fields, mut framing) = (String::with_capacity(text.len() * 4 / 3), Framing::Length(0));
    let mut response = Response::new(());
    *response.status_mut() = status;
    for (name, value) in lines.filter_map(split_field) {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes()) {
            if let Some(length) = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()) {
                framing = Framing::Length(length);
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
        } else if !is_of_connection(name) && !is_internal(name) {
            push_field(name, value, &mut fields);
        }
    }
    let has_no_body = method == Method::Head || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let headers = response.headers_mut();
    headers.insert(META, OF_ORIGIN);
    if let Ok(fields) = HeaderValue::try_from(fields) {
        headers.insert(FIELDS, fields);
    }
    Some((response, if has_no_body { Framing::None } else { framing }))
}

/// The head of an answer by the connector itself, which has no body.
#[must_use]
pub fn own_answer_head(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(META, OF_CONNECTOR);
    response
}

pub(super) fn is_of_connection(name: &[u8]) -> bool {
    OF_CONNECTION.iter().any(|of| name.eq_ignore_ascii_case(of.as_bytes()))
}

pub(super) fn is_internal(name: &[u8]) -> bool {
    INTERNAL.iter().any(|start| name.len() >= start.len() && name[..start.len()].eq_ignore_ascii_case(start))
}

/// Adds a field to a list of fields: `name:value`, each in base64, with `;` between the fields.
fn push_field(name: &[u8], value: &[u8], fields: &mut String) {
    if !fields.is_empty() {
        fields.push(';');
    }
    STANDARD_NO_PAD.encode_string(name, fields);
    fields.push(':');
    STANDARD_NO_PAD.encode_string(value, fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(response: &Response<()>) -> String {
        let decoded = |text: &str| String::from_utf8(STANDARD_NO_PAD.decode(text).unwrap()).unwrap();
        let fields = response.headers()[FIELDS].to_str().unwrap().split(';').filter(|field| !field.is_empty());
        let fields = fields.map(|field| field.split_once(':').map(|(name, value)| (decoded(name), decoded(value))));
        fields.map(|field| field.map(|(name, value)| format!("{name}={value};")).unwrap()).collect()
    }

    #[test]
    fn the_first_field_that_applies_tells_the_kind() {
        let with = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            fields.iter().for_each(|(name, value)| drop(headers.insert(*name, HeaderValue::from_static(value))));
            headers
        };
        let upgrade = "cf-cloudflared-proxy-connection-upgrade";
        let source = "cf-cloudflared-proxy-src";
        for (fields, kind) in [
            (&[][..], RequestKind::Http),
            (&[(upgrade, "control-stream")], RequestKind::Control),
            (&[(upgrade, "websocket"), (source, "x")], RequestKind::WebSocket),
            (&[(upgrade, "update-configuration")], RequestKind::Configuration),
            (&[(upgrade, "control-stream"), (source, "x")], RequestKind::Tcp),
            (&[(source, "")], RequestKind::Http),
            (&[(upgrade, "other")], RequestKind::Http),
        ] {
            assert_eq!(kind_of(&with(fields)), kind, "{fields:?}");
        }
        let mut headers = with(&[(upgrade, "websocket"), (source, "x"), ("cf-trace-id", "y"), ("cf-ray", "z")]);
        strip_request(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["cf-ray"]);
    }

    #[test]
    fn the_fields_of_a_server_stand_in_one_field() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Empty:\r\n\
                     Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nCf-Int-Trace: no\r\nCF-Cloudflared-X: no\r\n\r\n";
        let (response, framing) = answer_head(text, Method::Get).unwrap();
        assert_eq!((response.status().as_u16(), framing), (200, Framing::Chunked));
        assert_eq!(fields_of(&response), "Content-Type=text/event-stream;Set-Cookie=a=1;set-cookie=b=2;X-Empty=;");
        assert_eq!(response.headers()[META], r#"{"src":"origin"}"#);
        assert_eq!(response.headers().len(), 2);
        // As `Content-Type: a` is written by the stock connector: without padding.
        let (response, _) = answer_head(b"HTTP/1.1 200 OK\r\nContent-Type: a\r\n\r\n", Method::Get).unwrap();
        assert_eq!(response.headers()[FIELDS], "Q29udGVudC1UeXBl:YQ");
    }

    #[test]
    fn the_length_of_a_body_stays_outside() {
        for (text, method, framing, length) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Method::Post, Framing::Length(12), Some("12")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Method::Head, Framing::None, Some("12")),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 12\r\n\r\n", Method::Get, Framing::None, Some("12")),
            ("HTTP/1.1 204 No Content\r\n\r\n", Method::Post, Framing::None, None),
            ("HTTP/1.1 202 Accepted\r\n\r\n", Method::Post, Framing::Length(0), None),
        ] {
            let (response, found) = answer_head(text.as_bytes(), method).unwrap();
            let found_length = response.headers().get(CONTENT_LENGTH).map(|value| value.to_str().unwrap());
            assert_eq!((found, found_length, fields_of(&response).as_str()), (framing, length, ""), "{text}");
        }
        assert!(answer_head(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Method::Get).is_none());
        let own = own_answer_head(StatusCode::BAD_GATEWAY);
        assert_eq!((own.status().as_u16(), &own.headers()[META]), (502, &OF_CONNECTOR));
    }
}
