//! Filters lists in event streams (WHATWG HTML section 9.2.6).

use crate::policy::tools::answer_filter::AnswerFilter;
use crate::policy::tools::answer_note::AnswerWithheld;
use crate::wire::event_stream::BOM;

impl AnswerFilter {
    /// Filters one event of a stream, including its empty line. `None` if nothing changes. Lines without data are unchanged.
    ///
    /// # Errors
    ///
    /// If the data looks like an answer and cannot be parsed, or the answer exceeds the limit of the rule.
    pub fn apply_to_event(&self, event: &[u8]) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        let changed = self.changed_event(event)?;
        self.on_passed(changed.as_deref().unwrap_or(event).len())?;
        Ok(changed)
    }

    fn changed_event(&self, event: &[u8]) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        let (mark, lines) = match event.strip_prefix(BOM) {
            Some(lines) => (BOM, lines),
            None => (&b""[..], event),
        };
        let mut data = Vec::new();
        let mut has_data = false;
        let mut data_lines = 0;
        for (line, _) in Lines(lines) {
            if let Some(value) = data_of(line) {
                if std::mem::replace(&mut has_data, true) {
                    data.push(b'\n');
                }
                data.extend_from_slice(value);
                data_lines += 1;
            }
        }
        // In the transport before 2025-03-26 the first event carries a path; an event that primes a stream has no data.
        if !matches!(data.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return Ok(None);
        }
        // Each line may get a space that it did not have.
        let around = event.len() - data.len() + data_lines;
        let Some(filtered) = self.apply_within(&data, around)? else { return Ok(None) };
        let mut out = Vec::with_capacity(event.len() + 16);
        out.extend_from_slice(mark);
        let mut written = false;
        for (line, end) in Lines(lines) {
            if data_of(line).is_none() {
                out.extend_from_slice(line);
                out.extend_from_slice(end);
            } else if !std::mem::replace(&mut written, true) {
                for part in filtered.split(|byte| *byte == b'\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(part);
                    out.extend_from_slice(end);
                }
            }
        }
        Ok(Some(out))
    }
}

/// The value of a data line.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The lines of a text, each with its line ending.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        if self.0.is_empty() {
            return None;
        }
        let len = memchr::memchr2(b'\n', b'\r', self.0).unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(len);
        let end = match rest {
            [b'\r', b'\n', ..] => 2,
            [_, ..] => 1,
            [] => 0,
        };
        let (end, rest) = rest.split_at(end);
        self.0 = rest;
        Some((line, end))
    }
}
