//! Floor 3: one HTTP exchange between two byte streams: heads read, bodies carried over without copying them.
//!
//! Used on both sides of a link: between an agent's connection and a stream at the edge, and between a stream and an
//! upstream's connection at the connector.

mod carry;
mod intake;
mod outlet;

pub use carry::{Carry, CarryError, carry_body};
pub use intake::{HeadReadError, Intake};
pub use outlet::Outlet;
