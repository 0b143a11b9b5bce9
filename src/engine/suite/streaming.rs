//! Bytes arrive complete and in order, however they are split.

use std::time::Duration;

use super::{FAR, NEAR, Network, World, payload};
use crate::engine::driver::{Token, Wait};
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
