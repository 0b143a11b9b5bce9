//! The list of buffers that one gathered send points to.

use std::ptr::{self, NonNull};

use crate::engine::Lease;
use crate::engine::sys::outgoing::GATHER_MAX;

/// A message header and the list that it points to, at a place in memory that does not change.
pub(super) struct MessageHeader(NonNull<Body>);

struct Body {
    header: libc::msghdr,
    slices: [libc::iovec; GATHER_MAX],
}

impl MessageHeader {
    pub(super) fn new() -> MessageHeader {
        let nothing = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: a message header of zeroes is a valid one, without name, list or control data.
        let header = unsafe { std::mem::zeroed::<libc::msghdr>() };
        let body = Box::new(Body { header, slices: [nothing; GATHER_MAX] });
        MessageHeader(NonNull::from(Box::leak(body)))
    }

    /// Lists `leases`, at most [`GATHER_MAX`] of them, and returns the header. It is valid until the next call.
    pub(super) fn list<'a>(&mut self, leases: impl Iterator<Item = &'a Lease>) -> *const libc::msghdr {
        // SAFETY: the body was leaked by `new` and is freed by `drop` alone; `&mut self` keeps other access away.
        let body = unsafe { self.0.as_mut() };
        let mut listed = 0;
        for (slice, lease) in body.slices.iter_mut().zip(leases) {
            *slice = libc::iovec { iov_base: lease.as_ptr().cast_mut().cast(), iov_len: lease.len() };
            listed += 1;
        }
        body.header.msg_iov = body.slices.as_mut_ptr();
        body.header.msg_iovlen = listed as _;
        &raw const body.header
    }
}

impl Drop for MessageHeader {
    fn drop(&mut self) {
        // SAFETY: the body came from a box that `new` leaked, and is freed once, here.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
