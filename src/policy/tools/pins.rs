//! What becomes of the tools of a server that nobody has approved.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::policy::tools::decision::{Denial, RuleId, ToolDecision};
use crate::policy::tools::inventory::ToolInventory;
use crate::policy::tools::json_text::Value;

/// The place and name of the rule that denies what is in quarantine. No file has so many rules.
pub(super) const PIN_RULE: (u16, &str) = (u16::MAX - 2, "pin");

/// What becomes of tools that are new, or whose definition has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PinMode {
    /// Nothing: the tools of the server are not looked at.
    #[default]
    Off,
    /// They are reported, and nothing else.
    Warn,
    /// They are reported, hidden from lists, and cannot be called until they are approved.
    Quarantine,
}

/// The tools of a server, and what becomes of those that nobody has approved.
#[derive(Clone)]
pub struct ToolPins {
    is_quarantine: bool,
    inventory: Arc<ToolInventory>,
}

impl PinMode {
    /// All modes, the mildest first.
    pub const ALL: [PinMode; 3] = [PinMode::Off, PinMode::Warn, PinMode::Quarantine];

    /// The word for it.
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
    /// The tools of this inventory, treated so; none if they are not looked at.
    #[must_use]
    pub fn new(mode: PinMode, inventory: &Arc<ToolInventory>) -> Option<ToolPins> {
        let pins = |is_quarantine| ToolPins { is_quarantine, inventory: Arc::clone(inventory) };
        (mode != PinMode::Off).then(|| pins(mode == PinMode::Quarantine))
    }

    pub(super) fn may_call(&self, tool: &str) -> bool {
        !self.is_quarantine || self.inventory.is_approved(tool)
    }

    /// Whether a tool may be listed that the server has just described so.
    pub(super) fn may_list(&self, tool: &str, element: &Value<'_>) -> bool {
        self.inventory.observe(tool, element) || !self.is_quarantine
    }

    pub(super) fn denied(&self) -> ToolDecision {
        let (index, name) = PIN_RULE;
        ToolDecision::Denied { rule: Some(RuleId { index, name: name.into() }), how: Denial::Pinned }
    }
}

/// Two are equal if they treat the same tools alike.
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
