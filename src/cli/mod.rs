//! Floor 5: what a person types. The grammar of the command line, and the commands.
//!
//! A flag says only which setting it sets; type, limits and precedence are the business of [`crate::config`], so that a
//! wrong flag is told apart from a wrong file by its name alone.

mod admin_client;
mod announce;
mod args;
mod ca_file;
mod config;
mod connect;
mod demo_server;
mod doctor;
mod edge;
mod edge_dir;
mod edge_store;
mod figures;
mod log;
mod provision;
mod run;
mod table;
mod tunnel;
mod tunnel_args;
mod tunnel_shown;
mod up;
mod version;

pub use announce::Announcer;
pub use args::{
    Cli, Command, ConfigArgs, ConfigCommand, ConnectArgs, DataDirArgs, DoctorArgs, EdgeArgs, EdgeDirCommand,
    EngineArgs, FileArgs, ProfileArgs, UpArgs, VersionArgs,
};
pub use config::{environment, run_config};
pub use connect::run_connect;
pub use doctor::run_doctor;
pub use edge::run_edge;
pub use log::Log;
pub use run::{EXIT_FAILURE, RunError};
pub use tunnel::run_tunnel;
pub use tunnel_args::{AdminArgs, CertCommand, KeyCommand, TunnelArgs, TunnelCommand};
pub use up::run_up;
pub use version::{COMMIT, version};

/// The exit code for a wrong command line or a wrong configuration.
pub const EXIT_USAGE: u8 = 2;
