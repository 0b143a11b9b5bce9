//! How agents are told to call through adit: the lines for the configuration of each MCP client.

mod args;
mod lines;
mod show;
mod summary;
mod terminal;

pub use args::{ClientConfigArgs, ClientName};
pub use show::run_client_config;
pub(super) use show::up_text;
pub(super) use summary::connector_text;
