//! `adit client-config`, and what `adit up` prints at its start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use clap::ValueEnum;
use reqwest::Url;
use serde_json::json;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::check_args::MCP_PATH;
use crate::cli::clients::args::{ClientConfigArgs, ClientName};
use crate::cli::clients::lines::{ClientLines, ClientTarget};
use crate::cli::clients::summary::clients_text;
use crate::cli::clients::terminal::{copy, qr_code};
use crate::cli::command_line::CommandLine;
use crate::cli::table::Table;
use crate::cli::tunnel::print_answer;
use crate::control::ProcessFacts;
use crate::control::bodies::StatusBody;

/// Runs `adit client-config` and returns the exit code.
#[must_use]
pub fn run_client_config(args: &ClientConfigArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(show(args, env))
}

async fn show(args: &ClientConfigArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    if args.client.is_none() && args.url.is_none() && !args.json && !args.qr {
        return Ok(list());
    }
    let url = match &args.url {
        Some(url) => checked(url)?,
        None => running_url(args, env).await?,
    };
    // Clients are started in other folders.
    let ca_file = args.ca_file.as_deref().map(absolute).transpose()?;
    let target = ClientTarget { url, name: args.name.clone(), ca_file, token_env: args.token_env.clone() };
    if args.json {
        let all: Vec<ClientName> = match args.client {
            Some(client) => vec![client],
            None => ClientName::value_variants().to_vec(),
        };
        let clients: Vec<_> = all.into_iter().map(|client| body(client, &target.lines(client))).collect();
        return Ok(format!("{:#}\n", json!({ "url": target.url, "clients": clients })));
    }
    let mut text = match args.client {
        Some(client) => {
            let lines = target.lines(client);
            if args.copy {
                let first = lines.steps.first().map_or("", |step| step.text.trim_end());
                copy(first).map_err(|error| AdminError::Usage(format!("nothing was copied: {error}")))?;
            }
            text(client, &lines)
        }
        None => format!("agent URL  {}\n\n{}", target.url, list()),
    };
    if args.qr {
        let code =
            qr_code(&target.url).ok_or_else(|| AdminError::Usage("the URL is too long for a QR code".to_owned()))?;
        text.push_str(&format!("\n{code}\n"));
    }
    Ok(text)
}

/// The known clients, and how to see the lines for one.
fn list() -> String {
    let mut table = Table::new(["NAME", "CLIENT"]);
    for client in ClientName::value_variants() {
        table.row([client.as_str().to_owned(), client.title().to_owned()]);
    }
    format!(
        "{}\n`adit client-config cursor`, for example, prints what to write for Cursor.\n",
        table.text("no clients")
    )
}

fn text(client: ClientName, lines: &ClientLines) -> String {
    let steps = lines.steps.iter().map(|step| format!("\n{}:\n\n{}", step.place, step.text));
    let notes = lines.notes.iter().map(|note| format!("\n{note}\n"));
    format!("{}\n{}", client.title(), steps.chain(notes).collect::<String>())
}

fn body(client: ClientName, lines: &ClientLines) -> serde_json::Value {
    let steps: Vec<_> = lines.steps.iter().map(|step| json!({ "place": step.place, "text": step.text })).collect();
    json!({ "client": client.as_str(), "title": client.title(), "steps": steps, "notes": lines.notes })
}

/// The URL of the process whose admin API answers: the one without TLS, where there is one.
async fn running_url(args: &ClientConfigArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let client = AdminClient::without_token(args.admin.as_deref(), env)?;
    let none = |why: &str| {
        let why = format!("{why}: give the URL that agents call with --url https://HOST/mcp, or start `adit up` first");
        AdminError::Usage(why)
    };
    let status: StatusBody = match client.get(&["status"], &[]).await {
        Err(AdminError::Unreachable { .. }) if args.admin.is_none() => {
            return Err(none("no process of adit runs here"));
        }
        answer => answer?,
    };
    let url = status.plain_agent_url.or(status.agent_url);
    let url = url.ok_or_else(|| none("the process does not know how agents reach it"))?;
    // The URL of an edge is the address on which it listens, unless it is given one (public_url).
    let host =
        Url::parse(&url).ok().and_then(|url| url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()));
    let is_unspecified = host.and_then(|host| host.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_unspecified());
    if is_unspecified {
        return Err(none("the process listens on all addresses"));
    }
    checked(&url)
}

/// A URL that agents can call, with the usual path if it has none.
fn checked(text: &str) -> Result<String, AdminError> {
    let wrong = |why: &str| AdminError::Usage(format!("{text:?} is no URL that agents can call: {why}"));
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong("it begins with https:// or http://"));
    }
    if url.path() == "/" && !text.trim_end().ends_with('/') {
        url.set_path(MCP_PATH);
    }
    Ok(url.to_string())
}

fn absolute(file: &Path) -> Result<String, AdminError> {
    let whole = std::path::absolute(file).ok().filter(|file| file.is_file());
    let whole = whole.ok_or_else(|| AdminError::Usage(format!("--ca-file: there is no file {}", file.display())))?;
    Ok(whole.to_string_lossy().into_owned())
}

/// What `adit up` prints at its start: the URLs, how to add them to clients, and a call with a real client.
pub(in crate::cli) fn up_text(facts: &ProcessFacts, ca_command: CommandLine, qr: bool) -> String {
    let url = facts.agent_url.as_deref().unwrap_or_default();
    let admin = facts.admin_url.as_deref().unwrap_or("off");
    let plain = facts.plain_agent_url.as_deref();
    let here = plain.map_or_else(String::new, |plain| format!("           {plain}  on this machine, without TLS\n"));
    let inspector = ca_command.word(url).flag("--transport", "http").flag("--method", "tools/list");
    let clients = plain.map_or_else(String::new, |plain| {
        format!("Add it to a client on this machine:\n\n{}\n", clients_text(plain, false))
    });
    let code = if qr { qr_code(url).map_or_else(String::new, |code| format!("{code}\n\n")) } else { String::new() };
    format!(
        "agent URL  {url}\n{here}admin URL  {admin}\n\n{code}{clients}List the tools with a real MCP client:\n\n  {inspector}\n\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_path_gets_the_usual_one() {
        for (given, url) in [
            ("https://a.test", Some("https://a.test/mcp")),
            ("https://a.test/", Some("https://a.test/")),
            ("http://127.0.0.1:8443/sse", Some("http://127.0.0.1:8443/sse")),
            ("a.test:443", None),
            ("unix:/run/mcp.sock", None),
        ] {
            assert_eq!(checked(given).ok().as_deref(), url, "{given}");
        }
    }

    #[test]
    fn the_first_screen_of_up_fits_a_small_terminal() {
        let facts = ProcessFacts {
            agent_url: Some("https://localhost:8443/mcp".to_owned()),
            plain_agent_url: Some("http://localhost:8443/mcp".to_owned()),
            admin_url: Some("http://127.0.0.1:9443".to_owned()),
            ..ProcessFacts::default()
        };
        let command = CommandLine::new(
            "NODE_EXTRA_CA_CERTS=/tmp/adit-up-0123456789abcdef/ca.pem npx -y @modelcontextprotocol/inspector --cli",
        );
        let text = up_text(&facts, command.clone(), false);
        let rows: usize = text.lines().map(|line| line.chars().count().div_ceil(80).max(1)).sum();
        assert!(rows <= 23, "{rows} rows:\n{text}");
        assert!(up_text(&facts, command, true).contains('█'));
    }
}
