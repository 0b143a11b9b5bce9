use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::base::Traffic;
use crate::cli::args::DataDirArgs;
use crate::config::Millis;

/// The arguments of `adit tunnel`.
#[derive(Args)]
pub struct TunnelArgs {
    /// How the edge is reached.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: TunnelCommand,
}

/// How the edge's admin API is reached, and how answers are shown.
#[derive(Args, Clone, Default)]
pub struct AdminArgs {
    /// Where the edge's admin API is; without it ADIT_ADMIN_URL says so [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL", global = true)]
    pub admin: Option<String>,
    /// A file that holds the admin token; without it ADIT_ADMIN_TOKEN, ADIT_ADMIN_TOKEN_FILE or the data directory has it
    #[arg(long, value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
    /// The edge's data directory, in which the admin token is; without it ADIT_EDGE_DATA_DIR names it
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Print the edge's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands under `adit tunnel`.
#[derive(Subcommand)]
pub enum TunnelCommand {
    /// Make a tunnel, and print its secret, which is shown this once
    Create {
        /// What to call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A host that agents call, a name or '*.' and a name; may be given several times
        /// [default: one that the edge makes up below its tunnel domain]
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How its calls are carried: plain, resealed or passthrough; its connector must be told the same
        #[arg(long, value_name = "HOW")]
        traffic: Option<Traffic>,
        /// Who may come to it.
        #[command(flatten)]
        lists: ListArgs,
    },
    /// Change what a tunnel is called, its hosts, or who may come to it; what is not given stays as it is
    Update {
        /// Its id
        id: String,
        /// What to call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// All of its hosts, in place of those that it has; may be given several times
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How its calls are carried: plain, resealed or passthrough; its connector must be told the same
        #[arg(long, value_name = "HOW")]
        traffic: Option<Traffic>,
        /// Who may come to it.
        #[command(flatten)]
        lists: ListArgs,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List tunnels
    List {
        /// Those that are archived too
        #[arg(long)]
        all: bool,
    },
    /// Show one tunnel
    Show {
        /// Its id
        id: String,
    },
    /// Make a new secret; the old one stays good for a while, then what came in with it is ended
    Rotate {
        /// The tunnel's id
        id: String,
        /// How long the old secret stays good, such as 30m; 0 cuts it at once
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        overlap: Millis,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Withdraw the secret at once: links that came in with it end, and what they carry is answered 503
    Revoke {
        /// The tunnel's id
        id: String,
        /// One credential only [default: all of the tunnel's]
        #[arg(long, value_name = "ID")]
        credential: Option<String>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Then list what was called since: so long ago, such as 24h, or from a time on (RFC 3339)
        #[arg(long, value_name = "SINCE")]
        leak_report: Option<String>,
    },
    /// Give a tunnel up for good, with its hosts, secrets and certificates
    Archive {
        /// Its id
        id: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show the links of a tunnel's connectors
    Connections {
        /// The tunnel's id
        id: String,
    },
    /// List what was called over a tunnel's links, by credential
    Usage {
        /// The tunnel's id
        id: String,
        /// From when on: so long ago, such as 24h, or a time (RFC 3339) [default: all that is kept]
        #[arg(long, value_name = "SINCE")]
        since: Option<String>,
        /// One credential only
        #[arg(long, value_name = "ID")]
        credential: Option<String>,
    },
    /// List what was done, with one tunnel or with all
    Events {
        /// The tunnel's id
        id: Option<String>,
    },
    /// The certificates of authorities that vouch for a tunnel's connector
    Cert {
        /// The command to run.
        #[command(subcommand)]
        command: CertCommand,
    },
    /// Provisioning keys: one secret that many new hosts trade for a tunnel of their own
    Key {
        /// The command to run.
        #[command(subcommand)]
        command: KeyCommand,
    },
}

/// Who may come to a tunnel. Each list is given whole; `none` alone empties it.
#[derive(Args)]
pub struct ListArgs {
    /// A network from which agents may call it, an AS number (AS64500), or a set of the edge (set:NAME); may be given
    /// several times; 'none' for from everywhere
    #[arg(long, value_name = "FROM")]
    pub allow: Vec<String>,
    /// The same from which agents may not call it, which is stronger; 'none' for none
    #[arg(long, value_name = "FROM")]
    pub deny: Vec<String>,
    /// Only count and log whom the two lists would turn away; =false puts them in force
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub dry_run: Option<bool>,
    /// A network or an address from which its connectors may come; may be given several times; 'none' for from everywhere
    #[arg(long, value_name = "NETWORK")]
    pub connectors_from: Vec<String>,
}

/// The commands under `adit tunnel cert`.
#[derive(Subcommand)]
pub enum CertCommand {
    /// Register a certificate
    Add {
        /// The tunnel's id
        id: String,
        /// The certificate (PEM)
        file: PathBuf,
    },
    /// List certificates
    List {
        /// The tunnel's id
        id: String,
        /// Those that are archived too
        #[arg(long)]
        all: bool,
    },
    /// Take a certificate out of use
    Archive {
        /// The tunnel's id
        id: String,
        /// The certificate's id
        certificate: String,
    },
}

/// The commands under `adit tunnel key`.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a provisioning key, and print its secret, which is shown this once
    Create {
        /// What to call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// What the names of hosts must look like, with '*' for any letters, digits and hyphens
        #[arg(long, value_name = "TEMPLATE", default_value = "*")]
        template: String,
        /// A host of each tunnel, with {name} for the host's name; may be given several times
        /// [default: one that the edge makes up below its tunnel domain]
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How many hosts may use it
        #[arg(long, value_name = "N")]
        uses: u32,
        /// How long it is good, such as 8h
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        life: Millis,
    },
    /// List provisioning keys
    List,
    /// Show one provisioning key
    Show {
        /// Its id
        id: String,
    },
    /// Withdraw a provisioning key; tunnels that were made for it stay
    Revoke {
        /// Its id
        id: String,
    },
}

impl AdminArgs {
    pub(super) fn dir(&self) -> DataDirArgs {
        DataDirArgs { data_dir: self.data_dir.clone() }
    }
}
