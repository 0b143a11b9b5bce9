//! The MCP server under test: it has the tools, prompts and resources whose names the official suite calls, and a few
//! more for the Python session. Built on `rmcp`, because that SDK speaks both revisions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::serve::ListenerExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, CompleteRequestParams, CompleteResult, ErrorData,
    GetPromptRequestParams, GetPromptResponse, Implementation, InputRequiredResult, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProgressNotificationParam, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
    ServerNotification, ServerRequest, SubscribeRequestParams, SubscriptionFilter, Tool, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{broadcast, oneshot, watch};

/// A PNG of one red pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A WAV file without samples.
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
/// Pause between two steps of a tool that reports while it works.
const STEP: Duration = Duration::from_millis(50);
/// Time that a change of a list is held back, so that a listener whose acknowledgement is on its way hears of it.
const CHANGE_DELAY: Duration = Duration::from_millis(20);

/// A fixture server on a free loopback port, on a thread of its own, stopped when dropped.
pub(crate) struct Fixture {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fixture {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
            runtime.block_on(serve(listener, stopped));
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves over standard input, which is a socket and also standard output, until its other end is closed.
pub(crate) fn serve_stdio() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input is open");
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).expect("a socket can be made non-blocking");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
    runtime.block_on(async {
        let socket = tokio::net::UnixStream::from_std(socket).expect("a socket on this runtime");
        if let Ok(running) = Server::new().serve(socket.into_split()).await {
            let _ = running.waiting().await;
        }
    });
}

/// Serves until the other end of `stopped` is dropped.
async fn serve(listener: std::net::TcpListener, stopped: oneshot::Receiver<()>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener on this runtime");
    let config = StreamableHttpServerConfig::default();
    let stop = config.cancellation_token.clone();
    let server = Server::new();
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("TCP_NODELAY on a fresh connection"));
    let serving = axum::serve(listener, axum::Router::new().route_service("/mcp", service));
    tokio::select! {
        result = serving => result.expect("the fixture server accepts"),
        _ = stopped => stop.cancel(),
    }
}

/// Which list changed.
#[derive(Clone, Copy)]
enum Changed {
    Tools,
    Prompts,
}

#[derive(Clone)]
struct Server {
    changes: broadcast::Sender<Changed>,
    /// How many calls of `session_hold` ended because the client cancelled.
    cancelled_holds: Arc<watch::Sender<u64>>,
    state_key: Arc<hmac::Key>,
}

impl Server {
    fn new() -> Self {
        let (changes, _) = broadcast::channel(16);
        Self {
            changes,
            cancelled_holds: Arc::new(watch::Sender::new(0)),
            state_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, b"only for this fixture")),
        }
    }

    /// An opaque state that cannot be altered without being noticed.
    fn seal(&self, state: &str) -> String {
        let tag = hmac::sign(&self.state_key, state.as_bytes());
        let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{state}.{tag}")
    }

    /// The state inside what the client echoed.
    fn open(&self, sealed: Option<&str>) -> Result<Option<String>, ErrorData> {
        let Some(sealed) = sealed else { return Ok(None) };
        let state = sealed.rsplit_once('.').map(|(state, _)| state).filter(|state| self.seal(state) == sealed);
        state
            .map(|state| Some(state.to_owned()))
            .ok_or_else(|| ErrorData::invalid_params("requestState was altered", None))
    }

    /// Announces a change of a list to all who listen, and to the caller of a session.
    async fn announce(&self, changed: Changed, context: &RequestContext<RoleServer>) -> Value {
        tokio::time::sleep(CHANGE_DELAY).await;
        let _ = self.changes.send(changed);
        // In the stateless revision a change is told on listen streams only.
        if !stateless(context) {
            let _ = match changed {
                Changed::Tools => context.peer.notify_tool_list_changed().await,
                Changed::Prompts => context.peer.notify_prompt_list_changed().await,
            };
        }
        text("announced")
    }

    /// The tools that ask the client for input before they answer (SEP-2322).
    fn ask(&self, request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
        let given = request.input_responses.clone().unwrap_or_default();
        let state = self.open(request.request_state.as_deref())?;
        let name = given.get("user_name").and_then(|answer| answer["content"]["name"].as_str());
        Ok(match request.name.as_ref() {
            "test_input_required_result_elicitation" => match name {
                Some(name) => text(&format!("Hello, {name}!")),
                None => input_required(json!({ "user_name": ask_name() }), None),
            },
            "test_input_required_result_sampling" => match given.get("capital_question") {
                Some(answer) => text(&format!("The model said: {}", answer["content"]["text"])),
                None => {
                    input_required(json!({ "capital_question": sample("What is the capital of France?", 100) }), None)
                }
            },
            "test_input_required_result_list_roots" => match given.get("client_roots") {
                Some(answer) => text(&format!("The roots are: {}", answer["roots"])),
                None => input_required(json!({ "client_roots": list_roots() }), None),
            },
            "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
                match (given.get("confirm"), state.as_deref()) {
                    (Some(_), Some("confirming")) => text("state-ok"),
                    _ => input_required(json!({ "confirm": ask_confirmation() }), Some(self.seal("confirming"))),
                }
            }
            "test_input_required_result_multiple_inputs" => {
                let all = ["user_name", "greeting", "client_roots"].iter().all(|key| given.contains_key(*key));
                match (all, state.as_deref()) {
                    (true, Some("gathering")) => text("all inputs arrived"),
                    _ => input_required(
                        json!({
                            "user_name": ask_name(),
                            "greeting": sample("Generate a greeting", 50),
                            "client_roots": list_roots(),
                        }),
                        Some(self.seal("gathering")),
                    ),
                }
            }
            "test_input_required_result_multi_round" => match state.as_deref() {
                Some("round-2") if given.contains_key("step2") => text("both rounds are done"),
                Some("round-1") if given.contains_key("step1") => input_required(
                    json!({ "step2": elicit("Step 2: What is your favorite color?", "color", "string") }),
                    Some(self.seal("round-2")),
                ),
                _ => input_required(
                    json!({ "step1": elicit("Step 1: What is your name?", "name", "string") }),
                    Some(self.seal("round-1")),
                ),
            },
            "test_input_required_result_capabilities" => {
                let able = context.client_capabilities().unwrap_or_default();
                let mut asked = BTreeMap::new();
                if able.elicitation.is_some() {
                    asked.insert("user_name", ask_name());
                }
                let able = to_value(&able);
                if able.get("sampling").is_some() {
                    asked.insert("greeting", sample("Generate a greeting", 50));
                }
                if able.get("roots").is_some() {
                    asked.insert("client_roots", list_roots());
                }
                if asked.is_empty() || asked.keys().all(|key| given.contains_key(*key)) {
                    text("nothing more to ask")
                } else {
                    input_required(json!(asked), None)
                }
            }
            _ => return Err(unknown_tool(&request.name)),
        })
    }

    async fn call(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<Value, ErrorData> {
        let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
        let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        Ok(match request.name.as_ref() {
            "test_simple_text" => text("This is a simple text response for testing."),
            "test_image_content" => content(json!([{ "type": "image", "data": PNG, "mimeType": "image/png" }])),
            "test_audio_content" => content(json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }])),
            "test_embedded_resource" => content(json!([{ "type": "resource", "resource": {
                "uri": "test://embedded-resource",
                "mimeType": "text/plain",
                "text": "This is an embedded resource content.",
            } }])),
            "test_multiple_content_types" => content(json!([
                { "type": "text", "text": "Multiple content types test:" },
                { "type": "image", "data": PNG, "mimeType": "image/png" },
                { "type": "resource", "resource": {
                    "uri": "test://mixed-content-resource",
                    "mimeType": "application/json",
                    "text": json!({ "test": "data", "value": 123 }).to_string(),
                } },
            ])),
            "test_error_handling" => {
                let mut failed = text("This tool intentionally returns an error for testing");
                failed["isError"] = true.into();
                failed
            }
            "test_tool_with_logging" => {
                for (step, line) in
                    ["Tool execution started", "Tool processing data", "Tool execution completed"].iter().enumerate()
                {
                    if step > 0 {
                        tokio::time::sleep(STEP).await;
                    }
                    log(&context, line).await?;
                }
                text("logged three lines")
            }
            "test_logging_tool" => {
                log(&context, "a line that only some want").await?;
                text("logged")
            }
            "test_tool_with_progress" => {
                for (step, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
                    if step > 0 {
                        tokio::time::sleep(STEP).await;
                    }
                    progress(&context, done, 100.0).await?;
                }
                text("all done")
            }
            "test_sampling" => {
                let answer = request_client(&context, sample(&argument("prompt"), 100)).await?;
                text(&format!("LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default()))
            }
            "test_elicitation" => {
                let schema = json!({
                    "type": "object",
                    "properties": {
                        "username": { "type": "string", "description": "User's response" },
                        "email": { "type": "string", "description": "User's email address" },
                    },
                    "required": ["username", "email"],
                });
                let answer = request_client(&context, elicit_form(&argument("message"), schema)).await?;
                text(&format!("User response: action: {}, content: {}", answer["action"], answer["content"]))
            }
            "test_elicitation_sep1034_defaults" => elicited(&context, defaults_schema()).await?,
            "test_elicitation_sep1330_enums" => elicited(&context, enums_schema()).await?,
            "test_streaming_elicitation" => {
                progress(&context, 1.0, 2.0).await?;
                input_required(json!({ "user_name": ask_name() }), None)
            }
            "test_missing_capability" => {
                let able = to_value(&context.client_capabilities().unwrap_or_default());
                if able.get("sampling").is_none() {
                    let missing: ClientCapabilities = model(json!({ "sampling": {} }));
                    return Err(ErrorData::missing_required_client_capability(missing));
                }
                text("the client can sample")
            }
            "test_trigger_tool_change" => self.announce(Changed::Tools, &context).await,
            "test_trigger_prompt_change" => self.announce(Changed::Prompts, &context).await,
            "json_schema_2020_12_tool" => text("the schema is what counts"),
            "test_header_parameters" => text(&argument("region")),
            "session_count" => count(&arguments, &context).await?,
            "session_hold" => {
                progress(&context, 1.0, 1.0).await?;
                context.ct.cancelled().await;
                self.cancelled_holds.send_modify(|holds| *holds += 1);
                return Err(ErrorData::internal_error("cancelled by the caller", None));
            }
            "session_was_cancelled" => {
                let wanted = arguments["holds"].as_u64().unwrap_or(1);
                let seen =
                    self.cancelled_holds.subscribe().wait_for(|holds| *holds >= wanted).await.map(|holds| *holds);
                text(&format!("{} holds were cancelled", seen.unwrap_or_default()))
            }
            "session_large" => text(&"0123456789abcdef".repeat(32 * 1024)),
            _ => self.ask(&request, &context)?,
        })
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities: ServerCapabilities = model(json!({
            "logging": {},
            "completions": {},
            "prompts": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "tools": { "listChanged": true },
        }));
        ServerConfig::new(capabilities).with_server_info(Implementation::new("adit-fixture", "1.0.0"))
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools: Vec<Tool> = model(tools());
        Ok(ListToolsResult::with_all_items(tools))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tools: Vec<Tool> = model(tools());
        tools.into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let result = self.call(request, context).await?;
        Ok(match asked(&result) {
            Some(asked) => CallToolResponse::InputRequired(asked),
            None => CallToolResponse::Complete(model(result)),
        })
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(model(prompts()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let result = prompt(&request)?;
        Ok(match asked(&result) {
            Some(asked) => GetPromptResponse::InputRequired(asked),
            None => GetPromptResponse::Complete(model(result)),
        })
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(model(complete(json!({ "resources": [
            { "uri": "test://static-text", "name": "Static text", "description": "A text.", "mimeType": "text/plain" },
            { "uri": "test://static-binary", "name": "Static image", "description": "A pixel.", "mimeType": "image/png" },
            { "uri": "test://watched-resource", "name": "Watched", "description": "May change.", "mimeType": "text/plain" },
        ] }))))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(model(complete(json!({ "resourceTemplates": [{
            "uriTemplate": "test://template/{id}/data",
            "name": "Data by id",
            "description": "The data that belong to an id.",
            "mimeType": "application/json",
        }] }))))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let content = match uri {
            "test://static-text" => json!({
                "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource."
            }),
            "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
            "test://watched-resource" => json!({ "uri": uri, "mimeType": "text/plain", "text": "Watch me." }),
            _ => {
                let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
                let Some(id) = id else {
                    return Err(ErrorData::resource_not_found("Resource not found", Some(json!({ "uri": uri }))));
                };
                let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
            }
        };
        Ok(ReadResourceResponse::Complete(model(complete(json!({ "contents": [content] })))))
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let completion = json!({ "values": ["paris", "park", "party"], "total": 3, "hasMore": false });
        Ok(model(complete(json!({ "completion": completion }))))
    }

    #[expect(deprecated, reason = "revision 2025-11-25 has it, and the suite calls it")]
    async fn set_level(
        &self,
        _: rmcp::model::SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(&self, _: UnsubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                changed = changes.recv() => {
                    // A kind that this listener did not ask for is refused by the sink, which is what is wanted.
                    let _ = match changed {
                        Ok(Changed::Tools) => context.sink().notify_tool_list_changed().await,
                        Ok(Changed::Prompts) => context.sink().notify_prompt_list_changed().await,
                        Err(_) => return Ok(()),
                    };
                }
            }
        }
    }
}

/// Whether the request belongs to revision 2026-07-28 or later.
fn stateless(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| version.as_str() >= "2026-07-28")
}

/// A value of one of the SDK's types, from the JSON that the suite documents.
fn model<T: DeserializeOwned>(value: Value) -> T {
    let shown = value.to_string();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("the SDK does not take {shown}: {error}"))
}

fn to_value(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("an SDK type is JSON")
}

/// Marks a result as the final one, as revision 2026-07-28 asks; the SDK takes the mark off for older revisions.
fn complete(mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    result
}

fn content(blocks: Value) -> Value {
    complete(json!({ "content": blocks }))
}

fn text(line: &str) -> Value {
    content(json!([{ "type": "text", "text": line }]))
}

fn input_required(requests: Value, state: Option<String>) -> Value {
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if let Some(state) = state {
        result["requestState"] = state.into();
    }
    result
}

fn asked(result: &Value) -> Option<InputRequiredResult> {
    (result["resultType"] == "input_required").then(|| model(result.clone()))
}

fn elicit_form(message: &str, schema: Value) -> Value {
    json!({ "method": "elicitation/create", "params": {
        "mode": "form", "message": message, "requestedSchema": schema
    } })
}

fn elicit(message: &str, field: &str, kind: &str) -> Value {
    elicit_form(message, json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] }))
}

fn ask_name() -> Value {
    elicit("What is your name?", "name", "string")
}

fn ask_confirmation() -> Value {
    elicit("Please confirm", "ok", "boolean")
}

fn sample(prompt: &str, tokens: u32) -> Value {
    json!({ "method": "sampling/createMessage", "params": {
        "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
        "maxTokens": tokens,
    } })
}

fn list_roots() -> Value {
    json!({ "method": "roots/list", "params": {} })
}

/// Sends a request to the client, as the session revisions allow, and gives its result.
async fn request_client(context: &RequestContext<RoleServer>, request: Value) -> Result<Value, ErrorData> {
    let request: ServerRequest = model(request);
    match context.peer.send_request(request).await {
        Ok(answer) => Ok(to_value(&answer)),
        Err(error) => Err(ErrorData::internal_error(format!("the client did not answer: {error}"), None)),
    }
}

async fn elicited(context: &RequestContext<RoleServer>, schema: Value) -> Result<Value, ErrorData> {
    let answer = request_client(context, elicit_form("Please fill in the form", schema)).await?;
    let action = answer["action"].as_str().unwrap_or_default();
    Ok(text(&format!("Elicitation completed: action={action}, content={}", answer["content"])))
}

/// Sends a log line. In the stateless revision only a request that names a log level gets any.
async fn log(context: &RequestContext<RoleServer>, line: &str) -> Result<(), ErrorData> {
    if stateless(context) && context.meta.get("io.modelcontextprotocol/logLevel").is_none() {
        return Ok(());
    }
    let notification: ServerNotification =
        model(json!({ "method": "notifications/message", "params": { "level": "info", "data": line } }));
    context.peer.send_notification(notification).await.map_err(gone)
}

async fn progress(context: &RequestContext<RoleServer>, done: f64, total: f64) -> Result<(), ErrorData> {
    let Some(token) = context.meta.get_progress_token() else { return Ok(()) };
    context.peer.notify_progress(ProgressNotificationParam::new(token, done).with_total(total)).await.map_err(gone)
}

fn gone(error: rmcp::ServiceError) -> ErrorData {
    ErrorData::internal_error(format!("the client is gone: {error}"), None)
}

fn unknown_tool(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Unknown tool: {name}"), None)
}

/// Counts aloud, for the Python session.
async fn count(arguments: &Value, context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
    let to = arguments["to"].as_u64().unwrap_or(0).min(100);
    for number in 1..=to {
        #[expect(clippy::cast_precision_loss, reason = "at most 100")]
        progress(context, number as f64, to as f64).await?;
        tokio::task::yield_now().await;
    }
    Ok(text(&format!("counted to {to}")))
}

fn defaults_schema() -> Value {
    json!({ "type": "object", "required": [], "properties": {
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    } })
}

fn enums_schema() -> Value {
    let titled = |kind: &str| {
        json!([
            { "const": "value1", "title": format!("First {kind}") },
            { "const": "value2", "title": format!("Second {kind}") },
            { "const": "value3", "title": format!("Third {kind}") },
        ])
    };
    json!({ "type": "object", "required": [], "properties": {
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": ["option1", "option2", "option3"] } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    } })
}

/// Every tool, with a schema where it takes arguments.
fn tools() -> Value {
    let string = json!({ "type": "string" });
    let with = |names: &[&str]| {
        let properties: BTreeMap<&str, &Value> = names.iter().map(|name| (*name, &string)).collect();
        json!({ "type": "object", "properties": properties, "required": names })
    };
    let mut tools: Vec<Value> = PLAIN_TOOLS
        .iter()
        .map(
            |name| json!({ "name": name, "description": format!("The suite calls {name}."), "inputSchema": with(&[]) }),
        )
        .collect();
    tools.push(json!({ "name": "test_sampling", "description": "Samples.", "inputSchema": with(&["prompt"]) }));
    tools.push(json!({ "name": "test_elicitation", "description": "Elicits.", "inputSchema": with(&["message"]) }));
    for (name, argument) in [("session_count", "to"), ("session_was_cancelled", "holds")] {
        tools.push(json!({ "name": name, "description": "The Python session calls it.", "inputSchema": {
            "type": "object", "properties": { argument: { "type": "integer" } }, "required": [argument]
        } }));
    }
    tools.push(json!({ "name": "test_header_parameters", "description": "Mirrors a parameter in a header.",
        "inputSchema": { "type": "object", "required": ["region"], "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" }
        } }
    }));
    tools.push(json!({ "name": "json_schema_2020_12_tool", "description": "Has a rich schema.", "inputSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": { "street": string, "city": string },
        } },
        "properties": {
            "name": string,
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": string,
            "email": string,
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    } }));
    tools.sort_by_key(|tool| tool["name"].as_str().unwrap_or_default().to_owned());
    Value::Array(tools)
}

/// Tools without arguments.
const PLAIN_TOOLS: &[&str] = &[
    "session_hold",
    "session_large",
    "test_audio_content",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_embedded_resource",
    "test_error_handling",
    "test_image_content",
    "test_input_required_result_capabilities",
    "test_input_required_result_elicitation",
    "test_input_required_result_list_roots",
    "test_input_required_result_multi_round",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_request_state",
    "test_input_required_result_sampling",
    "test_input_required_result_tampered_state",
    "test_logging_tool",
    "test_missing_capability",
    "test_multiple_content_types",
    "test_simple_text",
    "test_streaming_elicitation",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_trigger_prompt_change",
    "test_trigger_tool_change",
];

fn prompts() -> Value {
    let argument = |name: &str| json!({ "name": name, "description": "A test argument.", "required": true });
    complete(json!({ "prompts": [
        { "name": "test_simple_prompt", "description": "A prompt without arguments." },
        { "name": "test_prompt_with_arguments", "description": "A prompt with two arguments.",
            "arguments": [argument("arg1"), argument("arg2")] },
        { "name": "test_prompt_with_embedded_resource", "description": "A prompt with a resource in it.",
            "arguments": [argument("resourceUri")] },
        { "name": "test_prompt_with_image", "description": "A prompt with an image in it." },
        { "name": "test_input_required_result_prompt", "description": "A prompt that asks first." },
    ] }))
}

fn prompt(request: &GetPromptRequestParams) -> Result<Value, ErrorData> {
    let arguments = to_value(&request.arguments);
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    let say = |content: Value| json!({ "role": "user", "content": content });
    let line = |line: &str| say(json!({ "type": "text", "text": line }));
    let messages = match request.name.as_str() {
        "test_simple_prompt" => json!([line("This is a simple prompt for testing.")]),
        "test_prompt_with_arguments" => {
            json!([line(&format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2")))])
        }
        "test_prompt_with_embedded_resource" => json!([
            say(json!({ "type": "resource", "resource": {
                "uri": argument("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            } })),
            line("Please process the embedded resource above."),
        ]),
        "test_prompt_with_image" => json!([
            say(json!({ "type": "image", "data": PNG, "mimeType": "image/png" })),
            line("Please analyze the image above."),
        ]),
        "test_input_required_result_prompt" => {
            let given = request.input_responses.clone().unwrap_or_default();
            let Some(answer) = given.get("user_context") else {
                let ask = elicit("What context should the prompt use?", "context", "string");
                return Ok(input_required(json!({ "user_context": ask }), None));
            };
            json!([line(&format!("In the context of {}", answer["content"]["context"]))])
        }
        name => return Err(ErrorData::invalid_params(format!("Unknown prompt: {name}"), None)),
    };
    Ok(complete(json!({ "messages": messages })))
}
