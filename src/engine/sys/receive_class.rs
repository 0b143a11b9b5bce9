//! Which size of buffer a socket receives into.

use crate::engine::pool::{Class, SMALL_LEN};

/// A socket that fills so many small buffers one after the other is given large ones.
const FULL_BEFORE_LARGE: u8 = 2;
/// A socket that uses so many large buffers in a row for what a small one would hold is given small ones.
const LIGHT_BEFORE_SMALL: u8 = 4;

/// Follows how much a socket receives at a time, and picks the class of its next buffer.
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

    /// Notes that `n` bytes came into a buffer of class `used`; true when the class to use next has changed.
    pub(in crate::engine) fn note(&mut self, used: Class, n: usize) -> bool {
        if used != self.class {
            // Of the time before a change, or taken because the right class was exhausted: no evidence.
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
