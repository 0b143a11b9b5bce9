//! `adit edge`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use crate::base::{AuthorityPin, Secret};
use crate::cli::announce::Announcer;
use crate::cli::args::EdgeArgs;
use crate::cli::edge_dir::run_edge_dir;
use crate::cli::edge_store::{OpenDir, pin};
use crate::cli::log::Log;
use crate::cli::run::{
    AbortOnDrop, RunError, admin_url, facts, instance, listen_admin, log_warnings, on_control_thread, refuse, reserve,
    serve_admin_if,
};
use crate::config::{
    AdmissionMemory, Certifying, Config, EdgeConfig, EdgeListeners, Faults, TlsFiles, connectors_tls_config,
};
use crate::control::api::Access;
use crate::control::doctor::connections_within_file_limit;
use crate::control::tunnels::{Serving, Tunnels};
use crate::control::{
    Control, ControlParts, DRAIN_GRACE, EdgeRole, Facts, Prober, Reload, Reloaded, ReloadingAuthority, Request,
    RoleKind, Signing, State, forward_events, serve_certifications, signals,
};
use crate::edge::{CertifyRequest, Edge, EdgeEvent, EdgeTables, Seals, certifier};
use crate::engine::{Cores, MailReceiver, Reservation, mailbox};
use crate::tls::{Authority, CALLER_LIFE, CertSet, Fingerprint, ReloadingCerts, ServerConfig, WallClock};

/// What cores may tell before the control thread reads it.
pub(super) const EVENTS_MAX: usize = 4096;

/// Runs `adit edge` until it is told to end, and gives back the exit code.
#[must_use]
pub fn run_edge(args: EdgeArgs, env: &BTreeMap<String, String>) -> u8 {
    if let Some(command) = &args.command {
        return run_edge_dir(command, env);
    }
    let source = ConfigSource { args, env: env.clone() };
    let (config, files) = match source.load() {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults.into()),
    };
    let log = Log::start(&config.log);
    log_warnings(&config);
    on_control_thread(edge(source, config, files, log))
}

async fn edge(source: ConfigSource, config: Config, files: Vec<PathBuf>, log: Log) -> Result<u8, RunError> {
    let announcer = Announcer::new(source.args.json);
    let edge_config = edge_of(&config)?;
    let open = OpenDir::open(edge_config)?;
    let certs = Certs::load(edge_config)?;
    let engine = config.engine.settings();
    let mut memory = AdmissionMemory::default();
    let admission = config.admission(&mut memory)?;
    let shown = (certs.agents.clone(), Arc::clone(&certs.connectors));
    let authority = authority_of(edge_config)?;
    let seals = Arc::new(Seals::default());
    let tables = EdgeTables { admission, ..edge_config.sealed_tables(&seals)? };
    let mut ready = ReadyEdge::new(edge_config, engine.core_count(), shown, authority, tables).await?;
    let authority = ready.certifying.as_ref().map(|(signing, _)| Arc::clone(&signing.authority));
    let _calling = authority.clone().map(|authority| keep_calling(authority, Arc::clone(&seals)));
    let serving = Serving::new(Arc::clone(&ready.edge), engine.core_count(), Arc::clone(&seals));
    let store = match open {
        Some(open) => {
            let signing = authority.as_ref().map(|authority| authority.current());
            let port = ready.connectors.address().port();
            Some(open.serve(edge_config, &serving, signing.as_deref(), port).await?)
        }
        None => None,
    };
    if let (Some(store), Some((signing, _))) = (&store, &mut ready.certifying) {
        signing.provisioning = Some(Arc::<Tunnels>::clone(&store.access.tunnels));
    }
    let _reviewing = AbortOnDrop(tokio::spawn(Arc::clone(&serving).keep_reviewing()));
    let admin = listen_admin(edge_config.admin_listen)?;
    let requests = signals(Request::Reload, None).map_err(RunError::io("signals cannot be received"))?;

    let running = Arc::clone(&ready.edge);
    let cores = Cores::start(&engine, move |core| Arc::clone(&running).run(core))?;
    let agent_url = edge_config.public_url.as_ref().map(|url| url.as_str().to_owned());
    let facts = Facts {
        agent_url: Some(agent_url.unwrap_or_else(|| ready.agents_url(certs.agents.is_some()))),
        connectors_listen: Some(ready.connectors.address().to_string()),
        admin_url: admin_url(admin.as_ref()),
        ..facts(&cores)
    };
    let prober = Prober::new(ready.agents.address(), certs.agents.is_some());
    let prober = prober.map_err(|error| RunError::Other(format!("no HTTP client for probes: {error}")))?;
    let mut role = EdgeRole::new(Arc::clone(&ready.edge), cores.count());
    let shown = [("agents", certs.agents.clone()), ("connectors", Some(Arc::clone(&certs.connectors)))];
    for (of, certs) in shown.into_iter().filter_map(|(of, certs)| Some((of, certs?))) {
        role = role.with_certificate(of, move || certs.shown());
    }
    if let Some(authority) = authority.clone() {
        role = role.with_certificate("authority", move || Some(authority.current().cert_der().clone()));
    }
    let state = State::new(facts.clone(), vec![Arc::new(role)], Some(prober));

    let (sender, events) = mpsc::unbounded_channel();
    forward_events(RoleKind::Edge, ready.events, sender);
    serve_certifying(ready.certifying);
    let access = store.as_ref().map(|store| store.access.clone());
    let reloading = Reloading { serving, certs, authority, access: access.clone(), memory, seals };
    let reload = reload(source, config.clone(), reloading, log);
    let mut control = Control::new(ControlParts {
        state: Arc::clone(&state),
        roles: vec![(RoleKind::Edge, cores.count())],
        events,
        requests,
        drain_max: Duration::from(edge_config.drain_timeout_ms) + DRAIN_GRACE,
    })
    .with_notices(move |notice| announcer.notice(notice))
    .with_reload(reload, files);
    control.started().await?;
    let admin = serve_admin_if(admin, state, access)?;
    announce(&facts, &ready.agents, &ready.connectors, announcer);
    control.run(std::future::pending()).await?;
    drop(admin);
    cores.join().map_err(RunError::io("a core broke"))?;
    if let Some(store) = store {
        store.end().await;
    }
    tracing::info!("ended");
    announcer.event("ended", json!({}));
    Ok(0)
}

/// An edge whose addresses are reserved and whose cores are still to start.
pub(super) struct ReadyEdge {
    pub(super) edge: Arc<Edge>,
    pub(super) events: MailReceiver<EdgeEvent>,
    pub(super) agents: Reservation,
    pub(super) connectors: Reservation,
    /// What is to sign what the cores ask for, and where they ask.
    pub(super) certifying: Option<(Signing, MailReceiver<CertifyRequest>)>,
}

impl ReadyEdge {
    pub(super) async fn new(
        config: &EdgeConfig,
        cores: usize,
        (agents_certs, connectors_certs): (Option<Arc<ReloadingCerts>>, Arc<ReloadingCerts>),
        authority: Option<Arc<Authority>>,
        tables: EdgeTables,
    ) -> Result<ReadyEdge, RunError> {
        let agents = reserve("agents", config.agents_listen, "--listen").await?;
        let connectors = reserve("connectors", config.connectors_listen, "--connectors-listen").await?;
        let (requests, asked) = certifier();
        let certifying = authority.map(|authority| Certifying { authority, requests });
        let signing = certifying.as_ref().map(|with| Signing {
            authority: ReloadingAuthority::new(Arc::clone(&with.authority)),
            lifetime: config.connector_cert_life_ms.into(),
            clock: WallClock::default(),
            provisioning: None,
        });
        let listeners = EdgeListeners {
            agents: agents.address(),
            agents_certs,
            connectors: connectors.address(),
            connectors_certs,
            certifying,
        };
        let mut settings = config.settings(&listeners, cores)?;
        let connections = u64::from(config.connections_max);
        let allowed = connections_within_file_limit(connections);
        if allowed < connections {
            tracing::info!(
                allowed,
                connections_max = connections,
                "fewer agents' connections are served than edge.connections_max says: the limit of open files leaves no more beside \
                 links and the admin API; raise it (LimitNOFILE, ulimit -n)"
            );
            settings.connections_max = usize::try_from(allowed).unwrap_or(usize::MAX).div_ceil(cores.max(1));
        }
        let (sender, events) = mailbox(EVENTS_MAX);
        let edge = Edge::new(settings, tables, cores, instance()?, &sender);
        let certifying = signing.map(|signing| (signing, asked));
        Ok(ReadyEdge { edge, events, agents, connectors, certifying })
    }

    fn agents_url(&self, tls: bool) -> String {
        format!("{}://{}", if tls { "https" } else { "http" }, self.agents.address())
    }
}

fn announce(facts: &Facts, agents: &Reservation, connectors: &Reservation, announcer: Announcer) {
    tracing::info!("driver: {}", facts.driver_why);
    tracing::info!("agents call {}", facts.agent_url.as_deref().unwrap_or_default());
    tracing::info!("connectors dial {}", connectors.address());
    tracing::info!("admin API at {}", facts.admin_url.as_deref().unwrap_or("nowhere"));
    let admin = facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://"));
    announcer.event(
        "listening",
        json!({
            "agents": agents.address(),
            "connectors": connectors.address(),
            "admin": admin,
            "driver": facts.driver,
            "why": facts.driver_why,
        }),
    );
}

/// Signs certificates for connectors from now on, if that is to be done.
pub(super) fn serve_certifying(certifying: Option<(Signing, MailReceiver<CertifyRequest>)>) {
    if let Some((signing, asked)) = certifying {
        tokio::spawn(serve_certifications(asked, signing));
    }
}

/// Sees to it that this edge can show itself inside sealed sessions.
fn keep_calling(authority: Arc<ReloadingAuthority>, seals: Arc<Seals>) -> AbortOnDrop {
    renew_caller(&seals, &authority.current());
    AbortOnDrop(tokio::spawn(async move {
        loop {
            tokio::time::sleep(CALLER_LIFE / 2).await;
            renew_caller(&seals, &authority.current());
        }
    }))
}

fn renew_caller(seals: &Seals, authority: &Authority) {
    if let Err(error) = seals.identity().renew(authority, WallClock::default().now()) {
        tracing::error!(%error, "the edge's certificate for sealed sessions cannot be made");
    }
}

/// The edge's own authority, if it has one; without one that is said.
fn authority_of(config: &EdgeConfig) -> Result<Option<Arc<Authority>>, Faults> {
    let authority = load_authority(config)?;
    if authority.is_none() {
        tracing::warn!(
            "connectors are let in by their secret alone: set connectors_ca_file and connectors_ca_key_file to give them \
             certificates"
        );
    }
    Ok(authority.map(Arc::new))
}

fn load_authority(config: &EdgeConfig) -> Result<Option<Authority>, Faults> {
    config.connectors_ca().map(|files| files.load_authority("edge.connectors_ca_file")).transpose()
}

/// What the configuration is read from, again and again.
struct ConfigSource {
    args: EdgeArgs,
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

/// The certificates of both listeners.
struct Certs {
    agents: Option<Arc<ReloadingCerts>>,
    connectors: Arc<ReloadingCerts>,
}

/// The same, as they were just read.
struct FreshCerts {
    agents: Option<CertSet>,
    connectors: CertSet,
}

impl Certs {
    fn load(config: &EdgeConfig) -> Result<Certs, Faults> {
        let fresh = FreshCerts::load(config)?;
        Ok(Certs { agents: fresh.agents.map(ReloadingCerts::new), connectors: ReloadingCerts::new(fresh.connectors) })
    }

    fn replace(&self, fresh: FreshCerts) {
        if let (Some(agents), Some(fresh)) = (&self.agents, fresh.agents) {
            agents.reload(fresh);
        }
        self.connectors.reload(fresh.connectors);
    }
}

impl FreshCerts {
    fn load(config: &EdgeConfig) -> Result<FreshCerts, Faults> {
        let agents = config.agents_tls().map(|files| files.load("edge.agents_cert_file")).transpose()?;
        let connectors =
            config.connectors_tls().as_ref().map(|files: &TlsFiles<'_>| files.load("edge.connectors_cert_file"));
        let connectors = connectors.expect("a checked configuration of an edge alone has them")?;
        Ok(FreshCerts { agents, connectors })
    }
}

/// What a reload replaces.
struct Reloading {
    serving: Arc<Serving>,
    certs: Certs,
    authority: Option<Arc<ReloadingAuthority>>,
    access: Option<Access>,
    memory: AdmissionMemory,
    seals: Arc<Seals>,
}

/// What a reload has read, all of which is good.
struct Fresh {
    tables: EdgeTables,
    certs: FreshCerts,
    /// The authority, and TLS by which it vouches for connectors; none if it is the one that there was.
    authority: Option<(Authority, Arc<ServerConfig>)>,
    admin_token: Option<Secret>,
    pin: Option<AuthorityPin>,
}

/// Reads everything first, and changes something only when all of it is good.
fn reload(source: ConfigSource, started: Config, mut reloading: Reloading, log: Log) -> Reload {
    Box::new(move || {
        let (config, files) = source.load().map_err(|faults| faults.to_string())?;
        // Other files than those it started with come with the next start, new content of the same files at once.
        let same_files = edge_of(&started).map_err(|error| error.to_string())?;
        let fresh = reloading.read(&config, same_files).map_err(|error| error.to_string())?;
        if let Some((tunnel, unmet)) = reloading.serving.unmet_by(&fresh.tables.admission) {
            return Err(format!(
                "the tunnel {tunnel} of the store: {unmet}, or change it first with `adit tunnel update`"
            ));
        }
        reloading.replace(fresh);
        log.set_levels(&config.log.level);
        Ok(Reloaded { restart_needed: Config::restart_needed(&started, &config), files })
    })
}

impl Reloading {
    fn read(&mut self, config: &Config, same_files: &EdgeConfig) -> Result<Fresh, RunError> {
        let tables = edge_of(config)?.sealed_tables(&self.seals)?;
        let admission = config.admission(&mut self.memory)?;
        let certs = FreshCerts::load(same_files)?;
        let read = if self.authority.is_some() { load_authority(same_files)? } else { None };
        let pin = read.as_ref().and_then(|authority| pin(same_files, authority));
        let authority = match (&self.authority, read) {
            (Some(current), Some(read)) if *current.current().cert_der() != *read.cert_der() => {
                let config = connectors_tls_config(&self.certs.connectors, Some(&read))?;
                Some((read, config))
            }
            _ => None,
        };
        let dir = self.access.as_ref().and_then(|_| same_files.data_dir());
        let admin_token = dir.map(|dir| dir.admin_token()).transpose()?;
        Ok(Fresh { tables: EdgeTables { admission, ..tables }, certs, authority, admin_token, pin })
    }

    fn replace(&self, fresh: Fresh) {
        self.serving.set_configured(&fresh.tables);
        self.certs.replace(fresh.certs);
        if let (Some(current), Some((authority, config))) = (&self.authority, fresh.authority) {
            tracing::warn!(
                authority = %Fingerprint::of(authority.cert_der()),
                "another authority vouches for connectors: those that were certified by the one before enrol again at their next link"
            );
            renew_caller(&self.seals, &authority);
            current.replace(Arc::new(authority));
            self.serving.edge().replace_connectors_tls(config);
        }
        if let Some(access) = &self.access {
            access.tunnels.set_pin(fresh.pin);
            if let Some(token) = &fresh.admin_token {
                access.token.replace(token);
            }
        }
    }
}

fn edge_of(config: &Config) -> Result<&EdgeConfig, RunError> {
    config.edge.as_ref().ok_or_else(|| RunError::Other("the configuration has no edge".to_owned()))
}
