//! Names and addresses in the configuration: the hosts and upstreams of routes, `host:port`, URLs and web origins. All
//! host names are stored in lower case.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde_json::Value;

use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, list_setting, optional_setting};
use crate::route::{HOST_LEN_MAX, HostPattern, Hostname, UpstreamUrl, UpstreamUrlError};

/// The longest label of a host name, in bytes (RFC 1035, section 2.3.4).
const LABEL_LEN_MAX: usize = 63;

impl SettingType for Hostname {
    const KIND: &'static str = "host name";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Hostname, String> {
        let text = raw.text("a host name")?;
        text.parse().map_err(|error| format!("{} is not a valid host name: {error}", quoted(text)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl SettingType for HostPattern {
    const KIND: &'static str = "host";

    fn parse(raw: &Raw, _dir: &Path) -> Result<HostPattern, String> {
        let text = raw.text("a host")?;
        text.parse().map_err(|error| format!("{} is not a valid host name: {error}", quoted(text)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// A host (name, IPv4 or IPv6 address without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// The host in lower case.
    pub host: Box<str>,
    /// The port, 0 to 65535.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl SettingType for HostPort {
    const KIND: &'static str = "host:port";

    fn parse(raw: &Raw, _dir: &Path) -> Result<HostPort, String> {
        let text = raw.text("HOST:PORT")?;
        host_port(text, None)
            .ok_or_else(|| format!("{} is not HOST:PORT, for example edge.example.com:7844", quoted(text)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

impl SettingType for UpstreamUrl {
    const KIND: &'static str = "upstream";

    fn parse(raw: &Raw, dir: &Path) -> Result<UpstreamUrl, String> {
        let text = raw.text("the URL of a server")?;
        // Checked first, so that no message repeats a part of a password.
        if text.contains('@') {
            return Err(UpstreamUrlError::Credentials.to_string());
        }
        let socket = ["unix:", "h2c+unix:"].into_iter().find_map(|scheme| Some((scheme, text.strip_prefix(scheme)?)));
        let url = match socket.filter(|(_, path)| !path.is_empty() && !path.starts_with('/')) {
            Some((scheme, relative)) => {
                format!("{scheme}{}", std::path::absolute(dir.join(relative)).unwrap_or_default().display()).parse()
            }
            None => text.parse(),
        };
        url.map_err(|error: UpstreamUrlError| error.to_string())
    }

    fn to_json(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// The URL of a web server: `http` or `https`, a host, an optional port, no path. It is stored without a slash at its
/// end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Box<str>);

impl HttpUrl {
    /// The URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingType for HttpUrl {
    const KIND: &'static str = "URL";

    fn parse(raw: &Raw, _dir: &Path) -> Result<HttpUrl, String> {
        let text = raw.text("a URL")?;
        let wrong = || format!("{} is not a URL such as https://mcp.example.com, without a path", quoted(text));
        let (scheme, authority, path) = split_url(text).ok_or_else(wrong)?;
        let good = matches!(scheme.as_str(), "http" | "https") && matches!(path, "" | "/");
        if !good || host_port(authority, Some(0)).is_none() {
            return Err(wrong());
        }
        Ok(HttpUrl(format!("{scheme}://{}", authority.to_ascii_lowercase()).into()))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// The value of a `Host` field: a host, perhaps with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostField(Box<str>);

impl HostField {
    /// The value in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingType for HostField {
    const KIND: &'static str = "host[:port]";

    fn parse(raw: &Raw, _dir: &Path) -> Result<HostField, String> {
        let text = raw.text("a host")?;
        if host_port(text, Some(0)).is_none() {
            return Err(format!("{} is not a host with or without a port, for example localhost:8000", quoted(text)));
        }
        Ok(HostField(text.to_ascii_lowercase().into()))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// A web origin (RFC 6454, section 6.2), such as `https://app.example.com`. Other schemes than `http` and `https` are
/// allowed, because editors and browser extensions have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(Box<str>);

impl WebOrigin {
    /// The origin in lower case, as a browser writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingType for WebOrigin {
    const KIND: &'static str = "origin";

    fn parse(raw: &Raw, _dir: &Path) -> Result<WebOrigin, String> {
        let text = raw.text("a web origin")?;
        let wrong =
            || format!("{} is not an origin such as https://app.example.com, without path and slash", quoted(text));
        let (scheme, authority, path) = split_url(text).ok_or_else(wrong)?;
        if !path.is_empty() || host_port(authority, Some(0)).is_none() {
            return Err(wrong());
        }
        let authority = authority.to_ascii_lowercase();
        let spare_port = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let authority = authority.strip_suffix(spare_port).unwrap_or(&authority);
        Ok(WebOrigin(format!("{scheme}://{authority}").into()))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// `scheme://authority` and what follows; the scheme in lower case.
pub(super) fn split_url(text: &str) -> Option<(String, &str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    if scheme.is_empty() || !scheme.bytes().all(plain) || !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    (path.is_empty() || path.starts_with('/')).then(|| (scheme.to_ascii_lowercase(), authority, path))
}

pub(super) fn host_port(text: &str, port: Option<u16>) -> Option<HostPort> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, rest) = bracketed.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string().into(), rest)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (hostname(&text[..end])?, &text[end..])
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        None if rest.is_empty() => port?,
        _ => return None,
    };
    Some(HostPort { host, port })
}

fn hostname(text: &str) -> Option<Box<str>> {
    let label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > HOST_LEN_MAX || !text.split('.').all(label) {
        return None;
    }
    // A text that looks like an IPv4 address must be one, because resolvers differ in how they read `1.2.3` and
    // `256.1.1.1`.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    (!numeric || text.parse::<Ipv4Addr>().is_ok()).then(|| text.to_ascii_lowercase().into())
}

optional_setting!(HostField, HostPort, Hostname, HttpUrl);
list_setting!(HostPort = "list of host:port", HostPattern = "list of hosts", WebOrigin = "list of origins");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: SettingType>(text: &str) -> Result<T, String> {
        T::parse(&Raw::Text(text.to_owned()), Path::new("/etc/adit"))
    }

    #[test]
    fn hosts_with_ports() {
        for text in ["edge.example.com:7844", "10.0.0.1:1", "[::1]:65535"] {
            assert_eq!(parse::<HostPort>(text).unwrap().to_string(), text);
        }
        for wrong in
            ["edge", "edge:", "edge:+1", "edge:65536", "::1:80", "[::1]", "[::1]80", "[x]:80", "http://a:80", ":80"]
        {
            assert!(parse::<HostPort>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_relative_socket_counts_from_the_folder_and_a_password_is_not_repeated() {
        assert_eq!(parse::<UpstreamUrl>("unix:mcp.sock").unwrap().to_string(), "unix:/etc/adit/mcp.sock");
        assert_eq!(parse::<UpstreamUrl>("unix:/run/mcp.sock").unwrap().to_string(), "unix:/run/mcp.sock");
        assert_eq!(parse::<UpstreamUrl>("h2c+unix:mcp.sock").unwrap().to_string(), "h2c+unix:/etc/adit/mcp.sock");
        assert!(parse::<UpstreamUrl>("unix:").is_err());
        for text in ["http://me:hunter2@a:1", "http://me:hun/hunter2@a:1", "hunter2@"] {
            assert!(!parse::<UpstreamUrl>(text).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn urls_and_origins() {
        assert_eq!(parse::<HttpUrl>("https://MCP.example.com/").unwrap().as_str(), "https://mcp.example.com");
        for wrong in ["mcp.example.com", "ws://a", "https://a/b", "https://a b"] {
            assert!(parse::<HttpUrl>(wrong).is_err(), "{wrong}");
        }
        for (text, origin) in [
            ("https://App.example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:6274", "http://localhost:6274"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(parse::<WebOrigin>(text).unwrap().as_str(), origin);
        }
        for wrong in ["*", "null", "https://a/", "a.example.com", "https://"] {
            assert!(parse::<WebOrigin>(wrong).is_err(), "{wrong}");
        }
    }
}
