//! The tables of a process in either role: the data plane, approvals, the audit log and the log.

use std::path::PathBuf;

use crate::config::section::section;
use crate::config::values::{AuditMode, Bytes, Driver, FolderPath, LogFormat, LogLevels, Spin, TokenText};

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
    /// The log, on standard error. Both roles read it.
    section "log" => LogConfig {
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`; for single modules `info,adit::link=debug`.
        level: LogLevels = "info", live, like "debug", env "ADIT_LOG", flag "--log-level";
        /// `text` for people, `json` for machines: one object on each line.
        format: LogFormat = "text", restart, like "json", flag "--log-format";
    }
}
