//! Bytes arrive complete and in order, however they are split.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::{FAR, NEAR, Network, World, payload};
use crate::engine::driver::{DriverKind, RawSocket, Token, Wait};
use crate::engine::pool::Class;

/// Sends two payloads in both directions at once, split at random, while both ends pause and resume at random.
pub(super) fn bytes_arrive_whole_in_any_cut<N: Network>(seed: u64) -> Option<()> {
    const LEN: usize = 2_000_000;
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let ends = [near, far];
    let payloads = [payload(seed, LEN), payload(seed + 100, LEN)];
    let mut queued = [0; 2];
    world.until("both payloads arrive", |world| {
        for side in [NEAR, FAR] {
            let in_flight = queued[side] - world.nodes[side].log(ends[side]).sent;
            if in_flight < 300_000 {
                let n = (world.rng.between(1, 100_000) as usize).min(LEN - queued[side]);
                let piece = &payloads[side][queued[side]..queued[side] + n];
                let (rng, node) = (&mut world.rng, &mut world.nodes[side]);
                queued[side] += node.send_cut(ends[side], piece, rng);
            }
            let armed = world.rng.chance(0.8);
            world.nodes[side].driver.receive(ends[side], armed);
        }
        [NEAR, FAR].into_iter().all(|side| world.nodes[side].log(ends[side]).received.len() == LEN)
    });
    assert!(world.nodes[NEAR].log(near).received == payloads[FAR], "the near side received other bytes");
    assert!(world.nodes[FAR].log(far).received == payloads[NEAR], "the far side received other bytes");
    world.until("all is reported as sent", |world| {
        [NEAR, FAR].into_iter().all(|side| world.nodes[side].log(ends[side]).sent == LEN)
    });
    world.finish();
    Some(())
}

/// Far more leases than one send takes, each of one byte.
pub(super) fn many_small_leases_are_gathered<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    let bytes = payload(seed, 4000);
    let mut lease = world.nodes[NEAR].pool.take(Class::Small)?;
    lease.append(&bytes);
    while !lease.is_empty() {
        let front = lease.split_to(1);
        world.nodes[NEAR].driver.send(near, front);
    }
    world.nodes[NEAR].driver.send(near, lease);
    world.until("every byte arrives", |world| world.nodes[FAR].log(far).received.len() == bytes.len());
    assert_eq!(world.nodes[FAR].log(far).received, bytes);
    world.finish();
    Some(())
}

/// A turn with nothing to do waits until its deadline, and one that may not wait returns.
pub(super) fn an_idle_turn_ends_at_its_deadline<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    world.pair();
    world.a_while();
    let node = &mut world.nodes[NEAR];
    node.turn(Wait::Poll);
    let deadline = node.driver.now() + Duration::from_micros(300);
    let mut turns = 0;
    while node.driver.now() < deadline {
        node.turn(Wait::Until(deadline));
        turns += 1;
    }
    assert!(turns <= 3, "{turns} turns instead of one wait");
    world.finish();
    Some(())
}

/// A small exchange continues beside streams that never pause.
pub(super) fn busy_sockets_do_not_starve_others<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let bulk: Vec<(Token, Token)> = (0..4).map(|_| world.pair()).collect();
    let (near, far) = world.pair();
    let block = payload(seed, 200_000);
    let mut answered = 0;
    let mut rounds = 0;
    world.until("100 exchanges", |world| {
        rounds += 1;
        // First, while there are buffers, because the bulk takes them all.
        if world.nodes[FAR].log(far).received.len() == answered {
            answered += world.nodes[NEAR].send(near, b"?");
        }
        for (sender, receiver) in &bulk {
            world.nodes[NEAR].send(*sender, &block);
            world.nodes[FAR].log(*receiver).received.clear();
        }
        world.nodes[FAR].log(far).received.len() >= 100
    });
    assert!(rounds < 2000, "{rounds} rounds for 100 exchanges");
    world.finish();
    Some(())
}

/// A wait past sends ends with the next event, and reports the sends together with it.
pub(super) fn a_wait_past_sends_ends_with_the_next_event<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let address = world.network.address();
    let node = &mut world.nodes[NEAR];
    let (listener, address) = node.listen(&address);
    node.driver.accept(listener, true);
    let near = node.connect(&address);
    world.until("it is connected to itself", |world| {
        let connected = world.nodes[NEAR].log(near).connected.is_some();
        connected && !world.nodes[NEAR].accepted.is_empty()
    });
    let node = &mut world.nodes[NEAR];
    let accepted = node.accepted.pop_front().expect("checked above");
    let far = node.adopt(accepted.raw);
    node.driver.receive(near, true);
    node.driver.receive(far, true);
    node.turn_briefly();
    // The system delivers at once; the simulated network reports what was sent before it arrives.
    let is_real = node.driver.kind() != DriverKind::Sim;
    for round in 1..=3 {
        node.send(near, b"x");
        node.send(far, b"y");
        let deadline = node.driver.now() + Duration::from_secs(10);
        node.turn(Wait::PastSends(deadline));
        let received = node.log(near).received.len() + node.log(far).received.len();
        assert!(!is_real || received > 2 * (round - 1), "nothing was received in the turn that sent");
        while node.log(near).received.len() < round || node.log(far).received.len() < round {
            node.turn_briefly();
        }
        assert_eq!((node.log(near).sent, node.log(far).sent), (round, round));
    }
    world.finish();
    Some(())
}

/// A wait past sends ends when a socket does not take all that is sent, and the rest follows as soon as there is room.
pub(super) fn a_wait_past_sends_holds_nothing_back<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    // The simulated network takes no sockets of the system.
    if world.nodes[NEAR].driver.kind() == DriverKind::Sim {
        return Some(());
    }
    for (socket, mut peer, full_of) in [full_socket(), narrow_socket()] {
        let node = &mut world.nodes[NEAR];
        let socket = node.adopt(RawSocket::Fd(socket));
        node.turn_briefly();
        let sent = payload(seed, Class::Large.bytes());
        let mut lease = node.pool.take(Class::Large).expect("a buffer");
        lease.append(&sent);
        node.driver.send(socket, lease);
        // A driver that learns of it by a completion must see it, though nothing else happens.
        if node.driver.kind() == DriverKind::Uring {
            let deadline = node.driver.now() + PATIENCE;
            node.turn(Wait::PastSends(deadline));
            assert!(node.driver.now() < deadline, "the wait has passed over a send that found too little room");
        }
        let reading = thread::spawn(move || {
            let mut received = vec![0; full_of];
            peer.read_exact(&mut received).expect("what was there before");
            received.resize(Class::Large.bytes(), 0);
            peer.read_exact(&mut received).map(|()| received)
        });
        while node.log(socket).sent < sent.len() {
            let deadline = node.driver.now() + PATIENCE;
            node.turn(Wait::PastSends(deadline));
        }
        let received = reading.join().expect("the peer reads").expect("the rest follows");
        assert!(received == sent);
        node.close(socket);
    }
    world.finish();
    Some(())
}

type FullSocket = (OwnedFd, Box<dyn Read + Send>, usize);

const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that takes nothing until its peer has read, and how much that is.
fn full_socket() -> FullSocket {
    let (mut socket, peer) = UnixStream::pair().expect("a pair");
    socket.set_nonblocking(true).expect("set");
    let mut full_of = 0;
    while let Ok(written) = socket.write(&[0; 1024]) {
        full_of += written;
    }
    peer.set_read_timeout(Some(PATIENCE)).expect("set");
    (socket.into(), Box::new(peer), full_of)
}

/// A socket that takes a part of a large buffer.
fn narrow_socket() -> FullSocket {
    const LEN: usize = 4096;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    SockRef::from(&listener).set_recv_buffer_size(LEN).expect("set");
    let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    SockRef::from(&socket).set_send_buffer_size(LEN).expect("set");
    let (peer, _) = listener.accept().expect("it was connected");
    peer.set_read_timeout(Some(PATIENCE)).expect("set");
    (socket.into(), Box::new(peer), 0)
}
