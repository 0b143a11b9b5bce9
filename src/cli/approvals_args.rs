use clap::{Args, Subcommand};

use crate::cli::admin_args::AdminArgs;

/// The arguments of `adit approvals`.
#[derive(Args)]
pub struct ApprovalsArgs {
    /// How to reach the admin API.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: ApprovalsCommand,
}

/// The commands under `adit approvals`.
#[derive(Subcommand)]
pub enum ApprovalsCommand {
    /// List the calls that wait, and those that were decided about and not made yet
    List,
    /// Let the caller make the call once
    Approve(DecidedApproval),
    /// Refuse the call, for as long as it would have waited
    Deny(DecidedApproval),
}

/// About which call is decided, and by whom.
#[derive(Args)]
pub struct DecidedApproval {
    /// The ticket of the call
    #[arg(value_name = "TICKET")]
    pub ticket: String,
    /// Who decides, for the audit log
    #[arg(long, value_name = "NAME")]
    pub by: String,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
