use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderName, Method, Request, Version};

use super::fields::{is_chunked, lines, push, push_field, split_field};
use crate::wire::http1::Framing;

/// Why a request cannot be sent over HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Its `Host` is not an authority.
    #[error("the Host of the request cannot be an :authority of HTTP/2")]
    Host,
    /// Its method or target is invalid in HTTP/2.
    #[error("the method or target of the request cannot be one of HTTP/2")]
    Target,
}

/// Appends the head of a request as HTTP/1.1, to be parsed and checked as such. `has_body`: a body follows.
///
/// `:authority` becomes `Host`; if the request has both, the target is written as a URL, so that the two are compared.
/// A body of unknown length or with announced trailers becomes a chunked one, because only those can have trailers.
/// Cookies are joined to one field (RFC 9113, section 8.2.3). Returns whether the body is chunked.
pub fn write_request_head(parts: &Parts, has_body: bool, out: &mut Vec<u8>) -> bool {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let has_host = parts.headers.contains_key(HOST);
    push(out, &[parts.method.as_str().as_bytes(), b" "]);
    match (authority, parts.uri.scheme_str()) {
        (Some(authority), Some(scheme)) if has_host => {
            let path = if path == "*" { "" } else { path };
            push(out, &[scheme.as_bytes(), b"://", authority.as_bytes(), path.as_bytes()]);
        }
        // CONNECT has only an authority.
        (Some(authority), _) if path.is_empty() => out.extend_from_slice(authority.as_bytes()),
        _ => out.extend_from_slice(path.as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority.filter(|_| !has_host) {
        push(out, &[b"host: ", authority.as_bytes(), b"\r\n"]);
    }
    let is_chunked = has_body && is_chunked(&parts.headers);
    let is_left_out = |name: &HeaderName| *name == COOKIE || is_chunked && *name == CONTENT_LENGTH;
    for (name, value) in parts.headers.iter().filter(|(name, _)| !is_left_out(name)) {
        push(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    let mut before: &[u8] = b"cookie: ";
    for cookie in parts.headers.get_all(COOKIE) {
        push(out, &[before, cookie.as_bytes()]);
        before = b"; ";
    }
    if parts.headers.contains_key(COOKIE) {
        out.extend_from_slice(b"\r\n");
    }
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

/// Converts the head of a request from HTTP/1.1 (`text`, as written by this crate); returns it with the framing of its
/// body. Fields of the connection are dropped; `Host` becomes `:authority`.
///
/// # Errors
///
/// If it cannot be expressed in HTTP/2.
pub fn request_of(text: &[u8], is_tls: bool) -> Result<(Request<()>, Framing), RequestError> {
    let mut lines = lines(text);
    let mut words = lines.next().unwrap_or_default().split(|&byte| byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(RequestError::Target) };
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(method).map_err(|_| RequestError::Target)?;
    let (mut authority, mut framing) = (None, Framing::None);
    for field in lines.filter_map(split_field) {
        let (name, value) = field;
        if name.eq_ignore_ascii_case(b"host") {
            authority = Authority::try_from(value).ok();
            continue;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            framing = length.map_or(Framing::None, Framing::Length);
        }
        push_field(field, request.headers_mut());
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(authority.ok_or(RequestError::Host)?);
    uri.path_and_query = Some(path_of(target).ok_or(RequestError::Target)?);
    *request.uri_mut() = Uri::from_parts(uri).map_err(|_| RequestError::Target)?;
    Ok((request, framing))
}

/// The path of a request. Characters that the library rejects are percent-encoded (RFC 3986, section 2.1).
fn path_of(target: &[u8]) -> Option<PathAndQuery> {
    if let Ok(path) = PathAndQuery::try_from(target) {
        return Some(path);
    }
    let mut encoded = Vec::with_capacity(target.len() + 16);
    for &byte in target {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
            _ => encoded.push(byte),
        }
    }
    PathAndQuery::try_from(&encoded[..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{HeadError, Progress, RequestHead};

    fn read(request: Request<()>, has_body: bool) -> Result<RequestHead, HeadError> {
        let (parts, ()) = request.into_parts();
        let mut text = Vec::new();
        write_request_head(&parts, has_body, &mut text);
        let mut head = RequestHead::new();
        let progress = head.feed(&text)?;
        assert_eq!(progress, Progress::Complete { len: text.len() }, "{}", text.escape_ascii());
        Ok(head)
    }

    #[track_caller]
    fn refused(request: Request<()>, why: HeadError) {
        assert_eq!(read(request, false).err(), Some(why));
    }

    #[test]
    fn pseudo_headers_become_method_target_and_host() {
        let request = Request::post("https://a.test:8443/mcp?x=1").header("content-type", "application/json").body(());
        let head = read(request.unwrap(), true).unwrap();
        assert_eq!((head.method_text(), head.path(), head.host()), (&b"POST"[..], &b"/mcp?x=1"[..], Some("a.test")));
        assert_eq!(head.framing(), Framing::Chunked);
        assert_eq!(head.get("host"), Some(&b"a.test:8443"[..]));
        assert_eq!(head.get("content-type"), Some(&b"application/json"[..]));
        let asterisk = Request::options("*").header("host", "a.test").body(()).unwrap();
        assert_eq!(read(asterisk, false).unwrap().path(), b"*");
    }

    #[test]
    fn a_body_is_framed_by_its_length_if_that_is_known_and_no_trailers_are_announced() {
        let of_length =
            |length: &str| Request::post("http://a.test/").header("content-length", length).body(()).unwrap();
        assert_eq!(read(of_length("12"), true).unwrap().framing(), Framing::Length(12));
        let announced = Request::post("http://a.test/").header("content-length", "12").header("trailer", "x-sum");
        let head = read(announced.body(()).unwrap(), true).unwrap();
        assert_eq!((head.framing(), head.get("content-length")), (Framing::Chunked, None));
        let nothing = Request::post("http://a.test/").header("content-length", "0").header("trailer", "x-sum");
        assert_eq!(read(nothing.body(()).unwrap(), false).unwrap().framing(), Framing::Length(0));
        assert_eq!(read(of_length("0"), false).unwrap().framing(), Framing::Length(0));
        assert_eq!(read(Request::get("http://a.test/").body(()).unwrap(), false).unwrap().framing(), Framing::None);
    }

    #[test]
    fn the_crumbs_of_a_cookie_are_joined() {
        let request = Request::get("http://a.test/").header("cookie", "a=1").header("x", "y").header("cookie", "b=2");
        let head = read(request.body(()).unwrap(), false).unwrap();
        assert_eq!(head.get("cookie"), Some(&b"a=1; b=2"[..]));
        assert_eq!(head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie")).count(), 1);
    }

    #[test]
    fn a_host_beside_the_authority_must_be_the_same() {
        let with = |host: &str| Request::get("https://a.test/x").header("host", host).body(()).unwrap();
        assert_eq!(read(with("a.test:443"), false).unwrap().path(), b"/x");
        refused(with("b.test"), HeadError::HostMismatch);
        let twice = Request::get("https://a.test/").header("host", "a.test").header("host", "a.test");
        refused(twice.body(()).unwrap(), HeadError::RepeatedHost);
        refused(Request::get("/").body(()).unwrap(), HeadError::NoHost);
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        refused(Request::get("https://user@a.test/").body(()).unwrap(), HeadError::BadHost);
        let userinfo = Request::get("https://user@a.test/").header("host", "a.test").body(()).unwrap();
        refused(userinfo, HeadError::HostMismatch);
        let lengths = Request::post("http://a.test/").header("content-length", "1").header("content-length", "2");
        refused(lengths.body(()).unwrap(), HeadError::RepeatedContentLength);
        let disguised = Request::post("http://a.test/").header("transfer_encoding", "chunked").body(()).unwrap();
        refused(disguised, HeadError::DisguisedField);
        refused(Request::connect("a.test:443").body(()).unwrap(), HeadError::UnsupportedMethod);
        refused(Request::trace("http://a.test/").body(()).unwrap(), HeadError::UnsupportedMethod);
        let schemes = Request::get("ftp://a.test/").header("host", "a.test").body(()).unwrap();
        refused(schemes, HeadError::BadTarget);
    }

    #[test]
    fn no_byte_that_the_library_lets_through_ends_a_line_or_divides_one() {
        for byte in 0..=u8::MAX {
            let target = [b"/a".as_slice(), &[byte], b"b"].concat();
            let Ok(uri) = http::uri::PathAndQuery::try_from(&target[..]) else { continue };
            let mut request = Request::get("http://a.test/").body(()).unwrap();
            let mut parts = request.uri().clone().into_parts();
            parts.path_and_query = Some(uri);
            *request.uri_mut() = parts.try_into().unwrap();
            // The target is either accepted as one or refused.
            match read(request, false) {
                Ok(head) => assert!(head.path().starts_with(b"/a"), "{byte:#04x}"),
                Err(why) => assert_eq!(why, HeadError::BadTarget, "{byte:#04x}"),
            }
        }
        for byte in 0..=u8::MAX {
            let Ok(value) = http::HeaderValue::from_bytes(&[b'a', byte, b'b']) else { continue };
            let request = Request::get("http://a.test/").header("x", value).body(()).unwrap();
            let head = read(request, false).unwrap();
            assert_eq!((head.headers().count(), head.get("x")), (2, Some(&[b'a', byte, b'b'][..])), "{byte:#04x}");
        }
    }

    #[test]
    fn a_request_of_http_1_becomes_one_of_http_2() {
        let text = b"POST /mcp?x=1 HTTP/1.1\r\nHost: mcp_server:9000\r\nContent-Type: application/json\r\n\
                     X-Forwarded-For: ::1\r\nContent-Length: 12\r\nConnection: close\r\n\r\n";
        let (request, framing) = request_of(text, false).unwrap();
        assert_eq!((request.method(), framing), (&Method::POST, Framing::Length(12)));
        assert_eq!(request.uri(), "http://mcp_server:9000/mcp?x=1");
        let names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-forwarded-for", "content-length"]);
        let chunked = b"PUT / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (request, framing) = request_of(chunked, true).unwrap();
        assert_eq!((request.uri().to_string().as_str(), framing), ("https://[::1]/", Framing::Chunked));
        assert!(request.headers().is_empty());
        assert_eq!(request_of(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", true).err(), Some(RequestError::Host));
        assert_eq!(request_of(b"GET / HTTP/1.1\r\n\r\n", true).err(), Some(RequestError::Host));
    }

    #[test]
    fn every_target_that_passes_in_http_1_can_be_asked_for_in_http_2() {
        for byte in 0..=u8::MAX {
            let text = [&b"GET /a"[..], &[byte], b"?b"].concat();
            let text = [&text[..], &[byte], b" HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat();
            if RequestHead::new().feed(&text).is_err() {
                continue;
            }
            let (request, _) = request_of(&text, false).unwrap_or_else(|why| panic!("{byte:#04x}: {why}"));
            let path = request.uri().path_and_query().unwrap().as_str();
            let plain = [&b"/a"[..], &[byte], b"?b", &[byte]].concat();
            let encoded = format!("/a%{byte:02X}?b%{byte:02X}");
            assert!(path.as_bytes() == plain || path == encoded, "{byte:#04x}: {path}");
        }
        let asterisk = b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(request_of(asterisk, false).unwrap().0.uri().path(), "*");
    }
}
