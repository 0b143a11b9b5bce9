//! What is looked for in texts, and what becomes of it.

use std::ops::Range;

use regex::Regex;

use crate::policy::tools::sanitise::found::{SanitiseFound, SanitiseKind};
use crate::policy::tools::sanitise::{invisible, numbers, secrets};

/// What becomes of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy::tools) enum SanitiseMode {
    /// It is not looked for.
    #[default]
    Off,
    /// It is counted, and left as it is.
    Flag,
    /// It is taken out.
    Change,
}

/// A pattern of the policy. No match is long, so that the time for all of them is in proportion to the text.
#[derive(Clone, Debug)]
pub(in crate::policy::tools) struct OwnPattern {
    pub(in crate::policy::tools) regex: Regex,
    /// What stands for what it matches.
    pub(in crate::policy::tools) placeholder: String,
    pub(in crate::policy::tools) changes: bool,
}

/// What a policy has sanitised. By default nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::policy::tools) struct SanitiseRules {
    pub(in crate::policy::tools) modes: [SanitiseMode; SanitiseKind::ALL.len()],
    pub(in crate::policy::tools) patterns: Vec<OwnPattern>,
    /// The longest message that is looked at, in bytes.
    pub(in crate::policy::tools) scan_bytes_max: usize,
    /// Whether a longer one is passed on as it is.
    pub(in crate::policy::tools) passes_long: bool,
    /// Whether a call is denied whose arguments have what would be taken out of an answer.
    pub(in crate::policy::tools) denies_arguments: bool,
}

/// Where a text stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextPlace<'a> {
    /// The name of its member.
    pub(super) name: &'a str,
    /// Whether it is data, and nothing that a client knows again or a schema demands.
    pub(super) may_change: bool,
}

/// The most parts of one text that are replaced one by one. Of what begins behind the first of the others nothing is left.
const CUTS_MAX: usize = 65_536;
/// What stands for that.
const REST: &str = "[redacted]";

/// Passes on each part of a text that is of a kind.
type Search<'a> = &'a dyn Fn(&mut dyn FnMut(Range<usize>));

/// Parts of a text that are replaced.
struct Cuts<'a> {
    parts: Vec<(Range<usize>, &'a str)>,
    /// From where on all of it is.
    rest_from: usize,
}

/// What texts say that mean to instruct a model, in small letters and with single spaces. It is a hint and no proof.
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
    pub(super) fn mode(&self, kind: SanitiseKind) -> SanitiseMode {
        self.modes[kind as usize]
    }

    /// The text as it is passed on; none if it stays as it is. Counts what was found.
    pub(super) fn clean(&self, text: &str, place: TextPlace<'_>, found: &mut SanitiseFound) -> Option<String> {
        let stripped = invisible::strip(text, |kind| {
            let mode = self.mode(kind);
            let changes = place.may_change && mode == SanitiseMode::Change;
            if mode != SanitiseMode::Off {
                found.add(kind, changes);
            }
            changes
        });
        // What nobody sees does not hide a key.
        let read = stripped.as_deref().unwrap_or(text);
        let redacted = self.redact(read, place, found);
        if self.mode(SanitiseKind::Instructions) != SanitiseMode::Off && instructs(read) {
            found.add(SanitiseKind::Instructions, false);
        }
        redacted.or(stripped)
    }

    fn redact(&self, text: &str, place: TextPlace<'_>, found: &mut SanitiseFound) -> Option<String> {
        let mut cuts = Cuts { parts: Vec::new(), rest_from: text.len() };
        let bytes = text.as_bytes();
        let mut look = |kind: SanitiseKind, search: Search<'_>| {
            let mode = self.mode(kind);
            if mode == SanitiseMode::Off {
                return;
            }
            search(&mut |range| {
                let changes = place.may_change && mode == SanitiseMode::Change;
                found.add(kind, changes);
                if changes {
                    cuts.add(range, kind.placeholder());
                }
            });
        };
        look(SanitiseKind::Secrets, &|found| match secrets::is_named_secret(place.name, text) {
            true => found(0..text.len()),
            false => secrets::secrets(bytes, found),
        });
        look(SanitiseKind::Cards, &|found| numbers::cards(bytes, found));
        look(SanitiseKind::Ibans, &|found| numbers::ibans(bytes, found));
        look(SanitiseKind::Emails, &|found| numbers::emails(bytes, found));
        for pattern in &self.patterns {
            let changes = place.may_change && pattern.changes;
            for part in pattern.regex.find_iter(text) {
                found.add(SanitiseKind::Patterns, changes);
                if changes {
                    cuts.add(part.range(), &pattern.placeholder);
                }
            }
        }
        cuts.apply(text)
    }

    /// Whether a number of JSON is to be taken out.
    pub(super) fn is_card(&self, number: &[u8]) -> bool {
        let mut digits = [0; 19];
        let Some(digits) = digits.get_mut(..number.len()) else { return false };
        digits.iter_mut().zip(number).for_each(|(digit, byte)| *digit = byte.wrapping_sub(b'0'));
        number.iter().all(u8::is_ascii_digit) && numbers::is_card(digits)
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

    /// The text with these parts replaced; none if there are none. Of parts that overlap the first stands for all.
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
