//! What the control thread tells at one moment, and as JSON: `GET /v1/latency` and `GET /v1/status`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::control::reading::{CoreReading, LinkReading, RoleKind, RoleReading, RouteLine};
use crate::latency::{Distribution, LabelFigures, Outcome, Phase, Snapshot};

/// What does not change while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The version of the program.
    pub version: &'static str,
    /// The commit from which it was built.
    pub commit: &'static str,
    /// The driver of the cores.
    pub driver: String,
    /// Why that one.
    pub driver_why: String,
    /// Where agents call, as they write it.
    pub agent_url: Option<String>,
    /// Where connectors dial in.
    pub connectors_listen: Option<String>,
    /// Where this API is.
    pub admin_url: Option<String>,
}

/// How reloading went so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Reloads that took effect.
    pub applied: u64,
    /// Reloads that were refused, because something was wrong; what was before went on.
    pub refused: u64,
    /// What was wrong the last time, one fault on each line; none when the last one took effect.
    pub faults: Option<String>,
    /// Settings that differ from what runs and act only after a new start.
    pub restart_needed: Vec<String>,
}

/// The times of calls, and the role that measured them.
#[derive(Clone)]
pub struct CallTimes {
    /// The edge where there is one. A connector alone measures the calls that pass through to it encrypted.
    pub measured_by: RoleKind,
    /// The figures of all its cores.
    pub snapshot: Snapshot,
}

/// Everything that is told at one moment.
#[derive(Clone)]
pub struct Report {
    /// What does not change.
    pub facts: Arc<Facts>,
    /// Time since the start.
    pub uptime: Duration,
    /// Whether the process is ending.
    pub draining: bool,
    /// The roles, as their cores answered.
    pub roles: Vec<RoleReading>,
    /// The times of calls; none where no role keeps any.
    pub latency: Option<CallTimes>,
    /// How reloading went.
    pub reloads: Reloads,
}

/// What is served: the routes and tunnels of one role.
#[derive(Clone, Debug)]
pub struct Served {
    /// Which role.
    pub kind: RoleKind,
    /// Its routes.
    pub routes: Vec<RouteLine>,
    /// Its tunnels, without secrets.
    pub tunnels: Vec<String>,
}

impl Report {
    /// The body of `GET /v1/latency`, of all calls or those of one route.
    #[must_use]
    pub fn latency_json(&self, route: Option<&str>) -> Value {
        let nothing = Snapshot::new();
        let snapshot = self.latency.as_ref().map_or(&nothing, |latency| &latency.snapshot);
        let wanted = |name: &str| route.is_none_or(|route| route == name);
        let labels: Vec<Value> = snapshot
            .labels()
            .filter(|(label, _)| wanted(&label.route))
            .map(|(label, figures)| {
                let mut object = Map::from_iter([
                    ("route".to_owned(), json!(label.route)),
                    ("method".to_owned(), json!(label.method)),
                    ("tool".to_owned(), json!(label.tool)),
                ]);
                object.extend(figures_map(figures));
                Value::Object(object)
            })
            .collect();
        let total = match route {
            None => figures_json(snapshot.total()),
            Some(route) => figures_json(&snapshot.routes().remove(route).unwrap_or_default()),
        };
        json!({
            "measured_by": self.latency.as_ref().map(|latency| latency.measured_by),
            "route": route,
            "total": total,
            "labels": labels,
            "over_cap": snapshot.over_cap(),
        })
    }

    /// The body of `GET /v1/status`.
    #[must_use]
    pub fn status_json(&self, served: &[Served]) -> Value {
        let facts = &self.facts;
        let each = |rows: fn(&RoleReading) -> Vec<Value>| -> Vec<Value> { self.roles.iter().flat_map(rows).collect() };
        json!({
            "version": facts.version,
            "commit": facts.commit,
            "roles": self.roles.iter().map(|role| role.kind).collect::<Vec<_>>(),
            "state": if self.draining { "draining" } else { "running" },
            "driver": { "name": facts.driver, "why": facts.driver_why },
            "agent_url": facts.agent_url,
            "connectors_listen": facts.connectors_listen,
            "admin_url": facts.admin_url,
            "uptime_s": tenths(self.uptime.as_secs_f64()),
            "cores": each(|role| role.cores.iter().map(|core| core_json(role, core)).collect()),
            "cores_silent": self.roles.iter().map(|role| role.cores_asked - role.cores.len()).sum::<usize>(),
            "links": each(|role| role.links.iter().map(|link| link_json(role, link)).collect()),
            "certificates": each(|role| with_role(role, &role.certificates)),
            "edges": each(|role| with_role(role, &role.edges)),
            "upstreams": self.roles.iter().flat_map(|role| &role.upstreams).collect::<Vec<_>>(),
            "routes": served.iter().flat_map(routes_json).collect::<Vec<_>>(),
            "tunnels": served.iter().flat_map(|served| self.tunnels_json(served)).collect::<Vec<_>>(),
            "counts": self.roles.iter().map(counts_json).collect::<Map<_, _>>(),
            "reload": {
                "applied": self.reloads.applied,
                "refused": self.reloads.refused,
                "faults": self.reloads.faults.as_deref().map(|faults| faults.lines().collect::<Vec<_>>()),
                "restart_needed": self.reloads.restart_needed,
            },
        })
    }

    fn tunnels_json(&self, served: &Served) -> Vec<Value> {
        let links = |tunnel: &str| {
            let roles = self.roles.iter().filter(|role| role.kind == served.kind);
            roles.flat_map(|role| &role.links).filter(|link| link.tunnel == tunnel).count()
        };
        let line = |tunnel: &String| json!({ "role": served.kind, "id": tunnel, "links": links(tunnel) });
        served.tunnels.iter().map(line).collect()
    }
}

/// One phase: how many calls had it, and how long it took them.
#[must_use]
pub fn phase_json(distribution: &Distribution) -> Value {
    json!({
        "count": distribution.count(),
        "mean_us": micros(distribution.mean()),
        "p50_us": micros(distribution.quantile(0.50)),
        "p95_us": micros(distribution.quantile(0.95)),
        "p99_us": micros(distribution.quantile(0.99)),
        "max_us": micros(distribution.max()),
    })
}

/// Microseconds, to a tenth.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    tenths(duration.as_secs_f64() * 1e6)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn figures_json(figures: &LabelFigures) -> Value {
    Value::Object(figures_map(figures))
}

fn figures_map(figures: &LabelFigures) -> Map<String, Value> {
    let outcomes = Outcome::ALL.iter().filter(|outcome| figures.outcome(**outcome) > 0);
    let outcomes: Map<String, Value> =
        outcomes.map(|outcome| (outcome.name().to_owned(), json!(figures.outcome(*outcome)))).collect();
    let phases = Phase::ALL.iter().filter(|phase| figures.phase(**phase).count() > 0);
    let phases: Map<String, Value> =
        phases.map(|phase| (phase.name().to_owned(), phase_json(figures.phase(*phase)))).collect();
    Map::from_iter([
        ("calls".to_owned(), json!(figures.calls())),
        ("outcomes".to_owned(), Value::Object(outcomes)),
        ("phases".to_owned(), Value::Object(phases)),
        ("clock_disagreements".to_owned(), json!(figures.clock_disagreements())),
    ])
}

fn core_json(role: &RoleReading, core: &CoreReading) -> Value {
    json!({
        "role": role.kind,
        "core": core.core.0,
        "calls_open": core.calls_open,
        "agents_open": core.agents_open,
        "sockets_open": core.sockets_open,
        "buffers": {
            "leased_bytes": core.pool.leased_bytes,
            "allocated_bytes": core.pool.allocated_bytes,
            "receive_bytes": core.pool.receive_bytes,
            "send_bytes": core.pool.send_bytes,
            "link_bytes": core.pool.link_bytes,
            "allowance_bytes": core.pool.allowance_bytes,
            "waiting": core.pool.waiting,
            "limit_bytes": core.pool.bytes_max,
            "exhausted": core.pool.exhausted,
        },
        "last_good_call_s": core.last_good_call.map(|ago| tenths(ago.as_secs_f64())),
    })
}

fn link_json(role: &RoleReading, link: &LinkReading) -> Value {
    json!({
        "role": role.kind,
        "id": link.id,
        "core": link.core.0,
        "tunnel": link.tunnel,
        "peer": link.peer,
        "streams": link.streams,
        "round_trip_us": link.round_trip.map(micros),
        "age_s": tenths(link.age.as_secs_f64()),
        "draining": link.draining,
    })
}

fn with_role<T: Serialize>(role: &RoleReading, rows: &[T]) -> Vec<Value> {
    let line = |row: &T| {
        let mut line = json!(row);
        line["role"] = json!(role.kind);
        line
    };
    rows.iter().map(line).collect()
}

fn routes_json(served: &Served) -> Vec<Value> {
    let line = |route: &RouteLine| {
        let mut line = json!(route);
        line["role"] = json!(served.kind);
        line
    };
    served.routes.iter().map(line).collect()
}

fn counts_json(role: &RoleReading) -> (String, Value) {
    let counts: Map<String, Value> =
        role.counts.iter().map(|count| (count.name.to_owned(), json!(count.count))).collect();
    (role.kind.as_str().to_owned(), Value::Object(counts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn the_shape_of_latency_is_stable() {
        let json = sample::report().latency_json(None);
        let phase = |total: &Value, name: &str| total["phases"][name].clone();
        assert_eq!(
            phase(&json["total"], "tunnel"),
            json!({ "count": 2, "mean_us": 65.0, "p50_us": 65.0, "p95_us": 65.0, "p99_us": 65.0, "max_us": 65.0 })
        );
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&json), "labels measured_by over_cap route total");
        assert_eq!(keys(&json["total"]), "calls clock_disagreements outcomes phases");
        assert_eq!(keys(&json["total"]["phases"]), "connector edge total total_last tunnel upstream");
        assert_eq!(keys(&json["labels"][0]), "calls clock_disagreements method outcomes phases route tool");
        assert_eq!(json["total"]["outcomes"], json!({ "ok": 2, "offline": 1 }));
        assert_eq!((&json["measured_by"], &json["total"]["calls"]), (&json!("edge"), &json!(3)));
    }

    #[test]
    fn latency_of_one_route_is_that_routes_alone() {
        let report = sample::report();
        let demo = report.latency_json(Some("demo"));
        assert_eq!((&demo["total"]["calls"], demo["labels"].as_array().unwrap().len()), (&json!(3), 1));
        let other = report.latency_json(Some("other"));
        assert_eq!((&other["total"]["calls"], other["labels"].as_array().unwrap().len()), (&json!(0), 0));
    }

    #[test]
    fn without_an_edge_there_are_no_figures() {
        let mut report = sample::report();
        report.latency = None;
        let json = report.latency_json(None);
        assert_eq!((&json["measured_by"], &json["total"]["calls"]), (&Value::Null, &json!(0)));
    }

    #[test]
    fn the_shape_of_status_is_stable() {
        let role = sample::SampleRole::new(sample::edge_reading());
        let (routes, tunnels) = (crate::control::Role::routes(&*role), crate::control::Role::tunnels(&*role));
        let served = [Served { kind: RoleKind::Edge, routes, tunnels }];
        let json = sample::report().status_json(&served);
        let golden = json!({
            "version": "0.1.0",
            "commit": "unknown",
            "roles": ["edge"],
            "state": "running",
            "driver": { "name": "epoll", "why": "epoll (as asked)" },
            "agent_url": "https://demo.test:8443/mcp",
            "connectors_listen": "127.0.0.1:7844",
            "admin_url": "http://127.0.0.1:9443",
            "uptime_s": 61.2,
            "cores": [{
                "role": "edge", "core": 0, "calls_open": 3, "agents_open": 4, "sockets_open": 9,
                "buffers": {
                    "leased_bytes": 0, "allocated_bytes": 0, "receive_bytes": 0, "send_bytes": 0, "link_bytes": 0,
                    "allowance_bytes": 0, "waiting": 0, "limit_bytes": 0, "exhausted": 0
                },
                "last_good_call_s": 0.3,
            }],
            "cores_silent": 0,
            "links": [{
                "role": "edge", "id": 7, "core": 0, "tunnel": "tnl_demo", "peer": "adit/0.1.0", "streams": 3,
                "round_trip_us": 42.0, "age_s": 12.0, "draining": false,
            }],
            "certificates": [{
                "role": "edge", "of": "agents", "names": ["demo.test"], "issuer": "CN=demo", "expires_in_s": 86400,
                "renewal_due": true,
            }],
            "edges": [{
                "role": "edge", "edge": "edge.test:7844", "standing": "certified", "expires_in_s": 86400,
                "renews_in_s": 57600, "clock_ahead_s": -3, "trouble": null,
            }],
            "upstreams": [{
                "route": "demo", "upstream": "http://127.0.0.1:9000", "connections_open": 2, "failing": true,
                "why": "the upstream 127.0.0.1:9000 refused the connection",
            }],
            "routes": [{ "role": "edge", "host": "demo.test", "name": "demo", "tunnel": "tnl_demo" }],
            "tunnels": [
                { "role": "edge", "id": "tnl_demo", "links": 1 },
                { "role": "edge", "id": "tnl_spare", "links": 0 },
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
