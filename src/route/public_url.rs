/// The scheme of a URL that agents call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP, as in `http://a.test`.
    #[default]
    Http,
    /// HTTP over TLS, as in `https://a.test`.
    Https,
}

impl Scheme {
    /// The scheme of a connection.
    #[must_use]
    pub const fn of_connection(is_tls: bool) -> Scheme {
        if is_tls { Scheme::Https } else { Scheme::Http }
    }

    /// Parses a scheme name; `None` for any other name.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| scheme.name().as_bytes() == name)
    }

    /// The name as it stands in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port if the URL has none.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// The URL of a host or a whole edge as agents call it: scheme and authority, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: Scheme,
    authority: Box<str>,
}

impl PublicUrl {
    /// Parses `http://HOST[:PORT]` or `https://HOST[:PORT]`; `None` for anything else.
    #[must_use]
    pub fn of(url: &str) -> Option<PublicUrl> {
        let (scheme, authority) = url.split_once("://")?;
        let scheme = Scheme::of(scheme.as_bytes())?;
        let is_whole = !authority.is_empty() && !authority.contains(['/', '@']);
        is_whole.then(|| PublicUrl { scheme, authority: authority.into() })
    }

    /// The scheme of the URL.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port, as in `Host`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_scheme_and_authority() {
        let url = PublicUrl::of("https://mcp.example.com:8443").unwrap();
        assert_eq!((url.scheme(), url.authority()), (Scheme::Https, "mcp.example.com:8443"));
        for wrong in ["mcp.example.com", "ftp://a", "https://", "https://a/b", "https://u@a"] {
            assert_eq!(PublicUrl::of(wrong), None, "{wrong}");
        }
    }
}
