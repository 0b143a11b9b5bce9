use clap::Args;

use crate::config::Millis;

/// The arguments of `adit top`.
#[derive(Args)]
pub struct TopArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// How often to ask the process, 200ms at least
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub interval: Millis,
    /// End after this many samples [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print text for each sample, as if standard output were no terminal
    #[arg(long)]
    pub plain: bool,
    /// Print one JSON object on a line for each sample
    #[arg(long)]
    pub json: bool,
}
