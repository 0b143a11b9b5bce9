//! The streams of a session: the one that a GET opens, and those that have broken off and are resumed.

use std::rc::Rc;

use crate::exchange::{ExchangeEnd, LAST_CHUNK, event_stream_head};
use crate::stdio::exchange::{HttpExchange, INVALID_REQUEST, SessionUse, accepts};
use crate::stdio::mail::{Mail, event};
use crate::stdio::reply::Reply;
use crate::stdio::running_child::{OpenExchange, RunningChild};
use crate::stdio::session::{EventPlace, GET_STREAM, Session};
use crate::wire::mcp::SESSION_ID;

/// The field with which an agent names the last event that it has received.
const LAST_EVENT_ID: &str = "Last-Event-ID";

impl HttpExchange<'_> {
    /// Serves the stream of a session, or what follows on one that has broken off.
    pub(super) async fn get(&mut self) -> Result<(), ExchangeEnd> {
        if !accepts(&self.buffers.head, b"text/event-stream") {
            return self
                .refuse(Reply::error(406, INVALID_REQUEST, "a GET gets an event stream: accept text/event-stream"))
                .await;
        }
        let used = match self.children(false) {
            Ok(used) => used,
            Err(why) => return self.refuse(self.no_children(why)).await,
        };
        let child = match self.child_of(&used).await? {
            Ok(child) => child,
            Err(reply) => return self.refuse(reply).await,
        };
        let session = match self.session_for(&child, false) {
            Ok(Some(session)) => session,
            Ok(None) => return Err(ExchangeEnd::NoAnswer),
            Err(reply) => return self.refuse(reply).await,
        };
        let last = self.buffers.head.get_only(LAST_EVENT_ID).and_then(EventPlace::parse);
        self.write(&event_stream_head(&format!("{SESSION_ID}: {}\r\n", session.0.id))).await?;
        if let Some(last) = last
            && self.send_kept(&child, &session.0, last).await?
        {
            return Ok(self.write(LAST_CHUNK).await?);
        }
        let session = &session.0;
        let this = session.streams.get() + 1;
        session.streams.set(this);
        // The one before ends.
        session.inbox.wake();
        let is_over = || session.is_over.get() || session.streams.get() != this;
        loop {
            let next = self.buffers.while_connected(self.socket, session.inbox.next_until(is_over)).await;
            let Some(mail) = next.flatten() else {
                if !is_over() {
                    return Err(ExchangeEnd::Stream);
                }
                return Ok(self.write(LAST_CHUNK).await?);
            };
            if let Mail::Message(message) = mail {
                let at = session.keep(GET_STREAM, &message, false);
                self.write(&event(&message, Some(at))).await?;
            }
        }
    }

    /// Sends the events of a stream after this one. Returns whether the stream has ended; that of a GET goes on.
    async fn send_kept(
        &mut self,
        child: &RunningChild,
        session: &Session,
        mut last: EventPlace,
    ) -> Result<bool, ExchangeEnd> {
        loop {
            let seen = session.kept_more.count();
            while let Some(kept) = session.kept_after(last) {
                last = kept.at;
                self.write(&event(&kept.message, Some(kept.at))).await?;
                if kept.is_last {
                    return Ok(true);
                }
            }
            if last.stream == GET_STREAM || session.is_over.get() {
                return Ok(false);
            }
            if !child.is_open(last.stream) {
                return Ok(true);
            }
            let more = session.kept_more.after(seen);
            self.buffers.while_connected(self.socket, more).await.ok_or(ExchangeEnd::Stream)?;
        }
    }
}

/// Keeps what follows on a stream that has broken off, for the agent that comes back with the id of its last event.
pub(super) fn keep_for_later(child: &Rc<RunningChild>, open: OpenExchange, session: SessionUse) {
    let core = child.core.clone();
    core.spawn(async move {
        let (stream, inbox) = (open.asker.exchange, Rc::clone(&open.inbox));
        while let Some(mail) = inbox.next_until(|| session.0.is_over.get()).await {
            match mail {
                Mail::Message(message) => {
                    session.0.keep(stream, &message, false);
                }
                Mail::Answer(message, ..) => {
                    open.finish();
                    session.0.keep(stream, &message, true);
                    return;
                }
                Mail::End => {
                    open.finish();
                    // Who waits for more learns that nothing follows.
                    return session.0.kept_more.raise();
                }
            }
        }
    });
}
