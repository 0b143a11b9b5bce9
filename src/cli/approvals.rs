//! `adit approvals`.

use std::collections::BTreeMap;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::approvals_args::{ApprovalsArgs, ApprovalsCommand};
use crate::cli::call_text::{NONE, plain, plain_quoted};
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{ApprovalInfo, ApprovalStateName, ApprovalsBody, DecideApproval};

/// How much of the arguments a row shows, in characters.
const ARGUMENTS_SHOWN: usize = 120;

/// Runs `adit approvals …` and returns the exit code.
#[must_use]
pub fn run_approvals(args: &ApprovalsArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(run(args, env))
}

async fn run(args: &ApprovalsArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::new(&args.admin, env)?;
    let approvals = match &args.command {
        ApprovalsCommand::List => client.get::<ApprovalsBody>(&["approvals"], &[]).await?.approvals,
        ApprovalsCommand::Approve(decided) | ApprovalsCommand::Deny(decided) => {
            let what = if matches!(args.command, ApprovalsCommand::Approve(_)) { "approve" } else { "deny" };
            let wanted = DecideApproval { by: decided.by.clone(), reason: decided.reason.clone() };
            vec![client.post(&["approvals", &decided.ticket, what], &wanted).await?]
        }
    };
    Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(approvals)) } else { table(&approvals) })
}

fn table(approvals: &[ApprovalInfo]) -> String {
    let mut table = Table::new(["TICKET", "STATE", "ENDS IN", "CALLER", "HOST", "RULE", "CALL", "ARGUMENTS"]);
    for approval in approvals {
        let state = match approval.state {
            ApprovalStateName::Waiting => "waiting",
            ApprovalStateName::Approved => "approved",
            ApprovalStateName::Denied => "denied",
        };
        let state = match &approval.by {
            Some(by) => format!("{state} by {}", plain(by)),
            None => state.to_owned(),
        };
        table.row([
            plain(&approval.ticket),
            state,
            format!("{} s", approval.ends_in_s),
            plain(&approval.caller),
            plain(&approval.host),
            plain(&approval.rule),
            format!("{} {}", plain(&approval.method), plain(&approval.name)),
            arguments(approval),
        ]);
    }
    table.text("no call waits for approval")
}

/// The arguments, or their start; or how long they are, if they are too long to be kept.
fn arguments(approval: &ApprovalInfo) -> String {
    match (&approval.arguments, approval.argument_bytes) {
        (Some(text), _) if text.chars().count() > ARGUMENTS_SHOWN => {
            let start: String = text.chars().take(ARGUMENTS_SHOWN).collect();
            format!("{}… (--json shows all)", plain_quoted(&start))
        }
        (Some(text), _) => plain_quoted(text),
        (None, Some(bytes)) => format!("{bytes} bytes, not kept"),
        (None, None) => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_who_wants_what() {
        let approval = ApprovalInfo {
            ticket: "apr_1".to_owned(),
            state: ApprovalStateName::Approved,
            by: Some("bob".to_owned()),
            host: "a.test".to_owned(),
            rule: "refunds".to_owned(),
            caller: "ali\u{1b}ce (https://login.test)".to_owned(),
            method: "tools/call".to_owned(),
            name: "refund".to_owned(),
            arguments: Some("{\"amount\":1}".to_owned()),
            argument_bytes: Some(12),
            argument_sha256: Some("ab".to_owned()),
            asked_at: "2026-07-28T12:00:00Z".to_owned(),
            ends_in_s: 70,
        };
        let text = table(std::slice::from_ref(&approval));
        for part in ["approved by bob", "70 s", "tools/call refund", "{\"amount\":1}", "refunds"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
        let long = ApprovalInfo { arguments: Some("x".repeat(200)), ..approval.clone() };
        assert!(arguments(&long).ends_with("xx… (--json shows all)"));
        assert_eq!(arguments(&ApprovalInfo { arguments: None, ..approval }), "12 bytes, not kept");
        assert_eq!(table(&[]), "no call waits for approval\n");
    }
}
