//! The settings of an upstream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit::engine::BUFFER_MEMORY_DEFAULT;
use adit::engine::ladder::DriverChoice;

use super::ServiceTime;

/// The most events in one answer.
pub const EVENTS_MAX: u32 = 100_000;
/// The largest answer, in bytes.
pub const ANSWER_LEN_MAX: u64 = 1 << 34;
/// The longest service time, fixed or drawn.
pub const SERVICE_MAX: Duration = Duration::from_secs(60);

/// The settings of an upstream.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// The address for plain HTTP; with port 0 the system chooses the port.
    pub listen: SocketAddr,
    /// The address and the certificate for HTTPS.
    pub https: Option<HttpsSettings>,
    /// How long it works on a call.
    pub service: ServiceTime,
    /// The seed of drawn service times.
    pub seed: u64,
    /// The answers to calls.
    pub answer: AnswerSettings,
    /// Whether sessions of revision 2025-11-25 get an id.
    pub sessions: bool,
    /// Whether to count calls that arrive twice.
    pub count_doubled: bool,
    /// A file that keeps the ids of calls, so that counting continues after a restart. Calls that arrive twice are then
    /// counted.
    pub calls_file: Option<PathBuf>,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// The driver to use.
    pub driver: DriverChoice,
    /// How long it spins before it parks.
    pub spin: Duration,
    /// The most bytes of buffers.
    pub buffer_memory: usize,
}

impl Default for ServeSettings {
    fn default() -> ServeSettings {
        ServeSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            https: None,
            service: ServiceTime::default(),
            seed: 1,
            answer: AnswerSettings::default(),
            sessions: true,
            count_doubled: false,
            calls_file: None,
            cpu: None,
            driver: DriverChoice::Auto,
            spin: Duration::ZERO,
            buffer_memory: BUFFER_MEMORY_DEFAULT,
        }
    }
}

/// The settings for HTTPS.
#[derive(Clone, Debug)]
pub struct HttpsSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The certificate that clients see.
    pub certificate: Certificate,
}

/// The certificate of an HTTPS listener.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// A certificate from PEM files.
    Files {
        /// The path of the certificate chain.
        cert: PathBuf,
        /// The path of the private key.
        key: PathBuf,
    },
    /// A certificate of an authority that lives as long as the server, for these names and loopback. The authority's
    /// own certificate is in [`super::Server::ca_pem`].
    Made {
        /// The host names that the certificate is for.
        names: Vec<String>,
    },
}

/// The answers to calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerSettings {
    /// The length of the body in bytes; of an event stream, that of its last event. An MCP answer is never shorter than
    /// its envelope.
    pub len: u64,
    /// The form of an MCP answer.
    pub form: Form,
}

impl Default for AnswerSettings {
    fn default() -> AnswerSettings {
        AnswerSettings { len: 1024, form: Form::Json }
    }
}

/// The form of an MCP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON body, without an event stream.
    Json,
    /// An event stream (`text/event-stream`).
    Events {
        /// The number of events; the last one is the answer.
        count: u32,
        /// The time between two events.
        gap: Duration,
    },
}

impl ServeSettings {
    /// Checks the settings that can be checked without the system.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.answer.len > ANSWER_LEN_MAX {
            let len = self.answer.len;
            return Err(format!("answers of {len} bytes: give at most {ANSWER_LEN_MAX}"));
        }
        match self.answer.form {
            Form::Events { count, .. } if !(1..=EVENTS_MAX).contains(&count) => {
                Err(format!("{count} events in an answer: give 1 to {EVENTS_MAX}"))
            }
            _ => Ok(()),
        }
    }
}
