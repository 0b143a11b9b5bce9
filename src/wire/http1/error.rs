/// Why a head is refused. Each text states the error and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadError {
    /// The first bytes are a TLS handshake.
    #[error("this port speaks plain HTTP, and a TLS handshake arrived: use http:// here, or the HTTPS port")]
    TlsOnPlainPort,
    /// The method has bytes that a token must not have, or is longer than `METHOD_LEN_MAX`.
    #[error("the request does not start with an HTTP method: send a request such as POST /path HTTP/1.1")]
    BadMethod,
    /// The request line is not method, target and version, separated by single spaces.
    #[error("the request line is malformed: send method, target and HTTP/1.1, divided by single spaces")]
    BadRequestLine,
    /// The status line is not version, three digits and a reason.
    #[error("the status line is malformed: the server must answer with HTTP/1.1, a three-digit status and a reason")]
    BadStatusLine,
    /// The first byte of an answer is zero, as that of an HTTP/2 server's SETTINGS frame (RFC 9113 section 3.4) is.
    #[error(
        "the answer begins like one in HTTP/2: write h2c:// in the `upstream` of a server that speaks HTTP/2 without TLS"
    )]
    Http2Answer,
    /// The first bytes of an answer are a TLS alert.
    #[error("the server answered with a TLS alert: it speaks TLS on this port, use https://")]
    TlsAnswer,
    /// The target is not a path, an http(s) URL or, with OPTIONS, `*`; or it has bytes that a target must not have.
    #[error("the request target is malformed: send a path that starts with '/', percent-encoded, with no fragment")]
    BadTarget,
    /// The method is CONNECT or TRACE, which adit does not serve.
    #[error("the methods CONNECT and TRACE are not served: use an ordinary method such as GET, POST or DELETE")]
    UnsupportedMethod,
    /// The HTTP version is not 1.0 or 1.1.
    #[error("this HTTP version is not supported: use HTTP/1.1")]
    UnsupportedVersion,
    /// A carriage return is not followed by a line feed.
    #[error("the head has a carriage return without a line feed: end each line with CRLF")]
    BareCr,
    /// A line feed does not follow a carriage return.
    #[error("the head has a line feed without a carriage return: end each line with CRLF")]
    BareLf,
    /// There is a NUL or another control byte.
    #[error("the head has a control byte: remove it, or encode it")]
    ControlByte,
    /// A header line starts with white space (obs-fold, RFC 9112 section 5.2).
    #[error("a header line starts with white space: obsolete line folding is refused, send each field on one line")]
    ObsFold,
    /// A field has an empty name.
    #[error("a header field has no name: put a name before the colon")]
    EmptyFieldName,
    /// There is white space between name and colon.
    #[error("there is white space between a field name and its colon: remove it")]
    SpaceBeforeColon,
    /// A field name has bytes that a token must not have.
    #[error("a header field name has a byte that is not allowed: use letters, digits and hyphens")]
    BadFieldName,
    /// A header line has no colon.
    #[error("a header line has no colon: send each field as name, colon, value")]
    NoColon,
    /// The section is longer than `HEAD_LEN_MAX` (or, for trailers, `TRAILERS_LEN_MAX`).
    #[error("the header section is too long: send fewer or shorter fields")]
    TooLong,
    /// The memory for incomplete heads is used up.
    #[error("too many long header sections are being received: try again, or send fewer or shorter fields")]
    Crowded,
    /// There are more fields than `HEADERS_MAX` (or, for trailers, `TRAILERS_MAX`).
    #[error("the header section has too many fields: send fewer")]
    TooManyFields,
    /// An HTTP/1.1 request has no `Host` field (RFC 9112 section 3.2).
    #[error("the Host field is missing: HTTP/1.1 requires exactly one")]
    NoHost,
    /// There is more than one `Host`.
    #[error("the Host field is repeated: send exactly one")]
    RepeatedHost,
    /// `Host` is not a host name or address with an optional port.
    #[error("the Host field is malformed: send a host name, or an address, and optionally a port")]
    BadHost,
    /// The target is a URL with an authority that differs from `Host`.
    #[error("the Host field and the request target name different hosts: make them agree")]
    HostMismatch,
    /// There is more than one `Content-Length`, or a list in one.
    #[error("the Content-Length field is repeated: send exactly one number")]
    RepeatedContentLength,
    /// `Content-Length` is not a plain decimal number that fits into 63 bits.
    #[error("the Content-Length field is malformed: send one decimal number")]
    BadContentLength,
    /// There are both `Content-Length` and `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding are given: send only one of them")]
    LengthAndEncoding,
    /// There is more than one `Transfer-Encoding`.
    #[error("the Transfer-Encoding field is repeated: send it once, as 'chunked'")]
    RepeatedTransferEncoding,
    /// `Transfer-Encoding` is anything other than `chunked`.
    #[error("this Transfer-Encoding is not supported: send 'chunked' and nothing else")]
    UnsupportedTransferEncoding,
    /// An HTTP/1.0 message has a `Transfer-Encoding`.
    #[error("Transfer-Encoding does not exist in HTTP/1.0: use HTTP/1.1, or Content-Length")]
    TransferEncodingInHttp10,
    /// A field such as `Content_Length`, which some servers read as the real one.
    #[error("a field imitates Content-Length, Transfer-Encoding or Host with underscores: use the real name")]
    DisguisedField,
    /// There are more than `CONNECTION_OPTIONS_MAX` options in `Connection`, or more than `CONNECTION_ELEMENTS_MAX`
    /// elements including empty ones.
    #[error("the Connection field names too many options: name fewer")]
    TooManyConnectionOptions,
    /// There is an `Expect` other than `100-continue`.
    #[error("this expectation cannot be met: send 'Expect: 100-continue' or no Expect")]
    UnsupportedExpectation,
}

impl HeadError {
    /// The code of all of them in answers.
    pub const CODE: &str = "bad_request_head";

    /// Every error, in the order of the declaration.
    #[cfg(test)]
    pub const ALL: [HeadError; 33] = [
        HeadError::TlsOnPlainPort,
        HeadError::BadMethod,
        HeadError::BadRequestLine,
        HeadError::BadStatusLine,
        HeadError::Http2Answer,
        HeadError::TlsAnswer,
        HeadError::BadTarget,
        HeadError::UnsupportedMethod,
        HeadError::UnsupportedVersion,
        HeadError::BareCr,
        HeadError::BareLf,
        HeadError::ControlByte,
        HeadError::ObsFold,
        HeadError::EmptyFieldName,
        HeadError::SpaceBeforeColon,
        HeadError::BadFieldName,
        HeadError::NoColon,
        HeadError::TooLong,
        HeadError::Crowded,
        HeadError::TooManyFields,
        HeadError::NoHost,
        HeadError::RepeatedHost,
        HeadError::BadHost,
        HeadError::HostMismatch,
        HeadError::RepeatedContentLength,
        HeadError::BadContentLength,
        HeadError::LengthAndEncoding,
        HeadError::RepeatedTransferEncoding,
        HeadError::UnsupportedTransferEncoding,
        HeadError::TransferEncodingInHttp10,
        HeadError::DisguisedField,
        HeadError::TooManyConnectionOptions,
        HeadError::UnsupportedExpectation,
    ];

    /// The status of the answer to a request with this error. A response with this error is answered as 502.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            HeadError::TooLong | HeadError::TooManyFields | HeadError::TooManyConnectionOptions => 431,
            HeadError::UnsupportedMethod | HeadError::UnsupportedTransferEncoding => 501,
            HeadError::Crowded => 503,
            HeadError::UnsupportedVersion => 505,
            HeadError::UnsupportedExpectation => 417,
            _ => 400,
        }
    }
}

/// Why a body is refused, or ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyError {
    /// The connection ended inside the body.
    #[error("the connection ended before the body did: send as many bytes as announced, or the last chunk")]
    Truncated,
    /// A chunk size is not plain hexadecimal, or longer than `CHUNK_SIZE_DIGITS_MAX`.
    #[error("a chunk size is malformed: send plain hexadecimal digits")]
    BadChunkSize,
    /// A line of the chunked framing does not end with CRLF.
    #[error("a chunk line does not end in CRLF: end each with a carriage return and a line feed")]
    BadLineEnd,
    /// The data of a chunk is not followed by CRLF, so the chunk size is wrong.
    #[error("a chunk's data is not as long as its size says: make them agree")]
    ChunkOverrun,
    /// There is a control byte in a chunk extension.
    #[error("a chunk extension has a control byte: send no extensions")]
    BadExtension,
    /// An extension is longer than `CHUNK_EXTENSION_LEN_MAX`, or all together are longer than
    /// `CHUNK_EXTENSIONS_LEN_MAX`.
    #[error("the chunk extensions are too long: send none")]
    ExtensionTooLong,
    /// The trailer section is malformed or exceeds its limits.
    #[error("the trailer section is malformed: {0}")]
    BadTrailers(HeadError),
    /// A trailer would change framing, routing or credentials afterwards.
    #[error("a trailer names a field that only a head may carry: send it as a header")]
    ForbiddenTrailer,
    /// A JSON-RPC message is ambiguous or a batch, and a rule of its route depends on its method or tool.
    #[error("the message is ambiguous: send one JSON-RPC message, and each of its keys once")]
    AmbiguousMessage,
    /// A body is not one JSON-RPC message, or not JSON in UTF-8, or nested too deeply, and its route has a policy.
    #[error(
        "the body is not one message in JSON and UTF-8: send one, without a byte order mark, and nested less than 128 deep"
    )]
    MalformedMessage,
    /// A name, URI, method or id is of another type or too long, or has characters that servers interpret differently,
    /// and its route has a policy.
    #[error(
        "the method, the id or the name cannot be checked: send texts without control characters or halves of \
         surrogate pairs, of at most 128 bytes for a method, 64 for an id, 256 for a name and 2,048 for a URI"
    )]
    UncertainName,
    /// Servers may interpret the arguments differently, and a rule of its route depends on them.
    #[error(
        "the arguments cannot be checked, because servers may interpret them differently: send each member once, spelled \
         as in the tool's schema, and numbers that fit a double"
    )]
    UncertainArguments,
    /// `Mcp-Method` or `Mcp-Name` contradicts the body, and the route has a policy.
    #[error("Mcp-Method or Mcp-Name contradicts the body: make them agree")]
    HeadContradicts,
    /// There is more than one `Content-Type`, and the route has a policy.
    #[error("the Content-Type field is repeated: send it once")]
    AmbiguousHead,
    /// The body is compressed, and the route has a policy.
    #[error("a compressed body cannot be checked: send it without Content-Encoding")]
    ContentCoding,
    /// The body is in another charset than UTF-8, and the route has a policy.
    #[error("the body is not in UTF-8: send it in UTF-8, without another charset in Content-Type")]
    Charset,
    /// An answer cannot be parsed, and the policy of its route has to filter or sanitise it.
    #[error(
        "an answer could not be read to be filtered or sanitised by the policy of the route: it is too long, compressed, or malformed"
    )]
    UnreadableList,
    /// No memory is left to hold an answer or event while it is filtered or sanitised.
    #[error("the answers that are being filtered have used up the memory for them")]
    CrowdedLists,
    /// An answer has more bytes or rows than a rule of the policy of its route lets it have.
    #[error("an answer has more than a rule of the policy of its route lets it have")]
    AnswerOverCeiling,
}

impl BodyError {
    /// The code of all of them in answers.
    pub const CODE: &str = "bad_request_body";

    /// The status of the answer to a request whose body has this error. A response with this error is aborted.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            BodyError::BadTrailers(why) => why.status(),
            BodyError::ContentCoding | BodyError::Charset => 415,
            _ => 400,
        }
    }
}
