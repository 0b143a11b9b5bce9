//! A connector's connection to an edge, over any protocol.

use std::fmt;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use crate::base::{HostSet, LinkId, Time, Traffic};
use crate::engine::Signal;
use crate::link::call_open_error::CallOpenError;
use crate::link::close_reason::CloseReason;
use crate::link::cloudflared::{CloudflaredEdgeEnded, CloudflaredEdgeLink, CloudflaredEnded, CloudflaredLink};
use crate::link::{CarrierStream, Link, LinkEnded, Liveness};
use crate::wire::mux::{Fault, Hosts, Open, Side};
use crate::wire::quic::QuicPath;

/// A connection between a connector and an edge that carries calls. Each variant is a protocol. It is cheap to clone;
/// all clones are the same connection.
#[derive(Clone)]
pub enum Carrier {
    /// The link protocol of this project, as [`crate::wire::mux`] defines it. A call is HTTP/1.1 on a stream.
    Link(Link),
    /// HTTP/2 as cloudflared uses it, at the connector. A call is a request of HTTP/2.
    Cloudflared(CloudflaredLink),
    /// The same at the edge.
    CloudflaredEdge(CloudflaredEdgeLink),
}

/// The parameters that the edge sends when it opens a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOpen<'a> {
    /// The host that the agent called.
    pub host: &'a str,
    /// The edge's number of the call, for logs on both sides.
    pub call: u64,
    /// What the stream carries: one plain exchange, or an inner TLS session with any number of exchanges.
    pub traffic: Traffic,
    /// The agent's address, if the edge passes it on.
    pub peer: Option<&'a str>,
    /// The end of the call's time, on the clock of this side, if it is limited. It is not sent to connectors of older
    /// versions.
    pub until: Option<Time>,
}

/// How a carrier was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The peer's system closed or reset the connection, as it does when the peer's process is killed.
    Closed,
    /// Nothing arrives any more. The peer may still run, and reconnect when the network recovers.
    CutOff,
}

/// Why a carrier ended, in the terms of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierEnded {
    /// The end of a link, with a code of its protocol.
    Link(LinkEnded),
    /// The end of a connection of cloudflared.
    Cloudflared(CloudflaredEnded),
    /// The end of one at the edge.
    CloudflaredEdge(CloudflaredEdgeEnded),
}

impl Carrier {
    /// The carrier's number, unique in this role.
    #[must_use]
    pub fn id(&self) -> LinkId {
        match self {
            Carrier::Link(link) => link.id(),
            Carrier::Cloudflared(link) => link.id(),
            Carrier::CloudflaredEdge(link) => link.id(),
        }
    }

    /// At the edge: opens a call.
    ///
    /// # Errors
    ///
    /// If the carrier cannot take it.
    pub fn open(&self, open: &CallOpen<'_>) -> Result<CarrierStream, CallOpenError> {
        match self {
            Carrier::Link(link) => {
                let CallOpen { host, call, traffic, peer, until } = *open;
                let opened = link.open(&Open { route: host, call, traffic, peer, until });
                Ok(CarrierStream::Link(opened?))
            }
            // This side is a connector.
            Carrier::Cloudflared(_) => Err(CallOpenError::Unusable),
            // A call is a request in the clear, which inner TLS is not.
            Carrier::CloudflaredEdge(_) if open.traffic != Traffic::Plain => Err(CallOpenError::Unusable),
            Carrier::CloudflaredEdge(link) => {
                link.open().map(|stream| CarrierStream::CloudflaredEdge(Box::new(stream)))
            }
        }
    }

    /// At the connector: waits for the next call that the edge opens; `None` when the carrier has ended. Only one task
    /// may wait at a time.
    pub async fn accept(&self) -> Option<CarrierStream> {
        match self {
            Carrier::Link(link) => link.accept().await.map(CarrierStream::Link),
            Carrier::Cloudflared(link) => {
                link.accept().await.map(|stream| CarrierStream::Cloudflared(Box::new(stream)))
            }
            // This side is an edge.
            Carrier::CloudflaredEdge(_) => None,
        }
    }

    /// Whether new calls may be opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Carrier::Link(link) => link.is_open(),
            Carrier::Cloudflared(link) => link.is_open(),
            Carrier::CloudflaredEdge(link) => link.is_open(),
        }
    }

    /// How many calls are open on it.
    #[must_use]
    pub fn streams_live(&self) -> usize {
        match self {
            Carrier::Link(link) => link.streams_live(),
            Carrier::Cloudflared(link) => link.calls(),
            Carrier::CloudflaredEdge(link) => link.calls(),
        }
    }

    /// Sends the hosts of this side to the peer: the routes of a connector, or the hosts of the edge's tunnel.
    pub fn set_hosts(&self, hosts: &HostSet) {
        match self {
            Carrier::Link(link) => link.set_hosts(hosts),
            // The protocol has no place for them.
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => {}
        }
    }

    /// At the edge: sets the service to which a connector without rules of its own should send all calls, with the version of
    /// this setting. Connectors of this project have routes of their own.
    pub fn set_service(&self, service: &str, version: i32) {
        if let Carrier::CloudflaredEdge(link) = self {
            link.set_service(service, version);
        }
    }

    /// The hosts of the other side; `None` until it has sent them.
    #[must_use]
    pub fn peer_hosts(&self) -> Option<Hosts> {
        match self {
            Carrier::Link(link) => link.peer_hosts(),
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => None,
        }
    }

    /// Waits until the other side has sent its hosts more than `seen` times. Returns how often it has.
    pub async fn peer_hosts_after(&self, seen: u64) -> u64 {
        match self {
            Carrier::Link(link) => link.peer_hosts_after(seen).await,
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => pending().await,
        }
    }

    /// The last measured round-trip time, if there is one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        match self {
            Carrier::Link(link) => link.round_trip(),
            Carrier::Cloudflared(link) => link.round_trip(),
            Carrier::CloudflaredEdge(link) => link.round_trip(),
        }
    }

    /// Whether it runs over QUIC.
    #[must_use]
    pub fn is_quic(&self) -> bool {
        match self {
            Carrier::Link(link) => link.is_quic(),
            Carrier::Cloudflared(link) => link.quic_path().is_some(),
            Carrier::CloudflaredEdge(_) => false,
        }
    }

    /// What is known of the path of a carrier over QUIC; `None` over TCP, and when it has ended.
    #[must_use]
    pub fn quic_path(&self) -> Option<QuicPath> {
        match self {
            Carrier::Link(link) => link.quic_path(),
            Carrier::Cloudflared(link) => link.quic_path(),
            Carrier::CloudflaredEdge(_) => None,
        }
    }

    /// Whether the connector has recently shown that it is alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match self {
            Carrier::Link(link) => link.liveness(),
            Carrier::Cloudflared(_) => Liveness::default(),
            Carrier::CloudflaredEdge(link) => link.liveness(),
        }
    }

    /// Notes that a call begins. If the connector has been silent, sends it a PING.
    pub fn on_call(&self) {
        match self {
            Carrier::Link(link) => link.on_call(),
            Carrier::Cloudflared(_) => {}
            Carrier::CloudflaredEdge(link) => link.on_call(),
        }
    }

    /// From now on, raises `heard` when data arrives from the connector after calls were begun.
    pub fn set_heard_signal(&self, heard: Rc<Signal>) {
        match self {
            Carrier::Link(link) => link.set_heard_signal(heard),
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => {}
        }
    }

    /// At the edge: counts how often the connector did not answer for `after`; see [`Carrier::stalled_after`].
    pub fn watch_stalls(&self, after: Duration) {
        match self {
            Carrier::Link(link) => link.watch_stalls(after),
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => {}
        }
    }

    /// Waits until the connector has stalled more than `seen` times. Returns how often it has.
    pub async fn stalled_after(&self, seen: u64) -> u64 {
        match self {
            Carrier::Link(link) => link.stalled_after(seen).await,
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => pending().await,
        }
    }

    /// At the edge: withdraws the calls that [allow it](CarrierStream::set_withdrawal). They end as calls that the
    /// connector did not pass on.
    pub fn withdraw(&self) {
        match self {
            Carrier::Link(link) => link.withdraw(),
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => {}
        }
    }

    /// Stops new calls on both sides. Calls in flight may finish.
    pub fn drain(&self) {
        match self {
            Carrier::Link(link) => link.drain(),
            Carrier::Cloudflared(link) => link.drain(),
            Carrier::CloudflaredEdge(link) => link.drain(),
        }
    }

    /// Whether one side has asked to drain.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        match self {
            Carrier::Link(link) => link.is_draining(),
            Carrier::Cloudflared(link) => link.is_draining(),
            Carrier::CloudflaredEdge(link) => link.is_draining(),
        }
    }

    /// Waits until one side has asked to drain, or the carrier has ended.
    pub async fn draining(&self) {
        match self {
            Carrier::Link(link) => link.draining().await,
            Carrier::Cloudflared(link) => link.draining().await,
            Carrier::CloudflaredEdge(link) => link.draining().await,
        }
    }

    /// Waits until the last call of a draining carrier has ended, or the carrier has.
    pub async fn drained(&self) {
        match self {
            Carrier::Link(link) => link.drained().await,
            Carrier::Cloudflared(link) => link.drained().await,
            Carrier::CloudflaredEdge(link) => link.drained().await,
        }
    }

    /// Ends the carrier now. Calls in flight are reset.
    pub fn close(&self, reason: CloseReason) {
        match self {
            Carrier::Link(link) => link.close(match reason {
                CloseReason::Ended => Fault::Ended,
                CloseReason::DrainTimeout => Fault::DrainTimeout,
                CloseReason::Revoked => Fault::Revoked,
            }),
            Carrier::Cloudflared(link) => link.close(reason),
            Carrier::CloudflaredEdge(link) => link.close(reason),
        }
    }

    /// Why it ended, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<CarrierEnded> {
        match self {
            Carrier::Link(link) => link.ended().map(CarrierEnded::Link),
            Carrier::Cloudflared(link) => link.ended().map(CarrierEnded::Cloudflared),
            Carrier::CloudflaredEdge(link) => link.ended().map(CarrierEnded::CloudflaredEdge),
        }
    }

    /// How it was lost; `None` while it is there, or if one side ended it on purpose.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Carrier::Link(link) => {
                let is_loss = matches!(link.ended()?.fault, Fault::TransportLost | Fault::PeerSilent);
                is_loss.then(|| if link.is_closed_by_peer() { Loss::Closed } else { Loss::CutOff })
            }
            Carrier::Cloudflared(link) => match link.ended()? {
                CloudflaredEnded::Lost | CloudflaredEnded::ByEdge => Some(Loss::Closed),
                CloudflaredEnded::Silent => Some(Loss::CutOff),
                CloudflaredEnded::Closed(_) | CloudflaredEnded::Fault => None,
            },
            Carrier::CloudflaredEdge(link) => match link.ended()? {
                CloudflaredEdgeEnded::Lost | CloudflaredEdgeEnded::ByConnector => Some(Loss::Closed),
                CloudflaredEdgeEnded::Silent => Some(Loss::CutOff),
                CloudflaredEdgeEnded::Closed(_) | CloudflaredEdgeEnded::Left | CloudflaredEdgeEnded::Fault => None,
            },
        }
    }
}

impl CarrierEnded {
    /// The side that ended it.
    #[must_use]
    pub fn by(&self) -> Side {
        match self {
            CarrierEnded::Link(ended) => ended.by,
            CarrierEnded::Cloudflared(ended) if ended.is_by_this_side() => Side::Local,
            CarrierEnded::CloudflaredEdge(ended) if ended.is_by_this_side() => Side::Local,
            CarrierEnded::Cloudflared(_) | CarrierEnded::CloudflaredEdge(_) => Side::Peer,
        }
    }
}

impl fmt::Display for CarrierEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CarrierEnded::Link(ended) => ended.fault.fmt(f),
            CarrierEnded::Cloudflared(ended) => ended.fmt(f),
            CarrierEnded::CloudflaredEdge(ended) => ended.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_in_the_terms_of_its_protocol() {
        let ended = CarrierEnded::Link(LinkEnded { fault: Fault::Revoked, by: Side::Peer });
        assert_eq!((ended.to_string(), ended.by()), (Fault::Revoked.to_string(), Side::Peer));
    }
}
