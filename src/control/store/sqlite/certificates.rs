//! The certificates of authorities that are registered with tunnels.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::records::{Fact, record};
use super::{SqlResult, listed, parsed, time, time_if, tunnels, window};
use crate::base::TunnelId;
use crate::control::store::{CERTIFICATES_ACTIVE_MAX, Certificate, Listed, Note, Page, RuleViolation, Tunnel};

const COLUMNS: &str = "seq, id, tunnel, fingerprint, pem, created_at, expires_at, archived_at";

pub(super) fn add(change: &Transaction<'_>, new: &Certificate, note: &Note) -> SqlResult<(Tunnel, Certificate)> {
    tunnels::active(change, &new.tunnel)?;
    let mut active =
        change.prepare("SELECT id, fingerprint FROM certificate WHERE tunnel = ? AND archived_at IS NULL")?;
    let pair = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let active: Vec<(String, String)> = active.query_map([new.tunnel.as_str()], pair)?.collect::<Result<_, _>>()?;
    if let Some((id, _)) = active.iter().find(|(_, fingerprint)| *fingerprint == new.fingerprint) {
        return Err(RuleViolation::CertificateKnown(id.clone()).into());
    }
    if active.len() >= CERTIFICATES_ACTIVE_MAX {
        return Err(RuleViolation::CertificateSlots(CERTIFICATES_ACTIVE_MAX).into());
    }
    change.execute(
        "INSERT INTO certificate (id, tunnel, fingerprint, pem, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        params![new.id, new.tunnel.as_str(), new.fingerprint, new.pem, note.at.0, new.expires_at.0],
    )?;
    record(change, note, Fact { kind: "certificate.added", tunnel: Some(&new.tunnel), subject: Some(&new.id) })?;
    with_tunnel(change, &new.tunnel, &new.id)
}

pub(super) fn one(look: &Transaction<'_>, tunnel: &TunnelId, id: &str) -> SqlResult<Certificate> {
    tunnels::one(look, tunnel)?;
    let sql = format!("SELECT {COLUMNS} FROM certificate WHERE tunnel = ? AND id = ?");
    let row = look.query_row(&sql, [tunnel.as_str(), id], certificate).optional()?;
    Ok(row.ok_or_else(|| RuleViolation::NoCertificate(id.to_owned()))?.1)
}

pub(super) fn list(
    look: &Transaction<'_>,
    tunnel: &TunnelId,
    archived_too: bool,
    page: Page,
) -> SqlResult<Listed<Certificate>> {
    tunnels::one(look, tunnel)?;
    let (limit, before) = window(page);
    let mut rows = look.prepare(&format!(
        "SELECT {COLUMNS} FROM certificate
         WHERE tunnel = ? AND seq < ? AND (? OR archived_at IS NULL) ORDER BY seq DESC LIMIT ?"
    ))?;
    let rows = rows.query_map(params![tunnel.as_str(), before, archived_too, limit], certificate)?;
    Ok(listed(rows.collect::<Result<_, _>>()?, page))
}

pub(super) fn archive(
    change: &Transaction<'_>,
    tunnel: &TunnelId,
    id: &str,
    note: &Note,
) -> SqlResult<(Tunnel, Certificate)> {
    if one(change, tunnel, id)?.archived_at.is_some() {
        return with_tunnel(change, tunnel, id);
    }
    change.execute("UPDATE certificate SET archived_at = ? WHERE id = ?", params![note.at.0, id])?;
    record(change, note, Fact { kind: "certificate.archived", tunnel: Some(tunnel), subject: Some(id) })?;
    with_tunnel(change, tunnel, id)
}

fn with_tunnel(look: &Transaction<'_>, tunnel: &TunnelId, id: &str) -> SqlResult<(Tunnel, Certificate)> {
    Ok((tunnels::one(look, tunnel)?, one(look, tunnel, id)?))
}

fn certificate(row: &Row<'_>) -> rusqlite::Result<(i64, Certificate)> {
    let certificate = Certificate {
        id: row.get(1)?,
        tunnel: parsed(row, 2)?,
        fingerprint: row.get(3)?,
        pem: row.get(4)?,
        created_at: time(row, 5)?,
        expires_at: time(row, 6)?,
        archived_at: time_if(row, 7)?,
    };
    Ok((row.get(0)?, certificate))
}
