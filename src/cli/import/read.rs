//! Which servers the configuration of a client has.

use serde_json::{Map, Value};

use crate::cli::import::jsonc::without_comments;

/// The most servers that are read from a file.
const SERVERS_MAX: usize = 256;

/// How a client writes its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientFormat {
    /// JSON, with `mcpServers` or `servers`.
    Json,
    /// TOML, with tables `mcp_servers`.
    Toml,
}

/// A server of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundServer {
    /// Its name in the client.
    pub(super) name: String,
    /// How the client reaches it, or why it cannot be imported.
    pub(super) what: Result<ServerKind, String>,
}

/// How a client reaches a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerKind {
    /// It starts a command.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// Variables, with values that may be secrets.
        env: Vec<(String, String)>,
        /// The folder in which it runs.
        cwd: Option<String>,
    },
    /// It calls a URL.
    Url {
        /// The URL itself, with its path.
        url: String,
        /// The names of the header fields that it sends, whose values may be secrets.
        headers: Vec<String>,
    },
}

/// The servers that a file names.
///
/// # Errors
///
/// What is wrong with the file, in a clause.
pub(super) fn servers_of(format: ClientFormat, text: &str) -> Result<Vec<FoundServer>, String> {
    let file: Value = match format {
        ClientFormat::Json => {
            let text = without_comments(text.trim_start_matches('\u{feff}'));
            serde_json::from_str(&text).map_err(|error| format!("it is not JSON: line {}", error.line()))?
        }
        ClientFormat::Toml => {
            let table: toml::Table = text.parse().map_err(|_| "it is not TOML".to_owned())?;
            serde_json::to_value(table).map_err(|error| error.to_string())?
        }
    };
    let mut found = Vec::new();
    for member in ["mcpServers", "servers", "mcp_servers"] {
        found.extend(servers_in(file.get(member)));
    }
    // VS Code's settings, and the projects of Claude Code.
    found.extend(servers_in(file.pointer("/mcp/servers")));
    let projects = file.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values);
    found.extend(projects.flat_map(|project| servers_in(project.get("mcpServers"))));
    found.truncate(SERVERS_MAX);
    Ok(found)
}

fn servers_in(member: Option<&Value>) -> Vec<FoundServer> {
    let servers = member.and_then(Value::as_object).into_iter().flatten();
    servers.map(|(name, server)| FoundServer { name: name.clone(), what: kind_of(server) }).collect()
}

fn kind_of(server: &Value) -> Result<ServerKind, String> {
    let text = |name: &str| server.get(name).and_then(Value::as_str).map(str::to_owned);
    let is = |name: &str, value: bool| server.get(name).and_then(Value::as_bool) == Some(value);
    if is("disabled", true) || is("enabled", false) {
        return Err("it is disabled there".to_owned());
    }
    let headers: Vec<String> = ["headers", "http_headers", "env_http_headers"]
        .iter()
        .filter_map(|member| server.get(*member)?.as_object())
        .flat_map(|headers| headers.keys().cloned())
        .chain(server.get("bearer_token_env_var").map(|_| "Authorization".to_owned()))
        .collect();
    if let Some(url) = text("url").or_else(|| text("serverUrl")).or_else(|| text("httpUrl")) {
        return Ok(ServerKind::Url { url, headers });
    }
    let Some(program) = text("command").filter(|program| !program.is_empty()) else {
        return Err("it has neither a command nor a url".to_owned());
    };
    let args = match server.get("args") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(args)) => args
            .iter()
            .map(|arg| arg.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or("an argument is no text")?,
        Some(_) => return Err("`args` is no list".to_owned()),
    };
    let env = server.get("env").and_then(Value::as_object).into_iter().flatten();
    let env = env.map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    let kind = ServerKind::Command {
        command: [program].into_iter().chain(args).collect(),
        env: env.collect(),
        cwd: text("cwd"),
    };
    Ok(kind.behind_mcp_remote())
}

impl ServerKind {
    /// The URL that a command only forwards to, as `npx -y mcp-remote URL` does.
    fn behind_mcp_remote(self) -> ServerKind {
        let ServerKind::Command { command, .. } = &self else { return self };
        let Some(at) = command.iter().position(|word| word == "mcp-remote" || word.starts_with("mcp-remote@")) else {
            return self;
        };
        let Some(url) = command[at + 1..].iter().find(|word| word.starts_with("http")) else { return self };
        let is_header = |pair: &&[String]| pair[0] == "--header";
        let headers = command.windows(2).filter(is_header).filter_map(|pair| pair[1].split_once(':'));
        ServerKind::Url { url: url.clone(), headers: headers.map(|(name, _)| name.trim().to_owned()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<(String, String)> {
        let found = servers_of(ClientFormat::Json, text).unwrap().into_iter();
        found
            .filter_map(|server| match server.what {
                Ok(ServerKind::Url { url, .. }) => Some((server.name, url)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn each_client_names_its_servers_in_its_own_way() {
        let cursor = r#"{"mcpServers":{"a":{"url":"https://a.test/mcp","headers":{"Authorization":"Bearer s"}}}}"#;
        let windsurf = r#"{"mcpServers":{"b":{"serverUrl":"https://b.test/mcp"}}}"#;
        let vscode = "{\n// c\n\"servers\":{\"c\":{\"type\":\"http\",\"url\":\"https://c.test\",},},}";
        let claude =
            r#"{"mcpServers":{},"projects":{"/p":{"mcpServers":{"d":{"type":"http","url":"https://d.test"}}}}}"#;
        let remote = r#"{"mcpServers":{"e":{"command":"npx","args":["-y","mcp-remote@1","https://e.test/mcp","--header","X-Key: s"]}}}"#;
        let named = [(cursor, "a"), (windsurf, "b"), (vscode, "c"), (claude, "d"), (remote, "e")];
        for (text, name) in named {
            let found = urls(text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].0 == name && found[0].1.contains(&format!("{name}.test")), "{found:?}");
        }
        let codex = "[mcp_servers.f]\ncommand = \"uvx\"\nargs = [\"s\"]\nenv = { KEY = \"v\" }\ncwd = \"/srv\"\n";
        let found = servers_of(ClientFormat::Toml, codex).unwrap();
        let command = ServerKind::Command {
            command: vec!["uvx".to_owned(), "s".to_owned()],
            env: vec![("KEY".to_owned(), "v".to_owned())],
            cwd: Some("/srv".to_owned()),
        };
        assert_eq!(found, [FoundServer { name: "f".to_owned(), what: Ok(command) }]);
    }

    #[test]
    fn what_cannot_be_imported_says_why_and_no_file_makes_it_panic() {
        let text = r#"{"mcpServers":{"a":{"command":"x","disabled":true},"b":{},"c":{"command":"x","args":[1]},"d":3,"e":{"command":"x","args":"y"}}}"#;
        let found = servers_of(ClientFormat::Json, text).unwrap();
        assert!(found.len() == 5 && found.iter().all(|server| server.what.is_err()), "{found:?}");
        for text in ["", "[]", "{", "null", "{\"mcpServers\":[]}", "{\"projects\":[1],\"mcp\":7}"] {
            assert!(servers_of(ClientFormat::Json, text).map_or(true, |found| found.is_empty()), "{text}");
        }
        let why = servers_of(ClientFormat::Json, "{\"mcpServers\":{\"a\":{\"env\":{\"K\":\"s3cret").unwrap_err();
        assert!(!why.contains("s3cret"), "{why}");
        let why = servers_of(ClientFormat::Toml, "[mcp_servers.a]\nenv = { K = \"s3cret\" } x").unwrap_err();
        assert!(!why.contains("s3cret"), "{why}");
    }
}
