//! Requests of the bridge to the server, over the connections of the route.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::bridge::{EventReader, MODERN_REVISION, array_elements, names};
use crate::connector::bridge::mail::{BridgeInbox, Mail};
use crate::connector::shared::{Connector, Counters};
use crate::connector::upstream_stream::UpstreamStream;
use crate::engine::{ByteStream, Core, Task, send_bytes};
use crate::exchange::{BodySource, Http1Source, Intake, Piece};
use crate::upstream::{Upstream, UpstreamConnection};
use crate::wire::http1::{BodyDecoder, Framing, Method, RequestHead, ResponseHead};
use crate::wire::jsonrpc::Message;
use crate::wire::mcp::{METHOD, PROTOCOL_VERSION, SESSION_ID};
use crate::wire::stdio::Envelope;

/// The longest message of a server that is translated, in bytes.
pub(super) const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;
/// How long the end of a response is awaited whose answer has arrived.
const ANSWER_END_WAIT: Duration = Duration::from_millis(100);
/// The longest body of an error of a server that is passed on, in bytes.
const ERROR_LEN_MAX: usize = 64 * 1024;

/// A request to the server.
#[derive(Clone, Debug)]
pub(super) struct InnerRequest {
    pub(super) method: Method,
    /// The whole request, head and body.
    pub(super) bytes: Vec<u8>,
}

/// The head of a response of the server.
#[derive(Clone, Debug)]
pub(super) struct InnerHead {
    pub(super) status: u16,
    /// The session that it names.
    pub(super) session: Option<Box<str>>,
    pub(super) is_events: bool,
    pub(super) is_json: bool,
    /// The fields that an agent needs of a refusal, as lines of a head.
    pub(super) fields: Vec<u8>,
}

/// How a response has ended.
#[derive(Clone, Debug)]
pub(super) enum InnerEnd {
    /// It is complete. The last event had this id, if it had one.
    Complete(Option<Vec<u8>>),
    /// It could not be had, or not as a whole.
    Failed(String),
}

/// A request whose response arrives in an inbox. Dropping it closes the connection.
pub(super) struct InnerCall {
    pub(super) inbox: Rc<BridgeInbox>,
    _task: Task<()>,
}

impl InnerCall {
    pub(super) fn new(inbox: Rc<BridgeInbox>, task: Task<()>) -> InnerCall {
        InnerCall { inbox, _task: task }
    }
}

/// The fields of a request that the bridge sets itself, or that belong to the agent's connection.
const OWN_FIELDS: [&[u8]; 17] = [
    b"accept",
    b"accept-encoding",
    b"adit-time-left",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"keep-alive",
    b"last-event-id",
    b"mcp-method",
    b"mcp-name",
    b"mcp-protocol-version",
    b"mcp-session-id",
    b"te",
    b"transfer-encoding",
    b"upgrade",
];

/// The fields of an agent's request that go to the server as they are, as lines of a head. Its credentials are among them.
pub(super) fn kept_fields(head: &RequestHead) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in head.headers() {
        let lower = name.to_ascii_lowercase();
        if OWN_FIELDS.binary_search(&&lower[..]).is_err() && !lower.starts_with(b"mcp-param-") {
            [name, b": ", value, b"\r\n"].iter().for_each(|part| lines.extend_from_slice(part));
        }
    }
    lines
}

impl InnerRequest {
    /// A message. `own` are further fields, as lines of a head.
    pub(super) fn post(target: &[u8], kept: &[u8], own: &str, message: &[u8]) -> InnerRequest {
        let more = format!(
            "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{own}Content-Length: {}\r\n\r\n",
            message.len()
        );
        let bytes = [b"POST ", target, b" HTTP/1.1\r\n", kept, more.as_bytes(), message].concat();
        InnerRequest { method: Method::Post, bytes }
    }

    /// A request for a stream of events.
    pub(super) fn get(target: &[u8], kept: &[u8], own: &str) -> InnerRequest {
        let more = format!("Accept: text/event-stream\r\n{own}\r\n");
        InnerRequest { method: Method::Get, bytes: [b"GET ", target, b" HTTP/1.1\r\n", kept, more.as_bytes()].concat() }
    }

    /// The end of a session.
    pub(super) fn delete(target: &[u8], kept: &[u8], own: &str) -> InnerRequest {
        let bytes = [b"DELETE ", target, b" HTTP/1.1\r\n", kept, own.as_bytes(), b"\r\n"].concat();
        InnerRequest { method: Method::Delete, bytes }
    }
}

/// The bridge as a client of the server.
pub(super) struct InnerClient {
    pub(super) core: Core,
    connector: Arc<Connector>,
    upstream: Rc<Upstream>,
}

impl InnerClient {
    pub(super) fn new(core: Core, connector: Arc<Connector>, upstream: Upstream) -> InnerClient {
        InnerClient { core, connector, upstream: Rc::new(upstream) }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.connector.counters
    }

    /// The connections to the server.
    pub(super) fn upstream(&self) -> &Rc<Upstream> {
        &self.upstream
    }

    /// Sends a request, whose response arrives in `inbox`.
    pub(super) fn start(&self, request: InnerRequest, inbox: Rc<BridgeInbox>) -> InnerCall {
        let (upstream, to, own) = (Rc::clone(&self.upstream), Rc::clone(&inbox), self.core.clone());
        let task = self.core.spawn_held(async move {
            let end = carry(&own, &upstream, &request, &to).await;
            to.send(Mail::End(end)).await;
        });
        InnerCall::new(inbox, task)
    }

    /// Sends a request; returns the head of its response, and the first answer in it or its body.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(super) async fn ask(&self, request: InnerRequest) -> Result<(InnerHead, Option<Vec<u8>>), String> {
        let call = self.start(request, Rc::default());
        let mut head = None;
        loop {
            match (call.inbox.next().await, head) {
                (Mail::Head(found), _) => head = Some(found),
                (Mail::Message(message), Some(found)) => {
                    if !found.is_events || is_response(&message) {
                        // A short answer is read to its end, so that its connection can be used again.
                        let rest = async { while !matches!(call.inbox.next().await, Mail::End(_)) {} };
                        let _ = self.core.timeout(ANSWER_END_WAIT, rest).await;
                        return Ok((found, Some(message)));
                    }
                    head = Some(found);
                }
                (Mail::Body(body), Some(found)) => return Ok((found, Some(body))),
                (Mail::End(InnerEnd::Failed(why)), _) => return Err(why),
                (Mail::End(_), Some(found)) => return Ok((found, None)),
                (Mail::End(_), None) => return Err("the server does not answer".to_owned()),
                (_, found) => head = found,
            }
        }
    }
}

/// Whether a message is a response.
pub(super) fn is_response(message: &[u8]) -> bool {
    Envelope::read(message).is_ok_and(|envelope| envelope.kind(message) == Some(Message::Response))
}

/// The fields that every request of 2026-07-28 has, as lines of a head.
pub(super) fn modern_fields(method: &str) -> String {
    format!("{PROTOCOL_VERSION}: {MODERN_REVISION}\r\n{METHOD}: {method}\r\n")
}

/// Sends a request and reads its response. A request that has certainly not reached the server on a reused connection is sent
/// once more.
async fn carry(core: &Core, upstream: &Upstream, request: &InnerRequest, to: &BridgeInbox) -> InnerEnd {
    let mut is_second = false;
    loop {
        let taken = if is_second { upstream.connect().await } else { upstream.checkout().await };
        let checkout = match taken {
            Ok(checkout) => checkout,
            Err(error) => return InnerEnd::Failed(error.to_string()),
        };
        let was_used = checkout.connect.is_none();
        let (end, is_unsent) = match checkout.connection {
            UpstreamConnection::Http(connection) => {
                let (end, rest) = exchange(core, &connection, request, to).await;
                match rest {
                    Rest::Reusable(idle) => connection.give_back(idle),
                    Rest::Over => connection.connection().abort(),
                }
                end
            }
            UpstreamConnection::Http2(stream) => {
                let (end, rest) = exchange(core, &*stream, request, to).await;
                if matches!(rest, Rest::Over) {
                    stream.abort();
                }
                end
            }
        };
        if !is_unsent || !was_used || is_second {
            return end;
        }
        is_second = true;
    }
}

/// What becomes of the connection.
enum Rest {
    Reusable(Option<Duration>),
    Over,
}

/// One exchange on a connection; returns how it has ended, and whether the request has certainly not reached the server.
async fn exchange<U: UpstreamStream>(
    core: &Core,
    upstream: &U,
    request: &InnerRequest,
    to: &BridgeInbox,
) -> ((InnerEnd, bool), Rest) {
    let stream = upstream.stream();
    let sent_before = sent_before(upstream);
    let (mut intake, mut head) = (Intake::default(), ResponseHead::new());
    let read = async {
        send_bytes(stream, core.pool(), &request.bytes).await.map_err(|error| error.to_string())?;
        loop {
            match intake.response_head(stream, &mut head, request.method).await {
                Ok(true) if head.is_interim() => head.clear(),
                Ok(true) => return Ok(()),
                Ok(false) => return Err("it has closed the connection without an answer".to_owned()),
                Err(error) => return Err(format!("{error:?}")),
            }
        }
    };
    if let Err(why) = read.await {
        let is_unsent = upstream.has_sent_nothing(core, sent_before).await;
        return ((InnerEnd::Failed(format!("the server does not answer: {why}")), is_unsent), Rest::Over);
    }
    let known = InnerHead::of(&head);
    to.send(Mail::Head(known.clone())).await;
    let mut decoder = BodyDecoder::new(head.framing());
    let end = body(stream, &mut intake, &mut decoder, &known, to).await;
    let is_reusable = head.keep_alive() && head.framing() != Framing::UntilClose && !intake.has_rest();
    match end {
        Ok(last_id) => {
            let rest = if is_reusable { Rest::Reusable(head.idle_timeout()) } else { Rest::Over };
            ((InnerEnd::Complete(last_id), false), rest)
        }
        Err(why) => ((InnerEnd::Failed(why), false), Rest::Over),
    }
}

fn sent_before<U: UpstreamStream>(upstream: &U) -> u64 {
    use crate::exchange::PeerProgress as _;
    upstream.stream().sent_bytes()
}

/// Reads the body of a response; returns the id of its last event.
async fn body<S: ByteStream>(
    stream: &S,
    intake: &mut Intake,
    decoder: &mut BodyDecoder,
    head: &InnerHead,
    to: &BridgeInbox,
) -> Result<Option<Vec<u8>>, String> {
    let mut source = Http1Source::new(stream, intake, decoder);
    let (mut events, mut whole, mut last_id) = (EventReader::new(ANSWER_LEN_MAX), Vec::new(), None);
    let len_max = if head.is_json { ANSWER_LEN_MAX } else { ERROR_LEN_MAX };
    loop {
        match source.next().map_err(|error| error.to_string())? {
            Piece::Data(data) if head.is_events => {
                let mut found = Vec::new();
                events.feed(&data, |event| found.push(event)).map_err(|_| TOO_LONG.to_owned())?;
                drop(data);
                for event in found {
                    last_id = event.id.or(last_id);
                    match event.kind.as_str() {
                        // The first event of some servers has an id and no data.
                        "message" if event.data.is_empty() => {}
                        "message" => messages(event.data, to).await,
                        _ => to.send(Mail::Event(event.kind, event.data)).await,
                    }
                }
            }
            Piece::Data(data) => {
                if whole.len() + data.len() > len_max {
                    return Err(TOO_LONG.to_owned());
                }
                whole.extend_from_slice(&data);
            }
            Piece::Wait => source.more().await.map_err(|error| error.to_string())?,
            Piece::End => break,
        }
    }
    match head.is_json {
        _ if whole.is_empty() => {}
        true => messages(whole, to).await,
        false => to.send(Mail::Body(whole)).await,
    }
    Ok(last_id)
}

const TOO_LONG: &str = "the answer of the server is too long to be translated";

/// Passes on a message, or the messages of a batch (2025-03-26).
async fn messages(text: Vec<u8>, to: &BridgeInbox) {
    let is_batch = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let is_valid = is_batch && serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
    match array_elements(&text).filter(|_| is_valid) {
        Some(elements) => {
            for element in elements {
                to.send(Mail::Message(element.to_vec())).await;
            }
        }
        None => to.send(Mail::Message(text)).await,
    }
}

impl InnerHead {
    fn of(head: &ResponseHead) -> InnerHead {
        let text = |value: &[u8]| std::str::from_utf8(value).ok().map(Into::into);
        let is = |kind: &[u8]| head.get("content-type").is_some_and(|found| names(found, kind));
        let mut fields = Vec::new();
        for name in ["Content-Type", "WWW-Authenticate", "Retry-After"] {
            if let Some(value) = head.get(name) {
                [name.as_bytes(), b": ", value, b"\r\n"].iter().for_each(|part| fields.extend_from_slice(part));
            }
        }
        InnerHead {
            status: head.status(),
            session: head.get(SESSION_ID).and_then(text),
            // Some servers say the length of a stream that is complete.
            is_events: head.status() == 200 && is(b"text/event-stream"),
            is_json: is(b"application/json"),
            fields,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_the_server_and_fields_of_the_era_do_not() {
        assert!(OWN_FIELDS.is_sorted());
        let mut head = RequestHead::new();
        head.feed(
            b"POST /mcp HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nMcp-Method: y\r\nX-Own: 1\r\nContent-Length: 9\r\n\
              Mcp-Param-A: b\r\nAccept: c\r\nX-Own: 2\r\n\r\n",
        )
        .unwrap();
        let kept = kept_fields(&head);
        assert_eq!(kept, b"Host: a\r\nAuthorization: Bearer x\r\nX-Own: 1\r\nX-Own: 2\r\n");
        let request = InnerRequest::post(b"/mcp?a", &kept, "Mcp-Method: z\r\n", b"{}");
        let text = String::from_utf8(request.bytes).unwrap();
        assert!(text.starts_with("POST /mcp?a HTTP/1.1\r\nHost: a\r\n"), "{text}");
        assert!(text.ends_with("Mcp-Method: z\r\nContent-Length: 2\r\n\r\n{}"), "{text}");
    }
}
