//! The sending direction of a connection on the ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::connection::DriverShared;
use super::message::MessageHeader;
use super::operation::{InKernel, Verb, name};
use super::ring::Ring;
use crate::engine::driver::Token;
use crate::engine::sys::outgoing::Outgoing;

/// How a send is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SendMode {
    /// It waits for room.
    Waits,
    /// The kernel completes it while it takes it, even if there is no room.
    Tried,
    /// The same, with a second completion unless everything was sent. A wait that passes over the first ends with the second.
    TriedAndReported,
}

/// A send queue whose front is in the kernel while a send is in flight.
///
/// A send is tried first. If not everything was sent, the next one waits for room.
pub(super) struct SendQueue {
    pub(super) outgoing: Outgoing,
    operation: InKernel,
    /// How the send in flight is made.
    mode: SendMode,
    /// The last send was not completed whole, so that the next one waits for room.
    pub(super) is_full: bool,
    /// The length of the send in flight, in bytes.
    len: usize,
    message: Option<MessageHeader>,
}

impl SendQueue {
    pub(super) fn new() -> SendQueue {
        SendQueue {
            outgoing: Outgoing::new(),
            operation: InKernel::default(),
            mode: SendMode::Waits,
            is_full: false,
            len: 0,
            message: None,
        }
    }

    /// Whether a send is in flight.
    pub(super) fn is_in_kernel(&self) -> bool {
        self.operation.is_there
    }

    /// Starts a send of queued bytes, unless one is in flight; returns true if nothing is queued.
    pub(super) fn start(&mut self, token: Token, fd: &impl AsFd, shared: &mut DriverShared) -> io::Result<bool> {
        if self.operation.is_there {
            return Ok(false);
        }
        // The report costs the kernel something, and a core with several sends has no long wait before it.
        self.mode = match self.is_full {
            true => SendMode::Waits,
            false if shared.sends_tried > 0 => SendMode::Tried,
            false => SendMode::TriedAndReported,
        };
        let Some(entry) = self.entry(Fd(fd.as_fd().as_raw_fd()), &mut shared.messages) else { return Ok(true) };
        let entry = entry.user_data(name(Verb::Send, token));
        if self.mode == SendMode::TriedAndReported {
            // SAFETY: what is to be sent stays at the front of `outgoing`, untouched, until the completion of this operation
            // takes it off or, failing, has it dropped; the message stays in `message` as long. Were this dropped before,
            // both would be leaked. The connection keeps its descriptor while `is_in_kernel`.
            unsafe { shared.ring.push_with_report(entry) }?;
        } else {
            // SAFETY: as above.
            unsafe { shared.ring.push(&entry) }?;
        }
        self.outgoing.begin_send();
        self.operation.started();
        self.len = self.outgoing.front().map(|lease| lease.len()).sum();
        shared.sends_tried += usize::from(self.mode != SendMode::Waits);
        shared.sends_reported += usize::from(self.mode == SendMode::TriedAndReported);
        Ok(false)
    }

    /// Cancels the send in flight, once.
    pub(super) fn cancel(&mut self, token: Token, ring: &mut Ring) -> io::Result<()> {
        if self.operation.take_cancel() { ring.cancel(Verb::Send, token) } else { Ok(()) }
    }

    /// Records that the send has ended. The sent bytes must still be removed from the queue.
    pub(super) fn ended(&mut self, shared: &mut DriverShared) {
        self.operation.ended();
        shared.sends_tried -= usize::from(self.mode != SendMode::Waits);
        shared.sends_reported -= usize::from(self.mode == SendMode::TriedAndReported);
        self.is_full = false;
        self.outgoing.end_send();
        shared.messages.extend(self.message.take());
    }

    /// Removes the bytes from the queue that a send has sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.is_full = bytes < self.len;
        self.outgoing.sent(bytes);
    }

    fn entry(&mut self, fd: Fd, messages: &mut Vec<MessageHeader>) -> Option<squeue::Entry> {
        let flags = match self.mode {
            SendMode::Waits => libc::MSG_NOSIGNAL,
            SendMode::Tried => libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
            // With MSG_WAITALL, a send of a part counts as a failure for what is linked to it.
            SendMode::TriedAndReported => libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL,
        };
        let mut front = self.outgoing.front();
        if front.len() > 1 {
            let message = self.message.insert(messages.pop().unwrap_or_else(MessageHeader::new));
            return Some(opcode::SendMsg::new(fd, message.list(front)).flags(flags as u32).build());
        }
        let only = front.next()?;
        let len = u32::try_from(only.len()).unwrap_or(u32::MAX);
        Some(opcode::Send::new(fd, only.as_ptr(), len).flags(flags).build())
    }
}

impl Drop for SendQueue {
    fn drop(&mut self) {
        if self.operation.is_there {
            self.outgoing.abandon();
            std::mem::forget(self.message.take());
        }
    }
}
