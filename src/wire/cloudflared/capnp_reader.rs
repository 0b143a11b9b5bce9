//! Reads Cap'n Proto messages in place, without allocating.
//!
//! This covers what the messages of tunnels need: structs, lists of bytes, of pointers and of structs, capabilities, and
//! messages of several segments with far pointers. The `capnp` crate needs code that its compiler generates, and allocates
//! for each message.

use std::cell::Cell;

/// The most segments of one message.
const SEGMENTS_MAX: usize = 16;
/// How deep structs and lists may be nested.
const DEPTH_MAX: u8 = 16;
/// How many words one message may be read as. A small message may otherwise name the same bytes many times.
const WORDS_READ_MAX: usize = 1 << 18;
const WORD: usize = 8;

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapnpError {
    /// A pointer leads out of the message.
    #[error("a pointer leads out of the message")]
    Bounds,
    /// A pointer has a kind that is not expected in its place.
    #[error("a pointer has another kind than expected")]
    Kind,
    /// A text is not UTF-8, or its end is missing.
    #[error("a text is not valid")]
    Text,
    /// Structs are nested too deeply, or name the same bytes too often.
    #[error("the message is nested too deeply or repeats itself too often")]
    Nested,
    /// The message has too many segments.
    #[error("the message has more than {SEGMENTS_MAX} segments")]
    Segments,
    /// The message is longer than the limit.
    #[error("the message has {0} bytes, which is more than the limit")]
    Long(usize),
}

/// How many bytes the first message of `bytes` has, its header included; `None` while the header is incomplete.
///
/// # Errors
///
/// If it has too many segments, or more than `len_max` bytes.
pub(super) fn message_len(bytes: &[u8], len_max: usize) -> Result<Option<usize>, CapnpError> {
    let Some(count) = u32_at(bytes, 0) else { return Ok(None) };
    let count = count as usize + 1;
    if count > SEGMENTS_MAX {
        return Err(CapnpError::Segments);
    }
    let header = header_len(count);
    if bytes.len() < header {
        return Ok(None);
    }
    let words = (1..=count).map(|at| u32_at(bytes, at * 4).unwrap_or_default() as usize).sum::<usize>();
    let len = header + words * WORD;
    if len > len_max { Err(CapnpError::Long(len)) } else { Ok(Some(len)) }
}

/// The header has a length for each segment and is padded to whole words.
fn header_len(segments: usize) -> usize {
    (4 + 4 * segments).next_multiple_of(WORD)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// A message that was received completely.
pub(super) struct Message<'a> {
    segments: [&'a [u8]; SEGMENTS_MAX],
    words_left: Cell<usize>,
}

/// A struct of a message.
#[derive(Clone, Copy)]
pub(super) struct StructReader<'m, 'a> {
    message: &'m Message<'a>,
    segment: usize,
    data: &'a [u8],
    /// The first pointer, in words from the start of the segment, and how many there are.
    pointers: (usize, usize),
    depth: u8,
}

/// A list of structs.
#[derive(Clone, Copy)]
pub(super) struct StructList<'m, 'a> {
    message: &'m Message<'a>,
    segment: usize,
    first: usize,
    len: usize,
    data_words: usize,
    pointer_words: usize,
    depth: u8,
}

/// A pointer that was followed to its object.
enum Object {
    Null,
    Struct { segment: usize, at: usize, data: usize, pointers: usize },
    List { segment: usize, at: usize, kind: u8, count: usize, tag: Option<u64> },
    Capability(u32),
}

impl<'a> Message<'a> {
    /// A message of exactly these bytes, as [`message_len`] has measured them.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Message<'a>, CapnpError> {
        let count = u32_at(bytes, 0).ok_or(CapnpError::Bounds)? as usize + 1;
        let mut segments = [&bytes[..0]; SEGMENTS_MAX];
        if count > SEGMENTS_MAX {
            return Err(CapnpError::Segments);
        }
        let mut at = header_len(count);
        for (index, segment) in segments.iter_mut().enumerate().take(count) {
            let words = u32_at(bytes, 4 + index * 4).ok_or(CapnpError::Bounds)? as usize;
            *segment = bytes.get(at..at + words * WORD).ok_or(CapnpError::Bounds)?;
            at += words * WORD;
        }
        Ok(Message { segments, words_left: Cell::new(WORDS_READ_MAX) })
    }

    /// The struct at the root.
    pub(super) fn root(&self) -> Result<StructReader<'_, 'a>, CapnpError> {
        let object = self.follow(0, 0, DEPTH_MAX)?;
        self.structure(object, DEPTH_MAX)
    }

    fn word(&self, segment: usize, at: usize) -> Result<u64, CapnpError> {
        let bytes = self.span(segment, at, 1)?;
        Ok(bytes.try_into().map(u64::from_le_bytes).unwrap_or_default())
    }

    fn span(&self, segment: usize, at: usize, words: usize) -> Result<&'a [u8], CapnpError> {
        let segment = self.segments.get(segment).ok_or(CapnpError::Bounds)?;
        let start = at.checked_mul(WORD).ok_or(CapnpError::Bounds)?;
        let end = words.checked_mul(WORD).and_then(|len| start.checked_add(len)).ok_or(CapnpError::Bounds)?;
        segment.get(start..end).ok_or(CapnpError::Bounds)
    }

    /// Counts words that are read.
    fn read(&self, words: usize) -> Result<(), CapnpError> {
        // An object of no words costs one.
        let left = self.words_left.get().checked_sub(words.max(1)).ok_or(CapnpError::Nested)?;
        self.words_left.set(left);
        Ok(())
    }

    /// The object that the pointer at this place leads to, through far pointers too.
    fn follow(&self, segment: usize, at: usize, depth: u8) -> Result<Object, CapnpError> {
        if depth == 0 {
            return Err(CapnpError::Nested);
        }
        let pointer = self.word(segment, at)?;
        if pointer & 3 != 2 {
            return self.resolve(pointer, segment, at + 1);
        }
        // A far pointer leads to a pointer in another segment, or to two words: where the object is, and its tag.
        let (pad_segment, pad) = ((pointer >> 32) as usize, (pointer as u32 >> 3) as usize);
        let landing = self.word(pad_segment, pad)?;
        if pointer & 4 == 0 {
            return if landing & 3 == 2 { Err(CapnpError::Kind) } else { self.resolve(landing, pad_segment, pad + 1) };
        }
        if landing & 7 != 2 {
            return Err(CapnpError::Kind);
        }
        let tag = self.word(pad_segment, pad + 1)?;
        let (segment, at) = ((landing >> 32) as usize, (landing as u32 >> 3) as usize);
        match tag & 3 {
            // The tag has no offset of its own.
            0 | 1 => self.resolve(tag & !0xffff_fffc, segment, at),
            _ => Err(CapnpError::Kind),
        }
    }

    /// The object of a pointer whose offset counts from the word `base`.
    fn resolve(&self, pointer: u64, segment: usize, base: usize) -> Result<Object, CapnpError> {
        if pointer == 0 {
            return Ok(Object::Null);
        }
        let offset = (pointer as u32 as i32 >> 2) as isize;
        let target = || base.checked_add_signed(offset).ok_or(CapnpError::Bounds);
        match pointer & 3 {
            0 => {
                let (data, pointers) = ((pointer >> 32) as u16 as usize, (pointer >> 48) as usize);
                // A struct of no words may stand anywhere.
                let at = if data + pointers == 0 { 0 } else { target()? };
                self.span(segment, at, data + pointers)?;
                self.read(data + pointers)?;
                Ok(Object::Struct { segment, at, data, pointers })
            }
            1 => {
                let (kind, count, at) = ((pointer >> 32) as u8 & 7, (pointer >> 35) as usize, target()?);
                let (words, tag) = match kind {
                    0 => (0, None),
                    1 => (count.div_ceil(64), None),
                    2 => (count.div_ceil(8), None),
                    3 => (count.div_ceil(4), None),
                    4 => (count.div_ceil(2), None),
                    5 | 6 => (count, None),
                    _ => (count, Some(self.word(segment, at)?)),
                };
                let first = at + usize::from(tag.is_some());
                self.span(segment, first, words)?;
                self.read(words)?;
                Ok(Object::List { segment, at: first, kind, count, tag })
            }
            3 if pointer as u32 == 3 => Ok(Object::Capability((pointer >> 32) as u32)),
            _ => Err(CapnpError::Kind),
        }
    }

    fn structure(&self, object: Object, depth: u8) -> Result<StructReader<'_, 'a>, CapnpError> {
        let (segment, at, data, pointers) = match object {
            Object::Null => (0, 0, 0, 0),
            Object::Struct { segment, at, data, pointers } => (segment, at, data, pointers),
            _ => return Err(CapnpError::Kind),
        };
        let data_bytes = self.span(segment, at, data)?;
        let depth = depth.checked_sub(1).ok_or(CapnpError::Nested)?;
        Ok(StructReader { message: self, segment, data: data_bytes, pointers: (at + data, pointers), depth })
    }
}

impl<'m, 'a> StructReader<'m, 'a> {
    /// The byte at this place of the data; 0 if the writer does not know the field.
    pub(super) fn u8(&self, at: usize) -> u8 {
        self.data.get(at).copied().unwrap_or_default()
    }

    pub(super) fn u16(&self, at: usize) -> u16 {
        self.data.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
    }

    pub(super) fn u32(&self, at: usize) -> u32 {
        u32_at(self.data, at).unwrap_or_default()
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        self.data.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    pub(super) fn bit(&self, bit: usize) -> bool {
        self.u8(bit / 8) >> (bit % 8) & 1 == 1
    }

    /// The struct of this pointer; an empty one if there is none.
    pub(super) fn structure(&self, index: usize) -> Result<StructReader<'m, 'a>, CapnpError> {
        self.message.structure(self.object(index)?, self.depth)
    }

    /// The bytes of this pointer; none if there is none.
    pub(super) fn data(&self, index: usize) -> Result<&'a [u8], CapnpError> {
        self.message.bytes(self.object(index)?)
    }

    /// The text of this pointer; an empty one if there is none.
    pub(super) fn text(&self, index: usize) -> Result<&'a str, CapnpError> {
        text_of(self.data(index)?)
    }

    /// The bytes of the text of this pointer, which need not be UTF-8.
    pub(super) fn text_bytes(&self, index: usize) -> Result<&'a [u8], CapnpError> {
        without_end(self.data(index)?)
    }

    /// Passes each text of a list to `each`.
    pub(super) fn texts(&self, index: usize, mut each: impl FnMut(&'a str)) -> Result<(), CapnpError> {
        let (segment, at, count) = match self.object(index)? {
            Object::Null => return Ok(()),
            Object::List { segment, at, kind: 6, count, .. } => (segment, at, count),
            _ => return Err(CapnpError::Kind),
        };
        for nth in 0..count {
            let object = self.message.follow(segment, at + nth, self.depth)?;
            each(text_of(self.message.bytes(object)?)?);
        }
        Ok(())
    }

    /// The list of structs of this pointer; an empty one if there is none.
    pub(super) fn structures(&self, index: usize) -> Result<StructList<'m, 'a>, CapnpError> {
        let message = self.message;
        let depth = self.depth.checked_sub(1).ok_or(CapnpError::Nested)?;
        let (segment, first, words, tag) = match self.object(index)? {
            Object::Null => (0, 0, 0, 0),
            Object::List { segment, at, tag: Some(tag), count, .. } if tag & 3 == 0 => (segment, at, count, tag),
            _ => return Err(CapnpError::Kind),
        };
        let len = (tag as u32 >> 2) as usize;
        let (data_words, pointer_words) = ((tag >> 32) as u16 as usize, (tag >> 48) as usize);
        if (data_words + pointer_words).checked_mul(len).is_none_or(|needed| needed > words) {
            return Err(CapnpError::Bounds);
        }
        message.read(len)?;
        Ok(StructList { message, segment, first, len, data_words, pointer_words, depth })
    }

    /// The index of the capability of this pointer, if it has one.
    pub(super) fn capability(&self, index: usize) -> Result<Option<u32>, CapnpError> {
        match self.object(index)? {
            Object::Null => Ok(None),
            Object::Capability(index) => Ok(Some(index)),
            _ => Err(CapnpError::Kind),
        }
    }

    fn object(&self, index: usize) -> Result<Object, CapnpError> {
        let (first, count) = self.pointers;
        if index >= count {
            return Ok(Object::Null);
        }
        self.message.follow(self.segment, first + index, self.depth)
    }
}

impl<'m, 'a> StructList<'m, 'a> {
    /// The struct at this place, if the list is that long.
    pub(super) fn get(&self, index: usize) -> Result<Option<StructReader<'m, 'a>>, CapnpError> {
        if index >= self.len {
            return Ok(None);
        }
        let at = self.first + index * (self.data_words + self.pointer_words);
        let data = self.message.span(self.segment, at, self.data_words)?;
        let pointers = (at + self.data_words, self.pointer_words);
        Ok(Some(StructReader { message: self.message, segment: self.segment, data, pointers, depth: self.depth }))
    }
}

impl<'a> Message<'a> {
    fn bytes(&self, object: Object) -> Result<&'a [u8], CapnpError> {
        match object {
            Object::Null => Ok(&[]),
            Object::List { segment, at, kind: 2, count, .. } => {
                Ok(&self.span(segment, at, count.div_ceil(WORD))?[..count])
            }
            _ => Err(CapnpError::Kind),
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, CapnpError> {
    std::str::from_utf8(without_end(bytes)?).map_err(|_| CapnpError::Text)
}

/// A text ends with a zero byte, which is not part of it.
fn without_end(bytes: &[u8]) -> Result<&[u8], CapnpError> {
    match bytes {
        [] => Ok(&[]),
        [text @ .., 0] => Ok(text),
        _ => Err(CapnpError::Text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{REGISTER, framed};
    use super::*;
    use crate::base::Rng;

    /// Reads all that can be read, as deep as possible.
    fn read_all(of: &StructReader<'_, '_>) {
        for index in 0..4 {
            let _ = (of.u8(index), of.u16(index), of.u32(index), of.u64(index), of.bit(index));
            let _ = (of.data(index), of.text(index), of.capability(index));
            let _ = of.texts(index, |_| ());
            if let Ok(child) = of.structure(index)
                && of.pointers.1 > index
            {
                read_all(&child);
            }
            if let Ok(list) = of.structures(index) {
                for nth in 0..list.len.min(3) {
                    list.get(nth).into_iter().flatten().for_each(|item| read_all(&item));
                }
            }
        }
    }

    fn read_bytes(bytes: &[u8]) {
        let Ok(Some(len)) = message_len(bytes, 1 << 20) else { return };
        let Some(bytes) = bytes.get(..len) else { return };
        if let Ok(message) = Message::new(bytes)
            && let Ok(root) = message.root()
        {
            read_all(&root);
        }
    }

    #[test]
    fn a_message_is_measured_as_it_arrives() {
        let bytes = framed(REGISTER);
        for cut in 0..8 {
            assert_eq!(message_len(&bytes[..cut], 1 << 20), Ok(None), "{cut}");
        }
        assert_eq!(message_len(&bytes[..8], 1 << 20), Ok(Some(bytes.len())));
        assert_eq!(message_len(&bytes, 500), Err(CapnpError::Long(bytes.len())));
        assert_eq!(message_len(&[0xff; 4], 1 << 20), Err(CapnpError::Segments));
        // Three segments: a header of two words.
        let three = [2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!((message_len(&three[..12], 99), message_len(&three, 99)), (Ok(None), Ok(Some(16 + 24))));
    }

    /// A message with these segments, each of whole words.
    fn of_segments(segments: &[&[u64]]) -> Vec<u8> {
        let mut bytes = (segments.len() as u32 - 1).to_le_bytes().to_vec();
        segments.iter().for_each(|words| bytes.extend_from_slice(&(words.len() as u32).to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(WORD), 0);
        segments.iter().for_each(|words| words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes())));
        bytes
    }

    /// A far pointer to a word of a segment.
    fn far(segment: u64, at: u64, is_double: bool) -> u64 {
        2 | u64::from(is_double) << 2 | at << 3 | segment << 32
    }

    #[test]
    fn objects_in_other_segments_are_found() {
        let text = u64::from_le_bytes(*b"tunnel\0\0");
        let struct_of_one_pointer = 1 << 48;
        let list_of_7_bytes = 1 | 2 << 32 | 7 << 35;
        for segments in [
            // The root's only pointer leads to a pointer in front of the text.
            [&[struct_of_one_pointer, far(1, 0, false)][..], &[list_of_7_bytes, text], &[]],
            // It leads to a pointer that leads on, and the tag of the text.
            [&[struct_of_one_pointer, far(1, 0, true)], &[far(2, 0, false), list_of_7_bytes], &[text]],
            // The root itself is elsewhere.
            [&[far(2, 0, false)], &[], &[struct_of_one_pointer, list_of_7_bytes, text]],
        ] {
            let bytes = of_segments(&segments);
            let message = Message::new(&bytes).unwrap();
            assert_eq!(message.root().unwrap().text(0), Ok("tunnel"), "{segments:?}");
        }
    }

    #[test]
    fn pointers_that_lead_nowhere_or_in_circles_are_errors() {
        let one_pointer = 1 << 48;
        let itself = 0xffff_fffc | 1 << 48;
        for (words, error) in [
            (&[one_pointer, itself][..], CapnpError::Nested),
            (&[one_pointer, far(9, 0, false)], CapnpError::Bounds),
            (&[one_pointer, far(0, 1, false)], CapnpError::Kind),
            (&[one_pointer, 0x7fff_fffc | 1 << 32], CapnpError::Bounds),
            (&[one_pointer, 7], CapnpError::Kind),
        ] {
            let bytes = of_segments(&[words]);
            let message = Message::new(&bytes).unwrap();
            let mut at = message.root();
            for _ in 0..usize::from(DEPTH_MAX) + 1 {
                at = at.and_then(|at| at.structure(0));
            }
            assert_eq!(at.err(), Some(error), "{words:x?}");
        }
    }

    #[test]
    fn bytes_that_are_read_again_and_again_are_counted() {
        // 16,000 structs of one word each, which all exist, asked for many times.
        let count: u64 = 16_000;
        let tag = count << 2 | 1 << 32;
        let mut words = vec![1 << 48, 1 | 7 << 32 | count << 35, tag];
        words.extend(std::iter::repeat_n(0, count as usize));
        let bytes = of_segments(&[&words]);
        let message = Message::new(&bytes).unwrap();
        let root = message.root().unwrap();
        assert!((0..100).any(|_| root.structures(0).err() == Some(CapnpError::Nested)));
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_with_an_error() {
        let good = framed(REGISTER);
        for seed in 0..3_000 {
            let mut rng = Rng::new(seed);
            let mut bytes = good.clone();
            for _ in 0..rng.between(1, 12) {
                let at = rng.between(0, bytes.len() as u64 - 1) as usize;
                bytes[at] = rng.between(0, 255) as u8;
            }
            bytes.truncate(rng.between(0, bytes.len() as u64 * 2) as usize);
            read_bytes(&bytes);
        }
        for seed in 0..1_000 {
            let mut rng = Rng::new(seed);
            let words: Vec<u64> = (0..rng.between(1, 20)).map(|_| rng.between(0, u64::MAX)).collect();
            let halves = words.split_at(words.len() / 2);
            read_bytes(&of_segments(&[halves.0, halves.1]));
        }
    }
}
