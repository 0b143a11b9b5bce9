//! The file that stores pending and decided approvals.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Clock, Trouble};
use crate::control::ApprovalCounts;
use crate::engine::MonotonicClock;
use crate::policy::{ApprovalRecord, Approvals, QuotaTime};
use crate::private;
use crate::process::quota_file::unix_time;

/// The file name, in the data directory of an edge or the state directory of a connector.
const FILE: &str = "approvals.json";
/// The version of the file.
const FORMAT: u32 = 1;
/// The maximum length of the file, in bytes: the maximum number of calls with short texts, and all arguments kept for review, each
/// character in its longest form.
const FILE_LEN_MAX: usize = 32 << 20;
/// How long a pending call may be missing in the file, and the pause after a failed write. Decisions are written at once.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// The approvals file; nothing is written without a directory.
#[derive(Clone)]
pub(super) struct ApprovalFile {
    path: Option<PathBuf>,
    approvals: Arc<Approvals>,
    counts: Arc<ApprovalCounts>,
    writing: Arc<Mutex<Trouble>>,
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    approvals: Vec<ApprovalRecord>,
}

impl ApprovalFile {
    /// Restores the approvals from the file in this directory. An unreadable file is reported, and overwritten later.
    pub(super) fn open(dir: Option<&Path>, approvals: &Arc<Approvals>, counts: &Arc<ApprovalCounts>) -> ApprovalFile {
        let path = dir.map(|dir| dir.join(FILE));
        if let Some(path) = &path {
            if !matches!(path.try_exists(), Ok(false))
                && let Err(why) = restore(path, approvals)
            {
                tracing::error!(
                    path = %path.display(),
                    why,
                    "approved calls must be approved again: the file of the approvals cannot be read"
                );
            }
            approvals.keep_in_file();
        }
        ApprovalFile { path, approvals: Arc::clone(approvals), counts: Arc::clone(counts), writing: Arc::default() }
    }

    /// Writes the file when a task waits for it, and otherwise after some time.
    pub(super) async fn keep(self) {
        if self.path.is_none() {
            return;
        }
        loop {
            let _ = tokio::time::timeout(SAVE_EVERY, self.approvals.wanted()).await;
            let file = self.clone();
            // A hanging disk must not block the control thread.
            if !matches!(tokio::task::spawn_blocking(move || file.save()).await, Ok(true)) {
                tokio::time::sleep(SAVE_EVERY).await;
            }
        }
    }

    /// Writes the file if it is out of date. Returns false if it cannot be written.
    pub(super) fn save(&self) -> bool {
        let Some(path) = &self.path else { return true };
        // The last write of the process may run beside another, whose older state must not win.
        let mut trouble = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let time = QuotaTime { now: MonotonicClock.now(), unix: unix_time() };
        let Some((change, approvals)) = self.approvals.unwritten(time) else { return true };
        let text = serde_json::to_vec(&Kept { version: FORMAT, approvals }).map_err(|error| error.to_string());
        let written = text.and_then(|text| private::write(path, &text).map_err(|error| error.to_string()));
        self.approvals.on_written(change, written.is_ok());
        if written.is_err() {
            self.counts.on_unwritten();
        }
        match &written {
            Ok(()) if trouble.ends() => tracing::info!("approvals can be written again"),
            Ok(()) => {}
            Err(error) if trouble.begins() => {
                tracing::error!(
                    error,
                    "approvals cannot be written: approved calls are refused until they can be; adit will retry"
                );
            }
            Err(_) => {}
        }
        written.is_ok()
    }
}

fn restore(path: &Path, approvals: &Approvals) -> Result<(), String> {
    let content = private::read(path, FILE_LEN_MAX).map_err(|error| error.to_string())?;
    let kept: Kept = serde_json::from_slice(&content).map_err(|error| error.to_string())?;
    if kept.version != FORMAT {
        return Err(format!("its version is {}, and this program reads {FORMAT}", kept.version));
    }
    let time = QuotaTime { now: MonotonicClock.now(), unix: unix_time() };
    approvals.restore(&kept.approvals, time).map_err(|at| format!("its entry {at} is invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Asked, CountedCaller, RoleSet, ToolPolicy};

    /// Requests approval of a call of `tool`. Returns whether the call may be made, once its use is written.
    fn may_call(approvals: &Arc<Approvals>, tool: &str) -> bool {
        let mut policy = ToolPolicy::parse("[[rule]]\nname = 'r'\neffect = 'approve'\ntools = ['*']\n").unwrap();
        policy.count_in(&Arc::default(), approvals, "a.test");
        let (asked, caller) = (Asked::tool(tool), CountedCaller { identity: None, address: None });
        let time = QuotaTime { now: MonotonicClock.now(), unix: unix_time() };
        let decision = policy.decide(RoleSet::default(), &asked);
        let message = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#;
        let (decision, ticket) = policy.ask_approval(decision, &asked, &caller, time, (None, message)).unwrap();
        let Some(ticket) = ticket else { return false };
        let (decision, used) = policy.use_approval(decision, ticket, time.now);
        assert!(used.is_some() && decision.is_allowed());
        true
    }

    fn opened(dir: &Path) -> ApprovalFile {
        ApprovalFile::open(Some(dir), &Arc::default(), &Arc::default())
    }

    #[test]
    fn approvals_and_their_use_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = opened(dir.path());
        assert!(!may_call(&first.approvals, "a") && !may_call(&first.approvals, "b"));
        for known in first.approvals.all(MonotonicClock.now()) {
            first.approvals.decide(known.ticket, true, "bob", MonotonicClock.now()).unwrap();
        }
        assert!(first.save());
        let second = opened(dir.path());
        assert!(may_call(&second.approvals, "a"), "approved before the restart");
        assert!(second.save());
        let third = opened(dir.path());
        assert!(!may_call(&third.approvals, "a"), "used before the restart");
        assert!(may_call(&third.approvals, "b"), "not used yet");
        std::fs::write(dir.path().join(FILE), "something else").unwrap();
        let fourth = opened(dir.path());
        assert!(!may_call(&fourth.approvals, "b") && fourth.save());
        assert!(ApprovalFile::open(None, &Arc::default(), &Arc::default()).save());
    }

    #[test]
    fn a_failed_write_is_reported_to_waiting_calls() {
        let dir = tempfile::tempdir().unwrap();
        let file = opened(&dir.path().join("gone"));
        may_call(&file.approvals, "a");
        let ticket = file.approvals.all(MonotonicClock.now())[0].ticket;
        file.approvals.decide(ticket, true, "bob", MonotonicClock.now()).unwrap();
        let kept = file.approvals.all_kept();
        assert!(!file.save() && !file.save());
        assert_eq!(file.counts.reading().unwritten, 2);
        assert!(!futures_lite::future::block_on(kept));
    }
}
