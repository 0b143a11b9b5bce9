//! The text form of the calls of the day, so that a restart does not reset the counts.

use std::fmt::Write;
use std::time::Duration;

use crate::policy::tools::quotas::{COUNTED_MAX, DayCalls, QuotaKey, Quotas, day_of, is_of};

/// The maximum length of the text, in bytes. No line is longer than 64.
pub const QUOTA_STATE_LEN_MAX: usize = 64 * (COUNTED_MAX + 1);
/// The first line, with the version of the format.
const FIRST: &str = "adit calls of a day, 1";

/// Why a text cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not hold the calls of a day: its line {0} is invalid")]
pub struct QuotaStateError(pub usize);

impl Quotas {
    /// The counts of this day as text; `None` if they have not changed since the last call.
    #[must_use]
    pub fn day_state(&self, unix: Duration) -> Option<String> {
        if !self.take_changed() {
            return None;
        }
        let day = day_of(unix);
        let mut text = format!("{FIRST}\n");
        self.each_of_day(day, |key, DayCalls { day, calls, is_proven }| {
            let kind = if is_proven { 'p' } else { 'u' };
            let _ = writeln!(text, "{day} {key} {calls} {kind}");
        });
        Some(text)
    }

    /// Restores the counts that are of this day.
    ///
    /// # Errors
    ///
    /// If the text has another format. Nothing is restored then.
    pub fn restore_day(&self, text: &str, unix: Duration) -> Result<(), QuotaStateError> {
        let today = day_of(unix);
        let mut lines = text.lines();
        if lines.next() != Some(FIRST) {
            return Err(QuotaStateError(1));
        }
        let read = |(at, line): (usize, &str)| read_line(line).ok_or(QuotaStateError(at + 2));
        let counted = lines.enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        for (key, of_day) in counted.into_iter().take(COUNTED_MAX) {
            if is_of(of_day.day, today) {
                self.restore(key, of_day, unix);
            }
        }
        Ok(())
    }
}

fn read_line(line: &str) -> Option<(QuotaKey, DayCalls)> {
    let mut parts = line.split(' ');
    let day = parts.next()?.parse().ok()?;
    let key = parts.next()?.parse().ok()?;
    let calls = parts.next()?.parse().ok()?;
    let is_proven = match parts.next()? {
        "p" => true,
        "u" => false,
        _ => return None,
    };
    parts.next().is_none().then_some((key, DayCalls { day, calls, is_proven }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::Time;
    use crate::policy::tools::ceilings::{CeilingReached, Quota};
    use crate::policy::tools::quotas::{CountedCaller, QuotaTime};

    const DAY: Duration = Duration::from_secs(86_400);

    fn take(quotas: &Arc<Quotas>, tool: &str, days: u32) -> Result<(), CeilingReached> {
        let key = QuotaKey::of("h", "r", &CountedCaller { identity: None, address: None }, tool);
        let quota = Quota { per_day: Some(3), ..Quota::default() };
        let time = QuotaTime { now: Time::ZERO, unix: DAY * days + Duration::from_secs(5) };
        quotas.take(key, false, &quota, time).map(drop)
    }

    #[test]
    fn a_daily_quota_survives_a_restart() {
        let quotas = Arc::new(Quotas::default());
        assert_eq!(quotas.day_state(DAY * 100), None, "nothing has changed");
        (0..2).for_each(|_| take(&quotas, "a", 100).unwrap());
        take(&quotas, "b", 100).unwrap();
        let text = quotas.day_state(DAY * 100).unwrap();
        assert_eq!((text.lines().count(), quotas.day_state(DAY * 100)), (3, None));

        let again = Arc::new(Quotas::default());
        again.restore_day(&text, DAY * 100).unwrap();
        assert!(take(&again, "a", 100).is_ok());
        assert!(matches!(take(&again, "a", 100), Err(CeilingReached::Day { .. })));
        assert!(take(&again, "c", 100).is_ok());
        let next = Arc::new(Quotas::default());
        next.restore_day(&text, DAY * 101).unwrap();
        assert!((0..3).all(|_| take(&next, "a", 101).is_ok()), "the next day is a new one");
        assert!(text.lines().all(|line| line.len() < 64));
    }

    #[test]
    fn a_text_of_another_form_changes_nothing() {
        let good = format!("{FIRST}\n100 {} 3 p\n", "ab".repeat(16));
        let bad = [
            String::new(),
            "adit calls of a day, 2\n".to_owned(),
            good.replace(" p", " x"),
            good.replace(" p", ""),
            good.replace(" p", " p p"),
            good.replace("ab", "xy"),
            good.replace("100 ", "-1 "),
            good.replace(" 3 ", " 99999999999 "),
            format!("{good}\n"),
            good[..good.len() / 2].to_owned(),
        ];
        for text in bad {
            let quotas = Arc::new(Quotas::default());
            assert!(quotas.restore_day(&text, DAY * 100).is_err(), "{text:?}");
            assert_eq!(quotas.day_state(DAY * 100), None);
        }
        assert_eq!(Quotas::default().restore_day(&good, DAY * 100), Ok(()));
        let long: String = (0..2 * COUNTED_MAX).map(|nth| format!("100 {nth:032x} 1 u\n")).collect();
        let quotas = Quotas::default();
        quotas.restore_day(&format!("{FIRST}\n{long}"), DAY * 100).unwrap();
        let mut held = 0;
        quotas.each_of_day(100, |_, _| held += 1);
        assert_eq!(held, COUNTED_MAX / 16 / 2, "what fits stays");
    }
}
