//! The driver whose network is in memory: virtual time, seeded faults, many hosts in one thread.
//!
//! A [`SimNet`] is a world of hosts, and each simulated core has its own [`SimDriver`]. Everything follows from the
//! seed, so a run replays exactly, and [`SimNet::trace_hash`] shows whether it did. Time stands still while any core
//! has work, and otherwise jumps to the next event; [`Simulation`] does the stepping.
//!
//! Connections behave like TCP as far as it can be observed: bounded buffers on both sides, bytes in order in pieces of
//! any size, half-close, a reset if unread bytes are discarded or bytes arrive at a closed socket, and silence if a
//! host lost its power or a path was cut. Datagrams are like UDP behind a router that translates addresses. Loopback addresses mean the host itself, and Unix sockets live on their host.

mod connection;
mod datagrams;
mod driver;
mod faults;
mod net;
mod sim_socket;
mod simulation;
#[cfg(test)]
mod tests;
mod trace;
mod transport;
mod world;

pub use driver::SimDriver;
pub use faults::Faults;
pub use net::{Death, DriverId, SimNet};
pub use sim_socket::SimSocket;
pub use simulation::{MemberId, SimStop, Simulation, TurnMoment};
