//! What one exchange of the bridge waits for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::connector::bridge::inner_client::{InnerEnd, InnerHead};
use crate::engine::Signal;

/// How many bytes may wait. Then the server is not read any more.
const LEN_MAX: usize = 1024 * 1024;

/// What an exchange gets.
#[derive(Debug)]
pub(super) enum Mail {
    /// The head of the response of the server.
    Head(InnerHead),
    /// A message of the server.
    Message(Vec<u8>),
    /// An event of the server that is no message: its kind and its data.
    Event(String, Vec<u8>),
    /// The body of a response that is no message.
    Body(Vec<u8>),
    /// Nothing more follows from the server.
    End(InnerEnd),
    /// The answer of the agent to a question.
    FromAgent(u64, Vec<u8>),
    /// The agent has cancelled the request.
    Cancelled,
}

impl Mail {
    fn len(&self) -> usize {
        match self {
            Mail::Message(text) | Mail::Event(_, text) | Mail::Body(text) | Mail::FromAgent(_, text) => text.len(),
            Mail::Head(_) | Mail::End(_) | Mail::Cancelled => 0,
        }
    }
}

/// Mail for one receiver.
#[derive(Default)]
pub(super) struct Inbox {
    mail: RefCell<VecDeque<Mail>>,
    len: Cell<usize>,
    added: Signal,
    taken: Signal,
}

impl Inbox {
    /// Adds mail once there is room for it.
    pub(super) async fn send(&self, mail: Mail) {
        loop {
            let seen = self.taken.count();
            if self.len.get() < LEN_MAX {
                return self.put(mail);
            }
            self.taken.after(seen).await;
        }
    }

    /// Adds mail if there is room; returns whether there was.
    pub(super) fn offer(&self, mail: Mail) -> bool {
        let has_room = self.len.get() < LEN_MAX;
        if has_room {
            self.put(mail);
        }
        has_room
    }

    /// Adds mail that must arrive, and of which there is little.
    pub(super) fn put(&self, mail: Mail) {
        self.len.set(self.len.get() + mail.len());
        self.mail.borrow_mut().push_back(mail);
        self.added.raise();
    }

    /// The next mail, in the order of arrival.
    pub(super) async fn next(&self) -> Mail {
        loop {
            let seen = self.added.count();
            let mail = self.mail.borrow_mut().pop_front();
            if let Some(mail) = mail {
                self.len.set(self.len.get() - mail.len());
                self.taken.raise();
                return mail;
            }
            self.added.after(seen).await;
        }
    }
}
