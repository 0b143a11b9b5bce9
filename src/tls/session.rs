//! One side of a TLS connection, without input or output.

use std::collections::VecDeque;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::TlsError;
use super::record::{HEADER_LEN, record_len};
use super::state::SessionCore;
use super::steps::extend_by_steps;
use crate::base::Share;
use crate::engine::{Class, Lease, Pool, SMALL_LEN};

/// The most bytes, other than data, that may wait to be sent while more is received: a server's tickets, a key update,
/// an alert.
pub(super) const OUTGOING_LEN_MAX: usize = 2 * 1024;

/// The longest part of a record that is always copied out of its buffer, and the memory that is kept for the next one,
/// in bytes.
const PARKED_KEPT: usize = 512;

/// A TLS connection over leases: ciphertext and plaintext in and out, without a socket.
///
/// rustls makes the handshake. After that, records are sealed and opened in place, without allocating, and without
/// copying unless a record lies in two leases. Give received bytes to [`Session::read`]; [`Session::take_plaintext`]
/// then processes them. Send what [`Session::take_outgoing`] returns before anything that [`Session::seal`] returns
/// later.
pub struct Session {
    core: Box<SessionCore>,
    /// Received bytes that are not opened yet. Only the first lease may be a part of a record.
    input: VecDeque<Lease>,
    /// The beginning of an incomplete record, copied out of the pool; the bytes of `input` follow it.
    parked: Vec<u8>,
    /// The limit of what the handshake may keep, during the handshake.
    greeting: Option<Share>,
}

/// A session that moves to another core, without leases: received bytes that are not opened yet are copied.
pub struct DetachedSession {
    core: Box<SessionCore>,
    unread: Vec<u8>,
}

/// The result of [`Session::seal`].
#[derive(Debug)]
pub enum Sealed {
    /// All of the plaintext, ready to be sent.
    All(Lease),
    /// As much as one buffer holds, and the rest, which must be sealed next.
    Part {
        /// The record that is ready to be sent.
        sealed: Lease,
        /// The plaintext that is left.
        rest: Lease,
    },
}

/// Plaintext that could not be sealed, returned to the caller.
#[derive(Debug)]
pub struct Unsealed {
    /// The error that stopped sealing.
    pub error: TlsError,
    /// The plaintext, unchanged and given back to the caller.
    pub lease: Lease,
}

impl Session {
    /// Creates the client's side. Its first message is outgoing at once.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be used for this name.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, TlsError> {
        Ok(Session::of(SessionCore::client(config, name)?))
    }

    /// Creates the server's side.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, TlsError> {
        Ok(Session::of(SessionCore::server(config)?))
    }

    /// Continues a session that another core detached.
    ///
    /// # Errors
    ///
    /// The unchanged session, if the pool has no buffer for its unread bytes now.
    pub fn attach(detached: DetachedSession, pool: &Pool) -> Result<Session, DetachedSession> {
        let mut input = VecDeque::new();
        let mut left = &detached.unread[..];
        while !left.is_empty() {
            let Some(mut lease) = pool.take(class_for(left.len())) else { return Err(detached) };
            let n = lease.append_some(left);
            left = &left[n..];
            input.push_back(lease);
        }
        Ok(Session { core: detached.core, input, parked: Vec::new(), greeting: None })
    }

    /// Prepares the session for another core.
    #[must_use]
    pub fn detach(self) -> DetachedSession {
        let mut unread = self.parked;
        unread.reserve_exact(self.input.iter().map(|lease| lease.len()).sum());
        for lease in &self.input {
            unread.extend_from_slice(lease);
        }
        DetachedSession { core: self.core, unread }
    }

    /// Adds received bytes, to be processed by the next calls.
    pub fn read(&mut self, lease: Lease) {
        if !lease.is_empty() {
            self.input.push_back(lease);
        }
    }

    /// Call this when more bytes are needed and have not arrived. An incomplete record for which the session may wait
    /// long is copied out of its buffer, so that quiet peers hold no buffers.
    ///
    /// A record within a stream of data stays in its buffer unless the pool is under pressure: its rest is expected
    /// soon.
    ///
    /// During the handshake the kept bytes are then counted, if they are limited ([`Session::limit_greeting`]). The
    /// session fails if they exceed the limit.
    pub fn park(&mut self, pool: &Pool) {
        self.park_input(pool);
        if let Some(greeting) = &mut self.greeting
            && !greeting.set(self.core.handshake_len() + self.parked.capacity())
        {
            self.core.fail(TlsError::Crowded);
        }
    }

    /// Limits what the handshake keeps of the peer's messages while it waits for more.
    pub fn limit_greeting(&mut self, share: Share) {
        self.greeting = Some(share);
    }

    fn park_input(&mut self, pool: &Pool) {
        let Some(front) = self.input.front() else { return };
        if front.len() > PARKED_KEPT && !self.core.is_handshaking() && !pool.is_pressed() {
            return;
        }
        extend_by_steps(&mut self.parked, front);
        self.input.clear();
    }

    /// Whether an incomplete record was received.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        !self.parked.is_empty() || !self.input.is_empty()
    }

    /// Declares that nothing more will be received. Call it when [`Session::take_plaintext`] has nothing more.
    ///
    /// # Errors
    ///
    /// [`TlsError::Truncated`] if the peer had not sent close_notify.
    pub fn read_end(&mut self) -> Result<(), TlsError> {
        if self.core.is_peer_closed() { Ok(()) } else { Err(self.core.fail(TlsError::Truncated)) }
    }

    /// Processes received bytes until the handshake is done.
    ///
    /// # Errors
    ///
    /// Any error of the peer; [`TlsError::NoBuffer`] if a buffer is needed and none is free.
    pub fn advance_handshake(&mut self, pool: &Pool) -> Result<(), TlsError> {
        while self.core.is_handshaking() {
            let Some(record) = self.next_record(pool)? else { return Ok(()) };
            self.core.advance_handshake(&record)?;
        }
        self.greeting = None;
        self.core.check()
    }

    /// The next plaintext: the content of one record, never empty, with enough room around it to seal it again. `None`
    /// if more must be received first, or the peer has finished ([`Session::is_peer_closed`]).
    ///
    /// # Errors
    ///
    /// Any error of the peer, after the plaintext that came before it; [`TlsError::NoBuffer`] if a buffer is needed and
    /// none is free.
    pub fn take_plaintext(&mut self, pool: &Pool) -> Result<Option<Lease>, TlsError> {
        self.advance_handshake(pool)?;
        if self.core.is_handshaking() {
            return Ok(None);
        }
        while !self.core.is_peer_closed() {
            let Some(mut record) = self.next_record(pool)? else { return Ok(None) };
            if let Some(plain) = self.core.open(&mut record)? {
                record.truncate(plain.end);
                record.advance(plain.start);
                return Ok(Some(record));
            }
        }
        // Bytes after close_notify are ignored (RFC 8446 section 6.1).
        self.input.clear();
        self.parked = Vec::new();
        Ok(None)
    }

    /// Seals plaintext: in place if it fits one record and its lease has [`Session::headroom`] and
    /// [`Session::tailroom`], otherwise into buffers of the pool.
    ///
    /// # Errors
    ///
    /// [`TlsError::OutgoingFirst`] if something must be sent before; [`TlsError::NoBuffer`] if a buffer is needed and
    /// none is free; otherwise the session is not open. The error returns the plaintext.
    pub fn seal(&mut self, mut lease: Lease, pool: &Pool) -> Result<Sealed, Unsealed> {
        if let Err(error) = self.core.prepare_seal() {
            return Err(Unsealed { error, lease });
        }
        if self.core.fits(&lease) {
            return match self.core.seal_in_place(&mut lease) {
                Ok(()) => Ok(Sealed::All(lease)),
                Err(error) => Err(Unsealed { error, lease }),
            };
        }
        match self.seal_from(&lease, pool) {
            Ok((sealed, taken)) if taken == lease.len() => Ok(Sealed::All(sealed)),
            Ok((sealed, taken)) => {
                lease.advance(taken);
                Ok(Sealed::Part { sealed, rest: lease })
            }
            Err(error) => Err(Unsealed { error, lease }),
        }
    }

    /// Seals as much of `bytes` as one buffer of the pool holds; returns how much that was.
    ///
    /// # Errors
    ///
    /// As for [`Session::seal`].
    pub fn seal_from(&mut self, bytes: &[u8], pool: &Pool) -> Result<(Lease, usize), TlsError> {
        self.core.prepare_seal()?;
        let class = class_for(bytes.len() + self.headroom() + self.tailroom());
        let mut lease = pool.take(class).ok_or(TlsError::NoBuffer(class))?;
        let taken = self.core.seal_from(bytes, &mut lease)?;
        Ok((lease, taken))
    }

    /// The next bytes to send that are not data: handshake, key updates, alerts.
    ///
    /// # Errors
    ///
    /// [`TlsError::NoBuffer`] if no buffer is free.
    pub fn take_outgoing(&mut self, pool: &Pool) -> Result<Option<Lease>, TlsError> {
        let outgoing = self.core.outgoing_mut();
        if outgoing.is_empty() {
            return Ok(None);
        }
        let class = class_for(outgoing.len());
        let mut lease = pool.take(class).ok_or(TlsError::NoBuffer(class))?;
        let n = lease.append_some(outgoing);
        if n == outgoing.len() {
            // The memory is freed, because it is needed rarely.
            *outgoing = Vec::new();
        } else {
            outgoing.drain(..n);
        }
        Ok(Some(lease))
    }

    /// Whether [`Session::take_outgoing`] has something.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        self.core.outgoing_len() > 0
    }

    /// Whether so many bytes wait to be sent that nothing more should be received first.
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.core.outgoing_len() > OUTGOING_LEN_MAX
    }

    /// Declares that nothing more will be sealed, and queues close_notify. Receiving continues.
    pub fn close(&mut self) {
        self.core.close();
    }

    /// Changes the sealing key before it is necessary; the key update is then outgoing. Does nothing with TLS 1.2,
    /// which has no key updates.
    ///
    /// # Errors
    ///
    /// If the session is not open.
    #[cfg(test)]
    pub fn update_key(&mut self) -> Result<(), TlsError> {
        self.core.update_key()
    }

    /// The number of bytes to leave free before plaintext, so that it can be sealed in place.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.core.room().0
    }

    /// The number of bytes to leave free after plaintext.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.core.room().1
    }

    /// Whether the handshake is in progress.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.core.is_handshaking()
    }

    /// Whether the peer has sent close_notify.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.core.is_peer_closed()
    }

    /// The negotiated application protocol.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.core.agreed().alpn.as_deref()
    }

    /// The peer's certificates, its own first; empty if it sent none.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.core.agreed().peer_certificates
    }

    /// The error of the session, if it has failed.
    #[must_use]
    pub fn failure(&self) -> Option<TlsError> {
        self.core.check().err()
    }

    /// Whether an earlier session was resumed.
    #[must_use]
    #[cfg(test)]
    pub fn resumed(&self) -> bool {
        self.core.agreed().resumed
    }

    /// The negotiated TLS version; `None` before the handshake is done.
    #[must_use]
    #[cfg(test)]
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        self.core.agreed().version
    }

    fn of(core: SessionCore) -> Session {
        Session { core: Box::new(core), input: VecDeque::new(), parked: Vec::new(), greeting: None }
    }

    /// The next complete record, including its header; `None` if it is not complete.
    fn next_record(&mut self, pool: &Pool) -> Result<Option<Lease>, TlsError> {
        self.core.check()?;
        self.unpark(pool)?;
        loop {
            let Some(front) = self.input.front_mut() else { return Ok(None) };
            let framed = self.core.check_start(front).and_then(|()| record_len(front));
            let wanted = match framed.map_err(|error| self.core.fail(error))? {
                Some(len) if front.len() == len => return Ok(self.input.pop_front()),
                Some(len) if front.len() > len => return Ok(Some(front.split_to(len))),
                Some(len) => len,
                None => HEADER_LEN,
            };
            if !self.gather(wanted, pool)? {
                return Ok(None);
            }
        }
    }

    /// Puts the copied beginning of a record in front of the bytes that arrived since.
    fn unpark(&mut self, pool: &Pool) -> Result<(), TlsError> {
        while !self.parked.is_empty() {
            let Some(next) = self.input.front_mut() else { return Ok(()) };
            let len = self.parked.len();
            // An impossible header is reported when the record is read.
            let wanted = record_len(&self.parked).ok().flatten().unwrap_or(HEADER_LEN);
            let whole = len + next.len() >= wanted;
            if !whole && (self.core.is_handshaking() || wanted <= PARKED_KEPT) {
                extend_by_steps(&mut self.parked, next);
                self.input.pop_front();
                continue;
            }
            if next.headroom() >= len {
                next.prepend(&self.parked);
            } else if next.tailroom() >= len {
                next.append(&self.parked);
                next.rotate_right(len);
            } else {
                let class = class_for(len.max(wanted));
                let mut front = pool.take(class).ok_or(TlsError::NoBuffer(class))?;
                front.append(&self.parked);
                self.input.push_front(front);
            }
            self.parked.clear();
            self.parked.shrink_to(PARKED_KEPT);
        }
        Ok(())
    }

    /// Moves bytes from the second lease of the input to the first, until that is up to `wanted` bytes long. Returns
    /// false if there is no second lease.
    fn gather(&mut self, wanted: usize, pool: &Pool) -> Result<bool, TlsError> {
        let Some(next) = self.input.remove(1) else { return Ok(false) };
        let front = &mut self.input[0];
        let Err(mut next) = front.join(next) else { return Ok(true) };
        let missing = wanted - front.len();
        if front.tailroom() < missing {
            let class = class_for(wanted);
            let Some(mut assembly) = pool.take(class) else {
                self.input.insert(1, next);
                return Err(TlsError::NoBuffer(class));
            };
            assembly.append(front);
            *front = assembly;
        }
        let n = missing.min(next.len());
        front.append(&next[..n]);
        next.advance(n);
        if !next.is_empty() {
            self.input.insert(1, next);
        }
        Ok(true)
    }
}

#[cfg(test)]
impl Session {
    pub(super) fn state_mut(&mut self) -> &mut SessionCore {
        &mut self.core
    }
}

fn class_for(len: usize) -> Class {
    if len <= SMALL_LEN { Class::Small } else { Class::Large }
}
