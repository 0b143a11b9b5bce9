//! The table of a tool with rules of its own, for hosts and for routes.

use crate::base::GuardMode;
use crate::config::section::section;
use crate::config::values::{Hedge, Millis, Price, ToolName};
use crate::route::HostPattern;

section! {
    /// Settings of a tool that differ from those of its host: one `[[tool]]` each, up to 64 for one host. Read by `adit edge`, and by
    /// `adit connect` for agents whose TLS ends in the connector.
    record "tool" => ToolConfig {
        /// The host as it is written in `[[host]]` or in the tunnel; for a connector, as in `[[route]]`. At the edge, a
        /// host without a table of its own keeps the settings of the `*.` table that covers it.
        host: HostPattern = required, live, like "demo.example.com";
        /// The name of the tool, as in `tools/list`.
        tool: ToolName = required, live, like "search";
        /// What happens to its calls that miss their deadline, if that differs from the host's.
        deadline: Option<GuardMode> = unset, live, like "off";
        /// The shortest deadline of its calls, if that differs from the host's.
        deadline_floor_ms: Option<Millis> = unset in 1..=86_400_000, live, like "10s";
        /// How long the MCP server may take until the first byte of its response, if that differs from the host's; 0
        /// for no limit. Bodies of calls to the host are then read as with `deadline = "enforce"`.
        first_byte_timeout_ms: Option<Millis> = unset in 0..=86_400_000, live, like "15m";
        /// The time limit of a call that reports progress, if that differs from the host's.
        progress_max_ms: Option<Millis> = unset in 1..=86_400_000, live, like "1h";
        /// The mode of the circuit breakers for this tool, instead of the host's.
        breaker: Option<GuardMode> = unset, live, like "off";
        /// Whether its slow calls get a second try, instead of `hedge` of the host. `read-only`: only if the server
        /// declares the tool as read-only. Read by `adit edge` only.
        hedge: Option<Hedge> = unset, live, like "off";
        /// The price of one call of this tool, in the unit of `edge.price_per_million_tokens`, for `adit tasks`. It is
        /// added for each call that was handed to a connector, including calls that failed or timed out there, but not
        /// for calls that were refused. A connector adds it for each call that it sent to the server.
        price_per_call: Price = "0", live, like "0.005";
    }
}
