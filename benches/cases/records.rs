//! Records sealed and opened in place, in leases.

use std::hint::black_box;

use adit::engine::{BUFFER_MEMORY_DEFAULT, Class, Lease, Pool};
use adit::tls::{Sealed, Session, Versions};

use super::Work;
use super::tls_pair::{carry, pair};

/// A record sealed.
pub(crate) fn seal(len: usize) -> Work {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let (mut from, _) = pair(Versions::Tls13, &pool);
    Box::new(move || {
        // A key does not last for ever.
        while from.take_outgoing(&pool).expect("a buffer").is_some() {}
        black_box(&seal_one(&mut from, &pool, len));
    })
}

/// A record sealed by one side and opened by the other.
pub(crate) fn seal_and_open(len: usize) -> Work {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let (mut from, mut to) = pair(Versions::Tls13, &pool);
    Box::new(move || {
        carry(&mut from, &mut to, &pool);
        to.read(seal_one(&mut from, &pool, len));
        let plain = to.take_plaintext(&pool).expect("a record that opens").expect("a whole record");
        assert_eq!(plain.len(), len);
        black_box(&plain);
    })
}

fn seal_one(from: &mut Session, pool: &Pool, len: usize) -> Lease {
    let mut plain = pool.take(Class::Large).expect("a buffer");
    plain.reserve_headroom(from.headroom());
    plain.filled(len);
    match from.seal(plain, pool) {
        Ok(Sealed::All(sealed)) => sealed,
        other => panic!("{len} bytes fit in one buffer: {other:?}"),
    }
}
