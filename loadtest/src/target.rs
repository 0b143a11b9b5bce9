//! The server to call, and how it is resolved and trusted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::load::LoadError;

/// The server to call, and how it is resolved and trusted.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL to call: scheme, host, port, path and query.
    pub url: Url,
    /// The address of the host, instead of resolving it.
    pub resolve_to: Option<SocketAddr>,
    /// The `Host` header, instead of the URL's host; the certificate must contain this name.
    pub host: Option<String>,
    /// The name that the certificate must contain, instead of the host.
    pub server_name: Option<String>,
    /// The authorities that are trusted.
    pub trust: Trust,
    /// Whether TLS sessions are resumed; a full handshake for every connection otherwise.
    pub resume: bool,
}

impl Target {
    /// A target that is resolved by the system, and trusted by the machine's authorities.
    #[must_use]
    pub fn new(url: Url) -> Target {
        Target { url, resolve_to: None, host: None, server_name: None, trust: Trust::default(), resume: false }
    }

    /// Whether it is called with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The port that is dialled.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(0)
    }

    /// The host that is resolved, an IPv6 address without brackets.
    #[must_use]
    pub fn host_name(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The value of the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        match (&self.host, self.url.port()) {
            (Some(host), _) => host.clone(),
            (None, Some(port)) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            (None, None) => self.url.host_str().unwrap_or_default().to_owned(),
        }
    }

    /// The name that the certificate must contain.
    #[must_use]
    pub fn tls_name(&self) -> String {
        let without_port = |host: &String| match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name.to_owned(),
            _ => host.clone(),
        };
        let name = self.server_name.clone().or_else(|| self.host.as_ref().map(without_port));
        name.unwrap_or_else(|| self.host_name().to_owned())
    }

    /// The path and the query of the URL.
    #[must_use]
    pub fn path(&self) -> String {
        match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        }
    }
}

impl FromStr for Target {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Target, LoadError> {
        let fault = |why: &str| LoadError::Url { url: text.to_owned(), why: why.to_owned() };
        let url = Url::parse(text).map_err(|error| fault(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fault("its scheme is neither http nor https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(fault("it has no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("it contains a user name or a password: give them as --header"));
        }
        if url.port() == Some(0) {
            return Err(fault("port 0 cannot be called"));
        }
        Ok(Target::new(url))
    }
}

/// The authorities that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine trusts.
    #[default]
    Platform,
    /// The authorities in a PEM file.
    CaFile(PathBuf),
    /// Any certificate, because only time is measured.
    Insecure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_knows_its_address_and_its_names() {
        let target: Target = "https://demo.localhost:8443/mcp?x=1".parse().unwrap();
        assert!(target.is_tls());
        assert_eq!((target.host_name(), target.port()), ("demo.localhost", 8443));
        assert_eq!(target.authority(), "demo.localhost:8443");
        assert_eq!((target.tls_name().as_str(), target.path().as_str()), ("demo.localhost", "/mcp?x=1"));

        let mut target: Target = "http://[::1]/".parse().unwrap();
        assert_eq!((target.host_name(), target.port()), ("::1", 80));
        assert_eq!(target.authority(), "[::1]");
        target.host = Some("orders.example.com:443".to_owned());
        assert_eq!(
            (target.authority().as_str(), target.tls_name().as_str()),
            ("orders.example.com:443", "orders.example.com")
        );
        target.server_name = Some("other.example.com".to_owned());
        assert_eq!(target.tls_name(), "other.example.com");
    }

    #[test]
    fn invalid_targets_are_refused() {
        for text in ["", "localhost:1", "ftp://a/", "http://", "http://u:p@a/", "http://a:0/", "http://a:99999/"] {
            assert!(matches!(text.parse::<Target>(), Err(LoadError::Url { .. })), "{text}");
        }
    }
}
