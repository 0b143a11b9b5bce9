//! Which web pages may call a route, and the CORS fields for their browsers.

use crate::route::{Hostname, Scheme};
use crate::wire::http1::{Cors, RequestHead};

/// Which origins may call, and whether adit answers for them with CORS fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginRules {
    /// Allowed origins besides the route's own, in lower case and without a default port.
    pub allowed_origins: Vec<String>,
    /// Which origin counts as the route's own.
    pub own_origin: OwnOrigin,
    /// Whether preflight requests are answered here, and responses carry the fields of CORS (WHATWG Fetch, section 3.2).
    pub cors: bool,
}

/// When the origin of a page counts as that of the route it calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnOrigin {
    /// Scheme, host and port are the same (RFC 6454, section 5).
    #[default]
    Exact,
    /// The host is the same.
    Host,
}

impl OriginRules {
    /// Whether the request may be passed on: it has no `Origin`, or an allowed one. `scheme` is the one that the agent
    /// used.
    #[must_use]
    pub fn allow(&self, head: &RequestHead, scheme: Scheme) -> bool {
        head.get("origin").is_none_or(|origin| self.allows_origin(origin, head, scheme))
    }

    /// The CORS fields for the response to this request; `None` if CORS is left to the upstream.
    #[must_use]
    pub fn cors<'h>(&self, head: &'h RequestHead, scheme: Scheme) -> Option<Cors<'h>> {
        let allowed = |origin: &&[u8]| self.allows_origin(origin, head, scheme);
        self.cors.then(|| Cors::new(head.get("origin").filter(allowed)))
    }

    fn allows_origin(&self, origin: &[u8], head: &RequestHead, scheme: Scheme) -> bool {
        let is_listed = |allowed: &String| allowed.as_bytes().eq_ignore_ascii_case(origin);
        self.allowed_origins.iter().any(is_listed) || self.is_own(origin, head, scheme)
    }

    fn is_own(&self, origin: &[u8], head: &RequestHead, scheme: Scheme) -> bool {
        let Some((of_origin, authority)) = split(origin) else { return false };
        match self.own_origin {
            OwnOrigin::Exact => of_origin == scheme && head.is_for(authority, scheme.default_port()),
            OwnOrigin::Host => {
                let named = Hostname::of_authority(authority);
                head.host().is_some_and(|host| named.is_ok_and(|named| named.as_str() == host))
            }
        }
    }
}

fn split(origin: &[u8]) -> Option<(Scheme, &[u8])> {
    let end = origin.windows(3).position(|window| window == b"://")?;
    Some((Scheme::of(&origin[..end])?, &origin[end + 3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, origin: Option<&str>) -> RequestHead {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let mut head = RequestHead::new();
        head.feed(format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n").as_bytes()).unwrap();
        head
    }

    #[test]
    fn an_own_origin_has_the_scheme_the_host_and_the_port() {
        let https = Scheme::Https;
        for (host, scheme, origin, is_own, is_own_host) in [
            ("a.test", https, "https://a.test", true, true),
            ("a.test:443", https, "https://a.test", true, true),
            ("A.test", https, "https://a.test:443", true, true),
            ("a.test:8443", https, "https://a.test:8443", true, true),
            ("[::1]:8443", https, "https://[::1]:8443", true, true),
            ("a.test", Scheme::Http, "http://a.test", true, true),
            ("a.test", https, "http://a.test", false, true),
            ("a.test", Scheme::Http, "https://a.test", false, true),
            ("a.test", https, "https://a.test:8443", false, true),
            ("a.test:8443", https, "https://a.test", false, true),
            ("a.test:80", https, "http://a.test", false, true),
            ("a.test", https, "https://b.test", false, false),
            ("a.test", https, "https://a.test.evil.example", false, false),
            ("a.test", https, "https://evil.example@a.test", false, false),
            ("a.test", https, "https://a.test/", false, false),
            ("a.test", https, "https://", false, false),
            ("a.test", https, "null", false, false),
            ("a.test", https, "ftp://a.test", false, false),
            ("a.test", https, "", false, false),
        ] {
            let head = request(host, Some(origin));
            let exact = OriginRules::default();
            assert_eq!(exact.allow(&head, scheme), is_own, "{host} {origin}");
            let by_host = OriginRules { own_origin: OwnOrigin::Host, ..OriginRules::default() };
            assert_eq!(by_host.allow(&head, scheme), is_own_host, "{host} {origin}");
        }
    }

    #[test]
    fn a_listed_origin_may_call_and_a_request_without_one_too() {
        let allowed_origins = vec!["https://app.test".to_owned(), "http://localhost:6274".to_owned()];
        let rules = OriginRules { allowed_origins, ..OriginRules::default() };
        for (origin, may) in [
            (Some("https://app.test"), true),
            (Some("https://APP.test"), true),
            (Some("http://localhost:6274"), true),
            (Some("http://localhost:6275"), false),
            (Some("http://app.test"), false),
            (None, true),
        ] {
            assert_eq!(rules.allow(&request("a.test", origin), Scheme::Https), may, "{origin:?}");
        }
    }
}
