//! What the edge serves: the tunnels of the configuration and those of the store, put together.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::{Clock, Time, Traffic, TunnelId};
use crate::control::state::CORE_ANSWER_MAX;
use crate::control::store::{Overlap, ServedTunnel};
use crate::control::wall_time::WallTime;
use crate::edge::{Edge, EdgeCommand, EdgeTables, Seals, TunnelCredential, TunnelEntry};
use crate::engine::{MonotonicClock, mailbox};
use crate::policy::{Admission, TunnelLists, Unmet};
use crate::route::{HostPattern, ROUTES_MAX, Route, RouteEntry, RouteName, RouteTable};
use crate::tls::ClientConfig;

/// How often cores are asked to look at their links before whoever waits is told that some did not answer. They are asked
/// further in the background.
const REVIEWS_MAX: usize = 3;
/// How long to wait before they are.
const REVIEW_PAUSE: Duration = Duration::from_millis(50);

/// Keeps an edge's tables as configuration and store say.
pub struct Serving {
    edge: Arc<Edge>,
    cores: usize,
    seals: Arc<Seals>,
    parts: Mutex<Parts>,
    /// Raised when links are to be reviewed.
    review_due: Notify,
    /// Raised when the ends of credentials may have changed.
    ends_changed: Notify,
    /// Held during a review, so that each link is counted by one.
    reviewing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Parts {
    configured: Configured,
    stored: Vec<ServedTunnel>,
    /// Which reading of the store that is; an older one that comes late is not taken.
    revision: u64,
}

/// The tunnels that stand in the configuration, and who may come to any.
#[derive(Default)]
struct Configured {
    routes: Vec<(HostPattern, Route)>,
    tunnels: HashMap<TunnelId, TunnelEntry>,
    admission: Admission,
}

/// What became of links whose credential is no longer good, all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReviewOutcome {
    /// Links that were ended.
    pub ended: usize,
    /// Links that end when their calls have.
    pub draining: usize,
    /// Cores that did not answer.
    pub silent: usize,
}

impl Serving {
    /// For an edge on so many cores, which serves what its tables say now: the configuration. What is to be sealed again is
    /// by `seals`.
    #[must_use]
    pub fn new(edge: Arc<Edge>, cores: usize, seals: Arc<Seals>) -> Arc<Serving> {
        let configured = Configured::of(&edge.tables());
        let parts = Mutex::new(Parts { configured, ..Parts::default() });
        let (review_due, ends_changed) = (Notify::new(), Notify::new());
        Arc::new(Serving {
            edge,
            cores,
            seals,
            parts,
            review_due,
            ends_changed,
            reviewing: tokio::sync::Mutex::default(),
        })
    }

    /// The edge.
    #[must_use]
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Serves what a configuration says that was read again, besides what the store says. Links whose secret it no longer
    /// has are ended soon after.
    pub fn set_configured(&self, tables: &EdgeTables) {
        let mut parts = self.parts();
        parts.configured = Configured::of(tables);
        self.serve(&parts);
        drop(parts);
        self.review_due.notify_one();
    }

    /// Serves what the store says, unless a later reading is served already. Links are reviewed by whoever withdrew
    /// something, and when a credential comes to its end.
    pub fn set_stored(&self, revision: u64, stored: Vec<ServedTunnel>) {
        let mut parts = self.parts();
        if revision <= parts.revision {
            return;
        }
        (parts.revision, parts.stored) = (revision, stored);
        self.serve(&parts);
        drop(parts);
        self.ends_changed.notify_one();
    }

    /// The configured tunnel that a host belongs to, if one does.
    #[must_use]
    pub fn configured_owner(&self, host: &HostPattern) -> Option<TunnelId> {
        let parts = self.parts();
        parts.configured.routes.iter().find(|(taken, _)| taken == host).map(|(_, route)| route.tunnel.clone())
    }

    /// Where hosts overlap with those of tunnels of the configuration: at most so many.
    #[must_use]
    pub fn configured_overlaps(&self, hosts: &[HostPattern], max: usize) -> Vec<Overlap> {
        let parts = self.parts();
        let overlap = |host: &HostPattern, theirs: &HostPattern, route: &Route| {
            host.overlaps(theirs).then(|| Overlap { host: *host, theirs: *theirs, tunnel: route.tunnel.clone() })
        };
        let routes = parts.configured.routes.iter();
        let found =
            routes.flat_map(|(theirs, route)| hosts.iter().filter_map(move |host| overlap(host, theirs, route)));
        found.take(max).collect()
    }

    /// What lists name and the edge does not know, if there is something.
    #[must_use]
    pub fn unmet(&self, lists: &TunnelLists) -> Option<Unmet> {
        unmet(lists, &self.parts().configured.admission)
    }

    /// The first tunnel of the store whose lists name something that an edge with this admission would not know, and what
    /// that is.
    #[must_use]
    pub fn unmet_by(&self, admission: &Admission) -> Option<(TunnelId, Unmet)> {
        let parts = self.parts();
        parts.stored.iter().find_map(|stored| Some((stored.id.clone(), unmet(&stored.lists, admission)?)))
    }

    /// Whether a tunnel stands in the configuration.
    #[must_use]
    pub fn is_configured(&self, id: &TunnelId) -> bool {
        self.parts().configured.tunnels.contains_key(id)
    }

    /// Has every core look again at the credentials of its links.
    pub async fn review(&self) -> ReviewOutcome {
        let _one = self.reviewing.lock().await;
        let mut outcome = ReviewOutcome::default();
        for _ in 0..REVIEWS_MAX {
            let (reply, mut answers) = mailbox(self.cores);
            let asked = self.edge.command(|| EdgeCommand::Review(reply.clone()));
            drop(reply);
            let mut answered = 0;
            // Late or not: what was done is counted, and who is missing is asked again.
            let _ = timeout(CORE_ANSWER_MAX, async {
                while let Some(reviewed) = answers.recv().await {
                    answered += 1;
                    outcome.ended += reviewed.ended;
                    outcome.draining += reviewed.draining;
                }
            })
            .await;
            // Cores that have ended have no links.
            outcome.silent = if asked == 0 { 0 } else { self.cores - answered };
            if outcome.silent == 0 {
                break;
            }
            tokio::time::sleep(REVIEW_PAUSE).await;
        }
        if outcome.silent > 0 {
            self.review_due.notify_one();
        }
        if outcome.ended + outcome.draining > 0 {
            tracing::info!(
                ended = outcome.ended,
                draining = outcome.draining,
                "links that would not be let in any more"
            );
        }
        outcome
    }

    /// Reviews links whenever something changed or a credential comes to its end, until it is dropped.
    pub async fn keep_reviewing(self: Arc<Serving>) {
        loop {
            let next = self.next_end(WallTime::now());
            let end = async {
                match next {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.ends_changed.notified() => continue,
                () = self.review_due.notified() => {}
                () = end => {}
            }
            self.review().await;
        }
    }

    /// How long until the next credential ends.
    fn next_end(&self, now: WallTime) -> Option<Duration> {
        let parts = self.parts();
        let ends = parts.stored.iter().flat_map(|tunnel| &tunnel.credentials).filter_map(|(_, _, until)| *until);
        // A little later, so that it has ended by the cores' clock too.
        ends.filter(|end| *end > now).min().map(|end| end.since(now) + Duration::from_millis(5))
    }

    fn serve(&self, parts: &Parts) {
        let tables = parts.tables(WallTime::now(), &self.seals);
        self.edge.reload(tables);
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Configured {
    fn of(tables: &EdgeTables) -> Configured {
        Configured {
            routes: tables.routes.iter().map(|(host, route)| (*host, route.clone())).collect(),
            tunnels: tables.tunnels.clone(),
            admission: tables.admission.clone(),
        }
    }
}

impl Parts {
    /// Both together. Where they speak of the same host or tunnel, the configuration counts.
    fn tables(&self, now: WallTime, seals: &Seals) -> EdgeTables {
        let cores_now = MonotonicClock.now();
        let mut tunnels = self.configured.tunnels.clone();
        let mut admission = self.configured.admission.clone();
        let mut routes: Vec<RouteEntry<Route>> = Vec::new();
        let mut hosts = HashSet::new();
        for (host, route) in &self.configured.routes {
            hosts.insert(host.to_string());
            routes.push(entry(host, route.clone()));
        }
        for stored in &self.stored {
            if tunnels.contains_key(&stored.id) {
                tracing::warn!(tunnel = %stored.id, "the tunnel stands in the configuration too, which counts");
                continue;
            }
            let credential = |(id, hash, until): &(_, _, Option<WallTime>)| TunnelCredential {
                id: Clone::clone(id),
                hash: Clone::clone(hash),
                until: until.map_or(Time::NEVER, |until| until.on_cores(now, cores_now)),
            };
            let credentials = stored.credentials.iter().map(credential).collect();
            let connectors_from = stored.lists.connectors_from.iter().copied().collect();
            tunnels.insert(stored.id.clone(), TunnelEntry { credentials, connectors_from, seal: seal(stored, seals) });
            admit(stored, &mut admission);
            for host in &stored.hosts {
                if !hosts.insert(host.to_string()) {
                    tracing::warn!(tunnel = %stored.id, %host, "the host stands in the configuration too, which counts");
                    continue;
                }
                let name = RouteName::of_host(host);
                routes.push(entry(host, Route { name, tunnel: stored.id.clone(), traffic: stored.traffic }));
            }
        }
        if routes.len() > ROUTES_MAX {
            tracing::error!(left_out = routes.len() - ROUTES_MAX, "there are more hosts than can be served");
            routes.truncate(ROUTES_MAX);
        }
        let routes = RouteTable::new(routes).expect("no host stands twice, and there are not too many");
        EdgeTables { routes, tunnels, admission }
    }
}

/// With what the connectors of a tunnel are spoken to where its calls are sealed again; nothing before an authority is
/// registered.
fn seal(stored: &ServedTunnel, seals: &Seals) -> Option<Arc<ClientConfig>> {
    if stored.traffic != Traffic::Resealed || stored.authorities.is_empty() {
        return None;
    }
    let authorities: Result<Vec<_>, _> =
        stored.authorities.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())).collect();
    let made = authorities
        .map_err(|error| error.to_string())
        .and_then(|authorities| seals.for_tunnel(authorities).map_err(|error| error.to_string()));
    made.inspect_err(|why| tracing::error!(tunnel = %stored.id, why, "a registered certificate cannot be used")).ok()
}

/// Adds who may call a tunnel of the store. Where its lists name something that is not known nobody may, which is said.
fn admit(stored: &ServedTunnel, admission: &mut Admission) {
    let lists = &stored.lists;
    if lists.admits_all_agents() {
        return;
    }
    if let Some(unmet) = unmet(lists, admission) {
        tracing::error!(tunnel = %stored.id, %unmet, "no agent may call the tunnel: its lists name what is not known");
    }
    admission.tunnels.insert(stored.id.clone(), lists.rules(&admission.sets, admission.asns.is_some()));
}

fn unmet(lists: &TunnelLists, admission: &Admission) -> Option<Unmet> {
    lists.unmet(&admission.sets, admission.asns.is_some())
}

fn entry(host: &HostPattern, target: Route) -> RouteEntry<Route> {
    RouteEntry { host: host.to_string(), place: format!("the tunnel {}", target.tunnel), target }
}
