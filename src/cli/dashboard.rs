//! `adit dashboard`: prints the URL of the dashboard.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::dashboard_args::DashboardArgs;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{DashboardCode, StatusBody};

/// Runs `adit dashboard` and returns the exit code.
#[must_use]
pub fn run_dashboard(args: &DashboardArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(run(args, env))
}

async fn run(args: &DashboardArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let (client, code) = match AdminClient::new(&args.admin, env) {
        Ok(client) => {
            let code: DashboardCode = client.post(&["dashboard", "codes"], &()).await?;
            (client, Some(code))
        }
        // Reading needs no token.
        Err(AdminError::NoToken) => {
            let client = AdminClient::without_token(args.admin.admin.as_deref(), env)?;
            client.get::<StatusBody>(&["status"], &[]).await?;
            (client, None)
        }
        Err(error) => return Err(error),
    };
    let url = client.url(code.as_ref().map_or("/", |code| &code.path));
    let ends_in_s = code.as_ref().map(|code| code.ends_in_s);
    if args.admin.json {
        return Ok(format!("{:#}\n", json!({ "url": url, "read_only": code.is_none(), "ends_in_s": ends_in_s })));
    }
    match ends_in_s {
        Some(s) => eprintln!("Open this link within {s} s. It logs in one browser, once."),
        None => eprintln!("Read-only, because no admin token was given: --data-dir or --admin-token-file names one."),
    }
    Ok(format!("{url}\n"))
}
