//! The heads of calls over QUIC, as those of HTTP: of a request for the code that reads it, and of its answer.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};

use super::heads::{is_internal, is_of_connection, strip_request};
use super::quic_streams::{
    ConnectRequest, ConnectionType, Metadata, QuicStreamFault, read_connect_request, write_connect_response,
};
use crate::wire::http1::{Framing, Method};
use crate::wire::http2::{lines, split_field};

/// The request of a call, as far as it could be read.
#[derive(Debug)]
pub struct QuicRequest {
    /// What the call connects to.
    pub kind: ConnectionType,
    /// The head of a request of HTTP.
    pub parts: Parts,
    /// Whether a body follows.
    pub has_body: bool,
    /// How many bytes of the stream were read.
    pub len: usize,
}

/// Reads the request at the start of a stream; `None` while it is incomplete.
///
/// # Errors
///
/// If it is malformed, or not a request that HTTP allows.
pub fn read_quic_request(bytes: &[u8]) -> Result<Option<QuicRequest>, QuicStreamFault> {
    let mut head = Head { request: Request::new(()), is_chunked: false, fault: None };
    let Some((ConnectRequest { kind, dest }, len)) = read_connect_request(bytes, |of| head.take(of))? else {
        return Ok(None);
    };
    head.set_target(dest);
    match head.fault {
        Some(fault) if kind == ConnectionType::Http => return Err(fault),
        _ => {}
    }
    let mut parts = head.request.into_parts().0;
    let length = parts.headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let has_body = head.is_chunked || length.is_some_and(|length| length != b"0");
    strip_request(&mut parts.headers);
    Ok(Some(QuicRequest { kind, parts, has_body, len }))
}

struct Head {
    request: Request<()>,
    is_chunked: bool,
    fault: Option<QuicStreamFault>,
}

impl Head {
    fn take(&mut self, metadata: Metadata<'_>) {
        let taken = match metadata {
            Metadata::Method(method) => {
                http::Method::from_bytes(method).map(|method| *self.request.method_mut() = method).is_ok()
            }
            Metadata::Host(host) => {
                HeaderValue::from_bytes(host).map(|host| self.request.headers_mut().insert(HOST, host)).is_ok()
            }
            Metadata::Field(name, value) => self.take_field(name, value),
            Metadata::Status(_) | Metadata::Other(..) => true,
        };
        if !taken {
            self.fault = Some(QuicStreamFault::Head);
        }
    }

    fn take_field(&mut self, name: &[u8], value: &[u8]) -> bool {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            return false;
        };
        let headers = self.request.headers_mut();
        match &name {
            &TRANSFER_ENCODING => self.is_chunked |= value.as_bytes().eq_ignore_ascii_case(b"chunked"),
            &CONNECTION | &UPGRADE => {}
            // The host is in metadata of its own.
            &HOST => {}
            // The edge may repeat it, but not contradict itself.
            &CONTENT_LENGTH => return headers.insert(name, value.clone()).is_none_or(|before| before == value),
            _ if is_of_connection(name.as_str().as_bytes()) => {}
            _ => drop(headers.append(name, value)),
        }
        true
    }

    /// The target is a URL, whose scheme and host are the edge's matter, or a path.
    fn set_target(&mut self, dest: &[u8]) {
        let rest = [&b"https://"[..], b"http://"].iter().find_map(|scheme| dest.strip_prefix(*scheme));
        let (authority, path) = match rest {
            Some(rest) => rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len())),
            None => (&b""[..], dest),
        };
        let path = match path {
            [] => b"/".to_vec(),
            [b'?', ..] => [b"/", path].concat(),
            _ => path.to_vec(),
        };
        let target = PathAndQuery::try_from(&path[..]).ok().filter(|_| path.first() == Some(&b'/'));
        match target.map(Uri::from) {
            Some(uri) => *self.request.uri_mut() = uri,
            None => self.fault = Some(QuicStreamFault::Head),
        }
        if !self.request.headers().contains_key(HOST)
            && let Ok(host) = HeaderValue::from_bytes(authority)
        {
            self.request.headers_mut().insert(HOST, host);
        }
    }
}

/// Writes the start of the answer to a call after `out`, for the head of an HTTP/1.1 answer in `text` to a request of this method.
/// Returns its status, and the framing of the body that follows in `text`. None for an interim answer, which cannot be passed on.
pub fn write_quic_answer(text: &[u8], method: Method, out: &mut Vec<u8>) -> Option<(StatusCode, Framing)> {
    let mut lines = lines(text);
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|digits| StatusCode::from_bytes(digits).ok());
    // Heads that this program writes always have a status.
    let status = status.unwrap_or(StatusCode::BAD_GATEWAY);
    if status.is_informational() {
        return None;
    }
    let (mut metadata, mut framing) = (vec![Metadata::Status(status.as_u16())], Framing::Length(0));
    for (name, value) in lines.filter_map(split_field) {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunked;
            continue;
        }
        if name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes()) {
            let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            framing = length.map_or(framing, Framing::Length);
        }
        if !is_of_connection(name) && !is_internal(name) {
            metadata.push(Metadata::Field(name, value));
        }
    }
    write_connect_response(out, "", &metadata);
    let has_no_body = method == Method::Head || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    Some((status, if has_no_body { Framing::None } else { framing }))
}

/// Writes an answer of the connector itself after `out`, which has no body.
pub fn write_own_quic_answer(status: StatusCode, out: &mut Vec<u8>) {
    match status {
        // An edge makes 502 of an error.
        StatusCode::BAD_GATEWAY => write_connect_response(out, "the connector has no answer of the server", &[]),
        status => write_connect_response(out, "", &[Metadata::Status(status.as_u16())]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::quic_streams::{read_connect_response, write_connect_request};
    use super::super::vectors::{CALL_BEGINS, framed};
    use super::*;
    use crate::wire::http2::write_request_head;

    fn read(dest: &str, metadata: &[Metadata<'_>]) -> Result<QuicRequest, QuicStreamFault> {
        let mut bytes = Vec::new();
        let request = ConnectRequest { kind: ConnectionType::Http, dest: dest.as_bytes() };
        write_connect_request(&mut bytes, &request, metadata);
        let read = read_quic_request(&bytes).map(|read| read.expect("it is complete"))?;
        assert_eq!(read.len, bytes.len());
        Ok(read)
    }

    fn text_of(request: &QuicRequest) -> String {
        let mut text = Vec::new();
        write_request_head(&request.parts, request.has_body, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_request_of_a_go_edge_becomes_a_head() {
        let request = read_quic_request(&framed(CALL_BEGINS)).unwrap().unwrap();
        assert_eq!((request.kind, request.has_body, request.len), (ConnectionType::Http, true, 432));
        let text = text_of(&request);
        let mut lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.remove(0), "POST /post HTTP/1.1");
        lines.sort_unstable();
        let wanted = [
            "",
            "accept: application/json, text/event-stream",
            "content-length: 40",
            "content-type: application/json",
            "host: mcp.example.com",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_body_is_announced_by_its_length_or_as_chunked() {
        for (fields, has_body, has_chunks) in [
            (&[][..], false, false),
            (&[(&b"Content-Length"[..], &b"0"[..])], false, false),
            (&[(b"Content-Length", b"3")], true, false),
            (&[(b"Transfer-Encoding", b"chunked")], true, true),
        ] {
            let metadata: Vec<_> = fields.iter().map(|(name, value)| Metadata::Field(name, value)).collect();
            let request = read("https://a.test", &metadata).unwrap();
            assert_eq!(request.has_body, has_body, "{fields:?}");
            assert_eq!(text_of(&request).contains("transfer-encoding: chunked"), has_chunks, "{fields:?}");
        }
    }

    #[test]
    fn targets_are_paths_and_hosts_stand_beside_them() {
        for (dest, target, host) in [
            ("https://a.test/mcp?x=1", "/mcp?x=1", "a.test"),
            ("http://a.test:81", "/", "a.test:81"),
            ("http://a.test?x", "/?x", "a.test"),
            ("/mcp", "/mcp", ""),
        ] {
            let text = text_of(&read(dest, &[]).unwrap());
            assert!(text.starts_with(&format!("GET {target} HTTP/1.1\r\nhost: {host}")), "{text}");
        }
        let with_host =
            read("https://a.test/", &[Metadata::Host(b"b.test"), Metadata::Field(b"Host", b"c.test")]).unwrap();
        assert!(text_of(&with_host).contains("host: b.test") && !text_of(&with_host).contains("c.test"));
        let stripped =
            read("/", &[Metadata::Field(b"Cf-Trace-Id", b"x"), Metadata::Field(b"Keep-Alive", b"5")]).unwrap();
        assert!(!text_of(&stripped).contains('5') && !text_of(&stripped).contains("trace"));
    }

    #[test]
    fn nothing_can_be_put_between_the_lines_of_a_head() {
        for metadata in [
            Metadata::Method(b"GET / HTTP/1.1\r\nX: "),
            Metadata::Host(b"a\r\nX: b"),
            Metadata::Field(b"X-A\r\nX", b"b"),
            Metadata::Field(b"X-A", b"b\r\nX: c"),
            Metadata::Field(b"", b"b"),
        ] {
            assert_eq!(read("/", &[metadata]).err(), Some(QuicStreamFault::Head), "{metadata:?}");
        }
        for dest in ["", "x", "/a b", "/a\r\nX: b", "*"] {
            assert!(read(dest, &[]).is_err() || dest.is_empty(), "{dest}");
        }
        let twice = [Metadata::Field(b"Content-Length", b"1"), Metadata::Field(b"Content-Length", b"2")];
        assert_eq!(read("/", &twice).err(), Some(QuicStreamFault::Head));
    }

    #[test]
    fn an_answer_keeps_its_fields_and_loses_its_framing() {
        for (text, method, status, framing, fields) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
                Method::Get,
                200,
                Framing::Chunked,
                &[("Content-Type", "text/event-stream")][..],
            ),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nCf-Int-X: 1\r\n\r\n",
                Method::Post,
                404,
                Framing::Length(5),
                &[("Content-Length", "5")],
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Method::Head,
                200,
                Framing::None,
                &[("Content-Length", "5")],
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", Method::Delete, 204, Framing::None, &[]),
        ] {
            let mut out = Vec::new();
            assert_eq!(
                write_quic_answer(text.as_bytes(), method, &mut out),
                Some((StatusCode::from_u16(status).unwrap(), framing))
            );
            let mut metadata = Vec::new();
            let read = read_connect_response(&out, |of| metadata.push(of)).unwrap();
            assert_eq!(read, Some((&b""[..], out.len())));
            let fields = fields.iter().map(|(name, value)| Metadata::Field(name.as_bytes(), value.as_bytes()));
            assert_eq!(metadata, [Metadata::Status(status)].into_iter().chain(fields).collect::<Vec<_>>());
        }
        assert_eq!(write_quic_answer(b"HTTP/1.1 103 Early Hints\r\n\r\n", Method::Get, &mut Vec::new()), None);
        let mut out = Vec::new();
        write_own_quic_answer(StatusCode::BAD_GATEWAY, &mut out);
        assert!(
            matches!(read_connect_response(&out, |_| panic!("it has no status")), Ok(Some((error, _))) if !error.is_empty())
        );
    }
}
