//! The normal form of URIs, which rules compare.
//!
//! Servers read URIs differently: some resolve `..`, some decode escapes twice, some drop parts that they do not know. A rule
//! must not depend on this, so a URI with more than one reading is refused.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The maximum length of a URI, in bytes.
pub(super) const URI_LEN_MAX: usize = 2_048;

/// Why a URI has no normal form.
pub(super) type Ambiguity = &'static str;

pub(super) const TOO_LONG: Ambiguity = "it is too long: a URI has at most 2048 bytes";
const NO_SCHEME: Ambiguity = "it does not begin with a scheme, such as file:";
const ODD_CHARACTER: Ambiguity = "it has a space, a control character, '\\' or '#'";
const NO_ESCAPE: Ambiguity = "a '%' in it begins no escape of two hexadecimal digits: %25 is a '%'";
const ODD_ESCAPE: Ambiguity =
    "an escape in it stands for '/', '?', '#', '\\' or a control character, or ends it with a space";
const TWO_ESCAPES: Ambiguity = "it has an escape within an escape";
const NO_TEXT: Ambiguity = "its escapes are not UTF-8";
const STAR_ESCAPE: Ambiguity = "a pattern cannot name a '*', not as %2a either";
const DOTS: Ambiguity = "it has a segment '.' or '..'";
const EMPTY: Ambiguity = "it has an empty segment or an empty query";
const ONE_SLASH: Ambiguity = "its scheme is followed by one '/' or none: write file:///x, https://host/x";
const FILE_HOST: Ambiguity = "a file: URI has no host: write file:///x";
const HOST: Ambiguity = "its host has a user, a port that is the usual one, or another spelling than the usual one";
const CAPITALS: Ambiguity =
    "capitals behind a '*' may be of the host or of the path: write the host in lower case, or '/' before the path";

/// Normalises a URI: decodes its escapes and lower-cases its scheme and host.
///
/// # Errors
///
/// Why servers may read the URI differently.
pub(super) fn normal(uri: &str) -> Result<Cow<'_, str>, Ambiguity> {
    one_form(uri, false)
}

/// Normalises a URI pattern, in which `*` matches any characters.
///
/// # Errors
///
/// Why no normalised URI can match the pattern, or why its `*` could stand for more than one part of a URI.
pub(super) fn normal_pattern(pattern: &str) -> Result<Cow<'_, str>, Ambiguity> {
    one_form(pattern, true)
}

/// Other readings that a server may have of a normalised URI: without the query, the parameters, or the final `/`.
pub(super) fn shorter(normal: &str) -> impl Iterator<Item = &str> {
    let until = |end: &[char]| normal.split(end).next().unwrap_or_default();
    let (path, plain) = (until(&['?']), until(&['?', ';']));
    let parts = [path, path.trim_end_matches('/'), plain, plain.trim_end_matches('/')];
    parts.into_iter().filter(|part| part.len() < normal.len())
}

/// A lower-cased URI for deny rules: a `*` may match the start of a host, and file systems may be case-insensitive.
pub(super) fn lower(normal: &str) -> String {
    normal.chars().flat_map(char::to_lowercase).collect()
}

fn one_form(text: &str, is_pattern: bool) -> Result<Cow<'_, str>, Ambiguity> {
    if text.len() > URI_LEN_MAX {
        return Err(TOO_LONG);
    }
    let is_odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || matches!(letter, '\\' | '#' | '\u{feff}');
    if text.chars().any(is_odd) {
        return Err(ODD_CHARACTER);
    }
    let scheme = scheme(text, is_pattern)?;
    let decoded = decode(text, is_pattern)?;
    let (head, _) = decoded.split_at(head_len(&decoded, scheme, is_pattern)?);
    let (before_query, query) = decoded.split_once('?').map_or((&*decoded, None), |(path, query)| (path, Some(query)));
    if query == Some("") || before_query.get(head.len()..).is_some_and(|path| path.contains("//")) {
        return Err(EMPTY);
    }
    let has_dots = |part: &str| part.split(['/', '?']).any(|one| matches!(one.split(';').next(), Some("." | "..")));
    if has_dots(&decoded[scheme.map_or(0, |scheme| scheme.len() + 1)..]) {
        return Err(DOTS);
    }
    let plain = head.find('*').filter(|_| is_pattern).unwrap_or(head.len());
    let has_capitals = |part: &str| part.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_capitals(&head[plain..]) && !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("file")) {
        return Err(CAPITALS);
    }
    if has_capitals(&head[..plain]) {
        return Ok(Cow::Owned(head[..plain].to_ascii_lowercase() + &decoded[plain..]));
    }
    Ok(decoded)
}

/// The scheme (RFC 3986 section 3.1); `None` for a pattern in which a `*` stands for it.
fn scheme(text: &str, is_pattern: bool) -> Result<Option<&str>, Ambiguity> {
    let end =
        text.find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter)).unwrap_or(text.len());
    let (scheme, rest) = text.split_at(end);
    if is_pattern && rest.starts_with('*') {
        return Ok(None);
    }
    let is_scheme = rest.starts_with(':') && scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    if is_scheme { Ok(Some(scheme)) } else { Err(NO_SCHEME) }
}

/// The length of the case-insensitive part: the scheme and, if there is one, the authority.
fn head_len(text: &str, scheme: Option<&str>, is_pattern: bool) -> Result<usize, Ambiguity> {
    let is_file = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("file"));
    let usual_port = scheme.and_then(usual_port);
    let is_open = |rest: &str| is_pattern && rest.starts_with('*');
    let begin = match scheme {
        Some(scheme) => {
            let rest = &text[scheme.len() + 1..];
            match rest.strip_prefix('/') {
                Some(rest) if !rest.starts_with('/') && !is_open(rest) => return Err(ONE_SLASH),
                None if (is_file || usual_port.is_some()) && !is_open(rest) => return Err(ONE_SLASH),
                _ => scheme.len() + 1,
            }
        }
        None => text.find('/').unwrap_or(text.len()),
    };
    if !text[begin..].starts_with("//") {
        // The characters before a `*` that matches the rest of the scheme belong to the scheme.
        return Ok(scheme.map_or_else(|| text.find('*').unwrap_or(0), |_| begin));
    }
    let begin = begin + 2;
    let end = text[begin..].find(['/', '?']).map_or(text.len(), |len| begin + len);
    let host = &text[begin..end];
    if is_file && !host.is_empty() && !is_open(host) {
        return Err(FILE_HOST);
    }
    if let Some(port) = usual_port
        && !is_usual(host, port, is_pattern)
    {
        return Err(HOST);
    }
    Ok(end)
}

/// The default port of a scheme.
fn usual_port(scheme: &str) -> Option<&'static str> {
    let ports = [("http", "80"), ("https", "443"), ("ws", "80"), ("wss", "443"), ("ftp", "21")];
    ports.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|(_, port)| port)
}

/// Whether an authority has its usual spelling.
fn is_usual(authority: &str, usual_port: &str, is_pattern: bool) -> bool {
    let has_star = |part: &str| is_pattern && part.contains('*');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| {
        has_star(port)
            || (port != usual_port
                && !port.starts_with('0')
                && port.parse::<u16>().is_ok_and(|_| !port.starts_with('+')))
    };
    let is_plain = !host.is_empty() && host.is_ascii() && !host.contains('@') && !host.ends_with('.');
    if !is_plain || !port.is_none_or(is_port) {
        return false;
    }
    if has_star(host) {
        return true;
    }
    if let Some(literal) = host.strip_prefix('[') {
        let literal = literal.strip_suffix(']').unwrap_or_default();
        return literal.parse::<Ipv6Addr>().is_ok_and(|address| address.to_string().eq_ignore_ascii_case(literal));
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    // Browsers parse a host that ends in such a label as an IPv4 address: 127.1, 0x7f000001.
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    !is_number || host.parse::<Ipv4Addr>().is_ok()
}

/// Decodes the escapes of the text, once.
fn decode(text: &str, is_pattern: bool) -> Result<Cow<'_, str>, Ambiguity> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let mut is_query = false;
    while let Some(byte) = bytes.next() {
        is_query |= byte == b'?';
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(NO_ESCAPE);
        let byte = (digit()? << 4 | digit()?) as u8;
        match byte {
            b'/' | b'?' if is_query => {}
            b'/' | b'?' | b'#' | b'\\' => return Err(ODD_ESCAPE),
            b'*' if is_pattern => return Err(STAR_ESCAPE),
            _ => {}
        }
        out.push(byte);
    }
    let has_escape = |three: &[u8]| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit);
    if out.windows(3).any(has_escape) {
        return Err(TWO_ESCAPES);
    }
    let decoded = String::from_utf8(out).map_err(|_| NO_TEXT)?;
    if decoded.chars().any(char::is_control) || decoded.ends_with(char::is_whitespace) {
        return Err(ODD_ESCAPE);
    }
    Ok(Cow::Owned(decoded))
}

/// The pattern of all URIs that a template can expand to, in normal form.
pub(super) fn pattern_of(template: &str) -> Result<String, Ambiguity> {
    if template.len() > URI_LEN_MAX {
        return Err(TOO_LONG);
    }
    let mut pattern = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        pattern.push_str(before);
        pattern.push('*');
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    pattern.push_str(rest);
    normal_pattern(&pattern).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::policy::tools::pattern::Patterns;

    #[test]
    fn every_spelling_of_a_uri_has_one_form() {
        for (uri, want) in [
            ("file:///docs/a.md", "file:///docs/a.md"),
            ("FILE:///key", "file:///key"),
            ("https://EXAMPLE.com/A", "https://example.com/A"),
            ("https://[::1]:8443/A", "https://[::1]:8443/A"),
            ("https://127.0.0.1/", "https://127.0.0.1/"),
            ("file:///%6bey", "file:///key"),
            ("file:///a%20b", "file:///a b"),
            ("file:///100%25", "file:///100%"),
            ("note:A", "note:A"),
            ("email://A@b.example/x", "email://a@b.example/x"),
            ("db://t?path=a%2Fb", "db://t?path=a/b"),
        ] {
            assert_eq!(normal(uri).as_deref(), Ok(want), "{uri}");
        }
    }

    #[test]
    fn an_ambiguous_uri_is_refused_with_a_reason() {
        for (uri, why) in [
            ("file:///docs/../key", DOTS),
            ("file:///docs/%2e%2e/key", DOTS),
            ("file:///docs/%252e%252e/key", TWO_ESCAPES),
            ("file:///docs%2fkey", ODD_ESCAPE),
            ("file:///docs\\key", ODD_CHARACTER),
            ("file:////key", EMPTY),
            ("file:///key?", EMPTY),
            ("file:/key", ONE_SLASH),
            ("https:key", ONE_SLASH),
            ("file://localhost/key", FILE_HOST),
            ("https://a:443/", HOST),
            ("https://127.1/", HOST),
            ("https://0x7f000001/", HOST),
            ("https://[0::1]/", HOST),
            ("https://a:+1/", HOST),
            ("file:///%ff", NO_TEXT),
            ("file:///a%2", NO_ESCAPE),
            ("file%3a///key", NO_SCHEME),
            ("*", NO_SCHEME),
        ] {
            assert_eq!(normal(uri), Err(why), "{uri}");
        }
    }

    #[test]
    fn a_form_never_depends_on_how_its_letters_are_escaped() {
        let mut rng = Rng::new(9);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..50_000 {
            let letters = b"ab/.%2eE?*:#C3A9";
            let len = rng.below(12);
            let rest: String =
                (0..len).map(|_| char::from(letters[rng.below(letters.len() as u64) as usize])).collect();
            let uri = format!("file:///{rest}");
            let Ok(form) = normal(&uri) else {
                refused += 1;
                continue;
            };
            read += 1;
            assert!(!form.contains("/../") && !form[8..].contains("//") || form.contains('?'), "{uri}");
            // Every byte escaped, except those that may not be.
            let escaped: String = form[8..]
                .bytes()
                .map(|byte| if b"/?".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
                .collect();
            assert_eq!(normal(&format!("FILE:///{escaped}")).as_deref(), Ok(&*form), "{uri}");
        }
        assert!(read > 5_000 && refused > 5_000, "{read} {refused}");
    }

    #[test]
    fn patterns_are_normalised_like_uris() {
        for (pattern, want) in [
            ("*", Ok("*")),
            ("*.md", Ok("*.md")),
            ("*Docs:A", Ok("*Docs:A")),
            ("FILE*Key", Ok("file*Key")),
            ("file:*", Ok("file:*")),
            ("FILE:/*", Ok("file:/*")),
            ("file://*KEY", Ok("file://*KEY")),
            ("https://*/KEY", Ok("https://*/KEY")),
            ("HTTPS://A.example:*/B", Ok("https://a.example:*/B")),
            ("https://*KEY", Err(CAPITALS)),
            ("*://Host/x", Err(CAPITALS)),
            ("file://h*", Err(FILE_HOST)),
            ("x:/a*", Err(ONE_SLASH)),
            ("x://a*?", Err(EMPTY)),
            ("x://a/*//b", Err(EMPTY)),
            ("*/../b", Err(DOTS)),
            ("x://a%2A", Err(STAR_ESCAPE)),
            ("x://a%*", Err(NO_ESCAPE)),
            ("a", Err(NO_SCHEME)),
        ] {
            assert_eq!(normal_pattern(pattern).as_deref().map_err(|why| *why), want, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_made_from_a_uri_matches_its_normal_form() {
        const PARTS: [&str; 24] = [
            "file", "HTTPS", "x", "K", ":", ":", "//", "/", "/", "a", "B", "%41", "%20", "%25", "%c3%a9", "\u{e9}",
            ".", "..", "?", ";", "@", "*", "[::1]", ":80",
        ];
        let mut rng = Rng::new(10);
        let mut matched = 0;
        for _ in 0..100_000 {
            let count = 2 + rng.below(8) as usize;
            let mut parts: Vec<&str> = (0..count).map(|_| PARTS[rng.below(PARTS.len() as u64) as usize]).collect();
            if rng.chance(0.8) {
                parts.splice(0..0, [["file", ":", "//", "/"], ["Https", ":", "//", "aH"]][rng.below(2) as usize]);
            }
            let uri = parts.concat();
            let begin = rng.below(parts.len() as u64) as usize;
            let end = begin + rng.below((parts.len() - begin) as u64 + 1) as usize;
            parts.splice(begin..end, ["*"]);
            let pattern = parts.concat();
            let (Ok(form), Ok(wanted)) = (normal(&uri), normal_pattern(&pattern)) else { continue };
            let mut patterns = Patterns::default();
            patterns.add(&lower(&wanted));
            matched += 1;
            assert!(patterns.matches(&lower(&form)), "{pattern} {uri}");
        }
        assert!(matched > 5_000, "{matched}");
    }

    #[test]
    fn a_long_uri_is_refused_unread() {
        assert_eq!(normal(&format!("file:///%{}41", "25".repeat(500_000))), Err(TOO_LONG));
        assert!(normal(&format!("file:///{}", "a".repeat(URI_LEN_MAX - 8))).is_ok());
    }
}
