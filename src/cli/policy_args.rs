use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The arguments of `adit policy`.
#[derive(Args)]
pub struct PolicyArgs {
    /// The command to run.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands under `adit policy`.
#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Print everything that is wrong with the file, and what has no effect; exit code 2 if anything is wrong
    Check {
        /// The file of the policy
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run the tests that the file has for itself; exit code 1 if one fails
    Test {
        /// The file of the policy
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Say what is decided about one request, and by which rule; exit code 1 if it is denied
    Explain(PolicyExplainArgs),
    /// Say which recorded calls a new policy would decide in another way; exit code 1 if there are any
    Diff(PolicyDiffArgs),
}

/// What `adit policy diff` compares.
#[derive(Args)]
pub struct PolicyDiffArgs {
    /// The new policy; with two files, the old and the new one. With one, it is compared with what was decided then
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// The directory of the audit log that has the calls
    #[arg(long, value_name = "DIR")]
    pub audit: PathBuf,
    /// Only calls since then: a time (2026-07-28T12:00:00Z), or how long ago (24h)
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub since: String,
    /// Only calls of this route
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// The request that `adit policy explain` is about.
#[derive(Args)]
pub struct PolicyExplainArgs {
    /// The file of the policy
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A role of the caller; may be given several times
    #[arg(long = "as", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The address of the caller, which may give it more roles
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// The tool that is called
    #[arg(long, value_name = "TOOL", group = "asked")]
    pub call: Option<String>,
    /// The arguments of the call, as a JSON object: whether they are within the ceilings of the rule
    #[arg(long, value_name = "JSON")]
    pub arguments: Option<String>,
    /// The prompt that is used
    #[arg(long, value_name = "PROMPT", group = "asked")]
    pub prompt: Option<String>,
    /// The resource that is read
    #[arg(long, value_name = "URI", group = "asked")]
    pub resource: Option<String>,
    /// The method, where it names nothing
    #[arg(long, value_name = "METHOD", group = "asked")]
    pub method: Option<String>,
}
