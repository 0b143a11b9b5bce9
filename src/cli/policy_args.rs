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
