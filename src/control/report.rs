//! The state of the process at one moment, and its JSON forms: `GET /v1/latency` and `GET /v1/status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::base::GuardMode;
use crate::control::approval_counts::ApprovalReading;
use crate::control::bodies::{
    BreakerInfo, BreakerKind, BreakerStateName, BuffersStatus, CallTimesOfLabel, CallTimesSummary, CoreStatus,
    DeadlineOfLabel, DeadlineWhy, DriverStatus, GuardModeName, LatencyBody, LimitInfo, LinkStatus, OfRole, PhaseTimes,
    ProcessState, QuicStatus, ReloadStatus, StatusBody, TunnelLinks,
};
use crate::control::dashboard_counts::DashboardReading;
use crate::control::inventories::ToolCounts;
use crate::control::otlp::counts::OtlpReading;
use crate::control::reading::{CoreReading, LinkReading, RoleKind, RoleReading, RouteLine, TunnelReading};
use crate::latency::{
    BreakerReading, BreakerScope, BreakerState, DeadlineReason, Deadlines, Distribution, ForcedState, Label,
    LabelFigures, Outcome, Phase, QueueReading, Snapshot,
};
use crate::wire::quic::QuicPath;

/// Facts about the process that do not change while it runs.
#[derive(Clone, Debug, Default)]
pub struct ProcessFacts {
    /// The version of the program.
    pub version: &'static str,
    /// The commit from which it was built.
    pub commit: &'static str,
    /// The driver of the cores.
    pub driver: String,
    /// Why this driver was chosen.
    pub driver_why: String,
    /// The URL that agents call.
    pub agent_url: Option<String>,
    /// The URL without TLS, which agents on this machine can call.
    pub plain_agent_url: Option<String>,
    /// The address that connectors dial.
    pub connectors_listen: Option<String>,
    /// The URL of the admin API.
    pub admin_url: Option<String>,
}

/// The results of configuration reloads so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Reloads that took effect.
    pub applied: u64,
    /// Reloads that were rejected because of a fault. The configuration before stayed in effect.
    pub refused: u64,
    /// The faults of the last reload, one per line; `None` if it took effect.
    pub faults: Option<String>,
    /// Settings that differ from those in effect and need a restart.
    pub restart_needed: Vec<String>,
}

/// The durations of calls, and the role that measured them.
#[derive(Clone)]
pub struct CallTimes {
    /// The edge, if there is one. A connector alone measures only calls with passthrough traffic.
    pub measured_by: RoleKind,
    /// The figures of all its cores.
    pub snapshot: Arc<Snapshot>,
}

/// The state of the process at one moment.
#[derive(Clone)]
pub struct Report {
    /// The facts that do not change.
    pub facts: Arc<ProcessFacts>,
    /// Time since the start.
    pub uptime: Duration,
    /// Whether the process is ending.
    pub draining: bool,
    /// The roles, as reported by their cores.
    pub roles: Vec<RoleReading>,
    /// The durations of calls; `None` if no role keeps them.
    pub latency: Option<CallTimes>,
    /// The results of configuration reloads.
    pub reloads: Reloads,
    /// The states of the tools of each route with `pin`.
    pub tools: Vec<ToolCounts>,
    /// The counts of approvals; none in a process in which nothing can be approved.
    pub approvals: Option<ApprovalReading>,
    /// The counts of the export of traces and metrics, if there is one.
    pub otlp: Option<OtlpReading>,
    /// The counts of the dashboard.
    pub dashboard: DashboardReading,
}

/// The routes and tunnels of one role.
#[derive(Clone, Debug)]
pub struct ServedRoutes {
    /// The role that serves them.
    pub kind: RoleKind,
    /// The routes that it serves.
    pub routes: Vec<RouteLine>,
    /// Its tunnels, without secrets.
    pub tunnels: Vec<String>,
}

impl Report {
    /// The body of `GET /v1/latency`, for all calls or for one route.
    #[must_use]
    pub fn latency_body(&self, route: Option<&str>) -> LatencyBody {
        let nothing = Snapshot::new();
        let snapshot = self.latency.as_ref().map_or(&nothing, |latency| &*latency.snapshot);
        let labels = snapshot.labels().filter(|(label, _)| route.is_none_or(|route| *route == *label.route));
        let measured_by = self.latency.as_ref().map(|latency| latency.measured_by);
        let of_role = self.roles.iter().filter(|role| Some(role.kind) == measured_by);
        let of_tools = of_role.flat_map(|role| &role.breakers).filter(|reading| reading.scope == BreakerScope::Tool);
        let breakers: HashMap<&Label, BreakerStateName> =
            of_tools.map(|reading| (&reading.label, state_name(reading.state))).collect();
        let labels = labels.map(|(label, figures)| CallTimesOfLabel {
            route: label.route.to_string(),
            method: label.method.to_string(),
            tool: label.tool.to_string(),
            times: CallTimesSummary::of(figures),
            retries: figures.retries(),
            hedges: figures.hedges().made,
            hedges_won: figures.hedges().won,
            breaker: breakers.get(label).copied(),
            deadline: DeadlineOfLabel::of(figures),
        });
        LatencyBody {
            measured_by,
            route: route.map(str::to_owned),
            total: match route {
                None => CallTimesSummary::of(snapshot.total()),
                Some(route) => CallTimesSummary::of(&snapshot.routes().remove(route).unwrap_or_default()),
            },
            labels: labels.collect(),
            over_cap: snapshot.over_cap(),
        }
    }

    /// The body of `GET /v1/status`.
    #[must_use]
    pub fn status_body(&self, served: &[ServedRoutes]) -> StatusBody {
        let facts = &self.facts;
        StatusBody {
            version: facts.version.to_owned(),
            commit: facts.commit.to_owned(),
            roles: self.roles.iter().map(|role| role.kind).collect(),
            state: if self.draining { ProcessState::Draining } else { ProcessState::Running },
            driver: DriverStatus { name: facts.driver.clone(), why: facts.driver_why.clone() },
            agent_url: facts.agent_url.clone(),
            plain_agent_url: facts.plain_agent_url.clone(),
            connectors_listen: facts.connectors_listen.clone(),
            admin_url: facts.admin_url.clone(),
            uptime_s: seconds(self.uptime),
            cores: self.of_each(|role| role.cores.iter().map(core_status).collect()),
            cores_silent: self.roles.iter().map(|role| (role.cores_asked - role.cores.len()) as u64).sum(),
            links: self.of_each(|role| role.links.iter().map(link_status).collect()),
            certificates: self.of_each(|role| role.certificates.clone()),
            edges: self.of_each(|role| role.edges.clone()),
            upstreams: self.roles.iter().flat_map(|role| role.upstreams.clone()).collect(),
            breakers: self.of_each(|role| role.breakers.iter().map(breaker_info).collect()),
            limits: self.of_each(|role| role.limits.iter().map(limit_info).collect()),
            routes: served.iter().flat_map(routes_of).collect(),
            tunnels: served.iter().flat_map(|served| self.tunnel_links(served)).collect(),
            counts: self.roles.iter().map(counts_of).collect(),
            reload: ReloadStatus {
                applied: self.reloads.applied,
                refused: self.reloads.refused,
                faults: self.reloads.faults.as_deref().map(|faults| faults.lines().map(str::to_owned).collect()),
                restart_needed: self.reloads.restart_needed.clone(),
            },
        }
    }

    /// The rows of all roles, each marked with its role.
    fn of_each<T>(&self, rows: impl Fn(&RoleReading) -> Vec<T>) -> Vec<OfRole<T>> {
        let of = |role: &RoleReading| rows(role).into_iter().map(|row| of_role(role, row)).collect::<Vec<_>>();
        self.roles.iter().flat_map(of).collect()
    }

    fn tunnel_links(&self, served: &ServedRoutes) -> Vec<OfRole<TunnelLinks>> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for link in self.roles.iter().filter(|role| role.kind == served.kind).flat_map(|role| &role.links) {
            *counts.entry(&link.tunnel).or_default() += 1;
        }
        let of_kind = self.roles.iter().filter(|role| role.kind == served.kind);
        let hosts: BTreeMap<&str, &TunnelReading> =
            of_kind.flat_map(|role| &role.tunnels).map(|tunnel| (&*tunnel.id, tunnel)).collect();
        let line = |id: &String| OfRole {
            role: served.kind,
            of: TunnelLinks {
                id: id.clone(),
                links: counts.get(id.as_str()).copied().unwrap_or(0),
                hosts: hosts.get(id.as_str()).map(|tunnel| tunnel.hosts.clone()).unwrap_or_default(),
            },
        };
        served.tunnels.iter().map(line).collect()
    }
}

impl CallTimesSummary {
    fn of(figures: &LabelFigures) -> CallTimesSummary {
        let outcomes = Outcome::ALL.iter().filter(|outcome| figures.outcome(**outcome) > 0);
        let phases = Phase::ALL.iter().filter(|phase| figures.phase(**phase).count() > 0);
        CallTimesSummary {
            calls: figures.calls(),
            outcomes: outcomes.map(|outcome| (outcome.name().to_owned(), figures.outcome(*outcome))).collect(),
            phases: phases.map(|phase| (phase.name().to_owned(), PhaseTimes::of(figures.phase(*phase)))).collect(),
            clock_disagreements: figures.clock_disagreements(),
        }
    }
}

impl DeadlineOfLabel {
    fn of(figures: &LabelFigures) -> Option<DeadlineOfLabel> {
        let Deadlines { terms, missed, cut } = *figures.deadlines();
        let (deadline, terms) = (figures.deadline()?, terms?);
        Some(DeadlineOfLabel {
            mode: mode_name(terms.mode),
            limit_ms: Some(deadline.limit).filter(|limit| *limit < Duration::MAX).map(millis),
            why: match deadline.reason {
                DeadlineReason::Cold => DeadlineWhy::Cold,
                DeadlineReason::Learned => DeadlineWhy::Learned,
                DeadlineReason::Floor => DeadlineWhy::Floor,
                DeadlineReason::Ceiling => DeadlineWhy::Ceiling,
            },
            p50_ms: deadline.usual.map(|usual| millis(usual.p50)),
            p95_ms: deadline.usual.map(|usual| millis(usual.p95)),
            missed,
            cut,
        })
    }
}

const fn mode_name(mode: GuardMode) -> GuardModeName {
    match mode {
        GuardMode::Off => GuardModeName::Off,
        GuardMode::Observe => GuardModeName::Observe,
        GuardMode::Enforce => GuardModeName::Enforce,
    }
}

impl PhaseTimes {
    fn of(distribution: &Distribution) -> PhaseTimes {
        PhaseTimes {
            count: distribution.count(),
            mean_us: micros(distribution.mean()),
            p50_us: micros(distribution.quantile(0.50)),
            p95_us: micros(distribution.quantile(0.95)),
            p99_us: micros(distribution.quantile(0.99)),
            max_us: micros(distribution.max()),
        }
    }
}

/// Microseconds with one decimal.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    tenths(duration.as_secs_f64() * 1e6)
}

/// Milliseconds with three decimals.
#[must_use]
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds with one decimal.
#[must_use]
pub(super) fn seconds(duration: Duration) -> f64 {
    tenths(duration.as_secs_f64())
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn of_role<T>(role: &RoleReading, of: T) -> OfRole<T> {
    OfRole { role: role.kind, of }
}

fn limit_info((route, reading): &(String, QueueReading)) -> LimitInfo {
    let QueueReading { mode, limit, in_flight, waiting, agents, counts } = *reading;
    LimitInfo {
        route: route.clone(),
        mode: mode_name(mode),
        limit: limit.into(),
        in_flight: in_flight.into(),
        waiting: waiting.into(),
        agents: agents.into(),
        admitted: counts.admitted,
        waited: counts.waited,
        refused: counts.refused,
        refused_for_share: counts.refused_for_share,
        would_refuse: counts.would_refuse,
    }
}

const fn state_name(state: BreakerState) -> BreakerStateName {
    match state {
        BreakerState::Closed => BreakerStateName::Closed,
        BreakerState::Open { .. } => BreakerStateName::Open,
        BreakerState::HalfOpen => BreakerStateName::HalfOpen,
        BreakerState::Forced(ForcedState::Open) => BreakerStateName::ForcedOpen,
        BreakerState::Forced(ForcedState::Closed) => BreakerStateName::ForcedClosed,
    }
}

/// One breaker, as the API shows it.
pub(super) fn breaker_info(reading: &BreakerReading) -> BreakerInfo {
    let BreakerReading { scope, label, mode, state, counts, opened, refused, would_refuse } = reading;
    BreakerInfo {
        breaker: match scope {
            BreakerScope::Upstream => BreakerKind::Upstream,
            BreakerScope::Tool => BreakerKind::Tool,
        },
        route: label.route.to_string(),
        method: label.method.to_string(),
        tool: label.tool.to_string(),
        mode: mode_name(*mode),
        state: state_name(*state),
        retry_after_s: match state {
            BreakerState::Open { remaining } => Some(seconds(*remaining)),
            _ => None,
        },
        calls: counts.calls.into(),
        failed: counts.failed.into(),
        late: counts.slow.into(),
        opened: *opened,
        refused: *refused,
        would_refuse: *would_refuse,
    }
}

fn core_status(core: &CoreReading) -> CoreStatus {
    CoreStatus {
        core: core.core.0,
        calls_open: core.calls_open as u64,
        agents_open: core.agents_open as u64,
        sockets_open: core.sockets_open as u64,
        tasks_open: core.tasks_open as u64,
        buffers: BuffersStatus {
            leased_bytes: core.pool.leased_bytes as u64,
            allocated_bytes: core.pool.allocated_bytes as u64,
            receive_bytes: core.pool.receive_bytes as u64,
            send_bytes: core.pool.send_bytes as u64,
            link_bytes: core.pool.link_bytes as u64,
            window_bytes: core.pool.window_bytes as u64,
            allowance_bytes: core.pool.allowance_bytes as u64,
            waiting: core.pool.waiting as u64,
            limit_bytes: core.pool.bytes_max as u64,
            exhausted: core.pool.exhausted,
        },
        last_good_call_s: core.last_good_call.map(seconds),
    }
}

fn link_status(link: &LinkReading) -> LinkStatus {
    LinkStatus {
        id: link.id,
        core: link.core.0,
        tunnel: link.tunnel.clone(),
        peer: link.peer.clone(),
        connector: link.connector.clone(),
        streams: link.streams as u64,
        round_trip_us: link.round_trip.map(micros),
        transport: if link.quic.is_some() { "quic" } else { "tcp" }.to_owned(),
        quic: link.quic.map(quic_status),
        age_s: seconds(link.age),
        draining: link.draining,
    }
}

fn quic_status(path: QuicPath) -> QuicStatus {
    QuicStatus {
        round_trip_us: micros(path.round_trip),
        packets_sent: path.packets_sent,
        packets_lost: path.packets_lost,
        congestion_window_bytes: path.congestion_window,
        mtu_bytes: path.mtu,
        ecn: path.has_ecn,
    }
}

fn routes_of(served: &ServedRoutes) -> impl Iterator<Item = OfRole<RouteLine>> {
    served.routes.iter().map(|route| OfRole { role: served.kind, of: route.clone() })
}

fn counts_of(role: &RoleReading) -> (String, BTreeMap<String, u64>) {
    let counts = role.counts.iter().map(|count| (count.name.to_owned(), count.count)).collect();
    (role.kind.as_str().to_owned(), counts)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::control::sample;

    /// Serializes a body, after checking that its type can be deserialized from the result.
    fn sent<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T) -> Value {
        let sent = serde_json::to_value(&body).unwrap();
        assert_eq!(serde_json::from_value::<T>(sent.clone()).unwrap(), body);
        sent
    }

    #[test]
    fn durations_are_rounded_to_their_printed_unit() {
        // Most of these have no exact binary value. Without rounding they would be written with twelve digits or more.
        for (ns, ms, s) in
            [(96_000_000_010, "96000.0", "96.0"), (42_123_456, "42.123", "0.0"), (1_234_567_890, "1234.568", "1.2")]
        {
            let duration = Duration::from_nanos(ns);
            assert_eq!(
                (json!(millis(duration)).to_string().as_str(), json!(seconds(duration)).to_string().as_str()),
                (ms, s)
            );
        }
    }

    #[test]
    fn the_shape_of_latency_is_stable() {
        let json = sent(sample::report().latency_body(None));
        let phase = |total: &Value, name: &str| total["phases"][name].clone();
        assert_eq!(
            phase(&json["total"], "tunnel"),
            json!({ "count": 2, "mean_us": 65.0, "p50_us": 65.0, "p95_us": 65.0, "p99_us": 65.0, "max_us": 65.0 })
        );
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&json), "labels measured_by over_cap route total");
        assert_eq!(keys(&json["total"]), "calls clock_disagreements outcomes phases");
        assert_eq!(keys(&json["total"]["phases"]), "connector edge total total_last tunnel upstream");
        assert_eq!(
            keys(&json["labels"][0]),
            "breaker calls clock_disagreements deadline hedges hedges_won method outcomes phases retries route tool"
        );
        let deadline = json!({
            "mode": "observe", "limit_ms": 3019.898, "why": "learned", "p50_ms": 2013.265, "p95_ms": 2013.265, "missed": 1,
            "cut": 0,
        });
        assert_eq!(json["labels"][0]["deadline"], deadline);
        assert_eq!(json["total"]["outcomes"], json!({ "ok": 2, "offline": 1 }));
        assert_eq!((&json["measured_by"], &json["total"]["calls"]), (&json!("edge"), &json!(3)));
    }

    #[test]
    fn latency_of_one_route_is_that_routes_alone() {
        let report = sample::report();
        let demo = sent(report.latency_body(Some("demo")));
        assert_eq!((&demo["total"]["calls"], demo["labels"].as_array().unwrap().len()), (&json!(3), 1));
        let other = sent(report.latency_body(Some("other")));
        assert_eq!((&other["total"]["calls"], other["labels"].as_array().unwrap().len()), (&json!(0), 0));
    }

    #[test]
    fn without_an_edge_there_are_no_figures() {
        let mut report = sample::report();
        report.latency = None;
        let json = sent(report.latency_body(None));
        assert_eq!((&json["measured_by"], &json["total"]["calls"]), (&Value::Null, &json!(0)));
    }

    #[test]
    fn the_shape_of_status_is_stable() {
        let role = sample::SampleRole::new(sample::edge_reading());
        let (routes, tunnels) = (crate::control::Role::routes(&*role), crate::control::Role::tunnels(&*role));
        let served = [ServedRoutes { kind: RoleKind::Edge, routes, tunnels }];
        let json = sent(sample::report().status_body(&served));
        let golden = json!({
            "version": "0.1.0",
            "commit": "unknown",
            "roles": ["edge"],
            "state": "running",
            "driver": { "name": "epoll", "why": "epoll (as asked)" },
            "agent_url": "https://demo.test:8443/mcp",
            "plain_agent_url": null,
            "connectors_listen": "127.0.0.1:7844",
            "admin_url": "http://127.0.0.1:9443",
            "uptime_s": 61.2,
            "cores": [{
                "role": "edge", "core": 0, "calls_open": 3, "agents_open": 4, "sockets_open": 9, "tasks_open": 12,
                "buffers": {
                    "leased_bytes": 0, "allocated_bytes": 0, "receive_bytes": 0, "send_bytes": 0, "link_bytes": 0, "window_bytes": 0,
                    "allowance_bytes": 0, "waiting": 0, "limit_bytes": 0, "exhausted": 0
                },
                "last_good_call_s": 0.3,
            }],
            "cores_silent": 0,
            "links": [{
                "role": "edge", "id": 7, "core": 0, "tunnel": "tnl_demo", "peer": "adit/0.1.0",
                "connector": "000000000000002a", "streams": 3,
                "round_trip_us": 42.0, "transport": "quic",
                "quic": {
                    "round_trip_us": 40.0, "packets_sent": 900, "packets_lost": 3, "congestion_window_bytes": 64000,
                    "mtu_bytes": 1452, "ecn": true,
                },
                "age_s": 12.0, "draining": false,
            }],
            "certificates": [{
                "role": "edge", "of": "agents", "names": ["demo.test"], "issuer": "CN=demo", "expires_in_s": 86400,
                "renewal_due": true,
            }],
            "edges": [{
                "role": "edge", "edge": "edge.test:7844", "standing": "certified", "expires_in_s": 86400,
                "renews_in_s": 57600, "clock_ahead_s": -3, "trouble": null, "hosts_missing": ["other.test"],
            }],
            "upstreams": [{
                "route": "demo", "upstream": "http://127.0.0.1:9000", "connections_open": 2,
                "http2_connections_open": 1, "http2_streams_open": 3, "failing": true,
                "why": "the upstream 127.0.0.1:9000 refused the connection",
                "stdio": { "children": 2, "sessions": 3, "counts": { "exits": { "signal": 4 } } },
            }],
            "breakers": [{
                "role": "edge", "breaker": "tool", "route": "demo", "method": "tools/call", "tool": "search",
                "mode": "enforce", "state": "open", "retry_after_s": 4.3, "calls": 20, "failed": 12, "late": 1, "opened": 2,
                "refused": 31, "would_refuse": 4,
            }],
            "limits": [{
                "role": "edge", "route": "demo", "mode": "enforce", "limit": 12, "in_flight": 11, "waiting": 3, "agents": 2,
                "admitted": 400, "waited": 40, "refused": 7, "refused_for_share": 1, "would_refuse": 5,
            }],
            "routes": [{ "role": "edge", "host": "demo.test", "name": "demo", "tunnel": "tnl_demo" }],
            "tunnels": [
                { "role": "edge", "id": "tnl_demo", "links": 1, "hosts": [
                    { "host": "demo.test", "connectors": ["000000000000002a"], "unserved": false },
                    { "host": "spare.test", "connectors": [], "unserved": true },
                ] },
                { "role": "edge", "id": "tnl_spare", "links": 0, "hosts": [] },
            ],
            "counts": { "edge": { "links_ended": 5 } },
            "reload": {
                "applied": 2, "refused": 1, "faults": ["adit.toml:3: a", "adit.toml:4: b"],
                "restart_needed": ["engine.cores"],
            },
        });
        assert_eq!(json, golden, "{json:#}");
    }
}
