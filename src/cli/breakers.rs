//! `adit breakers`.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::breakers_args::{BreakersArgs, BreakersCommand, ForcedBreaker};
use crate::cli::call_text::{NONE, breaker_state, mode_name};
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{BreakerInfo, ForceBreaker, ForcedStateName, OfRole, StatusBody};

/// Runs `adit breakers` and returns the exit code.
#[must_use]
pub fn run_breakers(args: &BreakersArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(run(args, env))
}

async fn run(args: &BreakersArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let (forced, state) = match &args.command {
        None => return show(args, env).await,
        Some(BreakersCommand::Open(forced)) => (forced, ForcedStateName::Open),
        Some(BreakersCommand::Close(forced)) => (forced, ForcedStateName::Closed),
        Some(BreakersCommand::Auto(forced)) => (forced, ForcedStateName::Auto),
    };
    let ForcedBreaker { route, tool, method } = forced;
    let wanted = ForceBreaker { route: route.clone(), method: method.clone(), tool: tool.clone(), state };
    let breaker: BreakerInfo = AdminClient::new(&args.admin, env)?.post(&["breakers"], &wanted).await?;
    Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(breaker)) } else { table([&breaker]) })
}

async fn show(args: &BreakersArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.admin.as_deref(), env)?;
    let StatusBody { breakers, .. } = client.get(&["status"], &[]).await?;
    let of_role = |OfRole { of, .. }: &OfRole<BreakerInfo>| of.clone();
    let breakers: Vec<BreakerInfo> = breakers.iter().map(of_role).collect();
    Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(breakers)) } else { table(&breakers) })
}

fn table<'a>(breakers: impl IntoIterator<Item = &'a BreakerInfo>) -> String {
    let mut table = Table::new([
        "ROUTE",
        "METHOD",
        "TOOL",
        "STATE",
        "AGAIN IN",
        "CALLS",
        "FAILED",
        "LATE",
        "MODE",
        "OPENED",
        "REFUSED",
        "WOULD REFUSE",
    ]);
    for breaker in breakers {
        let name = |name: &str| if name.is_empty() { NONE.to_owned() } else { name.escape_debug().to_string() };
        table.row([
            name(&breaker.route),
            if breaker.method.is_empty() { "(upstream)".to_owned() } else { name(&breaker.method) },
            name(&breaker.tool),
            breaker_state(breaker.state).to_owned(),
            breaker.retry_after_s.map_or_else(|| NONE.to_owned(), |seconds| format!("{seconds} s")),
            breaker.calls.to_string(),
            breaker.failed.to_string(),
            breaker.late.to_string(),
            mode_name(breaker.mode).to_owned(),
            breaker.opened.to_string(),
            breaker.refused.to_string(),
            breaker.would_refuse.to_string(),
        ]);
    }
    table.text("no calls yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::bodies::{BreakerKind, BreakerStateName, GuardModeName};

    #[test]
    fn a_row_has_the_state_of_a_breaker_and_its_reason() {
        let breaker = BreakerInfo {
            breaker: BreakerKind::Tool,
            route: "a.test".to_owned(),
            method: "tools/call".to_owned(),
            tool: "se\u{1b}arch".to_owned(),
            mode: GuardModeName::Enforce,
            state: BreakerStateName::Open,
            retry_after_s: Some(4.2),
            calls: 20,
            failed: 12,
            late: 1,
            opened: 2,
            refused: 31,
            would_refuse: 0,
        };
        let upstream = BreakerInfo {
            method: String::new(),
            tool: String::new(),
            state: BreakerStateName::Closed,
            retry_after_s: None,
            ..breaker.clone()
        };
        let text = table([&upstream, &breaker]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[1][..5], ["a.test", "(upstream)", "-", "closed", "-"]);
        let row =
            ["a.test", "tools/call", "se\\u{1b}arch", "open", "4.2 s", "20", "12", "1", "enforce", "2", "31", "0"];
        assert_eq!(rows[2], row);
        assert_eq!(table([]), "no calls yet\n");
    }
}
