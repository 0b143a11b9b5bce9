use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::engine::{ByteStream, Lease, StreamError};

/// One end of a pipe in memory.
struct Pipe {
    pool: Pool,
    incoming: Rc<Queue>,
    outgoing: Rc<Queue>,
}

#[derive(Default)]
struct Queue {
    leases: RefCell<VecDeque<Lease>>,
    finished: Cell<bool>,
    /// Whether the writer must wait.
    clogged: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

fn pipe() -> (Pipe, Pipe) {
    let (there, back) = (Rc::<Queue>::default(), Rc::<Queue>::default());
    let pool = Pool::new(0);
    let a = Pipe { pool: pool.clone(), incoming: Rc::clone(&back), outgoing: Rc::clone(&there) };
    (a, Pipe { pool, incoming: there, outgoing: back })
}

impl ByteStream for Pipe {
    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
        match self.incoming.leases.borrow_mut().pop_front() {
            Some(lease) => Poll::Ready(Ok(Some(lease))),
            None if self.incoming.finished.get() => Poll::Ready(Ok(None)),
            None => {
                *self.incoming.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn send(&self, lease: Lease) -> Result<(), StreamError> {
        if self.outgoing.finished.get() {
            return Err(StreamError::Closed);
        }
        self.outgoing.leases.borrow_mut().push_back(lease);
        self.outgoing.wake();
        Ok(())
    }

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.outgoing.clogged.get() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&self) {
        self.outgoing.finished.set(true);
        self.outgoing.wake();
    }

    fn abort(&self) {
        self.finish();
    }
}

/// Runs both to completion on this thread.
fn together<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    futures_lite::future::block_on(futures_lite::future::zip(a, b))
}

fn streams(world: &World) -> (TlsStream<Pipe>, TlsStream<Pipe>) {
    let (near, far) = pipe();
    let pool = near.pool.clone();
    let client = Session::client(Arc::clone(&world.client), name()).unwrap();
    let server = Session::server(Arc::clone(&world.server)).unwrap();
    let (client, server) = together(
        TlsStream::handshake(near, client, pool.clone(), pending()),
        TlsStream::handshake(far, server, pool, pending()),
    );
    (client.map_err(|(error, _)| error).unwrap(), server.map_err(|(error, _)| error).unwrap())
}

async fn recv_all(stream: &TlsStream<Pipe>) -> Result<Vec<u8>, StreamError> {
    let mut all = Vec::new();
    while let Some(lease) = stream.recv().await? {
        all.extend_from_slice(&lease);
    }
    Ok(all)
}

fn lease(pool: &Pool, bytes: &[u8]) -> Lease {
    let mut lease = pool.take(Class::Large).unwrap();
    lease.append(bytes);
    lease
}

#[test]
fn streams_carry_data_and_finish() {
    let (client, server) = streams(&World::new(Versions::Tls13));
    let data = random_bytes(60_000, &mut Rng::new(1));
    let sending = async {
        client.send(lease(&client.inner().pool, &data)).unwrap();
        for part in [b"a", &data[..], b"b"] {
            client.send(lease(&client.inner().pool, part)).unwrap();
        }
        client.finish();
        assert_eq!(client.send(lease(&client.inner().pool, b"late")), Err(StreamError::Closed));
        client.flushed().await.unwrap();
        recv_all(&client).await.unwrap()
    };
    let answering = async {
        let all = recv_all(&server).await.unwrap();
        server.send(lease(&server.inner().pool, b"answer")).unwrap();
        server.finish();
        all
    };
    let (answer, received) = together(sending, answering);
    assert_eq!(answer, b"answer");
    assert!(received == [&data, &b"a"[..], &data, b"b"].concat());
}

#[test]
fn an_end_without_close_notify_is_an_error() {
    let (client, server) = streams(&World::new(Versions::Tls13));
    client.send(lease(&client.inner().pool, b"cut")).unwrap();
    client.inner().finish();
    let (first, second) = together(server.recv(), ready(())).0.map(|lease| (lease, ())).unwrap();
    assert_eq!((&first.unwrap()[..], second), (&b"cut"[..], ()));
    assert_eq!(futures_lite::future::block_on(recv_all(&server)), Err(StreamError::Truncated));
}

#[test]
fn a_failed_handshake_gives_the_stream_back_and_tells_the_peer() {
    let (world, other) = (World::new(Versions::Tls13), World::new(Versions::Tls13));
    let (near, far) = pipe();
    let pool = near.pool.clone();
    let client = Session::client(Arc::clone(&other.client), name()).unwrap();
    let server = Session::server(Arc::clone(&world.server)).unwrap();
    let (client, server) = together(
        TlsStream::handshake(near, client, pool.clone(), pending()),
        TlsStream::handshake(far, server, pool, pending()),
    );
    let (error, _) = client.err().unwrap();
    assert!(matches!(error, HandshakeError::Tls(TlsError::UntrustedIssuer { .. })), "{error}");
    let (error, _) = server.err().unwrap();
    assert!(matches!(error, HandshakeError::Tls(TlsError::AlertReceived(_))), "{error}");
}

#[test]
fn a_handshake_has_a_limit_in_time() {
    let (near, _far) = pipe();
    let pool = near.pool.clone();
    let client = Session::client(Arc::clone(&World::new(Versions::Tls13).client), name()).unwrap();
    let result = futures_lite::future::block_on(TlsStream::handshake(near, client, pool, ready(())));
    assert_eq!(result.err().map(|(error, _)| error), Some(HandshakeError::Timeout));
}

#[test]
fn an_exhausted_pool_delays_and_loses_nothing() {
    let (client, server) = streams(&World::new(Versions::Tls13));
    let pool = client.inner().pool.clone();
    let data = random_bytes(50_000, &mut Rng::new(2));
    let plain = lease(&pool, &data);
    let mut held: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Large)).collect();
    client.send(plain).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.poll_ready(&mut cx).is_pending(), "nothing can be sealed without a buffer");
    assert!(server.poll_recv(&mut cx).is_pending());
    client.finish();
    held.truncate(held.len() - 4);
    let (flushed, received) = together(client.flushed(), recv_all(&server));
    flushed.unwrap();
    assert!(received.unwrap() == data);
}

#[test]
fn a_waiting_stream_is_woken_by_a_returned_buffer() {
    let (client, _server) = streams(&World::new(Versions::Tls13));
    let pool = client.inner().pool.clone();
    let plain = lease(&pool, &[1; 50_000]);
    let mut held: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Large)).collect();
    client.send(plain).unwrap();
    let mut flushed = pin!(client.flushed());
    let mut first = true;
    // This ends only when dropping the buffers of the first poll causes the second one.
    futures_lite::future::block_on(poll_fn(|cx| {
        let poll = flushed.as_mut().poll(cx);
        if std::mem::take(&mut first) {
            assert!(poll.is_pending());
            held.clear();
        }
        poll
    }))
    .unwrap();
}

#[test]
fn a_handshake_reads_nothing_while_its_output_waits() {
    let (near, far) = pipe();
    let (world, pool) = (World::new(Versions::Tls13), near.pool.clone());
    let client = Session::client(Arc::clone(&world.client), name()).unwrap();
    let client = TlsStream::new(near, client, pool.clone());
    let server = TlsStream::new(far, Session::server(Arc::clone(&world.server)).unwrap(), pool);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(client.poll_handshake(&mut cx).is_pending());
    server.inner().outgoing.clogged.set(true);
    assert!(server.poll_handshake(&mut cx).is_pending());
    assert_eq!(server.inner().incoming.leases.borrow().len(), 1, "the first message is left where it is");
    server.inner().outgoing.clogged.set(false);
    assert!(server.poll_handshake(&mut cx).is_pending());
    assert!(server.inner().incoming.leases.borrow().is_empty());
}

/// What was sent and not received, taken out of the pipe.
fn taken_from(pipe: &Pipe) -> Vec<u8> {
    pipe.outgoing.leases.borrow_mut().drain(..).flat_map(|lease| lease.to_vec()).collect()
}

#[test]
fn a_record_that_comes_in_part_holds_no_buffer() {
    let world = World::new(Versions::Tls13);
    let (near, far) = pipe();
    let pool = near.pool.clone();
    let client = TlsStream::new(near, Session::client(Arc::clone(&world.client), name()).unwrap(), pool.clone());
    let server = TlsStream::new(far, Session::server(Arc::clone(&world.server)).unwrap(), pool.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let give = |bytes: &[u8]| {
        let mut lease = pool.take(Class::Small).unwrap();
        lease.append(bytes);
        server.inner().incoming.leases.borrow_mut().push_back(lease);
    };
    // The handshake, byte by byte.
    assert!(client.poll_handshake(&mut cx).is_pending());
    for byte in taken_from(client.inner()) {
        give(&[byte]);
        assert!(server.poll_handshake(&mut cx).is_pending());
        let answered = !server.inner().outgoing.leases.borrow().is_empty();
        assert!(answered || pool.usage().leased_bytes == 0);
    }
    assert!(client.poll_handshake(&mut cx).is_ready());
    let finished = taken_from(client.inner());
    give(&finished);
    assert!(server.poll_handshake(&mut cx).is_ready());
    server.inner().outgoing.leases.borrow_mut().clear();
    // And then a record of data, cut everywhere.
    for len in [1, 100, 3_000] {
        let data = random_bytes(len, &mut Rng::new(1));
        let mut at = 0;
        while at < len + 22 {
            client.send(lease(&pool, &data)).unwrap();
            let record = taken_from(client.inner());
            let (front, back) = record.split_at(at.min(record.len() - 1));
            if !front.is_empty() {
                give(front);
            }
            assert!(server.poll_recv(&mut cx).is_pending());
            assert_eq!(server.session().has_partial(), !front.is_empty());
            let small = front.len() <= 512;
            assert!(!small || pool.usage().leased_bytes == 0, "{at} of {len}");
            give(back);
            let Poll::Ready(Ok(Some(plain))) = server.poll_recv(&mut cx) else { panic!("{at} of {len}") };
            assert!(*plain == *data);
            assert!(server.poll_recv(&mut cx).is_pending() && !server.session().has_partial());
            at += 1 + len / 50;
        }
    }
}

#[test]
fn a_long_part_of_a_record_leaves_its_buffer_when_they_are_few() {
    let (client, server) = streams(&World::new(Versions::Tls13));
    let pool = client.inner().pool.clone();
    let data = random_bytes(16_000, &mut Rng::new(1));
    let mut cx = Context::from_waker(Waker::noop());
    let mut held = Vec::new();
    for few in [false, true] {
        if few {
            held.extend((0..pool.buffers_max(Class::Large) / 2).map(|_| pool.take(Class::Large).unwrap()));
        }
        let before = pool.usage().leased_bytes;
        client.send(lease(&pool, &data)).unwrap();
        let record = taken_from(client.inner());
        let incoming = |bytes: &[u8]| server.inner().incoming.leases.borrow_mut().push_back(lease(&pool, bytes));
        incoming(&record[..15_000]);
        assert!(server.poll_recv(&mut cx).is_pending() && server.session().has_partial());
        assert_eq!(pool.usage().leased_bytes == before, few);
        incoming(&record[15_000..]);
        let Poll::Ready(Ok(Some(plain))) = server.poll_recv(&mut cx) else { panic!("{few}") };
        assert!(*plain == *data);
        drop(plain);
        assert_eq!(pool.usage().leased_bytes, before);
    }
}
