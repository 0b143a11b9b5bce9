//! The findings in a text, by kind, and whether each was changed or flagged.

use std::fmt;

/// A kind of finding in texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitiseKind {
    /// Tag characters and variation selectors of Unicode plane 14: invisible to people, read by models.
    Tags,
    /// Characters that are not displayed.
    ZeroWidth,
    /// Characters that set the direction of text.
    Bidi,
    /// Escape sequences that terminals act on.
    Ansi,
    /// Keys, tokens and passwords.
    Secrets,
    /// Numbers of payment cards.
    Cards,
    /// Numbers of bank accounts.
    Ibans,
    /// Addresses of people for e-mail.
    Emails,
    /// Matches of the policy's own patterns.
    Patterns,
    /// Text that resembles an instruction to a model.
    Instructions,
    /// Messages that were too long to scan.
    TooLong,
    /// Structured results that no longer fit the schema of their tool.
    OutputSchema,
    /// Messages whose texts take more time than they may.
    TooSlow,
}

impl SanitiseKind {
    /// All kinds, in the order of reports.
    pub const ALL: [SanitiseKind; 13] = [
        SanitiseKind::Tags,
        SanitiseKind::ZeroWidth,
        SanitiseKind::Bidi,
        SanitiseKind::Ansi,
        SanitiseKind::Secrets,
        SanitiseKind::Cards,
        SanitiseKind::Ibans,
        SanitiseKind::Emails,
        SanitiseKind::Patterns,
        SanitiseKind::Instructions,
        SanitiseKind::TooLong,
        SanitiseKind::OutputSchema,
        SanitiseKind::TooSlow,
    ];

    /// The key of the policy file that enables the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SanitiseKind::Tags => "tags",
            SanitiseKind::ZeroWidth => "zero_width",
            SanitiseKind::Bidi => "bidi",
            SanitiseKind::Ansi => "ansi",
            SanitiseKind::Secrets => "secrets",
            SanitiseKind::Cards => "cards",
            SanitiseKind::Ibans => "ibans",
            SanitiseKind::Emails => "emails",
            SanitiseKind::Patterns => "pattern",
            SanitiseKind::Instructions => "instructions",
            SanitiseKind::TooLong => "too_long",
            SanitiseKind::OutputSchema => "output_schema",
            SanitiseKind::TooSlow => "too_slow",
        }
    }

    /// The placeholder for removed text. Invisible characters have none.
    pub(super) const fn placeholder(self) -> &'static str {
        match self {
            SanitiseKind::Secrets => "[redacted:secret]",
            SanitiseKind::Cards => "[redacted:card]",
            SanitiseKind::Ibans => "[redacted:iban]",
            SanitiseKind::Emails => "[redacted:email]",
            SanitiseKind::Patterns => "[redacted]",
            _ => "",
        }
    }
}

/// How often each kind was changed, and how often it was only flagged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SanitiseFound {
    changed: [u32; SanitiseKind::ALL.len()],
    flagged: [u32; SanitiseKind::ALL.len()],
}

impl SanitiseFound {
    pub(in crate::policy::tools) fn add(&mut self, kind: SanitiseKind, is_changed: bool) {
        let counts = if is_changed { &mut self.changed } else { &mut self.flagged };
        counts[kind as usize] = counts[kind as usize].saturating_add(1);
    }

    /// Adds the findings in a text that was passed on as it is, or not at all.
    pub(in crate::policy::tools) fn add_flags(&mut self, other: &SanitiseFound) {
        for (flagged, kind) in self.flagged.iter_mut().zip(SanitiseKind::ALL) {
            *flagged = flagged.saturating_add(other.flagged(kind)).saturating_add(other.changed(kind));
        }
    }

    /// Whether there are no findings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == SanitiseFound::default()
    }

    /// How often this kind was stripped or redacted.
    #[must_use]
    pub fn changed(&self, kind: SanitiseKind) -> u32 {
        self.changed[kind as usize]
    }

    /// How often this kind was only flagged.
    #[must_use]
    pub fn flagged(&self, kind: SanitiseKind) -> u32 {
        self.flagged[kind as usize]
    }

    /// The names of the kinds that were stripped or redacted.
    #[must_use]
    pub(in crate::policy::tools) fn changed_kinds(&self) -> String {
        let names: Vec<&str> =
            SanitiseKind::ALL.iter().filter(|kind| self.changed(**kind) > 0).map(|kind| kind.name()).collect();
        names.join(", ")
    }

    /// How often anything was stripped or redacted.
    #[must_use]
    pub fn all_changed(&self) -> u64 {
        self.changed.iter().map(|count| u64::from(*count)).sum()
    }

    /// How often anything was only flagged.
    #[must_use]
    pub fn all_flagged(&self) -> u64 {
        self.flagged.iter().map(|count| u64::from(*count)).sum()
    }
}

/// The kinds with their counts, without any of the text.
impl fmt::Display for SanitiseFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for kind in SanitiseKind::ALL {
            for (count, what) in [(self.changed(kind), "changed"), (self.flagged(kind), "flagged")] {
                if count > 0 {
                    write!(f, "{between}{} {what} {count}", kind.name())?;
                    between = ", ";
                }
            }
        }
        Ok(())
    }
}
