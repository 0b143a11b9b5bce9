//! Floor 3: MCP servers that speak over standard input and output, as child processes of a connector.
//!
//! A [`StdioUpstream`] is all that others see: connections enter through it, and find a server of HTTP at their other end. That server runs
//! on one core, whichever core a connection comes from. It owns the children of the route, and shares each among agents by the rules
//! of [`wire::stdio`](crate::wire::stdio).

mod child;
mod children;
mod event;
mod exchange;
mod http_server;
mod inbox;
mod reply;
mod running_child;
mod session;
mod settings;
mod stdio_upstream;
mod supervisor;

pub use settings::{NOT_STARTED, STDIO_GUARD, StdioSettings};
pub use stdio_upstream::{StdioUnavailable, StdioUpstream};
