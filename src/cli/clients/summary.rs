//! What `adit up` and `adit connect` print when they start, for the first screen of a terminal.

use clap::ValueEnum;

use crate::cli::check_args::MCP_PATH;
use crate::cli::clients::args::ClientName;
use crate::cli::clients::lines::ClientTarget;
use crate::cli::command_line::CommandLine;

/// The clients that are named with their command, as it is one line.
const BY_COMMAND: [ClientName; 2] = [ClientName::ClaudeCode, ClientName::Codex];
/// The most URLs that are listed.
const URLS_MAX: usize = 5;

/// How to add the server at `url` to a client: the commands of clients that have one, and how to see the lines for the others.
/// `with_url` names the URL in that command, because no admin API tells it.
pub(super) fn clients_text(url: &str, with_url: bool) -> String {
    let target = ClientTarget::open(url);
    let commands = BY_COMMAND.iter().filter_map(|client| target.command(*client));
    let commands: String = commands.map(|command| format!("  {command}\n")).collect();
    let others = ClientName::value_variants().iter().filter(|client| !BY_COMMAND.contains(client));
    let others: Vec<&str> = others.map(|client| client.as_str()).collect();
    let line = CommandLine::new("adit client-config").word(others[0]);
    let line = if with_url { line.flag("--url", url) } else { line };
    format!("{commands}  {line}\n\nand the same for {}.\n", others[1..].join(", "))
}

/// The URLs that agents call for these hosts of a connector, and how to add the first to a client.
pub(in crate::cli) fn connector_text(hosts: &[String]) -> String {
    let url = |host: &String| format!("https://{}{MCP_PATH}", host.replacen("*.", "NAME.", 1));
    let urls = hosts.iter().take(URLS_MAX).map(|host| format!("agent URL  {}\n", url(host)));
    let urls: String = urls.collect();
    let more = match hosts.len().saturating_sub(URLS_MAX) {
        0 => String::new(),
        more => format!("           and {more} more\n"),
    };
    let add = hosts.first().map_or_else(String::new, |host| {
        format!(
            "\nAdd it to a client, with the port and the path if they differ:\n\n{}\n",
            clients_text(&url(host), true)
        )
    });
    format!("{urls}{more}{add}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_up_fits_beside_the_urls_on_a_small_terminal() {
        let text = clients_text("http://localhost:8443/mcp", false);
        assert!(text.lines().count() <= 8 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("claude mcp add --transport http adit http://localhost:8443/mcp\n"), "{text}");
        for client in ClientName::value_variants().iter().filter(|client| !BY_COMMAND.contains(client)) {
            assert!(text.contains(client.as_str()), "{client:?} is not named: {text}");
        }
    }

    #[test]
    fn a_connector_names_the_url_of_each_host() {
        let hosts: Vec<String> = ["a.example.com", "*.b.example.com"].map(str::to_owned).to_vec();
        let text = connector_text(&hosts);
        assert!(
            text.starts_with("agent URL  https://a.example.com/mcp\nagent URL  https://NAME.b.example.com/mcp\n"),
            "{text}"
        );
        assert!(text.contains("adit client-config claude-desktop --url https://a.example.com/mcp\n"), "{text}");
        let many: Vec<String> = (0..9).map(|at| format!("h{at}.test")).collect();
        assert!(connector_text(&many).contains("and 4 more"));
        assert_eq!(connector_text(&[]), "");
    }
}
