//! How often a connection moves from core to core.

use crate::base::Time;

/// How often a connection goes to another core for one request. Links may come and go while it is on its way; after so many
/// moves the request waits where it is.
const MOVES_MAX: u8 = 4;

/// How often a connection has gone to another core for the request that it carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves(u8);

/// A request whose connection may have moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// How often it has moved.
    pub(super) moves: Moves,
    /// When the request began on the first core that had it, if it is not this one.
    pub(super) began: Option<Time>,
}

impl Moves {
    /// Whether the connection may go to another core for this request.
    pub(super) fn may_move(self) -> bool {
        self.0 < MOVES_MAX
    }

    /// Of a connection that cannot go to another core any more for this request.
    pub(super) const fn spent() -> Moves {
        Moves(MOVES_MAX)
    }

    /// The count after one more.
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
