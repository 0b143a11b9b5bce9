use clap::Args;

use crate::cli::admin_args::AdminArgs;

/// The arguments of `adit dashboard`.
#[derive(Args)]
pub struct DashboardArgs {
    /// How to reach the admin API.
    #[command(flatten)]
    pub admin: AdminArgs,
}
