//! A JSON-RPC answer as it passes: whether it is a result or an error.

/// What the messages that have passed say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerSays {
    /// No response has ended yet. Requests and notifications are none.
    #[default]
    Nothing,
    /// A result, which has passed whole.
    Result,
    /// An error, or the result of a tool that says that it is one (`isError`).
    Error,
}

/// Follows the JSON-RPC messages of a body, which passes in pieces of any size. Names with escapes are not recognised.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerScan {
    says: AnswerSays,
    /// Objects and arrays that are open, without that of a batch.
    depth: u32,
    at: At,
    /// The string that was last read, if a colon may still follow it.
    text: Text,
    /// Whether the message has a result, and whether that is open.
    has_result: bool,
    is_in_result: bool,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    String {
        is_escaped: bool,
    },
    /// The value of a member is to begin.
    Value,
}

/// The start of a string.
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    start: [u8; Text::LEN_MAX],
    len: usize,
}

impl AnswerScan {
    /// Processes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.says != AnswerSays::Nothing {
                return;
            }
            self.feed_byte(byte);
        }
    }

    /// What has passed so far.
    #[must_use]
    pub fn says(&self) -> AnswerSays {
        self.says
    }

    fn feed_byte(&mut self, byte: u8) {
        if let At::String { is_escaped } = self.at {
            self.at = match byte {
                b'"' if !is_escaped => At::Between,
                _ => At::String { is_escaped: byte == b'\\' && !is_escaped },
            };
            if self.at != At::Between {
                self.text.push(byte);
            }
            return;
        }
        if byte.is_ascii_whitespace() {
            return;
        }
        if self.at == At::Value {
            self.on_value(byte);
        }
        self.at = match byte {
            b'"' => At::String { is_escaped: false },
            b':' => At::Value,
            _ => At::Between,
        };
        if byte != b':' {
            self.text = Text::default();
        }
        match byte {
            b'{' => self.depth += 1,
            // What a batch is in.
            b'[' if self.depth > 0 => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.on_end(),
            _ => {}
        }
    }

    /// The value of the member that was named last begins.
    fn on_value(&mut self, byte: u8) {
        match (self.depth, self.text.bytes()) {
            (1, name) => {
                self.is_in_result = name == b"result";
                self.has_result |= self.is_in_result;
                // Some servers add the member that they do not use as null.
                if name == b"error" && byte != b'n' {
                    self.says = AnswerSays::Error;
                }
            }
            (2, b"isError") if self.is_in_result && byte == b't' => self.says = AnswerSays::Error,
            _ => {}
        }
    }

    fn on_end(&mut self) {
        self.depth -= 1;
        if self.depth == 0 && self.has_result {
            self.says = AnswerSays::Result;
        }
    }
}

impl Text {
    /// As many bytes tell the names of interest from all others.
    const LEN_MAX: usize = b"isError".len() + 1;

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.start.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.start[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_are_told_apart_in_every_cut() {
        let cases = [
            ("", AnswerSays::Nothing),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, AnswerSays::Result),
            (r#"{"result":{"content":[{"type":"text","text":"\"}"}],"isError":false},"id":1}"#, AnswerSays::Result),
            (r#"{"id":1,"result":null,"error":{"code":1}}"#, AnswerSays::Error),
            (r#"{"id":1,"error":null,"result":{}}"#, AnswerSays::Result),
            (r#"{"id":1,"error" : {"code":-32603,"message":"x"}}"#, AnswerSays::Error),
            (r#"{"id":1,"result":{"content":[{"a":1}], "isError" : true}}"#, AnswerSays::Error),
            (r#" [ {"id":1,"result":{"isError":true}} ]"#, AnswerSays::Error),
            (r#"[{"id":1,"result":{}}]"#, AnswerSays::Result),
            // No member of the message or of its result, or not its name.
            (r#"{"id":1,"result":{"structuredContent":{"isError":true,"error":{}}}}"#, AnswerSays::Result),
            (r#"{"id":1,"_meta":{"isError":true},"result":{"error":"isError"}}"#, AnswerSays::Result),
            (r#"{"id":1,"result":{"isErrors":true,"text":"error\\"}}"#, AnswerSays::Result),
            (r#"{"id":1,"result":{"content":[]}"#, AnswerSays::Nothing),
            (r#"{"method":"notifications/message","params":{"error":1,"isError":true}}"#, AnswerSays::Nothing),
            (r#"{"method":"a","params":{}}{"id":1,"result":{}}"#, AnswerSays::Result),
            (r#"{"method":"a","params":{"result":{}}}{"id":1,"error":{}}"#, AnswerSays::Error),
            (r#"not "json" at: all ]]}}"#, AnswerSays::Nothing),
        ];
        for (body, says) in cases {
            for at in 0..=body.len() {
                let mut scan = AnswerScan::default();
                let (before, after) = body.as_bytes().split_at(at);
                scan.feed(before);
                scan.feed(after);
                assert_eq!(scan.says(), says, "{body:?} cut at {at}");
            }
        }
    }
}
