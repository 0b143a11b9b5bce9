use crate::audit::chain::{Chain, ChainedLine};
use crate::audit::hash::LineHash;
use crate::audit::notes::ChainNote;

/// Reads the last file of a log line by line, so that a new process can continue the log.
pub struct Resumer {
    /// The last checkpoint, as it was saved beside the log.
    head: Option<Vec<u8>>,
    chain: Option<Chain>,
    /// Whether that checkpoint was found, here or as the last line of the file before.
    has_head: bool,
    is_whole: bool,
    /// Whether the log has only what a process writes before it saves its first checkpoint.
    is_first_start: bool,
}

/// The point at which a log is continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The chain after the last complete line.
    pub chain: Chain,
    /// Lines to write before all others.
    pub notes: Vec<ChainNote<'static>>,
}

impl Resumer {
    /// Begins to read. `head` is the saved last checkpoint; `prev` is the chain at the end of the file before.
    #[must_use]
    pub fn new(head: Option<&[u8]>, prev: Option<Chain>) -> Resumer {
        let head = head.map(|head| head.strip_suffix(b"\n").unwrap_or(head).to_vec());
        let has_head = head.as_deref().and_then(Chain::after).is_some_and(|head| prev == Some(head));
        Resumer { head, chain: prev, has_head, is_whole: true, is_first_start: prev.is_none() }
    }

    /// Reads a complete line, given without its line feed.
    pub fn line(&mut self, bytes: &[u8]) {
        let line = ChainedLine::parse(bytes);
        let follows = |chain: Chain| line.is_some_and(|line| (line.seq, line.prev) == (chain.next(), chain.prev()));
        self.is_whole &= line.is_some() && self.chain.is_none_or(follows);
        let is_of_start = |line: ChainedLine<'_>| {
            (line.seq == 1 || self.chain.is_some())
                && matches!(line.kind(), "open" | "cut" | "clock_back" | "checkpoint")
        };
        self.is_first_start &= line.is_some_and(is_of_start);
        self.has_head |= self.head.as_deref() == Some(bytes);
        self.chain = Chain::after(bytes);
    }

    /// Ends the file. `rest` is the partial line at its end. `None` if the log cannot be continued.
    #[must_use]
    pub fn finish(self, rest: &[u8]) -> Option<Resumed> {
        let chain = self.chain?;
        let mut notes = Vec::new();
        // A process that was killed at its first start has not saved its checkpoint, and has no line of a call.
        let is_before_first_line = self.head.is_none() && self.is_first_start;
        let lacks_head = !self.has_head && !is_before_first_line;
        if lacks_head || !self.is_whole {
            notes.push(altered(self.head.as_deref(), chain));
        }
        notes.extend(cut(rest));
        Some(Resumed { chain, notes })
    }
}

impl Resumed {
    /// Starts a log that has no complete line. `head` is its saved last checkpoint, if it ever had one; `rest` is a
    /// partial line.
    #[must_use]
    pub fn anew(head: Option<&[u8]>, rest: &[u8]) -> Resumed {
        let chain = Chain::new();
        let head = head.map(|head| head.strip_suffix(b"\n").unwrap_or(head));
        let altered = head.map(|head| altered(Some(head), chain));
        Resumed { chain, notes: altered.into_iter().chain(cut(rest)).collect() }
    }
}

fn altered(head: Option<&[u8]>, chain: Chain) -> ChainNote<'static> {
    let head = head.and_then(ChainedLine::parse).map_or(0, |line| line.seq);
    ChainNote::Altered { head, found: chain.next() - 1 }
}

fn cut(rest: &[u8]) -> Option<ChainNote<'static>> {
    (!rest.is_empty()).then(|| ChainNote::Cut { bytes: rest.len() as u64, hash: LineHash::of(rest) })
}
