//! Pooled buffers that the kernel holds for receiving.

use std::io;

use super::ring::Ring;
use crate::engine::Lease;
use crate::engine::pool::{Class, Pool};
use crate::engine::sys::arena::release_memory;
use crate::engine::sys::buf_ring::BufRing;

/// Of the buffers that the kernel gets at first, one part in this many keeps its memory while the ring is not used.
const KEPT_SHARE: usize = 4;
/// A ring takes at most one part in this many of the pool.
const POOL_SHARE: usize = 16;

/// The kind of socket that a buffer receives for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RingKind {
    Ordinary,
    /// For links, whose buffers are reserved.
    Link,
}

/// The settings of a class.
struct Size {
    class: Class,
    /// The number of buffers that the kernel gets at first.
    least: usize,
    /// The number of entries: the most buffers if the ring runs dry while the pool does not.
    entries: u16,
}

const SMALL: Size = Size { class: Class::Small, least: 64, entries: 512 };
const LARGE: Size = Size { class: Class::Large, least: 16, entries: 64 };

/// A ring for each kind and class.
pub(super) struct Buffers {
    groups: [Group; 4],
}

struct Group {
    size: Size,
    /// The kernel's id of the ring.
    name: u16,
    /// The pool of its buffers.
    pool: Pool,
    ring: BufRing,
    /// The buffers that the kernel holds, by id.
    leases: Vec<Option<Lease>>,
    free: Vec<u16>,
    /// How many buffers the kernel should hold; zero until the class is first used.
    target: usize,
    target_max: usize,
    /// Whether the kernel has used one since the last trim.
    is_used: bool,
    /// The buffers that the kernel will use last, whose memory was returned to the system.
    released: usize,
}

impl Buffers {
    /// Registers all rings, without buffers.
    pub(super) fn new(ring: &Ring, pool: &Pool) -> io::Result<Buffers> {
        let group = |kind: RingKind, size: Size| {
            let pool = if kind == RingKind::Link { pool.for_links() } else { pool.clone() };
            Group::new(Buffers::name(kind, size.class), size, ring, pool)
        };
        let (ordinary, link) = (RingKind::Ordinary, RingKind::Link);
        Ok(Buffers {
            groups: [group(ordinary, SMALL)?, group(ordinary, LARGE)?, group(link, SMALL)?, group(link, LARGE)?],
        })
    }

    /// The class to receive into next: the wanted one, or the other if the pool has none left of it; `None` if it has
    /// neither.
    pub(super) fn pick(&mut self, kind: RingKind, wanted: Class) -> Option<Class> {
        let wanted = self.suits(kind, wanted);
        let other = match wanted {
            Class::Small => Class::Large,
            Class::Large => Class::Small,
        };
        [wanted, other].into_iter().find(|class| self.group(kind, *class).stock())
    }

    /// The class for a receive that would like `wanted`, with regard to how full the pool is.
    pub(super) fn suits(&self, kind: RingKind, wanted: Class) -> Class {
        self.groups[usize::from(Buffers::name(kind, wanted))].pool.class_to_receive(wanted)
    }

    /// Whether each receive should take only one buffer.
    pub(super) fn are_scarce(&self, kind: RingKind) -> bool {
        kind == RingKind::Ordinary && self.groups[0].pool.is_pressed()
    }

    /// The kernel's id of the ring of `kind` and `class`, which is also its index here.
    pub(super) fn name(kind: RingKind, class: Class) -> u16 {
        match (kind, class) {
            (RingKind::Ordinary, Class::Small) => 0,
            (RingKind::Ordinary, Class::Large) => 1,
            (RingKind::Link, Class::Small) => 2,
            (RingKind::Link, Class::Large) => 3,
        }
    }

    /// Takes back a buffer that the kernel reported used.
    pub(super) fn take(&mut self, kind: RingKind, class: Class, id: u16) -> Option<Lease> {
        self.group(kind, class).take(id)
    }

    /// Records that the kernel found the ring empty.
    pub(super) fn ran_dry(&mut self, kind: RingKind, class: Class) {
        let group = self.group(kind, class);
        group.target = (group.target * 2).min(group.target_max);
    }

    /// Replaces the buffers that the kernel has used.
    pub(super) fn refill(&mut self) {
        self.groups.iter_mut().for_each(Group::refill);
    }

    /// Returns the memory of buffers to the system that a busy time needed and the kernel does not use now.
    ///
    /// # Safety
    ///
    /// The kernel must not write to buffers outside of a call that enters it, and all completions must have been handled: then no
    /// buffer that the kernel holds has content.
    pub(super) unsafe fn trim(&mut self) {
        for group in &mut self.groups {
            // SAFETY: as promised by the caller.
            unsafe { group.trim() };
        }
    }

    /// The number of buffers that the kernel holds.
    pub(super) fn held(&self) -> usize {
        self.groups.iter().map(Group::held).sum()
    }

    /// Unregisters the rings, so that their memory can be reused.
    pub(super) fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        self.groups.iter_mut().try_for_each(|group| group.unregister(ring))
    }

    fn group(&mut self, kind: RingKind, class: Class) -> &mut Group {
        &mut self.groups[usize::from(Buffers::name(kind, class))]
    }
}

impl Group {
    fn new(name: u16, size: Size, ring: &Ring, pool: Pool) -> io::Result<Group> {
        let mut memory = BufRing::new(size.entries);
        ring.register(&mut memory, size.entries, name)?;
        Ok(Group {
            ring: memory,
            leases: std::iter::repeat_with(|| None).take(usize::from(size.entries)).collect(),
            free: (0..size.entries).rev().collect(),
            target: 0,
            target_max: (pool.buffers_max(size.class) / POOL_SHARE).clamp(1, usize::from(size.entries)),
            size,
            name,
            pool,
            is_used: false,
            released: 0,
        })
    }

    fn held(&self) -> usize {
        self.leases.len() - self.free.len()
    }

    /// Whether the kernel has a buffer, as far as is known here; gives it one if necessary.
    fn stock(&mut self) -> bool {
        self.target = self.target.max(self.size.least.min(self.target_max));
        if self.held() == 0 {
            self.refill();
        }
        self.held() > 0
    }

    fn refill(&mut self) {
        let before = self.held();
        // One socket may use all of them in one turn, and each waiting socket needs at least one.
        let target = match self.size.class {
            class if self.pool.class_to_receive(class) != class => 0,
            _ if self.pool.is_pressed() => self.target.min(self.size.least),
            _ => self.target,
        };
        while self.held() < target {
            let Some(id) = self.free.pop() else { break };
            let Some(mut lease) = self.pool.take_for_receive(self.size.class) else {
                self.free.push(id);
                break;
            };
            let (first, len) = lease.raw_range();
            // SAFETY: there are as many ids as entries. The lease owns the range and is kept in `leases`, where nobody
            // touches it, until the kernel reports its id; if the ring is never unregistered it is leaked.
            unsafe { self.ring.push(first, len, id) };
            self.leases[usize::from(id)] = Some(lease);
        }
        if self.held() > before {
            self.ring.publish();
        }
    }

    fn take(&mut self, id: u16) -> Option<Lease> {
        let lease = self.leases.get_mut(usize::from(id))?.take()?;
        self.free.push(id);
        self.is_used = true;
        Some(lease)
    }

    /// # Safety
    ///
    /// As for [`Buffers::trim`].
    unsafe fn trim(&mut self) {
        if std::mem::take(&mut self.is_used) {
            self.released = 0;
            return;
        }
        self.target = self.target.min(self.size.least);
        // The kernel takes buffers in the order in which they were pushed.
        let unused = self.held().saturating_sub(self.size.least / KEPT_SHARE);
        for ago in self.released..unused {
            let id = self.ring.pushed_id(u16::try_from(ago).expect("a ring has at most 512 entries"));
            if let Some(lease) = self.leases.get_mut(usize::from(id)).and_then(Option::as_mut) {
                let (first, len) = lease.raw_range();
                // SAFETY: the range is of the lease, which nobody but the kernel uses, and as the caller promises the kernel
                // neither writes to it now nor has written anything that is unread.
                unsafe { release_memory(first, len as usize) };
            }
        }
        self.released = self.released.max(unused);
    }

    fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        ring.unregister(&mut self.ring, self.name)?;
        self.leases.clear();
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty after `unregister`. If that failed, the kernel may still write to them, so they are leaked.
        std::mem::forget(std::mem::take(&mut self.leases));
    }
}
