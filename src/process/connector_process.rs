//! A process with the connector role.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::base::{Traffic, TunnelId, shell_word};
use crate::config::{Config, ConnectConfig};
use crate::connector::{Connector, ConnectorEvent, ConnectorSettings, ConnectorTables};
use crate::control::api::{Access, AdminToken, Doctor};
use crate::control::audit::AuditWriter;
use crate::control::otlp::RunningExport;
use crate::control::{
    ApprovalDesk, ConnectorRole, Control, ControlParts, DRAIN_GRACE, Instance, Inventories, Notice, ProcessFacts,
    ProcessRequest, ReloadFn, Reloaded, RoleKind, ServiceManager, State, StateDir, forward_events_with, serve_resolves,
    signals,
};
use crate::dial::{ResolveRequest, Resolver, resolver};
use crate::engine::{Core, Cores, MailReceiver, MailSender, mailbox};
use crate::process::approval_file::ApprovalFile;
use crate::process::approval_webhook::{ApprovalNotices, approval_notices};
use crate::process::audit::{log_of, open_audit_dir, start_audit};
use crate::process::edge_process::EVENTS_MAX;
use crate::process::error::RunError;
use crate::process::facts::facts;
use crate::process::listen::{admin_url, listen_admin, serve_admin_if};
use crate::process::log::Log;
use crate::process::provision::provision;
use crate::process::quota_file::QuotaFile;
use crate::process::random::random_number;
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::{
    UpstreamTrust, admin_token, connector_settings, connector_tables, credentials, edge_addresses, edge_roots,
    engine_settings, open_state_dir, seal_ca, sealing,
};
use crate::process::source::{LoadedConfig, ReadConfig, connect_of};
use crate::process::telemetry::Telemetry;
use crate::route::RouteName;
use crate::tls::CallerAuthorities;

/// How often the configuration is read again by itself, so that certificates for sealed routes stay fresh.
const RESEAL_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// A connector whose cores are running.
pub struct ConnectorProcess {
    facts: ProcessFacts,
    edges: Vec<String>,
    hosts: Vec<String>,
    control: Control,
    state: Arc<State>,
    cores: Cores,
    admin: Option<AbortOnDrop>,
    audit: Option<AuditWriter>,
    quotas: QuotaFile,
    approvals: ApprovalFile,
    telemetry: Option<RunningExport>,
    /// Holds the instance number, and its lock, until the process ends.
    _instance: Option<Instance>,
    /// Keeps what is known of tools.
    _keeper: AbortOnDrop,
}

impl ConnectorProcess {
    /// Starts a connector; its cores begin to dial. `read` reads the configuration again for a reload, `doctor` is
    /// run for the dashboard, and `notify` is called for every event.
    ///
    /// # Errors
    ///
    /// Whatever prevents the connector from running.
    pub async fn start(
        LoadedConfig { config, files }: LoadedConfig,
        read: ReadConfig,
        log: Log,
        doctor: Doctor,
        notify: impl FnMut(&Notice) + Send + 'static,
    ) -> Result<ConnectorProcess, RunError> {
        let connect_config = connect_of(&config)?;
        let engine = engine_settings(&config.engine);
        provision(connect_config, &engine).await?;
        let credentials = credentials(connect_config)?;
        let roots = edge_roots(connect_config, &credentials.secret)?;
        let mut settings = connector_settings(connect_config, edge_addresses(connect_config), roots, credentials)?;
        let state_dir = open_state_dir(connect_config)?;
        let audit = start_audit(&config)?;
        settings.audit = log_of(audit.as_ref());
        let telemetry = Telemetry::of(&config, &[RoleKind::Connector])?;
        settings.traces = telemetry.traces_of(RoleKind::Connector);

        let core_count = engine.core_count();
        let callers = settings.edge_tls.as_ref().map(|tls| Arc::clone(tls.callers())).unwrap_or_default();
        let instance = instance(state_dir.as_ref())?;
        let is_holder = instance.as_ref().is_some_and(Instance::is_holder);
        if state_dir.is_some() && !is_holder {
            tracing::warn!(
                "another process uses state_dir, or it cannot be locked: what this one learns about tools, the calls that it counts \
                 and those that are approved are forgotten when it ends; give it a directory of its own"
            );
        }
        // Two processes would overwrite what the other one keeps.
        let state_path = connect_config.state_dir.as_ref().map(|dir| &*dir.0).filter(|_| is_holder);
        let inventories = Inventories::open(state_path)?;
        inventories.record_in(log_of(audit.as_ref()));
        let mut tables = ConnectorReload { core_count, callers, trust: UpstreamTrust::default(), is_holder };
        tables.trust.policies.inventories = Arc::clone(&inventories);
        let quotas = QuotaFile::open(state_path, tables.trust.policies.quotas());
        let ApprovalNotices { webhook, links, counts } = approval_notices(&config, state_path)?;
        let approvals = ApprovalFile::open(state_path, tables.trust.policies.approvals(), &counts);
        let number = instance.as_ref().map_or_else(random_number, |instance| Ok(instance.number))?;
        let prepared = PreparedConnector::new(settings, tables.read(&config)?, core_count, number);
        let admin = listen_admin(connect_config.admin_listen)?;
        let desk = ApprovalDesk::new(tables.trust.policies.approvals(), log_of(audit.as_ref()));
        let access = admin_token(connect_config)?.map(|token| Access {
            tunnels: None,
            approvals: desk,
            links,
            token: AdminToken::new(&token),
            audit_dir: open_audit_dir(&config),
            doctor: Some(doctor),
        });
        let requests = signals(ProcessRequest::Reload, seal_ca(connect_config).map(|_| RESEAL_INTERVAL))
            .map_err(RunError::io("signals cannot be received"))?;

        let cores = Cores::start(&engine, prepared.on_core())?;
        tables.trust.policies.put_in_force();
        let PreparedConnector { connector, events: connector_events, resolves, .. } = prepared;
        let facts = ProcessFacts { admin_url: admin_url(admin.as_ref()), ..facts(&cores) };
        let role = ConnectorRole::new(Arc::clone(&connector), core_count, connector.tunnel().to_string());
        let state = State::new(facts.clone(), vec![Arc::new(role)], None);
        tokio::spawn(serve_resolves(resolves));
        state.show_tools(&inventories);
        state.show_approvals(&counts);
        let keeper = AbortOnDrop(tokio::spawn(inventories.keep()));
        tokio::spawn(quotas.clone().keep());
        tokio::spawn(approvals.clone().keep());
        if let Some(webhook) = webhook {
            tokio::spawn(webhook.keep(Arc::clone(tables.trust.policies.approvals())));
        }

        let (sender, events) = mpsc::unbounded_channel();
        let keep = move |event: &ConnectorEvent| keep_certificate(state_dir.as_ref(), event);
        forward_events_with(RoleKind::Connector, connector_events, sender, keep);
        let parts = ControlParts {
            state: Arc::clone(&state),
            roles: vec![(RoleKind::Connector, core_count)],
            events,
            requests,
            drain_max: Duration::from(connect_config.drain_timeout_ms) + DRAIN_GRACE,
        };
        log_start(&facts, connect_config, connector.tunnel());
        let edges = connect_config.edge.iter().map(ToString::to_string).collect();
        let hosts = connect_config.routes.iter().map(|route| route.host.to_string()).collect();
        let reload = tables.into_reload(config, connector, read, log);
        let control = Control::new(parts).with_notices(notify).with_reload(reload, files);
        let admin = serve_admin_if(admin, Arc::clone(&state), access)?;
        let telemetry = telemetry.start(&state);
        Ok(ConnectorProcess {
            facts,
            edges,
            hosts,
            control,
            state,
            cores,
            admin,
            audit,
            quotas,
            approvals,
            telemetry,
            _instance: instance,
            _keeper: keeper,
        })
    }

    /// Facts about the process: where its admin API listens, and its driver.
    #[must_use]
    pub fn facts(&self) -> &ProcessFacts {
        &self.facts
    }

    /// The edges that the connector dials.
    #[must_use]
    pub fn edges(&self) -> &[String] {
        &self.edges
    }

    /// The hosts of its routes, as they were at the start.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Runs until the connector was told to end and has ended. The service manager is told what happens.
    ///
    /// # Errors
    ///
    /// If a core failed, or did not end in time.
    pub async fn run(mut self, service_manager: &Arc<ServiceManager>) -> Result<(), RunError> {
        self.control.set_service_manager(service_manager);
        let _kept = AbortOnDrop(tokio::spawn(Arc::clone(service_manager).keep(self.state)));
        self.control.run(std::future::pending()).await?;
        drop(self.admin);
        self.cores.join().map_err(RunError::io("a core failed"))?;
        if let Some(telemetry) = self.telemetry {
            telemetry.finish().await;
        }
        if let Some(audit) = self.audit {
            audit.close();
        }
        self.quotas.save();
        self.approvals.save();
        tracing::info!("ended");
        Ok(())
    }
}

/// A connector whose cores are not started yet.
pub(super) struct PreparedConnector {
    pub(super) connector: Arc<Connector>,
    pub(super) events: MailReceiver<ConnectorEvent>,
    pub(super) resolves: MailReceiver<ResolveRequest>,
    resolve: MailSender<ResolveRequest>,
}

/// The future that runs on a core.
pub(super) type OnCore = Pin<Box<dyn Future<Output = ()>>>;

impl PreparedConnector {
    /// Prepares a connector. Edges know it by the number `instance`.
    pub(super) fn new(
        settings: ConnectorSettings,
        tables: ConnectorTables,
        cores: usize,
        instance: u64,
    ) -> PreparedConnector {
        let (sender, events) = mailbox(EVENTS_MAX);
        let connector = Connector::new(settings, tables, cores, instance, &sender);
        let (resolve, resolves) = resolver();
        PreparedConnector { connector, events, resolves, resolve }
    }

    /// The function that starts the connector on each core.
    pub(super) fn on_core(&self) -> impl Fn(Core) -> OnCore + Clone + Send + 'static {
        let (connector, resolve) = (Arc::clone(&self.connector), self.resolve.clone());
        move |core| {
            let (connector, resolve) = (Arc::clone(&connector), Resolver::Control(resolve.clone()));
            Box::pin(connector.run(core, resolve)) as OnCore
        }
    }
}

/// The state that is kept between two readings of the tables.
struct ConnectorReload {
    core_count: usize,
    trust: UpstreamTrust,
    callers: Arc<CallerAuthorities>,
    /// Whether what is approved can be kept.
    is_holder: bool,
}

impl ConnectorReload {
    fn read(&mut self, config: &Config) -> Result<ConnectorTables, RunError> {
        self.trust.policies.begin(&config.identity)?;
        let config = connect_of(config)?;
        let sealing = sealing(config, &self.callers)?;
        let tables = connector_tables(config, self.core_count, &mut self.trust, RouteName::of_host)?;
        if !self.is_holder && self.trust.policies.has_quarantine() {
            return Err(RunError::Other(
                "pin = \"quarantine\" needs a state_dir that no other process uses, because approvals are kept in it: give this \
                 connector a directory of its own"
                    .to_owned(),
            ));
        }
        Ok(ConnectorTables { sealing, ..tables })
    }

    /// Reads everything first, and replaces parts only if all of it is valid.
    fn into_reload(mut self, started: Config, connector: Arc<Connector>, mut read: ReadConfig, log: Log) -> ReloadFn {
        Box::new(move || {
            let LoadedConfig { config, files } = read().map_err(|faults| faults.to_string())?;
            let tables = self.read(&config).map_err(|error| error.to_string())?;
            self.trust.policies.put_in_force();
            connector.reload(tables);
            log.set_levels(&config.log.level);
            let restart_needed = Config::restart_needed(&started, &config);
            Ok(Reloaded { restart_needed, files: files.into_iter().collect() })
        })
    }
}

/// The number that the state directory keeps; `None` without such a directory, or if the number cannot be kept.
fn instance(dir: Option<&StateDir>) -> Result<Option<Instance>, RunError> {
    let Some(dir) = dir else { return Ok(None) };
    let host = rustix::system::uname();
    let kept = dir.instance(&host.nodename().to_string_lossy(), random_number()?);
    Ok(kept
        .inspect_err(|error| tracing::warn!(%error, "after a restart, edges will not recognize this connector"))
        .ok())
}

/// Stores a certificate that an edge issued, if the connector has a state directory.
fn keep_certificate(dir: Option<&StateDir>, event: &ConnectorEvent) {
    let (Some(dir), ConnectorEvent::Certified { edge, identity, .. }) = (dir, event) else { return };
    if let Err(error) = dir.keep(edge, identity) {
        tracing::warn!(%edge, %error, "the certificate cannot be kept; it is valid as long as this process runs");
    }
}

fn log_start(facts: &ProcessFacts, config: &ConnectConfig, tunnel: &TunnelId) {
    let edges: Vec<String> = config.edge.iter().map(ToString::to_string).collect();
    tracing::info!("driver: {}", facts.driver_why);
    tracing::info!("tunnel {tunnel} to {}", edges.join(", "));
    for (edge, proxy) in config.edge.iter().filter_map(|edge| Some((edge, config.proxy_for(edge)?))) {
        tracing::info!("the edge {edge} is reached through the proxy {proxy}");
    }
    for route in &config.routes {
        let readers = readers(config.traffic_of(route));
        tracing::info!("calls for {} go to {}, {readers}", route.host, route.upstream);
    }
    if let Some(file) = seal_ca(config) {
        tracing::info!("the authority for sealed routes is {}", file.display());
        if config.routes.iter().any(|route| config.traffic_of(route) == Traffic::Resealed) {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let name = shell_word(&name);
            tracing::info!("copy it to the edge's host and register it there: `adit tunnel cert add {tunnel} {name}`");
        }
    }
    match &facts.admin_url {
        Some(url) => tracing::info!("admin API at {url}"),
        None => tracing::info!("no admin API: admin_listen is off"),
    }
}

/// Says who can read calls of this traffic.
fn readers(traffic: Traffic) -> &'static str {
    match traffic {
        Traffic::Plain => "plain: the edge and its operator can read them",
        Traffic::Resealed => "resealed: the edge can read them, and nothing between it and this connector",
        Traffic::Passthrough => "passthrough: only the agent and this connector can read them",
    }
}
