//! `adit report`: which servers agents call, what these can do that nobody approved, and who would notice.

mod gather;
mod html;
mod model;
mod text;

use std::collections::BTreeMap;

use crate::cli::audit::time;
use crate::cli::config::load_config;
use crate::cli::error_pages::{CONFIG, GOVERNANCE, line};
use crate::cli::output::print;
use crate::cli::report_args::{ReportArgs, ReportFormat};
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::control::WallTime;

/// Runs `adit report` and returns the exit code.
#[must_use]
pub fn run_report(args: &ReportArgs, env: &BTreeMap<String, String>) -> u8 {
    let config = match load_config(&args.file, env) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}{}", line(CONFIG));
            return EXIT_USAGE;
        }
    };
    let since = match time(Some(&args.since)) {
        Ok(since) => since.unwrap_or_else(WallTime::now),
        Err(failure) => {
            eprintln!("{failure}");
            return EXIT_USAGE;
        }
    };
    match gather::gather(&config, since) {
        Ok(report) => {
            print(&match args.format {
                ReportFormat::Text => text::text(&report),
                ReportFormat::Json => format!("{:#}\n", serde_json::json!(report)),
                ReportFormat::Html => html::html(&report),
            });
            0
        }
        Err(failure) => {
            eprintln!("{failure}{}", line(GOVERNANCE));
            EXIT_FAILURE
        }
    }
}
