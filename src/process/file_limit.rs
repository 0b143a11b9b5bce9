//! The limit of open files of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The files that an edge needs besides its agents' connections: links, rings, logs, watched files, the admin API.
pub(super) const BESIDES: u64 = 1024;
/// If the limit is low, this fraction of it is reserved instead.
const BESIDES_SHARE: u64 = 4;

/// Raises the limit of open files to the hard limit.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The number of agents' connections that can be served: the requested number, or as many as the file limit allows.
pub(super) fn connections_within_file_limit(connections_max: u64) -> u64 {
    within(getrlimit(Resource::Nofile).current, connections_max)
}

fn within(allowed: Option<u64>, connections_max: u64) -> u64 {
    let Some(allowed) = allowed else { return connections_max };
    connections_max.min(allowed - BESIDES.min(allowed / BESIDES_SHARE)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        assert_eq!(within(None, 65_536), 65_536);
        assert_eq!(within(Some(524_288), 65_536), 65_536);
        assert_eq!(within(Some(65_536), 65_536), 64_512);
        assert_eq!((within(Some(1_024), 65_536), within(Some(1_024), 100)), (768, 100));
        assert_eq!(within(Some(0), 65_536), 1);
    }

    #[test]
    fn the_file_limit_can_be_raised_to_the_hard_limit() {
        raise_file_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
