//! Back-pressure: no buffers, paused receiving, a peer that does not read.

use std::time::Duration;

use super::{FAR, NEAR, Network, World, payload};
use crate::engine::driver::{Token, Wait};
use crate::engine::pool::BUFFER_MEMORY_MIN;

/// When the receiver holds every buffer, bytes wait in the network, turns block, and nothing is lost.
pub(super) fn without_buffers_bytes_wait_and_nothing_spins<N: Network>(seed: u64) -> Option<()> {
    const STREAMS: u64 = 6;
    const LEN: usize = 700_000;
    let mut world = World::<N>::with_buffers(seed, BUFFER_MEMORY_MIN)?;
    let pairs: Vec<(Token, Token)> = (0..STREAMS).map(|_| world.pair()).collect();
    let payloads: Vec<Vec<u8>> = (0..STREAMS).map(|stream| payload(seed * 10 + stream, LEN)).collect();
    let mut queued = vec![0; pairs.len()];
    world.nodes[FAR].kept = Some(Vec::new());
    let mut still = 0;
    let mut before = 0;
    world.until("the receiver has no buffer left", |world| {
        feed(world, &pairs, &payloads, &mut queued);
        let received: usize = pairs.iter().map(|(_, far)| world.nodes[FAR].log(*far).received.len()).sum();
        still = if received == before { still + 1 } else { 0 };
        before = received;
        still > 50
    });
    assert!(world.nodes[FAR].pool.usage().exhausted > 0, "there were buffers enough");
    let node = &mut world.nodes[FAR];
    let deadline = node.driver.now() + Duration::from_millis(20);
    let mut turns = 0;
    while node.driver.now() < deadline {
        node.turn(Wait::Until(deadline));
        turns += 1;
    }
    assert!(turns < 40, "{turns} turns without anything to do");
    world.until("everything arrives once buffers come back", |world| {
        if let Some(kept) = &mut world.nodes[FAR].kept
            && !kept.is_empty()
        {
            let at = world.rng.below(kept.len() as u64) as usize;
            kept.swap_remove(at);
        }
        feed(world, &pairs, &payloads, &mut queued);
        pairs.iter().all(|(_, far)| world.nodes[FAR].log(*far).received.len() == LEN)
    });
    for ((_, far), payload) in pairs.iter().zip(&payloads) {
        assert!(world.nodes[FAR].log(*far).received == *payload, "other bytes arrived");
    }
    world.finish();
    Some(())
}

/// When other sockets hold every buffer for receiving, a link still receives.
pub(super) fn a_link_receives_when_others_cannot<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::with_buffers(seed, BUFFER_MEMORY_MIN)?;
    let (near, far) = world.pair();
    let (link_near, link_far) = world.pair();
    world.nodes[FAR].kept = Some(Vec::new());
    let greedy = payload(seed, 100_000);
    let mut queued = 0;
    world.until("the receiver has no buffer left", |world| {
        if world.nodes[NEAR].pool.usage().leased_bytes < BUFFER_MEMORY_MIN / 2 {
            queued += world.nodes[NEAR].send(near, &greedy);
        }
        !world.nodes[FAR].pool.can_receive()
    });
    for _ in 0..10 {
        world.a_while();
    }
    let before = world.nodes[FAR].log(far).received.len();
    world.nodes[FAR].driver.serve_link(link_far);
    let news = payload(seed + 1, 20_000);
    assert_eq!(world.nodes[NEAR].send(link_near, &news), news.len());
    world.until("the link's bytes arrive", |world| world.nodes[FAR].log(link_far).received.len() == news.len());
    assert!(world.nodes[FAR].log(link_far).received == news);
    assert!(world.nodes[FAR].log(far).received.len() <= before, "the other had buffers of the link's");
    world.nodes[FAR].kept = None;
    world.until("the others go on", |world| world.nodes[FAR].log(far).received.len() == queued);
    world.finish();
    Some(())
}

/// Thousands of small pieces for a peer that does not read take little more memory than their bytes.
pub(super) fn small_pieces_that_wait_to_be_sent_share_buffers<N: Network>(seed: u64) -> Option<()> {
    const PIECES: usize = 60_000;
    let mut world = World::<N>::with_buffers(seed, BUFFER_MEMORY_MIN)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.receive(far, false);
    world.a_while();
    let bytes = payload(seed, 16);
    for n in 0..PIECES {
        assert_eq!(world.nodes[NEAR].send(near, &bytes), bytes.len(), "no buffer for piece {n}");
        if n % 100 == 0 {
            world.turn();
        }
    }
    world.nodes[FAR].driver.receive(far, true);
    world.until("all of them arrive", |world| world.nodes[FAR].log(far).received.len() == PIECES * bytes.len());
    assert!(world.nodes[FAR].log(far).received == bytes.repeat(PIECES));
    world.finish();
    Some(())
}

/// Queues as much as there are buffers for.
fn feed<N: Network>(world: &mut World<N>, pairs: &[(Token, Token)], payloads: &[Vec<u8>], queued: &mut [usize]) {
    for (at, (near, _)) in pairs.iter().enumerate() {
        let until = (queued[at] + 20_000).min(payloads[at].len());
        queued[at] += world.nodes[NEAR].send(*near, &payloads[at][queued[at]..until]);
    }
}

/// Far more sockets than buffers have something to receive at the same time, again and again.
pub(super) fn a_burst_over_many_sockets_arrives<N: Network>(seed: u64) -> Option<()> {
    const SOCKETS: usize = 300;
    const BURSTS: usize = 5;
    let mut world = World::<N>::with_buffers(seed, 8 * 1024 * 1024)?;
    let (_, address) = world.listen();
    let pairs: Vec<(Token, Token)> = (0..SOCKETS).map(|_| world.connect(&address)).collect();
    let bytes = payload(seed, 1000);
    for (_, far) in &pairs {
        world.nodes[FAR].driver.receive(*far, true);
    }
    for burst in 1..=BURSTS {
        for (near, _) in &pairs {
            assert_eq!(world.nodes[NEAR].send(*near, &bytes), bytes.len());
        }
        world.until("the burst arrives", |world| {
            pairs.iter().all(|(_, far)| world.nodes[FAR].log(*far).received.len() == burst * bytes.len())
        });
    }
    let expected = bytes.repeat(BURSTS);
    assert!(pairs.iter().all(|(_, far)| world.nodes[FAR].log(*far).received == expected));
    world.finish();
    Some(())
}

/// A socket that is paused before anything arrives reports nothing, and later everything, including the end.
pub(super) fn a_pause_holds_everything_back<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (near, far) = world.pair();
    world.a_while();
    world.nodes[FAR].driver.receive(far, false);
    world.a_while();
    let bytes = payload(seed, 50_000);
    world.nodes[NEAR].send(near, &bytes);
    world.nodes[NEAR].driver.shutdown(near);
    world.a_while();
    assert!(world.nodes[FAR].log(far).received.is_empty());
    assert!(world.nodes[FAR].log(far).ended.is_none());
    world.nodes[FAR].driver.receive(far, true);
    world.until("the end arrives", |world| world.nodes[FAR].log(far).ended.is_some());
    assert!(world.nodes[FAR].log(far).received == bytes);
    world.finish();
    Some(())
}

/// Sending to a receiver that does not read stops after a while, and continues when it reads.
pub(super) fn a_slow_reader_stops_the_sender<N: Network>(seed: u64) -> Option<()> {
    const LEN: usize = 14 * 1024 * 1024;
    let mut world = World::<N>::with_buffers(seed, 64 * 1024 * 1024)?;
    let (near, far) = world.pair();
    world.nodes[FAR].driver.receive(far, false);
    let bytes = payload(seed, LEN);
    assert_eq!(world.nodes[NEAR].send(near, &bytes), LEN);
    for _ in 0..10 {
        world.a_while();
    }
    assert!(world.nodes[NEAR].log(near).sent < LEN, "the network took everything");
    world.nodes[FAR].driver.receive(far, true);
    world.until("everything arrives", |world| world.nodes[FAR].log(far).received.len() == LEN);
    assert!(world.nodes[FAR].log(far).received == bytes);
    world.finish();
    Some(())
}
