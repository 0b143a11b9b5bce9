//! The results of all paths, as a table and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{GuardSettings, Part, TaskEnd, WayOutcome};
use crate::compare::table::table_of;
use crate::latencies::Latencies;

/// The approximate number of bytes per token.
const BYTES_PER_TOKEN: u64 = 4;

/// The headings of the columns.
const HEADS: [&str; 13] = [
    "path",
    "server slow",
    "tasks",
    "calls sent",
    "run by server",
    "tokens",
    "succeeded",
    "with one run",
    "per second",
    "terminal",
    "p50 ms",
    "p95 ms",
    "p99 ms",
];

/// The sums of the tasks that began in some parts of the run.
#[derive(Clone, Debug)]
struct Sum {
    tasks: u64,
    calls: u64,
    /// Calls on which the server began to work in that time.
    run: u64,
    done: u64,
    done_once: u64,
    terminal: u64,
    tokens: u64,
    /// Tasks done with one run, per second.
    goodput: f64,
    /// The durations of successful tasks.
    took: Latencies,
}

impl Sum {
    /// The sums of these consecutive parts.
    fn of(outcome: &WayOutcome, settings: &GuardSettings, parts: &[Part]) -> Sum {
        let seconds: f64 = parts.iter().map(|part| settings.parts[*part as usize].as_secs_f64()).sum();
        let times: Vec<_> = parts.iter().map(|part| settings.time_of(*part)).collect();
        let is_in = |task: &&TaskEnd| times.iter().any(|time| time.contains(&task.began));
        let tasks: Vec<&TaskEnd> = outcome.tasks.iter().filter(is_in).collect();
        let sum = |count: fn(&TaskEnd) -> u64| tasks.iter().map(|task| count(task)).sum::<u64>();
        let (calls, done_once) = (sum(|task| task.calls.into()), sum(|task| task.is_done_once().into()));
        let mut took = Latencies::new();
        tasks.iter().filter(|task| task.is_done).for_each(|task| took.record(task.took));
        Sum {
            tasks: tasks.len() as u64,
            calls,
            run: parts.iter().map(|part| outcome.served[*part as usize]).sum(),
            done: sum(|task| task.is_done.into()),
            done_once,
            terminal: sum(|task| task.is_terminal.into()),
            tokens: calls * settings.context_tokens + sum(|task| task.bytes) / BYTES_PER_TOKEN,
            goodput: done_once as f64 / seconds,
            took,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "tasks": self.tasks,
            "tasks_done": self.done,
            "tasks_done_once": self.done_once,
            "tasks_terminal": self.terminal,
            "calls_sent": self.calls,
            "calls_run": self.run,
            "tokens": self.tokens,
            "goodput_per_s": self.goodput,
            "took": self.took.to_json(),
        })
    }
}

/// How long after the server's recovery tasks are normal again; none if they are not before the end.
fn normal_after(outcome: &WayOutcome, settings: &GuardSettings) -> Option<Duration> {
    let recovered = settings.bad().end;
    let later: Vec<&TaskEnd> = outcome.tasks.iter().filter(|task| task.began >= recovered).collect();
    let last_bad = later.iter().rposition(|task| !settings.is_normal(task));
    match last_bad {
        None => Some(Duration::ZERO),
        Some(at) => later.get(at + 1).map(|task| task.began - recovered),
    }
}

/// The rows of each path: when the server is slow, for people and for programs.
const ROWS: [(&str, &str, &[Part]); 3] = [
    ("for a quarter", "quarter", &[Part::Quarter]),
    ("for all", "all", &[Part::All]),
    ("both", "bad", &[Part::Quarter, Part::All]),
];

/// The report as a table.
pub(crate) fn text(outcomes: &[WayOutcome], settings: &GuardSettings) -> String {
    let row = |outcome: &WayOutcome, (name, _, parts): (&str, &str, &[Part])| {
        let sum = Sum::of(outcome, settings, parts);
        let ms = |q: f64| if sum.done == 0 { String::new() } else { format!("{:.0}", sum.took.quantile_us(q) / 1e3) };
        vec![
            outcome.way.name().to_owned(),
            name.to_owned(),
            sum.tasks.to_string(),
            sum.calls.to_string(),
            sum.run.to_string(),
            format!("{:.1} M", sum.tokens as f64 / 1e6),
            sum.done.to_string(),
            sum.done_once.to_string(),
            format!("{:.1}", sum.goodput),
            sum.terminal.to_string(),
            ms(0.5),
            ms(0.95),
            ms(0.99),
        ]
    };
    let rows = outcomes.iter().flat_map(|outcome| ROWS.map(|kind| row(outcome, kind)));
    let ends = outcomes.iter().map(|outcome| {
        let normal = normal_after(outcome, settings);
        let normal = normal.map_or_else(|| "not".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()));
        format!(
            "{}: {normal} after the server recovered, tasks are as before; in the whole run the tool ran again {} times for a task",
            outcome.way.name(),
            outcome.repeated
        )
    });
    format!(
        "{:.0} tasks a second; agents wait for {:?} and repeat a call up to {} times; a call takes the server {:?}, then for {:?} a \
         quarter of the calls and for {:?} all of them {:?}; tokens: {} for each call, plus a quarter of the bytes of answers\n{}\n\
         {}\n",
        settings.rate,
        settings.timeout,
        settings.retries,
        settings.service,
        settings.parts[1],
        settings.parts[2],
        settings.slow,
        settings.context_tokens,
        table_of(&HEADS, 2, rows),
        ends.collect::<Vec<_>>().join("\n"),
    )
}

/// The report as JSON.
pub(crate) fn to_json(outcomes: &[WayOutcome], settings: &GuardSettings) -> Value {
    let row = |outcome: &WayOutcome| {
        let mut row = json!({
            "path": outcome.way.name(),
            "tasks_left_out": outcome.left_out,
            "calls_run_all": outcome.served.iter().sum::<u64>(),
            "calls_run_again": outcome.repeated,
            "normal_after_ms": normal_after(outcome, settings).map(|after| after.as_secs_f64() * 1e3),
        });
        for (_, name, parts) in ROWS {
            row[name] = Sum::of(outcome, settings, parts).to_json();
        }
        row
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
        let (may_have_run, is_terminal) = (calls > 1, !is_done && calls == 1);
        TaskEnd { began, took, calls, is_done, may_have_run, is_terminal, bytes: 400 }
    }

    fn outcome(tasks: Vec<TaskEnd>) -> WayOutcome {
        WayOutcome {
            way: Way::Guarded,
            tasks,
            left_out: 0,
            served: [1, 3, 4, 1],
            repeated: 5,
            served_over_time: vec![],
        }
    }

    #[test]
    fn only_the_bad_time_is_summed_and_recovery_is_when_the_last_bad_task_is_over() {
        let tasks = vec![
            task(1, 50, 1, true),
            task(20, 50, 1, true),
            task(30, 20_000, 4, false),
            task(40, 1_000, 1, false),
            task(45, 5_050, 2, true),
            task(61, 50, 1, true),
            task(62, 5_050, 2, true),
            task(64, 60, 1, true),
        ];
        let (settings, outcome) = (settings(), outcome(tasks));
        let found = to_json(std::slice::from_ref(&outcome), &settings);
        let row = &found["rows"][0];
        let count = |part: &str, name: &str| row[part][name].as_u64().unwrap_or_else(|| panic!("{part} {name}: {row}"));
        let counts = |part| ["tasks", "tasks_done", "tasks_done_once", "tasks_terminal"].map(|name| count(part, name));
        assert_eq!([counts("quarter"), counts("all"), counts("bad")], [[1, 1, 1, 0], [3, 1, 0, 1], [4, 2, 1, 1]]);
        assert_eq!(["calls_sent", "calls_run", "tokens"].map(|name| count("bad", name)), [8, 7, 160_400]);
        assert_eq!(
            (row["quarter"]["goodput_per_s"].as_f64(), row["bad"]["goodput_per_s"].as_f64()),
            (Some(0.05), Some(0.02))
        );
        assert_eq!((row["normal_after_ms"].as_f64(), row["calls_run_again"].as_u64()), (Some(4_000.0), Some(5)));
        assert_eq!(row["bad"]["took"]["count"], 2);
        assert!(text(&[outcome], &settings).contains("adit, guarded"));
    }

    #[test]
    fn a_fault_without_recovery_is_reported() {
        let (settings, never) = (settings(), outcome(vec![task(61, 50, 1, true), task(65, 9_000, 4, false)]));
        assert_eq!(normal_after(&never, &settings), None);
        assert!(text(&[never], &settings).contains("guarded: not after"));
        assert_eq!(normal_after(&outcome(vec![task(61, 50, 1, true)]), &settings), Some(Duration::ZERO));
    }
}
