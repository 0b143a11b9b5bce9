//! Streams of small numbered events; the path of the request contains their number and rate.

use std::io::Write;
use std::time::Duration;

/// The text before and after the number of an event.
const AROUND: (&str, &str) = ("data: ", "\n\n");
/// The fewest digits of an event's number.
const DIGITS_MIN: usize = 8;
/// The length of the smallest event in bytes.
pub(crate) const TICK_LEN_MIN: usize = AROUND.0.len() + DIGITS_MIN + AROUND.1.len();
/// The length of the largest event in bytes.
pub(crate) const TICK_LEN_MAX: usize = 1 << 16;

/// A stream of numbered events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// The number of events.
    pub(crate) count: u64,
    /// How many events are sent at once, before the others.
    pub(crate) at_once: u64,
    /// The time between two of the other events.
    pub(crate) gap: Duration,
    /// The length of each event, in bytes.
    pub(crate) len: usize,
}

impl Ticks {
    /// The stream that a path requests; `None` if it requests none.
    pub(crate) fn of_path(path: &[u8]) -> Option<Ticks> {
        let text = std::str::from_utf8(path.strip_prefix(b"/ticks/")?).ok()?;
        let mut numbers = text.split('/').map(|number| number.parse::<u64>().ok());
        let [count, at_once, gap_us, len] = [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??];
        let len = usize::try_from(len).ok().filter(|len| (TICK_LEN_MIN..=TICK_LEN_MAX).contains(len))?;
        (count > 0 && numbers.next().is_none()).then_some(Ticks {
            count,
            at_once,
            gap: Duration::from_micros(gap_us),
            len,
        })
    }

    /// The path that requests this stream.
    pub(crate) fn path(&self) -> String {
        format!("/ticks/{}/{}/{}/{}", self.count, self.at_once, self.gap.as_micros(), self.len)
    }

    /// The length of the whole stream in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.count * self.len as u64
    }

    /// Replaces the buffer's content by one event.
    pub(crate) fn write(&self, n: u64, event: &mut Vec<u8>) {
        event.clear();
        let digits = self.len - AROUND.0.len() - AROUND.1.len();
        // Writing to memory cannot fail.
        let _ = write!(event, "{}{n:0digits$}{}", AROUND.0, AROUND.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_describes_the_requested_events() {
        let ticks = Ticks { count: 3, at_once: 1, gap: Duration::from_micros(200), len: 16 };
        assert_eq!(Ticks::of_path(ticks.path().as_bytes()), Some(ticks));
        let mut event = Vec::new();
        ticks.write(7, &mut event);
        assert_eq!((event.as_slice(), ticks.bytes()), (&b"data: 00000007\n\n"[..], 48));
        for path in
            ["/ticks/", "/ticks/1/0/2", "/ticks/0/0/0/16", "/ticks/1/0/0/15", "/ticks/1/0/0/16/1", "/ticks/a/0/0/16"]
        {
            assert_eq!(Ticks::of_path(path.as_bytes()), None, "{path}");
        }
    }
}
