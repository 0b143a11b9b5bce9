//! A process with the edge role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::EdgeConfig;
use crate::control::api::{Access, Doctor};
use crate::control::audit::AuditWriter;
use crate::control::otlp::RunningExport;
use crate::control::tunnels::Serving;
use crate::control::{
    Control, ControlParts, DRAIN_GRACE, EdgeRole, Inventories, Notice, Prober, ProcessFacts, ProcessRequest,
    Provisioning, RoleKind, ServiceManager, Signing, State, forward_events, serve_certifications, signals,
};
use crate::edge::{CertifyRequest, Edge, EdgeEvent, EdgeTables, certifier};
use crate::engine::{Cores, EngineSettings, LocalEntry, MailReceiver, Reservation, StartError, mailbox};
use crate::latency::TraceQueue;
use crate::process::approval_file::ApprovalFile;
use crate::process::approval_webhook::{ApprovalNotices, approval_notices};
use crate::process::audit::{log_of, open_audit_dir, start_audit};
use crate::process::edge_identity::EdgeTlsIdentity;
use crate::process::edge_reload::EdgeReload;
use crate::process::edge_store::{EdgeStore, OpenDataDir};
use crate::process::error::RunError;
use crate::process::facts::facts;
use crate::process::file_limit::connections_within_file_limit;
use crate::process::listen::{admin_url, listen_admin, reserve, serve_admin_if};
use crate::process::log::Log;
use crate::process::quota_file::QuotaFile;
use crate::process::random::{fill_random, random_number};
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::{
    AdmissionReader, Certifying, EdgeListeners, PolicyReader, edge_settings, engine_settings, sealed_edge_tables,
};
use crate::process::source::{LoadedConfig, ReadConfig, edge_of};
use crate::process::telemetry::Telemetry;
use crate::process::tls_files::data_dir as data_dir_of;
use crate::serve::AuditLog;
use crate::tls::WallClock;
use crate::wire::quic::QuicKeys;

/// The most events of the cores that may wait for the control thread.
pub(super) const EVENTS_MAX: usize = 4096;

/// An edge whose cores are running.
pub struct EdgeProcess {
    facts: ProcessFacts,
    control: Control,
    state: Arc<State>,
    cores: Cores,
    listeners: [Reservation; 2],
    _cloudflared: Option<Reservation>,
    admin: Option<AbortOnDrop>,
    store: Option<EdgeStore>,
    audit: Option<AuditWriter>,
    quotas: QuotaFile,
    approvals: ApprovalFile,
    telemetry: Option<RunningExport>,
    _tasks: Vec<AbortOnDrop>,
}

impl EdgeProcess {
    /// Starts an edge. On return every core listens. `read` reads the configuration again for a reload, `doctor` is run
    /// for the dashboard, and `notify` is called for every event.
    ///
    /// # Errors
    ///
    /// Whatever prevents the edge from running.
    pub async fn start(
        LoadedConfig { config, files }: LoadedConfig,
        read: ReadConfig,
        log: Log,
        doctor: Doctor,
        notify: impl FnMut(&Notice) + Send + 'static,
    ) -> Result<EdgeProcess, RunError> {
        let edge_config = edge_of(&config)?;
        let engine = engine_settings(&config.engine);

        // Stage 1: read all that the configuration names. Opening the data directory renews the certificate that is
        // read next.
        let data_dir = OpenDataDir::open(edge_config).await?;
        let identity = EdgeTlsIdentity::load(edge_config)?;
        let mut admission = AdmissionReader::default();
        let mut policies = PolicyReader::default();
        let home = edge_config.data_dir.as_ref().map(|dir| &*dir.0);
        let quotas = QuotaFile::open(home, policies.quotas());
        let ApprovalNotices { webhook, links, counts } = approval_notices(&config, home)?;
        let approvals = ApprovalFile::open(home, policies.approvals(), &counts);
        policies.callers.keep_keys_in(data_dir_of(edge_config));
        policies.begin(&config.identity)?;
        let inventories = Inventories::open(home)?;
        policies.inventories = Arc::clone(&inventories);
        let telemetry = Telemetry::of(&config, &[RoleKind::Edge])?;
        let tables = sealed_edge_tables(edge_config, admission.read(&config)?, &mut policies, &identity.seals)?;

        // Stage 2: take what only one process can have, which are the listeners and the store.
        let audit = start_audit(&config)?;
        inventories.record_in(log_of(audit.as_ref()));
        let records = (log_of(audit.as_ref()), telemetry.traces_of(RoleKind::Edge));
        let bound = BoundEdge::bind(edge_config, engine.core_count(), &identity, tables, records, None).await?;
        let serving = Serving::new(Arc::clone(&bound.edge), engine.core_count(), Arc::clone(&identity.seals));
        let store = match data_dir {
            Some(dir) => {
                let port = bound.connectors.address().port();
                Some(
                    dir.serve(edge_config, &serving, &identity, port, log_of(audit.as_ref()), policies.approvals())
                        .await?,
                )
            }
            None => None,
        };
        let access = store.as_ref().map(|store| Access {
            links,
            audit_dir: open_audit_dir(&config),
            doctor: Some(doctor),
            ..store.access()
        });
        let admin = listen_admin(edge_config.admin_listen)?;
        let requests = signals(ProcessRequest::Reload, None).map_err(RunError::io("signals cannot be received"))?;

        // Stage 3: start the cores, and the tasks beside them.
        let cores = bound.start_cores(&engine)?;
        policies.put_in_force();
        let tls = identity.agents.is_some();
        let facts = bound.facts(edge_config, tls, &cores, admin_url(admin.as_ref()));
        let role = identity.report_in(EdgeRole::new(Arc::clone(&bound.edge), cores.count()));
        let prober = prober(bound.agents.address(), tls)?;
        let state = State::new(facts.clone(), vec![Arc::new(role)], Some(prober));
        state.show_tools(&inventories);
        state.show_approvals(&counts);
        let mut tasks = vec![
            AbortOnDrop(tokio::spawn(Arc::clone(&serving).keep_reviewing())),
            AbortOnDrop(tokio::spawn(inventories.keep())),
        ];
        tasks.extend(identity.keep_seals_fresh());
        tasks.extend(identity.keep_cloudflared_fresh(edge_config));
        tasks.push(AbortOnDrop(tokio::spawn(quotas.clone().keep())));
        tasks.push(AbortOnDrop(tokio::spawn(approvals.clone().keep())));
        let waiting = Arc::clone(policies.approvals());
        tasks.extend(webhook.map(|webhook| AbortOnDrop(tokio::spawn(webhook.keep(waiting)))));
        let tunnels = access.as_ref().and_then(|access| access.tunnels.clone());
        let provisioning = tunnels.map(|tunnels| tunnels as Arc<dyn Provisioning>);
        serve_certifying(bound.certify_requests, edge_config, &identity, provisioning);

        // Stage 4: wait until every core listens, then serve the admin API.
        let (sender, events) = mpsc::unbounded_channel();
        forward_events(RoleKind::Edge, bound.events, sender);
        let roles = vec![(RoleKind::Edge, cores.count())];
        let drain_delay = edge_config.drain_delay_ms.into();
        let drain_max = Duration::from(edge_config.drain_timeout_ms) + DRAIN_GRACE;
        let parts = ControlParts { state: Arc::clone(&state), roles, events, requests, drain_max };
        let reload = EdgeReload { started: config, serving, identity, access: access.clone(), admission, policies };
        let mut control = Control::new(parts).with_notices(notify).with_reload(reload.into_reload(read, log), files);
        control = control.with_drain_delay(drain_delay);
        control.started().await?;
        let admin = serve_admin_if(admin, Arc::clone(&state), access)?;
        let telemetry = telemetry.start(&state);
        log_listening(&facts);
        Ok(EdgeProcess {
            facts,
            control,
            state,
            cores,
            listeners: [bound.agents, bound.connectors],
            _cloudflared: bound.cloudflared,
            admin,
            store,
            audit,
            quotas,
            approvals,
            telemetry,
            _tasks: tasks,
        })
    }

    /// Facts about the process: where it listens, and its driver.
    #[must_use]
    pub fn facts(&self) -> &ProcessFacts {
        &self.facts
    }

    /// The address that agents connect to.
    #[must_use]
    pub fn agents(&self) -> SocketAddr {
        self.listeners[0].address()
    }

    /// The address that connectors connect to.
    #[must_use]
    pub fn connectors(&self) -> SocketAddr {
        self.listeners[1].address()
    }

    /// Runs until the edge was told to end and has ended. The service manager is told what happens.
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
        if let Some(store) = self.store {
            store.close().await;
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

/// An edge whose addresses are reserved and whose cores are not started yet.
pub(super) struct BoundEdge {
    pub(super) edge: Arc<Edge>,
    pub(super) events: MailReceiver<EdgeEvent>,
    pub(super) agents: Reservation,
    pub(super) connectors: Reservation,
    pub(super) cloudflared: Option<Reservation>,
    /// Requests of the cores for certificates of connectors.
    pub(super) certify_requests: MailReceiver<CertifyRequest>,
}

impl BoundEdge {
    /// Reserves the addresses, and creates the edge.
    pub(super) async fn bind(
        config: &EdgeConfig,
        cores: usize,
        identity: &EdgeTlsIdentity,
        tables: EdgeTables,
        (audit, traces): (Option<AuditLog>, Option<Arc<TraceQueue>>),
        local_links: Option<Arc<[LocalEntry]>>,
    ) -> Result<BoundEdge, RunError> {
        let agents = reserve("agents", config.agents_listen, "--listen").await?;
        let connectors = reserve("connectors", config.connectors_listen, "--connectors-listen").await?;
        let cloudflared = match config.cloudflared_listen.zip(identity.cloudflared.clone()) {
            Some((address, certs)) => {
                let flag = "edge.cloudflared_listen";
                Some((reserve("connectors of cloudflared", address, flag).await?, certs))
            }
            None => None,
        };
        let (requests, certify_requests) = certifier();
        let listeners = EdgeListeners {
            agents: agents.address(),
            agents_certs: identity.agents.clone(),
            connectors: connectors.address(),
            connectors_certs: Arc::clone(&identity.connectors),
            cloudflared: cloudflared.as_ref().map(|(at, certs)| (at.address(), Arc::clone(certs))),
            certifying: identity
                .authority
                .as_ref()
                .map(|authority| Certifying { authority: authority.current(), requests }),
        };
        let mut settings = edge_settings(config, &listeners, cores)?;
        (settings.audit, settings.traces, settings.local_links) = (audit, traces, local_links);
        if let Some(dir) = data_dir_of(config).filter(|_| settings.quic.is_some()) {
            settings.quic = Some(QuicKeys::of_seed(dir.quic_seed()?.expose(), fill_random));
        }
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
        let edge = Edge::new(settings, tables, cores, random_number()?, &sender);
        let cloudflared = cloudflared.map(|(reservation, _)| reservation);
        Ok(BoundEdge { edge, events, agents, connectors, cloudflared, certify_requests })
    }

    fn start_cores(&self, engine: &EngineSettings) -> Result<Cores, StartError> {
        let edge = Arc::clone(&self.edge);
        Cores::start(engine, move |core| Arc::clone(&edge).run(core))
    }

    /// Facts about the edge. `tls` says whether agents use it.
    fn facts(&self, config: &EdgeConfig, tls: bool, cores: &Cores, admin_url: Option<String>) -> ProcessFacts {
        let listener = || format!("{}://{}", if tls { "https" } else { "http" }, self.agents.address());
        let agent_url = config.public_url.as_ref().map_or_else(listener, |url| url.as_str().to_owned());
        let connectors_listen = Some(self.connectors.address().to_string());
        ProcessFacts { agent_url: Some(agent_url), connectors_listen, admin_url, ..facts(cores) }
    }
}

/// Starts the task that signs certificates for connectors, if the edge has an authority.
pub(super) fn serve_certifying(
    requests: MailReceiver<CertifyRequest>,
    config: &EdgeConfig,
    identity: &EdgeTlsIdentity,
    provisioning: Option<Arc<dyn Provisioning>>,
) {
    let Some(authority) = identity.authority.clone() else { return };
    let lifetime = config.connector_cert_life_ms.into();
    let signing = Signing { authority, lifetime, clock: WallClock::default(), provisioning };
    tokio::spawn(serve_certifications(requests, signing));
}

/// The client for the probes of `/readyz` through the whole path.
pub(super) fn prober(agents: SocketAddr, tls: bool) -> Result<Prober, RunError> {
    Prober::new(agents, tls).map_err(|error| RunError::Other(format!("no HTTP client for probes: {error}")))
}

fn log_listening(facts: &ProcessFacts) {
    tracing::info!("driver: {}", facts.driver_why);
    tracing::info!("agents call {}", facts.agent_url.as_deref().unwrap_or_default());
    tracing::info!("connectors dial {}", facts.connectors_listen.as_deref().unwrap_or_default());
    match &facts.admin_url {
        Some(url) => tracing::info!("admin API at {url}"),
        None => tracing::info!("no admin API: admin_listen is off"),
    }
}
