//! Changes to parts of a text; the rest stays as it is.

use std::borrow::Cow;
use std::ops::Range;

/// Parts of a text that are left out, inserted or replaced. They do not overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes<'a>(Vec<(Range<usize>, Cow<'a, [u8]>)>);

impl<'a> Changes<'a> {
    /// Replaces a part. Of two insertions at one place, the first comes first.
    pub(super) fn push(&mut self, part: Range<usize>, with: impl Into<Cow<'a, [u8]>>) {
        self.0.push((part, with.into()));
    }

    /// How much longer the text becomes by what is inserted, less what is left out so far.
    pub(super) fn growth(&self) -> usize {
        let inserted: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let left_out: usize = self.0.iter().map(|(part, _)| part.len()).sum();
        inserted.saturating_sub(left_out)
    }

    /// The parts that are changed.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter().map(|(part, _)| part)
    }

    /// The same changes for a text in which everything from `from` on begins at `to`.
    pub(super) fn moved(&self, from: usize, to: usize) -> Changes<'a> {
        let mut moved = self.clone();
        for (part, _) in moved.0.iter_mut().filter(|(part, _)| part.start >= from) {
            *part = part.start - from + to..part.end - from + to;
        }
        moved
    }

    /// The changed text; `None` if there are no changes.
    pub(super) fn apply(mut self, text: &[u8]) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by_key(|(range, _)| range.start);
        let mut out = Vec::with_capacity(text.len() + 16);
        let mut at = 0;
        for (range, with) in self.0 {
            out.extend_from_slice(&text[at..range.start]);
            out.extend_from_slice(&with);
            at = range.end;
        }
        out.extend_from_slice(&text[at..]);
        Some(out)
    }
}
