//! Pooled buffers that the kernel holds, to receive into.

use std::io;

use super::ring::Ring;
use crate::engine::Lease;
use crate::engine::pool::{Class, Pool};
use crate::engine::sys::buf_ring::BufRing;

/// A ring never takes more than this part of the pool.
const POOL_SHARE: usize = 16;

/// Who receives into a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ordinary,
    /// Links, whose buffers nobody else can use up.
    Link,
}

/// What is particular to a class.
struct Size {
    class: Class,
    /// Buffers that the kernel is given at first.
    least: usize,
    /// Entries of the ring: what it may grow to when it runs dry while the pool does not.
    entries: u16,
}

const SMALL: Size = Size { class: Class::Small, least: 64, entries: 512 };
const LARGE: Size = Size { class: Class::Large, least: 16, entries: 64 };

/// One ring for each kind and class.
pub(super) struct Buffers {
    groups: [Group; 4],
}

struct Group {
    size: Size,
    /// The kernel's name for the ring.
    name: u16,
    /// From where its buffers come.
    pool: Pool,
    ring: BufRing,
    /// By id, while the kernel holds them.
    leases: Vec<Option<Lease>>,
    free: Vec<u16>,
    /// How many the kernel is to hold; none before the class was first asked for.
    target: usize,
    target_max: usize,
}

impl Buffers {
    /// Registers all rings, empty.
    pub(super) fn new(ring: &Ring, pool: &Pool) -> io::Result<Buffers> {
        let group = |kind: Kind, size: Size| {
            let pool = if kind == Kind::Link { pool.for_links() } else { pool.clone() };
            Group::new(Buffers::name(kind, size.class), size, ring, pool)
        };
        let (ordinary, link) = (Kind::Ordinary, Kind::Link);
        Ok(Buffers {
            groups: [group(ordinary, SMALL)?, group(ordinary, LARGE)?, group(link, SMALL)?, group(link, LARGE)?],
        })
    }

    /// The class to receive into next: the one that is wanted, or the other when the pool has no more of it; none when
    /// it has neither.
    pub(super) fn pick(&mut self, kind: Kind, wanted: Class) -> Option<Class> {
        let wanted = self.suits(kind, wanted);
        let other = match wanted {
            Class::Small => Class::Large,
            Class::Large => Class::Small,
        };
        [wanted, other].into_iter().find(|class| self.group(kind, *class).stock())
    }

    /// The class for one who would like `wanted`, as full as the pool is now.
    pub(super) fn suits(&self, kind: Kind, wanted: Class) -> Class {
        self.groups[usize::from(Buffers::name(kind, wanted))].pool.class_to_receive(wanted)
    }

    /// Whether each receive should take no more than one buffer.
    pub(super) fn are_scarce(&self, kind: Kind) -> bool {
        kind == Kind::Ordinary && self.groups[0].pool.is_pressed()
    }

    /// The kernel's name for the ring of `kind` and `class`, which is also its place here.
    pub(super) fn name(kind: Kind, class: Class) -> u16 {
        match (kind, class) {
            (Kind::Ordinary, Class::Small) => 0,
            (Kind::Ordinary, Class::Large) => 1,
            (Kind::Link, Class::Small) => 2,
            (Kind::Link, Class::Large) => 3,
        }
    }

    /// Takes back the buffer that the kernel has reported used.
    pub(super) fn take(&mut self, kind: Kind, class: Class, id: u16) -> Option<Lease> {
        self.group(kind, class).take(id)
    }

    /// Notes that the kernel found the ring empty.
    pub(super) fn ran_dry(&mut self, kind: Kind, class: Class) {
        let group = self.group(kind, class);
        group.target = (group.target * 2).min(group.target_max);
    }

    /// Replaces what the kernel has used.
    pub(super) fn refill(&mut self) {
        self.groups.iter_mut().for_each(Group::refill);
    }

    /// How many buffers the kernel holds.
    pub(super) fn held(&self) -> usize {
        self.groups.iter().map(Group::held).sum()
    }

    /// Takes the rings from the kernel, so that their memory can be used otherwise.
    pub(super) fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        self.groups.iter_mut().try_for_each(|group| group.unregister(ring))
    }

    fn group(&mut self, kind: Kind, class: Class) -> &mut Group {
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
        })
    }

    fn held(&self) -> usize {
        self.leases.len() - self.free.len()
    }

    /// Whether the kernel has a buffer to pick, as far as is known here, if need be after giving it one.
    fn stock(&mut self) -> bool {
        self.target = self.target.max(self.size.least.min(self.target_max));
        if self.held() == 0 {
            self.refill();
        }
        self.held() > 0
    }

    fn refill(&mut self) {
        let before = self.held();
        // A socket may use all of them in one turn, and each that waits at least one.
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
        Some(lease)
    }

    fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        ring.unregister(&mut self.ring, self.name)?;
        self.leases.clear();
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty after `unregister`. If that never succeeded, the kernel may still write to them.
        std::mem::forget(std::mem::take(&mut self.leases));
    }
}
