//! The tables of the edge: the tunnels of the configuration merged with those of the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::base::{Clock, CredentialId, Time, Traffic, TunnelId};
use crate::control::state::CORE_ANSWER_MAX;
use crate::control::store::{CredentialRow, OVERLAPS_REPORTED_MAX, Overlap, Tunnel};
use crate::control::wall_time::WallTime;
use crate::edge::{Edge, EdgeCommand, EdgeTables, Seals, TunnelCredential, TunnelEntry};
use crate::engine::{MonotonicClock, mailbox};
use crate::policy::{Admission, TunnelLists, Unmet};
use crate::route::{HostPattern, Route, RouteName};
use crate::tls::ClientConfig;

/// How often cores are asked to review their links, before the caller learns that some did not answer. The review then
/// continues in the background.
const REVIEWS_MAX: usize = 3;
/// The pause before cores are asked again.
const REVIEW_PAUSE: Duration = Duration::from_millis(50);
/// How long after the end of a credential links are reviewed, so that it has also ended by the cores' clock.
const END_SLACK: Duration = Duration::from_millis(5);

/// Keeps an edge's tables up to date with configuration and store.
pub struct Serving {
    edge: Arc<Edge>,
    cores: usize,
    seals: Arc<Seals>,
    parts: Mutex<Parts>,
    /// Raised when links must be reviewed.
    review_due: Notify,
    /// Raised when the ends of credentials may have changed.
    ends_changed: Notify,
    /// Held during a review, so that each ended link is counted once.
    reviewing: tokio::sync::Mutex<()>,
}

struct Parts {
    /// The tunnels of the configuration, and its admission rules for all tunnels.
    configured: EdgeTables,
    /// The tunnels of the store that are not archived.
    stored: HashMap<TunnelId, Tunnel>,
    /// When their credentials end, if links were not reviewed since.
    ends: BTreeSet<(WallTime, CredentialId)>,
    /// How many hosts have no room in the tables.
    left_out: usize,
}

/// The result of reviewing links whose credential is no longer valid, on all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReviewOutcome {
    /// Links that were ended.
    pub ended: usize,
    /// Links that end after their calls.
    pub draining: usize,
    /// Cores that did not answer.
    pub silent: usize,
}

impl Serving {
    /// Wraps an edge on this many cores, whose tables are those of the configuration. `seals` creates the TLS
    /// configurations for tunnels with resealed traffic.
    #[must_use]
    pub fn new(edge: Arc<Edge>, cores: usize, seals: Arc<Seals>) -> Arc<Serving> {
        let configured = EdgeTables::clone(&edge.tables());
        let parts = Mutex::new(Parts { configured, stored: HashMap::new(), ends: BTreeSet::new(), left_out: 0 });
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

    /// The edge whose tables are updated.
    #[must_use]
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    /// Serves a reloaded configuration, in addition to the tunnels of the store. Links whose secret was removed from it
    /// are ended soon afterwards.
    pub fn set_configured(&self, tables: &EdgeTables) {
        let mut parts = self.parts();
        parts.configured = tables.clone();
        for (tunnel, Overlap { host, theirs, tunnel: other }) in parts.overlaps().take(OVERLAPS_REPORTED_MAX) {
            tracing::warn!(%tunnel, %host, %other, %theirs, "hosts of two tunnels overlap");
        }
        let tables = parts.tables(&self.seals);
        self.edge.reload(tables);
        drop(parts);
        self.review_due.notify_one();
    }

    /// Serves exactly these tunnels of the store.
    pub fn set_stored(&self, tunnels: Vec<Tunnel>) {
        let mut parts = self.parts();
        parts.ends = tunnels.iter().flat_map(ends).collect();
        parts.stored = tunnels.into_iter().map(|tunnel| (tunnel.id.clone(), tunnel)).collect();
        let tables = parts.tables(&self.seals);
        self.edge.reload(tables);
        drop(parts);
        self.ends_changed.notify_one();
    }

    /// Serves one tunnel of the store as it is now, or stops if it is archived. The caller that revokes a credential
    /// reviews the links, and so does the end of a credential.
    /// revoked something, and when a credential ends.
    pub fn set_tunnel(&self, tunnel: Tunnel) {
        let mut parts = self.parts();
        let mut tables = EdgeTables::clone(&self.edge.tables());
        let id = tunnel.id.clone();
        parts.replace(tunnel, &mut tables, &self.seals);
        self.edge.reload_tunnel(tables, &id);
        drop(parts);
        self.ends_changed.notify_one();
    }

    /// The configured tunnel that a host belongs to, if one does.
    #[must_use]
    pub fn configured_owner(&self, host: &HostPattern) -> Option<TunnelId> {
        self.parts().configured.routes.get(host).map(|route| route.tunnel.clone())
    }

    /// The overlaps of these hosts with those of configured tunnels: at most `max`.
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

    /// Names in the lists that the edge does not know, if any.
    #[must_use]
    pub fn unmet(&self, lists: &TunnelLists) -> Option<Unmet> {
        unmet(lists, &self.parts().configured.admission)
    }

    /// A tunnel of the store whose lists have names that are unknown under this admission, and those names.
    #[must_use]
    pub fn unmet_by(&self, admission: &Admission) -> Option<(TunnelId, Unmet)> {
        let parts = self.parts();
        let unmet = |tunnel: &Tunnel| Some((tunnel.id.clone(), unmet(&tunnel.lists, admission)?));
        parts.stored.values().filter_map(unmet).min_by(|(one, _), (other, _)| one.cmp(other))
    }

    /// Makes every core review the credentials of its links.
    pub async fn review(&self) -> ReviewOutcome {
        let _one = self.reviewing.lock().await;
        let mut outcome = ReviewOutcome::default();
        for _ in 0..REVIEWS_MAX {
            let (reply, mut answers) = mailbox(self.cores);
            let asked = self.edge.command(|| EdgeCommand::Review(reply.clone()));
            drop(reply);
            let mut answered = 0;
            // After a timeout, the answers so far are counted, and the missing cores are asked again.
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
                "links ended or draining: their credential or address is no longer accepted"
            );
        }
        outcome
    }

    /// Reviews links whenever something changed or a credential ends, until it is dropped.
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
            let began = WallTime::now();
            self.review().await;
            self.forget_ends(began);
        }
    }

    /// The time until links must be reviewed because a credential ends; zero if that has passed.
    fn next_end(&self, now: WallTime) -> Option<Duration> {
        let parts = self.parts();
        parts.ends.first().map(|(end, _)| end.after(END_SLACK).since(now))
    }

    /// Forgets the ends that the review at `reviewed` has covered.
    fn forget_ends(&self, reviewed: WallTime) {
        let mut parts = self.parts();
        while parts.ends.first().is_some_and(|(end, _)| end.after(END_SLACK) <= reviewed) {
            parts.ends.pop_first();
        }
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    /// The overlaps of hosts of the store's tunnels, named first, with those of the configuration.
    fn overlaps(&self) -> impl Iterator<Item = (&TunnelId, Overlap)> {
        let hosts = self.stored.values().flat_map(|tunnel| tunnel.hosts.iter().map(move |host| (&tunnel.id, host)));
        hosts.flat_map(|(tunnel, host)| {
            let configured = self.configured.routes.iter().filter(|(theirs, _)| host.overlaps(theirs));
            configured.map(move |(theirs, route)| {
                (tunnel, Overlap { host: *host, theirs: *theirs, tunnel: route.tunnel.clone() })
            })
        })
    }

    /// The merged tables of configuration and store. If both have the same host or tunnel, the configuration takes
    /// precedence.
    fn tables(&mut self, seals: &Seals) -> EdgeTables {
        let mut tables = self.configured.clone();
        let mut stored: Vec<&Tunnel> = self.stored.values().collect();
        stored.sort_unstable_by_key(|tunnel| (tunnel.created_at, &tunnel.id));
        self.left_out = stored.into_iter().map(|tunnel| self.add(tunnel, &mut tables, seals)).sum();
        if self.left_out > 0 {
            tracing::error!(left_out = self.left_out, "there are more hosts than an edge can serve: some are left out");
        }
        tables
    }

    /// Replaces a tunnel in the tables.
    fn replace(&mut self, tunnel: Tunnel, tables: &mut EdgeTables, seals: &Seals) {
        if let Some(before) = self.stored.remove(&tunnel.id) {
            self.remove(&before, tables);
            for end in ends(&before) {
                self.ends.remove(&end);
            }
        }
        if tunnel.archived_at.is_none() {
            let left_out = self.add(&tunnel, tables, seals);
            self.left_out += left_out;
            self.ends.extend(ends(&tunnel));
            self.stored.insert(tunnel.id.clone(), tunnel);
        }
        if self.left_out > 0 {
            // Hosts that had no room before may have it now.
            *tables = self.tables(seals);
        }
    }

    /// Adds a tunnel of the store. Returns how many of its hosts had no room.
    fn add(&self, tunnel: &Tunnel, tables: &mut EdgeTables, seals: &Seals) -> usize {
        let id = &tunnel.id;
        if self.configured.tunnels.contains_key(id) {
            tracing::warn!(tunnel = %id, "the tunnel is also in the configuration, which takes precedence");
            return 0;
        }
        let (now, cores_now) = (WallTime::now(), MonotonicClock.now());
        let credential = |row: &CredentialRow| TunnelCredential {
            id: row.id.clone(),
            hash: row.hash.clone(),
            until: row.until.map_or(Time::NEVER, |until| until.on_cores(now, cores_now)),
        };
        let credentials = tunnel.known_credentials(now).map(credential).collect();
        let connectors_from = tunnel.lists.connectors_from.iter().copied().collect();
        admit(tunnel, &mut tables.admission);
        let (mut served, mut left_out) = (Vec::new(), 0);
        for host in &tunnel.hosts {
            let (name, own) = (RouteName::of_host(host), self.configured.overrides_in(host, id));
            let route = Route { name, tunnel: id.clone(), traffic: tunnel.traffic, own };
            if self.configured.routes.get(host).is_some() {
                tracing::warn!(tunnel = %id, %host, "the host is also in the configuration, which takes precedence");
            } else if route.is_beyond_policy() {
                tracing::error!(
                    tunnel = %id,
                    %host,
                    "the host is not served: it has a policy, pin or auth at the edge, which cannot read passthrough traffic. Set \
                     them at its connector instead"
                );
            } else if tables.routes.insert(*host, id.as_str(), route) {
                served.push(*host);
            } else {
                left_out += 1;
            }
        }
        let hosts = served.into_iter().collect();
        let entry =
            TunnelEntry { credentials, connectors_from, hosts, seal: seal(tunnel, seals), ..TunnelEntry::default() };
        tables.tunnels.insert(id.clone(), entry);
        left_out
    }

    /// Removes what [`add`](Parts::add) added.
    fn remove(&self, tunnel: &Tunnel, tables: &mut EdgeTables) {
        if self.configured.tunnels.contains_key(&tunnel.id) {
            return;
        }
        for host in &tunnel.hosts {
            if tables.routes.get(host).is_some_and(|route| route.tunnel == tunnel.id) {
                tables.routes.remove(host);
            }
        }
        tables.tunnels.remove(&tunnel.id);
        tables.admission.tunnels.remove(&tunnel.id);
    }
}

/// The end times of a tunnel's credentials that have one.
fn ends(tunnel: &Tunnel) -> impl Iterator<Item = (WallTime, CredentialId)> {
    let credentials = tunnel.credentials.iter().filter(|row| row.revoked_at.is_none());
    credentials.filter_map(|row| Some((row.until?, row.id.clone())))
}

/// The TLS configuration for the connectors of a tunnel with resealed traffic; `None` until an authority is registered.
fn seal(stored: &Tunnel, seals: &Seals) -> Option<Arc<ClientConfig>> {
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

/// Adds the admission of agents to a tunnel of the store. If its lists have an unknown name, no agent may call it, and
/// an error is logged.
fn admit(stored: &Tunnel, admission: &mut Admission) {
    let lists = &stored.lists;
    if lists.admits_all_agents() {
        return;
    }
    if let Some(unmet) = unmet(lists, admission) {
        tracing::error!(tunnel = %stored.id, %unmet, "no agent may call the tunnel: its lists name something unknown");
    }
    admission.tunnels.insert(stored.id.clone(), lists.rules(&admission.sets, admission.asns.is_some()));
}

fn unmet(lists: &TunnelLists, admission: &Admission) -> Option<Unmet> {
    lists.unmet(&admission.sets, admission.asns.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DeadlineOverrides, SharedMap};
    use crate::edge::AgentRoutes;
    use crate::policy::ToolPolicy;
    use crate::route::{RouteEntry, RouteOverrides, RouteTable};

    fn tunnel(id: &str, hosts: &[&str]) -> Tunnel {
        Tunnel {
            id: id.parse().expect("an id"),
            display_name: None,
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
            traffic: Traffic::Plain,
            lists: TunnelLists::default(),
            created_at: WallTime::now(),
            archived_at: None,
            provisioning_key: None,
            credentials: Vec::new(),
            authorities: Vec::new(),
        }
    }

    #[test]
    fn a_wildcard_of_the_configuration_is_found_to_cover_a_host_of_the_store() {
        let configured: TunnelId = "tnl_configured".parse().expect("an id");
        let target = Route {
            name: "all".parse().expect("a name"),
            tunnel: configured.clone(),
            traffic: Traffic::Plain,
            own: RouteOverrides::default(),
        };
        let entry = RouteEntry { host: "*.example.com".to_owned(), place: "tunnel[0]".to_owned(), target };
        let routes = RouteTable::new([entry]).unwrap_or_else(|_| panic!("one good route"));
        let stored = [tunnel("tnl_below", &["a.example.com"]), tunnel("tnl_beside", &["a.example.org"])];
        let parts = Parts {
            configured: EdgeTables {
                routes: routes.into(),
                hosts: RouteTable::default(),
                tunnels: SharedMap::default(),
                admission: Admission::default(),
            },
            stored: stored.map(|tunnel| (tunnel.id.clone(), tunnel)).into(),
            ends: BTreeSet::new(),
            left_out: 0,
        };
        let found: Vec<(String, String, TunnelId)> = parts
            .overlaps()
            .map(|(id, overlap)| (id.to_string(), overlap.theirs.to_string(), overlap.tunnel))
            .collect();
        assert_eq!(found, [("tnl_below".to_owned(), "*.example.com".to_owned(), configured)]);
    }

    #[test]
    fn a_host_of_the_store_has_the_settings_that_the_configuration_gives_it() {
        let own = |seconds| RouteOverrides {
            deadlines: DeadlineOverrides {
                ceiling: Some(Duration::from_secs(seconds)),
                ..DeadlineOverrides::default()
            },
            ..RouteOverrides::default()
        };
        let entry = |(host, seconds): (&str, u64)| RouteEntry {
            host: host.to_owned(),
            place: "host[0]".to_owned(),
            target: own(seconds),
        };
        let hosts = RouteTable::new([("*.t.test", 1), ("a.t.test", 2)].map(entry));
        let configured = EdgeTables {
            routes: AgentRoutes::default(),
            hosts: hosts.unwrap_or_else(|_| panic!("good hosts")),
            tunnels: SharedMap::default(),
            admission: Admission::default(),
        };
        let stored = [tunnel("tnl_s", &["a.t.test", "b.t.test", "*.t.test", "t.test", "*.a.t.test"])];
        let stored = stored.map(|tunnel| (tunnel.id.clone(), tunnel)).into();
        let mut parts = Parts { configured, stored, ends: BTreeSet::new(), left_out: 0 };
        let tables = parts.tables(&Seals::default());
        let of = |host: &str| tables.routes.get(&host.parse().expect("a host")).map(|route| route.own.clone());
        assert_eq!(of("a.t.test"), Some(own(2)));
        assert_eq!([of("b.t.test"), of("*.t.test")], [Some(own(1)), Some(own(1))]);
        assert_eq!(
            [of("t.test"), of("*.a.t.test")],
            [Some(RouteOverrides::default()), Some(RouteOverrides::default())]
        );
    }

    #[test]
    fn a_host_whose_policy_cannot_be_asked_is_not_served() {
        let policy = ToolPolicy::parse("[[rule]]\neffect = 'deny'\ntools = ['drop']\n").expect("a good policy");
        let target = RouteOverrides { policy: Some(Arc::new(policy)), ..RouteOverrides::default() };
        let hosts = RouteTable::new([RouteEntry { host: "*.t.test".into(), place: "host[0]".into(), target }]);
        let configured = EdgeTables {
            routes: AgentRoutes::default(),
            hosts: hosts.unwrap_or_else(|_| panic!("good hosts")),
            tunnels: SharedMap::default(),
            admission: Admission::default(),
        };
        let read = tunnel("tnl_read", &["read.t.test"]);
        let sealed = Tunnel { traffic: Traffic::Resealed, ..tunnel("tnl_sealed", &["sealed.t.test"]) };
        let blind = Tunnel { traffic: Traffic::Passthrough, ..tunnel("tnl_blind", &["blind.t.test", "t.test"]) };
        let stored = [read, sealed, blind].map(|tunnel| (tunnel.id.clone(), tunnel)).into();
        let mut parts = Parts { configured, stored, ends: BTreeSet::new(), left_out: 0 };
        let tables = parts.tables(&Seals::default());
        let is_served = |host: &str| tables.routes.get(&host.parse().expect("a host")).is_some();
        let served = ["read.t.test", "sealed.t.test", "blind.t.test", "t.test"].map(is_served);
        assert_eq!((served, parts.left_out), ([true, true, false, true], 0));
    }
}
