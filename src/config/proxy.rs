//! The forward proxy of a connector, and the hosts that are reached directly.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use crate::base::Secret;
use crate::config::addresses::{HostPort, host_port, split_url};
use crate::config::setting_type::{Raw, SettingType, list_setting};
use crate::config::table::ConnectConfig;
use crate::config::values::MASK;
use crate::policy::Network;

/// The variables that conventionally name a proxy; the first that is set is used. Lower case comes first, as in curl.
pub const PROXY_ENVS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// The variables that conventionally name what is reached directly.
pub const NO_PROXY_ENVS: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The value of the setting for no proxy.
const OFF: &str = "off";
const WRONG: &str = "not the URL of a proxy such as http://proxy.example.com:3128 or socks5://USER:PASSWORD@10.0.0.1:1080, without \
                     a path";
const TLS_PROXY: &str = "TLS to a proxy is not supported: use an http:// or socks5:// proxy, as the link is encrypted in any case, \
                         or \"off\" to connect directly";
const BAD_LOGIN: &str = "the user or the password in the proxy's URL is malformed: write special characters as %XX, at most 255 \
                         bytes each";
/// The longest user and the longest password, in bytes (RFC 1929).
const LOGIN_PART_LEN_MAX: usize = 255;

/// The URL of a forward proxy: `http://` for HTTP CONNECT, `socks5://` for SOCKS5. Its displayed form omits the
/// password.
#[derive(Clone)]
pub struct ProxyUrl {
    /// The protocol that the proxy speaks.
    pub scheme: ProxyScheme,
    /// The address of the proxy.
    pub at: HostPort,
    /// User and password, if it has any.
    pub login: Option<(Box<str>, Secret)>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// An HTTP proxy, with the method CONNECT.
    Http,
    /// A SOCKS proxy, version 5.
    Socks5,
}

impl PartialEq for ProxyUrl {
    fn eq(&self, other: &ProxyUrl) -> bool {
        let login = |url: &ProxyUrl| url.login.as_ref().map(|(user, word)| (user.clone(), word.expose().to_vec()));
        self.scheme == other.scheme && self.at == other.at && login(self) == login(other)
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        match &self.login {
            Some(_) => write!(f, "{scheme}://{MASK}@{}", self.at),
            None => write!(f, "{scheme}://{}", self.at),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ProxyUrl {
    /// The message does not repeat the text, which may hold a password.
    fn of(text: &str) -> Result<ProxyUrl, String> {
        let wrong = || WRONG.to_owned();
        // Without a scheme it is HTTP, as with curl.
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, authority, path) = split_url(&whole).ok_or_else(wrong)?;
        let (scheme, port) = match scheme.as_str() {
            "http" => (ProxyScheme::Http, 80),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, 1080),
            "https" => return Err(TLS_PROXY.to_owned()),
            other => {
                return Err(format!(
                    "proxies of the kind {other}:// are not supported: use http:// (CONNECT) or socks5://, or \"off\" to \
                     connect directly"
                ));
            }
        };
        let (login, at) = match authority.rsplit_once('@') {
            Some((login, at)) => (Some(login), at),
            None => (None, authority),
        };
        let at = host_port(at, Some(port)).filter(|at| at.port != 0 && matches!(path, "" | "/")).ok_or_else(wrong)?;
        let login = login.map(|login| login_of(login).ok_or_else(|| BAD_LOGIN.to_owned())).transpose()?;
        Ok(ProxyUrl { scheme, at, login })
    }
}

/// `USER:PASSWORD`, with special characters as `%XX`.
fn login_of(text: &str) -> Option<(Box<str>, Secret)> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (String::from_utf8(percent_decoded(user)?).ok()?, percent_decoded(password)?);
    let fits = (1..=LOGIN_PART_LEN_MAX).contains(&user.len()) && password.len() <= LOGIN_PART_LEN_MAX;
    // A colon in the user's name would end it in Basic authentication (RFC 7617, section 2).
    let is_clean = !user.contains(':') && !user.chars().any(char::is_control);
    (fits && is_clean).then(|| (user.into(), Secret::new(password)))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

impl SettingType for Option<ProxyUrl> {
    const KIND: &'static str = "proxy URL or off";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Option<ProxyUrl>, String> {
        let text = raw.text("the URL of a proxy or \"off\"")?;
        if text == OFF { Ok(None) } else { ProxyUrl::of(text).map(Some) }
    }

    fn to_json(&self) -> Value {
        self.as_ref().map_or_else(|| Value::from(OFF), |url| Value::from(url.to_string()))
    }
}

/// What is reached directly: everything (`*`), a network, or a domain with its subdomains; each with or without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyExemption {
    text: Box<str>,
    what: Exempt,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exempt {
    All,
    Network(Network),
    Domain(Box<str>),
}

impl ProxyExemption {
    /// Accepts any text. What is not a network is a domain, as in other programs, and an unknown domain matches
    /// nothing.
    fn of(text: &str) -> ProxyExemption {
        let (what, port) = match Exempt::network(text) {
            Some(network) => (network, None),
            None => match text.rsplit_once(':').and_then(|(what, port)| Some((what, port.parse().ok()?))) {
                Some((what, port)) => (Exempt::of(what), Some(port)),
                None => (Exempt::of(text), None),
            },
        };
        ProxyExemption { text: text.into(), what, port }
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let covers = match &self.what {
            Exempt::All => true,
            Exempt::Network(network) => {
                host.parse().is_ok_and(|address: IpAddr| network.contains_all(&Network::of_address(address)))
            }
            Exempt::Domain(domain) => {
                host.strip_suffix(&**domain).is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
            }
        };
        covers && self.port.is_none_or(|only| only == port)
    }
}

impl Exempt {
    fn of(text: &str) -> Exempt {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        match text {
            "*" => Exempt::All,
            _ => Exempt::network(bare).unwrap_or_else(|| {
                let domain = text.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                Exempt::Domain(domain.to_ascii_lowercase().into())
            }),
        }
    }

    fn network(text: &str) -> Option<Exempt> {
        text.parse().ok().map(Exempt::Network)
    }
}

impl SettingType for ProxyExemption {
    const KIND: &'static str = "network or domain";

    fn parse(raw: &Raw, _dir: &Path) -> Result<ProxyExemption, String> {
        Ok(ProxyExemption::of(raw.text("a network or a domain")?))
    }

    fn to_json(&self) -> Value {
        Value::from(&*self.text)
    }
}

list_setting!(ProxyExemption = "list of networks and domains");

impl ConnectConfig {
    /// The proxy for an edge. `localhost` and loopback addresses are always reached directly.
    #[must_use]
    pub fn proxy_for(&self, edge: &HostPort) -> Option<&ProxyUrl> {
        let host = edge.host.trim_end_matches('.');
        let is_here = host == "localhost"
            || host.ends_with(".localhost")
            || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback());
        let exempt = is_here || self.no_proxy.iter().any(|exemption| exemption.covers(host, edge.port));
        self.proxy.as_ref().filter(|_| !exempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::Config;
    use crate::config::sources::{FileText, Purpose, Sources};

    fn parse(text: &str) -> Result<Option<ProxyUrl>, String> {
        SettingType::parse(&Raw::Word(text.to_owned()), Path::new(""))
    }

    #[test]
    fn urls_are_read_as_other_programs_read_them_and_shown_without_their_login() {
        for (text, shown) in [
            ("http://Proxy.example.com:3128", "http://proxy.example.com:3128"),
            ("proxy:3128/", "http://proxy:3128"),
            ("http://10.0.0.1", "http://10.0.0.1:80"),
            ("socks5://[::1]", "socks5://[::1]:1080"),
            ("socks5h://proxy:9050", "socks5://proxy:9050"),
            ("http://me:hunter2@proxy:3128", "http://***@proxy:3128"),
        ] {
            let url = parse(text).unwrap().unwrap();
            assert_eq!(url.to_string(), shown.replace("***", MASK), "{text}");
            assert!(!format!("{url:?} {}", Some(url.clone()).to_json()).contains("hunter2"));
        }
        assert_eq!(parse("off"), Ok(None));
        let (user, password) = parse("http://a%40b:p%3a%20w@proxy").unwrap().unwrap().login.unwrap();
        assert_eq!((&*user, password.expose()), ("a@b", &b"p: w"[..]));
    }

    #[test]
    fn unusable_proxy_urls_are_reported_without_their_password() {
        for (text, expected) in [
            ("https://me:hunter2@proxy:3128", "TLS to a proxy is not supported"),
            ("socks4://me:hunter2@proxy", "socks4:// are not supported"),
            ("http://me:hunter2@proxy:3128/path", "not the URL of a proxy"),
            ("http://me:hunter2@proxy:0", "not the URL of a proxy"),
            ("http://me:hunter2@", "not the URL of a proxy"),
            ("http://me%3a:hunter2@proxy", "malformed"),
            ("http://me:hunter2%zz@proxy", "malformed"),
            ("", "not the URL of a proxy"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn a_variable_counts_for_a_connector_that_has_no_setting_and_bad_ones_are_named() {
        let load = |text: &str, env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let file = Some(FileText { path: "adit.toml".into(), text: text.to_owned() });
            let (flags, credentials) = (Vec::new(), Vec::new());
            Config::load(&Sources { purpose: Purpose::Check, profile: None, file, env, flags, credentials })
        };
        let connect = "[[route]]\nhost = \"a\"\nupstream = \"http://a\"\n[connect]\nedge = \"edge.test:1\"\ntunnel = \"tnl_a\"\n\
                       secret = \"0123456789abcdef\"\n";
        let proxy = |text: &str, env: &[(&str, &str)]| {
            let connect = load(text, env).unwrap().connect.unwrap();
            connect.proxy_for(&HostPort { host: "edge.test".into(), port: 1 }).map(ToString::to_string)
        };
        let one = ("HTTPS_PROXY", "http://one");
        assert_eq!(proxy(connect, &[one]).as_deref(), Some("http://one:80"));
        assert_eq!(proxy(connect, &[one, ("https_proxy", "two:1")]).as_deref(), Some("http://two:1"));
        assert_eq!(
            proxy(connect, &[("https_proxy", ""), ("ALL_PROXY", "socks5://three")]).as_deref(),
            Some("socks5://three:1080")
        );
        assert_eq!(proxy(&format!("{connect}proxy = \"off\"\n"), &[one]), None);
        assert_eq!(proxy(connect, &[one, ("NO_PROXY", "a.test , ,edge.test")]), None);
        assert_eq!(
            proxy(&format!("{connect}no_proxy = []\n"), &[one, ("NO_PROXY", "*")]).as_deref(),
            Some("http://one:80")
        );
        // A process without a connector ignores the variable, and does not require other connector settings.
        assert!(load("", &[one]).unwrap().connect.is_none());
        let message = load(connect, &[("HTTPS_PROXY", "https://me:hunter2@proxy")]).unwrap_err().to_string();
        assert!(
            message.contains("HTTPS_PROXY") && message.contains("TLS to a proxy") && !message.contains("hunter2"),
            "{message}"
        );
    }

    #[test]
    fn exemptions_follow_the_rules_of_no_proxy() {
        let covers = |rule: &str, host: &str, port| ProxyExemption::of(rule).covers(host, port);
        for (rule, host, covered) in [
            ("example.com", "example.com", true),
            ("example.com", "edge.example.com", true),
            (".example.com", "edge.example.com", true),
            ("*.example.com", "edge.example.com", true),
            ("EXAMPLE.com.", "edge.example.com", true),
            ("example.com", "notexample.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.0.0.0/8", "ten.example.com", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::/8", "fd00::1", true),
            ("[fd00::1]:7844", "fd00::1", true),
            ("[fd00::1]:1", "fd00::1", false),
            ("edge.test:7844", "edge.test", true),
            ("edge.test:443", "edge.test", false),
            ("*", "anything.test", true),
            ("127.*", "anything.test", false),
        ] {
            assert_eq!(covers(rule, host, 7844), covered, "{rule} {host}");
        }
    }
}
