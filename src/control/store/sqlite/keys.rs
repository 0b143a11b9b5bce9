//! Provisioning keys.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::records::{Fact, record};
use super::{SqlResult, listed, parsed, time, time_if, tunnels, window};
use crate::base::{SecretHash, TunnelId};
use crate::control::store::{
    Listed, NewKey, NewTunnel, Note, PROVISIONING_KEYS_MAX, Page, ProvisioningKey, Requester, RuleViolation, Tunnel,
};
use crate::control::wall_time::WallTime;

const COLUMNS: &str = "seq, id, display_name, name_template, hosts, uses_max, uses, created_at, expires_at, revoked_at";

pub(super) fn add(change: &Transaction<'_>, new: &NewKey, note: &Note) -> SqlResult<ProvisioningKey> {
    let good = "SELECT count(*) FROM provisioning_key WHERE revoked_at IS NULL AND expires_at > ? AND uses < uses_max";
    let good: u32 = change.query_row(good, [note.at.0], |row| row.get(0))?;
    if good >= PROVISIONING_KEYS_MAX {
        return Err(RuleViolation::TooManyKeys(PROVISIONING_KEYS_MAX).into());
    }
    let key = &new.key;
    change.execute(
        "INSERT INTO provisioning_key (id, hash, display_name, name_template, hosts, uses_max, created_at, expires_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            key.id,
            new.hash.as_bytes(),
            key.display_name,
            key.name_template,
            key.hosts.join("\n"),
            key.uses_max,
            note.at.0,
            key.expires_at.0,
        ],
    )?;
    record(change, note, Fact { kind: "provisioning_key.created", tunnel: None, subject: Some(&key.id) })?;
    one(change, &key.id)
}

pub(super) fn one(look: &Transaction<'_>, id: &str) -> SqlResult<ProvisioningKey> {
    let row = look.query_row(&format!("SELECT {COLUMNS} FROM provisioning_key WHERE id = ?"), [id], key);
    Ok(row.optional()?.ok_or_else(|| RuleViolation::NoKey(id.to_owned()))?.1)
}

pub(super) fn good(look: &Transaction<'_>, hash: &SecretHash, now: WallTime) -> SqlResult<ProvisioningKey> {
    // The index lookup is not constant-time. It may reveal the hash of the presented key, but nothing about a valid one.
    let row = look.query_row(&format!("SELECT {COLUMNS} FROM provisioning_key WHERE hash = ?"), [hash.as_bytes()], key);
    let found = row.optional()?.map(|(_, key)| key).filter(|key| key.is_good(now));
    Ok(found.ok_or(RuleViolation::KeyNotGood)?)
}

pub(super) fn may_trade(look: &Transaction<'_>, hash: &SecretHash, now: WallTime, since: WallTime) -> SqlResult<bool> {
    let found = look.query_row(
        "SELECT (expires_at > ?2 AND uses < uses_max) OR EXISTS (
             SELECT 1 FROM tunnel WHERE tunnel.provisioning_key = provisioning_key.id
                 AND tunnel.created_at >= ?3 AND tunnel.archived_at IS NULL)
         FROM provisioning_key WHERE hash = ?1 AND revoked_at IS NULL",
        params![hash.as_bytes(), now.0, since.0],
        |row| row.get(0),
    );
    Ok(found.optional()?.unwrap_or(false))
}

pub(super) fn list(look: &Transaction<'_>, page: Page) -> SqlResult<Listed<ProvisioningKey>> {
    let (limit, before) = window(page);
    let sql = format!("SELECT {COLUMNS} FROM provisioning_key WHERE seq < ? ORDER BY seq DESC LIMIT ?");
    let mut rows = look.prepare(&sql)?;
    let rows = rows.query_map([before, limit], key)?;
    Ok(listed(rows.collect::<Result<_, _>>()?, page))
}

pub(super) fn revoke(change: &Transaction<'_>, id: &str, note: &Note) -> SqlResult<ProvisioningKey> {
    let key = one(change, id)?;
    if key.revoked_at.is_some() {
        return Ok(key);
    }
    change.execute("UPDATE provisioning_key SET revoked_at = ? WHERE id = ?", params![note.at.0, id])?;
    record(change, note, Fact { kind: "provisioning_key.revoked", tunnel: None, subject: Some(id) })?;
    one(change, id)
}

pub(super) fn trade(change: &Transaction<'_>, id: &str, new: &NewTunnel, note: &Note) -> SqlResult<Tunnel> {
    if !one(change, id)?.is_good(note.at) {
        return Err(RuleViolation::KeyNotGood.into());
    }
    change.execute("UPDATE provisioning_key SET uses = uses + 1 WHERE id = ?", [id])?;
    let tunnel = tunnels::create(change, new, Some(id), note)?;
    // A generated host is random, so no other tunnel can want it.
    if !new.hosts_made_up
        && let Some(overlap) = tunnels::overlaps(change, &new.id)?.pop()
    {
        return Err(RuleViolation::HostOverlaps(Box::new(overlap)).into());
    }
    Ok(tunnel)
}

pub(super) fn traded(
    look: &Transaction<'_>,
    key: &SecretHash,
    requester: &Requester,
    since: WallTime,
) -> SqlResult<Option<Tunnel>> {
    let found = look.query_row(
        "SELECT tunnel.id FROM tunnel JOIN provisioning_key ON provisioning_key.id = tunnel.provisioning_key
         WHERE provisioning_key.hash = ? AND provisioning_key.revoked_at IS NULL
             AND tunnel.requester = ? AND tunnel.created_at >= ? AND tunnel.archived_at IS NULL
         ORDER BY tunnel.seq DESC LIMIT 1",
        params![key.as_bytes(), requester.0, since.0],
        |row| parsed::<TunnelId>(row, 0),
    );
    found.optional()?.map(|id| tunnels::one(look, &id)).transpose()
}

fn key(row: &Row<'_>) -> rusqlite::Result<(i64, ProvisioningKey)> {
    let hosts: String = row.get(4)?;
    let key = ProvisioningKey {
        id: row.get(1)?,
        display_name: row.get(2)?,
        name_template: row.get(3)?,
        hosts: hosts.lines().map(str::to_owned).collect(),
        uses_max: row.get(5)?,
        uses: row.get(6)?,
        created_at: time(row, 7)?,
        expires_at: time(row, 8)?,
        revoked_at: time_if(row, 9)?,
    };
    Ok((row.get(0)?, key))
}
