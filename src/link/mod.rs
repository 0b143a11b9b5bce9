//! Floor 3: the link between a connector and an edge: many streams on one connection.
//!
//! [`crate::wire::mux`] decides; here its frames are put into as few records and sends as one turn of the core allows, and
//! what it reports reaches the tasks that wait for it.
//!
//! The roles see a [`Carrier`], so that connectors of another protocol can be carried beside those of our own.

mod backoff;
mod call_stream;
mod carrier;
mod carrier_stream;
mod packer;
mod running;
mod stream;
mod streams;
mod times;
mod unproven;

pub use backoff::Backoff;
pub use call_stream::CallStream;
pub use carrier::{CallOpen, CallOpenError, Carrier, CarrierEnded, CloseReason, Loss};
pub use carrier_stream::CarrierStream;
pub use running::{Ended, Link, LinkError};
pub use stream::LinkStream;
pub use unproven::Liveness;
