//! A call of an agent with sessions at a server of 2026-07-28.
//!
//! If the server requires input, the agent gets requests on the stream of its call. With its answers the call is sent to the server
//! once more.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bridge::handshake::{AgentHello, meta_members};
use crate::bridge::json_text::{JsonObject, quoted};
use crate::bridge::message::{
    BridgeRefusal, INTERNAL_ERROR, INVALID_PARAMS, META_LOG_LEVEL, META_SUBSCRIPTION, METHOD_NOT_FOUND, error_message,
    request,
};
use crate::wire::jsonrpc::Message;
use crate::wire::stdio::Envelope;

/// How often a server may ask for input in one call.
const ROUNDS_MAX: u32 = 16;
/// The most questions of one round.
const QUESTIONS_OF_ROUND_MAX: usize = 32;
/// The pause before a call is sent again if the server has asked nothing but to come back.
const COME_BACK_PAUSE: Duration = Duration::from_millis(200);

/// The methods of sessions that a server of 2026-07-28 has too.
const COMMON_METHODS: [&str; 8] = [
    "completion/complete",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "tools/call",
    "tools/list",
];

/// A call at a server without sessions.
#[derive(Debug)]
pub struct LegacyToModern {
    id: Vec<u8>,
    method: String,
    /// The request as the server gets it in the first round.
    request: Vec<u8>,
    round: u32,
    questions: Vec<OpenQuestion>,
    /// The state that the server wants back, as JSON text.
    state: Option<Vec<u8>>,
}

/// A request to the agent.
#[derive(Debug)]
struct OpenQuestion {
    /// The key of the server.
    key: String,
    /// The id of the request to the agent.
    id: u64,
    answer: Option<Vec<u8>>,
}

/// What follows from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyStep {
    /// The agent gets this message, and others follow.
    ToAgent(Vec<u8>),
    /// The agent gets this request, and its answer is awaited under this id.
    Question(u64, Vec<u8>),
    /// The agent gets this answer, after which nothing follows.
    Answer(Vec<u8>),
    /// The call is sent again after this pause, see [`LegacyToModern::request`].
    Again(Duration),
}

/// A request for a server without sessions, and what its head repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModernRequest {
    /// The message as it is sent.
    pub message: Vec<u8>,
    /// The method, for `Mcp-Method`.
    pub method: String,
    /// The tool, prompt or resource, for `Mcp-Name`, encoded as a field requires.
    pub name: Option<String>,
}

/// Whether both eras have this method.
#[must_use]
pub fn is_common_method(method: &str) -> bool {
    COMMON_METHODS.contains(&method)
}

impl LegacyToModern {
    /// A call of an agent. `log_level` is the one that it has asked for.
    ///
    /// # Errors
    ///
    /// If the newer revision has no such method.
    pub fn new(
        message: &[u8],
        id: &[u8],
        method: &str,
        agent: &AgentHello,
        log_level: Option<&str>,
    ) -> Result<LegacyToModern, BridgeRefusal> {
        if !is_common_method(method) {
            let why = format!("the server speaks revision 2026-07-28 of MCP, which has no equivalent of {method}");
            return Err(BridgeRefusal::new(200, METHOD_NOT_FOUND, &why));
        }
        let unreadable = || BridgeRefusal::new(200, INVALID_PARAMS, "params must be an object");
        let all = JsonObject::read(message).ok_or_else(unreadable)?;
        let params_text = all.get("params").unwrap_or(b"{}");
        let params = JsonObject::read(params_text).ok_or_else(unreadable)?;
        let own = [b"{", &meta_members(&agent.client, &agent.capabilities)[..], b"}"].concat();
        let own = JsonObject::read(&own).ok_or_else(unreadable)?;
        let level = log_level.map(quoted);
        let pairs: Vec<_> = own.members().collect();
        let mut edits: Vec<(&str, Option<&[u8]>)> = pairs.iter().map(|(key, value)| (&**key, Some(*value))).collect();
        edits.push((META_LOG_LEVEL, level.as_deref()));
        let meta = JsonObject::read(params.get("_meta").unwrap_or(b"{}")).ok_or_else(unreadable)?.edited(&edits);
        // A task of 2025-11-25 has no equivalent, and the server has not offered any.
        let params =
            params.edited(&[("_meta", Some(&meta)), ("task", None), ("inputResponses", None), ("requestState", None)]);
        Ok(LegacyToModern {
            id: id.to_vec(),
            method: method.to_owned(),
            request: all.edited(&[("params", Some(&params))]),
            round: 1,
            questions: Vec::new(),
            state: None,
        })
    }

    /// The request for the server, in the present round.
    #[must_use]
    pub fn request(&self) -> ModernRequest {
        let id = self.round.to_string();
        let message = JsonObject::read(&self.request).map(|message| {
            let pair = |question: &OpenQuestion| {
                let answer = question.answer.as_deref()?;
                Some([&quoted(&question.key)[..], b":", answer].concat())
            };
            let pairs: Vec<Vec<u8>> = self.questions.iter().filter_map(pair).collect();
            let responses = [b"{", &pairs.join(&b","[..])[..], b"}"].concat();
            let responses = (!pairs.is_empty()).then_some(&responses[..]);
            let params = message
                .get_object("params")
                .map(|params| params.edited(&[("inputResponses", responses), ("requestState", self.state.as_deref())]));
            message.edited(&[("id", Some(id.as_bytes())), ("params", params.as_deref())])
        });
        ModernRequest {
            message: message.unwrap_or_default(),
            name: self.target().map(|target| field_value(&target)),
            method: self.method.clone(),
        }
    }

    /// Takes a message of the server. `next_id` is the next id of a request to the agent.
    pub fn on_server(&mut self, text: &[u8], next_id: &mut u64, steps: &mut Vec<LegacyStep>) {
        let Ok(envelope) = Envelope::read(text) else {
            return steps.push(self.failed("the server has sent a message that is not valid JSON-RPC"));
        };
        match envelope.kind(text) {
            Some(Message::Notification) => steps.push(LegacyStep::ToAgent(text.to_vec())),
            Some(Message::Response) => self.on_answer(text, next_id, steps),
            // A server of this revision sends no requests.
            _ => {}
        }
    }

    /// Processes the agent's response to a request of the server. Returns false if no such request is open.
    pub fn on_agent(&mut self, id: u64, answer: &[u8], steps: &mut Vec<LegacyStep>) -> bool {
        let Some(question) = self.questions.iter_mut().find(|question| question.id == id && question.answer.is_none())
        else {
            return false;
        };
        let answer = JsonObject::read(answer);
        match answer.as_ref().and_then(|answer| answer.get("result")) {
            Some(result) => question.answer = Some(result.to_vec()),
            None => {
                // The agent will not answer, which the newer revision cannot say.
                let error = answer.as_ref().and_then(|answer| answer.get("error")).unwrap_or(b"{}");
                let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", &self.id[..], b",\"error\":", error, b"}"];
                steps.push(LegacyStep::Answer(parts.concat()));
                return true;
            }
        }
        if self.questions.iter().all(|question| question.answer.is_some()) {
            steps.push(LegacyStep::Again(Duration::ZERO));
        }
        true
    }

    /// The answer to the agent if the server gives none.
    #[must_use]
    pub fn failed(&self, why: &str) -> LegacyStep {
        LegacyStep::Answer(error_message(&self.id, INTERNAL_ERROR, why))
    }

    fn on_answer(&mut self, text: &[u8], next_id: &mut u64, steps: &mut Vec<LegacyStep>) {
        let Some(message) = JsonObject::read(text) else { return };
        let Some(result) = message.get_object("result") else {
            return steps.push(LegacyStep::Answer(message.edited(&[("id", Some(&self.id))])));
        };
        match result.get_text("resultType").as_deref() {
            None | Some("complete") => {
                let result = result.edited(&[("resultType", None), ("ttlMs", None), ("cacheScope", None)]);
                steps.push(LegacyStep::Answer(message.edited(&[("id", Some(&self.id)), ("result", Some(&result))])));
            }
            Some("input_required") => self.on_input_required(&result, next_id, steps),
            Some(other) => {
                let why = format!("the server answers with a result of type {other}, which the agent's revision lacks");
                steps.push(self.failed(&why));
            }
        }
    }

    fn on_input_required(&mut self, result: &JsonObject<'_>, next_id: &mut u64, steps: &mut Vec<LegacyStep>) {
        self.round += 1;
        if self.round > ROUNDS_MAX {
            return steps.push(self.failed("the server asks for input again and again"));
        }
        self.state = result.get("requestState").map(<[u8]>::to_vec);
        self.questions.clear();
        let requests = result.get_object("inputRequests");
        for (key, asked) in requests.iter().flat_map(JsonObject::members) {
            let asked = JsonObject::read(asked);
            let method = asked.as_ref().and_then(|asked| asked.get_text("method"));
            let (Some(asked), Some(method)) = (asked, method) else {
                return steps.push(self.failed("the server asks for input in a form that is not known"));
            };
            if self.questions.len() >= QUESTIONS_OF_ROUND_MAX {
                return steps.push(self.failed("the server asks for too much input at one time"));
            }
            *next_id += 1;
            let id = *next_id;
            steps.push(LegacyStep::Question(id, question(id, &method, &asked)));
            self.questions.push(OpenQuestion { key: key.into_owned(), id, answer: None });
        }
        if self.questions.is_empty() {
            steps.push(LegacyStep::Again(COME_BACK_PAUSE));
        }
    }

    /// The name that `Mcp-Name` repeats.
    fn target(&self) -> Option<String> {
        let key = match self.method.as_str() {
            "tools/call" | "prompts/get" => "name",
            "resources/read" => "uri",
            _ => return None,
        };
        JsonObject::read(&self.request)?.get_object("params")?.get_text(key)
    }
}

/// The request to an agent. The older revisions know a page that a user is to visit by an id.
fn question(id: u64, method: &str, asked: &JsonObject<'_>) -> Vec<u8> {
    let params = asked.get_object("params");
    let is_page = method == "elicitation/create"
        && params.as_ref().is_some_and(|params| params.get_text("mode").as_deref() == Some("url"));
    let page = quoted(&format!("adit-bridge-{id}"));
    let edits = [("elicitationId", Some(&page[..]))];
    let params = params.map(|params| params.edited(if is_page { &edits } else { &[] }));
    request(id.to_string().as_bytes(), method, params.as_deref().unwrap_or(b"{}"))
}

/// A name as the value of a field (2026-07-28, "Header value encoding").
pub(super) fn field_value(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let is_trimmed = name.trim() == name && !name.is_empty();
    match is_plain && is_trimmed && !name.starts_with("=?base64?") {
        true => name.to_owned(),
        false => format!("=?base64?{}?=", STANDARD.encode(name)),
    }
}

/// The request for the stream of notifications of a session.
#[must_use]
pub fn listen_request(id: u64, agent: &AgentHello, wanted: &[&str], uris: &[String]) -> Vec<u8> {
    let mut filter: Vec<Vec<u8>> = wanted.iter().map(|kind| [&quoted(kind)[..], b":true"].concat()).collect();
    if !uris.is_empty() {
        let uris: Vec<Vec<u8>> = uris.iter().map(|uri| quoted(uri)).collect();
        filter.push([b"\"resourceSubscriptions\":[", &uris.join(&b","[..])[..], b"]"].concat());
    }
    let meta = meta_members(&agent.client, &agent.capabilities);
    let parts = [&b"{\"notifications\":{"[..], &filter.join(&b","[..]), b"},\"_meta\":{", &meta, b"}}"];
    request(id.to_string().as_bytes(), "subscriptions/listen", &parts.concat())
}

/// A notification of such a stream as an agent with sessions gets it; none if the stream itself is meant.
#[must_use]
pub fn notification_for_session(text: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::read(text).ok().filter(|envelope| envelope.kind(text) == Some(Message::Notification))?;
    let method = envelope.method(text)?;
    if method == "notifications/subscriptions/acknowledged" || method == "notifications/cancelled" {
        return None;
    }
    let message = JsonObject::read(text)?;
    let Some(params) = message.get_object("params") else { return Some(text.to_vec()) };
    let meta = params.get_object("_meta").map(|meta| meta.edited(&[(META_SUBSCRIPTION, None)]));
    let meta = meta.filter(|meta| JsonObject::read(meta).is_some_and(|meta| !meta.is_empty()));
    let params = params.edited(&[("_meta", meta.as_deref())]);
    Some(message.edited(&[("params", Some(&params))]))
}

#[cfg(test)]
#[path = "legacy_to_modern_tests.rs"]
mod tests;
