//! Waking a core from another thread, by an eventfd.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::engine::driver::Wake;

/// A counter in the kernel that becomes readable when it is raised.
pub(in crate::engine) struct EventFd(File);

impl EventFd {
    pub(in crate::engine) fn new() -> io::Result<EventFd> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened by the call above, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventFd(File::from(fd)))
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wake for EventFd {
    fn wake(&self) {
        // Fails only when the counter is at its maximum, and then it is readable.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn it_counts() {
        let event = EventFd::new().unwrap();
        event.wake();
        event.wake();
        let mut count = [0; 8];
        assert_eq!((&event.0).read(&mut count).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(count), 2);
    }
}
