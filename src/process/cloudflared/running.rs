use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::log_lines;
use super::pushes::{RulesInForce, take_pushes};
use crate::config::{CloudflaredConfig, METRICS_PORTS, Transport};
use crate::connector::ConnectorEvent;
use crate::control::{
    CloudflaredView, ConnectorRole, Control, ControlParts, DRAIN_GRACE, Notice, ProcessFacts, ProcessRequest,
    RoleEvent, RoleKind, ServiceManager, State, forward_events_with, serve_cloudflared, serve_resolves, signals,
};
use crate::engine::{Cores, EngineSettings, mailbox};
use crate::process::connector_process::PreparedConnector;
use crate::process::error::RunError;
use crate::process::facts::facts;
use crate::process::random::{random, random_number};
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::{CloudflaredParts, UpstreamTrust, cloudflared_settings, cloudflared_tables};
use crate::wire::cloudflared::TunnelUuid;

/// A refusal with this word may be over when the edge knows the tunnel, so the connector goes on, as cloudflared does.
const UNAUTHORIZED: &str = "Unauthorized";
/// The most pushes of rules that wait for the control thread.
const PUSHES_MAX: usize = 16;
/// How long a running connector may take to say whether it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connector whose cores are running.
pub struct CloudflaredProcess {
    control: Control,
    state: Arc<State>,
    cores: Cores,
    /// Ready with the reason when an edge has refused a connector that was never registered.
    refused: oneshot::Receiver<String>,
    _server: AbortOnDrop,
    _pushes: AbortOnDrop,
}

impl CloudflaredProcess {
    /// Starts a connector and its log; its cores begin to dial.
    ///
    /// # Errors
    ///
    /// Whatever prevents the connector from running.
    pub async fn start(config: &CloudflaredConfig) -> Result<CloudflaredProcess, RunError> {
        log_lines::start(config.log_level, config.log_format);
        let engine = EngineSettings::default();
        let core_count = engine.core_count();
        let connector_id = connector_number()?;
        let tunnel = config.credentials.tunnel.to_string();
        log_start(config, &tunnel, connector_id);

        let (counts, rules) = (Arc::default(), Arc::new(RulesInForce::new(config.ingress.as_ref())));
        let (push_sender, pushes) = mailbox(PUSHES_MAX);
        let parts = CloudflaredParts { connector: connector_id, counts: Arc::clone(&counts), pushes: push_sender };
        let settings = cloudflared_settings(config, parts)?;
        let mut trust = UpstreamTrust::default();
        let tables = cloudflared_tables(config.ingress.as_ref(), core_count, &mut trust);
        let tables = tables.map_err(|fault| RunError::Other(fault.to_string()))?;
        let prepared = PreparedConnector::new(settings, tables, core_count, random_number()?);
        let listener = listen(config.metrics.as_deref())?;
        let requests = signals(ProcessRequest::Reload, None).map_err(RunError::io("signals cannot be received"))?;

        let cores = Cores::start(&engine, prepared.on_core())?;
        let PreparedConnector { connector, events: connector_events, resolves, .. } = prepared;
        let address = listener.local_addr().ok();
        let facts = ProcessFacts { admin_url: address.map(|address| format!("http://{address}")), ..facts(&cores) };
        let role = ConnectorRole::new(Arc::clone(&connector), core_count, tunnel.clone());
        let state = State::new(facts, vec![Arc::new(role)], None);
        tokio::spawn(serve_resolves(resolves));
        let shown = Arc::clone(&rules);
        let shown: Box<dyn Fn() -> serde_json::Value + Send + Sync> = Box::new(move || shown.json());
        let view = CloudflaredView::new((tunnel, connector_id.to_string()), counts, shown, Arc::clone(&state));
        let pushes = tokio::spawn(take_pushes(pushes, connector, rules, core_count, trust));

        let (sender, events) = mpsc::unbounded_channel();
        let (refused_sender, refused) = oneshot::channel();
        let (mut refused_sender, seen) = (Some(refused_sender), Arc::clone(&view));
        forward_events_with(RoleKind::Connector, connector_events, sender, move |event: &ConnectorEvent| {
            seen.on_event(event);
            if let ConnectorEvent::Refused { why, .. } = event
                && !seen.has_registered()
                && !why.contains(UNAUTHORIZED)
                && let Some(sender) = refused_sender.take()
            {
                // Nobody waits any more if the process ends already.
                let _ = sender.send(why.clone());
            }
        });
        let parts = ControlParts {
            state: Arc::clone(&state),
            roles: vec![(RoleKind::Connector, core_count)],
            events,
            requests,
            drain_max: config.grace_period + DRAIN_GRACE,
        };
        let control = Control::new(parts).with_notices(notices(config.pid_file.clone()));
        if let Some(address) = address {
            tracing::info!("Starting metrics server on {address}/metrics");
        }
        let server =
            serve_cloudflared(listener, view).map_err(RunError::io("the server of metrics could not start"))?;
        let (server, pushes) = (AbortOnDrop(server), AbortOnDrop(pushes));
        Ok(CloudflaredProcess { control, state, cores, refused, _server: server, _pushes: pushes })
    }

    /// Runs until the connector was told to end and has ended, or an edge has refused it for good.
    ///
    /// # Errors
    ///
    /// If it was refused, a core failed, or it did not end in time.
    pub async fn run(mut self, service_manager: &Arc<ServiceManager>) -> Result<(), RunError> {
        self.control.set_service_manager(service_manager);
        let _kept = AbortOnDrop(tokio::spawn(Arc::clone(service_manager).keep(self.state)));
        let mut why = None;
        let stop = async {
            match self.refused.await {
                Ok(refused) => why = Some(refused),
                Err(_) => std::future::pending().await,
            }
        };
        self.control.run(stop).await?;
        self.cores.join().map_err(RunError::io("a core failed"))?;
        match why {
            Some(why) => Err(RunError::Other(format!("the edge refused the connector: {why}"))),
            None => Ok(()),
        }
    }
}

/// A random number for the connector, in the form of a random UUID (RFC 9562, section 5.4).
fn connector_number() -> Result<TunnelUuid, RunError> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(TunnelUuid(bytes))
}

fn log_start(config: &CloudflaredConfig, tunnel: &str, connector: TunnelUuid) {
    tracing::info!(tunnelID = tunnel, "Starting tunnel");
    tracing::info!("Version adit/{}", env!("CARGO_PKG_VERSION"));
    config.notes.iter().for_each(|note| tracing::info!("{note}"));
    for name in &config.ignored {
        tracing::debug!(flag = name, "The flag changes nothing here");
    }
    tracing::info!("Generated Connector ID: {connector}");
    tracing::info!("Initial protocol {}", if config.transport == Transport::Tcp { "http2" } else { "quic" });
    if config.ingress.is_none() {
        tracing::warn!(
            "No ingress rules were defined in provided config (if any) nor from the cli, cloudflared will return 503 for \
             all incoming HTTP requests"
        );
    }
}

/// Logs the end, and writes the file with the number of the process when the connector is connected.
fn notices(pid_file: Option<PathBuf>) -> impl FnMut(&Notice) + Send + 'static {
    let mut pid_file = pid_file;
    move |notice| match notice {
        Notice::Draining => tracing::info!("Initiating graceful shutdown due to signal ..."),
        Notice::Role(_, RoleEvent::Linked { .. }) => {
            if let Some(path) = pid_file.take()
                && let Err(error) = std::fs::write(&path, std::process::id().to_string())
            {
                tracing::error!(%error, file = %path.display(), "Unable to write the pid file");
            }
        }
        _ => {}
    }
}

/// Listens for readers of the metrics: at the address, or at the first free port of the usual ones, or any.
fn listen(address: Option<&str>) -> Result<TcpListener, RunError> {
    if let Some(address) = address {
        let unusable =
            |why: String| RunError::Other(format!("Error opening metrics server listener: {address}: {why}"));
        let mut addresses = address.to_socket_addrs().map_err(|error| unusable(error.to_string()))?;
        let address = addresses.next().ok_or_else(|| unusable("it has no address".to_owned()))?;
        return TcpListener::bind(address).map_err(|error| unusable(error.to_string()));
    }
    let ports = METRICS_PORTS.chain([0]).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut last = Err(io::ErrorKind::AddrInUse.into());
    for address in ports {
        last = TcpListener::bind(address);
        if last.is_ok() {
            break;
        }
    }
    last.map_err(RunError::io("the server of metrics could not listen"))
}

/// Asks the connector whose metrics are at this address whether it is ready.
///
/// # Errors
///
/// If it is not, or does not answer.
pub async fn ask_ready(address: &str) -> Result<(), RunError> {
    let client = reqwest::Client::builder().timeout(READY_TIMEOUT).no_proxy().build();
    let client = client.map_err(|error| RunError::Other(error.to_string()))?;
    let answer = client.get(format!("http://{address}/ready")).send().await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            Err(RunError::Other(format!("http://{address}/ready endpoint returned status code {}", answer.status())))
        }
        Err(error) => Err(RunError::Other(format!("http://{address}/ready cannot be reached: {error}"))),
    }
}
