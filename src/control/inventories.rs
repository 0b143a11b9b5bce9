//! The inventories of the tools behind a process: kept in a file, and what changes in them is told.

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
use crate::private::{self, PrivateError};
use crate::serve::AuditLog;

/// The file of the inventories, in the directory of the role.
pub const INVENTORY_FILE: &str = "tools.json";
/// The longest file, in bytes: all that fits the memory, with each quotation mark escaped.
const FILE_LEN_MAX: usize = 128 << 20;
/// The memory of all inventories, in bytes.
const MEMORY_LEN: usize = 32 << 20;
/// The version of the file.
const FORMAT: u32 = 1;
/// How often is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many looks pass until the file is written because lists have passed, in which nothing has changed.
const LOOKS_UNTIL_KEPT: u32 = 60;
/// The most tools of one server that are named in the log at one time.
const NAMED_MAX: usize = 20;
/// The most findings that are told.
pub const FINDINGS_MAX: usize = 1_000;

/// Why the file of the inventories cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InventoriesError {
    /// It cannot be read or written, or is open to others.
    #[error(transparent)]
    Private(#[from] PrivateError),
    /// It holds something else.
    #[error("{} holds no inventory of tools: {why}; restore it, or remove it and approve all tools again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Why tools were not approved. None of them was.
#[derive(Debug, thiserror::Error)]
pub enum ToolApprovalError {
    /// The tools of the route are not looked at.
    #[error("no route has this name and `pin`: `adit tools list` shows all")]
    NoServer,
    /// One of them cannot be approved.
    #[error("{tool}: {why}")]
    Tool {
        /// Its name.
        tool: String,
        /// Why.
        why: NotApproved,
    },
    /// It could not be written to the audit log.
    #[error("the approval could not be written to the audit log")]
    Unrecorded,
    /// They are approved, but will not be after a restart.
    #[error("approved until the process ends, because this cannot be kept: {0}")]
    NotKept(String),
}

/// The tools of all servers with `pin`.
pub struct Inventories {
    file: Option<PathBuf>,
    audit: OnceLock<AuditLog>,
    memory: Arc<InventoryMemory>,
    servers: Mutex<BTreeMap<String, Server>>,
    /// Whether something has changed that is not in the file.
    is_unwritten: AtomicBool,
    /// Held while the file is written.
    writing: tokio::sync::Mutex<()>,
}

/// A server whose tools are looked at, as the configuration has it.
#[derive(Clone)]
pub struct PinnedServer {
    /// The URL of the upstream; empty at an edge, which does not know it.
    pub upstream: String,
    /// What becomes of tools that nobody has approved.
    pub mode: PinMode,
    /// What is known of its tools.
    pub tools: Arc<ToolInventory>,
}

/// The server behind a route.
struct Server {
    /// Where it is.
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
    /// What becomes of tools that nobody has approved.
    pub mode: PinMode,
    /// How often a tool was named for which there was no room.
    pub left_out: u64,
    /// Its tools, by name.
    pub tools: Vec<ToolRecord>,
}

/// How many tools of a route stand how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCounts {
    /// The host of the route.
    pub route: String,
    /// Tools that nobody has approved.
    pub new: usize,
    /// Tools with another definition than the approved one.
    pub changed: usize,
    /// Tools that are as they were approved.
    pub approved: usize,
    /// Tools whose definition can be read in two ways.
    pub unreadable: usize,
}

/// Two tools that may be taken for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameFinding {
    /// Whether the names are the same; otherwise they only look so.
    pub is_same: bool,
    /// The route and name of each.
    pub tools: [(String, String); 2],
}

/// The file.
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
    /// Those that are kept in this directory; without one they last as long as the process.
    ///
    /// # Errors
    ///
    /// When there is a file that cannot be used.
    pub fn open(dir: Option<&Path>) -> Result<Arc<Inventories>, InventoriesError> {
        let file = dir.map(|dir| dir.join(INVENTORY_FILE));
        let inventories = Inventories { file, ..Inventories::default() };
        for (route, upstream, records) in inventories.file.as_deref().map(read).transpose()?.unwrap_or_default() {
            let tools = Arc::new(ToolInventory::restored(&inventories.memory, &records));
            inventories.servers().insert(route, Server { upstream, mode: PinMode::Off, tools });
        }
        Ok(Arc::new(inventories))
    }

    /// Writes what changes, and what is approved, to this log.
    pub fn record_in(&self, audit: Option<AuditLog>) {
        if let Some(audit) = audit {
            // A process has one log, from its start.
            let _ = self.audit.set(audit);
        }
    }

    /// What is known of the tools behind this route, or an empty inventory, which is one of these only once it is
    /// [put in force](Inventories::put_in_force).
    #[must_use]
    pub fn of_route(&self, route: &str) -> Arc<ToolInventory> {
        let known = self.servers().get(route).map(|server| Arc::clone(&server.tools));
        known.unwrap_or_else(|| Arc::new(ToolInventory::new(&self.memory)))
    }

    /// Says which servers are looked at from now on, by route, and how. Of other routes, what is known is kept.
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

    /// Keeps what lists teach, until it is dropped.
    pub async fn keep(self: Arc<Inventories>) {
        let (mut looks, mut trouble) = (0, Trouble::default());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            looks += 1;
            let is_any = |look: fn(&ToolInventory) -> bool| self.servers().values().any(|server| look(&server.tools));
            let has_news = is_any(ToolInventory::has_news);
            // The news may have been reported already, to somebody who asked for the tools.
            let is_changed = has_news || self.is_unwritten.load(Ordering::Relaxed);
            let is_due = looks >= LOOKS_UNTIL_KEPT && (is_changed || is_any(ToolInventory::is_fresh));
            if has_news && trouble.is_on() && !is_due {
                self.stamp();
            }
            // What could not be written is tried again after some time.
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

    /// What is known of the servers of all routes with `pin`, by route.
    #[must_use]
    pub fn all(&self) -> Vec<ServerTools> {
        self.stamp();
        self.kept().into_iter().filter(|server| server.mode != PinMode::Off).collect()
    }

    /// How the tools of each route with `pin` stand.
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

    /// Approves tools of the server behind a route, by the digests of their definitions.
    ///
    /// # Errors
    ///
    /// If one of them cannot be approved, or the approval cannot be kept.
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

    /// Says in the audit log that the last lines about so many tools, as far as they are there, are not true.
    fn take_back(&self, route: &str, count: usize) {
        let Some(audit) = self.audit.get() else { return };
        let reason =
            format!("the last {count} lines tool.approved could not all be written: none of these tools is approved");
        let (action, subject) = ("tool.approval_failed", Some(route));
        audit.write(ActionLine { action, subject, reason: Some(&reason), ..ActionLine::default() }.body());
    }

    /// Notes when lists have named tools, and tells what has changed.
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
                ToolStanding::New => ("tool.new", "a tool that nobody has approved"),
                ToolStanding::Changed => ("tool.changed", "the definition of a tool is not the one that was approved"),
                ToolStanding::Approved => {
                    ("tool.restored", "the definition of a tool is again the one that was approved")
                }
                ToolStanding::Unreadable => (
                    "tool.unreadable",
                    "the definition of a tool can be read in two ways, so that nobody can approve it",
                ),
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
        // Whoever writes later writes what is newer.
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

/// Reads the file: the routes, where their servers are, and their tools. Nothing if there is no file.
///
/// # Errors
///
/// When it cannot be used.
pub fn read(file: &Path) -> Result<Vec<(String, String, Vec<ToolRecord>)>, InventoriesError> {
    let len = match file.metadata() {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        // What cannot be read is not overwritten.
        Err(error) => {
            return Err(PrivateError::Unreadable { path: file.to_path_buf(), cause: error.to_string().into() }.into());
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

/// Tools that may be taken for each other: of different servers with the same name, and any two whose names look alike (Unicode
/// Technical Standard 39, section 4).
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
            // Each is told beside the first, and not beside all others.
            let Some(first) = tools.first().filter(|_| nth > 0) else { continue };
            let owned = |tool: &(&str, &str)| (tool.0.to_owned(), tool.1.to_owned());
            found.insert(NameFinding { is_same: first.1 == one.1, tools: [owned(first), owned(one)] });
        }
    }
    found.into_iter().take(FINDINGS_MAX).collect()
}

/// Subject and reason of a line about a tool.
fn line_texts(route: &str, tool: &str, digest: ToolDigest, why: Option<&str>) -> (String, String) {
    let reason = why.map_or_else(|| format!("sha256 {digest}"), |why| format!("sha256 {digest}: {why}"));
    (format!("{route} {}", printable(tool)), reason)
}

/// A name as a line of the log has it.
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
