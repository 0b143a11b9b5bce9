use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::*;
use crate::base::{Clock, CoreId};
use crate::engine::sim::{Faults, SimNet, Simulation};
use crate::engine::{Class, Lease, Pool};
use crate::exchange::{BodySource, Piece};
use crate::wire::http1::RequestEdits;

/// A next hop that takes all and sends nothing.
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

/// A caller that sends no body and waits. It gets no answer.
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

/// Counts the heads of requests that were queued.
struct Hooks {
    core: Core,
    queued: u32,
}

impl RelayHooks for Hooks {
    fn on_request_head_queued(&mut self) {
        self.queued += 1;
    }

    fn received_at(&self) -> Time {
        Time::ZERO
    }

    fn on_response_head(&mut self, _: &ResponseHead, _: Time) -> ResponseExtras<'_> {
        unreachable!("there is no answer")
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
}

/// How an exchange ended whose caller waits until then, when it did, and how many heads were queued: none if there are no buffers.
fn exchange(has_buffers: bool, until: Time) -> (Relayed, Time, u32) {
    let net = SimNet::new(1, Faults::none());
    let mut sim = Simulation::new(net.clone());
    let pool = Pool::new(1 << 20);
    let driver = net.driver(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    sim.add(id, core.clone());
    let (ended, task_core) = (Rc::<RefCell<_>>::default(), core.clone());
    let told = Rc::clone(&ended);
    core.spawn(async move {
        let mut head = RequestHead::new();
        head.feed(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").expect("it is a head");
        let (stream, mut work) = (NextStream, NextHopWork::default());
        let take = || task_core.pool().take(Class::Small).filter(|_| !has_buffers);
        let _taken: Vec<Lease> = std::iter::from_fn(take).collect();
        let mut hooks = Hooks { core: task_core.clone(), queued: 0 };
        let mut next_hop = NextHop::new(&stream, &stream, &mut work, &head, RequestEdits::default());
        next_hop.caller = CallerLimits::new(until, until);
        let incoming = Incoming { head: &head, body: Waiting, label: None, responder: Waiting };
        let relayed = relay(incoming, next_hop, &task_core, &mut hooks).await;
        told.replace(Some((relayed, task_core.now(), hooks.queued)));
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
