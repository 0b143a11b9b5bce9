//! The description of a load, as plain values.

use std::time::Duration;

use adit::engine::ladder::DriverChoice;

pub use crate::target::{Target, Trust};

/// The most connections of a load.
pub const CONNECTIONS_MAX: usize = 20_000;
/// The highest planned rate, in calls per second.
pub const RATE_MAX: f64 = 10_000_000.0;
/// The largest body of one request, in bytes.
pub const PAYLOAD_MAX: u64 = 1 << 34;
/// The largest body of one MCP call, in bytes; it is kept in memory.
pub const MCP_PAYLOAD_MAX: u64 = 1 << 24;
/// The shortest time to measure. Percentiles of a shorter time have no meaning.
pub const MEASURE_MIN: Duration = Duration::from_millis(10);

/// The description of one load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server that is called.
    pub target: Target,
    /// The description of each call.
    pub call: Call,
    /// When calls are made.
    pub mode: Mode,
    /// The number of connections. In a closed loop all of them have a call in flight; in an open loop they limit how
    /// many can have one.
    pub connections: usize,
    /// Whether a connection is reused after a call.
    pub reuse: Reuse,
    /// How long each phase takes.
    pub phases: Phases,
    /// The limits of the run, and what makes it void.
    pub limits: Limits,
    /// The settings of the generator's thread.
    pub generator: GeneratorSettings,
    /// Whether to read from each answer how the tunnel divided its time, and what the upstream reports of it.
    pub split: bool,
    /// Whether to record for each call when it was made and when it ended.
    pub trace: bool,
}

impl Load {
    /// The target, called with [`Call::default`] in a closed loop over one kept connection.
    #[must_use]
    pub fn of(target: Target) -> Load {
        Load {
            target,
            call: Call::default(),
            mode: Mode::Closed,
            connections: 1,
            reuse: Reuse::default(),
            phases: Phases::default(),
            limits: Limits::default(),
            generator: GeneratorSettings::default(),
            split: false,
            trace: false,
        }
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    ///
    /// The first error.
    pub fn check(&self) -> Result<(), LoadError> {
        if let Mode::Open { rate, .. } = self.mode {
            // NaN is refused too.
            if !(rate > 0.0 && rate <= RATE_MAX) {
                return Err(LoadError::Rate(rate));
            }
        }
        if !(1..=CONNECTIONS_MAX).contains(&self.connections) {
            return Err(LoadError::Connections(self.connections));
        }
        if self.phases.measure < MEASURE_MIN {
            return Err(LoadError::Measure(self.phases.measure));
        }
        let payload_max = if self.call.kind.is_mcp() { MCP_PAYLOAD_MAX } else { PAYLOAD_MAX };
        if self.call.payload > payload_max {
            return Err(LoadError::Payload { payload: self.call.payload, payload_max });
        }
        Ok(())
    }
}

/// Why a load cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoadError {
    /// The number of connections is out of range.
    #[error("{0} connections: give 1 to {CONNECTIONS_MAX}")]
    Connections(usize),
    /// A header is not valid.
    #[error("the header '{0}' cannot be sent: write Name: value, in visible characters")]
    Header(String),
    /// The time to measure is too short.
    #[error("measuring for {0:?} is too short: give at least {MEASURE_MIN:?}")]
    Measure(Duration),
    /// The payload is too long.
    #[error("a payload of {payload} bytes: give at most {payload_max} for this kind of call")]
    Payload {
        /// The payload as it was given, in bytes.
        payload: u64,
        /// The most bytes that this kind of call can carry.
        payload_max: u64,
    },
    /// The rate is out of range.
    #[error("a rate of {0} calls per second: give more than 0 and at most {RATE_MAX}, or none for a closed loop")]
    Rate(f64),
    /// The URL cannot be called.
    #[error("the URL '{url}' cannot be called: {why}; write http://host:port/path or https://host:port/path")]
    Url {
        /// The URL as it was written.
        url: String,
        /// The error in the URL.
        why: String,
    },
}

/// The description of each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The protocol and the kind of call.
    pub kind: CallKind,
    /// The tool of an MCP call.
    pub tool: String,
    /// Bytes of the request's body. An MCP call is never shorter than its envelope.
    pub payload: u64,
    /// Fields to add to the head of each request.
    pub headers: Vec<(String, String)>,
    /// The status of good answers; by default any 2xx status and, for MCP calls, a result.
    pub status: Option<u16>,
}

impl Default for Call {
    fn default() -> Call {
        Call { kind: CallKind::default(), tool: "echo".to_owned(), payload: 1024, headers: Vec::new(), status: None }
    }
}

/// The kind of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// MCP `tools/call` in a session of revision 2025-11-25.
    McpSession,
    /// MCP `tools/call` of revision 2026-07-28, without a session.
    #[default]
    McpStateless,
    /// An HTTP GET without MCP.
    Get,
    /// Plain HTTP POST of the payload.
    Post,
    /// A GET whose answer is an event stream, read to its end.
    Sse,
}

impl CallKind {
    /// The name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CallKind::McpSession => "mcp-2025-11-25",
            CallKind::McpStateless => "mcp-2026-07-28",
            CallKind::Get => "get",
            CallKind::Post => "post",
            CallKind::Sse => "sse",
        }
    }

    /// Whether it is an MCP call.
    #[must_use]
    pub const fn is_mcp(self) -> bool {
        matches!(self, CallKind::McpSession | CallKind::McpStateless)
    }
}

/// When calls are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// An open loop: calls follow a plan that does not depend on the answers, and latency counts from the planned time.
    Open {
        /// The rate, in calls per second.
        rate: f64,
        /// How the calls are spread over time.
        arrivals: Arrivals,
    },
    /// A closed loop: each connection makes the next call when the last one is answered.
    Closed,
}

/// How the calls of an open loop are spread over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal intervals, one call after another.
    #[default]
    Constant,
    /// As a Poisson process whose gaps follow from the seed.
    Poisson {
        /// The seed of the random gaps.
        seed: u64,
    },
}

/// What happens to a connection after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// It is kept for the next call.
    #[default]
    KeepAlive,
    /// It is closed. Each call makes its own connection, and connecting is part of its time.
    PerCall,
}

/// How long each phase takes. Before them every connection is made, within [`Limits::connect_timeout`], and tested with
/// a call, within [`Limits::call_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The time in which calls are made and not counted.
    pub warm_up: Duration,
    /// The time in which calls are counted.
    pub measure: Duration,
    /// How long calls that are still in flight may take afterwards.
    pub drain: Duration,
}

impl Default for Phases {
    fn default() -> Phases {
        Phases { warm_up: Duration::from_secs(1), measure: Duration::from_secs(10), drain: Duration::from_secs(5) }
    }
}

/// The default of [`Limits::outstanding_max`].
pub const OUTSTANDING_MAX: usize = 10_000;
/// The default of [`Limits::lag_p99_max`].
pub const LAG_P99_MAX: Duration = Duration::from_micros(50);
/// The default of [`Limits::lag_share_max`].
pub const LAG_SHARE_MAX: f64 = 0.1;

/// The limits of a run, and what makes it void.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How many due calls may wait for a connection, in an open loop. One more makes the run void.
    pub outstanding_max: usize,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// How long making one connection may take, including TLS.
    pub connect_timeout: Duration,
    /// How long every call may fail before the run is given up.
    pub patience: Duration,
    /// The generator's lag at its 99th percentile above which the run is void.
    pub lag_p99_max: Duration,
    /// The same limit as a share of the measured 99th percentile.
    pub lag_share_max: f64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            outstanding_max: OUTSTANDING_MAX,
            call_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            lag_p99_max: LAG_P99_MAX,
            lag_share_max: LAG_SHARE_MAX,
        }
    }
}

/// The default of [`GeneratorSettings::spin`].
pub const SPIN_BEFORE_CALL: Duration = Duration::from_micros(100);

/// The settings of the thread that makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorSettings {
    /// The CPU that it is pinned to; `None` leaves it to the system.
    pub cpu: Option<usize>,
    /// The driver to use.
    pub driver: DriverChoice,
    /// How long before a planned call the thread stops sleeping and polls the clock.
    pub spin: Duration,
    /// How long the thread polls for answers before it sleeps.
    pub answer_spin: Duration,
    /// The most bytes of buffers.
    pub buffer_memory: usize,
}

impl Default for GeneratorSettings {
    fn default() -> GeneratorSettings {
        GeneratorSettings {
            cpu: None,
            driver: DriverChoice::Auto,
            spin: SPIN_BEFORE_CALL,
            answer_spin: Duration::ZERO,
            buffer_memory: adit::engine::BUFFER_MEMORY_DEFAULT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_their_range_are_refused() {
        let good = Load::of("http://a/".parse().unwrap());
        assert_eq!(good.check(), Ok(()));
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, RATE_MAX * 2.0] {
            let load = Load { mode: Mode::Open { rate, arrivals: Arrivals::Constant }, ..good.clone() };
            assert!(matches!(load.check(), Err(LoadError::Rate(_))), "{rate}");
        }
        for connections in [0, CONNECTIONS_MAX + 1] {
            assert!(Load { connections, ..good.clone() }.check().is_err());
        }
        let mut load = good;
        load.phases.measure = Duration::ZERO;
        assert!(load.check().is_err());
    }
}
