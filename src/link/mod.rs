//! Floor 3: the link between a connector and an edge: many streams on one connection.
//!
//! [`crate::wire::mux`] implements the protocol. This module transmits its frames, packing those of one turn into as
//! few TLS records and sends as possible, and reports its events to the tasks that wait for them.
//!
//! The roles use a [`Carrier`], so that other protocols can carry calls as well.

mod backoff;
mod call_open_error;
mod call_stream;
mod carrier;
mod carrier_stream;
mod close_reason;
mod cloudflared;
mod greeting;
mod heartbeat;
mod lanes;
#[cfg(test)]
mod lanes_tests;
mod packer;
mod progress;
mod running;
mod stalls;
mod stream;
mod streams;
mod times;
mod unproven;

pub use backoff::Backoff;
pub use call_open_error::CallOpenError;
pub use call_stream::CallStream;
pub use carrier::{CallOpen, Carrier, CarrierEnded, Loss};
pub use carrier_stream::CarrierStream;
pub use close_reason::CloseReason;
pub use cloudflared::{
    CloudflaredCounts, CloudflaredEdgeEnded, CloudflaredEdgeLink, CloudflaredEdgeStream, CloudflaredEdgeTerms,
    CloudflaredEnded, CloudflaredLink, CloudflaredPush, CloudflaredStream, CloudflaredTerms, RegisterError,
    RegisteredConnection, RegistrationFault,
};
pub use greeting::LinkError;
pub use running::{Link, LinkEnded};
pub use stream::LinkStream;
pub use unproven::Liveness;
