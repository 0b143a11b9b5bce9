//! The numbers that identify operations in the kernel.

use crate::engine::driver::Token;
use crate::engine::sys::places::PLACES_MAX;

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Accept,
    Alarm,
    Cancel,
    Connect,
    Receive,
    Send,
    Wake,
    Watch,
}

const VERBS: [Verb; 8] =
    [Verb::Accept, Verb::Alarm, Verb::Cancel, Verb::Connect, Verb::Receive, Verb::Send, Verb::Wake, Verb::Watch];

/// The lowest bits of a name hold the token's index, and the bits above them the generation and the kind.
const INDEX_BITS: u32 = 24;
const _: () = assert!(PLACES_MAX <= 1 << INDEX_BITS);

/// The number that the kernel returns with the operation's completions.
pub(super) fn name(verb: Verb, token: Token) -> u64 {
    u64::from(token.generation) << 32 | (verb as u64) << INDEX_BITS | u64::from(token.index)
}

/// The kind and token of a name; `None` if it is not a valid name.
pub(super) fn named(name: u64) -> Option<(Verb, Token)> {
    let low = name as u32;
    let verb = *VERBS.get((low >> INDEX_BITS) as usize)?;
    Some((verb, Token { index: low & ((1 << INDEX_BITS) - 1), generation: (name >> 32) as u32 }))
}

/// Whether an operation is in the kernel, and whether it was cancelled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InKernel {
    pub(super) is_there: bool,
    pub(super) is_cancelled: bool,
}

impl InKernel {
    pub(super) fn started(&mut self) {
        *self = InKernel { is_there: true, is_cancelled: false };
    }

    pub(super) fn ended(&mut self) {
        *self = InKernel::default();
    }

    /// Whether it must be cancelled now; true once for each start.
    pub(super) fn take_cancel(&mut self) -> bool {
        let due = self.is_there && !self.is_cancelled;
        self.is_cancelled |= due;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_verb_and_token() {
        for verb in VERBS {
            let token = Token { index: PLACES_MAX - 1, generation: u32::MAX };
            assert_eq!(named(name(verb, token)), Some((verb, token)));
        }
        assert_eq!(named(u64::MAX), None);
    }

    #[test]
    fn an_operation_is_cancelled_once() {
        let mut operation = InKernel::default();
        assert!(!operation.take_cancel());
        operation.started();
        assert!(operation.take_cancel() && !operation.take_cancel());
        operation.ended();
        operation.started();
        assert!(operation.take_cancel());
    }
}
