//! What is known about the frames that a server sends, at its client.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;

use crate::base::Time;
use crate::http2::io::Watch;
use crate::wire::http2::ServerFrames;

/// Observes the frames of a server: which answers are whole, and how much memory they need.
#[derive(Default)]
pub struct AnswerWatch {
    frames: RefCell<ServerFrames>,
    received: Cell<u64>,
    received_at: Cell<Time>,
}

/// The expected response on a stream. Its end is watched for until this is dropped.
pub struct ExpectedAnswer {
    watch: Rc<AnswerWatch>,
    stream: u32,
}

impl AnswerWatch {
    /// The frames that were seen.
    pub fn frames(&self) -> Ref<'_, ServerFrames> {
        self.frames.borrow()
    }

    /// The frames that were seen, to change what is watched for.
    pub fn frames_mut(&self) -> RefMut<'_, ServerFrames> {
        self.frames.borrow_mut()
    }

    /// How many bytes were received on the connection.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.received.get()
    }

    /// When bytes were last received on the connection.
    #[must_use]
    pub fn received_at(&self) -> Time {
        self.received_at.get()
    }

    /// Watches for the end of the response on this stream. Nothing of it was received yet.
    #[must_use]
    pub fn expect(self: &Rc<Self>, stream: u32) -> ExpectedAnswer {
        self.frames_mut().expect_answer(stream);
        ExpectedAnswer { watch: Rc::clone(self), stream }
    }
}

impl Watch for AnswerWatch {
    fn feed(&self, bytes: &[u8], now: Time) {
        self.received.set(self.received.get() + bytes.len() as u64);
        self.received_at.set(now);
        self.frames_mut().feed(bytes);
    }

    fn must_pause(&self) -> bool {
        self.frames().flood().is_some()
    }
}

impl ExpectedAnswer {
    /// Notes that a piece of the response was read, with the length of its frame.
    pub fn on_read(&self, len: usize) {
        self.watch.frames_mut().read(self.stream, len);
    }

    /// Whether the server has sent the end of the response.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.watch.frames().has_whole_answer(self.stream)
    }
}

impl Drop for ExpectedAnswer {
    fn drop(&mut self) {
        self.watch.frames_mut().forget_answer(self.stream);
    }
}
