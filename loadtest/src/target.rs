//! Who is called, and how it is found and trusted.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use crate::load::LoadError;

/// Who is called, and how it is found and trusted.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address that is called: scheme, host, port, path and query.
    pub url: Url,
    /// Where the host is found instead of asking the system.
    pub resolve_to: Option<SocketAddr>,
    /// The `Host` header, and with it the name that the certificate must bear, in place of the URL's.
    pub host: Option<String>,
    /// The name that the certificate must bear, in place of the host's.
    pub server_name: Option<String>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Whether TLS sessions are resumed; a full handshake for every connection otherwise.
    pub resume: bool,
}

impl Target {
    /// A target that is found by its name and trusted as this machine trusts.
    #[must_use]
    pub fn new(url: Url) -> Target {
        Target { url, resolve_to: None, host: None, server_name: None, trust: Trust::default(), resume: false }
    }

    /// Whether it speaks TLS.
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

    /// What the `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        match (&self.host, self.url.port()) {
            (Some(host), _) => host.clone(),
            (None, Some(port)) => format!("{}:{port}", self.url.host_str().unwrap_or_default()),
            (None, None) => self.url.host_str().unwrap_or_default().to_owned(),
        }
    }

    /// The name that the certificate must bear.
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
            return Err(fault("it names no host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fault("it carries a user name or a password: give them as --header"));
        }
        if url.port() == Some(0) {
            return Err(fault("port 0 is nobody's"));
        }
        Ok(Target::new(url))
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those of the authorities that this machine trusts.
    #[default]
    Platform,
    /// Those of the authorities in a PEM file.
    CaFile(PathBuf),
    /// Anybody's: what is measured is time.
    Insecure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_knows_whom_to_dial_and_whom_to_name() {
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
    fn what_cannot_be_called_is_refused() {
        for text in ["", "localhost:1", "ftp://a/", "http://", "http://u:p@a/", "http://a:0/", "http://a:99999/"] {
            assert!(matches!(text.parse::<Target>(), Err(LoadError::Url { .. })), "{text}");
        }
    }
}
