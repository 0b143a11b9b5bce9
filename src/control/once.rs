//! The client of `adit up --once`: real MCP tool calls, made with an MCP client library over HTTP.
//!
//! Like any agent, it knows nothing about tunnels. It is given a URL, a certificate to trust, and the address of the
//! URL's host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, ClientConfig, JsonObject, ProtocolVersion, Tool};
use rmcp::service::RunningService;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt, RoleClient};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::tls::TlsError;

/// Most calls that one [`OnceClient`] keeps in flight.
pub const CONCURRENCY_MAX: usize = 256;
/// Longest wait for a connection, in seconds.
const CONNECT_TIMEOUT_S: u64 = 5;
/// Text that is sent to an echoing tool.
const ECHO_TEXT: &str = "adit";

/// Why no calls could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The URL has no host, or the certificate is not one.
    #[error("the MCP client could not be set up for {url}: {cause}; check the URL and the CA certificate")]
    SetUp {
        /// The URL that was to be called.
        url: String,
        /// The error of the HTTP client.
        cause: String,
    },
    /// The server did not answer as an MCP server.
    #[error("no MCP session with {url}: {cause}; check that the server behind the tunnel runs and speaks MCP there")]
    NoSession {
        /// The URL that was called.
        url: String,
        /// The error of the MCP client.
        cause: String,
    },
    /// There is no tool that is known to be safe to call.
    #[error(
        "{url} lists no tool that is safe to call unasked: neither `echo` with one text, nor a read-only tool without required arguments"
    )]
    NoSafeTool {
        /// The URL whose tools were listed.
        url: String,
    },
}

/// The result of a series of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnceReport {
    /// How many calls were made.
    pub calls: u64,
    /// Calls that failed, in transport, in protocol or in the tool.
    pub failed: u64,
    /// The error of the first failed call.
    pub first_error: Option<String>,
}

/// An MCP client with one session (or none, in the stateless revision) and one tool to call.
#[derive(Debug)]
pub struct OnceClient {
    client: RunningService<RoleClient, ClientConfig>,
    tool: CallToolRequestParams,
}

impl OnceClient {
    /// Opens a session with the MCP server at `url` and chooses the tool to call.
    ///
    /// If `ca_pem` is given, it is the only authority that is trusted. If `resolve_to` is given, it replaces DNS for
    /// the URL's host.
    ///
    /// # Errors
    ///
    /// See [`OnceError`].
    pub async fn connect(url: &str, ca_pem: Option<&str>, resolve_to: Option<SocketAddr>) -> Result<Self, OnceError> {
        let http = http_client(url, ca_pem, resolve_to)
            .map_err(|cause| OnceError::SetUp { url: url.to_owned(), cause: chain(cause.as_ref()) })?;
        let config = StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(CONCURRENCY_MAX);
        let no_session = |cause: &(dyn std::error::Error + 'static)| OnceError::NoSession {
            url: url.to_owned(),
            cause: chain(cause),
        };
        let client = ClientConfig::default()
            .serve_with_lifecycle(
                StreamableHttpClientTransport::with_client(http, config),
                ClientLifecycleMode::Auto {
                    preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                    legacy_version: None,
                },
            )
            .await
            .map_err(|cause| no_session(&cause))?;
        let tools = client.list_all_tools().await.map_err(|cause| no_session(&cause))?;
        let tool = safe_call(&tools).ok_or_else(|| OnceError::NoSafeTool { url: url.to_owned() })?;
        Ok(Self { client, tool })
    }

    /// Name of the tool that [`run`](Self::run) calls.
    pub fn tool(&self) -> &str {
        &self.tool.name
    }

    /// Makes `calls` tool calls, `concurrency` at a time (1 to [`CONCURRENCY_MAX`]), and reports the result.
    pub async fn run(&self, calls: u64, concurrency: usize) -> OnceReport {
        let left = Arc::new(AtomicU64::new(calls));
        let report = Arc::new(Mutex::new(OnceReport::default()));
        let mut callers = JoinSet::new();
        for _ in 0..concurrency.clamp(1, CONCURRENCY_MAX) {
            let (peer, tool) = (self.client.peer().clone(), self.tool.clone());
            let (left, report) = (Arc::clone(&left), Arc::clone(&report));
            callers.spawn(async move {
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                    let fault = match peer.call_tool_once(tool.clone()).await {
                        Ok(response) => tool_fault(&response),
                        Err(error) => Some(chain(&error)),
                    };
                    let mut report = report.lock().await;
                    report.calls += 1;
                    if let Some(fault) = fault {
                        report.failed += 1;
                        report.first_error.get_or_insert(fault);
                    }
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            if let Err(error) = caller {
                tracing::debug!(%error, "a caller ended early");
            }
        }
        let mut report = report.lock().await.clone();
        // If a caller task was cancelled, its remaining calls count as failures, so that the total is right.
        if report.calls < calls {
            report.failed += calls - report.calls;
            report.calls = calls;
            report.first_error.get_or_insert_with(|| "the client was shut down before all calls were made".to_owned());
        }
        report
    }

    /// Ends the MCP session with the server.
    pub async fn close(self) {
        if let Err(error) = self.client.cancel().await {
            tracing::debug!(%error, "the MCP client did not end cleanly");
        }
    }
}

/// Creates an HTTP client that keeps connections open, with the given trust and name resolution.
fn http_client(
    url: &str,
    ca_pem: Option<&str>,
    resolve_to: Option<SocketAddr>,
) -> Result<reqwest::Client, Box<dyn std::error::Error>> {
    let mut builder = reqwest::Client::builder()
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(CONNECT_TIMEOUT_S))
        .pool_max_idle_per_host(CONCURRENCY_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    if let Some(pem) = ca_pem {
        builder = builder.tls_certs_only(reqwest::Certificate::from_pem_bundle(pem.as_bytes())?);
    }
    if let Some(address) = resolve_to {
        let parsed = reqwest::Url::parse(url)?;
        let host = parsed.host_str().ok_or("the URL names no host")?;
        builder = builder.resolve(host, address);
    }
    Ok(builder.build()?)
}

/// Chooses a call that changes nothing: `echo` with its one text, otherwise a read-only tool without required
/// arguments.
fn safe_call(tools: &[Tool]) -> Option<CallToolRequestParams> {
    let echo = tools.iter().filter(|tool| tool.name == "echo").find_map(|tool| {
        let [name] = required(tool)[..] else { return None };
        (tool.input_schema.get("properties")?.get(name)?.get("type")? == "string").then(|| {
            let arguments = JsonObject::from_iter([(name.to_owned(), ECHO_TEXT.into())]);
            CallToolRequestParams::new(tool.name.clone()).with_arguments(arguments)
        })
    });
    echo.or_else(|| {
        let read_only =
            |tool: &&Tool| tool.annotations.as_ref().is_some_and(|hints| hints.read_only_hint == Some(true));
        let tool = tools.iter().filter(read_only).find(|tool| required(tool).is_empty())?;
        Some(CallToolRequestParams::new(tool.name.clone()).with_arguments(JsonObject::new()))
    })
}

/// The names of a tool's required arguments.
fn required(tool: &Tool) -> Vec<&str> {
    let names = tool.input_schema.get("required").and_then(|names| names.as_array());
    names.into_iter().flatten().filter_map(|name| name.as_str()).collect()
}

/// The error that the tool itself reported.
fn tool_fault(response: &rmcp::model::CallToolResponse) -> Option<String> {
    match response {
        rmcp::model::CallToolResponse::Complete(result) if result.is_error == Some(true) => {
            let texts = result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str());
            Some(format!("the tool failed: {}", texts.collect::<Vec<_>>().join(" ")))
        }
        rmcp::model::CallToolResponse::Complete(_) => None,
        _ => Some("the tool asked for more input instead of answering".to_owned()),
    }
}

/// An error with all its causes on one line. TLS errors are phrased as in the rest of the program.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(tls) = inner.downcast_ref().and_then(TlsError::of_io) {
            return format!("{line}: {tls}");
        }
        let inner_text = inner.to_string();
        if !line.contains(&inner_text) {
            line.push_str(": ");
            line.push_str(&inner_text);
        }
        cause = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use rmcp::model::ToolAnnotations;
    use serde_json::json;

    use super::*;
    use crate::control::demo::{DEMO_PATH, Demo};

    fn tool(name: &'static str, schema: serde_json::Value, read_only: bool) -> Tool {
        let serde_json::Value::Object(schema) = schema else { panic!("a schema is an object") };
        Tool::new(name, "", Arc::new(schema)).with_annotations(ToolAnnotations::new().read_only(read_only))
    }

    async fn demo() -> (SocketAddr, tokio::sync::oneshot::Sender<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(Demo::serve(listener, async move {
            let _ = stopped.await;
        }));
        (address, stop)
    }

    #[tokio::test]
    async fn every_call_is_made_and_counted_once() {
        let (address, _stop) = demo().await;
        let url = format!("http://localhost:{}{DEMO_PATH}", address.port());
        let client = OnceClient::connect(&url, None, Some(address)).await.unwrap();
        assert_eq!(client.tool(), "echo");
        assert_eq!(client.run(20, 1).await, OnceReport { calls: 20, failed: 0, first_error: None });
        assert_eq!(client.run(40, 8).await, OnceReport { calls: 40, failed: 0, first_error: None });
        client.close().await;
    }

    #[tokio::test]
    async fn calls_to_a_server_that_went_away_are_failures_with_a_reason() {
        let (address, stop) = demo().await;
        let client = OnceClient::connect(&format!("http://{address}{DEMO_PATH}"), None, None).await.unwrap();
        drop(stop);
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let report = client.run(3, 1).await;
        assert_eq!((report.calls, report.failed), (3, 3));
        assert!(report.first_error.is_some());
    }

    #[tokio::test]
    async fn without_a_receiver_there_is_no_session() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{DEMO_PATH}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(OnceClient::connect(&url, None, None).await, Err(OnceError::NoSession { .. })));
    }

    #[tokio::test]
    async fn an_invalid_certificate_is_reported_at_set_up() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = OnceClient::connect("https://localhost:1/mcp", Some(pem), None).await.unwrap_err();
        assert!(matches!(error, OnceError::SetUp { .. }), "{error}");
    }

    #[test]
    fn only_a_harmless_tool_is_chosen() {
        let echo = tool(
            "echo",
            json!({ "type": "object", "properties": { "message": { "type": "string" } }, "required": ["message"] }),
            false,
        );
        let reader = tool("list", json!({ "type": "object" }), true);
        let writer = tool("wipe", json!({ "type": "object" }), false);
        let asking = tool("get", json!({ "type": "object", "required": ["id"] }), true);
        let chosen = safe_call(&[writer.clone(), reader.clone(), echo]).unwrap();
        assert_eq!(chosen.name, "echo");
        assert_eq!(chosen.arguments.unwrap()["message"], ECHO_TEXT);
        assert_eq!(safe_call(&[writer.clone(), asking.clone(), reader]).unwrap().name, "list");
        assert_eq!(safe_call(&[writer, asking]), None);
    }
}
