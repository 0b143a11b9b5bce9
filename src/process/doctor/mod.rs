//! `adit doctor`: checks what a role depends on, step by step, and reports what works, what does not, and how to fix
//! it. It changes nothing.

mod certificate;
mod client;
mod clock;
mod connector_checks;
mod edge_checks;
mod finding;
mod limits;
mod mcp;
mod oauth;
mod otlp;
mod public;
mod reach;
mod stream;

pub use finding::{Finding, Findings, Verdict};

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;

use crate::config::{Config, ConfigErrors, ConnectConfig, EngineConfig, RouteConfig, Sources};
use crate::control::api::Doctor;
use crate::engine::{Cores, EngineSettings};
use crate::process::doctor::client::http_client;
use crate::process::doctor::connector_checks::RouteUpstream;
use crate::process::doctor::public::{PublicEndpoint, check_public};
use crate::process::doctor::stream::EventSource;
use crate::process::on_control_thread;
use crate::process::settings::engine_settings;
use crate::process::source::{LoadedConfig, ReadConfig};
use crate::route::HostPattern;

/// The path of the MCP endpoint of most servers.
pub const MCP_PATH: &str = "/mcp";

/// What to check besides the configuration.
pub struct DoctorOptions {
    /// The URL that agents call; by default that of the configuration.
    pub url: Option<String>,
    /// The authorities (PEM) to trust for that URL, instead of the public ones.
    pub url_ca_file: Option<PathBuf>,
    /// The path of the MCP endpoint of upstreams.
    pub mcp_path: String,
}

/// Checks everything that the roles of a configuration depend on.
pub async fn examine(sources: Result<Sources, ConfigErrors>, options: &DoctorOptions) -> Findings {
    match sources.and_then(|sources| Config::load(&sources)) {
        Ok(config) => examine_config(&config, options).await,
        Err(faults) => {
            let mut findings = Findings::default();
            findings.add_faults("config", &faults);
            findings
        }
    }
}

/// The checks of a running process, for its dashboard. Each run reads the configuration again, as a reload would.
#[must_use]
pub fn doctor(read: ReadConfig) -> Doctor {
    let read = Mutex::new(read);
    Arc::new(move || {
        let loaded = (read.lock().unwrap_or_else(PoisonError::into_inner))();
        examine_loaded(loaded).to_json()
    })
}

/// Examines on a runtime of its own, as its caller's thread has none.
fn examine_loaded(loaded: Result<LoadedConfig, ConfigErrors>) -> Findings {
    let options = DoctorOptions { url: None, url_ca_file: None, mcp_path: MCP_PATH.to_owned() };
    let mut failed = Findings::default();
    match loaded {
        Err(faults) => failed.add_faults("config", &faults),
        Ok(LoadedConfig { config, .. }) => {
            match on_control_thread(async { Ok(examine_config(&config, &options).await) }) {
                Ok(findings) => return findings,
                Err(error) => failed.add_error("config", &error),
            }
        }
    }
    failed
}

async fn examine_config(config: &Config, options: &DoctorOptions) -> Findings {
    let mut findings = Findings::default();
    if config.edge.is_none() && config.connect.is_none() {
        findings.fail("config", "neither an edge nor a connector is configured", "name the file with --config");
        return findings;
    }
    match config.check_files() {
        Ok(()) => findings.ok("config", "nothing is wrong with the settings and their files"),
        Err(faults) => findings.add_faults("config", &faults),
    }
    for warning in &config.warnings {
        findings.warn("config", warning.as_str(), "see docs/CONFIG.md");
    }
    driver(&mut findings, &config.engine);
    if config.edge.is_some() {
        edge_checks::check_edge(&mut findings, config).await;
    }
    let mut upstreams = Vec::new();
    if let Some(connect) = &config.connect {
        upstreams = connector_checks::check_connector(&mut findings, connect, config, &options.mcp_path).await;
    }
    public(&mut findings, options, config, &upstreams).await;
    otlp::check_otlp(&mut findings, &config.otlp).await;
    findings
}

/// Checks whether the connector has a route for the host that agents call.
fn check_route(findings: &mut Findings, connect: &ConnectConfig, host: &str) {
    const CHECK: &str = "public.route";
    let called: Option<HostPattern> = host.parse().ok();
    let is_for = |route: &&RouteConfig| called.is_some_and(|called| route.host.overlaps(&called));
    match connect.routes.iter().find(is_for) {
        Some(route) => findings.ok(CHECK, format!("calls for {host} go to {}", route.upstream)),
        None => {
            let hosts: Vec<String> = connect.routes.iter().map(|route| route.host.to_string()).collect();
            let found = format!("no route of this connector is for {host}; its routes are for {}", hosts.join(", "));
            findings.fail(CHECK, found, "add a route for it, or call one of these hosts");
        }
    }
}

/// Starts one core, which tests its driver on a loopback connection, and ends it.
fn driver(findings: &mut Findings, engine: &EngineConfig) {
    let one = EngineSettings { cores: 1, ..engine_settings(engine) };
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

/// Checks the whole path from outside, if its URL is known.
async fn public(findings: &mut Findings, options: &DoctorOptions, config: &Config, upstreams: &[RouteUpstream]) {
    let set = config.edge.as_ref().and_then(|edge| edge.public_url.as_ref());
    let set = set.map(|url| format!("{}{}", url.as_str().trim_end_matches('/'), options.mcp_path));
    let Some(url) = options.url.clone().or(set) else { return };
    let parsed = Url::parse(&url).ok().and_then(|parsed| Some(parsed.host_str()?.to_owned()));
    let Some(host) = parsed else {
        findings.fail(
            "public.mcp",
            format!("{url} is not a URL"),
            "give the URL that agents use: --url https://HOST/PATH",
        );
        return;
    };
    if let Some(connect) = &config.connect {
        check_route(findings, connect, &host);
    }
    match http_client(options.url_ca_file.as_deref(), |builder| builder) {
        Ok(client) => {
            let near = upstreams.iter().find(|upstream| upstream.host == host);
            let near = near.map(|near| EventSource { check: "upstream.sse", client: &near.client, url: &near.url });
            check_public(findings, &client, &PublicEndpoint { url: &url, host: &host, near: near.as_ref() }).await;
        }
        Err(why) => findings.fail_without_remedy("public.mcp", why),
    }
}
