use std::sync::Arc;

/// A connected socket of a simulated network that no driver holds. Dropping it closes it.
#[derive(Debug)]
pub struct SimSocket {
    pub(super) id: u64,
    /// The world keeps the other copy, and closes the socket when only that one is left.
    _held: Arc<()>,
}

impl SimSocket {
    pub(super) fn new(id: u64, held: Arc<()>) -> SimSocket {
        SimSocket { id, _held: held }
    }
}
