//! The address that an agent called, if a proxy in front of the edge terminates TLS.

use crate::exchange::CalledAddress;
use crate::route::{Hostname, PublicUrl, Scheme};
use crate::wire::http1::RequestHead;

/// The facts about a proxy in front of the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Front {
    /// Whether the agent's own connection is TLS, if a PROXY header says so.
    pub(super) is_tls: Option<bool>,
    /// Whether the requests come from a proxy whose `X-Forwarded-Proto` and `X-Forwarded-Host` are trusted.
    pub(super) is_trusted: bool,
}

impl Front {
    /// The scheme that the agent used: that of the public URL, else as the proxy says, else that of the connection
    /// itself.
    pub(super) fn scheme(&self, public: Option<&PublicUrl>, is_tls: bool, head: &RequestHead) -> Scheme {
        match (public, self.is_tls) {
            (Some(public), _) => public.scheme(),
            (None, Some(is_tls)) => Scheme::of_connection(is_tls),
            (None, None) => {
                let forwarded = self.forwarded_field(head, "x-forwarded-proto").and_then(Scheme::of);
                forwarded.unwrap_or(Scheme::of_connection(is_tls))
            }
        }
    }

    /// The address that the agent called, from the same sources.
    pub(super) fn called<'a>(
        &self,
        public: Option<&'a PublicUrl>,
        is_tls: bool,
        head: &'a RequestHead,
    ) -> CalledAddress<'a> {
        let called = CalledAddress::of(self.scheme(public, is_tls, head), head);
        let is_host = |forwarded: &&[u8]| Hostname::of_authority(forwarded).is_ok();
        let forwarded = self.forwarded_field(head, "x-forwarded-host").filter(is_host).unwrap_or(called.authority);
        // An edge may have other hosts than that of its URL.
        let public = public.map(|public| public.authority().as_bytes()).filter(|public| {
            let hosts = (Hostname::of_authority(public), Hostname::of_authority(forwarded));
            matches!(hosts, (Ok(public), Ok(called)) if public == called)
        });
        CalledAddress { authority: public.unwrap_or(forwarded), ..called }
    }

    /// The proxy's value of a field, which is the last: a proxy appends to what it received.
    fn forwarded_field<'a>(&self, head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
        if !self.is_trusted {
            return None;
        }
        let fields = head.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = fields.last()?;
        value.rsplit(|&byte| byte == b',').next().map(<[u8]>::trim_ascii)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::Progress;

    const NONE: Front = Front { is_tls: None, is_trusted: false };
    const TRUSTED: Front = Front { is_trusted: true, ..NONE };

    fn called(front: Front, public: Option<&str>, is_tls: bool, fields: &str) -> String {
        let mut head = RequestHead::new();
        let fed = head.feed(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").as_bytes());
        assert!(matches!(fed, Ok(Progress::Complete { .. })));
        let public = public.map(|url| PublicUrl::of(url).unwrap());
        let CalledAddress { scheme, authority } = front.called(public.as_ref(), is_tls, &head);
        format!("{}://{}", scheme.name(), String::from_utf8_lossy(authority))
    }

    #[test]
    fn without_a_proxy_the_connection_decides() {
        let forged = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test\r\n";
        assert_eq!(called(NONE, None, false, forged), "http://a.test");
        assert_eq!(called(NONE, None, true, ""), "https://a.test");
    }

    #[test]
    fn a_trusted_proxys_fields_are_used_if_they_are_valid() {
        for (fields, expected) in [
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.test:8443\r\n", "https://b.test:8443"),
            ("X-Forwarded-Proto: http, https\r\n", "https://a.test"),
            ("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n", "https://a.test"),
            ("X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: b test\r\n", "http://a.test"),
            ("", "http://a.test"),
        ] {
            assert_eq!(called(TRUSTED, None, false, fields), expected, "{fields}");
        }
    }

    #[test]
    fn a_proxy_header_overrides_a_field_and_the_public_url_overrides_both() {
        let over = |is_tls| Front { is_tls: Some(is_tls), ..TRUSTED };
        let plain = "X-Forwarded-Proto: http\r\n";
        assert_eq!(called(over(true), None, false, plain), "https://a.test");
        assert_eq!(called(over(false), None, true, ""), "http://a.test");
        assert_eq!(called(over(false), Some("https://A.test:8443"), false, plain), "https://A.test:8443");
        assert_eq!(called(NONE, Some("https://other.test"), false, ""), "https://a.test", "another host of the edge");
    }
}
