//! The tables, and the migration from older versions of the schema.

use rusqlite::{Connection, TransactionBehavior};

/// One step for each version of the schema. The first creates it, and each further one migrates from the version
/// before. A released step is never changed.
const STEPS: [&str; 5] = [FIRST, WHO_MAY_COME, TRAFFIC, WHO_TRADED, MANY_TUNNELS];

/// The schema version that this version of adit creates and reads.
pub const SCHEMA_VERSION: i64 = STEPS.len() as i64;

/// Identifies the file as a store of adit for `file` and similar programs.
const APPLICATION_ID: i64 = 0x6164_6974;

pub(super) const FIRST: &str = "
CREATE TABLE tunnel (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    display_name TEXT,
    created_at INTEGER NOT NULL,
    archived_at INTEGER,
    provisioning_key TEXT
) STRICT;

CREATE TABLE host (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    tunnel TEXT NOT NULL REFERENCES tunnel (id),
    made_up INTEGER NOT NULL,
    retired INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX host_in_use ON host (host) WHERE retired = 0;
CREATE INDEX host_of_tunnel ON host (tunnel);

CREATE TABLE credential (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tunnel TEXT NOT NULL REFERENCES tunnel (id),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    until INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX credential_of_tunnel ON credential (tunnel);

CREATE TABLE certificate (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tunnel TEXT NOT NULL REFERENCES tunnel (id),
    fingerprint TEXT NOT NULL,
    pem TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    archived_at INTEGER
) STRICT;
CREATE INDEX certificate_of_tunnel ON certificate (tunnel);

CREATE TABLE provisioning_key (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    display_name TEXT,
    name_template TEXT NOT NULL,
    hosts TEXT NOT NULL,
    uses_max INTEGER NOT NULL,
    uses INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tunnel TEXT,
    subject TEXT,
    reason TEXT
) STRICT;
CREATE INDEX event_of_tunnel ON event (tunnel, seq);

CREATE TABLE usage (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    tunnel TEXT NOT NULL,
    credential TEXT NOT NULL,
    route TEXT NOT NULL,
    method TEXT NOT NULL,
    tool TEXT NOT NULL,
    hour INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    UNIQUE (tunnel, credential, route, method, tool, hour)
) STRICT;
";

/// The admission lists of a tunnel, with one entry per line.
const WHO_MAY_COME: &str = "
ALTER TABLE tunnel ADD COLUMN connectors_from TEXT NOT NULL DEFAULT '';
ALTER TABLE tunnel ADD COLUMN allow_from TEXT NOT NULL DEFAULT '';
ALTER TABLE tunnel ADD COLUMN deny_from TEXT NOT NULL DEFAULT '';
ALTER TABLE tunnel ADD COLUMN admission_dry_run INTEGER NOT NULL DEFAULT 0;
";

/// How a tunnel's calls are carried.
const TRAFFIC: &str = "
ALTER TABLE tunnel ADD COLUMN traffic TEXT NOT NULL DEFAULT 'plain';
";

/// The host that exchanged a provisioning key for a tunnel.
const WHO_TRADED: &str = "
ALTER TABLE tunnel ADD COLUMN requester BLOB CHECK (requester IS NULL OR length(requester) = 32);
CREATE INDEX tunnel_of_requester ON tunnel (requester) WHERE requester IS NOT NULL;
";

/// The part of a host after its first label, as the index spells it; the host itself if it has one label.
pub(super) const PARENT: &str = "substr(host, instr(host, '.') + 1)";

/// Indexes for the lookups of a change among all tunnels.
const MANY_TUNNELS: &str = "
CREATE INDEX tunnel_in_use ON tunnel (seq) WHERE archived_at IS NULL;
CREATE INDEX host_by_parent ON host (substr(host, instr(host, '.') + 1)) WHERE retired = 0;
";

/// The schema version of a file; 0 if it is empty.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Migrates an older schema to this version, one step after the other, each in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let from = usize::try_from(version(connection)?).unwrap_or(usize::MAX);
    for (at, step) in STEPS.iter().enumerate().skip(from) {
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute_batch(step)?;
        change.pragma_update(None, "user_version", at as i64 + 1)?;
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.commit()?;
    }
    Ok(())
}
