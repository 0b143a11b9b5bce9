//! Packs frames into as few TLS records as possible.

use crate::base::Time;
use crate::engine::{ByteStream, Class, Lease, Pool, StreamError};
use crate::wire::mux::{FrameSink, Mux};

/// The most plaintext of one record: what TLS allows (RFC 8446 section 5.1).
const RECORD_LEN_MAX: usize = 16 * 1024;
/// Payloads of at least this length are sent in place, if there is room around them. Shorter ones are copied into the
/// record.
const MOVE_LEN_MIN: usize = 8 * 1024;
/// How many records are given to the transport before checking again whether it accepts more.
const RECORDS_MAX: usize = 4;

/// Gives frames to `transport` in up to `RECORDS_MAX` records, each as full as possible. Returns when nothing is left
/// to send, or when the transport must be checked before it is given more.
pub(super) async fn transmit(
    mux: &std::cell::RefCell<Mux<Lease>>,
    transport: &impl ByteStream,
    pool: &Pool,
    now: Time,
) -> Result<(), StreamError> {
    for _ in 0..RECORDS_MAX {
        if !mux.borrow().wants_transmit() {
            break;
        }
        let mut record = pool.lease(Class::Large).await;
        record.reserve_headroom(transport.headroom());
        let mut packer = Packer { transport, record, moved: false, result: Ok(()) };
        let sent = mux.borrow_mut().poll_transmit(now, RECORD_LEN_MAX, &mut packer);
        let Packer { record, result, .. } = packer;
        result?;
        if !record.is_empty() {
            transport.send(record)?;
        }
        if sent == 0 {
            break;
        }
    }
    Ok(())
}

struct Packer<'a, T> {
    transport: &'a T,
    record: Lease,
    /// A payload was sent in place, which has used up the budget of this record.
    moved: bool,
    result: Result<(), StreamError>,
}

impl<T: ByteStream> FrameSink<Lease> for Packer<'_, T> {
    fn frame(&mut self, head: &[u8], payload: Option<Lease>) {
        let Some(mut payload) = payload else { return self.record.append(head) };
        let room = payload.headroom() >= head.len() + self.transport.headroom()
            && payload.tailroom() >= self.transport.tailroom();
        if payload.len() >= MOVE_LEN_MIN && room && self.record.is_empty() && !self.moved {
            payload.prepend(head);
            self.moved = true;
            self.result = self.transport.send(payload);
        } else {
            self.record.append(head);
            self.record.append(&payload);
        }
    }
}
