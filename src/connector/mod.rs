//! Floor 4: the private side: links are dialled from here, and what comes down them goes to an upstream.

mod call;
mod connector_core;
mod dial;
mod edge_tls;
mod enrol;
mod enrolment;
mod links;
mod message;
mod no_link;
mod respond;
mod session;
mod settings;
mod shared;
mod standing;
#[cfg(test)]
mod tests;
mod upstreams;
mod workers;

pub use connector_core::{ConnectorReport, LinkReport, LinkState, UpstreamReport};
pub use edge_tls::EdgeTls;
pub use enrolment::{TradeError, trade};
pub use message::{ConnectorCommand, ConnectorEvent};
pub use settings::{ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, LINKS_MAX, Sealing};
pub use shared::{ClockSkew, Connector, Counters, EdgeView};
pub use standing::Standing;
