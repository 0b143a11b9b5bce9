//! Tunnels, their hosts and their credentials.

use rusqlite::{OptionalExtension, Row, Statement, Transaction, params};

use super::records::{Fact, record};
use super::schema::PARENT;
use super::{SqlResult, hash, listed, parsed, parsed_lines, time, time_if, window};
use crate::base::{CredentialId, TunnelId};
use crate::control::store::{
    CredentialRow, Listed, NewCredential, NewTunnel, Note, OVERLAPS_REPORTED_MAX, Overlap, Page, RuleViolation,
    TUNNELS_MAX, Tunnel, TunnelChange,
};
use crate::control::wall_time::WallTime;
use crate::policy::TunnelLists;
use crate::route::{HostPattern, ROUTES_MAX};

/// The values of a host's `retired` column.
mod retired {
    /// The tunnel of the host is archived.
    pub(super) const ARCHIVED: i64 = 1;
    /// The tunnel no longer has the host. Recorded only for generated hosts.
    pub(super) const GIVEN_UP: i64 = 2;
}

const COLUMNS: &str = "seq, id, display_name, created_at, archived_at, provisioning_key, connectors_from, allow_from, \
                       deny_from, admission_dry_run, traffic";

pub(super) fn all_active(look: &Transaction<'_>) -> SqlResult<Vec<Tunnel>> {
    let mut rows = look.prepare(&format!("SELECT {COLUMNS} FROM tunnel WHERE archived_at IS NULL ORDER BY seq"))?;
    let tunnels: Vec<_> = rows.query_map([], tunnel)?.collect::<Result<_, _>>()?;
    let mut parts = Parts::new(look)?;
    tunnels.into_iter().map(|(_, tunnel)| parts.of(tunnel)).collect()
}

pub(super) fn create(change: &Transaction<'_>, new: &NewTunnel, key: Option<&str>, note: &Note) -> SqlResult<Tunnel> {
    let count: u32 = change.query_row("SELECT count(*) FROM tunnel WHERE archived_at IS NULL", [], |row| row.get(0))?;
    if count >= TUNNELS_MAX {
        return Err(RuleViolation::TooManyTunnels(TUNNELS_MAX).into());
    }
    change.execute(
        "INSERT INTO tunnel (id, display_name, created_at, provisioning_key, requester, traffic) VALUES (?, ?, ?, ?, ?, ?)",
        params![
            new.id.as_str(),
            new.display_name,
            note.at.0,
            key,
            new.requester.map(|requester| requester.0),
            new.traffic.name()
        ],
    )?;
    set_lists(change, &new.id, &new.lists)?;
    for host in &new.hosts {
        add_host(change, &new.id, &host.to_string(), new.hosts_made_up)?;
    }
    check_host_count(change)?;
    add_credential(change, &new.id, &new.credential, note)?;
    record(change, note, Fact { kind: "tunnel.created", tunnel: Some(&new.id), subject: key })?;
    one(change, &new.id)
}

pub(super) fn one(look: &Transaction<'_>, id: &TunnelId) -> SqlResult<Tunnel> {
    let row = look.query_row(&format!("SELECT {COLUMNS} FROM tunnel WHERE id = ?"), [id.as_str()], tunnel);
    let (_, tunnel) = row.optional()?.ok_or_else(|| RuleViolation::NoTunnel(id.clone()))?;
    Parts::new(look)?.of(tunnel)
}

pub(super) fn list(look: &Transaction<'_>, archived_too: bool, page: Page) -> SqlResult<Listed<Tunnel>> {
    let (limit, before) = window(page);
    let mut rows = look.prepare(&format!(
        "SELECT {COLUMNS} FROM tunnel WHERE seq < ? AND (? OR archived_at IS NULL) ORDER BY seq DESC LIMIT ?"
    ))?;
    let rows: Vec<_> = rows.query_map(params![before, archived_too, limit], tunnel)?.collect::<Result<Vec<_>, _>>()?;
    let mut parts = Parts::new(look)?;
    let whole = rows.into_iter().map(|(seq, tunnel)| Ok((seq, parts.of(tunnel)?)));
    Ok(listed(whole.collect::<SqlResult<_>>()?, page))
}

pub(super) fn change(change: &Transaction<'_>, id: &TunnelId, wanted: &TunnelChange, note: &Note) -> SqlResult<Tunnel> {
    let tunnel = active(change, id)?;
    if let Some(name) = &wanted.display_name {
        change.execute("UPDATE tunnel SET display_name = ? WHERE id = ?", params![name, id.as_str()])?;
    }
    if let Some(traffic) = wanted.traffic {
        change.execute("UPDATE tunnel SET traffic = ? WHERE id = ?", params![traffic.name(), id.as_str()])?;
    }
    if let Some(hosts) = &wanted.hosts {
        set_hosts(change, id, hosts)?;
        check_host_count(change)?;
    }
    set_lists(change, id, &wanted.lists(tunnel.lists))?;
    record(change, note, Fact { kind: "tunnel.updated", tunnel: Some(id), subject: None })?;
    one(change, id)
}

pub(super) fn archive(change: &Transaction<'_>, id: &TunnelId, note: &Note) -> SqlResult<Tunnel> {
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
    let retire = "UPDATE host SET retired = ? WHERE tunnel = ? AND retired = 0";
    change.execute(retire, params![retired::ARCHIVED, id.as_str()])?;
    record(change, note, Fact { kind: "tunnel.archived", tunnel: Some(id), subject: None })?;
    one(change, id)
}

pub(super) fn rotate(
    change: &Transaction<'_>,
    id: &TunnelId,
    new: &NewCredential,
    old_until: WallTime,
    note: &Note,
) -> SqlResult<Tunnel> {
    let tunnel = active(change, id)?;
    let overlaps = old_until > note.at;
    if overlaps && tunnel.good_credentials(note.at).count() > 1 {
        return Err(RuleViolation::RotationUnderWay.into());
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
) -> SqlResult<Tunnel> {
    let tunnel = active(change, id)?;
    if let Some(which) = which
        && !tunnel.credentials.iter().any(|credential| credential.id == *which && credential.revoked_at.is_none())
    {
        return Err(RuleViolation::NoCredential(which.clone()).into());
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

/// Reads a tunnel that is not archived.
pub(super) fn active(look: &Transaction<'_>, id: &TunnelId) -> SqlResult<Tunnel> {
    let tunnel = one(look, id)?;
    if tunnel.archived_at.is_some() {
        return Err(RuleViolation::Archived(id.clone()).into());
    }
    Ok(tunnel)
}

/// Replaces the hosts of a tunnel.
fn set_hosts(change: &Transaction<'_>, id: &TunnelId, wanted: &[HostPattern]) -> SqlResult<()> {
    let mut made_up = change.prepare("SELECT host FROM host WHERE tunnel = ? AND made_up = 1")?;
    let made_up: Vec<String> = made_up.query_map([id.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    change.execute("DELETE FROM host WHERE tunnel = ?", [id.as_str()])?;
    let wanted: Vec<String> = wanted.iter().map(HostPattern::to_string).collect();
    for host in &wanted {
        add_host(change, id, host, made_up.contains(host))?;
    }
    for host in made_up.iter().filter(|host| !wanted.contains(host)) {
        change.execute(
            "INSERT INTO host (host, tunnel, made_up, retired) VALUES (?, ?, 1, ?)",
            params![host, id.as_str(), retired::GIVEN_UP],
        )?;
    }
    Ok(())
}

/// The overlaps of a tunnel's hosts in use with those of others.
pub(super) fn overlaps(look: &Transaction<'_>, id: &TunnelId) -> SqlResult<Vec<Overlap>> {
    let mut own = look.prepare("SELECT host FROM host WHERE tunnel = ? AND retired = 0 ORDER BY seq")?;
    let own: Vec<HostPattern> = own.query_map([id.as_str()], |row| parsed(row, 0))?.collect::<Result<_, _>>()?;
    let mut above = look.prepare("SELECT host, tunnel FROM host WHERE retired = 0 AND host = ? AND tunnel <> ?")?;
    let mut below = look.prepare(&format!(
        "SELECT host, tunnel FROM host WHERE retired = 0 AND {PARENT} = ? AND tunnel <> ? ORDER BY seq"
    ))?;
    let theirs = |row: &Row<'_>| Ok((parsed::<HostPattern>(row, 0)?, parsed::<TunnelId>(row, 1)?));
    let mut found = Vec::new();
    for host in own {
        let rows = match &host {
            HostPattern::Exact(name) => {
                let Some(parent) = name.parent() else { continue };
                above.query_map(params![format!("*.{parent}"), id.as_str()], theirs)?
            }
            HostPattern::Wildcard(parent) => below.query_map(params![parent.as_str(), id.as_str()], theirs)?,
        };
        for row in rows {
            let (theirs, tunnel) = row?;
            if host.overlaps(&theirs) {
                found.push(Overlap { host, theirs, tunnel });
            }
            if found.len() >= OVERLAPS_REPORTED_MAX {
                break;
            }
        }
    }
    found.truncate(OVERLAPS_REPORTED_MAX);
    Ok(found)
}

fn check_host_count(look: &Transaction<'_>) -> SqlResult<()> {
    let hosts: i64 = look.query_row("SELECT count(*) FROM host WHERE retired = 0", [], |row| row.get(0))?;
    if hosts.unsigned_abs() as usize > ROUTES_MAX {
        return Err(RuleViolation::TooManyHosts(ROUTES_MAX).into());
    }
    Ok(())
}

fn add_host(change: &Transaction<'_>, id: &TunnelId, host: &str, made_up: bool) -> SqlResult<()> {
    let known = "SELECT tunnel, retired FROM host WHERE host = ? AND (retired = 0 OR made_up = 1)";
    let known = change.query_row(known, [host], |row| Ok((parsed::<TunnelId>(row, 0)?, row.get::<_, bool>(1)?)));
    match known.optional()? {
        Some((_, true)) => return Err(RuleViolation::HostRetired(host.to_owned()).into()),
        Some((tunnel, false)) => return Err(RuleViolation::HostTaken { host: host.to_owned(), tunnel }.into()),
        None => {}
    }
    change.execute("INSERT INTO host (host, tunnel, made_up) VALUES (?, ?, ?)", params![host, id.as_str(), made_up])?;
    Ok(())
}

fn add_credential(change: &Transaction<'_>, id: &TunnelId, new: &NewCredential, note: &Note) -> SqlResult<()> {
    change.execute(
        "INSERT INTO credential (id, tunnel, hash, created_at) VALUES (?, ?, ?, ?)",
        params![new.id.as_str(), id.as_str(), new.hash.as_bytes(), note.at.0],
    )?;
    Ok(())
}

/// Reads a row of the table, without the data in other tables.
fn tunnel(row: &Row<'_>) -> rusqlite::Result<(i64, Tunnel)> {
    let tunnel = Tunnel {
        id: parsed(row, 1)?,
        display_name: row.get(2)?,
        hosts: Vec::new(),
        traffic: parsed(row, 10)?,
        lists: lists(row, 6)?,
        created_at: time(row, 3)?,
        archived_at: time_if(row, 4)?,
        provisioning_key: row.get(5)?,
        credentials: Vec::new(),
        authorities: Vec::new(),
    };
    Ok((row.get(0)?, tunnel))
}

/// Reads a tunnel's data in other tables, with statements that are prepared once for many tunnels.
struct Parts<'a> {
    hosts: Statement<'a>,
    credentials: Statement<'a>,
    authorities: Statement<'a>,
}

impl<'a> Parts<'a> {
    fn new(look: &'a Transaction<'_>) -> SqlResult<Parts<'a>> {
        Ok(Parts {
            hosts: look.prepare("SELECT host FROM host WHERE tunnel = ? AND retired <> ? ORDER BY seq")?,
            credentials: look.prepare(
                "SELECT id, hash, created_at, until, revoked_at FROM credential WHERE tunnel = ? ORDER BY seq DESC",
            )?,
            authorities: look
                .prepare("SELECT pem FROM certificate WHERE tunnel = ? AND archived_at IS NULL ORDER BY seq")?,
        })
    }

    /// Adds that data to the tunnel.
    fn of(&mut self, mut tunnel: Tunnel) -> SqlResult<Tunnel> {
        let id = tunnel.id.as_str();
        let hosts = self.hosts.query_map(params![id, retired::GIVEN_UP], |row| parsed(row, 0))?;
        tunnel.hosts = hosts.collect::<Result<_, _>>()?;
        let credential = |row: &Row<'_>| {
            Ok(CredentialRow {
                id: parsed(row, 0)?,
                hash: hash(row, 1)?,
                created_at: time(row, 2)?,
                until: time_if(row, 3)?,
                revoked_at: time_if(row, 4)?,
            })
        };
        tunnel.credentials = self.credentials.query_map([id], credential)?.collect::<Result<_, _>>()?;
        tunnel.authorities = self.authorities.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(tunnel)
    }
}

/// The lists of a tunnel, in the columns from `at` on.
fn lists(row: &Row<'_>, at: usize) -> rusqlite::Result<TunnelLists> {
    Ok(TunnelLists {
        connectors_from: parsed_lines(row, at)?,
        allow_from: parsed_lines(row, at + 1)?,
        deny_from: parsed_lines(row, at + 2)?,
        dry_run: row.get(at + 3)?,
    })
}

fn set_lists(change: &Transaction<'_>, id: &TunnelId, lists: &TunnelLists) -> SqlResult<()> {
    change.execute(
        "UPDATE tunnel SET connectors_from = ?, allow_from = ?, deny_from = ?, admission_dry_run = ? WHERE id = ?",
        params![
            lines(&lists.connectors_from),
            lines(&lists.allow_from),
            lines(&lists.deny_from),
            lists.dry_run,
            id.as_str()
        ],
    )?;
    Ok(())
}

fn lines<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
