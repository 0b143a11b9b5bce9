//! The results of all paths, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{GuardSettings, TaskEnd, WayOutcome};
use crate::compare::table::table_of;
use crate::latencies::Latencies;

/// So many bytes of answers are about one token.
const BYTES_PER_TOKEN: u64 = 4;

/// The columns: what stands above each.
const HEADS: [&str; 11] = [
    "path",
    "calls",
    "executed",
    "tokens",
    "tasks",
    "succeeded",
    "terminal",
    "succeeded/s",
    "p50 ms",
    "p99 ms",
    "recovered after",
];

/// The totals of a path.
#[derive(Clone, Debug)]
struct Sum {
    /// Of the bad time.
    tasks: u64,
    calls: u64,
    done: u64,
    terminal: u64,
    tokens: u64,
    goodput: f64,
    /// Of tasks of the whole time that were done.
    took: Latencies,
    /// When tasks were as in normal times again, from the moment when the server was.
    normal_after: Option<Duration>,
}

impl Sum {
    fn of(outcome: &WayOutcome, settings: &GuardSettings) -> Sum {
        let bad = settings.bad();
        let in_bad: Vec<&TaskEnd> = outcome.tasks.iter().filter(|task| bad.contains(&task.began)).collect();
        let sum = |count: fn(&TaskEnd) -> u64| in_bad.iter().map(|task| count(task)).sum::<u64>();
        let (calls, done) = (sum(|task| task.calls.into()), sum(|task| task.is_done.into()));
        let mut took = Latencies::new();
        outcome.tasks.iter().filter(|task| task.is_done).for_each(|task| took.record(task.took));
        Sum {
            tasks: in_bad.len() as u64,
            calls,
            done,
            terminal: sum(|task| task.is_terminal.into()),
            tokens: calls * settings.context_tokens + sum(|task| task.bytes) / BYTES_PER_TOKEN,
            goodput: done as f64 / (bad.end - bad.start).as_secs_f64(),
            took,
            normal_after: normal_after(outcome, settings),
        }
    }
}

/// How long after the server tasks are as in normal times; none if they are not before the end.
fn normal_after(outcome: &WayOutcome, settings: &GuardSettings) -> Option<Duration> {
    let recovered = settings.bad().end;
    let later: Vec<&TaskEnd> = outcome.tasks.iter().filter(|task| task.began >= recovered).collect();
    let last_bad = later.iter().rposition(|task| !settings.is_normal(task));
    match last_bad {
        None => Some(Duration::ZERO),
        Some(at) => later.get(at + 1).map(|task| task.began - recovered),
    }
}

/// The table.
pub(crate) fn text(outcomes: &[WayOutcome], settings: &GuardSettings) -> String {
    let rows = outcomes.iter().map(|outcome| {
        let sum = Sum::of(outcome, settings);
        let ms = |q: f64| format!("{:.0}", sum.took.quantile_us(q) / 1e3);
        vec![
            outcome.way.name().to_owned(),
            sum.calls.to_string(),
            outcome.served_bad.to_string(),
            sum.tokens.to_string(),
            sum.tasks.to_string(),
            sum.done.to_string(),
            sum.terminal.to_string(),
            format!("{:.1}", sum.goodput),
            ms(0.5),
            ms(0.99),
            sum.normal_after.map_or_else(|| "never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64())),
        ]
    });
    let bad = settings.bad();
    format!(
        "{:.0} tasks a second; agents give up after {:?} and try again up to {} times; the server takes {:?}, then for {:?} a \
         quarter of the calls and for {:?} all of them {:?}\n{}\ncalls to succeeded/s: of the tasks that began in the {:?} \
         while the server was slow; executed: calls that the server started in that time; terminal: tasks that ended because an answer \
         said not to retry; tokens: {} for each call, plus a quarter of the bytes of answers; p50 and p99: of all tasks that \
         succeeded\n",
        settings.rate,
        settings.timeout,
        settings.retries,
        settings.service,
        settings.parts[1],
        settings.parts[2],
        settings.slow,
        table_of(&HEADS, 1, rows),
        bad.end - bad.start,
        settings.context_tokens,
    )
}

/// The same for programs.
pub(crate) fn to_json(outcomes: &[WayOutcome], settings: &GuardSettings) -> Value {
    let row = |outcome: &WayOutcome| {
        let sum = Sum::of(outcome, settings);
        json!({
            "path": outcome.way.name(),
            "tasks": sum.tasks,
            "tasks_done": sum.done,
            "tasks_terminal": sum.terminal,
            "tasks_left_out": outcome.left_out,
            "calls_sent": sum.calls,
            "calls_run": outcome.served_bad,
            "calls_run_all": outcome.served,
            "tokens": sum.tokens,
            "goodput_per_s": sum.goodput,
            "took": sum.took.to_json(),
            "normal_after_ms": sum.normal_after.map(|after| after.as_secs_f64() * 1e3),
        })
    };
    json!({ "rows": outcomes.iter().map(row).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Way;
    use crate::guard::tests::settings;

    fn task(began_s: u64, took_ms: u64, calls: u32, is_done: bool) -> TaskEnd {
        let (began, took) = (Duration::from_secs(began_s), Duration::from_millis(took_ms));
        TaskEnd { began, took, calls, is_done, is_terminal: !is_done && calls == 1, bytes: 400 }
    }

    fn outcome(tasks: Vec<TaskEnd>) -> WayOutcome {
        WayOutcome { way: Way::Guarded, tasks, left_out: 0, served_bad: 7, served: 9 }
    }

    #[test]
    fn only_the_bad_time_is_summed_and_recovery_is_when_the_last_bad_task_is_over() {
        let tasks = vec![
            task(1, 50, 1, true),
            task(20, 50, 1, true),
            task(30, 20_000, 4, false),
            task(40, 1_000, 1, false),
            task(61, 50, 1, true),
            task(62, 5_050, 2, true),
            task(64, 60, 1, true),
        ];
        let (settings, outcome) = (settings(), outcome(tasks));
        let found = to_json(std::slice::from_ref(&outcome), &settings);
        let row = &found["rows"][0];
        let count = |name: &str| row[name].as_u64();
        assert_eq!((count("tasks"), count("tasks_done"), count("tasks_terminal")), (Some(3), Some(1), Some(1)));
        assert_eq!((count("calls_sent"), count("calls_run"), count("tokens")), (Some(6), Some(7), Some(120_300)));
        assert_eq!((row["goodput_per_s"].as_f64(), row["normal_after_ms"].as_f64()), (Some(0.02), Some(4_000.0)));
        assert_eq!(row["took"]["count"], 5);
        assert!(text(&[outcome], &settings).contains("adit, guarded"));
    }

    #[test]
    fn one_that_does_not_recover_says_so() {
        let (settings, never) = (settings(), outcome(vec![task(61, 50, 1, true), task(65, 9_000, 4, false)]));
        assert_eq!(normal_after(&never, &settings), None);
        assert!(text(&[never], &settings).contains("never"));
        assert_eq!(normal_after(&outcome(vec![task(61, 50, 1, true)]), &settings), Some(Duration::ZERO));
    }
}
