//! The flags of the commands that read what a running process has measured.

use clap::{Args, ValueEnum};

use crate::config::Millis;

/// The arguments of `adit latency`.
#[derive(Args)]
pub struct LatencyArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// The calls of this route alone, by its name
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit limits`.
#[derive(Args)]
pub struct LimitsArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit calls`.
#[derive(Args)]
pub struct CallsArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// The calls for this host, or of the route with this name
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The calls of this tool
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,
    /// Only calls that failed: not answered completely, or with a status of 400 or higher
    #[arg(long)]
    pub failed: bool,
    /// Only calls that ended within this time, such as 10m
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Millis>,
    /// The most calls that are listed, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The id of the call, or of its trace
    #[arg(value_name = "ID")]
    pub id: String,
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// The arguments of `adit tasks`.
#[derive(Args)]
pub struct TasksArgs {
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Which tasks come first: those with the highest cost, amplification or number of calls, or the last call
    #[arg(long, value_name = "ORDER", value_enum, default_value_t = TaskOrderArg::Cost)]
    pub by: TaskOrderArg,
    /// The most tasks that are listed, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Print the answer of the admin API as JSON
    #[arg(long)]
    pub json: bool,
}

/// By what tasks are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskOrderArg {
    /// What their calls cost by the prices that are set.
    Cost,
    /// Calls for each call that was not repeated.
    Amplification,
    /// How many calls they have.
    Calls,
    /// When their last call ended.
    Last,
}

impl TaskOrderArg {
    /// The name in the API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            TaskOrderArg::Cost => "cost",
            TaskOrderArg::Amplification => "amplification",
            TaskOrderArg::Calls => "calls",
            TaskOrderArg::Last => "last",
        }
    }
}
