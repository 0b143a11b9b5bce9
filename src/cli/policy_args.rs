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
        /// The files of the policy
        #[command(flatten)]
        files: PolicyFiles,
        /// The tools that the policy is compared with: which names and patterns match none of them, and what of Cedar does not fit
        #[command(flatten)]
        tools: PolicyToolsArgs,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Run the tests that the file has for itself; exit code 1 if one fails
    Test {
        /// The files of the policy
        #[command(flatten)]
        files: PolicyFiles,
        /// Print JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Say what is decided about one request, and by which rule; exit code 1 if it is denied
    Explain(PolicyExplainArgs),
    /// Say which recorded calls a new policy would decide in another way; exit code 1 if there are any
    Diff(PolicyDiffArgs),
    /// Print the schema of Cedar policies for the tools of a server
    Schema(PolicyToolsArgs),
}

/// The files of a policy.
#[derive(Args)]
pub struct PolicyFiles {
    /// The file of the policy; with a name that ends with .cedar, policies in Cedar without lists
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The second tier of the policy: a file in Cedar
    #[arg(long, value_name = "FILE")]
    pub cedar: Option<PathBuf>,
}

/// Where the tools of a server are known from.
#[derive(Args)]
pub struct PolicyToolsArgs {
    /// A file with the tools of the server: the result of tools/list, as JSON
    #[arg(long, value_name = "FILE")]
    pub tools: Option<PathBuf>,
    /// The host of a route with `pin`, whose tools a running process knows
    #[arg(long, value_name = "NAME", conflicts_with = "tools")]
    pub route: Option<String>,
    /// URL of the admin API of that process; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL", requires = "route")]
    pub admin: Option<String>,
}

/// What `adit policy diff` compares.
#[derive(Args)]
pub struct PolicyDiffArgs {
    /// The new policy; with two files, the old and the new one. With one, it is compared with what was decided then
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// The second tier of the new policy, a file in Cedar; given twice, of the old one and of the new one
    #[arg(long, value_name = "FILE", num_args = 1)]
    pub cedar: Vec<PathBuf>,
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
    /// The files of the policy
    #[command(flatten)]
    pub files: PolicyFiles,
    /// A role of the caller; may be given several times
    #[arg(long = "as", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// The address of the caller, which may give it more roles
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// The name of the edge that the call comes through, as its certificate proves it, which may give it more roles
    #[arg(long, value_name = "NAME")]
    pub edge: Option<String>,
    /// The proven identity of the caller, as a JSON object: subject, issuer, client, proof, scopes and claims
    #[arg(long, value_name = "JSON")]
    pub identity: Option<String>,
    /// When the call is made (2026-07-28T12:00:00Z) [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
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
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}
