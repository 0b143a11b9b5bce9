//! Finds keys, tokens and passwords: by their known form, or as random-looking values after a telling name.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::policy::tools::sanitise::runs::ByteClass;

/// Prefixes of the keys of well-known services, with their minimum lengths in bytes.
const PREFIXES: [(&[u8], usize); 30] = [
    (b"AKIA", 20),
    (b"ASIA", 20),
    (b"AIza", 35),
    (b"ghp_", 36),
    (b"gho_", 36),
    (b"ghu_", 36),
    (b"ghs_", 36),
    (b"ghr_", 36),
    (b"github_pat_", 40),
    (b"glpat-", 20),
    (b"sk-", 24),
    (b"sk_live_", 24),
    (b"sk_test_", 24),
    (b"rk_live_", 24),
    (b"rk_test_", 24),
    (b"whsec_", 24),
    (b"xoxb-", 20),
    (b"xoxp-", 20),
    (b"xoxa-", 20),
    (b"xoxr-", 20),
    (b"xoxs-", 20),
    (b"xapp-", 20),
    (b"npm_", 36),
    (b"pypi-", 40),
    (b"hf_", 30),
    (b"dop_v1_", 40),
    (b"shpat_", 32),
    (b"glsa_", 32),
    (b"lin_api_", 36),
    (b"dckr_pat_", 27),
];
/// The shortest of these minimum lengths.
const KEY_LEN_MIN: usize = {
    let (mut shortest, mut at) = (usize::MAX, 0);
    while at < PREFIXES.len() {
        if PREFIXES[at].1 < shortest {
            shortest = PREFIXES[at].1;
        }
        at += 1;
    }
    shortest
};
/// The length of an AWS key ID, which is upper case and need not contain a digit.
const AWS_KEY_ID_LEN: usize = 20;
/// Words in names of secrets, without separators.
const NAMES: [&str; 9] =
    ["password", "passwd", "secret", "token", "apikey", "accesskey", "privatekey", "authorization", "credential"];
/// Words in names that only resemble names of secrets.
const NOT_NAMES: [&str; 7] = ["page", "cursor", "continu", "next", "progress", "count", "max"];
/// The maximum length of a name, and of a secret after a name, in bytes.
pub(super) const NAME_LEN_MAX: usize = 64;
const VALUE_LENS: Range<usize> = 16..513;
/// The maximum length of a secret that is the whole value of a member, in bytes.
const MEMBER_LEN_MAX: usize = 4_096;
/// The minimum entropy of a random-looking value, in bits per character.
const ENTROPY_MIN: f64 = 3.5;
/// The maximum number of bytes between a name and its value.
const BETWEEN_LEN_MAX: usize = 8;
/// Words between a name and its value.
const SCHEMES: [&[u8]; 2] = [b"bearer ", b"basic "];
/// How many bytes before the value a name ends, at most.
const NAME_REACH: usize = BETWEEN_LEN_MAX + SCHEMES[0].len() + SCHEMES[1].len();
/// The minimum length of the first two parts of a JWT.
const JWT_PART_LEN_MIN: usize = 10;

/// Which bytes tokens consist of.
static TOKEN_BYTES: ByteClass = ByteClass::digits_and(b"-_").and_letters();
/// Which bytes keys, JWTs and values after names consist of.
static VALUE_BYTES: ByteClass = ByteClass::digits_and(b"-_+/=.~").and_letters();
/// The shortest run of such bytes that may be a secret.
const RUN_LEN_MIN: usize = VALUE_LENS.start;
const _: () = assert!(RUN_LEN_MIN <= KEY_LEN_MIN && RUN_LEN_MIN <= 2 * JWT_PART_LEN_MIN);

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const PEM_END: &[u8] = b"-----END ";
const PEM_KEY: &[u8] = b"PRIVATE KEY";
/// The maximum length of the label of a PEM block (RFC 7468).
const PEM_LABEL_LEN_MAX: usize = 64;

/// Calls `found` for each secret in a text.
pub(super) fn secrets(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    pem_keys(text, &mut found);
    let mut at = 0;
    // Most texts have no word that is long enough.
    while let Some(run) = VALUE_BYTES.next_run(text, at, RUN_LEN_MIN) {
        // The name of a value may end before the run.
        let mut from = run.start.saturating_sub(NAME_REACH + 1).max(at);
        from -= text[at..from].iter().rev().take_while(|byte| is_token(**byte)).count();
        at = tokens_within(text, from..run.end, &mut found).max(run.end);
    }
}

/// Calls `found` for each secret that begins with a token in this range, or with its value behind one. The range begins where a
/// token may begin. Returns the end of the last token or value.
fn tokens_within(text: &[u8], range: Range<usize>, found: &mut impl FnMut(Range<usize>)) -> usize {
    let mut at = range.start;
    while at < range.end {
        if !is_token(text[at]) {
            at += 1;
            continue;
        }
        let end = at + token_len(&text[at..]);
        if is_plain(text, at..end) {
            at = end;
            continue;
        }
        let start = at + text[at..end].iter().take_while(|byte| matches!(byte, b'-' | b'_')).count();
        if let Some(secret_end) = jwt_end(text, start, end) {
            found(start..secret_end);
            at = secret_end;
            continue;
        }
        at = end;
        if has_prefix(&text[start..end]) {
            found(start..end);
        } else if let Some(value) = named_value(text, start..end) {
            at = value.end;
            found(value);
        }
    }
    at
}

/// Whether a value is a secret, by the name of its member.
pub(super) fn is_named_secret(name: &str, value: &str) -> bool {
    // Few values are random-looking, which their first space decides.
    value.len() <= MEMBER_LEN_MAX && is_random(value.as_bytes()) && is_name(name.as_bytes())
}

fn is_token(byte: u8) -> bool {
    TOKEN_BYTES.has(byte)
}

/// Whether a token is no secret and no name of one, by its length and by what follows it: most words.
fn is_plain(text: &[u8], token: Range<usize>) -> bool {
    let is_joint = |byte: u8| matches!(byte, b':' | b'=');
    let may_join = |at: usize| text.get(at).is_some_and(|byte| is_between(*byte));
    let may_be_name = match text.get(token.end) {
        Some(byte) => is_joint(*byte) || (is_between(*byte) && may_join(token.end + 1)),
        None => false,
    };
    let may_be_jwt = token.len() >= JWT_PART_LEN_MIN && text.get(token.end) == Some(&b'.');
    token.len() < KEY_LEN_MIN && !may_be_name && !may_be_jwt
}

/// Whether a byte may stand between a name and its value.
fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b':' | b'=' | b'>')
}

/// The length of the token at the start.
fn token_len(text: &[u8]) -> usize {
    TOKEN_BYTES.len_at_start(text)
}

fn is_value(byte: u8) -> bool {
    VALUE_BYTES.has(byte)
}

fn has_prefix(token: &[u8]) -> bool {
    if token.len() < KEY_LEN_MIN {
        return false;
    }
    let fits = |(prefix, len): &(&[u8], usize)| token.len() >= *len && token.starts_with(prefix);
    let is_of_aws = token.len() == AWS_KEY_ID_LEN && !token.iter().any(u8::is_ascii_lowercase);
    PREFIXES.iter().any(fits) && (is_of_aws || token.iter().any(u8::is_ascii_digit))
}

/// The end of the JWT (RFC 7519) that starts here.
fn jwt_end(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if !text[start..end].starts_with(b"eyJ") || end - start < JWT_PART_LEN_MIN || text.get(end) != Some(&b'.') {
        return None;
    }
    let part = |from: usize| from + token_len(&text[from..]);
    let second = part(end + 1);
    if second - end <= JWT_PART_LEN_MIN || text.get(second) != Some(&b'.') {
        return None;
    }
    Some(part(second + 1))
}

/// The random-looking value after a name, with `:` or `=` between them.
fn named_value(text: &[u8], name: Range<usize>) -> Option<Range<usize>> {
    let behind = &text[name.end..];
    let between = behind.iter().take_while(|byte| is_between(**byte)).take(BETWEEN_LEN_MAX).count();
    // Most words are no names, because of what follows them.
    if !behind[..between].iter().any(|byte| matches!(byte, b':' | b'=')) || !is_name(&text[name.clone()]) {
        return None;
    }
    let mut start = name.end + between;
    for scheme in SCHEMES {
        if text[start..].get(..scheme.len()).is_some_and(|word| word.eq_ignore_ascii_case(scheme)) {
            start += scheme.len();
        }
    }
    let len = text[start..].iter().take(VALUE_LENS.end).take_while(|byte| is_value(**byte)).count();
    let value = &text[start..start + len];
    (len < VALUE_LENS.end && is_random(value)).then_some(start..start + len)
}

/// Whether a name is that of a secret.
fn is_name(name: &[u8]) -> bool {
    if name.len() > NAME_LEN_MAX {
        return false;
    }
    let (mut word, mut len) = ([0; NAME_LEN_MAX], 0);
    for byte in name.iter().filter(|byte| byte.is_ascii_alphabetic()) {
        word[len] = byte.to_ascii_lowercase();
        len += 1;
    }
    let has = |part: &&str| word[..len].windows(part.len()).any(|place| place == part.as_bytes());
    NAMES.iter().any(has) && !NOT_NAMES.iter().any(has)
}

fn is_random(value: &[u8]) -> bool {
    if value.len() < VALUE_LENS.start || !value.iter().all(|byte| is_value(*byte)) {
        return false;
    }
    let has = |is: fn(&u8) -> bool| value.iter().any(is);
    if !has(u8::is_ascii_digit) || !has(u8::is_ascii_alphabetic) {
        return false;
    }
    let mut counts = [0u16; 128];
    value.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let all = value.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    let entropy: f64 = shares.map(|share| -share * share.log2()).sum();
    entropy >= ENTROPY_MIN
}

/// Calls `found` for each private key in PEM. A key without an end line extends to the end of the text.
fn pem_keys(text: &[u8], found: &mut impl FnMut(Range<usize>)) {
    static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PEM_BEGIN));
    let mut from = 0;
    while let Some(start) = BEGIN.find(&text[from..]).map(|at| from + at) {
        from = start + PEM_BEGIN.len();
        let label = &text[from..text.len().min(from + PEM_LABEL_LEN_MAX)];
        let Some(dashes) = memchr::memmem::find(label, b"-----") else { continue };
        if memchr::memmem::find(&label[..dashes], PEM_KEY).is_none() {
            continue;
        }
        let behind = from + dashes;
        let end = memchr::memmem::find(&text[behind..], PEM_END).map_or(text.len(), |at| {
            let from = behind + at + PEM_END.len();
            let label = &text[from..text.len().min(from + PEM_LABEL_LEN_MAX)];
            memchr::memmem::find(label, b"-----").map_or(from, |dashes| from + dashes + 5)
        });
        found(start..end);
        from = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    /// Texts of names, values, tokens, and what stands between them, some of them secrets, or almost.
    fn any_text(rng: &mut Rng) -> String {
        const PARTS: [&str; 30] = [
            "AKIAIOSFODNN7EXAMPLE",
            "AKIA",
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "sk-proj-4Rt8",
            "eyJhbGciOiJIUzI1NiJ9",
            "eyJhbGciOi",
            ".",
            "c2lnbmF0dXJl",
            "password",
            "api_key",
            "next_page_token",
            "Authorization",
            "bearer ",
            "Basic ",
            "q8Zr2LxT9vWm4KpN",
            "q8Zr2LxT9vWm4Kp",
            "aaaaaaaaaaaaaaaa",
            "the customer ",
            " ",
            "\" : \"",
            ": ",
            ":",
            "=",
            "=>",
            "        ",
            "-",
            "__",
            "/+~",
            "\n",
            "\u{e9}",
        ];
        (0..rng.below(12)).map(|_| PARTS[rng.below(PARTS.len() as u64) as usize]).collect()
    }

    #[test]
    fn what_is_skipped_holds_no_secret() {
        let (rng, mut seen) = (&mut Rng::new(17), 0);
        for _ in 0..8_000 {
            let text = any_text(rng);
            let (mut found, mut all) = (Vec::new(), Vec::new());
            secrets(text.as_bytes(), |range| found.push(range));
            tokens_within(text.as_bytes(), 0..text.len(), &mut |range| all.push(range));
            assert_eq!(found, all, "{text:?}");
            seen += found.len();
        }
        assert!(seen > 1_000, "{seen}");
    }
}
