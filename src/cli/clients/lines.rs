//! What a person pastes into each MCP client, in the form that the client's documentation has.

use serde_json::{Value, json};

use crate::cli::clients::args::ClientName;
use crate::cli::command_line::CommandLine;
use crate::process::NODE_CERTS_ENV;

/// The JSON objects in which clients name their servers.
const SERVERS: &str = "mcpServers";
/// The server of npm through which clients of stdio reach a URL.
const MCP_REMOTE: &str = "mcp-remote";
/// The variable that gives `mcp-remote` its header: its arguments cannot contain spaces in every client.
const HEADER_ENV: &str = "ADIT_AUTHORIZATION";

/// A server as a client reaches it.
#[derive(Clone, Debug)]
pub(super) struct ClientTarget {
    /// The URL that agents call.
    pub(super) url: String,
    /// The name of the server in the client.
    pub(super) name: String,
    /// The certificate of an authority that the client does not know.
    pub(super) ca_file: Option<String>,
    /// The variable that has the access token.
    pub(super) token_env: Option<String>,
}

/// What is to be done for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientLines {
    /// What to run or to write, in this order.
    pub(super) steps: Vec<ClientStep>,
    /// What else has to be known.
    pub(super) notes: Vec<String>,
}

/// One thing to run, or to write into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientStep {
    /// Where the lines belong.
    pub(super) place: String,
    /// The lines themselves, as they are pasted.
    pub(super) text: String,
}

impl ClientTarget {
    /// A server whose certificate clients trust, and which asks for no token.
    pub(super) fn open(url: &str) -> ClientTarget {
        ClientTarget { url: url.to_owned(), name: "adit".to_owned(), ca_file: None, token_env: None }
    }

    /// What to do so that `client` calls this server.
    pub(super) fn lines(&self, client: ClientName) -> ClientLines {
        match client {
            ClientName::ClaudeCode => self.claude_code(),
            ClientName::ClaudeDesktop => self.claude_desktop(),
            ClientName::Codex => self.codex(),
            ClientName::Cursor => self.cursor(),
            ClientName::Inspector => self.inspector(),
            ClientName::McpJson => self.mcp_json(),
            ClientName::Python => self.python(),
            ClientName::Vscode => self.vscode(),
            ClientName::Windsurf => self.windsurf(),
        }
    }

    /// The one command that adds the server, for clients that have such a command.
    pub(super) fn command(&self, client: ClientName) -> Option<String> {
        let line = match client {
            ClientName::ClaudeCode => {
                let line = CommandLine::new("claude mcp add --transport http").word(&self.name).word(&self.url);
                match &self.token_env {
                    // The shell puts the token in.
                    Some(variable) => {
                        line.flag_as_written("--header", &format!("\"Authorization: Bearer ${variable}\""))
                    }
                    None => line,
                }
            }
            ClientName::Codex => {
                let line = CommandLine::new("codex mcp add").word(&self.name).flag("--url", &self.url);
                match &self.token_env {
                    Some(variable) => line.flag("--bearer-token-env-var", variable),
                    None => line,
                }
            }
            _ => return None,
        };
        Some(line.to_string())
    }

    fn claude_code(&self) -> ClientLines {
        let run = run(self.command(ClientName::ClaudeCode).unwrap_or_default());
        let certificate = self.ca_file.as_ref().map(|file| ClientStep {
            place: "Start it with the authority's certificate".to_owned(),
            text: with_certificate("claude", file),
        });
        ClientLines {
            steps: [run].into_iter().chain(certificate).collect(),
            notes: vec![
                "For all of your projects, add `--scope user`. `claude mcp list` shows whether it connects.".to_owned(),
            ],
        }
    }

    fn claude_desktop(&self) -> ClientLines {
        let mut args = vec![json!("-y"), json!(MCP_REMOTE), json!(self.url)];
        let mut env = serde_json::Map::new();
        if let Some(variable) = &self.token_env {
            args.extend([json!("--header"), json!(format!("Authorization:${{{HEADER_ENV}}}"))]);
            env.insert(HEADER_ENV.to_owned(), json!(format!("Bearer THE VALUE OF {variable}")));
        }
        // It refuses other plain HTTP.
        if self.url.starts_with("http://") && !self.is_on_this_machine() {
            args.push(json!("--allow-http"));
        }
        if let Some(file) = &self.ca_file {
            env.insert(NODE_CERTS_ENV.to_owned(), json!(file));
        }
        let mut server = json!({ "command": "npx", "args": args });
        if !env.is_empty() {
            server["env"] = Value::Object(env);
        }
        let place = "In Claude Desktop: Settings > Developer > Edit Config (claude_desktop_config.json)";
        ClientLines {
            steps: vec![self.file(place, SERVERS, &server)],
            notes: vec![
                "Then restart Claude Desktop. Its configuration file has only servers that it starts: mcp-remote (npm) forwards to the URL."
                    .to_owned(),
                "A URL that the Internet reaches can be added in Settings > Connectors > Add custom connector instead."
                    .to_owned(),
            ],
        }
    }

    fn codex(&self) -> ClientLines {
        let mut text = format!("[mcp_servers.{}]\nurl = {}\n", self.name, toml_text(&self.url));
        if let Some(variable) = &self.token_env {
            text.push_str(&format!("bearer_token_env_var = {}\n", toml_text(variable)));
        }
        let run = run(self.command(ClientName::Codex).unwrap_or_default());
        let write = ClientStep { place: "Or add to ~/.codex/config.toml".to_owned(), text };
        let note = self.system_certificate("Codex has no setting for the authority of one MCP server");
        ClientLines { steps: vec![run, write], notes: note.into_iter().collect() }
    }

    fn cursor(&self) -> ClientLines {
        let server = self.with_headers(json!({ "url": self.url }), |variable| format!("${{env:{variable}}}"));
        let place = "Add to ~/.cursor/mcp.json, or to .cursor/mcp.json of one project";
        let note = self.system_certificate("Cursor trusts the certificates of the system");
        ClientLines { steps: vec![self.file(place, SERVERS, &server)], notes: note.into_iter().collect() }
    }

    fn windsurf(&self) -> ClientLines {
        let server = self.with_headers(json!({ "serverUrl": self.url }), |variable| format!("${{env:{variable}}}"));
        let note = self.system_certificate("Windsurf trusts the certificates of the system");
        ClientLines {
            steps: vec![self.file("Add to ~/.codeium/windsurf/mcp_config.json", SERVERS, &server)],
            notes: note.into_iter().collect(),
        }
    }

    fn mcp_json(&self) -> ClientLines {
        let server =
            self.with_headers(json!({ "type": "http", "url": self.url }), |variable| format!("${{{variable}}}"));
        ClientLines {
            steps: vec![self.file("Add to .mcp.json of a project", SERVERS, &server)],
            notes: vec!["Clients without `type` need `url` alone.".to_owned()],
        }
    }

    fn vscode(&self) -> ClientLines {
        let mut server = json!({ "type": "http", "url": self.url });
        let input = format!("{}-token", self.name);
        if self.token_env.is_some() {
            server["headers"] = json!({ "Authorization": format!("Bearer ${{input:{input}}}") });
        }
        let mut file = json!({ "servers": { self.name.as_str(): server } });
        if self.token_env.is_some() {
            let ask =
                json!({ "type": "promptString", "id": input, "description": "The access token", "password": true });
            file["inputs"] = json!([ask]);
        }
        let write = ClientStep {
            place: "Add to .vscode/mcp.json, or with the command `MCP: Open User Configuration`".to_owned(),
            text: format!("{file:#}\n"),
        };
        let mut steps = vec![write];
        if self.token_env.is_none() {
            let server = json!({ "name": self.name, "type": "http", "url": self.url });
            steps.insert(0, run(CommandLine::new("code").flag("--add-mcp", &server.to_string()).to_string()));
            steps[1].place = "Or add to .vscode/mcp.json".to_owned();
        }
        let note = self.system_certificate("VS Code trusts the certificates of the system");
        ClientLines { steps, notes: note.into_iter().collect() }
    }

    fn inspector(&self) -> ClientLines {
        let line = |mode: &str| {
            let line = CommandLine::new(&format!("npx -y @modelcontextprotocol/inspector{mode}"));
            let line = if mode.is_empty() { line.flag("--server-url", &self.url) } else { line.word(&self.url) };
            let line = line.flag("--transport", "http");
            match &self.token_env {
                Some(variable) => line.flag_as_written("--header", &format!("\"Authorization: Bearer ${variable}\"")),
                None => line,
            }
        };
        let certified = |line: String| match &self.ca_file {
            Some(file) => with_certificate(&line, file),
            None => line,
        };
        let list = line(" --cli").flag("--method", "tools/list").to_string();
        let browser =
            ClientStep { place: "Or in a browser".to_owned(), text: format!("{}\n", certified(line("").to_string())) };
        ClientLines {
            steps: vec![run(certified(list)), browser],
            notes: vec!["It needs Node.js 22.19 or newer.".to_owned()],
        }
    }

    fn python(&self) -> ClientLines {
        let url = Value::from(self.url.as_str());
        let mut imports = vec!["import asyncio", "", "from mcp import Client"];
        let mut options = Vec::new();
        if self.ca_file.is_some() || self.token_env.is_some() {
            imports = vec!["import asyncio"];
            if self.token_env.is_some() {
                imports.push("import os");
            }
            if self.ca_file.is_some() {
                imports.push("import ssl");
            }
            imports.extend(["", "import httpx2", "from mcp import Client"]);
            imports.push("from mcp.client.streamable_http import streamable_http_client");
        }
        if let Some(file) = &self.ca_file {
            options.push(format!("verify=ssl.create_default_context(cafile={})", Value::from(file.as_str())));
        }
        if let Some(variable) = &self.token_env {
            options.push(format!("headers={{\"Authorization\": f\"Bearer {{os.environ['{variable}']}}\"}}"));
        }
        let indented = "            ";
        let server = if options.is_empty() {
            format!("    async with Client({url}) as client:\n")
        } else {
            options.push("timeout=httpx2.Timeout(30, read=300)".to_owned());
            let options: String = options.iter().map(|option| format!("{indented}{option},\n")).collect();
            format!(
                "    async with (\n        httpx2.AsyncClient(\n{options}        ) as http,\n        \
                 Client(streamable_http_client({url}, http_client=http)) as client,\n    ):\n"
            )
        };
        let text = format!(
            "{}\n\n\nasync def main():\n{server}        \
             tools = await client.list_tools()\n        print([tool.name for tool in tools.tools])\n\n\nasyncio.run(main())\n",
            imports.join("\n")
        );
        ClientLines {
            steps: vec![
                run("pip install mcp".to_owned()),
                ClientStep { place: "Then run this program".to_owned(), text },
            ],
            notes: vec!["It is written for version 2 of the package.".to_owned()],
        }
    }

    /// A file in which servers stand by name in the object `member`.
    fn file(&self, place: &str, member: &str, server: &Value) -> ClientStep {
        let file = json!({ member: { self.name.as_str(): server } });
        ClientStep { place: place.to_owned(), text: format!("{file:#}\n") }
    }

    /// The server with the header that has the token, if it asks for one. `reference` is how this client names a variable.
    fn with_headers(&self, mut server: Value, reference: impl Fn(&str) -> String) -> Value {
        if let Some(variable) = &self.token_env {
            server["headers"] = json!({ "Authorization": format!("Bearer {}", reference(variable)) });
        }
        server
    }

    /// How to make a client trust the authority that has no setting for it.
    fn system_certificate(&self, why: &str) -> Option<String> {
        let file = self.ca_file.as_ref()?;
        let copy = CommandLine::new("sudo cp").word(file).word("/usr/local/share/ca-certificates/adit.crt");
        Some(format!("{why}. On Debian and Ubuntu: {copy} && sudo update-ca-certificates"))
    }

    fn is_on_this_machine(&self) -> bool {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
            let after = rest.strip_prefix(host);
            after.is_some_and(|after| after.is_empty() || after.starts_with([':', '/']))
        })
    }
}

fn run(command: String) -> ClientStep {
    ClientStep { place: "Run".to_owned(), text: format!("{command}\n") }
}

fn with_certificate(command: &str, file: &str) -> String {
    format!("{NODE_CERTS_ENV}={} {command}", crate::base::shell_word(file))
}

fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    fn guarded() -> ClientTarget {
        ClientTarget {
            url: "https://orders.example.com/mcp".to_owned(),
            name: "orders".to_owned(),
            ca_file: Some("/etc/my ca.pem".to_owned()),
            token_env: Some("ORDERS_TOKEN".to_owned()),
        }
    }

    fn json_of(lines: &ClientLines) -> Value {
        let file = lines.steps.iter().find(|step| step.text.starts_with('{')).expect("a step writes a file");
        serde_json::from_str(&file.text).expect("it is JSON")
    }

    #[test]
    fn files_have_the_members_that_each_client_reads() {
        let open = ClientTarget::open("http://localhost:8443/mcp");
        for (client, pointer, expected) in [
            (ClientName::Cursor, "/mcpServers/adit", json!({ "url": open.url })),
            (ClientName::Windsurf, "/mcpServers/adit", json!({ "serverUrl": open.url })),
            (ClientName::McpJson, "/mcpServers/adit", json!({ "type": "http", "url": open.url })),
            (ClientName::Vscode, "/servers/adit", json!({ "type": "http", "url": open.url })),
            (
                ClientName::ClaudeDesktop,
                "/mcpServers/adit",
                json!({ "command": "npx", "args": ["-y", "mcp-remote", open.url] }),
            ),
        ] {
            assert_eq!(json_of(&open.lines(client)).pointer(pointer), Some(&expected), "{client:?}");
        }
        let toml: toml::Table = open.lines(ClientName::Codex).steps[1].text.parse().unwrap();
        assert_eq!(toml["mcp_servers"]["adit"]["url"].as_str(), Some("http://localhost:8443/mcp"));
    }

    #[test]
    fn commands_are_those_of_the_documentation() {
        let open = ClientTarget::open("http://localhost:8443/mcp");
        let first = |target: &ClientTarget, client| target.lines(client).steps[0].text.clone();
        for (client, command) in [
            (ClientName::ClaudeCode, "claude mcp add --transport http adit http://localhost:8443/mcp\n"),
            (ClientName::Codex, "codex mcp add adit --url http://localhost:8443/mcp\n"),
            (
                ClientName::Vscode,
                "code --add-mcp '{\"name\":\"adit\",\"type\":\"http\",\"url\":\"http://localhost:8443/mcp\"}'\n",
            ),
            (
                ClientName::Inspector,
                "npx -y @modelcontextprotocol/inspector --cli http://localhost:8443/mcp --transport http --method tools/list\n",
            ),
        ] {
            assert_eq!(first(&open, client), command);
        }
        assert_eq!(
            first(&guarded(), ClientName::ClaudeCode),
            "claude mcp add --transport http orders https://orders.example.com/mcp --header \"Authorization: Bearer $ORDERS_TOKEN\"\n"
        );
    }

    #[test]
    fn each_client_gets_the_token_as_a_reference_and_the_authority_in_its_own_way() {
        for client in ClientName::value_variants() {
            let lines = guarded().lines(*client);
            let all: String = lines.steps.iter().map(|step| step.text.as_str()).collect();
            let has_reference = match client {
                // It asks for the token, and keeps it.
                ClientName::Vscode => all.contains("${input:orders-token}"),
                _ => all.contains("ORDERS_TOKEN"),
            };
            assert!(has_reference, "{client:?}: {all}");
            let printed = all + &lines.notes.concat();
            assert_eq!(printed.contains("/etc/my ca.pem"), *client != ClientName::McpJson, "{client:?}: {printed}");
        }
        assert!(
            guarded().lines(ClientName::Inspector).steps[0]
                .text
                .starts_with("NODE_EXTRA_CA_CERTS='/etc/my ca.pem' npx")
        );
    }

    #[test]
    fn plain_http_to_another_machine_is_allowed_explicitly() {
        let args = |url: &str| json_of(&ClientTarget::open(url).lines(ClientName::ClaudeDesktop)).to_string();
        assert!(args("http://10.0.0.7:8443/mcp").contains("--allow-http"));
        assert!(args("http://localhost.example.com/mcp").contains("--allow-http"));
        assert!(!args("http://127.0.0.1:8443/mcp").contains("--allow-http"));
    }
}
