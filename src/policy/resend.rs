use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use memchr::memmem;
use serde::Deserialize;

use crate::wire::http1::RequestHead;
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::PeekOutcome;

/// The maximum number of safe tools remembered per route.
const TOOLS_MAX: usize = 1_024;
/// The maximum length of a remembered tool name, in bytes.
const NAME_LEN_MAX: usize = 128;

/// Decides which MCP requests may run twice, for a server that the owner of the route trusts: `ping`, `server/discover`, list
/// requests, and calls of tools that the server declares as read-only or idempotent.
#[derive(Debug, Default)]
pub struct SafeRequests {
    /// The tools that may run twice, and whether they are declared as read-only.
    tools: Mutex<HashMap<Box<str>, bool>>,
}

/// The used parts of an answer to `tools/list` (MCP 2025-11-25, section "Tools").
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Option<Listed<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    #[serde(borrow, default)]
    tools: Option<Vec<Tool<'a>>>,
    /// The cursor of the next page, if there is one.
    #[serde(borrow, default)]
    next_cursor: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    annotations: Option<Hints>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(default)]
    read_only_hint: Option<bool>,
    #[serde(default)]
    idempotent_hint: Option<bool>,
}

impl SafeRequests {
    /// Whether a parsed request may run twice. The request must be complete and unambiguous, and its head must agree with its
    /// body.
    #[must_use]
    pub fn may_run_twice(&self, head: &RequestHead, request: &Peek) -> bool {
        match request.method().filter(|_| is_certain(head, request)) {
            Some("ping" | "server/discover") => true,
            Some("tools/call") => request.name().is_some_and(|tool| self.tools().contains_key(tool)),
            Some(method) => method.ends_with("/list"),
            None => false,
        }
    }

    /// Whether a parsed request calls a read-only tool and so may run twice concurrently. An idempotent tool may not, because its
    /// calls change state. The request must be complete and unambiguous, and its head must agree with its body.
    #[must_use]
    pub fn only_reads(&self, head: &RequestHead, request: &Peek) -> bool {
        let is_call = request.method() == Some("tools/call") && is_certain(head, request);
        is_call && request.name().is_some_and(|tool| self.is_read_only(tool))
    }

    /// Whether the server declares this tool as read-only.
    #[must_use]
    pub fn is_read_only(&self, tool: &str) -> bool {
        self.tools().get(tool) == Some(&true)
    }

    /// Forgets all tools: the server has announced that its tools changed, so earlier declarations are void.
    pub fn forget(&self) {
        self.tools().clear();
    }

    /// Whether the answer to a request should be [learned](SafeRequests::learn).
    #[must_use]
    pub fn is_listing(request: &Peek) -> bool {
        request.is_whole() && PeekOutcome::of(request) == PeekOutcome::Enough && request.method() == Some("tools/list")
    }

    /// Whether the body of a list request asks for the first page. If any other member is named like a cursor, the page counts as
    /// a further one.
    #[must_use]
    pub fn is_first_page(request: &[u8]) -> bool {
        memmem::find(request, b"\"cursor\"").is_none()
    }

    /// Learns which tools are safe from the body of an answer to `tools/list`: a JSON-RPC message, or with `is_events` an event
    /// stream of messages. Unparsable parts are ignored. A first page (`from_start`) without a next page is the complete list, so
    /// other tools are forgotten.
    pub fn learn(&self, answer: &[u8], is_events: bool, from_start: bool) {
        if !is_events {
            return self.learn_message(answer, from_start);
        }
        let mut data = Vec::new();
        for line in answer.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(more) = line.strip_prefix(b"data:") {
                data.extend_from_slice(more);
            } else if line.is_empty() {
                self.learn_message(&data, from_start);
                data.clear();
            }
        }
    }

    fn learn_message(&self, message: &[u8], from_start: bool) {
        let Ok(Answer { result: Some(Listed { tools: Some(listed), next_cursor }) }) =
            serde_json::from_slice::<Answer<'_>>(message)
        else {
            return;
        };
        let mut tools = self.tools();
        if from_start && next_cursor.is_none() {
            tools.clear();
        }
        for Tool { name, annotations } in listed {
            let hints = annotations.unwrap_or_default();
            let is_read_only = hints.read_only_hint == Some(true);
            if !is_read_only && hints.idempotent_hint != Some(true) {
                tools.remove(&*name);
            } else if let Some(known) = tools.get_mut(&*name) {
                *known = is_read_only;
            } else if tools.len() < TOOLS_MAX && name.len() <= NAME_LEN_MAX {
                tools.insert(name.into(), is_read_only);
            }
        }
    }

    fn tools(&self) -> std::sync::MutexGuard<'_, HashMap<Box<str>, bool>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request is complete and unambiguous, and its head agrees with its body.
fn is_certain(head: &RequestHead, request: &Peek) -> bool {
    let agrees = |field: &str, in_body: Option<&str>| {
        head.get(field).is_none_or(|in_head| Some(in_head) == in_body.map(str::as_bytes))
    };
    request.is_whole()
        && PeekOutcome::of(request) == PeekOutcome::Enough
        && agrees("Mcp-Method", request.method())
        && agrees("Mcp-Name", request.name().or(request.uri()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(text: &str) -> Peek {
        let mut peek = Peek::default();
        peek.feed(text.as_bytes());
        peek
    }

    /// A head with these fields.
    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        head
    }

    fn request(method: &str, tool: &str) -> Peek {
        peek(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{tool}"}}}}"#))
    }

    const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
        {"name":"look","inputSchema":{"type":"object"},"annotations":{"title":"Look","readOnlyHint":true}},
        {"name":"set","annotations":{"readOnlyHint":false,"idempotentHint":true,"destructiveHint":true}},
        {"name":"pay","annotations":{"readOnlyHint":false}},{"name":"bare"},{"name":"l\u0131ne","annotations":{"readOnlyHint":true}}]}}"#;

    #[test]
    fn lists_and_tools_declared_read_only_or_idempotent_may_run_twice() {
        let safe = SafeRequests::default();
        for method in ["ping", "tools/list", "resources/templates/list", "server/discover"] {
            assert!(safe.may_run_twice(&head(""), &request(method, "x")), "{method}");
        }
        for method in ["initialize", "tools/call", "prompts/get", "notifications/x", "list", "toString"] {
            assert!(!safe.may_run_twice(&head(""), &request(method, "look")), "{method}");
        }
        safe.learn(LIST.as_bytes(), false, true);
        for (tool, is_safe) in
            [("look", true), ("set", true), ("pay", false), ("bare", false), ("l\u{131}ne", true), ("", false)]
        {
            assert_eq!(safe.may_run_twice(&head(""), &request("tools/call", tool)), is_safe, "{tool}");
        }
        let declares =
            |hint: &str| format!(r#"{{"id":2,"result":{{"tools":[{{"name":"look","annotations":{{{hint}}}}}]}}}}"#);
        safe.learn(declares("").as_bytes(), false, false);
        assert!(!safe.may_run_twice(&head(""), &request("tools/call", "look")), "the last word counts");
        let events = format!(": hi\n\nevent: message\r\ndata: {}\r\n\r\n", declares(r#""readOnlyHint":true"#));
        safe.learn(events.as_bytes(), true, false);
        assert!(safe.may_run_twice(&head(""), &request("tools/call", "look")));
    }

    #[test]
    fn only_a_tool_that_is_declared_read_only_reads_and_the_last_word_counts() {
        let safe = SafeRequests::default();
        assert!(!safe.only_reads(&head(""), &request("tools/call", "look")), "nothing is known of it");
        safe.learn(LIST.as_bytes(), false, false);
        for (tool, reads) in [("look", true), ("set", false), ("pay", false), ("bare", false), ("l\u{131}ne", true)] {
            assert_eq!(safe.only_reads(&head(""), &request("tools/call", tool)), reads, "{tool}");
        }
        for method in ["tools/list", "ping", "prompts/get"] {
            assert!(!safe.only_reads(&head(""), &request(method, "look")), "{method}");
        }
        assert!(
            !safe.only_reads(&head("Mcp-Name: pay\r\n"), &request("tools/call", "look")),
            "the head says otherwise"
        );
        let cut = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look""#;
        assert!(!safe.only_reads(&head(""), &peek(cut)));
        let declares =
            |hint: &str| format!(r#"{{"id":2,"result":{{"tools":[{{"name":"look","annotations":{{{hint}}}}}]}}}}"#);
        safe.learn(declares(r#""idempotentHint":true"#).as_bytes(), false, false);
        assert!(!safe.is_read_only("look"));
        assert!(safe.may_run_twice(&head(""), &request("tools/call", "look")));
        safe.learn(declares(r#""readOnlyHint":true"#).as_bytes(), false, false);
        assert!(safe.is_read_only("look"));
    }

    #[test]
    fn a_tool_that_is_no_longer_listed_is_forgotten() {
        let safe = SafeRequests::default();
        let knows = |tool: &str| safe.may_run_twice(&head(""), &request("tools/call", tool));
        let list = |tool: &str, more: &str| {
            format!(
                r#"{{"id":2,"result":{{"tools":[{{"name":"{tool}","annotations":{{"readOnlyHint":true}}}}]{more}}}}}"#
            )
        };
        safe.learn(list("one", "").as_bytes(), false, true);
        // The pages of a list, each incomplete.
        safe.learn(list("two", r#","nextCursor":"2""#).as_bytes(), false, true);
        safe.learn(list("three", "").as_bytes(), false, false);
        assert!(knows("one") && knows("two") && knows("three"));
        safe.learn(br#"{"id":2,"result":{}}"#, false, true);
        assert!(knows("one"), "that lists nothing");
        safe.learn(list("two", "").as_bytes(), false, true);
        assert!(!knows("one") && knows("two") && !knows("three"), "that is the whole list");
        safe.forget();
        assert!(!knows("two"));
    }

    #[test]
    fn ambiguous_annotations_do_not_allow_a_resend() {
        let safe = SafeRequests::default();
        for text in [
            "",
            "[]",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping""#,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        ] {
            assert!(!safe.may_run_twice(&head(""), &peek(text)), "{text}");
        }
    }

    #[test]
    fn a_head_that_says_something_else_is_not_certain() {
        let safe = SafeRequests::default();
        let ping = peek(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        for (fields, is_safe) in [
            ("Mcp-Method: ping\r\n", true),
            ("Mcp-Method: tools/call\r\n", false),
            ("Mcp-Method: ping\r\nMcp-Name: pay\r\n", false),
        ] {
            assert_eq!(safe.may_run_twice(&head(fields), &ping), is_safe, "{fields}");
        }
    }

    #[test]
    fn learned_tools_are_bounded_and_malformed_lists_are_ignored() {
        let safe = SafeRequests::default();
        let tool = |name: String| format!(r#"{{"name":"{name}","annotations":{{"readOnlyHint":true}}}}"#);
        let many: Vec<String> = (0..2 * TOOLS_MAX).map(|nth| tool(nth.to_string())).collect();
        safe.learn(format!(r#"{{"result":{{"tools":[{}]}}}}"#, many.join(",")).as_bytes(), false, false);
        assert_eq!(safe.tools().len(), TOOLS_MAX);
        let safe = SafeRequests::default();
        safe.learn(
            format!(r#"{{"result":{{"tools":[{}]}}}}"#, tool("x".repeat(NAME_LEN_MAX + 1))).as_bytes(),
            false,
            false,
        );
        for text in ["{", "null", r#"{"result":{"tools":[{}]}}"#, r#"{"result":{"tools":"look"}}"#, r#"{"error":{}}"#] {
            safe.learn(text.as_bytes(), false, false);
            safe.learn(format!("data: {text}\n\n").as_bytes(), true, false);
        }
        assert!(safe.tools().is_empty());
    }
}
