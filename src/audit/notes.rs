use std::io::Write;

use crate::audit::checkpoint::Ed25519PublicKey;
use crate::audit::hash::LineHash;

/// The version of the line format.
pub const FORMAT: u32 = 1;

/// A line about the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainNote<'a> {
    /// A process has begun to write to the log.
    Open {
        /// The version of adit.
        version: &'a str,
        /// The key that signs checkpoints.
        key: Ed25519PublicKey,
    },
    /// A process has ended in an orderly way.
    Close,
    /// The first line of a new file; the file before is closed.
    File {
        /// The key that signs checkpoints.
        key: Ed25519PublicKey,
    },
    /// A partial line was removed from the end of the log. A process had been killed, or its disk was full, while it
    /// wrote.
    Cut {
        /// The length of the removed part.
        bytes: u64,
        /// The hash of the removed part.
        hash: LineHash,
    },
    /// At its start a process found that the last checkpoint was not in the log, or that the last file was damaged.
    Altered {
        /// The number of that checkpoint; 0 if it is not known.
        head: u64,
        /// The number of the last line in the log.
        found: u64,
    },
    /// The clock was set back.
    ClockBack {
        /// How far the clock was set back, in milliseconds.
        ms: u64,
    },
    /// Lines were not written, because the disk was full or too many lines were waiting.
    Lost {
        /// How many lines were not written.
        lines: u64,
    },
    /// Old files were removed.
    Removed {
        /// The number of the first removed line.
        first: u64,
        /// The number of the last removed line.
        last: u64,
    },
}

impl ChainNote<'_> {
    /// The body of the line: everything after `time`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match self {
            ChainNote::Open { version, key } => write!(
                out,
                "\"kind\":\"open\",\"format\":{FORMAT},\"version\":\"{}\",\"key\":\"{}\"}}",
                version.escape_default(),
                key.text()
            ),
            ChainNote::Close => write!(out, "\"kind\":\"close\"}}"),
            ChainNote::File { key } => {
                write!(out, "\"kind\":\"file\",\"format\":{FORMAT},\"key\":\"{}\"}}", key.text())
            }
            ChainNote::Cut { bytes, hash } => {
                write!(out, "\"kind\":\"cut\",\"bytes\":{bytes},\"sha256\":\"{}\"}}", hash.text())
            }
            ChainNote::Altered { head, found } => {
                write!(out, "\"kind\":\"altered\",\"head\":{head},\"found\":{found}}}")
            }
            ChainNote::ClockBack { ms } => write!(out, "\"kind\":\"clock_back\",\"ms\":{ms}}}"),
            ChainNote::Lost { lines } => write!(out, "\"kind\":\"lost\",\"lines\":{lines}}}"),
            ChainNote::Removed { first, last } => {
                write!(out, "\"kind\":\"removed\",\"first\":{first},\"last\":{last}}}")
            }
        };
        written.expect("a vector takes all that is written");
        out
    }
}
