//! Sealing and opening of single records, in place (RFC 8446 section 5, RFC 5246 section 6.2.3.3, RFC 5288, RFC 7905).

use std::ops::Range;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use super::error::TlsError;

/// Bytes of a record's header: type, version, length.
pub(super) const HEADER_LEN: usize = 5;
/// The most plaintext that one record carries, in bytes.
pub const PLAIN_LEN_MAX: usize = 1 << 14;
/// The largest value of a record's length field. TLS 1.2 allows more, but the supported suites never need it.
pub const RECORD_LEN_MAX: usize = PLAIN_LEN_MAX + 256;

const TAG_LEN: usize = 16;
const NONCE_LEN: usize = 12;
/// The part of a TLS 1.2 AES-GCM nonce that travels in the record (RFC 5288 section 3).
const EXPLICIT_NONCE_LEN: usize = 8;

/// How many records one AES-GCM key may seal: half of what RFC 8446 section 5.5 and rustls allow, so that the key is
/// changed well before the limit.
pub const GCM_RECORDS_PER_KEY_MAX: u64 = 1 << 23;
/// How many records one ChaCha20-Poly1305 key may seal; only the sequence number limits it.
pub const CHACHA_RECORDS_PER_KEY_MAX: u64 = 1 << 62;

/// The types of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Alert,
    Handshake,
    Data,
}

impl ContentType {
    fn to_byte(self) -> u8 {
        match self {
            ContentType::Alert => 21,
            ContentType::Handshake => 22,
            ContentType::Data => 23,
        }
    }

    fn from_byte(byte: u8) -> Result<ContentType, TlsError> {
        match byte {
            21 => Ok(ContentType::Alert),
            22 => Ok(ContentType::Handshake),
            23 => Ok(ContentType::Data),
            // A ChangeCipherSpec is ignored only before the peer's Finished (RFC 8446 section 5), and rustls handles
            // that.
            other => Err(TlsError::UnexpectedRecord(other)),
        }
    }
}

/// The record format that a key uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// TLS 1.3, with any suite.
    Tls13,
    /// TLS 1.2 with AES-GCM: a part of the nonce is sent in the record.
    Tls12Explicit,
    /// TLS 1.2 with ChaCha20-Poly1305: the nonce is implied.
    Tls12Implied,
}

/// The key of one direction, with its sequence number.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    seq: u64,
    rules: Rules,
}

/// The length of the record (including the header) at the start of `bytes`; `None` if the header is incomplete.
pub(super) fn record_len(bytes: &[u8]) -> Result<Option<usize>, TlsError> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    if header[1] != 3 {
        return Err(TlsError::Malformed("a record of an unknown version"));
    }
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if len > RECORD_LEN_MAX {
        return Err(TlsError::RecordTooLarge { len });
    }
    Ok(Some(HEADER_LEN + len))
}

impl RecordKey {
    /// A key from rustls, whose next record has the number `seq`.
    pub(super) fn new(secrets: &ConnectionTrafficSecrets, seq: u64, tls13: bool) -> Result<RecordKey, TlsError> {
        let (algorithm, key, iv, tls12) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv, Rules::Tls12Explicit),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv, Rules::Tls12Explicit),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
                (&aead::CHACHA20_POLY1305, key, iv, Rules::Tls12Implied)
            }
            _ => return Err(TlsError::Config("a cipher suite that the record layer does not know".to_owned())),
        };
        let fault = |_| TlsError::Config("a key of the wrong length".to_owned());
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).map_err(fault)?);
        let iv = <[u8; NONCE_LEN]>::try_from(iv.as_ref())
            .map_err(|_| TlsError::Config("an initial nonce of the wrong length".to_owned()))?;
        Ok(RecordKey { key, iv, seq, rules: if tls13 { Rules::Tls13 } else { tls12 } })
    }

    /// The number of bytes before the plaintext in a record.
    pub(super) fn head_len(&self) -> usize {
        match self.rules {
            Rules::Tls12Explicit => HEADER_LEN + EXPLICIT_NONCE_LEN,
            Rules::Tls13 | Rules::Tls12Implied => HEADER_LEN,
        }
    }

    /// The number of bytes after the plaintext in a record.
    pub(super) fn tail_len(&self) -> usize {
        match self.rules {
            Rules::Tls13 => 1 + TAG_LEN,
            Rules::Tls12Explicit | Rules::Tls12Implied => TAG_LEN,
        }
    }

    /// How many records were sealed or opened with this key.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// How many records this key may seal.
    pub(super) fn records_max(&self) -> u64 {
        if *self.key.algorithm() == aead::CHACHA20_POLY1305 {
            CHACHA_RECORDS_PER_KEY_MAX
        } else {
            GCM_RECORDS_PER_KEY_MAX
        }
    }

    /// Seals a record in place. `record` consists of [`RecordKey::head_len`] spare bytes, the plaintext, and
    /// [`RecordKey::tail_len`] spare bytes.
    pub(super) fn seal(&mut self, content: ContentType, record: &mut [u8]) -> Result<(), TlsError> {
        let (head, tail) = (self.head_len(), self.tail_len());
        let plain_len = record.len().checked_sub(head + tail).ok_or(TlsError::Malformed("a record without room"))?;
        let (nonce, authenticated) = self.begin(content, plain_len, record);
        let (body, tag) = record[head..].split_at_mut(plain_len + tail - TAG_LEN);
        if self.rules == Rules::Tls13 {
            body[plain_len] = content.to_byte();
        }
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(authenticated), body)
            .map_err(|_| TlsError::Other(rustls::Error::EncryptError))?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(())
    }

    /// Seals `plain` into `record`, which is as long as the plaintext and the spare bytes before and after it.
    pub(super) fn seal_into(&mut self, content: ContentType, plain: &[u8], record: &mut [u8]) -> Result<(), TlsError> {
        let (nonce, authenticated) = self.begin(content, plain.len(), record);
        let (body, tail) = record[self.head_len()..].split_at_mut(plain.len());
        let inner_type = [content.to_byte()];
        let inner_type = if self.rules == Rules::Tls13 { &inner_type[..] } else { &[] };
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(authenticated), plain, body, inner_type, tail)
            .map_err(|_| TlsError::Other(rustls::Error::EncryptError))
    }

    /// Opens a complete record in place. Returns its type and the position of its plaintext.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), TlsError> {
        let outer = ContentType::from_byte(record[0])?;
        if self.rules == Rules::Tls13 && outer != ContentType::Data {
            return Err(TlsError::UnexpectedRecord(record[0]));
        }
        let head = self.head_len();
        let body_len = record.len().checked_sub(head + TAG_LEN).ok_or(TlsError::Decrypt)?;
        let mut nonce = self.nonce();
        if self.rules == Rules::Tls12Explicit {
            nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..].copy_from_slice(&record[HEADER_LEN..head]);
        }
        let authenticated = Authenticated::new(self.rules, self.seq, record, body_len);
        let (body, tag) = record[head..].split_at_mut(body_len);
        self.key
            .open_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(authenticated), tag, body)
            .map_err(|_| TlsError::Decrypt)?;
        self.seq += 1;
        let (content, plain_len) = if self.rules == Rules::Tls13 { inner_content(body)? } else { (outer, body_len) };
        if plain_len > PLAIN_LEN_MAX {
            return Err(TlsError::RecordTooLarge { len: plain_len });
        }
        Ok((content, head..head + plain_len))
    }

    /// Writes the header and the explicit nonce of the next record, and increments the sequence number.
    fn begin(&mut self, content: ContentType, plain_len: usize, record: &mut [u8]) -> (Nonce, Authenticated) {
        let nonce = self.nonce();
        let outer = if self.rules == Rules::Tls13 { ContentType::Data } else { content };
        // A record is at most 64 KiB long, being inside one lease; its callers keep it under 2^14 + 256.
        let [high, low] = ((record.len() - HEADER_LEN) as u16).to_be_bytes();
        record[..HEADER_LEN].copy_from_slice(&[outer.to_byte(), 3, 3, high, low]);
        if self.rules == Rules::Tls12Explicit {
            record[HEADER_LEN..HEADER_LEN + EXPLICIT_NONCE_LEN]
                .copy_from_slice(&nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..]);
        }
        let authenticated = Authenticated::new(self.rules, self.seq, record, plain_len);
        // This is the only place that increments it, so no nonce is used twice with one key.
        self.seq += 1;
        (Nonce::assume_unique_for_key(nonce), authenticated)
    }

    /// The initial nonce combined with the sequence number (RFC 8446 section 5.3). The same is done for TLS 1.2
    /// AES-GCM, where the nonce only has to be unique.
    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, seq) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.seq.to_be_bytes()) {
            *byte ^= seq;
        }
        nonce
    }
}

/// The additional authenticated data of a record: in TLS 1.3 the header; in TLS 1.2 the sequence number, type, version
/// and length of the plaintext.
struct Authenticated {
    bytes: [u8; 13],
    len: usize,
}

impl Authenticated {
    fn new(rules: Rules, seq: u64, record: &[u8], plain_len: usize) -> Authenticated {
        let mut bytes = [0; 13];
        if rules == Rules::Tls13 {
            bytes[..HEADER_LEN].copy_from_slice(&record[..HEADER_LEN]);
            return Authenticated { bytes, len: HEADER_LEN };
        }
        bytes[..8].copy_from_slice(&seq.to_be_bytes());
        bytes[8..11].copy_from_slice(&record[..3]);
        bytes[11..].copy_from_slice(&(plain_len as u16).to_be_bytes());
        Authenticated { bytes, len: bytes.len() }
    }
}

impl AsRef<[u8]> for Authenticated {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The content type of a TLS 1.3 inner plaintext, and the length before it without padding (RFC 8446 section 5.4).
fn inner_content(body: &[u8]) -> Result<(ContentType, usize), TlsError> {
    let at = body.iter().rposition(|byte| *byte != 0).ok_or(TlsError::UnexpectedRecord(0))?;
    Ok((ContentType::from_byte(body[at])?, at))
}

#[cfg(test)]
impl RecordKey {
    /// Seals an inner plaintext of TLS 1.3 as it is given, type and padding included.
    pub(super) fn seal_inner(&mut self, inner: &[u8], record: &mut [u8]) {
        let (nonce, authenticated) = self.begin(ContentType::Data, inner.len(), record);
        let (body, tag) = record[HEADER_LEN..].split_at_mut(inner.len());
        body.copy_from_slice(inner);
        let sealed = self.key.seal_in_place_separate_tag(nonce, Aad::from(authenticated), body).unwrap();
        tag.copy_from_slice(sealed.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rules: Rules) -> RecordKey {
        let (algorithm, key) = match rules {
            Rules::Tls12Implied => (&aead::CHACHA20_POLY1305, [7_u8; 32].to_vec()),
            _ => (&aead::AES_128_GCM, [7_u8; 16].to_vec()),
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
        RecordKey { key, iv: [9; NONCE_LEN], seq: 0, rules }
    }

    fn in_place(key: &mut RecordKey, content: ContentType, plain: &[u8]) -> Vec<u8> {
        let mut record = vec![0; key.head_len()];
        record.extend_from_slice(plain);
        record.resize(record.len() + key.tail_len(), 0);
        key.seal(content, &mut record).unwrap();
        record
    }

    #[test]
    fn sealing_in_place_and_into_another_buffer_give_the_same_record() {
        for rules in [Rules::Tls13, Rules::Tls12Explicit, Rules::Tls12Implied] {
            let (mut here, mut there, mut opener) = (key(rules), key(rules), key(rules));
            for plain in [&b""[..], b"x", &[0; 100], &[5; PLAIN_LEN_MAX]] {
                let mut record = in_place(&mut here, ContentType::Data, plain);
                let mut other = vec![0; record.len()];
                there.seal_into(ContentType::Data, plain, &mut other).unwrap();
                assert_eq!(record, other);
                assert_eq!(record_len(&record).unwrap(), Some(record.len()));
                let (content, range) = opener.open(&mut record).unwrap();
                assert_eq!((content, &record[range]), (ContentType::Data, plain));
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_found() {
        for rules in [Rules::Tls13, Rules::Tls12Explicit, Rules::Tls12Implied] {
            let record = in_place(&mut key(rules), ContentType::Data, b"hello");
            for bit in 0..record.len() * 8 {
                if rules != Rules::Tls13 && (24..40).contains(&bit) {
                    // The header's length delimits the record in the stream. TLS 1.2 authenticates the length of the
                    // plaintext instead.
                    continue;
                }
                let mut altered = record.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                assert!(key(rules).open(&mut altered).is_err(), "bit {bit} under {rules:?}");
            }
        }
    }

    #[test]
    fn records_are_bound_to_their_place() {
        let mut sealer = key(Rules::Tls13);
        let first = in_place(&mut sealer, ContentType::Data, b"1");
        let second = in_place(&mut sealer, ContentType::Data, b"2");
        assert_ne!(first[HEADER_LEN..], second[HEADER_LEN..]);
        assert_eq!(key(Rules::Tls13).open(&mut second.clone()), Err(TlsError::Decrypt));
    }

    #[test]
    fn padding_is_taken_off_and_only_padding_refused() {
        assert_eq!(inner_content(&[1, 2, 23, 0, 0]), Ok((ContentType::Data, 2)));
        assert_eq!(inner_content(&[22]), Ok((ContentType::Handshake, 0)));
        assert_eq!(inner_content(&[0, 0, 0]), Err(TlsError::UnexpectedRecord(0)));
        assert_eq!(inner_content(&[]), Err(TlsError::UnexpectedRecord(0)));
        assert_eq!(inner_content(&[1, 20]), Err(TlsError::UnexpectedRecord(20)));
    }

    #[test]
    fn headers_are_bounded() {
        assert_eq!(record_len(&[23, 3, 3, 0]), Ok(None));
        assert_eq!(record_len(&[23, 3, 3, 0x41, 0]), Ok(Some(HEADER_LEN + RECORD_LEN_MAX)));
        assert_eq!(record_len(&[23, 3, 3, 0x41, 1]), Err(TlsError::RecordTooLarge { len: RECORD_LEN_MAX + 1 }));
        assert!(matches!(record_len(&[23, 2, 3, 0, 1]), Err(TlsError::Malformed(_))));
    }
}
