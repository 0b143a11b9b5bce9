//! `compare --stdio`: the same calls over the pipes of a server that speaks stdio, and through programs that serve it over HTTP.

pub(crate) mod comparison;
mod direct;
mod peers;
pub(crate) mod server;
pub(crate) mod table;
