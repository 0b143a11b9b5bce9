//! Floor 4: the connector. It dials links to edges, and forwards the calls that arrive on them to upstreams.

mod agent_work;
mod agents_http2;
mod audit;
mod authorize;
mod bridge;
mod call;
mod call_context;
mod call_end;
mod call_error;
mod call_hooks;
mod call_request;
mod cancel;
mod cancellations;
mod checkout;
mod cloudflared;
mod cloudflared_settings;
mod connect_error;
mod connector_core;
mod dial;
mod dial_link;
mod edge_signals;
mod edge_status;
mod edge_tls;
mod enrol;
mod enrolment;
mod figures;
mod hosts;
mod identity;
mod kept_calls;
mod link_table;
mod links;
mod message;
mod places;
mod quic_sockets;
mod quic_watch;
mod recording;
mod report;
mod retry;
mod run;
mod settings;
mod shared;
mod stream_calls;
mod streams;
#[cfg(test)]
mod tests;
mod transports;
mod upstream_stream;
mod upstreams;
mod worker_slots;
mod workers;

pub use cloudflared_settings::{CloudflaredSettings, ConfigPush};
pub use edge_status::EdgeStatus;
pub use edge_tls::EdgeTls;
pub use enrolment::{TradeError, TradeWith, trade};
pub use hosts::MissingHosts;
pub use identity::{Addresses, RouteIdentity, UpstreamOrigin};
pub use message::{ConnectorCommand, ConnectorEvent};
pub use report::{ConnectorReport, LinkReport, LinkState, UpstreamReport};
pub use settings::{
    ConnectorRoute, ConnectorSettings, ConnectorTables, EdgeAddress, FixedAnswer, IngressTarget, LINKS_MAX,
    LinkTransport, Sealing,
};
pub use shared::{ClockSkew, Connector, Counters, EdgeView};
