//! The sanitising rules of a policy, applied to single texts.

use std::ops::Range;
use std::time::Duration;

use regex::Regex;

use crate::policy::tools::sanitise::found::{SanitiseFound, SanitiseKind};
use crate::policy::tools::sanitise::scan_timer::{CHECK_LEN, OutOfTime, ScanTimer};
use crate::policy::tools::sanitise::{invisible, numbers, secrets};

/// The longest match of a pattern of the policy, in bytes.
pub(in crate::policy::tools) const MATCH_LEN_MAX: usize = 1_024;

/// How findings of a kind are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy::tools) enum SanitiseMode {
    /// The kind is not searched.
    #[default]
    Off,
    /// Findings are counted and left unchanged.
    Flag,
    /// Findings are removed or replaced.
    Change,
}

/// A pattern of the policy. Matches are bounded, so that scanning is linear in the length of the text.
#[derive(Clone, Debug)]
pub(in crate::policy::tools) struct OwnPattern {
    pub(in crate::policy::tools) regex: Regex,
    /// The replacement for a match.
    pub(in crate::policy::tools) placeholder: String,
    pub(in crate::policy::tools) changes: bool,
}

/// The sanitising rules of a policy. The default sanitises nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::tools) struct SanitiseRules {
    pub(in crate::policy::tools) modes: [SanitiseMode; SanitiseKind::ALL.len()],
    pub(in crate::policy::tools) patterns: Vec<OwnPattern>,
    /// The maximum length of a scanned message, in bytes.
    pub(in crate::policy::tools) scan_bytes_max: usize,
    /// Whether a longer message is passed on unscanned.
    pub(in crate::policy::tools) passes_long: bool,
    /// How long the texts of one call may take.
    pub(in crate::policy::tools) scan_time_max: Duration,
    /// Whether a message whose texts take longer is passed on unchanged.
    pub(in crate::policy::tools) passes_slow: bool,
    /// How findings in the arguments of calls are handled. `Change` denies a call that contains what would be removed from an answer.
    pub(in crate::policy::tools) arguments: SanitiseMode,
}

/// The position of a text in its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextPlace<'a> {
    /// The name of the member that contains the text.
    pub(super) name: &'a str,
    /// Whether the text may be changed: it is data, not an identifier, and no schema constrains it.
    pub(super) may_change: bool,
}

/// The maximum number of parts replaced one by one. Beyond it, the rest of the text is removed.
const CUTS_MAX: usize = 65_536;
/// The replacement for the rest.
const REST: &str = "[redacted]";

/// Calls a function with each range of a text that matches.
type Search<'a> = &'a dyn Fn(&mut dyn FnMut(Range<usize>));

/// The ranges of a text to replace.
struct Cuts<'a> {
    parts: Vec<(Range<usize>, &'a str)>,
    /// Where the removed rest of the text starts.
    rest_from: usize,
}

/// Phrases typical of text that instructs a model, in lower case with single spaces. A match is a hint, not proof.
const INSTRUCTIONS: [&str; 16] = [
    "ignore previous instructions",
    "ignore all previous",
    "ignore the above",
    "ignore your instructions",
    "disregard previous",
    "disregard all previous",
    "disregard the above",
    "forget your instructions",
    "forget all previous",
    "new system prompt",
    "do not tell the user",
    "don't tell the user",
    "without telling the user",
    "<important>",
    "<|im_start|>",
    "[inst]",
];

impl SanitiseRules {
    /// Whether anything is removed or replaced.
    pub(in crate::policy::tools) fn changes(&self) -> bool {
        self.modes.contains(&SanitiseMode::Change) || self.patterns.iter().any(|pattern| pattern.changes)
    }

    pub(super) fn mode(&self, kind: SanitiseKind) -> SanitiseMode {
        self.modes[kind as usize]
    }

    /// Sanitises a text; `None` if nothing changes. Counts the findings.
    ///
    /// # Errors
    ///
    /// If the time is up.
    pub(super) fn clean(
        &self,
        text: &str,
        place: TextPlace<'_>,
        found: &mut SanitiseFound,
        timer: &mut ScanTimer<'_>,
    ) -> Result<Option<String>, OutOfTime> {
        timer.spend(text.len())?;
        let stripped = invisible::strip(text, |kind| {
            let mode = self.mode(kind);
            let changes = place.may_change && mode == SanitiseMode::Change;
            if mode != SanitiseMode::Off {
                found.add(kind, changes);
            }
            changes
        });
        // Invisible characters must not hide a key.
        let read = stripped.as_deref().unwrap_or(text);
        let redacted = self.redact(read, place, found, timer)?;
        if self.mode(SanitiseKind::Instructions) != SanitiseMode::Off && instructs(read) {
            found.add(SanitiseKind::Instructions, false);
        }
        Ok(redacted.or(stripped))
    }

    fn redact(
        &self,
        text: &str,
        place: TextPlace<'_>,
        found: &mut SanitiseFound,
        timer: &mut ScanTimer<'_>,
    ) -> Result<Option<String>, OutOfTime> {
        let mut cuts = Cuts { parts: Vec::new(), rest_from: text.len() };
        let bytes = text.as_bytes();
        let mut look = |kind: SanitiseKind, search: Search<'_>| {
            let mode = self.mode(kind);
            if mode == SanitiseMode::Off {
                return Ok(());
            }
            timer.spend(text.len())?;
            search(&mut |range| {
                let changes = place.may_change && mode == SanitiseMode::Change;
                found.add(kind, changes);
                if changes {
                    cuts.add(range, kind.placeholder());
                }
            });
            Ok(())
        };
        look(SanitiseKind::Secrets, &|found| match secrets::is_named_secret(place.name, text) {
            true => found(0..text.len()),
            false => secrets::secrets(bytes, found),
        })?;
        look(SanitiseKind::Cards, &|found| numbers::cards(bytes, found))?;
        look(SanitiseKind::Ibans, &|found| numbers::ibans(bytes, found))?;
        look(SanitiseKind::Emails, &|found| numbers::emails(bytes, found))?;
        for pattern in &self.patterns {
            let changes = place.may_change && pattern.changes;
            pattern.find_each(text, timer, |part| {
                found.add(SanitiseKind::Patterns, changes);
                if changes {
                    cuts.add(part, &pattern.placeholder);
                }
            })?;
        }
        Ok(cuts.apply(text))
    }

    /// Whether a JSON number is a card number to be removed.
    pub(super) fn is_card(&self, number: &[u8]) -> bool {
        let mut digits = [0; 19];
        let Some(digits) = digits.get_mut(..number.len()) else { return false };
        digits.iter_mut().zip(number).for_each(|(digit, byte)| *digit = byte.wrapping_sub(b'0'));
        number.iter().all(u8::is_ascii_digit) && numbers::is_card(digits)
    }
}

impl OwnPattern {
    /// Calls `found` with each match in a text, from left to right. A long text is searched part by part, because the time that a
    /// pattern takes for each byte depends on the pattern.
    pub(super) fn find_each(
        &self,
        text: &str,
        timer: &mut ScanTimer<'_>,
        mut found: impl FnMut(Range<usize>),
    ) -> Result<(), OutOfTime> {
        let mut at = 0;
        while at < text.len() {
            let part_end = boundary_from(text, at + CHECK_LEN);
            timer.spend(part_end - at)?;
            // A match that begins in this part ends before this, and what it depends on behind it, too.
            let seen = &text[..boundary_from(text, part_end + MATCH_LEN_MAX + 1)];
            while let Some(part) = self.regex.find_at(seen, at).filter(|part| part.start() < part_end) {
                found(part.range());
                at = part.end();
            }
            at = at.max(part_end);
        }
        Ok(())
    }
}

impl<'a> Cuts<'a> {
    fn add(&mut self, part: Range<usize>, with: &'a str) {
        if self.parts.len() < CUTS_MAX {
            self.parts.push((part, with));
        } else {
            self.rest_from = self.rest_from.min(part.start);
        }
    }

    /// Replaces the ranges; `None` if there are none. The first of overlapping ranges replaces all of them.
    fn apply(mut self, text: &str) -> Option<String> {
        if self.parts.is_empty() {
            return None;
        }
        if self.rest_from < text.len() {
            self.parts.push((self.rest_from..text.len(), REST));
        }
        self.parts.sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));
        let (mut out, mut at) = (String::with_capacity(text.len()), 0);
        for (range, with) in self.parts {
            if range.start >= at {
                out.push_str(&text[at..range.start]);
                out.push_str(with);
            }
            at = at.max(range.end);
        }
        out.push_str(&text[at..]);
        Some(out)
    }
}

/// The first boundary between characters at `at` or behind it.
fn boundary_from(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

fn instructs(text: &str) -> bool {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_whitespace() {
            true if plain.ends_with(' ') => {}
            true => plain.push(' '),
            false => plain.push(char.to_ascii_lowercase()),
        }
    }
    INSTRUCTIONS.iter().any(|phrase| memchr::memmem::find(plain.as_bytes(), phrase.as_bytes()).is_some())
}
