//! Events and usage.

use rusqlite::{Row, Transaction, params};

use super::{Failure, SqlResult, listed, parsed, time, window};
use crate::audit::ActionLine;
use crate::base::{CredentialId, TunnelId};
use crate::control::audit::written_in_time;
use crate::control::store::{AuditEvent, EVENTS_MAX, Listed, Note, Page, USAGE_ROWS_MAX, Usage};
use crate::control::wall_time::WallTime;
use crate::serve::AuditLog;

const HOUR_MS: i64 = 3_600_000;

/// An event: the action and its objects.
pub(super) struct Fact<'a> {
    pub(super) kind: &'static str,
    pub(super) tunnel: Option<&'a TunnelId>,
    pub(super) subject: Option<&'a str>,
}

/// Adds an event, in the transaction of the change.
pub(super) fn record(change: &Transaction<'_>, note: &Note, fact: Fact<'_>) -> SqlResult<()> {
    change.execute(
        "INSERT INTO event (at, kind, tunnel, subject, reason) VALUES (?, ?, ?, ?, ?)",
        params![note.at.0, fact.kind, fact.tunnel.map(TunnelId::as_str), fact.subject, note.reason],
    )?;
    let oldest = change.last_insert_rowid() - i64::from(EVENTS_MAX);
    change.execute("DELETE FROM event WHERE seq <= ?", [oldest])?;
    Ok(())
}

/// The number of the last event; 0 if there is none.
pub(super) fn last(change: &Transaction<'_>) -> SqlResult<i64> {
    Ok(change.query_row("SELECT COALESCE(MAX(seq), 0) FROM event", [], |row| row.get(0))?)
}

/// Writes the events since then to the audit log.
pub(super) fn tell(change: &Transaction<'_>, since: i64, audit: &AuditLog) -> SqlResult<()> {
    let mut rows = change.prepare("SELECT kind, tunnel, subject, reason FROM event WHERE seq > ? ORDER BY seq")?;
    let body = |row: &Row<'_>| {
        let action: String = row.get(0)?;
        let [tunnel, subject, reason]: [Option<String>; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
        let line = ActionLine {
            action: &action,
            tunnel: tunnel.as_deref(),
            subject: subject.as_deref(),
            reason: reason.as_deref(),
        };
        Ok(line.body())
    };
    for body in rows.query_map([since], body)? {
        if !written_in_time(audit, audit.submit(body?)) {
            return Err(Failure::Unrecorded);
        }
    }
    Ok(())
}

pub(super) fn events(look: &Transaction<'_>, tunnel: Option<&TunnelId>, page: Page) -> SqlResult<Listed<AuditEvent>> {
    let (limit, before) = window(page);
    let mut rows = look.prepare(
        "SELECT seq, at, kind, tunnel, subject, reason FROM event
         WHERE seq < ?1 AND (?2 IS NULL OR tunnel = ?2) ORDER BY seq DESC LIMIT ?3",
    )?;
    let event = |row: &Row<'_>| {
        let tunnel: Option<String> = row.get(3)?;
        let event = AuditEvent {
            seq: row.get(0)?,
            at: time(row, 1)?,
            kind: row.get(2)?,
            tunnel: if tunnel.is_some() { Some(parsed(row, 3)?) } else { None },
            subject: row.get(4)?,
            reason: row.get(5)?,
        };
        Ok((event.seq, event))
    };
    let rows = rows.query_map(params![before, tunnel.map(TunnelId::as_str), limit], event)?;
    Ok(listed(rows.collect::<Result<_, _>>()?, page))
}

pub(super) fn add_usage(change: &Transaction<'_>, rows: &[Usage]) -> SqlResult<()> {
    let mut add = change.prepare(
        "INSERT INTO usage (tunnel, credential, route, method, tool, hour, calls, first_at, last_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (tunnel, credential, route, method, tool, hour) DO UPDATE SET
             calls = calls + excluded.calls,
             first_at = min(first_at, excluded.first_at),
             last_at = max(last_at, excluded.last_at)",
    )?;
    for row in rows {
        add.execute(params![
            row.tunnel.as_str(),
            row.credential.as_str(),
            row.route,
            row.method,
            row.tool,
            row.last.0.div_euclid(HOUR_MS),
            i64::try_from(row.calls).unwrap_or(i64::MAX),
            row.first.0,
            row.last.0,
        ])?;
    }
    let newest: i64 = change.query_row("SELECT coalesce(max(seq), 0) FROM usage", [], |row| row.get(0))?;
    change.execute("DELETE FROM usage WHERE seq <= ?", [newest - i64::from(USAGE_ROWS_MAX)])?;
    Ok(())
}

pub(super) fn usage(
    look: &Transaction<'_>,
    tunnel: &TunnelId,
    credential: Option<&CredentialId>,
    since: WallTime,
) -> SqlResult<Vec<Usage>> {
    let mut rows = look.prepare(
        "SELECT credential, route, method, tool, sum(calls), min(first_at), max(last_at) FROM usage
         WHERE tunnel = ?1 AND (?2 IS NULL OR credential = ?2) AND last_at >= ?3
         GROUP BY credential, route, method, tool ORDER BY max(last_at) DESC, route, method, tool",
    )?;
    let usage = |row: &Row<'_>| {
        Ok(Usage {
            tunnel: tunnel.clone(),
            credential: parsed(row, 0)?,
            route: row.get(1)?,
            method: row.get(2)?,
            tool: row.get(3)?,
            calls: row.get::<_, i64>(4)?.unsigned_abs(),
            first: time(row, 5)?,
            last: time(row, 6)?,
        })
    };
    let rows = rows.query_map(params![tunnel.as_str(), credential.map(CredentialId::as_str), since.0], usage)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
