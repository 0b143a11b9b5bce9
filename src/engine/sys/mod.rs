//! The code that accesses raw memory and the kernel. All `unsafe` code of the project is in this module.

#![allow(unsafe_code, reason = "this is the one place for it; every block carries its SAFETY note")]

pub(in crate::engine) mod affinity;
pub(in crate::engine) mod alarm;
pub(in crate::engine) mod allocator;
pub(in crate::engine) mod arena;
pub(in crate::engine) mod buf_ring;
mod datagram_calls;
pub(in crate::engine) mod datagram_socket;
pub(in crate::engine) mod epoll;
pub(in crate::engine) mod lease;
#[cfg(test)]
mod no_ring;
pub(in crate::engine) mod outgoing;
pub(in crate::engine) mod places;
pub(in crate::engine) mod poller;
pub(in crate::engine) mod receive_class;
pub(in crate::engine) mod socket;
pub(in crate::engine) mod uring;
pub(in crate::engine) mod wake;
