//! HTTP/2 between agents and the edge: calls over the `h2` crate's client and over curl, and frames by hand. And to upstreams:
//! the server of Node.

mod calls;
pub(crate) mod client;
pub(crate) mod frames;
mod hostile;
pub(crate) mod node;
mod settings;
pub(crate) mod site;
mod streams;
mod upstreams;
