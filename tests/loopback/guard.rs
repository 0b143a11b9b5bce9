//! Who gets in, who does not, and what never gets out: an edge with two tunnels, run as people run it.

mod admission;
mod calls;
pub(crate) mod doctor;
mod eras;
mod events;
mod greetings;
mod isolation;
mod mmdb;
mod proxies;
mod secrets;
mod site;
mod stalls;
