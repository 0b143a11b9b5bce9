//! A datagram socket on the ring, which polls it. Datagrams are sent and received by calls that do not block: one call carries a
//! whole batch, so that an operation for each would save little.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::connection::Advance;
use super::operation::{InKernel, Verb, name};
use super::ring::{Completion, Ring};
use crate::engine::BoundDatagrams;
use crate::engine::driver::{DriverEvent, Token};
use crate::engine::pool::Pool;
use crate::engine::sys::datagram_socket::{DatagramRound, DatagramSocket};

pub(super) struct PolledDatagrams {
    pub(super) socket: DatagramSocket,
    /// The poll for datagrams, which stays in the kernel.
    readable: InKernel,
    /// The poll for room to send, which is there only while datagrams wait for it.
    writable: InKernel,
    pub(super) is_leaving: bool,
}

impl PolledDatagrams {
    pub(super) fn bind(address: SocketAddr) -> io::Result<(PolledDatagrams, BoundDatagrams)> {
        let (socket, bound) = DatagramSocket::bind(address)?;
        let (readable, writable) = (InKernel::default(), InKernel::default());
        Ok((PolledDatagrams { socket, readable, writable, is_leaving: false }, bound))
    }

    /// Sends and receives what is possible, and starts and cancels the polls.
    pub(super) fn advance(
        &mut self,
        token: Token,
        ring: &mut Ring,
        pool: &Pool,
        events: &mut Vec<DriverEvent>,
    ) -> io::Result<Advance> {
        if self.is_leaving {
            if self.readable.take_cancel() {
                ring.cancel(Verb::Receive, token)?;
            }
            if self.writable.take_cancel() {
                ring.cancel(Verb::Send, token)?;
            }
            return Ok(if self.readable.is_there || self.writable.is_there { Advance::Stays } else { Advance::Goes });
        }
        if !self.readable.is_there {
            self.start(token, ring, Verb::Receive)?;
        }
        self.socket.flush(token, events);
        if self.socket.waits_for_room() && !self.writable.is_there {
            self.start(token, ring, Verb::Send)?;
        }
        Ok(match self.socket.receive(token, pool, events) {
            DatagramRound::Drained => Advance::Stays,
            DatagramRound::More => Advance::More,
            DatagramRound::Starved => Advance::Starves,
        })
    }

    /// Notes what a poll reported.
    pub(super) fn polled(&mut self, verb: Verb, completion: Completion) {
        let operation = if verb == Verb::Receive { &mut self.readable } else { &mut self.writable };
        if !completion.more {
            operation.ended();
        }
        self.socket.note(verb == Verb::Receive, verb == Verb::Send);
    }

    fn start(&mut self, token: Token, ring: &mut Ring, verb: Verb) -> io::Result<()> {
        let (events, operation) = match verb {
            Verb::Receive => (libc::POLLIN, &mut self.readable),
            _ => (libc::POLLOUT, &mut self.writable),
        };
        let fd = Fd(self.socket.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, events as u32).multi(verb == Verb::Receive).build();
        // SAFETY: the operation points to nothing; the socket keeps its descriptor until the operation has ended.
        unsafe { ring.push(&entry.user_data(name(verb, token))) }?;
        operation.started();
        Ok(())
    }
}
