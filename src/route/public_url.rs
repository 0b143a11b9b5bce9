/// The URL by which agents call a host or a whole edge: scheme and authority, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    scheme: Box<str>,
    authority: Box<str>,
}

impl PublicUrl {
    /// Splits `http://HOST[:PORT]` or `https://HOST[:PORT]`; none for anything else.
    #[must_use]
    pub fn of(url: &str) -> Option<PublicUrl> {
        let (scheme, authority) = url.split_once("://")?;
        let is_whole = matches!(scheme, "http" | "https") && !authority.is_empty() && !authority.contains(['/', '@']);
        is_whole.then(|| PublicUrl { scheme: scheme.into(), authority: authority.into() })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
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
        assert_eq!((url.scheme(), url.authority()), ("https", "mcp.example.com:8443"));
        for wrong in ["mcp.example.com", "ftp://a", "https://", "https://a/b", "https://u@a"] {
            assert_eq!(PublicUrl::of(wrong), None, "{wrong}");
        }
    }
}
