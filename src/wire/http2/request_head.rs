use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;

/// Appends the head of a request as HTTP/1.1, to be read and checked as one. `has_body` says that a body follows.
///
/// `:authority` becomes `Host`; where the request has both, the target is written as a URL, so that the two are compared. A body
/// whose length is not announced becomes a chunked one. Cookies are joined to one field (RFC 9113, section 8.2.3).
pub fn write_request_head(parts: &Parts, has_body: bool, out: &mut Vec<u8>) {
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let has_host = parts.headers.contains_key(HOST);
    push(out, &[parts.method.as_str().as_bytes(), b" "]);
    match (authority, parts.uri.scheme_str()) {
        (Some(authority), Some(scheme)) if has_host => {
            let path = if path == "*" { "" } else { path };
            push(out, &[scheme.as_bytes(), b"://", authority.as_bytes(), path.as_bytes()]);
        }
        // CONNECT has nothing but an authority.
        (Some(authority), _) if path.is_empty() => out.extend_from_slice(authority.as_bytes()),
        _ => out.extend_from_slice(path.as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority.filter(|_| !has_host) {
        push(out, &[b"host: ", authority.as_bytes(), b"\r\n"]);
    }
    for (name, value) in parts.headers.iter().filter(|(name, _)| **name != COOKIE) {
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
    if has_body && !parts.headers.contains_key(CONTENT_LENGTH) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn push(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::wire::http1::{Framing, HeadError, Progress, RequestHead};

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
    fn a_body_is_framed_by_its_length_if_that_is_known() {
        let of_length =
            |length: &str| Request::post("http://a.test/").header("content-length", length).body(()).unwrap();
        assert_eq!(read(of_length("12"), true).unwrap().framing(), Framing::Length(12));
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
    fn what_could_be_read_in_two_ways_is_refused() {
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
            // Either it is one target, or it is refused.
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
}
