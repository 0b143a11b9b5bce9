//! The flags of the commands that run a role.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::admin_args::DataDirArgs;
use crate::cli::settings_args::{EngineArgs, FileArgs, ProfileArgs};

/// The arguments of `adit edge`.
#[derive(Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EdgeArgs {
    /// A command about the data directory, instead of running.
    #[command(subcommand)]
    pub command: Option<EdgeDirCommand>,
    /// The address for agents [default: 127.0.0.1:8443]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// The certificate chain for agents (PEM); without it they use plain HTTP, on loopback only
    #[arg(long, value_name = "FILE")]
    pub agents_cert_file: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub agents_key_file: Option<String>,
    /// Allow plain HTTP for agents at an address other than loopback; only behind a proxy that terminates TLS
    #[arg(long)]
    pub allow_plain_http_off_loopback: bool,
    /// The address for connectors, which use TLS [default: 0.0.0.0:7844]
    #[arg(long, value_name = "IP:PORT")]
    pub connectors_listen: Option<String>,
    /// The certificate chain for connectors (PEM)
    #[arg(long, value_name = "FILE")]
    pub connectors_cert_file: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub connectors_key_file: Option<String>,
    /// The directory that `adit edge init` created; with it connectors enrol, and `adit tunnel` manages tunnels
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The domain below which a tunnel that is created without hosts gets one
    #[arg(long, value_name = "NAME")]
    pub tunnel_domain: Option<String>,
    /// The address that serves metrics, status, health and the API of `adit tunnel`, or off [default: 127.0.0.1:9443]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Print events as JSON, one object on each line: listening, linked, reloaded and others
    #[arg(long)]
    pub json: bool,
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The commands under `adit edge`.
#[derive(Subcommand, Clone)]
pub enum EdgeDirCommand {
    /// Create the data directory: the edge's certificate authority, its certificate, its admin token and its store;
    /// existing files are kept
    Init {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// A name or address by which connectors dial this edge; may be given several times
        /// [default: this machine's name, localhost and the loopback addresses]
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the public keys (JWKS) of the identities that the edge forwards, for the jwks_file of a connector; the edge
    /// may be running
    IdentityKeys {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// Sign with the next key from now on, and create another one
        #[arg(long)]
        rotate: bool,
    },
    /// Back up the store; the edge may be running
    Backup {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// The file to write, which must not exist [default: a new file in the backups folder of the directory]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Restore the store from a back-up, keep the former store, and list what was withdrawn since and is valid again;
    /// the edge must not be running
    Restore {
        /// The data directory to work on.
        #[command(flatten)]
        dir: DataDirArgs,
        /// The back-up [default: the newest in the directory's backups]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Withdraw again what was withdrawn since: credentials, tunnels, certificates and provisioning keys
        #[arg(long)]
        keep_withdrawn: bool,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// The arguments of `adit connect`.
#[derive(Args, Clone)]
pub struct ConnectArgs {
    /// The edge to dial; may be given several times, for several edges
    #[arg(long, value_name = "HOST:PORT")]
    pub edge: Vec<String>,
    /// The id of the tunnel
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// A file that holds the secret of the tunnel
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<String>,
    /// The secret itself; prefer --secret-file or ADIT_TUNNEL_SECRET, as other users can read a command line
    #[arg(long, value_name = "SECRET")]
    pub secret: Option<String>,
    /// A file that holds id and secret in one string, as adit tunnel create prints it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Id and secret in one string; prefer --token-file or ADIT_TUNNEL_TOKEN
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// A file that holds a provisioning key, which a new host exchanges for a tunnel of its own; needs --state-dir
    #[arg(long, value_name = "FILE")]
    pub provisioning_key_file: Option<String>,
    /// The provisioning key itself; prefer --provisioning-key-file or ADIT_PROVISIONING_KEY
    #[arg(long, value_name = "KEY")]
    pub provisioning_key: Option<String>,
    /// Keep certificates and their keys in this folder, so that a restart needs no new ones
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// Forward the calls for a host name to a server: http://HOST:PORT, https://HOST:PORT or unix:PATH; may be given
    /// several times; HOST alone for the command after --
    #[arg(long, value_name = "HOST=URL")]
    pub route: Vec<String>,
    /// An MCP server that speaks over standard input and output: its program and arguments, after --; no shell reads them. Its route
    /// is given as --route HOST
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How calls are carried: plain, resealed (re-encrypted, with an inner TLS session from the edge to this connector) or
    /// passthrough (the agent's own TLS session ends here); the edge must have the same value [default: plain]
    #[arg(long, value_name = "HOW")]
    pub traffic: Option<String>,
    /// The certificates (PEM) of the authorities to trust for the edge, instead of the public ones
    #[arg(long, value_name = "FILE")]
    pub edge_ca_file: Option<String>,
    /// The name in the edge's certificate, if it differs from the host that is dialled
    #[arg(long, value_name = "NAME")]
    pub edge_name: Option<String>,
    /// The address that serves metrics, status and health, or off [default: off]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Print events as JSON, one object on each line: listening, linked, reloaded and others
    #[arg(long)]
    pub json: bool,
    /// File and single settings.
    #[command(flatten)]
    pub file: FileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The arguments of `adit up`.
#[derive(Args, Clone)]
pub struct UpArgs {
    /// An MCP server that speaks over standard input and output: its program and arguments, after --; no shell reads them
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["upstream", "demo"])]
    pub command: Vec<String>,
    /// The MCP server to reach: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", conflicts_with = "demo")]
    pub upstream: Option<String>,
    /// Use a small built-in MCP server; this is the default when no upstream is given
    #[arg(long)]
    pub demo: bool,
    /// The host name that agents call, beside localhost and the loopback addresses [default: localhost]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// The address for agents [default: 127.0.0.1:8443; any free port with --once]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// The address that serves metrics, status and health, or off [default: 127.0.0.1:9443; any free port with --once]
    #[arg(long, value_name = "IP:PORT")]
    pub admin: Option<String>,
    /// Make 200 MCP tool calls, print where their time went, and exit
    #[arg(long)]
    pub once: bool,
    /// Show the agents' URL as a QR code too
    #[arg(long, conflicts_with_all = ["once", "json"])]
    pub qr: bool,
    /// Print JSON instead of text: with --once one object, else one on each line
    #[arg(long)]
    pub json: bool,
    /// The profile below all other settings.
    #[command(flatten)]
    pub profile: ProfileArgs,
    /// Data plane and log.
    #[command(flatten)]
    pub engine: EngineArgs,
}
