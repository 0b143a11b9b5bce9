//! HTTP/2 between agents and the edge: calls over the `h2` crate's client and over curl, and frames by hand.

mod calls;
mod client;
mod frames;
mod hostile;
mod site;
mod streams;
