//! Floor 4: the edge. It accepts calls of agents, and sends them over links that connectors opened.

mod affinity;
mod agent_request;
mod agents;
mod agents_http2;
mod bonds;
mod call;
mod call_notes;
mod certify;
mod connectors;
mod core_tables;
mod credential;
mod drain;
mod edge_core;
mod enrol;
mod figures;
mod front;
mod gate;
mod hand_over;
mod host_review;
mod link_choice;
mod link_setup_error;
mod link_table;
mod message;
mod moves;
mod offline_wait;
mod open;
mod other_core;
mod passthrough;
mod presence;
mod recording;
mod registration;
mod report;
mod resealed;
mod run;
mod seals;
mod served_hosts;
mod sessions;
mod settings;
mod shared;
mod source_permits;
mod task_calls;
#[cfg(test)]
mod tests;
mod usage;

#[cfg(feature = "sim")]
pub use certify::CertifyFn;
pub use certify::{CERTIFY_REQUESTS_MAX, CertSubject, Certified, Certifier, CertifyRequest, NotCertified, certifier};
pub use credential::{CREDENTIALS_MAX, CredentialStatus, Proof, TunnelCredential, TunnelEntry};
pub use message::{EdgeCommand, EdgeEvent, Reviewed};
pub use report::{CoreReport, LinkReport};
pub use seals::Seals;
pub use served_hosts::HostService;
pub use settings::{EdgeSettings, EdgeTables, PlainHttp};
pub use shared::{Counters, Edge};
pub use usage::{USAGE_LINES_MAX, UsageLine};
