use std::fmt;
use std::str::FromStr;

/// How the calls of a route are carried, and with that who can read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// As they are, under the link's TLS alone: the edge reads them.
    #[default]
    Plain,
    /// The edge ends the agent's TLS, and seals each call again in a session of its own with the connector: it reads them,
    /// and what lies between the two does not.
    Resealed,
    /// The agent's own TLS ends in the connector: the edge reads the hostname and nothing else.
    Passthrough,
}

/// Why a text names no way.
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

    /// Whether an inner TLS session carries it, which only the connector can open.
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
