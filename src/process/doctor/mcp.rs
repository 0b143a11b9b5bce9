//! Checks whether a server speaks MCP.

use std::borrow::Cow;
use std::time::Instant;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION, ORIGIN, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode};
use rmcp::model::{ClientConfig, ProtocolVersion};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::Value;
use tokio::time::timeout;

use crate::connector::Addresses;
use crate::control::micros;
use crate::control::once::chain;
use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::oauth;
use crate::tls::TlsError;

/// The first request of every revision up to 2025-11-25. A server of a later revision does not know its method.
const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":"adit-doctor","method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    r#""capabilities":{},"clientInfo":{"name":"adit-doctor","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}}}"#
);
/// The longest error response of adit that is read, in bytes.
const OWN_ANSWER_LEN_MAX: usize = 64 * 1024;
/// Both media types, as Streamable HTTP requires.
pub(super) const BOTH_KINDS: &str = "application/json, text/event-stream";
/// The header that names a session.
pub(super) const SESSION: &str = "mcp-session-id";

/// An MCP server to check.
pub(super) struct McpTarget<'a> {
    /// The name of this check.
    pub(super) check: &'static str,
    /// The URL of the MCP endpoint, including the path.
    pub(super) url: &'a str,
    /// How findings name the server.
    pub(super) what: String,
    /// The flag or setting for the authorities to trust, if there is one.
    pub(super) ca_flag: Option<&'static str>,
    /// The host under which agents call it, for comparison with what the server says about itself; `None` if it is not
    /// known.
    pub(super) public_host: Option<&'a str>,
    /// How the connector addresses it, if it is the connector's upstream.
    pub(super) addresses: Option<&'a Addresses>,
}

impl McpTarget<'_> {
    /// A URL in the server's OAuth metadata, as agents see it.
    pub(super) fn as_agents_read<'u>(&self, url: &'u str) -> Cow<'u, str> {
        match (self.addresses, self.public_host) {
            (Some(addresses), Some(host)) => addresses.in_metadata(url, host),
            _ => url.into(),
        }
    }
}

/// The response to a first request.
pub(super) struct First {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The error response of adit, if it did not come from the server.
    own_answer: Option<OwnAnswer>,
}

/// An error response that an edge or a connector made.
struct OwnAnswer {
    /// The machine-readable reason.
    reason: String,
    /// The message, for people.
    message: String,
}

impl OwnAnswer {
    /// Parses an error response of adit: a JSON-RPC error, or the same object without an id.
    fn of(body: &[u8]) -> Option<OwnAnswer> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = &body["error"];
        let reason = error["data"]["reason"].as_str().or_else(|| error["code"].as_str())?.to_owned();
        Some(OwnAnswer { reason, message: error["message"].as_str()?.to_owned() })
    }

    /// How to fix the cause of the error.
    fn remedy(&self) -> &'static str {
        match self.reason.as_str() {
            "connector_offline" => {
                "start `adit connect` for the tunnel; run `adit doctor` beside it if it does not link"
            }
            "no_route" => "compare the connector's routes with the hosts that `adit tunnel show` lists",
            "revoked" => "make a new secret with `adit tunnel rotate`, and give it to the connector",
            "unknown_host" => "no tunnel of the edge has this host: compare it with `adit tunnel list`",
            "network_refused" => "this address may not call the tunnel: see allow_from and deny_from",
            "seal_refused" => "edge and connector differ in traffic or authority: see the logs of both",
            _ => "the tunnel answers, but the server behind it does not: run `adit doctor` beside the connector",
        }
    }
}

impl First {
    pub(super) fn session(&self) -> Option<&str> {
        self.headers.get(SESSION)?.to_str().ok()
    }
}

/// Checks that a server speaks MCP, in any revision. Returns the response to the first request, if there was one.
pub(super) async fn check_mcp(findings: &mut Findings, client: &Client, target: &McpTarget<'_>) -> Option<First> {
    let (check, what) = (target.check, &target.what);
    let first = match initialize(client, target.url).await {
        Ok(first) => first,
        Err(why) => {
            let remedy = match target.ca_flag {
                Some(flag) if why.contains(&TlsError::UnknownIssuer.to_string()) => {
                    format!("name the certificate of the authority with {flag}")
                }
                _ => "check that the MCP server runs there, and that its address and certificate are right".to_owned(),
            };
            findings.fail(check, format!("{what}: {why}"), &remedy);
            return None;
        }
    };
    match first.status {
        StatusCode::UNAUTHORIZED => {
            findings.ok(check, format!("{what}: answers, and asks for authorization"));
            let challenge = first.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            oauth::check_challenge(findings, client, target, challenge).await;
        }
        StatusCode::NOT_FOUND => findings.fail(
            check,
            format!("{what}: nothing answers at {} (404)", target.url),
            "say with --mcp-path where the MCP endpoint is; agents must have it in their URL",
        ),
        status if status.is_redirection() => {
            let place = first.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
            findings.fail(
                check,
                format!("{what}: redirects to {place} ({})", status.as_u16()),
                "the MCP endpoint is there, perhaps only for a slash at the end: name its path with --mcp-path, and in the \
                 agents' URL",
            );
        }
        StatusCode::MISDIRECTED_REQUEST if first.own_answer.is_none() => findings.fail(
            check,
            format!("{what}: does not accept the Host that it is sent (421)"),
            "set upstream_host of the route to a host that the server accepts, such as localhost:8000, or preset to the kind \
             of the server",
        ),
        StatusCode::FORBIDDEN if first.own_answer.is_none() => findings.fail(
            check,
            format!("{what}: refuses the request (403)"),
            "if the server protects itself against DNS rebinding, set upstream_host and upstream_origin of the route, or \
             preset to the kind of the server; otherwise see its own rules of access",
        ),
        StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::FORBIDDEN
            if first.own_answer.is_some() || first.status.is_server_error() =>
        {
            match &first.own_answer {
                Some(answer) => {
                    let OwnAnswer { reason, message } = answer;
                    findings.fail(
                        check,
                        format!("{what}: {} {reason}: {message}", first.status.as_u16()),
                        answer.remedy(),
                    );
                }
                None => findings.fail(
                    check,
                    format!("{what}: {}", first.status),
                    "something in front of the MCP server answers, and the server does not: check that it runs",
                ),
            }
        }
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

/// Checks whether a server that responds also accepts a request with the `Origin` that it would receive from a browser.
pub(super) async fn check_origin(findings: &mut Findings, client: &Client, target: &McpTarget<'_>, origin: &str) {
    const CHECK: &str = "upstream.origin";
    let what = &target.what;
    // A failure without an origin was already reported.
    let Ok(first) = initialize_from(client, target.url, Some(origin)).await else { return };
    if let Some(session) = first.session() {
        end_session(client, target.url, session).await;
    }
    match first.status {
        StatusCode::FORBIDDEN => findings.warn(
            CHECK,
            format!("{what}: refuses calls of browsers from {origin} (403)"),
            "if pages are to call, set upstream_origin of the route to rewrite, or preset to the kind of the server",
        ),
        status => findings.ok(CHECK, format!("{what}: takes calls of browsers from {origin} ({})", status.as_u16())),
    }
}

/// Sends the first request of a session, as any HTTP client would.
pub(super) async fn initialize(client: &Client, url: &str) -> Result<First, String> {
    initialize_from(client, url, None).await
}

async fn initialize_from(client: &Client, url: &str, origin: Option<&str>) -> Result<First, String> {
    let mut request =
        client.post(url).header(ACCEPT, BOTH_KINDS).header(CONTENT_TYPE, "application/json").body(INITIALIZE);
    if let Some(origin) = origin {
        request = request.header(ORIGIN, origin);
    }
    match timeout(ANSWER_TIMEOUT, request.send()).await {
        Ok(Ok(answer)) => {
            let (status, headers) = (answer.status(), answer.headers().clone());
            let own_answer =
                if status.is_client_error() || status.is_server_error() { own_answer(answer).await } else { None };
            Ok(First { status, headers, own_answer })
        }
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

/// Parses the response as an error response of adit, if it is one.
async fn own_answer(mut answer: Response) -> Option<OwnAnswer> {
    let mut body = Vec::new();
    let whole = async {
        while let Some(piece) = answer.chunk().await.ok()? {
            body.extend_from_slice(&piece);
            if body.len() > OWN_ANSWER_LEN_MAX {
                return None;
            }
        }
        Some(())
    };
    timeout(ANSWER_TIMEOUT, whole).await.ok().flatten()?;
    OwnAnswer::of(&body)
}

/// Opens a session as a real client does, with the revision that the server speaks, and ends it.
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

/// Ends a session that is no longer needed.
pub(super) async fn end_session(client: &Client, url: &str, session: &str) {
    let ended = timeout(ANSWER_TIMEOUT, client.delete(url).header(SESSION, session).send()).await;
    if !matches!(ended, Ok(Ok(_))) {
        tracing::debug!(url, "a session with the MCP server was left open");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{CallFailure, Refusal};

    #[test]
    fn answers_of_adit_itself_are_reported_with_a_remedy() {
        let body_of = |answer: &[u8]| {
            let end = memchr::memmem::find(answer, b"\r\n\r\n").unwrap() + 4;
            answer[end..].to_vec()
        };
        let mut remedies = std::collections::HashSet::new();
        for (failure, reason) in [
            (CallFailure::ConnectorOffline, "connector_offline"),
            (CallFailure::NoRoute, "no_route"),
            (CallFailure::TunnelRevoked, "revoked"),
            (CallFailure::SealRefused, "seal_refused"),
            (CallFailure::UpstreamRefused, "upstream_refused"),
        ] {
            for id in [None, Some("\"adit-doctor\"")] {
                let mut answer = Vec::new();
                failure.answer(id).write(&mut answer);
                let answer = OwnAnswer::of(&body_of(&answer)).unwrap();
                assert_eq!(answer.reason, reason);
                remedies.insert(answer.remedy());
            }
        }
        let mut answer = Vec::new();
        Refusal::UnknownHost.answer().write(&mut answer);
        remedies.insert(OwnAnswer::of(&body_of(&answer)).unwrap().remedy());
        assert_eq!(remedies.len(), 6, "{remedies:?}");
        assert!(OwnAnswer::of(b"<html>bad gateway</html>").is_none());
    }
}
