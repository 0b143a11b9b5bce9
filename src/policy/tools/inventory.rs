//! The inventory of a server's tools, prompts and resources: their definitions as listed, and which definitions are approved.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::sha256;
use crate::policy::tools::canonical::{write_canonical, write_text};
use crate::policy::tools::json_text::{Unreadable, Value};
use crate::policy::tools::tool_record::{
    ApprovedRecord, NotApproved, OfferKind, ToolDigest, ToolNews, ToolRecord, ToolStanding,
};

/// The maximum number of tools remembered per server.
pub const INVENTORY_TOOLS_MAX: usize = 4_096;
/// The maximum number of prompts, of resources and of templates remembered per server.
pub const INVENTORY_OTHERS_MAX: usize = 1_024;
/// The maximum length of a remembered name, and of a URI, in bytes.
pub(super) const NAME_LEN_MAX: usize = 256;
const URI_LEN_MAX: usize = 512;
/// The maximum length of a definition whose text is kept, in bytes. A longer definition is known by its digest only.
pub(super) const TEXT_LEN_MAX: usize = 64 * 1024;
/// The memory charged per tool besides its name and texts, in bytes.
const TOOL_LEN: usize = 320;
/// The maximum memory for the tools of one server, in bytes. Texts leave room for further tools.
pub(super) const SERVER_LEN_MAX: usize = 4 << 20;
const SERVER_TEXTS_MAX: usize = 2 << 20;
/// How long an unapproved tool is remembered after it was last listed.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The members that a model or its user relies on (MCP 2025-11-25, "Tool", "Prompt", "Resource"). The digest covers only these.
const OF_TOOLS: [&str; 6] = ["annotations", "description", "inputSchema", "name", "outputSchema", "title"];
const OF_PROMPTS: [&str; 6] = ["annotations", "arguments", "description", "name", "title", ""];
const OF_RESOURCES: [&str; 6] = ["annotations", "description", "mimeType", "name", "title", "uri"];
const OF_TEMPLATES: [&str; 6] = ["annotations", "description", "mimeType", "name", "title", "uriTemplate"];
/// The members of the annotations of a resource. `lastModified` changes with its content.
const OF_RESOURCE_ANNOTATIONS: [&str; 2] = ["audience", "priority"];

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

/// What a server offers, by kind and name.
#[derive(Default)]
struct Held {
    offers: [HashMap<Box<str>, Known>; OfferKind::ALL.len()],
    /// The memory that the tools use, in bytes.
    taken: usize,
}

/// The inventory of one server's tools, shared by all cores.
pub struct ToolInventory {
    held: Mutex<Held>,
    memory: Arc<InventoryMemory>,
    has_news: AtomicBool,
    is_fresh: AtomicBool,
    /// How often a definition, an approval or what is remembered has changed, and how often it was stamped.
    changes: AtomicU64,
    stamps: AtomicU64,
    /// How often a listed tool was dropped for lack of room.
    left_out: AtomicU64,
}

/// A reviewed definition that is to be approved.
#[derive(Debug)]
pub struct ToolApproval {
    kind: OfferKind,
    tool: Box<str>,
    definition: Definition,
}

impl InventoryMemory {
    /// Creates a pool of this many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Arc<InventoryMemory> {
        Arc::new(InventoryMemory(AtomicUsize::new(bytes)))
    }

    /// How many bytes are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
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
    fn of(kind: OfferKind, element: &Value<'_>) -> Definition {
        let digest = ToolDigest::of(element.bytes());
        Definition::read(kind, element).unwrap_or(Definition { digest, text: None, is_readable: false })
    }

    fn read(kind: OfferKind, element: &Value<'_>) -> Result<Definition, Unreadable> {
        let names = match kind {
            OfferKind::Tool => OF_TOOLS,
            OfferKind::Prompt => OF_PROMPTS,
            OfferKind::Resource => OF_RESOURCES,
            OfferKind::Template => OF_TEMPLATES,
        };
        let is_resource = matches!(kind, OfferKind::Resource | OfferKind::Template);
        let mut text = Vec::new();
        write_members(element, names, &mut text, |name, value, text| {
            if is_resource && name == "annotations" && value.is_object() {
                return write_members(value, OF_RESOURCE_ANNOTATIONS, text, |_, value, text| {
                    write_canonical(value, text)
                });
            }
            write_canonical(value, text)
        })?;
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

/// Writes these members of an object, in this order.
fn write_members<const N: usize>(
    object: &Value<'_>,
    names: [&str; N],
    text: &mut Vec<u8>,
    mut write: impl FnMut(&str, &Value<'_>, &mut Vec<u8>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    text.push(b'{');
    let mut between = false;
    for (name, member) in names.into_iter().zip(object.members(names)?) {
        let Some(part) = member? else { continue };
        if std::mem::replace(&mut between, true) {
            text.push(b',');
        }
        write_text(name, text);
        text.push(b':');
        write(name, &part.value, text)?;
    }
    text.push(b'}');
    Ok(())
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
    /// Reserves memory for one more. Returns false if there is none.
    fn has_room_for(&mut self, kind: OfferKind, name: &str, memory: &InventoryMemory) -> bool {
        let len = TOOL_LEN + name.len();
        let (count_max, len_max) = match kind {
            OfferKind::Tool => (INVENTORY_TOOLS_MAX, NAME_LEN_MAX),
            OfferKind::Prompt => (INVENTORY_OTHERS_MAX, NAME_LEN_MAX),
            OfferKind::Resource | OfferKind::Template => (INVENTORY_OTHERS_MAX, URI_LEN_MAX),
        };
        let is_small = self.offers[kind as usize].len() < count_max && name.len() <= len_max;
        let has_room = is_small && self.taken + len <= SERVER_LEN_MAX && memory.take(len);
        self.taken += if has_room { len } else { 0 };
        has_room
    }

    fn get(&self, kind: OfferKind, name: &str) -> Option<&Known> {
        self.offers[kind as usize].get(name)
    }

    fn all(&self) -> impl Iterator<Item = (OfferKind, &str, &Known)> {
        let of = |kind: OfferKind| self.offers[kind as usize].iter().map(move |(name, known)| (kind, &**name, known));
        OfferKind::ALL.into_iter().flat_map(of)
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
            changes: AtomicU64::new(0),
            // None is the stamp of a list that was not listed yet.
            stamps: AtomicU64::new(1),
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
            if !held.has_room_for(record.kind, &record.name, memory) {
                continue;
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
            held.offers[record.kind as usize].insert(record.name.as_str().into(), tool);
        }
        drop(held);
        inventory
    }

    /// Whether the current definition is the approved one.
    #[must_use]
    pub fn is_approved(&self, kind: OfferKind, name: &str) -> bool {
        self.standing(kind, name) == Some(ToolStanding::Approved)
    }

    /// The standing of a definition, if a list has named it.
    pub(super) fn standing(&self, kind: OfferKind, name: &str) -> Option<ToolStanding> {
        self.lock().get(kind, name).map(Known::standing)
    }

    /// Whether `covers` says of an approved template that it covers something.
    pub(super) fn has_template(&self, covers: impl Fn(&str) -> bool) -> bool {
        let held = self.lock();
        let mut templates = held.offers[OfferKind::Template as usize].iter();
        templates.any(|(template, known)| known.standing() == ToolStanding::Approved && covers(template))
    }

    /// Records a definition from a list. Returns whether it is the approved one.
    pub(super) fn observe(&self, kind: OfferKind, name: &str, element: &Value<'_>) -> bool {
        let raw = sha256(element.bytes());
        if let Some(known) = self.lock().offers[kind as usize].get_mut(name).filter(|known| known.raw == raw) {
            known.is_fresh = true;
            self.is_fresh.store(true, Ordering::Relaxed);
            return known.standing() == ToolStanding::Approved;
        }
        let definition = Definition::of(kind, element);
        self.is_fresh.store(true, Ordering::Relaxed);
        let mut held = self.lock();
        self.changes.fetch_add(1, Ordering::Release);
        let Held { offers, taken } = &mut *held;
        if let Some(known) = offers[kind as usize].get_mut(name) {
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
        if !held.has_room_for(kind, name, &self.memory) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let seen = held.keep(definition, &self.memory);
        let (first_seen_ms, last_seen_ms, approved) = (None, 0, None);
        held.offers[kind as usize].insert(
            name.into(),
            Known { seen, raw, first_seen_ms, last_seen_ms, is_fresh: true, is_news: true, approved },
        );
        self.has_news.store(true, Ordering::Relaxed);
        false
    }

    /// Records that these are listed again, as they were.
    pub(super) fn list_again(&self, offers: &[(OfferKind, Box<str>)]) {
        let mut held = self.lock();
        for (kind, name) in offers {
            if let Some(known) = held.offers[*kind as usize].get_mut(name) {
                known.is_fresh = true;
            }
        }
        self.is_fresh.store(true, Ordering::Relaxed);
    }

    /// How often anything has changed besides when it was last listed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// How often it was [stamped](ToolInventory::stamp), and once more.
    pub(super) fn stamps(&self) -> u64 {
        self.stamps.load(Ordering::Acquire)
    }

    /// Whether the inventory is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().offers.iter().all(HashMap::is_empty)
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
        self.stamps.fetch_add(1, Ordering::Release);
        let Held { offers, taken } = &mut *held;
        let kept_from = now_ms.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX));
        for (kind, offers) in OfferKind::ALL.into_iter().zip(offers) {
            for (name, known) in &mut *offers {
                if std::mem::take(&mut known.is_fresh) {
                    known.last_seen_ms = now_ms;
                    known.first_seen_ms.get_or_insert(now_ms);
                }
                if std::mem::take(&mut known.is_news) {
                    let (name, standing, digest) = (name.to_string(), known.standing(), known.seen.digest);
                    news.push(ToolNews { kind, name, standing, digest });
                }
            }
            offers.retain(|name, known| {
                let is_kept = known.approved.is_some() || known.last_seen_ms >= kept_from;
                if !is_kept {
                    give_back(taken, known.len() + name.len(), &self.memory);
                    self.changes.fetch_add(1, Ordering::Release);
                }
                is_kept
            });
        }
        news.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
        news
    }

    /// Prepares the [approval](ToolInventory::approve) of a tool whose definition has this digest.
    ///
    /// # Errors
    ///
    /// If the tool is unknown, its digest differs, or its definition has more than one reading.
    pub fn approval(&self, kind: OfferKind, tool: &str, digest: ToolDigest) -> Result<ToolApproval, NotApproved> {
        let held = self.lock();
        let known = held.get(kind, tool).ok_or(NotApproved::Unknown)?;
        if known.seen.digest != digest {
            return Err(NotApproved::OtherDigest);
        }
        if !known.seen.is_readable {
            return Err(NotApproved::Unreadable);
        }
        Ok(ToolApproval { kind, tool: tool.into(), definition: known.seen.clone() })
    }

    /// Approves a definition, at this time in milliseconds since 1970. If the tool has changed in the meantime, it remains
    /// changed.
    pub fn approve(&self, approval: ToolApproval, at_ms: i64) {
        let mut held = self.lock();
        let Held { offers, taken } = &mut *held;
        let Some(known) = offers[approval.kind as usize].get_mut(&approval.tool) else { return };
        if let Some((before, _)) = known.approved.take() {
            give_back(taken, before.len(), &self.memory);
        }
        known.approved = Some((keep(taken, approval.definition, &self.memory), at_ms));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Calls `see` with the kind and standing of each.
    pub fn each_standing(&self, mut see: impl FnMut(OfferKind, ToolStanding)) {
        self.lock().all().for_each(|(kind, _, known)| see(kind, known.standing()));
    }

    /// The records of all, by kind and name.
    #[must_use]
    pub fn records(&self) -> Vec<ToolRecord> {
        let text = |definition: &Definition| definition.text.as_deref().map(str::to_owned);
        let record = |(kind, name, known): (OfferKind, &str, &Known)| ToolRecord {
            kind,
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
        let mut records: Vec<ToolRecord> = self.lock().all().map(record).collect();
        records.sort_by(|one, other| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
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
