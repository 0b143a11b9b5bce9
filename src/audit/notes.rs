use std::io::Write;

use crate::audit::checkpoint::Ed25519PublicKey;
use crate::audit::hash::LineHash;

/// The version of the lines.
pub const FORMAT: u32 = 1;

/// What a log says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainNote<'a> {
    /// A process has begun to write.
    Open {
        /// The version of the program.
        version: &'a str,
        /// The key of its checkpoints.
        key: Ed25519PublicKey,
    },
    /// A process has ended in order.
    Close,
    /// The last file is closed, and this is the first line of the next one.
    File {
        /// The key of its checkpoints.
        key: Ed25519PublicKey,
    },
    /// A line was cut off when a process was killed or its disk was full, and has been removed.
    Cut {
        /// Its bytes.
        bytes: u64,
        /// The hash of them.
        hash: LineHash,
    },
    /// When a process began, the last checkpoint was not in the log, or the last file was not whole.
    Altered {
        /// The number of that checkpoint; 0 if it is not known.
        head: u64,
        /// The number of the last line that was found.
        found: u64,
    },
    /// The clock was set back.
    ClockBack {
        /// By how much.
        ms: u64,
    },
    /// Lines were not written: the disk was full, or too many waited.
    Lost {
        /// How many.
        lines: u64,
    },
    /// Old files were removed.
    Removed {
        /// The number of the first line of them.
        first: u64,
        /// The number of the last one.
        last: u64,
    },
}

impl ChainNote<'_> {
    /// The line, without what is in front of each.
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
