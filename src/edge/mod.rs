//! Floor 4: the public side: agents' calls come in here and go down a link that a connector opened.

mod agents;
mod call;
mod certify;
mod connectors;
mod core_tables;
mod credential;
mod edge_core;
mod enrol;
mod gate;
mod message;
mod no_link;
mod open;
mod passthrough;
mod places;
mod registration;
mod resealed;
mod seals;
mod settings;
mod shared;
mod usage;

#[cfg(feature = "sim")]
pub use certify::CertifyHere;
pub use certify::{CERTIFY_REQUESTS_MAX, Certified, Certifier, CertifyRequest, NotCertified, Whose, certifier};
pub use credential::{CREDENTIALS_MAX, Credential, Proof, Standing, TunnelEntry};
pub use edge_core::{CoreReport, LinkReport};
pub use message::{EdgeCommand, EdgeEvent, Reviewed};
pub use seals::Seals;
pub use settings::{EdgeSettings, EdgeTables};
pub use shared::{Counters, Edge};
pub use usage::{USAGE_TOLD_MAX, UsageLine};
