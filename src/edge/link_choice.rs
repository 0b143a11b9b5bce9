//! Which link takes a call: any link of its tunnel, or one of the connector that the call is bound to.

use std::time::Duration;

use crate::base::{Clock, CoreId, TunnelId};
use crate::edge::bonds::Bond;
use crate::edge::edge_core::EdgeCore;
use crate::edge::link_table::{ChosenLink, Connectors};
use crate::edge::moves::Moves;
use crate::edge::open::Opened;
use crate::edge::presence::{ConnectorLoss, Reach};
use crate::edge::served_hosts::{Serves, Wanted};
use crate::link::Loss;
use crate::route::{Hostname, LinkChoice, Offline, STALLED_AFTER};
use crate::serve::Replay;
use crate::wire::http1::RequestHead;
use crate::wire::mux::{Hosts, Withdrawal};

/// The longest time for which calls of a session wait for a connector whose system has closed its connections. The
/// connector's process has most likely ended. If it was restarted, or if a device on the path reset its connections, it
/// connects again within this time.
const CLOSED_WAIT_MAX: Duration = Duration::from_secs(1);

/// The choice for a call.
pub(super) enum Chosen {
    /// Over this link of the core.
    Link(ChosenLink),
    /// Over this link, unless a better one appears within the time that a call may wait.
    Silent(ChosenLink),
    /// To another core, which has the right link.
    OtherCore(CoreId),
    /// Nowhere yet: it waits for a change, and fails with this reason after a timeout.
    Wait(Offline),
}

impl EdgeCore {
    /// Chooses a link for a call of a host of `tunnel`, with its bond and the moves of its connection.
    pub(super) fn choose_link(&self, tunnel: &TunnelId, host: &Hostname, bond: Bond, moves: Moves) -> Chosen {
        // In almost every tunnel all connectors serve all hosts.
        let any = self.choose_wanted(tunnel, host, bond, moves, Wanted::AllServe(self.tables.version()));
        any.unwrap_or_else(|| self.choose_link_of(tunnel, host, bond, moves))
    }

    /// Like [`EdgeCore::choose_link`], if connectors serve different hosts.
    fn choose_link_of(&self, tunnel: &TunnelId, host: &Hostname, bond: Bond, moves: Moves) -> Chosen {
        let name = host.as_str();
        let all_serve = self.links.all_serve(tunnel, &self.tables);
        let wanted = if all_serve && bond == Bond::None {
            Wanted::Any
        } else if self.links.has_open(tunnel, Wanted::Of(name, Serves::Yes)) {
            Wanted::Of(name, Serves::Yes)
        } else {
            let (now, patience) = (self.core.turn_time(), self.edge.settings.offline_wait);
            match self.edge.presence.reach(tunnel, name, now, patience) {
                Reach::Served(serves) => Wanted::Of(name, serves),
                Reach::Awaited => return Chosen::Wait(Offline::NoConnector),
                // The connector itself answers that it has no route.
                Reach::Unserved => Wanted::Any,
            }
        };
        self.choose_wanted(tunnel, host, bond, moves, wanted).unwrap_or(Chosen::Wait(Offline::NoConnector))
    }

    /// Chooses among the wanted connectors. None if the hosts of each connector have to be checked.
    fn choose_wanted(
        &self,
        tunnel: &TunnelId,
        host: &Hostname,
        bond: Bond,
        moves: Moves,
        wanted: Wanted<'_>,
    ) -> Option<Chosen> {
        let bound = match bond {
            Bond::None => None,
            Bond::Hashed(number) => self.link_for(tunnel, host, number, moves, wanted)?,
            Bond::Session(_, connector) => self.link_of(tunnel, connector, moves, wanted)?,
            Bond::Other(connector) => Some(self.link_elsewhere(tunnel, Connectors::Not(connector), wanted)?),
            Bond::Beside(connector, link) => {
                Some(match self.link_elsewhere(tunnel, Connectors::Not(connector), wanted)? {
                    Chosen::Link(link) => Chosen::Link(link),
                    _ => self.link_elsewhere(tunnel, Connectors::NotOver(link), wanted)?,
                })
            }
        };
        match bound {
            Some(chosen) => Some(chosen),
            None => self.any_link(tunnel, moves, wanted),
        }
    }

    /// Any link of the tunnel that responds.
    fn any_link(&self, tunnel: &TunnelId, moves: Moves, wanted: Wanted<'_>) -> Option<Chosen> {
        // A connector that is stalled on this core is stalled on others.
        let others = || self.core_with(tunnel, &|of, hosts| wanted.takes(hosts) && !self.links.has(tunnel, of));
        Some(match self.links.choose(tunnel, wanted, Connectors::All)? {
            (LinkChoice::Link(_), Some(link)) => Chosen::Link(link),
            (LinkChoice::Silent(id), Some(link)) => {
                let is_only = !self.links.has_other(tunnel, id, wanted) && others().is_none();
                if is_only { Chosen::Link(link) } else { Chosen::Silent(link) }
            }
            (LinkChoice::Stalled(_), Some(link)) => match others().filter(|_| moves.may_move()) {
                Some(core) => Chosen::OtherCore(core),
                None => Chosen::Link(link),
            },
            (LinkChoice::Offline(why), _) => match self.core_with(tunnel, &|_, hosts| wanted.takes(hosts)) {
                Some(core) if moves.may_move() => Chosen::OtherCore(core),
                _ => Chosen::Wait(why),
            },
            _ => Chosen::Wait(Offline::NoConnector),
        })
    }

    /// A link of the connector that has the call's session. None if the call need not wait for it: the connector has
    /// shut down, has been offline or stalled for too long, or no longer serves the host.
    fn link_of(&self, tunnel: &TunnelId, connector: u64, moves: Moves, wanted: Wanted<'_>) -> Option<Option<Chosen>> {
        let patience = self.edge.settings.offline_wait;
        // Keeping the session matters more than certainty that the connector serves the host.
        let wanted = match wanted {
            Wanted::Of(host, _) => Wanted::Of(host, Serves::Unknown),
            wanted => wanted,
        };
        let why = match self.links.choose(tunnel, wanted, Connectors::Only(connector))? {
            (LinkChoice::Link(_) | LinkChoice::Silent(_), Some(link)) => return Some(Some(Chosen::Link(link))),
            (LinkChoice::Stalled(_), Some(link)) => {
                let waits = link.carrier.liveness().owing < STALLED_AFTER + patience;
                return Some(waits.then_some(Chosen::Wait(Offline::NoConnector)));
            }
            // The connector may be on another core, with other hosts than the connectors of this core.
            (LinkChoice::Offline(Offline::NoConnector), _) if matches!(wanted, Wanted::AllServe(_)) => {
                return None;
            }
            (LinkChoice::Offline(why), _) => why,
            _ => Offline::NoConnector,
        };
        if let Some(core) = self.core_with(tunnel, &|of, hosts| of == connector && wanted.takes(hosts)) {
            return Some(Some(if moves.may_move() { Chosen::OtherCore(core) } else { Chosen::Wait(why) }));
        }
        let is_back_soon = match why {
            Offline::Full => true,
            Offline::Draining => false,
            Offline::NoConnector => self.was_lost_within(tunnel, connector, patience),
        };
        Some(is_back_soon.then_some(Chosen::Wait(why)))
    }

    /// A link of the connector that this number hashes to, if it takes calls.
    fn link_for(
        &self,
        tunnel: &TunnelId,
        host: &Hostname,
        number: u64,
        moves: Moves,
        wanted: Wanted<'_>,
    ) -> Option<Option<Chosen>> {
        // The number may hash to a connector on another core.
        if matches!(wanted, Wanted::AllServe(_)) {
            return None;
        }
        let Some(connector) = self.edge.presence.connector_for(tunnel, host.as_str(), number) else {
            return Some(None);
        };
        Some(match self.links.choose(tunnel, wanted, Connectors::Only(connector))? {
            (LinkChoice::Link(_), Some(link)) => Some(Chosen::Link(link)),
            (LinkChoice::Offline(Offline::NoConnector), _) if moves.may_move() => {
                self.core_with(tunnel, &|of, _| of == connector).map(Chosen::OtherCore)
            }
            _ => None,
        })
    }

    /// Whether a call that this connector does not pass on can go to another. A call of a session cannot, because only
    /// one connector knows the session.
    pub(super) fn may_move(&self, tunnel: &TunnelId, bond: Bond, connector: u64) -> bool {
        matches!(bond, Bond::None | Bond::Other(_)) && self.links.has_other_connector(tunnel, connector)
    }

    /// Allows an open call to be withdrawn if its link stalls before anything was sent, provided that another link may
    /// take it and its body can be kept until then. Returns whether that was allowed.
    pub(super) fn allow_withdrawal(&self, tunnel: &TunnelId, opened: &Opened, head: &RequestHead) -> bool {
        let stream = opened.stream.on_link();
        let may = Replay::holds(head.framing()) && self.links.has_other(tunnel, stream.carrier_id(), Wanted::Any);
        if may {
            stream.set_withdrawal(Withdrawal::UntilSent);
        }
        may
    }

    /// A link of one of these connectors, if it responds.
    fn link_elsewhere(&self, tunnel: &TunnelId, connectors: Connectors, wanted: Wanted<'_>) -> Option<Chosen> {
        Some(match self.links.choose(tunnel, wanted, connectors)? {
            (LinkChoice::Link(_), Some(link)) => Chosen::Link(link),
            _ => Chosen::Wait(Offline::NoConnector),
        })
    }

    /// Another core that has a link of a connector of the tunnel that `fits`.
    fn core_with(&self, tunnel: &TunnelId, fits: &dyn Fn(u64, Option<&Hosts>) -> bool) -> Option<CoreId> {
        self.edge.presence.cores_with(tunnel, fits).next_after(self.core.id())
    }

    fn was_lost_within(&self, tunnel: &TunnelId, connector: u64, patience: Duration) -> bool {
        let Some(ConnectorLoss { at, loss }) = self.edge.presence.lost(tunnel, connector) else { return false };
        let patience = match loss {
            Loss::Closed => patience.min(CLOSED_WAIT_MAX),
            Loss::CutOff => patience,
        };
        self.core.now() - at < patience
    }
}
