use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The arguments of `adit init`.
#[derive(Args)]
pub struct InitArgs {
    /// The role that the configuration is for.
    #[command(subcommand)]
    pub role: InitRole,
}

/// The roles of `adit init`.
#[derive(Subcommand)]
pub enum InitRole {
    /// Write the configuration of an edge, which agents call
    Edge(InitEdgeArgs),
    /// Write the configuration of a connector, which calls MCP servers
    Connector(InitConnectorArgs),
}

/// The values of the configuration of an edge.
#[derive(Args, Default)]
pub struct InitEdgeArgs {
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE", default_value = "edge.toml")]
    pub output: PathBuf,
    /// The folder for the authority, the tunnels and the admin token
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// The address for agents
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// The certificate chain for agents (PEM)
    #[arg(long, value_name = "FILE")]
    pub agents_cert_file: Option<String>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE")]
    pub agents_key_file: Option<String>,
    /// The domain below which a tunnel that is created without hosts gets one
    #[arg(long, value_name = "NAME")]
    pub tunnel_domain: Option<String>,
}

/// The values of the configuration of a connector.
#[derive(Args, Default)]
pub struct InitConnectorArgs {
    /// The file to write, which must not exist
    #[arg(long, value_name = "FILE", default_value = "connect.toml")]
    pub output: PathBuf,
    /// The edge to dial
    #[arg(long, value_name = "HOST:PORT")]
    pub edge: Option<String>,
    /// The file with the token that `adit tunnel create` printed
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// Keep certificates in this folder
    #[arg(long, value_name = "FOLDER")]
    pub state_dir: Option<String>,
    /// The host name that agents call
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The MCP server: http://HOST:PORT, https://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL", conflicts_with = "command")]
    pub upstream: Option<String>,
    /// An MCP server that speaks over standard input and output: its program and arguments, after --
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
