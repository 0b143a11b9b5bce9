//! A role with fixed readings, for the tests of reports.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::{CoreId, Count, DeadlineTerms, GuardMode, Time};
use crate::control::approval_counts::ApprovalCounts;
use crate::control::dashboard_counts::DashboardCounts;
use crate::control::inventories::ToolCounts;
use crate::control::otlp::counts::OtlpCounts;
use crate::control::reading::{
    BoxFuture, CertificateReading, CertificateState, CoreReading, EdgeReading, HostReading, LinkReading, Role,
    RoleKind, RoleReading, RouteLine, StdioReading, TunnelReading, UpstreamReading,
};
use crate::control::report::{CallTimes, ProcessFacts, Reloads, Report};
use crate::exchange::CallFailure;
use crate::latency::{
    BreakerReading, BreakerScope, BreakerState, CallCounts, CallFilter, CallLimit, CallLine, CallPhases, CallRecord,
    CallStage, CallWait, CallerTimeSource, ConnectorTimes, Deadline, DeadlineReason, EdgeTimes, ForcedState, HostText,
    Label, LatencySettings, Outcome, OwnAnswer, PolicyMark, QueueCounts, QueueReading, RecordedTime, Recorder,
    SentAgain, Snapshot, StatusClass, TaskFigures, TaskId, TaskLine, TaskSnapshot, TraceId, UsualLatency, WaitEnd,
};
use crate::policy::OfferKind;
use crate::wire::quic::QuicPath;

pub(super) struct SampleRole {
    pub(super) reading: Mutex<RoleReading>,
    pub(super) drains: AtomicUsize,
    /// How often the durations of calls were requested.
    pub(super) latency_requests: AtomicUsize,
}

impl SampleRole {
    pub(super) fn new(reading: RoleReading) -> Arc<SampleRole> {
        Arc::new(SampleRole {
            reading: Mutex::new(reading),
            drains: AtomicUsize::new(0),
            latency_requests: AtomicUsize::new(0),
        })
    }
}

impl Role for SampleRole {
    fn kind(&self) -> RoleKind {
        self.reading.lock().unwrap().kind
    }

    fn drain(&self) {
        self.drains.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, _wait: Duration) -> BoxFuture<'_, RoleReading> {
        let reading = self.reading.lock().unwrap().clone();
        Box::pin(async { reading })
    }

    fn latency(&self, _wait: Duration) -> BoxFuture<'_, Option<Arc<Snapshot>>> {
        Box::pin(async {
            self.latency_requests.fetch_add(1, Ordering::Relaxed);
            Some(Arc::new(snapshot()))
        })
    }

    fn calls(&self, filter: Arc<CallFilter>, _wait: Duration) -> BoxFuture<'_, Vec<CallLine>> {
        let mut calls = calls();
        calls.retain(|call| !filter.failed || call.record.is_failed());
        Box::pin(async { calls })
    }

    fn force_breaker(&self, _: &Label, _: Option<ForcedState>) -> Option<BreakerReading> {
        None
    }

    fn tasks(&self) -> Option<TaskSnapshot> {
        Some(tasks())
    }

    fn routes(&self) -> Vec<RouteLine> {
        let tunnel = Some("tnl_demo".to_owned());
        vec![RouteLine { host: "demo.test".to_owned(), name: "demo".to_owned(), tunnel, upstream: None }]
    }

    fn tunnels(&self) -> Vec<String> {
        vec!["tnl_demo".to_owned(), "tnl_spare".to_owned()]
    }
}

/// Two calls of one tool on one core, with one link.
pub(super) fn edge_reading() -> RoleReading {
    let core = CoreReading {
        core: CoreId(0),
        calls_open: 3,
        agents_open: 4,
        sockets_open: 9,
        tasks_open: 12,
        last_good_call: Some(Duration::from_millis(250)),
        ..CoreReading::default()
    };
    let link = LinkReading {
        id: 7,
        core: CoreId(0),
        tunnel: "tnl_demo".to_owned(),
        credential: Some("crd_demo".to_owned()),
        peer: "adit/0.1.0".to_owned(),
        connector: Some("000000000000002a".to_owned()),
        hosts: Some(vec!["demo.test".to_owned()]),
        streams: 3,
        round_trip: Some(Duration::from_micros(42)),
        quic: Some(QuicPath {
            round_trip: Duration::from_micros(40),
            congestion_window: 64_000,
            packets_sent: 900,
            packets_lost: 3,
            mtu: 1_452,
            has_ecn: true,
            ..QuicPath::default()
        }),
        age: Duration::from_secs(12),
        idle: Some(Duration::from_millis(720_500)),
        draining: false,
    };
    let count = Count { name: "links_ended", help: "Links that ended, for whatever reason", count: 5 };
    let mut reading = RoleReading::new(RoleKind::Edge, 1);
    (reading.cores, reading.links, reading.counts) = (vec![core], vec![link], vec![count]);
    let host = |host: &str, connectors: &[&str]| HostReading {
        host: host.to_owned(),
        connectors: connectors.iter().map(|name| (*name).to_owned()).collect(),
        unserved: connectors.is_empty(),
    };
    let hosts = vec![host("demo.test", &["000000000000002a"]), host("spare.test", &[])];
    reading.tunnels = vec![TunnelReading { id: "tnl_demo".to_owned(), hosts }];
    reading.upstreams = vec![UpstreamReading {
        route: "demo".to_owned(),
        upstream: "http://127.0.0.1:9000".to_owned(),
        connections_open: 2,
        http2_connections_open: 1,
        http2_streams_open: 3,
        failing: true,
        why: Some("the upstream 127.0.0.1:9000 refused the connection".to_owned()),
        stdio: Some(StdioReading {
            children: 2,
            sessions: 3,
            counts: [("exits".to_owned(), [("signal".to_owned(), 4)].into())].into(),
        }),
    }];
    reading.certificates = vec![CertificateReading {
        of: "agents".to_owned(),
        names: vec!["demo.test".to_owned()],
        issuer: "CN=demo".to_owned(),
        expires_in_s: 86_400,
        renewal_due: true,
    }];
    reading.edges = vec![EdgeReading {
        edge: "edge.test:7844".to_owned(),
        standing: CertificateState::Certified,
        expires_in_s: Some(86_400),
        renews_in_s: Some(57_600),
        clock_ahead_s: Some(-3),
        trouble: None,
        hosts_missing: vec!["other.test".to_owned()],
    }];
    reading.breakers = vec![BreakerReading {
        scope: BreakerScope::Tool,
        label: Label { route: "demo".into(), method: "tools/call".into(), tool: "search".into() },
        mode: GuardMode::Enforce,
        state: BreakerState::Open { remaining: Duration::from_millis(4_250) },
        counts: CallCounts { calls: 20, failed: 12, slow: 1 },
        opened: 2,
        refused: 31,
        would_refuse: 4,
    }];
    let counts = QueueCounts { admitted: 400, waited: 40, refused: 7, refused_for_share: 1, would_refuse: 5 };
    let limit = QueueReading { mode: GuardMode::Enforce, limit: 12, in_flight: 11, waiting: 3, agents: 2, counts };
    reading.limits = vec![("demo".to_owned(), limit)];
    reading
}

fn snapshot() -> Snapshot {
    let mut recorder = Recorder::new(LatencySettings::default());
    let label = recorder.label("demo", "tools/call", "say \"hi\"\n");
    for total_us in [160, 1_160] {
        let edge = EdgeTimes {
            edge: Duration::from_micros(20),
            is_handed_over: true,
            total: Duration::from_micros(total_us),
            total_last: Some(Duration::from_micros(total_us)),
            status: Some(if total_us < 1_000 { StatusClass::Success } else { StatusClass::Gateway }),
            is_event_stream: false,
        };
        let far = ConnectorTimes {
            connector: Duration::from_micros(15),
            upstream: Duration::from_micros(total_us - 100),
            ..ConnectorTimes::default()
        };
        recorder.record(label, &CallPhases::split(edge, Some(far)), Outcome::Ok);
    }
    recorder.record(label, &CallPhases::default(), Outcome::Offline);
    for waited_ms in [2_000].into_iter().cycle().take(30).chain([10_000]) {
        let waited = Duration::from_millis(waited_ms);
        let terms = DeadlineTerms::default();
        let wait = CallWait { terms, enforced: None, end: WaitEnd::Answered, waited, took: waited, teaches: true };
        recorder.learn(label, &wait, Time::ZERO);
    }
    recorder.snapshot()
}

/// A call that was ended by its deadline after another connector had not passed it on, and a connection that was turned
/// away.
pub(super) fn calls() -> Vec<CallLine> {
    let ms = Duration::from_millis;
    let edge =
        EdgeTimes { edge: Duration::from_micros(20), is_handed_over: true, total: ms(3_000), ..EdgeTimes::default() };
    let usual = Some(UsualLatency { p50: ms(1_500), p95: ms(2_000) });
    let deadline = Deadline { limit: ms(3_000), reason: DeadlineReason::Learned, usual };
    let record = CallRecord {
        number: 0x1f3,
        trace: TraceId::of_digits(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        peer: Some([192, 0, 2, 7].into()),
        host: HostText::of("demo.test"),
        connector: NonZeroU64::new(0x2a),
        again: Some(SentAgain::NotPassedOn {
            failure: CallFailure::UpstreamRefused,
            connector: 0x2b,
            last: CallFailure::UpstreamRefused,
            paused: RecordedTime::of(Duration::ZERO),
        }),
        stage: CallStage::of(Outcome::TimedOut),
        outcome: Some(Outcome::TimedOut),
        deadline: Some(CallLimit::of(&deadline, true)),
        missed: true,
        slow: true,
        policy: Some(PolicyMark::new(0x12ab, Some(1))),
        ..CallRecord::new(Time::ZERO)
    };
    let record = record.with_phases(&CallPhases::split(edge, None)).with_wait(ms(40)).with_queue_time(ms(320));
    let record =
        record.with_caller(Some((ms(5_000), CallerTimeSource::Field))).with_place(3, 8, false).with_probe(true);
    let label = Label { route: "demo".into(), method: "tools/call".into(), tool: "search".into() };
    let call = CallLine {
        record: record.with_own(Some(CallFailure::Deadline.own_answer(None))),
        age: ms(2_000),
        label: Some(label),
        route: Some("demo".to_owned()),
        tunnel: Some("tnl_demo".to_owned()),
        rule: Some("all-search".to_owned()),
    };
    let own = OwnAnswer::unanswered("tls_failed", "the TLS handshake failed");
    let record = CallRecord { stage: CallStage::Tls, ..CallRecord::new(Time::ZERO) }.with_own(Some(own));
    vec![call, CallLine { record, age: ms(5_000), label: None, route: None, tunnel: None, rule: None }]
}

/// A task named by a header, one that repeats its calls, and one with many calls.
pub(super) fn tasks() -> TaskSnapshot {
    let line = |id, calls, repeated, cost, idle_s| TaskLine {
        id,
        figures: TaskFigures {
            calls,
            repeated,
            cost,
            given_up: 3,
            timed_out: 1,
            bytes: 4_000,
            tokens: 1_000,
            tunnel: Duration::from_micros(2_500),
            upstream: Duration::from_secs(9),
        },
        tools: 2,
        age: Duration::from_secs(60),
        idle: Duration::from_secs(idle_s),
    };
    let trace = TraceId::of_digits(b"4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
    let lines = vec![
        line(TaskId::Session(0x2a), 20, 2, 0, 30),
        line(TaskId::Trace(trace), 8, 5, 3_000, 1),
        line(TaskId::Named(HostText::of("dear")), 2, 0, 1_000_000, 2),
    ];
    TaskSnapshot { lines, total: TaskFigures { calls: 30, repeated: 7, ..TaskFigures::default() }, forgotten: 7 }
}

pub(super) fn facts() -> ProcessFacts {
    ProcessFacts {
        version: "0.1.0",
        commit: "unknown",
        driver: "epoll".to_owned(),
        driver_why: "epoll (as asked)".to_owned(),
        agent_url: Some("https://demo.test:8443/mcp".to_owned()),
        plain_agent_url: None,
        connectors_listen: Some("127.0.0.1:7844".to_owned()),
        admin_url: Some("http://127.0.0.1:9443".to_owned()),
    }
}

pub(super) fn report() -> Report {
    Report {
        facts: Arc::new(facts()),
        uptime: Duration::from_millis(61_230),
        draining: false,
        roles: vec![edge_reading()],
        latency: Some(CallTimes { measured_by: RoleKind::Edge, snapshot: Arc::new(snapshot()) }),
        reloads: Reloads {
            applied: 2,
            refused: 1,
            faults: Some("adit.toml:3: a\nadit.toml:4: b".to_owned()),
            restart_needed: vec!["engine.cores".to_owned()],
        },
        approvals: Some(ApprovalCounts::default().reading()),
        otlp: Some(OtlpCounts::default().reading()),
        dashboard: DashboardCounts::default().reading(),
        tools: vec![ToolCounts {
            route: "a.test".to_owned(),
            kind: OfferKind::Tool,
            new: 1,
            changed: 2,
            approved: 3,
            unreadable: 4,
        }],
    }
}
