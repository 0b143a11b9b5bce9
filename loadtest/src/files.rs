//! The limit of open files for this process and those that it starts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many files a process needs besides its connections.
const BESIDES: u64 = 256;

/// The error for too low a limit of open files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{connections} connections need {needed} open files, and this process may have at most {allowed}: raise the hard limit \
     first (`ulimit -Hn {needed}` as root, LimitNOFILE={needed} in a systemd unit, --ulimit nofile={needed} for a container), \
     or ask for at most {possible}"
)]
pub struct TooFewFiles {
    connections: u64,
    needed: u64,
    allowed: u64,
    possible: u64,
}

/// Ensures that this process can have this many connections open. Processes that it starts inherit the limit, which is
/// raised as far as permitted: some need two files per connection.
///
/// # Errors
///
/// If the system does not permit it.
pub fn allow(connections: u64) -> Result<(), TooFewFiles> {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections.saturating_add(BESIDES);
    let wanted = needed.saturating_add(connections);
    let raise = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok();
    let no_more = |limit: Option<u64>, files| limit.is_none_or(|limit| limit >= files);
    if no_more(limit.current, wanted) || !no_more(limit.maximum, wanted) && raise(Some(wanted), Some(wanted)) {
        return Ok(());
    }
    // To the hard limit.
    raise(limit.maximum, limit.maximum);
    judge(getrlimit(Resource::Nofile).current, connections)
}

fn judge(allowed: Option<u64>, connections: u64) -> Result<(), TooFewFiles> {
    let needed = connections.saturating_add(BESIDES);
    match allowed {
        Some(allowed) if allowed < needed => {
            Err(TooFewFiles { connections, needed, allowed, possible: allowed.saturating_sub(BESIDES) })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_files_are_reported_with_a_remedy() {
        let error = judge(Some(4096), 10_000).expect_err("the limit is too low").to_string();
        for part in ["10000 connections", "need 10256", "at most 4096", "ulimit -Hn 10256", "ask for at most 3840"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!((judge(Some(10_256), 10_000), judge(None, u64::MAX)), (Ok(()), Ok(())));
    }

    #[test]
    fn the_limit_is_raised_and_no_further_than_it_may_be() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(allow(1), Ok(()));
        assert!(hard.is_none() || allow(u64::MAX / 4).is_err());
        let limit = getrlimit(Resource::Nofile);
        assert!(limit.current.is_none_or(|current| current > BESIDES));
    }
}
