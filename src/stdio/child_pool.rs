//! The children of a route: those that all agents share, or those of each session or identity.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::base::Budget;
use crate::engine::{Core, Task};
use crate::stdio::child_permit::ChildPermit;
use crate::stdio::children::Children;
use crate::stdio::restart_policy::RestartPolicy;
use crate::stdio::running_child::RunningChild;
use crate::stdio::settings::{StdioSettings, StdioSharing};
use crate::stdio::stats::{StdioEvent, StdioStats};
use crate::stdio::supervisor;

/// The most bytes of messages of agents, and of events that are kept, each.
const MEMORY_MAX: usize = 64 * 1024 * 1024;
/// The bytes of each message that do not count.
const MEMORY_FREE: usize = 64 * 1024;

/// The children of a route, and who uses which.
pub(super) struct ChildPool {
    pub(super) core: Core,
    pub(super) settings: Arc<StdioSettings>,
    pub(super) stats: Arc<StdioStats>,
    /// By session or identity; all agents without one have an empty key.
    groups: RefCell<BTreeMap<Box<str>, Group>>,
    /// When children are started again that have failed before they served their session.
    session_restarts: Rc<RefCell<RestartPolicy>>,
    /// The number of children that run, or are about to be started.
    count: Rc<Cell<usize>>,
    /// Memory for messages of agents.
    pub(super) messages: Budget,
    /// Memory for events that are kept.
    pub(super) events: Budget,
}

/// Children, and the task that starts them.
struct Group {
    children: Rc<Children>,
    _starting: Task<()>,
}

/// Why a request gets no children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChildren {
    /// It names no session.
    NoSession,
    /// There is no such session.
    UnknownSession,
    /// Its revision has no sessions, by which the children are kept apart.
    Stateless,
    /// There are as many as allowed, and all are in use.
    Full,
}

/// What a request is for its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestPlace<'a> {
    /// It begins a session.
    Opens,
    /// It belongs to this session, if it names one.
    Session(Option<&'a [u8]>),
    /// Its revision has no sessions.
    Stateless,
}

/// The children for a request. Those of a session that is about to begin end with it, unless it has begun.
pub(super) struct ChildrenUse {
    pub(super) children: Rc<Children>,
    pool: Rc<ChildPool>,
    /// The id of the session that is about to begin.
    pub(super) opens: Option<Box<str>>,
}

impl ChildPool {
    pub(super) fn new(core: &Core, settings: Arc<StdioSettings>, stats: Arc<StdioStats>) -> ChildPool {
        ChildPool {
            core: core.clone(),
            groups: RefCell::default(),
            session_restarts: Rc::new(RefCell::new(RestartPolicy::new(settings.limits.restarts))),
            count: Rc::default(),
            messages: Budget::new(MEMORY_MAX, MEMORY_FREE),
            events: Budget::new(MEMORY_MAX, 0),
            settings,
            stats,
        }
    }

    /// Whether one group of children serves all agents.
    pub(super) fn is_shared(&self) -> bool {
        self.settings.sessions == StdioSharing::Shared
    }

    /// Whether each session has a child of its own.
    pub(super) fn is_per_session(&self) -> bool {
        self.settings.sessions == StdioSharing::PerSession
    }

    /// Whether children are started before they are needed, and stay.
    pub(super) fn starts_at_boot(&self) -> bool {
        self.is_shared() && self.settings.starts_at_boot
    }

    /// The children for a request of this caller.
    ///
    /// # Errors
    ///
    /// If it gets none.
    pub(super) fn children_for(
        self: &Rc<ChildPool>,
        caller: Option<&[u8]>,
        request: RequestPlace<'_>,
    ) -> Result<ChildrenUse, NoChildren> {
        let text = |key: &[u8]| std::str::from_utf8(key).ok().map(Box::<str>::from);
        let (key, opens) = match (self.settings.sessions, request) {
            (StdioSharing::Shared, _) => (Box::default(), None),
            (StdioSharing::PerIdentity, _) => (caller.map(text).unwrap_or(Some("".into())).unwrap_or_default(), None),
            (StdioSharing::PerSession, RequestPlace::Stateless) => return Err(NoChildren::Stateless),
            (StdioSharing::PerSession, RequestPlace::Opens) => {
                let id = new_id().ok_or(NoChildren::Full)?;
                (id.clone(), Some(id))
            }
            (StdioSharing::PerSession, RequestPlace::Session(id)) => {
                let id = id.ok_or(NoChildren::NoSession)?;
                let found = std::str::from_utf8(id).ok().and_then(|id| self.group(id));
                let children = found.ok_or(NoChildren::UnknownSession)?;
                return Ok(ChildrenUse { children, pool: Rc::clone(self), opens: None });
            }
        };
        let children = match self.group(&key) {
            Some(children) => children,
            None => self.add_group(key)?,
        };
        Ok(ChildrenUse { children, pool: Rc::clone(self), opens })
    }

    fn group(&self, key: &str) -> Option<Rc<Children>> {
        self.groups.borrow().get(key).map(|group| Rc::clone(&group.children))
    }

    /// Adds a group. One that is not used makes room for it.
    ///
    /// # Errors
    ///
    /// If all are in use.
    pub(super) fn add_group(self: &Rc<ChildPool>, key: Box<str>) -> Result<Rc<Children>, NoChildren> {
        if self.groups.borrow().len() >= self.settings.limits.children_max {
            let oldest = {
                let groups = self.groups.borrow();
                let unused = groups.values().map(|group| &group.children);
                let unused = unused.filter_map(|children| match children.is_empty() {
                    true => children.is_unused().then_some((crate::base::Time::ZERO, children)),
                    false => Some((children.unused_since()?, children)),
                });
                unused.min_by_key(|(since, _)| *since).map(|(_, children)| children.key.clone())
            };
            let Some(oldest) = oldest else { return Err(NoChildren::Full) };
            self.remove(&oldest, StdioEvent::Idled);
        }
        let restarts = match self.is_per_session() {
            true => Rc::clone(&self.session_restarts),
            false => Rc::new(RefCell::new(RestartPolicy::new(self.settings.limits.restarts))),
        };
        let children = Rc::new(Children::new(&self.core, key.clone(), restarts));
        let starting = self.core.spawn_held(supervisor::keep_started(Rc::clone(self), Rc::clone(&children)));
        self.groups.borrow_mut().insert(key, Group { children: Rc::clone(&children), _starting: starting });
        Ok(children)
    }

    /// Ends the children of a session or identity.
    pub(super) fn remove(&self, key: &str, reason: StdioEvent) {
        let removed = self.groups.borrow_mut().remove(key);
        if let Some(Group { children, _starting }) = removed {
            children.close(reason);
        }
    }

    /// Ends all children of the route.
    pub(super) fn close(&self) {
        let groups = self.groups.take();
        groups.into_values().for_each(|group| group.children.close(StdioEvent::Closed));
    }

    /// A place for another child. A child that is not used makes room for it.
    pub(super) fn admit(&self) -> Option<ChildPermit> {
        if self.count.get() >= self.settings.limits.children_max {
            let oldest: Option<Rc<RunningChild>> = {
                let groups = self.groups.borrow();
                let running = groups.values().flat_map(|group| group.children.running());
                let unused = running.filter_map(|child| Some((child.unused_since()?, child)));
                unused.min_by_key(|(since, _)| *since).map(|(_, child)| child)
            };
            oldest?.close(StdioEvent::Idled);
        }
        Some(ChildPermit::new(&self.count, &self.stats))
    }
}

impl ChildrenUse {
    /// Takes note that the session has begun, and keeps its children.
    pub(super) fn keep(&mut self) {
        if self.opens.take().is_some() {
            self.children.restarts.borrow_mut().on_good();
        }
    }
}

impl Drop for ChildrenUse {
    fn drop(&mut self) {
        if let Some(id) = &self.opens {
            self.pool.remove(id, StdioEvent::Closed);
        }
    }
}

/// A session id that nobody can guess.
pub(super) fn new_id() -> Option<Box<str>> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(crate::base::hex(&bytes).into())
}
