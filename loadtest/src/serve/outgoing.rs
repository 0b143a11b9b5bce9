//! Bytes to send: text, and filler that is not kept in memory.

use adit::engine::{ByteStream, Class, Lease, Pool, StreamError};

use crate::pattern;

/// The content of filler parts.
const FILLER: [u8; 4096] = [b'x'; 4096];

/// One part of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// Bytes that are sent as they are.
    Text(&'a [u8]),
    /// This many bytes of filler.
    Filler(u64),
    /// This many bytes of the pattern, from its start.
    Pattern(u64),
}

impl Part<'_> {
    fn len(&self) -> u64 {
        match self {
            Part::Text(text) => text.len() as u64,
            Part::Filler(len) | Part::Pattern(len) => *len,
        }
    }
}

/// Queues the parts in order, in as few buffers as needed. Waits for room if they are long.
pub(crate) async fn send(to: &impl ByteStream, pool: &Pool, parts: &[Part<'_>]) -> Result<(), StreamError> {
    let mut left: u64 = parts.iter().map(Part::len).sum();
    let (headroom, tailroom) = (to.headroom(), to.tailroom());
    let mut lease: Option<Lease> = None;
    for part in parts {
        let mut at = 0;
        while at < part.len() {
            let mut open = match lease.take() {
                Some(open) => open,
                None => {
                    let fits = left + (headroom + tailroom) as u64 <= Class::Small.bytes() as u64;
                    let class = if fits { Class::Small } else { Class::Large };
                    let mut open = match pool.take(class) {
                        Some(open) => open,
                        None => pool.lease(class).await,
                    };
                    open.reserve_headroom(headroom);
                    open
                }
            };
            let room = open.tailroom() - tailroom;
            let n = match part {
                Part::Text(text) => append(&mut open, &text[at as usize..], room),
                Part::Filler(len) => append(&mut open, &FILLER[..FILLER.len().min((len - at) as usize)], room),
                Part::Pattern(len) => {
                    let bytes = pattern::bytes_from(at);
                    append(&mut open, &bytes[..bytes.len().min((len - at) as usize)], room)
                }
            };
            at += n as u64;
            left -= n as u64;
            if open.tailroom() > tailroom {
                lease = Some(open);
            } else {
                to.send(open)?;
                to.ready().await?;
            }
        }
    }
    lease.map_or(Ok(()), |last| to.send(last))
}

fn append(lease: &mut Lease, bytes: &[u8], room: usize) -> usize {
    let n = bytes.len().min(room);
    lease.append(&bytes[..n]);
    n
}
