//! A process with both roles on the same cores, and certificates that are valid only while it runs.

use std::future::Future;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::zip;
use rustls_pki_types::UnixTime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, ConnectConfig, EdgeConfig};
use crate::connector::EdgeAddress;
use crate::control::audit::AuditWriter;
use crate::control::otlp::RunningExport;
use crate::control::{
    ConnectorRole, Control, ControlParts, DRAIN_GRACE, EdgeRole, Notice, OnceClient, OnceReport, ProcessFacts,
    ProcessRequest, Report, Role, RoleEvent, RoleKind, State, forward_events, reachable, serve_resolves, signals,
};
use crate::engine::{Cores, EngineSettings, LocalEntry, Reservation};
use crate::latency::TraceQueue;
use crate::policy::PinMode;
use crate::process::audit::{log_of, start_audit};
use crate::process::ca_file::CaFile;
use crate::process::connector_process::PreparedConnector;
use crate::process::demo_server::DemoServer;
use crate::process::edge_identity::EdgeTlsIdentity;
use crate::process::edge_process::{BoundEdge, prober, serve_certifying};
use crate::process::error::RunError;
use crate::process::facts::facts;
use crate::process::listen::{admin_url, listen_admin, serve_admin_if};
use crate::process::random::random_number;
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::{
    AdmissionReader, CallerReader, PolicyReader, UpstreamTrust, child_of, connector_settings, connector_tables,
    credentials, edge_tables, engine_settings,
};
use crate::process::source::{connect_of, edge_of};
use crate::process::telemetry::Telemetry;
use crate::route::{HostPattern, RouteName};
use crate::serve::AuditLog;
use crate::tls::{Authority, CertSet, ReloadingCerts, Roots};

/// How long a measurement waits for the link.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a measurement waits until its last call is counted.
const COUNTED_TIMEOUT: Duration = Duration::from_secs(10);
const COUNTED_INTERVAL: Duration = Duration::from_millis(10);
/// The variable that tells Node.js which authorities to trust besides the public ones.
pub const NODE_CERTS_ENV: &str = "NODE_EXTRA_CA_CERTS";
/// The most bytes that are read from the file that the variable already names.
const NODE_CERTS_LEN_MAX: u64 = 1 << 20;
/// How long the certificates are valid, in days.
const VALID_DAYS: u32 = 7;

/// Edge and connector, running in one process.
pub struct UpProcess {
    handle: UpHandle,
    control: Control,
    cores: Cores,
    admin: Option<AbortOnDrop>,
    audit: Option<AuditWriter>,
    telemetry: Option<RunningExport>,
    _listeners: [Reservation; 2],
    _demo: Option<AbortOnDrop>,
    /// Fetch the keys of identity providers for as long as the process runs.
    _callers: [CallerReader; 2],
}

/// What a session beside the running roles uses.
#[derive(Clone)]
pub struct UpHandle {
    facts: ProcessFacts,
    agents: SocketAddr,
    state: Arc<State>,
    linked: watch::Receiver<bool>,
    authority: Arc<Authority>,
}

/// The result of measuring calls through the tunnel.
pub struct Measured {
    /// How many calls were made, and how many of them failed.
    pub calls: OnceReport,
    /// The tool that was called.
    pub tool: String,
    /// A report that includes all of these calls.
    pub report: Report,
}

impl UpProcess {
    /// Starts both roles. On return every core of the edge listens. `path` is the path of the agents' URL, and `notify`
    /// is called for every event.
    ///
    /// # Errors
    ///
    /// Whatever prevents a role from running.
    pub async fn start(
        config: &Config,
        path: &str,
        demo: Option<DemoServer>,
        mut notify: impl FnMut(&Notice) + Send + 'static,
    ) -> Result<UpProcess, RunError> {
        // Closing the terminal ends the process.
        let requests = signals(ProcessRequest::End, None).map_err(RunError::io("signals cannot be received"))?;
        let demo = demo.map(DemoServer::serve).transpose()?;
        let (edge_config, connect_config) = (edge_of(config)?, connect_of(config)?);
        // Whoever runs this by hand learns of a wrong command at once.
        for route in connect_config.routes.iter().filter(|route| route.upstream.is_stdio()) {
            child_of(route, &RouteName::of_host(&route.host)).find().map_err(RunError::Other)?;
        }
        let engine = shared_engine(config);
        let core_count = engine.core_count();
        let host = agents_host(edge_config)?;
        let name = RouteName::of_host(&host);

        let (authority, certs) = temporary_certificates(edge_config)?;
        let authority = Arc::new(authority);
        let identity = EdgeTlsIdentity::temporary(certs, Arc::clone(&authority));
        refuse_pins(edge_config, connect_config)?;
        if config.approvals.webhook_url.is_some() {
            let why = "with `adit up` nobody can approve a call: remove `approvals.webhook_url`, or use `adit edge` and `adit connect`";
            return Err(RunError::Other(why.to_owned()));
        }
        let telemetry = Telemetry::of(config, &[RoleKind::Edge, RoleKind::Connector])?;
        let (mut policies, mut trust) = (PolicyReader::default(), UpstreamTrust::default());
        policies.begin(&config.identity)?;
        trust.policies.begin(&config.identity)?;
        let admission = AdmissionReader::default().read(config)?;
        let tables = edge_tables(edge_config, admission, &mut policies, |_| name.clone())?;
        let audit = start_audit(config)?;
        let log = || log_of(audit.as_ref());
        let records = (log(), telemetry.traces_of(RoleKind::Edge));
        // A command is on this machine in any case, so its calls need no connection of the system between the roles. With another
        // server they have one, as with two hosts, so that its time is measured.
        let is_command = connect_config.routes.iter().all(|route| route.upstream.is_stdio());
        let local: Option<Arc<[LocalEntry]>> =
            is_command.then(|| (0..core_count).map(|_| LocalEntry::default()).collect());
        let bound = BoundEdge::bind(edge_config, core_count, &identity, tables, records, local.clone()).await?;
        let prepared = prepare_connector(
            (log(), telemetry.traces_of(RoleKind::Connector)),
            connect_config,
            (core_count, &mut trust),
            &name,
            &authority,
            (bound.connectors.address(), local),
        )?;
        policies.put_in_force();
        trust.policies.put_in_force();
        let admin = listen_admin(edge_config.admin_listen)?;

        let (on_edge, on_connector) = (Arc::clone(&bound.edge), prepared.on_core());
        let cores = Cores::start(&engine, move |core| {
            let both = zip(Arc::clone(&on_edge).run(core.clone()), on_connector(core));
            async move {
                both.await;
            }
        })?;
        let agents = bound.agents.address();
        let facts = ProcessFacts {
            agent_url: Some(agent_url(&host, agents.port(), path)),
            plain_agent_url: plain_agent_url(agents, path),
            connectors_listen: Some(bound.connectors.address().to_string()),
            admin_url: admin_url(admin.as_ref()),
            ..facts(&cores)
        };
        let tunnel = prepared.connector.tunnel().to_string();
        let roles: Vec<Arc<dyn Role>> = vec![
            Arc::new(EdgeRole::new(Arc::clone(&bound.edge), core_count)),
            Arc::new(ConnectorRole::new(Arc::clone(&prepared.connector), core_count, tunnel)),
        ];
        let state = State::new(facts.clone(), roles, Some(prober(agents, true)?));
        tokio::spawn(serve_resolves(prepared.resolves));
        serve_certifying(bound.certify_requests, edge_config, &identity, None);

        let (sender, events) = mpsc::unbounded_channel();
        forward_events(RoleKind::Edge, bound.events, sender.clone());
        forward_events(RoleKind::Connector, prepared.events, sender);
        let drain_ms = edge_config.drain_timeout_ms.0 + connect_config.drain_timeout_ms.0;
        let parts = ControlParts {
            state: Arc::clone(&state),
            roles: vec![(RoleKind::Edge, cores.count()), (RoleKind::Connector, cores.count())],
            events,
            requests,
            drain_max: Duration::from_millis(drain_ms) + DRAIN_GRACE,
        };
        let (link_up, linked) = watch::channel(false);
        let mut control = Control::new(parts).with_notices(move |notice| {
            if matches!(notice, Notice::Role(RoleKind::Edge, RoleEvent::Linked { .. })) {
                link_up.send_replace(true);
            }
            notify(notice);
        });
        control.started().await?;
        let admin = serve_admin_if(admin, Arc::clone(&state), None)?;
        let telemetry = telemetry.start(&state);
        tracing::info!("driver: {}", facts.driver_why);
        let handle = UpHandle { facts, agents, state, linked, authority };
        let listeners = [bound.agents, bound.connectors];
        let callers = [policies.callers, trust.policies.callers];
        Ok(UpProcess {
            handle,
            control,
            cores,
            admin,
            audit,
            telemetry,
            _listeners: listeners,
            _demo: demo,
            _callers: callers,
        })
    }

    /// A handle for a session beside the roles.
    #[must_use]
    pub fn handle(&self) -> UpHandle {
        self.handle.clone()
    }

    /// Runs until the session ends or the roles were told to end; each ends the other. Returns the session's result, if
    /// it was completed.
    ///
    /// # Errors
    ///
    /// Those of the session, or if a core failed or did not end in time.
    pub async fn run_beside<T>(
        mut self,
        session: impl Future<Output = Result<T, RunError>>,
    ) -> Result<Option<T>, RunError> {
        let result = run_beside(&mut self.control, session).await?;
        drop(self.admin);
        self.cores.join().map_err(RunError::io("a core failed"))?;
        if let Some(telemetry) = self.telemetry {
            telemetry.finish().await;
        }
        if let Some(audit) = self.audit {
            audit.close();
        }
        Ok(result)
    }
}

impl UpHandle {
    /// Facts about the process: where it listens, and its driver.
    #[must_use]
    pub fn facts(&self) -> &ProcessFacts {
        &self.facts
    }

    /// The address that agents connect to.
    #[must_use]
    pub fn agents(&self) -> SocketAddr {
        self.agents
    }

    /// The state and the figures of both roles.
    pub async fn report(&self) -> Report {
        self.state.report().await
    }

    /// Makes this many MCP calls, one after the other, as an agent would.
    ///
    /// # Errors
    ///
    /// If there is no link, or no MCP session.
    pub async fn measure(&self, calls: u64, counted: impl Fn(&Report) -> u64) -> Result<Measured, RunError> {
        let mut linked = self.linked.clone();
        let seen = tokio::time::timeout(LINK_TIMEOUT, linked.wait_for(|linked| *linked)).await;
        if !matches!(seen, Ok(Ok(_))) {
            return Err(RunError::Other("the connector did not reach the edge; the log says why".to_owned()));
        }
        let url = self.facts.agent_url.as_deref().unwrap_or_default();
        let client = OnceClient::connect(url, Some(self.authority.cert_pem()), Some(reachable(self.agents))).await;
        let client = client.map_err(|error| RunError::Other(error.to_string()))?;
        let calls = client.run(calls, 1).await;
        let tool = client.tool().to_owned();
        client.close().await;
        let good = calls.calls - calls.failed;
        let report = self.report_with(|report| counted(report) >= good).await;
        Ok(Measured { calls, tool, report })
    }

    /// Writes the authority's certificate to a file for Node.js clients, and removes the files of killed processes.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write_ca_file(&self) -> Result<CaFile, RunError> {
        let pem = format!("{}{}", self.authority.cert_pem(), node_extra_certs());
        let parent = std::env::temp_dir();
        CaFile::remove_abandoned(&parent);
        let file = CaFile::write(&parent, random_number()?, &pem);
        file.map_err(RunError::io("the authority's certificate cannot be written"))
    }

    /// Waits for a report that `is_complete`, because a call is counted a moment after its last byte was sent.
    async fn report_with(&self, is_complete: impl Fn(&Report) -> bool) -> Report {
        let complete = async {
            loop {
                let report = self.report().await;
                if is_complete(&report) {
                    break report;
                }
                tokio::time::sleep(COUNTED_INTERVAL).await;
            }
        };
        match tokio::time::timeout(COUNTED_TIMEOUT, complete).await {
            Ok(report) => report,
            Err(_) => self.report().await,
        }
    }
}

/// Prepares a connector that trusts only this authority and dials this edge.
fn prepare_connector(
    (audit, traces): (Option<AuditLog>, Option<Arc<TraceQueue>>),
    config: &ConnectConfig,
    (core_count, trust): (usize, &mut UpstreamTrust),
    name: &RouteName,
    authority: &Authority,
    (edge, local): (SocketAddr, Option<Arc<[LocalEntry]>>),
) -> Result<PreparedConnector, RunError> {
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone())?;
    let edge = EdgeAddress { host: edge.ip().to_string().into(), port: edge.port() };
    let mut settings = connector_settings(config, vec![edge], roots, credentials(config)?)?;
    (settings.audit, settings.traces, settings.local_edge) = (audit, traces, local);
    let tables = connector_tables(config, core_count, trust, |_| name.clone())?;
    Ok(PreparedConnector::new(settings, tables, core_count, random_number()?))
}

async fn run_beside<T>(
    control: &mut Control,
    session: impl Future<Output = Result<T, RunError>>,
) -> Result<Option<T>, RunError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut ending = pin!(control.run(async {
        // Returns when stopped, or when the handle that could stop it is gone.
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = &mut ending => {
            ended?;
            Ok(None)
        }
        result = session => {
            drop(stop);
            ending.await?;
            result.map(Some)
        }
    }
}

/// Both roles share the cores. By default, half of the CPUs is left to agent and server.
fn shared_engine(config: &Config) -> EngineSettings {
    let mut engine = engine_settings(&config.engine);
    if engine.cores == 0 {
        engine.cores = (engine.core_count() / 2).max(1);
    }
    engine
}

/// The host in the agents' URL.
fn agents_host(config: &EdgeConfig) -> Result<HostPattern, RunError> {
    let host = config.tunnels.first().and_then(|tunnel| tunnel.hosts.first()).copied();
    host.ok_or_else(|| RunError::Other("the configuration has no host".to_owned()))
}

fn agent_url(host: &HostPattern, port: u16, path: &str) -> String {
    let host = match host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("demo.{parent}"),
    };
    format!("https://{host}:{port}{path}")
}

/// The URL for agents on this machine, which needs no certificate: plain HTTP is spoken over loopback.
fn plain_agent_url(agents: SocketAddr, path: &str) -> Option<String> {
    let is_served =
        agents.ip() == IpAddr::from(Ipv4Addr::LOCALHOST) || agents.ip() == IpAddr::from(Ipv6Addr::LOCALHOST);
    is_served.then(|| format!("http://localhost:{}{path}", agents.port()))
}

/// Creates an authority for this process, and one certificate for agents' hosts and the link.
fn temporary_certificates(config: &EdgeConfig) -> Result<(Authority, Arc<ReloadingCerts>), RunError> {
    let now = UnixTime::now();
    let authority = Authority::new("adit up", now, VALID_DAYS)?;
    let hosts = config.tunnels.iter().flat_map(|tunnel| &tunnel.hosts).map(ToString::to_string);
    let names: Vec<String> = hosts.map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cert = authority.issue(&names)?.server_cert(now)?;
    Ok((authority, ReloadingCerts::new(CertSet::new([cert])?)))
}

/// The authorities that Node.js already trusts through this variable. A command that sets it must keep them.
fn node_extra_certs() -> String {
    let file = std::env::var_os(NODE_CERTS_ENV).map(std::path::PathBuf::from);
    let mut pem = String::from("\n");
    let read = |file| std::fs::File::open(file)?.take(NODE_CERTS_LEN_MAX).read_to_string(&mut pem);
    match file.map(read) {
        Some(Err(error)) => {
            tracing::warn!(%error, "the file that {NODE_CERTS_ENV} names cannot be read");
            String::new()
        }
        _ => pem,
    }
}
/// Nothing can be approved here, as nobody has an admin token: whatever is in quarantine would stay there.
fn refuse_pins(edge: &EdgeConfig, connect: &ConnectConfig) -> Result<(), RunError> {
    let mut pins = edge.hosts.iter().map(|host| host.pin).chain(connect.routes.iter().map(|route| route.pin));
    if pins.all(|pin| pin == PinMode::Off) {
        return Ok(());
    }
    Err(RunError::Other(
        "`adit up` cannot approve tools: remove `pin`, or use `adit edge` and `adit connect`".to_owned(),
    ))
}
