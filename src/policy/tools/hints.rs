//! Annotations of tools (MCP 2025-11-25, "ToolAnnotations"), used where the owner of the route trusts the server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

/// The maximum number of tools remembered per server.
const TOOLS_MAX: usize = 4_096;
/// The maximum length of a remembered tool name, in bytes.
const NAME_LEN_MAX: usize = 256;

/// The annotations of one tool. An absent annotation has the default of the specification, which is the worst case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ToolHints {
    /// The tool does not modify its environment.
    pub read_only_hint: bool,
    /// The tool may destroy something.
    pub destructive_hint: bool,
    /// A repeated call with the same arguments has no further effect.
    pub idempotent_hint: bool,
    /// The tool interacts with systems outside of the server.
    pub open_world_hint: bool,
}

impl Default for ToolHints {
    fn default() -> ToolHints {
        ToolHints { read_only_hint: false, destructive_hint: true, idempotent_hint: false, open_world_hint: true }
    }
}

/// The annotations that a rule requires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WantedHints {
    pub(super) read_only: Option<bool>,
    pub(super) destructive: Option<bool>,
    pub(super) idempotent: Option<bool>,
    pub(super) open_world: Option<bool>,
}

impl WantedHints {
    pub(super) fn is_empty(self) -> bool {
        self == WantedHints::default()
    }

    pub(super) fn fit(self, hints: ToolHints) -> bool {
        let fits = |wanted: Option<bool>, hint: bool| wanted.is_none_or(|wanted| wanted == hint);
        fits(self.read_only, hints.read_only_hint)
            // This annotation is meaningful only if the tool modifies something.
            && fits(self.destructive, hints.destructive_hint && !hints.read_only_hint)
            && fits(self.idempotent, hints.idempotent_hint)
            && fits(self.open_world, hints.open_world_hint)
    }
}

/// The annotations of a server's tools, from its latest lists.
#[derive(Debug, Default)]
pub(super) struct KnownHints {
    known: Mutex<Known>,
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    server: Box<str>,
    tools: HashMap<Box<str>, ToolHints>,
}

impl KnownHints {
    /// The annotations of a tool; the worst case if it is unknown.
    pub(super) fn of(&self, tool: &str) -> ToolHints {
        self.lock().tools.get(tool).copied().unwrap_or_default()
    }

    pub(super) fn learn(&self, tool: &str, hints: ToolHints) {
        let known = &mut self.lock().tools;
        if known.get(tool).copied().unwrap_or_default() == hints {
            return;
        }
        if hints == ToolHints::default() {
            known.remove(tool);
        } else if let Some(old) = known.get_mut(tool) {
            *old = hints;
        } else if known.len() < TOOLS_MAX && tool.len() <= NAME_LEN_MAX {
            known.insert(tool.into(), hints);
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often they have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Sets the server. Annotations of another server are discarded.
    pub(super) fn be_of(&self, server: &str) {
        let mut known = self.lock();
        if *known.server != *server {
            *known = Known { server: server.into(), tools: HashMap::new() };
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_without_hints_counts_as_destructive() {
        let known = KnownHints::default();
        let read_only = WantedHints { read_only: Some(true), ..WantedHints::default() };
        let destructive = WantedHints { destructive: Some(true), ..WantedHints::default() };
        assert!(!read_only.fit(known.of("a")) && destructive.fit(known.of("a")));
        known.learn("a", ToolHints { read_only_hint: true, ..ToolHints::default() });
        assert!(read_only.fit(known.of("a")) && !destructive.fit(known.of("a")));
        known.learn("a", ToolHints::default());
        assert!(!read_only.fit(known.of("a")), "the last word counts");
    }

    #[test]
    fn hints_of_one_server_do_not_apply_to_another() {
        let known = KnownHints::default();
        let harmless = ToolHints { read_only_hint: true, ..ToolHints::default() };
        for (server, remembered) in [("a", false), ("a", true), ("b", false), ("a", false)] {
            known.be_of(server);
            assert_eq!(known.of("tool") == harmless, remembered, "{server}");
            known.learn("tool", harmless);
        }
    }

    #[test]
    fn the_hint_table_is_bounded() {
        let known = KnownHints::default();
        let hints = ToolHints { read_only_hint: true, ..ToolHints::default() };
        (0..2 * TOOLS_MAX).for_each(|nth| known.learn(&nth.to_string(), hints));
        known.learn(&"x".repeat(NAME_LEN_MAX + 1), hints);
        assert_eq!(known.lock().tools.len(), TOOLS_MAX);
    }
}
