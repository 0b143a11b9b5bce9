use std::net::IpAddr;

use crate::wire::http1::HeadError;

/// The longest text of a proxy that is quoted, in bytes.
const WORDS_LEN_MAX: usize = 100;

/// Why a proxy did not connect to the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// Host, user or password do not fit into the protocol.
    #[error("the host, the user or the password for the proxy is longer than 255 bytes")]
    TooLong,
    /// It requires a login, but none is configured.
    #[error("the proxy requires a login ({0}): write user and password into the proxy's URL")]
    LoginRequired(Box<str>),
    /// It requires an unsupported kind of authentication.
    #[error("the proxy requires {0}, and only Basic is supported: allow Basic at the proxy, or connect without it")]
    LoginUnsupported(Box<str>),
    /// It does not accept the login.
    #[error("the proxy does not accept the user and password of its URL")]
    LoginRefused,
    /// It answered CONNECT with an error.
    #[error(
        "the proxy answered CONNECT with {status} {words}: ask its operator whether it may connect to this host and port"
    )]
    Status {
        /// The HTTP status of the proxy's answer.
        status: u16,
        /// The proxy's reason phrase, without control characters.
        words: Box<str>,
    },
    /// It refused the SOCKS5 request.
    #[error("the proxy did not connect: {0}")]
    Reply(&'static str),
    /// It supports none of the offered methods of authentication.
    #[error("the proxy accepts neither a login by user and password nor none at all")]
    NoMethod,
    /// Its answer is not HTTP.
    #[error("the proxy's answer is not HTTP/1.1 ({0}): check the scheme of its URL")]
    NotHttp(HeadError),
    /// Its answer is not SOCKS5.
    #[error("the proxy's answer is not SOCKS5: check the scheme of its URL")]
    NotSocks5,
    /// It sent additional bytes after its answer.
    #[error("the proxy sent bytes after its answer, which an edge never does before the client")]
    EarlyBytes,
    /// It sent too many interim answers.
    #[error("the proxy sent too many interim answers")]
    Interim,
}

/// The printable part of a proxy's text, shortened.
pub(super) fn words(bytes: &[u8]) -> Box<str> {
    let shown = &bytes[..bytes.len().min(WORDS_LEN_MAX)];
    String::from_utf8_lossy(shown).chars().filter(|c| !c.is_control()).collect::<String>().into()
}

/// The host as written in a URL or a request: an IPv6 address in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}
