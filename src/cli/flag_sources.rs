//! The flags of a command as a source of the configuration: each flag sets one setting.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::base::CREDENTIALS_ENV;
use crate::cli::check_args::MCP_PATH;
use crate::cli::role_args::{ConnectArgs, EdgeArgs, UpArgs};
use crate::cli::settings_args::{EngineArgs, FileArgs};
use crate::config::{CREDENTIALS, ConfigErrors, FILE_ENV, FileText, Flag, Purpose, Sources, settings};

/// The hosts that agents on the same machine use. `adit up` always serves them, in addition to the given host.
const UP_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
/// The tunnel of `adit up`.
const UP_TUNNEL: &str = "tnl_up";
/// The upstream that is a command.
const STDIO: &str = "stdio";
/// The address that lets the system choose the port.
const UP_ANY_PORT: &str = "127.0.0.1:0";

impl FileArgs {
    /// The sources for a command with these flags, after `flags`.
    ///
    /// # Errors
    ///
    /// The named file cannot be read.
    pub fn sources(
        &self,
        purpose: Purpose,
        env: &BTreeMap<String, String>,
        mut flags: Vec<Flag>,
    ) -> Result<Sources, ConfigErrors> {
        let by_env = || env.get(FILE_ENV).filter(|name| !name.is_empty()).map(PathBuf::from);
        let file = match self.config.clone().or_else(by_env) {
            Some(path) => Some(FileText::read(&path)?),
            None => None,
        };
        flags.extend(self.set.iter().map(|(key, value)| Flag {
            key: key.clone(),
            name: "--set".to_owned(),
            value: value.clone(),
        }));
        let profile = self.profile.profile;
        Ok(Sources { purpose, profile, file, env: env.clone(), flags, credentials: credentials(env) })
    }
}

impl EngineArgs {
    fn flags(&self) -> Vec<Flag> {
        given([
            ("engine.driver", &self.driver),
            ("engine.cores", &self.cores),
            ("log.level", &self.log_level),
            ("log.format", &self.log_format),
        ])
    }
}

impl EdgeArgs {
    /// The sources of the configuration of `adit edge`.
    ///
    /// # Errors
    ///
    /// The named file cannot be read.
    pub fn sources(&self, env: &BTreeMap<String, String>) -> Result<Sources, ConfigErrors> {
        let mut flags = given([
            ("edge.agents_listen", &self.listen),
            ("edge.agents_cert_file", &self.agents_cert_file),
            ("edge.agents_key_file", &self.agents_key_file),
            ("edge.connectors_listen", &self.connectors_listen),
            ("edge.connectors_cert_file", &self.connectors_cert_file),
            ("edge.connectors_key_file", &self.connectors_key_file),
            ("edge.data_dir", &self.data_dir),
            ("edge.tunnel_domain", &self.tunnel_domain),
            ("edge.admin_listen", &self.admin),
        ]);
        if self.allow_plain_http_off_loopback {
            flags.push(Flag::new("edge.allow_plain_http_off_loopback", "true"));
        }
        flags.extend(self.engine.flags());
        self.file.sources(Purpose::Edge, env, flags)
    }
}

impl ConnectArgs {
    /// The sources of the configuration of `adit connect`.
    ///
    /// # Errors
    ///
    /// The named file cannot be read.
    pub fn sources(&self, env: &BTreeMap<String, String>) -> Result<Sources, ConfigErrors> {
        let mut flags = given([
            ("connect.tunnel", &self.id),
            ("connect.secret", &self.secret),
            ("connect.secret_file", &self.secret_file),
            ("connect.token", &self.token),
            ("connect.token_file", &self.token_file),
            ("connect.provisioning_key", &self.provisioning_key),
            ("connect.provisioning_key_file", &self.provisioning_key_file),
            ("connect.state_dir", &self.state_dir),
            ("connect.traffic", &self.traffic),
            ("connect.edge_ca_file", &self.edge_ca_file),
            ("connect.edge_name", &self.edge_name),
            ("connect.admin_listen", &self.admin),
        ]);
        flags.extend(self.edge.iter().map(|edge| Flag::new("connect.edge", edge.as_str())));
        // The one route without a URL goes to the command.
        let hosts = self.route.iter().filter(|route| !route.contains('=')).count();
        if !self.command.is_empty() && hosts != 1 {
            return Err(ConfigErrors::of(
                "route",
                "the command after -- needs one --route HOST, without a URL, that names its host",
            ));
        }
        let command = (!self.command.is_empty()).then(|| Value::from(self.command.as_slice()));
        flags.extend(self.route.iter().map(|route| match command.as_ref().filter(|_| !route.contains('=')) {
            Some(command) => Flag::new("route", format!("{route}={command}")),
            None => Flag::new("route", route.as_str()),
        }));
        flags.extend(self.engine.flags());
        self.file.sources(Purpose::Connect, env, flags)
    }
}

impl UpArgs {
    /// The URL of `--upstream` without its path, and the path: `http://127.0.0.1:9000` and `/mcp`, which is the default
    /// path. A route has no path, because the path of each call is passed on unchanged. Here the path becomes part of
    /// the agents' URL.
    #[must_use]
    pub fn upstream_parts(&self) -> Option<(&str, &str)> {
        if !self.command.is_empty() {
            return Some((STDIO, MCP_PATH));
        }
        let url = self.upstream.as_deref()?;
        let is_socket = url.starts_with("unix:") || url.starts_with("h2c+unix:");
        let host_at = url.find("://").filter(|_| !is_socket).map(|at| at + 3);
        let path_at = host_at.and_then(|at| Some(at + url[at..].find('/')?)).unwrap_or(url.len());
        let (upstream, path) = url.split_at(path_at);
        Some((upstream, if path.is_empty() { MCP_PATH } else { path }))
    }

    /// The sources of the configuration of `adit up`. `secret` is a fresh secret for its one tunnel. `upstream` is the
    /// target of its route: the URL of `--upstream` without its path, or the address of the demo server. The port of
    /// `connectors_listen`, and with it that of `connect.edge`, is 0, so that the system chooses it.
    #[must_use]
    pub fn sources(&self, env: &BTreeMap<String, String>, secret: &str, upstream: &str) -> Sources {
        let hosts = self.hosts();
        let list = hosts.join(",");
        let (listen, admin) = (
            self.address(&self.listen, "edge.agents_listen", env),
            self.address(&self.admin, "edge.admin_listen", env),
        );
        let mut flags = given([("edge.agents_listen", &listen), ("edge.admin_listen", &admin)]);
        flags.extend(self.engine.flags());
        let own = [
            ("edge.connectors_listen", UP_ANY_PORT),
            ("tunnel[0].id", UP_TUNNEL),
            ("tunnel[0].secret", secret),
            ("tunnel[0].hosts", list.as_str()),
            ("connect.edge", UP_ANY_PORT),
            ("connect.tunnel", UP_TUNNEL),
            ("connect.secret", secret),
        ];
        flags.extend(own.map(|(key, value)| Flag {
            key: key.to_owned(),
            name: "adit up".to_owned(),
            value: value.to_owned(),
        }));
        let (host_flag, upstream_flag) = ("--host", "--upstream");
        for (index, host) in hosts.iter().enumerate() {
            let field = |field: &str, name: &str, value: &str| Flag {
                key: format!("route[{index}].{field}"),
                name: name.to_owned(),
                value: value.to_owned(),
            };
            flags.extend([field("host", host_flag, host), field("upstream", upstream_flag, upstream)]);
            if !self.command.is_empty() {
                flags.push(field("command", "--", &Value::from(self.command.as_slice()).to_string()));
            }
        }
        let profile = self.profile.profile;
        Sources { purpose: Purpose::Up, profile, file: None, env: env.clone(), flags, credentials: Vec::new() }
    }

    /// The given host, and those that agents on this machine use.
    fn hosts(&self) -> Vec<&str> {
        let loopback = UP_HOSTS.into_iter().filter(|host| self.host.as_deref() != Some(host));
        self.host.as_deref().into_iter().chain(loopback).collect()
    }

    /// The listen address. With `--once` the default is any free port, because nothing else needs to know it.
    fn address(&self, flag: &Option<String>, key: &str, env: &BTreeMap<String, String>) -> Option<String> {
        let setting = settings().find(|setting| setting.path() == key)?;
        let given = flag.is_some() || setting.env().is_some_and(|name| env.contains_key(&name));
        if self.once && !given { Some(UP_ANY_PORT.to_owned()) } else { flag.clone() }
    }
}

/// The credentials that systemd provides to this service.
fn credentials(env: &BTreeMap<String, String>) -> Vec<(&'static str, PathBuf)> {
    let Some(folder) = env.get(CREDENTIALS_ENV).filter(|folder| !folder.is_empty()) else { return Vec::new() };
    let there = |(name, key): (&str, &'static str)| {
        Some((key, PathBuf::from(folder).join(name))).filter(|(_, file)| file.is_file())
    };
    CREDENTIALS.into_iter().filter_map(there).collect()
}

fn given<const N: usize>(values: [(&str, &Option<String>); N]) -> Vec<Flag> {
    values.into_iter().filter_map(|(key, value)| Some(Flag::new(key, value.as_deref()?))).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::config::Config;

    fn parse(args: &[&str]) -> Command {
        Cli::try_parse_from([&["adit"], args].concat()).unwrap_or_else(|error| panic!("{error}")).command
    }

    fn flags(args: &[&str]) -> Vec<Flag> {
        let sources = match parse(args) {
            Command::Edge(args) => args.sources(&BTreeMap::new()),
            Command::Connect(args) => args.sources(&BTreeMap::new()),
            _ => panic!("not a role"),
        };
        sources.unwrap().flags
    }

    #[test]
    fn every_flag_in_the_table_of_settings_sets_its_setting() {
        let mut seen = 0;
        for setting in settings() {
            let Some(flag) = setting.flag else { continue };
            let role = if setting.section == "connect" { "connect" } else { "edge" };
            let args: &[&str] = if setting.kind == "boolean" { &[role, flag] } else { &[role, flag, setting.example] };
            let found = flags(args);
            assert_eq!(found.len(), 1, "{flag}");
            assert_eq!((found[0].key.as_str(), found[0].name.as_str()), (setting.path().as_str(), flag));
            assert_eq!(found[0].value, setting.example);
            seen += 1;
        }
        assert!(seen > 15);
    }

    #[test]
    fn up_makes_a_whole_configuration_of_nothing() {
        let Command::Up(args) = parse(&["up", "--listen", "127.0.0.1:0", "--once", "--json"]) else { panic!() };
        let sources = args.sources(&BTreeMap::new(), "0123456789abcdef0123", "http://127.0.0.1:9000");
        let config = Config::load(&sources).unwrap();
        let (edge, connect) = (config.edge.unwrap(), config.connect.unwrap());
        assert_eq!(edge.agents_listen.to_string(), "127.0.0.1:0");
        assert_eq!(edge.tunnels[0].hosts.len(), 3);
        assert_eq!(connect.routes.len(), 3);
        assert_eq!(edge.admin_listen.unwrap().port(), 0, "with --once any port does");
        assert_eq!(connect.tunnel.as_ref(), Some(&edge.tunnels[0].id));
        assert!(edge.connectors_cert_file.is_none());

        let Command::Up(args) = parse(&["up", "--host", "not a host", "--listen", "nowhere"]) else { panic!() };
        let sources = args.sources(&BTreeMap::new(), "0123456789abcdef0123", "http://127.0.0.1:9000");
        let faults = Config::load(&sources).unwrap_err().to_string();
        assert!(
            faults.contains("--host: route[0].host: ") && faults.contains("--listen: edge.agents_listen: "),
            "{faults}"
        );
    }

    #[test]
    fn the_path_of_an_upstream_is_taken_apart() {
        for (url, parts) in [
            ("http://127.0.0.1:9000/mcp", ("http://127.0.0.1:9000", "/mcp")),
            ("https://a", ("https://a", "/mcp")),
            ("https://a/", ("https://a", "/")),
            ("unix:/run/mcp.sock", ("unix:/run/mcp.sock", "/mcp")),
            ("h2c://127.0.0.1:9000/mcp/", ("h2c://127.0.0.1:9000", "/mcp/")),
            ("h2c+unix:///run/mcp.sock", ("h2c+unix:///run/mcp.sock", "/mcp")),
            ("nonsense", ("nonsense", "/mcp")),
        ] {
            let Command::Up(args) = parse(&["up", "--upstream", url]) else { panic!() };
            assert_eq!(args.upstream_parts(), Some(parts));
        }
    }
}
