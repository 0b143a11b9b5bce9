//! The part of a session that has no leases, so that it can move to another core.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig, ProtocolVersion, ServerConfig};
use rustls_pki_types::ServerName;

use super::error::TlsError;
use super::handshake::{Agreed, Established, Handshake, HandshakeProgress, Kernel};
use super::record::{ContentType, HEADER_LEN, PLAIN_LEN_MAX, RecordKey};
use crate::engine::Lease;

/// The most records without data that a peer may send in a row.
pub const IDLE_RECORDS_MAX: u32 = 32;
/// The longest message after the handshake, in bytes; only tickets come near it.
pub const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// Enough room for every version and suite, used while they are not negotiated yet.
const ROOM_MAX: (usize, usize) = (HEADER_LEN + 8, 17);

const MESSAGE_HEADER_LEN: usize = 4;
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The state of a session; `Send`.
pub(super) struct SessionCore {
    phase: Phase,
    agreed: Agreed,
    outgoing: Vec<u8>,
    /// The beginning of an incomplete message after the handshake.
    partial: Vec<u8>,
    idle_records: u32,
    records_per_key_max: u64,
    update_owed: bool,
    peer_closed: bool,
    closed: bool,
    failure: Option<TlsError>,
}

enum Phase {
    Handshaking(Box<Handshake>),
    Open(Box<Keys>),
    /// The handshake failed, and the session is of no more use.
    Over,
}

struct Keys {
    seal: RecordKey,
    open: RecordKey,
    kernel: Kernel,
}

/// A message that is allowed after the handshake.
#[derive(Clone, Copy)]
enum Late {
    Ticket,
    KeyUpdate,
}

impl SessionCore {
    pub(super) fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<SessionCore, TlsError> {
        let mut core = SessionCore::new(Handshake::client(config, name)?);
        core.advance_handshake(&[])?;
        Ok(core)
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<SessionCore, TlsError> {
        Ok(SessionCore::new(Handshake::server(config)?))
    }

    fn new(handshake: Box<Handshake>) -> SessionCore {
        SessionCore {
            phase: Phase::Handshaking(handshake),
            agreed: Agreed::default(),
            outgoing: Vec::new(),
            partial: Vec::new(),
            idle_records: 0,
            records_per_key_max: u64::MAX,
            update_owed: false,
            peer_closed: false,
            closed: false,
            failure: None,
        }
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::Handshaking(_))
    }

    /// The number of bytes of handshake messages that are kept.
    pub(super) fn handshake_len(&self) -> usize {
        if let Phase::Handshaking(handshake) = &self.phase { handshake.kept_len() } else { 0 }
    }

    pub(super) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    pub(super) fn outgoing_len(&self) -> usize {
        self.outgoing.len()
    }

    pub(super) fn outgoing_mut(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// Fails if the session has failed.
    pub(super) fn check(&self) -> Result<(), TlsError> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// The number of bytes before and after the plaintext of a record.
    pub(super) fn room(&self) -> (usize, usize) {
        match &self.phase {
            Phase::Open(keys) => (keys.seal.head_len(), keys.seal.tail_len()),
            Phase::Handshaking(_) | Phase::Over => ROOM_MAX,
        }
    }

    /// Fails the session, with an alert for the peer if one fits. The first error stays.
    pub(super) fn fail(&mut self, error: TlsError) -> TlsError {
        if let Some(first) = &self.failure {
            return first.clone();
        }
        if let (Some(alert), false) = (error.alert(), self.closed) {
            self.send_alert(FATAL, alert);
        }
        self.closed = true;
        self.failure = Some(error.clone());
        error
    }

    /// Refuses a connection whose first bytes are not TLS.
    pub(super) fn check_start(&self, bytes: &[u8]) -> Result<(), TlsError> {
        match &self.phase {
            Phase::Handshaking(handshake) if handshake.is_fresh() => {
                let tls = (20..=23).contains(&bytes[0]) && bytes.get(1).is_none_or(|major| *major == 3);
                // A few bytes are awaited, so that the error can say what they are instead.
                if tls || bytes.len() < HEADER_LEN { Ok(()) } else { Err(TlsError::not_tls(bytes)) }
            }
            _ => Ok(()),
        }
    }

    pub(super) fn advance_handshake(&mut self, record: &[u8]) -> Result<(), TlsError> {
        let Phase::Handshaking(handshake) = mem::replace(&mut self.phase, Phase::Over) else { return Ok(()) };
        let progress = handshake.advance(record, &mut self.outgoing);
        let step = progress.and_then(|progress| match progress {
            HandshakeProgress::More(handshake) => {
                self.phase = Phase::Handshaking(handshake);
                Ok(())
            }
            HandshakeProgress::Done(established) => self.open_up(*established),
        });
        step.map_err(|error| self.fail(error))
    }

    fn open_up(&mut self, established: Established) -> Result<(), TlsError> {
        let Established { secrets, kernel, agreed } = established;
        let tls13 = agreed.version == Some(ProtocolVersion::TLSv1_3);
        let seal = RecordKey::new(&secrets.tx.1, secrets.tx.0, tls13)?;
        let open = RecordKey::new(&secrets.rx.1, secrets.rx.0, tls13)?;
        self.records_per_key_max = self.records_per_key_max.min(seal.records_max());
        self.phase = Phase::Open(Box::new(Keys { seal, open, kernel }));
        self.agreed = agreed;
        Ok(())
    }

    fn keys(&mut self) -> Result<&mut Keys, TlsError> {
        match &mut self.phase {
            Phase::Open(keys) => Ok(keys),
            Phase::Handshaking(_) => Err(TlsError::Handshaking),
            Phase::Over => Err(TlsError::Closed),
        }
    }

    fn is_tls13(&self) -> bool {
        self.agreed.version == Some(ProtocolVersion::TLSv1_3)
    }
}

/// The receiving half: opening records, and messages after the handshake.
impl SessionCore {
    /// Opens a complete record in place. Returns the position of its data; `None` if it has no data.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Option<Range<usize>>, TlsError> {
        self.accept(record).map_err(|error| self.fail(error))
    }

    fn accept(&mut self, record: &mut [u8]) -> Result<Option<Range<usize>>, TlsError> {
        let (content, plain) = self.keys()?.open.open(record)?;
        if content != ContentType::Handshake && !self.partial.is_empty() {
            return Err(TlsError::Malformed("a message that is broken off by another record"));
        }
        if content == ContentType::Data && !plain.is_empty() {
            self.idle_records = 0;
            return Ok(Some(plain));
        }
        self.idle_records += 1;
        if self.idle_records > IDLE_RECORDS_MAX {
            return Err(TlsError::Flood("records without data"));
        }
        match content {
            ContentType::Data => Ok(()),
            ContentType::Alert => self.on_alert(&record[plain]),
            ContentType::Handshake => self.on_handshake(&record[plain]),
        }
        .map(|()| None)
    }

    fn on_alert(&mut self, alert: &[u8]) -> Result<(), TlsError> {
        let &[level, code] = alert else { return Err(TlsError::Malformed("an alert that is not two bytes long")) };
        match AlertDescription::from(code) {
            AlertDescription::CloseNotify => self.peer_closed = true,
            AlertDescription::UserCanceled => {}
            // In TLS 1.3 every other alert is fatal, whatever its level says (RFC 8446 section 6).
            _ if level == WARNING && !self.is_tls13() => {}
            fatal => return Err(TlsError::AlertReceived(fatal)),
        }
        Ok(())
    }

    fn on_handshake(&mut self, bytes: &[u8]) -> Result<(), TlsError> {
        if bytes.is_empty() {
            return Err(TlsError::Malformed("an empty part of a message"));
        }
        let mut messages = mem::take(&mut self.partial);
        messages.extend_from_slice(bytes);
        let mut left = &messages[..];
        while let Some((head, rest)) = left.split_first_chunk::<MESSAGE_HEADER_LEN>() {
            // Checked before the body arrives, so that nothing is kept of a refused message.
            let (kind, len) = (head[0], u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize);
            let late = self.admit(kind, len)?;
            let Some((body, rest)) = rest.split_at_checked(len) else { break };
            left = rest;
            self.on_late(late, body, left.is_empty())?;
        }
        self.partial = left.to_vec();
        Ok(())
    }

    /// The kind of a message after the handshake, by its header. No accepted message is answered at once, so a peer
    /// that sends many gets nothing out of it.
    fn admit(&mut self, kind: u8, len: usize) -> Result<Late, TlsError> {
        let tls13 = self.is_tls13();
        match (&self.keys()?.kernel, kind) {
            (Kernel::Client(_), NEW_SESSION_TICKET) if tls13 && len > MESSAGE_LEN_MAX => {
                Err(TlsError::Malformed("a message over 64 KiB after the handshake"))
            }
            (Kernel::Client(_), NEW_SESSION_TICKET) if tls13 => Ok(Late::Ticket),
            (_, KEY_UPDATE) if tls13 && len != 1 => Err(TlsError::Malformed("a key update")),
            (_, KEY_UPDATE) if tls13 => Ok(Late::KeyUpdate),
            // Refused with an error. If it were declined with a warning (RFC 5246 section 7.2.2), the peer could ask
            // for ever and be answered each time.
            (Kernel::Client(_), HELLO_REQUEST) | (Kernel::Server(_), CLIENT_HELLO) if !tls13 => {
                Err(TlsError::Renegotiation)
            }
            (_, other) => Err(TlsError::UnexpectedMessage(other)),
        }
    }

    fn on_late(&mut self, late: Late, body: &[u8], is_last: bool) -> Result<(), TlsError> {
        match (late, &mut self.keys()?.kernel) {
            (Late::Ticket, Kernel::Client(kernel)) => Ok(kernel.handle_new_session_ticket(body)?),
            (Late::Ticket, Kernel::Server(_)) => Err(TlsError::UnexpectedMessage(NEW_SESSION_TICKET)),
            (Late::KeyUpdate, _) => self.on_key_update(body, is_last),
        }
    }

    fn on_key_update(&mut self, body: &[u8], is_last: bool) -> Result<(), TlsError> {
        let requested = match body {
            [UPDATE_NOT_REQUESTED] => false,
            [UPDATE_REQUESTED] => true,
            _ => return Err(TlsError::Malformed("a key update")),
        };
        if !is_last {
            return Err(TlsError::Malformed("a message that spans a change of keys"));
        }
        let keys = self.keys()?;
        let (seq, secrets) = match &mut keys.kernel {
            Kernel::Client(kernel) => kernel.update_rx_secret()?,
            Kernel::Server(kernel) => kernel.update_rx_secret()?,
        };
        keys.open = RecordKey::new(&secrets, seq, true)?;
        // Answered before the next data (RFC 8446 section 4.6.3), and only once for any number of requests, so a peer
        // that asks and never reads cannot make memory grow.
        self.update_owed |= requested;
        Ok(())
    }
}

/// The sending half: sealing records, key updates and alerts.
impl SessionCore {
    /// Does everything that must be done before data is sealed.
    pub(super) fn prepare_seal(&mut self) -> Result<(), TlsError> {
        self.check()?;
        if self.closed {
            return Err(TlsError::Closed);
        }
        let limit = self.records_per_key_max;
        let worn = self.keys()?.seal.seq() >= limit;
        if worn && !self.is_tls13() {
            return Err(TlsError::KeysExhausted);
        }
        if worn || self.update_owed {
            self.update_key()?;
        }
        if self.outgoing.is_empty() { Ok(()) } else { Err(TlsError::OutgoingFirst) }
    }

    /// Whether the lease can be sealed in place.
    pub(super) fn fits(&self, lease: &Lease) -> bool {
        let (head, tail) = self.room();
        lease.len() <= PLAIN_LEN_MAX && lease.headroom() >= head && lease.tailroom() >= tail
    }

    /// Seals a lease that [`SessionCore::fits`].
    pub(super) fn seal_in_place(&mut self, lease: &mut Lease) -> Result<(), TlsError> {
        let (head, tail) = self.room();
        lease.retreat(head);
        lease.filled(tail);
        self.keys()?.seal.seal(ContentType::Data, lease)
    }

    /// Seals as much of `bytes` as `lease` has tailroom for; returns how much that was.
    pub(super) fn seal_from(&mut self, bytes: &[u8], lease: &mut Lease) -> Result<usize, TlsError> {
        let (head, tail) = self.room();
        let seal = &mut self.keys()?.seal;
        let mut left = bytes;
        while !left.is_empty() && lease.tailroom() > head + tail {
            let n = left.len().min(PLAIN_LEN_MAX).min(lease.tailroom() - head - tail);
            let len = head + n + tail;
            seal.seal_into(ContentType::Data, &left[..n], &mut lease.spare_mut()[..len])?;
            lease.filled(len);
            left = &left[n..];
        }
        Ok(bytes.len() - left.len())
    }

    pub(super) fn close(&mut self) {
        if !self.closed {
            self.send_alert(WARNING, AlertDescription::CloseNotify);
            self.closed = true;
        }
    }

    /// Sends a key update and uses the new sealing key from then on.
    pub(super) fn update_key(&mut self) -> Result<(), TlsError> {
        self.check()?;
        if self.closed {
            return Err(TlsError::Closed);
        }
        self.keys()?;
        if !self.is_tls13() {
            return Ok(());
        }
        self.update_owed = false;
        self.send(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED])?;
        self.next_sealing_key()
    }

    fn next_sealing_key(&mut self) -> Result<(), TlsError> {
        let keys = self.keys()?;
        let (seq, secrets) = match &mut keys.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret()?,
            Kernel::Server(kernel) => kernel.update_tx_secret()?,
        };
        keys.seal = RecordKey::new(&secrets, seq, true)?;
        Ok(())
    }

    /// Queues an alert if there are keys for it; during the handshake rustls sends its own.
    fn send_alert(&mut self, level: u8, alert: AlertDescription) {
        // If the alert cannot be sealed it is dropped, because the session ends anyway.
        let _ = self.send(ContentType::Alert, &[level, alert.into()]);
    }

    fn send(&mut self, content: ContentType, bytes: &[u8]) -> Result<(), TlsError> {
        let (head, tail) = self.room();
        let Phase::Open(keys) = &mut self.phase else { return Err(TlsError::Handshaking) };
        let start = self.outgoing.len();
        self.outgoing.resize(start + head + bytes.len() + tail, 0);
        keys.seal.seal_into(content, bytes, &mut self.outgoing[start..])
    }
}

/// What a peer can do, for tests.
#[cfg(test)]
impl SessionCore {
    pub(super) fn set_records_per_key_max(&mut self, n: u64) {
        self.records_per_key_max = n;
    }

    pub(super) fn sealed_records(&mut self) -> u64 {
        self.keys().unwrap().seal.seq()
    }

    pub(super) fn send_record(&mut self, content: ContentType, bytes: &[u8]) {
        self.send(content, bytes).unwrap();
    }

    /// A record of data followed by zeros.
    pub(super) fn padded_record(&mut self, data: &[u8], zeros: usize) -> Vec<u8> {
        let inner = [data, &[23], &vec![0; zeros]].concat();
        let (head, _) = self.room();
        let mut record = vec![0; head + inner.len() + 16];
        self.keys().unwrap().seal.seal_inner(&inner, &mut record);
        record
    }

    /// As after a key update that was sent by hand.
    pub(super) fn change_sealing_key(&mut self) {
        self.next_sealing_key().unwrap();
    }
}
