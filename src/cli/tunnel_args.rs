use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::base::Traffic;
use crate::cli::admin_args::AdminArgs;
use crate::config::Millis;

/// The arguments of `adit tunnel`.
#[derive(Args)]
pub struct TunnelArgs {
    /// How to reach the edge's admin API.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The command to run.
    #[command(subcommand)]
    pub command: TunnelCommand,
}

/// The commands under `adit tunnel`.
#[derive(Subcommand)]
pub enum TunnelCommand {
    /// Create a tunnel, and print its secret, which is not shown again
    Create {
        /// A name for people
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A host that agents call: a name, or '*.' and a name; may be repeated
        /// [default: a name that the edge chooses below its tunnel domain]
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How calls are carried: plain, resealed (re-encrypted, with an inner TLS session) or passthrough; the connector's
        /// route must have the same setting
        #[arg(long, value_name = "HOW")]
        traffic: Option<Traffic>,
        /// The connectors that the token is for
        #[arg(long, value_enum, default_value_t = Dialect::Adit)]
        dialect: Dialect,
        /// Who may use it.
        #[command(flatten)]
        lists: ListArgs,
    },
    /// Change the name of a tunnel, its hosts, its traffic, or who may use it; all else stays as it is
    Update {
        /// The id of the tunnel
        id: String,
        /// A name for people
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// A host of the new list, which replaces the present one; may be repeated
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How calls are carried: plain, resealed (re-encrypted, with an inner TLS session) or passthrough; the connector's
        /// route must have the same setting
        #[arg(long, value_name = "HOW")]
        traffic: Option<Traffic>,
        /// Who may use it.
        #[command(flatten)]
        lists: ListArgs,
        /// The reason, for the list of events
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List all tunnels, the newest first
    List {
        /// Include archived ones
        #[arg(long)]
        all: bool,
    },
    /// Show one tunnel with its hosts, credentials and rules
    Show {
        /// The id of the tunnel
        id: String,
    },
    /// Make a new secret; the old one stays valid for a while, then the links that use it end
    Rotate {
        /// The id of the tunnel
        id: String,
        /// How long the old secret stays valid, such as 30m; 0 ends it at once
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        overlap: Millis,
        /// The connectors that the token is for
        #[arg(long, value_enum, default_value_t = Dialect::Adit)]
        dialect: Dialect,
        /// The reason, for the list of events
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Revoke the secret at once: links that use it end, and their calls are answered with 503
    Revoke {
        /// The id of the tunnel
        id: String,
        /// Revoke only this credential [default: all credentials of the tunnel]
        #[arg(long, value_name = "ID")]
        credential: Option<String>,
        /// The reason, for the list of events
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Then list what was called since then: a duration before now, such as 24h, or a time (RFC 3339)
        #[arg(long, value_name = "SINCE")]
        leak_report: Option<String>,
    },
    /// End a tunnel for good, with its hosts, secrets and certificates
    Archive {
        /// The id of the tunnel
        id: String,
        /// The reason, for the list of events
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Show the links of a tunnel's connectors
    Connections {
        /// The id of the tunnel
        id: String,
    },
    /// List what was called over a tunnel's links, by credential
    Usage {
        /// The id of the tunnel
        id: String,
        /// From when on: a duration before now, such as 24h, or a time (RFC 3339) [default: all that is stored]
        #[arg(long, value_name = "SINCE")]
        since: Option<String>,
        /// Only calls over links with this credential
        #[arg(long, value_name = "ID")]
        credential: Option<String>,
    },
    /// List events (creations, changes, revocations) of one tunnel or of all
    Events {
        /// The id of the tunnel
        id: Option<String>,
    },
    /// Certificates of the authorities that the edge trusts for a tunnel's resealed traffic
    Cert {
        /// The command to run.
        #[command(subcommand)]
        command: CertCommand,
    },
    /// Provisioning keys: one secret with which many new hosts get a tunnel of their own
    Key {
        /// The command to run.
        #[command(subcommand)]
        command: KeyCommand,
    },
}

/// The protocol of the connectors that a token is for. The secret is the same, and so is the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Connectors that run `adit connect`
    Adit,
    /// Connectors that run `cloudflared tunnel run`, at `edge.cloudflared_listen`
    Cloudflared,
}

/// Who may use a tunnel. Each list replaces the present one; `none` alone empties it.
#[derive(Args)]
pub struct ListArgs {
    /// From where agents may call: a network, an AS number (AS64500), or a set of the edge (set:NAME); may be repeated;
    /// 'none' for everywhere
    #[arg(long, value_name = "FROM")]
    pub allow: Vec<String>,
    /// From where agents may not call, in the same form; it takes precedence over --allow; 'none' for nowhere
    #[arg(long, value_name = "FROM")]
    pub deny: Vec<String>,
    /// Only count and log the calls that the two lists would refuse; =false enforces the lists
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub dry_run: Option<bool>,
    /// From where connectors may connect: a network or an address; may be repeated; 'none' for everywhere
    #[arg(long, value_name = "NETWORK")]
    pub connectors_from: Vec<String>,
}

/// The commands under `adit tunnel cert`.
#[derive(Subcommand)]
pub enum CertCommand {
    /// Register the certificate of an authority
    Add {
        /// The id of the tunnel
        id: String,
        /// The file with the certificate (PEM)
        file: PathBuf,
    },
    /// List the certificates of a tunnel
    List {
        /// The id of the tunnel
        id: String,
        /// Include archived ones
        #[arg(long)]
        all: bool,
    },
    /// Remove a certificate from use
    Archive {
        /// The id of the tunnel
        id: String,
        /// The id of the certificate
        certificate: String,
    },
}

/// The commands under `adit tunnel key`.
#[derive(Subcommand)]
pub enum KeyCommand {
    /// Create a provisioning key, and print its secret, which is not shown again
    Create {
        /// A name for people
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The pattern of the names that hosts may use, with '*' for any letters, digits and hyphens
        #[arg(long, value_name = "TEMPLATE", default_value = "*")]
        template: String,
        /// A host of each tunnel, with {name} for the name of the host; may be repeated
        /// [default: a name that the edge chooses below its tunnel domain]
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
        /// How many hosts may use the key
        #[arg(long, value_name = "N")]
        uses: u32,
        /// How long the key is valid, such as 8h
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        life: Millis,
    },
    /// List all provisioning keys, the newest first
    List,
    /// Show one provisioning key and how often it was used
    Show {
        /// The id of the key
        id: String,
    },
    /// Revoke a provisioning key; tunnels that were created with it stay
    Revoke {
        /// The id of the key
        id: String,
    },
}
