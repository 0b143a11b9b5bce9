//! A timer in the kernel that stands while a core works and waits.
//!
//! A wait with a time limit starts a timer in the kernel, and cancels it at its end: a third of what a short wait costs. The deadlines
//! of a core are far away, and rarely is the next one earlier than the last. This timer is therefore set only when it has to go off
//! earlier, and a core waits without a limit. It may go off before the deadline, for one that was cancelled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::base::Time;

/// The timer. Its descriptor becomes readable when it goes off, and is never read: setting it again makes it unreadable.
pub(in crate::engine) struct Alarm {
    fd: OwnedFd,
    /// When it goes off. It has done so if that is over.
    at: Time,
}

impl Alarm {
    pub(in crate::engine) fn new() -> io::Result<Alarm> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        Ok(Alarm { fd, at: Time::ZERO })
    }

    /// Makes the timer go off at `at` or earlier. Returns false if that is over.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(in crate::engine) fn goes_off_by(&mut self, at: Time, now: Time) -> io::Result<bool> {
        if at <= now {
            return Ok(false);
        }
        if at != Time::NEVER && (self.at <= now || at < self.at) {
            let left = at - now;
            let once = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: once })?;
            self.at = at;
        }
        Ok(true)
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::base::Clock;
    use crate::engine::clock::MonotonicClock;

    /// Waits until it has gone off, for 20 s at the most.
    fn has_gone_off(alarm: &Alarm) -> bool {
        let mut fds = [PollFd::new(alarm, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn it_is_moved_only_to_an_earlier_time_and_again_once_it_has_gone_off() {
        let (mut alarm, far) = (Alarm::new().unwrap(), Duration::from_secs(3_600));
        let now = MonotonicClock.now();
        assert!(!alarm.goes_off_by(now, now).unwrap(), "that is over");
        assert!(alarm.goes_off_by(Time::NEVER, now).unwrap());
        assert!(alarm.goes_off_by(now + far, now).unwrap());
        assert!(alarm.goes_off_by(now + far * 2, now).unwrap());
        assert_eq!(alarm.at, now + far, "it goes off in time for the later one too");
        let soon = now + Duration::from_millis(1);
        assert!(alarm.goes_off_by(soon, now).unwrap());
        assert!(has_gone_off(&alarm));
        let now = MonotonicClock.now();
        assert!(now >= soon);
        let again = now + Duration::from_millis(1);
        assert!(alarm.goes_off_by(again, now).unwrap());
        assert!(has_gone_off(&alarm) && MonotonicClock.now() >= again);
    }
}
