//! Text that others chose, as people may see it: in a terminal and in a page.

use std::ops::RangeInclusive;

/// Characters that nobody sees, beside those that Rust escapes: fillers, blanks, and selectors of variants.
const BLANK: [RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether a terminal shows a character, and does nothing else at its sight: it is no control character, turns no text around, and
/// has a width.
#[must_use]
pub fn is_seen(c: char) -> bool {
    // After another character, marks that are put onto it are not escaped.
    let is_kept = matches!(c, '"' | '\'' | '\\') || format!("a{c}").escape_debug().count() == 2;
    is_kept && !BLANK.iter().any(|blank| blank.contains(&c))
}

/// Makes a text safe to print. Agents choose hosts and tool names.
#[must_use]
pub fn printable(text: &str) -> String {
    escaped_but(text, &['"', '\'', '\\'])
}

/// The same for a text whose quotes stay as they are, such as JSON.
#[must_use]
pub fn printable_quoted(text: &str) -> String {
    escaped_but(text, &[])
}

fn escaped_but(text: &str, escaped: &[char]) -> String {
    let shown = |c: char| match c {
        c if is_seen(c) && !escaped.contains(&c) => c.to_string(),
        c if c.escape_debug().len() > 1 => c.escape_debug().to_string(),
        c => c.escape_unicode().to_string(),
    };
    text.chars().map(shown).collect()
}

/// Text as HTML, in an element or a quoted attribute.
#[must_use]
pub fn html_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_escaped() {
        for (text, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("a\u{200b}\u{e0041}", "a\\u{200b}\\u{e0041}"),
            ("\u{1b}[2J\n", "\\u{1b}[2J\\n"),
            ("x\u{fe0f}\u{3164}\u{ad}", "x\\u{fe0f}\\u{3164}\\u{ad}"),
            ("cafe\u{301} 東京 🦀", "cafe\u{301} 東京 🦀"),
        ] {
            assert_eq!((&*printable(text), &*printable_quoted(text)), (shown, shown));
        }
        assert_eq!(printable("a\"'\\"), "a\\\"\\'\\\\");
        assert_eq!(printable_quoted("a\"'\\"), "a\"'\\");
        assert_eq!(html_text("<a b=\"c\">'&"), "&lt;a b=&quot;c&quot;&gt;&#39;&amp;");
    }
}
