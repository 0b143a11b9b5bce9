//! Floor 4: the public side: agents' calls come in here and go down a link that a connector opened.

mod agents;
mod call;
mod connectors;
mod credential;
mod here;
mod message;
mod refusal;
mod settings;
mod shared;

pub use credential::{CREDENTIALS_MAX, Credential, TunnelEntry};
pub use here::{CoreFigures, CoreReport, LinkReport};
pub use message::{EdgeCommand, EdgeEvent};
pub use settings::{EdgeSettings, EdgeTables};
pub use shared::{Counters, Edge};
