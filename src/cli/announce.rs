use serde_json::{Value, json};

use crate::cli::output::print;
use crate::control::{Notice, RoleEvent};

/// Reports events to programs: with `--json`, one JSON object per line on standard output.
#[derive(Clone, Copy, Debug)]
pub struct Announcer {
    json: bool,
}

impl Announcer {
    /// An announcer that prints events only if `json` is true.
    #[must_use]
    pub fn new(json: bool) -> Announcer {
        Announcer { json }
    }

    /// Prints one event with these fields.
    pub fn event(&self, name: &str, mut fields: Value) {
        if self.json {
            fields["event"] = json!(name);
            self.line(&fields.to_string());
        }
    }

    /// Prints a notice of the process, if it is an event for programs.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Role(role, RoleEvent::Linked { core, link, peer }) => {
                self.event("linked", json!({ "role": role, "core": core.0, "link": link, "peer": peer }));
            }
            Notice::Role(role, RoleEvent::Unlinked { core, link, peer }) => {
                self.event("unlinked", json!({ "role": role, "core": core.0, "link": link, "peer": peer }));
            }
            Notice::Role(role, RoleEvent::LinkFailed { peer, why }) => {
                self.event("no_link", json!({ "role": role, "peer": peer, "why": why }));
            }
            Notice::Role(role, RoleEvent::Certified { peer, lifetime_s }) => {
                self.event("certified", json!({ "role": role, "peer": peer, "lifetime_s": lifetime_s }));
            }
            Notice::Role(role, RoleEvent::Failed(core, why)) => {
                self.event("failed", json!({ "role": role, "core": core.0, "why": why }));
            }
            Notice::Role(_, RoleEvent::Running(_) | RoleEvent::Ended(_)) => {}
            Notice::Draining => self.event("draining", json!({})),
            Notice::Reloaded => self.event("reloaded", json!({})),
            Notice::ReloadRefused(faults) => {
                self.event("reload_refused", json!({ "faults": faults.lines().collect::<Vec<_>>() }));
            }
        }
    }

    fn line(&self, line: &str) {
        print(&format!("{line}\n"));
    }
}
