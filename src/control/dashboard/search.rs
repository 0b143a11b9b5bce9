//! Searches of the audit log for the dashboard. They read files, so they run on a thread of their own, one at a time.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::control::audit::{AuditFile, AuditIndex, LineFilter};
use crate::control::wall_time::WallTime;

/// The most lines of an answer.
const LINES_MAX: u32 = 200;
/// The longest text to search for, in bytes.
const TEXT_LEN_MAX: usize = 512;
/// The longest period of a search, in seconds.
const SINCE_MAX_S: u64 = 31_536_000 * 10;

/// What is searched for. Empty texts match everything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuditQuery {
    since_s: Option<u64>,
    identity: String,
    name: String,
    method: String,
    route: String,
    decision: String,
    rule: String,
    outcome: String,
    limit: Option<u32>,
}

/// The lines that were found.
#[derive(Debug, Serialize)]
pub(super) struct AuditFound {
    /// The newest matching lines, the last one first.
    lines: VecDeque<Value>,
    /// The most lines that a search returns.
    limit: usize,
}

/// Why nothing was searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSearched {
    /// The process has no audit log.
    NoLog,
    /// Another search has not ended.
    Busy,
    /// The query is out of bounds.
    Query,
    /// The log cannot be read.
    Failed,
}

/// Searches the log of a process.
pub(super) struct AuditSearch {
    dir: Option<PathBuf>,
    place: Arc<Semaphore>,
}

impl AuditQuery {
    fn filter(&self) -> Option<(LineFilter, usize)> {
        let groups: [(&[&str], &String); 7] = [
            (&["peer", "caller", "client"], &self.identity),
            (&["name"], &self.name),
            (&["method"], &self.method),
            (&["route"], &self.route),
            (&["decision"], &self.decision),
            (&["rule"], &self.rule),
            (&["outcome"], &self.outcome),
        ];
        let limit = self.limit.unwrap_or(LINES_MAX);
        let is_within = groups.iter().all(|(_, text)| text.len() <= TEXT_LEN_MAX)
            && (1..=LINES_MAX).contains(&limit)
            && self.since_s.is_none_or(|since| since <= SINCE_MAX_S);
        if !is_within {
            return None;
        }
        let given = groups.into_iter().filter(|(_, text)| !text.is_empty());
        let members = given.map(|(names, text)| (names, text.clone())).collect();
        let since = self.since_s.map(|seconds| WallTime::now().before(Duration::from_secs(seconds)));
        Some((LineFilter { since, until: None, members }, limit as usize))
    }
}

impl AuditSearch {
    /// Searches the log in this directory.
    pub(super) fn new(dir: Option<PathBuf>) -> AuditSearch {
        AuditSearch { dir, place: Arc::new(Semaphore::new(1)) }
    }

    /// The newest lines that match.
    pub(super) async fn find(&self, query: &AuditQuery) -> Result<AuditFound, NotSearched> {
        let dir = self.dir.clone().ok_or(NotSearched::NoLog)?;
        let (filter, limit) = query.filter().ok_or(NotSearched::Query)?;
        let place = Arc::clone(&self.place).try_acquire_owned().map_err(|_| NotSearched::Busy)?;
        let found = tokio::task::spawn_blocking(move || {
            // A search whose browser has gone still has its place until it ends.
            let _place = place;
            find(&dir, &filter, limit)
        });
        let found = found.await.map_err(|_| NotSearched::Failed)?;
        let lines = found.map_err(|error| {
            tracing::warn!(%error, "the audit log cannot be searched");
            NotSearched::Failed
        })?;
        Ok(AuditFound { lines, limit })
    }
}

/// The newest lines that match, with the index, or without it if it cannot be used; the last one first.
fn find(dir: &Path, filter: &LineFilter, limit: usize) -> io::Result<VecDeque<Value>> {
    let indexed = AuditIndex::open(dir, &mut |_, _| ())
        .and_then(|index| index.map(|mut index| index.newest(filter, limit)).transpose());
    let found = match indexed {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            AuditIndex::remove_damaged(dir, &error);
            scan(dir, filter, limit)?
        }
    };
    Ok(found.into_iter().rev().collect())
}

fn scan(dir: &Path, filter: &LineFilter, limit: usize) -> io::Result<VecDeque<Value>> {
    let mut last = VecDeque::new();
    for file in AuditFile::list(dir)? {
        let mut lines = file.lines()?;
        while let Some((line, _)) = lines.next_line()? {
            let Some(line) = serde_json::from_slice(line).ok().filter(|line| filter.wants(line)) else { continue };
            if last.len() == limit {
                last.pop_front();
            }
            last.push_back(line);
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = (0..500u64)
            .map(|seq| {
                let name = if seq % 2 == 0 { "even" } else { "odd" };
                format!("{}\n", json!({"seq": seq, "time": "2026-11-29T12:00:00Z", "kind": "call", "name": name}))
            })
            .collect();
        std::fs::write(AuditFile::plain(dir.path(), 0).path, lines).unwrap();
        dir
    }

    #[tokio::test]
    async fn the_newest_lines_are_found_with_and_without_the_index() {
        let dir = log();
        let search = AuditSearch::new(Some(dir.path().to_owned()));
        let query = AuditQuery { name: "odd".to_owned(), limit: Some(3), ..AuditQuery::default() };
        let numbers =
            |lines: &VecDeque<Value>| lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(numbers(&search.find(&query).await.unwrap().lines), [499, 497, 495]);
        let (filter, limit) = query.filter().unwrap();
        assert_eq!(numbers(&scan(dir.path(), &filter, limit).unwrap()), [495, 497, 499]);
        let none = AuditQuery { name: "other".to_owned(), ..AuditQuery::default() };
        assert!(search.find(&none).await.unwrap().lines.is_empty());
        assert_eq!(search.find(&AuditQuery::default()).await.unwrap().lines.len(), LINES_MAX as usize);
    }

    #[tokio::test]
    async fn a_search_is_refused_when_it_is_too_much() {
        let dir = log();
        let search = AuditSearch::new(Some(dir.path().to_owned()));
        for query in [
            AuditQuery { limit: Some(0), ..AuditQuery::default() },
            AuditQuery { limit: Some(LINES_MAX + 1), ..AuditQuery::default() },
            AuditQuery { name: "x".repeat(TEXT_LEN_MAX + 1), ..AuditQuery::default() },
            AuditQuery { since_s: Some(u64::MAX), ..AuditQuery::default() },
        ] {
            assert_eq!(search.find(&query).await.unwrap_err(), NotSearched::Query);
        }
        let place = search.place.acquire().await.unwrap();
        assert_eq!(search.find(&AuditQuery::default()).await.unwrap_err(), NotSearched::Busy);
        drop(place);
        assert_eq!(AuditSearch::new(None).find(&AuditQuery::default()).await.unwrap_err(), NotSearched::NoLog);
    }
}
