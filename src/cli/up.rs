//! `adit up`: edge and connector on the same cores, with certificates made on the spot.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::zip;
use rustls_pki_types::UnixTime;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cli::announce::Announcer;
use crate::cli::args::UpArgs;
use crate::cli::ca_file::CaFile;
use crate::cli::connect::ReadyConnector;
use crate::cli::demo_server::DemoServer;
use crate::cli::edge::{ReadyEdge, serve_certifying};
use crate::cli::figures::{live_json, live_line, once_json, once_table, tool_calls};
use crate::cli::log::{ERASE_LINE, Log, set_live_line};
use crate::cli::run::{
    EXIT_FAILURE, RunError, admin_url, facts, instance, listen_admin, on_control_thread, random, refuse, serve_admin_if,
};
use crate::config::{AdmissionMemory, Config, ConnectConfig, EdgeConfig, UpstreamTrust, route_name};
use crate::connector::EdgeAddress;
use crate::control::{
    ConnectorRole, Control, ControlParts, DRAIN_GRACE, EdgeRole, Facts, Notice, OnceClient, Prober, Report, Request,
    Role, RoleEvent, RoleKind, State, forward_events, reachable, serve_resolves, signals,
};
use crate::edge::EdgeTables;
use crate::engine::{Cores, EngineSettings, Reservation};
use crate::latency::Snapshot;
use crate::route::HostPattern;
use crate::tls::{Authority, CertSet, ReloadingCerts, Roots};

/// Tool calls that `--once` makes.
const ONCE_CALLS: u64 = 200;
/// How long `--once` waits for the link, and afterwards for the last call to be counted.
const ONCE_PATIENCE: Duration = Duration::from_secs(10);
/// How often `--once` looks whether it is.
const COUNTED_INTERVAL: Duration = Duration::from_millis(10);
/// The variable by which Node.js is told whom to trust, beside the public authorities.
const NODE_CERTS_ENV: &str = "NODE_EXTRA_CA_CERTS";
/// The most that is read of the file that it names already, in bytes.
const NODE_CERTS_LEN_MAX: u64 = 1 << 20;
/// How long the certificates are good for.
const VALID_DAYS: u32 = 7;
/// How often the line of figures is rewritten on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a line of figures is written where lines stay.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Runs `adit up`, and gives back the exit code.
#[must_use]
pub fn run_up(args: UpArgs, env: &BTreeMap<String, String>) -> u8 {
    match Up::new(args, env) {
        Ok(up) => on_control_thread(up.run()),
        Err(error) => refuse(&error),
    }
}

/// All that is decided before anything runs.
struct Up {
    args: UpArgs,
    config: Config,
    /// The built-in server, if that is to be reached.
    demo: Option<DemoServer>,
    /// What the agent's URL ends in.
    path: String,
}

impl Up {
    fn new(args: UpArgs, env: &BTreeMap<String, String>) -> Result<Up, RunError> {
        let secret: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let (upstream, path, demo) = match args.upstream_parts() {
            Some((upstream, path)) => (upstream.to_owned(), path.to_owned(), None),
            None => {
                let demo = DemoServer::new()?;
                let (upstream, path) = demo.url_parts();
                (upstream, path, Some(demo))
            }
        };
        let config = Config::load(&args.sources(env, &secret, &upstream))?;
        Ok(Up { args, config, demo, path })
    }

    async fn run(self) -> Result<u8, RunError> {
        let _log = Log::start(&self.config.log);
        // Whoever closes the terminal wants an end.
        let requests = signals(Request::End, None).map_err(RunError::io("signals cannot be received"))?;
        let _demo = self.demo.as_ref().map(DemoServer::serve).transpose()?;
        let mut started = self.start().await?;
        let (facts, state, agents) = (started.facts.clone(), Arc::clone(&started.state), started.agents.address());
        let announcer = Announcer::new(self.args.json && !self.args.once);
        let (linked, link) = watch::channel(false);
        let mut control = Control::new(ControlParts {
            state: Arc::clone(&state),
            roles: vec![(RoleKind::Edge, started.cores.count()), (RoleKind::Connector, started.cores.count())],
            events: started.events,
            requests,
            drain_max: self.drain_max()?,
        })
        .with_notices(move |notice| {
            if matches!(notice, Notice::Role(RoleKind::Edge, RoleEvent::Linked { .. })) {
                linked.send_replace(true);
            }
            announcer.notice(notice);
        });
        control.started().await?;
        let admin = serve_admin_if(started.admin.take(), Arc::clone(&state), None)?;
        tracing::info!("driver: {}", facts.driver_why);

        let session = async {
            if self.args.once {
                self.once(&state, link, &started.authority, agents).await
            } else {
                self.live(&state, &started.authority, agents, announcer).await
            }
        };
        let code = run_beside(&mut control, session).await?;
        drop(admin);
        started.cores.join().map_err(RunError::io("a core broke"))?;
        announcer.event("ended", json!({}));
        // Told to end before it had: what `--once` had to do is not done.
        Ok(code.unwrap_or(if self.args.once { EXIT_FAILURE } else { 0 }))
    }

    /// Starts both roles on the same cores.
    async fn start(&self) -> Result<Started, RunError> {
        let (edge_config, connect_config) = self.roles()?;
        let engine = self.engine();
        let count = engine.core_count();
        let name = route_name(&self.host()?);
        let (authority, certs) = certificates(edge_config)?;
        let authority = Arc::new(authority);
        let shown = (Some(Arc::clone(&certs)), certs);
        let admission = self.config.admission(&mut AdmissionMemory::default())?;
        let tables = EdgeTables { admission, ..edge_config.tables_named(|_| name.clone())? };
        let edge = ReadyEdge::new(edge_config, count, shown, Some(Arc::clone(&authority)), tables).await?;
        let mut roots = Roots::new();
        roots.add_der(authority.cert_der().clone())?;
        let dialled = edge.connectors.address();
        let dialled = vec![EdgeAddress { host: dialled.ip().to_string().into(), port: dialled.port() }];
        let settings = connect_config.settings(dialled, roots, connect_config.credentials()?)?;
        let tables = connect_config.tables_named(count, &mut UpstreamTrust::default(), |_| name.clone())?;
        let connector = ReadyConnector::new(settings, tables, count)?;
        let admin = listen_admin(edge_config.admin_listen)?;

        let (on_edge, on_connector) = (Arc::clone(&edge.edge), connector.on_core());
        let cores = Cores::start(&engine, move |core| {
            let both = zip(Arc::clone(&on_edge).run(core.clone()), on_connector(core));
            async move {
                both.await;
            }
        })?;
        let agents = edge.agents.address();
        let facts = Facts {
            agent_url: Some(agent_url(&self.host()?, agents.port(), &self.path)),
            connectors_listen: Some(edge.connectors.address().to_string()),
            admin_url: admin_url(admin.as_ref()),
            ..facts(&cores)
        };
        let prober = Prober::new(agents, true);
        let prober = prober.map_err(|error| RunError::Other(format!("no HTTP client for probes: {error}")))?;
        let tunnel = connector.connector.tunnel().to_string();
        let roles: Vec<Arc<dyn Role>> = vec![
            Arc::new(EdgeRole::new(Arc::clone(&edge.edge), count)),
            Arc::new(ConnectorRole::new(Arc::clone(&connector.connector), count, tunnel)),
        ];
        let state = State::new(facts.clone(), roles, Some(prober));
        let (sender, events) = mpsc::unbounded_channel();
        forward_events(RoleKind::Edge, edge.events, sender.clone());
        forward_events(RoleKind::Connector, connector.events, sender);
        tokio::spawn(serve_resolves(connector.resolves));
        serve_certifying(edge.certifying);
        let (agents, connectors) = (edge.agents, edge.connectors);
        Ok(Started { facts, state, events, cores, admin, authority, agents, _connectors: connectors })
    }

    fn drain_max(&self) -> Result<Duration, RunError> {
        let (edge, connect) = self.roles()?;
        Ok(Duration::from_millis(edge.drain_timeout_ms.0 + connect.drain_timeout_ms.0) + DRAIN_GRACE)
    }

    fn roles(&self) -> Result<(&EdgeConfig, &ConnectConfig), RunError> {
        let both = self.config.edge.as_ref().zip(self.config.connect.as_ref());
        both.ok_or_else(|| RunError::Other("the configuration lacks a role".to_owned()))
    }

    /// Both roles share each core, and the other half of the CPUs is left to agent and server.
    fn engine(&self) -> EngineSettings {
        let mut engine = self.config.engine.settings();
        if engine.cores == 0 {
            engine.cores = (engine.core_count() / 2).max(1);
        }
        engine
    }

    /// The host that agents are told.
    fn host(&self) -> Result<HostPattern, RunError> {
        let (edge, _) = self.roles()?;
        let host = edge.tunnels.first().and_then(|tunnel| tunnel.hosts.first()).copied();
        host.ok_or_else(|| RunError::Other("the configuration has no host".to_owned()))
    }

    /// Makes the calls of `--once` and prints where their time went.
    async fn once(
        &self,
        state: &State,
        mut link: watch::Receiver<bool>,
        authority: &Authority,
        agents: SocketAddr,
    ) -> Result<u8, RunError> {
        let linked =
            tokio::time::timeout(ONCE_PATIENCE, link.wait_for(|linked| *linked)).await.map(|seen| seen.is_ok());
        if linked != Ok(true) {
            return Err(RunError::Other("the connector did not reach the edge; the log says why".to_owned()));
        }
        let facts = state.facts();
        let url = facts.agent_url.as_deref().unwrap_or_default();
        let client = OnceClient::connect(url, Some(authority.cert_pem()), Some(reachable(agents))).await;
        let client = client.map_err(|error| RunError::Other(error.to_string()))?;
        let once = client.run(ONCE_CALLS, 1).await;
        let tool = client.tool().to_owned();
        client.close().await;
        let report = counted(state, once.calls - once.failed).await;
        let figures = tool_calls(&report);
        if self.args.json {
            println!("{}", once_json(&once, &figures, &report));
        } else {
            print!("{}", once_table(&once, &tool, &figures, &report));
        }
        Ok(if once.failed == 0 { 0 } else { EXIT_FAILURE })
    }

    /// Says where everything is, and then shows figures for as long as this is waited for.
    async fn live(
        &self,
        state: &State,
        authority: &Authority,
        agents: SocketAddr,
        announcer: Announcer,
    ) -> Result<u8, RunError> {
        let facts = state.facts();
        let pem = format!("{}{}", authority.cert_pem(), node_extra_certs());
        let ca = CaFile::write(&std::env::temp_dir(), instance()?, &pem);
        let ca = ca.map_err(RunError::io("the authority's certificate cannot be written"))?;
        let url = facts.agent_url.as_deref().unwrap_or_default();
        let paste = format!(
            "{NODE_CERTS_ENV}={} npx -y @modelcontextprotocol/inspector --cli {url} --transport http --method tools/list",
            ca.path().display()
        );
        if self.args.json {
            announcer.event(
                "listening",
                json!({
                    "agents": agents,
                    "agent_url": url,
                    "admin": facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://")),
                    "admin_url": facts.admin_url,
                    "connectors": facts.connectors_listen,
                    "ca_file": ca.path(),
                    "driver": facts.driver,
                    "why": facts.driver_why,
                }),
            );
        } else {
            let admin = facts.admin_url.as_deref().unwrap_or("off");
            println!("agent URL  {url}\nadmin URL  {admin}\n\nList the tools with a real MCP client:\n\n  {paste}\n");
        }
        self.show_figures(state, announcer).await
    }

    async fn show_figures(&self, state: &State, announcer: Announcer) -> Result<u8, RunError> {
        let terminal = std::io::stderr().is_terminal() && !self.args.json;
        let _line = terminal.then(LiveLine::begin);
        let mut ticks = tokio::time::interval(if terminal { LIVE_INTERVAL } else { LOG_INTERVAL });
        loop {
            ticks.tick().await;
            let report = state.report().await;
            let Some(figures) = report.latency.as_ref().map(Snapshot::total) else { continue };
            if self.args.json {
                announcer.event("figures", live_json(figures));
            } else if terminal {
                LiveLine::show(&live_line(figures));
            } else {
                tracing::info!("{}", live_line(figures));
            }
        }
    }
}

/// Both roles, running.
struct Started {
    facts: Facts,
    state: Arc<State>,
    events: mpsc::UnboundedReceiver<(RoleKind, RoleEvent)>,
    cores: Cores,
    admin: Option<TcpListener>,
    authority: Arc<Authority>,
    agents: Reservation,
    _connectors: Reservation,
}

/// Runs the session beside the control thread's loop, and when either ends, ends the roles. Gives back the session's exit
/// code, if it came to have one.
async fn run_beside(
    control: &mut Control,
    session: impl Future<Output = Result<u8, RunError>>,
) -> Result<Option<u8>, RunError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut ending = pin!(control.run(async {
        // Stopped, or whoever could stop it is gone.
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = &mut ending => {
            ended?;
            Ok(None)
        }
        code = session => {
            drop(stop);
            ending.await?;
            code.map(Some)
        }
    }
}

/// The last line of a terminal, rewritten in place until this is dropped.
struct LiveLine;

impl LiveLine {
    fn begin() -> LiveLine {
        set_live_line(true);
        LiveLine
    }

    fn show(line: &str) {
        let mut stderr = std::io::stderr().lock();
        // A terminal that is gone is noticed elsewhere.
        let _ = write!(stderr, "{ERASE_LINE}{line}").and_then(|()| stderr.flush());
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        set_live_line(false);
        eprintln!();
    }
}

/// An authority of this process alone, and one certificate for agents' hosts and for the link.
fn certificates(edge: &EdgeConfig) -> Result<(Authority, Arc<ReloadingCerts>), RunError> {
    let now = UnixTime::now();
    let authority = Authority::new("adit up", now, VALID_DAYS)?;
    let hosts = edge.tunnels.iter().flat_map(|tunnel| &tunnel.hosts).map(ToString::to_string);
    let names: Vec<String> = hosts.map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let cert = authority.issue(&names)?.server_cert(now)?;
    Ok((authority, ReloadingCerts::new(CertSet::new([cert])?)))
}

/// What Node.js is told to trust already: the pasted command sets the same variable, and must not take that away.
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

/// The URL that an agent is given.
fn agent_url(host: &HostPattern, port: u16, path: &str) -> String {
    let host = match host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Wildcard(parent) => format!("demo.{parent}"),
    };
    format!("https://{host}:{port}{path}")
}

/// A report in which so many tool calls are counted: a call is counted a moment after its last byte went out.
async fn counted(state: &State, calls: u64) -> Report {
    let counted = async {
        loop {
            let report = state.report().await;
            if tool_calls(&report).calls() >= calls {
                break report;
            }
            tokio::time::sleep(COUNTED_INTERVAL).await;
        }
    };
    match tokio::time::timeout(ONCE_PATIENCE, counted).await {
        Ok(report) => report,
        Err(_) => state.report().await,
    }
}
