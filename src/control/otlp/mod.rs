//! Export of traces and metrics to a collector, as OTLP over HTTP in Protocol Buffers.
//!
//! Cores hand sampled calls over in a queue that never makes them wait ([`TraceQueue`](crate::latency::TraceQueue)). The
//! [`OtlpExporter`] on the control thread turns them into spans, reads the metrics as `/metrics` does, and sends both.

pub(super) mod counts;
mod delivery;
mod exporter;
mod messages;
mod points;
mod spans;

pub use delivery::{HeadersFile, OtlpEndpoint, OtlpRefusal, parse_headers};
pub use exporter::{OtlpExporter, OtlpSettings, RoleTraces, RunningExport};
