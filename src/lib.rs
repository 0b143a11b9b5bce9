//! adit: a tunnel through which AI agents reach private MCP servers with no inbound port.

pub mod base;
pub mod cli;
pub mod config;
pub mod connector;
pub mod control;
pub mod edge;
pub mod engine;
pub mod exchange;
pub mod latency;
pub mod link;
pub mod policy;
pub mod private;
pub mod process;
pub mod route;
pub mod tls;
pub mod upstream;
pub mod wire;
