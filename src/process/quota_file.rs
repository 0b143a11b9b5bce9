//! The file that stores the calls of the day per caller, for rules with a daily limit.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::base::Trouble;
use crate::policy::{QUOTA_STATE_LEN_MAX, Quotas};
use crate::private::{self, PrivateError};

/// The file name, in the data directory of an edge or the state directory of a connector.
const FILE: &str = "calls-of-day";
/// How often changed counts are written. A killed process loses the counts of this time.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// The quota file; nothing is written without a directory.
#[derive(Clone)]
pub(super) struct QuotaFile {
    path: Option<PathBuf>,
    quotas: Arc<Quotas>,
    writing: Arc<Mutex<Trouble>>,
}

impl QuotaFile {
    /// Restores the counts from the file in this directory. An unreadable file is reported, and overwritten later.
    pub(super) fn open(dir: Option<&Path>, quotas: &Arc<Quotas>) -> QuotaFile {
        let path = dir.map(|dir| dir.join(FILE));
        if let Some(path) = path.as_ref().filter(|path| !matches!(path.try_exists(), Ok(false)))
            && let Err(why) = restore(path, quotas)
        {
            tracing::error!(path = %path.display(), why, "the calls of this day are counted from zero: their file cannot be read");
        }
        QuotaFile { path, quotas: Arc::clone(quotas), writing: Arc::default() }
    }

    /// Writes the file at regular intervals.
    pub(super) async fn keep(self) {
        if self.path.is_none() {
            return;
        }
        loop {
            tokio::time::sleep(SAVE_EVERY).await;
            let file = self.clone();
            // A hanging disk must not block the control thread.
            let _ = tokio::task::spawn_blocking(move || file.save()).await;
        }
    }

    /// Writes the file if calls were counted since the last write.
    pub(super) fn save(&self) {
        let Some(path) = &self.path else { return };
        // The last write of the process may run beside another, whose older state must not win.
        let mut trouble = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(text) = self.quotas.day_state(unix_time()) else { return };
        match private::write(path, text.as_bytes()) {
            Ok(()) if trouble.ends() => tracing::info!("the calls of this day can be written again"),
            Ok(()) => {}
            Err(error) => {
                self.quotas.day_state_lost();
                if trouble.begins() {
                    tracing::error!(%error, "the calls of this day cannot be written, and a restart would count them from zero; adit will retry");
                }
            }
        }
    }
}

fn restore(path: &Path, quotas: &Quotas) -> Result<(), String> {
    let message = |error: PrivateError| error.to_string();
    let content = private::read(path, QUOTA_STATE_LEN_MAX).map_err(message)?;
    let text = std::str::from_utf8(&content).map_err(|error| error.to_string())?;
    quotas.restore_day(text, unix_time()).map_err(|error| error.to_string())
}

/// The time since 1970.
pub(super) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Time;
    use crate::policy::{Asked, CountedCaller, QuotaTime, RoleSet, ToolPolicy};

    fn calls(quotas: &Arc<Quotas>, tries: usize) -> usize {
        let rule = "[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['a']\ncalls_per_day = 3\n";
        let mut policy = ToolPolicy::parse(rule).unwrap();
        policy.count_in(quotas, &Arc::default(), "a.test");
        let caller = CountedCaller { identity: None, address: None };
        let time = QuotaTime { now: Time::ZERO, unix: unix_time() };
        let one = || {
            let decision = policy.decide(RoleSet::default(), &Asked::tool("a"));
            policy.count(decision, &Asked::tool("a"), &caller, time).0.is_allowed()
        };
        (0..tries).filter(|_| one()).count()
    }

    #[test]
    fn a_process_that_is_started_again_goes_on_counting() {
        let dir = tempfile::tempdir().unwrap();
        let first = QuotaFile::open(Some(dir.path()), &Arc::default());
        assert_eq!(calls(&first.quotas, 2), 2);
        first.save();
        let second = QuotaFile::open(Some(dir.path()), &Arc::default());
        // If midnight passes between the two steps, a new day starts.
        let left = calls(&second.quotas, 9);
        assert!(left == 1 || unix_time().as_secs() % 86_400 < 60, "{left}");
        std::fs::write(dir.path().join(FILE), "something else").unwrap();
        let third = QuotaFile::open(Some(dir.path()), &Arc::default());
        assert_eq!(calls(&third.quotas, 9), 3);
        third.save();
        assert!(QuotaFile::open(Some(dir.path()), &Arc::default()).quotas.day_state(unix_time()).is_none());
        QuotaFile::open(None, &Arc::default()).save();
    }
}
