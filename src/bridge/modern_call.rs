//! A message of an agent of 2026-07-28, checked as a server of that revision checks it.

use crate::bridge::json_text::{JsonObject, quoted};
use crate::bridge::message::{
    BridgeRefusal, HEADER_MISMATCH, INVALID_PARAMS, META_CAPABILITIES, META_CLIENT, META_LOG_LEVEL, META_REVISION,
    MODERN_REVISION, UNSUPPORTED_VERSION,
};
use crate::wire::http1::RequestHead;
use crate::wire::jsonrpc::{Message, Peek};
use crate::wire::mcp::{Call, METHOD, NAME, PROTOCOL_VERSION};
use crate::wire::stdio::Envelope;

/// A request of an agent without sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModernCall {
    /// `id`, as JSON text.
    pub id: Vec<u8>,
    /// The method, with escapes decoded.
    pub method: String,
    /// The whole message as it was received.
    pub message: Vec<u8>,
    /// What the agent can do, as JSON text.
    pub capabilities: Vec<u8>,
    /// Who the agent says that it is, as JSON text.
    pub client: Vec<u8>,
    /// From which level on it wants log messages; none if it wants none.
    pub log_level: Option<String>,
    /// The token under which it wants reports of progress, as JSON text.
    pub progress_token: Option<Vec<u8>>,
    /// The state that an earlier answer asked it to send back.
    pub request_state: Option<String>,
    /// Its answers to what an earlier answer asked, by key, as JSON texts.
    pub input_responses: Vec<(String, Vec<u8>)>,
}

/// What an agent without sessions sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModernMessage {
    /// A request, which expects an answer.
    Call(Box<ModernCall>),
    /// A notification, which has no effect in this revision.
    Notification,
}

/// The client, where an agent does not say who it is.
pub(super) const UNNAMED_CLIENT: &[u8] = br#"{"name":"unknown","version":"unknown"}"#;

impl ModernCall {
    /// Reads a message with its head.
    ///
    /// # Errors
    ///
    /// The refusal, and the id of the message as far as it is known.
    pub fn read(head: &RequestHead, body: &[u8]) -> Result<ModernMessage, (BridgeRefusal, Vec<u8>)> {
        let null = || b"null".to_vec();
        let envelope = Envelope::read(body).map_err(|error| (BridgeRefusal::unreadable(error), null()))?;
        let id = match envelope.kind(body) {
            Some(Message::Request) => envelope.id.clone().map_or_else(null, |range| body[range].to_vec()),
            Some(Message::Notification) => return Ok(ModernMessage::Notification),
            _ => {
                let why =
                    "agents of revision 2026-07-28 send no responses: answer with inputResponses in a new request";
                return Err((BridgeRefusal::new(400, super::INVALID_REQUEST, why), null()));
            }
        };
        let method = envelope.method(body).unwrap_or_default().into_owned();
        ModernCall::of(head, body, id.clone(), method).map_err(|refusal| (refusal, id))
    }

    fn of(head: &RequestHead, body: &[u8], id: Vec<u8>, method: String) -> Result<ModernMessage, BridgeRefusal> {
        let params = JsonObject::read(body).and_then(|message| message.get_object("params"));
        let meta = params.as_ref().and_then(|params| params.get_object("_meta"));
        let (Some(params), Some(meta)) = (params, meta) else {
            return Err(BridgeRefusal::new(
                400,
                INVALID_PARAMS,
                "params._meta is missing, which revision 2026-07-28 requires",
            ));
        };
        let revision = meta.get_text(META_REVISION);
        let capabilities = meta.get(META_CAPABILITIES).filter(|text| text.starts_with(b"{"));
        let (Some(revision), Some(capabilities)) = (revision, capabilities) else {
            let why = format!("params._meta lacks {META_REVISION} or {META_CAPABILITIES}");
            return Err(BridgeRefusal::new(400, INVALID_PARAMS, &why));
        };
        let is_same_revision = head.get_only(PROTOCOL_VERSION) == Some(revision.as_bytes());
        if !is_same_revision || differs(head, body, &method) {
            let why = "MCP-Protocol-Version, Mcp-Method or Mcp-Name differs from the message";
            return Err(BridgeRefusal::new(400, HEADER_MISMATCH, why));
        }
        if revision != MODERN_REVISION {
            let data = [b"{\"supported\":[\"2026-07-28\"],\"requested\":", &quoted(&revision)[..], b"}"].concat();
            let why = "the server is reached by a bridge that speaks revision 2026-07-28";
            return Err(BridgeRefusal { data: Some(data), ..BridgeRefusal::new(400, UNSUPPORTED_VERSION, why) });
        }
        let responses = params.get_object("inputResponses");
        let input_responses = responses.iter().flat_map(JsonObject::members);
        Ok(ModernMessage::Call(Box::new(ModernCall {
            capabilities: capabilities.to_vec(),
            client: meta.get(META_CLIENT).unwrap_or(UNNAMED_CLIENT).to_vec(),
            log_level: meta.get_text(META_LOG_LEVEL),
            progress_token: meta.get("progressToken").map(<[u8]>::to_vec),
            request_state: params.get_text("requestState"),
            input_responses: input_responses.map(|(key, value)| (key.into_owned(), value.to_vec())).collect(),
            message: body.to_vec(),
            id,
            method,
        })))
    }

    /// The same request for a server with sessions: without what only 2026-07-28 has, with another id, and with another
    /// progress token if it has one.
    #[must_use]
    pub fn for_session(&self, id: &[u8]) -> Vec<u8> {
        let Some(message) = JsonObject::read(&self.message) else { return self.message.clone() };
        let Some(params) = message.get_object("params") else { return message.edited(&[("id", Some(id))]) };
        let meta = params.get_object("_meta").map(|meta| {
            let token = self.progress_token.as_ref().map(|_| id);
            meta.edited(&[
                (META_REVISION, None),
                (META_CLIENT, None),
                (META_CAPABILITIES, None),
                (META_LOG_LEVEL, None),
                ("progressToken", token),
            ])
        });
        let meta = meta.filter(|meta| JsonObject::read(meta).is_some_and(|meta| !meta.is_empty()));
        let params = params.edited(&[("_meta", meta.as_deref()), ("inputResponses", None), ("requestState", None)]);
        message.edited(&[("id", Some(id)), ("params", Some(&params))])
    }
}

/// Whether the head names another method or target than the message.
fn differs(head: &RequestHead, body: &[u8], method: &str) -> bool {
    let (mut by_head, mut by_body, mut peek) = (Call::default(), Call::default(), Peek::new());
    peek.feed(body);
    by_body.read_body(&peek);
    let is_whole = by_head.read_head(head);
    let names = head.get(NAME).is_some();
    let needs_name = matches!(method, "tools/call" | "prompts/get" | "resources/read");
    let target = by_body.target();
    head.get_only(METHOD) != Some(method.as_bytes())
        || (is_whole && (names || (needs_name && target.is_some())) && by_head.target() != target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, more: &str) -> RequestHead {
        let mut head = RequestHead::new();
        let text = format!(
            "POST /mcp HTTP/1.1\r\nHost: a\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n{more}\r\n"
        );
        head.feed(text.as_bytes()).unwrap();
        head
    }

    fn body(method: &str, params: &str) -> String {
        let meta =
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
        format!(r#"{{"jsonrpc":"2.0","id":"ü\u0031","method":"{method}","params":{{{params}"_meta":{{{meta}}}}}}}"#)
    }

    fn read(head: &RequestHead, body: &str) -> Result<ModernMessage, (BridgeRefusal, Vec<u8>)> {
        ModernCall::read(head, body.as_bytes())
    }

    #[test]
    fn a_request_loses_what_only_its_revision_has_and_keeps_all_other_bytes() {
        let params = r#""name" : "a\u0062", "arguments": {"n": 12345678901234567890.50, "_meta": 1}, "requestState":"s","inputResponses":{"k":{"action":"accept"}}, "#;
        let text = body("tools/call", params);
        let Ok(ModernMessage::Call(call)) = read(&head("tools/call", "Mcp-Name: ab\r\n"), &text) else {
            panic!("{text}")
        };
        assert_eq!((&call.id[..], call.method.as_str()), ("\"ü\\u0031\"".as_bytes(), "tools/call"));
        assert_eq!(call.request_state.as_deref(), Some("s"));
        assert_eq!(call.input_responses, [("k".to_owned(), br#"{"action":"accept"}"#.to_vec())]);
        assert_eq!(call.client, UNNAMED_CLIENT);
        let wanted = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name" : "a\u0062", "arguments": {"n": 12345678901234567890.50, "_meta": 1}}}"#;
        assert_eq!(String::from_utf8(call.for_session(b"7")).unwrap(), wanted);
        let with_token = text.replace(r#""_meta":{"#, r#""_meta":{"progressToken":"p", "own":[1], "#);
        let Ok(ModernMessage::Call(call)) = read(&head("tools/call", "Mcp-Name: ab\r\n"), &with_token) else {
            panic!("{with_token}")
        };
        assert_eq!(call.progress_token.as_deref(), Some(&b"\"p\""[..]));
        let sent = String::from_utf8(call.for_session(b"8")).unwrap();
        assert!(sent.contains(r#""_meta":{"progressToken":8, "own":[1]}"#), "{sent}");
    }

    #[test]
    fn requests_are_refused_as_by_a_server_of_the_revision() {
        let named = "Mcp-Name: a\r\n";
        let good = body("tools/call", r#""name":"a","#);
        for (head, text, status, code) in [
            (head("tools/call", named), "[]".to_owned(), 400, -32_600),
            (head("tools/call", named), "{".to_owned(), 400, -32_700),
            (head("tools/call", named), r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.to_owned(), 400, -32_600),
            (head("tools/call", named), r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned(), 400, -32_602),
            (head("tools/call", named), good.replace("clientCapabilities", "x"), 400, -32_602),
            (head("tools/list", named), good.clone(), 400, -32_020),
            (head("tools/call", "Mcp-Name: b\r\n"), good.clone(), 400, -32_020),
            (head("tools/call", ""), good.clone(), 400, -32_020),
            (head("tools/call", named), good.replace("2026-07-28", "2026-07-29"), 400, -32_020),
        ] {
            let (refusal, _) = read(&head, &text).unwrap_err();
            assert_eq!((refusal.status, refusal.code), (status, code), "{text}");
        }
        let mut later = RequestHead::new();
        later
            .feed(b"POST / HTTP/1.1\r\nHost: a\r\nMCP-Protocol-Version: 2027-01-01\r\nMcp-Method: ping\r\n\r\n")
            .unwrap();
        let (refusal, id) = read(&later, &body("ping", "").replace("2026-07-28", "2027-01-01")).unwrap_err();
        assert_eq!((refusal.code, &id[..]), (-32_022, "\"ü\\u0031\"".as_bytes()));
        assert_eq!(refusal.data.unwrap(), br#"{"supported":["2026-07-28"],"requested":"2027-01-01"}"#);
        assert_eq!(read(&head("x", ""), r#"{"jsonrpc":"2.0","method":"x"}"#), Ok(ModernMessage::Notification));
        let plain = Ok(ModernMessage::Notification) == read(&head("tools/call", named), &good);
        assert!(!plain && read(&head("tools/call", named), &good).is_ok());
    }
}
