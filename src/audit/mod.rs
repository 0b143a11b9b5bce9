//! Floor 1: the format of the audit log, its hash chain, and its verification. The control thread does the I/O, and
//! supplies clocks and keys.
//!
//! A [`Chain`] adds the number, the hash of the line before and the time to each line. A [`CheckpointKey`] signs the
//! end of the chain. A [`Resumer`] continues the log of a killed process. A [`Verifier`] reports lines that were
//! removed, changed, moved or cut off. [`AuditCallLine`], [`CallEndLine`] and [`ActionLine`] define the content of
//! lines.

mod chain;
mod checkpoint;
mod hash;
mod lines;
mod notes;
mod resume;
mod verifier;

pub use chain::{Chain, ChainedLine};
pub use checkpoint::{CHECKPOINT_LINES, CheckpointKey, Ed25519PublicKey};
pub use hash::LineHash;
pub use lines::{
    ActionLine, AuditCallLine, AuditedCaller, AuditedDecision, AuditedPolicy, CallEndLine, RpcAnswer, SESSION_HASH_LEN,
    session_hash,
};
pub use notes::{ChainNote, FORMAT};
pub use resume::{Resumed, Resumer};
pub use verifier::{ChainFault, ChainRemark, Located, Verified, Verifier};
