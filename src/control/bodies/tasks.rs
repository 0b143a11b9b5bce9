//! `GET /v1/tasks`: the tool calls of each agent task.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The tasks that are known, and the totals of all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TasksBody {
    /// Whether tasks are counted (`tasks_max`).
    pub counted: bool,
    /// The tasks, in the order that was asked for.
    pub tasks: Vec<TaskInfo>,
    /// Totals of the calls of all tasks since the start.
    pub total: TaskSummary,
    /// How many tasks were forgotten because there were too many.
    pub forgotten: u64,
}

/// The calls that an agent made for one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskInfo {
    /// What names it: the value of `task_header`, the trace id, or a hash of the id of its MCP session.
    pub id: String,
    /// Which of these that is.
    pub named_by: TaskNamedBy,
    /// How many tools were called; 16 stands for as many or more.
    pub tools: u64,
    /// For how many seconds it has been known.
    pub age_s: f64,
    /// How many seconds ago its last call ended.
    pub idle_s: f64,
    /// Totals of its calls.
    #[serde(flatten)]
    pub summary: TaskSummary,
}

/// What names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskNamedBy {
    /// The header field that `task_header` names.
    Header,
    /// The trace id of the header field `traceparent`.
    Trace,
    /// The id of the MCP session.
    Session,
}

/// Totals of tool calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// How many there were.
    pub calls: u64,
    /// How many had the tool and the arguments of another call within ten minutes before them.
    pub repeated: u64,
    /// Calls for each call that was not repeated: 1 if none was.
    pub amplification: f64,
    /// How many the agent gave up before the answer was complete, or cancelled.
    pub given_up: u64,
    /// How many timed out.
    pub timed_out: u64,
    /// Bytes of the answers.
    pub answer_bytes: u64,
    /// Estimated tokens of the answers: a quarter of the bytes of those that are text or JSON.
    pub answer_tokens: u64,
    /// Time in the tunnel, in milliseconds.
    pub tunnel_ms: f64,
    /// Time of the MCP server, in milliseconds.
    pub upstream_ms: f64,
    /// What they cost by `price_per_call` and `price_per_million_tokens`, in the unit of these.
    pub cost: f64,
}
