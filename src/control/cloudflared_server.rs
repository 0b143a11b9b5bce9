//! The local HTTP server of a connector that speaks the protocol of cloudflared: readiness, metrics and diagnostics.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State as Given;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::connector::{ConnectorEvent, EdgeAddress};
use crate::control::admin_listener::AdminListener;
use crate::control::state::State;
use crate::link::CloudflaredCounts;

/// The rules in force, as JSON with their version.
type RulesFn = Box<dyn Fn() -> Value + Send + Sync>;

/// What the server shows.
pub struct CloudflaredView {
    /// The tunnel that the connector serves.
    pub tunnel: String,
    /// The number of the connector.
    pub connector: String,
    /// What the calls came to.
    pub counts: Arc<CloudflaredCounts>,
    /// The rules in force.
    pub rules: RulesFn,
    state: Arc<State>,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    /// Each connection that is up: its number, its edge, and whether it is over QUIC. One may be there twice, while another takes its
    /// place.
    up: Vec<(u16, EdgeAddress, bool)>,
    registered: u64,
    failed: u64,
    refused: u64,
}

impl CloudflaredView {
    /// A view without connections.
    #[must_use]
    pub fn new(
        (tunnel, connector): (String, String),
        counts: Arc<CloudflaredCounts>,
        rules: RulesFn,
        state: Arc<State>,
    ) -> Arc<CloudflaredView> {
        Arc::new(CloudflaredView { tunnel, connector, counts, rules, state, links: Mutex::default() })
    }

    /// Takes note of an event of the connector.
    pub fn on_event(&self, event: &ConnectorEvent) {
        let mut links = self.links();
        match event {
            ConnectorEvent::Linked { edge, link_index, is_quic, .. } => {
                links.registered += 1;
                links.up.push((*link_index, edge.clone(), *is_quic));
            }
            ConnectorEvent::Unlinked { link_index, .. } => {
                if let Some(at) = links.up.iter().position(|(index, ..)| index == link_index) {
                    links.up.remove(at);
                }
            }
            ConnectorEvent::Failed { .. } => links.failed += 1,
            ConnectorEvent::Refused { .. } => links.refused += 1,
            ConnectorEvent::Certified { .. } | ConnectorEvent::Ended(_) => {}
        }
    }

    /// Whether any connection was ever registered.
    #[must_use]
    pub fn has_registered(&self) -> bool {
        self.links().registered > 0
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many connections take calls. None while the process ends.
    fn ready(&self) -> usize {
        if self.state.is_draining() { 0 } else { self.links().up.len() }
    }

    /// The metrics as Prometheus text, with the names that dashboards for cloudflared use.
    fn metrics(&self) -> String {
        let links = self.links();
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value)];
        let rpc = |value: u64| [("{rpcName=\"registerConnection\"}".to_owned(), value)];
        let by_code: Vec<_> =
            self.counts.answers().map(|(code, count)| (format!("{{status_code=\"{code}\"}}"), count)).collect();
        let edges: Vec<_> = links
            .up
            .iter()
            .map(|(index, edge, _)| (format!("{{connection_id=\"{index}\",edge_location=\"{edge}\"}}"), 1))
            .collect();
        let version = (self.rules)()["version"].as_i64().and_then(|version| u64::try_from(version).ok());
        let build = format!("{{type=\"adit\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        family("build_info", "gauge", "Build and version information", &[(build, 1)]);
        family(
            "cloudflared_tunnel_ha_connections",
            "gauge",
            "Number of active connections",
            &one(links.up.len() as u64),
        );
        family(
            "cloudflared_tunnel_total_requests",
            "counter",
            "Calls that edges have opened",
            &one(self.counts.requests()),
        );
        family(
            "cloudflared_tunnel_request_errors",
            "counter",
            "Calls that the connector has failed",
            &one(self.counts.failed()),
        );
        family("cloudflared_tunnel_response_by_code", "counter", "Answers by status", &by_code);
        family("cloudflared_tunnel_server_locations", "gauge", "The edge of each connection", &edges);
        family("cloudflared_tunnel_tunnel_register_success", "counter", "Registrations", &rpc(links.registered));
        family(
            "cloudflared_tunnel_tunnel_register_fail",
            "counter",
            "Registrations that edges have refused",
            &[("{error=\"refused\",rpcName=\"registerConnection\"}".to_owned(), links.refused)],
        );
        family(
            "cloudflared_tunnel_tunnel_rpc_fail",
            "counter",
            "Series of failed attempts to connect",
            &one(links.failed),
        );
        family(
            "cloudflared_orchestration_config_version",
            "gauge",
            "Version of the rules",
            &one(version.unwrap_or_default()),
        );
        text
    }
}

/// Serves the view until the task is aborted.
///
/// # Errors
///
/// If the listener cannot be used.
pub fn serve_cloudflared(listener: std::net::TcpListener, view: Arc<CloudflaredView>) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = AdminListener::new(tokio::net::TcpListener::from_std(listener)?);
    let router = Router::new()
        .route("/ready", get(get_ready))
        .route("/healthcheck", get(async || "OK\n"))
        .route("/metrics", get(get_metrics))
        .route("/config", get(async |Given(view): Given<Arc<CloudflaredView>>| Json((view.rules)())))
        .route("/quicktunnel", get(async || Json(json!({ "hostname": "" }))))
        .route("/diag/tunnel", get(get_tunnel))
        .with_state(view);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the server of metrics ended");
        }
    }))
}

async fn get_ready(Given(view): Given<Arc<CloudflaredView>>) -> Response {
    let ready = view.ready();
    let status = if ready > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({ "status": status.as_u16(), "readyConnections": ready, "connectorId": view.connector });
    (status, Json(body)).into_response()
}

async fn get_metrics(Given(view): Given<Arc<CloudflaredView>>) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], view.metrics()).into_response()
}

async fn get_tunnel(Given(view): Given<Arc<CloudflaredView>>) -> Json<Value> {
    let links = view.links();
    let connection = |(index, edge, is_quic): &(u16, EdgeAddress, bool)| {
        // Protocol 0 is HTTP/2, 1 is QUIC.
        json!({ "isConnected": true, "protocol": u8::from(*is_quic), "edgeAddress": edge.host, "index": index })
    };
    let connections: Vec<Value> = links.up.iter().map(connection).collect();
    Json(
        json!({ "tunnelID": view.tunnel, "connectorID": view.connector, "connections": connections, "icmp_sources": [] }),
    )
}
