//! The types of values that only the configuration uses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use crate::base::{GuardMode, Secret, Traffic, TunnelToken, TunnelTokenError};
use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, list_setting, optional_setting};
use crate::identity::{TokenAlgorithm, TokenAlgorithmError};
use crate::policy::PinMode;

/// What is displayed instead of a secret.
pub const MASK: &str = "********";
/// The shortest secret that is accepted, in bytes.
pub const SECRET_LEN_MIN: usize = 16;
/// The longest secret that is accepted, in bytes.
pub const SECRET_LEN_MAX: usize = 256;

/// A duration in milliseconds: a bare number, or a number with `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Duration {
        Duration::from_millis(millis.0)
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Millis, String> {
        Millis::parse(&Raw::Text(text.to_owned()), Path::new(""))
    }
}

impl SettingType for Millis {
    const KIND: &'static str = "duration";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Millis, String> {
        const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        scaled(raw, "a duration, a number of milliseconds or a text such as \"30s\" or \"100ms\"", &UNITS).map(Millis)
    }

    fn to_json(&self) -> Value {
        Value::from(self.0)
    }

    fn size(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// A number of bytes: a bare number, or a number with `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl SettingType for Bytes {
    const KIND: &'static str = "size";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Bytes, String> {
        const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        scaled(raw, "a size, a number of bytes or a text such as \"64KiB\" or \"16MiB\"", &UNITS).map(Bytes)
    }

    fn to_json(&self) -> Value {
        Value::from(self.0)
    }

    fn size(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// How long an idle core spins before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// As long as recent traffic makes it worthwhile, and not at all if CPUs are scarce.
    Auto,
    /// This many microseconds; 0 for never.
    Micros(u64),
}

impl SettingType for Spin {
    const KIND: &'static str = "auto or duration";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Spin, String> {
        const UNITS: [(&str, u64); 2] = [("us", 1), ("ms", 1_000)];
        match raw {
            Raw::Word(text) | Raw::Text(text) if text == "auto" => Ok(Spin::Auto),
            _ => scaled(raw, "\"auto\", a number of microseconds or a text such as \"50us\"", &UNITS).map(Spin::Micros),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Spin::Auto => Value::from("auto"),
            Spin::Micros(us) => Value::from(*us),
        }
    }

    fn size(&self) -> Option<u64> {
        match self {
            Spin::Auto => None,
            Spin::Micros(us) => Some(*us),
        }
    }
}

/// Defines a type with a few named values.
macro_rules! choice {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $doc])+ $variant),+ }

        impl $name {
            /// The words, as they are written.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for this one.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl SettingType for $name {
            const KIND: &'static str = "word";

            fn parse(raw: &Raw, _dir: &Path) -> Result<$name, String> {
                match raw.text("a text")? {
                    $($word => Ok($name::$variant),)+
                    other => Err(format!("{} is not one of {}", quoted(other), $name::WORDS.join(", "))),
                }
            }

            fn to_json(&self) -> Value {
                Value::from(self.as_str())
            }
        }
    };
}

choice! {
    /// Which requests are sent again if their connection ended without one byte of a response.
    Resend {
        /// Those that HTTP calls idempotent: GET, HEAD, DELETE and OPTIONS.
        Idempotent = "idempotent",
        /// Also MCP POST requests that only read, or whose tool the server declares as read-only or idempotent.
        McpSafe = "mcp-safe",
    }
}

choice! {
    /// Whether agents and servers of different eras of MCP are brought together.
    Bridge {
        /// All calls are passed on unchanged.
        Off = "off",
        /// Calls are translated if the server does not speak the agent's era.
        Auto = "auto",
    }
}

choice! {
    /// What callers must present.
    CallerAuth {
        /// Nothing: tokens are left to the server.
        Passthrough = "passthrough",
        /// An access token, which is also passed on to the server.
        Verify = "verify",
        /// An access token, which is not passed on.
        Terminate = "terminate",
    }
}

choice! {
    /// Whether callers are asked for a client certificate.
    ClientCertificate {
        /// They are not asked for one.
        Off = "off",
        /// They are asked, and need not show one.
        Optional = "optional",
        /// Every caller must show one.
        Required = "required",
    }
}

choice! {
    /// Whether an edge may say who calls.
    ForwardedIdentity {
        /// What it says is ignored.
        Off = "off",
        /// It counts, if it says something.
        Optional = "optional",
        /// Every call must come from an edge that says it.
        Required = "required",
    }
}

choice! {
    /// Which name in a client certificate is that of the caller.
    CallerName {
        /// The URI of the subject's alternative names.
        Uri = "uri",
        /// The DNS name of the same.
        Dns = "dns",
        /// The e-mail address of the same.
        Email = "email",
        /// The common name of the subject.
        CommonName = "common-name",
        /// The whole subject, as RFC 4514 writes it.
        Subject = "subject",
    }
}

choice! {
    /// How calls are written to the audit log.
    AuditMode {
        /// They are not written at all.
        Off = "off",
        /// Calls do not wait, and lines that cannot be written are lost.
        BestEffort = "best_effort",
        /// A response is sent only after its call was written.
        Required = "required",
    }
}

choice! {
    /// Which slow calls get a second try.
    Hedge {
        /// No call gets a second try.
        Off = "off",
        /// Calls of tools that the server declares as read-only.
        ReadOnly = "read-only",
    }
}

choice! {
    /// Which origin of web pages is a host's own.
    OwnOrigin {
        /// Scheme, host and port are those of the call.
        Exact = "exact",
        /// The host is that of the call.
        Host = "host",
    }
}

choice! {
    /// The driver, which is the interface to the kernel.
    Driver {
        /// The best one that the system allows.
        Auto = "auto",
        /// The driver on `io_uring`; without it the process does not start.
        Uring = "uring",
        /// The driver on `epoll`, on any kernel.
        Epoll = "epoll",
    }
}

choice! {
    /// How log lines are written.
    LogFormat {
        /// Lines for people to read.
        Text = "text",
        /// One JSON object on each line.
        Json = "json",
    }
}

choice! {
    /// What happens to the `Origin` of a request.
    OriginRule {
        /// It is passed on.
        Keep = "keep",
        /// The field is removed from the request.
        Drop = "drop",
        /// The upstream's own origin replaces it.
        Rewrite = "rewrite",
    }
}

choice! {
    /// The kind of an MCP server, which determines what it expects of requests.
    ServerPreset {
        /// A server of the MCP SDK for Python.
        PythonSdk = "python-sdk",
        /// A server of the MCP SDK for TypeScript.
        TypescriptSdk = "typescript-sdk",
        /// A server of FastMCP.
        Fastmcp = "fastmcp",
    }
}

impl SettingType for Traffic {
    const KIND: &'static str = "word";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Traffic, String> {
        let word = raw.text("a text")?;
        word.parse().map_err(|_| format!("{} is not one of plain, resealed, passthrough", quoted(word)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.name())
    }
}

impl SettingType for GuardMode {
    const KIND: &'static str = "word";

    fn parse(raw: &Raw, _dir: &Path) -> Result<GuardMode, String> {
        let word = raw.text("a text")?;
        word.parse().map_err(|_| format!("{} is not one of off, observe, enforce", quoted(word)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.name())
    }
}

impl SettingType for PinMode {
    const KIND: &'static str = "word";

    fn parse(raw: &Raw, _dir: &Path) -> Result<PinMode, String> {
        let word = raw.text("a text")?;
        word.parse().map_err(|()| format!("{} is not one of off, warn, quarantine", quoted(word)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.name())
    }
}

/// The longest name of a tool, in bytes. Tools with longer names have no figures of their own.
const TOOL_NAME_LEN_MAX: usize = 128;

/// The name of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolName(pub String);

impl SettingType for ToolName {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<ToolName, String> {
        match raw.text("the name of a tool")? {
            "" => Err("the name is empty".to_owned()),
            name if name.len() > TOOL_NAME_LEN_MAX => Err(format!("the name is longer than {TOOL_NAME_LEN_MAX} bytes")),
            name => Ok(ToolName(name.to_owned())),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// A text as used in tokens and challenges: visible ASCII without quotes and backslashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenText(pub String);

/// The longest such text, in bytes.
const TOKEN_TEXT_LEN_MAX: usize = 1_024;

impl SettingType for TokenText {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<TokenText, String> {
        let text = raw.text("a text")?;
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        if (1..=TOKEN_TEXT_LEN_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            return Ok(TokenText(text.to_owned()));
        }
        Err(format!(
            "{} is not a text of visible ASCII characters without spaces, quotes and backslashes",
            quoted(text)
        ))
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// The name of a header field that adit adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityHeaderName(pub String);

/// The longest such name, in bytes.
const IDENTITY_HEADER_LEN_MAX: usize = 64;
/// Names that mean something to proxies and servers, in lower case.
const HEADERS_TAKEN: [&str; 4] = ["x-forwarded", "x-real-ip", "x-original-", "x-request-timeout"];

impl SettingType for IdentityHeaderName {
    const KIND: &'static str = "text";

    fn parse(raw: &Raw, _dir: &Path) -> Result<IdentityHeaderName, String> {
        let text = raw.text("the name of a header field")?;
        let lower = text.to_ascii_lowercase();
        let is_name = lower.len() <= IDENTITY_HEADER_LEN_MAX
            && lower.strip_prefix("x-").is_some_and(|rest| !rest.is_empty())
            && lower.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_name && !HEADERS_TAKEN.iter().any(|taken| lower.starts_with(taken)) {
            return Ok(IdentityHeaderName(text.to_owned()));
        }
        Err(format!("{} is no name for it: use `X-` with letters, digits and `-`, such as X-Caller", quoted(text)))
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// The algorithm of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlgorithmName(pub TokenAlgorithm);

impl SettingType for AlgorithmName {
    const KIND: &'static str = "word";

    fn parse(raw: &Raw, _dir: &Path) -> Result<AlgorithmName, String> {
        let name = raw.text("an algorithm")?;
        name.parse().map(AlgorithmName).map_err(|error: TokenAlgorithmError| error.to_string())
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.name())
    }
}

/// The name of a header field (RFC 9110, section 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNameText(pub String);

/// The longest name of a header field, in bytes.
const FIELD_NAME_LEN_MAX: usize = 64;

impl SettingType for FieldNameText {
    const KIND: &'static str = "header field";

    fn parse(raw: &Raw, _dir: &Path) -> Result<FieldNameText, String> {
        let name = raw.text("the name of a header field")?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match name {
            name if !(1..=FIELD_NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(is_name) => {
                Err(format!("{} is not the name of a header field, such as X-Task-Id", quoted(name)))
            }
            name if ["authorization", "cookie"].iter().any(|secret| name.eq_ignore_ascii_case(secret)) => {
                Err(format!("{name} carries a secret and cannot be used: `adit tasks` shows the value"))
            }
            name => Ok(FieldNameText(name.to_owned())),
        }
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_str())
    }
}

/// An amount of money, in millionths of a unit: a number with up to six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(pub u64);

/// The decimals of a price.
const PRICE_DECIMALS: usize = 6;
/// The most digits of a price before the point.
const PRICE_DIGITS_MAX: usize = 9;

impl SettingType for Price {
    const KIND: &'static str = "price";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Price, String> {
        const EXPECTED: &str = "a price as a text, such as \"3.00\" or \"0.005\"";
        let text = match raw {
            Raw::Integer(whole) => whole.to_string(),
            raw => raw.text(EXPECTED)?.to_owned(),
        };
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=PRICE_DIGITS_MAX).contains(&whole.len()) && part.len() <= PRICE_DECIMALS;
        if !fits || !is_digits(whole) || !is_digits(part) || text.ends_with('.') {
            return Err(format!("{} is not {EXPECTED}", quoted(&text)));
        }
        let millionths = format!("{whole}{part:0<PRICE_DECIMALS$}");
        millionths.parse().map(Price).map_err(|_| format!("{} is not {EXPECTED}", quoted(&text)))
    }

    fn to_json(&self) -> Value {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let text = format!("{whole}.{part:06}");
        Value::from(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The path of a directory. Unlike a file that a setting names, it is neither read nor watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderPath(pub PathBuf);

impl SettingType for FolderPath {
    const KIND: &'static str = "path";

    fn parse(raw: &Raw, dir: &Path) -> Result<FolderPath, String> {
        PathBuf::parse(raw, dir).map(FolderPath)
    }

    fn to_json(&self) -> Value {
        self.0.to_json()
    }
}

/// The secret of a tunnel. It is never displayed, and is wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretText(pub Secret);

impl SecretText {
    /// Wraps a secret of a valid length.
    ///
    /// # Errors
    ///
    /// A message that does not repeat the text.
    pub fn new(text: &str) -> Result<SecretText, String> {
        match text.len() {
            SECRET_LEN_MIN..=SECRET_LEN_MAX => Ok(SecretText(Secret::from(text))),
            len => Err(format!("a secret has {SECRET_LEN_MIN} to {SECRET_LEN_MAX} bytes, this one has {len}")),
        }
    }
}

impl SecretText {
    /// The id and the secret, if this is a token.
    ///
    /// # Errors
    ///
    /// If it is not a token.
    pub fn token(&self) -> Result<TunnelToken, TunnelTokenError> {
        std::str::from_utf8(self.0.expose()).map_err(|_| TunnelTokenError)?.parse()
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &SecretText) -> bool {
        self.0.expose() == other.0.expose()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl SettingType for SecretText {
    const KIND: &'static str = "secret";
    const SECRET: bool = true;

    fn parse(raw: &Raw, _dir: &Path) -> Result<SecretText, String> {
        SecretText::new(raw.text("a text")?)
    }

    fn to_json(&self) -> Value {
        Value::from(MASK)
    }
}

/// How much is logged: a level for everything, and others for single modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevels(String);

impl LogLevels {
    /// The levels as directives, `info,adit::link=debug`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingType for LogLevels {
    const KIND: &'static str = "log levels";

    fn parse(raw: &Raw, _dir: &Path) -> Result<LogLevels, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let text = raw.text("log levels")?;
        for directive in text.split(',') {
            let (module, level) = directive.split_once('=').unwrap_or(("adit", directive));
            if module.is_empty() || !module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':') {
                return Err(format!("{} does not name a module; write MODULE=LEVEL", quoted(directive)));
            }
            if !LEVELS.contains(&level) {
                return Err(format!("{} is not one of {}", quoted(level), LEVELS.join(", ")));
            }
        }
        Ok(LogLevels(text.to_owned()))
    }

    fn to_json(&self) -> Value {
        Value::from(self.as_str())
    }
}

/// The source of a tunnel's secret.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretSource {
    /// In the configuration itself, or in a variable or a flag.
    Inline(SecretText),
    /// In a file of its own.
    File(PathBuf),
}

/// Parses a number with its unit. A number without one counts in the first unit.
fn scaled(raw: &Raw, expected: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let text = match raw.integer_or_text(expected)? {
        Ok(n) => return u64::try_from(n).map_err(|_| format!("expected {expected}, found {n}")),
        Err(text) => text,
    };
    let wrong = || format!("expected {expected}, found {}", quoted(text));
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let scale = match unit {
        "" => Some(1),
        _ => units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale),
    };
    number.checked_mul(scale.ok_or_else(wrong)?).ok_or_else(wrong)
}

optional_setting!(
    FieldNameText,
    IdentityHeaderName,
    FolderPath,
    GuardMode,
    Hedge,
    Millis,
    OriginRule,
    SecretText,
    ServerPreset,
    Traffic,
    TokenText
);
list_setting!(TokenText = "list of texts", AlgorithmName = "list of words");

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: SettingType>(text: &str) -> Result<T, String> {
        T::parse(&Raw::Text(text.to_owned()), Path::new(""))
    }

    #[test]
    fn durations_and_sizes_take_bare_numbers_and_units() {
        for (text, ms) in [("0", 0), ("250", 250), ("100ms", 100), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse::<Millis>(text), Ok(Millis(ms)), "{text}");
        }
        assert_eq!(Millis::parse(&Raw::Integer(250), Path::new("")), Ok(Millis(250)));
        for wrong in ["", "s", "-1s", "1.5s", "1 s", "10us", "1d", "99999999999999999999", "18446744073709551615h"] {
            assert!(parse::<Millis>(wrong).is_err(), "{wrong}");
        }
        for (text, bytes) in [("4096", 4096), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("7B", 7)] {
            assert_eq!(parse::<Bytes>(text), Ok(Bytes(bytes)), "{text}");
        }
        assert!(parse::<Bytes>("64KB").is_err());
        assert!(Bytes::parse(&Raw::Integer(-1), Path::new("")).is_err());
        assert_eq!(parse::<Spin>("auto"), Ok(Spin::Auto));
        assert_eq!(parse::<Spin>("50us"), Ok(Spin::Micros(50)));
    }

    #[test]
    fn a_secret_is_bounded_and_never_printed() {
        assert!(SecretText::new(&"s".repeat(SECRET_LEN_MIN - 1)).is_err());
        assert!(SecretText::new(&"s".repeat(SECRET_LEN_MAX + 1)).is_err());
        let secret = SecretText::new("a-very-hidden-thing").unwrap();
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(secret.to_json(), Value::from(MASK));
        assert!(!SecretText::new("hidden").unwrap_err().contains("hidden"));
    }

    #[test]
    fn log_levels_are_known_words() {
        for right in ["info", "off", "info,adit::link=debug", "adit=trace"] {
            assert_eq!(parse::<LogLevels>(right).unwrap().as_str(), right);
        }
        for wrong in ["", "inof", "info,", "=debug", "adit link=debug", "adit=loud"] {
            assert!(parse::<LogLevels>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_price_is_exact_to_a_millionth() {
        let parse = |text: &str| Price::parse(&Raw::Text(text.to_owned()), Path::new("")).ok().map(|price| price.0);
        for (text, millionths) in [
            ("3", 3_000_000),
            ("3.00", 3_000_000),
            ("0.005", 5_000),
            ("0.000001", 1),
            ("999999999.999999", 999_999_999_999_999),
        ] {
            assert_eq!(parse(text), Some(millionths), "{text}");
        }
        for bad in ["", ".5", "5.", "-1", "+1", "1e3", "1.0000001", "1000000000", "1,5", "1.-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(Price::parse(&Raw::Integer(2), Path::new("")), Ok(Price(2_000_000)));
        assert!(Price::parse(&Raw::Integer(-2), Path::new("")).is_err());
        assert_eq!([0, 5_000, 3_000_000].map(|price| Price(price).to_json()), ["0", "0.005", "3"].map(Value::from));
    }

    #[test]
    fn a_header_field_has_a_name_and_is_no_secret() {
        let parse = |text: &str| FieldNameText::parse(&Raw::Text(text.to_owned()), Path::new("")).is_ok();
        assert!(parse("X-Task-Id") && parse("baggage"));
        for bad in ["", "X Task", "X-Task:", "Authorization", "cookie", &"x".repeat(65)] {
            assert!(!parse(bad), "{bad}");
        }
    }
}
