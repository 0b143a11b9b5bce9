//! The loop of the control thread: it waits for events of cores, signals and changed files, and ends the roles in order.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::base::CoreId;
use crate::control::reading::RoleKind;
use crate::control::service_manager::ServiceManager;
use crate::control::state::State;
use crate::control::watch::FileWatch;

/// How often watched files are checked. A change takes effect at the second check that sees it.
pub const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How much longer than its own limit a role may take to end before it counts as stuck.
pub const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// A further signal to end within this time after the first counts as the same request.
const REPEAT_MAX: Duration = Duration::from_millis(200);

/// An event of a core of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleEvent {
    /// The core is running, and listening if it has listeners.
    Running(CoreId),
    /// The core cannot run, and why.
    Failed(CoreId, String),
    /// The core has ended.
    Ended(CoreId),
    /// A link was established.
    Linked {
        /// The core that the link is on.
        core: CoreId,
        /// Its number: on an edge its id, on a connector its index among the links to that edge.
        link: u64,
        /// The tunnel that it is for (on an edge), or the edge that it goes to (on a connector).
        peer: String,
    },
    /// A link has ended.
    Unlinked {
        /// The core that the link is on.
        core: CoreId,
        /// The number of the link within its role.
        link: u64,
        /// The same as in [`RoleEvent::Linked`].
        peer: String,
    },
    /// No link could be established; the role tries again.
    LinkFailed {
        /// The edge that the connector tried to reach.
        peer: String,
        /// The reason, as a sentence.
        why: String,
    },
    /// An edge gave the connector a certificate.
    Certified {
        /// The edge that issued it.
        peer: String,
        /// How long it is valid, in seconds.
        lifetime_s: u64,
    },
}

/// A request to the process from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessRequest {
    /// End once calls in flight have ended. A second request ends the process at once.
    End,
    /// Read the configuration again.
    Reload,
}

/// A notice about the process, for the command that runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An event of a role.
    Role(RoleKind, RoleEvent),
    /// The process accepts no new work and finishes calls in flight.
    Draining,
    /// The configuration was reloaded.
    Reloaded,
    /// The new configuration has faults, which are listed one per line. The old one stays in effect.
    ReloadRefused(String),
}

/// The result of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Changed settings that take effect only after a restart.
    pub restart_needed: Vec<String>,
    /// The files to watch from now on.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration and every file that it names again, and applies them; otherwise changes nothing and returns
/// the faults, one per line.
pub type ReloadFn = Box<dyn FnMut() -> Result<Reloaded, String> + Send>;

/// Why the process failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A core could not run.
    #[error("core {core} of the {}: {why}", role.as_str())]
    Role {
        /// The role that failed.
        role: RoleKind,
        /// The core that failed.
        core: CoreId,
        /// The reason, as a sentence.
        why: String,
    },
    /// The roles did not end in time.
    #[error("the roles did not end within {} s", .0.as_secs())]
    Stuck(Duration),
    /// A second signal to end arrived before the roles had ended.
    #[error("ended at once because of a second stop request")]
    AtOnce,
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(#[from] std::io::Error),
}

/// The loop of the control thread.
pub struct Control {
    state: Arc<State>,
    /// The number of running cores of each role, in the order in which the roles end.
    left: Vec<(RoleKind, usize)>,
    events: mpsc::UnboundedReceiver<(RoleKind, RoleEvent)>,
    requests: mpsc::UnboundedReceiver<ProcessRequest>,
    reload: Option<ReloadFn>,
    watch: FileWatch,
    notify: Box<dyn FnMut(&Notice) + Send>,
    service_manager: Arc<ServiceManager>,
    drain_delay: Duration,
    drain_max: Duration,
    repeat_max: Duration,
    drain: Option<Drain>,
    failure: Option<ControlError>,
}

struct Drain {
    /// The role that is ending, by index.
    stage: usize,
    began: Instant,
    /// When the roles begin to end.
    starts: Instant,
    has_started: bool,
    deadline: Instant,
}

/// The parts of a [`Control`].
pub struct ControlParts {
    /// The state that the admin API shows.
    pub state: Arc<State>,
    /// The roles in the order in which they end, with their numbers of cores.
    pub roles: Vec<(RoleKind, usize)>,
    /// The events of the cores.
    pub events: mpsc::UnboundedReceiver<(RoleKind, RoleEvent)>,
    /// Requests from outside, as [`signals`](crate::control::signals) returns them.
    pub requests: mpsc::UnboundedReceiver<ProcessRequest>,
    /// How long all roles together may take to end: the sum of their settings plus [`DRAIN_GRACE`].
    pub drain_max: Duration,
}

impl Control {
    /// A loop that is not running yet.
    #[must_use]
    pub fn new(parts: ControlParts) -> Control {
        Control {
            state: parts.state,
            left: parts.roles,
            events: parts.events,
            requests: parts.requests,
            reload: None,
            watch: FileWatch::default(),
            notify: Box::new(|_| ()),
            service_manager: Arc::default(),
            drain_delay: Duration::ZERO,
            drain_max: parts.drain_max,
            repeat_max: REPEAT_MAX,
            drain: None,
            failure: None,
        }
    }

    /// Calls `reload` on request, and when one of these files has changed.
    #[must_use]
    pub fn with_reload(mut self, reload: ReloadFn, files: impl IntoIterator<Item = PathBuf>) -> Control {
        self.reload = Some(reload);
        self.watch.set(files);
        self
    }

    /// Delays the end of the roles after the request. Readiness reports the shutdown at once.
    #[must_use]
    pub fn with_drain_delay(mut self, delay: Duration) -> Control {
        self.drain_delay = delay;
        self
    }

    /// Calls `notify` for every notice.
    #[must_use]
    pub fn with_notices(mut self, notify: impl FnMut(&Notice) + Send + 'static) -> Control {
        self.notify = Box::new(notify);
        self
    }

    /// Tells this service manager of reloads and of the end.
    pub fn set_service_manager(&mut self, service_manager: &Arc<ServiceManager>) {
        self.service_manager = Arc::clone(service_manager);
    }

    /// Waits until every core of an edge listens. A connector reports nothing before it has a link.
    ///
    /// # Errors
    ///
    /// If a core cannot run; all cores have then ended.
    pub async fn started(&mut self) -> Result<(), ControlError> {
        let edges = self.left.iter().filter(|(kind, _)| *kind == RoleKind::Edge);
        let mut missing: usize = edges.map(|(_, cores)| cores).sum();
        while missing > 0 && self.failure.is_none() {
            let Some((role, event)) = self.events.recv().await else { break };
            missing -= usize::from(matches!(event, RoleEvent::Running(_)));
            self.on_event(role, event);
        }
        if self.failure.is_some() { self.run(std::future::pending()).await } else { Ok(()) }
    }

    /// Runs until the roles have ended, because of `stop`, a signal, or a failed core.
    ///
    /// # Errors
    ///
    /// If a core failed, the roles did not end in time, or were told to end at once.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), ControlError> {
        let mut stop = pin!(stop);
        let mut checks = interval(WATCH_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            if self.has_ended() {
                return self.failure.take().map_or(Ok(()), Err);
            }
            let deadline = self.drain.as_ref().map(|drain| drain.deadline);
            let starts = self.drain.as_ref().filter(|drain| !drain.has_started).map(|drain| drain.starts);
            tokio::select! {
                event = self.events.recv() => match event {
                    Some((role, event)) => self.on_event(role, event),
                    // All cores have ended, with or without an event.
                    None => return self.failure.take().map_or(Ok(()), Err),
                },
                Some(request) = self.requests.recv() => match request {
                    ProcessRequest::End if self.was_asked_before() => return Err(ControlError::AtOnce),
                    ProcessRequest::End => self.drain(self.drain_delay),
                    ProcessRequest::Reload => self.reload(),
                },
                () = &mut stop, if self.drain.is_none() => self.drain(self.drain_delay),
                () = sleep_until(starts.unwrap_or_else(Instant::now)), if starts.is_some() => self.start_drain(),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(self.failure.take().unwrap_or(ControlError::Stuck(self.drain_max)));
                }
                _ = checks.tick(), if self.reload.is_some() => self.check_files(),
            }
        }
    }

    /// Whether this request to end is a second one. A terminal or a supervisor may signal both the process and its
    /// group, which counts as one request.
    fn was_asked_before(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.began.elapsed() > self.repeat_max)
    }

    fn has_ended(&self) -> bool {
        self.drain.is_some() && self.left.iter().all(|(_, cores)| *cores == 0)
    }

    fn on_event(&mut self, role: RoleKind, event: RoleEvent) {
        (self.notify)(&Notice::Role(role, event.clone()));
        match event {
            RoleEvent::Failed(core, why) => {
                self.failure.get_or_insert(ControlError::Role { role, core, why });
                self.on_core_gone(role);
            }
            RoleEvent::Ended(core) => {
                if self.drain.is_none() {
                    let why = "it ended unexpectedly".to_owned();
                    self.failure.get_or_insert(ControlError::Role { role, core, why });
                }
                self.on_core_gone(role);
            }
            RoleEvent::Running(_)
            | RoleEvent::Linked { .. }
            | RoleEvent::Unlinked { .. }
            | RoleEvent::LinkFailed { .. }
            | RoleEvent::Certified { .. } => {}
        }
    }

    fn on_core_gone(&mut self, role: RoleKind) {
        if let Some((_, cores)) = self.left.iter_mut().find(|(kind, _)| *kind == role) {
            *cores = cores.saturating_sub(1);
        }
        // Without this core some connections would never be served, so all cores end.
        self.drain(Duration::ZERO);
        self.start_drain();
        self.next_stage();
        if self.has_ended() {
            let took_ms = self.drain.as_ref().map_or(0, |drain| drain.began.elapsed().as_millis());
            tracing::info!(took_ms, "all cores have ended");
        }
    }

    /// Reports the shutdown, and tells the roles to end after the delay, unless this has already begun.
    fn drain(&mut self, delay: Duration) {
        if self.drain.is_some() {
            return;
        }
        let began = Instant::now();
        let starts = began + delay;
        self.drain = Some(Drain { stage: 0, began, starts, has_started: false, deadline: starts + self.drain_max });
        self.state.on_draining();
        self.service_manager.on_stopping();
        if delay.is_zero() {
            self.start_drain();
        } else {
            let delay_ms = delay.as_millis();
            tracing::info!(delay_ms, "stop requested: /readyz answers 503; traffic is served for another delay_ms");
        }
    }

    /// Begins to end the roles, unless this has already begun.
    fn start_drain(&mut self) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.has_started) else { return };
        drain.has_started = true;
        tracing::info!("draining: nothing new is accepted, calls in flight are finished");
        (self.notify)(&Notice::Draining);
        self.drain_role(0);
        self.next_stage();
    }

    /// Ends the next role when the previous one has ended.
    fn next_stage(&mut self) {
        while let Some(drain) =
            self.drain.as_mut().filter(|drain| self.left.get(drain.stage).is_some_and(|(_, n)| *n == 0))
        {
            drain.stage += 1;
            let stage = drain.stage;
            self.drain_role(stage);
        }
    }

    fn drain_role(&self, stage: usize) {
        let Some((kind, _)) = self.left.get(stage) else { return };
        self.state.roles.iter().filter(|role| role.kind() == *kind).for_each(|role| role.drain());
    }

    /// Reloads if a watched file has changed.
    fn check_files(&mut self) {
        let changed = self.watch.look();
        if !changed.is_empty() {
            tracing::info!(files = ?changed, "files have changed");
            self.reload();
        }
    }

    fn reload(&mut self) {
        let Some(reload) = &mut self.reload else {
            tracing::info!("a reload was requested, but this command has no configuration to reload");
            return;
        };
        self.service_manager.on_reloading();
        let notice = match reload() {
            Ok(reloaded) => {
                self.watch.set(reloaded.files);
                let mut reloads = self.state.reloads();
                reloads.applied += 1;
                reloads.faults = None;
                reloads.restart_needed = reloaded.restart_needed;
                if reloads.restart_needed.is_empty() {
                    tracing::info!("the configuration was reloaded");
                } else {
                    tracing::warn!(after_restart = ?reloads.restart_needed, "the configuration was reloaded, except for settings that need a restart");
                }
                Notice::Reloaded
            }
            Err(faults) => {
                let mut reloads = self.state.reloads();
                reloads.refused += 1;
                reloads.faults = Some(faults.clone());
                for fault in faults.lines() {
                    tracing::error!(fault, "the configuration was not reloaded; the old one stays in effect");
                }
                Notice::ReloadRefused(faults)
            }
        };
        self.service_manager.on_ready();
        (self.notify)(&notice);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use futures_lite::future;

    use super::*;
    use crate::control::reading::{Role, RoleReading};
    use crate::control::sample::{self, SampleRole};

    struct TestBed {
        control: Control,
        events: mpsc::UnboundedSender<(RoleKind, RoleEvent)>,
        requests: mpsc::UnboundedSender<ProcessRequest>,
        roles: [Arc<SampleRole>; 2],
        notices: Arc<Mutex<Vec<Notice>>>,
    }

    fn test_bed() -> TestBed {
        let roles = [RoleKind::Edge, RoleKind::Connector].map(|kind| SampleRole::new(RoleReading::new(kind, 1)));
        let (event_sender, events) = mpsc::unbounded_channel();
        let (request_sender, requests) = mpsc::unbounded_channel();
        let state = State::new(sample::facts(), vec![roles[0].clone(), roles[1].clone()], None);
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let seen = Arc::clone(&notices);
        let control = Control::new(ControlParts {
            state,
            roles: vec![(RoleKind::Edge, 1), (RoleKind::Connector, 1)],
            events,
            requests,
            drain_max: Duration::from_secs(30),
        })
        .with_notices(move |notice| seen.lock().unwrap().push(notice.clone()));
        TestBed { control, events: event_sender, requests: request_sender, roles, notices }
    }

    impl TestBed {
        fn send(&self, role: RoleKind, event: RoleEvent) {
            self.events.send((role, event)).unwrap();
        }

        fn drains(&self) -> [usize; 2] {
            [0, 1].map(|at: usize| self.roles[at].drains.load(Ordering::Relaxed))
        }
    }

    const CORE: CoreId = CoreId(0);

    #[tokio::test]
    async fn the_edge_ends_first_and_the_connector_after_it() {
        let mut bed = test_bed();
        bed.send(RoleKind::Edge, RoleEvent::Running(CORE));
        bed.control.started().await.unwrap();
        bed.control.drain(Duration::ZERO);
        assert_eq!(bed.drains(), [1, 0]);
        bed.control.on_event(RoleKind::Edge, RoleEvent::Ended(CORE));
        assert_eq!(bed.drains(), [1, 1]);
        bed.send(RoleKind::Connector, RoleEvent::Ended(CORE));
        bed.control.run(std::future::pending()).await.unwrap();
        assert!(bed.control.state.is_draining());
    }

    #[tokio::test]
    async fn a_second_request_to_end_ends_at_once() {
        let mut bed = test_bed();
        bed.control.repeat_max = Duration::ZERO;
        bed.requests.send(ProcessRequest::End).unwrap();
        bed.requests.send(ProcessRequest::End).unwrap();
        assert!(matches!(bed.control.run(std::future::pending()).await, Err(ControlError::AtOnce)));
        assert_eq!(bed.drains(), [1, 0]);
    }

    #[tokio::test]
    async fn with_a_delay_readiness_falls_before_the_roles_drain() {
        for (delay, core_fails) in [(Duration::from_secs(3_600), true), (Duration::from_millis(1), false)] {
            let mut bed = test_bed();
            bed.control.drain_delay = delay;
            bed.requests.send(ProcessRequest::End).unwrap();
            assert!(future::poll_once(bed.control.run(std::future::pending())).await.is_none());
            assert!(bed.control.state.is_draining());
            assert_eq!((bed.drains(), bed.notices.lock().unwrap().len()), ([0, 0], 0));
            let roles = bed.roles.clone();
            let ended = async {
                if core_fails {
                    bed.events.send((RoleKind::Edge, RoleEvent::Failed(CORE, "it broke".to_owned()))).unwrap();
                }
                for role in roles {
                    while role.drains.load(Ordering::Relaxed) == 0 {
                        tokio::task::yield_now().await;
                    }
                    bed.events.send((role.kind(), RoleEvent::Ended(CORE))).unwrap();
                }
            };
            let (run, ()) = tokio::join!(bed.control.run(std::future::pending()), ended);
            assert_eq!(run.is_err(), core_fails, "a core that fails ends all without a delay");
        }
    }

    #[tokio::test]
    async fn a_repeat_of_the_first_signal_is_not_a_second() {
        let mut bed = test_bed();
        bed.control.repeat_max = Duration::from_secs(3_600);
        bed.requests.send(ProcessRequest::End).unwrap();
        bed.requests.send(ProcessRequest::End).unwrap();
        bed.send(RoleKind::Edge, RoleEvent::Running(CORE));
        let ended = async {
            while !bed.requests.is_closed() && bed.roles[0].drains.load(Ordering::Relaxed) == 0 {
                tokio::task::yield_now().await;
            }
            bed.events.send((RoleKind::Edge, RoleEvent::Ended(CORE))).unwrap();
            bed.events.send((RoleKind::Connector, RoleEvent::Ended(CORE))).unwrap();
        };
        let (run, ()) = tokio::join!(bed.control.run(std::future::pending()), ended);
        run.unwrap();
    }

    #[tokio::test]
    async fn roles_that_do_not_end_in_time_are_an_error() {
        let mut bed = test_bed();
        bed.control.drain_max = Duration::ZERO;
        assert!(matches!(bed.control.run(async {}).await, Err(ControlError::Stuck(_))));
    }

    #[tokio::test]
    async fn a_core_that_cannot_run_ends_all_and_is_the_error() {
        let mut bed = test_bed();
        bed.send(RoleKind::Edge, RoleEvent::Failed(CORE, "cannot listen".to_owned()));
        bed.send(RoleKind::Connector, RoleEvent::Ended(CORE));
        let error = bed.control.started().await.unwrap_err();
        assert_eq!(error.to_string(), "core 0 of the edge: cannot listen");
        assert_eq!(bed.drains(), [1, 1]);
    }

    #[tokio::test]
    async fn a_core_that_ends_by_itself_is_an_error() {
        let mut bed = test_bed();
        bed.send(RoleKind::Edge, RoleEvent::Ended(CORE));
        bed.send(RoleKind::Connector, RoleEvent::Ended(CORE));
        assert!(bed.control.run(std::future::pending()).await.is_err());
    }

    #[tokio::test]
    async fn a_faulty_configuration_is_refused_whole_and_counted() {
        let mut bed = test_bed();
        let answers = Arc::new(Mutex::new(vec![
            Ok(Reloaded { restart_needed: vec!["engine.cores".to_owned()], files: Vec::new() }),
            Err("adit.toml:3: bad\nadit.toml:4: worse".to_owned()),
            Ok(Reloaded::default()),
        ]));
        let next = Arc::clone(&answers);
        bed.control = bed.control.with_reload(Box::new(move || next.lock().unwrap().remove(0)), []);
        bed.control.reload();
        assert_eq!(bed.control.state.reloads().restart_needed, ["engine.cores"]);
        bed.control.reload();
        let reloads = bed.control.state.reloads().clone();
        assert_eq!((reloads.applied, reloads.refused), (1, 1));
        assert_eq!(reloads.faults.as_deref(), Some("adit.toml:3: bad\nadit.toml:4: worse"));
        bed.control.reload();
        let reloads = bed.control.state.reloads().clone();
        assert_eq!((reloads.applied, reloads.refused, reloads.faults, reloads.restart_needed.len()), (2, 1, None, 0));
        let notices = bed.notices.lock().unwrap();
        assert!(matches!(notices[..], [Notice::Reloaded, Notice::ReloadRefused(_), Notice::Reloaded]));
    }

    #[tokio::test]
    async fn a_watched_file_that_changes_is_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old.toml"), dir.path().join("new.toml"));
        std::fs::write(&old, "1").unwrap();
        std::fs::write(&new, "1").unwrap();
        let files = vec![new.clone()];
        let reload = move || Ok(Reloaded { restart_needed: Vec::new(), files: files.clone() });
        let mut bed = test_bed();
        bed.control = bed.control.with_reload(Box::new(reload), [old.clone()]);
        let mut applied_after_change_of = |file: &PathBuf| {
            std::fs::write(file, "22").unwrap();
            bed.control.check_files();
            bed.control.check_files();
            bed.control.state.reloads().applied
        };
        assert_eq!(applied_after_change_of(&old), 1);
        assert_eq!(applied_after_change_of(&new), 2, "the list of files is new after a reload");
    }
}
