use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::audit::chain::{Chain, ChainedLine};
use crate::audit::hash::{LineHash, hex, unhex};

/// The most lines from one checkpoint to the next.
pub const CHECKPOINT_LINES: u64 = 4_096;

/// The start of each signed message. It keeps a signature of other data from being taken for that of a checkpoint.
const CONTEXT: &str = "adit audit checkpoint 1";

/// The public half of a [`CheckpointKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey(pub [u8; 32]);

impl Ed25519PublicKey {
    /// The key of 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ed25519PublicKey> {
        unhex(text.trim().as_bytes()).map(Ed25519PublicKey)
    }

    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn text(self) -> String {
        hex(&self.0)
    }

    /// Whether the line is a checkpoint, written as this key's owner writes it, with a signature of that.
    #[must_use]
    pub fn has_signed(self, line: &ChainedLine<'_>) -> bool {
        let signature = line.body.strip_prefix(BODY_START).and_then(|rest| rest.strip_suffix(BODY_END));
        let Some(signature) = signature.and_then(unhex::<64>) else { return false };
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(message(line.seq, line.prev, line.time).as_bytes(), &signature).is_ok()
    }
}

const BODY_START: &[u8] = b"\"kind\":\"checkpoint\",\"signature\":\"";
const BODY_END: &[u8] = b"\"}";

/// Signs where a chain has come to.
pub struct CheckpointKey(Ed25519KeyPair);

impl CheckpointKey {
    /// The key of a PKCS #8 document; none if it is no key of Ed25519.
    #[must_use]
    pub fn of_pkcs8(document: &[u8]) -> Option<CheckpointKey> {
        Ed25519KeyPair::from_pkcs8(document).ok().map(CheckpointKey)
    }

    /// The public half, by which anybody can check.
    ///
    /// # Panics
    ///
    /// Never: public keys of Ed25519 have 32 bytes (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn public(&self) -> Ed25519PublicKey {
        let key = self.0.public_key().as_ref().try_into();
        Ed25519PublicKey(key.expect("a public key of Ed25519 has 32 bytes"))
    }

    /// Appends a checkpoint to the chain.
    pub fn append(&self, chain: &mut Chain, time: &str, out: &mut Vec<u8>) {
        let signature = self.0.sign(message(chain.next(), chain.prev(), time).as_bytes());
        let body = [BODY_START, hex(signature.as_ref()).as_bytes(), BODY_END].concat();
        chain.append(time, &body, out);
    }
}

fn message(seq: u64, prev: LineHash, time: &str) -> String {
    format!("{CONTEXT}\n{seq}\n{}\n{time}\n", prev.text())
}
