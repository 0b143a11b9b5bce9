//! Reads from the configuration where traces and metrics are exported to.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, OtlpConfig, read_named};
use crate::control::RoleKind;
use crate::control::State;
use crate::control::otlp::{HeadersFile, OtlpEndpoint, OtlpExporter, OtlpSettings, RoleTraces, RunningExport};
use crate::latency::{TraceQueue, TraceSettings};
use crate::process::error::RunError;
use crate::process::random::random_number;

/// The maximum length of the CA file, in bytes.
const CA_FILE_LEN_MAX: usize = 256 * 1024;

/// The name of the service of a process with both roles.
const BOTH_ROLES: &str = "adit-up";

/// The export of a process, which is not running yet.
#[derive(Default)]
pub(super) struct Telemetry {
    traces: Vec<(RoleKind, Arc<TraceQueue>)>,
    exporter: Option<OtlpExporter>,
}

impl Telemetry {
    /// Reads what the configuration says of the export of a process with these roles.
    ///
    /// # Errors
    ///
    /// If a configured file cannot be used.
    pub(super) fn of(config: &Config, roles: &[RoleKind]) -> Result<Telemetry, RunError> {
        let otlp = &config.otlp;
        let Some(endpoint) = endpoint_of(otlp)? else { return Ok(Telemetry::default()) };
        let name = |default: String| otlp.service_name.as_ref().map_or(default, |name| name.0.clone());
        let name_of = |role: RoleKind| name(format!("adit-{}", role.as_str()));
        let mut traces = Vec::new();
        for role in roles.iter().copied().filter(|_| otlp.traces) {
            let settings = TraceSettings {
                sampled: otlp.sample_ratio.0,
                queue_max: otlp.queue_max as usize,
                process: random_number()?,
                joins_edge: otlp.child_of_edge,
            };
            let calls = Arc::new(TraceQueue::new(settings));
            traces.push(RoleTraces { role, service_name: name_of(role), calls });
        }
        let queues = traces.iter().map(|traces| (traces.role, Arc::clone(&traces.calls))).collect();
        let exporter = OtlpExporter::new(OtlpSettings {
            endpoint,
            traces,
            traces_interval: otlp.traces_interval_ms.into(),
            metrics_interval: metrics_interval(otlp),
            service_name: match roles {
                [role] => name_of(*role),
                _ => name(BOTH_ROLES.to_owned()),
            },
            instance: random_number()?,
        });
        Ok(Telemetry { traces: queues, exporter: Some(exporter) })
    }

    /// The queue for sampled calls of this role, if traces are exported.
    pub(super) fn traces_of(&self, role: RoleKind) -> Option<Arc<TraceQueue>> {
        let found = self.traces.iter().find(|(of, _)| *of == role);
        found.map(|(_, calls)| Arc::clone(calls))
    }

    /// Starts the export, if there is one.
    pub(super) fn start(self, state: &Arc<State>) -> Option<RunningExport> {
        Some(self.exporter?.start(state))
    }
}

/// How often metrics are exported, if they are.
pub(super) fn metrics_interval(otlp: &OtlpConfig) -> Option<Duration> {
    Some(otlp.metrics_interval_ms.into()).filter(|interval: &Duration| !interval.is_zero())
}

/// The collector, if one is configured.
///
/// # Errors
///
/// If a configured file cannot be used.
pub(super) fn endpoint_of(otlp: &OtlpConfig) -> Result<Option<OtlpEndpoint>, RunError> {
    let Some(url) = &otlp.endpoint else { return Ok(None) };
    let wrong = |key: &str, why: String| RunError::Other(format!("otlp.{key}: {why}"));
    let headers = otlp.headers_file.clone().map(HeadersFile);
    if let Some(file) = &headers {
        file.read().map_err(|why| wrong("headers_file", why))?;
    }
    let file = otlp.ca_file.as_deref();
    let pem = file.map(|file| read_named(file, CA_FILE_LEN_MAX)).transpose();
    let pem = pem.map_err(|error| wrong("ca_file", error.to_string()))?;
    let endpoint = OtlpEndpoint::new(&url.0, file.zip(pem.as_deref()), headers, otlp.timeout_ms.into());
    endpoint.map(Some).map_err(|why| wrong("ca_file", why))
}
