//! `adit doctor`: the configuration of a role, and what it needs of the world.

mod connector;
mod edge;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use reqwest::{Certificate, Client, ClientBuilder, Url};

use crate::cli::EXIT_USAGE;
use crate::cli::args::DoctorArgs;
use crate::cli::run::{RunError, on_control_thread};
use crate::config::{Config, EngineConfig, Faults, Purpose};
use crate::control::doctor::{Ear, Findings, PATIENCE, PublicUrl, Verdict, check_public};
use crate::engine::{Cores, EngineSettings};

/// The MCP server of a route, as this machine asks it.
struct Upstream {
    host: String,
    client: Client,
    url: String,
}

/// Runs `adit doctor` and gives back the exit code.
#[must_use]
pub fn run_doctor(args: DoctorArgs, env: &BTreeMap<String, String>) -> u8 {
    let json = args.json;
    on_control_thread(async move {
        let findings = examine(&args, env).await;
        let said = if json { format!("{:#}\n", findings.to_json()) } else { findings.to_string() };
        // Whoever reads it may close it early, as `head` does; the exit code says the same.
        let _ = io::stdout().write_all(said.as_bytes());
        Ok(if findings.worst() == Verdict::Fail { EXIT_USAGE } else { 0 })
    })
}

async fn examine(args: &DoctorArgs, env: &BTreeMap<String, String>) -> Findings {
    let mut findings = Findings::default();
    let sources = args.file.sources(Purpose::Check, env, Vec::new());
    let config = match sources.and_then(|sources| Config::load(&sources)) {
        Ok(config) => config,
        Err(faults) => {
            add_faults(&mut findings, "config", &faults);
            return findings;
        }
    };
    if config.edge.is_none() && config.connect.is_none() {
        findings.fail("config", "neither an edge nor a connector is configured", "name the file with --config");
        return findings;
    }
    match config.check_files() {
        Ok(()) => findings.ok("config", "nothing is wrong with the settings and their files"),
        Err(faults) => add_faults(&mut findings, "config", &faults),
    }
    for warning in &config.warnings {
        findings.warn("config", warning.as_str(), "see docs/CONFIG.md");
    }
    driver(&mut findings, &config.engine);
    if config.edge.is_some() {
        edge::examine(&mut findings, &config).await;
    }
    let mut upstreams = Vec::new();
    if let Some(connect) = &config.connect {
        upstreams = connector::examine(&mut findings, connect, &config.engine, &args.mcp_path).await;
    }
    public(&mut findings, args, &config, &upstreams).await;
    findings
}

/// Starts one core, which proves its driver on a loopback connection, and ends it.
fn driver(findings: &mut Findings, engine: &EngineConfig) {
    let one = EngineSettings { cores: 1, ..engine.settings() };
    match Cores::start(&one, |_| std::future::ready(())) {
        Ok(cores) => {
            findings.ok("driver", cores.why());
            if let Err(error) = cores.join() {
                findings.fail("driver", error.to_string(), "set engine.driver to epoll");
            }
        }
        Err(error) => findings.fail("driver", error.to_string(), "set engine.driver to auto, or allow what it needs"),
    }
}

/// The whole path from outside, if it is known where that begins.
async fn public(findings: &mut Findings, args: &DoctorArgs, config: &Config, upstreams: &[Upstream]) {
    let set = config.edge.as_ref().and_then(|edge| edge.public_url.as_ref());
    let set = set.map(|url| format!("{}{}", url.as_str().trim_end_matches('/'), args.mcp_path));
    let Some(url) = args.url.clone().or(set) else { return };
    let parsed = Url::parse(&url).ok().and_then(|parsed| Some(parsed.host_str()?.to_owned()));
    let Some(host) = parsed else {
        findings.fail("public.mcp", format!("{url} is no URL"), "write --url https://HOST/PATH, as agents have it");
        return;
    };
    match http_client(args.url_ca_file.as_deref(), |builder| builder) {
        Ok(client) => {
            let near = upstreams.iter().find(|upstream| upstream.host == host);
            let near = near.map(|near| Ear { check: "upstream.sse", client: &near.client, url: &near.url });
            check_public(findings, &client, &PublicUrl { url: &url, host: &host, near: near.as_ref() }).await;
        }
        Err(why) => findings.fail_plainly("public.mcp", why),
    }
}

/// A client that follows nothing, uses no proxy, and believes these authorities, or the well-known ones.
fn http_client(ca_file: Option<&Path>, more: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, String> {
    let redirects = reqwest::redirect::Policy::none();
    let mut builder = Client::builder().redirect(redirects).no_proxy().tcp_nodelay(true).connect_timeout(PATIENCE);
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let certs = Certificate::from_pem_bundle(&pem).map_err(|error| format!("{}: {error}", file.display()))?;
        builder = builder.tls_certs_only(certs);
    }
    more(builder).build().map_err(|error| format!("no HTTP client: {error}"))
}

fn add_faults(findings: &mut Findings, check: &'static str, faults: &Faults) {
    faults.all().iter().for_each(|fault| findings.fail_plainly(check, fault.to_string()));
}

/// What a run would be refused for, as a finding.
fn add_error(findings: &mut Findings, check: &'static str, error: &RunError) {
    match error {
        RunError::Config(faults) => add_faults(findings, check, faults),
        other => findings.fail_plainly(check, other.to_string()),
    }
}
