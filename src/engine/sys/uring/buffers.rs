//! Pooled buffers that the kernel holds, to receive into.

use std::io;

use super::ring::Ring;
use crate::engine::Lease;
use crate::engine::pool::{Class, Pool};
use crate::engine::sys::buf_ring::BufRing;

/// A ring never takes more than this part of the pool's buffers of its class.
const POOL_SHARE: usize = 4;

/// What is particular to a class.
struct Size {
    class: Class,
    /// The kernel's name for the ring.
    group: u16,
    /// Buffers that the kernel is given at first.
    least: usize,
    /// Entries of the ring: what it may grow to when it runs dry while the pool does not.
    entries: u16,
}

const SMALL: Size = Size { class: Class::Small, group: 0, least: 64, entries: 512 };
const LARGE: Size = Size { class: Class::Large, group: 1, least: 16, entries: 64 };

/// One ring for each class.
pub(super) struct Buffers {
    small: Group,
    large: Group,
}

struct Group {
    size: Size,
    ring: BufRing,
    /// By id, while the kernel holds them.
    leases: Vec<Option<Lease>>,
    free: Vec<u16>,
    /// How many the kernel is to hold; none before the class was first asked for.
    target: usize,
    target_max: usize,
}

impl Buffers {
    /// Registers both rings, empty.
    pub(super) fn new(ring: &Ring, pool: &Pool) -> io::Result<Buffers> {
        Ok(Buffers { small: Group::new(SMALL, ring, pool)?, large: Group::new(LARGE, ring, pool)? })
    }

    /// The class to receive into next: the one that is wanted, or the other when the pool has no more of it; none when
    /// it has neither.
    pub(super) fn pick(&mut self, wanted: Class, pool: &Pool) -> Option<Class> {
        let other = match wanted {
            Class::Small => Class::Large,
            Class::Large => Class::Small,
        };
        [wanted, other].into_iter().find(|class| self.group(*class).stock(pool))
    }

    /// The kernel's name for the ring of `class`.
    pub(super) fn name(class: Class) -> u16 {
        match class {
            Class::Small => SMALL.group,
            Class::Large => LARGE.group,
        }
    }

    /// Takes back the buffer that the kernel has reported used.
    pub(super) fn take(&mut self, class: Class, id: u16) -> Option<Lease> {
        self.group(class).take(id)
    }

    /// Notes that the kernel found the ring of `class` empty.
    pub(super) fn ran_dry(&mut self, class: Class) {
        let group = self.group(class);
        group.target = (group.target * 2).min(group.target_max);
    }

    /// Replaces what the kernel has used.
    pub(super) fn refill(&mut self, pool: &Pool) {
        self.small.refill(pool);
        self.large.refill(pool);
    }

    /// How many buffers the kernel holds.
    pub(super) fn held(&self) -> usize {
        self.small.held() + self.large.held()
    }

    /// Takes both rings from the kernel, so that their memory can be used otherwise.
    pub(super) fn unregister(&mut self, ring: &Ring) -> io::Result<()> {
        self.small.unregister(ring)?;
        self.large.unregister(ring)
    }

    fn group(&mut self, class: Class) -> &mut Group {
        match class {
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        }
    }
}

impl Group {
    fn new(size: Size, ring: &Ring, pool: &Pool) -> io::Result<Group> {
        let mut memory = BufRing::new(size.entries);
        ring.register(&mut memory, size.entries, size.group)?;
        Ok(Group {
            ring: memory,
            leases: std::iter::repeat_with(|| None).take(usize::from(size.entries)).collect(),
            free: (0..size.entries).rev().collect(),
            target: 0,
            target_max: (pool.buffers_max(size.class) / POOL_SHARE).clamp(1, usize::from(size.entries)),
            size,
        })
    }

    fn held(&self) -> usize {
        self.leases.len() - self.free.len()
    }

    /// Whether the kernel has a buffer to pick, as far as is known here, if need be after giving it one.
    fn stock(&mut self, pool: &Pool) -> bool {
        self.target = self.target.max(self.size.least.min(self.target_max));
        if self.held() == 0 {
            self.refill(pool);
        }
        self.held() > 0
    }

    fn refill(&mut self, pool: &Pool) {
        let before = self.held();
        while self.held() < self.target {
            let Some(id) = self.free.pop() else { break };
            let Some(mut lease) = pool.take_for_receive(self.size.class) else {
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
        ring.unregister(&mut self.ring, self.size.group)?;
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
