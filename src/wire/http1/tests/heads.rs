use super::*;

/// Requests that are refused: the name of the technique, the bytes, the verdict.
#[rustfmt::skip]
const BAD_REQUESTS: &[(&str, &[u8], HeadError)] = &[
    // Framing
    ("CL.CL, differing", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", HeadError::RepeatedContentLength),
    ("CL.CL, equal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", HeadError::RepeatedContentLength),
    ("CL list", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", HeadError::RepeatedContentLength),
    ("CL with plus", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", HeadError::BadContentLength),
    ("CL negative", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", HeadError::BadContentLength),
    ("CL hexadecimal", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", HeadError::BadContentLength),
    ("CL with inner space", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n", HeadError::BadContentLength),
    ("CL with underscore digit", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", HeadError::BadContentLength),
    ("CL empty", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", HeadError::BadContentLength),
    ("CL fraction", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n", HeadError::BadContentLength),
    ("CL overflow", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", HeadError::BadContentLength),
    ("CL full-width digit", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xef\xbc\x95\r\n\r\n", HeadError::BadContentLength),
    ("CL.TE", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::LengthAndEncoding),
    ("TE.CL", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", HeadError::LengthAndEncoding),
    ("TE.TE", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::RepeatedTransferEncoding),
    ("TE.TE, second obfuscated", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n", HeadError::RepeatedTransferEncoding),
    ("TE chunked twice in a list", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE gzip before chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE chunked not final", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE identity", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE xchunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE quoted", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE with parameter", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE with leading comma", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE empty", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE with vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", HeadError::ControlByte),
    ("TE with no-break space", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \xa0chunked\r\n\r\n", HeadError::UnsupportedTransferEncoding),
    ("TE in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TransferEncodingInHttp10),
    ("TE disguised by underscore", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", HeadError::DisguisedField),
    ("CL disguised by underscore", b"POST / HTTP/1.1\r\nHost: a\r\ncontent_length: 5\r\n\r\n", HeadError::DisguisedField),
    // Lines
    ("space before colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", HeadError::SpaceBeforeColon),
    ("tab before colon", b"POST / HTTP/1.1\r\nHost\t: a\r\n\r\n", HeadError::SpaceBeforeColon),
    ("obsolete folding, space", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", HeadError::ObsFold),
    ("obsolete folding, tab", b"POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", HeadError::ObsFold),
    ("white space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", HeadError::ObsFold),
    ("line of white space as the end", b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", HeadError::ObsFold),
    ("bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", HeadError::BareCr),
    ("bare CR at the start of a line", b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", HeadError::BareCr),
    ("CR CR LF", b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", HeadError::BareCr),
    ("bare LF ends a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", HeadError::BareLf),
    ("bare LF ends the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLf),
    ("bare LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", HeadError::BareLf),
    ("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", HeadError::ControlByte),
    ("NUL in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\0: a\r\n\r\n", HeadError::ControlByte),
    ("DEL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", HeadError::ControlByte),
    ("escape in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", HeadError::ControlByte),
    ("empty name", b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", HeadError::EmptyFieldName),
    ("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nchunked\r\n\r\n", HeadError::NoColon),
    ("quote in a name", b"GET / HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n", HeadError::BadFieldName),
    ("non-ASCII name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xc3\xa9: b\r\n\r\n", HeadError::BadFieldName),
    ("space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", HeadError::SpaceBeforeColon),
    // Host
    ("no Host", b"GET / HTTP/1.1\r\nX: a\r\n\r\n", HeadError::NoHost),
    ("no fields", b"GET / HTTP/1.1\r\n\r\n", HeadError::NoHost),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::RepeatedHost),
    ("two equal Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", HeadError::RepeatedHost),
    ("two Hosts in HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::RepeatedHost),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", HeadError::BadHost),
    ("Host with path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HeadError::BadHost),
    ("Host with user", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", HeadError::BadHost),
    ("Host as list", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HeadError::BadHost),
    ("Host against absolute target", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::HostMismatch),
    ("Host with another port than the target", b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::HostMismatch),
    ("user in absolute target", b"GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", HeadError::HostMismatch),
    // Request line
    ("HTTP/0.9", b"GET /\r\n\r\n", HeadError::BadRequestLine),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("space in target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("trailing space", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("tab as divider", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadMethod),
    ("tab in target", b"GET /\ta HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("two empty lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("empty line by LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareLf),
    ("space before the method", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadMethod),
    ("method with control byte", b"G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadMethod),
    ("method with delimiter", b"GET() / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadMethod),
    ("endless method", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", HeadError::BadMethod),
    ("JSON on the port", b"{\"jsonrpc\":\"2.0\"}", HeadError::BadMethod),
    ("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", HeadError::TlsOnPlainPort),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::UnsupportedVersion),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", HeadError::UnsupportedVersion),
    ("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("long version", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", HeadError::BadRequestLine),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", HeadError::UnsupportedMethod),
    ("TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::UnsupportedMethod),
    ("asterisk with GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("relative target", b"GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("authority as target", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("foreign scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("absolute target without host", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("fragment in target", b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("non-ASCII target", b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadTarget),
    ("control byte in target", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::ControlByte),
    // Connection and expectation
    ("unknown expectation", b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", HeadError::UnsupportedExpectation),
    ("endless Connection", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a,b,c,d,e,f,g,h,i\r\nConnection: a,b,c,d,e,f,g,h,i\r\n\r\n", HeadError::TooManyConnectionOptions),
];

/// Requests that are accepted: name, bytes, and the parsed values.
#[rustfmt::skip]
const GOOD_REQUESTS: &[(&str, &[u8], Expected)] = &[
    ("plain GET", b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Get, path: b"/a?b=c", ..PLAIN }),
    ("length", b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n", Expected { method: Method::Post, path: b"/mcp", framing: Framing::Length(12), ..PLAIN }),
    ("length of nothing", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", Expected { method: Method::Post, framing: Framing::Length(0), ..PLAIN }),
    ("length with zeros before", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n", Expected { method: Method::Post, framing: Framing::Length(7), ..PLAIN }),
    ("longest length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999999999\r\n\r\n", Expected { method: Method::Post, framing: Framing::Length(999_999_999_999_999_999), ..PLAIN }),
    ("chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked \r\n\r\n", Expected { method: Method::Post, framing: Framing::Chunked, ..PLAIN }),
    ("no space after colon", b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", PLAIN),
    ("white space around the value", b"GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n", PLAIN),
    ("empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", PLAIN),
    ("close", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n", Expected { keep_alive: false, ..PLAIN }),
    ("close in a list", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n", Expected { keep_alive: false, ..PLAIN }),
    ("close wins over keep-alive", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", Expected { keep_alive: false, ..PLAIN }),
    ("HTTP/1.0", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", Expected { keep_alive: false, ..PLAIN }),
    ("HTTP/1.0 kept", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", PLAIN),
    ("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", Expected { host: None, keep_alive: false, ..PLAIN }),
    ("absolute target", b"GET http://A.example:80/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n", Expected { host: Some("a.example"), path: b"/x?y", ..PLAIN }),
    ("absolute target without path", b"GET https://a HTTP/1.1\r\nHost: a:443\r\n\r\n", PLAIN),
    ("absolute target in HTTP/1.0", b"GET http://a./ HTTP/1.0\r\n\r\n", Expected { keep_alive: false, ..PLAIN }),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Options, path: b"*", ..PLAIN }),
    ("absolute OPTIONS without path", b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Options, path: b"*", ..PLAIN }),
    ("host normalised", b"GET / HTTP/1.1\r\nHOST: MCP.Example.COM.:8443\r\n\r\n", Expected { host: Some("mcp.example.com"), ..PLAIN }),
    ("IPv6 host", b"GET / HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n", Expected { host: Some("[::1]"), ..PLAIN }),
    ("continue", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n", Expected { method: Method::Post, framing: Framing::Length(3), expects: true, ..PLAIN }),
    ("continue means nothing in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", Expected { method: Method::Post, keep_alive: false, ..PLAIN }),
    ("upgrade", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, WebSocket/13\r\nSec-WebSocket-Key: k\r\n\r\n", Expected { websocket: true, ..PLAIN }),
    ("upgrade to no WebSocket", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c, websockets\r\nSec-WebSocket-Key: k\r\n\r\n", PLAIN),
    ("upgrade without a key", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", PLAIN),
    ("upgrade of a POST", b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n", Expected { method: Method::Post, ..PLAIN }),
    ("bytes above ASCII in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: caf\xe9\r\n\r\n", PLAIN),
    ("unknown method", b"QUERY / HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Other, ..PLAIN }),
    ("lower-case method is another method", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Other, ..PLAIN }),
    ("delete", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", Expected { method: Method::Delete, ..PLAIN }),
];

#[derive(Debug, PartialEq)]
struct Expected {
    method: Method,
    path: &'static [u8],
    host: Option<&'static str>,
    framing: Framing,
    keep_alive: bool,
    expects: bool,
    websocket: bool,
}

const PLAIN: Expected = Expected {
    method: Method::Get,
    path: b"/",
    host: Some("a"),
    framing: Framing::None,
    keep_alive: true,
    expects: false,
    websocket: false,
};

fn assert_expected(head: &RequestHead, expected: &Expected, name: &str) {
    assert_eq!(head.method(), expected.method, "{name}");
    assert_eq!(head.path(), expected.path, "{name}");
    assert_eq!(head.host(), expected.host, "{name}");
    assert_eq!(head.framing(), expected.framing, "{name}");
    assert_eq!(head.keep_alive(), expected.keep_alive, "{name}");
    assert_eq!(head.expects_continue(), expected.expects, "{name}");
    assert_eq!(head.wants_websocket(), expected.websocket, "{name}");
}

#[test]
fn bad_requests_are_refused_by_name_in_every_cut() {
    let mut head = RequestHead::new();
    for (name, bytes, why) in BAD_REQUESTS {
        for pieces in cuts(bytes) {
            head.clear();
            assert_eq!(feed_request(&mut head, &pieces), Err(*why), "{name}, cut at {}", pieces[0].len());
        }
        assert!((400..=505).contains(&why.status()));
        let text = why.to_string();
        assert!(text.contains(':') && text.len() > 40, "{name}: no remedy in {text:?}");
    }
}

#[test]
fn good_requests_are_read_in_every_cut() {
    let mut head = RequestHead::new();
    for (name, bytes, expected) in GOOD_REQUESTS {
        for pieces in cuts(bytes) {
            assert_eq!(feed_request(&mut head, &pieces), Ok(Progress::Complete { len: bytes.len() }), "{name}");
            assert_expected(&head, expected, name);
        }
    }
}

#[test]
fn bad_responses_are_refused_in_every_cut() {
    let bad: &[(&[u8], HeadError)] = &[
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::LengthAndEncoding),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", HeadError::RepeatedContentLength),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", HeadError::UnsupportedTransferEncoding),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::TransferEncodingInHttp10),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", HeadError::ObsFold),
        (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", HeadError::SpaceBeforeColon),
        (b"HTTP/1.1 200 OK\nX: y\r\n\r\n", HeadError::BareLf),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", HeadError::BareCr),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", HeadError::ControlByte),
        (b"HTTP/1.1 20 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"HTTP/1.1 2000 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"HTTP/1.1 099 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"HTTP/1.1  200 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"HTTP/1.1\r\n\r\n", HeadError::BadStatusLine),
        (b"HTTP/2 200\r\n\r\n", HeadError::UnsupportedVersion),
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"SSH-2.0-OpenSSH_9.6\r\n", HeadError::BadStatusLine),
        (b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", HeadError::BadStatusLine),
        (b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64", HeadError::Http2Answer),
        (b"\x15\x03\x01\0\x02\x02\x46", HeadError::TlsAnswer),
    ];
    let mut head = ResponseHead::new();
    for (bytes, why) in bad {
        for pieces in cuts(bytes) {
            head.clear();
            assert_eq!(feed_response(&mut head, &pieces, Method::Post), Err(*why), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn the_framing_of_a_response_follows_rfc_9112() {
    use Framing::{Chunked, Length, None, UntilClose};
    let cases: &[(&[u8], Method, Framing, bool)] = &[
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Post, Length(5), true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Head, None, true),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Post, Chunked, true),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Head, None, true),
        (b"HTTP/1.1 200 OK\r\n\r\n", Method::Post, UntilClose, false),
        (b"HTTP/1.1 200\r\n\r\n", Method::Post, UntilClose, false),
        (b"HTTP/1.1 202 \r\nContent-Length: 0\r\n\r\n", Method::Post, Length(0), true),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Method::Post, None, true),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Method::Post, None, false),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Method::Get, None, true),
        (b"HTTP/1.1 100 Continue\r\n\r\n", Method::Post, None, true),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Method::Get, None, false),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\n", Method::Post, Length(5), false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Method::Post, Length(5), false),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", Method::Post, Length(5), true),
    ];
    let mut head = ResponseHead::new();
    for (bytes, method, framing, keep_alive) in cases {
        for pieces in cuts(bytes) {
            let progress = feed_response(&mut head, &pieces, *method);
            assert_eq!(progress, Ok(Progress::Complete { len: bytes.len() }), "{}", bytes.escape_ascii());
            assert_eq!((head.framing(), head.keep_alive()), (*framing, *keep_alive), "{}", bytes.escape_ascii());
        }
    }
    assert!(response(b"HTTP/1.1 103 Early Hints\r\n\r\n", Method::Get).unwrap().is_interim());
    assert!(!response(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Method::Get).unwrap().is_interim());
}

#[test]
fn the_time_that_a_server_keeps_an_idle_connection_is_read_from_keep_alive() {
    for (field, seconds) in [
        ("Keep-Alive: timeout=5", Some(5)),
        ("keep-alive: max=100, Timeout = 72", Some(72)),
        ("Keep-Alive: timeout=999999999999999999", Some(999_999_999_999_999_999)),
        ("Keep-Alive: timeout=9999999999999999999999", None),
        ("Keep-Alive: timeout=-1", None),
        ("Keep-Alive: timeout", None),
        ("Keep-Alive: max=5", None),
        ("Keep-Alive-Not: timeout=5", None),
    ] {
        let head = response(format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").as_bytes(), Method::Get).unwrap();
        assert_eq!(head.idle_timeout(), seconds.map(std::time::Duration::from_secs), "{field}");
    }
}

#[test]
fn limits_are_exact() {
    let start = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    let of_len = |len: usize| {
        let mut head = start.clone();
        let filler = len - start.len() - b"X: \r\n\r\n".len();
        head.extend([&b"X: "[..], &vec![b'y'; filler], b"\r\n\r\n"].concat());
        head
    };
    assert!(request(&of_len(HEAD_LEN_MAX)).is_ok());
    assert_eq!(request(&of_len(HEAD_LEN_MAX + 1)).err(), Some(HeadError::TooLong));

    let of_count = |count: usize| [&start[..], &b"X: y\r\n".repeat(count - 1), b"\r\n"].concat();
    assert!(request(&of_count(HEADERS_MAX)).is_ok());
    assert_eq!(request(&of_count(HEADERS_MAX + 1)).err(), Some(HeadError::TooManyFields));
    assert_eq!((HeadError::TooLong.status(), HeadError::TooManyFields.status()), (431, 431));
}

#[test]
fn connection_lists_are_bounded_with_their_empty_elements() {
    let with = |fields: &str| request(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).err();
    let list = |elements: usize| format!("Connection: {}\r\n", ",".repeat(elements - 1));
    assert_eq!(with(&list(CONNECTION_ELEMENTS_MAX)), None);
    assert_eq!(with(&list(CONNECTION_ELEMENTS_MAX + 1)), Some(HeadError::TooManyConnectionOptions));
    assert_eq!(with(&list(60_000)), Some(HeadError::TooManyConnectionOptions));
    let empty = "Connection:\r\n".repeat(CONNECTION_ELEMENTS_MAX);
    assert_eq!(with(&empty), None);
    assert_eq!(with(&(empty + "Connection: ,\r\n")), Some(HeadError::TooManyConnectionOptions));
}

#[test]
fn an_endless_head_is_refused_at_the_limit_without_its_end() {
    for piece_len in [1, 7, 4096, HEAD_LEN_MAX, 2 * HEAD_LEN_MAX] {
        let mut head = RequestHead::new();
        assert_eq!(head.feed(b"GET / HTTP/1.1\r\nX: "), Ok(Progress::Partial));
        let piece = vec![b'y'; piece_len];
        let mut fed = 0;
        let why = loop {
            fed += piece_len;
            match head.feed(&piece) {
                Ok(_) => assert!(fed < HEAD_LEN_MAX),
                Err(why) => break why,
            }
        };
        assert_eq!(why, HeadError::TooLong, "pieces of {piece_len}");
    }
}

#[test]
fn faults_are_found_before_the_head_is_whole() {
    let early: &[(&[u8], HeadError)] = &[
        (b"\x16", HeadError::TlsOnPlainPort),
        (b"\x00", HeadError::BadMethod),
        (b"GET /\0", HeadError::ControlByte),
        (b"GET / HTTP/1.1\r\nX: a\rb", HeadError::BareCr),
        (b"GET / HTTP/1.1\r\nX: a\r\n ", HeadError::ObsFold),
        (b"GET / HTTP/3.0\r\n", HeadError::UnsupportedVersion),
    ];
    for (bytes, why) in early {
        assert_eq!(RequestHead::new().feed(bytes), Err(*why), "{}", bytes.escape_ascii());
    }
    assert_eq!(ResponseHead::new().feed(b"S", Method::Get), Err(HeadError::BadStatusLine));
}

#[test]
fn pipelined_heads_are_read_one_by_one_by_one_owner() {
    let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
    let mut head = RequestHead::new();
    let Ok(Progress::Complete { len }) = head.feed(stream) else { panic!("the first is complete") };
    assert_eq!((head.path(), head.get("x"), head.is_idle()), (&b"/1"[..], Some(&b"y"[..]), true));
    assert_eq!(head.feed(&stream[len..]), Ok(Progress::Complete { len: stream.len() - len }));
    assert_eq!((head.path(), head.host(), head.get("X")), (&b"/2"[..], Some("b"), None));
    assert_eq!(head.feed(b"GE"), Ok(Progress::Partial));
    assert!(!head.is_idle());
}

#[test]
fn repeated_fields_keep_their_order() {
    let head = request(b"GET / HTTP/1.1\r\nA: 1\r\nHost: h\r\na: 2\r\nB:\r\nA: 3\r\n\r\n").unwrap();
    let fields: Vec<(&[u8], &[u8])> = head.headers().collect();
    let expected: [(&[u8], &[u8]); 5] = [(b"A", b"1"), (b"Host", b"h"), (b"a", b"2"), (b"B", b""), (b"A", b"3")];
    assert_eq!(fields, expected);
    assert_eq!(head.get("A"), Some(&b"1"[..]));
}
