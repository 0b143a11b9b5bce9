//! Servers within this process, and the way to them from every core.
//!
//! A connection from another core is a pair of sockets of the system. One of the server's own core is not: what one end sends, the
//! other end receives in the same turn.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use crate::engine::core::Core;
use crate::engine::driver::SocketOptions;
use crate::engine::mailbox::{MailReceiver, MailSender, mailbox};
use crate::engine::socket::{Detached, Socket};

/// The most connections that wait until a server takes them, from its own core and from others each.
const WAITING_MAX: usize = 1_024;

/// The number of the next server in this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The way to a server within this process. Once it is dropped, the server accepts no more connections.
pub struct LocalEntry {
    of_others: MailSender<Detached>,
    /// The other end, until a core serves it.
    waiting: Mutex<Option<MailReceiver<Detached>>>,
    /// Set once a core serves it.
    number: OnceLock<ServerNumber>,
}

/// The end of a [`LocalEntry`] that accepts connections, on one core.
pub struct LocalServer {
    core: Core,
    number: ServerNumber,
    own: Rc<LocalQueue>,
    of_others: MailReceiver<Detached>,
}

/// Names a server on its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServerNumber(u64);

/// Connections of a server's own core that wait for it.
#[derive(Default)]
pub(super) struct LocalQueue {
    waiting: RefCell<VecDeque<Socket>>,
    waker: RefCell<Option<Waker>>,
}

impl Default for LocalEntry {
    fn default() -> LocalEntry {
        let (of_others, waiting) = mailbox(WAITING_MAX);
        LocalEntry { of_others, waiting: Mutex::new(Some(waiting)), number: OnceLock::new() }
    }
}

impl LocalEntry {
    /// Makes this core the one that serves the connections; none if a core already does.
    #[must_use]
    pub fn serve_on(&self, core: &Core) -> Option<LocalServer> {
        let of_others = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let number = *self.number.get_or_init(|| ServerNumber(NEXT.fetch_add(1, Ordering::Relaxed)));
        let own = Rc::<LocalQueue>::default();
        core.shared().local_servers.borrow_mut().insert(number, Rc::clone(&own));
        Some(LocalServer { core: core.clone(), number, own, of_others })
    }

    /// A new connection of this core to the server.
    ///
    /// # Errors
    ///
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy) if too many connections wait, or the error of the system.
    pub async fn connect(&self, core: &Core) -> io::Result<Socket> {
        let is_busy = || io::Error::from(io::ErrorKind::ResourceBusy);
        let queue = self.number.get().and_then(|number| core.shared().local_servers.borrow().get(number).cloned());
        if let Some(queue) = queue {
            return queue.connect(core).ok_or_else(is_busy);
        }
        let [near, far] = Detached::pair()?;
        self.of_others.send(far).map_err(|_| is_busy())?;
        core.adopt(near, SocketOptions::default()).await
    }
}

impl LocalQueue {
    fn connect(&self, core: &Core) -> Option<Socket> {
        if self.waiting.borrow().len() >= WAITING_MAX {
            return None;
        }
        let [near, far] = core.pair();
        self.waiting.borrow_mut().push_back(far);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        Some(near)
    }
}

impl LocalServer {
    /// The next connection; none once nobody can open another.
    pub async fn accept(&mut self) -> Option<Socket> {
        loop {
            let LocalServer { own, of_others, .. } = self;
            let arrived = poll_fn(|cx| {
                if let Some(socket) = own.waiting.borrow_mut().pop_front() {
                    return Poll::Ready(Some(Ok(socket)));
                }
                *own.waker.borrow_mut() = Some(cx.waker().clone());
                pin!(of_others.recv()).poll(cx).map(|detached| detached.map(Err))
            });
            match arrived.await? {
                Ok(socket) => return Some(socket),
                Err(detached) => {
                    // Who has opened a connection that cannot be added sees that it is closed.
                    if let Ok(socket) = self.core.adopt(detached, SocketOptions::default()).await {
                        return Some(socket);
                    }
                }
            }
        }
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.core.shared().local_servers.borrow_mut().remove(&self.number);
        let waiting = self.own.waiting.take();
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;
    use std::time::Duration;

    use super::*;
    use crate::base::CoreId;
    use crate::engine::sys::epoll::EpollDriver;
    use crate::engine::{ALLOWANCE_MAX, BUFFER_MEMORY_MIN, ByteStream, Lease, Pool, StreamError, send_bytes};

    fn core() -> Core {
        let pool = Pool::new(BUFFER_MEMORY_MIN);
        let driver = EpollDriver::new(&pool).expect("every Linux has epoll");
        Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO)
    }

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A connection, and both its ends.
    fn connected(core: &Core) -> [Socket; 2] {
        let entry = LocalEntry::default();
        let mut server = entry.serve_on(core).unwrap();
        let Poll::Ready(Ok(near)) = now(entry.connect(core)) else { panic!("the server is on this core") };
        let Poll::Ready(Some(far)) = now(server.accept()) else { panic!("a connection waits") };
        assert!(now(server.accept()).is_pending());
        drop(entry);
        assert!(matches!(now(server.accept()), Poll::Ready(None)));
        [near, far]
    }

    fn text(received: Poll<Result<Option<Lease>, StreamError>>) -> String {
        let Poll::Ready(Ok(Some(lease))) = received else { panic!("{received:?}") };
        String::from_utf8(lease.to_vec()).unwrap()
    }

    #[test]
    fn bytes_arrive_at_once_and_a_receiver_that_waits_holds_up_its_sender() {
        let core = core();
        let [near, far] = connected(&core);
        assert!(now(far.recv()).is_pending());
        assert!(now(send_bytes(&near, core.pool(), b"question")).is_ready());
        assert_eq!((near.sent_bytes(), near.has_queued()), (0, true));
        assert_eq!(text(now(far.recv())), "question");
        assert_eq!((near.sent_bytes(), near.has_queued(), near.outstanding_bytes()), (8, false, 0));
        assert!(now(send_bytes(&far, core.pool(), b"answer")).is_ready() && now(far.flushed()).is_pending());
        assert_eq!(text(now(near.recv())), "answer");
        assert!(now(far.flushed()).is_ready());
        let long = vec![0; 8 * ALLOWANCE_MAX];
        let mut sending = pin!(send_bytes(&near, core.pool(), &long));
        let mut cx = Context::from_waker(Waker::noop());
        let mut received = 0;
        let mut is_sent = sending.as_mut().poll(&mut cx).is_ready();
        assert!(!is_sent, "the sender waits");
        while received < long.len() {
            let Poll::Ready(Ok(Some(lease))) = now(far.recv()) else { panic!("bytes were sent") };
            received += lease.len();
            drop(lease);
            is_sent = is_sent || sending.as_mut().poll(&mut cx).is_ready();
        }
        assert!(is_sent && received == long.len() && now(far.recv()).is_pending());
    }

    #[test]
    fn an_end_is_seen_after_the_bytes_before_it() {
        let core = core();
        let [near, far] = connected(&core);
        assert!(now(send_bytes(&near, core.pool(), b"last")).is_ready());
        assert!(now(poll_fn(|cx| far.poll_ended(cx))).is_pending());
        near.finish();
        assert!(now(poll_fn(|cx| far.poll_ended(cx))).is_ready());
        assert_eq!(text(now(far.recv())), "last");
        assert!(matches!(now(far.recv()), Poll::Ready(Ok(None))));
        assert!(near.send(lease(&core)).is_err() && far.send(lease(&core)).is_ok());
        assert_eq!(text(now(near.recv())), "x");
        drop(near);
        assert!(matches!(far.send(lease(&core)), Err(StreamError::Reset)));
        let [other, aborted] = connected(&core);
        aborted.abort();
        assert!(matches!(now(other.recv()), Poll::Ready(Err(StreamError::Reset))));
        assert!(matches!(other.send(lease(&core)), Err(StreamError::Reset)));
        drop((far, other, aborted));
        assert_eq!(core.open_sockets(), 0);
    }

    fn lease(core: &Core) -> Lease {
        let Poll::Ready(mut lease) = now(core.pool().lease_for(1)) else { panic!("the pool is full") };
        lease.append(b"x");
        lease
    }

    #[test]
    fn other_cores_connect_too_and_what_waits_is_limited() {
        let (core, other) = (core(), core());
        let entry = LocalEntry::default();
        let mut server = entry.serve_on(&core).unwrap();
        assert!(entry.serve_on(&other).is_none());
        let connect = |core: &Core| match now(entry.connect(core)) {
            Poll::Ready(Ok(near)) => Some(near),
            _ => None,
        };
        let of_other = connect(&other).unwrap();
        assert_eq!((core.open_sockets(), other.open_sockets()), (0, 1));
        assert!(matches!(now(server.accept()), Poll::Ready(Some(_))));
        let waiting: Vec<Socket> = (0..WAITING_MAX).map(|_| connect(&core).unwrap()).collect();
        assert!(connect(&core).is_none());
        drop(server);
        assert!(waiting.iter().all(|near| matches!(now(near.recv()), Poll::Ready(Ok(None)))));
        assert!(connect(&core).is_none() && connect(&other).is_none(), "nobody serves them any more");
        drop((waiting, of_other));
    }
}
