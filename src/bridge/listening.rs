//! `subscriptions/listen` of an agent of 2026-07-28 at a server with sessions.

use crate::bridge::handshake::ServerSession;
use crate::bridge::json_text::{JsonObject, array_elements, quoted};
use crate::bridge::message::{META_SUBSCRIPTION, notification, request, result_message};
use crate::bridge::modern_call::ModernCall;
use crate::wire::jsonrpc::Message;
use crate::wire::stdio::Envelope;

/// The most resources that one agent listens to.
const RESOURCES_MAX: usize = 256;

/// The kinds of notifications: their key in a filter, their method, and the capability that offers them.
const KINDS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed", "tools"),
    ("promptsListChanged", "notifications/prompts/list_changed", "prompts"),
    ("resourcesListChanged", "notifications/resources/list_changed", "resources"),
];
const UPDATED: &str = "notifications/resources/updated";

/// What an agent listens to, as far as the server offers it.
#[derive(Debug)]
pub struct Listening {
    id: Vec<u8>,
    kinds: [bool; 3],
    /// The addresses of resources, as JSON texts.
    uris: Vec<Vec<u8>>,
}

impl Listening {
    /// The part of a request that a server with these capabilities can grant.
    #[must_use]
    pub fn new(call: &ModernCall, server: &ServerSession) -> Listening {
        let params = JsonObject::read(&call.message).and_then(|message| message.get_object("params"));
        let filter = params.and_then(|params| params.get_object("notifications"));
        let wants = |key: &str| filter.as_ref().is_some_and(|filter| filter.get(key) == Some(b"true"));
        let uris = filter.as_ref().and_then(|filter| array_elements(filter.get("resourceSubscriptions")?));
        let can_subscribe = server.offers("resources", Some("subscribe"));
        let uris = uris.filter(|_| can_subscribe).unwrap_or_default();
        Listening {
            id: call.id.clone(),
            kinds: KINDS.map(|(key, _, capability)| wants(key) && server.offers(capability, Some("listChanged"))),
            uris: uris.iter().take(RESOURCES_MAX).map(|uri| uri.to_vec()).collect(),
        }
    }

    /// The requests that subscribe to the resources.
    pub fn subscriptions(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.uris.iter().enumerate().map(|(nth, uri)| {
            let id = format!("\"s{nth}\"");
            let message = request(id.as_bytes(), "resources/subscribe", &[b"{\"uri\":", &uri[..], b"}"].concat());
            (id, message)
        })
    }

    /// The first message of the stream, which says what is granted.
    #[must_use]
    pub fn acknowledgement(&self) -> Vec<u8> {
        let granted = KINDS.iter().zip(self.kinds).filter(|(_, is_on)| *is_on);
        let mut filter: Vec<Vec<u8>> = granted.map(|((key, ..), _)| [&quoted(key)[..], b":true"].concat()).collect();
        if !self.uris.is_empty() {
            filter.push([b"\"resourceSubscriptions\":[", &self.uris.join(&b","[..])[..], b"]"].concat());
        }
        let parts =
            [&b"{\"notifications\":{"[..], &filter.join(&b","[..]), b"},\"_meta\":{", &self.subscription(), b"}}"];
        notification("notifications/subscriptions/acknowledged", &parts.concat())
    }

    /// A message of the server as the agent gets it; none if the agent does not listen to it.
    #[must_use]
    pub fn on_server(&self, text: &[u8]) -> Option<Vec<u8>> {
        let envelope = Envelope::read(text).ok()?;
        envelope.kind(text).filter(|kind| *kind == Message::Notification)?;
        let method = envelope.method(text)?;
        let is_wanted = match KINDS.iter().position(|(_, known, _)| *known == method) {
            Some(kind) => self.kinds[kind],
            None => method == UPDATED && !self.uris.is_empty(),
        };
        if !is_wanted {
            return None;
        }
        let message = JsonObject::read(text)?;
        let params = message.get_object("params");
        let meta = params.as_ref().and_then(|params| params.get_object("_meta"));
        let meta = match meta {
            Some(meta) => meta.edited(&[(META_SUBSCRIPTION, Some(&self.id))]),
            None => [b"{", &self.subscription()[..], b"}"].concat(),
        };
        let params = match params {
            Some(params) => params.edited(&[("_meta", Some(&meta))]),
            None => [b"{\"_meta\":", &meta[..], b"}"].concat(),
        };
        Some(message.edited(&[("params", Some(&params))]))
    }

    /// The answer at the end of the stream: the agent has to listen again.
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        let parts = [&b"{\"resultType\":\"complete\",\"_meta\":{"[..], &self.subscription(), b"}}"];
        result_message(&self.id, &parts.concat())
    }

    fn subscription(&self) -> Vec<u8> {
        [&quoted(META_SUBSCRIPTION)[..], b":", &self.id].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn listening(capabilities: &str) -> Listening {
        let answer = format!(r#"{{"result":{{"protocolVersion":"2025-11-25","capabilities":{capabilities}}}}}"#);
        let server = ServerSession::read(answer.as_bytes()).unwrap();
        let message = r#"{"id":"l1","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":false,"resourceSubscriptions":["a://b"]}}}"#;
        let call = ModernCall {
            id: b"\"l1\"".to_vec(),
            method: "subscriptions/listen".into(),
            message: message.into(),
            capabilities: b"{}".to_vec(),
            client: b"{}".to_vec(),
            log_level: None,
            progress_token: None,
            request_state: None,
            input_responses: Vec::new(),
        };
        Listening::new(&call, &server)
    }

    #[test]
    fn an_agent_gets_what_it_asks_for_and_the_server_offers() {
        let all = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true}}"#;
        let heard = listening(all);
        let key = "io.modelcontextprotocol/subscriptionId";
        let ack: Value = serde_json::from_slice(&heard.acknowledgement()).unwrap();
        let granted = json!({"toolsListChanged": true, "resourceSubscriptions": ["a://b"]});
        assert_eq!(ack["params"], json!({"notifications": granted, "_meta": {key: "l1"}}));
        let subscriptions: Vec<_> = heard.subscriptions().collect();
        let wanted = r#"{"jsonrpc":"2.0","id":"s0","method":"resources/subscribe","params":{"uri":"a://b"}}"#;
        assert_eq!(subscriptions, [("\"s0\"".to_owned(), wanted.as_bytes().to_vec())]);
        for (text, wanted) in [
            (r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#, Some(json!({"_meta": {key: "l1"}}))),
            (r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#, None),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a://b/c"}}"#,
                Some(json!({"uri": "a://b/c", "_meta": {key: "l1"}})),
            ),
            (r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None),
        ] {
            let heard = heard.on_server(text.as_bytes());
            let params = heard.map(|text| serde_json::from_slice::<Value>(&text).unwrap()["params"].clone());
            assert_eq!(params, wanted, "{text}");
        }
        let end: Value = serde_json::from_slice(&heard.end()).unwrap();
        assert_eq!((&end["id"], &end["result"]["resultType"]), (&json!("l1"), &json!("complete")));
        let none = listening("{}");
        assert!(none.subscriptions().next().is_none());
        let ack: Value = serde_json::from_slice(&none.acknowledgement()).unwrap();
        assert_eq!(ack["params"]["notifications"], json!({}));
    }
}
