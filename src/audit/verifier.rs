use std::fmt;

use crate::audit::chain::{Chain, ChainedLine};
use crate::audit::checkpoint::{CHECKPOINT_LINES, Ed25519PublicKey};

/// The most faults that are reported. Further ones are only counted.
const FAULTS_TOLD_MAX: usize = 100;
/// How many lines beyond [`CHECKPOINT_LINES`] may be without a checkpoint: the lines at the start of a process.
const CHECKPOINT_SLACK: u64 = 16;

/// A fault of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Lines are missing from the log.
    #[error("lines {first} to {last} are missing")]
    Missing {
        /// The number of the first one.
        first: u64,
        /// The number of the last one.
        last: u64,
    },
    /// A line stands in the wrong place.
    #[error("line {found} is where line {expected} should be: it was moved or repeated")]
    Misplaced {
        /// The number that should stand there.
        expected: u64,
        /// The number that stands there.
        found: u64,
    },
    /// A line does not match the hash in the line after it.
    #[error("line {0} was changed: its hash differs from the one in the next line")]
    Changed(u64),
    /// The text is not a line of an audit log.
    #[error("it is not a line of an audit log")]
    Malformed,
    /// The signature of a checkpoint is not valid.
    #[error("checkpoint {0} is not signed with the key of the log")]
    BadSignature(u64),
    /// Too many lines have no checkpoint.
    #[error("no checkpoint was written for {0} lines")]
    Unsigned(u64),
    /// The log ends before its last checkpoint.
    #[error("the log ends with line {last}, but checkpoint {head} was written: the lines after {last} were cut off")]
    CutOff {
        /// The number of the last line.
        last: u64,
        /// The number of the last checkpoint.
        head: u64,
    },
    /// The last checkpoint in the log differs from the saved one.
    #[error("checkpoint {0} differs from the copy in audit.head")]
    OtherHead(u64),
    /// The file with the last checkpoint is missing, or contains no checkpoint of the key.
    #[error(
        "the file with the last checkpoint is missing or not signed by the key of the log, so that its end cannot be checked"
    )]
    NoHead,
    /// A file that is not the last ends within a line.
    #[error("the file ends within a line")]
    BrokenLine,
    /// The log does not begin with line 1, and no line says that older files were removed.
    #[error("the log begins with line {0}, and no line says that those before it were removed for their age or size")]
    NoBeginning(u64),
    /// A process recorded at its start that the log had been changed or cut off.
    #[error(
        "line {at} records that, when a process started, the log ended with line {found} and did not match its last checkpoint ({head})"
    )]
    WasAltered {
        /// The line that records it.
        at: u64,
        /// The last line that the process found.
        found: u64,
        /// The last checkpoint that had been written; 0 if it is not known.
        head: u64,
    },
    /// A line names a different key than the key for verification.
    #[error("line {0} names another key")]
    OtherKey(u64),
    /// The log has no lines.
    #[error("there are no lines")]
    Empty,
}

/// Something worth reporting that is not a fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainRemark {
    /// A process was killed while it wrote a line.
    #[error(
        "line {0}: an incomplete line was removed, which a killed process had left; under `required` no answer was sent for it"
    )]
    Cut(u64),
    /// The clock was set back.
    #[error("line {0}: the clock was set back")]
    ClockBack(u64),
    /// Lines could not be written.
    #[error("line {at}: {lines} lines before it could not be written")]
    Lost {
        /// The line that records it.
        at: u64,
        /// How many lines could not be written.
        lines: u64,
    },
    /// Old files were removed.
    #[error("lines up to {0} were removed for their age or size")]
    Removed(u64),
    /// The last line is incomplete: it is being written, or its process was killed.
    #[error("the last line is incomplete: it is being written, or the process was killed")]
    Incomplete,
    /// The last lines are not covered by a checkpoint yet.
    #[error("the last {0} lines have no checkpoint yet: changes to them, or their removal, may go undetected")]
    Unsigned(u64),
}

/// A fault or remark, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The name of the file.
    pub file: String,
    /// The line of the file, counted from 1; 0 if it concerns the whole file.
    pub line: u64,
    /// The fault or remark.
    pub what: T,
}

impl<T: fmt::Display> fmt::Display for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => write!(f, "{}", self.what),
            (file, 0) => write!(f, "{file}: {}", self.what),
            (file, line) => write!(f, "{file}:{line}: {}", self.what),
        }
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many lines were read.
    pub lines: u64,
    /// The number of the first line.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// The number of the last checkpoint with a valid signature.
    pub signed: u64,
    /// The faults, at most a hundred of them.
    pub faults: Vec<Located<ChainFault>>,
    /// How many faults there are in all.
    pub faults_count: u64,
    /// Findings that are not faults.
    pub remarks: Vec<Located<ChainRemark>>,
}

/// Verifies a log, line by line and in order.
pub struct Verifier {
    key: Ed25519PublicKey,
    /// The last checkpoint, as it was saved beside the log.
    head: Option<Vec<u8>>,
    head_seq: Option<u64>,
    has_head: bool,
    chain: Option<Chain>,
    since_checkpoint: u64,
    /// Lines up to this one were removed with their files.
    removed: u64,
    /// Where a file ends within a line, as long as no line was read behind it.
    broken_at: Option<(String, u64)>,
    file: String,
    line: u64,
    found: Verified,
}

impl Verifier {
    /// Begins a verification with this key. `head` is the content of the file with the last checkpoint.
    #[must_use]
    pub fn new(key: Ed25519PublicKey, head: Option<&[u8]>) -> Verifier {
        let head = head.map(|head| head.strip_suffix(b"\n").unwrap_or(head));
        let head_seq = head.and_then(ChainedLine::parse).filter(|line| key.has_signed(line)).map(|line| line.seq);
        Verifier {
            key,
            head: head.map(<[u8]>::to_vec),
            head_seq,
            has_head: false,
            chain: None,
            since_checkpoint: 0,
            removed: 0,
            broken_at: None,
            file: String::new(),
            line: 0,
            found: Verified::default(),
        }
    }

    /// Begins a file; the lines that follow belong to it.
    pub fn begin_file(&mut self, name: &str) {
        (self.file, self.line) = (name.to_owned(), 0);
    }

    /// Reads a complete line, given without its line feed.
    pub fn line(&mut self, bytes: &[u8]) {
        if let Some((file, line)) = self.broken_at.take() {
            self.fault_at(file, line, ChainFault::BrokenLine);
        }
        self.line += 1;
        self.found.lines += 1;
        let Some(line) = ChainedLine::parse(bytes) else {
            // The chain is not reset: the next line is checked against the one before this.
            return self.fault(ChainFault::Malformed);
        };
        self.check_place(&line);
        self.chain = Chain::after(bytes);
        self.found.last = line.seq;
        self.since_checkpoint += 1;
        if self.head_seq == Some(line.seq) {
            self.has_head = true;
            if self.head.as_deref() != Some(bytes) {
                self.fault(ChainFault::OtherHead(line.seq));
            }
        }
        self.read_note(&line);
        if self.since_checkpoint == CHECKPOINT_LINES + CHECKPOINT_SLACK {
            self.fault(ChainFault::Unsigned(self.since_checkpoint));
        }
    }

    /// The current file ends within a line.
    pub fn incomplete(&mut self) {
        self.line += 1;
        self.broken_at = Some((self.file.clone(), self.line));
    }

    /// Ends the last file, and returns the result.
    #[must_use]
    pub fn finish(mut self) -> Verified {
        // Behind it there may be a file without lines, whose process was killed as it began.
        if let Some(at) = self.broken_at.take() {
            (self.file, self.line) = at;
            self.remark(ChainRemark::Incomplete);
        }
        (self.file, self.line) = (String::new(), 0);
        let last = self.found.last;
        match self.head_seq {
            _ if self.found.lines == 0 => self.fault(ChainFault::Empty),
            None => self.fault(ChainFault::NoHead),
            Some(head) if head > last => self.fault(ChainFault::CutOff { last, head }),
            Some(head) if !self.has_head => self.fault(ChainFault::OtherHead(head)),
            Some(_) => {}
        }
        if self.found.first > 1 {
            if self.removed + 1 >= self.found.first {
                self.remark(ChainRemark::Removed(self.found.first - 1));
            } else {
                self.fault(ChainFault::NoBeginning(self.found.first));
            }
        }
        if self.since_checkpoint > 0 && self.found.lines > 0 {
            self.remark(ChainRemark::Unsigned(self.since_checkpoint));
        }
        self.found
    }

    fn check_place(&mut self, line: &ChainedLine<'_>) {
        let Some(chain) = self.chain else {
            if self.found.first == 0 {
                self.found.first = line.seq;
            }
            // If files were removed, `prev` of the first line left is the hash of a line that is gone. Only line 1 can
            // be checked.
            if line.seq == 1 && line.prev != Chain::new().prev() {
                self.fault(ChainFault::Changed(0));
            }
            return;
        };
        let expected = chain.next();
        if line.seq > expected {
            self.fault(ChainFault::Missing { first: expected, last: line.seq - 1 });
        } else if line.seq < expected {
            self.fault(ChainFault::Misplaced { expected, found: line.seq });
        } else if line.prev != chain.prev() {
            self.fault(ChainFault::Changed(expected - 1));
        }
    }

    fn read_note(&mut self, line: &ChainedLine<'_>) {
        let at = line.seq;
        match line.kind() {
            "checkpoint" if self.key.has_signed(line) => {
                self.since_checkpoint = 0;
                self.found.signed = at;
            }
            "checkpoint" => self.fault(ChainFault::BadSignature(at)),
            "open" | "file" => {
                let named = format!("\"key\":\"{}\"", self.key.text());
                if !line.body.windows(named.len()).any(|part| part == named.as_bytes()) {
                    self.fault(ChainFault::OtherKey(at));
                }
            }
            "cut" => self.remark(ChainRemark::Cut(at)),
            "clock_back" => self.remark(ChainRemark::ClockBack(at)),
            "lost" => self.remark(ChainRemark::Lost { at, lines: line.number("lines").unwrap_or_default() }),
            "removed" => self.removed = self.removed.max(line.number("last").unwrap_or_default()),
            "altered" => {
                let number = |name| line.number(name).unwrap_or_default();
                self.fault(ChainFault::WasAltered { at, found: number("found"), head: number("head") });
            }
            _ => {}
        }
    }

    fn fault(&mut self, what: ChainFault) {
        self.fault_at(self.file.clone(), self.line, what);
    }

    fn fault_at(&mut self, file: String, line: u64, what: ChainFault) {
        self.found.faults_count += 1;
        if self.found.faults.len() < FAULTS_TOLD_MAX {
            self.found.faults.push(Located { file, line, what });
        }
    }

    fn remark(&mut self, what: ChainRemark) {
        if self.found.remarks.len() < FAULTS_TOLD_MAX {
            self.found.remarks.push(Located { file: self.file.clone(), line: self.line, what });
        }
    }
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
