use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The arguments of `adit client-config`.
#[derive(Args, Clone)]
pub struct ClientConfigArgs {
    /// The client; without it, all are listed
    #[arg(value_name = "NAME", value_enum)]
    pub client: Option<ClientName>,
    /// The URL that agents call [default: that of the process whose admin API answers, such as `adit up`]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The name of the server in the client
    #[arg(long, value_name = "NAME", default_value = "adit", value_parser = server_name)]
    pub name: String,
    /// The certificate (PEM) of the authority that signed the edge's certificate, if clients do not trust it already
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The environment variable that has the access token, if the route asks for one
    #[arg(long, value_name = "VARIABLE", value_parser = variable_name)]
    pub token_env: Option<String>,
    /// URL of the admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Show the URL as a QR code too
    #[arg(long)]
    pub qr: bool,
    /// Copy the lines to the clipboard of the terminal (OSC 52), also over ssh
    #[arg(long, requires = "client", conflicts_with = "json")]
    pub copy: bool,
    /// Print one JSON object
    #[arg(long, conflicts_with = "qr")]
    pub json: bool,
}

/// An MCP client whose configuration is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientName {
    /// Claude Code, in a terminal
    ClaudeCode,
    /// Claude Desktop, the application
    ClaudeDesktop,
    /// OpenAI Codex, in a terminal
    Codex,
    /// Cursor, an editor with agents
    Cursor,
    /// The official MCP Inspector
    Inspector,
    /// Any client with an mcp.json
    McpJson,
    /// A program with the Python SDK
    Python,
    /// VS Code with Copilot
    Vscode,
    /// Windsurf, an editor with agents
    Windsurf,
}

impl ClientName {
    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ClientName::ClaudeCode => "claude-code",
            ClientName::ClaudeDesktop => "claude-desktop",
            ClientName::Codex => "codex",
            ClientName::Cursor => "cursor",
            ClientName::Inspector => "inspector",
            ClientName::McpJson => "mcp-json",
            ClientName::Python => "python",
            ClientName::Vscode => "vscode",
            ClientName::Windsurf => "windsurf",
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            ClientName::ClaudeCode => "Claude Code",
            ClientName::ClaudeDesktop => "Claude Desktop",
            ClientName::Codex => "Codex",
            ClientName::Cursor => "Cursor",
            ClientName::Inspector => "MCP Inspector",
            ClientName::McpJson => "a client with an mcp.json",
            ClientName::Python => "Python SDK",
            ClientName::Vscode => "VS Code",
            ClientName::Windsurf => "Windsurf",
        }
    }
}

/// The longest name of a server or a variable, in bytes.
const NAME_LEN_MAX: usize = 64;

/// A name that every client takes, and that is a bare key in TOML.
fn server_name(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match text {
        "" => Err("it is empty".to_owned()),
        text if text.len() <= NAME_LEN_MAX && text.bytes().all(is_good) => Ok(text.to_owned()),
        _ => Err(format!("use at most {NAME_LEN_MAX} letters, digits, hyphens and underscores")),
    }
}

fn variable_name(text: &str) -> Result<String, String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well && text.len() <= NAME_LEN_MAX && text.bytes().all(is_good) {
        return Ok(text.to_owned());
    }
    Err("expected the name of a variable, such as ADIT_AGENT_TOKEN; the token itself is not given here".to_owned())
}
