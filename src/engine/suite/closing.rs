//! The ends of connections: half-close, close, orderly, abrupt, or on another driver.

use std::io::ErrorKind;

use super::{FAR, NEAR, Network, World, payload};
use crate::engine::driver::{Close, SocketOptions, Token};
use crate::engine::pool::Class;

/// Each direction ends when its sender finishes, and the other one continues.
pub(super) fn each_side_finishes_by_itself<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let (request, answer) = (payload(seed, 100_000), payload(seed + 1, 150_000));
    world.nodes[NEAR].send(near, &request);
    world.nodes[NEAR].driver.shutdown(near);
    world.nodes[NEAR].send(near, b"after the end");
    world.until("the far side sees the end", |world| world.nodes[FAR].log(far).ended.is_some());
    assert!(world.nodes[FAR].log(far).ended.as_ref().is_some_and(Result::is_ok));
    assert!(world.nodes[FAR].log(far).received == request);
    assert!(world.nodes[NEAR].log(near).ended.is_none());
    world.nodes[FAR].send(far, &answer);
    world.nodes[FAR].driver.shutdown(far);
    world.until("the near side sees the end", |world| world.nodes[NEAR].log(near).ended.is_some());
    assert!(world.nodes[NEAR].log(near).ended.as_ref().is_some_and(Result::is_ok));
    assert!(world.nodes[NEAR].log(near).received == answer);
    world.nodes[NEAR].driver.close(near, Close::Flush);
    world.nodes[FAR].driver.close(far, Close::Flush);
    world.until("both are gone", |world| world.nodes[NEAR].log(near).closed && world.nodes[FAR].log(far).closed);
    world.finish();
    Some(())
}

/// The peer's abort arrives as a reset, after the bytes that were read before it.
pub(super) fn a_reset_is_seen<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    world.nodes[FAR].send(far, b"last words");
    world.until("the words arrive", |world| world.nodes[NEAR].log(near).received == b"last words");
    world.nodes[FAR].driver.close(far, Close::Abort);
    world.until("the reset arrives", |world| world.nodes[NEAR].log(near).ended.is_some());
    let ended = world.nodes[NEAR].log(near).ended.take()?;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(world.nodes[FAR].log(far).closed);
    world.finish();
    Some(())
}

/// Queued bytes are dropped and the failure is reported once, whether or not the sender receives.
pub(super) fn a_peer_that_goes_in_the_middle_of_a_send_fails_it<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let armed = seed.is_multiple_of(2);
    world.nodes[NEAR].driver.receive(near, armed);
    world.nodes[FAR].driver.receive(far, false);
    let block = payload(seed, 64 * 1024);
    // More than the kernel holds for both ends, so that some of it must wait.
    let mut stuck = 0;
    world.until("the connection is full", |world| {
        let log = world.nodes[NEAR].log(near);
        let unsent = log.sent;
        world.nodes[NEAR].send(near, &block);
        world.turn();
        stuck = if world.nodes[NEAR].log(near).sent == unsent { stuck + 1 } else { 0 };
        stuck > 10
    });
    world.nodes[FAR].driver.close(far, Close::Abort);
    world.until("the send fails", |world| world.nodes[NEAR].log(near).send_failed.is_some());
    world.nodes[NEAR].send(near, b"into the void");
    world.a_while();
    world.nodes[NEAR].driver.close(near, Close::Flush);
    world.until("it is gone", |world| world.nodes[NEAR].log(near).closed);
    world.finish();
    Some(())
}

/// Everything that was queued before arrives, then the end.
pub(super) fn a_flushing_close_sends_what_is_queued<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let bytes = payload(seed, 2_500_000);
    let queued = world.nodes[NEAR].send(near, &bytes);
    world.nodes[NEAR].driver.close(near, Close::Flush);
    world.nodes[NEAR].send(near, b"too late");
    world.until("the end arrives", |world| world.nodes[FAR].log(far).ended.is_some());
    assert!(world.nodes[FAR].log(far).ended.as_ref().is_some_and(Result::is_ok));
    assert!(world.nodes[FAR].log(far).received == bytes[..queued]);
    world.until("it is gone", |world| world.nodes[NEAR].log(near).closed);
    world.finish();
    Some(())
}

/// No queued bytes are sent, and their buffers are returned.
pub(super) fn an_aborting_close_drops_what_is_queued<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    world.nodes[NEAR].send(near, &payload(seed, 2_000_000));
    world.nodes[NEAR].driver.close(near, Close::Abort);
    world.until("both see it", |world| world.nodes[FAR].log(far).ended.is_some() && world.nodes[NEAR].log(near).closed);
    let log = world.nodes[FAR].log(far);
    assert!(log.ended.as_ref().is_some_and(Result::is_err), "an abort is no orderly end");
    assert!(log.received.len() < 2_000_000);
    world.finish();
    Some(())
}

/// A peer that does not read delays a flushing close until it becomes an abort.
pub(super) fn a_stuck_flushing_close_can_be_aborted<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::with_buffers(seed, 64 * 1024 * 1024)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.receive(far, false);
    let queued = world.nodes[NEAR].send(near, &payload(seed, 16 * 1024 * 1024));
    world.a_while();
    assert!(world.nodes[NEAR].log(near).sent < queued, "the kernel took everything");
    world.nodes[NEAR].driver.close(near, Close::Flush);
    world.a_while();
    assert!(!world.nodes[NEAR].log(near).closed);
    world.nodes[NEAR].driver.close(near, Close::Abort);
    world.until("it is gone", |world| world.nodes[NEAR].log(near).closed);
    world.finish();
    Some(())
}

/// Bytes for which the peer's system has no room are reported as unacknowledged, and so is the end.
pub(super) fn unacknowledged_bytes_are_reported<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::with_buffers(seed, 64 * 1024 * 1024)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.receive(far, false);
    world.nodes[NEAR].send(near, &payload(seed, 16 * 1024 * 1024));
    world.nodes[NEAR].driver.shutdown(near);
    world.a_while();
    assert!(world.nodes[NEAR].driver.unacknowledged_bytes(near) > 0, "the peer's system has room for everything");
    world.until("nothing is on the way", |world| world.nodes[NEAR].driver.in_flight_bytes(near) == 0);
    world.nodes[FAR].driver.receive(far, true);
    world.until("the end arrives", |world| world.nodes[FAR].log(far).ended.is_some());
    world.until("all is acknowledged", |world| world.nodes[NEAR].driver.unacknowledged_bytes(near) == 0);
    let unknown = Token { index: near.index + 1000, generation: 0 };
    assert_eq!(world.nodes[NEAR].driver.unacknowledged_bytes(unknown), 0);
    assert_eq!(world.nodes[NEAR].driver.in_flight_bytes(unknown), 0);
    world.finish();
    Some(())
}

/// Bytes, the end and a reset are reported as pending before they are received.
pub(super) fn pending_input_is_reported<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let pending = |world: &World<N>, token| world.nodes[NEAR].driver.has_pending_input(token);
    for how in [None, Some(Close::Flush), Some(Close::Abort)] {
        let (near, far) = world.pair();
        world.nodes[NEAR].driver.receive(near, false);
        world.a_while();
        assert!(!pending(&world, near));
        match how {
            Some(how) => world.nodes[FAR].driver.close(far, how),
            None => drop(world.nodes[FAR].send(far, b"news")),
        }
        world.until("it waits at the system", |world| pending(world, near));
        if how.is_none() {
            world.nodes[NEAR].driver.receive(near, true);
            world.until("it is received", |world| world.nodes[NEAR].log(near).received == b"news");
            assert!(!pending(&world, near));
        }
    }
    assert!(!pending(&world, Token { index: u32::MAX, generation: 0 }));
    world.finish();
    Some(())
}

/// A peer's end and reset are reported while receiving is paused. The bytes that came before can still be read.
pub(super) fn an_end_is_reported_while_receiving_is_paused<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let unread = payload(seed, 10_000);
    for (how, is_late) in [(Close::Flush, false), (Close::Flush, true), (Close::Abort, false)] {
        let (near, far) = world.pair();
        world.nodes[NEAR].driver.receive(near, is_late);
        world.nodes[FAR].send(far, &unread);
        world.until("it is sent", |world| world.nodes[FAR].log(far).sent == unread.len());
        world.a_while();
        assert_eq!(world.nodes[NEAR].log(near).peer_ended, None);
        if is_late {
            // Some of it was received before, and the end is already there when receiving is paused.
            world.nodes[NEAR].driver.receive(near, false);
            world.a_while();
            world.nodes[FAR].send(far, b"more");
        }
        world.nodes[FAR].driver.close(far, how);
        world.until("it is told", |world| world.nodes[NEAR].log(near).peer_ended.is_some());
        assert!(world.nodes[NEAR].log(near).ended.is_none());
        world.a_while();
        assert_eq!(world.nodes[NEAR].log(near).peer_ended, Some(how == Close::Abort));
        world.nodes[NEAR].driver.receive(near, true);
        world.until("the end arrives", |world| world.nodes[NEAR].log(near).ended.is_some());
        let more = if is_late { &b"more"[..] } else { b"" };
        let log = world.nodes[NEAR].log(near);
        assert!(how == Close::Abort || log.received == [&unread[..], more].concat(), "{} bytes", log.received.len());
        world.nodes[NEAR].close(near);
    }
    // A peer that has finished may fail later.
    let (near, far) = world.pair();
    world.nodes[NEAR].driver.receive(near, false);
    world.nodes[FAR].driver.shutdown(far);
    world.until("the end is told", |world| world.nodes[NEAR].log(near).peer_ended == Some(false));
    world.nodes[FAR].driver.close(far, Close::Abort);
    world.until("the failure is told", |world| world.nodes[NEAR].log(near).peer_ended == Some(true));
    // The socket leaves while it is watched.
    let (near, _) = world.pair();
    world.nodes[NEAR].driver.receive(near, false);
    world.a_while();
    world.nodes[NEAR].driver.close(near, Close::Flush);
    world.until("it is gone", |world| world.nodes[NEAR].log(near).closed);
    world.finish();
    Some(())
}

/// A peer that has finished and then resets the connection is seen to be gone, although nothing is received any more.
pub(super) fn a_reset_behind_the_end_is_seen<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::with_buffers(seed, 64 * 1024 * 1024)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.receive(far, false);
    world.nodes[FAR].driver.shutdown(far);
    world.until("the end arrives", |world| world.nodes[NEAR].log(near).ended.is_some());
    world.nodes[NEAR].send(near, &payload(seed, 16 * 1024 * 1024));
    world.a_while();
    assert!(!world.nodes[NEAR].driver.is_over(near), "it goes on as long as the peer is there");
    world.nodes[FAR].driver.close(far, Close::Abort);
    world.until("the reset is seen", |world| world.nodes[NEAR].driver.is_over(near));
    world.finish();
    Some(())
}

/// A socket can be closed, either way, before it is connected.
pub(super) fn an_unconnected_socket_closes<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (_, address) = world.listen();
    for how in [Close::Abort, Close::Flush] {
        let socket = world.nodes[NEAR].connect(&address);
        world.nodes[NEAR].driver.receive(socket, true);
        world.nodes[NEAR].driver.close(socket, how);
        world.until("it is gone", |world| world.nodes[NEAR].log(socket).closed);
    }
    // If bytes are queued before the connection is established, a flushing close sends them.
    let socket = world.nodes[NEAR].connect(&address);
    world.nodes[NEAR].send(socket, b"early");
    world.nodes[NEAR].driver.close(socket, Close::Flush);
    let mut ends: Vec<Token> = Vec::new();
    world.until("the bytes arrive", |world| {
        while let Some(accepted) = world.nodes[FAR].accepted.pop_front() {
            let end = world.nodes[FAR].adopt(accepted.raw);
            world.nodes[FAR].driver.receive(end, true);
            ends.push(end);
        }
        ends.iter().any(|end| world.nodes[FAR].log(*end).received == b"early")
    });
    world.until("it is gone", |world| world.nodes[NEAR].log(socket).closed);
    world.finish();
    Some(())
}

/// Bytes before, during and after a move between drivers arrive once and in order.
pub(super) fn a_socket_moves_between_drivers<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (mut near, far) = world.pair();
    let (up, down) = (payload(seed, 400_000), payload(seed + 1, 400_000));
    let mut received = Vec::new();
    let (mut up_queued, mut down_queued) = (0, 0);
    // The near end moves back and forth. What it sends before each move must be sent by then.
    for step in 0..8 {
        let until = up.len() / 8 * (step + 1);
        up_queued += world.nodes[NEAR].send(near, &up[up_queued..until]);
        let until = (down_queued + world.rng.below(60_000) as usize).min(down.len());
        down_queued += world.nodes[FAR].send(far, &down[down_queued..until]);
        for _ in 0..world.rng.below(4) {
            world.turn();
        }
        world.nodes[NEAR].driver.detach(near);
        world.nodes[NEAR].driver.receive(near, true);
        world.until("it is detached", |world| world.nodes[NEAR].log(near).closed);
        let log = world.nodes[NEAR].forget(near);
        received.extend_from_slice(&log.received);
        let raw = log.detached.expect("not closed");
        let moved = world.nodes[FAR].adopt(raw);
        // Then back from there, without having received anything in between.
        world.nodes[FAR].driver.detach(moved);
        world.until("it is detached again", |world| world.nodes[FAR].log(moved).closed);
        let log = world.nodes[FAR].forget(moved);
        received.extend_from_slice(&log.received);
        near = world.nodes[NEAR].adopt(log.detached.expect("not closed"));
        world.nodes[NEAR].driver.receive(near, true);
    }
    world.nodes[FAR].send(far, &down[down_queued..]);
    world.nodes[FAR].driver.shutdown(far);
    world.nodes[NEAR].send(near, &up[up_queued..]);
    world.nodes[NEAR].driver.shutdown(near);
    world.until("both ends arrive", |world| {
        world.nodes[NEAR].log(near).ended.is_some() && world.nodes[FAR].log(far).ended.is_some()
    });
    received.extend_from_slice(&world.nodes[NEAR].log(near).received);
    assert!(received == down, "bytes were lost on the way down");
    assert!(world.nodes[FAR].log(far).received == up, "bytes were lost on the way up");
    world.finish();
    Some(())
}

/// Detaching a socket that has failed ends in its close.
pub(super) fn a_broken_socket_does_not_detach<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.close(far, Close::Abort);
    world.until("the reset arrives", |world| world.nodes[NEAR].log(near).ended.is_some());
    world.nodes[NEAR].driver.detach(near);
    world.until("it is gone", |world| world.nodes[NEAR].log(near).closed);
    assert!(world.nodes[NEAR].log(near).detached.is_none());
    world.finish();
    Some(())
}

/// Methods with a token that is gone, or never existed, have no effect.
pub(super) fn verbs_on_unknown_tokens_do_nothing<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let wrong = [
        Token { index: near.index, generation: near.generation + 1 },
        Token { index: near.index + 1000, generation: 0 },
        Token { index: u32::MAX, generation: u32::MAX },
    ];
    for token in wrong {
        let driver = &mut world.nodes[NEAR].driver;
        driver.accept(token, true);
        driver.receive(token, true);
        driver.send(token, world.nodes[NEAR].pool.take(Class::Small)?);
        driver.shutdown(token);
        driver.detach(token);
        driver.close(token, Close::Flush);
        driver.close(token, Close::Abort);
        world.turn();
    }
    // A slot in use is not assigned again.
    let (_, address) = world.listen();
    let options = SocketOptions::default();
    assert!(world.nodes[NEAR].driver.connect(wrong[0], &address, options).is_err());
    world.nodes[NEAR].send(near, b"still here");
    world.until("the bytes arrive", |world| world.nodes[FAR].log(far).received == b"still here");
    world.finish();
    Some(())
}
