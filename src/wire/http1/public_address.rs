use std::ops::Range;

use super::authority::split;
use super::names::Known;
use super::text::push_field;

/// The parameter of a challenge with the URL of a protected resource's metadata (RFC 9728 section 5.1).
const RESOURCE_METADATA: &[u8] = b"resource_metadata";

/// The addresses that a server uses for itself, and the public address that replaces them.
#[derive(Clone, Copy, Debug)]
pub struct PublicAddress<'a> {
    /// The authorities that the server may use for itself: that of its URL, and the `Host` that was sent to it.
    pub own: [&'a str; 2],
    /// The port of an own authority without one.
    pub default_port: u16,
    /// The scheme of the public address, `http` or `https`.
    pub scheme: &'a [u8],
    /// The authority of the public address.
    pub authority: &'a [u8],
    /// Whether `resource_metadata` in challenges is rewritten too.
    pub challenges: bool,
}

impl PublicAddress<'_> {
    /// The position of the server's own scheme and authority in the value of a field.
    pub(super) fn own_part(&self, known: Known, value: &[u8]) -> Option<Range<usize>> {
        match known {
            Known::Reference => self.own_prefix(value).map(|len| 0..len),
            Known::Challenge if self.challenges => {
                let url = resource_metadata(value)?;
                let len = self.own_prefix(&value[url.clone()])?;
                Some(url.start..url.start + len)
            }
            _ => None,
        }
    }

    /// Appends a field, with the public scheme and authority instead of the server's own.
    pub(super) fn push_rewritten(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8], own: Range<usize>) {
        let rewritten = [&value[..own.start], self.scheme, b"://", self.authority, &value[own.end..]].concat();
        push_field(out, name, &rewritten);
    }

    /// The length of scheme and authority of a URL, if the authority is the server's own. The scheme does not matter: a
    /// server may combine that of `X-Forwarded-Proto` with its own authority. None for a relative reference, and for
    /// one with user information.
    #[must_use]
    pub fn own_prefix(&self, url: &[u8]) -> Option<usize> {
        let slashes = url.windows(2).position(|two| two == b"//").filter(|&at| at <= b"https:".len())?;
        let default_port = match &url[..slashes] {
            scheme if scheme.eq_ignore_ascii_case(b"http:") => 80,
            scheme if scheme.eq_ignore_ascii_case(b"https:") => 443,
            [] => self.default_port,
            _ => return None,
        };
        let start = slashes + 2;
        let end = url[start..].iter().position(|byte| b"/?#".contains(byte)).map_or(url.len(), |at| start + at);
        let (host, port) = split(&url[start..end])?;
        let is_own = |own: &&str| {
            split(own.as_bytes()).is_some_and(|(own_host, own_port)| {
                let same_port =
                    port == own_port || port.unwrap_or(default_port) == own_port.unwrap_or(self.default_port);
                own_host.eq_ignore_ascii_case(host) && same_port
            })
        };
        self.own.iter().any(is_own).then_some(end)
    }
}

/// The position of the URL of the parameter `resource_metadata` in a challenge (RFC 9110 section 11.3), with or without
/// quotes. A name inside the quotes of another parameter does not count, and neither does a value with an escape, which
/// no URL needs.
fn resource_metadata(challenge: &[u8]) -> Option<Range<usize>> {
    let mut at = 0;
    while at < challenge.len() {
        if challenge[at] == b'"' {
            at = quoted_end(challenge, at + 1)?.0 + 1;
            continue;
        }
        let starts = at == 0 || matches!(challenge[at - 1], b' ' | b'\t' | b',');
        let name = challenge[at..].get(..RESOURCE_METADATA.len());
        if starts && name.is_some_and(|name| name.eq_ignore_ascii_case(RESOURCE_METADATA)) {
            let after = skip_space(challenge, at + RESOURCE_METADATA.len());
            if challenge.get(after) == Some(&b'=') {
                let value = skip_space(challenge, after + 1);
                if challenge.get(value) == Some(&b'"') {
                    let (end, is_plain) = quoted_end(challenge, value + 1)?;
                    return is_plain.then_some(value + 1..end);
                }
                let len = challenge[value..].iter().position(|byte| b" \t,".contains(byte));
                return Some(value..len.map_or(challenge.len(), |len| value + len));
            }
        }
        at += 1;
    }
    None
}

/// The end of a quoted string, and whether it has no escapes.
fn quoted_end(text: &[u8], start: usize) -> Option<(usize, bool)> {
    let (mut at, mut is_plain) = (start, true);
    loop {
        match text.get(at)? {
            b'"' => return Some((at, is_plain)),
            b'\\' => {
                is_plain = false;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

fn skip_space(text: &[u8], start: usize) -> usize {
    start + text[start..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: PublicAddress<'static> = PublicAddress {
        own: ["127.0.0.1:9000", "localhost"],
        default_port: 80,
        scheme: b"https",
        authority: b"mcp.example.com",
        challenges: true,
    };

    fn rewritten(known: Known, value: &str) -> Option<String> {
        let own = PUBLIC.own_part(known, value.as_bytes())?;
        let mut out = Vec::new();
        PUBLIC.push_rewritten(&mut out, b"N", value.as_bytes(), own);
        Some(String::from_utf8(out).unwrap().strip_prefix("N: ").unwrap().trim_end().to_owned())
    }

    #[test]
    fn references_to_the_servers_own_authority_are_rewritten() {
        for (own, public) in [
            ("http://127.0.0.1:9000/mcp/?a=b#c", "https://mcp.example.com/mcp/?a=b#c"),
            ("https://127.0.0.1:9000/mcp/", "https://mcp.example.com/mcp/"),
            ("HTTP://LocalHost", "https://mcp.example.com"),
            ("http://localhost:80?x", "https://mcp.example.com?x"),
            ("https://localhost/", "https://mcp.example.com/"),
            ("//127.0.0.1:9000/x", "https://mcp.example.com/x"),
        ] {
            assert_eq!(rewritten(Known::Reference, own).as_deref(), Some(public), "{own}");
        }
    }

    #[test]
    fn relative_and_foreign_references_stay() {
        for foreign in [
            "/mcp/",
            "mcp//x",
            "?http://127.0.0.1:9000/",
            "/r?to=http://127.0.0.1:9000/",
            "http://127.0.0.1:9001/mcp",
            "http://127.0.0.1/mcp",
            "http://127.0.0.1:9000@evil.test/",
            "http://user@127.0.0.1:9000/",
            "http://127.0.0.1:9000.evil.test/",
            "http://127.0.0.1:9000\\evil.test/",
            "https://login.example.com/authorize",
            "https://localhost:443/",
            "ftp://localhost/",
            "http:localhost/",
            "http://",
            "",
        ] {
            assert_eq!(rewritten(Known::Reference, foreign), None, "{foreign}");
        }
    }

    #[test]
    fn of_a_challenge_only_the_url_of_the_metadata_is_rewritten() {
        let own = "http://127.0.0.1:9000/.well-known/oauth-protected-resource/mcp";
        let public = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
        for around in [
            "Bearer resource_metadata=\"{}\"",
            "Bearer error=\"invalid_token\", Resource_Metadata = \"{}\", scope=\"a http://127.0.0.1:9000/x\"",
            "Bearer resource_metadata={}, scope=a",
            "Bearer realm=\"a \\\" resource_metadata=b\", resource_metadata=\"{}\"",
        ] {
            let (before, after) = (around.replace("{}", own), around.replace("{}", public));
            assert_eq!(rewritten(Known::Challenge, &before), Some(after));
        }
        for stays in [
            "Bearer resource_metadata=\"https://other.test/.well-known/oauth-protected-resource\"",
            "Bearer realm=\"resource_metadata=http://127.0.0.1:9000/\"",
            "Bearer x_resource_metadata=\"http://127.0.0.1:9000/\"",
            "Bearer resource_metadata=\"http://127.0.0.1:9000\\/\"",
            "Bearer resource_metadata=\"http://127.0.0.1:9000/",
            "Bearer resource_metadata",
            "Bearer realm=\"\\",
        ] {
            assert_eq!(rewritten(Known::Challenge, stays), None, "{stays}");
        }
        let off = PublicAddress { challenges: false, ..PUBLIC };
        assert!(off.own_part(Known::Challenge, b"Bearer resource_metadata=\"http://localhost/\"").is_none());
    }
}
