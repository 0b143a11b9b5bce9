//! An MCP server that speaks over its standard input and output, and answers at once.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

/// The name of the command that runs it.
pub(crate) const COMMAND: &str = "serve-stdio";
/// The length of the text in an answer to `tools/call`, in bytes.
const ANSWER_LEN: usize = 1024;

/// Answers requests until standard input ends.
///
/// # Errors
///
/// If its standard input or output fails.
pub(crate) fn run() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let (mut line, text) = (String::new(), "x".repeat(ANSWER_LEN));
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let (Some(id), Some(method)) = (message.get("id"), message.get("method").and_then(Value::as_str)) else {
            continue;
        };
        let result = match method {
            "tools/call" => json!({ "content": [{ "type": "text", "text": text }], "isError": false }),
            "initialize" => json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "adit-loadtest", "version": env!("CARGO_PKG_VERSION") },
            }),
            "tools/list" => json!({ "tools": [{ "name": "echo", "inputSchema": { "type": "object" } }] }),
            "ping" => json!({}),
            _ => {
                let error = json!({ "code": -32601, "message": "no such method" });
                writeln!(output, "{}", json!({ "jsonrpc": "2.0", "id": id, "error": error }))?;
                continue;
            }
        };
        // One write for each line, as a server has no reason to wait.
        output.write_all(format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "result": result })).as_bytes())?;
        output.flush()?;
    }
}
