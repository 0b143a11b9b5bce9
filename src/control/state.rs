//! The state that the tasks of the control thread share: the roles, and the state of the process as a whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::control::approval_counts::ApprovalCounts;
use crate::control::bodies::{CallsBody, HealthBody, HealthStatus, ReadyBody, SilentRole, TasksBody};
use crate::control::calls;
use crate::control::dashboard_counts::DashboardCounts;
use crate::control::inventories::Inventories;
use crate::control::otlp::counts::OtlpCounts;
use crate::control::probe::Prober;
use crate::control::reading::{Role, RoleKind, RoleReading};
use crate::control::report::{CallTimes, ProcessFacts, Reloads, Report, ServedRoutes};
use crate::control::tasks::TaskOrder;
use crate::engine::MonotonicClock;
use crate::latency::{BreakerReading, CallFilter, ForcedState, Label, Readiness, ReadinessSettings};

/// A core that takes longer than this to report its state counts as stuck.
pub const CORE_ANSWER_MAX: Duration = Duration::from_secs(1);

/// The state of the process, as the admin API shows it.
pub struct State {
    pub(super) facts: Arc<ProcessFacts>,
    pub(super) roles: Vec<Arc<dyn Role>>,
    started: Time,
    draining: AtomicBool,
    reloads: Mutex<Reloads>,
    readiness: Mutex<Readiness>,
    prober: Option<Prober>,
    inventories: OnceLock<Arc<Inventories>>,
    approvals: OnceLock<Arc<ApprovalCounts>>,
    otlp: OnceLock<Arc<OtlpCounts>>,
    /// What is counted of the dashboard.
    pub(super) dashboard: DashboardCounts,
    /// Held during a probe, whose result serves all requests that wait.
    probing: tokio::sync::Mutex<()>,
}

impl State {
    /// A process with these roles. `prober` tests the path when no call has proved it.
    #[must_use]
    pub fn new(facts: ProcessFacts, roles: Vec<Arc<dyn Role>>, prober: Option<Prober>) -> Arc<State> {
        Arc::new(State {
            facts: Arc::new(facts),
            roles,
            started: MonotonicClock.now(),
            draining: AtomicBool::new(false),
            reloads: Mutex::default(),
            readiness: Mutex::new(Readiness::new(ReadinessSettings::default())),
            prober,
            inventories: OnceLock::new(),
            approvals: OnceLock::new(),
            otlp: OnceLock::new(),
            dashboard: DashboardCounts::default(),
            probing: tokio::sync::Mutex::default(),
        })
    }

    /// Sets the inventories whose tools are reported.
    pub fn show_tools(&self, inventories: &Arc<Inventories>) {
        // A process has one set of inventories, from its start.
        let _ = self.inventories.set(Arc::clone(inventories));
    }

    /// Sets the counts of approvals that are reported.
    pub fn show_approvals(&self, counts: &Arc<ApprovalCounts>) {
        let _ = self.approvals.set(Arc::clone(counts));
    }

    /// Sets the counts of the export that are reported.
    pub fn show_otlp(&self, counts: &Arc<OtlpCounts>) {
        let _ = self.otlp.set(Arc::clone(counts));
    }

    /// The inventories of the tools of servers.
    pub(super) fn inventories(&self) -> &Arc<Inventories> {
        self.inventories.get_or_init(Arc::default)
    }

    /// Queries the roles, and assembles a report.
    pub async fn report(&self) -> Report {
        Report {
            latency: self.latency().await,
            facts: Arc::clone(&self.facts),
            uptime: MonotonicClock.now() - self.started,
            draining: self.is_draining(),
            roles: self.read().await,
            reloads: self.reloads().clone(),
            tools: self.inventories().counts(),
            approvals: self.approvals.get().map(|counts| counts.reading()),
            otlp: self.otlp.get().map(|counts| counts.reading()),
            dashboard: self.dashboard.reading(),
        }
    }

    /// The routes and tunnels of each role.
    #[must_use]
    pub fn served(&self) -> Vec<ServedRoutes> {
        let served =
            |role: &Arc<dyn Role>| ServedRoutes { kind: role.kind(), routes: role.routes(), tunnels: role.tunnels() };
        self.roles.iter().map(served).collect()
    }

    /// Forces a breaker in each role that has its route, or with `None` hands the decision back to the results. `None`
    /// if no role has the route, or there is no breaker to hand back.
    #[must_use]
    pub fn force_breaker(&self, label: &Label, forced: Option<ForcedState>) -> Option<BreakerReading> {
        let has_route = |role: &&Arc<dyn Role>| role.routes().iter().any(|line| *line.name == *label.route);
        let forced = self.roles.iter().filter(has_route).map(|role| role.force_breaker(label, forced));
        forced.fold(None, Option::or)
    }

    /// The results of configuration reloads so far.
    pub fn reloads(&self) -> MutexGuard<'_, Reloads> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that the process is shutting down.
    pub fn on_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.readiness().on_draining();
    }

    /// Whether the process is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether every core responds. During shutdown, cores that have ended are not expected to.
    pub async fn health(&self) -> HealthBody {
        let roles = self.read().await;
        let silent: Vec<SilentRole> = roles
            .iter()
            .filter(|role| !role.is_complete() && !self.is_draining())
            .map(|role| SilentRole {
                role: role.kind,
                cores: role.cores_asked as u64,
                answered: role.cores.len() as u64,
            })
            .collect();
        let status = if silent.is_empty() { HealthStatus::Ok } else { HealthStatus::Failing };
        HealthBody { status, silent }
    }

    /// Whether calls can be expected to succeed.
    pub async fn ready(&self) -> ReadyBody {
        let roles = self.read().await;
        match roles.iter().find(|role| role.kind == RoleKind::Edge) {
            Some(edge) => self.ready_edge(edge).await,
            None => self.ready_connector(&roles),
        }
    }

    /// The durations of calls, from the first role that keeps them. The edge is first, because it measures the whole
    /// path.
    async fn latency(&self) -> Option<CallTimes> {
        for role in &self.roles {
            if let Some(snapshot) = role.latency(CORE_ANSWER_MAX).await {
                return Some(CallTimes { measured_by: role.kind(), snapshot });
            }
        }
        None
    }

    /// The last calls of all roles that match `filter`.
    pub(super) async fn calls(&self, filter: CallFilter) -> CallsBody {
        let filter = Arc::new(filter);
        let mut read = Vec::with_capacity(self.roles.len());
        for role in &self.roles {
            read.push((role.kind(), role.calls(Arc::clone(&filter), CORE_ANSWER_MAX).await));
        }
        CallsBody { calls: calls::newest(&filter, read) }
    }

    /// The tasks of the first role that counts them.
    pub(super) fn tasks(&self, order: TaskOrder, limit: usize) -> TasksBody {
        TasksBody::of(self.roles.iter().find_map(|role| role.tasks()), order, limit)
    }

    pub(super) async fn read(&self) -> Vec<RoleReading> {
        let mut readings = Vec::with_capacity(self.roles.len());
        for role in &self.roles {
            readings.push(role.read(CORE_ANSWER_MAX).await);
        }
        readings
    }

    /// An edge is ready if a call, or otherwise a probe, went through the whole path recently.
    async fn ready_edge(&self, edge: &RoleReading) -> ReadyBody {
        if let Some(ago) = edge.last_good_call() {
            self.readiness().on_passed(before(MonotonicClock.now(), ago));
        }
        let failure = self.probe_if_due().await;
        match self.readiness().check(MonotonicClock.now()) {
            Ok(age) => ReadyBody::proven(millis(age)),
            Err(why) => ReadyBody { probe: failure, ..ReadyBody::not_ready(why.to_string()) },
        }
    }

    /// A connector cannot call itself through an edge. It is ready if a link takes streams.
    fn ready_connector(&self, roles: &[RoleReading]) -> ReadyBody {
        let open = roles.iter().flat_map(|role| &role.links).filter(|link| !link.draining).count();
        match (self.is_draining(), open) {
            (true, _) => ReadyBody::not_ready("draining"),
            (false, 0) => ReadyBody::not_ready("no link to an edge is up"),
            (false, open) => ReadyBody::linked(open as u64),
        }
    }

    async fn probe_if_due(&self) -> Option<String> {
        let prober = self.prober.as_ref()?;
        let _one = self.probing.lock().await;
        if !self.readiness().is_probe_due(MonotonicClock.now()) {
            return None;
        }
        let edges = self.roles.iter().filter(|role| role.kind() == RoleKind::Edge);
        let hosts: Vec<String> = edges.flat_map(|role| role.routes()).map(|route| route.host).collect();
        match prober.probe(&hosts).await {
            Ok(()) => {
                self.readiness().on_passed(MonotonicClock.now());
                None
            }
            Err(error) => {
                self.readiness().on_failed(MonotonicClock.now());
                Some(error.to_string())
            }
        }
    }

    fn readiness(&self) -> MutexGuard<'_, Readiness> {
        self.readiness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn before(now: Time, ago: Duration) -> Time {
    Time::from_nanos(now.as_nanos().saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{self, SampleRole};

    fn role(kind: RoleKind) -> Arc<SampleRole> {
        SampleRole::new(RoleReading { kind, ..sample::edge_reading() })
    }

    #[tokio::test]
    async fn only_the_first_role_with_call_times_is_asked_for_them() {
        let (edge, connector) = (role(RoleKind::Edge), role(RoleKind::Connector));
        let state = State::new(sample::facts(), vec![edge.clone(), connector.clone()], None);
        assert_eq!(state.report().await.latency_body(None).measured_by, Some(RoleKind::Edge));
        let asked = [&edge, &connector].map(|role| role.latency_requests.load(Ordering::Relaxed));
        assert_eq!(asked, [1, 0]);
    }

    #[tokio::test]
    async fn call_times_of_a_connector_alone_are_reported_as_its_own() {
        let state = State::new(sample::facts(), vec![role(RoleKind::Connector)], None);
        assert_eq!(state.report().await.latency_body(None).measured_by, Some(RoleKind::Connector));
    }
}
