use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::base::HOST_LEN_MAX;

/// The longest path of a Unix socket, in bytes (`sun_path` without its final zero, unix(7)).
pub const UNIX_PATH_LEN_MAX: usize = 107;

const REMEDY: &str = "write http://host:port, https://host:port, unix:/path/of/socket, h2c://host:port for HTTP/2, or stdio for a command";

/// Why a text is not a valid upstream URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamUrlError {
    /// The URL has a path.
    #[error(
        "an upstream has no path, as the path of a call is passed on unchanged: remove '{path}' here and \
         add it to the agents' URL"
    )]
    BasePath {
        /// The path to leave out.
        path: String,
    },
    /// The URL has a user name or password.
    #[error("an upstream's URL must not carry a user name or password: agents send their own credentials")]
    Credentials,
    /// The host is missing or malformed.
    #[error("'{host}' is not a valid host of an upstream; {REMEDY}, an IPv6 address in brackets")]
    Host {
        /// The host as it was written.
        host: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("'{port}' is not a port number; ports go from 1 to 65535")]
    Port {
        /// The port as it was written.
        port: String,
    },
    /// The URL has a query or a fragment.
    #[error("an upstream's URL has no query and no fragment: those of a call are passed on unchanged")]
    QueryOrFragment,
    /// The scheme is not supported.
    #[error("the URL of an upstream begins with http, https, unix, h2c or h2c+unix, or is stdio; {REMEDY}")]
    Scheme,
    /// The path of the socket is not absolute, too long, or has a zero byte.
    #[error("the path of a unix socket is absolute and at most {UNIX_PATH_LEN_MAX} bytes; write unix:/path/of/socket")]
    UnixPath,
}

/// The address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddr {
    /// TCP to a host name or address (IPv6 without brackets). A name is resolved each time it is dialled.
    Tcp {
        /// The host name or address.
        host: Box<str>,
        /// The TCP port, 1 to 65535.
        port: u16,
    },
    /// A Unix stream socket.
    Unix {
        /// The absolute path of the socket file.
        path: Box<str>,
    },
    /// The standard input and output of a child process.
    Stdio,
}

/// The URL of a private MCP server as the operator writes it: `http://host[:port]`, `https://host[:port]` or
/// `unix:/path`; `h2c://host[:port]` or `h2c+unix:/path` for one that speaks HTTP/2 without TLS; `stdio` for a child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    addr: UpstreamAddr,
    tls: bool,
    http2: bool,
    authority: Box<str>,
}

impl UpstreamUrl {
    /// The address to connect to.
    #[must_use]
    pub fn addr(&self) -> &UpstreamAddr {
        &self.addr
    }

    /// The IP address, if the URL has one instead of a name.
    #[must_use]
    pub fn literal_address(&self) -> Option<IpAddr> {
        match &self.addr {
            UpstreamAddr::Tcp { host, .. } => host.parse().ok(),
            UpstreamAddr::Unix { .. } | UpstreamAddr::Stdio => None,
        }
    }

    /// Whether to speak TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the server is known to speak HTTP/2 without TLS, so that no negotiation is needed (RFC 9113, section
    /// 3.3).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// Whether the server is a child process, to which its standard input and output lead.
    #[must_use]
    pub fn is_stdio(&self) -> bool {
        self.addr == UpstreamAddr::Stdio
    }

    /// The value of the `Host` header: the host, and the port unless it is the default of the scheme; `localhost` for a
    /// Unix socket and for a child process.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The name that the upstream's certificate must have; `None` without TLS.
    #[must_use]
    pub fn tls_name(&self) -> Option<&str> {
        match &self.addr {
            UpstreamAddr::Tcp { host, .. } if self.tls => Some(host),
            _ => None,
        }
    }

    fn tcp(rest: &str, tls: bool) -> Result<UpstreamUrl, UpstreamUrlError> {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at(end);
        if after.contains(['?', '#']) {
            return Err(UpstreamUrlError::QueryOrFragment);
        }
        if !matches!(after, "" | "/") {
            return Err(UpstreamUrlError::BasePath { path: after.to_owned() });
        }
        if authority.contains('@') {
            return Err(UpstreamUrlError::Credentials);
        }
        let default_port = if tls { 443 } else { 80 };
        let (host, port) = split_port(authority, default_port)?;
        let host = check_host(host)?;
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == default_port { shown } else { format!("{shown}:{port}") };
        let addr = UpstreamAddr::Tcp { host: host.into(), port };
        Ok(UpstreamUrl { addr, tls, http2: false, authority: authority.into() })
    }

    fn unix(rest: &str) -> Result<UpstreamUrl, UpstreamUrlError> {
        let path = rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(rest);
        let fits = path.len() <= UNIX_PATH_LEN_MAX && path.len() > 1;
        if !fits || !path.starts_with('/') || path.starts_with("//") || path.contains('\0') {
            return Err(UpstreamUrlError::UnixPath);
        }
        let addr = UpstreamAddr::Unix { path: path.into() };
        Ok(UpstreamUrl { addr, tls: false, http2: false, authority: "localhost".into() })
    }
}

impl FromStr for UpstreamUrl {
    type Err = UpstreamUrlError;

    fn from_str(text: &str) -> Result<UpstreamUrl, UpstreamUrlError> {
        if text.eq_ignore_ascii_case("stdio") {
            let authority = "localhost".into();
            return Ok(UpstreamUrl { addr: UpstreamAddr::Stdio, tls: false, http2: false, authority });
        }
        let (scheme, rest) = text.split_once(':').ok_or(UpstreamUrlError::Scheme)?;
        let after_slashes = || rest.strip_prefix("//").ok_or(UpstreamUrlError::Scheme);
        match scheme.to_ascii_lowercase().as_str() {
            "unix" => UpstreamUrl::unix(rest),
            "http" => UpstreamUrl::tcp(after_slashes()?, false),
            "https" => UpstreamUrl::tcp(after_slashes()?, true),
            "h2c" => Ok(UpstreamUrl { http2: true, ..UpstreamUrl::tcp(after_slashes()?, false)? }),
            "h2c+unix" => Ok(UpstreamUrl { http2: true, ..UpstreamUrl::unix(rest)? }),
            _ => Err(UpstreamUrlError::Scheme),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.addr {
            UpstreamAddr::Stdio => f.write_str("stdio"),
            UpstreamAddr::Unix { path } if self.http2 => write!(f, "h2c+unix:{path}"),
            UpstreamAddr::Unix { path } => write!(f, "unix:{path}"),
            UpstreamAddr::Tcp { .. } if self.http2 => write!(f, "h2c://{}", self.authority),
            UpstreamAddr::Tcp { .. } if self.tls => write!(f, "https://{}", self.authority),
            UpstreamAddr::Tcp { .. } => write!(f, "http://{}", self.authority),
        }
    }
}

fn split_port(authority: &str, default_port: u16) -> Result<(&str, u16), UpstreamUrlError> {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority[host_end..].find(':').map(|at| at + host_end) else {
        return Ok((authority, default_port));
    };
    let (host, digits) = (&authority[..colon], &authority[colon + 1..]);
    if digits.contains(':') {
        return Err(UpstreamUrlError::Host { host: authority.to_owned() });
    }
    let port = digits.parse().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    Ok((host, port.ok_or_else(|| UpstreamUrlError::Port { port: digits.to_owned() })?))
}

/// Names inside a private network are often not valid DNS names (`mcp_server`), so underscores are allowed.
fn check_host(host: &str) -> Result<String, UpstreamUrlError> {
    let fault = || UpstreamUrlError::Host { host: host.to_owned() };
    if let Some(inside) = host.strip_prefix('[') {
        let address = inside.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok());
        return address.map(|address| address.to_string()).ok_or_else(fault);
    }
    let plain =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let labels = host.strip_suffix('.').unwrap_or(host);
    let fits = labels.len() <= HOST_LEN_MAX && labels.split('.').all(plain);
    if fits { Ok(host.to_ascii_lowercase()) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn parsed(text: &str) -> UpstreamUrl {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_is_understood() {
        let url = parsed("http://127.0.0.1:8080");
        assert_eq!(url.addr(), &UpstreamAddr::Tcp { host: "127.0.0.1".into(), port: 8080 });
        assert_eq!((url.authority(), url.tls_name()), ("127.0.0.1:8080", None));

        let url = parsed("HTTPS://Mcp_Server.internal/");
        assert_eq!(url.addr(), &UpstreamAddr::Tcp { host: "mcp_server.internal".into(), port: 443 });
        assert_eq!((url.authority(), url.tls_name()), ("mcp_server.internal", Some("mcp_server.internal")));

        let url = parsed("https://[0::1]:8443");
        assert_eq!(url.addr(), &UpstreamAddr::Tcp { host: "::1".into(), port: 8443 });
        assert_eq!((url.authority(), url.tls_name()), ("[::1]:8443", Some("::1")));

        for text in ["unix:/run/mcp.sock", "unix:///run/mcp.sock"] {
            let url = parsed(text);
            assert_eq!(url.addr(), &UpstreamAddr::Unix { path: "/run/mcp.sock".into() });
            assert_eq!((url.authority(), url.tls_name(), url.is_http2()), ("localhost", None, false));
        }

        let url = parsed("stdio");
        assert_eq!((url.addr(), url.authority(), url.is_stdio()), (&UpstreamAddr::Stdio, "localhost", true));
        assert_eq!((url.to_string(), url.is_tls(), url.literal_address()), ("stdio".to_owned(), false, None));

        let url = parsed("h2c://mcp.internal:8080");
        assert_eq!(url.addr(), &UpstreamAddr::Tcp { host: "mcp.internal".into(), port: 8080 });
        assert_eq!((url.authority(), url.is_tls(), url.is_http2()), ("mcp.internal:8080", false, true));
        assert_eq!(parsed("h2c://a:80").authority(), "a");
        let url = parsed("h2c+unix:/run/mcp.sock");
        assert_eq!(url.addr(), &UpstreamAddr::Unix { path: "/run/mcp.sock".into() });
        assert_eq!((url.authority(), url.is_http2()), ("localhost", true));
    }

    #[test]
    fn a_port_is_named_only_when_it_is_not_the_schemes_own() {
        assert_eq!(parsed("http://a:80").authority(), "a");
        assert_eq!(parsed("http://a:443").authority(), "a:443");
        assert_eq!(parsed("https://a:443").authority(), "a");
    }

    #[test]
    fn invalid_upstreams_are_refused_with_their_fault() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_LEN_MAX));
        let base = |path: &str| UpstreamUrlError::BasePath { path: path.to_owned() };
        let host = |host: &str| UpstreamUrlError::Host { host: host.to_owned() };
        let port = |port: &str| UpstreamUrlError::Port { port: port.to_owned() };
        let cases = [
            ("", UpstreamUrlError::Scheme),
            ("127.0.0.1:8080", UpstreamUrlError::Scheme),
            ("ftp://a", UpstreamUrlError::Scheme),
            ("http:/a", UpstreamUrlError::Scheme),
            ("http://a/mcp", base("/mcp")),
            ("http://a//", base("//")),
            ("http://a/?x", UpstreamUrlError::QueryOrFragment),
            ("http://a#x", UpstreamUrlError::QueryOrFragment),
            ("http://me:pw@a", UpstreamUrlError::Credentials),
            ("http://", host("")),
            ("http://a b", host("a b")),
            ("http://a..b", host("a..b")),
            ("http://[::1", host("[::1")),
            ("http://[zz]", host("[zz]")),
            ("http://a\r\nX:1", host("a\r\nX")),
            ("http://a:0", port("0")),
            ("http://a:", port("")),
            ("http://a:+1", port("+1")),
            ("http://a:65536", port("65536")),
            ("http://::1", host("::1")),
            ("h2c:/a", UpstreamUrlError::Scheme),
            ("h2c://a/mcp", base("/mcp")),
            ("h2c+unix:run/x", UpstreamUrlError::UnixPath),
            ("unix:", UpstreamUrlError::UnixPath),
            ("unix:run/x", UpstreamUrlError::UnixPath),
            ("unix://run/x", UpstreamUrlError::UnixPath),
            ("unix:/", UpstreamUrlError::UnixPath),
            ("unix:/a\0b", UpstreamUrlError::UnixPath),
            (&long, UpstreamUrlError::UnixPath),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<UpstreamUrl>(), Err(want), "{text:?}");
        }
    }

    #[test]
    fn a_printed_upstream_parses_to_the_same_upstream() {
        let mut rng = Rng::new(17);
        let parts = ["a", "B_c", ".", "[", "::1", "]", ":", "//", "/", ":80", ":443", "@", "?"];
        let mut urls = 0;
        for _ in 0..100_000 {
            let rest: String = (0..rng.below(8)).map(|_| parts[rng.below(parts.len() as u64) as usize]).collect();
            let text =
                format!("{}{rest}", ["http://", "https://", "unix:", "h2c://", "h2c+unix:"][rng.below(5) as usize]);
            if let Ok(url) = text.parse::<UpstreamUrl>() {
                urls += 1;
                assert_eq!(url.to_string().parse(), Ok(url), "{text:?}");
            }
        }
        assert!(urls > 1_000);
    }
}
