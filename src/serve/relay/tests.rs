use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::*;
use crate::base::{Clock, CoreId};
use crate::engine::sim::{Faults, SimNet, Simulation};
use crate::engine::{Class, Lease, Pool};
use crate::exchange::{BodySource, Piece};
use crate::wire::http1::RequestEdits;

/// A next hop that accepts everything and sends nothing.
struct NextStream;

impl ByteStream for NextStream {
    fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        Poll::Pending
    }

    fn send(&self, _: Lease) -> Result<(), StreamError> {
        Ok(())
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Pending
    }

    fn finish(&self) {}

    fn abort(&self) {}
}

/// A caller that sends no body and waits. It never gets an answer.
struct Waiting;

impl BodySource for Waiting {
    fn next(&mut self) -> Result<Piece, BodyError> {
        Ok(Piece::End)
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        pending().await
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}

impl RequestBody for Waiting {
    async fn caller_left(&mut self) {
        pending().await
    }

    fn is_watched(&self) -> bool {
        true
    }
}

impl BodySink for Waiting {
    async fn ready(&mut self) -> Result<(), StreamError> {
        unreachable!("there is no answer")
    }

    async fn data(&mut self, _: Lease) -> Result<(), CarryError> {
        unreachable!("there is no answer")
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        unreachable!("there is no answer")
    }

    async fn end<'a>(&mut self, _: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), CarryError> {
        unreachable!("there is no answer")
    }
}

impl Responder for Waiting {
    async fn interim(&mut self, _: &ResponseHead) -> Result<(), StreamError> {
        unreachable!("there is no answer")
    }

    async fn head(&mut self, _: &ResponseHead, _: Option<u64>, _: ResponseExtras<'_>) -> Result<(), StreamError> {
        unreachable!("there is no answer")
    }

    async fn copy(&mut self, _: &[u8]) -> Result<(), CarryError> {
        unreachable!("there is no answer")
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// A next hop that reads only the head of a request, then answers: the head at once, the rest later.
struct Early {
    answered: Cell<bool>,
    later: RefCell<Timer>,
    core: Core,
}

impl ByteStream for Early {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        let mut lease = self.core.pool().take(Class::Small).expect("there are buffers");
        if !self.answered.replace(true) {
            lease.append(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\n");
            return Poll::Ready(Ok(Some(lease)));
        }
        lease.append(b"no");
        self.later.borrow_mut().poll_elapsed(cx).map(|()| Ok(Some(lease)))
    }

    fn send(&self, _: Lease) -> Result<(), StreamError> {
        Ok(())
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Err(StreamError::Reset))
    }

    fn finish(&self) {}

    fn abort(&self) {}
}

/// The response that a caller receives.
#[derive(Default)]
struct ReceivedResponse {
    status: Cell<u16>,
    body: RefCell<Vec<u8>>,
}

impl BodySink for &ReceivedResponse {
    async fn ready(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    async fn data(&mut self, lease: Lease) -> Result<(), CarryError> {
        self.copy(&lease).await
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    async fn end<'a>(&mut self, _: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<(), CarryError> {
        Ok(())
    }
}

impl Responder for &ReceivedResponse {
    async fn interim(&mut self, _: &ResponseHead) -> Result<(), StreamError> {
        unreachable!("there is none")
    }

    async fn head(&mut self, head: &ResponseHead, _: Option<u64>, _: ResponseExtras<'_>) -> Result<(), StreamError> {
        self.status.set(head.status());
        Ok(())
    }

    async fn copy(&mut self, bytes: &[u8]) -> Result<(), CarryError> {
        self.body.borrow_mut().extend_from_slice(bytes);
        Ok(())
    }

    fn keeps(&self) -> bool {
        true
    }
}

/// Counts the heads of requests that were queued.
struct Hooks {
    core: Core,
    queued: u32,
    /// The log to which calls are written before their answers are sent.
    log: Option<AuditLog>,
    lists: Budget,
}

impl RelayHooks for Hooks {
    fn on_request_head_queued(&mut self) {
        self.queued += 1;
    }

    fn received_at(&self) -> Time {
        Time::ZERO
    }

    fn on_response_head(&mut self, _: &ResponseHead, _: Time) -> ResponseExtras<'_> {
        ResponseExtras { may_keep: true, server_timing: None, public: None, is_metadata: false }
    }

    fn records_in(&self) -> Option<&AuditLog> {
        self.log.as_ref()
    }

    fn on_event_stream(&mut self, _: bool) {}

    async fn streams_end(&self) {
        pending().await
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        None
    }

    fn core(&self) -> &Core {
        &self.core
    }

    fn lists(&self) -> &Budget {
        &self.lists
    }
}

/// The result of an exchange whose caller waits until then, when it ended, and how many heads were queued: none if
/// there are no buffers.
fn exchange(has_buffers: bool, until: Time) -> (Relayed, Time, u32) {
    let net = SimNet::new(1, Faults::none());
    let mut sim = Simulation::new(net.clone());
    let pool = Pool::new(1 << 20);
    let driver = net.driver(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    sim.add(id, core.clone());
    let (ended, task_core) = (Rc::<RefCell<_>>::default(), core.clone());
    let shared = Rc::clone(&ended);
    core.spawn(async move {
        let mut head = RequestHead::new();
        head.feed(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").expect("it is a head");
        let (stream, mut work) = (NextStream, NextHopWork::default());
        let take = || task_core.pool().take(Class::Small).filter(|_| !has_buffers);
        let _taken: Vec<Lease> = std::iter::from_fn(take).collect();
        let mut hooks = Hooks { core: task_core.clone(), queued: 0, log: None, lists: Budget::new(0, 0) };
        let mut next_hop = NextHop::new(&stream, &stream, &mut work, &head, RequestEdits::default());
        next_hop.caller = CallerLimits::new(until, until);
        let incoming = Incoming { head: &head, body: Waiting, label: None, responder: Waiting };
        let relayed = relay(incoming, next_hop, &task_core, &mut hooks).await;
        shared.replace(Some((relayed, task_core.now(), hooks.queued)));
    });
    sim.run_until(until + Duration::from_secs(1)).expect("no core fails");
    ended.take().expect("it has ended")
}

#[test]
fn a_request_whose_head_was_never_queued_does_not_count_as_sent_when_its_callers_time_is_over() {
    let until = Time::ZERO + Duration::from_secs(2);
    for (has_buffers, heads) in [(false, 0), (true, 1)] {
        let (relayed, ended, queued) = exchange(has_buffers, until);
        assert_eq!((relayed.result, ended, queued), (Err(RelayError::Late), until, heads), "{has_buffers}");
        assert_eq!((relayed.has_begun, relayed.is_sent), (false, has_buffers), "{has_buffers}");
    }
}

#[test]
fn an_early_answer_that_is_held_until_its_call_is_recorded_may_take_its_time() {
    let net = SimNet::new(1, Faults::none());
    let mut sim = Simulation::new(net.clone());
    let pool = Pool::new(1 << 20);
    let driver = net.driver(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    sim.add(id, core.clone());
    let ended = Rc::<RefCell<_>>::default();
    let (told_end, task_core) = (Rc::clone(&ended), core.clone());
    core.spawn(async move {
        let mut head = RequestHead::new();
        head.feed(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").expect("it is a head");
        let later = RefCell::new(task_core.sleep(2 * EARLY_RESPONSE_WITHIN));
        let stream = Early { answered: Cell::new(false), later, core: task_core.clone() };
        let (mut work, events) = (NextHopWork::default(), ReceivedResponse::default());
        let (log, _entries) = AuditLog::new(true);
        let mut hooks = Hooks { core: task_core.clone(), queued: 0, log: Some(log), lists: Budget::new(0, 0) };
        let mut next_hop = NextHop::new(&stream, &stream, &mut work, &head, RequestEdits::default());
        next_hop.flush = true;
        let incoming = Incoming { head: &head, body: Waiting, label: None, responder: &events };
        let relayed = relay(incoming, next_hop, &task_core, &mut hooks).await;
        told_end.replace(Some((relayed.result, events.status.get(), events.body.take())));
    });
    sim.run_until(Time::ZERO + 3 * EARLY_RESPONSE_WITHIN).expect("no core fails");
    assert_eq!(ended.take().expect("it has ended"), (Ok(()), 413, b"no".to_vec()));
}
