//! The events of an event stream (WHATWG HTML section 9.2.6), as their data.

use memchr::memchr2;

/// An event that has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its kind; `message` if it does not say.
    pub kind: String,
    /// Its data, with its lines joined.
    pub data: Vec<u8>,
    /// The last id that the stream has named, if any.
    pub id: Option<Vec<u8>>,
}

/// An event, or a line, is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTooLong;

/// Reads events as their bytes arrive.
#[derive(Debug)]
pub struct EventReader {
    len_max: usize,
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    kind: Vec<u8>,
    id: Option<Vec<u8>>,
    after_return: bool,
    is_first_line: bool,
}

impl EventReader {
    /// A reader of events of at most `len_max` bytes.
    #[must_use]
    pub fn new(len_max: usize) -> EventReader {
        EventReader {
            len_max,
            line: Vec::new(),
            data: None,
            kind: Vec::new(),
            id: None,
            after_return: false,
            is_first_line: true,
        }
    }

    /// Adds bytes, and passes each event that they complete to `each`.
    ///
    /// # Errors
    ///
    /// If an event is too long. Nothing more can be read then.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(StreamEvent)) -> Result<(), EventTooLong> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + part.len() + self.data.as_ref().map_or(0, Vec::len) > self.len_max {
                return Err(EventTooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.on_line(&mut each);
        }
        Ok(())
    }

    fn on_line(&mut self, each: &mut impl FnMut(StreamEvent)) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            if let Some(data) = self.data.take() {
                let kind = if kind.is_empty() { "message".into() } else { String::from_utf8_lossy(&kind).into_owned() };
                each(StreamEvent { kind, data, id: self.id.clone() });
            }
            return;
        }
        let (field, value) = match memchr::memchr(b':', &line) {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (&line[..], &b""[..]),
        };
        match field {
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            b"event" => self.kind = value.to_vec(),
            b"id" if !value.contains(&0) => self.id = Some(value.to_vec()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_every_cut() {
        let stream = "\u{feff}: ping\r\nid: 7\r\nevent: endpoint\r\ndata: /a\r\n\r\n\
                      data: {\"a\":\ndata: 1}\n\nevent: x\n\nretry: 3\ndata:\r\rdata: cut";
        let event =
            |kind: &str, data: &str| StreamEvent { kind: kind.into(), data: data.into(), id: Some(b"7".to_vec()) };
        let wanted = [event("endpoint", "/a"), event("message", "{\"a\":\n1}"), event("message", "")];
        for at in 0..=stream.len() {
            let (before, after) = stream.as_bytes().split_at(at);
            let (mut reader, mut events) = (EventReader::new(100), Vec::new());
            reader.feed(before, |event| events.push(event)).unwrap();
            reader.feed(after, |event| events.push(event)).unwrap();
            assert_eq!(events, wanted, "cut at {at}");
        }
    }

    #[test]
    fn an_event_that_is_too_long_ends_the_reading() {
        let mut reader = EventReader::new(20);
        assert_eq!(reader.feed(b"data: 0123456789\ndata: 0123456789\n", |_| ()), Err(EventTooLong));
    }
}
