//! The choice of buffer size for a socket.

use crate::engine::pool::{Class, SMALL_LEN};

/// A socket that fills this many small buffers in a row gets large ones.
const FULL_BEFORE_LARGE: u8 = 2;
/// A socket that uses this many large buffers in a row for less than a small one holds gets small ones.
const LIGHT_BEFORE_SMALL: u8 = 4;

/// Observes how much a socket receives at a time, and chooses the class of its next buffer.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct ReceiveClass {
    class: Class,
    run: u8,
}

impl ReceiveClass {
    pub(in crate::engine) fn new() -> ReceiveClass {
        ReceiveClass { class: Class::Small, run: 0 }
    }

    /// The class to use next.
    pub(in crate::engine) fn get(self) -> Class {
        self.class
    }

    /// Records that `n` bytes were received into a buffer of class `used`; returns true if the class to use next has
    /// changed.
    pub(in crate::engine) fn note(&mut self, used: Class, n: usize) -> bool {
        if used != self.class {
            // The buffer was chosen before the last change, or because the other class was exhausted, so it is ignored.
            return false;
        }
        let (counts, limit, other) = match self.class {
            Class::Small => (n == SMALL_LEN, FULL_BEFORE_LARGE, Class::Large),
            Class::Large => (n <= SMALL_LEN, LIGHT_BEFORE_SMALL, Class::Small),
        };
        self.run = if counts { self.run + 1 } else { 0 };
        if self.run < limit {
            return false;
        }
        *self = ReceiveClass { class: other, run: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pool::LARGE_LEN;

    #[test]
    fn a_busy_socket_is_promoted_and_a_light_one_demoted() {
        let mut class = ReceiveClass::new();
        assert!(!class.note(Class::Small, SMALL_LEN));
        assert!(!class.note(Class::Small, 100), "a run is broken by a short read");
        assert!(!class.note(Class::Small, SMALL_LEN));
        assert!(class.note(Class::Small, SMALL_LEN));
        assert_eq!(class.get(), Class::Large);
        for n in [10, 10, LARGE_LEN, 10, 10, 10] {
            assert!(!class.note(Class::Large, n));
        }
        assert!(!class.note(Class::Small, SMALL_LEN), "a straggler of the other class is no evidence");
        assert!(class.note(Class::Large, SMALL_LEN));
        assert_eq!(class.get(), Class::Small);
    }
}
