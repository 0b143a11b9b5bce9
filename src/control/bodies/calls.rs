//! `GET /v1/calls`: the last calls, one by one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::reading::RoleKind;

/// The last calls that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallsBody {
    /// The calls, the last one first.
    pub calls: Vec<CallInfo>,
}

/// One call that has ended, or a connection that did not come to make one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallInfo {
    /// The number of the call in hexadecimal digits, which edge and connector share; null for a connection that made none. The
    /// calls on one inner TLS session have one number at the connector.
    pub id: Option<String>,
    /// The trace that its caller named in `traceparent`.
    pub trace_id: Option<String>,
    /// The role that kept it. In a process with both roles a call is listed by each.
    pub role: RoleKind,
    /// When it ended (RFC 3339).
    pub ended_at: String,
    /// How many seconds ago that was.
    pub age_s: f64,
    /// The address of its caller, as admission rules see it.
    pub from: Option<String>,
    /// The host that it named; its first 63 bytes, if it is longer.
    pub host: Option<String>,
    /// The name of its route.
    pub route: Option<String>,
    /// The id of its tunnel (at an edge).
    pub tunnel: Option<String>,
    /// The connector that it went to (at an edge).
    pub connector: Option<String>,
    /// The MCP method, or the kind of request if there is none; null where it was not read.
    pub method: Option<String>,
    /// The tool, if it called one.
    pub tool: Option<String>,
    /// The HTTP status of the answer; null if there was none.
    pub status: Option<u16>,
    /// How it is counted in `adit_calls_total`; null for a connection that made no call.
    pub outcome: Option<String>,
    /// How far it came.
    pub stopped_at: CallStageName,
    /// What was answered in place of the MCP server; null if that answered.
    pub answered: Option<AnsweredInfo>,
    /// How long each phase took, in microseconds.
    pub phases: BTreeMap<String, f64>,
    /// What was decided about it, in the order in which it was.
    pub decisions: Vec<CallDecision>,
}

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallStageName {
    /// Its connection was refused for its address.
    Accept,
    /// Its connection got no TLS session.
    Tls,
    /// The request is malformed, or did not come in time.
    Request,
    /// A rule of the edge or of the tunnel refused it.
    Admission,
    /// No route has its host.
    Route,
    /// Its breaker held it back.
    Breaker,
    /// Its route had as many calls in flight as its limit allows.
    Concurrency,
    /// The policy of its route denied it.
    Policy,
    /// No link could take it, or its link was lost.
    Link,
    /// The connector did not pass it on.
    Connector,
    /// The MCP server could not be reached, or did not answer completely or in time.
    Upstream,
    /// The caller did not take the whole answer.
    Caller,
    /// The answer was passed on.
    Done,
}

/// What a role answered in place of the MCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnsweredInfo {
    /// A name for programs.
    pub code: String,
    /// The code of the JSON-RPC error; null if it is none.
    pub rpc_code: Option<i32>,
    /// What was wrong and what to do.
    pub message: String,
}

/// One decision about a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallDecision {
    /// Which kind of decision it is.
    pub what: DecisionKind,
    /// By which rule, and with which outcome.
    pub rule: String,
}

/// What is decided about calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    /// Which route it has.
    Route,
    /// Whether its caller may call this, by the policy of the route.
    Policy,
    /// To wait for a place among the calls of its route, or for a connector.
    Wait,
    /// Until when its caller has to be answered.
    Caller,
    /// To let it through as a probe of a breaker.
    Breaker,
    /// Which place it has among the calls of its route.
    Place,
    /// To try another connector, or to send it to the MCP server again.
    Move,
    /// To try it a second time, because the first try was slow.
    Hedge,
    /// How long it may take.
    Deadline,
    /// To tell the MCP server that it is cancelled.
    Cancel,
    /// That it was slow.
    Slow,
    /// To refuse it, or to answer in place of the MCP server.
    Refuse,
}
