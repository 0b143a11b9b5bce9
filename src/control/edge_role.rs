use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::Value;
use tokio::time::timeout;

use crate::base::{Clock, TunnelId};
use crate::control::calls;
use crate::control::figures::CallFigures;
use crate::control::reading::{
    BoxFuture, CertificateReading, CoreReading, HostReading, LinkReading, Role, RoleKind, RoleReading, RouteLine,
    TunnelReading, connector_name,
};
use crate::control::tasks;
use crate::control::thread::RoleEvent;
use crate::edge::{CoreReport, Edge, EdgeCommand, EdgeEvent, HostService, LinkReport};
use crate::engine::{MailSender, MonotonicClock, mailbox};
use crate::latency::{BreakerReading, CallFilter, CallLine, CoreFigures, ForcedState, Label, Snapshot, TaskSnapshot};
use crate::tls::CertInfo;

/// An edge, as seen by the control thread.
pub struct EdgeRole {
    edge: Arc<Edge>,
    cores: usize,
    certificates: Vec<(&'static str, Certificate)>,
    figures: CallFigures,
}

/// Returns a certificate in use. It may change between calls.
type Certificate = Box<dyn Fn() -> Option<CertificateDer<'static>> + Send + Sync>;

impl EdgeRole {
    /// Wraps an edge on this many cores.
    #[must_use]
    pub fn new(edge: Arc<Edge>, cores: usize) -> EdgeRole {
        EdgeRole { edge, cores, certificates: Vec::new(), figures: CallFigures::default() }
    }

    /// Also reports this certificate, as it is at each reading.
    #[must_use]
    pub fn with_certificate(
        mut self,
        of: &'static str,
        found: impl Fn() -> Option<CertificateDer<'static>> + Send + Sync + 'static,
    ) -> EdgeRole {
        self.certificates.push((of, Box::new(found)));
        self
    }
}

impl Role for EdgeRole {
    fn kind(&self) -> RoleKind {
        RoleKind::Edge
    }

    fn identity_keys(&self) -> Vec<Value> {
        let tables = self.edge.tables();
        let auths = || tables.routes.targets().filter_map(|route| route.own.auth.as_ref());
        let header = auths().find_map(|auth| auth.terms().identity_header.as_ref());
        let forwarder = auths().find_map(|auth| auth.forwarder());
        let forwarding = forwarder.into_iter().flat_map(|forwarder| forwarder.keys.public_keys());
        header.map(|header| header.signer.public_key()).into_iter().chain(forwarding).collect()
    }

    fn drain(&self) {
        self.edge.command(|| EdgeCommand::Drain);
    }

    fn read(&self, wait: Duration) -> BoxFuture<'_, RoleReading> {
        Box::pin(async move {
            let (reply, mut answers) = mailbox(self.cores);
            self.edge.command(|| EdgeCommand::Report(reply.clone()));
            drop(reply);
            let mut reading = RoleReading::new(RoleKind::Edge, self.cores);
            let gathered = timeout(wait, async {
                while let Some(report) = answers.recv().await {
                    add(&mut reading, report);
                }
            });
            // After a timeout, whatever has arrived is used. The reading shows how many cores are missing.
            let _ = gathered.await;
            let now = UnixTime::now();
            reading.certificates = self.certificates.iter().filter_map(|found| certificate(found, now)).collect();
            reading.counts = self.edge.counters().counts();
            reading.counts.extend(self.edge.audit().into_iter().flat_map(|audit| audit.counters().counts()));
            reading.breakers = self.edge.breakers().readings(MonotonicClock.now());
            reading.limits = self.edge.limits();
            reading.counts.extend(self.tasks().iter().flat_map(tasks::counts));
            reading.tunnels = self.edge.service().into_iter().map(tunnel).collect();
            reading
        })
    }

    fn latency(&self, wait: Duration) -> BoxFuture<'_, Option<Arc<Snapshot>>> {
        Box::pin(async move {
            let ask = |index, reply: &MailSender<CoreFigures>| {
                self.edge.command(|| EdgeCommand::Figures(index, reply.clone()));
            };
            Some(self.figures.read(wait, self.cores, ask).await)
        })
    }

    fn calls(&self, filter: Arc<CallFilter>, wait: Duration) -> BoxFuture<'_, Vec<CallLine>> {
        Box::pin(calls::read(wait, self.cores, move |reply| {
            self.edge.command(|| EdgeCommand::Calls(Arc::clone(&filter), reply.clone()));
        }))
    }

    fn force_breaker(&self, label: &Label, forced: Option<ForcedState>) -> Option<BreakerReading> {
        self.edge.breakers().force(label, forced, MonotonicClock.now())
    }

    fn tasks(&self) -> Option<TaskSnapshot> {
        Some(self.edge.tasks()?.snapshot(MonotonicClock.now()))
    }

    fn routes(&self) -> Vec<RouteLine> {
        let tables = self.edge.tables();
        let line = |(host, route): (&crate::route::HostPattern, &crate::route::Route)| RouteLine {
            host: host.to_string(),
            name: route.name.to_string(),
            tunnel: Some(route.tunnel.to_string()),
            upstream: None,
        };
        tables.routes.iter().map(line).collect()
    }

    fn tunnels(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.edge.tables().tunnels.keys().map(ToString::to_string).collect();
        ids.sort_unstable();
        ids
    }
}

impl From<EdgeEvent> for RoleEvent {
    fn from(event: EdgeEvent) -> RoleEvent {
        match event {
            EdgeEvent::Listening(core) => RoleEvent::Running(core),
            EdgeEvent::Failed(core, why) => RoleEvent::Failed(core, why),
            EdgeEvent::Ended(core) => RoleEvent::Ended(core),
            EdgeEvent::Linked { core, link, tunnel, .. } => {
                RoleEvent::Linked { core, link: link.0, peer: tunnel.to_string() }
            }
            EdgeEvent::Unlinked { core, link, tunnel } => {
                RoleEvent::Unlinked { core, link: link.0, peer: tunnel.to_string() }
            }
        }
    }
}

fn add(reading: &mut RoleReading, report: CoreReport) {
    reading.links.extend(report.links.into_iter().map(link));
    reading.cores.push(CoreReading {
        core: report.core,
        calls_open: report.calls_open,
        agents_open: report.agents_open,
        sockets_open: report.sockets_open,
        tasks_open: report.tasks_open,
        pool: report.pool,
        last_good_call: report.last_good_call,
    });
    reading.cores.sort_unstable_by_key(|core| core.core);
    reading.links.sort_unstable_by_key(|link| link.id);
}

fn link(link: LinkReport) -> LinkReading {
    LinkReading {
        id: link.id.0,
        core: link.core,
        tunnel: link.tunnel.to_string(),
        credential: Some(link.credential.to_string()),
        peer: link.software.into(),
        connector: Some(connector_name(link.connector)),
        hosts: link.hosts.map(|hosts| hosts.iter().map(str::to_owned).collect()),
        streams: link.streams,
        round_trip: link.round_trip,
        quic: link.quic,
        age: link.age,
        idle: Some(link.idle),
        draining: link.draining,
    }
}

fn tunnel((id, hosts): (TunnelId, Vec<HostService>)) -> TunnelReading {
    let host = |HostService { host, connectors, unserved }| HostReading {
        host,
        connectors: connectors.into_iter().map(connector_name).collect(),
        unserved,
    };
    TunnelReading { id: id.to_string(), hosts: hosts.into_iter().map(host).collect() }
}

fn certificate((of, found): &(&'static str, Certificate), now: UnixTime) -> Option<CertificateReading> {
    let info = CertInfo::of_der(&found()?)?;
    Some(CertificateReading {
        of: (*of).to_owned(),
        expires_in_s: info.expires_in_s(now),
        renewal_due: info.is_renewal_due(now),
        names: info.names,
        issuer: info.issuer,
    })
}
