//! Floor 1: the audit log as text: the format of its lines, how they are chained, and how a chain is verified. The
//! control thread does the I/O, and supplies clocks and keys.
//!
//! A [`Chain`] puts a number, the hash of the line before and the time in front of each line. A [`CheckpointKey`] signs
//! the end of the chain. A [`Resumer`] continues the log of a process that was killed. A [`Verifier`] reads the lines
//! and reports what was removed, changed, moved or cut off. [`AuditCallLine`], [`CallEndLine`] and [`ActionLine`]
//! define the content of lines.

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
pub use lines::{ActionLine, AuditCallLine, AuditedCaller, AuditedDecision, AuditedPolicy, CallEndLine, RpcAnswer};
pub use notes::{ChainNote, FORMAT};
pub use resume::{Resumed, Resumer};
pub use verifier::{ChainFault, ChainRemark, Located, Verified, Verifier};
