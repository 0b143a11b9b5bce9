//! Carries event streams to the caller. During silence it sends comments, because proxies close connections that carry
//! no data; when the deadline passes it cuts the stream.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::base::Time;
use crate::engine::{Core, StreamError, Timer};
use crate::exchange::{BodySource, CarryError, Piece};
use crate::serve::incoming::Responder;
use crate::wire::event_stream::{BOM, EventBounds};

/// A comment and the end of its block, which is no event and no part of one (WHATWG HTML, section 9.2.6).
const COMMENT: &[u8] = b":\n\n";
/// When a stream is cut within an event, how long that event may still take to end.
const EVENT_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Observes an event stream that passes.
pub(super) trait EventWatch {
    /// Bytes of the stream are about to be sent.
    fn on_bytes(&mut self, bytes: &[u8]);

    /// When the stream is to be cut, if it has a limit. Progress moves this time.
    fn cuts_at(&self) -> Option<Time> {
        None
    }
}

/// How an event stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventsEnd {
    /// The stream ended, and its end was sent.
    Whole,
    /// The stream was cut between two events. Its end was not sent.
    Cut,
    /// The stream was cut within an event.
    Broken,
}

/// Carries the body of an event stream. Sends a comment when nothing arrived for `silence_max` and the last event is
/// complete, and stops at the time that `watch` sets. All bytes of the stream are passed on as by
/// [`carry_body`](crate::exchange::carry_body).
///
/// # Errors
///
/// If either side failed.
pub(super) async fn carry_events(
    from: &mut impl BodySource,
    to: &mut impl Responder,
    core: &Core,
    silence_max: Option<Duration>,
    watch: &mut impl EventWatch,
) -> Result<EventsEnd, CarryError> {
    let mut bounds = EventBounds::default();
    let mut start = Start::default();
    let mut timer = core.timer();
    loop {
        match from.next()? {
            Piece::Data(mut data) => {
                bounds.feed(&data);
                watch.on_bytes(&data);
                let (cut, missing) = start.on_data(&data);
                data.advance(cut);
                to.copy(missing).await?;
                to.data(data).await?;
            }
            Piece::End => return to.end(from.trailers()).await.map(|()| EventsEnd::Whole),
            Piece::Wait => {
                to.flush().map_err(CarryError::To)?;
                to.ready().await.map_err(CarryError::To)?;
                let silent_at = || silence_max.map_or(Time::NEVER, |silence_max| core.turn_time() + silence_max);
                let mut comments_at = silent_at();
                let cuts_at = watch.cuts_at().unwrap_or(Time::NEVER);
                let cuts_at = if bounds.is_between() { cuts_at } else { cuts_at + EVENT_ENDS_WITHIN };
                while !more_until(from, &mut timer, comments_at.min(cuts_at)).await.map_err(CarryError::From)? {
                    if core.turn_time() >= cuts_at {
                        return Ok(if bounds.is_between() { EventsEnd::Cut } else { EventsEnd::Broken });
                    }
                    if bounds.is_between() {
                        start.on_comment();
                        to.copy(COMMENT).await?;
                        to.flush().map_err(CarryError::To)?;
                        to.ready().await.map_err(CarryError::To)?;
                    }
                    comments_at = silent_at();
                }
            }
        }
    }
}

/// Waits until more data or the end arrives; false if neither did before `until`.
async fn more_until(from: &mut impl BodySource, timer: &mut Timer, until: Time) -> Result<bool, StreamError> {
    timer.set(until);
    let mut more = pin!(from.more());
    let more = std::future::poll_fn(|cx| match more.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result.map(|()| true)),
        Poll::Pending => timer.poll_elapsed(cx).map(|()| Ok(false)),
    })
    .await;
    timer.set(Time::NEVER);
    more
}

/// The start of the stream. A byte order mark has a meaning only there, so it is left out if a comment was sent first.
#[derive(Default)]
struct Start {
    is_commented: bool,
    /// How many bytes of the mark were left out; none after other bytes.
    matched: Option<usize>,
    has_begun: bool,
}

impl Start {
    fn on_comment(&mut self) {
        self.is_commented |= !self.has_begun;
    }

    /// How many bytes at the start of the next piece to leave out, and which bytes that were left out must be sent
    /// before it because they did not begin a mark.
    fn on_data(&mut self, data: &[u8]) -> (usize, &'static [u8]) {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first && self.is_commented {
            self.matched = Some(0);
        }
        let Some(matched) = self.matched.take() else { return (0, b"") };
        let rest = &BOM[matched..];
        let same = rest.iter().zip(data).take_while(|(a, b)| a == b).count();
        if same == rest.len() {
            (same, b"")
        } else if same == data.len() {
            self.matched = Some(matched + same);
            (same, b"")
        } else {
            (0, &BOM[..matched])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pieces: &[&[u8]], is_commented: bool) -> Vec<u8> {
        let mut start = Start::default();
        if is_commented {
            start.on_comment();
        }
        let mut sent = Vec::new();
        for piece in pieces {
            let (cut, missing) = start.on_data(piece);
            sent.extend_from_slice(missing);
            sent.extend_from_slice(&piece[cut..]);
            start.on_comment();
        }
        sent
    }

    #[test]
    fn a_byte_order_mark_is_left_out_behind_a_comment_in_every_cut() {
        for (stream, without) in [
            (&b"\xef\xbb\xbfdata: a\n\n"[..], &b"data: a\n\n"[..]),
            (b"\xef\xbb\xbf\xef\xbb\xbfx", b"\xef\xbb\xbfx"),
            (b"\xef\xbbdata: a\n\n", b"\xef\xbbdata: a\n\n"),
            (b"\xefx", b"\xefx"),
            (b"data: \xef\xbb\xbf\n\n", b"data: \xef\xbb\xbf\n\n"),
        ] {
            for at in 1..stream.len() {
                let pieces = [&stream[..at], &stream[at..]];
                assert_eq!(sent(&pieces, true), without, "{} cut at {at}", stream.escape_ascii());
                assert_eq!(sent(&pieces, false), stream, "{} cut at {at}", stream.escape_ascii());
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(sent(&bytes, true), without, "{}", stream.escape_ascii());
        }
    }
}
