//! Datagram sockets: batches, addresses, marks, pauses, errors, scarcity.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{FAR, NEAR, Network, World, payload};
use crate::base::Time;
use crate::engine::driver::{Token, Wait};
use crate::engine::pool::Class;
use crate::engine::{DatagramBatch, Ecn, LARGE_LEN};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl<N: Network> World<N> {
    /// Two sockets that receive, and their addresses.
    fn bound_pair(&mut self) -> [(Token, SocketAddr); 2] {
        [NEAR, FAR].map(|side| {
            let (socket, bound) = self.nodes[side].bind(LOOPBACK);
            self.nodes[side].driver.receive(socket, true);
            (socket, bound.address)
        })
    }

    fn batch(&self, side: usize, peer: SocketAddr, segment_len: usize, bytes: &[u8]) -> DatagramBatch {
        let mut lease = self.nodes[side].pool.take(Class::for_len(bytes.len())).expect("a buffer to send");
        lease.append(bytes);
        DatagramBatch { peer, local: None, ecn: None, segment_len, bytes: lease }
    }

    /// The payloads that a socket has received so far, in order.
    fn payloads(&mut self, side: usize, socket: Token) -> Vec<Vec<u8>> {
        let batches = &self.nodes[side].log(socket).datagrams;
        batches.iter().flat_map(|batch| batch.datagrams().map(<[u8]>::to_vec)).collect()
    }

    /// Waits until `count` datagrams were received.
    fn received(&mut self, side: usize, socket: Token, count: usize) -> Vec<Vec<u8>> {
        self.until("the datagrams arrive", |world| world.payloads(side, socket).len() >= count);
        let mut payloads = self.payloads(side, socket);
        // The network may swap them.
        payloads.sort();
        payloads
    }
}

/// However datagrams are put together and cut again, each arrives once and whole.
pub(super) fn batches_arrive_as_the_datagrams_that_were_sent<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    let mut sent = Vec::new();
    for (segment_len, bytes) in [(1200, 12_345), (1, 1), (1452, 1452 * 40), (700, 699), (9000, 60_000), (100, 6_400)] {
        let bytes = payload(seed + segment_len as u64, bytes);
        sent.extend(bytes.chunks(segment_len).map(<[u8]>::to_vec));
        let batch = world.batch(NEAR, address, segment_len, &bytes);
        world.nodes[NEAR].driver.send_datagrams(near, batch);
    }
    let received = world.received(FAR, far, sent.len());
    let bytes: usize = sent.iter().map(Vec::len).sum();
    sent.sort();
    assert!(received == sent, "{} datagrams instead of {}", received.len(), sent.len());
    assert_eq!(world.nodes[NEAR].log(near).sent, bytes);
    world.finish();
    Some(())
}

/// The receiver learns both addresses and the mark, and can answer from the address that was called; over IPv6 too.
pub(super) fn addresses_and_marks_are_carried_both_ways<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let any = [SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
    let called = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for (any, called) in any.into_iter().zip(called) {
        let [near, far] = [NEAR, FAR].map(|side| {
            let (socket, bound) = world.nodes[side].bind(any);
            world.nodes[side].driver.receive(socket, true);
            (socket, bound.address.port())
        });
        for ecn in [None, Some(Ecn::Capable0), Some(Ecn::Capable1), Some(Ecn::Congested)] {
            let question = world.batch(NEAR, SocketAddr::new(called, far.1), 8, b"question");
            world.nodes[NEAR].driver.send_datagrams(near.0, DatagramBatch { ecn, ..question });
            world.until("it arrives", |world| !world.nodes[FAR].log(far.0).datagrams.is_empty());
            let arrived = world.nodes[FAR].log(far.0).datagrams.pop()?;
            assert_eq!((arrived.local, arrived.ecn, &*arrived.bytes), (Some(called), ecn, &b"question"[..]));
            assert_eq!(arrived.peer, SocketAddr::new(called, near.1));
            let answer = world.batch(FAR, arrived.peer, 6, b"answer");
            let answer = DatagramBatch { local: arrived.local, ecn, ..answer };
            world.nodes[FAR].driver.send_datagrams(far.0, answer);
            world.until("the answer arrives", |world| !world.nodes[NEAR].log(near.0).datagrams.is_empty());
            let arrived = world.nodes[NEAR].log(near.0).datagrams.pop()?;
            assert_eq!((arrived.peer, arrived.ecn), (SocketAddr::new(called, far.1), ecn));
        }
    }
    world.finish();
    Some(())
}

/// Datagrams wait while a socket is paused.
pub(super) fn a_paused_socket_receives_later<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    world.nodes[FAR].driver.receive(far, false);
    world.a_while();
    for at in 0..20_u8 {
        let batch = world.batch(NEAR, address, 1, &[at]);
        world.nodes[NEAR].driver.send_datagrams(near, batch);
    }
    world.a_while();
    assert!(world.nodes[FAR].log(far).datagrams.is_empty(), "a paused socket received");
    world.nodes[FAR].driver.receive(far, true);
    let received = world.received(FAR, far, 20);
    assert_eq!(received, (0..20_u8).map(|at| vec![at]).collect::<Vec<_>>());
    world.finish();
    Some(())
}

/// A probe of the path's size that the system refuses is reported, and what follows is sent.
pub(super) fn what_is_too_large_is_dropped_and_the_rest_goes_on<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    for len in [LARGE_LEN, 60_000, LARGE_LEN - 1, 10] {
        let batch = world.batch(NEAR, address, len, &payload(seed, len));
        world.nodes[NEAR].driver.send_datagrams(near, batch);
    }
    let received = world.received(FAR, far, 2);
    assert_eq!(received.iter().map(Vec::len).sum::<usize>(), 60_010);
    assert_eq!(world.nodes[NEAR].log(near).datagrams_dropped.len(), 2);
    assert_eq!(world.nodes[NEAR].log(near).sent, 60_010);
    world.finish();
    Some(())
}

/// A peer that is gone is not an error of the socket.
pub(super) fn a_port_that_nobody_holds_stops_nothing<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, own), (far, address)] = world.bound_pair();
    let (gone, nobody) = world.nodes[FAR].bind(LOOPBACK);
    world.nodes[FAR].close(gone);
    world.until("it is gone", |world| world.nodes[FAR].log(gone).closed);
    for at in 0..10_u8 {
        for peer in [nobody.address, address] {
            let batch = world.batch(NEAR, peer, 1, &[at]);
            world.nodes[NEAR].driver.send_datagrams(near, batch);
        }
        world.turn();
    }
    assert_eq!(world.received(FAR, far, 10).len(), 10);
    let batch = world.batch(FAR, own, 4, b"back");
    world.nodes[FAR].driver.send_datagrams(far, batch);
    assert_eq!(world.received(NEAR, near, 1), [b"back".to_vec()]);
    world.finish();
    Some(())
}

/// With an empty pool nothing is received and no turn is wasted; a buffer that is returned is used.
pub(super) fn without_buffers_datagrams_wait_and_nothing_spins<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    let links = world.nodes[FAR].pool.for_links();
    let mut hoard: Vec<_> = std::iter::from_fn(|| links.take(Class::Large)).collect();
    hoard.extend(std::iter::from_fn(|| links.take(Class::Small)));
    let batch = world.batch(NEAR, address, 5, b"hello");
    world.nodes[NEAR].driver.send_datagrams(near, batch);
    world.a_while();
    let node = &mut world.nodes[FAR];
    let (deadline, mut turns) = (node.driver.now() + Duration::from_millis(20), 0);
    while node.driver.now() < deadline {
        node.turn(Wait::Until(deadline));
        turns += 1;
    }
    assert!(turns <= 100, "{turns} turns without a buffer");
    assert!(world.nodes[FAR].log(far).datagrams.is_empty(), "received without a buffer");
    hoard.clear();
    assert_eq!(world.received(FAR, far, 1), [b"hello".to_vec()]);
    world.finish();
    Some(())
}

/// Whatever the buffers of the system do, every queued byte is reported sent or dropped.
pub(super) fn many_more_than_a_buffer_holds_are_all_reported<N: Network>(seed: u64) -> Option<()> {
    const BATCHES: usize = 40;
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    let bytes = payload(seed, 60_000);
    let mut queued = 0;
    while queued < BATCHES * bytes.len() {
        let batch = world.batch(NEAR, address, 1200, &bytes);
        world.nodes[NEAR].driver.send_datagrams(near, batch);
        queued += bytes.len();
    }
    world.until("all are sent", |world| world.nodes[NEAR].log(near).sent == queued);
    world.until("some arrive", |world| !world.nodes[FAR].log(far).datagrams.is_empty());
    world.a_while();
    // Some may be lost for lack of room, but none is invented or damaged.
    let known: Vec<&[u8]> = bytes.chunks(1200).collect();
    assert!(world.payloads(FAR, far).iter().all(|datagram| known.contains(&&datagram[..])));
    world.finish();
    Some(())
}

/// After the last event of a socket its slot and its port can be used again.
pub(super) fn a_closed_socket_gives_its_place_and_port_back<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let [(near, _), (far, address)] = world.bound_pair();
    let batch = world.batch(NEAR, address, 3, b"old");
    world.nodes[NEAR].driver.send_datagrams(near, batch);
    world.nodes[FAR].close(far);
    world.until("it is gone", |world| world.nodes[FAR].log(far).closed);
    world.nodes[FAR].forget(far);
    let (again, bound) = world.nodes[FAR].bind(address);
    assert_eq!((again.index, bound.address), (far.index, address));
    world.nodes[FAR].driver.receive(again, true);
    world.a_while();
    world.nodes[FAR].log(again).datagrams.clear();
    let batch = world.batch(NEAR, address, 3, b"new");
    world.nodes[NEAR].driver.send_datagrams(near, batch);
    assert_eq!(world.received(FAR, again, 1), [b"new".to_vec()]);
    // Verbs on a token that is gone do nothing.
    let batch = world.batch(FAR, address, 3, b"no");
    world.nodes[FAR].driver.send_datagrams(far, batch);
    world.nodes[FAR].driver.receive(far, true);
    world.a_while();
    world.nodes[FAR].turn(Wait::Until(Time::ZERO));
    world.finish();
    Some(())
}

/// Two sockets at one port divide the peers between them: all datagrams of a peer reach the same one.
pub(super) fn sockets_share_a_port_and_keep_to_their_peers<N: Network>(seed: u64) -> Option<()> {
    const PEERS: usize = 16;
    let mut world = World::<N>::new(seed)?;
    let (first, bound) = world.nodes[FAR].bind(LOOPBACK);
    let (second, _) = world.nodes[FAR].bind(bound.address);
    for socket in [first, second] {
        world.nodes[FAR].driver.receive(socket, true);
    }
    let peers: Vec<Token> = (0..PEERS).map(|_| world.nodes[NEAR].bind(LOOPBACK).0).collect();
    for round in 0..3_u8 {
        for peer in &peers {
            let batch = world.batch(NEAR, bound.address, 1, &[round]);
            world.nodes[NEAR].driver.send_datagrams(*peer, batch);
        }
        world.a_while();
    }
    world.until("all arrive", |world| {
        [first, second].iter().map(|socket| world.payloads(FAR, *socket).len()).sum::<usize>() == 3 * PEERS
    });
    let from = |world: &mut World<N>, socket| -> Vec<SocketAddr> {
        world.nodes[FAR].log(socket).datagrams.iter().map(|batch| batch.peer).collect()
    };
    let (of_first, of_second) = (from(&mut world, first), from(&mut world, second));
    assert!(of_first.iter().all(|peer| !of_second.contains(peer)), "a peer was given to both");
    world.finish();
    Some(())
}
