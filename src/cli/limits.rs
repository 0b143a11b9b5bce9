//! `adit limits`.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{mode_name, plain};
use crate::cli::live_args::LimitsArgs;
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{LimitInfo, OfRole, StatusBody};

/// Runs `adit limits` and returns the exit code.
#[must_use]
pub fn run_limits(args: &LimitsArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(show(args, env))
}

async fn show(args: &LimitsArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let StatusBody { limits, .. } = client.get(&["status"], &[]).await?;
    let limits: Vec<LimitInfo> = limits.into_iter().map(|OfRole { of, .. }| of).collect();
    Ok(if args.json { format!("{:#}\n", serde_json::json!(limits)) } else { table(&limits) })
}

fn table(limits: &[LimitInfo]) -> String {
    let mut table = Table::new([
        "ROUTE",
        "MODE",
        "LIMIT",
        "IN FLIGHT",
        "WAITING",
        "AGENTS",
        "ADMITTED",
        "WAITED",
        "REFUSED",
        "FOR SHARE",
        "WOULD REFUSE",
    ]);
    for limit in limits {
        table.row([
            plain(&limit.route),
            mode_name(limit.mode).to_owned(),
            limit.limit.to_string(),
            limit.in_flight.to_string(),
            limit.waiting.to_string(),
            limit.agents.to_string(),
            limit.admitted.to_string(),
            limit.waited.to_string(),
            limit.refused.to_string(),
            limit.refused_for_share.to_string(),
            limit.would_refuse.to_string(),
        ]);
    }
    table.text("no calls yet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::bodies::GuardModeName;

    #[test]
    fn a_row_says_how_many_calls_a_route_may_have_and_has() {
        let limit = LimitInfo {
            route: "a.test".to_owned(),
            mode: GuardModeName::Enforce,
            limit: 12,
            in_flight: 11,
            waiting: 3,
            agents: 2,
            admitted: 400,
            waited: 40,
            refused: 7,
            refused_for_share: 1,
            would_refuse: 5,
        };
        let text = table(&[limit]);
        let cells: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["a.test", "enforce", "12", "11", "3", "2", "400", "40", "7", "1", "5"]);
        assert_eq!(table(&[]), "no calls yet\n");
    }
}
