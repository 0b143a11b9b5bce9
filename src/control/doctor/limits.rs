use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::control::doctor::Findings;

/// Files that an edge needs besides its connections of agents: links, rings, logs, watched files, the admin API.
const BESIDES: u64 = 1024;
/// Where there are few files at all, this part of them is kept for that.
const BESIDES_SHARE: u64 = 4;

/// Raises the number of files that this process may have open to the most that it is allowed to raise it to.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Whether a role that has so many connections may open as many files. The role raises the limit itself, as far as it may.
pub fn file_limit(findings: &mut Findings, connections_max: u64) {
    let (allowed, needed) = (getrlimit(Resource::Nofile).maximum, connections_max.saturating_add(BESIDES));
    judge(findings, allowed, needed);
}

/// So many of the connections of agents that are asked for as leave files for everything else.
#[must_use]
pub fn connections_within_file_limit(connections_max: u64) -> u64 {
    within(getrlimit(Resource::Nofile).current, connections_max)
}

fn within(allowed: Option<u64>, connections_max: u64) -> u64 {
    let Some(allowed) = allowed else { return connections_max };
    connections_max.min(allowed - BESIDES.min(allowed / BESIDES_SHARE)).max(1)
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
    use crate::control::doctor::Verdict;

    #[test]
    fn a_limit_below_what_may_be_needed_is_told_with_what_to_set() {
        let judged = |allowed, needed| {
            let mut findings = Findings::default();
            judge(&mut findings, allowed, needed);
            findings.all()[0].clone()
        };
        assert_eq!((judged(None, 100).verdict, judged(Some(100), 100).verdict), (Verdict::Ok, Verdict::Ok));
        let warned = judged(Some(1_024), 65_792);
        assert_eq!(warned.verdict, Verdict::Warn);
        assert!(warned.remedy.unwrap().contains("LimitNOFILE=65792"));
    }

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(within(None, 65_536), 65_536);
        assert_eq!(within(Some(524_288), 65_536), 65_536);
        assert_eq!(within(Some(65_536), 65_536), 64_512);
        assert_eq!((within(Some(1_024), 65_536), within(Some(1_024), 100)), (768, 100));
        assert_eq!(within(Some(0), 65_536), 1);
    }

    #[test]
    fn the_limit_of_this_process_can_be_raised_to_what_it_may_have() {
        raise_file_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
