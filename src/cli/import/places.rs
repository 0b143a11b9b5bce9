//! Where MCP clients keep their configuration.

use std::path::{Path, PathBuf};

use crate::cli::import::read::ClientFormat;

/// A file in which a client names its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientFile {
    /// The client, for people.
    pub(super) client: &'static str,
    /// The path of the file.
    pub(super) path: PathBuf,
    /// How the file is written.
    pub(super) format: ClientFormat,
}

/// The files of the known clients, of this user and of a folder, whether or not they exist.
pub(super) fn known_files(home: Option<&Path>, folder: &Path) -> Vec<ClientFile> {
    let file = |client, path: PathBuf| ClientFile { client, format: format_of(&path), path };
    let of_folder = [
        ("a project", ".mcp.json"),
        ("a project", "mcp.json"),
        ("Cursor", ".cursor/mcp.json"),
        ("VS Code", ".vscode/mcp.json"),
        ("Codex", ".codex/config.toml"),
    ];
    let of_user = [
        ("Claude Code", ".claude.json"),
        ("Claude Desktop", ".config/Claude/claude_desktop_config.json"),
        ("Claude Desktop", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("Cursor", ".cursor/mcp.json"),
        ("VS Code", ".config/Code/User/mcp.json"),
        ("VS Code", "Library/Application Support/Code/User/mcp.json"),
        ("Windsurf", ".codeium/windsurf/mcp_config.json"),
        ("Codex", ".codex/config.toml"),
    ];
    let own = of_folder.into_iter().map(|(client, path)| file(client, folder.join(path)));
    let user = home.into_iter().flat_map(|home| of_user.map(|(client, path)| file(client, home.join(path))));
    let mut files: Vec<ClientFile> = own.chain(user).collect();
    // The folder may be the home directory.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.path.clone()));
    files
}

/// A file that was named, by what its name says about its format.
pub(super) fn named_file(path: &Path) -> ClientFile {
    ClientFile { client: "the file", path: path.to_path_buf(), format: format_of(path) }
}

fn format_of(path: &Path) -> ClientFormat {
    if path.extension().is_some_and(|extension| extension == "toml") { ClientFormat::Toml } else { ClientFormat::Json }
}
