//! Follows an event stream that answers a call: whether an error may still be sent in place of the answer.

use memchr::memchr;

use crate::wire::event_stream::EventBounds;

/// The members of a JSON-RPC message that make it a response.
const MEMBERS: [&[u8]; 2] = [b"result\"", b"error\""];

/// Follows an event stream that answers a call, and passes in pieces of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerStream {
    bounds: EventBounds,
    key: Key,
    is_answered: bool,
}

/// The state of reading a member's name. The scan is cautious: a quote inside a string counts as its end, and a name
/// with an escape counts as one of [`MEMBERS`]. At worst a failure is not reported although it could be.
#[derive(Clone, Copy, Debug, Default)]
enum Key {
    /// No name is being read.
    #[default]
    Nothing,
    /// A string has begun.
    Begun,
    /// It begins like one of [`MEMBERS`], with `len` matching bytes.
    Matched { member: u8, len: u8 },
    /// It has an escape and may spell one of them. `is_next`: the next byte belongs to the escape.
    Escaped { is_next: bool },
    /// It is one of them, and a member's name if a colon follows.
    Whole,
}

impl AnswerStream {
    /// Processes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bounds.feed(bytes);
        if !self.is_answered {
            self.look_for_answer(bytes);
        }
    }

    /// Whether the answer has passed, and nothing else is incomplete: whoever leaves now has all that was asked for.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_answered && self.bounds.is_between()
    }

    /// Whether an error event can be sent after the bytes that have passed: no event is incomplete, the answer has not
    /// begun, and the stream cannot be resumed.
    #[must_use]
    pub fn takes_error(&self) -> bool {
        !self.is_answered && self.bounds.is_between() && !self.bounds.has_id()
    }

    fn look_for_answer(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            self.key = match self.key {
                Key::Nothing => {
                    let Some(quote) = memchr(b'"', &bytes[at..]) else { return };
                    at += quote;
                    Key::Begun
                }
                Key::Begun | Key::Matched { .. } if *byte == b'\\' => Key::Escaped { is_next: true },
                Key::Escaped { is_next } => match byte {
                    b'"' if !is_next => Key::Whole,
                    b'\\' => Key::Escaped { is_next: !is_next },
                    _ => Key::Escaped { is_next: false },
                },
                Key::Begun => match MEMBERS.iter().position(|member| member[0] == *byte) {
                    Some(member) => Key::Matched { member: member as u8, len: 1 },
                    None => Key::after(*byte),
                },
                Key::Matched { member, len } => {
                    let name = MEMBERS[usize::from(member)];
                    match usize::from(len) {
                        at if name[at] != *byte => Key::after(*byte),
                        at if at + 1 == name.len() => Key::Whole,
                        _ => Key::Matched { member, len: len + 1 },
                    }
                }
                Key::Whole => match byte {
                    b' ' | b'\t' => Key::Whole,
                    // A colon may follow on the next line of the same event.
                    b':' | b'\r' | b'\n' => {
                        self.is_answered = true;
                        return;
                    }
                    _ => Key::after(*byte),
                },
            };
            at += 1;
        }
    }
}

impl Key {
    /// The state after a byte that does not continue a name.
    fn after(byte: u8) -> Key {
        if byte == b'"' { Key::Begun } else { Key::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_taken_before_the_answer_and_the_answer_is_seen_to_end_in_every_cut() {
        let notification =
            r#"data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"result"}}"#;
        let cases = [
            ("", true, false),
            (": comment\n\n", true, false),
            (&format!("{notification}\n\n"), true, false),
            (&format!("{notification}\n"), false, false),
            (&format!("id: 7\n{notification}\n\n"), false, false),
            ("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n\n", false, true),
            ("data: {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n", false, false),
            ("data: {\"id\":1,\"result\":{}}\n\n: comment", false, false),
            (&format!("data: {{\"id\":1,\"result\":{{}}}}\n\n{notification}\n\n"), false, true),
            ("data: {\"id\":1,\"error\" : {\"code\":-1}}\n\n", false, true),
            ("data: {\"id\":1,\"\\u0072esult\":{}}\n\n", false, true),
            ("data: {\"id\":1,\"erro\\u0072\" :{}}\n\n", false, true),
            ("data: {\"id\":1,\"result\"\ndata: :{}}\n\n", false, true),
            ("data: {\"a\":\"\\u0072esult\",\"b\":\"\\\"\"}\n\n", true, false),
            ("data: {\"results\":1,\"rerror\":3,\"e\":\"errors\"}\n\n", true, false),
        ];
        for (stream, takes, is_complete) in cases {
            for at in 0..=stream.len() {
                let mut answer = AnswerStream::default();
                let (before, after) = stream.as_bytes().split_at(at);
                answer.feed(before);
                answer.feed(after);
                assert_eq!(answer.takes_error(), takes, "{stream:?} cut at {at}");
                assert_eq!(answer.is_complete(), is_complete, "{stream:?} cut at {at}");
            }
            let mut answer = AnswerStream::default();
            stream.bytes().for_each(|byte| answer.feed(&[byte]));
            assert_eq!(answer.takes_error(), takes, "{stream:?} byte by byte");
            assert_eq!(answer.is_complete(), is_complete, "{stream:?} byte by byte");
        }
    }
}
