//! Queues of leases, packed so that few bytes do not occupy many buffers.

use std::collections::VecDeque;

use crate::base::Chunk;
use crate::engine::sys::lease::COPY_LEN_MAX;
use crate::engine::{LARGE_LEN, Lease, SMALL_LEN};

/// Appends a lease to a queue whose first `fixed` leases must not change.
///
/// A small piece is copied behind the last one if there is room. If not, it is copied into a new buffer with room for
/// later pieces, unless its own buffer has room: otherwise it could keep a whole buffer in use alone. While the pool is
/// under pressure, everything that does not fill its buffer is copied together, because a slice of a large buffer keeps
/// all of it in use.
pub fn push_packed(queue: &mut VecDeque<Lease>, fixed: usize, mut lease: Lease) {
    let pressed = lease.pool_is_pressed();
    let waits = queue.len() > fixed;
    if let Some(last) = queue.back_mut().filter(|_| waits) {
        match last.absorb(lease) {
            None => return,
            Some(back) => lease = back,
        }
        if pressed {
            let taken = last.append_some(&lease);
            lease.advance(taken);
        }
    }
    let is_small = waits && lease.len() <= COPY_LEN_MAX;
    let copies = if lease.is_of_large() {
        if pressed { lease.len() < LARGE_LEN / 2 } else { is_small }
    } else {
        is_small && lease.capacity() < SMALL_LEN / 2
    };
    while copies && !lease.is_empty() {
        let Some(mut small) = lease.small_of_same_pool() else { break };
        let taken = small.append_some(&lease);
        lease.advance(taken);
        queue.push_back(small);
    }
    if !lease.is_empty() {
        queue.push_back(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::engine::{BUFFER_MEMORY_DEFAULT, Class, Pool};

    fn lease(pool: &Pool, class: Class, bytes: &[u8]) -> Lease {
        let mut lease = pool.take(class).unwrap();
        lease.append(bytes);
        lease
    }

    #[test]
    fn small_pieces_share_a_buffer_but_for_those_that_are_fixed() {
        let pool = Pool::new(0);
        let mut queue = VecDeque::new();
        for _ in 0..1_000 {
            push_packed(&mut queue, 1, lease(&pool, Class::Small, b"0123456789abcdef"));
        }
        assert_eq!(queue[0].len(), 16);
        assert!(queue.len() <= 1 + 16_000_usize.div_ceil(SMALL_LEN), "{} buffers", queue.len());
    }

    #[test]
    fn parts_of_one_buffer_in_many_queues_do_not_each_keep_it() {
        const QUEUES: usize = 4;
        let pool = Pool::new(0);
        let mut queues = [const { VecDeque::new() }; QUEUES];
        let mut pushed = 0;
        for _ in 0..400 {
            // As frames of many streams that came together.
            let mut received = lease(&pool, Class::Small, &[7; QUEUES * 66]);
            for queue in &mut queues {
                push_packed(queue, 0, received.split_to(66));
                pushed += 66;
            }
        }
        let kept = pool.usage().leased_bytes;
        assert!(kept <= pushed + QUEUES * 2 * SMALL_LEN, "{kept} bytes for {pushed}");
    }

    #[test]
    fn under_pressure_slices_do_not_keep_large_buffers() {
        let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
        let _taken: Vec<Lease> = (0..600).map_while(|_| pool.take_for_receive(Class::Large)).collect();
        assert!(pool.is_pressed());
        let mut queue = VecDeque::new();
        let (before, mut pushed) = (pool.usage().leased_bytes, 0);
        for _ in 0..20 {
            let mut whole = lease(&pool, Class::Large, &[1; LARGE_LEN]);
            push_packed(&mut queue, 0, whole.split_to(3_000));
            pushed += 3_000;
        }
        let kept = pool.usage().leased_bytes - before;
        assert!(kept <= pushed + SMALL_LEN, "{kept} bytes for {pushed}");
    }

    #[test]
    fn slices_do_not_keep_large_buffers_when_none_is_left_for_receiving() {
        let pool = Pool::new(0);
        let links = pool.for_links();
        let _received: Vec<Lease> = std::iter::from_fn(|| pool.take_for_receive(Class::Small)).collect();
        let _sent: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Small)).collect();
        let mut queues = [const { VecDeque::new() }; 3];
        let before = pool.usage().leased_bytes;
        let mut whole = lease(&links, Class::Large, &[1; LARGE_LEN]);
        for queue in &mut queues {
            push_packed(queue, 0, whole.split_to(500));
        }
        drop(whole);
        let kept = pool.usage().leased_bytes - before;
        assert_eq!(kept, queues.len() * SMALL_LEN, "the large buffer is free");
        assert!(queues.iter().flatten().all(|lease| lease.to_vec() == [1; 500]));
    }

    #[test]
    fn no_byte_is_lost_or_moved() {
        let mut rng = Rng::new(17);
        for pressed in [false, true] {
            let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
            let taken: Vec<Lease> = (0..600).map_while(|_| pool.take_for_receive(Class::Large)).collect();
            let _taken = taken.into_iter().take(if pressed { 600 } else { 0 }).collect::<Vec<_>>();
            assert_eq!(pool.is_pressed(), pressed);
            let (mut queue, mut sent, mut n) = (VecDeque::new(), Vec::new(), 0_u8);
            for _ in 0..500 {
                let most = if rng.chance(0.7) { 100 } else { 20_000 };
                let len = rng.between(1, most) as usize;
                let bytes: Vec<u8> = (0..len)
                    .map(|_| {
                        n = n.wrapping_add(1);
                        n
                    })
                    .collect();
                let mut piece = lease(&pool, Class::for_len(len), &bytes);
                if rng.chance(0.5) {
                    let cut = rng.below(len as u64) as usize;
                    let front = piece.split_to(cut);
                    if !front.is_empty() {
                        push_packed(&mut queue, 0, front);
                    }
                }
                push_packed(&mut queue, 0, piece);
                sent.extend_from_slice(&bytes);
                while queue.len() > 20 {
                    let front: Lease = queue.pop_front().unwrap();
                    assert_eq!(sent.drain(..front.len()).collect::<Vec<_>>(), front.to_vec());
                }
            }
            assert_eq!(queue.iter().flat_map(|lease| lease.to_vec()).collect::<Vec<_>>(), sent);
        }
    }
}
