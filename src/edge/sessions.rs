//! Idle inner TLS sessions with connectors, kept so that the next call needs no handshake.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Clock, LinkId, Time, TunnelId};
use crate::engine::{ByteStream, Core};
use crate::link::CarrierStream;
use crate::tls::{ClientConfig, TlsStream};

/// The most idle sessions of one core, over all hosts. Further sessions are closed.
const IDLE_MAX: usize = 1_024;
/// How long a session may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The idle sessions of one core.
#[derive(Default)]
pub(super) struct IdleSessions {
    by_host: RefCell<HashMap<Box<str>, Vec<IdleSession>>>,
    count: Cell<usize>,
    sweeping: Cell<bool>,
}

/// A session between two calls.
pub(super) struct IdleSession {
    pub(super) session: Box<TlsStream<CarrierStream>>,
    pub(super) seal: Seal,
    pub(super) since: Time,
}

/// The tunnel of a session, and the TLS configuration under which it was made. A session is reused only for the same
/// two.
pub(super) struct Seal {
    pub(super) tunnel: TunnelId,
    pub(super) config: Arc<ClientConfig>,
}

impl IdleSessions {
    /// Whether there is room for one more.
    pub(super) fn has_room(&self) -> bool {
        self.count.get() < IDLE_MAX
    }

    /// Closes the idle sessions on a link that drains.
    pub(super) fn close_on(&self, link: LinkId) {
        self.retain(|idle| idle.session.inner().carrier_id() != link);
    }

    /// Takes a usable session for a host on this link, if there is one.
    pub(super) fn take(
        &self,
        host: &str,
        link: LinkId,
        tunnel: &TunnelId,
        config: &Arc<ClientConfig>,
    ) -> Option<IdleSession> {
        let mut by_host = self.by_host.borrow_mut();
        let kept = by_host.get_mut(host)?;
        let mut at = kept.len();
        while at > 0 {
            at -= 1;
            if kept[at].session.inner().carrier_id() != link {
                continue;
            }
            let idle = kept.swap_remove(at);
            self.count.set(self.count.get() - 1);
            let ours = idle.seal.tunnel == *tunnel && Arc::ptr_eq(&idle.seal.config, config);
            if ours && idle.session.inner().is_carrier_open() && is_quiet(&idle) {
                return Some(idle);
            }
        }
        None
    }

    /// Keeps a session for another call.
    pub(super) fn put(self: &Rc<Self>, core: &Core, host: &str, idle: IdleSession) {
        self.count.set(self.count.get() + 1);
        let mut by_host = self.by_host.borrow_mut();
        match by_host.get_mut(host) {
            Some(kept) => kept.push(idle),
            None => {
                by_host.insert(host.into(), vec![idle]);
            }
        }
        drop(by_host);
        self.sweep_later(core);
    }

    /// Starts the task that closes sessions at the idle timeout, unless it is running.
    fn sweep_later(self: &Rc<Self>, core: &Core) {
        if self.sweeping.replace(true) {
            return;
        }
        let (sessions, clock) = (Rc::clone(self), core.clone());
        core.spawn(async move {
            while sessions.count.get() > 0 {
                clock.sleep(IDLE_TIMEOUT / 4).await;
                let now = clock.now();
                sessions.retain(|idle| now - idle.since < IDLE_TIMEOUT && is_quiet(idle));
            }
            sessions.sweeping.set(false);
        });
    }

    fn retain(&self, keep: impl Fn(&IdleSession) -> bool) {
        let mut by_host = self.by_host.borrow_mut();
        by_host.retain(|_, kept| {
            kept.retain(&keep);
            !kept.is_empty()
        });
        self.count.set(by_host.values().map(Vec::len).sum());
    }
}

/// Whether nothing was received on an idle session, not even its end.
fn is_quiet(idle: &IdleSession) -> bool {
    idle.session.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
}
