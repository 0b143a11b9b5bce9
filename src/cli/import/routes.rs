//! The routes of a connector for the servers that were found. A secret is never copied: a variable whose value may be one becomes
//! a reference, which the connector's own environment has to have.

use std::collections::BTreeSet;

use reqwest::Url;

use crate::cli::call_text::plain;
use crate::cli::import::read::{FoundServer, ServerKind};

/// The longest label of a host.
const LABEL_LEN_MAX: usize = 63;
/// The longest value of a variable that is copied.
const VALUE_LEN_MAX: usize = 64;
/// What the names of secrets contain.
const SECRET_NAMES: [&str; 11] =
    ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH", "COOKIE", "SESSION", "PRIVATE", "DSN", "PAT"];

/// A route to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportedRoute {
    /// The name of the server in the client.
    pub(super) name: String,
    /// The host that agents call.
    pub(super) host: String,
    /// The table of the configuration, with comments.
    pub(super) text: String,
    /// The URL that agents call.
    pub(super) agent_url: String,
    /// Variables that the environment of `adit connect` must have.
    pub(super) variables: Vec<String>,
    /// Header fields that agents must send themselves.
    pub(super) headers: Vec<String>,
}

/// The route for one server, with a host below `domain` that none of `taken` is.
///
/// # Errors
///
/// Why it cannot be imported.
pub(super) fn route_of(
    server: &FoundServer,
    from: &str,
    domain: &str,
    taken: &mut BTreeSet<String>,
) -> Result<ImportedRoute, String> {
    let kind = server.what.clone()?;
    let (body, path, variables, headers) = match &kind {
        ServerKind::Command { command, env, cwd } => {
            if let Some(word) = command.windows(2).find(|pair| is_secret_flag(&pair[0]) && !pair[0].contains('=')) {
                return Err(format!("the argument after {} looks like a secret; add it by hand", plain(&word[0])));
            }
            if let Some(word) = command.iter().find(|word| is_secret_word(word)) {
                let flag = word.split('=').next().unwrap_or_default();
                let name = if flag.starts_with('-') { plain(flag) } else { "an argument".to_owned() };
                return Err(format!("{name} looks like a secret; add it by hand"));
            }
            let words: Vec<String> = command.iter().map(|word| toml_text(word)).collect();
            let mut body = format!("upstream = \"stdio\"\ncommand = [{}]\n", words.join(", "));
            let (kept, referred): (Vec<_>, Vec<_>) = env.iter().partition(|(name, value)| is_plain(name, value));
            if !kept.is_empty() {
                let kept: Vec<String> =
                    kept.iter().map(|(name, value)| toml_text(&format!("{name}={value}"))).collect();
                body.push_str(&format!("env = [{}]\n", kept.join(", ")));
            }
            for (name, _) in &referred {
                body.push_str(&format!("# {}: it is taken from the environment of `adit connect`\n", plain(name)));
            }
            if let Some(cwd) = cwd {
                body.push_str(&format!("cwd = {}\n", toml_text(cwd)));
            }
            (body, "/mcp".to_owned(), referred.iter().map(|(name, _)| name.clone()).collect(), Vec::new())
        }
        ServerKind::Url { url, headers } => {
            let parsed = Url::parse(url).map_err(|_| "its url is not one".to_owned())?;
            if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                return Err("its url does not begin with http:// or https://".to_owned());
            }
            if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
                return Err("its url contains what may be a secret; add it by hand".to_owned());
            }
            let mut body = format!("upstream = {}\n", toml_text(&parsed.origin().ascii_serialization()));
            for header in headers {
                body.push_str(&format!("# {}: agents send this header field themselves\n", plain(header)));
            }
            (body, parsed.path().to_owned(), Vec::new(), headers.clone())
        }
    };
    let host = host_of(&server.name, domain, taken);
    let text = format!("# {} of {}\n[[route]]\nhost = {}\n{body}", plain(&server.name), plain(from), toml_text(&host));
    Ok(ImportedRoute {
        name: server.name.clone(),
        agent_url: format!("https://{host}{path}"),
        host,
        text,
        variables,
        headers,
    })
}

/// A host for a server of this name, which is then taken.
fn host_of(name: &str, domain: &str, taken: &mut BTreeSet<String>) -> String {
    let letters = name.to_lowercase();
    let letters = letters.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    let label: String = letters.take(LABEL_LEN_MAX - 4).collect();
    let label = match label.trim_matches('-') {
        "" => "server",
        label => label,
    };
    let hosts = (1..).map(|number| match number {
        1 => format!("{label}.{domain}"),
        number => format!("{label}-{number}.{domain}"),
    });
    let host = hosts.into_iter().find(|host| !taken.contains(host)).expect("the numbers do not end");
    taken.insert(host.clone());
    host
}

/// Whether a variable can be copied: neither its name nor its value may be that of a secret.
fn is_plain(name: &str, value: &str) -> bool {
    !is_secret_name(name)
        && value.len() <= VALUE_LEN_MAX
        && !value.contains(['$', '@', '\0', '\n'])
        && !is_random(value)
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_uppercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

fn is_secret_flag(word: &str) -> bool {
    word.starts_with('-') && is_secret_name(word.split('=').next().unwrap_or_default())
}

fn is_secret_word(word: &str) -> bool {
    let value = word.split_once('=').map_or(word, |(_, value)| value);
    let has_login =
        word.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@'));
    (is_secret_flag(word) && word.contains('=')) || has_login || is_random(value)
}

/// Whether a text looks as if it had been made by a machine: long, without separators, of letters and digits.
fn is_random(text: &str) -> bool {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '+'));
    parts.into_iter().any(|part| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        part.len() >= 16 && digits >= 3 && digits < part.len()
    })
}

fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str], env: &[(&str, &str)]) -> FoundServer {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FoundServer { name: "My Server".to_owned(), what: Ok(ServerKind::Command { command, env, cwd: None }) }
    }

    fn route(server: &FoundServer) -> Result<ImportedRoute, String> {
        route_of(server, "Cursor", "t.test", &mut BTreeSet::new())
    }

    #[test]
    fn a_command_becomes_a_route_and_its_secrets_become_references() {
        let env = [("GITHUB_TOKEN", "ghp_1"), ("LOG", "debug"), ("WHAT", "4f9d2c71aa03be55"), ("X", "${input:x}")];
        let route = route(&command(&["npx", "-y", "a \"b\""], &env)).unwrap();
        let table: toml::Table = route.text.parse().unwrap();
        let table = table["route"][0].as_table().unwrap();
        assert_eq!(table["host"].as_str(), Some("my-server.t.test"));
        assert_eq!(table["command"].as_array().unwrap()[2].as_str(), Some("a \"b\""));
        assert_eq!(table["env"].as_array().unwrap(), &[toml::Value::from("LOG=debug")]);
        assert_eq!(route.variables, ["GITHUB_TOKEN", "WHAT", "X"]);
        assert_eq!(route.agent_url, "https://my-server.t.test/mcp");
        assert!(!route.text.contains("ghp_1") && !route.text.contains("4f9d"), "{}", route.text);
    }

    #[test]
    fn a_secret_in_an_argument_is_not_copied() {
        for words in [
            &["x", "--api-key", "abc"][..],
            &["x", "--token=abc"],
            &["x", "postgres://user:pw@db/x"],
            &["x", "sk4f9d2c71aa03be55zz"],
        ] {
            let why = route(&command(words, &[])).unwrap_err();
            assert!(why.contains("looks like a secret") && !why.contains("abc") && !why.contains("pw@"), "{why}");
        }
        assert!(
            route(&command(&["npx", "-y", "@modelcontextprotocol/server-filesystem@2026.1.14", "/home/user"], &[]))
                .is_ok()
        );
    }

    #[test]
    fn a_url_keeps_its_path_for_agents_and_a_login_is_refused() {
        let url = |url: &str| FoundServer {
            name: "a".to_owned(),
            what: Ok(ServerKind::Url { url: url.to_owned(), headers: vec!["Authorization".to_owned()] }),
        };
        let found = route(&url("https://api.test:8443/v1/mcp")).unwrap();
        assert!(found.text.contains("upstream = \"https://api.test:8443\"\n# Authorization:"), "{}", found.text);
        assert_eq!((found.agent_url.as_str(), found.headers.len()), ("https://a.t.test/v1/mcp", 1));
        for wrong in ["https://u:p@api.test/", "https://api.test/?key=1", "ftp://a.test", "nonsense"] {
            assert!(route(&url(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_differ_whatever_the_names_are() {
        let mut taken = BTreeSet::from(["a.t.test".to_owned()]);
        let long = "é".repeat(100);
        let hosts: Vec<String> =
            ["a", "A", "", "--", long.as_str()].map(|name| host_of(name, "t.test", &mut taken)).into();
        assert_eq!(hosts, ["a-2.t.test", "a-3.t.test", "server.t.test", "server-2.t.test", "server-3.t.test"]);
    }
}
