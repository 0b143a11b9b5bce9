//! The tables of a process in either role: the data plane, approvals, the audit log, the export of telemetry and the log.

use std::path::PathBuf;

use crate::config::section::section;
use crate::config::values::{
    AuditMode, AuditSync, Bytes, Driver, FolderPath, LogFormat, LogLevels, Millis, Ratio, Spin, TokenText,
};

section! {
    /// The data plane: how many cores there are, how they wait for work, and how much memory they may use. Both roles
    /// read it.
    section "engine" => EngineConfig {
        /// The kernel interface for network I/O. `auto` tries io_uring and falls back to epoll where io_uring is
        /// forbidden or does not work.
        driver: Driver = "auto", restart, like "epoll", env "ADIT_DRIVER", flag "--driver";
        /// The number of threads that carry traffic, each on its own CPU; 0 uses every CPU that the process may use.
        cores: u32 = "0" in 0..=256, restart, like "2", flag "--cores";
        /// Whether each core stays on one CPU. Disable it where several busy processes share the CPUs.
        pin: bool = "true", restart, like "false";
        /// How long an idle core polls for new work before it sleeps. `auto` adapts to the traffic and does not poll
        /// where CPUs are scarce; 0 always sleeps, which saves CPU time and costs some tens of microseconds per call.
        spin_us: Spin = "auto" in 0..=1_000, restart, like "50us";
        /// The maximum memory for the buffers of one core. At the limit peers are slowed down, not refused.
        buffer_memory_max_bytes: Bytes = "64MiB" in 2_097_152..=68_719_476_736, restart, like "128MiB";
    }
}

section! {
    /// Who is told of calls that wait for approval. Both roles read it; `adit up` does not.
    section "approvals" => ApprovalsConfig {
        /// The URL to which a message is sent (POST) for each call that waits: `https`, or `http` on this machine. The messages have
        /// the form of Standard Webhooks. Calls are approved with `adit approvals`, the admin API, or `link_url`. The URL is shown
        /// by `adit config show`, so it must not contain a secret.
        webhook_url: Option<TokenText> = unset, restart, like "https://hooks.example.com/adit";
        /// A file with the secret that signs the messages (HMAC-SHA256), mode 0600. One that begins with `whsec_` is Base64.
        webhook_secret_file: Option<PathBuf> = unset, restart, like "webhook.secret";
        /// The certificates (PEM) of the authorities that may certify `webhook_url`. By default public ones.
        webhook_ca_file: Option<PathBuf> = unset, restart, like "hooks-ca.pem";
        /// Whether the messages contain the arguments of calls. Otherwise they have their length and hash.
        webhook_arguments: bool = "false", restart, like "true";
        /// The external URL of the admin listener, for example that of a reverse proxy: `https`, or `http` on this machine. With it,
        /// each message contains a signed link to a page below this URL, `approve/`, on which the call can be approved or denied.
        /// Anyone who has the link can decide that call, and no other. The URL is shown by `adit config show`.
        link_url: Option<TokenText> = unset, restart, like "https://adit.example.com";
        /// Whether the page shows the arguments of the call, without secrets, payment cards and bank accounts. Otherwise it shows
        /// their length and hash.
        link_arguments: bool = "false", restart, like "true";
    }
}

section! {
    /// The audit log: one line for every call and every management action, chained and signed. Both roles write it.
    section "audit" => AuditConfig {
        /// `off`: nothing is written. `best_effort`: lines are written without delaying calls, and lines that cannot be
        /// written are counted. `required`: a response is sent only once its call is on the disk, and calls are refused
        /// while nothing can be written.
        mode: AuditMode = "off", restart, like "required";
        /// When a line counts as written, for responses that wait for it. `data`: once it is on the disk, so that it also survives
        /// a loss of power. `write`: once the operating system has it, so that it survives the end of this process, however that
        /// comes; of a machine that crashes, the lines of the last second or so may be lost. Calls then do not wait for the disk
        /// ([AUDIT.md](AUDIT.md#what-written-means)).
        sync: AuditSync = "data", restart, like "write";
        /// The longest arguments of a call, in bytes as JSON text without white space, that are written to the log; 0 writes none.
        /// Secrets, payment cards and bank accounts that are recognised in them are redacted first. Longer ones are left out; their
        /// length and hash are written in any case ([AUDIT.md](AUDIT.md#arguments)).
        arguments_max_bytes: Bytes = "0" in 0..=16_384, restart, like "4KiB";
        /// The directory of the log. By default `audit` in `edge.data_dir`, or in `connect.state_dir`; one of the three is
        /// needed unless `mode` is `off`. The signing key is in `data_dir` or `state_dir`; if neither is set, it is in `dir`.
        dir: Option<FolderPath> = unset, restart, like "/var/log/adit";
        /// The size at which a file is closed and the next one begun. This also happens once a day (UTC).
        file_max_bytes: Bytes = "64MiB" in 65_536..=17_179_869_184, restart, like "16MiB";
        /// Whether closed files are compressed with zstd.
        compress: bool = "true", restart, like "false";
        /// For how many days closed files are kept.
        keep_days: u32 = "90" in 1..=36_500, restart, like "400";
        /// The most bytes that closed files take together. The oldest are removed first.
        keep_max_bytes: Bytes = "10GiB" in 65_536..=1_125_899_906_842_624, restart, like "100GiB";
    }
}

section! {
    /// The export of traces and metrics to a collector, as OTLP over HTTP in Protocol Buffers. Both roles and `adit up` read it.
    /// [TELEMETRY.md](TELEMETRY.md) lists what is exported.
    section "otlp" => OtlpConfig {
        /// The URL of the collector, without `/v1/traces` and `/v1/metrics`: `http` or `https`. Nothing is exported without it. The URL
        /// is shown by `adit config show`, so it must not contain a secret.
        endpoint: Option<TokenText> = unset, restart, like "http://127.0.0.1:4318";
        /// A file with header fields for the collector, `Name: value` on each line, mode 0600. It is read before each request. It
        /// needs an `https` URL, or an `http` URL on this machine.
        headers_file: Option<PathBuf> = unset, restart, like "otlp.headers";
        /// The certificates (PEM) of the authorities that may certify the collector. By default public ones.
        ca_file: Option<PathBuf> = unset, restart, like "collector-ca.pem";
        /// Whether traces are exported: spans of each sampled call.
        traces: bool = "true", restart, like "false";
        /// Which part of the calls is sampled that have no `traceparent`. For other calls the sampled flag of their caller decides. Use
        /// the same value on edge and connector, so that both have spans of the same calls.
        sample_ratio: Ratio = "1", restart, like "0.05";
        /// How often sampled calls are sent.
        traces_interval_ms: Millis = "1s" in 100..=60_000, restart, like "5s";
        /// How often the metrics are sent; 0 exports none.
        metrics_interval_ms: Millis = "60s" in 0..=3_600_000, restart, like "15s";
        /// How long a request to the collector may take.
        timeout_ms: Millis = "10s" in 100..=60_000, restart, like "3s";
        /// The most sampled calls that wait for the export, about 1 KiB each. Further ones are dropped and counted.
        queue_max: u32 = "4096" in 16..=262_144, restart, like "16384";
        /// On a connector: whether its spans are children of those of the edge. Disable it if the edge exports none.
        child_of_edge: bool = "true", restart, like "false";
        /// The name of the process in the collector (`service.name`). By default `adit-edge` or `adit-connector`.
        service_name: Option<TokenText> = unset, restart, like "adit-edge-eu";
    }
}

section! {
    /// The log, on standard error. Both roles read it.
    section "log" => LogConfig {
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`; for single modules `info,adit::link=debug`.
        level: LogLevels = "info", live, like "debug", env "ADIT_LOG", flag "--log-level";
        /// `text` for people, `json` for machines: one object on each line.
        format: LogFormat = "text", restart, like "json", flag "--log-format";
    }
}
