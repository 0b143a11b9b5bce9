//! `adit edge`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::cli::announce::Announcer;
use crate::cli::edge_dir::run_edge_dir;
use crate::cli::role_args::EdgeArgs;
use crate::cli::run::{run_role, service_manager};
use crate::process::doctor::doctor;
use crate::process::{EdgeProcess, LoadedConfig, shared_reader};

/// Runs `adit edge` until it is told to end, and returns the exit code.
#[must_use]
pub fn run_edge(args: EdgeArgs, env: &BTreeMap<String, String>) -> u8 {
    if let Some(command) = &args.command {
        return run_edge_dir(command, env);
    }
    let (announcer, sources_env) = (Announcer::new(args.json), env.clone());
    let read = Box::new(move || LoadedConfig::load(args.sources(&sources_env)?));
    let (read, read_for_doctor) = shared_reader(read);
    run_role(read, async move |loaded, read, log| {
        let edge =
            EdgeProcess::start(loaded, read, log, doctor(read_for_doctor), move |notice| announcer.notice(notice))
                .await?;
        announce(&edge, announcer);
        edge.run(&service_manager(env)).await?;
        announcer.event("ended", json!({}));
        Ok(0)
    })
}

fn announce(edge: &EdgeProcess, announcer: Announcer) {
    let facts = edge.facts();
    let admin = facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://"));
    announcer.event(
        "listening",
        json!({
            "agents": edge.agents(),
            "connectors": edge.connectors(),
            "admin": admin,
            "driver": facts.driver,
            "why": facts.driver_why,
        }),
    );
}
