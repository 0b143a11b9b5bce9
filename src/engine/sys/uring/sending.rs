//! The sending direction of a connection on the ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::message::MessageHeader;
use super::operation::{InKernel, Verb, name};
use super::ring::Ring;
use crate::engine::driver::Token;
use crate::engine::sys::outgoing::Outgoing;

/// A send queue whose front is in the kernel while a send is in flight.
pub(super) struct SendQueue {
    pub(super) outgoing: Outgoing,
    operation: InKernel,
    message: Option<MessageHeader>,
}

impl SendQueue {
    pub(super) fn new() -> SendQueue {
        SendQueue { outgoing: Outgoing::new(), operation: InKernel::default(), message: None }
    }

    /// Whether a send is in flight.
    pub(super) fn is_in_kernel(&self) -> bool {
        self.operation.is_there
    }

    /// Starts a send of queued bytes, unless one is in flight; returns true if nothing is queued. `messages` are those
    /// not in use.
    pub(super) fn start(
        &mut self,
        token: Token,
        fd: &impl AsFd,
        ring: &mut Ring,
        messages: &mut Vec<MessageHeader>,
    ) -> io::Result<bool> {
        if self.operation.is_there {
            return Ok(false);
        }
        let Some(entry) = self.entry(Fd(fd.as_fd().as_raw_fd()), messages) else { return Ok(true) };
        // SAFETY: what is to be sent stays at the front of `outgoing`, untouched, until the completion of this operation
        // takes it off or, failing, has it dropped; the message stays in `message` as long. Were this dropped before,
        // both would be leaked. The connection keeps its descriptor while `is_in_kernel`.
        unsafe { ring.push(&entry.user_data(name(Verb::Send, token))) }?;
        self.outgoing.begin_send();
        self.operation.started();
        Ok(false)
    }

    /// Cancels the send in flight, once.
    pub(super) fn cancel(&mut self, token: Token, ring: &mut Ring) -> io::Result<()> {
        if self.operation.take_cancel() { ring.cancel(Verb::Send, token) } else { Ok(()) }
    }

    /// Records that the send has ended. The sent bytes must still be removed from the queue.
    pub(super) fn ended(&mut self, messages: &mut Vec<MessageHeader>) {
        self.operation.ended();
        self.outgoing.end_send();
        messages.extend(self.message.take());
    }

    fn entry(&mut self, fd: Fd, messages: &mut Vec<MessageHeader>) -> Option<squeue::Entry> {
        let mut front = self.outgoing.front();
        if front.len() > 1 {
            let message = self.message.insert(messages.pop().unwrap_or_else(MessageHeader::new));
            return Some(opcode::SendMsg::new(fd, message.list(front)).flags(libc::MSG_NOSIGNAL as u32).build());
        }
        let only = front.next()?;
        let len = u32::try_from(only.len()).unwrap_or(u32::MAX);
        Some(opcode::Send::new(fd, only.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build())
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
