//! Opens a stream for a call on a link of this core.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, CoreId, Time, Traffic};
use crate::edge::bonds::Bond;
use crate::edge::edge_core::EdgeCore;
use crate::edge::link_choice::Chosen;
use crate::edge::link_table::ChosenLink;
use crate::edge::moves::Moves;
use crate::edge::offline_wait::OfflineWait;
use crate::edge::sessions::Seal;
use crate::edge::usage::LinkUsage;
use crate::exchange::CallFailure;
use crate::link::{CallOpen, CallOpenError, CallStream, Carrier, CarrierStream};
use crate::route::{Hostname, Offline, Route};
use crate::tls::ClientConfig;

/// How often a call that waits for a link checks whether another core has one.
const LOOK_ELSEWHERE_EVERY: Duration = Duration::from_millis(50);

/// The stream of a call, and the usage counter of its link.
pub(super) struct Opened {
    pub(super) stream: CallStream,
    pub(super) usage: Rc<LinkUsage>,
    /// The terms of the session, if it is sealed.
    pub(super) seal: Option<Seal>,
    /// Whether both messages were complete, so that a sealed session can carry another exchange.
    pub(super) whole: Cell<bool>,
}

/// Why no stream was opened on this core.
pub(super) enum NotOpened {
    /// The connection has to be handed over to this core, which has a link.
    HandOver(CoreId),
    /// The call fails with this failure.
    Failed(CallFailure),
    /// The call was withdrawn before anything was sent, and may be retried.
    Withdrawn,
    /// The connector with this number did not pass the call on.
    NotPassedOn(CallFailure, u64),
}

/// The call for which a stream is opened.
#[derive(Clone, Copy)]
pub(super) struct CallTarget<'a> {
    pub(super) route: &'a Route,
    /// The host that the agent called.
    pub(super) host: &'a Hostname,
    /// The TLS configuration towards the connector, if calls are resealed.
    pub(super) seal: Option<&'a Arc<ClientConfig>>,
    /// The agent's address, if the connector may know it.
    pub(super) peer: Option<&'a String>,
    /// The connector that it is bound to.
    pub(super) bond: Bond,
    /// How often the agent's connection was handed over for the call.
    pub(super) moves: Moves,
    /// The number of the call, for both sides.
    pub(super) call: u64,
    /// Whether it has [waited for a link](EdgeCore::wait_for_link), and none came in time.
    pub(super) has_waited: bool,
    /// When the caller has to be answered; never, if its time is not known.
    pub(super) until: Time,
}

impl CallTarget<'_> {
    /// Whether the caller has to be answered now.
    pub(super) fn is_over(&self, now: Time) -> bool {
        self.until <= now
    }
}

impl EdgeCore {
    /// Opens a stream, or takes an idle sealed session. Waits for a connector that is offline, within limits. A link
    /// that was `found` in the same turn is used if it still can be.
    pub(super) async fn open(
        &self,
        target: CallTarget<'_>,
        found: Option<(ChosenLink, Time)>,
    ) -> Result<Opened, NotOpened> {
        if target.route.traffic == Traffic::Resealed {
            if let Some(kept) = self.kept_session(target) {
                return Ok(kept);
            }
            // Boxed, so that other calls do not pay for its size.
            return Box::pin(self.open_resealed(target)).await;
        }
        let now = self.core.turn_time();
        if let Some((ChosenLink { carrier, usage }, at)) = found
            && at == now
            && !target.is_over(now)
            && let Ok(stream) = self.open_on(&carrier, target)
        {
            return Ok(Opened { stream: CallStream::Plain(stream), usage, seal: None, whole: Cell::new(false) });
        }
        let (stream, usage) = self.open_on_link(target).await?;
        Ok(Opened { stream: CallStream::Plain(stream), usage, seal: None, whole: Cell::new(false) })
    }

    /// Waits for a link as [`EdgeCore::open`] does, for a call whose connection cannot be handed over later. Returns
    /// the core that has one.
    ///
    /// # Errors
    ///
    /// If no link appeared in time.
    pub(super) async fn wait_for_link(&self, target: CallTarget<'_>) -> Result<CoreId, Offline> {
        let mut wait = OfflineWait::new(self);
        loop {
            let seen = self.links.changes();
            let why = match self.choose_link(&target.route.tunnel, target.host, target.bond, target.moves) {
                Chosen::OtherCore(core) => return Ok(core),
                Chosen::Link(_) | Chosen::Silent(_) => return Ok(self.core.id()),
                Chosen::Wait(why) => why,
            };
            let left = wait.left(self, target);
            if left.is_zero() || self.tables.get().is_revoked(&target.route.tunnel, self.core.now()) {
                return Err(why);
            }
            let _ = self.core.timeout(left.min(LOOK_ELSEWHERE_EVERY), self.links.changed_since(seen, false)).await;
        }
    }

    /// Opens a stream without a sealed session.
    pub(super) async fn open_on_link(
        &self,
        target: CallTarget<'_>,
    ) -> Result<(CarrierStream, Rc<LinkUsage>), NotOpened> {
        let mut wait = OfflineWait::new(self);
        let mut bond = target.bond;
        loop {
            let seen = self.links.changes();
            let chosen = self.choose_link(&target.route.tunnel, target.host, bond, target.moves);
            let may_wait = wait.is_on(self);
            let is_silent = matches!(chosen, Chosen::Silent(_));
            let why = match chosen {
                Chosen::OtherCore(core) => return Err(NotOpened::HandOver(core)),
                Chosen::Silent(_) if may_wait => Offline::NoConnector,
                Chosen::Link(_) | Chosen::Silent(_) if target.is_over(self.core.turn_time()) => {
                    return Err(NotOpened::Failed(CallFailure::CallerTimeoutUnsent));
                }
                Chosen::Link(link) | Chosen::Silent(link) => match self.open_on(&link.carrier, target) {
                    Ok(stream) => return Ok((stream, link.usage)),
                    Err(why) => why,
                },
                Chosen::Wait(why) => why,
            };
            if self.tables.get().is_revoked(&target.route.tunnel, self.core.now()) {
                return Err(NotOpened::Failed(CallFailure::TunnelRevoked));
            }
            let left = if target.has_waited { Duration::ZERO } else { wait.left(self, target) };
            let is_bound = matches!(bond, Bond::Hashed(_) | Bond::Session(..));
            if !left.is_zero() && !matches!(bond, Bond::Other(_) | Bond::Beside(..)) {
                // The state is checked again in either case.
                let _ =
                    self.core.timeout(left.min(LOOK_ELSEWHERE_EVERY), self.links.changed_since(seen, is_silent)).await;
            } else if !is_bound || why == Offline::Full || target.is_over(self.core.turn_time()) {
                return Err(NotOpened::Failed(CallFailure::of_offline(why)));
            } else {
                // The server of another connector will answer that it does not know the session, so that the agent
                // begins a new one.
                bond = Bond::None;
            }
        }
    }

    fn open_on(&self, carrier: &Carrier, target: CallTarget<'_>) -> Result<CarrierStream, Offline> {
        let CallTarget { route, host, peer, call, until, .. } = target;
        // A sealed session carries many calls.
        let until = Some(until).filter(|until| *until != Time::NEVER && route.traffic == Traffic::Plain);
        let open =
            CallOpen { host: host.as_str(), call, traffic: route.traffic, peer: peer.map(String::as_str), until };
        let opened = carrier.open(&open).map_err(|error| match error {
            CallOpenError::Full => Offline::Full,
            CallOpenError::Draining => Offline::Draining,
            CallOpenError::Unusable => Offline::NoConnector,
        })?;
        self.links.on_call(&route.tunnel, carrier, target.bond == Bond::None);
        Ok(opened)
    }
}
