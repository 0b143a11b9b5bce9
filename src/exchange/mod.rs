//! Floor 3: one HTTP exchange between two byte streams: heads read, bodies carried over without copying them.
//!
//! Used on both sides of a link: between an agent's connection and a stream at the edge, and between a stream and an
//! upstream's connection at the connector.

mod carry;
mod forwarded;
mod intake;
mod outlet;
mod patient;
mod refusal;

pub use carry::{Carry, CarryError, carry_body, read_on};
pub use forwarded::forwarded;
pub use intake::{HeadReadError, Intake};
pub use outlet::Outlet;
pub use patient::{Course, DRAIN_STALL_MAX, Patient};
pub use refusal::{Refusal, check_request, offline, reset, retry_after_s};
