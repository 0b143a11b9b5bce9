//! Ingress rules, from the file, from flags, or from an edge.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::durations::duration_of;
use crate::route::{INGRESS_RULES_MAX, IngressMatch, IngressTable, UpstreamUrl};

/// The rules of a connector, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct CloudflaredIngress {
    /// The rules; the last one matches all requests.
    pub rules: Vec<CloudflaredRule>,
}

/// One rule of a connector.
#[derive(Clone, Debug)]
pub struct CloudflaredRule {
    /// The hostname as it was written; empty for all.
    pub hostname: String,
    /// The expression for paths as it was written; empty for all.
    pub path: String,
    /// Where its requests go.
    pub service: CloudflaredService,
    /// How its server is called.
    pub origin: OriginOptions,
}

/// Where the requests of a rule go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudflaredService {
    /// To a server of HTTP.
    Http(UpstreamUrl),
    /// Nowhere: they are answered with this status.
    Status(u16),
    /// Nowhere: they are answered with a page that says that the tunnel works.
    HelloWorld,
}

/// How a server is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginOptions {
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// How many connections are kept.
    pub keep_alive_connections: Option<u64>,
    /// How long a connection may be idle.
    pub keep_alive_timeout: Option<Duration>,
    /// The `Host` that the server gets.
    pub http_host_header: Option<String>,
    /// A file of authorities that the server's certificate may come from.
    pub ca_pool: Option<String>,
    /// Whether HTTP/2 is offered to the server.
    pub http2_origin: Option<bool>,
}

/// Why rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct IngressFault {
    /// The place of the fault, as `ingress[2].service`.
    pub place: String,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Options of a server that change nothing here.
const IGNORED: [&str; 7] =
    ["tlsTimeout", "tcpKeepAlive", "noHappyEyeballs", "disableChunkedEncoding", "proxyAddress", "proxyPort", "ipRules"];

/// Options that ask for something that is not there, with what to do.
const MISSING: [(&str, &str); 5] = [
    ("originServerName", "dial the server by a name that is in its certificate"),
    ("matchSNItoHost", "dial the server by a name that is in its certificate"),
    ("noTLSVerify", "trust the server's certificate with caPool"),
    ("bastionMode", "a connector calls only the servers of its rules"),
    ("proxyType", "a connector calls only the servers of its rules"),
];

/// The schemes of services that are not HTTP.
const NOT_HTTP: [&str; 7] = ["tcp:", "ssh:", "rdp:", "smb:", "unix+tls:", "bastion", "socks-proxy"];

/// Reads the rules of a configuration, `ingress` and `originRequest` of an object, as a file and an edge have them. None if it has
/// no rules.
///
/// # Errors
///
/// The first fault.
pub fn read_ingress(config: &Map<String, Value>) -> Result<Option<CloudflaredIngress>, IngressFault> {
    let of_all = read_origin("originRequest", config.get("originRequest"), OriginOptions::default())?;
    let rules = match config.get("ingress") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(rules)) if rules.len() <= INGRESS_RULES_MAX => rules,
        Some(_) => return Err(fault("ingress", format!("it must be a list of at most {INGRESS_RULES_MAX} rules"))),
    };
    if rules.is_empty() {
        return Ok(None);
    }
    let rules = rules.iter().enumerate().map(|(nth, rule)| read_rule(&format!("ingress[{nth}]"), rule, &of_all));
    let ingress = CloudflaredIngress { rules: rules.collect::<Result<_, _>>()? };
    ingress.check()?;
    Ok(Some(ingress))
}

fn read_rule(place: &str, rule: &Value, of_all: &OriginOptions) -> Result<CloudflaredRule, IngressFault> {
    let rule = rule.as_object().ok_or_else(|| fault(place, "it must be an object"))?;
    let text = |key: &str| match rule.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(fault(&format!("{place}.{key}"), "it must be a text")),
    };
    let service = text("service")?;
    Ok(CloudflaredRule {
        hostname: text("hostname")?.to_owned(),
        path: text("path")?.to_owned(),
        service: service.parse().map_err(|why: String| fault(&format!("{place}.service"), why))?,
        origin: read_origin(&format!("{place}.originRequest"), rule.get("originRequest"), of_all.clone())?,
    })
}

/// Reads the options of a server. Those that are not set are those of `defaults`.
fn read_origin(place: &str, value: Option<&Value>, defaults: OriginOptions) -> Result<OriginOptions, IngressFault> {
    let mut options = defaults;
    let object = match value {
        None | Some(Value::Null) => return Ok(options),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(fault(place, "it must be an object")),
    };
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{place}.{key}");
        let bad = |what: &str| fault(&at, format!("it must be {what}"));
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| bad("a text"));
        let time = || match value {
            // An edge sends whole seconds.
            Value::Number(seconds) => seconds.as_u64().map(Duration::from_secs),
            Value::String(text) => duration_of(text),
            _ => None,
        };
        let time = || time().ok_or_else(|| bad("a duration, such as 30s"));
        match key.as_str() {
            "connectTimeout" => options.connect_timeout = Some(time()?),
            "keepAliveTimeout" => options.keep_alive_timeout = Some(time()?),
            "keepAliveConnections" => {
                options.keep_alive_connections = Some(value.as_u64().ok_or_else(|| bad("a number"))?);
            }
            "httpHostHeader" => options.http_host_header = Some(text()?).filter(|host| !host.is_empty()),
            "caPool" => options.ca_pool = Some(text()?).filter(|file| !file.is_empty()),
            "http2Origin" => options.http2_origin = Some(value.as_bool().ok_or_else(|| bad("true or false"))?),
            "access" => {
                let is_required = value.get("required").is_some_and(|required| *required != Value::Bool(false));
                if is_required {
                    // To serve the rule without the check would let everybody in.
                    return Err(fault(&at, "tokens of Access are not checked here: let the edge check who calls"));
                }
            }
            key if IGNORED.contains(&key) => {}
            key => {
                let missing = MISSING.iter().find(|(name, _)| *name == key);
                let (_, remedy) =
                    missing.ok_or_else(|| fault(&at, "there is no such option: remove it, or correct its name"))?;
                let is_off = matches!(value, Value::Bool(false)) || value.as_str().is_some_and(str::is_empty);
                if !is_off {
                    return Err(fault(&at, format!("it is not supported: {remedy}")));
                }
            }
        }
    }
    Ok(options)
}

fn fault(place: &str, why: impl Into<String>) -> IngressFault {
    IngressFault { place: place.to_owned(), why: why.into() }
}

impl std::str::FromStr for CloudflaredService {
    type Err = String;

    fn from_str(text: &str) -> Result<CloudflaredService, String> {
        if let Some(status) = text.strip_prefix("http_status:") {
            let status = status.parse().ok().filter(|status| (200..=599).contains(status));
            return status
                .map(CloudflaredService::Status)
                .ok_or_else(|| "a status is a number from 200 to 599".to_owned());
        }
        match text {
            "" => return Err("a rule needs a service, such as http://localhost:8080".to_owned()),
            "hello_world" | "hello-world" => return Ok(CloudflaredService::HelloWorld),
            _ => {}
        }
        if NOT_HTTP.iter().any(|start| text.starts_with(start)) {
            return Err(format!("`{text}` is not supported: write http://, https:// or unix:/path"));
        }
        // A server of WebSocket is one of HTTP until it is asked for more.
        let url = match text.split_once("://") {
            Some(("ws", rest)) => format!("http://{rest}"),
            Some(("wss", rest)) => format!("https://{rest}"),
            _ => text.to_owned(),
        };
        let url = url.strip_suffix('/').unwrap_or(&url);
        url.parse().map(CloudflaredService::Http).map_err(|error: crate::route::UpstreamUrlError| error.to_string())
    }
}

impl CloudflaredIngress {
    /// One rule for all requests.
    #[must_use]
    pub fn of_service(service: CloudflaredService, origin: OriginOptions) -> CloudflaredIngress {
        let rule = CloudflaredRule { hostname: String::new(), path: String::new(), service, origin };
        CloudflaredIngress { rules: vec![rule] }
    }

    /// The rules as a table whose targets `target` makes of each.
    ///
    /// # Errors
    ///
    /// The first fault.
    pub fn table<T>(
        &self,
        mut target: impl FnMut(usize, &CloudflaredRule) -> Result<T, IngressFault>,
    ) -> Result<IngressTable<T>, IngressFault> {
        let rules = self.rules.iter().enumerate().map(|(nth, rule)| {
            let matches = IngressMatch::new(&rule.hostname, &rule.path);
            Ok((matches.map_err(|error| fault(&format!("ingress[{nth}]"), error.to_string()))?, target(nth, rule)?))
        });
        let rules = rules.collect::<Result<Vec<_>, IngressFault>>()?;
        IngressTable::new(rules).map_err(|error| fault("ingress", error.to_string()))
    }

    fn check(&self) -> Result<(), IngressFault> {
        self.table(|_, _| Ok(())).map(drop)
    }

    /// The rules as JSON, as edges and operators get to see them.
    #[must_use]
    pub fn json(&self) -> Value {
        let rules = self.rules.iter().map(|rule| {
            let mut object = Map::new();
            for (key, text) in [("hostname", &rule.hostname), ("path", &rule.path)] {
                if !text.is_empty() {
                    object.insert(key.to_owned(), text.as_str().into());
                }
            }
            object.insert("service".to_owned(), rule.service.to_string().into());
            object.insert("originRequest".to_owned(), rule.origin.json());
            Value::Object(object)
        });
        json!({ "ingress": rules.collect::<Vec<_>>(), "originRequest": {}, "warp-routing": {} })
    }
}

impl OriginOptions {
    fn json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| value.map(|value| object.insert(key.to_owned(), value));
        put("connectTimeout", self.connect_timeout.map(|time| time.as_secs().into()));
        put("keepAliveConnections", self.keep_alive_connections.map(Into::into));
        put("keepAliveTimeout", self.keep_alive_timeout.map(|time| time.as_secs().into()));
        put("httpHostHeader", self.http_host_header.clone().map(Into::into));
        put("caPool", self.ca_pool.clone().map(Into::into));
        put("http2Origin", self.http2_origin.map(Into::into));
        Value::Object(object)
    }
}

impl std::fmt::Display for CloudflaredService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloudflaredService::Http(url) => url.fmt(f),
            CloudflaredService::Status(status) => write!(f, "http_status:{status}"),
            CloudflaredService::HelloWorld => f.write_str("hello_world"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Value) -> Result<Option<CloudflaredIngress>, IngressFault> {
        read_ingress(config.as_object().unwrap())
    }

    #[test]
    fn rules_have_the_options_of_all_unless_they_have_their_own() {
        let ingress = read(json!({
            "originRequest": { "connectTimeout": "10s", "httpHostHeader": "a.test" },
            "ingress": [
                { "hostname": "mcp.test", "path": "^/x", "service": "wss://localhost:8443/",
                  "originRequest": { "connectTimeout": 5, "keepAliveConnections": 7, "noTLSVerify": false } },
                { "hostname": "b.test", "service": "unix:/run/x.sock", "originRequest": { "httpHostHeader": "" } },
                { "hostname": "c.test", "service": "hello_world" },
                { "service": "http_status:404" },
            ],
        }));
        let rules = ingress.unwrap().unwrap().rules;
        let services: Vec<String> = rules.iter().map(|rule| rule.service.to_string()).collect();
        assert_eq!(services, ["https://localhost:8443", "unix:/run/x.sock", "hello_world", "http_status:404"]);
        assert_eq!(rules[0].origin.connect_timeout, Some(Duration::from_secs(5)));
        assert_eq!((rules[0].origin.keep_alive_connections, &rules[1].origin.http_host_header), (Some(7), &None));
        assert_eq!(rules[2].origin.connect_timeout, Some(Duration::from_secs(10)));
        assert_eq!(rules[0].origin.http_host_header.as_deref(), Some("a.test"));
        // What is written is read again.
        let ingress = CloudflaredIngress { rules };
        let again = read(ingress.json()).unwrap().unwrap();
        assert_eq!(again.json(), ingress.json());
        assert!(read(json!({})).unwrap().is_none() && read(json!({ "ingress": [] })).unwrap().is_none());
    }

    #[test]
    fn faults_name_their_place() {
        let one = |service: &str| json!({ "ingress": [{ "service": service }] });
        let with = |options: Value| json!({ "ingress": [{ "service": "http://x:1", "originRequest": options }] });
        for (config, place, why) in [
            (json!({ "ingress": {} }), "ingress", "a list"),
            (one("ssh://x:22"), "ingress[0].service", "not supported"),
            (one("http_status:99"), "ingress[0].service", "from 200"),
            (one("http://x:1/path"), "ingress[0].service", "no path"),
            (one(""), "ingress[0].service", "needs a service"),
            (json!({ "ingress": [{ "hostname": "a.test", "service": "http://x:1" }] }), "ingress", "must match all"),
            (
                json!({ "ingress": [{ "path": "(", "service": "http://x:1" }, { "service": "http://x:1" }] }),
                "ingress[0]",
                "expression",
            ),
            (with(json!({ "noTLSVerify": true })), "ingress[0].originRequest.noTLSVerify", "caPool"),
            (with(json!({ "access": { "required": true } })), "ingress[0].originRequest.access", "Access"),
            (with(json!({ "frob": 1 })), "ingress[0].originRequest.frob", "no such option"),
            (with(json!({ "connectTimeout": "x" })), "ingress[0].originRequest.connectTimeout", "duration"),
        ] {
            let found = read(config).unwrap_err();
            assert!(found.place == place && found.why.contains(why), "{found}");
        }
    }
}
