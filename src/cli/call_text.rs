//! Formats what the admin API says about calls.

use std::ops::RangeInclusive;

use crate::control::bodies::{BreakerStateName, CallStageName, GuardModeName};

/// Stands for a value that does not exist.
pub(super) const NONE: &str = "-";

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
pub(super) fn is_seen(c: char) -> bool {
    // After another character, marks that are put onto it are not escaped.
    let is_kept = matches!(c, '"' | '\'' | '\\') || format!("a{c}").escape_debug().count() == 2;
    is_kept && !BLANK.iter().any(|blank| blank.contains(&c))
}

/// Makes a text safe to print. Agents choose hosts and tool names.
pub(super) fn plain(text: &str) -> String {
    plain_but(text, &['"', '\'', '\\'])
}

/// The same for a text whose quotes stay as they are, such as JSON.
pub(super) fn plain_quoted(text: &str) -> String {
    plain_but(text, &[])
}

fn plain_but(text: &str, escaped: &[char]) -> String {
    let shown = |c: char| match c {
        c if is_seen(c) && !escaped.contains(&c) => c.to_string(),
        c if c.escape_debug().len() > 1 => c.escape_debug().to_string(),
        c => c.escape_unicode().to_string(),
    };
    text.chars().map(shown).collect()
}

/// Milliseconds, with three significant digits.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// The mode of deadlines, breakers and concurrency limits.
pub(super) const fn mode_name(mode: GuardModeName) -> &'static str {
    match mode {
        GuardModeName::Off => "off",
        GuardModeName::Observe => "observe",
        GuardModeName::Enforce => "enforce",
    }
}

/// The state of a breaker.
pub(super) const fn breaker_state(state: BreakerStateName) -> &'static str {
    match state {
        BreakerStateName::Closed => "closed",
        BreakerStateName::Open => "open",
        BreakerStateName::HalfOpen => "half open",
        BreakerStateName::ForcedOpen => "open (forced)",
        BreakerStateName::ForcedClosed => "closed (forced)",
    }
}

/// The stage at which a call stopped.
pub(super) const fn stopped(stage: CallStageName) -> &'static str {
    match stage {
        CallStageName::Accept => "accept",
        CallStageName::Tls => "tls",
        CallStageName::Request => "request",
        CallStageName::Admission => "admission",
        CallStageName::Route => "route",
        CallStageName::Breaker => "breaker",
        CallStageName::Concurrency => "concurrency",
        CallStageName::Policy => "policy",
        CallStageName::Link => "link",
        CallStageName::Connector => "connector",
        CallStageName::Upstream => "server",
        CallStageName::Caller => "agent",
        CallStageName::Done => NONE,
    }
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
            assert_eq!((&*plain(text), &*plain_quoted(text)), (shown, shown));
        }
        assert_eq!(plain("a\"'\\"), "a\\\"\\'\\\\");
        assert_eq!(plain_quoted("a\"'\\"), "a\"'\\");
    }
}
