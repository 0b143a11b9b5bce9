//! What waits to be sent to one agent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::wire::stdio::AnswerMeaning;

/// The most messages that wait in an inbox, besides the answer.
const MESSAGES_MAX: usize = 256;
/// The most bytes of such messages.
const MESSAGES_LEN_MAX: usize = 1024 * 1024;

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

/// Mail for one receiver.
#[derive(Default)]
pub(super) struct Inbox {
    mail: RefCell<VecDeque<Mail>>,
    len: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Inbox {
    /// Adds a message. Returns false if too much waits, so that the message is dropped.
    pub(super) fn message(&self, message: Vec<u8>) -> bool {
        let len = self.len.get() + message.len();
        if self.mail.borrow().len() >= MESSAGES_MAX || len > MESSAGES_LEN_MAX {
            return false;
        }
        self.len.set(len);
        self.put(Mail::Message(message));
        true
    }

    /// Adds the answer or the end.
    pub(super) fn put(&self, mail: Mail) {
        self.mail.borrow_mut().push_back(mail);
        self.wake();
    }

    /// Wakes the receiver, which looks again whether it is over.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next mail; none as soon as `is_over`.
    pub(super) async fn next(&self, is_over: impl Fn() -> bool) -> Option<Mail> {
        poll_fn(|cx| {
            if is_over() {
                return Poll::Ready(None);
            }
            let mail = self.mail.borrow_mut().pop_front();
            if let Some(mail) = mail {
                if let Mail::Message(message) = &mail {
                    self.len.set(self.len.get() - message.len());
                }
                return Poll::Ready(Some(mail));
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}
