//! Calls of resealed routes: the edge makes an inner TLS session with the connector, inside the link.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::edge::bonds::Bond;
use crate::edge::edge_core::EdgeCore;
use crate::edge::link_choice::Chosen;
use crate::edge::open::{CallTarget, NotOpened, Opened};
use crate::edge::sessions::{IdleSession, Seal};
use crate::edge::shared::Counters;
use crate::edge::usage::LinkUsage;
use crate::engine::{ByteStream, StreamError};
use crate::exchange::CallFailure;
use crate::link::{CallStream, CarrierStream};
use crate::route::Hostname;
use crate::tls::{ClientConfig, HandshakeError, ServerName, Session, TlsStream};
use crate::wire::mux::Withdrawal;

/// How long sending a TLS alert may take.
const ALERT_PATIENCE: Duration = Duration::from_secs(1);

impl EdgeCore {
    /// Takes an idle session on the link of the call, if there is one.
    pub(super) fn kept_session(&self, target: CallTarget<'_>) -> Option<Opened> {
        let (host, tunnel) = (target.host, &target.route.tunnel);
        let Chosen::Link(link) = self.choose_link(tunnel, host, target.bond, target.moves) else {
            return None;
        };
        let idle = self.idle_sessions.take(host.as_str(), link.carrier.id(), tunnel, target.seal?)?;
        self.links.on_call(tunnel, &link.carrier, target.bond == Bond::None);
        idle.session.inner().forget_times();
        Some(sealed(idle.session, link.usage, idle.seal))
    }

    /// Makes a new session with the connector of a route.
    pub(super) async fn open_resealed(&self, target: CallTarget<'_>) -> Result<Opened, NotOpened> {
        let tunnel = target.route.tunnel.clone();
        let unsealed = || NotOpened::Failed(CallFailure::SealRefused);
        let Some(config) = target.seal.cloned() else {
            self.log_unsealed(target, &"the tunnel has no registered authority: add one with `adit tunnel cert add`");
            return Err(unsealed());
        };
        let (stream, usage) = self.open_on_link(target).await?;
        let session = self.seal(stream, target, Arc::clone(&config)).await;
        let session = session.map_err(|(error, is_withdrawn)| {
            if is_withdrawn {
                return NotOpened::Withdrawn;
            }
            if target.is_over(self.core.turn_time()) {
                return NotOpened::Failed(CallFailure::CallerTimeoutUnsent);
            }
            Counters::add(&self.edge.counters.seals_failed);
            match error {
                HandshakeError::Stream(StreamError::ResetWith { failure }) => {
                    if matches!(failure, CallFailure::SealMismatch | CallFailure::SealRefused) {
                        self.log_unsealed(target, &failure);
                    }
                    NotOpened::NotPassedOn(failure, usage.connector())
                }
                error => {
                    self.log_unsealed(target, &error);
                    unsealed()
                }
            }
        })?;
        Counters::add(&self.edge.counters.sessions_sealed);
        Ok(sealed(Box::new(session), usage, Seal { tunnel, config }))
    }

    /// Makes the handshake. An error says whether the stream was withdrawn before anything was sent.
    async fn seal(
        &self,
        stream: CarrierStream,
        target: CallTarget<'_>,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<CarrierStream>, (HandshakeError, bool)> {
        let name = ServerName::try_from(target.host.as_str().trim_matches(['[', ']']).to_owned());
        let name =
            name.map_err(|_| crate::tls::TlsError::Config("the host is not a valid name for a certificate".to_owned()));
        let session = name.and_then(|name| Session::client(config, name)).map_err(|error| (error.into(), false))?;
        // Nothing of the call is sent before the handshake has ended.
        stream.set_withdrawal(Withdrawal::Allowed);
        let until = self.core.now() + self.edge.settings.handshake_timeout;
        let timeout = self.core.sleep_until(target.until.min(until));
        let made = TlsStream::handshake(stream, session, self.core.pool().clone(), timeout).await;
        match made {
            Ok(session) => {
                session.inner().set_withdrawal(Withdrawal::Forbidden);
                Ok(session)
            }
            Err((error, stream)) => {
                if matches!(error, HandshakeError::Tls(_)) && !target.is_over(self.core.turn_time()) {
                    // The alert contains the reason; a reset at once would discard it.
                    let _ = self.core.timeout(ALERT_PATIENCE, stream.flushed()).await;
                }
                Err((error, stream.is_withdrawn()))
            }
        }
    }

    /// Keeps a session for another call, if both messages of this one were complete and its link takes calls.
    pub(super) fn keep_session(&self, opened: Opened, host: &Hostname) {
        let Opened { stream: CallStream::Sealed(session), seal: Some(seal), whole, .. } = opened else { return };
        // On a draining link the session would not be used again, and would delay the end of the link.
        let is_useful = !self.is_draining() && session.inner().is_carrier_open();
        let room = whole.get() && is_useful && self.idle_sessions.has_room();
        if !room {
            return;
        }
        let idle = IdleSession { session, seal, since: self.core.turn_time() };
        self.idle_sessions.put(&self.core, host.as_str(), idle);
    }

    fn log_unsealed(&self, target: CallTarget<'_>, why: &dyn std::fmt::Display) {
        self.gate.log_limited(|left_out| {
            tracing::warn!(host = %target.host, tunnel = %target.route.tunnel, %why, left_out, "no inner TLS session with the connector");
        });
    }
}

fn sealed(session: Box<TlsStream<CarrierStream>>, usage: Rc<LinkUsage>, seal: Seal) -> Opened {
    Opened { stream: CallStream::Sealed(session), usage, seal: Some(seal), whole: Cell::new(false) }
}
