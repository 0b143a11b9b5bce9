//! `GET /v1/calls`: the log of the last calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::reading::RoleKind;

/// The calls that match the query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallsBody {
    /// The calls, the last one first.
    pub calls: Vec<CallInfo>,
}

/// One call that has ended, or a connection that ended without a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallInfo {
    /// The number of the call in hexadecimal digits, which edge and connector share; null for a connection that made
    /// none. At the connector, all calls on one inner TLS session have the same number.
    pub id: Option<String>,
    /// The trace id that its caller sent in `traceparent`.
    pub trace_id: Option<String>,
    /// The role that logged it. In a process with both roles each role logs the call.
    pub role: RoleKind,
    /// When it ended (RFC 3339).
    pub ended_at: String,
    /// How many seconds ago that was.
    pub age_s: f64,
    /// The address of its caller, as used by admission rules.
    pub from: Option<String>,
    /// The host that it called, cut to 63 bytes.
    pub host: Option<String>,
    /// The name of its route.
    pub route: Option<String>,
    /// The id of its tunnel (at an edge).
    pub tunnel: Option<String>,
    /// The connector that received it (at an edge).
    pub connector: Option<String>,
    /// The MCP method, or the kind of request if there is none; null if it was not read.
    pub method: Option<String>,
    /// The tool, if it called one.
    pub tool: Option<String>,
    /// The HTTP status of the answer; null if there was none.
    pub status: Option<u16>,
    /// Its outcome in `adit_calls_total`; null for a connection without a call.
    pub outcome: Option<String>,
    /// The stage at which it ended.
    pub stopped_at: CallStageName,
    /// The answer in place of the MCP server's; null if the server answered.
    pub answered: Option<AnsweredInfo>,
    /// How long each phase took, in microseconds.
    pub phases: BTreeMap<String, f64>,
    /// The decisions about it, in order.
    pub decisions: Vec<CallDecision>,
}

/// The stage at which a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStageName {
    /// Its connection was refused for its address.
    Accept,
    /// Its connection got no TLS session.
    Tls,
    /// The request is malformed, or did not arrive in time.
    Request,
    /// A rule of the edge or of the tunnel refused it.
    Admission,
    /// No route has its host.
    Route,
    /// Its circuit breaker refused it.
    Breaker,
    /// Its route had as many calls in flight as its limit allows.
    Concurrency,
    /// The policy of its route denied it.
    Policy,
    /// No link could take it, or its link was lost.
    Link,
    /// The connector did not forward it.
    Connector,
    /// The MCP server could not be reached, or did not answer completely or in time.
    Upstream,
    /// The caller did not receive the whole answer.
    Caller,
    /// The answer was forwarded completely.
    Done,
}

/// The answer of a role in place of the MCP server's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnsweredInfo {
    /// A name for programs.
    pub code: String,
    /// The code of the JSON-RPC error; null if the answer is not a JSON-RPC error.
    pub rpc_code: Option<i32>,
    /// The error and the remedy, for people.
    pub message: String,
}

/// One decision about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallDecision {
    /// The kind of the decision.
    pub what: DecisionKind,
    /// The rule that decided, and the outcome.
    pub rule: String,
}

/// The kinds of decisions about calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// The choice of its route.
    Route,
    /// The decision of its route's policy.
    Policy,
    /// A wait for a place among the calls of its route, or for a connector.
    Wait,
    /// The time limit of its caller.
    Caller,
    /// Its use as a probe of a breaker.
    Breaker,
    /// Its place among the calls of its route.
    Place,
    /// A retry on another connector, or to the MCP server.
    Move,
    /// A second try, because the first was slow.
    Hedge,
    /// The deadline of the call.
    Deadline,
    /// A cancel notification to the MCP server.
    Cancel,
    /// The classification as slow.
    Slow,
    /// A refusal, or an answer in place of the MCP server's.
    Refuse,
}
