use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::audit::chain::{Chain, ChainedLine};
use crate::audit::hash::LineHash;
use crate::base::{hex, unhex, unhex_lower};

/// The most lines between two checkpoints.
pub const CHECKPOINT_LINES: u64 = 4_096;

/// A prefix of every signed message, so that a signature over other data is never valid for a checkpoint.
const CONTEXT: &str = "adit audit checkpoint 1";

/// The public half of a [`CheckpointKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519PublicKey(pub [u8; 32]);

impl Ed25519PublicKey {
    /// Parses a key of 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ed25519PublicKey> {
        unhex(text.trim().as_bytes()).map(Ed25519PublicKey)
    }

    /// The key as 64 hexadecimal digits.
    #[must_use]
    pub fn text(self) -> String {
        hex(&self.0)
    }

    /// Whether the line is a checkpoint with a valid signature of this key, in exactly the format of
    /// [`CheckpointKey::append`].
    #[must_use]
    pub fn has_signed(self, line: &ChainedLine<'_>) -> bool {
        let signature = line.body.strip_prefix(BODY_START).and_then(|rest| rest.strip_suffix(BODY_END));
        let Some(signature) = signature.and_then(unhex_lower::<64>) else { return false };
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(message(line.seq, line.prev, line.time).as_bytes(), &signature).is_ok()
    }
}

const BODY_START: &[u8] = b"\"kind\":\"checkpoint\",\"signature\":\"";
const BODY_END: &[u8] = b"\"}";

/// Signs the end of a chain.
pub struct CheckpointKey(Ed25519KeyPair);

impl CheckpointKey {
    /// Reads a key from a PKCS #8 document; `None` if it is not an Ed25519 key.
    #[must_use]
    pub fn of_pkcs8(document: &[u8]) -> Option<CheckpointKey> {
        Ed25519KeyPair::from_pkcs8(document).ok().map(CheckpointKey)
    }

    /// The public half, for verification.
    ///
    /// # Panics
    ///
    /// Never: Ed25519 public keys have 32 bytes (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn public(&self) -> Ed25519PublicKey {
        let key = self.0.public_key().as_ref().try_into();
        Ed25519PublicKey(key.expect("a public key of Ed25519 has 32 bytes"))
    }

    /// Appends a signed checkpoint to the chain.
    pub fn append(&self, chain: &mut Chain, time: &str, out: &mut Vec<u8>) {
        let signature = self.0.sign(message(chain.next(), chain.prev(), time).as_bytes());
        let body = [BODY_START, hex(signature.as_ref()).as_bytes(), BODY_END].concat();
        chain.append(time, &body, out);
    }
}

fn message(seq: u64, prev: LineHash, time: &str) -> String {
    format!("{CONTEXT}\n{seq}\n{}\n{time}\n", prev.text())
}
