//! The adit link: many streams on one connection between a connector and an edge (`docs/PROTOCOL.md`).
//!
//! Sans-IO: [`Mux`] takes bytes and the time, and returns bytes and events. Payload is moved in [`Chunk`]s and never
//! copied. It implements flow control per stream and for the link, a fair sender, and a code for every violation by a
//! peer.
//!
//! [`Chunk`]: crate::base::Chunk

mod cause;
mod clock;
mod commands;
mod event;
mod fault;
mod flow;
mod frame;
mod hello;
mod hosts;
mod lane;
mod machine;
mod open;
mod phases;
mod pressure;
mod receive;
mod schedule;
mod settings;
mod share;
mod stream;
mod transmit;

#[cfg(test)]
mod tests;

pub use super::RegistrationRefusal;
pub use cause::Cause;
pub use commands::OVERSHOOT_MAX;
pub use event::{Event, OpenError, SendError, Side, StreamCommandError, StreamId};
pub use fault::Fault;
pub use flow::CREDIT_MAX;
pub use frame::{CONTROL_LEN_MAX, HEADER_LEN, PAYLOAD_LEN_MAX};
pub use hello::{
    EdgeIdentity, Hello, HelloError, LINK_WINDOW_RANGE, PING_INTERVAL_MS_RANGE, REASON_LEN_MAX, Refused,
    SECRET_LEN_MAX, SOFTWARE_LEN_MAX, STREAM_WINDOW_RANGE, STREAMS_MAX_RANGE, VERSION, Welcome,
};
pub use hosts::{HOSTS_LEN_MAX, Hosts};
pub use lane::{Lane, LaneAfter, LanePlace};
pub use machine::Mux;
pub use open::{OPEN_LEN_MAX, Open, PEER_LEN_MAX, ROUTE_LEN_MAX};
pub use phases::{Phases, Stage};
pub use schedule::QUANTUM;
pub use settings::Settings;
pub use stream::Withdrawal;
pub use transmit::{FrameSink, TRANSMIT_BUDGET_MIN};
