//! A connector in place of cloudflared, against an edge that shares no code with it.

mod calls;
mod edge;
pub(crate) mod origin;
mod quic;
mod quic_edge;
mod registration;
mod site;
