//! The driver whose network is in memory: virtual time, seeded faults, many hosts in one thread.
//!
//! A [`SimNet`] is a world of hosts; each simulated core gets its own [`SimDriver`]. Everything that happens follows
//! from the seed, so a run replays exactly, and [`SimNet::trace_hash`] tells whether it did. Time stands still while
//! any core has work and jumps to the next event otherwise; [`Simulation`] does the stepping.
//!
//! Connections behave as TCP does where it can be observed: bounded buffers on both sides, bytes in order in pieces of
//! any size, half-close, a reset when unread bytes are thrown away or bytes arrive at a closed socket, silence when a
//! host lost its power or a path was cut. Loopback addresses mean the host itself, and unix sockets live on their host.

mod connection;
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
pub use simulation::{MemberId, SimStop, Simulation};
