use super::*;
use crate::base::Rng;

#[test]
fn a_lease_has_room_on_both_sides() {
    let pool = Pool::new(0);
    let mut lease = pool.take(Class::Small).unwrap();
    lease.reserve_headroom(16);
    lease.append(b"world");
    lease.prepend(b"hello ");
    assert_eq!(&lease[..], b"hello world");
    assert_eq!((lease.headroom(), lease.tailroom()), (10, SMALL_LEN - 21));
    lease.advance(6);
    lease.truncate(3);
    assert_eq!(&lease[..], b"wor");
    lease.retreat(6);
    assert_eq!(&lease[..], b"hello wor");
}

#[test]
fn a_split_buffer_goes_back_with_its_last_lease() {
    let pool = Pool::new(0);
    let mut rest = pool.take(Class::Large).unwrap();
    rest.append(b"abcdef");
    let front = rest.split_to(2);
    assert_eq!((&front[..], &rest[..]), (&b"ab"[..], &b"cdef"[..]));
    assert_eq!(front.tailroom(), 0);
    drop(rest);
    assert_eq!(pool.usage().leased_bytes, LARGE_LEN);
    drop(front);
    assert_eq!(pool.usage().leased_bytes, 0);
}

#[test]
fn neighbours_join_and_strangers_do_not() {
    let pool = Pool::new(0);
    let mut rest = pool.take(Class::Small).unwrap();
    rest.append(b"abcdef");
    let mut front = rest.split_to(3);
    let middle = rest.split_to(1);
    let rest = front.join(rest).expect_err("a gap between them");
    front.join(middle).unwrap();
    front.join(rest).unwrap();
    assert_eq!(&front[..], b"abcdef");
    drop(front);
    assert_eq!(pool.usage().leased_bytes, 0);
}

#[test]
fn an_exhausted_pool_says_so_and_keeps_reserves_for_sending_and_for_links() {
    let pool = Pool::new(0);
    let links = pool.for_links();
    let received: Vec<Lease> = std::iter::from_fn(|| pool.take_for_receive(Class::Large)).collect();
    let sending: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Large)).collect();
    let of_links: Vec<Lease> = std::iter::from_fn(|| links.take(Class::Large)).collect();
    assert!(!received.is_empty() && !sending.is_empty() && !of_links.is_empty());
    assert!(pool.usage().exhausted >= 3);
    let usage = pool.usage();
    let sum = usage.receive_bytes + usage.send_bytes + usage.link_bytes;
    assert_eq!((sum, usage.leased_bytes), (usage.leased_bytes, usage.bytes_max));
    assert!(pool.usage().allocated_bytes <= pool.usage().bytes_max);
    drop(received);
    assert!(pool.take_for_receive(Class::Large).is_some());
}

#[test]
fn random_use_never_shows_one_lease_the_bytes_of_another() {
    let pool = Pool::new(0);
    let mut rng = Rng::new(11);
    let mut held: Vec<(Lease, u8)> = Vec::new();
    for step in 0..20_000_u32 {
        let mark = (step % 251) as u8;
        match rng.below(4) {
            0 => {
                if let Some(mut lease) = pool.take(Class::Small) {
                    let n = rng.below(64) as usize;
                    lease.append(&vec![mark; n]);
                    held.push((lease, mark));
                }
            }
            1 if !held.is_empty() => {
                let at = rng.below(held.len() as u64) as usize;
                let (lease, mark) = &mut held[at];
                let cut = rng.below(lease.len() as u64 + 1) as usize;
                let front = lease.split_to(cut);
                let mark = *mark;
                held.push((front, mark));
            }
            2 if !held.is_empty() => {
                let at = rng.below(held.len() as u64) as usize;
                let (lease, mark) = &mut held[at];
                let n = lease.tailroom().min(8);
                lease.append(&vec![*mark; n]);
            }
            _ if !held.is_empty() => {
                let at = rng.below(held.len() as u64) as usize;
                let (lease, mark) = held.swap_remove(at);
                assert!(lease.iter().all(|byte| *byte == mark));
            }
            _ => {}
        }
    }
    held.clear();
    assert_eq!(pool.usage().leased_bytes, 0);
}

#[test]
fn each_class_can_use_the_whole_budget_and_memory_stays_within_it() {
    let pool = Pool::new(0).for_links();
    for class in [Class::Small, Class::Large, Class::Small] {
        let held: Vec<Lease> = std::iter::from_fn(|| pool.take(class)).collect();
        assert_eq!(held.len(), BUFFER_MEMORY_MIN / class.bytes());
        assert!(pool.usage().allocated_bytes <= BUFFER_MEMORY_MIN);
    }
}

#[test]
fn queues_that_are_never_read_leave_room_for_others() {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let mut held: Vec<Vec<Lease>> = Vec::new();
    // Each queue takes as much as it may, and keeps it.
    for _ in 0..1_000 {
        let mut queue = Vec::new();
        while queue.len() * SMALL_LEN < pool.allowance() {
            queue.push(pool.take(Class::Small).unwrap());
        }
        held.push(queue);
    }
    let left = pool.shared.left();
    assert!(left > BUFFER_MEMORY_DEFAULT / 10, "{left} bytes are left");
    assert!(held.iter().all(|queue| !queue.is_empty()));
}

#[test]
fn waiters_are_woken_when_they_can_be_served_links_first() {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let pool = Pool::new(0);
    let links = pool.for_links();
    let mut held: Vec<Lease> = std::iter::from_fn(|| links.take(Class::Large)).collect();
    let counts: Vec<Arc<Count>> = (0..4).map(|_| Arc::default()).collect();
    let wakers: Vec<Waker> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
    let woken = || counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
    for (at, waker) in wakers.iter().enumerate() {
        let from = if at == 3 { &links } else { &pool };
        // Twice, because a task that is polled again must wait only once.
        for _ in 0..2 {
            assert!(pin!(from.lease(Class::Large)).poll(&mut Context::from_waker(waker)).is_pending());
        }
    }
    assert!(!pool.wake_waiting());
    held.pop();
    assert!(pool.wake_waiting());
    assert_eq!(woken(), [0, 0, 0, 1]);
    held.truncate(held.len() - BUFFER_MEMORY_MIN / LINK_RESERVE / LARGE_LEN);
    assert!(pool.wake_waiting());
    assert_eq!(woken(), [1, 0, 0, 1], "room for one beside the reserve");
    held.clear();
    assert!(pool.wake_waiting() && !pool.wake_waiting());
    assert_eq!((woken(), pool.usage().waiting), (vec![1, 1, 1, 1], 0));
}

#[test]
fn memory_that_is_not_used_is_given_back() {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let mut leases: Vec<Lease> = std::iter::from_fn(|| pool.take(Class::Large)).collect();
    leases.iter_mut().for_each(|lease| lease.append(&[7; LARGE_LEN]));
    drop(leases);
    let mut now = Time::ZERO;
    pool.trim(now);
    while pool.trim_at() != Time::NEVER {
        now = pool.trim_at();
        pool.trim(now);
    }
    assert!(now <= Time::ZERO + Duration::from_secs(20), "{now:?}");
    assert!(pool.usage().allocated_bytes <= IDLE_KEPT);
    let mut again = pool.take(Class::Large).unwrap();
    again.append(b"whole");
    assert_eq!(&again[..], b"whole");
}
