//! Quota usage per caller and tool: token buckets, calls in flight, and calls per day.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::{Hex, Time, sha256_start, unhex};
use crate::policy::SourceKey;
use crate::policy::identity::AgentIdentity;
use crate::policy::tools::ceilings::{CeilingReached, Quota};

/// The maximum number of pairs of caller and tool that are counted at the same time.
pub const COUNTED_MAX: usize = 65_536;
/// The number of shards, each with its own lock.
const PARTS: usize = 16;
const PART_MAX: usize = COUNTED_MAX / PARTS;
/// The maximum number of entries per shard for callers without an identity, so that a flood of them leaves room for others.
const PART_UNPROVEN_MAX: usize = PART_MAX / 2;
/// The minimum time between two sweeps of a full shard.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The length of a day, in seconds.
const DAY_S: u64 = 86_400;

/// The quota usage of all callers. It lives as long as the process.
#[derive(Debug)]
pub struct Quotas {
    parts: [Mutex<Part>; PARTS],
    /// Whether calls of a day were counted since the last query.
    has_changed: AtomicBool,
}

#[derive(Debug, Default)]
struct Part {
    counted: HashMap<QuotaKey, Counted>,
    unproven: usize,
    swept: Option<Time>,
}

/// The key of a counter, for a rule, caller and tool: a prefix of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaKey([u8; 16]);

/// The usage of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    /// When the bucket is full again, in nanoseconds.
    full_at_ns: u64,
    at_once: u32,
    /// The day since 1970, and the number of calls on that day.
    day: u32,
    of_day: u32,
    is_proven: bool,
}

/// The number of calls on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DayCalls {
    pub(super) day: u32,
    pub(super) calls: u32,
    /// Whether the caller has an identity.
    pub(super) is_proven: bool,
}

/// A caller, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct CountedCaller<'a> {
    /// The identity of the caller, if proven.
    pub identity: Option<&'a AgentIdentity>,
    /// The address of the caller.
    pub address: Option<IpAddr>,
}

/// The time of a call, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct QuotaTime {
    /// The clock of this process.
    pub now: Time,
    /// The time since 1970.
    pub unix: Duration,
}

/// A call in flight. Dropping the permit ends the count.
#[derive(Debug)]
pub struct QuotaPermit {
    quotas: Arc<Quotas>,
    key: QuotaKey,
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        if let Some(counted) = self.quotas.part(self.key).counted.get_mut(&self.key) {
            counted.at_once = counted.at_once.saturating_sub(1);
        }
    }
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas { parts: std::array::from_fn(|_| Mutex::default()), has_changed: AtomicBool::new(false) }
    }
}

impl QuotaKey {
    /// The key for a caller, a tool, and a rule of the policy at this host.
    #[must_use]
    pub fn of(place: &str, rule: &str, caller: &CountedCaller<'_>, tool: &str) -> QuotaKey {
        let source = caller.address.map(|address| SourceKey::of(address).get().to_be_bytes());
        let (proof, who): (&str, &[u8]) = match (caller.identity, &source) {
            (Some(identity), _) => (identity.proof.name(), identity.subject.as_bytes()),
            (None, Some(source)) => ("address", source),
            (None, None) => ("nobody", b""),
        };
        let issuer = caller.identity.and_then(|identity| identity.issuer.as_deref()).unwrap_or_default();
        let mut text = Vec::with_capacity(256);
        for part in [place.as_bytes(), rule.as_bytes(), proof.as_bytes(), issuer.as_bytes(), who, tool.as_bytes()] {
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        QuotaKey(sha256_start(&text))
    }
}

/// 32 hexadecimal digits of the key.
impl fmt::Display for QuotaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl FromStr for QuotaKey {
    type Err = ();

    fn from_str(text: &str) -> Result<QuotaKey, ()> {
        unhex(text.as_bytes()).map(QuotaKey).ok_or(())
    }
}

impl Quotas {
    /// Counts a call against all ceilings, or against none if one is reached.
    ///
    /// # Errors
    ///
    /// The ceiling that is reached.
    pub(super) fn take(
        self: &Arc<Quotas>,
        key: QuotaKey,
        is_proven: bool,
        quota: &Quota,
        time: QuotaTime,
    ) -> Result<Option<QuotaPermit>, CeilingReached> {
        let mut part = self.part(key);
        let Some(counted) = part.counted(key, is_proven, time) else { return Err(CeilingReached::Crowded) };
        if quota.at_once.is_some_and(|max| counted.at_once >= max) {
            return Err(CeilingReached::AtOnce);
        }
        let today = day_of(time.unix);
        let day = if is_of(counted.day, today) { counted.day } else { today };
        let of_day = if counted.day == day { counted.of_day } else { 0 };
        if quota.per_day.is_some_and(|max| of_day >= max) {
            let left = DAY_S - time.unix.as_secs() % DAY_S;
            return Err(CeilingReached::Day { after: Duration::from_secs(left) });
        }
        if let Some(rate) = quota.rate {
            counted.full_at_ns = rate.taking_over(counted.full_at_ns, time.now);
            counted.full_at_ns =
                rate.take_from(counted.full_at_ns, time.now).map_err(|after| CeilingReached::Rate { after })?;
        }
        if quota.per_day.is_some() {
            (counted.day, counted.of_day) = (day, of_day + 1);
            self.has_changed.store(true, Ordering::Relaxed);
        }
        Ok(quota.at_once.map(|_| {
            counted.at_once += 1;
            QuotaPermit { quotas: Arc::clone(self), key }
        }))
    }

    /// Whether calls of a day were counted since the last query.
    pub(super) fn take_changed(&self) -> bool {
        self.has_changed.swap(false, Ordering::Relaxed)
    }

    /// Marks the counts as changed again, after they could not be written.
    pub fn day_state_lost(&self) {
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Visits the counts of this day, and those of the next day if the clock was set back.
    pub(super) fn each_of_day(&self, today: u32, mut pass: impl FnMut(QuotaKey, DayCalls)) {
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, counted) in &part.counted {
                let Counted { day, of_day: calls, is_proven, .. } = *counted;
                if calls > 0 && is_of(day, today) {
                    pass(*key, DayCalls { day, calls, is_proven });
                }
            }
        }
    }

    /// Restores the number of calls of a day.
    pub(super) fn restore(&self, key: QuotaKey, of_day: DayCalls, unix: Duration) {
        let DayCalls { day, calls, is_proven } = of_day;
        let time = QuotaTime { now: Time::ZERO, unix };
        if let Some(counted) = self.part(key).counted(key, is_proven, time) {
            (counted.day, counted.of_day) = (day, calls);
        }
    }

    fn part(&self, key: QuotaKey) -> MutexGuard<'_, Part> {
        let part = &self.parts[usize::from(key.0[0]) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// The counter of a key; `None` if there is no room for a new one.
    fn counted(&mut self, key: QuotaKey, is_proven: bool, time: QuotaTime) -> Option<&mut Counted> {
        let is_full = self.counted.len() >= PART_MAX || (!is_proven && self.unproven >= PART_UNPROVEN_MAX);
        if is_full && !self.counted.contains_key(&key) && !self.sweep(is_proven, time) {
            return None;
        }
        let counted = self.counted.entry(key).or_insert_with(|| {
            self.unproven += usize::from(!is_proven);
            Counted { is_proven, ..Counted::default() }
        });
        Some(counted)
    }

    /// Removes counters that no longer matter. Returns whether there is room now.
    fn sweep(&mut self, is_proven: bool, time: QuotaTime) -> bool {
        if self.swept.is_some_and(|swept| time.now - swept < SWEEP_EVERY) {
            return false;
        }
        self.swept = Some(time.now);
        let today = day_of(time.unix);
        self.counted.retain(|_, counted| {
            counted.at_once > 0
                || counted.full_at_ns > time.now.as_nanos()
                || (is_of(counted.day, today) && counted.of_day > 0)
        });
        self.unproven = self.counted.values().filter(|counted| !counted.is_proven).count();
        self.counted.len() < PART_MAX && (is_proven || self.unproven < PART_UNPROVEN_MAX)
    }
}

/// The day since 1970 that contains this time.
pub(super) fn day_of(unix: Duration) -> u32 {
    u32::try_from(unix.as_secs() / DAY_S).unwrap_or(u32::MAX - 1)
}

/// Whether a count of `day` applies to `today`. A clock that is set back slightly does not start a new day.
pub(super) fn is_of(day: u32, today: u32) -> bool {
    day == today || day == today + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::policy::{IdentityProof, Rate};

    fn key(nth: u64) -> QuotaKey {
        let mut key = [0; 16];
        key[0] = (nth % PARTS as u64) as u8;
        key[8..].copy_from_slice(&nth.to_be_bytes());
        QuotaKey(key)
    }

    fn at(ms: u64) -> QuotaTime {
        let since = Duration::from_millis(ms);
        QuotaTime {
            now: Time::ZERO + Duration::from_secs(5) + since,
            unix: Duration::from_secs(20_000 * DAY_S) + since,
        }
    }

    #[test]
    fn a_burst_goes_through_and_then_as_much_as_the_rate_gives() {
        let quotas = Arc::new(Quotas::default());
        let quota = Quota { rate: Rate::new(60, 3), ..Quota::default() };
        let taken = |nth, ms, tries| (0..tries).filter(|_| quotas.take(key(nth), true, &quota, at(ms)).is_ok()).count();
        assert_eq!(taken(1, 0, 10), 3);
        let Err(CeilingReached::Rate { after }) = quotas.take(key(1), true, &quota, at(400)) else { panic!() };
        assert_eq!(after, Duration::from_millis(600), "when the next token is there");
        assert_eq!((taken(1, 999, 5), taken(1, 1_000, 5), taken(1, 60_000, 9)), (0, 1, 3));
        assert_eq!(taken(2, 0, 10), 3, "another caller has its own");
    }

    #[test]
    fn a_rate_that_is_raised_holds_at_once() {
        let quotas = Arc::new(Quotas::default());
        let before = Quota { rate: Rate::new(1, 100), ..Quota::default() };
        (0..100).for_each(|_| drop(quotas.take(key(1), true, &before, at(0)).unwrap()));
        let after = Quota { rate: Rate::new(60, 5), ..Quota::default() };
        let wait = Duration::from_secs(1);
        assert_eq!(quotas.take(key(1), true, &after, at(0)).unwrap_err(), CeilingReached::Rate { after: wait });
        assert!(quotas.take(key(1), true, &after, at(1_000)).is_ok());
    }

    #[test]
    fn no_arrival_pattern_exceeds_the_rate() {
        for seed in 0..20 {
            let (quotas, mut rng) = (Arc::new(Quotas::default()), Rng::new(seed));
            let (per_minute, burst) = (rng.between(1, 600), rng.between(1, 50));
            let quota = Quota { rate: Rate::new(per_minute, burst), ..Quota::default() };
            let (mut ms, mut taken) = (0, 0);
            while ms < 120_000 {
                ms += rng.below(200);
                match quotas.take(key(1), true, &quota, at(ms)) {
                    Ok(_) => taken += 1,
                    Err(CeilingReached::Rate { after }) => {
                        assert!(!after.is_zero());
                        if rng.chance(0.2) {
                            ms += after.as_millis() as u64 + 1;
                            assert!(quotas.take(key(1), true, &quota, at(ms)).is_ok(), "what was promised holds");
                            taken += 1;
                        }
                    }
                    Err(other) => panic!("{}", other.key()),
                }
            }
            assert!(taken <= burst + per_minute * (ms + 1) / 60_000 + 1, "{taken} of {per_minute} and {burst}");
        }
    }

    #[test]
    fn calls_under_way_are_counted_until_they_end() {
        let quotas = Arc::new(Quotas::default());
        let quota = Quota { at_once: Some(2), rate: Rate::new(60, 3), ..Quota::default() };
        let take = || quotas.take(key(1), true, &quota, at(0));
        let (one, two) = (take().unwrap(), take().unwrap());
        assert_eq!(take().unwrap_err(), CeilingReached::AtOnce);
        drop(one);
        let three = take().unwrap();
        drop((two, three));
        assert!(matches!(take().unwrap_err(), CeilingReached::Rate { .. }), "what was refused took no token");
        assert!(quotas.take(key(1), true, &quota, at(60_000)).is_ok());
    }

    #[test]
    fn a_day_ends_at_midnight_of_utc() {
        let quotas = Arc::new(Quotas::default());
        let quota = Quota { per_day: Some(2), ..Quota::default() };
        let take = |ms| quotas.take(key(1), true, &quota, at(ms)).map(drop);
        assert_eq!((take(0), take(1)), (Ok(()), Ok(())));
        assert_eq!(take(3_600_000), Err(CeilingReached::Day { after: Duration::from_secs(23 * 3_600) }));
        assert_eq!((take(DAY_S * 1_000), take(DAY_S * 1_000 - 1)), (Ok(()), Ok(())));
        assert!(take(DAY_S * 1_000 - 1).is_err(), "a clock that went back begins no day again");
    }

    #[test]
    fn a_flood_of_strangers_leaves_room_for_those_that_are_known() {
        let quotas = Arc::new(Quotas::default());
        let quota = Quota { per_day: Some(9), ..Quota::default() };
        let count = |from: u64, is_proven| {
            let all = from..from + 2 * COUNTED_MAX as u64;
            all.filter(|nth| quotas.take(key(*nth), is_proven, &quota, at(0)).is_ok()).count()
        };
        assert_eq!(count(0, false), COUNTED_MAX / 2);
        assert_eq!(count(1 << 40, true), COUNTED_MAX / 2);
        assert_eq!(quotas.take(key(1 << 50), true, &quota, at(0)).unwrap_err(), CeilingReached::Crowded);
        assert!(quotas.take(key(1), false, &quota, at(0)).is_ok(), "one that is counted already");
        assert!(quotas.take(key(1 << 50), false, &quota, at(DAY_S * 1_000)).is_ok(), "the next day");
        let held: usize = quotas.parts.iter().map(|part| part.lock().unwrap().counted.len()).sum();
        assert!(held <= COUNTED_MAX);
    }

    #[test]
    fn each_caller_tool_and_rule_is_counted_for_itself() {
        let identity = |subject: &str, issuer: &str| AgentIdentity {
            subject: subject.into(),
            issuer: Some(issuer.into()),
            client: None,
            proof: IdentityProof::Jwt,
            scopes: Arc::new([]),
            claims: Arc::default(),
        };
        let (alice, other) = (identity("alice", "a"), identity("alice", "b"));
        let caller =
            |identity, address: Option<[u8; 4]>| CountedCaller { identity, address: address.map(IpAddr::from) };
        let all = [
            QuotaKey::of("h", "r", &caller(Some(&alice), None), "t"),
            QuotaKey::of("h", "r", &caller(Some(&other), None), "t"),
            QuotaKey::of("h", "r", &caller(Some(&alice), None), "u"),
            QuotaKey::of("h", "s", &caller(Some(&alice), None), "t"),
            QuotaKey::of("i", "r", &caller(Some(&alice), None), "t"),
            QuotaKey::of("h", "r", &caller(None, Some([1, 2, 3, 4])), "t"),
            QuotaKey::of("h", "r", &caller(None, Some([1, 2, 3, 5])), "t"),
            QuotaKey::of("h", "r", &caller(None, None), "t"),
            QuotaKey::of("hr", "", &caller(None, None), "t"),
        ];
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert_eq!(QuotaKey::of("h", "r", &caller(Some(&alice), Some([9, 9, 9, 9])), "t"), all[0], "from anywhere");
    }
}
