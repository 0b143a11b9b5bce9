//! The flags that describe a load, shared by the commands that run one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit::engine::ladder::DriverChoice;
use clap::{Args, ValueEnum};

use crate::load::{
    Arrivals, Call, CallKind, GeneratorSettings, Limits, Load, LoadError, Mode, Phases, Reuse, Target, Trust,
};
use crate::units::time;
use crate::watch::Watched;

/// The default number of connections in an open loop.
const OPEN_CONNECTIONS: usize = 64;

/// The flags for the server to call.
#[derive(Args, Clone, Debug)]
pub struct TargetArgs {
    /// The http or https URL to call, with host, port and path
    #[arg(long, value_name = "URL")]
    pub url: Target,
    #[command(flatten)]
    /// How the URL is called.
    pub way: WayArgs,
}

/// The flags for the server to call, for commands that do not require one.
#[derive(Args, Clone, Debug)]
pub struct OptionalTargetArgs {
    /// The http or https URL to call, with host, port and path [default: tunnels are started, see --peers]
    #[arg(long, value_name = "URL")]
    pub url: Option<Target>,
    #[command(flatten)]
    /// How the URL is called.
    pub way: WayArgs,
}

/// How a URL is called.
#[derive(Args, Clone, Debug)]
pub struct WayArgs {
    /// The address to connect to, instead of resolving the URL's host
    #[arg(long, value_name = "IP:PORT", requires = "url")]
    pub resolve_to: Option<SocketAddr>,
    /// The Host header, instead of the URL's host; the certificate must contain this name
    #[arg(long, value_name = "HOST", requires = "url")]
    pub host: Option<String>,
    /// The name that the certificate must contain (and SNI), instead of the host
    #[arg(long, value_name = "NAME", requires = "url")]
    pub server_name: Option<String>,
    /// Trust only the authorities in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "insecure", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// Do not check the server's certificate
    #[arg(long, requires = "url")]
    pub insecure: bool,
    /// Resume TLS sessions on new connections instead of making full handshakes
    #[arg(long, requires = "url")]
    pub resume: bool,
}

impl TargetArgs {
    /// The target that these flags describe.
    #[must_use]
    pub fn target(&self) -> Target {
        self.way.to(&self.url)
    }
}

impl OptionalTargetArgs {
    /// The target that these flags describe, if any.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        self.url.as_ref().map(|url| self.way.to(url))
    }
}

impl WayArgs {
    fn to(&self, url: &Target) -> Target {
        let trust = match &self.ca_file {
            Some(file) => Trust::CaFile(file.clone()),
            None if self.insecure => Trust::Insecure,
            None => Trust::Platform,
        };
        Target {
            resolve_to: self.resolve_to,
            host: self.host.clone(),
            server_name: self.server_name.clone(),
            trust,
            resume: self.resume,
            ..url.clone()
        }
    }
}

/// The kinds of call, as command-line values.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindArg {
    /// MCP tools/call in a session of revision 2025-11-25
    #[value(name = "mcp-2025-11-25")]
    McpSession,
    /// MCP tools/call of revision 2026-07-28, without a session
    #[value(name = "mcp-2026-07-28")]
    McpStateless,
    /// An HTTP GET without a body
    Get,
    /// An HTTP POST of the payload
    Post,
    /// A GET whose answer is an event stream
    Sse,
}

impl From<KindArg> for CallKind {
    fn from(kind: KindArg) -> CallKind {
        match kind {
            KindArg::McpSession => CallKind::McpSession,
            KindArg::McpStateless => CallKind::McpStateless,
            KindArg::Get => CallKind::Get,
            KindArg::Post => CallKind::Post,
            KindArg::Sse => CallKind::Sse,
        }
    }
}

/// The flags for the kind, rate and duration of calls.
#[derive(Args, Clone, Debug)]
pub struct CallArgs {
    /// The kind of call
    #[arg(long, value_enum, default_value = "mcp-2026-07-28")]
    pub kind: KindArg,
    /// The tool that MCP calls name
    #[arg(long, default_value = "echo")]
    pub tool: String,
    /// Bytes of each request's body; an MCP call is at least as long as its JSON-RPC envelope
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    pub payload: u64,
    /// A header field to add to each request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Only answers with this status are good, whatever their content: 503 measures how fast an open circuit breaker
    /// answers
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..600))]
    pub status: Option<u16>,
    /// Number of connections: in a closed loop each has a call in flight, in an open loop they limit the calls in flight
    /// [default: 1 in a closed loop, 64 in an open one]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Make a new connection for each call
    #[arg(long)]
    pub connection_per_call: bool,
    /// Warm-up time before the measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s")]
    pub warm_up: Duration,
    /// Length of the measurement
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10s")]
    pub duration: Duration,
    /// How long to wait for the calls in flight at the end
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    pub drain: Duration,
    /// Time limit of one call
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "30s")]
    pub call_timeout: Duration,
    /// End the run after this time without a successful call
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5s")]
    pub patience: Duration,
    /// The most planned calls that may wait for a connection
    #[arg(long, value_name = "N", default_value_t = crate::load::OUTSTANDING_MAX)]
    pub outstanding_max: usize,
    /// A run is void if the p99 of the generator's own lag is larger
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "50us")]
    pub lag_p99_max: Duration,
    /// A run is void if this lag is a larger share of the reported p99
    #[arg(long, value_name = "SHARE", default_value_t = crate::load::LAG_SHARE_MAX)]
    pub lag_share_max: f64,
}

impl CallArgs {
    /// The load that these flags describe.
    ///
    /// # Errors
    ///
    /// If a header field is malformed.
    pub fn load(&self, target: Target, mode: Mode, generator: GeneratorSettings) -> Result<Load, LoadError> {
        let headers = self.headers.iter().map(|text| header(text)).collect::<Result<_, _>>()?;
        let reuse = if self.connection_per_call { Reuse::PerCall } else { Reuse::KeepAlive };
        Ok(Load {
            target,
            call: Call {
                kind: self.kind.into(),
                tool: self.tool.clone(),
                payload: self.payload,
                headers,
                status: self.status,
            },
            mode,
            connections: self.connections.unwrap_or(if mode == Mode::Closed { 1 } else { OPEN_CONNECTIONS }),
            reuse,
            phases: Phases { warm_up: self.warm_up, measure: self.duration, drain: self.drain },
            limits: Limits {
                outstanding_max: self.outstanding_max,
                call_timeout: self.call_timeout,
                patience: self.patience,
                lag_p99_max: self.lag_p99_max,
                lag_share_max: self.lag_share_max,
                ..Limits::default()
            },
            generator,
            split: false,
            trace: false,
        })
    }
}

/// When calls are made.
#[derive(Args, Clone, Debug)]
pub struct RateArgs {
    /// Calls per second, in an open loop [default: each connection calls again as soon as it is answered]
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    #[command(flatten)]
    /// How calls are spread over time.
    pub arrivals: ArrivalArgs,
}

/// How the calls of an open loop are spread.
#[derive(Args, Clone, Debug)]
pub struct ArrivalArgs {
    /// Spread the calls of an open loop as a Poisson process, not evenly
    #[arg(long)]
    pub poisson: bool,
    /// The seed of a Poisson process
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl ArrivalArgs {
    /// How calls are spread over time.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        if self.poisson { Arrivals::Poisson { seed: self.seed } } else { Arrivals::Constant }
    }
}

impl RateArgs {
    /// The mode that these flags describe.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.rate.map_or(Mode::Closed, |rate| Mode::Open { rate, arrivals: self.arrivals.arrivals() })
    }
}

/// The drivers, as command-line values.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DriverArg {
    /// The best driver that this system allows
    Auto,
    /// The io_uring interface of Linux
    Uring,
    /// The epoll interface of Linux
    Epoll,
}

impl From<DriverArg> for DriverChoice {
    fn from(driver: DriverArg) -> DriverChoice {
        match driver {
            DriverArg::Auto => DriverChoice::Auto,
            DriverArg::Uring => DriverChoice::Uring,
            DriverArg::Epoll => DriverChoice::Epoll,
        }
    }
}

/// The flags of the thread that generates the load.
#[derive(Args, Clone, Debug)]
pub struct GeneratorArgs {
    /// The CPU to which the generator is pinned
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// The driver, which is the interface to the kernel
    #[arg(long, value_enum, default_value = "auto")]
    pub driver: DriverArg,
    /// How long before a planned call the generator stops sleeping and polls the clock
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "100us")]
    pub spin: Duration,
    /// How long the generator polls for answers before it sleeps
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "0s")]
    pub answer_spin: Duration,
}

impl GeneratorArgs {
    /// The settings that these flags describe.
    #[must_use]
    pub fn settings(&self) -> GeneratorSettings {
        GeneratorSettings {
            cpu: self.cpu,
            driver: self.driver.into(),
            spin: self.spin,
            answer_spin: self.answer_spin,
            ..GeneratorSettings::default()
        }
    }
}

/// The flags that name the processes under test.
#[derive(Args, Clone, Debug)]
pub struct WatchArgs {
    /// The id of a process whose CPU time and memory are measured, with its children; may be repeated
    #[arg(long = "watch", alias = "pid", value_name = "PID")]
    pub pids: Vec<u32>,
}

impl WatchArgs {
    /// The processes that these flags name.
    #[must_use]
    pub fn watched(&self) -> Watched {
        Watched::pids(self.pids.iter().copied())
    }
}

fn header(text: &str) -> Result<(String, String), LoadError> {
    let fault = || LoadError::Header(text.to_owned());
    let (name, value) = text.split_once(':').ok_or_else(fault)?;
    let (name, value) = (name.trim(), value.trim());
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let is_text = |b: u8| b == b'\t' || (0x20..0x7f).contains(&b);
    let is_good = !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_text);
    if is_good { Ok((name.to_owned(), value.to_owned())) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_cannot_start_another_line() {
        assert_eq!(header("X-A: b: c"), Ok(("X-A".to_owned(), "b: c".to_owned())));
        for text in ["", "X-A", ": x", "X A: b", "X-A: b\r\nX-B: c", "X-A: \u{e9}"] {
            assert!(header(text).is_err(), "{text}");
        }
    }
}
