//! Tunnels, their hosts and their credentials.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::records::{Fact, record};
use super::{Outcome, hash, listed, parsed, time, time_if, window};
use crate::base::{CredentialId, TunnelId};
use crate::control::store::{
    CredentialRow, Listed, NewCredential, NewTunnel, Note, Page, Refused, ServedTunnel, TUNNELS_MAX, Tunnel,
};
use crate::control::wall_time::WallTime;
use crate::route::ROUTES_MAX;

/// How long the edge is still told of a credential that has ended, so that it can let what came in with it finish.
const TOLD_AFTER_END: Duration = Duration::from_secs(3_600);

const COLUMNS: &str = "seq, id, display_name, created_at, archived_at, provisioning_key,
    (SELECT count(*) FROM certificate WHERE certificate.tunnel = tunnel.id AND certificate.archived_at IS NULL)";

pub(super) fn served(look: &Transaction<'_>, now: WallTime) -> Outcome<Vec<ServedTunnel>> {
    let mut ids = look.prepare("SELECT id FROM tunnel WHERE archived_at IS NULL ORDER BY seq")?;
    let ids: Vec<TunnelId> = ids.query_map([], |row| parsed(row, 0))?.collect::<Result<_, _>>()?;
    let mut hosts = look.prepare("SELECT host FROM host WHERE tunnel = ? AND retired = 0 ORDER BY seq")?;
    let mut credentials = look.prepare(
        "SELECT id, hash, until FROM credential
         WHERE tunnel = ? AND revoked_at IS NULL AND (until IS NULL OR until > ?) ORDER BY seq DESC",
    )?;
    let told_from = now.before(TOLD_AFTER_END).0;
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        let hosts = hosts.query_map([id.as_str()], |row| parsed(row, 0))?.collect::<Result<_, _>>()?;
        let credential = |row: &Row<'_>| Ok((parsed(row, 0)?, hash(row, 1)?, time_if(row, 2)?));
        let credentials =
            credentials.query_map(params![id.as_str(), told_from], credential)?.collect::<Result<_, _>>()?;
        all.push(ServedTunnel { id, hosts, credentials });
    }
    Ok(all)
}

pub(super) fn create(change: &Transaction<'_>, new: &NewTunnel, key: Option<&str>, note: &Note) -> Outcome<Tunnel> {
    let count: u32 = change.query_row("SELECT count(*) FROM tunnel WHERE archived_at IS NULL", [], |row| row.get(0))?;
    if count >= TUNNELS_MAX {
        return Err(Refused::TooManyTunnels(TUNNELS_MAX).into());
    }
    let hosts: i64 = change.query_row("SELECT count(*) FROM host WHERE retired = 0", [], |row| row.get(0))?;
    if hosts.unsigned_abs() as usize + new.hosts.len() > ROUTES_MAX {
        return Err(Refused::TooManyHosts(ROUTES_MAX).into());
    }
    change.execute(
        "INSERT INTO tunnel (id, display_name, created_at, provisioning_key) VALUES (?, ?, ?, ?)",
        params![new.id.as_str(), new.display_name, note.at.0, key],
    )?;
    for host in &new.hosts {
        add_host(change, new, &host.to_string())?;
    }
    add_credential(change, &new.id, &new.credential, note)?;
    record(change, note, Fact { kind: "tunnel.created", tunnel: Some(&new.id), subject: key })?;
    one(change, &new.id)
}

pub(super) fn one(look: &Transaction<'_>, id: &TunnelId) -> Outcome<Tunnel> {
    let row = look.query_row(&format!("SELECT {COLUMNS} FROM tunnel WHERE id = ?"), [id.as_str()], tunnel);
    let (_, tunnel) = row.optional()?.ok_or_else(|| Refused::NoTunnel(id.clone()))?;
    filled(look, tunnel)
}

pub(super) fn list(look: &Transaction<'_>, archived_too: bool, page: Page) -> Outcome<Listed<Tunnel>> {
    let (limit, before) = window(page);
    let mut rows = look.prepare(&format!(
        "SELECT {COLUMNS} FROM tunnel WHERE seq < ? AND (? OR archived_at IS NULL) ORDER BY seq DESC LIMIT ?"
    ))?;
    let rows: Vec<_> = rows.query_map(params![before, archived_too, limit], tunnel)?.collect::<Result<Vec<_>, _>>()?;
    let filled = rows.into_iter().map(|(seq, tunnel)| Ok((seq, filled(look, tunnel)?)));
    Ok(listed(filled.collect::<Outcome<_>>()?, page))
}

pub(super) fn archive(change: &Transaction<'_>, id: &TunnelId, note: &Note) -> Outcome<Tunnel> {
    let tunnel = one(change, id)?;
    if tunnel.archived_at.is_some() {
        return Ok(tunnel);
    }
    for sql in [
        "UPDATE tunnel SET archived_at = ?1 WHERE id = ?2",
        "UPDATE credential SET revoked_at = ?1 WHERE tunnel = ?2 AND revoked_at IS NULL",
        "UPDATE certificate SET archived_at = ?1 WHERE tunnel = ?2 AND archived_at IS NULL",
    ] {
        change.execute(sql, params![note.at.0, id.as_str()])?;
    }
    change.execute("UPDATE host SET retired = 1 WHERE tunnel = ?", [id.as_str()])?;
    record(change, note, Fact { kind: "tunnel.archived", tunnel: Some(id), subject: None })?;
    one(change, id)
}

pub(super) fn rotate(
    change: &Transaction<'_>,
    id: &TunnelId,
    new: &NewCredential,
    old_until: WallTime,
    note: &Note,
) -> Outcome<Tunnel> {
    let tunnel = active(change, id)?;
    let overlaps = old_until > note.at;
    if overlaps && tunnel.good_credentials(note.at).count() > 1 {
        return Err(Refused::RotationUnderWay.into());
    }
    change.execute(
        "UPDATE credential SET until = min(coalesce(until, ?1), ?1) WHERE tunnel = ?2 AND revoked_at IS NULL",
        params![old_until.0, id.as_str()],
    )?;
    add_credential(change, id, new, note)?;
    record(change, note, Fact { kind: "credential.rotated", tunnel: Some(id), subject: Some(new.id.as_str()) })?;
    one(change, id)
}

pub(super) fn revoke(
    change: &Transaction<'_>,
    id: &TunnelId,
    which: Option<&CredentialId>,
    note: &Note,
) -> Outcome<Tunnel> {
    let tunnel = active(change, id)?;
    if let Some(which) = which
        && !tunnel.credentials.iter().any(|credential| credential.id == *which && credential.revoked_at.is_none())
    {
        return Err(Refused::NoCredential(which.clone()).into());
    }
    change.execute(
        "UPDATE credential SET revoked_at = ?1
         WHERE tunnel = ?2 AND revoked_at IS NULL AND (?3 IS NULL OR id = ?3)",
        params![note.at.0, id.as_str(), which.map(CredentialId::as_str)],
    )?;
    let subject = which.map(CredentialId::as_str);
    record(change, note, Fact { kind: "credential.revoked", tunnel: Some(id), subject })?;
    one(change, id)
}

/// A tunnel that is not archived.
pub(super) fn active(look: &Transaction<'_>, id: &TunnelId) -> Outcome<Tunnel> {
    let tunnel = one(look, id)?;
    if tunnel.archived_at.is_some() {
        return Err(Refused::Archived(id.clone()).into());
    }
    Ok(tunnel)
}

fn add_host(change: &Transaction<'_>, new: &NewTunnel, host: &str) -> Outcome<()> {
    let known = "SELECT tunnel, retired FROM host WHERE host = ? AND (retired = 0 OR made_up = 1)";
    let known = change.query_row(known, [host], |row| Ok((parsed::<TunnelId>(row, 0)?, row.get::<_, bool>(1)?)));
    match known.optional()? {
        Some((_, true)) => return Err(Refused::HostRetired(host.to_owned()).into()),
        Some((tunnel, false)) => return Err(Refused::HostTaken { host: host.to_owned(), tunnel }.into()),
        None => {}
    }
    change.execute(
        "INSERT INTO host (host, tunnel, made_up) VALUES (?, ?, ?)",
        params![host, new.id.as_str(), new.hosts_made_up],
    )?;
    Ok(())
}

fn add_credential(change: &Transaction<'_>, id: &TunnelId, new: &NewCredential, note: &Note) -> Outcome<()> {
    change.execute(
        "INSERT INTO credential (id, tunnel, hash, created_at) VALUES (?, ?, ?, ?)",
        params![new.id.as_str(), id.as_str(), new.hash.as_bytes(), note.at.0],
    )?;
    Ok(())
}

/// A row of the table, without what stands in other tables.
fn tunnel(row: &Row<'_>) -> rusqlite::Result<(i64, Tunnel)> {
    let tunnel = Tunnel {
        id: parsed(row, 1)?,
        display_name: row.get(2)?,
        domain: String::new(),
        hosts: Vec::new(),
        created_at: time(row, 3)?,
        archived_at: time_if(row, 4)?,
        provisioning_key: row.get(5)?,
        credentials: Vec::new(),
        certificates_active: row.get(6)?,
    };
    Ok((row.get(0)?, tunnel))
}

fn filled(look: &Transaction<'_>, mut tunnel: Tunnel) -> Outcome<Tunnel> {
    let mut hosts = look.prepare("SELECT host FROM host WHERE tunnel = ? ORDER BY seq")?;
    tunnel.hosts = hosts.query_map([tunnel.id.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    tunnel.domain = tunnel.hosts.first().cloned().unwrap_or_default();
    let mut credentials =
        look.prepare("SELECT id, created_at, until, revoked_at FROM credential WHERE tunnel = ? ORDER BY seq DESC")?;
    let credential = |row: &Row<'_>| {
        Ok(CredentialRow {
            id: parsed(row, 0)?,
            created_at: time(row, 1)?,
            until: time_if(row, 2)?,
            revoked_at: time_if(row, 3)?,
        })
    };
    tunnel.credentials = credentials.query_map([tunnel.id.as_str()], credential)?.collect::<Result<_, _>>()?;
    Ok(tunnel)
}
