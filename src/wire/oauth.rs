//! The metadata of a protected resource (RFC 9728), which contains the server's own address.

use std::ops::Range;

use crate::wire::http1::PublicAddress;

/// The path of a resource's metadata; the path of the resource may follow (RFC 9728 section 3.1).
const WELL_KNOWN: &[u8] = b"/.well-known/oauth-protected-resource";
/// The deepest nesting that is read. Metadata is an object of texts and lists.
const DEPTH_MAX: usize = 64;

/// Whether this is the path of a resource's metadata.
#[must_use]
pub fn is_metadata_path(path: &[u8]) -> bool {
    path.strip_prefix(WELL_KNOWN).is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?')))
}

/// The metadata with the public address instead of the server's own, in members of the object and in lists that are
/// members; the rest is unchanged. None if it does not contain the server's address, or is not a JSON object.
#[must_use]
pub fn rewrite_metadata(body: &[u8], public: &PublicAddress<'_>) -> Option<Vec<u8>> {
    let mut rewritten = Vec::new();
    let mut copied = 0;
    let mut texts = Texts { body, at: 0, open: Vec::new() };
    while let Some(text) = texts.next()? {
        // Slashes may be escaped. A URL needs no other escape.
        let plain = unescape_slashes(&body[text.clone()]);
        let Some(own) = plain.as_deref().and_then(|plain| public.own_prefix(plain)) else { continue };
        rewritten.extend_from_slice(&body[copied..text.start]);
        rewritten.extend_from_slice(public.scheme);
        rewritten.extend_from_slice(b"://");
        rewritten.extend_from_slice(public.authority);
        rewritten.extend_from_slice(&plain?[own..]);
        copied = text.end;
    }
    if copied == 0 {
        return None;
    }
    rewritten.extend_from_slice(&body[copied..]);
    Some(rewritten)
}

/// The texts that are values of an object's members, or of a list that is such a value.
struct Texts<'a> {
    body: &'a [u8],
    at: usize,
    /// The brackets of the JSON text that are still open.
    open: Vec<u8>,
}

impl Texts<'_> {
    /// The next text without its quotes; `Some(None)` at the end, none if this is not an object.
    fn next(&mut self) -> Option<Option<Range<usize>>> {
        while let Some(&byte) = self.body.get(self.at) {
            self.at += 1;
            match byte {
                b'{' | b'[' if self.open.len() < DEPTH_MAX => self.open.push(byte),
                b'{' | b'[' => return None,
                b'}' | b']' => drop(self.open.pop()?),
                b'"' => {
                    let start = self.at;
                    let end = self.text_end()?;
                    let follows = self.body[self.at..].iter().find(|byte| !byte.is_ascii_whitespace());
                    if follows != Some(&b':') && matches!(self.open[..], [b'{'] | [b'{', b'[']) {
                        return Some(Some(start..end));
                    }
                }
                _ => {}
            }
        }
        self.open.is_empty().then_some(None)
    }

    /// The end of a text whose first quote was read. Reads its last quote too.
    fn text_end(&mut self) -> Option<usize> {
        loop {
            let byte = *self.body.get(self.at)?;
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                return Some(self.at - 1);
            }
        }
    }
}

/// A text without the escapes of its slashes; none if it has other escapes.
fn unescape_slashes(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' if bytes.next() == Some(&b'/') => plain.push(b'/'),
            b'\\' => return None,
            _ => plain.push(byte),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const PUBLIC: PublicAddress<'static> = PublicAddress {
        own: ["127.0.0.1:9000", "127.0.0.1:9000"],
        default_port: 80,
        scheme: b"https",
        authority: b"mcp.example.com",
        challenges: true,
    };

    fn rewritten(body: &str) -> Option<String> {
        rewrite_metadata(body.as_bytes(), &PUBLIC).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn the_path_is_known_with_and_without_that_of_the_resource() {
        for path in ["", "/mcp", "?x"] {
            assert!(is_metadata_path(&[WELL_KNOWN, path.as_bytes()].concat()), "{path}");
        }
        for path in ["/.well-known/oauth-protected-resources", "/.well-known/oauth-authorization-server", "/mcp", ""] {
            assert!(!is_metadata_path(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn the_members_that_name_the_server_are_rewritten_and_nothing_else() {
        let body = r#"{ "resource":"http://127.0.0.1:9000/mcp", "http://127.0.0.1:9000/": 1,
            "authorization_servers" : ["http://127.0.0.1:9000", "https://login.example.com/"],
            "jwks_uri": "http:\/\/127.0.0.1:9000\/jwks", "resource_name": "see http://127.0.0.1:9000/ \"x\"",
            "nested": {"x": "http://127.0.0.1:9000/"}, "deep": [["http://127.0.0.1:9000/"]], "n": [1, true, null] }"#;
        let wanted = body
            .replace("\"resource\":\"http://127.0.0.1:9000", "\"resource\":\"https://mcp.example.com")
            .replace("[\"http://127.0.0.1:9000\",", "[\"https://mcp.example.com\",")
            .replace(r"http:\/\/127.0.0.1:9000\/jwks", "https://mcp.example.com/jwks");
        assert_eq!(rewritten(body), Some(wanted));
    }

    #[test]
    fn foreign_addresses_and_other_documents_are_unchanged() {
        let deep = format!("{{\"a\":\"http://127.0.0.1:9000\",\"b\":{}", "[".repeat(DEPTH_MAX));
        for body in [
            "",
            "{}",
            r#"{"resource":"https://other.test/mcp"}"#,
            r#"{"resource":"http://127.0.0.1:9000/mcp""#,
            r#"{"resource":"http://127.0.0.1:9000/mcp"}}"#,
            r#"{"resource":"http://127.0.0.1:9000/mcp\"#,
            r#"["http://127.0.0.1:9000"]"#,
            r#""http://127.0.0.1:9000""#,
            &deep,
        ] {
            assert_eq!(rewritten(body), None, "{body}");
        }
    }

    #[test]
    fn no_bytes_do_harm() {
        let mut rng = Rng::new(9);
        let good = br#"{"resource":"http:\/\/127.0.0.1:9000/mcp","authorization_servers":["http://127.0.0.1:9000"]}"#;
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
            if let Some(rewritten) = rewrite_metadata(&bytes, &PUBLIC) {
                assert!(rewritten.len() <= 2 * good.len());
            }
        }
    }
}
