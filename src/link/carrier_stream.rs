use std::task::{Context, Poll};
use std::time::Duration;

use crate::base::{CallFailure, LinkId, Time, Traffic};
use crate::engine::{ByteStream, Lease, StreamError};
use crate::latency::ConnectorTimes;
use crate::link::cloudflared::{CloudflaredEdgeStream, CloudflaredStream};
use crate::link::times::{report_of, times_of};
use crate::link::{CallOpen, LinkStream, Liveness};
use crate::wire::mux::{self, Withdrawal};

/// The bytes of one call, or of one inner TLS session, on a [`Carrier`](crate::link::Carrier). It is reset if it is
/// dropped before both sides have finished.
pub enum CarrierStream {
    /// A stream of a link.
    Link(LinkStream),
    /// A request of HTTP/2 that an edge of cloudflared has sent. Boxed, so that streams of links do not have its size.
    Cloudflared(Box<CloudflaredStream>),
    /// A request of HTTP/2 that this edge sends to a connector of cloudflared. Boxed too.
    CloudflaredEdge(Box<CloudflaredEdgeStream>),
}

impl CarrierStream {
    /// At the connector: what the edge sent when it opened the call.
    #[must_use]
    pub fn opening<T>(&self, look: impl FnOnce(CallOpen<'_>) -> T) -> Option<T> {
        match self {
            CarrierStream::Link(stream) => stream.opening(|open| {
                let mux::Open { route, call, traffic, peer, until } = open;
                look(CallOpen { host: route, call, traffic, peer, until })
            }),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => None,
        }
    }

    /// At the connector: the number and traffic of the call; cheaper than [`CarrierStream::opening`].
    #[must_use]
    pub fn call(&self) -> Option<(u64, Traffic)> {
        match self {
            CarrierStream::Link(stream) => stream.call(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => None,
        }
    }

    /// At the connector: the random number of the process of the edge.
    #[must_use]
    pub fn edge_instance(&self) -> Option<u64> {
        match self {
            CarrierStream::Link(stream) => stream.link().edge_instance(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => None,
        }
    }

    /// The end of the call's time, on the clock of this side, if it is limited and the other side knows it.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        match self {
            CarrierStream::Link(stream) => stream.until(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => None,
        }
    }

    /// The one-way latency of the carrier.
    #[must_use]
    pub fn way(&self) -> Duration {
        match self {
            CarrierStream::Link(stream) => stream.link().way(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => Duration::ZERO,
        }
    }

    /// Whether the other side of the carrier has recently shown that it is alive.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        match self {
            CarrierStream::Link(stream) => stream.link().liveness(),
            CarrierStream::Cloudflared(_) => Liveness::default(),
            CarrierStream::CloudflaredEdge(stream) => stream.link().liveness(),
        }
    }

    /// At the edge: notes that a call begins. If the connector has been silent, sends it a PING.
    pub fn on_call(&self) {
        match self {
            CarrierStream::Link(stream) => stream.link().on_call(),
            CarrierStream::Cloudflared(_) => {}
            CarrierStream::CloudflaredEdge(stream) => stream.link().on_call(),
        }
    }

    /// The number of its carrier.
    #[must_use]
    pub fn carrier_id(&self) -> LinkId {
        match self {
            CarrierStream::Link(stream) => stream.link().id(),
            CarrierStream::Cloudflared(stream) => stream.link().id(),
            CarrierStream::CloudflaredEdge(stream) => stream.link().id(),
        }
    }

    /// Whether its carrier takes new calls.
    #[must_use]
    pub fn is_carrier_open(&self) -> bool {
        match self {
            CarrierStream::Link(stream) => stream.link().is_open(),
            CarrierStream::Cloudflared(stream) => stream.link().is_open(),
            CarrierStream::CloudflaredEdge(stream) => stream.link().is_open(),
        }
    }

    /// Whether its carrier takes no new calls, because one side has asked to drain.
    #[must_use]
    pub fn is_carrier_draining(&self) -> bool {
        match self {
            CarrierStream::Link(stream) => stream.link().is_draining(),
            CarrierStream::Cloudflared(stream) => stream.link().is_draining(),
            CarrierStream::CloudflaredEdge(stream) => stream.link().is_draining(),
        }
    }

    /// Waits until one side has asked to drain the carrier, or the carrier has ended.
    pub async fn carrier_draining(&self) {
        match self {
            CarrierStream::Link(stream) => stream.link().draining().await,
            CarrierStream::Cloudflared(stream) => stream.link().draining().await,
            CarrierStream::CloudflaredEdge(stream) => stream.link().draining().await,
        }
    }

    /// At the edge: the connector's last report of the call's times. It was sent before the bytes that were received
    /// since.
    #[must_use]
    pub fn times(&self) -> Option<ConnectorTimes> {
        match self {
            CarrierStream::Link(stream) => stream.phases().as_ref().map(times_of),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => None,
        }
    }

    /// Drops the report, because the stream now carries another call.
    pub fn forget_times(&self) {
        match self {
            CarrierStream::Link(stream) => stream.forget_phases(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => {}
        }
    }

    /// At the connector: reports the times of the call, after all bytes that are queued: once when the head of the
    /// response was received, and once at the end, with the time of the upstream's last byte. If the stream has failed,
    /// nothing is reported; its next use returns the error.
    pub fn send_times(&self, times: &ConnectorTimes) {
        match self {
            CarrierStream::Link(stream) => drop(stream.send_phases(report_of(times))),
            // The protocol has no place for them.
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => {}
        }
    }

    /// When the first unread byte arrived; without unread bytes, when the last ones arrived.
    #[must_use]
    pub fn received_at(&self) -> Time {
        match self {
            CarrierStream::Link(stream) => stream.received_at(),
            CarrierStream::Cloudflared(stream) => stream.received_at(),
            CarrierStream::CloudflaredEdge(stream) => stream.received_at(),
        }
    }

    /// Resets the call with a reason, which is sent to the peer.
    pub fn reset(&self, failure: CallFailure) {
        match self {
            CarrierStream::Link(stream) => stream.reset(failure.into()),
            CarrierStream::Cloudflared(stream) => stream.reset(failure),
            CarrierStream::CloudflaredEdge(stream) => stream.reset(failure),
        }
    }

    /// At the edge: sets whether the call may be [withdrawn](crate::link::Carrier::withdraw).
    pub fn set_withdrawal(&self, withdrawal: Withdrawal) {
        match self {
            CarrierStream::Link(stream) => stream.set_withdrawal(withdrawal),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => {}
        }
    }

    /// Whether the call was withdrawn, so that it may be opened again elsewhere.
    #[must_use]
    pub fn is_withdrawn(&self) -> bool {
        match self {
            CarrierStream::Link(stream) => stream.is_withdrawn(),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => false,
        }
    }

    /// Ready when the other side has reset the call, or the carrier has ended; even after the other side's last byte.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        match self {
            CarrierStream::Link(stream) => stream.poll_broken(cx).map(CallFailure::from),
            CarrierStream::Cloudflared(stream) => stream.poll_broken(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_broken(cx),
        }
    }

    /// Why the call was reset, by either side or with its carrier, if it was.
    #[must_use]
    pub fn broken_for(&self) -> Option<CallFailure> {
        match self {
            CarrierStream::Link(stream) => stream.reset_cause().map(CallFailure::from),
            CarrierStream::Cloudflared(stream) => stream.broken_for(),
            CarrierStream::CloudflaredEdge(stream) => stream.broken_for(),
        }
    }

    /// The error, if the call was reset before its last byte arrived, or because received bytes were not read.
    /// Otherwise wakes the task when that happens.
    #[must_use]
    pub fn failure(&self, cx: &mut Context<'_>) -> Option<StreamError> {
        match self {
            CarrierStream::Link(stream) => stream.failure(cx),
            CarrierStream::Cloudflared(stream) => stream.failure(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.failure(cx),
        }
    }

    /// Reports that the reader of the received bytes has accepted `n` bytes; see [`LinkStream::reader_took`].
    pub fn reader_took(&self, n: u64) {
        match self {
            CarrierStream::Link(stream) => stream.reader_took(n),
            CarrierStream::Cloudflared(_) | CarrierStream::CloudflaredEdge(_) => {}
        }
    }

    /// Whether its carrier is draining and waits for bytes that the other side still has to send on it.
    #[must_use]
    pub fn holds_up_drain(&self) -> bool {
        match self {
            CarrierStream::Link(stream) => stream.holds_up_drain(),
            CarrierStream::Cloudflared(stream) => stream.holds_up_drain(),
            CarrierStream::CloudflaredEdge(stream) => stream.holds_up_drain(),
        }
    }
}

impl ByteStream for CarrierStream {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        match self {
            CarrierStream::Link(stream) => stream.poll_recv(cx),
            CarrierStream::Cloudflared(stream) => stream.poll_recv(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_recv(cx),
        }
    }

    fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            CarrierStream::Link(stream) => stream.poll_ended(cx),
            CarrierStream::Cloudflared(stream) => stream.poll_ended(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_ended(cx),
        }
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        match self {
            CarrierStream::Link(stream) => stream.send(lease),
            CarrierStream::Cloudflared(stream) => stream.send(lease),
            CarrierStream::CloudflaredEdge(stream) => stream.send(lease),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self {
            CarrierStream::Link(stream) => stream.poll_ready(cx),
            CarrierStream::Cloudflared(stream) => stream.poll_ready(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_ready(cx),
        }
    }

    fn poll_flushed(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        match self {
            CarrierStream::Link(stream) => stream.poll_flushed(cx),
            CarrierStream::Cloudflared(stream) => stream.poll_flushed(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_flushed(cx),
        }
    }

    fn poll_send_failed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self {
            CarrierStream::Link(stream) => stream.poll_send_failed(cx),
            CarrierStream::Cloudflared(stream) => stream.poll_send_failed(cx),
            CarrierStream::CloudflaredEdge(stream) => stream.poll_send_failed(cx),
        }
    }

    fn finish(&self) {
        match self {
            CarrierStream::Link(stream) => stream.finish(),
            CarrierStream::Cloudflared(stream) => stream.finish(),
            CarrierStream::CloudflaredEdge(stream) => stream.finish(),
        }
    }

    fn abort(&self) {
        match self {
            CarrierStream::Link(stream) => stream.abort(),
            CarrierStream::Cloudflared(stream) => stream.abort(),
            CarrierStream::CloudflaredEdge(stream) => stream.abort(),
        }
    }

    fn headroom(&self) -> usize {
        match self {
            CarrierStream::Link(stream) => stream.headroom(),
            CarrierStream::Cloudflared(stream) => stream.headroom(),
            CarrierStream::CloudflaredEdge(stream) => stream.headroom(),
        }
    }

    fn tailroom(&self) -> usize {
        match self {
            CarrierStream::Link(stream) => stream.tailroom(),
            CarrierStream::Cloudflared(stream) => stream.tailroom(),
            CarrierStream::CloudflaredEdge(stream) => stream.tailroom(),
        }
    }
}
