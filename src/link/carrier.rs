//! A connector's connection to an edge, whatever protocol it speaks.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{HostSet, LinkId, Time, Traffic};
use crate::engine::Signal;
use crate::link::{CarrierStream, Link, LinkEnded, Liveness};
use crate::wire::mux::{Fault, Hosts, Open, OpenError, Side};

/// A connection between a connector and an edge that carries calls, by its protocol. Cheap to clone; the clones are one
/// connection.
#[derive(Clone)]
pub enum Carrier {
    /// The link protocol of this project, as [`crate::wire::mux`] defines it. A call is HTTP/1.1 on a stream.
    Link(Link),
}

/// What the edge says of a call when it opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOpen<'a> {
    /// The host that the agent called.
    pub host: &'a str,
    /// The edge's number of the call, for logs on both sides.
    pub call: u64,
    /// What the stream carries: one exchange in the clear, or an inner TLS session with any number of them.
    pub traffic: Traffic,
    /// The agent's address, where the edge passes it on.
    pub peer: Option<&'a str>,
    /// When the time for the call is over, on the clock of this side, if it is limited. The connector learns it unless it is older.
    pub until: Option<Time>,
}

/// Why a call could not be opened on a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOpenError {
    /// It carries as many calls as it may.
    Full,
    /// It takes no new calls.
    Draining,
    /// It is not ready, or has ended, or cannot say what the call is for.
    Unusable,
}

/// Why this side ends a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This side ends, and no calls are left.
    Ended,
    /// This side ends, and the calls in flight took too long.
    DrainTimeout,
    /// The credential of the registration is no longer valid.
    Revoked,
}

/// How a carrier was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The peer's system closed or reset the connection, as it does when the peer's process is killed.
    Closed,
    /// Nothing came over it any more. The peer may be there, and come back when the network does.
    CutOff,
}

/// Why a carrier ended, as its protocol says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierEnded {
    /// The end of a link, with a code of its protocol.
    Link(LinkEnded),
}

impl Carrier {
    /// The carrier's number, unlike that of any other carrier of this role.
    #[must_use]
    pub fn id(&self) -> LinkId {
        match self {
            Carrier::Link(link) => link.id(),
        }
    }

    /// At the edge: opens a call.
    ///
    /// # Errors
    ///
    /// Why the carrier cannot take it.
    pub fn open(&self, open: &CallOpen<'_>) -> Result<CarrierStream, CallOpenError> {
        match self {
            Carrier::Link(link) => {
                let CallOpen { host, call, traffic, peer, until } = *open;
                let opened = link.open(&Open { route: host, call, traffic, peer, until });
                Ok(CarrierStream::Link(opened?))
            }
        }
    }

    /// At the connector: the next call that the edge opened; none when the carrier has ended. One task at a time takes them.
    pub async fn accept(&self) -> Option<CarrierStream> {
        match self {
            Carrier::Link(link) => link.accept().await.map(CarrierStream::Link),
        }
    }

    /// Whether new calls may be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Carrier::Link(link) => link.is_open(),
        }
    }

    /// How many calls are open on it.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        match self {
            Carrier::Link(link) => link.streams_live(),
        }
    }

    /// Tells the other side the hosts of this one: the routes of a connector, or the hosts of the edge's tunnel.
    pub fn set_hosts(&self, hosts: &HostSet) {
        match self {
            Carrier::Link(link) => link.set_hosts(hosts),
        }
    }

    /// The hosts of the other side; none before it has said them.
    #[must_use]
    pub fn peer_hosts(&self) -> Option<Hosts> {
        match self {
            Carrier::Link(link) => link.peer_hosts(),
        }
    }

    /// Waits until the other side has told its hosts more than `seen` times. Returns how often that was.
    pub async fn peer_hosts_after(&self, seen: u64) -> u64 {
        match self {
            Carrier::Link(link) => link.peer_hosts_after(seen).await,
        }
    }

    /// The last round-trip time that was measured; none before the first measurement.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self {
            Carrier::Link(link) => link.round_trip(),
        }
    }

    /// Whether the connector has shown lately that it is alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match self {
            Carrier::Link(link) => link.liveness(),
        }
    }

    /// Notes that a call is begun on it, which asks for a sign of life if the connector has been silent.
    pub fn on_call(&self) {
        match self {
            Carrier::Link(link) => link.on_call(),
        }
    }

    /// Raises `heard` from now on when something comes from the connector after calls were begun.
    pub fn set_heard_signal(&self, heard: Rc<Signal>) {
        match self {
            Carrier::Link(link) => link.set_heard_signal(heard),
        }
    }

    /// At the edge: notes each time that the connector has owed an answer for `after`; see [`Carrier::stalled_after`].
    pub fn watch_stalls(&self, after: Duration) {
        match self {
            Carrier::Link(link) => link.watch_stalls(after),
        }
    }

    /// Waits until the connector has stood still more than `seen` times. Returns how often that was.
    pub async fn stalled_after(&self, seen: u64) -> u64 {
        match self {
            Carrier::Link(link) => link.stalled_after(seen).await,
        }
    }

    /// At the edge: takes back the calls that [allow it](CarrierStream::set_withdrawal). They end as calls that the connector did
    /// not pass on.
    pub fn withdraw(&self) {
        match self {
            Carrier::Link(link) => link.withdraw(),
        }
    }

    /// Takes no new calls from now on, on either side. Calls in flight may finish.
    pub fn drain(&self) {
        match self {
            Carrier::Link(link) => link.drain(),
        }
    }

    /// Whether one side has asked to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        match self {
            Carrier::Link(link) => link.is_draining(),
        }
    }

    /// Waits until one side has asked to drain, or the carrier has ended.
    pub async fn draining(&self) {
        match self {
            Carrier::Link(link) => link.draining().await,
        }
    }

    /// Waits until the last call of a draining carrier has ended, or the carrier has.
    pub async fn drained(&self) {
        match self {
            Carrier::Link(link) => link.drained().await,
        }
    }

    /// Ends the carrier now; calls in flight are broken off.
    pub fn close(&self, reason: CloseReason) {
        match self {
            Carrier::Link(link) => link.close(match reason {
                CloseReason::Ended => Fault::Ended,
                CloseReason::DrainTimeout => Fault::DrainTimeout,
                CloseReason::Revoked => Fault::Revoked,
            }),
        }
    }

    /// Why it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<CarrierEnded> {
        match self {
            Carrier::Link(link) => link.ended().map(CarrierEnded::Link),
        }
    }

    /// How it was lost; none while it is there, and if one side has ended it on purpose.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Carrier::Link(link) => {
                let is_loss = matches!(link.ended()?.fault, Fault::TransportLost | Fault::PeerSilent);
                is_loss.then(|| if link.is_closed_by_peer() { Loss::Closed } else { Loss::CutOff })
            }
        }
    }
}

impl From<OpenError> for CallOpenError {
    fn from(error: OpenError) -> CallOpenError {
        match error {
            OpenError::StreamLimit => CallOpenError::Full,
            OpenError::Draining => CallOpenError::Draining,
            _ => CallOpenError::Unusable,
        }
    }
}

impl CarrierEnded {
    /// The side that ended it.
    #[must_use]
    pub fn by(&self) -> Side {
        match self {
            CarrierEnded::Link(ended) => ended.by,
        }
    }
}

impl fmt::Display for CarrierEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CarrierEnded::Link(ended) => ended.fault.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edge_learns_whether_another_link_could_take_a_call_that_this_one_refused() {
        for (error, known) in [
            (OpenError::StreamLimit, CallOpenError::Full),
            (OpenError::Draining, CallOpenError::Draining),
            (OpenError::NotReady, CallOpenError::Unusable),
            (OpenError::Unsendable, CallOpenError::Unusable),
        ] {
            assert_eq!(CallOpenError::from(error), known);
        }
    }

    #[test]
    fn an_end_is_told_in_the_words_of_its_protocol() {
        let ended = CarrierEnded::Link(LinkEnded { fault: Fault::Revoked, by: Side::Peer });
        assert_eq!((ended.to_string(), ended.by()), (Fault::Revoked.to_string(), Side::Peer));
    }
}
