//! Event streams that are passed on while their role observes them.

use std::pin::pin;

use futures_lite::future::or;

use crate::base::Time;
use crate::exchange::{BodySource, carry_body};
use crate::serve::carry_events::{EventWatch, EventsEnd, carry_events};
use crate::serve::event_stream::EndingStream;
use crate::serve::incoming::Responder;
use crate::serve::relay::{Progress, RelayError, RelayHooks, of_body};

/// Observes an event stream that is not part of a call's answer.
struct WatchedStanding<'a, H>(&'a H);

impl<H: RelayHooks> EventWatch for WatchedStanding<'_, H> {
    fn on_bytes(&mut self, bytes: &[u8]) {
        self.0.on_standing_bytes(bytes);
    }
}

/// Observes an event stream that answers a call.
struct Watched<'a, H>(&'a mut H);

impl<H: RelayHooks> EventWatch for Watched<'_, H> {
    fn on_bytes(&mut self, bytes: &[u8]) {
        self.0.on_body_bytes(bytes);
    }

    fn cuts_at(&self) -> Option<Time> {
        self.0.cuts_at()
    }
}

/// Carries an event stream that is not part of a call's answer.
pub(super) async fn carry_standing(
    body: impl BodySource,
    responder: &mut impl Responder,
    hooks: &mut impl RelayHooks,
    progress: &Progress<'_>,
) -> Result<(), RelayError> {
    let core = hooks.core().clone();
    let keepalive = hooks.sse_keepalive();
    // The stream ends when its caller's authentication expires. The caller reconnects and is authenticated again.
    let until = progress.with_label(|label| label.proven_until()).unwrap_or(Time::NEVER);
    let ends = pin!(or(hooks.streams_end(), core.sleep_until(until)));
    let mut body = EndingStream::new(body, ends);
    let carried = match keepalive {
        Some(_) => {
            let mut watch = WatchedStanding(&*hooks);
            carry_events(&mut body, responder, &core, keepalive, &mut watch).await.map(|_| ())
        }
        None => {
            let seen = |bytes: &[u8]| {
                hooks.on_standing_bytes(bytes);
                Ok(())
            };
            carry_body(&mut body, responder, seen).await
        }
    };
    progress.is_cut.set(body.has_ended_early());
    carried.map_err(of_body)
}

/// Carries an event stream that answers a call, and cuts it at its time limit.
pub(super) async fn carry_watched(
    mut body: impl BodySource,
    responder: &mut impl Responder,
    hooks: &mut impl RelayHooks,
    progress: &Progress<'_>,
) -> Result<(), RelayError> {
    let core = hooks.core().clone();
    let keepalive = hooks.sse_keepalive();
    let carried = carry_events(&mut body, responder, &core, keepalive, &mut Watched(hooks)).await;
    let can_tell = match carried.map_err(of_body)? {
        EventsEnd::Whole => return Ok(()),
        EventsEnd::Cut => true,
        EventsEnd::Broken => false,
    };
    match progress.with_label(|label| hooks.on_cut(label)).flatten().filter(|_| can_tell) {
        Some(event) => send_error_event(event, responder, progress).await,
        None => Err(RelayError::Late),
    }
}

/// Informs the caller of an answer that broke off, if possible.
pub(super) async fn send_broken_error(
    error: RelayError,
    responder: &mut impl Responder,
    hooks: &mut impl RelayHooks,
    progress: &Progress<'_>,
) -> Result<(), RelayError> {
    match progress.with_label(|label| hooks.on_broken(&error, label)).flatten() {
        Some(event) => send_error_event(event, responder, progress).await,
        None => Err(error),
    }
}

/// Sends an event with the error after the last event of the stream, and ends the stream.
async fn send_error_event(
    event: Vec<u8>,
    responder: &mut impl Responder,
    progress: &Progress<'_>,
) -> Result<(), RelayError> {
    progress.is_cut.set(true);
    responder.copy(&event).await.map_err(of_body)?;
    responder.end(std::iter::empty()).await.map_err(of_body)
}
