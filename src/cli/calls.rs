//! `adit calls`: the last calls, one per line.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{NONE, millis, plain, stopped};
use crate::cli::live_args::CallsArgs;
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{CallInfo, CallsBody};

/// Runs `adit calls` and returns the exit code.
#[must_use]
pub fn run_calls(args: &CallsArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(show(args, env))
}

async fn show(args: &CallsArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let named = [("host", &args.host), ("tool", &args.tool)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    let since = args.since.map(|since| ("since_s", since.0.div_ceil(1_000).to_string()));
    let failed = args.failed.then(|| ("failed", "true".to_owned()));
    let limit = ("limit", args.limit.to_string());
    let query: Vec<(&str, String)> = named.chain(since).chain(failed).chain([limit]).collect();
    let body: CallsBody = client.get(&["calls"], &query).await?;
    Ok(if args.json { format!("{:#}\n", serde_json::json!(body)) } else { table(&body) })
}

fn table(body: &CallsBody) -> String {
    let mut table =
        Table::new(["AGO", "ROLE", "ID", "FROM", "HOST", "METHOD", "TOOL", "STATUS", "TOTAL", "STOPPED AT", "WHY"]);
    for call in &body.calls {
        let text = |text: &Option<String>| text.as_deref().map_or_else(|| NONE.to_owned(), plain);
        let total = call.phases.get("total_last").or_else(|| call.phases.get("total"));
        table.row([
            ago(call.age_s),
            call.role.as_str().to_owned(),
            text(&call.id),
            text(&call.from),
            text(&call.host),
            text(&call.method),
            text(&call.tool),
            call.status.map_or_else(|| NONE.to_owned(), |status| status.to_string()),
            total.map_or_else(|| NONE.to_owned(), |us| millis(us / 1e3)),
            stopped(call.stopped_at).to_owned(),
            why(call),
        ]);
    }
    table.text("no calls, and no connections that were turned away")
}

/// Why a call was not answered by the server, in one word.
fn why(call: &CallInfo) -> String {
    let answered = call.answered.as_ref().map(|answered| answered.code.as_str());
    let outcome = call.outcome.as_deref().filter(|outcome| *outcome != "ok");
    answered.or(outcome).map_or_else(|| NONE.to_owned(), str::to_owned)
}

/// How long ago, in the most suitable unit.
fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1}s"),
        s if s < 6_000.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.0}h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::explain::tests::call;
    use crate::control::bodies::CallStageName;

    fn rows(text: &str) -> Vec<Vec<String>> {
        let cells =
            |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
        text.lines().map(cells).collect()
    }

    #[test]
    fn a_row_says_where_a_call_stopped_and_why() {
        let turned_away = CallInfo {
            id: None,
            host: None,
            method: None,
            tool: None,
            status: None,
            outcome: None,
            stopped_at: CallStageName::Tls,
            phases: BTreeMap::new(),
            age_s: 754.0,
            ..call()
        };
        let text = table(&CallsBody { calls: vec![call(), turned_away] });
        let rows = rows(&text);
        assert_eq!(
            rows[1],
            [
                "2.0s",
                "edge",
                "1f3",
                "192.0.2.7",
                "demo.test",
                "tools/call",
                "sea\\u{1b}[2Jrch",
                "504",
                "3000",
                "server",
                "deadline"
            ]
        );
        assert_eq!(rows[2][..2], ["13m", "edge"]);
        assert_eq!(rows[2][2..], [NONE, "192.0.2.7", NONE, NONE, NONE, NONE, NONE, "tls", "deadline"]);
        assert!(table(&CallsBody { calls: Vec::new() }).starts_with("no calls"));
    }
}
