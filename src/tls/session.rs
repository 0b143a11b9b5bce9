//! One side of a TLS connection, without any reading or writing of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName};

use super::error::TlsError;
use super::record::{HEADER_LEN, record_len};
use super::state::Core;
use crate::base::Share;
use crate::engine::{Class, Lease, Pool, SMALL_LEN};

/// What may wait to be sent, other than data, while more is received, in bytes: the tickets of a server, a key update, an
/// alert.
pub(super) const OUTGOING_LEN_MAX: usize = 2 * 1024;

/// The longest part of a record that leaves its buffer however many there are, and the memory that is kept for the next,
/// in bytes.
const PARKED_KEPT: usize = 512;

/// A TLS connection over leases: encrypted bytes and plaintext in and out, no socket.
///
/// rustls makes the handshake; from then on records are sealed and opened in place, with no allocation and no copy but for
/// a record that lies in two leases. What was received goes to [`Session::read`]; [`Session::take_plaintext`] works through
/// it. What [`Session::take_outgoing`] has must be sent, always before what [`Session::seal`] gives afterwards.
pub struct Session {
    core: Box<Core>,
    /// What was received and not yet opened; only the first may be a part of a record.
    input: VecDeque<Lease>,
    /// The beginning of a record that was waited for, out of the pool; what `input` holds follows it.
    parked: Vec<u8>,
    /// What the handshake may keep, while it is under way.
    greeting: Option<Share>,
}

/// A session on its way to another core, without leases: bytes that were received and not opened are copied.
pub struct Detached {
    core: Box<Core>,
    unread: Vec<u8>,
}

/// The result of [`Session::seal`].
#[derive(Debug)]
pub enum Sealed {
    /// All of it, ready to be sent.
    All(Lease),
    /// As much as one buffer holds, ready to be sent, and what is left to be sealed next.
    Part {
        /// Ready to be sent.
        sealed: Lease,
        /// The plaintext that is left.
        rest: Lease,
    },
}

/// Plaintext that could not be sealed, given back.
#[derive(Debug)]
pub struct Unsealed {
    /// The error that stopped sealing.
    pub error: TlsError,
    /// The plaintext, unchanged and given back to the caller.
    pub lease: Lease,
}

impl Session {
    /// The client's side; its first message is outgoing at once.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be used for this name.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, TlsError> {
        Ok(Session::of(Core::client(config, name)?))
    }

    /// The server's side.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be used.
    pub fn server(config: Arc<ServerConfig>) -> Result<Session, TlsError> {
        Ok(Session::of(Core::server(config)?))
    }

    /// Takes a session over that another core gave away.
    ///
    /// # Errors
    ///
    /// The session, untouched, when the pool has no buffer for its unread bytes now.
    pub fn attach(detached: Detached, pool: &Pool) -> Result<Session, Detached> {
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

    /// Makes the session ready to move to another core.
    #[must_use]
    pub fn detach(self) -> Detached {
        let mut unread = self.parked;
        unread.reserve_exact(self.input.iter().map(|lease| lease.len()).sum());
        for lease in &self.input {
            unread.extend_from_slice(lease);
        }
        Detached { core: self.core, unread }
    }

    /// Takes in what was received.
    pub fn read(&mut self, lease: Lease) {
        if !lease.is_empty() {
            self.input.push_back(lease);
        }
    }

    /// To be called when more must be received and is not there: a record that has come in part is copied out of its
    /// buffer where it may be waited for long, so that those who say little hold nothing of the pool.
    ///
    /// A record in the middle of a stream of data stays where it is unless the pool is under pressure: its rest is on its way.
    ///
    /// During the handshake all that is kept is then counted, if it is to be ([`Session::limit_greeting`]); the session fails
    /// where it may not be kept.
    pub fn park(&mut self, pool: &Pool) {
        self.park_input(pool);
        if let Some(greeting) = &mut self.greeting
            && !greeting.set(self.core.handshake_len() + self.parked.capacity())
        {
            self.core.fail(TlsError::Crowded);
        }
    }

    /// Counts what the handshake keeps of the peer's messages while it waits for more.
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

    /// Whether a record has come in part.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        !self.parked.is_empty() || !self.input.is_empty()
    }

    /// Takes in that nothing more will be received. To be called when [`Session::take_plaintext`] has nothing more.
    ///
    /// # Errors
    ///
    /// [`TlsError::Truncated`] when the peer had not said that it was done.
    pub fn read_end(&mut self) -> Result<(), TlsError> {
        if self.core.is_peer_closed() { Ok(()) } else { Err(self.core.fail(TlsError::Truncated)) }
    }

    /// Works through received bytes as far as the end of the handshake.
    ///
    /// # Errors
    ///
    /// Any fault of the peer; [`TlsError::NoBuffer`] when a buffer is needed and none is free.
    pub fn advance_handshake(&mut self, pool: &Pool) -> Result<(), TlsError> {
        while self.core.is_handshaking() {
            let Some(record) = self.next_record(pool)? else { return Ok(()) };
            self.core.advance_handshake(&record)?;
        }
        self.greeting = None;
        self.core.check()
    }

    /// The next plaintext: one record's, never empty, with room around it that suffices to seal it again. None when more
    /// must be received first, or the peer is done ([`Session::is_peer_closed`]).
    ///
    /// # Errors
    ///
    /// Any fault of the peer, after the plaintext that came before it; [`TlsError::NoBuffer`] when a buffer is needed and
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
        // Whatever follows close_notify is not data (RFC 8446 section 6.1).
        self.input.clear();
        self.parked = Vec::new();
        Ok(None)
    }

    /// Seals plaintext: in place when it fits one record and its lease has [`Session::headroom`] and
    /// [`Session::tailroom`], else into buffers of the pool.
    ///
    /// # Errors
    ///
    /// [`TlsError::OutgoingFirst`] when something must be sent before; [`TlsError::NoBuffer`] when a buffer is needed and
    /// none is free; otherwise the session is not or no longer open. The plaintext comes back.
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

    /// Seals as much of `bytes` as one buffer of the pool holds, and says how much that was.
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

    /// The next bytes to be sent that are not data: handshake, key updates, alerts.
    ///
    /// # Errors
    ///
    /// [`TlsError::NoBuffer`] when none is free.
    pub fn take_outgoing(&mut self, pool: &Pool) -> Result<Option<Lease>, TlsError> {
        let outgoing = self.core.outgoing_mut();
        if outgoing.is_empty() {
            return Ok(None);
        }
        let class = class_for(outgoing.len());
        let mut lease = pool.take(class).ok_or(TlsError::NoBuffer(class))?;
        let n = lease.append_some(outgoing);
        if n == outgoing.len() {
            // Rare and then long unused: its memory is given back.
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

    /// Whether so much waits to be sent that nothing more should be received before it went.
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.core.outgoing_len() > OUTGOING_LEN_MAX
    }

    /// Says that nothing more will be sealed; close_notify is then outgoing. Receiving goes on.
    pub fn close(&mut self) {
        self.core.close();
    }

    /// Changes the sealing key before its time; the key update is then outgoing. Does nothing under TLS 1.2, which cannot.
    ///
    /// # Errors
    ///
    /// When the session is not or no longer open.
    #[cfg(test)]
    pub fn update_key(&mut self) -> Result<(), TlsError> {
        self.core.update_key()
    }

    /// Bytes to leave free before plaintext, so that it can be sealed in place.
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.core.room().0
    }

    /// Bytes to leave free after it.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.core.room().1
    }

    /// Whether the handshake is still under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.core.is_handshaking()
    }

    /// Whether the peer has said that it will send nothing more.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.core.is_peer_closed()
    }

    /// The application protocol agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.core.agreed().alpn.as_deref()
    }

    /// The peer's certificates, its own first; none when it showed none.
    #[must_use]
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.core.agreed().peer_certificates
    }

    /// Why the session failed, if it has.
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

    /// The version agreed on; none before the handshake is done.
    #[must_use]
    #[cfg(test)]
    pub fn version(&self) -> Option<rustls::ProtocolVersion> {
        self.core.agreed().version
    }

    fn of(core: Core) -> Session {
        Session { core: Box::new(core), input: VecDeque::new(), parked: Vec::new(), greeting: None }
    }

    /// The next whole record, header included; none when it has not fully come.
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

    /// Puts what was parked in front of what has come since.
    fn unpark(&mut self, pool: &Pool) -> Result<(), TlsError> {
        while !self.parked.is_empty() {
            let Some(next) = self.input.front_mut() else { return Ok(()) };
            let len = self.parked.len();
            // An impossible header is found when the record is read.
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

    /// Moves bytes from the second lease of the input to the first, which becomes up to `wanted` bytes long. False when
    /// there is no second.
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
    pub(super) fn state_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

fn class_for(len: usize) -> Class {
    if len <= SMALL_LEN { Class::Small } else { Class::Large }
}

/// As [`Vec::extend_from_slice`], for what may come in any number of pieces and be waited for: takes little more memory than
/// there are bytes.
pub(super) fn extend_by_steps(to: &mut Vec<u8>, bytes: &[u8]) {
    const STEP: usize = 2 * 1024;
    if to.capacity() - to.len() < bytes.len() {
        let step = if to.is_empty() { 0 } else { STEP };
        to.reserve_exact(bytes.len().max(step));
    }
    to.extend_from_slice(bytes);
}
