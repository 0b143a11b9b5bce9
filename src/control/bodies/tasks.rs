//! `GET /v1/tasks`: the tool calls of each agent task.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The tasks, and the totals of all tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TasksBody {
    /// Whether tasks are counted (`tasks_max`).
    pub counted: bool,
    /// The tasks, in the requested order.
    pub tasks: Vec<TaskInfo>,
    /// Totals of the calls of all tasks since the start.
    pub total: TaskSummary,
    /// The number of tasks that were dropped because there were too many.
    pub forgotten: u64,
}

/// The calls that an agent made for one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskInfo {
    /// Its id: the value of `task_header`, the trace id, or a hash of the id of its MCP session.
    pub id: String,
    /// The source of the id.
    pub named_by: TaskNamedBy,
    /// The number of tools that were called; 16 means 16 or more.
    pub tools: u64,
    /// The time since its first call, in seconds.
    pub age_s: f64,
    /// The time since its last call ended, in seconds.
    pub idle_s: f64,
    /// Totals of its calls.
    #[serde(flatten)]
    pub summary: TaskSummary,
}

/// The source of a task's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskNamedBy {
    /// The header field that `task_header` configures.
    Header,
    /// The trace id of the header field `traceparent`.
    Trace,
    /// The id of the MCP session.
    Session,
}

/// Totals of tool calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    /// The number of calls.
    pub calls: u64,
    /// The number of calls with the same tool and arguments as another call in the ten minutes before.
    pub repeated: u64,
    /// All calls divided by those that were not repeated: 1 without repetitions.
    pub amplification: f64,
    /// The number of calls that the agent gave up or cancelled before the answer was complete.
    pub given_up: u64,
    /// The number of calls that timed out.
    pub timed_out: u64,
    /// The length of the answers in bytes.
    pub answer_bytes: u64,
    /// Estimated tokens of the answers: a quarter of the bytes of those that are text or JSON.
    pub answer_tokens: u64,
    /// Time in the tunnel, in milliseconds.
    pub tunnel_ms: f64,
    /// Time of the MCP server, in milliseconds.
    pub upstream_ms: f64,
    /// The cost by `price_per_call` and `price_per_million_tokens`, in their unit.
    pub cost: f64,
}
