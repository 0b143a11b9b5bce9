//! What waits for one receiver on the same core.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use crate::engine::Signal;

/// The most mail that waits, apart from what must arrive.
const WAITING_MAX: usize = 256;
/// How many bytes may wait before no more is taken.
const WAITING_LEN_MAX: usize = 1024 * 1024;

/// Mail that counts towards the limits of an inbox.
pub trait MailLen {
    /// Its bytes; zero if it is small.
    fn mail_len(&self) -> usize;
}

/// Mail for one receiver.
pub struct Inbox<M> {
    mail: RefCell<VecDeque<M>>,
    len: Cell<usize>,
    waker: RefCell<Option<Waker>>,
    taken: Signal,
}

impl<M> Default for Inbox<M> {
    fn default() -> Inbox<M> {
        Inbox { mail: RefCell::default(), len: Cell::new(0), waker: RefCell::default(), taken: Signal::default() }
    }
}

impl<M: MailLen> Inbox<M> {
    fn has_room(&self) -> bool {
        self.len.get() < WAITING_LEN_MAX && self.mail.borrow().len() < WAITING_MAX
    }

    /// Adds mail once there is room for it.
    pub async fn send(&self, mail: M) {
        loop {
            let seen = self.taken.count();
            if self.has_room() {
                return self.put(mail);
            }
            self.taken.after(seen).await;
        }
    }

    /// Adds mail if there is room; returns whether there was.
    pub fn offer(&self, mail: M) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.put(mail);
        }
        has_room
    }

    /// Adds mail that must arrive, and of which there is little.
    pub fn put(&self, mail: M) {
        self.len.set(self.len.get() + mail.mail_len());
        self.mail.borrow_mut().push_back(mail);
        self.wake();
    }

    /// Wakes the receiver, which looks again whether it is over.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The next mail, in the order of arrival; none as soon as `is_over`.
    pub async fn next_until(&self, is_over: impl Fn() -> bool) -> Option<M> {
        poll_fn(|cx| {
            if is_over() {
                return Poll::Ready(None);
            }
            if let Some(mail) = self.take() {
                return Poll::Ready(Some(mail));
            }
            self.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The next mail, in the order of arrival.
    pub async fn next(&self) -> M {
        poll_fn(|cx| match self.take() {
            Some(mail) => Poll::Ready(mail),
            None => {
                self.wait(cx.waker());
                Poll::Pending
            }
        })
        .await
    }

    /// Whether mail waits, and the next is of this kind.
    pub fn is_next(&self, is_kind: impl FnOnce(&M) -> bool) -> bool {
        self.mail.borrow().front().is_some_and(is_kind)
    }

    fn take(&self) -> Option<M> {
        let mail = self.mail.borrow_mut().pop_front()?;
        self.len.set(self.len.get() - mail.mail_len());
        self.taken.raise();
        Some(mail)
    }

    fn wait(&self, waker: &Waker) {
        *self.waker.borrow_mut() = Some(waker.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    impl MailLen for Vec<u8> {
        fn mail_len(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn what_waits_is_limited_and_arrives_in_order() {
        let (inbox, mut cx) = (Inbox::default(), Context::from_waker(Waker::noop()));
        let offered = (0..1_000).filter(|nth: &u32| inbox.offer(nth.to_be_bytes().to_vec())).count();
        assert_eq!(offered, WAITING_MAX);
        assert!(inbox.is_next(|mail| *mail == [0; 4]) && !inbox.is_next(|mail| *mail == [1; 4]));
        {
            let mut sending = pin!(inbox.send(vec![9; 4]));
            assert!(sending.as_mut().poll(&mut cx).is_pending());
            assert_eq!(pin!(inbox.next()).poll(&mut cx), Poll::Ready(0_u32.to_be_bytes().to_vec()));
            assert!(sending.as_mut().poll(&mut cx).is_ready());
        }
        for nth in 1..WAITING_MAX as u32 {
            assert_eq!(pin!(inbox.next()).poll(&mut cx), Poll::Ready(nth.to_be_bytes().to_vec()));
        }
        assert_eq!(pin!(inbox.next_until(|| true)).poll(&mut cx), Poll::Ready(None));
        assert_eq!(pin!(inbox.next_until(|| false)).poll(&mut cx), Poll::Ready(Some(vec![9; 4])));
        assert!(pin!(inbox.next()).poll(&mut cx).is_pending() && !inbox.is_next(|_| true));
        // One long message is taken, and no other until it has gone.
        assert!(inbox.offer(vec![0; 2 * WAITING_LEN_MAX]) && !inbox.offer(Vec::new()));
        inbox.put(Vec::new());
        assert!(pin!(inbox.next()).poll(&mut cx).is_ready() && inbox.offer(Vec::new()));
    }
}
