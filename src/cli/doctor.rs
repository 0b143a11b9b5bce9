//! `adit doctor`.

use std::collections::BTreeMap;

use crate::cli::EXIT_USAGE;
use crate::cli::check_args::DoctorArgs;
use crate::cli::output::print;
use crate::cli::run::on_control_thread;
use crate::config::Purpose;
use crate::process::doctor::{DoctorOptions, Verdict, examine};

/// Runs `adit doctor` and returns the exit code.
#[must_use]
pub fn run_doctor(args: DoctorArgs, env: &BTreeMap<String, String>) -> u8 {
    let DoctorArgs { file, url, url_ca_file, mcp_path, json } = args;
    let options = DoctorOptions { url, url_ca_file, mcp_path };
    on_control_thread(async move {
        let findings = examine(file.sources(Purpose::Check, env, Vec::new()), &options).await;
        let text = if json { format!("{:#}\n", findings.to_json()) } else { findings.to_string() };
        print(&text);
        Ok(if findings.worst() == Verdict::Fail { EXIT_USAGE } else { 0 })
    })
}
