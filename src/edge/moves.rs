//! How often a connection moves from core to core.

use crate::base::Time;

/// How often a connection may be handed over for one request. Links may appear and end during a hand-over; after this
/// many moves the request waits where it is.
const MOVES_MAX: u8 = 4;

/// How often a connection was handed over for its current request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves(u8);

/// A request whose connection may have been handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// How often the connection was handed over.
    pub(super) moves: Moves,
    /// When the request began on its first core, if that is not this one.
    pub(super) began: Option<Time>,
}

impl Moves {
    /// Whether the connection may be handed over for this request.
    pub(super) fn may_move(self) -> bool {
        self.0 < MOVES_MAX
    }

    /// The count of a connection that must not be handed over for this request.
    pub(super) const fn spent() -> Moves {
        Moves(MOVES_MAX)
    }

    /// The count after one more hand-over.
    pub(super) fn and_one(self) -> Moves {
        Moves(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_moves_a_connection_only_so_often() {
        let mut moves = Moves::default();
        let moved = std::iter::from_fn(|| {
            let may = moves.may_move();
            moves = moves.and_one();
            may.then_some(())
        });
        assert_eq!(moved.take(100).count(), usize::from(MOVES_MAX));
        assert!(!Moves::spent().may_move());
    }
}
