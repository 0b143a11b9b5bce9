//! Calls by credential, for the case that a credential leaks.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::base::{CredentialId, Time, TunnelId};
use crate::latency::{Label, LabelId, Recorder};

/// The most lines that one core returns at a time; the rest follows with the next request.
pub const USAGE_LINES_MAX: usize = 1_024;
/// The most lines of ended links that a core keeps. Further calls are counted as lost.
const ENDED_MAX: usize = 4_096;

/// The calls of one label with one credential since the last line about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageLine {
    /// The tunnel of the link.
    pub tunnel: TunnelId,
    /// The credential with which the link was registered.
    pub credential: CredentialId,
    /// The route, method and tool that were called.
    pub label: Label,
    /// The number of calls.
    pub calls: u64,
    /// The time since the first of these calls ended.
    pub first_ago: Duration,
    /// The time since the last of them ended.
    pub last_ago: Duration,
}

#[derive(Clone, Copy)]
struct Count {
    calls: u64,
    first: Time,
    last: Time,
}

/// The calls over one link. Counting allocates only for a label that is new on the link.
pub(super) struct LinkUsage {
    tunnel: TunnelId,
    connector: u64,
    credential: CredentialId,
    counts: RefCell<FxHashMap<LabelId, Count>>,
    /// When the last call over the link ended.
    last: Cell<Option<Time>>,
}

impl LinkUsage {
    pub(super) fn new(tunnel: TunnelId, connector: u64, credential: CredentialId) -> LinkUsage {
        LinkUsage { tunnel, connector, credential, counts: RefCell::default(), last: Cell::new(None) }
    }

    /// The tunnel of the link.
    pub(super) fn tunnel(&self) -> &TunnelId {
        &self.tunnel
    }

    /// The number of the link's connector.
    pub(super) fn connector(&self) -> u64 {
        self.connector
    }

    /// When the last call over the link ended.
    pub(super) fn last(&self) -> Option<Time> {
        self.last.get()
    }

    /// Counts a call over the link that has ended.
    pub(super) fn count(&self, label: LabelId, now: Time) {
        self.last.set(Some(now));
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(label).or_insert(Count { calls: 0, first: now, last: now });
        count.calls += 1;
        count.last = now;
    }

    /// Moves up to `room` lines into `lines`.
    fn drain_into(&self, lines: &mut Vec<UsageLine>, room: usize, recorder: &Recorder, now: Time) {
        let mut counts = self.counts.borrow_mut();
        let taken: Vec<LabelId> = counts.keys().copied().take(room).collect();
        for id in taken {
            let Some((count, label)) = counts.remove(&id).zip(recorder.name(id)) else { continue };
            lines.push(UsageLine {
                tunnel: self.tunnel.clone(),
                credential: self.credential.clone(),
                label: label.clone(),
                calls: count.calls,
                first_ago: now - count.first,
                last_ago: now - count.last,
            });
        }
    }
}

/// The usage of links that have ended, until it is taken.
#[derive(Default)]
pub(super) struct EndedUsage {
    lines: Vec<(Time, UsageLine)>,
    lost: u64,
}

impl EndedUsage {
    /// Adds the usage of a link that has ended.
    pub(super) fn add(&mut self, link: &LinkUsage, recorder: &Recorder, now: Time) {
        let mut lines = Vec::new();
        link.drain_into(&mut lines, usize::MAX, recorder, now);
        let room = ENDED_MAX - self.lines.len().min(ENDED_MAX);
        self.lost += lines.iter().skip(room).map(|line| line.calls).sum::<u64>();
        self.lines.extend(lines.into_iter().take(room).map(|line| (now, line)));
    }

    /// Takes the lines of these links and of ended ones, up to [`USAGE_LINES_MAX`].
    pub(super) fn take<'a>(
        &mut self,
        links: impl Iterator<Item = &'a LinkUsage>,
        recorder: &Recorder,
        now: Time,
    ) -> Vec<UsageLine> {
        if self.lost > 0 {
            tracing::warn!(calls = self.lost, "calls are missing in the usage record: too many links ended");
            self.lost = 0;
        }
        let taken = self.lines.len().min(USAGE_LINES_MAX);
        let mut lines: Vec<UsageLine> = self
            .lines
            .drain(..taken)
            .map(|(at, line)| {
                let passed = now - at;
                UsageLine { first_ago: line.first_ago + passed, last_ago: line.last_ago + passed, ..line }
            })
            .collect();
        for link in links {
            let room = USAGE_LINES_MAX - lines.len();
            link.drain_into(&mut lines, room, recorder, now);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::LatencySettings;

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    fn link(credential: &str) -> LinkUsage {
        LinkUsage::new("tnl_a".parse().unwrap(), 7, credential.parse().unwrap())
    }

    #[test]
    fn calls_are_taken_once_by_credential_and_label() {
        let mut recorder = Recorder::new(LatencySettings::default());
        let echo = recorder.label("a.test", "tools/call", "echo");
        let list = recorder.label("a.test", "tools/list", "");
        let (live, ended) = (link("crd_live"), link("crd_ended"));
        live.count(echo, at(1));
        live.count(echo, at(3));
        ended.count(list, at(2));
        let mut usage = EndedUsage::default();
        usage.add(&ended, &recorder, at(4));
        let lines = usage.take([&live].into_iter(), &recorder, at(10));
        let taken: Vec<_> = lines
            .iter()
            .map(|line| {
                let ago = (line.first_ago.as_secs(), line.last_ago.as_secs());
                (line.credential.as_str(), &*line.label.method, &*line.label.tool, line.calls, ago)
            })
            .collect();
        let want = [("crd_ended", "tools/list", "", 1, (8, 8)), ("crd_live", "tools/call", "echo", 2, (9, 7))];
        assert_eq!(taken, want);
        assert!(usage.take([&live].into_iter(), &recorder, at(11)).is_empty());
    }

    #[test]
    fn kept_lines_and_lines_per_request_are_bounded() {
        let settings = LatencySettings { labels_max: 100, labels_per_route_max: 100, ..LatencySettings::default() };
        let mut recorder = Recorder::new(settings);
        let labels: Vec<LabelId> = (0..100).map(|n| recorder.label("a.test", "tools/call", &n.to_string())).collect();
        let mut usage = EndedUsage::default();
        for _ in 0..50 {
            let ended = link("crd");
            labels.iter().for_each(|label| ended.count(*label, at(1)));
            usage.add(&ended, &recorder, at(1));
        }
        assert_eq!((usage.lines.len(), usage.lost), (ENDED_MAX, 5_000 - ENDED_MAX as u64));
        let live = link("crd");
        live.count(labels[0], at(1));
        let mut sent = 0;
        let rounds = (0..).map(|_| usage.take([&live].into_iter(), &recorder, at(2)).len());
        for lines in rounds.take_while(|lines| *lines > 0) {
            assert!(lines <= USAGE_LINES_MAX);
            sent += lines;
        }
        assert_eq!(sent, ENDED_MAX + 1);
    }
}
