//! Floor 4: the public side: agents' calls come in here and go down a link that a connector opened.

mod agents;
mod call;
mod connectors;
mod gate;
mod here;
mod message;
mod refusal;
mod settings;
mod shared;

pub use here::{CoreFigures, CoreReport, LinkReport};
pub use message::{EdgeCommand, EdgeEvent};
pub use settings::{EdgeSettings, EdgeTables, TunnelEntry};
pub use shared::{Counters, Edge};
