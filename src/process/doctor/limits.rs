use rustix::process::{Resource, getrlimit};

use crate::process::doctor::finding::Findings;
use crate::process::file_limit::BESIDES;

/// Checks that a role with this many connections may open as many files. The role itself raises the soft limit.
pub(super) fn file_limit(findings: &mut Findings, connections_max: u64) {
    let (allowed, needed) = (getrlimit(Resource::Nofile).maximum, connections_max.saturating_add(BESIDES));
    judge(findings, allowed, needed);
}

fn judge(findings: &mut Findings, allowed: Option<u64>, needed: u64) {
    match allowed {
        Some(allowed) if allowed < needed => findings.warn(
            "file_limit",
            format!("at most {allowed} open files, while the configuration allows {needed}"),
            format!("set LimitNOFILE={needed} in the systemd unit, or run `ulimit -Hn {needed}` before it starts"),
        ),
        Some(allowed) => findings.ok("file_limit", format!("{allowed} open files, {needed} may be needed")),
        None => findings.ok("file_limit", "no limit of open files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::doctor::Verdict;

    #[test]
    fn a_limit_that_may_be_too_low_is_reported_with_the_value_to_set() {
        let judged = |allowed, needed| {
            let mut findings = Findings::default();
            judge(&mut findings, allowed, needed);
            findings.all()[0].clone()
        };
        assert_eq!((judged(None, 100).verdict, judged(Some(100), 100).verdict), (Verdict::Ok, Verdict::Ok));
        let warned = judged(Some(1_024), 65_792);
        assert_eq!(warned.verdict, Verdict::Warn);
        assert!(warned.remedy.unwrap().contains("LimitNOFILE=65792"));
        // Runs the command with the largest limit that is available here.
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(65_792);
        let remedy = judged(Some(most - 1), most).remedy.unwrap();
        let command = remedy.split('`').nth(1).unwrap();
        assert!(std::process::Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
    }
}
