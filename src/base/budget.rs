use std::cell::Cell;
use std::rc::Rc;

/// A budget of bytes on one core, from which any number of holders take shares. Each share has a few bytes free. Clones
/// refer to the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    free_len: usize,
    used: Cell<usize>,
}

/// The part of a [`Budget`] that one holder has taken. It is given back when the share is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    taken: usize,
}

impl Budget {
    /// Creates a budget of `bytes_max` bytes. The first `free_len` bytes of each share do not count.
    #[must_use]
    pub fn new(bytes_max: usize, free_len: usize) -> Budget {
        Budget(Rc::new(Shared { bytes_max, free_len, used: Cell::new(0) }))
    }

    /// The number of bytes that are in use.
    #[must_use]
    #[cfg(feature = "internals")]
    pub fn used(&self) -> usize {
        self.0.used.get()
    }

    /// Creates a share of zero bytes.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), taken: 0 }
    }
}

impl Share {
    /// Sets the share to `bytes`. Returns false and changes nothing if the budget has fewer bytes left.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let Shared { bytes_max, free_len, used } = &*self.budget.0;
        let wanted = bytes.saturating_sub(*free_len);
        let others = used.get() - self.taken;
        if wanted > self.taken && others + wanted > *bytes_max {
            return false;
        }
        used.set(others + wanted);
        self.taken = wanted;
        true
    }

    /// Returns all bytes of the share.
    pub fn clear(&mut self) {
        let used = &self.budget.0.used;
        used.set(used.get() - self.taken);
        self.taken = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_come_back() {
        let budget = Budget::new(100, 10);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.set(10) && budget.used() == 0, "the first bytes are free");
        assert!(a.set(80) && budget.used() == 70);
        assert!(!b.set(41) && budget.used() == 70);
        assert!(b.set(40) && budget.used() == 100);
        assert!(!a.set(81) && a.set(80) && a.set(20) && budget.used() == 40);
        drop(b);
        assert_eq!(budget.used(), 10);
        a.clear();
        assert_eq!(budget.used(), 0);
    }
}
