use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls_pki_types::UnixTime;
use x509_parser::time::ASN1Time;

/// The wall clock by which the validity of certificates is checked. It is passed in, so that a test can use a wrong
/// one.
#[derive(Clone, Debug)]
pub struct WallClock(Arc<dyn TimeProvider>);

impl Default for WallClock {
    fn default() -> WallClock {
        WallClock(Arc::new(DefaultTimeProvider))
    }
}

impl WallClock {
    /// The clock of this machine, shifted by this many seconds.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn off_by_s(seconds: i64) -> WallClock {
        WallClock::set_by(Arc::new(AtomicI64::new(seconds)))
    }

    /// The clock of this machine, shifted by as many seconds as `seconds` holds at the time.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn set_by(seconds: Arc<AtomicI64>) -> WallClock {
        WallClock(Arc::new(Shifted(seconds)))
    }

    /// The current time, or the epoch when the clock cannot be read.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.0.current_time().unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO))
    }

    pub(super) fn provider(&self) -> Arc<dyn TimeProvider> {
        Arc::clone(&self.0)
    }
}

#[derive(Debug)]
#[cfg(feature = "internals")]
struct Shifted(Arc<AtomicI64>);

#[cfg(feature = "internals")]
impl TimeProvider for Shifted {
    fn current_time(&self) -> Option<UnixTime> {
        let now = DefaultTimeProvider.current_time()?.as_secs();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(now.checked_add_signed(self.0.load(Ordering::Relaxed))?)))
    }
}

/// A time as text in UTC.
pub(super) fn date(time: UnixTime) -> String {
    date_s(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// A time in seconds since 1970 as text in UTC.
pub(super) fn date_s(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("second {seconds} since 1970"), |time| time.to_string())
}
