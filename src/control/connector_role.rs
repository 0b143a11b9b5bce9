use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::base::{Clock, CoreId, Time, Traffic};
use crate::connector::{
    Connector, ConnectorCommand, ConnectorEvent, ConnectorReport, ConnectorRoute, ConnectorTables, EdgeStatus,
    EdgeView, LinkReport, LinkState,
};
use crate::control::calls;
use crate::control::figures::CallFigures;
use crate::control::reading::{
    BoxFuture, CertificateState, CoreReading, EdgeReading, LinkReading, Role, RoleKind, RoleReading, RouteLine,
    StdioReading, UpstreamReading,
};
use crate::control::tasks;
use crate::control::thread::RoleEvent;
use crate::engine::{MailSender, MonotonicClock, mailbox};
use crate::latency::{BreakerReading, CallFilter, CallLine, CoreFigures, ForcedState, Label, Snapshot, TaskSnapshot};
use crate::route::HostPattern;
use crate::stdio::StdioEvent;

/// A connector, as seen by the control thread.
pub struct ConnectorRole {
    connector: Arc<Connector>,
    cores: usize,
    tunnel: String,
    figures: CallFigures,
}

impl ConnectorRole {
    /// Wraps a connector on this many cores, for the tunnel with this id.
    #[must_use]
    pub fn new(connector: Arc<Connector>, cores: usize, tunnel: String) -> ConnectorRole {
        ConnectorRole { connector, cores, tunnel, figures: CallFigures::default() }
    }
}

impl Role for ConnectorRole {
    fn kind(&self) -> RoleKind {
        RoleKind::Connector
    }

    fn identity_keys(&self) -> Vec<Value> {
        let tables = self.connector.tables();
        let header = tables.routes.targets().find_map(|route| route.auth.as_ref()?.terms().identity_header.as_ref());
        header.map(|header| header.signer.public_key()).into_iter().collect()
    }

    fn drain(&self) {
        self.connector.command(|| ConnectorCommand::Drain);
    }

    fn read(&self, wait: Duration) -> BoxFuture<'_, RoleReading> {
        Box::pin(async move {
            let (reply, mut answers) = mailbox(self.cores);
            self.connector.command(|| ConnectorCommand::Report(reply.clone()));
            drop(reply);
            let mut reading = RoleReading::new(RoleKind::Connector, self.cores);
            let mut upstreams = BTreeMap::new();
            let gathered = timeout(wait, async {
                while let Some(report) = answers.recv().await {
                    reading.links.extend(report.links.iter().map(|link| link_reading(&self.tunnel, report.core, link)));
                    add_upstreams(&mut upstreams, &report);
                    reading.cores.push(core(&report));
                }
            });
            // After a timeout, whatever has arrived is used. The reading shows how many cores are missing.
            let _ = gathered.await;
            add_children(&mut upstreams, &self.connector.tables());
            reading.cores.sort_unstable_by_key(|core| core.core);
            reading.links.sort_unstable_by_key(|link| link.id);
            reading.upstreams = upstreams.into_values().collect();
            let now = MonotonicClock.now();
            reading.edges = self.connector.edges().into_iter().map(|view| edge(view, now)).collect();
            reading.breakers = self.connector.breakers().readings(now);
            reading.limits = self.connector.limits();
            reading.counts = self.connector.counters().counts();
            reading.counts.extend(self.tasks().iter().flat_map(tasks::counts));
            reading.counts.extend(self.connector.audit().into_iter().flat_map(|audit| audit.counters().counts()));
            reading
        })
    }

    fn latency(&self, wait: Duration) -> BoxFuture<'_, Option<Arc<Snapshot>>> {
        Box::pin(async move {
            // The edge reports more about other traffic.
            let passed_through = |route: &ConnectorRoute| route.traffic == Traffic::Passthrough;
            if !self.connector.tables().routes.iter().any(|(_, route)| passed_through(route)) {
                return None;
            }
            let ask = |index, reply: &MailSender<CoreFigures>| {
                self.connector.command(|| ConnectorCommand::Figures(index, reply.clone()));
            };
            Some(self.figures.read(wait, self.cores, ask).await)
        })
    }

    fn calls(&self, filter: Arc<CallFilter>, wait: Duration) -> BoxFuture<'_, Vec<CallLine>> {
        Box::pin(calls::read(wait, self.cores, move |reply| {
            self.connector.command(|| ConnectorCommand::Calls(Arc::clone(&filter), reply.clone()));
        }))
    }

    fn force_breaker(&self, label: &Label, forced: Option<ForcedState>) -> Option<BreakerReading> {
        self.connector.breakers().force(label, forced, MonotonicClock.now())
    }

    fn tasks(&self) -> Option<TaskSnapshot> {
        Some(self.connector.tasks()?.snapshot(MonotonicClock.now()))
    }

    fn routes(&self) -> Vec<RouteLine> {
        let tables = self.connector.tables();
        let line = |(host, route): (&HostPattern, &ConnectorRoute)| RouteLine {
            host: host.to_string(),
            name: route.name.to_string(),
            tunnel: None,
            upstream: Some(route.upstream.url.to_string()),
        };
        tables.routes.iter().map(line).collect()
    }

    fn tunnels(&self) -> Vec<String> {
        vec![self.tunnel.clone()]
    }
}

impl From<ConnectorEvent> for RoleEvent {
    fn from(event: ConnectorEvent) -> RoleEvent {
        match event {
            ConnectorEvent::Linked { core, edge, link_index, .. } => {
                RoleEvent::Linked { core, link: link_index.into(), peer: edge.to_string() }
            }
            ConnectorEvent::Unlinked { core, edge, link_index, .. } => {
                RoleEvent::Unlinked { core, link: link_index.into(), peer: edge.to_string() }
            }
            ConnectorEvent::Refused { edge, why, .. } | ConnectorEvent::Failed { edge, why } => {
                RoleEvent::LinkFailed { peer: edge.to_string(), why }
            }
            ConnectorEvent::Certified { edge, lifetime, .. } => {
                RoleEvent::Certified { peer: edge.to_string(), lifetime_s: lifetime.as_secs() }
            }
            ConnectorEvent::Ended(core) => RoleEvent::Ended(core),
        }
    }
}

fn link_reading(tunnel: &str, core: CoreId, link: &LinkReport) -> LinkReading {
    LinkReading {
        // Link ids are unique across the cores of a connector.
        id: link.id.0,
        core,
        tunnel: tunnel.to_owned(),
        credential: None,
        peer: link.edge.to_string(),
        connector: None,
        hosts: None,
        streams: link.streams,
        round_trip: link.round_trip,
        quic: link.quic,
        age: link.age,
        idle: None,
        draining: link.state == LinkState::Draining,
    }
}

fn edge(view: EdgeView, now: Time) -> EdgeReading {
    let reading = EdgeReading {
        edge: view.edge.to_string(),
        clock_ahead_s: view.clock_skew.map(|skew| {
            let by = i64::try_from(skew.by.as_secs()).unwrap_or(i64::MAX);
            if skew.ahead { by } else { -by }
        }),
        trouble: view.last_error,
        hosts_missing: view.missing.iter().flat_map(|missing| missing.hosts.iter()).map(str::to_owned).collect(),
        ..EdgeReading::default()
    };
    match view.status {
        EdgeStatus::Unknown => EdgeReading { standing: CertificateState::Unknown, ..reading },
        EdgeStatus::Uncertified => EdgeReading { standing: CertificateState::Uncertified, ..reading },
        EdgeStatus::Certified { renew_at, until } => EdgeReading {
            standing: CertificateState::Certified,
            expires_in_s: Some((until - now).as_secs()),
            renews_in_s: Some((renew_at - now).as_secs()),
            ..reading
        },
    }
}

fn core(report: &ConnectorReport) -> CoreReading {
    CoreReading {
        core: report.core,
        calls_open: report.calls_open,
        sockets_open: report.sockets_open,
        tasks_open: report.tasks_open,
        pool: report.pool,
        ..CoreReading::default()
    }
}

fn add_upstreams(upstreams: &mut BTreeMap<(String, String), UpstreamReading>, report: &ConnectorReport) {
    for of_core in &report.upstreams {
        let (route, upstream) = (of_core.route.to_string(), of_core.upstream.clone());
        let all = upstreams.entry((route.clone(), upstream.clone()));
        let all = all.or_insert(UpstreamReading {
            route,
            upstream,
            connections_open: 0,
            http2_connections_open: 0,
            http2_streams_open: 0,
            failing: false,
            why: None,
            stdio: None,
        });
        all.connections_open += of_core.connections_open;
        all.http2_connections_open += of_core.http2_connections_open;
        all.http2_streams_open += of_core.http2_streams_open;
        all.failing |= of_core.failing.is_some();
        all.why = all.why.take().or_else(|| of_core.failing.clone());
    }
}

/// Adds the processes of routes whose upstream is a command, also of those that were not called.
fn add_children(upstreams: &mut BTreeMap<(String, String), UpstreamReading>, tables: &ConnectorTables) {
    for route in tables.routes.targets() {
        let Some(stdio_upstream) = &route.upstream.stdio else { continue };
        let stats = stdio_upstream.stats();
        let mut counts = BTreeMap::<String, BTreeMap<String, u64>>::new();
        for event in StdioEvent::ALL {
            let (family, kind) = event.names();
            counts.entry(family.to_owned()).or_default().insert(kind.to_owned(), stats.count(event));
        }
        let (name, url) = (route.name.to_string(), route.upstream.url.to_string());
        let reading = upstreams.entry((name.clone(), url.clone())).or_insert(UpstreamReading {
            route: name,
            upstream: url,
            connections_open: 0,
            http2_connections_open: 0,
            http2_streams_open: 0,
            failing: false,
            why: None,
            stdio: None,
        });
        reading.why = reading.why.take().or(stats.down().map(String::from));
        reading.failing = reading.why.is_some();
        reading.stdio = Some(StdioReading { children: stats.children(), sessions: stats.sessions(), counts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LinkId;
    use crate::connector::EdgeAddress;

    #[test]
    fn a_link_is_reported_under_the_id_that_the_core_gave_it() {
        let link = LinkReport {
            id: LinkId(5),
            edge: EdgeAddress { host: "edge.test".into(), port: 7844 },
            state: LinkState::Open,
            streams: 0,
            round_trip: None,
            quic: None,
            age: Duration::ZERO,
        };
        assert_eq!(link_reading("tnl_a", CoreId(1), &link).id, 5);
    }
}
