//! The inventory of a server's tools: their definitions as listed, and which definitions are approved.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::sha256;
use crate::policy::tools::canonical::{write_canonical, write_text};
use crate::policy::tools::json_text::{Unreadable, Value};
use crate::policy::tools::tool_record::{ApprovedRecord, NotApproved, ToolDigest, ToolNews, ToolRecord, ToolStanding};

/// The maximum number of tools remembered per server.
pub const INVENTORY_TOOLS_MAX: usize = 4_096;
/// The maximum length of a remembered tool name, in bytes.
const NAME_LEN_MAX: usize = 256;
/// The maximum length of a definition whose text is kept, in bytes. A longer definition is known by its digest only.
const TEXT_LEN_MAX: usize = 64 * 1024;
/// The memory charged per tool besides its name and texts, in bytes.
const TOOL_LEN: usize = 320;
/// The maximum memory for the tools of one server, in bytes. Texts leave room for further tools.
const SERVER_LEN_MAX: usize = 4 << 20;
const SERVER_TEXTS_MAX: usize = 2 << 20;
/// How long an unapproved tool is remembered after it was last listed.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The members of a tool that a model or its user relies on (MCP 2025-11-25, "Tool"). The digest covers only these.
const MEMBERS: [&str; 6] = ["annotations", "description", "inputSchema", "name", "outputSchema", "title"];

/// The memory that all inventories of a process share, in bytes.
#[derive(Debug)]
pub struct InventoryMemory(AtomicUsize);

/// The definition of a tool in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Definition {
    digest: ToolDigest,
    /// The canonical form, if it is kept.
    text: Option<Arc<str>>,
    /// Whether the definition has only one reading. If not, the digest is that of the raw bytes.
    is_readable: bool,
}

/// A tool that a list has named.
struct Known {
    seen: Definition,
    /// The hash of the raw bytes of the definition.
    raw: [u8; 32],
    first_seen_ms: Option<i64>,
    last_seen_ms: i64,
    /// Whether a list has named the tool since the last stamp.
    is_fresh: bool,
    /// Whether the tool was added or changed since the last stamp.
    is_news: bool,
    approved: Option<(Definition, i64)>,
}

/// The tools of a server, by name.
#[derive(Default)]
struct Held {
    tools: HashMap<Box<str>, Known>,
    /// The memory that the tools use, in bytes.
    taken: usize,
}

/// The inventory of one server's tools, shared by all cores.
pub struct ToolInventory {
    held: Mutex<Held>,
    memory: Arc<InventoryMemory>,
    has_news: AtomicBool,
    is_fresh: AtomicBool,
    /// How often a listed tool was dropped for lack of room.
    left_out: AtomicU64,
}

/// A reviewed definition that is to be approved.
#[derive(Debug)]
pub struct ToolApproval {
    tool: Box<str>,
    definition: Definition,
}

impl InventoryMemory {
    /// Creates a pool of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<InventoryMemory> {
        Arc::new(InventoryMemory(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Definition {
    /// Reads the definition from an element of a list.
    fn of(element: &Value<'_>) -> Definition {
        let digest = ToolDigest::of(element.bytes());
        Definition::read(element).unwrap_or(Definition { digest, text: None, is_readable: false })
    }

    fn read(element: &Value<'_>) -> Result<Definition, Unreadable> {
        let mut text = vec![b'{'];
        for (name, member) in MEMBERS.into_iter().zip(element.members(MEMBERS)?) {
            let Some(part) = member? else { continue };
            if text.len() > 1 {
                text.push(b',');
            }
            write_text(name, &mut text);
            text.push(b':');
            write_canonical(&part.value, &mut text)?;
        }
        text.push(b'}');
        let digest = ToolDigest::of(&text);
        let text = String::from_utf8(text).ok().filter(|text| text.len() <= TEXT_LEN_MAX);
        Ok(Definition { digest, text: text.map(Into::into), is_readable: true })
    }

    fn kept(digest: &str, text: Option<&String>, is_readable: bool) -> Option<Definition> {
        let text = text.map(|text| text.as_str().into());
        Some(Definition { digest: ToolDigest::parse(digest)?, text, is_readable })
    }

    fn len(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }
}

impl Known {
    fn standing(&self) -> ToolStanding {
        let approved = self.approved.as_ref().map(|(approved, _)| &approved.digest);
        ToolStanding::of(self.seen.is_readable, &self.seen.digest, approved)
    }

    /// The memory that the tool uses, in bytes, without its name.
    fn len(&self) -> usize {
        TOOL_LEN + self.seen.len() + self.approved.as_ref().map_or(0, |(approved, _)| approved.len())
    }
}

impl Held {
    /// Reserves memory for one more tool. Returns false if there is none.
    fn has_room_for(&mut self, name: &str, memory: &InventoryMemory) -> bool {
        let len = TOOL_LEN + name.len();
        let is_small = self.tools.len() < INVENTORY_TOOLS_MAX && name.len() <= NAME_LEN_MAX;
        let has_room = is_small && self.taken + len <= SERVER_LEN_MAX && memory.take(len);
        self.taken += if has_room { len } else { 0 };
        has_room
    }

    fn keep(&mut self, definition: Definition, memory: &InventoryMemory) -> Definition {
        keep(&mut self.taken, definition, memory)
    }
}

/// Accounts for a definition. Drops its text if there is no memory for it.
fn keep(taken: &mut usize, mut definition: Definition, memory: &InventoryMemory) -> Definition {
    let len = definition.len();
    if *taken + len <= SERVER_TEXTS_MAX && memory.take(len) {
        *taken += len;
    } else {
        definition.text = None;
    }
    definition
}

fn give_back(taken: &mut usize, len: usize, memory: &InventoryMemory) {
    *taken -= len;
    memory.give_back(len);
}

impl ToolInventory {
    /// Creates an empty inventory.
    #[must_use]
    pub fn new(memory: &Arc<InventoryMemory>) -> ToolInventory {
        ToolInventory {
            held: Mutex::default(),
            memory: Arc::clone(memory),
            has_news: AtomicBool::new(false),
            is_fresh: AtomicBool::new(false),
            left_out: AtomicU64::new(0),
        }
    }

    /// Creates an inventory from stored records, as far as there is room.
    #[must_use]
    pub fn restored(memory: &Arc<InventoryMemory>, records: &[ToolRecord]) -> ToolInventory {
        let inventory = ToolInventory::new(memory);
        let mut held = inventory.lock();
        // Approved tools are restored first.
        let (approved, others): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.approved.is_some());
        for record in approved.into_iter().chain(others) {
            let Some(seen) = Definition::kept(&record.digest, record.definition.as_ref(), !record.unreadable) else {
                continue;
            };
            let approved = record.approved.as_ref().and_then(|approved| {
                Some((Definition::kept(&approved.digest, approved.definition.as_ref(), true)?, approved.at_ms))
            });
            if !held.has_room_for(&record.name, memory) {
                break;
            }
            let tool = Known {
                seen: held.keep(seen, memory),
                // A zero hash makes the next list be read.
                raw: [0; 32],
                first_seen_ms: Some(record.first_seen_ms),
                last_seen_ms: record.last_seen_ms,
                is_fresh: false,
                is_news: false,
                approved: approved.map(|(definition, at)| (held.keep(definition, memory), at)),
            };
            held.tools.insert(record.name.as_str().into(), tool);
        }
        drop(held);
        inventory
    }

    /// Whether the tool's current definition is the approved one.
    #[must_use]
    pub fn is_approved(&self, tool: &str) -> bool {
        self.lock().tools.get(tool).is_some_and(|known| known.standing() == ToolStanding::Approved)
    }

    /// Records a definition from a list. Returns whether it is the approved one.
    pub(super) fn observe(&self, name: &str, element: &Value<'_>) -> bool {
        let raw = sha256(element.bytes());
        if let Some(known) = self.lock().tools.get_mut(name).filter(|known| known.raw == raw) {
            known.is_fresh = true;
            self.is_fresh.store(true, Ordering::Relaxed);
            return known.standing() == ToolStanding::Approved;
        }
        let definition = Definition::of(element);
        self.is_fresh.store(true, Ordering::Relaxed);
        let mut held = self.lock();
        let Held { tools, taken } = &mut *held;
        if let Some(known) = tools.get_mut(name) {
            known.raw = raw;
            known.is_fresh = true;
            if known.seen.digest != definition.digest {
                give_back(taken, known.seen.len(), &self.memory);
                known.seen = keep(taken, definition, &self.memory);
                known.is_news = true;
                self.has_news.store(true, Ordering::Relaxed);
            }
            return known.standing() == ToolStanding::Approved;
        }
        if !held.has_room_for(name, &self.memory) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let seen = held.keep(definition, &self.memory);
        let (first_seen_ms, last_seen_ms, approved) = (None, 0, None);
        held.tools.insert(
            name.into(),
            Known { seen, raw, first_seen_ms, last_seen_ms, is_fresh: true, is_news: true, approved },
        );
        self.has_news.store(true, Ordering::Relaxed);
        false
    }

    /// Whether the inventory is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().tools.is_empty()
    }

    /// Whether tools were added or changed since the last [stamp](ToolInventory::stamp).
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Relaxed)
    }

    /// Whether a list was recorded since the last stamp.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh.load(Ordering::Relaxed)
    }

    /// How often a listed tool was dropped for lack of room.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Sets the last-seen time of the tools listed since the last stamp, in milliseconds since 1970, and forgets tools that have
    /// not been listed for long. Returns the tools that were added or changed.
    #[must_use]
    pub fn stamp(&self, now_ms: i64) -> Vec<ToolNews> {
        self.has_news.store(false, Ordering::Relaxed);
        self.is_fresh.store(false, Ordering::Relaxed);
        let mut news = Vec::new();
        let mut held = self.lock();
        let Held { tools, taken } = &mut *held;
        for (name, known) in &mut *tools {
            if std::mem::take(&mut known.is_fresh) {
                known.last_seen_ms = now_ms;
                known.first_seen_ms.get_or_insert(now_ms);
            }
            if std::mem::take(&mut known.is_news) {
                news.push(ToolNews { name: name.to_string(), standing: known.standing(), digest: known.seen.digest });
            }
        }
        let kept_from = now_ms.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX));
        tools.retain(|name, known| {
            let is_kept = known.approved.is_some() || known.last_seen_ms >= kept_from;
            if !is_kept {
                give_back(taken, known.len() + name.len(), &self.memory);
            }
            is_kept
        });
        news.sort_by(|one, other| one.name.cmp(&other.name));
        news
    }

    /// Prepares the [approval](ToolInventory::approve) of a tool whose definition has this digest.
    ///
    /// # Errors
    ///
    /// If the tool is unknown, its digest differs, or its definition has more than one reading.
    pub fn approval(&self, tool: &str, digest: ToolDigest) -> Result<ToolApproval, NotApproved> {
        let held = self.lock();
        let known = held.tools.get(tool).ok_or(NotApproved::Unknown)?;
        if known.seen.digest != digest {
            return Err(NotApproved::OtherDigest);
        }
        if !known.seen.is_readable {
            return Err(NotApproved::Unreadable);
        }
        Ok(ToolApproval { tool: tool.into(), definition: known.seen.clone() })
    }

    /// Approves a definition, at this time in milliseconds since 1970. If the tool has changed in the meantime, it remains
    /// changed.
    pub fn approve(&self, approval: ToolApproval, at_ms: i64) {
        let mut held = self.lock();
        let Held { tools, taken } = &mut *held;
        let Some(known) = tools.get_mut(&approval.tool) else { return };
        if let Some((before, _)) = known.approved.take() {
            give_back(taken, before.len(), &self.memory);
        }
        known.approved = Some((keep(taken, approval.definition, &self.memory), at_ms));
    }

    /// Calls `see` with the standing of each tool.
    pub fn each_standing(&self, mut see: impl FnMut(ToolStanding)) {
        self.lock().tools.values().for_each(|known| see(known.standing()));
    }

    /// The records of all tools, by name.
    #[must_use]
    pub fn records(&self) -> Vec<ToolRecord> {
        let text = |definition: &Definition| definition.text.as_deref().map(str::to_owned);
        let record = |name: &str, known: &Known| ToolRecord {
            name: name.to_owned(),
            digest: known.seen.digest.to_string(),
            definition: text(&known.seen),
            unreadable: !known.seen.is_readable,
            first_seen_ms: known.first_seen_ms.unwrap_or(known.last_seen_ms),
            last_seen_ms: known.last_seen_ms,
            approved: known.approved.as_ref().map(|(definition, at_ms)| ApprovedRecord {
                digest: definition.digest.to_string(),
                definition: text(definition),
                at_ms: *at_ms,
            }),
        };
        let mut records: Vec<ToolRecord> = self.lock().tools.iter().map(|(name, known)| record(name, known)).collect();
        records.sort_by(|one, other| one.name.cmp(&other.name));
        records
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ToolInventory {
    fn drop(&mut self) {
        let taken = self.lock().taken;
        self.memory.give_back(taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: usize = 1 << 20;

    fn observe(inventory: &ToolInventory, text: &str) -> bool {
        let element = Value::of(text.as_bytes()).unwrap();
        let name = element.member("name").unwrap().unwrap().value.string().unwrap().into_owned();
        inventory.observe(&name, &element)
    }

    fn approve_all(inventory: &ToolInventory, at_ms: i64) {
        for record in inventory.records() {
            let digest = ToolDigest::parse(&record.digest).unwrap();
            inventory.approve(inventory.approval(&record.name, digest).unwrap(), at_ms);
        }
    }

    #[test]
    fn a_tool_is_approved_until_what_is_said_of_it_changes() {
        let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
        assert!(!observe(&inventory, r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2}}"#));
        assert!(!inventory.is_approved("a") && !inventory.is_approved("b"));
        let news = inventory.stamp(10);
        assert_eq!((&*news[0].name, news[0].standing, news.len()), ("a", ToolStanding::New, 1));
        assert!(inventory.stamp(11).is_empty() && !inventory.has_news());
        approve_all(&inventory, 12);
        assert!(inventory.is_approved("a"));
        // The same definition, spelled differently, with further members that the digest ignores.
        assert!(observe(
            &inventory,
            r#"{"icons":[],"_meta":{"n":1}, "inputSchema":{"y":2,"x":1},"description":"\u0061dds","name":"a"}"#
        ));
        assert!(inventory.stamp(13).is_empty());
        for changed in [
            r#"{"name":"a","description":"adds, and sends","inputSchema":{"x":1,"y":2}}"#,
            r#"{"name":"a","title":"t","description":"adds","inputSchema":{"x":1,"y":2}}"#,
            r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":3}}"#,
            r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2},"outputSchema":{}}"#,
            r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2},"annotations":{"readOnlyHint":true}}"#,
        ] {
            assert!(!observe(&inventory, changed), "{changed}");
            assert!(!inventory.is_approved("a"), "{changed}");
            assert_eq!(inventory.stamp(14)[0].standing, ToolStanding::Changed);
        }
        assert!(observe(&inventory, r#"{"name":"a","description":"adds","inputSchema":{"x":1,"y":2}}"#), "it is back");
    }

    #[test]
    fn what_readers_read_in_two_ways_is_told_and_is_nothing_that_can_be_approved() {
        let memory = InventoryMemory::new(ENOUGH);
        let inventory = ToolInventory::new(&memory);
        let good = r#"{"name":"a","description":"adds","inputSchema":{"x":1}}"#;
        observe(&inventory, good);
        let _ = inventory.stamp(1);
        approve_all(&inventory, 2);
        for unclear in [
            r#"{"name":"a","description":"adds","inputSchema":{"x":1,"x":1}}"#,
            r#"{"name":"a","description":"adds","Description":"sends","inputSchema":{"x":1}}"#,
            r#"{"name":"a","description":"\ud800","inputSchema":{"x":1}}"#,
            r#"{"name":"a","description":"adds","inputSchema":{"x":01}}"#,
        ] {
            assert!(!observe(&inventory, unclear) && !observe(&inventory, unclear), "{unclear}");
            assert!(!inventory.is_approved("a"), "{unclear}");
            let news = inventory.stamp(3);
            assert_eq!((news.len(), news[0].standing), (1, ToolStanding::Unreadable), "{unclear}");
            let records = inventory.records();
            assert_eq!(records[0].standing(), ToolStanding::Unreadable);
            assert_eq!(inventory.approval("a", news[0].digest).unwrap_err(), NotApproved::Unreadable);
            let kept = serde_json::to_string(&records).unwrap();
            let again = ToolInventory::restored(&memory, &serde_json::from_str::<Vec<ToolRecord>>(&kept).unwrap());
            assert!(!again.is_approved("a") && again.records() == records, "{kept}");
        }
        assert!(observe(&inventory, good), "it is again what was approved");
        assert_eq!(inventory.stamp(4)[0].standing, ToolStanding::Approved);
        observe(&inventory, r#"{"name":"b","inputSchema":{"x":1,"x":1}}"#);
        assert_eq!(inventory.stamp(5)[0].standing, ToolStanding::Unreadable);
    }

    #[test]
    fn only_what_was_looked_at_can_be_approved() {
        let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
        observe(&inventory, r#"{"name":"a"}"#);
        let digest = ToolDigest::parse(&inventory.records()[0].digest).unwrap();
        let approval = inventory.approval("a", digest).unwrap();
        observe(&inventory, r#"{"name":"a","description":"other"}"#);
        assert_eq!(inventory.approval("a", digest).unwrap_err(), NotApproved::OtherDigest);
        assert_eq!(inventory.approval("b", digest).unwrap_err(), NotApproved::Unknown);
        inventory.approve(approval, 1);
        assert!(!inventory.is_approved("a"), "it has changed since");
        assert!(observe(&inventory, r#"{"name":"a"}"#));
    }

    #[test]
    fn what_is_kept_is_taken_up_again() {
        let memory = InventoryMemory::new(ENOUGH);
        let inventory = ToolInventory::new(&memory);
        observe(&inventory, r#"{"name":"a","description":"one"}"#);
        observe(&inventory, r#"{"name":"b"}"#);
        let _ = inventory.stamp(5);
        approve_all(&inventory, 6);
        observe(&inventory, r#"{"name":"a","description":"two"}"#);
        let _ = inventory.stamp(7);
        let text = serde_json::to_string(&inventory.records()).unwrap();
        let records: Vec<ToolRecord> = serde_json::from_str(&text).unwrap();
        let again = ToolInventory::restored(&memory, &records);
        assert_eq!(again.records(), inventory.records());
        assert!(again.is_approved("b") && !again.is_approved("a"));
        assert_eq!(records[0].standing(), ToolStanding::Changed);
        assert_eq!(
            records[0].approved.as_ref().unwrap().definition.as_deref(),
            Some(r#"{"description":"one","name":"a"}"#)
        );
        assert!(!observe(&again, r#"{"name":"a","description":"two"}"#) && !again.has_news());
        drop((inventory, again));
        assert_eq!(memory.0.load(Ordering::Relaxed), ENOUGH, "all memory is given back");
    }

    #[test]
    fn what_a_server_can_fill_is_bounded_and_what_nobody_approved_is_forgotten() {
        const MEMORY: usize = SERVER_LEN_MAX + 1_000;
        let memory = InventoryMemory::new(MEMORY);
        let inventory = ToolInventory::new(&memory);
        let long = "x".repeat(4_000);
        for nth in 0..INVENTORY_TOOLS_MAX + 100 {
            observe(&inventory, &format!(r#"{{"name":"{nth:05}","description":"{long}"}}"#));
        }
        let records = inventory.records();
        assert_eq!((records.len(), inventory.left_out()), (INVENTORY_TOOLS_MAX, 100));
        let texts = records.iter().filter(|record| record.definition.is_some()).count();
        assert!((400..520).contains(&texts), "{texts}");
        // Another server can use the remaining memory.
        let other = ToolInventory::new(&memory);
        observe(&other, r#"{"name":"a"}"#);
        assert_eq!(other.records().len(), 1);
        let kept = ToolDigest::parse(&records[0].digest).unwrap();
        let _ = inventory.stamp(1);
        inventory.approve(inventory.approval(&records[0].name, kept).unwrap(), 1);
        let _ = inventory.stamp(1 + FORGOTTEN_AFTER.as_millis() as i64 + 1);
        assert_eq!(inventory.records().len(), 1);
        observe(&inventory, &format!(r#"{{"name":"{}"}}"#, "n".repeat(NAME_LEN_MAX + 1)));
        assert_eq!(inventory.records().len(), 1);
        drop((inventory, other));
        assert_eq!(memory.0.load(Ordering::Relaxed), MEMORY);
    }

    #[test]
    fn a_tool_that_is_described_at_length_is_known_by_its_digest() {
        let inventory = ToolInventory::new(&InventoryMemory::new(ENOUGH));
        observe(&inventory, &format!(r#"{{"name":"a","description":"{}"}}"#, "x".repeat(TEXT_LEN_MAX)));
        assert_eq!(inventory.records()[0].definition, None);
        approve_all(&inventory, 1);
        assert!(inventory.is_approved("a"));
        assert!(!observe(&inventory, &format!(r#"{{"name":"a","description":"{}y"}}"#, "x".repeat(TEXT_LEN_MAX))));
    }
}
