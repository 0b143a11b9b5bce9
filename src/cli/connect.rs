//! `adit connect`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use crate::base::{Traffic, TunnelId};
use crate::cli::announce::Announcer;
use crate::cli::args::ConnectArgs;
use crate::cli::edge::EVENTS_MAX;
use crate::cli::log::Log;
use crate::cli::provision::provision;
use crate::cli::run::{
    RunError, admin_url, facts, instance, listen_admin, log_warnings, on_control_thread, refuse, serve_admin_if,
};
use crate::config::{Config, ConnectConfig, Faults, IdentityDir, UpstreamTrust};
use crate::connector::{Connector, ConnectorEvent, ConnectorSettings, ConnectorTables};
use crate::control::{
    ConnectorRole, Control, ControlParts, DRAIN_GRACE, Facts, Reload, Reloaded, Request, RoleKind, State,
    forward_events_after, serve_resolves, signals,
};
use crate::engine::{Core, Cores, MailReceiver, MailSender, mailbox};
use crate::tls::CallerAuthorities;
use crate::upstream::{ResolveRequest, Resolver, resolver};

/// How often the configuration is read again without being asked, so that certificates for sealed routes stay fresh.
const RESEAL_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Runs `adit connect` until it is told to end, and gives back the exit code.
#[must_use]
pub fn run_connect(args: ConnectArgs, env: &BTreeMap<String, String>) -> u8 {
    let source = ConfigSource { args, env: env.clone() };
    let (config, files) = match source.load() {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults.into()),
    };
    let log = Log::start(&config.log);
    log_warnings(&config);
    on_control_thread(connect(source, config, files, log))
}

async fn connect(source: ConfigSource, config: Config, files: Vec<PathBuf>, log: Log) -> Result<u8, RunError> {
    let announcer = Announcer::new(source.args.json);
    let connect_config = connect_of(&config)?;
    let engine = config.engine.settings();
    let count = engine.core_count();
    provision(connect_config, &engine).await?;
    let credentials = connect_config.credentials()?;
    let roots = connect_config.edge_roots(&credentials.secret)?;
    let settings = connect_config.settings(connect_config.edge_addresses(), roots, credentials)?;
    let identities = connect_config.identity_dir()?;
    let mut trust = UpstreamTrust::default();
    let callers = settings.edge_tls.as_ref().map(|tls| Arc::clone(tls.callers())).unwrap_or_default();
    let sealing = connect_config.sealing(&callers)?;
    let tables = ConnectorTables { sealing, ..connect_config.tables(count, &mut trust)? };
    let ready = ReadyConnector::new(settings, tables, count)?;
    let admin = listen_admin(connect_config.admin_listen)?;
    let requests = signals(Request::Reload, connect_config.seal_ca().map(|_| RESEAL_INTERVAL))
        .map_err(RunError::io("signals cannot be received"))?;

    let cores = Cores::start(&engine, ready.on_core())?;
    let facts = Facts { admin_url: admin_url(admin.as_ref()), ..facts(&cores) };
    let role = Arc::new(ConnectorRole::new(Arc::clone(&ready.connector), count, ready.connector.tunnel().to_string()));
    let state = State::new(facts.clone(), vec![role], None);
    let (sender, events) = mpsc::unbounded_channel();
    forward_events_after(RoleKind::Connector, ready.events, sender, move |event| keep(identities.as_ref(), event));
    tokio::spawn(serve_resolves(ready.resolves));
    let reload = reload(source, config.clone(), Arc::clone(&ready.connector), (count, trust, callers), log);
    let mut control = Control::new(ControlParts {
        state: Arc::clone(&state),
        roles: vec![(RoleKind::Connector, count)],
        events,
        requests,
        drain_max: Duration::from(connect_config.drain_timeout_ms) + DRAIN_GRACE,
    })
    .with_notices(move |notice| announcer.notice(notice))
    .with_reload(reload, files);
    let admin = serve_admin_if(admin, state, None)?;
    announce(&facts, connect_config, ready.connector.tunnel(), announcer);
    control.run(std::future::pending()).await?;
    drop(admin);
    cores.join().map_err(RunError::io("a core broke"))?;
    tracing::info!("ended");
    announcer.event("ended", json!({}));
    Ok(0)
}

/// A connector whose cores are still to start.
pub(super) struct ReadyConnector {
    pub(super) connector: Arc<Connector>,
    pub(super) events: MailReceiver<ConnectorEvent>,
    pub(super) resolves: MailReceiver<ResolveRequest>,
    resolve: MailSender<ResolveRequest>,
}

impl ReadyConnector {
    pub(super) fn new(
        settings: ConnectorSettings,
        tables: ConnectorTables,
        cores: usize,
    ) -> Result<ReadyConnector, RunError> {
        let (sender, events) = mailbox(EVENTS_MAX);
        let connector = Connector::new(settings, tables, cores, instance()?, &sender);
        let (resolve, resolves) = resolver();
        Ok(ReadyConnector { connector, events, resolves, resolve })
    }

    /// What each core does.
    pub(super) fn on_core(&self) -> impl Fn(Core) -> OnCore + Clone + Send + 'static {
        let (connector, resolve) = (Arc::clone(&self.connector), self.resolve.clone());
        move |core| {
            let (connector, resolve) = (Arc::clone(&connector), Resolver::Control(resolve.clone()));
            Box::pin(connector.run(core, resolve)) as OnCore
        }
    }
}

/// Keeps a certificate that an edge gave, if it is to be kept.
fn keep(identities: Option<&IdentityDir>, event: &ConnectorEvent) {
    let (Some(dir), ConnectorEvent::Certified { edge, identity, .. }) = (identities, event) else { return };
    if let Err(error) = dir.keep(edge, identity) {
        tracing::warn!(%edge, %error, "the certificate cannot be kept; it is good as long as this process runs");
    }
}

/// What runs on a core.
pub(super) type OnCore = Pin<Box<dyn Future<Output = ()>>>;

/// Who can read what is carried so.
fn readable(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Plain => "plain: the edge and whoever runs it can read them",
        Traffic::Resealed => "resealed: the edge can read them, and nothing between it and here",
        Traffic::Passthrough => "passthrough: only the agent and this connector can read them",
    }
}

fn announce(facts: &Facts, config: &ConnectConfig, tunnel: &TunnelId, announcer: Announcer) {
    let edges: Vec<String> = config.edge.iter().map(ToString::to_string).collect();
    tracing::info!("driver: {}", facts.driver_why);
    tracing::info!("tunnel {tunnel} to {}", edges.join(", "));
    for route in &config.routes {
        let traffic = config.traffic_of(route);
        tracing::info!("calls for {} go to {}, {}", route.host, route.upstream, readable(traffic));
    }
    if let Some(file) = config.seal_ca() {
        let file = file.display();
        tracing::info!("sealed routes are vouched for by {file}");
        if config.routes.iter().any(|route| config.traffic_of(route) == Traffic::Resealed) {
            tracing::info!("it must be registered at the edge: adit tunnel cert add {tunnel} {file}");
        }
    }
    tracing::info!("admin API at {}", facts.admin_url.as_deref().unwrap_or("nowhere"));
    let admin = facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://"));
    announcer
        .event("started", json!({ "edges": edges, "admin": admin, "driver": facts.driver, "why": facts.driver_why }));
}

/// What the configuration is read from, again and again.
struct ConfigSource {
    args: ConnectArgs,
    env: BTreeMap<String, String>,
}

impl ConfigSource {
    /// The configuration and the files to watch.
    fn load(&self) -> Result<(Config, Vec<PathBuf>), Faults> {
        let sources = self.args.sources(&self.env)?;
        let config = Config::load(&sources)?;
        config.check_files()?;
        let files = config.watched_files().chain(sources.file.map(|file| file.path)).collect();
        Ok((config, files))
    }
}

/// Reads everything first, and changes something only when all of it is good.
fn reload(
    source: ConfigSource,
    started: Config,
    connector: Arc<Connector>,
    (cores, mut trust, callers): (usize, UpstreamTrust, Arc<CallerAuthorities>),
    log: Log,
) -> Reload {
    Box::new(move || {
        let (config, files) = source.load().map_err(|faults| faults.to_string())?;
        let connect_config = connect_of(&config).map_err(|error| error.to_string())?;
        let tables = connect_config.tables(cores, &mut trust).map_err(|faults| faults.to_string())?;
        let sealing = connect_config.sealing(&callers).map_err(|faults| faults.to_string())?;
        connector.reload(ConnectorTables { sealing, ..tables });
        log.set_levels(&config.log.level);
        Ok(Reloaded { restart_needed: Config::restart_needed(&started, &config), files })
    })
}

fn connect_of(config: &Config) -> Result<&ConnectConfig, RunError> {
    config.connect.as_ref().ok_or_else(|| RunError::Other("the configuration has no connector".to_owned()))
}
