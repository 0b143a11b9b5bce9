use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use memchr::memchr;

use crate::wire::http1::{Method, Progress, ResponseHead};

/// The fields that HTTP/2 does not have (RFC 9113, section 8.2.2), besides those with a constant of their own.
const OF_CONNECTIONS: [&str; 2] = ["keep-alive", "proxy-connection"];

/// The head of a response that `text` is in HTTP/1.1, as it was written here. Without the fields that belong to a connection.
#[must_use]
pub fn response_of(text: &[u8]) -> Response<()> {
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|digits| StatusCode::from_bytes(digits).ok());
    let mut response = Response::new(());
    // What was written here has a status.
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for line in lines {
        push_field(line, response.headers_mut());
    }
    response
}

/// A whole answer in HTTP/1.1, as it was written here for a request with this method: its head, and the body behind it.
#[must_use]
pub fn split_answer(text: &[u8], method: Method) -> Option<(Response<()>, &[u8])> {
    match ResponseHead::new().feed(text, method) {
        Ok(Progress::Complete { len }) => Some((response_of(&text[..len]), &text[len..])),
        _ => None,
    }
}

fn push_field(line: &[u8], headers: &mut HeaderMap) {
    let Some(colon) = memchr(b':', line) else { return };
    let name = HeaderName::from_bytes(&line[..colon]);
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
    let (Ok(name), Ok(value)) = (name, value) else { return };
    let is_of_connection =
        [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name) || OF_CONNECTIONS.contains(&name.as_str());
    if !is_of_connection {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Answer, Framing, ResponseEdits, write_response};

    fn translated(text: &str, edits: &ResponseEdits<'_>) -> Response<()> {
        let mut head = ResponseHead::new();
        assert!(matches!(head.feed(text.as_bytes(), Method::Post), Ok(Progress::Complete { .. })));
        let mut out = Vec::new();
        write_response(&head, edits, &mut out);
        response_of(&out)
    }

    #[test]
    fn status_and_fields_stay_and_those_of_the_connection_do_not() {
        let text = "HTTP/1.1 200 Fine\r\nContent-Type: text/event-stream\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
                    Transfer-Encoding: chunked\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                    X-Empty:\r\nX-Colons: a:b\r\n\r\n";
        let append = [("Server-Timing", &b"edge;dur=1"[..])];
        let edits =
            ResponseEdits { framing: Framing::Chunked, close: true, append: &append, ..ResponseEdits::default() };
        let response = translated(text, &edits);
        assert_eq!(response.status(), 200);
        let fields: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expected = [
            ("content-type", "text/event-stream"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-empty", ""),
            ("x-colons", "a:b"),
            ("server-timing", "edge;dur=1"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_demand_for_another_protocol_stays_without_its_offer() {
        let text = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n";
        let edits = ResponseEdits { framing: Framing::Length(0), ..ResponseEdits::default() };
        let response = translated(text, &edits);
        assert_eq!(response.status(), 426);
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length"]);
    }

    #[test]
    fn an_answer_of_our_own_is_split_from_its_body() {
        let mut text = Vec::new();
        Answer::new(503, "overloaded", "later").write(&mut text);
        let (head, body) = split_answer(&text, Method::Post).unwrap();
        assert_eq!((head.status().as_u16(), head.headers().contains_key("connection")), (503, false));
        assert_eq!(head.headers()["content-length"], body.len().to_string());
        assert!(body.starts_with(b"{"), "{}", body.escape_ascii());
        text.clear();
        Answer { to_head: true, ..Answer::new(404, "x", "y") }.write(&mut text);
        assert!(split_answer(&text, Method::Head).unwrap().1.is_empty());
    }
}
