//! Floor 5: one process from start to end.
//!
//! This module turns the checked configuration into the settings of each role, opens the data directory and its store,
//! reserves the listeners, starts the cores, renews certificates, makes back-ups, reloads, and shuts the roles down in
//! order. It neither parses the command line nor prints anything: [`crate::cli`] does both.

mod approval_file;
mod approval_webhook;
mod audit;
mod ca_file;
mod cloudflared;
mod connector_process;
mod demo_server;
pub mod doctor;
mod edge_identity;
mod edge_process;
mod edge_reload;
mod edge_store;
mod error;
mod facts;
mod file_limit;
mod listen;
mod log;
mod maintenance;
mod provision;
mod quota_file;
mod random;
mod runtime;
mod settings;
mod source;
mod stdio_cgroup;
mod stdio_confinement;
mod stdio_guard;
mod telemetry;
mod tls_files;
mod up_process;

pub use audit::{audit_dir, inventory_file};
pub use ca_file::CaFile;
pub use cloudflared::{CloudflaredProcess, ask_ready};
pub use connector_process::ConnectorProcess;
pub use demo_server::DemoServer;
pub use edge_process::EdgeProcess;
pub use error::RunError;
pub use facts::COMMIT;
pub use log::{ERASE_LINE, Log, set_live_line};
pub use maintenance::{RestoredFrom, back_up_store, identity_key_set, init_data_dir, restore_store};
pub use random::{random, random_number};
pub use runtime::on_control_thread;
pub use settings::credentials;
pub use source::{LoadedConfig, ReadConfig, shared_reader};
pub use stdio_confinement::exec_confined;
pub use stdio_guard::guard;
pub use up_process::{Measured, NODE_CERTS_ENV, UpHandle, UpProcess};
