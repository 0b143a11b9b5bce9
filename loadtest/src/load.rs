//! What is to be measured: the load, as plain values.

use std::time::Duration;

use adit::engine::ladder::DriverChoice;

pub use crate::target::{Target, Trust};

/// Connections at the most.
pub const CONNECTIONS_MAX: usize = 20_000;
/// The highest rate that is planned, in calls per second.
pub const RATE_MAX: f64 = 10_000_000.0;
/// The largest body of one request, in bytes.
pub const PAYLOAD_MAX: u64 = 1 << 34;
/// The largest body of one MCP call, in bytes: it is kept whole.
pub const MCP_PAYLOAD_MAX: u64 = 1 << 24;
/// The shortest time that is measured: below it percentiles say nothing.
pub const MEASURE_MIN: Duration = Duration::from_millis(10);

/// One load: what is called, how, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server that is called.
    pub target: Target,
    /// What each call is.
    pub call: Call,
    /// When calls are made.
    pub mode: Mode,
    /// How many connections there are: in a closed loop all of them have a call in flight, in an open one they bound how
    /// many can be.
    pub connections: usize,
    /// What becomes of a connection after a call.
    pub reuse: Reuse,
    /// How long each phase takes.
    pub phases: Phases,
    /// What bounds the run, and what makes it void.
    pub limits: Limits,
    /// The generator's own thread.
    pub generator: GeneratorSettings,
    /// Whether to read, of each answer, how the tunnel split its time and what the upstream says of it.
    pub split: bool,
    /// Whether to keep, of each call, when it was made and when it ended.
    pub trace: bool,
}

impl Load {
    /// The given target, called with [`Call::default`] in a closed loop over one kept connection.
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

    /// Checks what can be checked without asking anybody.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn check(&self) -> Result<(), LoadError> {
        if let Mode::Open { rate, .. } = self.mode {
            // Not a number is refused too.
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
    /// The number of connections.
    #[error("{0} connections: give 1 to {CONNECTIONS_MAX}")]
    Connections(usize),
    /// A header that cannot be sent.
    #[error("the header '{0}' cannot be sent: write Name: value, in visible characters")]
    Header(String),
    /// The time to measure.
    #[error("measuring for {0:?} says nothing: give at least {MEASURE_MIN:?}")]
    Measure(Duration),
    /// The payload is too long.
    #[error("a payload of {payload} bytes: give at most {payload_max} for this kind of call")]
    Payload {
        /// As it was given.
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
        /// As it was written.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What each call is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The protocol and the kind of call.
    pub kind: CallKind,
    /// The tool of an MCP call.
    pub tool: String,
    /// Bytes of the request's body. An MCP call is never shorter than its envelope.
    pub payload: u64,
    /// Fields to add to each request's head.
    pub headers: Vec<(String, String)>,
}

impl Default for Call {
    fn default() -> Call {
        Call { kind: CallKind::default(), tool: "echo".to_owned(), payload: 1024, headers: Vec::new() }
    }
}

/// Which kind of call.
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
    /// By a plan that does not look at the answers: latency counts from the planned moment.
    Open {
        /// The rate, in calls per second.
        rate: f64,
        /// How they are spread.
        arrivals: Arrivals,
    },
    /// On each connection as soon as its last answer is there.
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

/// What becomes of a connection after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// It is kept for the next one.
    #[default]
    KeepAlive,
    /// It is closed: each call makes a connection of its own, and connecting is part of its time.
    PerCall,
}

/// How long each phase takes. Before them every connection is made, within [`Limits::connect_timeout`], and proved by a
/// call, within [`Limits::call_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// Calls that are made and not counted.
    pub warm_up: Duration,
    /// Calls that are counted.
    pub measure: Duration,
    /// How long calls may take that are still in flight afterwards.
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

/// What bounds a run, and what makes it void.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Due calls that may wait for a connection, in an open loop. One more makes the run void.
    pub outstanding_max: usize,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// How long making one connection may take, TLS included.
    pub connect_timeout: Duration,
    /// How long every call may fail before the run is given up.
    pub patience: Duration,
    /// The generator may be this late at its 99th percentile; later, and the run is void.
    pub lag_p99_max: Duration,
    /// So may it in relation to the 99th percentile that it reports.
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

/// The thread that makes the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorSettings {
    /// The CPU that it keeps to; none leaves it to the system.
    pub cpu: Option<usize>,
    /// What talks to the kernel.
    pub driver: DriverChoice,
    /// How long before a planned call it stops sleeping and looks at the clock instead.
    pub spin: Duration,
    /// How long it looks for answers before it sleeps.
    pub answer_spin: Duration,
    /// Bytes of buffers, at the most.
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
