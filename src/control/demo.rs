//! The built-in MCP server that `adit up` starts behind the tunnel when it is given none.
//!
//! It supports the sessions of revision 2025-11-25 and the stateless requests of 2026-07-28, so that every client can
//! call it. Its `wait` tool takes a known time, so that tests can check the phases of a call.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::serve::ListenerExt;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ProgressNotificationParam, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use tokio::net::TcpListener;

/// The path of the MCP endpoint.
pub const DEMO_PATH: &str = "/mcp";
/// Longest duration of one call of `wait`, in milliseconds.
pub const WAIT_MAX_MS: u64 = 10_000;
/// Highest last number of `count`.
pub const COUNT_MAX: u32 = 100;
/// Longest interval between two numbers of `count`, in milliseconds.
pub const COUNT_INTERVAL_MAX_MS: u64 = 1_000;

/// The demo server: four tools and no state.
#[derive(Clone, Copy, Debug)]
pub struct Demo;

/// The arguments of the tool `echo`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Echo {
    /// The text to return.
    text: String,
}

/// The arguments of the tool `add`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Add {
    /// First summand.
    a: f64,
    /// Second summand.
    b: f64,
}

/// The arguments of the tool `wait`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Wait {
    /// How long to wait, in milliseconds.
    #[schemars(range(max = 10_000))]
    ms: u64,
}

/// The arguments of the tool `count`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct Count {
    /// The last number.
    #[schemars(range(max = 100))]
    to: u32,
    /// Pause before each number, in milliseconds.
    #[serde(default)]
    #[schemars(range(max = 1_000))]
    interval_ms: u64,
}

#[tool_router]
impl Demo {
    /// Serves `listener` until `shutdown` resolves, then ends the open sessions and streams and returns.
    ///
    /// `Host` must name a loopback address, as connectors on this host send it.
    ///
    /// # Errors
    ///
    /// If the address of the listener cannot be read, or accepting fails permanently.
    pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let address = listener.local_addr()?;
        let config = StreamableHttpServerConfig::default().with_allowed_hosts([
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
            address.ip().to_string(),
        ]);
        let stop = config.cancellation_token.clone();
        let sessions = std::sync::Arc::new(LocalSessionManager::default());
        let router =
            axum::Router::new().route_service(DEMO_PATH, StreamableHttpService::new(|| Ok(Self), sessions, config));
        // Without TCP_NODELAY the end of an event stream waits 40 ms for a delayed acknowledgement.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "the demo server could not set TCP_NODELAY");
            }
        });
        axum::serve(listener, router)
            .with_graceful_shutdown(async move {
                shutdown.await;
                stop.cancel();
            })
            .await
    }

    /// Gives the text back unchanged.
    #[tool(annotations(read_only_hint = true))]
    async fn echo(&self, Parameters(Echo { text }): Parameters<Echo>) -> String {
        text
    }

    /// Adds two numbers.
    #[tool(annotations(read_only_hint = true))]
    async fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> String {
        (a + b).to_string()
    }

    /// Answers after a time that the caller chooses, at most 10 seconds.
    #[tool(annotations(read_only_hint = true))]
    async fn wait(
        &self,
        Parameters(Wait { ms }): Parameters<Wait>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        at_most("ms", ms, WAIT_MAX_MS)?;
        pause(ms, &context).await?;
        Ok(format!("waited {ms} ms"))
    }

    /// Counts from one, telling each number as a progress notification, at most 100 numbers and a second between two.
    #[tool(annotations(read_only_hint = true))]
    async fn count(
        &self,
        Parameters(Count { to, interval_ms }): Parameters<Count>,
        context: RequestContext<RoleServer>,
    ) -> Result<String, ErrorData> {
        at_most("to", u64::from(to), u64::from(COUNT_MAX))?;
        at_most("interval_ms", interval_ms, COUNT_INTERVAL_MAX_MS)?;
        let token = context.meta.get_progress_token();
        for number in 1..=to {
            pause(interval_ms, &context).await?;
            if let Some(token) = &token {
                let progress =
                    ProgressNotificationParam::new(token.clone(), f64::from(number)).with_total(f64::from(to));
                context
                    .peer
                    .notify_progress(progress)
                    .await
                    .map_err(|error| ErrorData::internal_error(format!("the caller is gone: {error}"), None))?;
            }
        }
        Ok(format!("counted to {to}"))
    }
}

#[tool_handler]
impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("adit-demo", env!("CARGO_PKG_VERSION")))
            .with_instructions("A demonstration server: echo, add, wait and count.")
    }
}

/// Rejects an argument above its limit. The error names both.
fn at_most(name: &str, value: u64, bound: u64) -> Result<(), ErrorData> {
    if value <= bound {
        return Ok(());
    }
    Err(ErrorData::invalid_params(format!("{name} is {value}; the highest value taken is {bound}"), None))
}

/// Waits `ms` milliseconds, or until the caller cancels.
async fn pause(ms: u64, context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if ms == 0 {
        return Ok(());
    }
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => Ok(()),
        () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled by the caller", None)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rmcp::model::{CallToolRequestParams, JsonObject, ProtocolVersion, RequestMetaObject};
    use rmcp::service::{NotificationContext, RunningService};
    use rmcp::transport::StreamableHttpClientTransport;
    use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt, RoleClient};
    use serde_json::json;
    use tokio::sync::oneshot;

    use super::*;

    /// A client that records progress notifications.
    #[derive(Clone, Default)]
    struct Caller {
        progress: Arc<Mutex<Vec<f64>>>,
    }

    impl ClientHandler for Caller {
        async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
            self.progress.lock().unwrap().push(progress.progress);
        }
    }

    /// Starts a demo on a free port. The sender stops it.
    async fn start() -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{DEMO_PATH}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(Demo::serve(listener, async move {
            let _ = stopped.await;
        }));
        (url, stop, task)
    }

    async fn connect(url: &str, mode: ClientLifecycleMode) -> (RunningService<RoleClient, Caller>, Caller) {
        let caller = Caller::default();
        let transport = StreamableHttpClientTransport::from_uri(url);
        (caller.clone().serve_with_lifecycle(transport, mode).await.unwrap(), caller)
    }

    fn stateless() -> ClientLifecycleMode {
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
    }

    fn call(name: &'static str, arguments: serde_json::Value) -> CallToolRequestParams {
        let serde_json::Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        CallToolRequestParams::new(name).with_arguments(JsonObject::from_iter(arguments))
    }

    fn text(result: &rmcp::model::CallToolResult) -> String {
        result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.clone()).collect()
    }

    async fn answers_all_four_tools(mode: ClientLifecycleMode, version: ProtocolVersion) {
        let (url, stop, task) = start().await;
        let (client, caller) = connect(&url, mode).await;
        assert_eq!(client.peer_info().unwrap().protocol_version, version);
        let mut names: Vec<String> =
            client.list_all_tools().await.unwrap().into_iter().map(|tool| tool.name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["add", "count", "echo", "wait"]);
        let answer = client.call_tool(call("echo", json!({ "text": "zażółć \u{1}" }))).await.unwrap();
        assert_eq!(text(&answer), "zażółć \u{1}");
        let sum = client.call_tool(call("add", json!({ "a": 1.5, "b": 2 }))).await.unwrap();
        assert_eq!(text(&sum), "3.5");
        let waited = client.call_tool(call("wait", json!({ "ms": 1 }))).await.unwrap();
        assert_eq!(text(&waited), "waited 1 ms");
        let counted = client.call_tool(call("count", json!({ "to": 5 }))).await.unwrap();
        assert_eq!(text(&counted), "counted to 5");
        // The notifications arrive before the result, but the client runs each in its own task.
        while caller.progress.lock().unwrap().len() < 5 {
            tokio::task::yield_now().await;
        }
        let mut progress = caller.progress.lock().unwrap().clone();
        progress.sort_by(f64::total_cmp);
        assert_eq!(progress, [1.0, 2.0, 3.0, 4.0, 5.0]);
        client.cancel().await.unwrap();
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_session_of_2025_11_25_calls_every_tool() {
        answers_all_four_tools(ClientLifecycleMode::Initialize, ProtocolVersion::V_2025_11_25).await;
    }

    #[tokio::test]
    async fn stateless_requests_of_2026_07_28_call_every_tool() {
        answers_all_four_tools(stateless(), ProtocolVersion::V_2026_07_28).await;
    }

    #[tokio::test]
    async fn arguments_above_their_bounds_are_refused_by_name() {
        let (url, _stop, _task) = start().await;
        let (client, _) = connect(&url, stateless()).await;
        for (tool, arguments, name) in [
            ("wait", json!({ "ms": WAIT_MAX_MS + 1 }), "ms is 10001"),
            ("count", json!({ "to": COUNT_MAX + 1 }), "to is 101"),
            ("count", json!({ "to": 1, "interval_ms": COUNT_INTERVAL_MAX_MS + 1 }), "interval_ms is 1001"),
        ] {
            let refused = client.call_tool(call(tool, arguments)).await.unwrap_err().to_string();
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[tokio::test]
    async fn shutting_down_ends_a_call_that_is_still_waiting() {
        let (url, stop, task) = start().await;
        let (client, caller) = connect(&url, stateless()).await;
        let mut params = call("count", json!({ "to": 100, "interval_ms": 1_000 }));
        params.meta = Some(RequestMetaObject::default());
        let pending = tokio::spawn(async move { client.call_tool(params).await.is_err() });
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert!(pending.await.unwrap());
        assert!(caller.progress.lock().unwrap().len() < 100);
    }

    #[tokio::test]
    async fn a_host_that_is_not_loopback_is_refused() {
        let (url, _stop, _task) = start().await;
        let answer = reqwest::Client::new().post(&url).header("host", "evil.example.com").send().await.unwrap();
        assert_eq!(answer.status(), 403);
    }
}
