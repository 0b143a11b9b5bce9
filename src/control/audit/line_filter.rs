use serde_json::Value;

use crate::control::wall_time::WallTime;

/// Selects calls and actions among the lines of a log.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// Only those since then.
    pub since: Option<WallTime>,
    /// Only those until then.
    pub until: Option<WallTime>,
    /// Groups of members, and the value that one member of each group must have.
    pub members: Vec<(&'static [&'static str], String)>,
}

impl LineFilter {
    /// Whether a line is one of those. One whose time cannot be read is.
    #[must_use]
    pub fn wants(&self, line: &Value) -> bool {
        let has = |(names, text): &(&[&str], String)| names.iter().any(|name| line[*name].as_str() == Some(text));
        is_searched(line) && time_of(line).is_none_or(|time| self.spans(time, time)) && self.members.iter().all(has)
    }

    /// Whether it selects anything.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.since.is_some() || self.until.is_some() || !self.members.is_empty()
    }

    /// Whether it may want a line of this time.
    pub(super) fn spans(&self, first: WallTime, last: WallTime) -> bool {
        self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first <= until)
    }
}

/// Whether a line is a call or an action, which alone are searched.
pub(super) fn is_searched(line: &Value) -> bool {
    matches!(line["kind"].as_str(), Some("call" | "call_end" | "action"))
}

/// When a line was written.
pub(super) fn time_of(line: &Value) -> Option<WallTime> {
    line["time"].as_str().and_then(|time| time.parse().ok())
}
