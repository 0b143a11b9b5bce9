//! The buffer sizes that the real drivers receive into.

use super::{EpollNetwork, FAR, NEAR, Network, UringNetwork, World, payload};
use crate::engine::pool::SMALL_LEN;

#[test]
fn bulk_moves_to_large_buffers_and_small_talk_back() {
    bulk_and_back::<EpollNetwork>();
    bulk_and_back::<UringNetwork>();
}

fn bulk_and_back<N: Network>() {
    const ROUNDS: usize = 30;
    let Some(mut world) = World::<N>::with_buffers(1, 64 * 1024 * 1024) else { return };
    let (near, far) = world.pair();
    world.nodes[FAR].kept = Some(Vec::new());
    let bulk = payload(1, 2_000_000);
    assert_eq!(world.nodes[NEAR].send(near, &bulk), bulk.len());
    world.until("the bulk arrives", |world| world.nodes[FAR].log(far).received.len() == bulk.len());
    let kept = world.nodes[FAR].kept.replace(Vec::new()).expect("set above");
    assert!(kept[0].len() <= SMALL_LEN, "a large buffer for a newcomer");
    let large = kept.iter().filter(|lease| lease.capacity() > SMALL_LEN).count();
    assert!(large > 5 && kept.len() < 200, "{large} large ones of {}", kept.len());
    for round in 1..=ROUNDS {
        world.nodes[NEAR].send(near, b"a little");
        let expected = bulk.len() + round * 8;
        world.until("a little arrives", |world| world.nodes[FAR].log(far).received.len() == expected);
    }
    let last = world.nodes[FAR].kept.take().and_then(|mut kept| kept.pop()).expect("what was just received");
    assert_eq!(last.capacity(), SMALL_LEN, "a large buffer for small talk");
    drop((kept, last));
    world.finish();
}
