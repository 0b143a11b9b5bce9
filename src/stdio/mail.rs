//! What waits to be sent to one agent.

use std::cell::Cell;
use std::rc::Rc;

use crate::exchange::{MailLen, event_chunk};
use crate::stdio::session::EventPlace;
use crate::wire::stdio::AnswerMeaning;

/// What an exchange or a session gets.
#[derive(Debug)]
pub(super) enum Mail {
    /// A message that is followed by others.
    Message(Vec<u8>),
    /// The answer, after which nothing follows. The last part counts its bytes until it is dropped.
    Answer(Vec<u8>, AnswerMeaning, HeldBytes),
    /// There will be no answer.
    End,
}

impl MailLen for Mail {
    fn mail_len(&self) -> usize {
        match self {
            Mail::Message(message) => message.len(),
            // Its bytes count among those of all answers.
            Mail::Answer(..) | Mail::End => 0,
        }
    }
}

/// A message as an event of a stream.
pub(super) fn event(message: &[u8], at: Option<EventPlace>) -> Vec<u8> {
    match at {
        Some(EventPlace { stream, number }) => event_chunk("message", Some(format_args!("{stream}-{number}")), message),
        None => event_chunk("message", None, message),
    }
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct HeldBytes {
    total: Rc<Cell<usize>>,
    len: usize,
}

impl HeldBytes {
    /// Counts these bytes, unless there would be more than `max`.
    pub(super) fn take(total: &Rc<Cell<usize>>, len: usize, max: usize) -> Option<HeldBytes> {
        let sum = total.get() + len;
        if sum > max {
            return None;
        }
        total.set(sum);
        Some(HeldBytes { total: Rc::clone(total), len })
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.len);
    }
}
