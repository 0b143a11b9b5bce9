//! Floor 4: the control thread. Code here may use tokio, and never uses leases.
//!
//! [`Control`] is the loop of the thread. Its tasks share the [`State`], which [`admin`] serves. Roles are queried by
//! message, through one trait for both ([`Role`]).

pub mod admin;
mod admin_listener;
pub mod api;
mod approval_counts;
mod approval_links;
mod approval_page;
mod approval_pages;
mod approval_webhook;
mod approvals;
mod asking;
pub mod audit;
pub mod bodies;
mod calls;
mod certify;
mod cloudflared_server;
mod connector_role;
mod dashboard;
mod dashboard_counts;
mod data_dir;
#[cfg(feature = "demo")]
pub mod demo;
mod edge_role;
mod figures;
mod file_lock;
mod given_text;
mod identity_keys;
mod inputs;
mod introspection;
mod inventories;
mod issuer_http;
mod metric_families;
mod metrics;
#[cfg(test)]
mod metrics_tests;
#[cfg(test)]
mod monitoring_files;
pub mod once;
pub mod otlp;
mod probe;
mod reading;
mod recorded;
mod report;
mod resolve;
#[cfg(test)]
mod sample;
mod service_manager;
mod state;
mod state_dir;
pub mod store;
mod tasks;
mod thread;
mod token_exchange;
mod token_keys;
pub mod tunnels;
mod wall_time;
mod watch;

pub use admin_listener::{ADMIN_CONNECTION_LIFE, ADMIN_CONNECTIONS_MAX, AdminConnection, AdminListener};
pub use approval_counts::{ApprovalCounts, DeliveryOutcome, LinkOutcome};
pub use approval_links::{ApprovalLinks, LINK_KEY_LEN};
pub use approval_webhook::ApprovalWebhook;
pub use approvals::ApprovalDesk;
pub use certify::{Provisioning, ReloadingAuthority, Signing, serve_certifications};
pub use cloudflared_server::{CloudflaredView, serve_cloudflared};
pub use connector_role::ConnectorRole;
pub use dashboard_counts::{DashboardCounts, DashboardReading, LogInOutcome, StreamOutcome};
pub use data_dir::{DataDir, DataDirError, DataDirLock, EDGE_CERT_LIFE, EDGE_CERT_RENEWED_BEFORE, Initialised};
pub use edge_role::EdgeRole;
pub use inputs::{forward_events, forward_events_with, serve_admin, signals};
pub use introspection::{IntrospectionEndpoint, keep_introspecting};
pub use inventories::{
    FINDINGS_MAX, INVENTORY_FILE, Inventories, InventoriesError, NameFinding, PinnedServer, ServerTools,
    ToolApprovalError, alike_names, read as read_inventories,
};
pub use issuer_http::{ClientCredentials, issuer_client};
pub use metrics::{METRICS_TYPE, metrics};
pub use once::{OnceClient, OnceError, OnceReport};
pub use probe::{PROBE_HOSTS_MAX, PROBE_TIMEOUT, ProbeError, Prober, reachable};
pub use reading::{
    BoxFuture, CertificateReading, CertificateState, CoreReading, EdgeReading, HostReading, LinkReading, Role,
    RoleKind, RoleReading, RouteLine, StdioReading, TunnelReading, UpstreamReading,
};
pub use report::{CallTimes, ProcessFacts, Reloads, Report, ServedRoutes, micros};
pub use resolve::serve_resolves;
pub use service_manager::ServiceManager;
pub use state::{CORE_ANSWER_MAX, State};
pub use state_dir::{Instance, SEAL_CA_FILE, StateDir, StateDirError};
pub use thread::{
    Control, ControlError, ControlParts, DRAIN_GRACE, Notice, ProcessRequest, ReloadFn, Reloaded, RoleEvent,
    WATCH_INTERVAL,
};
pub use token_exchange::{ExchangeEndpoint, keep_exchanging};
pub use token_keys::{KeySource, keep_keys};
pub use wall_time::{WallTime, WallTimeError};
pub use watch::FileWatch;
