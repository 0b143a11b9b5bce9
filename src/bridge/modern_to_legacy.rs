//! A call of an agent of 2026-07-28 at a server with sessions.
//!
//! What the server asks its client in the meantime (`elicitation/create`, `sampling/createMessage`, `roots/list`) ends the agent's
//! request with a result that requires input. The call waits for the agent's next request, which brings the answers.

use crate::bridge::json_text::{JsonObject, array_elements, quoted};
use crate::bridge::message::{
    INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND, URL_REQUIRED, error_code, error_message,
    result_message,
};
use crate::bridge::modern_call::ModernCall;
use crate::wire::jsonrpc::Message;
use crate::wire::stdio::Envelope;

/// The most questions of a server that wait for one agent.
const QUESTIONS_MAX: usize = 32;

/// The state with which an agent repeats a call from the start, after its user has visited a page.
pub const START_AGAIN: &str = "adit-bridge-again";

/// A call at a server with sessions.
#[derive(Debug)]
pub struct ModernToLegacy {
    id: Vec<u8>,
    method: String,
    progress_token: Option<Vec<u8>>,
    has_log: bool,
    /// The id of the request in the session, as JSON text.
    inner_id: Vec<u8>,
    /// What the agent can answer: elicitation, sampling, roots.
    answers: [bool; 3],
    questions: Vec<Question>,
    next_key: u32,
}

/// A request of the server that the agent has not answered.
#[derive(Debug)]
struct Question {
    key: String,
    /// Its id at the server, as JSON text.
    id: Vec<u8>,
    method: String,
    params: Vec<u8>,
    /// Whether the agent was asked.
    is_asked: bool,
}

/// What follows from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallStep {
    /// The agent gets this message, and others follow.
    ToAgent(Vec<u8>),
    /// The server gets this message.
    ToServer(Vec<u8>),
    /// The agent gets this answer, with this status if no message went before it.
    Answer(u16, Vec<u8>),
    /// The agent is to be asked, see [`ModernToLegacy::ask`].
    Ask,
}

const QUESTION_METHODS: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];

impl ModernToLegacy {
    /// A call that is sent to the server with this id.
    #[must_use]
    pub fn new(call: &ModernCall, inner_id: &[u8]) -> ModernToLegacy {
        let capabilities = JsonObject::read(&call.capabilities);
        let can = |what: &str| capabilities.as_ref().is_some_and(|all| all.get(what).is_some());
        ModernToLegacy {
            id: call.id.clone(),
            method: call.method.clone(),
            progress_token: call.progress_token.clone(),
            has_log: call.log_level.is_some(),
            inner_id: inner_id.to_vec(),
            answers: [can("elicitation"), can("sampling"), can("roots")],
            questions: Vec::new(),
            next_key: 0,
        }
    }

    /// The method of the call.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Whether the server waits for answers.
    #[must_use]
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Takes a message of the server.
    pub fn on_server(&mut self, text: &[u8], steps: &mut Vec<CallStep>) {
        let Ok(envelope) = Envelope::read(text) else {
            return steps.push(self.failed("the server has sent a message that is not valid JSON-RPC"));
        };
        let id = envelope.id.clone().map(|range| &text[range]);
        match (envelope.kind(text), id) {
            (Some(Message::Request), Some(id)) => {
                let method = envelope.method(text).unwrap_or_default();
                self.on_question(text, id, &method, steps);
            }
            (Some(Message::Notification), _) => {
                let method = envelope.method(text).unwrap_or_default();
                steps.extend(self.notification(text, &method).map(CallStep::ToAgent));
            }
            (Some(Message::Response), Some(id)) if *id == *self.inner_id => steps.push(self.answer(text)),
            _ => {}
        }
    }

    /// The answer to the agent if the server gives none.
    #[must_use]
    pub fn failed(&self, why: &str) -> CallStep {
        CallStep::Answer(200, error_message(&self.id, INTERNAL_ERROR, why))
    }

    /// The result that asks the agent what the server asks. The agent comes back with `state`.
    #[must_use]
    pub fn ask(&mut self, state: &str) -> Vec<u8> {
        let mut requests = Vec::new();
        for question in &mut self.questions {
            question.is_asked = true;
            requests.push(input_request(&question.key, &question.method, &question.params));
        }
        input_required(&self.id, &requests, state)
    }

    /// Takes the agent's next request, with its answers to what was asked.
    pub fn on_retry(&mut self, call: &ModernCall, steps: &mut Vec<CallStep>) {
        self.id.clone_from(&call.id);
        self.progress_token.clone_from(&call.progress_token);
        let mut left = Vec::new();
        for question in self.questions.drain(..) {
            match call.input_responses.iter().find(|(key, _)| *key == question.key) {
                Some((_, answer)) => steps.push(CallStep::ToServer(result_message(&question.id, answer))),
                None => left.push(question),
            }
        }
        self.questions = left;
        if self.has_questions() {
            steps.push(CallStep::Ask);
        }
    }

    fn on_question(&mut self, text: &[u8], id: &[u8], method: &str, steps: &mut Vec<CallStep>) {
        if method == "ping" {
            return steps.push(CallStep::ToServer(result_message(id, b"{}")));
        }
        let kind = QUESTION_METHODS.iter().position(|known| *known == method);
        if !kind.is_some_and(|kind| self.answers[kind]) {
            let why = "the agent has not declared this capability";
            return steps.push(CallStep::ToServer(error_message(id, METHOD_NOT_FOUND, why)));
        }
        if self.questions.len() >= QUESTIONS_MAX {
            let why = "too many requests wait for the agent";
            return steps.push(CallStep::ToServer(error_message(id, INTERNAL_ERROR, why)));
        }
        let params = JsonObject::read(text).and_then(|message| message.get_object("params"));
        // Both have another form, or none, in the newer revision.
        let params = params.map(|params| params.edited(&[("elicitationId", None), ("task", None)]));
        self.next_key += 1;
        self.questions.push(Question {
            key: format!("q{}", self.next_key),
            id: id.to_vec(),
            method: method.to_owned(),
            params: params.unwrap_or_else(|| b"{}".to_vec()),
            is_asked: false,
        });
        steps.push(CallStep::Ask);
    }

    /// A notification as the agent gets it: those that belong to its request, and no others.
    fn notification(&self, text: &[u8], method: &str) -> Option<Vec<u8>> {
        match method {
            "notifications/message" if self.has_log => Some(text.to_vec()),
            "notifications/progress" => {
                let token = self.progress_token.as_ref()?;
                let message = JsonObject::read(text)?;
                let params = message.get_object("params")?;
                (params.get("progressToken") == Some(&self.inner_id)).then(|| {
                    let params = params.edited(&[("progressToken", Some(token))]);
                    message.edited(&[("params", Some(&params))])
                })
            }
            _ => None,
        }
    }

    fn answer(&self, text: &[u8]) -> CallStep {
        let Some(message) = JsonObject::read(text) else { return self.failed("the answer is not an object") };
        if let Some(result) = message.get_object("result") {
            let result = result_for_agent(&self.method, &result);
            return CallStep::Answer(200, message.edited(&[("id", Some(&self.id)), ("result", Some(&result))]));
        }
        let Some(error) = message.get_object("error") else {
            return self.failed("the result of the server is not an object");
        };
        let code = error_code(&error);
        if code == Some(URL_REQUIRED)
            && self.answers[0]
            && let Some(asked) = self.ask_for_visits(&error)
        {
            return CallStep::Answer(200, asked);
        }
        let missing = code == Some(RESOURCE_NOT_FOUND) && self.method == "resources/read";
        let (code, error) = match missing {
            true => (Some(INVALID_PARAMS), error.edited(&[("code", Some(b"-32602"))])),
            false => (code, error.edited(&[])),
        };
        let answer = message.edited(&[("id", Some(&self.id)), ("error", Some(&error))]);
        CallStep::Answer(if code == Some(METHOD_NOT_FOUND) { 404 } else { 200 }, answer)
    }

    /// The result that asks the user to visit the pages that an error names. The agent repeats its call after that.
    fn ask_for_visits(&self, error: &JsonObject<'_>) -> Option<Vec<u8>> {
        let data = error.get_object("data")?;
        let pages = array_elements(data.get("elicitations")?)?;
        let requests = pages.iter().take(QUESTIONS_MAX).enumerate().filter_map(|(nth, page)| {
            let params = JsonObject::read(page)?.edited(&[("elicitationId", None), ("mode", Some(b"\"url\""))]);
            Some(input_request(&format!("q{nth}"), QUESTION_METHODS[0], &params))
        });
        let requests: Vec<Vec<u8>> = requests.collect();
        (!requests.is_empty()).then(|| input_required(&self.id, &requests, START_AGAIN))
    }
}

/// The methods whose results say for how long they may be kept (2026-07-28).
const CACHEABLE: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

/// A result of a server with sessions with the members that 2026-07-28 requires. It may not be kept, as the server has not said
/// that it may.
fn result_for_agent(method: &str, result: &JsonObject<'_>) -> Vec<u8> {
    let mut edits = vec![("resultType", Some(&b"\"complete\""[..]))];
    if CACHEABLE.contains(&method) {
        edits.push(("ttlMs", Some(b"0")));
        edits.push(("cacheScope", Some(b"\"private\"")));
    }
    result.edited(&edits)
}

fn input_request(key: &str, method: &str, params: &[u8]) -> Vec<u8> {
    let parts = [&quoted(key), &b":{\"method\":"[..], &quoted(method), b",\"params\":", params, b"}"];
    parts.concat()
}

fn input_required(id: &[u8], requests: &[Vec<u8>], state: &str) -> Vec<u8> {
    let parts = [
        &b"{\"resultType\":\"input_required\",\"inputRequests\":{"[..],
        &requests.join(&b","[..]),
        b"},\"requestState\":",
        &quoted(state),
        b"}",
    ];
    result_message(id, &parts.concat())
}

#[cfg(test)]
#[path = "modern_to_legacy_tests.rs"]
mod tests;
