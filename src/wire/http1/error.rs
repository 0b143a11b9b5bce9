/// Why a head is refused. Every text says what was wrong and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadError {
    /// The first bytes are a TLS handshake.
    #[error("this port speaks plain HTTP, and a TLS handshake arrived: use http:// here, or the HTTPS port")]
    TlsOnPlainPort,
    /// The method has bytes that no token has, or is longer than `METHOD_LEN_MAX`.
    #[error("the request does not start with an HTTP method: send a request such as POST /path HTTP/1.1")]
    BadMethod,
    /// Not exactly method, target and version, each divided by one space.
    #[error("the request line is malformed: send method, target and HTTP/1.1, divided by single spaces")]
    BadRequestLine,
    /// Not version, three digits and a reason.
    #[error("the status line is malformed: the server must answer with HTTP/1.1, a three-digit status and a reason")]
    BadStatusLine,
    /// The target is neither a path, nor an http(s) URL, nor `*` with OPTIONS, or has bytes that no target has.
    #[error("the request target is malformed: send a path that starts with '/', percent-encoded, with no fragment")]
    BadTarget,
    /// The method is CONNECT or TRACE, which adit does not serve.
    #[error("the methods CONNECT and TRACE are not served: use an ordinary method such as GET, POST or DELETE")]
    UnsupportedMethod,
    /// Some HTTP version other than 1.0 and 1.1.
    #[error("this HTTP version is not spoken here: use HTTP/1.1")]
    UnsupportedVersion,
    /// A carriage return that no line feed follows.
    #[error("the head has a carriage return without a line feed: end each line with CRLF")]
    BareCr,
    /// A line feed that no carriage return precedes.
    #[error("the head has a line feed without a carriage return: end each line with CRLF")]
    BareLf,
    /// NUL or another control byte.
    #[error("the head has a control byte: remove it, or encode it")]
    ControlByte,
    /// A header line that starts with white space.
    #[error("a header line starts with white space: obsolete line folding is refused, send each field on one line")]
    ObsFold,
    /// A field with no name.
    #[error("a header field has no name: put a name before the colon")]
    EmptyFieldName,
    /// White space between name and colon.
    #[error("there is white space between a field name and its colon: remove it")]
    SpaceBeforeColon,
    /// A field name with bytes that no token has.
    #[error("a header field name has a byte that is not allowed: use letters, digits and hyphens")]
    BadFieldName,
    /// A header line without a colon.
    #[error("a header line has no colon: send each field as name, colon, value")]
    NoColon,
    /// Longer than `HEAD_LEN_MAX` (or, for trailers, `TRAILERS_LEN_MAX`).
    #[error("the header section is too long: send fewer or shorter fields")]
    TooLong,
    /// Whoever reads it keeps as much of other heads as it may.
    #[error("too many long header sections are under way here: try again, or send fewer or shorter fields")]
    Crowded,
    /// More fields than `HEADERS_MAX` (or, for trailers, `TRAILERS_MAX`).
    #[error("the header section has too many fields: send fewer")]
    TooManyFields,
    /// An HTTP/1.1 request has no `Host` field (RFC 9112 section 3.2).
    #[error("the Host field is missing: HTTP/1.1 requires exactly one")]
    NoHost,
    /// More than one `Host`.
    #[error("the Host field is repeated: send exactly one")]
    RepeatedHost,
    /// `Host` is not a host name or address with an optional port.
    #[error("the Host field is malformed: send a host name, or an address, and optionally a port")]
    BadHost,
    /// The target is a URL with another authority than `Host`.
    #[error("the Host field and the request target name different hosts: make them agree")]
    HostMismatch,
    /// More than one `Content-Length`, or a list in one.
    #[error("the Content-Length field is repeated: send exactly one number")]
    RepeatedContentLength,
    /// Not a plain decimal number that fits 63 bits.
    #[error("the Content-Length field is malformed: send one decimal number")]
    BadContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding are given: send only one of them")]
    LengthAndEncoding,
    /// More than one `Transfer-Encoding`.
    #[error("the Transfer-Encoding field is repeated: send it once, as 'chunked'")]
    RepeatedTransferEncoding,
    /// A `Transfer-Encoding` that is not `chunked` alone.
    #[error("this Transfer-Encoding is not supported: send 'chunked' and nothing else")]
    UnsupportedTransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    #[error("Transfer-Encoding does not exist in HTTP/1.0: use HTTP/1.1, or Content-Length")]
    TransferEncodingInHttp10,
    /// `Content_Length` and the like, which some servers read as the real field.
    #[error("a field imitates Content-Length, Transfer-Encoding or Host with underscores: use the real name")]
    DisguisedField,
    /// More than `CONNECTION_OPTIONS_MAX` options in `Connection`, or more than `CONNECTION_ELEMENTS_MAX` with the empty ones.
    #[error("the Connection field names too many options: name fewer")]
    TooManyConnectionOptions,
    /// An `Expect` other than `100-continue`.
    #[error("this expectation cannot be met: send 'Expect: 100-continue' or no Expect")]
    UnsupportedExpectation,
}

impl HeadError {
    /// The status that a request which fails so is answered with. A response that fails so is a 502 whatever this says.
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

/// Why a body is refused, or ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BodyError {
    /// The connection ended inside the body.
    #[error("the connection ended before the body did: send as many bytes as announced, or the last chunk")]
    Truncated,
    /// A chunk size that is not plain hexadecimal, or longer than `CHUNK_SIZE_DIGITS_MAX`.
    #[error("a chunk size is malformed: send plain hexadecimal digits")]
    BadChunkSize,
    /// A line of the chunked framing that does not end in CRLF.
    #[error("a chunk line does not end in CRLF: end each with a carriage return and a line feed")]
    BadLineEnd,
    /// The data of a chunk is not followed by CRLF, so its size is wrong.
    #[error("a chunk's data is not as long as its size says: make them agree")]
    ChunkOverrun,
    /// A control byte in a chunk extension.
    #[error("a chunk extension has a control byte: send no extensions")]
    BadExtension,
    /// An extension longer than `CHUNK_EXTENSION_LEN_MAX`, or all together longer than `CHUNK_EXTENSIONS_LEN_MAX`.
    #[error("the chunk extensions are too long: send none")]
    ExtensionTooLong,
    /// A trailer section that is malformed or over its limits.
    #[error("the trailer section is malformed: {0}")]
    BadTrailers(HeadError),
    /// A trailer that would change framing, routing or credentials after the fact.
    #[error("a trailer names a field that only a head may carry: send it as a header")]
    ForbiddenTrailer,
}

impl BodyError {
    /// The status that a request whose body fails so is answered with. A response that fails so is cut off.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            BodyError::BadTrailers(why) => why.status(),
            _ => 400,
        }
    }
}
