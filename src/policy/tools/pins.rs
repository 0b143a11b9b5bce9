//! How unapproved tools of a server are handled.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::policy::tools::decision::{Denial, RuleId, ToolDecision};
use crate::policy::tools::inventory::ToolInventory;
use crate::policy::tools::json_text::Value;

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

    pub(super) fn may_call(&self, tool: &str) -> bool {
        !self.is_quarantine || self.inventory.is_approved(tool)
    }

    /// Records the listed definition of a tool. Returns whether it may be listed.
    pub(super) fn may_list(&self, tool: &str, element: &Value<'_>) -> bool {
        self.inventory.observe(tool, element) || !self.is_quarantine
    }

    pub(super) fn denied(&self) -> ToolDecision {
        let (index, name) = PIN_RULE;
        ToolDecision::Denied { rule: Some(RuleId { index, name: name.into() }), how: Denial::Pinned }
    }
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
