//! A safe wrapper of epoll(7), which registers every descriptor edge-triggered.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use crate::engine::driver::Token;

/// The most reports from one wait.
const REPORTS_MAX: usize = 256;

/// The epoll instance, and the reports of the last wait.
pub(in crate::engine) struct Poller {
    fd: OwnedFd,
    reports: Box<[libc::epoll_event]>,
    /// Whether the kernel supports timeouts in nanoseconds.
    precise: bool,
}

/// The readiness of a descriptor.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct SocketReadiness(u32);

impl SocketReadiness {
    /// There is something to read, which may be the end or an error.
    pub(in crate::engine) fn readable(self) -> bool {
        self.has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// There is room to write, or writing returns an error.
    pub(in crate::engine) fn writable(self) -> bool {
        self.has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// The peer finished, or the connection failed.
    pub(in crate::engine) fn ended(self) -> bool {
        self.has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// The connection failed, or both sides have finished.
    pub(in crate::engine) fn hung_up(self) -> bool {
        self.has(libc::EPOLLHUP)
    }

    fn has(self, any_of: i32) -> bool {
        self.0 & any_of as u32 != 0
    }
}

impl Poller {
    pub(in crate::engine) fn new() -> io::Result<Poller> {
        // SAFETY: the call takes no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: `fd` was just opened by the call above, and nothing else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let reports = vec![libc::epoll_event { events: 0, u64: 0 }; REPORTS_MAX].into_boxed_slice();
        Ok(Poller { fd, reports, precise: true })
    }

    /// Registers `fd` for all events, edge-triggered, under the name `token`.
    pub(in crate::engine) fn add(&self, fd: &impl AsFd, token: Token) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Registers `fd` like [`Poller::add`], but reports only when it becomes readable.
    pub(in crate::engine) fn add_readable(&self, fd: &impl AsFd, token: Token) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLIN | libc::EPOLLET)
    }

    /// Changes whether a descriptor of [`Poller::add_readable`] is also reported when it becomes writable.
    pub(in crate::engine) fn report_writable(&self, fd: &impl AsFd, token: Token, wanted: bool) -> io::Result<()> {
        let writable = if wanted { libc::EPOLLOUT } else { 0 };
        self.control(libc::EPOLL_CTL_MOD, fd, token, libc::EPOLLIN | libc::EPOLLET | writable)
    }

    fn control(&self, operation: i32, fd: &impl AsFd, token: Token, interest: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest as u32, u64: key(token) };
        let (poller, fd) = (self.fd.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: `event` is valid for the whole call, and the kernel keeps no pointer to it.
        check(unsafe { libc::epoll_ctl(poller, operation, fd, &raw mut event) }).map(drop)
    }

    /// Ends the registration of `fd`.
    pub(in crate::engine) fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        let (poller, fd) = (self.fd.as_raw_fd(), fd.as_fd().as_raw_fd());
        // SAFETY: removing takes no event, and a null one is allowed since Linux 2.6.9.
        check(unsafe { libc::epoll_ctl(poller, libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) }).map(drop)
    }

    /// Waits until a descriptor is ready or the timeout has passed (`None` for no timeout); returns how many are ready.
    pub(in crate::engine) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let finely = self.precise && timeout.is_some_and(|timeout| !timeout.is_zero());
        let ready = if finely { self.wait_ns(timeout.unwrap_or_default()) } else { self.wait_ms(timeout) };
        match ready {
            Ok(ready) => Ok(usize::try_from(ready).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            // A kernel older than Linux 5.11, or a seccomp filter that does not know the system call.
            Err(_) if finely => {
                self.precise = false;
                self.wait(timeout)
            }
            Err(error) => Err(error),
        }
    }

    /// The report number `at` of the last wait.
    pub(in crate::engine) fn report(&self, at: usize) -> (Token, SocketReadiness) {
        let event = self.reports[at];
        (token(event.u64), SocketReadiness(event.events))
    }

    fn wait_ns(&mut self, timeout: Duration) -> io::Result<i64> {
        let timeout = KernelTimespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i64::from(timeout.subsec_nanos()),
        };
        let mask: *const libc::sigset_t = ptr::null();
        // SAFETY: `reports` is valid for writes of `REPORTS_MAX` events, `timeout` for reads, both for the whole call;
        // a null signal mask means none.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.reports.as_mut_ptr(),
                REPORTS_MAX,
                &raw const timeout,
                mask,
                0_usize,
            )
        };
        if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready) }
    }

    fn wait_ms(&mut self, timeout: Option<Duration>) -> io::Result<i64> {
        let ms = timeout.map_or(-1, whole_ms);
        // SAFETY: `reports` is valid for writes of `REPORTS_MAX` events for the whole call.
        let ready = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.reports.as_mut_ptr(), REPORTS_MAX as i32, ms) };
        check(ready).map(i64::from)
    }
}

/// The time format of the kernel's newer system calls, which is the same on every architecture.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanos: i64,
}

/// Rounds up, so that a wait of less than a millisecond does not become a busy loop.
fn whole_ms(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}

fn key(token: Token) -> u64 {
    u64::from(token.generation) << 32 | u64::from(token.index)
}

fn token(key: u64) -> Token {
    Token { index: key as u32, generation: (key >> 32) as u32 }
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_wait_is_rounded_up_and_a_long_one_fits() {
        assert_eq!(whole_ms(Duration::ZERO), 0);
        assert_eq!(whole_ms(Duration::from_nanos(1)), 1);
        assert_eq!(whole_ms(Duration::from_millis(2)), 2);
        assert_eq!(whole_ms(Duration::from_nanos(2_000_001)), 3);
        assert_eq!(whole_ms(Duration::MAX), i32::MAX);
    }

    #[test]
    fn a_key_keeps_the_whole_token() {
        let name = Token { index: 0xdead_beef, generation: 0xfeed_f00d };
        assert_eq!(token(key(name)), name);
    }

    #[test]
    fn both_ways_to_wait_end() {
        let mut poller = Poller::new().unwrap();
        for precise in [true, false] {
            poller.precise = precise;
            assert_eq!(poller.wait(Some(Duration::from_nanos(10))).unwrap(), 0);
            assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 0);
        }
    }
}
