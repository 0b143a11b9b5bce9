//! How unapproved tools of a server are handled.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::policy::tools::decision::{Denial, RuleId, Target, ToolDecision};
use crate::policy::tools::inventory::ToolInventory;
use crate::policy::tools::json_text::Value;
use crate::policy::tools::known_lists::KnownList;
use crate::policy::tools::pattern::Patterns;
use crate::policy::tools::tool_record::{OfferKind, ToolStanding};
use crate::policy::tools::uri::{normal, pattern_of};

/// The index and name of the rule that denies quarantined tools. No file has so many rules.
pub(super) const PIN_RULE: (u16, &str) = (u16::MAX - 2, "pin");

/// How tools that are new or changed are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinMode {
    /// Tools are not checked.
    #[default]
    Off,
    /// Unapproved tools are reported only.
    Warn,
    /// Unapproved tools are reported, hidden from lists, and denied until they are approved.
    Quarantine,
}

/// The inventory of a server, and how its unapproved tools are handled.
#[derive(Clone)]
pub struct ToolPins {
    is_quarantine: bool,
    inventory: Arc<ToolInventory>,
}

impl PinMode {
    /// All modes, from mildest to strictest.
    pub const ALL: [PinMode; 3] = [PinMode::Off, PinMode::Warn, PinMode::Quarantine];

    /// The name of the mode in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PinMode::Off => "off",
            PinMode::Warn => "warn",
            PinMode::Quarantine => "quarantine",
        }
    }
}

impl FromStr for PinMode {
    type Err = ();

    fn from_str(text: &str) -> Result<PinMode, ()> {
        PinMode::ALL.into_iter().find(|mode| mode.name() == text).ok_or(())
    }
}

impl ToolPins {
    /// Pins for this inventory; `None` if tools are not checked.
    #[must_use]
    pub fn new(mode: PinMode, inventory: &Arc<ToolInventory>) -> Option<ToolPins> {
        let pins = |is_quarantine| ToolPins { is_quarantine, inventory: Arc::clone(inventory) };
        (mode != PinMode::Off).then(|| pins(mode == PinMode::Quarantine))
    }

    /// Whether the target of a request is approved, if it must be. A resource may be one of an approved template.
    pub(super) fn may_call(&self, target: Target<'_>) -> bool {
        if !self.is_quarantine {
            return true;
        }
        match target {
            Target::Nothing => true,
            Target::Tool(name) => self.inventory.is_approved(OfferKind::Tool, name),
            Target::Prompt(name) => self.inventory.is_approved(OfferKind::Prompt, name),
            Target::Template(template) => self.inventory.is_approved(OfferKind::Template, template),
            Target::Resource(uri) => match self.inventory.standing(OfferKind::Resource, uri) {
                Some(standing) => standing == ToolStanding::Approved,
                // Resources of a template need not be in any list.
                None => self.inventory.has_template(|template| expands_to(template, uri)),
            },
        }
    }

    /// Records a listed definition. Returns whether it may be listed.
    pub(super) fn may_list(&self, target: Target<'_>, element: &Value<'_>) -> bool {
        let (kind, name) = match target {
            Target::Nothing => return true,
            Target::Tool(name) => (OfferKind::Tool, name),
            Target::Prompt(name) => (OfferKind::Prompt, name),
            Target::Resource(uri) => (OfferKind::Resource, uri),
            Target::Template(template) => (OfferKind::Template, template),
        };
        self.inventory.observe(kind, name, element) || !self.is_quarantine
    }

    /// How often anything in the inventory has changed.
    pub(super) fn changes(&self) -> u64 {
        self.inventory.changes()
    }

    /// Records that these are listed again, unless they were since the last stamp of the inventory.
    pub(super) fn list_again(&self, list: &KnownList) {
        if list.is_listed_anew(self.inventory.stamps()) {
            self.inventory.list_again(&list.offers);
        }
    }

    pub(super) fn denied(&self) -> ToolDecision {
        let (index, name) = PIN_RULE;
        ToolDecision::Denied { rule: Some(RuleId { index, name: name.into() }), how: Denial::Pinned }
    }
}

/// Whether a template can expand to this URI.
fn expands_to(template: &str, uri: &str) -> bool {
    let (Ok(pattern), Ok(uri)) = (pattern_of(template), normal(uri)) else { return false };
    let mut patterns = Patterns::default();
    patterns.add(&pattern);
    patterns.matches(&uri)
}

/// Pins are equal if they share the inventory and mode.
impl PartialEq for ToolPins {
    fn eq(&self, other: &ToolPins) -> bool {
        self.is_quarantine == other.is_quarantine && Arc::ptr_eq(&self.inventory, &other.inventory)
    }
}

impl fmt::Debug for ToolPins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolPins").field("is_quarantine", &self.is_quarantine).finish_non_exhaustive()
    }
}
