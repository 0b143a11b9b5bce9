//! Invisible characters: zero-width characters, bidirectional controls, and terminal escapes.

use crate::policy::tools::sanitise::found::SanitiseKind;

/// Strips the invisible characters and escapes that `strips` selects. `strips` is called once for each. `None` if nothing is
/// stripped.
pub(super) fn strip(text: &str, mut strips: impl FnMut(SanitiseKind) -> bool) -> Option<String> {
    if text.is_ascii() && memchr::memchr(0x1b, text.as_bytes()).is_none() {
        return None;
    }
    let (mut out, mut at, mut copied, mut before) = (None::<String>, 0, 0, None);
    while let Some(char) = text[at..].chars().next() {
        let len = char.len_utf8();
        let Some(kind) = kind_of(char, before, text[at + len..].chars().next()) else {
            before = Some(char);
            at += len;
            continue;
        };
        if strips(kind) {
            out.get_or_insert_with(|| String::with_capacity(text.len())).push_str(&text[copied..at]);
            at += if kind == SanitiseKind::Ansi { escape_len(&text[at..]) } else { len };
            copied = at;
        } else {
            // An escape that is kept hides nothing: its content is scanned as well.
            at += len;
        }
    }
    if let Some(out) = &mut out {
        out.push_str(&text[copied..]);
    }
    out
}

/// The kind of an invisible character between the last visible character before it and the next character.
fn kind_of(char: char, before: Option<char>, behind: Option<char>) -> Option<SanitiseKind> {
    // Joiners are meaningful between letters of some scripts, and within emoji.
    let joins = |char: Option<char>| char.is_some_and(|char| !char.is_ascii() && kind_of(char, None, None).is_none());
    match char {
        '\u{1b}' | '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}'..='\u{9f}' => Some(SanitiseKind::Ansi),
        '\u{e0000}'..='\u{e0fff}' => Some(SanitiseKind::Tags),
        // One selects a form of the preceding character. A second one selects nothing, and can only carry hidden data.
        '\u{fe00}'..='\u{fe0f}' => {
            before.filter(|before| ('\u{fe00}'..='\u{fe0f}').contains(before)).map(|_| SanitiseKind::Tags)
        }
        '\u{200c}' | '\u{200d}' if joins(before) && joins(behind) => None,
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(SanitiseKind::Bidi)
        }
        // Default_Ignorable_Code_Point, except those that scripts in use need.
        '\u{ad}'
        | '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206a}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' => Some(SanitiseKind::ZeroWidth),
        _ => None,
    }
}

/// The length of the escape at the start (ECMA-48 section 5). For an unterminated one, only its introducer.
fn escape_len(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let (intro, kind) = match (text.as_bytes(), text.as_bytes().get(1)) {
        ([0x1b, ..], Some(b'[')) => (2, b'['),
        ([0x1b, ..], Some(b']' | b'P' | b'X' | b'^' | b'_')) => (2, b']'),
        ([0x1b, ..], _) => (1, 0x1b),
        _ => (first, if text.starts_with('\u{9b}') { b'[' } else { b']' }),
    };
    let body = &text.as_bytes()[intro..];
    match kind {
        b'[' => {
            let len = body.iter().position(|byte| !(0x20..=0x3f).contains(byte)).unwrap_or(body.len());
            intro + len + usize::from(body.get(len).is_some_and(|byte| (0x40..=0x7e).contains(byte)))
        }
        b']' => {
            // The terminator, or the start of another escape: no part of a text is scanned more than twice.
            let end = memchr::memchr3(0x07, 0x1b, 0xc2, body);
            match end.map(|at| (at, &body[at..])) {
                Some((at, [0x07, ..])) => intro + at + 1,
                Some((at, [0x1b, b'\\', ..] | [0xc2, 0x9c, ..])) => intro + at + 2,
                _ => intro,
            }
        }
        _ => {
            let len = body.iter().position(|byte| !(0x20..=0x2f).contains(byte)).unwrap_or(body.len());
            intro + len + usize::from(body.get(len).is_some_and(|byte| (0x30..=0x7e).contains(byte)))
        }
    }
}
