//! `adit connect`.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use serde_json::json;

use crate::cli::announce::Announcer;
use crate::cli::clients::connector_text;
use crate::cli::output::print;
use crate::cli::role_args::ConnectArgs;
use crate::cli::run::{run_role, service_manager};
use crate::process::doctor::doctor;
use crate::process::{ConnectorProcess, LoadedConfig, shared_reader};

/// Runs `adit connect` until it is told to end, and returns the exit code.
#[must_use]
pub fn run_connect(args: ConnectArgs, env: &BTreeMap<String, String>) -> u8 {
    let (announcer, json, sources_env) = (Announcer::new(args.json), args.json, env.clone());
    let read = Box::new(move || LoadedConfig::load(args.sources(&sources_env)?));
    let (read, read_for_doctor) = shared_reader(read);
    run_role(read, async move |loaded, read, log| {
        let connector =
            ConnectorProcess::start(loaded, read, log, doctor(read_for_doctor), move |notice| announcer.notice(notice))
                .await?;
        announce(&connector, announcer, json);
        connector.run(&service_manager(env)).await?;
        announcer.event("ended", json!({}));
        Ok(0)
    })
}

fn announce(connector: &ConnectorProcess, announcer: Announcer, json: bool) {
    // In the log of a service, nobody pastes anything.
    if !json && std::io::stdout().is_terminal() {
        print(&connector_text(connector.hosts()));
    }
    let facts = connector.facts();
    let admin = facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://"));
    announcer.event(
        "started",
        json!({ "edges": connector.edges(), "hosts": connector.hosts(), "admin": admin, "driver": facts.driver, "why": facts.driver_why }),
    );
}
