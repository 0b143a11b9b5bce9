use std::time::Duration;

use super::status_class::StatusClass;

/// The number of phases.
pub const PHASES: usize = Phase::ALL.len();

/// A part of a call's time. The names do not change between releases: metrics, JSON and `Server-Timing` use them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// In the edge: first byte of the request → handed to the link, and first byte back → written to the agent.
    #[default]
    Edge,
    /// The link and its queues: all time that neither edge, connector nor upstream account for.
    Tunnel,
    /// All time beyond the edge, for a call whose connector sent no times because the call was ended or broke off. How
    /// it divides among link, connector and upstream is not known.
    BeyondEdge,
    /// In the connector: request routable → first byte sent upstream, and first byte back → handed to the link.
    Connector,
    /// Connecting to the upstream; only for calls for which the pool had no connection.
    UpstreamConnect,
    /// First byte sent to the upstream → first byte from it.
    Upstream,
    /// First byte sent to the upstream → last byte from it, unless the response is an event stream.
    UpstreamLast,
    /// First byte of the request at the edge → first byte of the response written to the agent.
    Total,
    /// First byte of the request at the edge → last byte of the response written to the agent, unless the response is
    /// an event stream.
    TotalLast,
    /// First byte of an event stream written to the agent → its last byte. It lasts as long as there are events.
    Stream,
}

impl Phase {
    /// All phases, in display order.
    pub const ALL: [Phase; 10] = [
        Phase::Edge,
        Phase::Tunnel,
        Phase::BeyondEdge,
        Phase::Connector,
        Phase::UpstreamConnect,
        Phase::Upstream,
        Phase::UpstreamLast,
        Phase::Total,
        Phase::TotalLast,
        Phase::Stream,
    ];

    /// The name in metrics and the API. It does not change between releases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Edge => "edge",
            Phase::Tunnel => "tunnel",
            Phase::BeyondEdge => "beyond_edge",
            Phase::Connector => "connector",
            Phase::UpstreamConnect => "upstream_connect",
            Phase::Upstream => "upstream",
            Phase::UpstreamLast => "upstream_last",
            Phase::Total => "total",
            Phase::TotalLast => "total_last",
            Phase::Stream => "stream",
        }
    }
}

/// What the edge measured of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeTimes {
    /// The duration of [`Phase::Edge`].
    pub edge: Duration,
    /// Whether the head of the request was given to the link.
    pub is_handed_over: bool,
    /// The duration of [`Phase::Total`].
    pub total: Duration,
    /// First byte of the request → last byte of the response written to the agent; `None` until then.
    pub total_last: Option<Duration>,
    /// The class of the upstream's status; `None` if there was no response.
    pub status: Option<StatusClass>,
    /// Whether the upstream's response is an event stream.
    pub is_event_stream: bool,
}

/// What the connector measured of one call; these durations cross the link in PHASES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectorTimes {
    /// The duration of [`Phase::Connector`].
    pub connector: Duration,
    /// The duration of [`Phase::UpstreamConnect`]; `None` if a pooled connection was used.
    pub upstream_connect: Option<Duration>,
    /// The duration of [`Phase::Upstream`].
    pub upstream: Duration,
    /// First byte sent to the upstream → last byte from it; `None` until then.
    pub upstream_last: Option<Duration>,
}

/// The time of one call, divided into phases.
///
/// `edge + tunnel + connector + upstream_connect + upstream = total`, unless the clocks disagreed. If the connector
/// sent no times, `edge + beyond_edge = total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallPhases {
    edge: EdgeTimes,
    connector: Option<ConnectorTimes>,
    /// What the two sides do not account for.
    rest: Duration,
    clocks_disagreed: bool,
    /// Edge and tunnel are not known, because only the connector measured.
    far_side_only: bool,
}

impl CallPhases {
    /// Divides the time of a call. Time that neither side accounts for belongs to the tunnel.
    ///
    /// Without the connector's times (it never answered), all time beyond the edge is one phase. If the two sides
    /// together claim more than the total, the tunnel phase is zero and
    /// [`clocks_disagreed`](CallPhases::clocks_disagreed) is true.
    #[must_use]
    pub fn split(edge: EdgeTimes, connector: Option<ConnectorTimes>) -> CallPhases {
        let far = connector.map_or(Duration::ZERO, |c| {
            c.connector.saturating_add(c.upstream_connect.unwrap_or_default()).saturating_add(c.upstream)
        });
        let rest = edge.total.checked_sub(edge.edge.saturating_add(far));
        CallPhases {
            edge,
            connector,
            rest: rest.unwrap_or_default(),
            clocks_disagreed: rest.is_none(),
            ..CallPhases::default()
        }
    }

    /// The times of a call that only the connector measured, because the agent's TLS ends there. Edge and tunnel are
    /// not known, and the total is the time on the connector. `total_last` is the time to the last byte.
    #[must_use]
    pub fn of_connector(times: ConnectorTimes, total_last: Duration) -> CallPhases {
        let total = times.connector + times.upstream_connect.unwrap_or_default() + times.upstream;
        let edge = EdgeTimes { total, total_last: Some(total_last), ..EdgeTimes::default() };
        CallPhases { far_side_only: true, ..CallPhases::split(edge, Some(times)) }
    }

    /// Sets the status of the upstream's response, if there was one, and whether it is an event stream.
    #[must_use]
    pub fn answered(mut self, status: Option<u16>, is_event_stream: bool) -> CallPhases {
        self.edge.status = status.map(StatusClass::of);
        self.edge.is_event_stream = is_event_stream;
        self
    }

    /// The same call, which only the connector measured, and which waited there so long before it was passed on. That says nothing of
    /// the server, and is no part of what is [beyond](CallPhases::beyond_edge) the side that let it wait.
    #[must_use]
    pub fn queued(mut self, waited: Duration) -> CallPhases {
        self.edge.edge = waited.min(self.edge.total);
        self
    }

    /// The class of the upstream's status; `None` if there was no response, or the edge could not see it.
    #[must_use]
    pub fn status(&self) -> Option<StatusClass> {
        self.edge.status
    }

    /// Whether a gateway responded in place of the upstream. Such a call proves nothing about the upstream.
    #[must_use]
    pub fn is_of_gateway(&self) -> bool {
        self.edge.status == Some(StatusClass::Gateway)
    }

    /// Whether the connector answered itself, because the policy of the route denies the call or one of its ceilings is reached: it
    /// reports times before each answer of the upstream. Such a call says nothing of the upstream.
    #[must_use]
    pub fn is_of_connector(&self) -> bool {
        self.edge.status.is_some() && self.connector.is_none()
    }

    /// The duration of one phase; `None` if the call did not have it.
    #[must_use]
    pub fn get(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Edge | Phase::Tunnel if self.far_side_only => None,
            Phase::Edge => Some(self.edge.edge),
            Phase::Tunnel => self.connector.map(|_| self.rest),
            Phase::BeyondEdge => self.edge.is_handed_over.then_some(self.rest).filter(|_| self.connector.is_none()),
            Phase::Connector => self.connector.map(|c| c.connector),
            Phase::UpstreamConnect => self.connector.and_then(|c| c.upstream_connect),
            Phase::Upstream => self.connector.map(|c| c.upstream),
            Phase::UpstreamLast => self.connector.and_then(|c| c.upstream_last).filter(|_| !self.edge.is_event_stream),
            Phase::Total => Some(self.edge.total),
            Phase::TotalLast => self.edge.total_last.filter(|_| !self.edge.is_event_stream),
            Phase::Stream => {
                let last = self.edge.total_last.filter(|_| self.edge.is_event_stream);
                last.map(|last| last.saturating_sub(self.edge.total))
            }
        }
    }

    /// How long the agent waited: to the last byte if known, otherwise to the first byte. For an event stream, to the
    /// first byte.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.get(Phase::TotalLast).unwrap_or(self.edge.total)
    }

    /// How long everything beyond the edge took, to the first byte of the response, or until now if none has come.
    #[must_use]
    pub fn beyond_edge(&self) -> Duration {
        self.edge.total.saturating_sub(self.edge.edge)
    }

    /// Whether the upstream's response is an event stream.
    #[must_use]
    pub const fn is_event_stream(&self) -> bool {
        self.edge.is_event_stream
    }

    /// Whether the times of the two sides add up to more than the total.
    #[must_use]
    pub const fn clocks_disagreed(&self) -> bool {
        self.clocks_disagreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn a_connector_alone_knows_nothing_of_edge_and_tunnel() {
        let times =
            ConnectorTimes { connector: us(3), upstream_connect: None, upstream: us(40), upstream_last: Some(us(50)) };
        let phases = CallPhases::of_connector(times, us(60));
        assert_eq!([Phase::Edge, Phase::Tunnel].map(|phase| phases.get(phase)), [None, None]);
        assert_eq!([Phase::Total, Phase::TotalLast].map(|phase| phases.get(phase)), [Some(us(43)), Some(us(60))]);
        assert_eq!((phases.get(Phase::Upstream), phases.clocks_disagreed()), (Some(us(40)), false));
        let queued = phases.queued(us(2));
        assert_eq!(Phase::ALL.map(|phase| queued.get(phase)), Phase::ALL.map(|phase| phases.get(phase)));
        assert_eq!(
            (phases.beyond_edge(), queued.beyond_edge(), phases.queued(us(90)).beyond_edge()),
            (us(43), us(41), us(0))
        );
    }

    #[test]
    fn names_are_distinct_and_in_their_place() {
        for (at, phase) in Phase::ALL.iter().enumerate() {
            assert_eq!(*phase as usize, at);
            assert!(Phase::ALL[..at].iter().all(|other| other.name() != phase.name()));
        }
    }

    #[test]
    fn the_tunnel_is_the_rest() {
        let edge = EdgeTimes { edge: us(20), total: us(1_100), total_last: Some(us(1_200)), ..EdgeTimes::default() };
        let far = ConnectorTimes {
            connector: us(15),
            upstream_connect: Some(us(40)),
            upstream: us(1_000),
            upstream_last: None,
        };
        let phases = CallPhases::split(edge, Some(far));
        assert_eq!(phases.get(Phase::Tunnel), Some(us(25)));
        assert_eq!(phases.get(Phase::UpstreamLast), None);
        assert_eq!(phases.took(), us(1_200));
        assert!(!phases.clocks_disagreed());
    }

    #[test]
    fn an_event_stream_took_until_its_first_byte() {
        let answer = EdgeTimes { total: us(30), total_last: Some(us(90_000)), ..EdgeTimes::default() };
        assert_eq!(CallPhases::split(answer, None).took(), us(90_000));
        let stream = EdgeTimes { is_event_stream: true, ..answer };
        let far = ConnectorTimes { upstream: us(20), upstream_last: Some(us(89_000)), ..ConnectorTimes::default() };
        let phases = CallPhases::split(stream, Some(far));
        assert_eq!(phases.took(), us(30));
        assert_eq!(phases.get(Phase::Stream), Some(us(89_970)), "it has a phase of its own");
        assert_eq!([Phase::TotalLast, Phase::UpstreamLast].map(|phase| phases.get(phase)), [None, None]);
        assert_eq!(CallPhases::split(answer, None).get(Phase::Stream), None);
    }

    #[test]
    fn a_negative_rest_is_zero_and_reported() {
        let edge = EdgeTimes { edge: us(20), total: us(100), total_last: None, ..EdgeTimes::default() };
        let far = ConnectorTimes { connector: us(1), upstream: us(80), ..ConnectorTimes::default() };
        let phases = CallPhases::split(edge, Some(far));
        assert_eq!(phases.get(Phase::Tunnel), Some(Duration::ZERO));
        assert!(phases.clocks_disagreed());
    }

    #[test]
    fn without_the_connector_the_rest_is_unattributed() {
        let times = EdgeTimes { edge: us(5), total: us(50), is_handed_over: true, ..EdgeTimes::default() };
        let beyond = [Phase::BeyondEdge, Phase::Tunnel, Phase::Connector, Phase::Upstream];
        let of = |phases: CallPhases| beyond.map(|phase| phases.get(phase));
        assert_eq!(of(CallPhases::split(times, None)), [Some(us(45)), None, None, None]);
        let unsent = EdgeTimes { is_handed_over: false, ..times };
        assert_eq!(of(CallPhases::split(unsent, None)), [None; 4]);
        let phases = CallPhases::split(times, Some(ConnectorTimes::default()));
        assert_eq!(of(phases)[..2], [None, Some(us(45))]);
    }

    #[test]
    fn the_parts_sum_to_the_whole_or_the_clocks_disagreed() {
        let mut rng = Rng::new(11);
        let mut disagreed = 0;
        for _ in 0..10_000 {
            let mut draw = |bound| Duration::from_nanos(rng.below(bound));
            let edge = EdgeTimes { edge: draw(50_000), total: draw(400_000), total_last: None, ..EdgeTimes::default() };
            let far = ConnectorTimes {
                connector: draw(50_000),
                upstream_connect: (draw(2) > Duration::ZERO).then(|| draw(90_000)),
                upstream: draw(200_000),
                upstream_last: None,
            };
            let phases = CallPhases::split(edge, Some(far));
            let parts = [Phase::Edge, Phase::Tunnel, Phase::Connector, Phase::UpstreamConnect, Phase::Upstream];
            let sum: Duration = parts.iter().filter_map(|p| phases.get(*p)).sum();
            if phases.clocks_disagreed() {
                disagreed += 1;
                assert!(sum > edge.total);
            } else {
                assert_eq!(sum, edge.total);
            }
        }
        assert!((1..10_000).contains(&disagreed));
    }

    #[test]
    fn the_longest_claims_do_not_overflow() {
        let far = ConnectorTimes {
            connector: Duration::MAX,
            upstream_connect: Some(Duration::MAX),
            upstream: Duration::MAX,
            upstream_last: None,
        };
        let edge = EdgeTimes { edge: Duration::MAX, total: us(1), total_last: None, ..EdgeTimes::default() };
        assert!(CallPhases::split(edge, Some(far)).clocks_disagreed());
    }
}
