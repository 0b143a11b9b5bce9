use std::fmt;
use std::str::FromStr;

/// How the calls of a route are carried, which decides who can read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Plain HTTP under the link's TLS: the edge can read the calls.
    #[default]
    Plain,
    /// Re-encrypted: the edge ends the agent's TLS and carries each call in an inner TLS session to the connector. The
    /// edge can read the calls; whatever lies between edge and connector cannot.
    Resealed,
    /// The agent's own TLS ends in the connector: the edge reads the host name of the TLS handshake and nothing else.
    Passthrough,
}

/// The error for a text that names no kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("traffic is plain, resealed or passthrough")]
pub struct TrafficError;

impl Traffic {
    /// All kinds of traffic, in the order of declaration.
    pub const ALL: [Traffic; 3] = [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough];

    /// The name in settings, the API and metrics. It does not change between releases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Traffic::Plain => "plain",
            Traffic::Resealed => "resealed",
            Traffic::Passthrough => "passthrough",
        }
    }

    /// Whether the traffic is carried in an inner TLS session that only the connector can decrypt.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        !matches!(self, Traffic::Plain)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Traffic {
    type Err = TrafficError;

    fn from_str(text: &str) -> Result<Traffic, TrafficError> {
        Traffic::ALL.into_iter().find(|traffic| traffic.name() == text).ok_or(TrafficError)
    }
}
