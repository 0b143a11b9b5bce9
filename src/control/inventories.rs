//! The tool inventories of a process: stores them in a file, and reports changes to the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use unicode_security::skeleton;

use crate::audit::ActionLine;
use crate::base::Trouble;
use crate::control::recorded::recorded;
use crate::control::wall_time::WallTime;
use crate::policy::{
    InventoryMemory, NotApproved, PinMode, ToolDigest, ToolInventory, ToolNews, ToolRecord, ToolStanding,
};
use crate::private::{self, FileError, PrivateError};
use crate::serve::AuditLog;

/// The file of the inventories, in the directory of the role.
pub const INVENTORY_FILE: &str = "tools.json";
/// The maximum length of the file, in bytes: all of the memory, with each quotation mark escaped.
const FILE_LEN_MAX: usize = 128 << 20;
/// The memory of all inventories, in bytes.
const MEMORY_LEN: usize = 32 << 20;
/// The version of the file.
const FORMAT: u32 = 1;
/// How often the inventories are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After how many checks new last-seen times are written, if nothing else changed.
const LOOKS_UNTIL_KEPT: u32 = 60;
/// The maximum number of tools of a server named in the log at a time.
const NAMED_MAX: usize = 20;
/// The maximum number of reported findings.
pub const FINDINGS_MAX: usize = 1_000;

/// Why the file of the inventories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InventoriesError {
    /// The file cannot be read or written, or others may access it.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// The content is not an inventory.
    #[error("{} holds no inventory of tools: {why}; restore it, or remove it and approve all tools again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The fault of the content.
        why: String,
    },
}

/// Why tools were not approved. Except for `NotKept`, none of them was.
#[derive(Debug, thiserror::Error)]
pub enum ToolApprovalError {
    /// The tools of the route are not checked.
    #[error("no route has this name and `pin`: `adit tools list` shows all")]
    NoServer,
    /// One of the tools cannot be approved.
    #[error("{tool}: {why}")]
    Tool {
        /// The name of the tool.
        tool: String,
        /// Why the tool cannot be approved.
        why: NotApproved,
    },
    /// The approval could not be written to the audit log.
    #[error("the approval could not be written to the audit log")]
    Unrecorded,
    /// The tools are approved, but a restart would lose the approvals.
    #[error("approved until the process ends, because this cannot be kept: {0}")]
    NotKept(String),
}

/// The tools of all servers with `pin`.
pub struct Inventories {
    file: Option<PathBuf>,
    audit: OnceLock<AuditLog>,
    memory: Arc<InventoryMemory>,
    servers: Mutex<BTreeMap<String, Server>>,
    /// Whether a change is not yet in the file.
    is_unwritten: AtomicBool,
    /// Held while the file is written.
    writing: tokio::sync::Mutex<()>,
}

/// A server whose tools are checked, by the configuration.
#[derive(Clone)]
pub struct PinnedServer {
    /// The URL of the upstream; empty at an edge, which does not know it.
    pub upstream: String,
    /// How unapproved tools are handled.
    pub mode: PinMode,
    /// The inventory of its tools.
    pub tools: Arc<ToolInventory>,
}

/// The server behind a route.
struct Server {
    /// The URL of the upstream.
    upstream: String,
    mode: PinMode,
    tools: Arc<ToolInventory>,
}

/// The tools of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTools {
    /// The host of its route.
    pub route: String,
    /// The URL of the upstream; empty at an edge, which does not know it.
    pub upstream: String,
    /// How unapproved tools are handled.
    pub mode: PinMode,
    /// How often a listed tool was dropped for lack of room.
    pub left_out: u64,
    /// Its tools, by name.
    pub tools: Vec<ToolRecord>,
}

/// The number of tools of a route, by standing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCounts {
    /// The host of the route.
    pub route: String,
    /// Tools of which no definition was ever approved.
    pub new: usize,
    /// Tools whose definition differs from the approved one.
    pub changed: usize,
    /// Tools whose definition is approved.
    pub approved: usize,
    /// Tools whose definition has more than one reading.
    pub unreadable: usize,
}

/// Two tools that may be confused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameFinding {
    /// Whether the names are equal; otherwise they only look alike.
    pub is_same: bool,
    /// The route and name of each.
    pub tools: [(String, String); 2],
}

/// The content of the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    servers: Vec<KeptServer>,
}

#[derive(Serialize, Deserialize)]
struct KeptServer {
    route: String,
    upstream: String,
    tools: Vec<ToolRecord>,
}

impl Default for Inventories {
    fn default() -> Inventories {
        Inventories {
            file: None,
            audit: OnceLock::new(),
            memory: InventoryMemory::new(MEMORY_LEN),
            servers: Mutex::default(),
            is_unwritten: AtomicBool::new(false),
            writing: tokio::sync::Mutex::default(),
        }
    }
}

impl Inventories {
    /// Opens the inventories stored in this directory. Without a directory they last as long as the process.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be used.
    pub fn open(dir: Option<&Path>) -> Result<Arc<Inventories>, InventoriesError> {
        let file = dir.map(|dir| dir.join(INVENTORY_FILE));
        let inventories = Inventories { file, ..Inventories::default() };
        for (route, upstream, records) in inventories.file.as_deref().map(read).transpose()?.unwrap_or_default() {
            let tools = Arc::new(ToolInventory::restored(&inventories.memory, &records));
            inventories.servers().insert(route, Server { upstream, mode: PinMode::Off, tools });
        }
        Ok(Arc::new(inventories))
    }

    /// Records changes and approvals in this log.
    pub fn record_in(&self, audit: Option<AuditLog>) {
        if let Some(audit) = audit {
            // A process sets its log once, at the start.
            let _ = self.audit.set(audit);
        }
    }

    /// The inventory of the server behind this route. A new one is empty, and is stored only once it is [put in
    /// force](Inventories::put_in_force).
    #[must_use]
    pub fn of_route(&self, route: &str) -> Arc<ToolInventory> {
        let known = self.servers().get(route).map(|server| Arc::clone(&server.tools));
        known.unwrap_or_else(|| Arc::new(ToolInventory::new(&self.memory)))
    }

    /// Sets which servers are checked, by route, and how. The inventories of other routes are kept.
    pub fn put_in_force(&self, pinned: &BTreeMap<String, PinnedServer>) {
        let mut servers = self.servers();
        for (route, PinnedServer { upstream, mode, tools }) in pinned {
            let (upstream, mode, tools) = (upstream.clone(), *mode, Arc::clone(tools));
            servers.insert(route.clone(), Server { upstream, mode, tools });
        }
        servers.retain(|route, server| {
            server.mode = pinned.get(route).map_or(PinMode::Off, |pinned| pinned.mode);
            server.mode != PinMode::Off || !server.tools.is_empty()
        });
    }

    /// Stores and reports changes until the future is dropped.
    pub async fn keep(self: Arc<Inventories>) {
        let (mut looks, mut trouble) = (0, Trouble::default());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            looks += 1;
            let is_any = |look: fn(&ToolInventory) -> bool| self.servers().values().any(|server| look(&server.tools));
            let has_news = is_any(ToolInventory::has_news);
            // A query of the tools may have reported the changes already.
            let is_changed = has_news || self.is_unwritten.load(Ordering::Relaxed);
            let is_due = looks >= LOOKS_UNTIL_KEPT && (is_changed || is_any(ToolInventory::is_fresh));
            if has_news && trouble.is_on() && !is_due {
                self.stamp();
            }
            // After a failed write, the next attempt waits until it is due.
            if !is_due && (!is_changed || trouble.is_on()) {
                continue;
            }
            looks = 0;
            match self.stamp_and_write().await {
                Ok(()) if trouble.ends() => tracing::info!("the inventory of tools can be written again"),
                Ok(()) => {}
                Err(why) if trouble.begins() => {
                    tracing::error!(%why, "the inventory of tools cannot be written, and a restart would lose what is new in it; adit will retry");
                }
                Err(_) => {}
            }
        }
    }

    /// The tools of all routes with `pin`, by route.
    #[must_use]
    pub fn all(&self) -> Vec<ServerTools> {
        self.stamp();
        self.kept().into_iter().filter(|server| server.mode != PinMode::Off).collect()
    }

    /// The number of tools of each route with `pin`, by standing.
    #[must_use]
    pub fn counts(&self) -> Vec<ToolCounts> {
        let servers = self.servers();
        let pinned = servers.iter().filter(|(_, server)| server.mode != PinMode::Off);
        let counts = pinned.map(|(route, server)| {
            let mut counts = ToolCounts { route: route.clone(), ..ToolCounts::default() };
            server.tools.each_standing(|standing| match standing {
                ToolStanding::New => counts.new += 1,
                ToolStanding::Changed => counts.changed += 1,
                ToolStanding::Approved => counts.approved += 1,
                ToolStanding::Unreadable => counts.unreadable += 1,
            });
            counts
        });
        counts.collect()
    }

    /// Approves tools of a route, by the digests of their definitions.
    ///
    /// # Errors
    ///
    /// If one of the tools cannot be approved, or the approvals cannot be stored.
    pub async fn approve(
        &self,
        route: &str,
        tools: &[(String, ToolDigest)],
        reason: Option<&str>,
    ) -> Result<(), ToolApprovalError> {
        self.stamp();
        let inventory =
            self.servers().get(route).filter(|server| server.mode != PinMode::Off).map(|s| Arc::clone(&s.tools));
        let inventory = inventory.ok_or(ToolApprovalError::NoServer)?;
        let look = |(tool, digest): &(String, ToolDigest)| {
            inventory.approval(tool, *digest).map_err(|why| ToolApprovalError::Tool { tool: tool.clone(), why })
        };
        let approvals = tools.iter().map(look).collect::<Result<Vec<_>, _>>()?;
        for (nth, (tool, digest)) in tools.iter().enumerate() {
            let (subject, why) = line_texts(route, tool, *digest, reason);
            let line = ActionLine {
                action: "tool.approved",
                subject: Some(&subject),
                reason: Some(&why),
                ..ActionLine::default()
            };
            if !recorded(self.audit.get(), line).await {
                self.take_back(route, nth + 1);
                return Err(ToolApprovalError::Unrecorded);
            }
        }
        let now = WallTime::now().0;
        approvals.into_iter().for_each(|approval| inventory.approve(approval, now));
        for (tool, digest) in tools {
            tracing::info!(route, tool = %printable(tool), %digest, "a tool was approved");
        }
        self.stamp_and_write().await.map_err(ToolApprovalError::NotKept)
    }

    /// Records in the audit log that the last `count` approvals, as far as they were logged, are not in effect.
    fn take_back(&self, route: &str, count: usize) {
        let Some(audit) = self.audit.get() else { return };
        let reason =
            format!("the last {count} lines tool.approved could not all be written: none of these tools is approved");
        let (action, subject) = ("tool.approval_failed", Some(route));
        audit.write(ActionLine { action, subject, reason: Some(&reason), ..ActionLine::default() }.body());
    }

    /// Updates the last-seen times, and reports what changed.
    fn stamp(&self) {
        let now = WallTime::now().0;
        let news =
            |(route, server): (&String, &Server)| (route.clone(), server.upstream.clone(), server.tools.stamp(now));
        let all: Vec<_> = self.servers().iter().map(news).collect();
        for (route, upstream, news) in all.iter().filter(|(.., news)| !news.is_empty()) {
            self.is_unwritten.store(true, Ordering::Relaxed);
            self.tell(route, upstream, news);
        }
    }

    fn tell(&self, route: &str, upstream: &str, news: &[ToolNews]) {
        for ToolNews { name, standing, digest } in news.iter().take(NAMED_MAX) {
            let (action, what) = match standing {
                ToolStanding::New => ("tool.new", "a tool that is not approved"),
                ToolStanding::Changed => ("tool.changed", "the definition of a tool differs from the approved one"),
                ToolStanding::Approved => ("tool.restored", "the definition of a tool is the approved one again"),
                ToolStanding::Unreadable => {
                    ("tool.unreadable", "the definition of a tool can be read in two ways, so it cannot be approved")
                }
            };
            tracing::warn!(route, upstream, tool = %printable(name), %digest, "{what}: see `adit tools diff`");
            if let Some(audit) = self.audit.get() {
                let (subject, reason) = line_texts(route, name, *digest, None);
                let line =
                    ActionLine { action, subject: Some(&subject), reason: Some(&reason), ..ActionLine::default() };
                audit.write(line.body());
            }
        }
        if let Some(more) = news.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            tracing::warn!(route, upstream, more, "and more tools that are new or have changed: see `adit tools list`");
            if let Some(audit) = self.audit.get() {
                let (action, subject) = ("tool.more_changed", format!("{more} tools of {route}"));
                audit.write(ActionLine { action, subject: Some(&subject), ..ActionLine::default() }.body());
            }
        }
    }

    async fn stamp_and_write(&self) -> Result<(), String> {
        // Serialises writers, so that the file never goes back to an older state.
        let _writing = self.writing.lock().await;
        self.stamp();
        self.is_unwritten.store(false, Ordering::Relaxed);
        let Some(file) = self.file.clone() else { return Ok(()) };
        let server = |ServerTools { route, upstream, tools, .. }| KeptServer { route, upstream, tools };
        let kept = Kept { version: FORMAT, servers: self.kept().into_iter().map(server).collect() };
        let written = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_vec(&kept).map_err(|error| error.to_string())?;
            private::write(&file, &text).map_err(|error| error.to_string())
        });
        let written = written.await.map_err(|error| error.to_string()).and_then(|written| written);
        self.is_unwritten.fetch_or(written.is_err(), Ordering::Relaxed);
        written
    }

    fn kept(&self) -> Vec<ServerTools> {
        let server = |(route, server): (&String, &Server)| ServerTools {
            route: route.clone(),
            upstream: server.upstream.clone(),
            mode: server.mode,
            left_out: server.tools.left_out(),
            tools: server.tools.records(),
        };
        self.servers().iter().map(server).collect()
    }

    fn servers(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the file: the routes with their upstreams and tools. Empty if there is no file.
///
/// # Errors
///
/// If the file cannot be used.
pub fn read(file: &Path) -> Result<Vec<(String, String, Vec<ToolRecord>)>, InventoriesError> {
    let len = match file.metadata() {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        // An unreadable file is not overwritten.
        Err(error) => {
            return Err(PrivateError::from(FileError::unreadable(file, &error)).into());
        }
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(FILE_LEN_MAX);
    let content = private::read(file, len)?;
    let malformed = |why: String| InventoriesError::Malformed { path: file.to_path_buf(), why };
    let kept: Kept = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
    if kept.version != FORMAT {
        return Err(malformed(format!("its version is {}, and this program reads {FORMAT}", kept.version)));
    }
    Ok(kept.servers.into_iter().map(|KeptServer { route, upstream, tools }| (route, upstream, tools)).collect())
}

/// Finds tools that may be confused: tools of different servers with equal names, and any two tools whose names look alike
/// (Unicode Technical Standard 39, section 4).
#[must_use]
pub fn alike_names<'a>(servers: impl IntoIterator<Item = (&'a str, &'a [ToolRecord])>) -> Vec<NameFinding> {
    let mut by_look: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (route, tools) in servers {
        for tool in tools {
            by_look.entry(skeleton(&tool.name.to_lowercase()).collect()).or_default().push((route, &tool.name));
        }
    }
    let mut found = BTreeSet::new();
    for tools in by_look.values() {
        for (nth, one) in tools.iter().enumerate() {
            // Each is paired with the first only.
            let Some(first) = tools.first().filter(|_| nth > 0) else { continue };
            let owned = |tool: &(&str, &str)| (tool.0.to_owned(), tool.1.to_owned());
            found.insert(NameFinding { is_same: first.1 == one.1, tools: [owned(first), owned(one)] });
        }
    }
    found.into_iter().take(FINDINGS_MAX).collect()
}

/// The subject and reason of an audit line about a tool.
fn line_texts(route: &str, tool: &str, digest: ToolDigest, why: Option<&str>) -> (String, String) {
    let reason = why.map_or_else(|| format!("sha256 {digest}"), |why| format!("sha256 {digest}: {why}"));
    (format!("{route} {}", printable(tool)), reason)
}

/// A name as it is logged.
fn printable(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&dir.path().join(INVENTORY_FILE)).unwrap().is_empty());
        let file = dir.path().join(INVENTORY_FILE);
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let refused = Inventories::open(Some(dir.path())).err().unwrap().to_string();
        assert!(refused.contains("cannot read"), "{refused}");
    }
}
