//! Sealed sessions of the edge's own with connectors, kept so that a call pays no handshake.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::base::{Clock, LinkId, Time, TunnelId};
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate;
use crate::edge::open::{NoStream, Opened, Wanted};
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::engine::{ByteStream, StreamError};
use crate::exchange;
use crate::latency::Outcome;
use crate::link::{CallStream, LinkStream};
use crate::route::Hostname;
use crate::tls::{ClientConfig, HandshakeError, ServerName, Session, TlsStream};
use crate::wire::http1::Fault;
use crate::wire::mux::Cause;

/// Sessions that one core keeps unused, all hosts together. What comes beyond is closed.
const IDLE_MAX: usize = 1_024;
/// How long an alert may take to be on its way.
const ALERT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a session may lie unused.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The sessions of one core that nobody uses now.
#[derive(Default)]
pub(super) struct IdleSessions {
    by_host: RefCell<HashMap<Box<str>, Vec<Idle>>>,
    count: Cell<usize>,
    sweeping: Cell<bool>,
}

struct Idle {
    session: Box<TlsStream<LinkStream>>,
    usage: Rc<LinkUsage>,
    seal: Seal,
    since: Time,
}

/// For whose connector a session is, and under which terms that was believed.
pub(super) struct Seal {
    tunnel: TunnelId,
    config: Arc<ClientConfig>,
}

impl EdgeCore {
    /// A session with the connector of a route that was kept, if there is one.
    pub(super) fn kept_session(&self, wanted: Wanted<'_>) -> Option<Opened> {
        let host = wanted.host.parse::<Hostname>().ok()?;
        let tunnel = &wanted.route.tunnel;
        let Idle { session, usage, seal, .. } = self.idle_sessions.take(host.as_str(), tunnel, wanted.seal?)?;
        session.inner().forget_phases();
        Some(sealed(session, usage, seal))
    }

    /// A new session with the connector of a route.
    pub(super) async fn open_resealed(&self, wanted: Wanted<'_>) -> Result<Opened, NoStream> {
        let tunnel = wanted.route.tunnel.clone();
        let unsealed = || NoStream::Unsealed(Fault::SealRefused, Outcome::SealRefused);
        let host = wanted.host.parse::<Hostname>().map_err(|_| unsealed())?;
        let wanted = Wanted { host: host.as_str(), ..wanted };
        let Some(config) = wanted.seal.cloned() else {
            self.tell_unsealed(wanted, &"no authority is registered with the tunnel: `adit tunnel cert add` does it");
            return Err(unsealed());
        };
        let (stream, usage) = self.open_on_link(wanted).await?;
        let session = self.seal(stream, host.as_str(), Arc::clone(&config)).await;
        let session = session.map_err(|error| {
            Counters::add(&self.edge.counters.seals_failed);
            match error {
                HandshakeError::Stream(StreamError::ResetWith { code }) => {
                    let cause = Cause::from_code(code);
                    if matches!(cause, Cause::SealMismatch | Cause::SealFailed) {
                        self.tell_unsealed(wanted, &cause);
                    }
                    let (fault, outcome) = exchange::reset(cause);
                    NoStream::Unsealed(fault, outcome)
                }
                error => {
                    self.tell_unsealed(wanted, &error);
                    unsealed()
                }
            }
        })?;
        Counters::add(&self.edge.counters.sessions_sealed);
        Ok(sealed(Box::new(session), usage, Seal { tunnel, config }))
    }

    async fn seal(
        &self,
        stream: LinkStream,
        host: &str,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<LinkStream>, HandshakeError> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name =
            name.map_err(|_| crate::tls::TlsError::Config("the host cannot stand in a certificate".to_owned()))?;
        let session = Session::client(config, name)?;
        let timeout = self.core.sleep(self.edge.settings.handshake_timeout);
        let made = TlsStream::handshake(stream, session, self.core.pool().clone(), timeout).await;
        match made {
            Ok(session) => Ok(session),
            Err((error, stream)) => {
                if matches!(error, HandshakeError::Tls(_)) {
                    // The alert says why; the reset that follows would take it back.
                    let _ = self.core.timeout(ALERT_PATIENCE, stream.flushed()).await;
                }
                Err(error)
            }
        }
    }

    /// Keeps a session for another call, if both messages of this one were whole.
    pub(super) fn keep_session(self: &Rc<EdgeCore>, opened: Opened, host: &str) {
        let Opened { stream: CallStream::Sealed(session), usage, seal: Some(seal), whole } = opened else { return };
        let sessions = &self.idle_sessions;
        let room = whole.get() && !self.is_draining() && sessions.count.get() < IDLE_MAX;
        let (Ok(host), true) = (host.parse::<Hostname>(), room) else { return };
        sessions.put(host.as_str(), Idle { session, usage, seal, since: self.core.turn_time() });
        if !sessions.sweeping.replace(true) {
            let here = Rc::clone(self);
            self.core.spawn(async move {
                while here.idle_sessions.count.get() > 0 {
                    here.core.sleep(IDLE_TIMEOUT / 4).await;
                    let now = here.core.now();
                    here.idle_sessions.retain(|idle| now - idle.since < IDLE_TIMEOUT && is_quiet(idle));
                }
                here.idle_sessions.sweeping.set(false);
            });
        }
    }

    fn tell_unsealed(&self, wanted: Wanted<'_>, why: &dyn std::fmt::Display) {
        gate::tell(self, |left_out| {
            tracing::warn!(host = wanted.host, tunnel = %wanted.route.tunnel, %why, left_out, "no sealed session with the connector");
        });
    }
}

fn sealed(session: Box<TlsStream<LinkStream>>, usage: Rc<LinkUsage>, seal: Seal) -> Opened {
    Opened { stream: CallStream::Sealed(session), usage, seal: Some(seal), whole: Cell::new(false) }
}

impl IdleSessions {
    /// Closes the sessions on a link that is to end.
    pub(super) fn close_link(&self, link: LinkId) {
        self.retain(|idle| idle.session.inner().link().id() != link);
    }

    fn take(&self, host: &str, tunnel: &TunnelId, config: &Arc<ClientConfig>) -> Option<Idle> {
        let mut by_host = self.by_host.borrow_mut();
        let kept = by_host.get_mut(host)?;
        while let Some(idle) = kept.pop() {
            self.count.set(self.count.get() - 1);
            let ours = idle.seal.tunnel == *tunnel && Arc::ptr_eq(&idle.seal.config, config);
            if ours && idle.session.inner().link().is_open() && is_quiet(&idle) {
                return Some(idle);
            }
        }
        None
    }

    fn put(&self, host: &str, idle: Idle) {
        self.count.set(self.count.get() + 1);
        let mut by_host = self.by_host.borrow_mut();
        match by_host.get_mut(host) {
            Some(kept) => kept.push(idle),
            None => {
                by_host.insert(host.into(), vec![idle]);
            }
        }
    }

    fn retain(&self, keep: impl Fn(&Idle) -> bool) {
        let mut by_host = self.by_host.borrow_mut();
        by_host.retain(|_, kept| {
            kept.retain(&keep);
            !kept.is_empty()
        });
        self.count.set(by_host.values().map(Vec::len).sum());
    }
}

/// Whether nothing came on a session, not even its end.
fn is_quiet(idle: &Idle) -> bool {
    idle.session.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending()
}
