//! Usage by credential: collected from the cores, and written to the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Serving;
use crate::base::{CredentialId, TunnelId};
use crate::control::state::CORE_ANSWER_MAX;
use crate::control::store::{StoreError, StoreHandle, Usage};
use crate::control::wall_time::WallTime;
use crate::edge::{EdgeCommand, USAGE_LINES_MAX, UsageLine};
use crate::engine::mailbox;
use crate::latency::Label;

/// The interval between records of usage.
pub const USAGE_INTERVAL: Duration = Duration::from_secs(10);
/// The most rows that wait while the store rejects them. Calls of further rows are counted as lost.
const PENDING_MAX: usize = 50_000;

/// Collects usage from the cores and writes it to the store. It keeps the rows while the store does not accept them.
pub struct UsageRecord {
    store: StoreHandle,
    serving: Arc<Serving>,
    pending: Mutex<Pending>,
    /// Held while pending rows are written, so that only one task does it.
    gathering: tokio::sync::Mutex<()>,
}

type Key = (TunnelId, CredentialId, Label, i64);

#[derive(Default)]
struct Pending {
    lines: BTreeMap<Key, Usage>,
    lost: u64,
}

impl UsageRecord {
    pub(super) fn new(store: StoreHandle, serving: Arc<Serving>) -> Arc<UsageRecord> {
        Arc::new(UsageRecord { store, serving, pending: Mutex::default(), gathering: tokio::sync::Mutex::default() })
    }

    /// Collects usage at intervals until it is dropped.
    pub async fn keep_gathering(self: Arc<UsageRecord>) {
        let mut ticks = interval(USAGE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.gather().await {
                tracing::warn!(%error, "calls could not be recorded in the store: trying again");
            }
        }
    }

    /// Collects usage from every core up to this moment, and stores it.
    ///
    /// # Errors
    ///
    /// If the store rejects it. The rows are kept, and stored later.
    pub async fn gather(&self) -> Result<(), StoreError> {
        let _one = self.gathering.lock().await;
        // Continues while a core has more rows than it sends at once.
        while self.ask().await >= USAGE_LINES_MAX {}
        self.add_lines(self.serving.edge().take_usage_left());
        self.flush().await
    }

    /// Asks every core once. Returns the most rows that one core sent.
    async fn ask(&self) -> usize {
        let edge = self.serving.edge();
        let (reply, mut answers) = mailbox(crate::route::CORES_MAX);
        edge.command(|| EdgeCommand::Usage(reply.clone()));
        drop(reply);
        let mut most = 0;
        let _ = timeout(CORE_ANSWER_MAX, async {
            while let Some(lines) = answers.recv().await {
                most = most.max(lines.len());
                self.add_lines(lines);
            }
        })
        .await;
        most
    }

    fn add_lines(&self, lines: Vec<UsageLine>) {
        let now = WallTime::now();
        let mut pending = self.pending();
        for line in lines {
            let (first, last) = (now.before(line.first_ago), now.before(line.last_ago));
            pending.add(Usage {
                tunnel: line.tunnel,
                credential: line.credential,
                route: line.label.route.into(),
                method: line.label.method.into(),
                tool: line.label.tool.into(),
                calls: line.calls,
                first,
                last,
            });
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let (lines, lost) = {
            let mut pending = self.pending();
            (std::mem::take(&mut pending.lines), std::mem::take(&mut pending.lost))
        };
        if lost > 0 {
            tracing::error!(
                calls = lost,
                "calls are missing from the usage record: the store accepted nothing for too long"
            );
        }
        let rows: Vec<Usage> = lines.into_values().collect();
        if rows.is_empty() {
            return Ok(());
        }
        let rows = Arc::new(rows);
        let given = Arc::clone(&rows);
        let put = self.store.with(move |store| store.add_usage(&given)).await;
        if put.is_err() {
            let mut pending = self.pending();
            rows.iter().cloned().for_each(|row| pending.add(row));
        }
        put
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, row: Usage) {
        let label = Label {
            route: row.route.as_str().into(),
            method: row.method.as_str().into(),
            tool: row.tool.as_str().into(),
        };
        let hour = row.last.0.div_euclid(3_600_000);
        let key = (row.tunnel.clone(), row.credential.clone(), label, hour);
        if self.lines.len() >= PENDING_MAX && !self.lines.contains_key(&key) {
            self.lost += row.calls;
            return;
        }
        let kept = self.lines.entry(key).or_insert_with(|| Usage { calls: 0, ..row.clone() });
        kept.calls += row.calls;
        kept.first = kept.first.min(row.first);
        kept.last = kept.last.max(row.last);
    }
}
