//! Floor 3: MCP servers that speak over standard input and output, as child processes of a connector.
//!
//! A [`StdioUpstream`] is all that others see: connections enter through it, and find a server of HTTP at their other end. That server runs
//! on one core, whichever core a connection comes from. It owns the children of the route, and shares each among agents by the rules
//! of [`wire::stdio`](crate::wire::stdio).

mod child;
mod child_permit;
mod child_pool;
mod children;
mod exchange;
mod http_server;
mod mail;
mod reply;
mod restart_policy;
mod running_child;
mod session;
mod session_stream;
mod settings;
mod stats;
mod stdio_upstream;
mod supervisor;

pub use child::spawn_error;
pub use settings::{Confinement, NOT_STARTED, RestartTerms, STDIO_GUARD, StdioLimits, StdioSettings, StdioSharing};
pub use stats::{StdioEvent, StdioStats};
pub use stdio_upstream::{StdioUnavailable, StdioUpstream};
