//! Connection ids that name the core of their connection, so that datagrams of a peer whose address has changed find it.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::base::CoreId;

/// The length of a connection id, in bytes.
const ID_LEN: usize = 8;
/// The bit of the first byte that marks a long header (RFC 9000 section 17.2).
const LONG_HEADER: u8 = 0x80;

/// Generates ids of random bytes, of which the first also names the core. It is masked, so that an observer sees no pattern.
pub(super) struct CoreIds {
    pub(super) core: CoreId,
    pub(super) mask: u8,
    /// Fills bytes at random.
    pub(super) random: fn(&mut [u8]),
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LEN];
        (self.random)(&mut id);
        id[0] = first_byte(self.core, self.mask, id[1]);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match **id {
            [first, second, ..] if id.len() == ID_LEN && first == first_byte(self.core, self.mask, second) => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A core's number is less than 256 here; more cores share numbers, and a datagram may then miss its core.
fn first_byte(core: CoreId, mask: u8, second: u8) -> u8 {
    (core.0 as u8) ^ mask ^ second.wrapping_mul(0x9d)
}

/// The core that a datagram names, if its first packet belongs to an established connection. The ids in Initial packets are
/// chosen by the client and name no core.
#[must_use]
pub fn core_of_datagram(datagram: &[u8], mask: u8) -> Option<CoreId> {
    let is_long = datagram.first()? & LONG_HEADER != 0;
    if is_long {
        return None;
    }
    let id = datagram.get(1..1 + ID_LEN)?;
    Some(CoreId(u16::from(id[0] ^ mask ^ id[1].wrapping_mul(0x9d))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_core() {
        fn random(bytes: &mut [u8]) {
            bytes.copy_from_slice(&[7, 99, 3, 4, 5, 6, 7, 8]);
        }
        for core in [0, 1, 77, 255] {
            let mut ids = CoreIds { core: CoreId(core), mask: 0x5a, random };
            let id = ids.generate_cid();
            assert!(ids.validate(&id).is_ok());
            let short: Vec<u8> = [&[0x40][..], &id[..], &[0; 20]].concat();
            assert_eq!(core_of_datagram(&short, 0x5a), Some(CoreId(core)));
            let long: Vec<u8> = [&[0xc0, 0, 0, 0, 1, 8][..], &id[..]].concat();
            assert_eq!(core_of_datagram(&long, 0x5a), None);
            let other = CoreIds { core: CoreId(core ^ 1), mask: 0x5a, random };
            assert!(other.validate(&id).is_err());
        }
        assert_eq!(core_of_datagram(&[], 0), None);
        assert_eq!(core_of_datagram(&[0x40; 8], 0), None);
    }
}
