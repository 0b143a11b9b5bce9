//! The answers of an upstream.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::outgoing::Part;
use super::{AnswerSettings, Form};
use crate::split::TRUTH;

/// The length of an answer is computed for ids of this length; other lengths change it by the difference.
const ID_LEN: u64 = 10;

/// The answers of a server, encoded in advance as far as possible.
pub(super) struct Answers {
    form: Form,
    len: u64,
    /// The JSON before and after the text of a tool's result, in sessions and without.
    session: Envelope,
    stateless: Envelope,
}

struct Envelope {
    after_id: Vec<u8>,
    end: Vec<u8>,
    /// The length of the text, so that the whole body has the requested length.
    text: u64,
}

const START: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const EVENT: &[u8] = b"event: message\ndata: ";
const EVENT_END: &[u8] = b"\n\n";
/// A notification that is sent before the answer.
const NOTE: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"working"}}"#;

impl Answers {
    pub(super) fn new(settings: &AnswerSettings) -> Answers {
        let envelope = |result_type: &str| {
            let after_id = format!(r#","result":{{{result_type}"content":[{{"type":"text","text":""#).into_bytes();
            let end = br#""}],"isError":false}}"#.to_vec();
            let around = START.len() as u64 + ID_LEN + after_id.len() as u64 + end.len() as u64;
            Envelope { after_id, end, text: settings.len.saturating_sub(around) }
        };
        Answers {
            form: settings.form,
            len: settings.len,
            session: envelope(""),
            stateless: envelope(r#""resultType":"complete","#),
        }
    }

    /// The form of tool answers.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The length of a plain answer in bytes.
    pub(super) fn plain_len(&self) -> u64 {
        self.len
    }

    /// The parts of a tool's answer.
    pub(super) fn tool<'a>(&'a self, stateless: bool, id: &'a [u8]) -> [Part<'a>; 5] {
        let envelope = if stateless { &self.stateless } else { &self.session };
        [
            Part::Text(START),
            Part::Text(id),
            Part::Text(&envelope.after_id),
            Part::Filler(envelope.text),
            Part::Text(&envelope.end),
        ]
    }

    /// The length of a tool's answer in bytes.
    pub(super) fn tool_len(&self, stateless: bool, id: &[u8]) -> u64 {
        let envelope = if stateless { &self.stateless } else { &self.session };
        (START.len() + id.len() + envelope.after_id.len() + envelope.end.len()) as u64 + envelope.text
    }
}

/// Appends the head of an answer with a good status; the body is chunked if no length is given.
pub(super) fn head(out: &mut Vec<u8>, kind: &str, len: Option<u64>, service: Duration, close: bool) {
    let us = service.as_nanos() as f64 / 1e3;
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{TRUTH}: {us:.3}\r\n");
    let _ = match len {
        Some(len) => write!(out, "Content-Length: {len}\r\n"),
        None => write!(out, "Transfer-Encoding: chunked\r\n"),
    };
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
}

/// Appends the header of a chunk.
pub(super) fn chunk_size(out: &mut Vec<u8>, len: u64) {
    let _ = write!(out, "{len:x}\r\n");
}

/// The bytes of an event before and after its data.
pub(super) const fn event() -> (&'static [u8], &'static [u8]) {
    (EVENT, EVENT_END)
}

/// The data of an event other than the answer.
pub(super) const fn note() -> &'static [u8] {
    NOTE
}

/// The result of an MCP method other than `tools/call`; `None` for an unknown method.
pub(super) fn result(method: &str) -> Option<Value> {
    let capabilities = json!({ "tools": {} });
    let info = json!({ "name": "adit-loadtest", "version": env!("CARGO_PKG_VERSION") });
    match method {
        "initialize" => Some(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": capabilities,
            "serverInfo": info,
        })),
        "ping" => Some(json!({})),
        "server/discover" => Some(json!({
            "resultType": "complete",
            "supportedVersions": ["2026-07-28", "2025-11-25"],
            "capabilities": capabilities,
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": { "io.modelcontextprotocol/serverInfo": info },
        })),
        "tools/list" => Some(json!({
            "resultType": "complete",
            "ttlMs": 0,
            "cacheScope": "private",
            "tools": [{
                "name": "echo",
                "description": "Answers with as much text as the server was told to",
                "inputSchema": {
                    "type": "object",
                    "properties": { "text": { "type": "string" } },
                    "required": ["text"],
                },
                "annotations": { "readOnlyHint": true },
            }],
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_answer_has_the_asked_length_and_is_json() {
        for (len, stateless) in [(1024, false), (1024, true), (0, true), (100_000, false)] {
            let answers = Answers::new(&AnswerSettings { len, form: Form::Json });
            let mut bytes = Vec::new();
            for part in answers.tool(stateless, b"1000000007") {
                match part {
                    Part::Text(text) => bytes.extend_from_slice(text),
                    Part::Filler(len) | Part::Pattern(len) => bytes.resize(bytes.len() + len as usize, b'x'),
                }
            }
            let announced = answers.tool_len(stateless, b"1000000007");
            assert_eq!(bytes.len() as u64, announced);
            assert!(announced == len || len == 0);
            let json: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!((&json["id"], &json["result"]["isError"]), (&json!(1_000_000_007), &json!(false)));
            assert_eq!(json["result"]["resultType"] == "complete", stateless);
        }
        assert!(serde_json::from_slice::<Value>(NOTE).is_ok());
    }
}
