//! Checks whether this machine's wall clock agrees with another one.

use std::time::Duration;

use crate::process::doctor::finding::Findings;

/// From this difference on there is a warning. Certificates and tokens with a short lifetime fail first.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);
/// From this difference on, hardly any certificate or token is valid on both sides.
const CLOCKS_FAR_APART: Duration = Duration::from_secs(3_600);

/// Checks how far this machine's clock is ahead of another one or behind it.
pub(super) fn check_clock_skew(
    findings: &mut Findings,
    check: &'static str,
    whose: &str,
    ahead: bool,
    apart: Duration,
) {
    let direction = if ahead { "ahead of" } else { "behind" };
    let found = format!("{} s {direction} the clock of {whose}", apart.as_secs());
    let remedy = "let both machines keep their clocks by NTP: `timedatectl set-ntp true`";
    if apart > CLOCKS_FAR_APART {
        findings.fail(check, found, remedy);
    } else if apart > CLOCKS_APART_MAX {
        findings.warn(check, found, remedy);
    } else {
        findings.ok(check, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::doctor::Verdict;

    #[test]
    fn clocks_are_compared_both_ways() {
        let judged = |ahead: bool, apart_s: u64| {
            let mut findings = Findings::default();
            check_clock_skew(&mut findings, "edge.clock", "a.test", ahead, Duration::from_secs(apart_s));
            (findings.all()[0].verdict, findings.all()[0].found.clone())
        };
        for ahead in [true, false] {
            assert_eq!([0, 60].map(|apart| judged(ahead, apart).0), [Verdict::Ok; 2]);
            assert_eq!([61, 3_600].map(|apart| judged(ahead, apart).0), [Verdict::Warn; 2]);
            assert_eq!([3_601, 86_400].map(|apart| judged(ahead, apart).0), [Verdict::Fail; 2]);
        }
        assert_eq!(judged(true, 61).1, "61 s ahead of the clock of a.test");
        assert_eq!(judged(false, 61).1, "61 s behind the clock of a.test");
    }
}
