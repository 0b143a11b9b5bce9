//! `adit tasks`: the tool calls of each agent task.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{millis, plain};
use crate::cli::live_args::TasksArgs;
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{TaskInfo, TaskNamedBy, TaskSummary, TasksBody};

/// Runs `adit tasks` and returns the exit code.
#[must_use]
pub fn run_tasks(args: &TasksArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(show(args, env))
}

async fn show(args: &TasksArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let query = [("by", args.by.as_str().to_owned()), ("limit", args.limit.to_string())];
    let body: TasksBody = client.get(&["tasks"], &query).await?;
    Ok(if args.json { format!("{:#}\n", serde_json::json!(body)) } else { table(&body) })
}

fn table(body: &TasksBody) -> String {
    let mut table = Table::new([
        "TASK",
        "BY",
        "CALLS",
        "REPEATED",
        "AMPLIFIED",
        "TOOLS",
        "GIVEN UP",
        "TIMED OUT",
        "TOKENS",
        "TUNNEL",
        "SERVER",
        "COST",
        "IDLE",
    ]);
    let named = |by| match by {
        TaskNamedBy::Header => "header",
        TaskNamedBy::Trace => "trace",
        TaskNamedBy::Session => "session",
    };
    for TaskInfo { id, named_by, tools, idle_s, summary, .. } in &body.tasks {
        table.row(row(&plain(id), named(*named_by), &tools.to_string(), summary, &format!("{idle_s:.0}s")));
    }
    if !body.tasks.is_empty() {
        table.row(row("all since the start", "-", "-", &body.total, "-"));
    }
    table.text(match body.counted {
        true => "no tool calls of a task yet: a task is identified by task_header, traceparent or Mcp-Session-Id",
        false => "tasks are not counted: set edge.tasks_max, or for passthrough traffic connect.tasks_max, above 0",
    })
}

fn row(id: &str, named_by: &str, tools: &str, summary: &TaskSummary, idle: &str) -> [String; 13] {
    [
        id.to_owned(),
        named_by.to_owned(),
        summary.calls.to_string(),
        summary.repeated.to_string(),
        format!("{:.2}", summary.amplification),
        tools.to_owned(),
        summary.given_up.to_string(),
        summary.timed_out.to_string(),
        summary.answer_tokens.to_string(),
        millis(summary.tunnel_ms),
        millis(summary.upstream_ms),
        format!("{:.4}", summary.cost),
        idle.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_totals_of_a_task() {
        let summary = TaskSummary {
            calls: 8,
            repeated: 5,
            amplification: 2.67,
            given_up: 3,
            timed_out: 1,
            answer_bytes: 4_000,
            answer_tokens: 1_000,
            tunnel_ms: 2.5,
            upstream_ms: 9_000.0,
            cost: 0.003,
        };
        let task = TaskInfo {
            id: "run\u{1b}[2J".to_owned(),
            named_by: TaskNamedBy::Header,
            tools: 2,
            age_s: 60.0,
            idle_s: 1.0,
            summary: summary.clone(),
        };
        let body = TasksBody { counted: true, tasks: vec![task], total: summary, forgotten: 0 };
        let text = table(&body);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            cells,
            ["run\\u{1b}[2J", "header", "8", "5", "2.67", "2", "3", "1", "1000", "2.50", "9000", "0.0030", "1s"]
        );
        assert!(text.lines().nth(2).unwrap().starts_with("all since the start"));
        let nothing = TasksBody { tasks: Vec::new(), ..body };
        assert!(table(&nothing).contains("task_header"));
        assert!(table(&TasksBody { counted: false, ..nothing }).contains("tasks_max"));
    }
}
