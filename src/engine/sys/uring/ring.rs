//! The submission and completion queues of io_uring.

use std::io::{self, ErrorKind};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::operation::{Verb, name};
use crate::engine::driver::Token;
use crate::engine::sys::buf_ring::BufRing;

/// The size of the submission queue. More operations take more than one system call.
const SUBMISSIONS: u32 = 256;
/// The size of the completion queue; the kernel keeps further completions aside.
const COMPLETIONS: u32 = 4096;

/// One way to set up a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Setup {
    single_issuer: bool,
    defer_taskrun: bool,
    coop_taskrun: bool,
    submit_all: bool,
}

/// From the best one to the one that every kernel with multishot receive supports.
const SETUPS: [Setup; 4] = [
    Setup { single_issuer: true, defer_taskrun: true, coop_taskrun: false, submit_all: true },
    Setup { single_issuer: true, defer_taskrun: false, coop_taskrun: true, submit_all: true },
    Setup { single_issuer: false, defer_taskrun: false, coop_taskrun: true, submit_all: true },
    Setup { single_issuer: false, defer_taskrun: false, coop_taskrun: false, submit_all: false },
];

/// One entry of the completion queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) name: u64,
    /// The result of the system call: not negative, or a negative error code.
    pub(super) result: i32,
    /// The buffer that the kernel picked.
    pub(super) buffer: Option<u16>,
    /// Whether more completions of the operation follow.
    pub(super) more: bool,
}

pub(super) struct Ring {
    io: IoUring,
    setup: Setup,
    in_kernel: usize,
}

impl Ring {
    /// Creates the best ring that the kernel supports.
    ///
    /// # Errors
    ///
    /// The error of the system; [`ErrorKind::Unsupported`] if the kernel is too old.
    pub(super) fn new() -> io::Result<Ring> {
        let mut refused = io::Error::from(ErrorKind::Unsupported);
        for setup in SETUPS {
            match setup.build() {
                Ok(io) => return Ring { io, setup, in_kernel: 0 }.checked(),
                // The kernel does not know one of the flags.
                Err(error) if error.kind() == ErrorKind::InvalidInput => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    fn checked(self) -> io::Result<Ring> {
        let features = self.io.params();
        let enough = features.is_feature_nodrop()
            && features.is_feature_ext_arg()
            && features.is_feature_fast_poll()
            && features.is_feature_submit_stable();
        if enough { Ok(self) } else { Err(io::Error::new(ErrorKind::Unsupported, "the kernel's io_uring is too old")) }
    }

    /// How it was set up, as text.
    pub(super) fn describe(&self) -> &'static str {
        match self.setup {
            Setup { defer_taskrun: true, .. } => "multishot, deferred task work",
            Setup { coop_taskrun: true, .. } => "multishot, cooperative task work",
            _ => "multishot, plain flags",
        }
    }

    /// How many operations the kernel has not ended yet.
    pub(super) fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Queues an operation for the kernel.
    ///
    /// # Errors
    ///
    /// If the queue is full and the kernel takes nothing from it.
    ///
    /// # Safety
    ///
    /// What the operation points to must stay valid, and unchanged as far as the operation requires, until its last
    /// completion. Its descriptor must stay open until then.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: as this function demands.
        if unsafe { self.io.submission().push(entry) }.is_err() {
            passing(self.io.submit())?;
            // SAFETY: as this function demands.
            let pushed = unsafe { self.io.submission().push(entry) };
            pushed.map_err(|_| io::Error::new(ErrorKind::OutOfMemory, "the kernel takes no more operations"))?;
        }
        self.in_kernel += 1;
        Ok(())
    }

    /// Queues the cancellation of one operation. The cancellation ends by itself, with or without an error.
    pub(super) fn cancel(&mut self, verb: Verb, token: Token) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(name(verb, token)).build().user_data(name(Verb::Cancel, token));
        // SAFETY: the operation points to nothing and has no descriptor.
        unsafe { self.push(&entry) }
    }

    /// Queues the cancellation of all operations.
    pub(super) fn cancel_all(&mut self, token: Token) -> io::Result<()> {
        let everything = CancelBuilder::any().all();
        let entry = opcode::AsyncCancel2::new(everything).build().user_data(name(Verb::Cancel, token));
        // SAFETY: the operation points to nothing and has no descriptor.
        unsafe { self.push(&entry) }
    }

    /// Submits what is queued and collects completions, without waiting. Makes no system call if there is nothing to
    /// submit and nothing that requires a call.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        let submission = self.io.submission();
        let idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
        drop(submission);
        if idle { Ok(()) } else { passing(self.io.submit()) }
    }

    /// Submits what is queued and waits for a completion; forever without a timeout.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else { return passing(self.io.submit_and_wait(1)) };
        let timeout = Timespec::from(timeout);
        passing(self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout)))
    }

    /// Appends the completions that are there.
    pub(super) fn collect(&mut self, completions: &mut Vec<Completion>) {
        for entry in self.io.completion() {
            let more = cqueue::more(entry.flags());
            self.in_kernel -= usize::from(!more);
            completions.push(Completion {
                name: entry.user_data(),
                result: entry.result(),
                buffer: cqueue::buffer_select(entry.flags()),
                more,
            });
        }
    }

    /// Whether the kernel writes to buffers only when it is entered, and has nothing to report: then no buffer that it holds has
    /// content.
    pub(super) fn buffers_are_empty(&mut self) -> bool {
        let Setup { defer_taskrun, .. } = self.setup;
        defer_taskrun && !self.io.submission().cq_overflow() && self.io.completion().is_empty()
    }

    /// Lets the kernel pick buffers from `ring`, under the name `group`.
    pub(super) fn register(&self, ring: &mut BufRing, entries: u16, group: u16) -> io::Result<()> {
        let address = ring.registered();
        // SAFETY: the memory holds `entries` entries and is kept until it was unregistered; what is put into it is valid,
        // as `BufRing::push` demands.
        let registered = unsafe { self.io.submitter().register_buf_ring_with_flags(address, entries, group, 0) };
        if registered.is_err() {
            ring.unregistered();
        }
        registered
    }

    /// Ends the registration of `ring` under the name `group`.
    pub(super) fn unregister(&self, ring: &mut BufRing, group: u16) -> io::Result<()> {
        self.io.submitter().unregister_buf_ring(group)?;
        ring.unregistered();
        Ok(())
    }
}

impl Setup {
    fn build(self) -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS);
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun().setup_taskrun_flag();
        }
        if self.coop_taskrun {
            builder.setup_coop_taskrun().setup_taskrun_flag();
        }
        if self.submit_all {
            builder.setup_submit_all();
        }
        builder.build(SUBMISSIONS)
    }
}

/// Results of io_uring_enter(2) after which the driver continues.
fn passing(entered: io::Result<usize>) -> io::Result<()> {
    match entered.map_err(|error| (error.raw_os_error(), error)) {
        // The timeout; a signal; completions that must be collected first; a temporary lack of memory.
        Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => Ok(()),
        Err((_, error)) => Err(error),
    }
}
