//! Whether a server speaks MCP.

use std::time::Instant;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, StatusCode};
use rmcp::model::{ClientConfig, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use tokio::time::timeout;

use crate::control::micros;
use crate::control::once::chain;
use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::oauth;

/// The first request of every revision up to 2025-11-25. A server of a later revision does not know its method.
const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"adit-doctor","method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{},"clientInfo":{"name":"adit-doctor","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}}"#
);
/// Both media types, as Streamable HTTP requires.
pub(super) const BOTH_KINDS: &str = "application/json, text/event-stream";
/// The header that names a session.
pub(super) const SESSION: &str = "mcp-session-id";

/// An MCP server to check.
pub(super) struct McpTarget<'a> {
    /// The name of this check.
    pub(super) check: &'static str,
    /// The URL of the MCP endpoint, path and all.
    pub(super) url: &'a str,
    /// Its name in findings.
    pub(super) what: String,
    /// The host under which agents call it, to compare what it says of itself; none where that is not known.
    pub(super) public_host: Option<&'a str>,
}

/// The answer to a first request.
pub(super) struct First {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl First {
    pub(super) fn session(&self) -> Option<&str> {
        self.headers.get(SESSION)?.to_str().ok()
    }
}

/// Asks a server who it is, by whichever revision of MCP it speaks. Gives back the answer to the first request, if there was
/// one.
pub(super) async fn check_mcp(findings: &mut Findings, client: &Client, target: &McpTarget<'_>) -> Option<First> {
    let (check, what) = (target.check, &target.what);
    let first = match initialize(client, target.url).await {
        Ok(first) => first,
        Err(why) => {
            let remedy = "check that the MCP server runs there, and that its address and certificate are right";
            findings.fail(check, format!("{what}: {why}"), remedy);
            return None;
        }
    };
    match first.status {
        StatusCode::UNAUTHORIZED => {
            findings.ok(check, format!("{what}: answers, and asks for authorization"));
            let challenge = first.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            oauth::check_challenge(findings, client, (target.url, target.public_host), challenge).await;
        }
        StatusCode::NOT_FOUND => findings.fail(
            check,
            format!("{what}: nothing answers at {} (404)", target.url),
            "say with --mcp-path where the MCP endpoint is; agents must have it in their URL",
        ),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => findings.fail(
            check,
            format!("{what}: {}", first.status),
            "the tunnel answers and what is behind it does not: run `adit doctor` beside the connector",
        ),
        status => {
            if let Some(session) = first.session().map(str::to_owned) {
                end_session(client, target.url, &session).await;
            }
            let began = Instant::now();
            match introduce(client, target.url).await {
                Ok(who) => findings.ok(check, format!("{what}: {who} ({:.0} µs)", micros(began.elapsed()))),
                Err(why) => findings.fail(
                    check,
                    format!("{what}: not an MCP server ({status}): {why}"),
                    "check that the URL is that of an MCP server with Streamable HTTP, and --mcp-path",
                ),
            }
        }
    }
    Some(first)
}

/// Sends the first request of a session, as any HTTP client would.
pub(super) async fn initialize(client: &Client, url: &str) -> Result<First, String> {
    let request = client.post(url).header(ACCEPT, BOTH_KINDS).header(CONTENT_TYPE, "application/json").body(INITIALIZE);
    match timeout(ANSWER_TIMEOUT, request.send()).await {
        Ok(Ok(answer)) => Ok(First { status: answer.status(), headers: answer.headers().clone() }),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

/// Opens a session as a real client does, by whichever revision the server has, and ends it.
async fn introduce(client: &Client, url: &str) -> Result<String, String> {
    let transport =
        StreamableHttpClientTransport::with_client(client.clone(), StreamableHttpClientTransportConfig::with_uri(url));
    let mode =
        ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None };
    let opened = timeout(ANSWER_TIMEOUT, ClientConfig::default().serve_with_lifecycle(transport, mode)).await;
    let session = opened.map_err(|_| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))?;
    let session = session.map_err(|error| chain(&error))?;
    let who = session.peer_info().map(|info| {
        let name = info.server_info.as_ref().map(|server| format!("{} {}, ", server.name, server.version));
        format!("{}MCP {}", name.unwrap_or_default(), info.protocol_version)
    });
    if let Err(error) = session.cancel().await {
        tracing::debug!(%error, "the MCP client did not end cleanly");
    }
    Ok(who.unwrap_or_else(|| "speaks MCP".to_owned()))
}

/// Ends a session that is not needed any more.
pub(super) async fn end_session(client: &Client, url: &str, session: &str) {
    let ended = timeout(ANSWER_TIMEOUT, client.delete(url).header(SESSION, session).send()).await;
    if !matches!(ended, Ok(Ok(_))) {
        tracing::debug!(url, "a session with the MCP server was left open");
    }
}
