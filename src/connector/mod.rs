//! Floor 4: the private side: links are dialled from here, and what comes down them goes to an upstream.

mod call;
mod here;
mod links;
mod message;
mod respond;
mod settings;
mod shared;
#[cfg(test)]
mod tests;
mod upstreams;
mod workers;

pub use here::{ConnectorReport, LinkReport, LinkState, UpstreamReport};
pub use message::{ConnectorCommand, ConnectorEvent};
pub use settings::{ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, LINKS_MAX};
pub use shared::{Connector, Counters};
