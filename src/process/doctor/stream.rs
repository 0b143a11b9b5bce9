//! Checks whether events arrive as they are sent. An MCP server cannot be asked to send events at known times.
//! Therefore the stream on which it sends events by itself is read twice at once: through the tunnel and directly from
//! the server. Events that arrive directly but not through the tunnel are held back on the way.

use std::time::{Duration, Instant};

use futures_lite::future;
use reqwest::header::ACCEPT;
use reqwest::{Client, StatusCode};
use tokio::time::timeout;

use crate::control::micros;
use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::mcp::{SESSION, end_session, initialize};
use crate::wire::sse::Splitter;

/// How long to read a stream, from its head on.
const LISTENING: Duration = Duration::from_secs(6);
/// This many pieces in a row show that events arrive as they are sent.
const PIECES_WANTED: usize = 3;
/// How much later than directly from the server events may arrive outside.
const LATE_MAX: Duration = Duration::from_secs(2);

/// A source of events to read.
pub(super) struct EventSource<'a> {
    /// The name of the check.
    pub(super) check: &'static str,
    /// The HTTP client that opens the stream.
    pub(super) client: &'a Client,
    /// The URL of the MCP endpoint.
    pub(super) url: &'a str,
}

/// What was received on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Received {
    /// The number of events in each piece that arrived; 0 for a part of one.
    pieces: Vec<u64>,
    /// When [`PIECES_WANTED`] pieces had arrived.
    flowing: Option<Instant>,
    ended: bool,
}

/// How the events of a stream arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// One piece after the other.
    Spaced,
    /// Several events at once, and none by itself.
    Batched(u64),
    /// Too few events to tell.
    Unclear,
}

/// Reads the stream on which a server sends events by itself: outside and, if `near` is given, directly from the
/// server.
pub(super) async fn check_stream(findings: &mut Findings, far: &EventSource<'_>, near: Option<&EventSource<'_>>) {
    let Some(mut outside) = open(findings, far).await else { return };
    let mut beside = match near {
        Some(near) => open(findings, near).await,
        None => None,
    };
    listen(&mut outside, beside.as_mut()).await;
    if let (Some(near), Some(stream)) = (near, &beside) {
        report_near(findings, near, &stream.received);
    }
    report_far(findings, far, &outside, beside.as_ref().map(|stream| &stream.received));
    outside.close(far).await;
    if let (Some(near), Some(stream)) = (near, beside) {
        stream.close(near).await;
    }
}

/// An open stream of events.
struct Stream {
    answer: reqwest::Response,
    session: Option<String>,
    /// How long its head took to arrive.
    head: Duration,
    splitter: Splitter,
    received: Received,
}

/// Opens a stream. Something that buffers the response also delays the head.
async fn open(findings: &mut Findings, source: &EventSource<'_>) -> Option<Stream> {
    let EventSource { check, client, url } = *source;
    let session = initialize(client, url).await.ok().and_then(|first| first.session().map(str::to_owned));
    let mut request = client.get(url).header(ACCEPT, "text/event-stream");
    if let Some(session) = &session {
        request = request.header(SESSION, session);
    }
    let began = Instant::now();
    match timeout(ANSWER_TIMEOUT, request.send()).await {
        Ok(Ok(answer)) if answer.status().is_success() => {
            let (head, splitter, received) = (began.elapsed(), Splitter::new(), Received::default());
            return Some(Stream { answer, session, head, splitter, received });
        }
        Ok(Ok(answer)) if answer.status() == StatusCode::METHOD_NOT_ALLOWED => {
            findings.ok(check, "the server has no stream of its own to try (405)");
        }
        Ok(Ok(answer)) => findings.ok(check, format!("no stream was opened to try ({})", answer.status())),
        Ok(Err(error)) => findings.warn(check, format!("a stream of events broke: {error}"), "try again"),
        Err(_) => findings.fail(
            check,
            format!(
                "a stream of events did not begin within {} s: something on the way holds it back",
                ANSWER_TIMEOUT.as_secs()
            ),
            REMEDY,
        ),
    }
    if let Some(session) = session {
        end_session(client, url, &session).await;
    }
    None
}

const REMEDY: &str =
    "switch off response buffering in whatever stands in front of the edge (nginx: proxy_buffering off)";

/// Reads both streams until enough is known.
async fn listen(outside: &mut Stream, mut beside: Option<&mut Stream>) {
    let end = Instant::now() + LISTENING;
    loop {
        let near = beside.as_ref().map(|stream| &stream.received);
        let Some(left) = time_left(&outside.received, near, Instant::now(), end) else { return };
        let next = async {
            match beside.as_deref_mut() {
                Some(beside) => future::or(outside.receive(), beside.receive()).await,
                None => outside.receive().await,
            }
        };
        // Whether something arrived or the time is over, the loop checks again.
        let _ = timeout(left, next).await;
    }
}

/// How long it is still worth reading, at most; `None` when enough is known.
fn time_left(far: &Received, near: Option<&Received>, now: Instant, end: Instant) -> Option<Duration> {
    let both_flow = far.flowing.is_some() && near.is_none_or(|near| near.flowing.is_some() || near.ended);
    if both_flow || (far.ended && near.is_none_or(|near| near.ended)) {
        return None;
    }
    let end = match near.and_then(|near| near.flowing) {
        Some(flowing) if far.flowing.is_none() => end.min(flowing + LATE_MAX),
        _ => end,
    };
    Some(end.saturating_duration_since(now)).filter(|left| !left.is_zero())
}

impl Stream {
    /// Waits for the next piece; forever once the stream has ended.
    async fn receive(&mut self) {
        if self.received.ended {
            return std::future::pending().await;
        }
        // Cancelling loses nothing: a piece that was not taken stays in the response.
        match self.answer.chunk().await {
            Ok(Some(piece)) => {
                let events = self.splitter.feed(&piece);
                self.received.add(events, Instant::now());
            }
            Ok(None) | Err(_) => self.received.ended = true,
        }
    }

    async fn close(self, source: &EventSource<'_>) {
        let Stream { answer, session, .. } = self;
        drop(answer);
        if let Some(session) = session {
            end_session(source.client, source.url, &session).await;
        }
    }
}

impl Received {
    fn add(&mut self, events: u64, now: Instant) {
        self.pieces.push(events);
        if self.pieces.len() == PIECES_WANTED {
            self.flowing = Some(now);
        }
    }

    fn flow(&self) -> Flow {
        if self.flowing.is_some() {
            return Flow::Spaced;
        }
        match self.pieces.iter().copied().max() {
            Some(events) if events >= PIECES_WANTED as u64 => Flow::Batched(events),
            _ => Flow::Unclear,
        }
    }
}

fn report_near(findings: &mut Findings, near: &EventSource<'_>, received: &Received) {
    match received.flow() {
        Flow::Spaced => findings.ok(near.check, format!("{} sends events one by one", near.url)),
        Flow::Batched(events) => findings.warn(
            near.check,
            format!("{} sent {events} events at once and none before: it may hold them back", near.url),
            "let the MCP server flush each event, and switch off buffering in whatever stands in front of it",
        ),
        Flow::Unclear => {
            findings.ok(near.check, format!("{} sent no events within {} s to time", near.url, LISTENING.as_secs()));
        }
    }
}

fn report_far(findings: &mut Findings, far: &EventSource<'_>, stream: &Stream, near: Option<&Received>) {
    let head = format!("a stream of events began within {:.0} µs", micros(stream.head));
    let found = match (stream.received.flow(), near.map(Received::flow)) {
        (Flow::Spaced, _) => return findings.ok(far.check, format!("{head}, and its events come one by one")),
        (Flow::Batched(events), Some(Flow::Spaced)) => {
            format!("{head}, but {events} events came at once that the server sent one by one")
        }
        (Flow::Unclear, Some(Flow::Spaced)) => {
            format!("{head}, but events that the server sent did not come within {} s", LATE_MAX.as_secs())
        }
        (Flow::Batched(events), _) => {
            let found = format!("{head}, but {events} events came at once and none before");
            let remedy = "if the server sends them one by one, something holds them back: ";
            return findings.warn(far.check, found, format!("{remedy}{REMEDY}"));
        }
        (Flow::Unclear, _) => {
            let nothing = format!("{head}; no events came within {} s to time", LISTENING.as_secs());
            return findings.ok(far.check, nothing);
        }
    };
    findings.fail(far.check, format!("{found}: something on the way holds them back"), REMEDY);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(pieces: &[u64], at: Instant) -> Received {
        let mut received = Received::default();
        pieces.iter().for_each(|events| received.add(*events, at));
        received
    }

    #[test]
    fn pieces_one_after_the_other_are_a_flow_and_many_events_in_one_are_a_lump() {
        let now = Instant::now();
        assert_eq!(received(&[1, 1, 1], now).flow(), Flow::Spaced);
        assert_eq!(received(&[0, 0, 0], now).flow(), Flow::Spaced, "comments that keep it alive");
        assert_eq!(received(&[0, 5], now).flow(), Flow::Batched(5));
        assert_eq!(
            [received(&[], now).flow(), received(&[2], now).flow(), received(&[1, 1], now).flow()],
            [Flow::Unclear; 3]
        );
    }

    #[test]
    fn it_is_listened_until_both_flow_or_one_is_late() {
        let now = Instant::now();
        let end = now + LISTENING;
        let (flows, silent) = (received(&[1, 1, 1], now), Received::default());
        assert_eq!(time_left(&flows, Some(&flows), now, end), None);
        assert_eq!(time_left(&flows, None, now, end), None);
        assert_eq!(time_left(&silent, Some(&silent), now, end), Some(LISTENING));
        assert_eq!(time_left(&flows, Some(&silent), now, end), Some(LISTENING));
        assert_eq!(time_left(&silent, Some(&flows), now, end), Some(LATE_MAX));
        assert_eq!(time_left(&silent, Some(&flows), now + LATE_MAX, end), None);
        assert_eq!(time_left(&silent, None, end, end), None);
        let over = Received { ended: true, ..Received::default() };
        assert_eq!(time_left(&over, Some(&over), now, end), None);
    }
}
