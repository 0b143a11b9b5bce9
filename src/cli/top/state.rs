//! What `adit top` shows and what keys do, without a terminal, a clock or a connection.

use std::collections::HashMap;
use std::time::Duration;

use crate::cli::top::poll::TopSample;
use crate::control::RoleKind;
use crate::control::bodies::{
    BreakerStateName, CallInfo, CallStageName, CallTimesOfLabel, CallTimesSummary, DecisionKind, LinkStatus, OfRole,
    PhaseTimes, StatusBody,
};
use crate::latency::Phase;

/// The most calls that are kept to be shown.
const CALLS_KEPT_MAX: usize = 500;
/// The longest filter, in characters.
pub(super) const FILTER_LEN_MAX: usize = 40;
/// How far a page key moves.
const PAGE: usize = 10;

/// A key, whatever terminal sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopKey {
    /// A character that was typed.
    Char(char),
    /// The key for opening.
    Enter,
    /// The key for going back.
    Escape,
    /// The key for the next view.
    Tab,
    /// Deletes the last character.
    Backspace,
    /// Moves one line up.
    Up,
    /// Moves one line down.
    Down,
    /// Moves one page up.
    PageUp,
    /// Moves one page down.
    PageDown,
    /// Ctrl and C together.
    Interrupt,
}

/// What is in the middle of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopView {
    /// Tools with their rates and times.
    Tools,
    /// The last calls, one by one.
    Calls,
    /// The links of the process.
    Links,
    /// The keys and what they do.
    Help,
    /// One call, by its number and its role.
    Call(Option<String>, RoleKind),
}

/// By what tools are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopSort {
    /// Calls per second, most first.
    Rate,
    /// Failed calls, most first.
    Errors,
    /// The 95th percentile of the tunnel, slowest first.
    Tunnel,
    /// The 95th percentile of the server, slowest first.
    Server,
    /// Route and tool, in alphabetical order.
    Name,
}

impl TopSort {
    const ALL: [TopSort; 5] = [TopSort::Rate, TopSort::Errors, TopSort::Tunnel, TopSort::Server, TopSort::Name];

    /// The name on the screen.
    pub(super) const fn name(self) -> &'static str {
        match self {
            TopSort::Rate => "calls/s",
            TopSort::Errors => "errors",
            TopSort::Tunnel => "tunnel",
            TopSort::Server => "server",
            TopSort::Name => "name",
        }
    }

    fn next(self) -> TopSort {
        let at = TopSort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        TopSort::ALL[(at + 1) % TopSort::ALL.len()]
    }
}

/// One tool, or one method without tools.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ToolRow {
    /// The route of the tool.
    pub(super) route: String,
    /// The tool, or the method.
    pub(super) what: String,
    /// Calls in a second, between the last two samples; `None` after the first.
    pub(super) per_second: Option<f64>,
    /// Calls since the process started.
    pub(super) calls: u64,
    /// How many of them failed.
    pub(super) errors: u64,
    /// The times in the tunnel.
    pub(super) tunnel: Option<PhaseTimes>,
    /// The times in the server.
    pub(super) server: Option<PhaseTimes>,
    /// The breaker, if it is not closed.
    pub(super) breaker: Option<BreakerStateName>,
}

/// All that the screen shows.
#[derive(Clone, Debug)]
pub(super) struct TopState {
    /// The view in the middle.
    pub(super) view: TopView,
    /// The view to go back to.
    back: TopView,
    /// Only what contains this is shown.
    pub(super) filter: String,
    /// Whether keys are typed into the filter.
    pub(super) is_typing: bool,
    /// The order of the tools.
    pub(super) sort: TopSort,
    /// Whether the screen keeps what it shows.
    pub(super) is_paused: bool,
    /// The line that is selected, among those that are shown.
    pub(super) selected: usize,
    /// The state of the process, if it has answered.
    pub(super) status: Option<StatusBody>,
    /// The times of all calls together.
    pub(super) total: CallTimesSummary,
    /// Calls in a second, and failed ones.
    pub(super) rates: Option<(f64, f64)>,
    rows: Vec<ToolRow>,
    /// The last calls, the newest first.
    calls: Vec<CallInfo>,
    /// Why the last sample could not be taken.
    pub(super) failure: Option<String>,
    /// Calls and failures at the last sample, by route, method and tool.
    counted: HashMap<(String, String, String), u64>,
    counted_total: (u64, u64),
    counted_at: Option<Duration>,
}

impl TopState {
    pub(super) fn new() -> TopState {
        TopState {
            view: TopView::Tools,
            back: TopView::Tools,
            filter: String::new(),
            is_typing: false,
            sort: TopSort::Rate,
            is_paused: false,
            selected: 0,
            status: None,
            total: CallTimesSummary::default(),
            rates: None,
            rows: Vec::new(),
            calls: Vec::new(),
            failure: None,
            counted: HashMap::new(),
            counted_total: (0, 0),
            counted_at: None,
        }
    }

    /// Takes a sample, unless the screen is paused.
    pub(super) fn sampled(&mut self, sample: TopSample) {
        self.failure = None;
        if self.is_paused {
            return;
        }
        let elapsed = self.counted_at.map(|at| sample.at.saturating_sub(at).as_secs_f64()).filter(|s| *s > 0.0);
        let rate = |now: u64, before: u64| elapsed.map(|elapsed| now.saturating_sub(before) as f64 / elapsed);
        let mut counted = HashMap::new();
        self.rows = sample
            .latency
            .labels
            .into_iter()
            .map(|label| {
                let CallTimesOfLabel { route, method, tool, times, breaker, .. } = label;
                let key = (route.clone(), method.clone(), tool.clone());
                let per_second = rate(times.calls, self.counted.get(&key).copied().unwrap_or(0));
                counted.insert(key, times.calls);
                ToolRow {
                    what: if tool.is_empty() { method } else { tool },
                    route,
                    per_second,
                    calls: times.calls,
                    errors: errors(&times),
                    tunnel: times.phases.get(Phase::Tunnel.name()).copied(),
                    server: times.phases.get(Phase::Upstream.name()).copied(),
                    breaker: breaker.filter(|state| *state != BreakerStateName::Closed),
                }
            })
            .collect();
        self.counted = counted;
        let total = (sample.latency.total.calls, errors(&sample.latency.total));
        let of = self.counted_total;
        self.rates = rate(total.0, of.0).zip(rate(total.1, of.1));
        self.counted_total = total;
        self.counted_at = Some(sample.at);
        self.total = sample.latency.total;
        self.status = Some(sample.status);
        self.calls = sample.calls.calls;
        // In a process with both roles each of them logs a call. The one that measures has all phases.
        if let Some(measured_by) = sample.latency.measured_by {
            self.calls.retain(|call| call.role == measured_by);
        }
        self.calls.truncate(CALLS_KEPT_MAX);
        self.selected = self.selected.min(self.len().saturating_sub(1));
    }

    /// Keeps why the process could not be asked. What was shown stays.
    pub(super) fn failed(&mut self, why: String) {
        self.failure = Some(why);
    }

    /// Does what a key says. Returns whether to go on.
    pub(super) fn key(&mut self, key: TopKey) -> bool {
        if key == TopKey::Interrupt {
            return false;
        }
        if self.is_typing {
            self.type_filter(key);
            return true;
        }
        match key {
            TopKey::Char('q') => return false,
            TopKey::Char('p' | ' ') => self.is_paused = !self.is_paused,
            TopKey::Char('s') => self.sort = self.sort.next(),
            TopKey::Char('/') => self.is_typing = true,
            TopKey::Char('?' | 'h') => self.open(TopView::Help),
            TopKey::Char('1') => self.show(TopView::Tools),
            TopKey::Char('2') => self.show(TopView::Calls),
            TopKey::Char('3') => self.show(TopView::Links),
            TopKey::Tab => self.show(match self.view {
                TopView::Tools => TopView::Calls,
                TopView::Calls => TopView::Links,
                _ => TopView::Tools,
            }),
            TopKey::Escape => match &self.view {
                TopView::Help | TopView::Call(..) => self.view = self.back.clone(),
                _ => self.filter.clear(),
            },
            TopKey::Enter => self.enter(),
            TopKey::Up | TopKey::Char('k') => self.selected = self.selected.saturating_sub(1),
            TopKey::Down | TopKey::Char('j') => self.selected += 1,
            TopKey::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            TopKey::PageDown => self.selected += PAGE,
            TopKey::Char(_) | TopKey::Backspace | TopKey::Interrupt => {}
        }
        self.selected = self.selected.min(self.len().saturating_sub(1));
        true
    }

    fn type_filter(&mut self, key: TopKey) {
        match key {
            TopKey::Char(typed) if self.filter.chars().count() < FILTER_LEN_MAX => self.filter.push(typed),
            TopKey::Backspace => drop(self.filter.pop()),
            TopKey::Enter => self.is_typing = false,
            TopKey::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.selected = 0;
    }

    fn show(&mut self, view: TopView) {
        self.view = view;
        self.selected = 0;
    }

    fn open(&mut self, view: TopView) {
        if !matches!(self.view, TopView::Help | TopView::Call(..)) {
            self.back = self.view.clone();
        }
        self.view = view;
    }

    /// A tool shows its calls, a call its phases.
    fn enter(&mut self) {
        match &self.view {
            TopView::Tools => {
                if let Some(row) = self.rows().get(self.selected) {
                    self.filter = row.what.chars().take(FILTER_LEN_MAX).collect();
                    self.show(TopView::Calls);
                }
            }
            TopView::Calls => {
                if let Some(call) = self.calls().get(self.selected) {
                    let view = TopView::Call(call.id.clone(), call.role);
                    self.open(view);
                }
            }
            _ => {}
        }
    }

    /// The tools that the filter lets through, in their order.
    pub(super) fn rows(&self) -> Vec<&ToolRow> {
        let mut rows: Vec<&ToolRow> = self.rows.iter().filter(|row| self.is_wanted(&[&row.what, &row.route])).collect();
        let p95 = |times: &Option<PhaseTimes>| times.map_or(0.0, |times| times.p95_us);
        rows.sort_by(|a, b| {
            let order = match self.sort {
                TopSort::Rate => b.per_second.unwrap_or(0.0).total_cmp(&a.per_second.unwrap_or(0.0)),
                TopSort::Errors => b.errors.cmp(&a.errors),
                TopSort::Tunnel => p95(&b.tunnel).total_cmp(&p95(&a.tunnel)),
                TopSort::Server => p95(&b.server).total_cmp(&p95(&a.server)),
                TopSort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(|| (&a.route, &a.what).cmp(&(&b.route, &b.what)))
        });
        rows
    }

    /// The last calls that the filter lets through, the newest first.
    pub(super) fn calls(&self) -> Vec<&CallInfo> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let wanted = |call: &&CallInfo| {
            let why = call.outcome.clone().unwrap_or_default();
            let of = [text(&call.tool), text(&call.method), text(&call.route), text(&call.host), text(&call.from), why];
            self.is_wanted(&of.each_ref().map(String::as_str))
        };
        self.calls.iter().filter(wanted).collect()
    }

    /// The last calls that were slow or failed, whatever the filter is.
    pub(super) fn remarkable(&self) -> impl Iterator<Item = &CallInfo> {
        self.calls.iter().filter(|call| is_slow(call) || is_failed(call))
    }

    /// The call that is open.
    pub(super) fn open_call(&self) -> Option<&CallInfo> {
        let TopView::Call(id, role) = &self.view else { return None };
        self.calls.iter().find(|call| call.id == *id && call.role == *role)
    }

    /// The links of the process.
    pub(super) fn links(&self) -> &[OfRole<LinkStatus>] {
        self.status.as_ref().map_or(&[], |status| &status.links)
    }

    /// How many lines the view has.
    pub(super) fn len(&self) -> usize {
        match self.view {
            TopView::Tools => self.rows().len(),
            TopView::Calls => self.calls().len(),
            TopView::Links => self.links().len(),
            TopView::Help | TopView::Call(..) => usize::MAX,
        }
    }

    fn is_wanted(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }
}

/// Calls that were not answered completely.
fn errors(times: &CallTimesSummary) -> u64 {
    let failed = times.outcomes.iter().filter(|(outcome, _)| *outcome != "ok");
    failed.map(|(_, count)| count).sum()
}

/// Whether the edge found a call slow for its tool.
pub(super) fn is_slow(call: &CallInfo) -> bool {
    call.decisions.iter().any(|decision| decision.what == DecisionKind::Slow)
}

/// Whether a call was not answered by the server, or with an error.
pub(super) fn is_failed(call: &CallInfo) -> bool {
    call.stopped_at != CallStageName::Done || call.status.is_some_and(|status| status >= 400)
}
