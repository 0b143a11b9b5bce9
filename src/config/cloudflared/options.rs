//! The checked settings of a connector of cloudflared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::command::{self, CloudflaredUsage, Given, add, add_variables, unused};
use super::durations::duration_of;
use super::flags::{FlagKind, HOME, spec};
use super::ingress::{CloudflaredIngress, CloudflaredService, OriginOptions, read_ingress};
use super::yaml::read_yaml;
use crate::config::{HostPort, Transport};
use crate::wire::cloudflared::TunnelCredentials;

/// The ports that are tried for the metrics, if none is given.
pub const METRICS_PORTS: std::ops::RangeInclusive<u16> = 20241..=20245;
/// The port of edges.
const EDGE_PORT: u16 = 7844;
/// The names of the two regions of Cloudflare's edge.
const REGIONS: [&str; 2] = ["region1.v2.argotunnel.com", "region2.v2.argotunnel.com"];
/// The number of connections, and the most.
const CONNECTIONS: u16 = 4;
const CONNECTIONS_MAX: u16 = 64;
/// The grace period, and the longest.
const GRACE_PERIOD: Duration = Duration::from_secs(30);
const GRACE_PERIOD_MAX: Duration = Duration::from_secs(180);
/// Where a file of settings is looked for.
const CONFIG_FOLDERS: [&str; 4] =
    ["~/.cloudflared", "~/.cloudflare-warp", "/etc/cloudflared", "/usr/local/etc/cloudflared"];
const CONFIG_NAMES: [&str; 2] = ["config.yml", "config.yaml"];

/// The settings of a connector.
#[derive(Clone)]
pub struct CloudflaredConfig {
    /// What it registers with.
    pub credentials: TunnelCredentials,
    /// The addresses of the edges. One may be there more than once.
    pub edges: Vec<HostPort>,
    /// How the edges are reached: QUIC, HTTP/2 on TCP, or whichever answers.
    pub transport: Transport,
    /// The authorities that an edge's certificate must come from; none for those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// How many connections are kept up.
    pub connections: u16,
    /// How long calls may take at the end.
    pub grace_period: Duration,
    /// Where metrics and readiness are served; none for a free port of this machine.
    pub metrics: Option<String>,
    /// A file for the number of the process, which is written once it is connected.
    pub pid_file: Option<PathBuf>,
    /// Which lines are logged: `debug`, `info`, `warn`, `error` or `off`.
    pub log_level: &'static str,
    /// The form of log lines.
    pub log_format: CloudflaredLogFormat,
    /// The rules; none if the edge sends them, or all calls are answered with 503.
    pub ingress: Option<CloudflaredIngress>,
    /// Features to announce besides the usual ones.
    pub features: Vec<String>,
    /// Lines to log at the start.
    pub notes: Vec<String>,
    /// Flags that were given and change nothing.
    pub ignored: Vec<&'static str>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CloudflaredLogFormat {
    /// A time, a level, a message and `key=value`.
    #[default]
    Text,
    /// An object of JSON.
    Json,
}

impl CloudflaredConfig {
    /// Reads the settings of the words after the program's name, of the environment, and of the file that they name.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn load(words: &[String], env: &BTreeMap<String, String>) -> Result<CloudflaredConfig, CloudflaredUsage> {
        let command::Words { mut flags, tunnel, .. } = command::read(words)?;
        add_variables(&mut flags, env);
        let home = env.get(HOME).map(String::as_str);
        let file = match flags.get("config").and_then(|values| values.last()) {
            Some(path) => Some((PathBuf::from(path), read_file(Path::new(path), "the file of --config")?)),
            None => find_config(home),
        };
        let mut notes = Vec::new();
        let file = match file {
            Some((path, text)) => {
                notes.push(format!("Settings are read from {}", path.display()));
                let bad = |why| usage(format!("{}: {why}", path.display()));
                read_yaml(&text).map_err(bad)?
            }
            None => Map::new(),
        };
        add_file(&mut flags, &file)?;
        let ignored = unused(&flags)?;
        let get = |name: &str| flags.get(name).and_then(|values| values.last()).map(String::as_str);
        let credentials = credentials(&get, tunnel.as_deref(), home)?;
        let transport = match get("protocol").unwrap_or("auto") {
            "http2" | "h2mux" => Transport::Tcp,
            "auto" => Transport::Auto,
            "quic" => Transport::Quic,
            other => return Err(usage(format!("`{other}` is not a protocol: auto, quic and http2 are"))),
        };
        Ok(CloudflaredConfig {
            transport,
            edges: edges(flags.get("edge"), get("region").or(credentials.endpoint.as_deref()))?,
            ca_file: get("cacert").map(PathBuf::from),
            connections: number(&get, "ha-connections", CONNECTIONS, CONNECTIONS_MAX)?,
            grace_period: time(&get, "grace-period")?.unwrap_or(GRACE_PERIOD).min(GRACE_PERIOD_MAX),
            metrics: get("metrics").map(str::to_owned),
            pid_file: get("pidfile").map(PathBuf::from),
            log_level: level(get("loglevel").unwrap_or("info"))?,
            log_format: match get("output").unwrap_or("default") {
                "json" => CloudflaredLogFormat::Json,
                "default" | "" => CloudflaredLogFormat::Text,
                other => return Err(usage(format!("`{other}` is not a form of the log: default and json are"))),
            },
            ingress: ingress(&get, &file)?,
            features: flags.get("features").cloned().unwrap_or_default(),
            credentials,
            notes,
            ignored,
        })
    }

    /// The address of the metrics that the words, the environment or the file name.
    ///
    /// # Errors
    ///
    /// If none is named.
    pub fn metrics_of(words: &[String], env: &BTreeMap<String, String>) -> Result<String, CloudflaredUsage> {
        let mut flags = command::read(words)?.flags;
        add_variables(&mut flags, env);
        let named = flags.get("metrics").and_then(|values| values.last());
        named.cloned().ok_or_else(|| usage("name the address of the connector with --metrics HOST:PORT"))
    }
}

fn usage(why: impl Into<String>) -> CloudflaredUsage {
    CloudflaredUsage(why.into())
}

fn read_file(path: &Path, what: &str) -> Result<String, CloudflaredUsage> {
    std::fs::read_to_string(path).map_err(|error| usage(format!("{what}, {}, cannot be read: {error}", path.display())))
}

/// A folder of the list, with the home folder in the place of `~`.
fn in_home(folder: &str, home: Option<&str>) -> Option<PathBuf> {
    match folder.strip_prefix("~/") {
        Some(rest) => home.map(|home| Path::new(home).join(rest)),
        None => Some(folder.into()),
    }
}

fn find_config(home: Option<&str>) -> Option<(PathBuf, String)> {
    let folders = CONFIG_FOLDERS.iter().filter_map(|folder| in_home(folder, home));
    let mut paths = folders.flat_map(|folder| CONFIG_NAMES.map(|name| folder.join(name)));
    paths.find_map(|path| std::fs::read_to_string(&path).ok().map(|text| (path, text)))
}

/// Adds the flags of the file that were not given otherwise.
fn add_file(flags: &mut Given, file: &Map<String, Value>) -> Result<(), CloudflaredUsage> {
    for (key, value) in file {
        if matches!(key.as_str(), "ingress" | "originRequest" | "warp-routing") || value.is_null() {
            continue;
        }
        let known = spec(key).ok_or_else(|| usage(format!("the file has the unknown setting `{key}`")))?;
        if flags.contains_key(known.names[0]) {
            continue;
        }
        let bad = || usage(format!("the setting `{key}` of the file has a wrong type"));
        let text = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(is) => Ok(is.to_string()),
            _ => Err(bad()),
        };
        match value {
            Value::Array(values) if known.kind == FlagKind::List => {
                for value in values {
                    add(flags, known, text(value)?);
                }
            }
            value => add(flags, known, text(value)?),
        }
    }
    Ok(())
}

fn credentials<'a>(
    get: &impl Fn(&str) -> Option<&'a str>,
    named: Option<&str>,
    home: Option<&str>,
) -> Result<TunnelCredentials, CloudflaredUsage> {
    let bad_token = |error| usage(format!("Provided Tunnel token is not valid. ({error})"));
    if let Some(token) = get("token") {
        return TunnelCredentials::of_token(token).map_err(bad_token);
    }
    if let Some(path) = get("token-file") {
        let token = read_file(Path::new(path), "the file of the token")?;
        return TunnelCredentials::of_token(token.trim()).map_err(bad_token);
    }
    let bad_file = |error| usage(format!("the credentials are not valid: {error}"));
    if let Some(json) = get("credentials-contents") {
        return TunnelCredentials::of_file(json.as_bytes()).map_err(bad_file);
    }
    if let Some(path) = get("credentials-file") {
        let json = read_file(Path::new(path), "the file of the credentials")?;
        return TunnelCredentials::of_file(json.as_bytes()).map_err(bad_file);
    }
    let Some(tunnel) = named.or_else(|| get("tunnel")) else {
        return Err(usage("a tunnel needs --token, --token-file or --credentials-file"));
    };
    let name = format!("{tunnel}.json");
    let folders = CONFIG_FOLDERS.iter().filter_map(|folder| in_home(folder, home));
    let found = folders.map(|folder| folder.join(&name)).find_map(|path| std::fs::read(path).ok());
    let missing = || usage(format!("no credentials file {name} was found: give its path with --credentials-file"));
    TunnelCredentials::of_file(&found.ok_or_else(missing)?).map_err(bad_file)
}

fn edges(given: Option<&Vec<String>>, region: Option<&str>) -> Result<Vec<HostPort>, CloudflaredUsage> {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        let edge = |text: &String| match text.rsplit_once(':') {
            Some((host, port)) => {
                let port =
                    port.parse().map_err(|_| usage(format!("`{text}` is not the address of an edge: host:port is")))?;
                Ok(HostPort { host: host.trim_matches(['[', ']']).into(), port })
            }
            None => Err(usage(format!("`{text}` is not the address of an edge: host:port is"))),
        };
        return given.iter().map(edge).collect();
    }
    let prefix = region.filter(|region| !region.is_empty()).map(|region| format!("{region}-")).unwrap_or_default();
    let of_region = |name: &str| HostPort { host: format!("{prefix}{name}").into(), port: EDGE_PORT };
    // One address for each connection, in turn.
    Ok(REGIONS.iter().cycle().take(usize::from(CONNECTIONS)).map(|name| of_region(name)).collect())
}

fn number<'a>(
    get: &impl Fn(&str) -> Option<&'a str>,
    name: &str,
    default: u16,
    max: u16,
) -> Result<u16, CloudflaredUsage> {
    let Some(text) = get(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| usage(format!("`{name}` is a number from 1 to {max}")))
}

fn time<'a>(get: &impl Fn(&str) -> Option<&'a str>, name: &str) -> Result<Option<Duration>, CloudflaredUsage> {
    let Some(text) = get(name) else { return Ok(None) };
    duration_of(text).map(Some).ok_or_else(|| usage(format!("`{name}` is a duration, such as 30s")))
}

fn level(text: &str) -> Result<&'static str, CloudflaredUsage> {
    match text {
        "debug" => Ok("debug"),
        "info" => Ok("info"),
        "warn" => Ok("warn"),
        "error" | "fatal" => Ok("error"),
        other => Err(usage(format!("`{other}` is not a level: debug, info, warn, error and fatal are"))),
    }
}

/// The rules of the file, or those that flags stand for.
fn ingress<'a>(
    get: &impl Fn(&str) -> Option<&'a str>,
    file: &Map<String, Value>,
) -> Result<Option<CloudflaredIngress>, CloudflaredUsage> {
    if let Some(ingress) = read_ingress(file).map_err(|fault| usage(fault.to_string()))? {
        return Ok(Some(ingress));
    }
    let is_on = |name: &str| get(name).is_some_and(|value| value != "false");
    let service = if is_on("hello-world") {
        CloudflaredService::HelloWorld
    } else if let Some(url) = get("url") {
        // As there, a host and a port are enough.
        let url =
            if url.contains("://") || url.starts_with("unix:") { url.to_owned() } else { format!("http://{url}") };
        url.parse().map_err(|why: String| usage(format!("`url`: {why}")))?
    } else if let Some(path) = get("unix-socket") {
        format!("unix:{path}").parse().map_err(|why: String| usage(format!("`unix-socket`: {why}")))?
    } else {
        return Ok(None);
    };
    let connections = get("proxy-keepalive-connections")
        .map(|text| text.parse().map_err(|_| usage("`proxy-keepalive-connections` is a number")));
    let origin = OriginOptions {
        connect_timeout: time(get, "proxy-connect-timeout")?,
        keep_alive_connections: connections.transpose()?,
        keep_alive_timeout: time(get, "proxy-keepalive-timeout")?,
        http_host_header: get("http-host-header").map(str::to_owned),
        ca_pool: get("origin-ca-pool").map(str::to_owned),
        http2_origin: Some(is_on("http2-origin")),
    };
    Ok(Some(CloudflaredIngress::of_service(service, origin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str =
        "eyJhIjoiYWNjdCIsInQiOiIzZDUzOWY5Ny1jZDNhLTRkOGUtYzMzYi02NWU5MDk5YzdhOGQiLCJzIjoiYzJWamNtVjAifQ==";

    fn load(line: &str, env: &[(&str, &str)]) -> Result<CloudflaredConfig, CloudflaredUsage> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        CloudflaredConfig::load(&words, &env.collect())
    }

    #[test]
    fn the_command_line_of_a_container_is_enough() {
        let config =
            load("tunnel --no-autoupdate run --url http://localhost:8080", &[("TUNNEL_TOKEN", TOKEN)]).unwrap();
        assert_eq!((config.credentials.account.as_str(), config.connections), ("acct", 4));
        let edges: Vec<String> = config.edges.iter().map(ToString::to_string).collect();
        let [one, two] = REGIONS.map(|name| format!("{name}:7844"));
        assert_eq!(edges, [one.clone(), two.clone(), one, two]);
        assert_eq!(config.ingress.unwrap().rules[0].service.to_string(), "http://localhost:8080");
        assert_eq!((config.grace_period, config.metrics, config.log_level), (GRACE_PERIOD, None, "info"));
        assert_eq!((config.ignored, config.notes.len()), (vec!["no-autoupdate"], 0));
    }

    #[test]
    fn the_file_has_what_flags_and_variables_do_not_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yml");
        std::fs::write(
            &path,
            "edge: [a.test:1, '[::1]:2']\nprotocol: http2\ngrace-period: 5s\nha-connections: 2\nmetrics: 127.0.0.1:9\n\
            ingress:\n  - hostname: x.test\n    service: http://127.0.0.1:1\n  - service: http_status:404\n",
        )
        .unwrap();
        let line =
            format!("tunnel --config {} --metrics 127.0.0.1:8 run --token {TOKEN} --output json", path.display());
        let config = load(&line, &[("TUNNEL_GRACE_PERIOD", "7s")]).unwrap();
        assert_eq!((config.connections, config.grace_period), (2, Duration::from_secs(7)));
        assert_eq!(config.metrics.as_deref(), Some("127.0.0.1:8"));
        assert_eq!(config.edges.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.test:1", "[::1]:2"]);
        assert_eq!((config.log_format, config.ingress.unwrap().rules.len()), (CloudflaredLogFormat::Json, 2));
        std::fs::write(&path, "frob: 1\n").unwrap();
        assert!(load(&line, &[]).err().unwrap().0.contains("unknown setting `frob`"));
    }

    #[test]
    fn credentials_may_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(".cloudflared");
        std::fs::create_dir(&folder).unwrap();
        let json =
            r#"{"AccountTag":"acct","TunnelSecret":"c2VjcmV0","TunnelID":"3d539f97-cd3a-4d8e-c33b-65e9099c7a8d"}"#;
        std::fs::write(folder.join("3d539f97-cd3a-4d8e-c33b-65e9099c7a8d.json"), json).unwrap();
        std::fs::write(folder.join("config.yml"), "tunnel: 3d539f97-cd3a-4d8e-c33b-65e9099c7a8d\nurl: localhost:1\n")
            .unwrap();
        let config = load("tunnel run", &[("HOME", dir.path().to_str().unwrap())]).unwrap();
        assert_eq!(config.credentials.account, "acct");
        assert_eq!(config.ingress.unwrap().rules[0].service.to_string(), "http://localhost:1");
        let config = load("tunnel run", &[("TUNNEL_CRED_CONTENTS", json)]).unwrap();
        assert!(config.ingress.is_none());
    }

    #[test]
    fn what_cannot_be_used_says_what_to_do() {
        let token = format!("tunnel run --token {TOKEN}");
        for (line, why) in [
            ("tunnel run".to_owned(), "needs --token"),
            ("tunnel run --token x".to_owned(), "Provided Tunnel token is not valid."),
            (format!("{token} --protocol x"), "not a protocol"),
            (format!("{token} --edge x"), "host:port"),
            (format!("{token} --ha-connections 0"), "from 1 to 64"),
            (format!("{token} --grace-period soon"), "a duration"),
            (format!("{token} --loglevel loud"), "not a level"),
            (format!("{token} --url ftp://x"), "`url`"),
            (format!("{token} --config /does/not/exist"), "cannot be read"),
        ] {
            let found = load(&line, &[]).err().unwrap().0;
            assert!(found.contains(why), "{line}: {found}");
        }
    }
}
