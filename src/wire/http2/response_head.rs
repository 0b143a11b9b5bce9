use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};

use super::fields::{is_chunked, lines, push, push_field, split_field};
use crate::wire::http1::{Method, Progress, ResponseHead};

/// Converts the head of a response from HTTP/1.1 (`text`, as written by this crate). Fields of the connection are
/// dropped.
#[must_use]
pub fn response_of(text: &[u8]) -> Response<()> {
    let mut lines = lines(text);
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|digits| StatusCode::from_bytes(digits).ok());
    let mut response = Response::new(());
    // Heads that this crate writes always have a status.
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for field in lines.filter_map(split_field) {
        push_field(field, response.headers_mut());
    }
    response
}

/// Splits a complete HTTP/1.1 answer, as written by this crate for a request with this method, into head and body.
#[must_use]
pub fn split_answer(text: &[u8], method: Method) -> Option<(Response<()>, &[u8])> {
    match ResponseHead::new().feed(text, method) {
        Ok(Progress::Complete { len }) => Some((response_of(&text[..len]), &text[len..])),
        _ => None,
    }
}

/// Appends the head of a response as HTTP/1.1, to be parsed and checked as such; returns whether its body is a chunked
/// one.
///
/// `has_body`: a body may follow. A body of unknown length or with announced trailers becomes a chunked one. A response
/// without a body states that, if it could have one.
pub fn write_response_head(
    status: StatusCode,
    headers: &HeaderMap,
    method: Method,
    has_body: bool,
    out: &mut Vec<u8>,
) -> bool {
    push(out, &[b"HTTP/1.1 ", status.as_str().as_bytes(), b" \r\n"]);
    let is_chunked = has_body && !status.is_informational() && is_chunked(headers);
    for (name, value) in headers.iter().filter(|(name, _)| !(is_chunked && **name == CONTENT_LENGTH)) {
        push(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    let is_open = !status.is_informational() && !headers.contains_key(CONTENT_LENGTH);
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if is_open && method != Method::Head && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
    {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::wire::http1::{Answer, Framing, HeadError, ResponseEdits, write_response};

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

    fn read(response: &Response<()>, method: Method, has_body: bool) -> Result<ResponseHead, HeadError> {
        let mut text = Vec::new();
        let is_chunked = write_response_head(response.status(), response.headers(), method, has_body, &mut text);
        let mut head = ResponseHead::new();
        let progress = head.feed(&text, method)?;
        assert_eq!(progress, Progress::Complete { len: text.len() }, "{}", text.escape_ascii());
        assert_eq!(is_chunked, head.framing() == Framing::Chunked, "{}", text.escape_ascii());
        Ok(head)
    }

    #[test]
    fn a_response_is_read_as_one_of_http_1() {
        let events = Response::builder().header("content-type", "text/event-stream").header("set-cookie", "a=1");
        let events = events.header("set-cookie", "b=2").body(()).unwrap();
        let head = read(&events, Method::Get, true).unwrap();
        assert!(head.is_event_stream() && head.keep_alive());
        assert_eq!(head.headers().filter(|(name, _)| *name == b"set-cookie").count(), 2);
        let of_length = |status: u16, length: &str| {
            Response::builder().status(status).header("content-length", length).body(()).unwrap()
        };
        assert_eq!(read(&of_length(200, "12"), Method::Post, true).unwrap().framing(), Framing::Length(12));
        let mut announced = of_length(200, "12");
        announced.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let head = read(&announced, Method::Post, true).unwrap();
        assert_eq!((head.framing(), head.get("content-length")), (Framing::Chunked, None));
        assert_eq!(read(&announced, Method::Head, false).unwrap().get("content-length"), Some(&b"12"[..]));
        assert_eq!(read(&of_length(200, "12"), Method::Head, false).unwrap().framing(), Framing::None);
        assert_eq!(read(&of_length(304, "12"), Method::Get, false).unwrap().framing(), Framing::None);
        let of_status = |status: u16| Response::builder().status(status).body(()).unwrap();
        assert_eq!(read(&of_status(404), Method::Post, false).unwrap().framing(), Framing::Length(0));
        for (status, method) in [(200, Method::Head), (204, Method::Post), (304, Method::Get)] {
            assert_eq!(read(&of_status(status), method, false).unwrap().framing(), Framing::None, "{status}");
        }
        assert!(read(&of_status(103), Method::Get, true).unwrap().is_interim());
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        let lengths = Response::builder().header("content-length", "1").header("content-length", "2").body(()).unwrap();
        assert_eq!(read(&lengths, Method::Post, true).err(), Some(HeadError::RepeatedContentLength));
        let signed = Response::builder().header("content-length", "+1").body(()).unwrap();
        assert_eq!(read(&signed, Method::Post, true).err(), Some(HeadError::BadContentLength));
        let many = (0..200).fold(Response::builder(), |built, n| built.header(format!("x-{n}"), "y")).body(()).unwrap();
        assert_eq!(read(&many, Method::Post, true).err(), Some(HeadError::TooManyFields));
    }
}
