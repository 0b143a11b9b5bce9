//! What one exchange of the bridge waits for.

use crate::connector::bridge::inner_client::{InnerEnd, InnerHead};
use crate::exchange::{Inbox, MailLen};

/// Mail for one exchange. While too much waits, the server is not read any more.
pub(super) type BridgeInbox = Inbox<Mail>;

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

impl MailLen for Mail {
    fn mail_len(&self) -> usize {
        match self {
            Mail::Message(text) | Mail::Event(_, text) | Mail::Body(text) | Mail::FromAgent(_, text) => text.len(),
            Mail::Head(_) | Mail::End(_) | Mail::Cancelled => 0,
        }
    }
}
