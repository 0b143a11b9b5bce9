//! A datagram socket of a driver on the kernel. The driver reports when it is readable and writable; everything else is the same
//! on epoll and io_uring.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::engine::driver::{DriverEvent, Token};
use crate::engine::pool::{Class, Pool, SMALL_LEN};
use crate::engine::sys::datagram_calls::{self as calls, Arrived};
use crate::engine::{BoundDatagrams, DatagramBatch, Lease};

/// How many batches a socket may receive in one turn before it is the turn of others.
const TURN_BATCHES_MAX: usize = 16;

/// The result of a round of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum DatagramRound {
    /// Nothing is left, or receiving was paused.
    Drained,
    /// The socket used up its share of the turn.
    More,
    /// The pool has no buffer left.
    Starved,
}

pub(in crate::engine) struct DatagramSocket {
    fd: OwnedFd,
    /// Whether the kernel cuts batches into datagrams.
    cuts_batches: bool,
    is_armed: bool,
    is_readable: bool,
    is_writable: bool,
    outgoing: VecDeque<DatagramBatch>,
    /// Whether the token is in the driver's list of sockets to flush.
    pub(in crate::engine) is_dirty: bool,
    /// Whether the token is in the driver's list of sockets to read from, or of those without a buffer.
    pub(in crate::engine) is_listed: bool,
}

impl DatagramSocket {
    /// Opens a socket at `address`.
    ///
    /// # Errors
    ///
    /// The errors of socket and bind.
    pub(in crate::engine) fn bind(address: SocketAddr) -> io::Result<(DatagramSocket, BoundDatagrams)> {
        let (fd, address) = calls::bind(address)?;
        let segments_max = calls::segments_max(&fd);
        let socket = DatagramSocket {
            fd,
            cuts_batches: segments_max > 1,
            is_armed: false,
            is_readable: false,
            is_writable: true,
            outgoing: VecDeque::new(),
            is_dirty: false,
            is_listed: false,
        };
        Ok((socket, BoundDatagrams { address, segments_max }))
    }

    pub(in crate::engine) fn arm(&mut self, armed: bool) {
        self.is_armed = armed;
    }

    /// Records what the driver was told.
    pub(in crate::engine) fn note(&mut self, is_readable: bool, is_writable: bool) {
        self.is_readable |= is_readable;
        self.is_writable |= is_writable;
    }

    pub(in crate::engine) fn wants_to_receive(&self) -> bool {
        self.is_armed && self.is_readable
    }

    /// Whether datagrams wait until the system's buffer has room.
    pub(in crate::engine) fn waits_for_room(&self) -> bool {
        !self.is_writable && !self.outgoing.is_empty()
    }

    pub(in crate::engine) fn queue(&mut self, batch: DatagramBatch) {
        if !batch.bytes.is_empty() {
            self.outgoing.push_back(batch);
        }
    }

    /// Gives the system as many datagrams as it accepts.
    pub(in crate::engine) fn flush(&mut self, socket: Token, events: &mut Vec<DriverEvent>) {
        let mut sent = 0;
        while self.is_writable
            && let Some(batch) = self.outgoing.front_mut()
        {
            let segment_len = batch.segment_len.clamp(1, batch.bytes.len());
            let is_cut = self.cuts_batches && segment_len < batch.bytes.len();
            let len = if is_cut { batch.bytes.len() } else { segment_len };
            match calls::send(self.fd.as_fd(), batch, &batch.bytes[..len], is_cut.then_some(segment_len)) {
                Ok(()) => {
                    sent += len;
                    batch.bytes.advance(len);
                    if batch.bytes.is_empty() {
                        self.outgoing.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The device of this route cannot cut batches.
                Err(error) if is_cut && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => {
                    self.cuts_batches = false;
                }
                Err(error) => {
                    let bytes = batch.bytes.len();
                    self.outgoing.pop_front();
                    events.push(DriverEvent::DatagramsDropped { socket, bytes, error });
                }
            }
        }
        if sent > 0 {
            events.push(DriverEvent::Sent { socket, bytes: sent });
        }
    }

    /// Receives what is there, as far as there are buffers.
    pub(in crate::engine) fn receive(
        &mut self,
        socket: Token,
        pool: &Pool,
        events: &mut Vec<DriverEvent>,
    ) -> DatagramRound {
        let mut spare = None;
        for _ in 0..TURN_BATCHES_MAX {
            if !self.wants_to_receive() {
                return DatagramRound::Drained;
            }
            let Some(mut lease) = spare.take().or_else(|| pool.take_for_receive(Class::Large)) else {
                return DatagramRound::Starved;
            };
            match calls::receive(self.fd.as_fd(), lease.spare_mut()) {
                // Nothing can be made of a datagram without its end, and an empty one means nothing.
                Ok(Arrived { is_truncated: true, .. } | Arrived { len: 0, .. }) => spare = Some(lease),
                Ok(Arrived { len, peer, local, ecn, segment_len, .. }) => {
                    lease.filled(len);
                    let bytes = in_small_buffer(lease, pool, &mut spare);
                    let segment_len = segment_len.unwrap_or(len);
                    let batch = DatagramBatch { peer, local, ecn, segment_len, bytes };
                    events.push(DriverEvent::DatagramsReceived { socket, batch });
                }
                // Other errors report what became of earlier datagrams.
                Err(error) if error.kind() == ErrorKind::Interrupted => spare = Some(lease),
                Err(_) => self.is_readable = false,
            }
        }
        if self.wants_to_receive() { DatagramRound::More } else { DatagramRound::Drained }
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Copies a short content into a small buffer, if there is one. The large buffer is then spare.
fn in_small_buffer(lease: Lease, pool: &Pool, spare: &mut Option<Lease>) -> Lease {
    if lease.len() > SMALL_LEN {
        return lease;
    }
    let Some(mut small) = pool.take_for_receive(Class::Small) else { return lease };
    small.append(&lease);
    let mut large = lease;
    large.truncate(0);
    *spare = Some(large);
    small
}
