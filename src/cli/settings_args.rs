//! The flags for settings that several commands share: the file, the profile, the engine and the log.

use std::path::PathBuf;

use clap::Args;

use crate::config::Profile;

/// The flag that selects a profile.
#[derive(Args, Clone)]
pub struct ProfileArgs {
    /// Tune the engine for one purpose: latency, shared or bulk; every other setting takes precedence
    #[arg(long, value_name = "NAME")]
    pub profile: Option<Profile>,
}

/// The flags for the configuration file and single settings.
#[derive(Args, Clone)]
pub struct FileArgs {
    /// The profile below all other settings.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// The configuration file (TOML) [default: the file that ADIT_CONFIG names, if it is set]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set any setting by its key, such as edge.drain_timeout_ms=5s; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// The flags for the data plane and the log, which every role has.
#[derive(Args, Clone)]
pub struct EngineArgs {
    /// The kernel interface for network I/O: auto, uring or epoll; auto uses io_uring where it works
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// The number of threads that carry traffic; 0 uses one for each CPU, and for every second one with `adit up`
    #[arg(long, value_name = "N")]
    pub cores: Option<String>,
    /// How much to log: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// The format of log lines: text for people, json for programs
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}
