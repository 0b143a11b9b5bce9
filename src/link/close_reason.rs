/// Why this side ends a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This side shuts down, and no calls are left.
    Ended,
    /// This side shuts down, and the calls in flight took too long.
    DrainTimeout,
    /// The credential of the registration is no longer valid.
    Revoked,
}
