use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::Time;

/// A point on the wall clock, in milliseconds since 1970 (UTC), for what is stored and displayed. Intervals that must
/// not jump when the clock is set use [`Time`] instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

/// The text is not a valid time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in 2026-07-28T12:00:00Z (RFC 3339)")]
pub struct WallTimeError;

impl WallTime {
    /// The current time of the system clock.
    #[must_use]
    pub fn now() -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        WallTime(millis(since))
    }

    /// The time this much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_add(millis(duration)))
    }

    /// The time this much earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_sub(millis(duration)))
    }

    /// The time since `earlier`; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Converts to the cores' clock. The arguments are the current times of both clocks.
    #[must_use]
    pub fn on_cores(self, now: WallTime, now_on_cores: Time) -> Time {
        match self.0.saturating_sub(now.0) {
            // A past time: how long ago does not matter.
            left if left <= 0 => Time::ZERO,
            _ => now_on_cores + self.since(now),
        }
    }

    /// The time in whole seconds, as certificates use it.
    #[must_use]
    pub fn as_unix(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(self.0).unwrap_or(0)))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("a time that cannot be written"))
    }
}

impl FromStr for WallTime {
    type Err = WallTimeError;

    fn from_str(text: &str) -> Result<WallTime, WallTimeError> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| WallTimeError)?;
        i64::try_from(time.unix_timestamp_nanos() / 1_000_000).map(WallTime).map_err(|_| WallTimeError)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read_as_rfc_3339() {
        let time = WallTime(1_785_240_000_250);
        assert_eq!(time.to_string(), "2026-07-28T12:00:00.25Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!("2026-07-28T14:00:00+02:00".parse(), Ok(WallTime(1_785_240_000_000)));
        assert!("yesterday".parse::<WallTime>().is_err());
        assert_eq!(WallTime(i64::MAX).to_string(), "a time that cannot be written");
    }

    #[test]
    fn an_end_on_the_wall_is_an_end_on_the_cores() {
        let (now, cores) = (WallTime(1_000_000), Time::ZERO + Duration::from_secs(50));
        assert_eq!(now.after(Duration::from_secs(2)).on_cores(now, cores), Time::ZERO + Duration::from_secs(52));
        assert_eq!(now.on_cores(now, cores), Time::ZERO);
        assert_eq!(now.before(Duration::from_secs(9)).on_cores(now, cores), Time::ZERO);
    }
}
