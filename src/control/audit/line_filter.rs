use serde_json::Value;

use crate::control::wall_time::WallTime;

/// Selects calls and actions among the lines of a log.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// The earliest time of a line.
    pub since: Option<WallTime>,
    /// The latest time of a line.
    pub until: Option<WallTime>,
    /// Groups of members, and the value that one member of each group must have.
    pub members: Vec<(&'static [&'static str], String)>,
}

impl LineFilter {
    /// Whether a line matches. A line without a valid time is in every time range.
    #[must_use]
    pub fn wants(&self, line: &Value) -> bool {
        let has = |(names, text): &(&[&str], String)| names.iter().any(|name| line[*name].as_str() == Some(text));
        is_searched(line) && time_of(line).is_none_or(|time| self.spans(time, time)) && self.members.iter().all(has)
    }

    /// Whether the filter has any condition.
    #[must_use]
    pub fn is_selective(&self) -> bool {
        self.since.is_some() || self.until.is_some() || !self.members.is_empty()
    }

    /// Whether lines between these times may match.
    pub(super) fn spans(&self, first: WallTime, last: WallTime) -> bool {
        self.since.is_none_or(|since| last >= since) && self.until.is_none_or(|until| first <= until)
    }
}

/// Whether a line is a call or an action. Other lines are never matched.
pub(super) fn is_searched(line: &Value) -> bool {
    matches!(line["kind"].as_str(), Some("call" | "call_end" | "action"))
}

/// The time of a line.
pub(super) fn time_of(line: &Value) -> Option<WallTime> {
    line["time"].as_str().and_then(|time| time.parse().ok())
}
