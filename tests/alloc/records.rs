//! In steady state a record is sealed and opened without one allocation: counted, not believed.

use crate::tls_pair::pair;
use adit::engine::{Class, Lease, Pool};
use adit::tls::{Sealed, Session, Versions};

use crate::counting::allocations;

/// Seals `len` bytes at `from` and opens them at `to`, whole or in two leases of which the second begins at `cut`.
fn send(from: &mut Session, to: &mut Session, pool: &Pool, len: usize, in_place: bool, cut: Option<usize>) {
    let mut plain = pool.take(Class::Large).unwrap();
    if in_place {
        plain.reserve_headroom(from.headroom());
    }
    plain.spare_mut()[..len].fill(7);
    plain.filled(len);
    let mut received = 0;
    let mut left = Some(plain);
    while let Some(plain) = left.take() {
        let sealed = match from.seal(plain, pool).map_err(|unsealed| unsealed.error).unwrap() {
            Sealed::All(sealed) => sealed,
            Sealed::Part { sealed, rest } => {
                left = Some(rest);
                sealed
            }
        };
        for part in parts(sealed, pool, cut) {
            to.read(part);
        }
        while let Some(plain) = to.take_plaintext(pool).unwrap() {
            received += plain.len();
        }
    }
    assert_eq!(received, len);
}

fn parts(sealed: Lease, pool: &Pool, cut: Option<usize>) -> impl Iterator<Item = Lease> + use<> {
    let Some(cut) = cut else { return [Some(sealed), None].into_iter().flatten() };
    // Copied, as two receives would have it: leases that touch would be joined without a copy.
    let copy = |bytes: &[u8]| {
        let mut lease = pool.take(Class::Large).unwrap();
        lease.append(bytes);
        lease
    };
    let (front, back) = sealed.split_at(cut);
    [Some(copy(front)), Some(copy(back))].into_iter().flatten()
}

#[test]
fn records_are_sealed_and_opened_without_allocation() {
    for versions in [Versions::Tls13, Versions::Tls12And13] {
        let pool = Pool::new(0);
        let (mut client, mut server) = pair(versions, &pool);
        let round = |from: &mut Session, to: &mut Session| {
            for len in [1, 1_000, 16_384] {
                send(from, to, &pool, len, true, None);
                send(from, to, &pool, len, false, None);
                send(from, to, &pool, len, true, Some(3));
                send(from, to, &pool, len, true, Some(12));
            }
            send(from, to, &pool, 64 * 1024, false, None);
        };
        // The pool and the queues grow to their size once.
        round(&mut client, &mut server);
        round(&mut server, &mut client);
        let before = allocations();
        for _ in 0..50 {
            round(&mut client, &mut server);
            round(&mut server, &mut client);
        }
        assert_eq!(allocations() - before, 0, "{versions:?}");
    }
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(allocations() - before, 1);
}
