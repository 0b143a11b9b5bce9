//! Floor 5: what a person types. The grammar of the command line, and the commands that need no role.
//!
//! A flag says only which setting it sets; type, limits and precedence are the business of [`crate::config`], so that a
//! wrong flag is told apart from a wrong file by its name alone.

mod args;
mod config;
mod version;

pub use args::{
    Cli, Command, ConfigArgs, ConfigCommand, ConnectArgs, EdgeArgs, EngineArgs, FileArgs, UpArgs, VersionArgs,
};
pub use config::{environment, run_config};
pub use version::version;

/// The exit code for a wrong command line or a wrong configuration.
pub const EXIT_USAGE: u8 = 2;
