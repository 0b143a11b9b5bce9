//! Listeners, connecting, unix sockets, waking.

use std::time::Duration;

use super::{FAR, NEAR, Network, World, payload};
use crate::base::Time;
use crate::engine::driver::{Token, Wait};

/// Connections wait while a listener is paused, and none is lost.
pub(super) fn a_paused_listener_accepts_later<N: Network>(seed: u64) -> Option<()> {
    const CONNECTIONS: usize = 50;
    let mut world = World::<N>::new(seed)?;
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&address);
    world.nodes[FAR].driver.accept(listener, false);
    world.a_while();
    world.nodes[FAR].accepted.clear();
    let sockets: Vec<Token> = (0..CONNECTIONS).map(|_| world.nodes[NEAR].connect(&address)).collect();
    world.until("all are connected", |world| {
        sockets.iter().all(|socket| world.nodes[NEAR].log(*socket).connected.is_some())
    });
    world.a_while();
    assert!(world.nodes[FAR].accepted.is_empty(), "a paused listener accepted");
    world.nodes[FAR].driver.accept(listener, true);
    world.until("all are accepted", |world| world.nodes[FAR].accepted.len() == CONNECTIONS);
    assert!(world.nodes[FAR].accepted.iter().all(|accepted| accepted.listener == listener));
    world.nodes[NEAR].send(near, b"meanwhile");
    world.nodes[FAR].driver.receive(far, true);
    world.until("older ones live on", |world| world.nodes[FAR].log(far).received == b"meanwhile");
    world.finish();
    Some(())
}

/// After a listener is closed its address refuses, and connections that it accepted live on.
pub(super) fn a_closed_listener_refuses<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (listener, address) = world.listen();
    let (near, far) = world.connect(&address);
    world.nodes[FAR].close(listener);
    world.until("it is gone", |world| world.nodes[FAR].log(listener).closed);
    let late = world.nodes[NEAR].connect(&address);
    world.until("the connect ends", |world| world.nodes[NEAR].log(late).connected.is_some());
    assert!(world.nodes[NEAR].log(late).connected.as_ref().is_some_and(Result::is_err));
    world.nodes[FAR].driver.receive(far, true);
    world.nodes[NEAR].send(near, b"still here");
    world.until("older ones live on", |world| world.nodes[FAR].log(far).received == b"still here");
    world.finish();
    Some(())
}

/// A refused connect is reported, drops what was queued, and its socket is then closed.
pub(super) fn a_port_without_a_listener_is_an_error<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (listener, address) = world.listen();
    world.nodes[FAR].close(listener);
    world.until("it is gone", |world| world.nodes[FAR].log(listener).closed);
    let socket = world.nodes[NEAR].connect(&address);
    world.nodes[NEAR].driver.receive(socket, true);
    world.nodes[NEAR].send(socket, &payload(seed, 10_000));
    world.until("the connect ends", |world| world.nodes[NEAR].log(socket).connected.is_some());
    let result = world.nodes[NEAR].log(socket).connected.take()?;
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    world.a_while();
    assert!(world.nodes[NEAR].log(socket).ended.is_none(), "what never was connected does not end");
    world.nodes[NEAR].driver.close(socket, crate::engine::driver::Close::Flush);
    world.until("it is gone", |world| world.nodes[NEAR].log(socket).closed);
    world.finish();
    Some(())
}

/// Unix sockets are like the others.
pub(super) fn unix_sockets_carry_bytes<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let Some(address) = world.network.unix_address() else { return Some(()) };
    let missing = world.nodes[NEAR].connect(&address);
    world.until("nobody is there yet", |world| world.nodes[NEAR].log(missing).connected.is_some());
    assert!(world.nodes[NEAR].log(missing).connected.as_ref().is_some_and(Result::is_err));
    let (listener, bound) = world.nodes[FAR].listen(&address);
    assert_eq!(bound, address);
    world.nodes[FAR].driver.accept(listener, true);
    let (near, far) = world.connect(&address);
    let bytes = payload(seed, 1_000_000);
    world.nodes[NEAR].driver.receive(near, true);
    world.nodes[FAR].driver.receive(far, true);
    world.nodes[NEAR].send(near, &bytes);
    world.nodes[FAR].send(far, &bytes);
    world.nodes[NEAR].driver.shutdown(near);
    world.nodes[FAR].driver.shutdown(far);
    world.until("both arrive", |world| {
        world.nodes[NEAR].log(near).ended.is_some() && world.nodes[FAR].log(far).ended.is_some()
    });
    assert!(world.nodes[NEAR].log(near).received == bytes && world.nodes[FAR].log(far).received == bytes);
    world.finish();
    Some(())
}

/// A wake ends a turn that would wait forever, whether it comes before or during the turn, and every time.
pub(super) fn another_thread_wakes_a_waiting_turn<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let node = &mut world.nodes[NEAR];
    for _ in 0..100 {
        let wake = node.driver.wake();
        let waker = std::thread::spawn(move || wake.wake());
        node.turn(Wait::Until(Time::NEVER));
        waker.join().expect("the waker");
    }
    // Wakes that were already reported must not keep later turns from waiting.
    let mut turns = 0;
    let deadline = node.driver.now() + Duration::from_millis(2);
    while node.driver.now() < deadline {
        node.turn(Wait::Until(deadline));
        turns += 1;
    }
    assert!(turns <= 4, "{turns} turns instead of one wait");
    world.finish();
    Some(())
}
