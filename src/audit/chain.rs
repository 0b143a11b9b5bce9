use std::io::Write;

use crate::audit::hash::LineHash;
use crate::base::push_hex;

/// The end of a chain of lines.
///
/// A line is a JSON object whose first three members have a fixed format: `seq` counts from 1, `prev` is the hash of
/// the line before, and `time` is when it was written. The hash covers the bytes of a whole line without its line feed.
/// The `prev` of the first line is 64 zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    next: u64,
    prev: LineHash,
}

/// The parsed members of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainedLine<'a> {
    /// The number of the line in the chain.
    pub seq: u64,
    /// The hash of the line before.
    pub prev: LineHash,
    /// When it was written.
    pub time: &'a str,
    /// The other members, from `"kind"` up to and including the closing brace.
    pub body: &'a [u8],
}

const SEQ: &[u8] = b"{\"seq\":";
const PREV: &[u8] = b",\"prev\":\"";
const TIME: &[u8] = b"\",\"time\":\"";
const KIND: &[u8] = b"\"kind\":\"";
/// The longest `time` that is accepted, in bytes.
const TIME_LEN_MAX: usize = 40;

impl Chain {
    /// A chain without lines.
    #[must_use]
    pub fn new() -> Chain {
        Chain { next: 1, prev: LineHash::default() }
    }

    /// The chain that ends with this line, given without its line feed; `None` if it is not a valid line.
    #[must_use]
    pub fn after(line: &[u8]) -> Option<Chain> {
        let next = ChainedLine::parse(line)?.seq.checked_add(1)?;
        Some(Chain { next, prev: LineHash::of(line) })
    }

    /// The number of the next line.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The hash of the last line.
    #[must_use]
    pub const fn prev(&self) -> LineHash {
        self.prev
    }

    /// Appends a line with its line feed to `out`. `body` is everything after `time`, up to and including the closing
    /// brace.
    pub fn append(&mut self, time: &str, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(SEQ);
        write!(out, "{}", self.next).expect("a vector takes all that is written");
        out.extend_from_slice(PREV);
        push_hex(out, &self.prev.0);
        out.extend_from_slice(TIME);
        out.extend_from_slice(time.as_bytes());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(body);
        self.prev = LineHash::of(&out[start..]);
        self.next += 1;
        out.push(b'\n');
    }
}

impl Default for Chain {
    fn default() -> Chain {
        Chain::new()
    }
}

impl<'a> ChainedLine<'a> {
    /// Parses a line without its line feed; `None` if it does not have the exact format of [`Chain`].
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<ChainedLine<'a>> {
        let rest = line.strip_prefix(SEQ)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (seq, rest) = rest.split_at(digits);
        let seq = std::str::from_utf8(seq).ok().filter(|seq| !seq.starts_with('0'))?.parse().ok()?;
        let rest = rest.strip_prefix(PREV)?;
        let (prev, rest) = rest.split_at_checked(64)?;
        let prev = LineHash::parse(prev)?;
        let rest = rest.strip_prefix(TIME)?;
        let end = rest.iter().take(TIME_LEN_MAX).position(|byte| *byte == b'"')?;
        let time = std::str::from_utf8(&rest[..end]).ok()?;
        let body = rest[end..].strip_prefix(b"\",")?;
        (body.starts_with(KIND) && body.ends_with(b"}")).then_some(ChainedLine { seq, prev, time, body })
    }

    /// The value of the member `kind`.
    #[must_use]
    pub fn kind(&self) -> &'a str {
        let rest = self.body.get(KIND.len()..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'"').unwrap_or_default();
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    /// A numeric member of the line with this name, not of a nested object.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        let line = serde_json::from_slice::<serde_json::Value>(&[b"{", self.body].concat()).ok()?;
        line.get(name)?.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_continues_its_chain() {
        let (mut chain, mut out) = (Chain::new(), Vec::new());
        chain.append("2026-11-29T19:00:00Z", br#""kind":"call","name":"a\"b"}"#, &mut out);
        let first = out.len();
        chain.append("2026-11-29T19:00:01Z", br#""kind":"lost","lines":3}"#, &mut out);
        let one = &out[..first - 1];
        assert!(serde_json::from_slice::<serde_json::Value>(one).is_ok());
        let line = ChainedLine::parse(one).unwrap();
        assert_eq!((line.seq, line.prev, line.kind()), (1, LineHash::default(), "call"));
        let two = ChainedLine::parse(&out[first..out.len() - 1]).unwrap();
        assert_eq!((two.seq, two.prev, two.number("lines")), (2, LineHash::of(one), Some(3)));
        assert_eq!(Chain::after(one).map(|chain| (chain.next(), chain.prev())), Some((2, two.prev)));
        assert_eq!(Chain::after(&out[first..out.len() - 1]), Some(chain));
    }

    #[test]
    fn lines_in_another_format_are_refused() {
        let (mut chain, mut out) = (Chain::new(), Vec::new());
        chain.append("2026-11-29T19:00:00Z", br#""kind":"call"}"#, &mut out);
        let good = String::from_utf8(out).unwrap().trim_end().to_owned();
        assert!(ChainedLine::parse(good.as_bytes()).is_some());
        for (from, to) in [("\"seq\":1", "\"seq\":01"), ("{", " {"), ("kind", "Kind"), ("}", "} "), ("00", "0A")] {
            let wrong = good.replacen(from, to, 1);
            assert!(ChainedLine::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
        for len in 0..good.len() {
            assert!(ChainedLine::parse(&good.as_bytes()[..len]).is_none(), "{len} bytes");
        }
    }
}
