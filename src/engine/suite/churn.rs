//! Many connections, at random.

use super::{FAR, NEAR, Network, World, payload};
use crate::base::Rng;
use crate::engine::driver::{Address, Close, Token};

/// How a connection of the churn will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Both sides send everything, finish and close.
    Orderly,
    /// The near side closes with everything still queued.
    Flush,
    /// The near side aborts at some point.
    Abort,
}

/// One connection of the churn, from both sides.
struct Call {
    near: Token,
    far: Option<Token>,
    stream: u64,
    len: usize,
    ending: Ending,
    closing: [bool; 2],
}

/// Connections open, carry a checked payload and end in every way, up to a hundred at once. Their first bytes tell
/// which connection the far side has accepted.
pub(super) fn connections_come_and_go_at_random<N: Network>(seed: u64) -> Option<()> {
    const CALLS: u64 = 1500;
    const AT_ONCE: usize = 100;
    let mut world = World::<N>::new(seed)?;
    let (_, address) = world.listen();
    let mut calls: Vec<Call> = Vec::new();
    let mut strangers: Vec<Token> = Vec::new();
    let mut started = 0;
    let mut whole = 0;
    world.until("all connections came and went", |world| {
        while started < CALLS && calls.len() < AT_ONCE && !world.rng.chance(0.2) {
            started += 1;
            calls.push(start(world, &address, seed * 1_000_000 + started));
        }
        while let Some(accepted) = world.nodes[FAR].accepted.pop_front() {
            let end = world.nodes[FAR].adopt(accepted.raw);
            world.nodes[FAR].driver.receive(end, true);
            strangers.push(end);
        }
        recognise(world, &mut calls, &mut strangers);
        calls.retain_mut(|call| {
            let ended = advance(world, call);
            whole += usize::from(ended && call.ending != Ending::Abort);
            !ended
        });
        started == CALLS && calls.is_empty() && strangers.is_empty()
    });
    assert!(whole > CALLS as usize / 3, "only {whole} connections ended in order");
    world.finish();
    Some(())
}

fn start<N: Network>(world: &mut World<N>, address: &Address, stream: u64) -> Call {
    let ending = match world.rng.below(4) {
        0 => Ending::Abort,
        1 => Ending::Flush,
        _ => Ending::Orderly,
    };
    let len = 8 + world.rng.below(20_000) as usize;
    let near = world.nodes[NEAR].connect(address);
    world.nodes[NEAR].driver.receive(near, true);
    let mut bytes = stream.to_le_bytes().to_vec();
    bytes.extend_from_slice(&payload(stream, len)[8..]);
    // Queued before the connection is established.
    let mut rng = world.rng.fork();
    let queued = world.nodes[NEAR].send_cut(near, &bytes, &mut rng);
    assert_eq!(queued, len, "buffers for a hundred connections");
    match ending {
        Ending::Orderly => world.nodes[NEAR].driver.shutdown(near),
        Ending::Flush => world.nodes[NEAR].driver.close(near, Close::Flush),
        Ending::Abort => {}
    }
    Call { near, far: None, stream, len, ending, closing: [ending == Ending::Flush, false] }
}

/// Finds out which call each accepted connection belongs to, or that this can no longer be known.
fn recognise<N: Network>(world: &mut World<N>, calls: &mut [Call], strangers: &mut Vec<Token>) {
    strangers.retain(|end| {
        let log = world.nodes[FAR].log(*end);
        if let Some(head) = log.received.first_chunk::<8>() {
            let stream = u64::from_le_bytes(*head);
            if let Some(call) = calls.iter_mut().find(|call| call.stream == stream) {
                call.far = Some(*end);
                return false;
            }
        }
        if log.closed {
            world.nodes[FAR].forget(*end);
            return false;
        }
        if log.ended.is_some() {
            // A connection that was aborted before it sent its number, or that the near side has finished with.
            world.nodes[FAR].driver.close(*end, Close::Flush);
        }
        true
    });
}

/// Advances one connection. Returns true when both sides are gone.
fn advance<N: Network>(world: &mut World<N>, call: &mut Call) -> bool {
    if call.ending == Ending::Abort && !call.closing[NEAR] && world.rng.chance(0.3) {
        world.nodes[NEAR].driver.close(call.near, Close::Abort);
        call.closing[NEAR] = true;
    }
    let near_log = world.nodes[NEAR].log(call.near);
    let near_gone = near_log.closed;
    let near_ended = near_log.ended.is_some();
    if near_ended && !call.closing[NEAR] {
        if call.ending == Ending::Orderly {
            assert!(near_log.received == payload(call.stream + 1, call.len), "another answer");
        }
        call.closing[NEAR] = true;
        world.nodes[NEAR].driver.close(call.near, Close::Flush);
    }
    let Some(far) = call.far else {
        // An aborted connection may never have been accepted, or never have sent its number.
        if near_gone && call.ending == Ending::Abort {
            world.nodes[NEAR].forget(call.near);
            return true;
        }
        return false;
    };
    let far_log = world.nodes[FAR].log(far);
    let far_gone = far_log.closed;
    if far_log.ended.is_some() && !call.closing[FAR] {
        call.closing[FAR] = true;
        if call.ending != Ending::Abort {
            let received = &far_log.received;
            assert!(matches!(far_log.ended, Some(Ok(()))), "{:?} ended in {:?}", call.ending, far_log.ended);
            assert_eq!(received.len(), call.len, "{:?}", call.ending);
            assert!(received[8..] == payload(call.stream, call.len)[8..], "another request");
        }
        world.nodes[FAR].send(far, &payload(call.stream + 1, call.len));
        world.nodes[FAR].driver.close(far, Close::Flush);
    }
    if near_gone && far_gone {
        world.nodes[NEAR].forget(call.near);
        world.nodes[FAR].forget(far);
    }
    near_gone && far_gone
}

/// Random pauses, closes and detaches race with arriving bytes. What is received is always a prefix of what was sent,
/// without gaps, and every socket ends.
pub(super) fn verbs_race_with_what_arrives<N: Network>(seed: u64) -> Option<()> {
    const ROUNDS: u64 = 150;
    let mut world = World::<N>::new(seed)?;
    let (_, address) = world.listen();
    for round in 0..ROUNDS {
        let (near, far) = world.connect(&address);
        let bytes = payload(round, 60_000);
        let mut rng = Rng::new(seed * 1000 + round);
        let queued = world.nodes[NEAR].send_cut(near, &bytes, &mut rng);
        let mut received = Vec::new();
        let far = race(&mut world, far, &mut rng, &mut received);
        let end = [Close::Abort, Close::Flush][rng.below(2) as usize];
        world.nodes[FAR].driver.close(far, end);
        world.nodes[NEAR].driver.receive(near, true);
        world.nodes[NEAR].driver.close(near, end);
        world.until("both ends are gone", |world| {
            world.nodes[NEAR].log(near).closed && world.nodes[FAR].log(far).closed
        });
        received.extend_from_slice(&world.nodes[FAR].forget(far).received);
        world.nodes[NEAR].forget(near);
        assert!(received.len() <= queued && received == bytes[..received.len()], "round {round}: a gap");
    }
    world.finish();
    Some(())
}

/// Pauses, arms and moves the far end at random. Returns its last token.
fn race<N: Network>(world: &mut World<N>, mut far: Token, rng: &mut Rng, received: &mut Vec<u8>) -> Token {
    for _ in 0..rng.below(12) {
        match rng.below(8) {
            0 => {
                world.nodes[FAR].driver.detach(far);
                world.until("it is detached", |world| world.nodes[FAR].log(far).closed);
                let log = world.nodes[FAR].forget(far);
                received.extend_from_slice(&log.received);
                far = world.nodes[FAR].adopt(log.detached.expect("nothing has failed"));
            }
            1 | 2 => world.nodes[FAR].driver.receive(far, false),
            3 | 4 => world.nodes[FAR].driver.receive(far, true),
            5 => {
                world.nodes[FAR].driver.receive(far, true);
                world.nodes[FAR].driver.receive(far, false);
                world.nodes[FAR].driver.receive(far, true);
            }
            _ => world.turn(),
        }
    }
    far
}

/// A new socket in a slot that was just freed receives only its own bytes, while bytes for the previous socket are in
/// flight.
pub(super) fn a_place_used_again_sees_nothing_of_its_past<N: Network>(seed: u64) -> Option<()> {
    let mut world = World::<N>::new(seed)?;
    let (_, address) = world.listen();
    let mut place = None;
    for round in 0..200_u64 {
        let (near, far) = world.connect(&address);
        if let Some(index) = place {
            assert_eq!(far.index, index, "the place was not used again");
        }
        place = Some(far.index);
        assert_eq!(u64::from(far.generation), round);
        world.nodes[FAR].driver.receive(far, true);
        let mark = round.to_le_bytes();
        world.nodes[NEAR].send(near, &mark.repeat(500));
        if world.rng.chance(0.5) {
            world.turn();
        }
        world.nodes[FAR].driver.close(far, Close::Abort);
        world.nodes[NEAR].driver.close(near, Close::Abort);
        world.until("both are gone", |world| world.nodes[NEAR].log(near).closed && world.nodes[FAR].log(far).closed);
        let log = world.nodes[FAR].forget(far);
        assert!(log.received.chunks(8).all(|chunk| chunk == &mark[..chunk.len()]), "bytes of another life");
        world.nodes[NEAR].forget(near);
    }
    world.finish();
    Some(())
}
