//! The tools of a server, for the commands that make a schema of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::policy_args::PolicyToolsArgs;
use crate::cli::run::{RunError, on_control_thread};
use crate::control::bodies::ToolsBody;

/// The tools that the arguments name, each as an element of `tools/list`; `None` if they name none.
///
/// # Errors
///
/// If they cannot be read, or asked for.
pub(super) fn known_tools(
    args: &PolicyToolsArgs,
    env: &BTreeMap<String, String>,
) -> Result<Option<Vec<Value>>, String> {
    match args {
        PolicyToolsArgs { tools: Some(file), .. } => read(file).map(Some),
        PolicyToolsArgs { route: Some(route), admin, .. } => asked(route, admin.as_deref(), env).map(Some),
        _ => Ok(None),
    }
}

fn read(file: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| format!("{} is no JSON: {error}", file.display()))?;
    let lists = [&json["result"]["tools"], &json["tools"], &json];
    let list =
        lists.into_iter().find_map(Value::as_array).filter(|list| list.iter().all(|tool| tool["name"].is_string()));
    let what = "the result of tools/list, such as {\"tools\": [{\"name\": \"look\", \"inputSchema\": {}}]}";
    list.cloned().ok_or_else(|| format!("{} has no tools: it has to be {what}", file.display()))
}

/// Asks a process what it has learned of the tools of a route.
fn asked(route: &str, admin: Option<&str>, env: &BTreeMap<String, String>) -> Result<Vec<Value>, String> {
    let mut found = Err(String::new());
    on_control_thread(async {
        found = ask(route, admin, env).await.map_err(|error| error.to_string());
        Ok::<u8, RunError>(0)
    });
    let body = found?;
    let Some(server) = body.servers.into_iter().find(|server| server.route == route) else {
        return Err(format!("no route {route} has `pin`: `adit tools list` shows all"));
    };
    let tools = server.tools.iter().map(|tool| {
        let definition = tool.definition.as_ref().and_then(|text| serde_json::from_str(text).ok());
        definition.unwrap_or_else(|| serde_json::json!({"name": tool.name}))
    });
    Ok(tools.collect())
}

async fn ask(route: &str, admin: Option<&str>, env: &BTreeMap<String, String>) -> Result<ToolsBody, AdminError> {
    let query = [("route", route.to_owned()), ("definitions", "true".to_owned())];
    AdminClient::without_token(admin, env)?.get(&["tools"], &query).await
}
