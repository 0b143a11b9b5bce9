//! Bounded queues of messages between threads, which wake the receiver only if it waits.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crossbeam::queue::ArrayQueue;

/// Creates a mailbox for at most `capacity` unread messages.
///
/// The receiver may live on a core or on the control thread. A core that is not parked is not woken: it finds the
/// message in its next turn.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (MailSender<T>, MailReceiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity.max(1)),
        waker: Mutex::new(None),
        closed: AtomicBool::new(false),
    });
    (MailSender(Arc::new(SenderGuard(Arc::clone(&shared)))), MailReceiver(shared))
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    waker: Mutex<Option<Waker>>,
    /// One of the two sides was dropped.
    closed: AtomicBool,
}

impl<T> Shared<T> {
    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The sending end of a mailbox; it can be cloned.
pub struct MailSender<T>(Arc<SenderGuard<T>>);

impl<T> Clone for MailSender<T> {
    fn clone(&self) -> MailSender<T> {
        MailSender(Arc::clone(&self.0))
    }
}

/// Wakes the receiver when the last sender is dropped.
struct SenderGuard<T>(Arc<Shared<T>>);

impl<T> Drop for SenderGuard<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.wake();
    }
}

impl<T> MailSender<T> {
    /// Sends a message to the receiver's core.
    ///
    /// # Errors
    ///
    /// The message, if the mailbox is full or the receiver was dropped.
    pub fn send(&self, message: T) -> Result<(), T> {
        let shared = &self.0.0;
        if shared.closed.load(Ordering::Acquire) {
            return Err(message);
        }
        shared.queue.push(message)?;
        shared.wake();
        Ok(())
    }
}

/// The receiving end of a mailbox.
pub struct MailReceiver<T>(Arc<Shared<T>>);

impl<T> MailReceiver<T> {
    /// The next message; `None` when all senders were dropped and every message was received.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`MailReceiver::recv`] as a poll function.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(message) = self.0.queue.pop() {
            return Poll::Ready(Some(message));
        }
        *self.0.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        let closed = self.0.closed.load(Ordering::Acquire);
        // Checked again: a message may have arrived before the waker was set.
        match self.0.queue.pop() {
            Some(message) => Poll::Ready(Some(message)),
            None if closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for MailReceiver<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        while self.0.queue.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cross_threads_in_order_and_the_end_is_seen() {
        let (sender, mut receiver) = mailbox(4);
        let sending = std::thread::spawn(move || {
            for n in 0..1000 {
                let mut message = n;
                while let Err(back) = sender.send(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let received: Vec<u32> = futures_lite::future::block_on(async {
            let mut all = Vec::new();
            while let Some(n) = receiver.recv().await {
                all.push(n);
            }
            all
        });
        sending.join().unwrap();
        assert_eq!(received, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_or_abandoned_mailbox_gives_the_message_back() {
        let (sender, receiver) = mailbox(1);
        assert_eq!(sender.send(1), Ok(()));
        assert_eq!(sender.send(2), Err(2));
        drop(receiver);
        assert_eq!(sender.send(3), Err(3));
    }
}
