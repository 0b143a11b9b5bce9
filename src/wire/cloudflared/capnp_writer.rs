//! Writes Cap'n Proto messages of one segment.

const WORD: usize = 8;
/// The header of a message of one segment.
const HEADER_LEN: usize = 8;

/// A message that is being written. Objects are placed in the order in which they are written.
pub(super) struct MessageWriter {
    bytes: Vec<u8>,
    /// Where the message begins.
    start: usize,
}

/// The place of a struct in the message.
#[derive(Clone, Copy)]
pub(super) struct StructAt {
    /// The first byte of its data.
    data: usize,
    /// The first byte of its pointers.
    pointers: usize,
}

impl StructAt {
    /// The next struct of a list whose structs have `words` words each.
    pub(super) fn next(self, words: usize) -> StructAt {
        StructAt { data: self.data + words * WORD, pointers: self.pointers + words * WORD }
    }
}

impl MessageWriter {
    /// A message whose root is a struct with this many words of data and pointers.
    pub(super) fn new(data: u16, pointers: u16) -> (MessageWriter, StructAt) {
        MessageWriter::after(Vec::new(), data, pointers)
    }

    /// The same, after bytes that are sent in front of the message.
    pub(super) fn after(mut bytes: Vec<u8>, data: u16, pointers: u16) -> (MessageWriter, StructAt) {
        let start = bytes.len();
        bytes.resize(start + HEADER_LEN + WORD, 0);
        let mut writer = MessageWriter { bytes, start };
        let root = writer.place(start + HEADER_LEN, data, pointers);
        (writer, root)
    }

    pub(super) fn u8(&mut self, at: StructAt, byte: usize, value: u8) {
        self.bytes[at.data + byte] = value;
    }

    pub(super) fn u16(&mut self, at: StructAt, byte: usize, value: u16) {
        self.put(at.data + byte, &value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, at: StructAt, byte: usize, value: u32) {
        self.put(at.data + byte, &value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, at: StructAt, byte: usize, value: u64) {
        self.put(at.data + byte, &value.to_le_bytes());
    }

    /// A struct at the end of the message, for this pointer.
    pub(super) fn structure(&mut self, of: StructAt, index: usize, data: u16, pointers: u16) -> StructAt {
        self.place(of.pointers + index * WORD, data, pointers)
    }

    /// Bytes for this pointer; no bytes leave it empty.
    pub(super) fn data(&mut self, of: StructAt, index: usize, bytes: &[u8]) {
        self.put_parts(of.pointers + index * WORD, &[bytes], 0);
    }

    /// A text for this pointer; an empty one leaves it empty.
    pub(super) fn text(&mut self, of: StructAt, index: usize, text: &str) {
        self.text_of(of, index, &[text.as_bytes()]);
    }

    /// A text that consists of parts, for this pointer. Values of HTTP fields need not be UTF-8, and are written as they are.
    pub(super) fn text_of(&mut self, of: StructAt, index: usize, parts: &[&[u8]]) {
        self.put_parts(of.pointers + index * WORD, parts, 1);
    }

    /// A list of texts for this pointer.
    pub(super) fn texts(&mut self, of: StructAt, index: usize, texts: &[&str]) {
        let at = self.bytes.len();
        self.point(of.pointers + index * WORD, at, 1, 6 | (texts.len() as u32) << 3);
        self.bytes.resize(at + texts.len() * WORD, 0);
        for (nth, text) in texts.iter().enumerate() {
            self.put_parts(at + nth * WORD, &[text.as_bytes()], 1);
        }
    }

    /// A list of `count` structs for this pointer. Returns the first of them.
    pub(super) fn structures(&mut self, of: StructAt, index: usize, count: u32, data: u16, pointers: u16) -> StructAt {
        let (at, words) = (self.bytes.len(), count * (u32::from(data) + u32::from(pointers)));
        self.point(of.pointers + index * WORD, at, 1, 7 | words << 3);
        let tag = u64::from(count << 2) | u64::from(data) << 32 | u64::from(pointers) << 48;
        self.bytes.extend_from_slice(&tag.to_le_bytes());
        let first = self.bytes.len();
        self.bytes.resize(first + words as usize * WORD, 0);
        StructAt { data: first, pointers: first + usize::from(data) * WORD }
    }

    /// The capability with this index in the table, for this pointer.
    pub(super) fn capability(&mut self, of: StructAt, index: usize, capability: u32) {
        self.put(of.pointers + index * WORD, &(3 | u64::from(capability) << 32).to_le_bytes());
    }

    /// The message with its header.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let words = (self.bytes.len() - self.start - HEADER_LEN) / WORD;
        self.put(self.start + 4, &(words as u32).to_le_bytes());
        self.bytes
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Places a struct at the end, and makes the pointer at this place lead there.
    fn place(&mut self, pointer: usize, data: u16, pointers: u16) -> StructAt {
        let at = self.bytes.len();
        // A struct of no words is a pointer to the word before it, because one to itself would be a missing one.
        let to = if data + pointers == 0 { pointer } else { at };
        self.point(pointer, to, 0, u32::from(data) | u32::from(pointers) << 16);
        let pointers_at = at + usize::from(data) * WORD;
        self.bytes.resize(pointers_at + usize::from(pointers) * WORD, 0);
        StructAt { data: at, pointers: pointers_at }
    }

    fn point(&mut self, pointer: usize, to: usize, kind: u32, size: u32) {
        let offset = (to as i64 - pointer as i64) / WORD as i64 - 1;
        let low = (offset as u32) << 2 | kind;
        self.put(pointer, &(u64::from(low) | u64::from(size) << 32).to_le_bytes());
    }

    fn put_parts(&mut self, pointer: usize, parts: &[&[u8]], zeros: usize) {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if len == 0 {
            return;
        }
        let at = self.bytes.len();
        self.point(pointer, at, 1, 2 | ((len + zeros) as u32) << 3);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.resize(at + (len + zeros).next_multiple_of(WORD), 0);
    }
}
