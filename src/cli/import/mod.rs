//! `adit import`: finds the MCP servers in the configuration of clients, and writes routes of a connector for them.

mod args;
mod jsonc;
mod places;
mod read;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::call_text::plain;
use crate::cli::error_pages::{STDIO, line};
use crate::cli::import::places::{ClientFile, known_files, named_file};
use crate::cli::import::read::{FoundServer, servers_of};
use crate::cli::import::routes::{ImportedRoute, route_of};
use crate::cli::output::print;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::{CONFIG_FILE_LEN_MAX, Config, FileText, Purpose, Sources};

pub use args::ImportArgs;

/// The longest file of a client that is read, in bytes.
const FILE_LEN_MAX: u64 = 32 << 20;

/// What was found: routes, and what could not be imported.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    routes: Vec<ImportedRoute>,
    /// Servers and files, and why they are left out.
    left_out: Vec<(String, String)>,
}

/// Runs `adit import` and returns the exit code.
#[must_use]
pub fn run_import(args: &ImportArgs, env: &BTreeMap<String, String>) -> u8 {
    match import(args, env) {
        Ok(text) => {
            print(&text);
            0
        }
        Err((code, why)) => {
            eprintln!("{why}{}", line(STDIO));
            code
        }
    }
}

fn import(args: &ImportArgs, env: &BTreeMap<String, String>) -> Result<String, (u8, String)> {
    let into = args.into.as_deref().map(|path| Target::read(path, env)).transpose().map_err(|why| (EXIT_USAGE, why))?;
    let files = if args.from.is_empty() {
        let folder = std::env::current_dir().unwrap_or_default();
        known_files(std::env::home_dir().as_deref(), &folder)
    } else {
        args.from.iter().map(|path| named_file(path)).collect()
    };
    let mut taken = into.as_ref().map(|target| target.hosts.clone()).unwrap_or_default();
    let found = find(&files, args, &mut taken).map_err(|why| (EXIT_FAILURE, why))?;
    if args.json {
        return Ok(format!("{:#}\n", body(&found)));
    }
    let routes: String = found.routes.iter().map(|route| format!("\n{}", route.text)).collect();
    match into {
        Some(target) if !args.dry_run && !found.routes.is_empty() => {
            target.append(&routes, env).map_err(|why| (EXIT_FAILURE, why))?;
            Ok(summary(&found, Some(&target.path)))
        }
        _ => Ok(format!("{}{}", routes.trim_start(), comments(&summary(&found, None)))),
    }
}

/// The servers of all files. A file that was named must be there; others may be absent.
fn find(files: &[ClientFile], args: &ImportArgs, taken: &mut BTreeSet<String>) -> Result<Found, String> {
    let mut found = Found::default();
    let mut seen: Vec<FoundServer> = Vec::new();
    for file in files {
        let text = match read_text(&file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && args.from.is_empty() => continue,
            Err(error) if args.from.is_empty() => {
                found.left_out.push((file.path.display().to_string(), format!("it cannot be read: {error}")));
                continue;
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", file.path.display())),
            Ok(text) => text,
        };
        let servers = match servers_of(file.format, &text) {
            Ok(servers) => servers,
            Err(why) => {
                found.left_out.push((file.path.display().to_string(), why));
                continue;
            }
        };
        found.files.push(file.path.clone());
        let wanted = |server: &FoundServer| args.only.is_empty() || args.only.contains(&server.name);
        for server in servers.into_iter().filter(wanted) {
            // The same server in two clients is one route.
            if seen.iter().any(|other| other.what.is_ok() && other.what == server.what) {
                continue;
            }
            let from = format!("{} ({})", file.client, file.path.display());
            match route_of(&server, &from, &args.domain, taken) {
                Ok(route) => found.routes.push(route),
                Err(why) => found.left_out.push((server.name.clone(), why)),
            }
            seen.push(server);
        }
    }
    Ok(found)
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_LEN_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What was found and what is to be done, for people.
fn summary(found: &Found, written: Option<&Path>) -> String {
    let mut text = match (found.routes.len(), written) {
        (0, _) if found.files.is_empty() => {
            "no configuration of an MCP client was found: name one with --from FILE\n".to_owned()
        }
        (0, _) => "no server was found that can be imported\n".to_owned(),
        (count, Some(path)) => format!("{count} routes were added to {}\n", path.display()),
        (count, None) => format!("{count} routes; --into FILE appends them to the configuration of a connector\n"),
    };
    for route in &found.routes {
        text.push_str(&format!("{}: agents call {}\n", plain(&route.name), route.agent_url));
        for variable in &route.variables {
            text.push_str(&format!("  set {} in the environment of `adit connect`\n", plain(variable)));
        }
        for header in &route.headers {
            text.push_str(&format!("  agents send the header field {} themselves\n", plain(header)));
        }
    }
    for (name, why) in &found.left_out {
        text.push_str(&format!("{} was left out: {why}\n", plain(name)));
    }
    text
}

/// The lines as comments of TOML, so that the whole output is a part of a configuration.
fn comments(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

fn body(found: &Found) -> serde_json::Value {
    let routes: Vec<_> = found
        .routes
        .iter()
        .map(|route| {
            json!({
                "name": route.name, "host": route.host, "agent_url": route.agent_url, "toml": route.text,
                "variables": route.variables, "headers": route.headers,
            })
        })
        .collect();
    let left_out: Vec<_> = found.left_out.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
    json!({ "files": found.files, "routes": routes, "left_out": left_out })
}

/// The configuration of a connector that routes are appended to.
struct Target {
    path: PathBuf,
    text: String,
    hosts: BTreeSet<String>,
}

impl Target {
    fn read(path: &Path, env: &BTreeMap<String, String>) -> Result<Target, String> {
        let config = load(path, env)?;
        let hosts = config.connect.iter().flat_map(|connect| &connect.routes).map(|route| route.host.to_string());
        let text = read_text(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Target { path: path.to_path_buf(), hosts: hosts.collect(), text })
    }

    /// Appends routes. The file is replaced as a whole, and only if the result is a valid configuration.
    fn append(&self, routes: &str, env: &BTreeMap<String, String>) -> Result<(), String> {
        let failed = |error: io::Error| format!("{} cannot be written: {error}", self.path.display());
        let text = format!("{}\n{routes}", self.text.trim_end());
        if text.len() as u64 > CONFIG_FILE_LEN_MAX {
            return Err(format!("{} would become too long: import fewer servers with --only", self.path.display()));
        }
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = self.path.with_file_name(name);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside).map_err(failed)?;
        let written = fs::metadata(&self.path)
            .and_then(|meta| file.set_permissions(meta.permissions()))
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(failed);
        let done = written
            .and_then(|()| load(&beside, env).map(drop))
            .and_then(|()| fs::rename(&beside, &self.path).map_err(failed));
        if done.is_err() {
            // Nothing but the copy was changed.
            let _ = fs::remove_file(&beside);
        }
        done
    }
}

fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Config, String> {
    let load = || {
        let file = Some(FileText::read(path)?);
        let purpose = Purpose::Connect;
        Config::load(&Sources {
            purpose,
            profile: None,
            file,
            env: env.clone(),
            flags: Vec::new(),
            credentials: Vec::new(),
        })
    };
    load().map_err(|faults| faults.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &str = "# mine\n[connect]\nedge = \"edge.test:7844\"\ntoken_file = \"t\"\n\n[[route]]\nhost = \"old.t.test\"\n\
                           upstream = \"http://127.0.0.1:1\"\n";

    fn args(from: &[PathBuf], into: Option<PathBuf>, dry_run: bool) -> ImportArgs {
        let domain = "t.test".to_owned();
        ImportArgs { from: from.to_vec(), only: Vec::new(), domain, into, dry_run, json: false }
    }

    #[test]
    fn routes_are_appended_to_a_configuration_that_stays_valid_and_the_sources_are_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (source, codex, into) =
            (dir.path().join("mcp.json"), dir.path().join("c.toml"), dir.path().join("connect.toml"));
        let json = r#"{"mcpServers":{"old":{"command":"uvx","args":["x"],"env":{"API_KEY":"s3cret"}},
                       "web":{"url":"https://api.test/mcp"},"off":{"command":"x","disabled":true}}}"#;
        fs::write(&source, json).unwrap();
        fs::write(&codex, "[mcp_servers.web2]\nurl = \"https://api.test/mcp\"\n").unwrap();
        fs::write(&into, CONNECT).unwrap();
        let env = BTreeMap::new();
        let from = [source.clone(), codex];
        let text = import(&args(&from, Some(into.clone()), true), &env).unwrap();
        assert_eq!(fs::read_to_string(&into).unwrap(), CONNECT);
        let printed: toml::Table = text.parse().unwrap();
        assert_eq!(printed["route"].as_array().unwrap().len(), 2, "{text}");

        let text = import(&args(&from, Some(into.clone()), false), &env).unwrap();
        assert!(text.starts_with("2 routes were added") && text.contains("set API_KEY in the environment"), "{text}");
        assert!(text.contains("off was left out: it is disabled there"), "{text}");
        let written = fs::read_to_string(&into).unwrap();
        assert!(written.starts_with("# mine\n") && !written.contains("s3cret"), "{written}");
        let hosts: Vec<String> =
            load(&into, &env).unwrap().connect.unwrap().routes.iter().map(|route| route.host.to_string()).collect();
        assert_eq!(hosts, ["old.t.test", "old-2.t.test", "web.t.test"]);
        assert_eq!(fs::read_to_string(&source).unwrap(), json);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "no copy is left");
    }

    #[test]
    fn what_cannot_be_imported_is_an_error_with_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing.json");
        let env = BTreeMap::new();
        assert_eq!(import(&args(std::slice::from_ref(&missing), None, false), &env).unwrap_err().0, EXIT_FAILURE);
        assert_eq!(import(&args(&[], Some(missing), false), &env).unwrap_err().0, EXIT_USAGE);
    }
}
