use std::time::Duration;

use super::call_trace::CallPoints;
use super::phases::{ConnectorTimes, EdgeTimes};
use super::status_class::StatusClass;
use crate::base::{Clock, Time};

/// A point in time that may not be reached yet, in the size of a [`Time`].
#[derive(Clone, Copy, Debug)]
struct Stamp(Time);

impl Stamp {
    const NONE: Stamp = Stamp(Time::NEVER);

    fn get(self) -> Option<Time> {
        Some(self.0).filter(|at| *at != Time::NEVER)
    }

    /// Sets the point, unless it is set already.
    fn set_first(&mut self, now: Time) {
        self.0 = self.0.min(now);
    }
}

/// The points at which a call passed the edge, on the edge's clock.
#[derive(Clone, Copy, Debug)]
pub struct EdgeStamps {
    request_first: Time,
    handed_to_link: Stamp,
    first_from_link: Stamp,
    first_to_agent: Stamp,
    last_to_agent: Stamp,
    status: Option<StatusClass>,
    stream: Option<StreamKind>,
}

/// What kind of event stream a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamKind {
    /// The response to a call.
    Answer,
    /// A stream that stays open until either side closes it.
    Standing,
}

impl StreamKind {
    const fn of(is_standing: bool) -> StreamKind {
        if is_standing { StreamKind::Standing } else { StreamKind::Answer }
    }
}

impl Default for EdgeStamps {
    fn default() -> EdgeStamps {
        EdgeStamps::new(Time::ZERO)
    }
}

impl EdgeStamps {
    /// A call whose first byte arrived at `now`.
    #[must_use]
    pub const fn new(now: Time) -> EdgeStamps {
        EdgeStamps {
            request_first: now,
            handed_to_link: Stamp::NONE,
            first_from_link: Stamp::NONE,
            first_to_agent: Stamp::NONE,
            last_to_agent: Stamp::NONE,
            status: None,
            stream: None,
        }
    }

    /// The head of the request was given to the link. Only the first time counts.
    pub fn on_handed_to_link(&mut self, now: Time) {
        self.handed_to_link.set_first(now);
    }

    /// Whether the head of the request was given to the link.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.handed_to_link.get().is_some()
    }

    /// The response comes from a second try, which was given to a link at `began`. The time before that counts as the
    /// edge's own.
    pub fn on_sent_again(&mut self, began: Time) {
        self.handed_to_link = Stamp(began);
    }

    /// A byte of the response came from the link. Only the first time counts.
    pub fn on_from_link(&mut self, now: Time) {
        self.first_from_link.set_first(now);
    }

    /// The upstream's final answer has this status.
    pub fn on_status(&mut self, status: u16) {
        self.status = Some(StatusClass::of(status));
    }

    /// The upstream's response is an event stream. One that `is_standing` is not part of a call's response.
    pub fn on_event_stream(&mut self, is_standing: bool) {
        self.stream = Some(StreamKind::of(is_standing));
    }

    /// Whether the response is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether the response is an event stream that stays open until either side closes it.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.stream == Some(StreamKind::Standing)
    }

    /// A byte of the response was written to the agent. Only the first time counts.
    pub fn on_to_agent(&mut self, now: Time) {
        self.first_to_agent.set_first(now);
    }

    /// The last byte of the response was written to the agent.
    pub fn on_last_to_agent(&mut self, now: Time) {
        self.on_to_agent(now);
        self.last_to_agent = Stamp(now);
    }

    /// The points so far, for a call that ends at `ended` unless its answer was written before, and the last byte of whose
    /// answer came from the link at `last`.
    #[must_use]
    pub fn points(&self, last: Option<Time>, ended: Time) -> CallPoints {
        let first = self.first_from_link.get();
        CallPoints {
            began: self.request_first,
            sent: self.handed_to_link.get(),
            first,
            last: last.filter(|_| first.is_some()),
            ended: self.last_to_agent.get().unwrap_or(ended),
        }
    }

    /// The durations so far. A point that is not reached yet counts as now, for example when the head with its
    /// `Server-Timing` is about to be written. The clock is read only in that case.
    #[must_use]
    pub fn times(&self, clock: &impl Clock) -> EdgeTimes {
        let now = || clock.now();
        let out = self.handed_to_link.get().unwrap_or_else(now) - self.request_first;
        let first_to_agent = self.first_to_agent.get().unwrap_or_else(now);
        let back = self.first_from_link.get().map_or(Duration::ZERO, |at| first_to_agent - at);
        EdgeTimes {
            edge: out + back,
            is_handed_over: self.is_handed_over(),
            total: first_to_agent - self.request_first,
            total_last: self.last_to_agent.get().map(|at| at - self.request_first),
            status: self.status,
            is_event_stream: self.stream.is_some(),
        }
    }
}

/// The points at which a call passed the connector, on the connector's clock.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorStamps {
    request_ready: Time,
    connect: Option<Duration>,
    first_sent: Stamp,
    first_received: Stamp,
    handed_to_link: Stamp,
    last_received: Stamp,
    status: Option<u16>,
    stream: Option<StreamKind>,
}

impl ConnectorStamps {
    /// A call that was complete enough to route at `now`.
    #[must_use]
    pub const fn new(now: Time) -> ConnectorStamps {
        ConnectorStamps {
            request_ready: now,
            connect: None,
            first_sent: Stamp::NONE,
            first_received: Stamp::NONE,
            handed_to_link: Stamp::NONE,
            last_received: Stamp::NONE,
            status: None,
            stream: None,
        }
    }

    /// When the call was complete enough to route.
    #[must_use]
    pub const fn began(&self) -> Time {
        self.request_ready
    }

    /// A connection to the upstream was made, which took this long. If there are several, the times are added.
    pub fn on_connected(&mut self, took: Duration) {
        self.connect = Some(self.connect.unwrap_or_default().saturating_add(took));
    }

    /// The first byte was sent upstream. If the request is sent again on another connection, the last time counts, and
    /// the failed attempt counts as the connector's own time.
    pub fn on_sent(&mut self, now: Time) {
        self.first_sent = Stamp(now);
    }

    /// Whether anything was sent upstream.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.first_sent.get().is_some()
    }

    /// A byte came from the upstream. Only the first time counts.
    pub fn on_received(&mut self, now: Time) {
        self.first_received.set_first(now);
    }

    /// The upstream's final answer has this status.
    pub fn on_status(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The status of the upstream's final answer, if its head arrived.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The upstream's response is an event stream. One that `is_standing` is not part of a call's response.
    pub fn on_event_stream(&mut self, is_standing: bool) {
        self.stream = Some(StreamKind::of(is_standing));
    }

    /// Whether the response is an event stream.
    #[must_use]
    pub fn is_event_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether the response is an event stream that stays open until either side closes it.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.stream == Some(StreamKind::Standing)
    }

    /// The head of the response was given to the link. Only the first time counts.
    pub fn on_handed_to_link(&mut self, now: Time) {
        self.handed_to_link.set_first(now);
    }

    /// The last byte came from the upstream.
    pub fn on_last_received(&mut self, now: Time) {
        self.on_received(now);
        self.last_received = Stamp(now);
    }

    /// The points so far, for a call that ends at `ended`.
    #[must_use]
    pub fn points(&self, ended: Time) -> CallPoints {
        CallPoints {
            began: self.request_ready,
            sent: self.first_sent.get(),
            first: self.first_received.get(),
            last: self.last_received.get(),
            ended,
        }
    }

    /// The durations so far. A point that is not reached yet counts as now; the clock is read only in that case.
    #[must_use]
    pub fn times(&self, clock: &impl Clock) -> ConnectorTimes {
        let now = || clock.now();
        let first_sent = self.first_sent.get().unwrap_or_else(now);
        let out = (first_sent - self.request_ready).saturating_sub(self.connect.unwrap_or_default());
        let back =
            self.first_received.get().map_or(Duration::ZERO, |at| self.handed_to_link.get().unwrap_or_else(now) - at);
        ConnectorTimes {
            connector: out + back,
            upstream_connect: self.connect,
            upstream: self.first_received.get().unwrap_or_else(now) - first_sent,
            upstream_last: self.last_received.get().map(|at| at - first_sent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::{CallPhases, Phase};

    struct StoppedAt(Time);

    impl Clock for StoppedAt {
        fn now(&self) -> Time {
            self.0
        }
    }

    const fn at(us: u64) -> Time {
        Time::from_nanos(us * 1_000)
    }

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_call_is_split_by_its_stamps_though_the_clocks_differ() {
        let mut edge = EdgeStamps::new(at(1_000));
        edge.on_handed_to_link(at(1_010));
        edge.on_from_link(at(1_200));
        edge.on_to_agent(at(1_205));
        edge.on_from_link(at(1_900));
        edge.on_last_to_agent(at(2_000));

        let mut far = ConnectorStamps::new(at(77));
        far.on_connected(us(30));
        far.on_sent(at(77 + 38));
        far.on_received(at(77 + 138));
        far.on_handed_to_link(at(77 + 142));
        far.on_last_received(at(77 + 900));

        let phases = CallPhases::split(edge.times(&StoppedAt(at(9_999))), Some(far.times(&StoppedAt(at(9_999)))));
        assert_eq!(phases.get(Phase::Edge), Some(us(15)));
        assert_eq!(phases.get(Phase::Connector), Some(us(12)));
        assert_eq!(phases.get(Phase::UpstreamConnect), Some(us(30)));
        assert_eq!(phases.get(Phase::Upstream), Some(us(100)));
        assert_eq!(phases.get(Phase::UpstreamLast), Some(us(862)));
        assert_eq!(phases.get(Phase::Total), Some(us(205)));
        assert_eq!(phases.get(Phase::TotalLast), Some(us(1_000)));
        assert_eq!(phases.get(Phase::Tunnel), Some(us(205 - 15 - 12 - 30 - 100)));
    }

    #[test]
    fn a_call_under_way_is_measured_up_to_now() {
        let mut edge = EdgeStamps::new(at(0));
        assert_eq!(
            edge.times(&StoppedAt(at(5))),
            EdgeTimes { edge: us(5), total: us(5), total_last: None, ..EdgeTimes::default() }
        );
        edge.on_handed_to_link(at(7));
        assert_eq!(
            edge.times(&StoppedAt(at(50))),
            EdgeTimes { edge: us(7), is_handed_over: true, total: us(50), ..EdgeTimes::default() }
        );
        edge.on_from_link(at(60));
        assert_eq!(
            edge.times(&StoppedAt(at(64))),
            EdgeTimes { edge: us(11), is_handed_over: true, total: us(64), ..EdgeTimes::default() }
        );
    }

    #[test]
    fn a_lost_try_is_the_connectors_own_time() {
        let mut far = ConnectorStamps::new(at(0));
        far.on_sent(at(3));
        far.on_connected(us(20));
        far.on_sent(at(40));
        far.on_received(at(50));
        let times = far.times(&StoppedAt(at(50)));
        assert_eq!(times.connector, us(20));
        assert_eq!(times.upstream_connect, Some(us(20)));
        assert_eq!(times.upstream, us(10));
    }
}
