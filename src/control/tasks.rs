//! The tool calls of each agent task, for metrics and `GET /v1/tasks`.

use serde::Deserialize;

use crate::base::Count;
use crate::control::bodies::{TaskInfo, TaskNamedBy, TaskSummary, TasksBody};
use crate::control::report::{millis, seconds};
use crate::latency::{PRICE_UNIT, TaskFigures, TaskId, TaskLine, TaskSnapshot};

/// The order in which tasks are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskOrder {
    /// By cost, the highest first.
    #[default]
    Cost,
    /// By amplification, the highest first.
    Amplification,
    /// By number of calls, the highest first.
    Calls,
    /// By the end of their last call, the latest first.
    Last,
}

/// The counters of all tasks, for metrics.
pub(super) fn counts(tasks: &TaskSnapshot) -> [Count; 6] {
    let count = |name, help, count| Count { name, help, count };
    let TaskFigures { calls, repeated, given_up, timed_out, tokens, .. } = tasks.total;
    [
        count("task_calls", "Tool calls that belong to a task", calls),
        count("task_calls_repeated", "Tool calls that repeat one of their task, with the same arguments", repeated),
        count("task_calls_given_up", "Tool calls of tasks that the agent gave up or cancelled", given_up),
        count("task_calls_timed_out", "Tool calls of tasks that timed out", timed_out),
        count("task_answer_tokens", "Estimated tokens of answers to tool calls of tasks", tokens),
        count("tasks_forgotten", "Tasks that were forgotten because there were too many", tasks.forgotten),
    ]
}

impl TasksBody {
    /// At most `limit` tasks in this order; an empty body if the role does not count tasks.
    pub(super) fn of(reading: Option<TaskSnapshot>, order: TaskOrder, limit: usize) -> TasksBody {
        let Some(TaskSnapshot { mut lines, total, forgotten }) = reading else {
            return TasksBody { counted: false, tasks: Vec::new(), total: TaskSummary::default(), forgotten: 0 };
        };
        lines.sort_by(|one, other| {
            let by_calls = || other.figures.calls.cmp(&one.figures.calls);
            let by_last = || one.idle.cmp(&other.idle);
            match order {
                TaskOrder::Cost => other.figures.cost.cmp(&one.figures.cost).then_with(by_calls).then_with(by_last),
                TaskOrder::Amplification => {
                    let [one, other] = [one, other].map(|line| line.figures.amplification());
                    other.total_cmp(&one).then_with(by_calls).then_with(by_last)
                }
                TaskOrder::Calls => by_calls().then_with(by_last),
                TaskOrder::Last => by_last(),
            }
        });
        lines.truncate(limit);
        let tasks = lines.iter().map(TaskInfo::of).collect();
        TasksBody { counted: true, tasks, total: TaskSummary::of(&total), forgotten }
    }
}

impl TaskInfo {
    fn of(line: &TaskLine) -> TaskInfo {
        let (id, named_by) = match line.id {
            TaskId::Named(name) => (name.as_str().to_owned(), TaskNamedBy::Header),
            TaskId::Trace(trace) => (trace.to_string(), TaskNamedBy::Trace),
            TaskId::Session(hash) => (format!("{hash:016x}"), TaskNamedBy::Session),
        };
        TaskInfo {
            id,
            named_by,
            tools: line.tools as u64,
            age_s: seconds(line.age),
            idle_s: seconds(line.idle),
            summary: TaskSummary::of(&line.figures),
        }
    }
}

impl TaskSummary {
    fn of(figures: &TaskFigures) -> TaskSummary {
        TaskSummary {
            calls: figures.calls,
            repeated: figures.repeated,
            amplification: (figures.amplification() * 100.0).round() / 100.0,
            given_up: figures.given_up,
            timed_out: figures.timed_out,
            answer_bytes: figures.bytes,
            answer_tokens: figures.tokens,
            tunnel_ms: millis(figures.tunnel),
            upstream_ms: millis(figures.upstream),
            cost: figures.cost as f64 / PRICE_UNIT as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::sample;

    fn body(order: TaskOrder, limit: usize) -> TasksBody {
        TasksBody::of(Some(sample::tasks()), order, limit)
    }

    fn ids(order: TaskOrder) -> Vec<String> {
        body(order, 10).tasks.into_iter().map(|task| task.id).collect()
    }

    #[test]
    fn tasks_are_sorted_as_requested() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(ids(TaskOrder::Cost), ["dear", trace, "000000000000002a"]);
        assert_eq!(ids(TaskOrder::Amplification), [trace, "000000000000002a", "dear"]);
        assert_eq!(ids(TaskOrder::Calls), ["000000000000002a", trace, "dear"]);
        assert_eq!(ids(TaskOrder::Last), [trace, "dear", "000000000000002a"]);
        assert_eq!(body(TaskOrder::Cost, 1).tasks.len(), 1);
    }

    #[test]
    fn the_shape_of_tasks_is_stable() {
        let body = body(TaskOrder::Amplification, 1);
        let sent = serde_json::to_value(&body).unwrap();
        assert_eq!(serde_json::from_value::<TasksBody>(sent.clone()).unwrap(), body);
        let expected = json!({
            "id": "4bf92f3577b34da6a3ce929d0e0e4736", "named_by": "trace", "tools": 2, "age_s": 60.0, "idle_s": 1.0,
            "calls": 8, "repeated": 5, "amplification": 2.67, "given_up": 3, "timed_out": 1, "answer_bytes": 4_000,
            "answer_tokens": 1_000, "tunnel_ms": 2.5, "upstream_ms": 9_000.0, "cost": 0.003,
        });
        assert_eq!(sent["tasks"][0], expected);
        assert_eq!((sent["forgotten"].clone(), sent["total"]["calls"].clone()), (json!(7), json!(30)));
        let nothing = TasksBody::of(None, TaskOrder::Cost, 10);
        assert!(!nothing.counted && nothing.tasks.is_empty());
    }
}
