//! A stream for a call, on a link of this core.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, CoreId, Traffic};
use crate::edge::edge_core::EdgeCore;
use crate::edge::link_table::ChosenLink;
use crate::edge::moves::Moves;
use crate::edge::sessions::Seal;
use crate::edge::usage::LinkUsage;
use crate::exchange::CallFailure;
use crate::link::{CallOpen, CallOpenError, CallStream, CarrierStream};
use crate::route::{LinkChoice, Offline, Route};
use crate::tls::ClientConfig;

/// How often a call that waits for a link looks whether another core has one.
const LOOK_ELSEWHERE_EVERY: Duration = Duration::from_millis(50);

/// A stream, and where its call is counted.
pub(super) struct Opened {
    pub(super) stream: CallStream,
    pub(super) usage: Rc<LinkUsage>,
    /// Of a sealed session: under which terms.
    pub(super) seal: Option<Seal>,
    /// Whether both messages on it were whole, so that a sealed session can carry another exchange.
    pub(super) whole: Cell<bool>,
}

/// Why no stream could be opened.
pub(super) enum NoStream {
    HandOver(CoreId),
    Failed(CallFailure),
}

/// What a stream is opened for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) route: &'a Route,
    pub(super) host: &'a str,
    /// With what its connector is spoken to where calls are sealed again.
    pub(super) seal: Option<&'a Arc<ClientConfig>>,
    /// The agent's address, where it is told.
    pub(super) peer: Option<&'a str>,
    /// How often the agent's connection has gone to another core for this.
    pub(super) moves: Moves,
}

impl EdgeCore {
    /// Opens a stream, or takes up a sealed session, waiting a little for a connector that is away.
    pub(super) async fn open(&self, wanted: Wanted<'_>) -> Result<Opened, NoStream> {
        if wanted.route.traffic == Traffic::Resealed {
            if let Some(kept) = self.kept_session(wanted) {
                return Ok(kept);
            }
            // In a box, so that other calls do not have its size.
            return Box::pin(self.open_resealed(wanted)).await;
        }
        let (stream, usage) = self.open_on_link(wanted).await?;
        Ok(Opened { stream: CallStream::Plain(stream), usage, seal: None, whole: Cell::new(false) })
    }

    /// Opens a stream as it is.
    pub(super) async fn open_on_link(&self, wanted: Wanted<'_>) -> Result<(CarrierStream, Rc<LinkUsage>), NoStream> {
        let deadline = self.core.now() + self.edge.settings.offline_wait;
        loop {
            let seen = self.links.changes();
            let why = match self.links.choose(&wanted.route.tunnel, true) {
                (LinkChoice::OtherCore(core), _) if wanted.moves.may_move() => return Err(NoStream::HandOver(core)),
                (LinkChoice::OtherCore(_), _) => Offline::NoLink,
                (LinkChoice::Here(_), Some(chosen)) => match self.open_on(&chosen, wanted) {
                    Ok(stream) => return Ok((stream, chosen.usage)),
                    Err(why) => why,
                },
                (LinkChoice::Here(_), None) => Offline::NoLink,
                (LinkChoice::Offline(why), _) => why,
            };
            let left = deadline - self.core.now();
            if left.is_zero() || self.is_draining() {
                return Err(NoStream::Failed(CallFailure::of_offline(why)));
            }
            // Either way it is looked at again.
            let _ = self.core.timeout(left.min(LOOK_ELSEWHERE_EVERY), self.links.changed_since(seen)).await;
        }
    }

    fn open_on(&self, chosen: &ChosenLink, wanted: Wanted<'_>) -> Result<CarrierStream, Offline> {
        let Wanted { route, host, peer, .. } = wanted;
        let open = CallOpen { host, call: self.links.next_call(), traffic: route.traffic, peer };
        chosen.carrier.open(&open).map_err(|error| match error {
            CallOpenError::Full => Offline::Full,
            CallOpenError::Draining => Offline::Draining,
            CallOpenError::Unusable => Offline::NoLink,
        })
    }
}
