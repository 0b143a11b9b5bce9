//! What was found in a text, by its kind, and what became of it.

use std::fmt;

/// A kind of what is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SanitiseKind {
    /// Tag characters and variation selectors of Unicode's last planes, which nobody sees and models read.
    Tags,
    /// Characters that are not shown.
    ZeroWidth,
    /// Characters that set the direction of text.
    Bidi,
    /// Escapes that terminals act on.
    Ansi,
    /// Keys, tokens and passwords.
    Secrets,
    /// Numbers of payment cards.
    Cards,
    /// Numbers of bank accounts.
    Ibans,
    /// Addresses of people for e-mail.
    Emails,
    /// What a pattern of the policy matches.
    Patterns,
    /// Text that reads like an instruction to a model.
    Instructions,
    /// Messages that were too long to be looked at.
    TooLong,
}

impl SanitiseKind {
    /// All kinds, in the order in which they are told.
    pub const ALL: [SanitiseKind; 11] = [
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
    ];

    /// The key of the file that turns it on.
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
        }
    }

    /// What stands in a text for what was taken out of it. Nothing stands for what nobody sees.
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

/// How often each kind was found: how often it was changed, and how often it was left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SanitiseFound {
    changed: [u32; SanitiseKind::ALL.len()],
    flagged: [u32; SanitiseKind::ALL.len()],
}

impl SanitiseFound {
    pub(super) fn add(&mut self, kind: SanitiseKind, is_changed: bool) {
        let counts = if is_changed { &mut self.changed } else { &mut self.flagged };
        counts[kind as usize] = counts[kind as usize].saturating_add(1);
    }

    /// Whether there was nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == SanitiseFound::default()
    }

    /// How often a kind was stripped or redacted.
    #[must_use]
    pub fn changed(&self, kind: SanitiseKind) -> u32 {
        self.changed[kind as usize]
    }

    /// How often a kind was found and left as it is.
    #[must_use]
    pub fn flagged(&self, kind: SanitiseKind) -> u32 {
        self.flagged[kind as usize]
    }

    /// The kinds that were stripped or redacted, by their names.
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

    /// How often anything was found and left as it is.
    #[must_use]
    pub fn all_flagged(&self) -> u64 {
        self.flagged.iter().map(|count| u64::from(*count)).sum()
    }
}

/// The kinds with their counts, and nothing of the text.
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
