//! What a datagram socket receives and sends.

use std::net::{IpAddr, SocketAddr};

use crate::engine::Lease;

/// The most bytes of one batch: the payload of the largest IPv4 packet.
pub const BATCH_LEN_MAX: usize = 65_507;

/// A mark of explicit congestion notification (RFC 3168 section 5). A packet without one is `None` wherever this is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// ECT(0): the sender reacts to congestion.
    Capable0,
    /// ECT(1): the same, as the experiments of RFC 8311 use it.
    Capable1,
    /// CE: a router on the path is congested.
    Congested,
}

impl Ecn {
    /// The mark in the two lowest bits of a traffic class.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Ecn> {
        match bits & 0b11 {
            0b10 => Some(Ecn::Capable0),
            0b01 => Some(Ecn::Capable1),
            0b11 => Some(Ecn::Congested),
            _ => None,
        }
    }

    /// The two bits of the mark.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Ecn::Capable0 => 0b10,
            Ecn::Capable1 => 0b01,
            Ecn::Congested => 0b11,
        }
    }
}

/// One or more datagrams between the same two addresses. The kernel cuts a batch into datagrams when it is sent (GSO), and may
/// put received ones together (GRO).
#[derive(Debug)]
pub struct DatagramBatch {
    /// The other side: whence it came, or where it goes.
    pub peer: SocketAddr,
    /// The address of this side: where it arrived, or the source to send from. `None` leaves the choice to the system.
    pub local: Option<IpAddr>,
    /// The mark that it carried or is to carry.
    pub ecn: Option<Ecn>,
    /// The length of each datagram in bytes; the last may be shorter.
    pub segment_len: usize,
    /// The payloads, one after another; at most [`BATCH_LEN_MAX`] bytes.
    pub bytes: Lease,
}

impl DatagramBatch {
    /// The payload of each datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment_len.max(1))
    }
}

/// The outcome of opening a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundDatagrams {
    /// The bound address, with its port.
    pub address: SocketAddr,
    /// How many datagrams one batch may have when it is sent: 1 if the kernel cannot cut batches.
    pub segments_max: usize,
}
