//! Settings with a few named values.

use std::path::Path;

use serde_json::Value;

use crate::base::{GuardMode, Traffic};
use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, list_setting, optional_setting};
use crate::identity::{TokenAlgorithm, TokenAlgorithmError};
use crate::policy::PinMode;

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
    /// Whether agents and servers of different eras of MCP are brought together.
    Bridge {
        /// All calls are passed on unchanged.
        Off = "off",
        /// Calls are translated if the server does not speak the agent's era.
        Auto = "auto",
    }
}

choice! {
    /// The transport of a connector's links.
    Transport {
        /// QUIC, or TCP where QUIC does not answer at once.
        Auto = "auto",
        /// Always QUIC, without TCP.
        Quic = "quic",
        /// Always TCP, without QUIC.
        Tcp = "tcp",
    }
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
    /// Which agents share a process of a `stdio` upstream.
    ChildSharing {
        /// All agents of the route.
        Shared = "shared",
        /// Those of one session.
        PerSession = "per-session",
        /// Those of one proven identity.
        PerIdentity = "per-identity",
    }
}

choice! {
    /// When a process that all agents share is started.
    ChildStart {
        /// When the connector starts.
        Boot = "boot",
        /// When the first call arrives.
        FirstCall = "first-call",
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
    /// When a line of the audit log counts as written.
    AuditSync {
        /// Once it is on the disk.
        Data = "data",
        /// Once the operating system has it.
        Write = "write",
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

optional_setting!(GuardMode, Hedge, OriginRule, ServerPreset, Traffic);
list_setting!(AlgorithmName = "list of words");
